//! `downgrade validate`, `enable` and `cancel`.

use super::cli::{Command, Invocation};
use super::exit::Failure;
use crate::pb::etcdserverpb::DowngradeRequest;
use crate::pb::etcdserverpb::downgrade_request::DowngradeAction;

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "downgrade",
    usage: "<TARGET_VERSION>",
    group: super::commands::MAINTENANCE,
    short: "Prepares a cluster for an older version. `etcdctl downgrade --help` lists the subcommands",
    long: "Prepares a cluster for an older version",
    children: &[&VALIDATE, &ENABLE, &CANCEL],
    ..Command::NEW
};

static VALIDATE: Command = Command {
    name: "validate",
    usage: "<TARGET_VERSION>",
    short: "Tells whether the cluster could be downgraded",
    run: Some(|invocation| {
        Box::pin(to_version(
            "validate",
            DowngradeAction::Validate,
            invocation,
        ))
    }),
    ..Command::NEW
};

static ENABLE: Command = Command {
    name: "enable",
    usage: "<TARGET_VERSION>",
    short: "Starts a downgrade",
    run: Some(|invocation| Box::pin(to_version("enable", DowngradeAction::Enable, invocation))),
    ..Command::NEW
};

static CANCEL: Command = Command {
    name: "cancel",
    short: "Ends the downgrade that is under way",
    run: Some(|invocation| {
        Box::pin(send(
            "cancel",
            DowngradeAction::Cancel,
            String::new(),
            invocation,
        ))
    }),
    ..Command::NEW
};

async fn to_version(
    name: &'static str,
    action: DowngradeAction,
    invocation: Invocation,
) -> Result<(), Failure> {
    match invocation.args.as_slice() {
        [] => Err(Failure::args("TARGET_VERSION not provided")),
        [version] if version.is_empty() => Err(Failure::args("target version not provided")),
        [_] => {
            let version = invocation.text(0).into_owned();
            send(name, action, version, invocation).await
        }
        _ => Err(Failure::args("too many arguments")),
    }
}

async fn send(
    name: &'static str,
    action: DowngradeAction,
    version: String,
    mut invocation: Invocation,
) -> Result<(), Failure> {
    let deadline = invocation.deadline();
    let (client, display) = invocation.connect().await?;
    let request = DowngradeRequest {
        action: action as i32,
        version,
    };
    display.show(&(name, client.downgrade(request, deadline).await?))
}
