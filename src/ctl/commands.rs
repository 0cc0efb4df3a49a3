//! The program: all commands, in the order suggestions list them, and the groups help lists them in.

use super::cli::Command;
use super::{
    alarm, auth, check, compaction, completion, defrag, del, doctor, downgrade, elect, endpoint,
    get, global, lease, lock, man, member, mirror, move_leader, put, role, snapshot, top, txn,
    user, version, watch,
};

/// Group of the commands about keys.
pub(super) const KEY_VALUE: &str = "Key-value commands";
/// Group of the commands about members.
pub(super) const MAINTENANCE: &str = "Cluster maintenance commands";
/// Group of the commands that coordinate processes.
pub(super) const CONCURRENCY: &str = "Concurrency commands";
/// Group of the commands about who may do what.
pub(super) const AUTHENTICATION: &str = "Authentication commands";
/// Group of the rest.
pub(super) const UTILITY: &str = "Utility commands";

/// The program.
pub(super) static ROOT: Command = Command {
    name: "etcdctl",
    short: "The command line client of etcd.",
    groups: &[KEY_VALUE, MAINTENANCE, CONCURRENCY, AUTHENTICATION, UTILITY],
    persistent: &global::FLAGS,
    children: &[
        &get::COMMAND,
        &put::COMMAND,
        &del::COMMAND,
        &txn::COMMAND,
        &compaction::COMMAND,
        &alarm::COMMAND,
        &defrag::COMMAND,
        &endpoint::COMMAND,
        &move_leader::COMMAND,
        &watch::COMMAND,
        &VERSION,
        &lease::COMMAND,
        &member::COMMAND,
        &snapshot::COMMAND,
        &mirror::COMMAND,
        &lock::COMMAND,
        &elect::COMMAND,
        &auth::COMMAND,
        &user::COMMAND,
        &role::COMMAND,
        &check::COMMAND,
        &completion::COMMAND,
        &downgrade::COMMAND,
        &OPTIONS,
        &HELP,
        &doctor::COMMAND,
        &top::COMMAND,
        &man::COMMAND,
    ],
    ..Command::NEW
};

static VERSION: Command = Command {
    name: "version",
    group: UTILITY,
    short: "Prints the versions of this program and its API",
    run: Some(|invocation| Box::pin(version::run(invocation))),
    ..Command::NEW
};

static OPTIONS: Command = Command {
    name: "options",
    group: UTILITY,
    short: "Lists the flags that all commands have",
    run: Some(|invocation| Box::pin(version::options(invocation))),
    ..Command::NEW
};

static HELP: Command = Command {
    name: "help",
    usage: "[command]",
    group: UTILITY,
    short: "Explains a command",
    run: Some(|invocation| Box::pin(super::explain(&super::PROGRAM, invocation))),
    ..Command::NEW
};
