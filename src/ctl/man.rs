//! Man pages, from the same tables as everything else: the hidden command `__man DIRECTORY`, for packagers.

use super::cli::{Command, Invocation, clap};
use super::exit::{Failure, code};
use super::version;
use std::path::Path;

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "__man",
    usage: "<directory>",
    short: "Writes man pages into a directory",
    hidden: true,
    run: Some(|invocation| Box::pin(run(invocation))),
    ..Command::NEW
};

pub(crate) async fn run(invocation: Invocation) -> Result<(), Failure> {
    if invocation.args.len() != 1 {
        return Err(Failure::args("__man takes one argument, a directory"));
    }
    let program = clap::to_clap(invocation.path.root()).version(version::VERSION);
    let written = clap_mangen::generate_to(program, Path::new(invocation.text(0).as_ref()));
    written.map_err(|error| Failure::new(code::ERROR, error))
}
