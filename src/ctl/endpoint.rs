//! `endpoint health`, `status` and `hashkv`: one client per endpoint.

use super::alarm::alarms;
use super::cli::{Command, Flag, Invocation};
use super::exit::{Failure, code};
use super::global::Spec;
use super::print::{EndpointHash, EndpointHealth, EndpointStatus, complain};
use crate::client::{Client, Deadline, text};
use crate::pb::etcdserverpb as pb;
use std::time::Instant;
use tokio::task::JoinSet;

/// The flag that replaces `--endpoints` by what the members say.
pub(super) const CLUSTER: Flag =
    Flag::bool("cluster", "all client URLs of all members, not --endpoints");

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "endpoint",
    usage: "<subcommand>",
    group: super::commands::MAINTENANCE,
    short: "Checks single endpoints. `etcdctl endpoint --help` lists the subcommands",
    long: "Checks single endpoints",
    persistent: &[CLUSTER],
    children: &[&HEALTH, &STATUS, &HASHKV],
    ..Command::NEW
};

static HEALTH: Command = Command {
    name: "health",
    short: "Tells whether the endpoints serve",
    run: Some(|invocation| Box::pin(health(invocation))),
    ..Command::NEW
};

static STATUS: Command = Command {
    name: "status",
    short: "Shows what the endpoints say of themselves",
    long: "Shows what the endpoints say of themselves. In the simple format a line has, separated by commas:
endpoint, member id, version, storage version, database size, size in use, percentage not in use,
quota, whether it leads, whether it is a learner, raft term, raft index, applied index, errors,
downgrade target version, whether a downgrade is on.",
    run: Some(|invocation| Box::pin(status(invocation))),
    ..Command::NEW
};

static HASHKV: Command = Command {
    name: "hashkv",
    short: "Shows the hash of the endpoints' key-value history",
    persistent: &[Flag::int(
        "rev",
        "hash up to this revision (the latest without)",
    )],
    run: Some(|invocation| Box::pin(hashkv(invocation))),
    ..Command::NEW
};

async fn health(mut invocation: Invocation) -> Result<(), Failure> {
    let (mut spec, display) = invocation.spec().await?;
    spec.log_name = "client";
    let mut checks = JoinSet::new();
    for endpoint in endpoints(&invocation).await? {
        let config = spec.at(&endpoint).config()?;
        let timeout = invocation.duration("command-timeout");
        checks.spawn(async move {
            match Client::connect(config).await {
                Ok(client) => {
                    check(
                        client,
                        endpoint,
                        Some(tokio::time::Instant::now() + timeout),
                    )
                    .await
                }
                Err(error) => {
                    let error = error.to_string();
                    EndpointHealth {
                        endpoint,
                        healthy: false,
                        took: None,
                        error,
                    }
                }
            }
        });
    }
    // In the order the answers come in.
    let all = checks.join_all().await;
    let sick = all.iter().any(|health| !health.error.is_empty());
    display.show(&all)?;
    match sick {
        true => Err(Failure::new(code::ERROR, "unhealthy cluster")),
        false => Ok(()),
    }
}

/// An endpoint is healthy if a linearizable read goes through it and no alarm is up.
async fn check(client: Client, endpoint: String, deadline: Deadline) -> EndpointHealth {
    let start = Instant::now();
    let request = pb::RangeRequest {
        key: "health".into(),
        ..Default::default()
    };
    let read = client.range(request, deadline).await;
    let took = Some(start.elapsed().as_nanos() as i64);
    let sick = |error| EndpointHealth {
        endpoint: endpoint.clone(),
        healthy: false,
        took,
        error,
    };
    match read {
        Err(error) if !error.is(text::PERMISSION_DENIED) => return sick(error.to_string()),
        // Who may not read has been through the cluster to hear so.
        _ => {}
    }
    match alarms(&client, deadline).await {
        Err(_) => sick("Unable to fetch the alarm list".to_owned()),
        Ok(response) if !response.alarms.is_empty() => {
            let names = response.alarms.iter().map(|alarm| match alarm.alarm() {
                pb::AlarmType::Nospace => "NOSPACE ",
                pb::AlarmType::Corrupt => "CORRUPT ",
                pb::AlarmType::None => "UNKNOWN ",
            });
            sick(format!("Active Alarm(s): {}", names.collect::<String>()))
        }
        Ok(_) => EndpointHealth {
            endpoint,
            healthy: true,
            took,
            error: String::new(),
        },
    }
}

async fn status(mut invocation: Invocation) -> Result<(), Failure> {
    let (spec, display) = invocation.spec().await?;
    let mut answers = Vec::new();
    let mut failed = false;
    for endpoint in endpoints(&invocation).await? {
        let client = spec.at(&endpoint).connect().await?;
        match client
            .status(pb::StatusRequest {}, invocation.deadline())
            .await
        {
            Ok(response) => answers.push(EndpointStatus { endpoint, response }),
            Err(error) => {
                failed = true;
                complain(format_args!(
                    "Failed to get the status of endpoint {endpoint} ({error})"
                ));
            }
        }
    }
    display.show(&answers)?;
    if failed {
        Err(Failure::silent(code::ERROR))
    } else {
        Ok(())
    }
}

async fn hashkv(mut invocation: Invocation) -> Result<(), Failure> {
    let (spec, display) = invocation.spec().await?;
    let revision = invocation.flags.int("rev");
    let mut answers = Vec::new();
    let mut last_error = None;
    for endpoint in endpoints(&invocation).await? {
        let client = spec.at(&endpoint).connect().await?;
        match client
            .hash_kv(pb::HashKvRequest { revision }, invocation.deadline())
            .await
        {
            Ok(response) => answers.push(EndpointHash { endpoint, response }),
            Err(error) => {
                complain(format_args!(
                    "Failed to get the hash of endpoint {endpoint} ({error})"
                ));
                last_error = Some(error);
            }
        }
    }
    display.show(&answers)?;
    last_error.map_or(Ok(()), |error| Err(error.into()))
}

/// The endpoints as given, or with `--cluster` what the members say.
pub(super) async fn endpoints(invocation: &Invocation) -> Result<Vec<String>, Failure> {
    if !invocation.flags.bool("cluster") {
        return Ok(invocation.flags.list("endpoints"));
    }
    let failed = |error: &dyn std::fmt::Display| Failure::new(code::ERROR, error);
    let spec = Spec {
        tls: invocation.tls_options()?,
        credentials: invocation.credentials()?,
        endpoints: invocation.endpoints().await?,
        dial_timeout: invocation.duration("dial-timeout"),
        keepalive_time: invocation.duration("keepalive-time"),
        keepalive_timeout: invocation.duration("keepalive-timeout"),
        request_bytes_max: 0,
        response_bytes_max: 0,
        log_name: "etcd-client",
    };
    let config = spec.config().map_err(|failure| Failure {
        code: code::ERROR,
        ..failure
    })?;
    let client = Client::connect(config)
        .await
        .map_err(|error| failed(&error))?;
    let request = pb::MemberListRequest { linearizable: true };
    let members = client
        .member_list(request, invocation.deadline())
        .await
        .map_err(|error| {
            failed(&format_args!(
                "failed to fetch endpoints from etcd cluster member list: {error}"
            ))
        })?;
    Ok(members
        .members
        .into_iter()
        .flat_map(|member| member.client_ur_ls)
        .collect())
}
