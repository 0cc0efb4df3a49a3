//! `top`: what the members do, as it happens.
//!
//! Every interval each member is asked for its status and its metrics; rates and latencies are those between two
//! readings. On a terminal the table is drawn again and again; elsewhere it is printed once, after one interval.

mod prefixes;
mod table;

use super::cli::{Command, Flag, Invocation, Kind};
use super::exit::Failure;
use super::print::emit;
use super::prometheus::Metrics;
use super::signals;
use crate::client::{Client, Endpoint, Security, Tls, TlsOptions, http_get, log::Logger};
use crate::pb::etcdserverpb as pb;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "top",
    group: super::commands::MAINTENANCE,
    short: "Shows what the members do, as it happens",
    long:
        "Shows what the members do, as it happens: leader, terms, database sizes, requests and their
latency, watchers, and how far members are behind. Ends with Ctrl-C.

When the output is no terminal it is printed once.",
    flags: &[
        Flag {
            name: "interval",
            kind: Kind::Duration,
            default: "2s",
            help: "time between two readings",
            ..Flag::NEW
        },
        Flag::bool(
            "prefixes",
            "also show the prefixes of the keys that take longest to read",
        ),
    ],
    beyond: true,
    run: Some(|invocation| Box::pin(run(invocation))),
    ..Command::NEW
};

/// Time one member has for its answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Alternative screen on and off, and back to its beginning.
const SCREEN_ON: &str = "\x1b[?1049h\x1b[?25l";
const SCREEN_OFF: &str = "\x1b[?25h\x1b[?1049l";
const SCREEN_CLEAR: &str = "\x1b[H\x1b[2J";

/// A member as it is watched.
struct Watched {
    name: String,
    endpoint: Endpoint,
    client: Client,
    tls: Option<Arc<Tls>>,
}

/// One reading of one member.
#[derive(Clone, Default)]
struct Reading {
    status: Option<pb::StatusResponse>,
    metrics: Option<Metrics>,
    at: Option<Instant>,
    error: Option<String>,
}

async fn run(mut invocation: Invocation) -> Result<(), Failure> {
    let (mut spec, _) = invocation.spec().await?;
    spec.log_name = "client";
    let client = spec.connect().await?;
    let interval = invocation
        .duration("interval")
        .max(Duration::from_millis(200));
    let with_prefixes = invocation.flags.bool("prefixes");
    let members = members(&spec, &client, invocation.deadline()).await?;
    let mut before = read_all(&members).await;
    let live = std::io::stdout().is_terminal();
    let ended = signals::ended_by_user()?;
    if live {
        emit(SCREEN_ON)?;
    }
    loop {
        tokio::select! {
            () = ended.cancelled() => break,
            () = tokio::time::sleep(interval) => {}
        }
        let now = read_all(&members).await;
        let mut screen = table::draw(&members, &before, &now);
        if with_prefixes {
            screen.push_str(&prefixes::draw(&client).await);
        }
        if !live {
            return emit(&screen);
        }
        emit(&format!("{SCREEN_CLEAR}{screen}"))?;
        before = now;
    }
    if live { emit(SCREEN_OFF) } else { Ok(()) }
}

/// All members with a client URL, each with a client of its own.
async fn members(
    spec: &super::global::Spec,
    client: &Client,
    deadline: crate::client::Deadline,
) -> Result<Vec<Watched>, Failure> {
    let request = pb::MemberListRequest {
        linearizable: false,
    };
    let mut watched = Vec::new();
    for member in client.member_list(request, deadline).await?.members {
        let Some(url) = member.client_ur_ls.first() else {
            continue;
        };
        let mut config = spec.at(url).config()?;
        config.logger = Logger::silent();
        let endpoint = Endpoint::parse(url);
        let tls = match endpoint.security {
            Security::Plain => None,
            Security::Tls if config.tls.is_none() => Some(TlsOptions::system()?),
            _ => config.tls.clone(),
        };
        // Logged in already: the token of the first client serves here too, if it is one a cluster shares.
        let client = client.at_with(config)?;
        watched.push(Watched {
            name: member.name,
            endpoint,
            client,
            tls,
        });
    }
    Ok(watched)
}

async fn read_all(members: &[Watched]) -> Vec<Reading> {
    let mut reading = JoinSet::new();
    for (index, member) in members.iter().enumerate() {
        let (client, tls) = (member.client.clone(), member.tls.clone());
        let endpoint = member.endpoint.clone();
        reading.spawn(async move { (index, read(&client, &endpoint, tls.as_deref()).await) });
    }
    let mut readings = reading.join_all().await;
    readings.sort_by_key(|(index, _)| *index);
    readings.into_iter().map(|(_, reading)| reading).collect()
}

async fn read(client: &Client, endpoint: &Endpoint, tls: Option<&Tls>) -> Reading {
    let deadline = Some(tokio::time::Instant::now() + ANSWER_TIMEOUT);
    let status = client.status(pb::StatusRequest {}, deadline).await;
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, http_get(endpoint, "/metrics", tls)).await;
    let metrics = answer
        .ok()
        .and_then(Result::ok)
        .map(|answer| Metrics::new(answer.body));
    let error = status.as_ref().err().map(ToString::to_string);
    Reading {
        status: status.ok(),
        metrics,
        at: Some(Instant::now()),
        error,
    }
}
