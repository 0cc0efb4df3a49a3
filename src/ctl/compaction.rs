//! `compaction`.

use super::cli::{Command, Flag, Invocation};
use super::exit::{Failure, code};
use super::go::number;
use super::print;
use crate::pb::etcdserverpb::CompactionRequest;

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "compaction",
    usage: "[options] <revision>",
    group: super::commands::KEY_VALUE,
    short: "Forgets the history before a revision",
    flags: &[Flag::bool(
        "physical",
        "wait until the old revisions are off the disk",
    )],
    run: Some(|invocation| Box::pin(run(invocation))),
    ..Command::NEW
};

async fn run(mut invocation: Invocation) -> Result<(), Failure> {
    if invocation.args.len() != 1 {
        return Err(Failure::args("compaction command needs 1 argument"));
    }
    let revision = number::parse_int(&invocation.text(0), 10)
        .map_err(|error| Failure::new(code::ERROR, error))?;
    let physical = invocation.flags.bool("physical");
    let (client, _) = invocation.connect().await?;
    client
        .compact(
            CompactionRequest { revision, physical },
            invocation.deadline(),
        )
        .await?;
    print::say(format_args!("compacted revision {revision}"))
}
