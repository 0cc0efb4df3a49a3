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
pub(crate) mod completion;
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
pub(crate) mod man;
mod member;
mod mirror;
mod move_leader;
pub(crate) mod print;
mod program;
pub(crate) mod progress;
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

pub(crate) use program::{Program, explain};

/// `etcdctl`.
static PROGRAM: Program = Program {
    root: &commands::ROOT,
    help_with_text: true,
    footer: "Use \"etcdctl options\" for a list of global command-line options (applies to all commands).",
    hint: hints::hint,
    repeats_mistakes: false,
};

/// Runs the program with the process's arguments; returns its exit code.
pub fn main() -> u8 {
    PROGRAM.main()
}
