//! `move-leader`.

use super::cli::{Command, Invocation};
use super::exit::Failure;
use super::go::number;
use super::print::MovedLeader;
use crate::pb::etcdserverpb::{MoveLeaderRequest, StatusRequest};

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "move-leader",
    usage: "<transferee-member-id>",
    group: super::commands::MAINTENANCE,
    short: "Makes another member the leader",
    run: Some(|invocation| Box::pin(run(invocation))),
    ..Command::NEW
};

async fn run(mut invocation: Invocation) -> Result<(), Failure> {
    if invocation.args.len() != 1 {
        return Err(Failure::args("move-leader command needs 1 argument"));
    }
    let target_id = number::parse_uint(&invocation.text(0), 16).map_err(Failure::args)?;
    let (spec, display) = invocation.spec().await?;
    let endpoints = spec.connect().await?.endpoints().to_vec();
    let deadline = invocation.deadline();
    for endpoint in &endpoints {
        let client = spec.at(endpoint).connect().await?;
        let status = client.status(StatusRequest {}, deadline).await?;
        let from = status.leader;
        if status.header.unwrap_or_default().member_id == from {
            let response = client
                .move_leader(MoveLeaderRequest { target_id }, deadline)
                .await?;
            return display.show(&MovedLeader {
                from,
                to: target_id,
                response,
            });
        }
    }
    Err(Failure::args(format!(
        "no leader endpoint given at [{}]",
        endpoints.join(" ")
    )))
}
