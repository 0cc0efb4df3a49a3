//! `lock`: holds a lock until a signal comes, or while a command runs.

use super::cli::{Command, Flag, Invocation};
use super::exit::{Failure, code};
use super::{child, signals};
use crate::client::{Mutex, Session};
use crate::pb::etcdserverpb::RangeRequest;

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "lock",
    usage: "<lockname> [exec-command arg1 arg2 ...]",
    group: super::commands::CONCURRENCY,
    short: "Takes a lock and holds it",
    flags: &[Flag::int(
        "ttl",
        "seconds after which the lock of a dead holder is free",
    )
    .or("10")],
    run: Some(|invocation| Box::pin(run(invocation))),
    ..Command::NEW
};

async fn run(mut invocation: Invocation) -> Result<(), Failure> {
    if invocation.args.is_empty() {
        return Err(Failure::args(
            "lock takes a lock name argument and an optional command to execute",
        ));
    }
    let (client, display) = invocation.connect().await?;
    let session = Session::start(&client, invocation.flags.int("ttl")).await?;
    let ended = signals::ended_by_user()?;
    let mut mutex = Mutex::new(&session, &invocation.args[0]);
    let revision = mutex.lock(&ended).await?;
    let command = &invocation.args[1..];
    if !command.is_empty() {
        let key = std::env::var_os("ETCD_LOCK_KEY").is_none();
        let at = std::env::var_os("ETCD_LOCK_REV").is_none();
        let environment = [
            key.then(|| ("ETCD_LOCK_KEY", mutex.key().to_vec())),
            at.then(|| ("ETCD_LOCK_REV", revision.to_string().into_bytes())),
        ];
        let ran = child::run(command, environment.into_iter().flatten()).await;
        let unlocked = mutex.unlock().await;
        ran.map_err(|failure| Failure::new(failure.code, failure.message))?;
        return Ok(unlocked?);
    }
    let request = RangeRequest {
        key: mutex.key().to_vec().into(),
        ..Default::default()
    };
    let held = tokio::select! {
        () = ended.cancelled() => {
            mutex.unlock().await?;
            return Err(Failure::new(code::ERROR, "context canceled"));
        }
        held = client.range(request, None) => held?,
    };
    if held.kvs.is_empty() {
        return Err(Failure::new(code::ERROR, "lock lost on init"));
    }
    display.show(&held)?;
    tokio::select! {
        () = ended.cancelled() => Ok(mutex.unlock().await?),
        () = session.lost() => Err(Failure::new(code::ERROR, "session expired")),
    }
}
