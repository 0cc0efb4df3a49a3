//! `del`.

use super::cli::{Arg, Command, Flag, Flags, Invocation};
use super::exit::Failure;
use super::get::{CHOOSE_ONE, TOO_MANY_ARGUMENTS, range};
use super::go::quote::quote;
use super::print::complain;
use crate::pb::etcdserverpb::DeleteRangeRequest;
use std::time::Duration;

/// Time to think again before a range is deleted.
const SECOND_THOUGHTS: Duration = Duration::from_secs(2);

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "del",
    usage: "[options] <key> [range_end]",
    group: super::commands::KEY_VALUE,
    short: "Removes a key or a range of keys [key, range_end)",
    flags: &[
        Flag::bool("prefix", "all keys that begin with <key>"),
        Flag::bool("prev-kv", "return what was deleted"),
        Flag::bool("from-key", "all keys from <key> on, in byte order"),
        Flag::bool(
            "range",
            "delete a range at once, without the two seconds to think again",
        ),
    ],
    run: Some(|invocation| Box::pin(run(invocation))),
    ..Command::NEW
};

async fn run(mut invocation: Invocation) -> Result<(), Failure> {
    let request = request(&invocation.args, &invocation.flags)?;
    let deadline = invocation.deadline();
    let (client, display) = invocation.connect().await?;
    display.show(&client.delete_range(request, deadline).await?)
}

/// The request that arguments and flags describe. Waits before it returns a range that was not confirmed.
pub(super) fn request(args: &[Arg], flags: &Flags) -> Result<DeleteRangeRequest, Failure> {
    let ([key] | [key, _]) = args else {
        return Err(Failure::args(
            "del command needs one argument as key and an optional argument as range_end",
        ));
    };
    let (prefix, from_key) = (flags.bool("prefix"), flags.bool("from-key"));
    if prefix && from_key {
        return Err(Failure::args(CHOOSE_ONE));
    }
    if let Some(range_end) = args.get(1) {
        if prefix || from_key {
            return Err(Failure::args(TOO_MANY_ARGUMENTS));
        }
        if !flags.bool("range") {
            let (from, to) = (quote(key), quote(range_end));
            complain(format_args!(
                "Warning: Keys between {from} and {to} will be deleted. Please interrupt the command \
                 within next 2 seconds to cancel. You can provide `--range` flag to avoid the delay."
            ));
            std::thread::sleep(SECOND_THOUGHTS);
        }
    }
    let (key, range_end) = range(key, args.get(1), prefix, from_key);
    let prev_kv = flags.bool("prev-kv");
    Ok(DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv,
    })
}
