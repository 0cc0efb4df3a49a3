//! `elect`: stands for election, or listens to who is elected.

use super::cli::{Command, Flag, Invocation};
use super::exit::{Failure, code};
use super::print::Display;
use super::signals;
use crate::client::{Client, Election, Session, TTL_SECONDS_DEFAULT};
use crate::pb::etcdserverpb::RangeRequest;

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "elect",
    usage: "<election-name> [proposal]",
    group: super::commands::CONCURRENCY,
    short: "Stands for election, or watches one",
    flags: &[Flag::bool("listen", "only watch who is elected").short('l')],
    run: Some(|invocation| Box::pin(run(invocation))),
    ..Command::NEW
};

async fn run(mut invocation: Invocation) -> Result<(), Failure> {
    if !matches!(invocation.args.len(), 1 | 2) {
        return Err(Failure::args(
            "elect takes one election name argument and an optional proposal argument",
        ));
    }
    let (client, display) = invocation.connect().await?;
    let listen = invocation.flags.bool("listen");
    match invocation.args.as_slice() {
        [_] if !listen => Err(Failure::args("no proposal argument but -l not set")),
        [name] => observe(&client, &display, name).await,
        [_, _, ..] if listen => Err(Failure::args("proposal given but -l is set")),
        [name, proposal, ..] => campaign(&client, &display, name, proposal).await,
        [] => Ok(()),
    }
}

async fn observe(client: &Client, display: &Display, name: &[u8]) -> Result<(), Failure> {
    let _session = Session::start(client, TTL_SECONDS_DEFAULT).await?;
    let ended = signals::ended_by_user()?;
    let mut leaders = client.observe_election(name);
    loop {
        tokio::select! {
            () = ended.cancelled() => return Ok(()),
            leader = leaders.recv() => match leader {
                Some(leader) => display.show(&leader)?,
                None => return Err(Failure::new(code::ERROR, "elect: observer lost")),
            },
        }
    }
}

async fn campaign(
    client: &Client,
    display: &Display,
    name: &[u8],
    proposal: &[u8],
) -> Result<(), Failure> {
    let session = Session::start(client, TTL_SECONDS_DEFAULT).await?;
    let ended = signals::ended_by_user()?;
    let mut election = Election::new(&session, name);
    election.campaign(proposal, &ended).await?;
    let request = RangeRequest {
        key: election.key().to_vec().into(),
        ..Default::default()
    };
    display.show(&client.range(request, None).await?)?;
    tokio::select! {
        () = ended.cancelled() => Ok(election.resign().await?),
        () = session.lost() => Err(Failure::new(code::ERROR, "elect: session expired")),
    }
}
