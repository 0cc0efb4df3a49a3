//! `check perf` and `check datascale`: a load of puts, and a verdict.

mod datascale;
mod perf;

use super::cli::{Command, Flag, Invocation};
use super::exit::{Failure, code};
use super::global::Spec;
use super::go::quote::quote;
use super::print::say;
use crate::client::{Client, Error, prefix_end};
use crate::pb::etcdserverpb as pb;
use rand::Rng;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "check",
    usage: "<subcommand>",
    group: super::commands::UTILITY,
    short: "Checks what a cluster can do. `etcdctl check --help` lists the subcommands",
    long: "Checks what a cluster can do",
    children: &[&perf::COMMAND, &datascale::COMMAND],
    ..Command::NEW
};

const AUTO_COMPACT: Flag = Flag::bool("auto-compact", "compact the history afterwards");
const AUTO_DEFRAG: Flag = Flag::bool("auto-defrag", "defragment the members afterwards");

/// Time for each step of cleaning up.
const CLEAN_UP_TIMEOUT: Duration = Duration::from_secs(30);

/// The four sizes of load, by all their names.
fn size<T>(load: &str, sizes: [T; 4]) -> Result<T, Failure> {
    let [small, medium, large, xlarge] = sizes;
    Ok(match load {
        "s" | "small" => small,
        "m" | "medium" => medium,
        "l" | "large" => large,
        "xl" | "xLarge" => xlarge,
        _ => {
            let message = format!("unknown load option {load}");
            return Err(Failure::new(code::BAD_FEATURE, message));
        }
    })
}

/// Refuses a prefix under which there are keys; `quotes` stand round the command that removes them.
async fn must_be_empty(client: &Client, prefix: &[u8], quotes: &str) -> Result<(), Failure> {
    let request = pb::RangeRequest {
        key: prefix.to_vec().into(),
        range_end: prefix_end(prefix).into(),
        limit: 1,
        ..Default::default()
    };
    if client.range(request, None).await?.kvs.is_empty() {
        return Ok(());
    }
    let (quoted, plain) = (quote(prefix), String::from_utf8_lossy(prefix));
    let remove = format!("{quotes}etcdctl del --prefix {plain}{quotes}");
    let message = format!("prefix {quoted} has keys. Delete with {remove} first");
    Err(Failure::new(code::INVALID_INPUT, message))
}

/// The clients of a check, and the prefix it writes under, where nothing is yet.
async fn prepare(
    invocation: &mut Invocation,
    clients: usize,
    quotes: &str,
) -> Result<(Spec, Vec<Client>, Vec<u8>), Failure> {
    let (spec, _) = invocation.spec().await?;
    let mut connected = Vec::new();
    for _ in 0..clients {
        connected.push(spec.connect().await?);
    }
    let prefix = invocation.flags.bytes("prefix");
    must_be_empty(&connected[0], &prefix, quotes).await?;
    Ok((spec, connected, prefix))
}

/// Puts of random keys under a prefix.
struct Puts {
    prefix: Vec<u8>,
    key_bytes: usize,
    value: bytes::Bytes,
}

impl Puts {
    fn new(prefix: &[u8], key_bytes: usize, value_bytes: usize) -> Self {
        Self {
            prefix: prefix.to_vec(),
            key_bytes,
            value: vec![0; value_bytes].into(),
        }
    }

    fn next(&self) -> pb::PutRequest {
        pb::PutRequest {
            key: random_key(&self.prefix, self.key_bytes).into(),
            value: self.value.clone(),
            ..Default::default()
        }
    }
}

/// A key under the prefix: random digits in a field of zeros of this width.
fn random_key(prefix: &[u8], width: usize) -> Vec<u8> {
    let mut key = prefix.to_vec();
    let mut number = rand::rng().random_range(0..i64::MAX as u64) << 1;
    while number >= 0x80 {
        key.push(number as u8 | 0x80);
        number >>= 7;
    }
    key.push(number as u8);
    key.resize(prefix.len() + width, 0);
    key
}

/// A put that was made.
struct Put {
    took: Duration,
    error: Option<Error>,
}

