//! `defrag`, member by member.

use super::cli::{Command, Invocation};
use super::endpoint::{CLUSTER, endpoints};
use super::exit::{Failure, code};
use super::go::duration;
use super::print::{complain, say};
use super::progress;
use crate::pb::etcdserverpb::DefragmentRequest;
use std::time::Instant;

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "defrag",
    group: super::commands::MAINTENANCE,
    short: "Gives back the free space in the members' databases",
    persistent: &[CLUSTER],
    run: Some(|invocation| Box::pin(run(invocation))),
    ..Command::NEW
};

async fn run(mut invocation: Invocation) -> Result<(), Failure> {
    let (spec, _) = invocation.spec().await?;
    let mut failed = false;
    for endpoint in endpoints(&invocation).await? {
        let client = spec.at(&endpoint).connect().await?;
        let spinner = progress::spinner(format!("defragmenting {endpoint}"));
        let start = Instant::now();
        let done = client
            .defragment(DefragmentRequest {}, invocation.deadline())
            .await;
        let took = duration::print(start.elapsed().as_nanos() as i64);
        drop(spinner);
        match done {
            Ok(_) => say(format_args!(
                "Finished defragmenting etcd member[{endpoint}]. took {took}"
            ))?,
            Err(error) => {
                failed = true;
                complain(format_args!(
                    "Failed to defragment etcd member[{endpoint}]. took {took}. ({error})"
                ));
            }
        }
    }
    if failed {
        Err(Failure::silent(code::ERROR))
    } else {
        Ok(())
    }
}
