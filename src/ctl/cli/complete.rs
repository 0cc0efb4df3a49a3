//! Candidates for shells: the hidden commands `__complete` and `__completeNoDesc`.
//!
//! The last word is the one being typed. Candidates come one a line, with a description after a tab; a last
//! line `:N` tells the script what to do when there is none: 4 nothing, 0 the shell's file names.

use super::help::{Reader, listed_children};
use super::{Arg, Command, Flag, Flags, Kind, Path, find};

/// What the script should do besides offering the candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directive {
    Default = 0,
    NoFiles = 4,
}

/// What goes to stdout and to stderr.
pub struct Answer {
    /// Candidates and directive.
    pub stdout: String,
    /// For people who debug completion.
    pub stderr: String,
}

/// Answers a shell.
pub fn complete(root: &'static Command, words: &[Arg], describe: bool) -> Answer {
    let (candidates, directive, note) = candidates(root, words);
    let mut stdout = String::new();
    for candidate in candidates {
        let line = if describe {
            &candidate
        } else {
            candidate.split('\t').next().unwrap_or_default()
        };
        stdout.push_str(line.lines().next().unwrap_or_default().trim());
        stdout.push('\n');
    }
    stdout.push_str(&format!(":{}\n", directive as u8));
    let name = match directive {
        Directive::Default => "ShellCompDirectiveDefault",
        Directive::NoFiles => "ShellCompDirectiveNoFileComp",
    };
    Answer {
        stdout,
        stderr: format!("{note}Completion ended with directive: {name}\n"),
    }
}

fn candidates(root: &'static Command, words: &[Arg]) -> (Vec<String>, Directive, String) {
    let nothing = |note: String| (Vec::new(), Directive::Default, note);
    let Some((last, before)) = words.split_last() else {
        return nothing(String::new());
    };
    let last = String::from_utf8_lossy(last).into_owned();
    let Ok((path, mut args)) = find::find(root, before) else {
        let words: Vec<_> = before
            .iter()
            .map(|word| String::from_utf8_lossy(word))
            .collect();
        let words = words.join(" ");
        return nothing(format!(
            "[Debug] [Error] unable to find a command for arguments: [{words}]\n"
        ));
    };
    let known: Vec<_> = path
        .local_flags()
        .chain(path.inherited_flags())
        .chain([&super::flags::HELP])
        .collect();
    let mut flags = Flags::new(known.iter().copied());
    if let Some(flag) = flag_being_filled(&flags, &mut args, &last) {
        let values = flag
            .values
            .iter()
            .map(|value| (*value).to_owned())
            .collect();
        return (values, Directive::Default, String::new());
    }
    let rest = match flags.parse(&args) {
        Ok(rest) => rest,
        Err(error) => {
            let words: Vec<_> = args
                .iter()
                .map(|word| String::from_utf8_lossy(word))
                .collect();
            let words = words.join(" ");
            return nothing(format!(
                "[Debug] [Error] Error while parsing flags from args [{words}]: {error}\n"
            ));
        }
    };
    if flags.is_given("help") {
        return (Vec::new(), Directive::NoFiles, String::new());
    }
    if last.starts_with('-') && !last.contains('=') {
        return (
            flag_names(&known, &flags, &last),
            Directive::NoFiles,
            String::new(),
        );
    }
    let (found, directive) = words_for(&path, &rest, &last);
    (found, directive, String::new())
}

/// The flag whose value is being typed: `--flag=…`, or the word before.
fn flag_being_filled(flags: &Flags, args: &mut Vec<Arg>, last: &str) -> Option<&'static Flag> {
    let named = |word: &str| match word.strip_prefix("--") {
        Some(name) => flags.find(name),
        None => word
            .strip_prefix('-')?
            .chars()
            .last()
            .and_then(|letter| flags.find_short(letter)),
    };
    if let Some((name, _)) = last.split_once('=') {
        return named(name);
    }
    let before = String::from_utf8_lossy(args.last()?).into_owned();
    if !before.starts_with('-') || before.contains('=') || args.iter().any(|arg| arg == b"--") {
        return None;
    }
    let flag = named(&before).filter(|flag| flag.kind != Kind::Bool)?;
    args.pop();
    Some(flag)
}

fn flag_names(known: &[&'static Flag], given: &Flags, typed: &str) -> Vec<String> {
    let mut sorted = known.to_vec();
    sorted.sort_by_key(|flag| flag.name);
    let mut names = Vec::new();
    for flag in sorted {
        if flag.hidden
            || (flag.beyond && typed.len() < 4)
            || (given.is_given(flag.name) && flag.kind != Kind::List)
        {
            continue;
        }
        let short = flag.short.map(|letter| format!("-{letter}"));
        let forms = [Some(format!("--{}", flag.name)), short]
            .into_iter()
            .flatten();
        names.extend(
            forms
                .filter(|form| form.starts_with(typed))
                .map(|form| format!("{form}\t{}", flag.help)),
        );
    }
    names
}

fn words_for(path: &Path, rest: &[Arg], typed: &str) -> (Vec<String>, Directive) {
    let command = path.command();
    if !rest.is_empty() || (command.children.is_empty() && command.choices.is_empty()) {
        return (Vec::new(), Directive::Default);
    }
    // Who types the beginning of a word etcd does not have knows what comes.
    let reader = if typed.is_empty() {
        Reader::Script
    } else {
        Reader::Person
    };
    let children = listed_children(command, reader);
    let children = children.iter().map(|child| (child.name, child.short));
    let words = children.chain(command.choices.iter().map(|choice| (*choice, "")));
    let found =
        words
            .filter(|(name, _)| name.starts_with(typed))
            .map(|(name, short)| match short {
                "" => name.to_owned(),
                short => format!("{name}\t{short}"),
            });
    (found.collect(), Directive::NoFiles)
}

#[cfg(test)]
mod tests {
    use super::*;

    static BASH: Command = Command {
        name: "completion",
        choices: &["bash", "fish"],
        ..Command::NEW
    };
    static GET: Command = Command {
        name: "get",
        short: "reads",
        flags: &[
            Flag::text("order", "which first").offering(&["UP", "DOWN"]),
            Flag::int("limit", ""),
        ],
        ..Command::NEW
    };
    static ROOT: Command = Command {
        name: "ctl",
        children: &[&GET, &BASH],
        ..Command::NEW
    };

    fn answer(words: &[&str]) -> String {
        let words: Vec<Arg> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        complete(&ROOT, &words, true).stdout
    }

    #[test]
    fn commands_flags_and_values() {
        assert_eq!(answer(&["g"]), "get\treads\n:4\n");
        assert_eq!(answer(&["get", "--o"]), "--order\twhich first\n:4\n");
        assert_eq!(answer(&["get", "--order", "U"]), "UP\nDOWN\n:0\n");
        assert_eq!(answer(&["get", "--order="]), "UP\nDOWN\n:0\n");
        assert_eq!(answer(&["get", "--limit", ""]), ":0\n");
        assert_eq!(answer(&["get", ""]), ":0\n");
        assert_eq!(answer(&["completion", "b"]), "bash\n:4\n");
        assert_eq!(answer(&["bogus", ""]), ":0\n");
    }
}
