//! A command line with the manners of Go's cobra and pflag.
//!
//! clap cannot be made to: scripts depend on unambiguous prefixes as command names, on values that follow
//! only where pflag takes them, and on the exact errors and help layout. So commands are tables here, this
//! module reads arguments by them and prints help, and [`clap`] turns the same tables into a `clap::Command` for
//! man pages and completion scripts.

pub mod clap;
pub mod complete;
pub mod find;
pub mod flags;
pub mod help;

pub use flags::{Flag, Flags, Kind, Value};

use super::exit::Failure;
use std::pin::Pin;

/// Arguments are bytes: keys and values need not be text.
pub type Arg = Vec<u8>;

/// A command, or the program itself.
pub struct Command {
    /// The word that calls it.
    pub name: &'static str,
    /// What follows the name in its usage line.
    pub usage: &'static str,
    /// Which of the parent's groups it is listed in.
    pub group: &'static str,
    /// One line.
    pub short: &'static str,
    /// The head of its help; [`Command::short`] when empty.
    pub long: &'static str,
    /// Example block, indented.
    pub examples: &'static str,
    /// Its own flags.
    pub flags: &'static [Flag],
    /// Flags of itself and all below it.
    pub persistent: &'static [Flag],
    /// Commands below it, in order of registration.
    pub children: &'static [&'static Command],
    /// Titles of the groups its children are listed in.
    pub groups: &'static [&'static str],
    /// What it does; `None`: it prints help.
    pub run: Option<Run>,
    /// The only arguments it takes, one of them exactly; empty: it checks its arguments itself.
    pub choices: &'static [&'static str],
    /// Not listed anywhere.
    pub hidden: bool,
    /// etcd has no such command: it is called by its full name only, so that no abbreviation that works with
    /// etcd's program becomes ambiguous, and listed only for people.
    pub beyond: bool,
}

/// What a command does.
pub type Run = fn(Invocation) -> Pin<Box<dyn Future<Output = Result<(), Failure>>>>;

impl Command {
    /// An empty command to start from.
    pub const NEW: Self = Self {
        name: "",
        usage: "",
        group: "",
        short: "",
        long: "",
        examples: "",
        flags: &[],
        persistent: &[],
        children: &[],
        groups: &[],
        run: None,
        choices: &[],
        hidden: false,
        beyond: false,
    };
}

/// A command from the program down to the one meant.
#[derive(Clone)]
pub struct Path(pub Vec<&'static Command>);

impl Path {
    /// The program.
    pub fn root(&self) -> &'static Command {
        self.0[0]
    }

    /// The command meant.
    pub fn command(&self) -> &'static Command {
        self.0[self.0.len() - 1]
    }

    /// `etcdctl member add`.
    pub fn text(&self) -> String {
        let names: Vec<_> = self.0.iter().map(|command| command.name).collect();
        names.join(" ")
    }

    /// Flags of the command itself, without `--help`.
    pub fn local_flags(&self) -> impl Iterator<Item = &'static Flag> + Clone {
        let command = self.command();
        command.flags.iter().chain(command.persistent)
    }

    /// Flags it has from above.
    pub fn inherited_flags(&self) -> impl Iterator<Item = &'static Flag> + Clone + '_ {
        self.0[..self.0.len() - 1]
            .iter()
            .flat_map(|command| command.persistent)
    }
}

/// One call of a command.
pub struct Invocation {
    /// The command.
    pub path: Path,
    /// Its flags.
    pub flags: Flags,
    /// What is left after the flags.
    pub args: Vec<Arg>,
    /// The whole command line, for commands that look at it again.
    pub argv: Vec<Arg>,
}

impl Invocation {
    /// An argument as text.
    pub fn text(&self, index: usize) -> std::borrow::Cow<'_, str> {
        self.args
            .get(index)
            .map(|arg| String::from_utf8_lossy(arg))
            .unwrap_or_default()
    }
}
