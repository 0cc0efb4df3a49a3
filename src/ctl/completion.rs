//! `completion`: scripts that make shells complete this program's commands and flags.
//!
//! The bash script asks the program itself (`__complete`), so it knows values too; the others are clap's.

use super::cli::{Command, Invocation, clap};
use super::exit::Failure;
use super::{commands, print};
use clap_complete::Shell;

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "completion",
    usage: "[bash|zsh|fish|powershell]",
    group: commands::UTILITY,
    short: "Prints a completion script for a shell",
    long: "Prints a completion script for a shell. To use it in this session, or in all:

$ source <(etcdctl completion bash)
$ etcdctl completion bash > /etc/bash_completion.d/etcdctl

$ etcdctl completion zsh > \"${fpath[1]}/_etcdctl\"

$ etcdctl completion fish | source
$ etcdctl completion fish > ~/.config/fish/completions/etcdctl.fish

PS> etcdctl completion powershell | Out-String | Invoke-Expression",
    choices: &["bash", "zsh", "fish", "powershell"],
    run: Some(|invocation| Box::pin(run(invocation))),
    ..Command::NEW
};

const MODELINE: &str = "-*- shell-script -*-";

pub(crate) async fn run(invocation: Invocation) -> Result<(), Failure> {
    let shell = invocation.text(0);
    let root = invocation.path.root();
    let script = match shell.as_ref() {
        "zsh" => return print::say(from_clap(root, Shell::Zsh).trim_end()),
        "fish" => from_clap(root, Shell::Fish),
        "powershell" => from_clap(root, Shell::PowerShell),
        _ => BASH.replace("PROGRAM", root.name),
    };
    let head = format!("# {shell} completion for {:<36} {MODELINE}", root.name);
    print::say(format_args!("{head}\n\n{}", script.trim_end()))
}

fn from_clap(root: &Command, shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut clap::to_clap(root), root.name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

const BASH: &str = r#"__start_PROGRAM()
{
    local current="${COMP_WORDS[COMP_CWORD]}" line directive=0
    local words=("${COMP_WORDS[@]:1:COMP_CWORD-1}") candidates=()
    # A flag's value behind "=" is a word of its own here, and part of the flag there.
    local joined=() word glue=
    for word in "${words[@]}" "$current"; do
        if [[ $word == "=" && ${#joined[@]} -gt 0 ]]; then
            joined[-1]+="="
            glue=yes
        elif [[ -n $glue ]]; then
            joined[-1]+="$word"
            glue=
        else
            joined+=("$word")
        fi
    done
    while IFS= read -r line; do
        if [[ $line == :* ]]; then
            directive="${line#:}"
        else
            candidates+=("${line%%$'\t'*}")
        fi
    done < <("${COMP_WORDS[0]}" __complete "${joined[@]}" 2>/dev/null)
    [[ $current == "=" ]] && current=
    COMPREPLY=()
    local candidate
    for candidate in "${candidates[@]}"; do
        [[ $candidate == "$current"* ]] && COMPREPLY+=("$candidate")
    done
    if [[ ${#COMPREPLY[@]} -eq 0 && $directive -eq 4 ]]; then
        compopt +o default 2>/dev/null
    fi
}

complete -o default -F __start_PROGRAM PROGRAM
"#;
