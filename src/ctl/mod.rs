//! `etcdctl`: every command a file, its flags a table, its output in [`print`].
//!
//! What scripts see is etcd's to the byte: output, errors, exit codes, and the order things happen in. Commands
//! look at their arguments before they make a client, and print after the request; both can be observed.

mod alarm;
mod auth;
mod check;
mod child;
pub mod cli;
mod commands;
mod compaction;
mod completion;
mod defrag;
mod del;
mod doctor;
mod downgrade;
mod elect;
mod endpoint;
pub mod exit;
mod get;
mod global;
pub mod go;
mod hints;
mod input;
mod lease;
mod lock;
mod man;
mod member;
mod mirror;
mod move_leader;
mod print;
mod progress;
mod prometheus;
mod prompt;
mod put;
mod role;
mod signals;
mod snapshot;
mod top;
mod txn;
mod user;
mod version;
mod watch;
mod words;

use cli::{Arg, Flags, Invocation, Path, complete, find, flags, help};
use exit::{Failure, code};
use print::complain;
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStringExt;

/// The line below every help text.
const FOOTER: &str =
    "Use \"etcdctl options\" for a list of global command-line options (applies to all commands).";

/// Runs the program with the process's arguments; returns its exit code.
pub fn main() -> u8 {
    let argv: Vec<Arg> = std::env::args_os().map(OsStringExt::into_vec).collect();
    match run(argv) {
        Ok(()) => 0,
        Err(failure) => {
            // Nowhere is left to report a closed stdout to.
            let _ = std::io::stdout().flush();
            if let Some(message) = &failure.message {
                complain(format_args!("Error: {message}"));
                if std::io::stderr().is_terminal()
                    && let Some(hint) = hints::hint(message)
                {
                    complain(format_args!("hint: {hint}"));
                }
            }
            failure.code
        }
    }
}

fn run(argv: Vec<Arg>) -> Result<(), Failure> {
    let root = &commands::ROOT;
    let args = argv.get(1..).unwrap_or_default();
    if let Some((b"__complete" | b"__completeNoDesc", words)) = args
        .split_first()
        .map(|(first, rest)| (first.as_slice(), rest))
    {
        let answer = complete::complete(root, words, args[0] == b"__complete");
        complain(answer.stderr.trim_end());
        return print::say(answer.stdout.trim_end());
    }
    let (path, rest) = find::find(root, args).map_err(|unknown| {
        let usage = format!("Run '{} --help' for usage.", root.name);
        Failure::new(code::ERROR, format!("{}\n{usage}", unknown.message))
    })?;
    let mut flags = flags_of(&path);
    let misused = |message: String| {
        let usage = help::usage(&path, help::Reader::Script);
        Failure::new(code::ERROR, format!("{message}\n{usage}"))
    };
    let args = flags.parse(&rest).map_err(misused)?;
    let command = path.command();
    let Some(run) = command.run.filter(|_| !flags.bool("help")) else {
        return print_help(&path);
    };
    if !command.choices.is_empty() {
        check_choice(&path, &args).map_err(misused)?;
    }
    let invocation = Invocation {
        path,
        flags,
        args,
        argv,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(code::ERROR, error))?;
    let result = runtime.block_on(run(invocation));
    // Connections need no farewell, and a blocked reader of standard input would never come back.
    runtime.shutdown_background();
    result
}

fn flags_of(path: &Path) -> Flags {
    Flags::new(
        path.local_flags()
            .chain(path.inherited_flags())
            .chain([&flags::HELP]),
    )
}

fn print_help(path: &Path) -> Result<(), Failure> {
    let reader = match std::io::stdout().is_terminal() {
        true => help::Reader::Person,
        false => help::Reader::Script,
    };
    print::say(format_args!("{}{FOOTER}", help::help(path, reader)))
}

/// `help`.
async fn explain(invocation: Invocation) -> Result<(), Failure> {
    match find::find(&commands::ROOT, &invocation.args) {
        Ok((path, _)) => print_help(&path),
        Err(_) => {
            let words: Vec<_> = invocation
                .args
                .iter()
                .map(|a| String::from_utf8_lossy(a))
                .collect();
            let topics: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
            complain(format_args!("Unknown help topic [{}]", topics.join(" ")));
            complain(help::usage(&Path(vec![&commands::ROOT]), help::Reader::Script).trim_end());
            Ok(())
        }
    }
}

fn check_choice(path: &Path, args: &[Arg]) -> Result<(), String> {
    let [choice] = args else {
        return Err(format!("accepts 1 arg(s), received {}", args.len()));
    };
    if path
        .command()
        .choices
        .iter()
        .any(|known| known.as_bytes() == choice.as_slice())
    {
        return Ok(());
    }
    let quoted = go::quote::quote(choice);
    Err(format!(
        "invalid argument {quoted} for {}",
        go::quote::quote(path.text().as_bytes())
    ))
}
