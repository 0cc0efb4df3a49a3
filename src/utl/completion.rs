//! `completion`: as in `etcdctl`, for this program.

use crate::ctl::cli::Command;
use crate::ctl::completion;

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "completion",
    usage: "[bash|zsh|fish|powershell]",
    short: "Prints a completion script for a shell",
    choices: &["bash", "zsh", "fish", "powershell"],
    run: Some(|invocation| Box::pin(completion::run(invocation))),
    ..Command::NEW
};
