//! `check perf`: puts at a given rate for a minute.

use super::{
    AUTO_COMPACT, AUTO_DEFRAG, Puts, Summary, delete_all, prepare, say, size, tidy, writers,
};
use crate::client::Client;
use crate::ctl::cli::{Command, Flag, Invocation};
use crate::ctl::exit::{Failure, code};
use crate::ctl::progress::Bar;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "perf",
    usage: "[options]",
    short: "Checks how fast a cluster writes",
    flags: &[
        Flag::text(
            "load",
            "s(mall): 150 puts/s, m(edium): 1000, l(arge): 8000, xl (xLarge): 15000",
        )
        .or("s")
        .offering(&["small", "medium", "large", "xLarge"]),
        Flag::text("prefix", "prefix of the keys that are written").or("/etcdctl-check-perf/"),
        AUTO_COMPACT,
        AUTO_DEFRAG,
    ],
    run: Some(|invocation| Box::pin(run(invocation))),
    ..Command::NEW
};

/// A load.
struct Load {
    puts_per_second: u64,
    clients: usize,
}

const LOADS: [Load; 4] = [
    Load {
        puts_per_second: 150,
        clients: 50,
    },
    Load {
        puts_per_second: 1000,
        clients: 200,
    },
    Load {
        puts_per_second: 8000,
        clients: 500,
    },
    Load {
        puts_per_second: 15000,
        clients: 1000,
    },
];

const DURATION_SECONDS: u64 = 60;
const KEY_BYTES: usize = 256;
const VALUE_BYTES: usize = 1024;

/// What a healthy cluster stays within.
const THROUGHPUT_MIN: f64 = 0.9;
const SLOWEST_SECONDS_MAX: f64 = 0.5;
const DEVIATION_SECONDS_MAX: f64 = 0.1;

async fn run(mut invocation: Invocation) -> Result<(), Failure> {
    let load = size(&invocation.flags.text("load"), LOADS)?;
    let (_, clients, prefix) = prepare(&mut invocation, load.clients, "'").await?;
    let stop = stop_on_interrupt(&clients[0], &prefix)?;
    let bar = Arc::new(Bar::always(DURATION_SECONDS, "s"));
    let tick = Arc::clone(&bar);
    tokio::spawn(async move {
        for _ in 0..DURATION_SECONDS {
            tokio::time::sleep(Duration::from_secs(1)).await;
            tick.add(1);
        }
    });
    let summary = write(&clients, &load, &prefix, stop).await;
    bar.finish();
    let revision = clean_up(&clients[0], &prefix).await?;
    tidy(&invocation, &clients[0], revision).await?;
    verdict(&summary, &load)
}

/// Makes the puts until time is up.
async fn write(clients: &[Client], load: &Load, prefix: &[u8], stop: CancellationToken) -> Summary {
    let (requests, mut made) = writers(clients);
    let puts = Puts::new(prefix, KEY_BYTES, VALUE_BYTES);
    let rate = load.puts_per_second;
    let start = Instant::now();
    tokio::spawn(async move {
        let (mut sent, all) = (0, rate * DURATION_SECONDS);
        while !stop.is_cancelled() && sent < all {
            let due = (start.elapsed().as_secs_f64() * rate as f64) as u64 + 1;
            let due = due.min(all);
            // A cluster that falls behind is not asked to make up for more than a moment.
            sent = sent.max(due.saturating_sub(rate / 20 + 1));
            while sent < due {
                if requests.send(puts.next()).await.is_err() {
                    return;
                }
                sent += 1;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let mut summary = Summary::default();
    while let Some(put) = made.recv().await {
        summary.add(put);
    }
    summary.total = start.elapsed();
    summary
}

/// After SIGINT no more is written, and what was written goes.
fn stop_on_interrupt(client: &Client, prefix: &[u8]) -> Result<CancellationToken, Failure> {
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|error| Failure::new(code::ERROR, error))?;
    let stop = CancellationToken::new();
    let (stopped, client, prefix) = (stop.clone(), client.clone(), prefix.to_vec());
    tokio::spawn(async move {
        interrupt.recv().await;
        stopped.cancel();
        // The regular clean-up reports; this one only makes it short.
        let _ = delete_all(&client, &prefix).await;
    });
    Ok(stop)
}

async fn clean_up(client: &Client, prefix: &[u8]) -> Result<Option<i64>, Failure> {
    match delete_all(client, prefix).await {
        Ok(revision) => Ok(Some(revision)),
        Err(error) => {
            say(format_args!(
                "FAIL: Cleanup failed during key deletion: ERROR({error})"
            ))?;
            Ok(None)
        }
    }
}

fn verdict(summary: &Summary, load: &Load) -> Result<(), Failure> {
    let mut passed = !summary.report_errors()?;
    let throughput = summary.per_second() as u64 + 1;
    if summary.per_second() / load.puts_per_second as f64 <= THROUGHPUT_MIN {
        say(format_args!(
            "FAIL: Throughput too low: {throughput} writes/s"
        ))?;
        passed = false;
    } else {
        say(format_args!("PASS: Throughput is {throughput} writes/s"))?;
    }
    let slowest = summary.slowest_seconds();
    if slowest > SLOWEST_SECONDS_MAX {
        say(format_args!("Slowest request took too long: {slowest:.6}s"))?;
        passed = false;
    } else {
        say(format_args!("PASS: Slowest request took {slowest:.6}s"))?;
    }
    let deviation = summary.deviation_seconds();
    if deviation > DEVIATION_SECONDS_MAX {
        say(format_args!("Stddev too high: {deviation:.6}s"))?;
        passed = false;
    } else {
        say(format_args!("PASS: Stddev is {deviation:.6}s"))?;
    }
    say(if passed { "PASS" } else { "FAIL" })?;
    if passed {
        Ok(())
    } else {
        Err(Failure::silent(code::ERROR))
    }
}
