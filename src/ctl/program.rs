//! From the process's arguments to a command's exit code, for each of the two programs.

use super::cli::{Arg, Command, Flags, Invocation, Path, complete, find, flags, help};
use super::exit::{Failure, code};
use super::go::quote::quote;
use super::print::{self, complain};
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStringExt;

/// A program of commands, and its manners.
pub(crate) struct Program {
    /// Its commands.
    pub(crate) root: &'static Command,
    /// Whether help says what a command does, besides how it is called.
    pub(crate) help_with_text: bool,
    /// The line below every help text, or nothing.
    pub(crate) footer: &'static str,
    /// What to do about an error, by its message: a line more for people.
    pub(crate) hint: fn(&str) -> Option<&'static str>,
    /// Whether a mistake is told again below the usage that it is answered with.
    pub(crate) repeats_mistakes: bool,
}

impl Program {
    /// Runs it with the process's arguments; returns its exit code.
    pub(crate) fn main(&'static self) -> u8 {
        let argv: Vec<Arg> = std::env::args_os().map(OsStringExt::into_vec).collect();
        match self.run(argv) {
            Ok(()) => 0,
            Err(failure) => {
                // Nowhere is left to report a closed stdout to.
                let _ = std::io::stdout().flush();
                if let Some(message) = &failure.message {
                    complain(format_args!("Error: {message}"));
                    if std::io::stderr().is_terminal()
                        && let Some(hint) = (self.hint)(message)
                    {
                        complain(format_args!("hint: {hint}"));
                    }
                }
                failure.code
            }
        }
    }

    /// Runs it with these arguments, the program's name first.
    pub(crate) fn run(&'static self, argv: Vec<Arg>) -> Result<(), Failure> {
        let args = argv.get(1..).unwrap_or_default();
        if let Some((b"__complete" | b"__completeNoDesc", words)) = args
            .split_first()
            .map(|(first, rest)| (first.as_slice(), rest))
        {
            let answer = complete::complete(self.root, words, args[0] == b"__complete");
            complain(answer.stderr.trim_end());
            return print::say(answer.stdout.trim_end());
        }
        let (path, rest) = find::find(self.root, args).map_err(|unknown| {
            let usage = format!("Run '{} --help' for usage.", self.root.name);
            self.mistake(&unknown.message, &usage)
        })?;
        let mut flags = flags_of(&path);
        let args = flags
            .parse(&rest)
            .map_err(|message| self.misused(&path, &message))?;
        let command = path.command();
        let Some(run) = command.run.filter(|_| !flags.bool("help")) else {
            return self.print_help(&path);
        };
        if !command.choices.is_empty() {
            check_choice(&path, &args).map_err(|message| self.misused(&path, &message))?;
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

    /// A mistake in calling a command, answered with how to call it.
    pub(crate) fn misused(&self, path: &Path, message: &str) -> Failure {
        self.mistake(message, &help::usage(path, help::Reader::Script))
    }

    fn mistake(&self, message: &str, usage: &str) -> Failure {
        let again = match self.repeats_mistakes {
            true => format!("\nError: {message}"),
            false => String::new(),
        };
        Failure::new(code::ERROR, format!("{message}\n{usage}{again}"))
    }

    fn print_help(&self, path: &Path) -> Result<(), Failure> {
        let reader = match std::io::stdout().is_terminal() {
            true => help::Reader::Person,
            false => help::Reader::Script,
        };
        let text = match self.help_with_text {
            true => help::help(path, reader),
            false => help::usage(path, reader),
        };
        print::say(format!("{text}{}", self.footer).trim_end())
    }
}

fn flags_of(path: &Path) -> Flags {
    Flags::new(
        path.local_flags()
            .chain(path.inherited_flags())
            .chain([&flags::HELP]),
    )
}

/// `help`.
pub(crate) async fn explain(
    program: &'static Program,
    invocation: Invocation,
) -> Result<(), Failure> {
    match find::find(program.root, &invocation.args) {
        Ok((path, _)) => program.print_help(&path),
        Err(_) => {
            let words: Vec<_> = invocation
                .args
                .iter()
                .map(|a| String::from_utf8_lossy(a))
                .collect();
            let topics: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
            complain(format_args!("Unknown help topic [{}]", topics.join(" ")));
            complain(help::usage(&Path(vec![program.root]), help::Reader::Script).trim_end());
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
    let quoted = quote(choice);
    Err(format!(
        "invalid argument {quoted} for {}",
        quote(path.text().as_bytes())
    ))
}
