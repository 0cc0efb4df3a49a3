//! `etcdutl`: data directories and snapshots, without a server.
//!
//! Files come in two kinds: a database of etcd in Go, which is a bbolt file like every snapshot, and `state.redb` of
//! this etcd. [`source`] opens either; every command says what it does with which. Output, errors and exit codes are etcd's, and
//! so are the log lines on stderr, in their order.
//!
//! A file that is rewritten is written beside the old one, synced and renamed, and the old one is locked meanwhile: a
//! stop at any moment leaves one whole file.
//!
//! Deliberately absent: environment variables, and the network.

mod bootstrap;
mod completion;
mod defrag;
mod edited;
mod go_member;
mod hashkv;
mod member;
mod migrate;
mod restore;
mod source;
mod status;
#[cfg(test)]
mod tests;
mod wal_version;

use crate::ctl::cli::{Command, Flag, Invocation, Kind};
use crate::ctl::exit::{Failure, code};
use crate::ctl::print::{Display, Format, complain, say};
use crate::ctl::{Program, explain, man};
use crate::logging::{Line, console_line};

/// The etcd version whose behaviour this program has.
const VERSION: &str = "3.7.1";

static PROGRAM: Program = Program {
    root: &ROOT,
    help_with_text: false,
    footer: "",
    hint: |_| None,
    repeats_mistakes: true,
};

/// Runs the program with the process's arguments; returns its exit code.
pub fn main() -> u8 {
    PROGRAM.main()
}

static ROOT: Command = Command {
    name: "etcdutl",
    short: "The offline tool of etcd.",
    flags: &[Flag::bool("help", "help for etcdutl").short('h')],
    persistent: &[
        Flag {
            name: "timeout",
            kind: Kind::Duration,
            default: "10s",
            help: "longest wait for the lock of a database in use; 0 for no end",
            ..Flag::NEW
        },
        Flag::text(
            "write-out",
            "output format: fields, json, protobuf, simple or table",
        )
        .short('w')
        .or("simple")
        .offering(&["fields", "json", "protobuf", "simple", "table"]),
    ],
    children: &[
        &defrag::COMMAND,
        &SNAPSHOT,
        &hashkv::COMMAND,
        &VERSION_COMMAND,
        &completion::COMMAND,
        &migrate::COMMAND,
        &MAN,
        &HELP,
    ],
    ..Command::NEW
};

static SNAPSHOT: Command = Command {
    name: "snapshot",
    short: "Looks at snapshots, and makes members of them",
    children: &[&restore::COMMAND, &status::COMMAND],
    ..Command::NEW
};

static VERSION_COMMAND: Command = Command {
    name: "version",
    short: "Prints the versions of this program and its API",
    run: Some(|_| {
        Box::pin(async { say(format_args!("etcdutl version: {VERSION}\nAPI version: 3.7")) })
    }),
    ..Command::NEW
};

static MAN: Command = Command {
    name: "__man",
    usage: "<directory>",
    short: "Writes man pages into a directory",
    hidden: true,
    run: Some(|invocation| Box::pin(man::run(invocation))),
    ..Command::NEW
};

static HELP: Command = Command {
    name: "help",
    usage: "[command]",
    short: "Explains a command",
    run: Some(|invocation| Box::pin(explain(&PROGRAM, invocation))),
    ..Command::NEW
};

/// How to print what a command found. Of the formats, only the names are looked at beforehand.
fn display(invocation: &Invocation) -> Result<Display, Failure> {
    let format = Format::named(&invocation.flags.text("write-out"))
        .ok_or_else(|| Failure::new(code::BAD_FEATURE, "unsupported output format"))?;
    Ok(Display {
        format,
        hex: false,
        value_only: false,
    })
}

/// Refuses a call without one of the flags it needs.
fn require_flags(invocation: &Invocation, names: &[&str]) -> Result<(), Failure> {
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !invocation.flags.is_given(name))
        .map(|name| format!("{name:?}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(misused(
        invocation,
        &format!("required flag(s) {} not set", missing.join(", ")),
    ))
}

/// A mistake in calling a command, answered with how to call it.
fn misused(invocation: &Invocation, message: &str) -> Failure {
    PROGRAM.misused(&invocation.path, message)
}

/// What could not be done.
fn failed(reason: impl std::fmt::Display) -> Failure {
    Failure::new(code::ERROR, reason)
}

/// Says what is going on.
fn log(line: Line) {
    complain(console_line(&line).trim_end());
}

/// Runs work that reads and writes files; nothing else is waiting for this thread.
macro_rules! blocking {
    ($run:path) => {
        Some(|invocation| Box::pin(async move { $run(&invocation) }))
    };
}
use blocking;
