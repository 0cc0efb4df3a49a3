//! `lease grant`, `revoke`, `timetolive`, `list` and `keep-alive`.

use super::cli::{Command, Flag, Invocation};
use super::exit::{Failure, code};
use super::go::number;
use super::print::{Format, Remaining, Revoked, say};
use crate::client::Error;
use crate::pb::etcdserverpb as pb;

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "lease",
    usage: "<subcommand>",
    group: super::commands::KEY_VALUE,
    short: "Grants, renews and revokes leases. `etcdctl lease --help` lists the subcommands",
    long: "Grants, renews and revokes leases",
    children: &[&GRANT, &REVOKE, &TIME_TO_LIVE, &LIST, &KEEP_ALIVE],
    ..Command::NEW
};

static GRANT: Command = Command {
    name: "grant",
    usage: "<ttl>",
    short: "Grants a lease for so many seconds",
    run: Some(|invocation| Box::pin(grant(invocation))),
    ..Command::NEW
};

static REVOKE: Command = Command {
    name: "revoke",
    usage: "<leaseID>",
    short: "Revokes a lease and deletes its keys",
    run: Some(|invocation| Box::pin(revoke(invocation))),
    ..Command::NEW
};

static TIME_TO_LIVE: Command = Command {
    name: "timetolive",
    usage: "<leaseID> [options]",
    short: "Shows how long a lease lives",
    flags: &[Flag::bool("keys", "show the keys that hang on it")],
    run: Some(|invocation| Box::pin(time_to_live(invocation))),
    ..Command::NEW
};

static LIST: Command = Command {
    name: "list",
    short: "Lists all leases",
    run: Some(|invocation| Box::pin(list(invocation))),
    ..Command::NEW
};

static KEEP_ALIVE: Command = Command {
    name: "keep-alive",
    usage: "[options] <leaseID>",
    short: "Keeps a lease alive until it is revoked",
    flags: &[Flag::bool("once", "renew it once and end")],
    run: Some(|invocation| Box::pin(keep_alive(invocation))),
    ..Command::NEW
};

async fn grant(mut invocation: Invocation) -> Result<(), Failure> {
    if invocation.args.len() != 1 {
        return Err(Failure::args("lease grant command needs TTL argument"));
    }
    let ttl = number::parse_int(&invocation.text(0), 10)
        .map_err(|why| Failure::args(format!("bad TTL ({why})")))?;
    let deadline = invocation.deadline();
    let (client, display) = invocation.connect().await?;
    let granted = client
        .lease_grant(pb::LeaseGrantRequest { ttl, id: 0 }, deadline)
        .await;
    display.show(&granted.map_err(|e| failed("grant", &e))?)
}

async fn revoke(mut invocation: Invocation) -> Result<(), Failure> {
    if invocation.args.len() != 1 {
        return Err(Failure::args("lease revoke command needs 1 argument"));
    }
    let id = lease_id(&invocation)?;
    let deadline = invocation.deadline();
    let (client, display) = invocation.connect().await?;
    let revoked = client
        .lease_revoke(pb::LeaseRevokeRequest { id }, deadline)
        .await;
    let response = revoked.map_err(|e| failed("revoke", &e))?;
    if display.format == Format::Protobuf {
        return Err(Failure::new(code::BAD_FEATURE, no_protobuf(&response)));
    }
    display.show(&Revoked { id, response })
}

/// What Go says of a type it cannot encode, with its look into the struct.
fn no_protobuf(response: &pb::LeaseRevokeResponse) -> String {
    let header = response.header.unwrap_or_default();
    let fields = [
        ("cluster_id", i128::from(header.cluster_id)),
        ("member_id", i128::from(header.member_id)),
        ("revision", i128::from(header.revision)),
        ("raft_term", i128::from(header.raft_term)),
    ];
    let set = fields.iter().filter(|(_, value)| *value != 0);
    let set: Vec<_> = set.map(|(name, value)| format!("{name}:{value}")).collect();
    format!(
        "marshal unsupported for type *clientv3.LeaseRevokeResponse \
         (&{{{{{{}} [] [] 0xc000000000}} {} [] 0}})",
        set.join(" ")
    )
}

async fn time_to_live(mut invocation: Invocation) -> Result<(), Failure> {
    if invocation.args.len() != 1 {
        return Err(Failure::args(
            "lease timetolive command needs lease ID as argument",
        ));
    }
    let (client, display) = invocation.connect().await?;
    let (id, keys) = (lease_id(&invocation)?, invocation.flags.bool("keys"));
    let answer = client
        .lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys }, None)
        .await;
    display.show(&Remaining {
        response: answer.map_err(lost)?,
        keys,
    })
}

async fn list(mut invocation: Invocation) -> Result<(), Failure> {
    let (client, display) = invocation.connect().await?;
    let answer = client.lease_leases(pb::LeaseLeasesRequest {}, None).await;
    display.show(&answer.map_err(lost)?)
}

async fn keep_alive(mut invocation: Invocation) -> Result<(), Failure> {
    if invocation.args.len() != 1 {
        return Err(Failure::args(
            "lease keep-alive command needs lease ID as argument",
        ));
    }
    let id = lease_id(&invocation)?;
    let (client, display) = invocation.connect().await?;
    if invocation.flags.bool("once") {
        return display.show(&client.keep_alive_once(id, None).await.map_err(lost)?);
    }
    let mut answers = client.keep_alive(id);
    while let Some(answer) = answers.recv().await {
        display.show(&answer)?;
    }
    match display.format {
        Format::Simple => say(format_args!("lease {id:016x} expired or revoked.")),
        _ => Ok(()),
    }
}

fn lease_id(invocation: &Invocation) -> Result<i64, Failure> {
    number::parse_int(&invocation.text(0), 16)
        .map_err(|why| Failure::args(format!("bad lease ID arg ({why}), expecting ID in Hex")))
}

fn failed(what: &str, error: &Error) -> Failure {
    Failure::new(code::ERROR, format!("failed to {what} lease ({error})"))
}

fn lost(error: Error) -> Failure {
    Failure::new(code::BAD_CONNECTION, error)
}