/// Starts a task per client that makes the puts it is given.
fn writers(clients: &[Client]) -> (mpsc::Sender<pb::PutRequest>, mpsc::UnboundedReceiver<Put>) {
    let (requests, receiver) = mpsc::channel::<pb::PutRequest>(clients.len());
    let receiver = std::sync::Arc::new(tokio::sync::Mutex::new(receiver));
    let (results, made) = mpsc::unbounded_channel();
    for client in clients {
        let (client, receiver, results) = (client.clone(), receiver.clone(), results.clone());
        tokio::spawn(async move {
            loop {
                let next = receiver.lock().await.recv().await;
                let Some(request) = next else { return };
                let start = Instant::now();
                let error = client.put(request, None).await.err();
                if results
                    .send(Put {
                        took: start.elapsed(),
                        error,
                    })
                    .is_err()
                {
                    return;
                }
            }
        });
    }
    (requests, made)
}

/// What the puts came to.
#[derive(Default)]
struct Summary {
    took: Vec<Duration>,
    errors: std::collections::BTreeMap<String, usize>,
    total: Duration,
}

impl Summary {
    fn add(&mut self, put: Put) {
        match put.error {
            None => self.took.push(put.took),
            Some(error) => *self.errors.entry(error.to_string()).or_default() += 1,
        }
    }

    fn per_second(&self) -> f64 {
        self.took.len() as f64 / self.total.as_secs_f64().max(f64::EPSILON)
    }

    fn slowest_seconds(&self) -> f64 {
        self.took
            .iter()
            .max()
            .copied()
            .unwrap_or_default()
            .as_secs_f64()
    }

    fn deviation_seconds(&self) -> f64 {
        let count = self.took.len().max(1) as f64;
        let mean = self.took.iter().map(Duration::as_secs_f64).sum::<f64>() / count;
        let squares = self
            .took
            .iter()
            .map(|took| (took.as_secs_f64() - mean).powi(2));
        (squares.sum::<f64>() / count).sqrt()
    }

    /// Prints the errors; whether there are any.
    fn report_errors(&self) -> Result<bool, Failure> {
        if self.errors.is_empty() {
            return Ok(false);
        }
        say("FAIL: too many errors")?;
        for (error, count) in &self.errors {
            say(format_args!("FAIL: ERROR({error}) -> {count}"))?;
        }
        Ok(true)
    }
}

/// Deletes what was written; returns the revision of that.
async fn delete_all(client: &Client, prefix: &[u8]) -> Result<i64, Error> {
    let request = pb::DeleteRangeRequest {
        key: prefix.to_vec().into(),
        range_end: prefix_end(prefix).into(),
        prev_kv: false,
    };
    let deadline = Some(tokio::time::Instant::now() + CLEAN_UP_TIMEOUT);
    Ok(client
        .delete_range(request, deadline)
        .await?
        .header
        .unwrap_or_default()
        .revision)
}

/// Compacts and defragments, as far as asked to.
async fn tidy(
    invocation: &Invocation,
    client: &Client,
    revision: Option<i64>,
) -> Result<(), Failure> {
    let deadline = || Some(tokio::time::Instant::now() + CLEAN_UP_TIMEOUT);
    if let Some(revision) = revision.filter(|_| invocation.flags.bool("auto-compact")) {
        say(format_args!("Compacting with revision {revision}"))?;
        let request = pb::CompactionRequest {
            revision,
            physical: true,
        };
        client.compact(request, deadline()).await?;
        say(format_args!("Compacted with revision {revision}"))?;
    }
    if invocation.flags.bool("auto-defrag") {
        for endpoint in client.endpoints() {
            let quoted = quote(endpoint.as_bytes());
            say(format_args!("Defragmenting {quoted}"))?;
            let one = client.at(endpoint)?;
            one.defragment(pb::DefragmentRequest {}, deadline()).await?;
            say(format_args!("Defragmented {quoted}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_what_succeeded() {
        let mut summary = Summary {
            total: Duration::from_secs(2),
            ..Default::default()
        };
        for milliseconds in [100, 300] {
            summary.add(Put {
                took: Duration::from_millis(milliseconds),
                error: None,
            });
        }
        summary.add(Put {
            took: Duration::from_secs(9),
            error: Some(Error::DeadlineExceeded),
        });
        assert_eq!(summary.per_second(), 1.0);
        assert_eq!(summary.slowest_seconds(), 0.3);
        assert!((summary.deviation_seconds() - 0.1).abs() < 1e-9);
        assert_eq!(summary.errors["context deadline exceeded"], 1);
    }

    #[test]
    fn keys_have_the_prefix_and_the_width() {
        let key = random_key(b"p/", 256);
        assert!(key.starts_with(b"p/") && key.len() == 258);
        assert_ne!(key, random_key(b"p/", 256));
    }
}
