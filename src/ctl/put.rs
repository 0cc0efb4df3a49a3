//! `put`.

use super::cli::{Arg, Command, Flag, Flags, Invocation};
use super::exit::Failure;
use super::go::number;
use crate::pb::etcdserverpb::PutRequest;
use std::io::Read;

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "put",
    usage: "[options] <key> <value> (<value> can also be given from stdin)",
    group: super::commands::KEY_VALUE,
    short: "Writes a key",
    long: "Writes a key.

A value that begins with a dash would be taken for a flag; put -- before it:

$ put <key> -- <value>
$ put -- <key> <value>

Without a <value>, and without --ignore-value, all of standard input is the value:

$ put <key> < file",
    flags: &[
        Flag::text("lease", "hang the key on this lease (hexadecimal)").or("0"),
        Flag::bool("prev-kv", "return what the key held before"),
        Flag::bool("ignore-value", "keep the present value, change the lease"),
        Flag::bool("ignore-lease", "keep the present lease, change the value"),
    ],
    run: Some(|invocation| Box::pin(run(invocation))),
    ..Command::NEW
};

async fn run(mut invocation: Invocation) -> Result<(), Failure> {
    let request = request(&invocation.args, &invocation.flags)?;
    let deadline = invocation.deadline();
    let (client, display) = invocation.connect().await?;
    display.show(&client.put(request, deadline).await?)
}

/// The request that arguments and flags describe. Reads standard input where the value is missing.
pub(super) fn request(args: &[Arg], flags: &Flags) -> Result<PutRequest, Failure> {
    let missing =
        || Failure::args("put command needs 1 argument and input from stdin or 2 arguments");
    let key = args.first().ok_or_else(missing)?;
    let ignore_value = flags.bool("ignore-value");
    if ignore_value && args.len() > 1 {
        return Err(Failure::args(
            "put command needs only 1 argument when 'ignore-value' is set",
        ));
    }
    let value = match args.get(1) {
        _ if ignore_value => Vec::new(),
        Some(value) => value.clone(),
        None => {
            let mut input = Vec::new();
            std::io::stdin()
                .lock()
                .read_to_end(&mut input)
                .map_err(|_| missing())?;
            if input.is_empty() {
                return Err(missing());
            }
            input
        }
    };
    let lease = number::parse_int(&flags.text("lease"), 16)
        .map_err(|why| Failure::args(format!("bad lease ID ({why}), expecting ID in Hex")))?;
    Ok(PutRequest {
        key: key.clone().into(),
        value: value.into(),
        lease,
        prev_kv: flags.bool("prev-kv"),
        ignore_value,
        ignore_lease: flags.bool("ignore-lease"),
    })
}
