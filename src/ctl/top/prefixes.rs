//! The prefixes keys have, and how long it takes to count what is under them.
//!
//! Servers do not tell latencies by prefix. Counting the keys of a prefix goes through the same index a read of
//! them does, so its time tells which prefixes are expensive, at the cost of one small request each.

use crate::client::{ALL_KEYS, Client, prefix_end};
use crate::pb::etcdserverpb::{RangeRequest, RangeResponse};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Prefixes that are looked at, and shown.
const PREFIXES_MAX: usize = 100;
const SHOWN_MAX: usize = 10;

/// Parts of a key, between slashes, that make its prefix.
const DEPTH: usize = 2;

const TIMEOUT: Duration = Duration::from_secs(2);

/// A prefix and what counting it gave.
struct Counted {
    prefix: Vec<u8>,
    keys: i64,
    took: Duration,
}

/// Counts the keys of each prefix and draws the slowest.
pub(super) async fn draw(client: &Client) -> String {
    let mut counted = Vec::new();
    let mut next = b"\0".to_vec();
    while counted.len() < PREFIXES_MAX {
        let request = RangeRequest {
            limit: 1,
            keys_only: true,
            ..from(&next, ALL_KEYS)
        };
        let Some(answer) = ask(client, request).await else {
            break;
        };
        let Some(first) = answer.kvs.into_iter().next() else {
            break;
        };
        let prefix = prefix_of(&first.into_fields().key);
        let end = prefix_end(&prefix);
        let start = Instant::now();
        let request = RangeRequest {
            count_only: true,
            ..from(&prefix, &end)
        };
        let Some(answer) = ask(client, request).await else {
            break;
        };
        counted.push(Counted {
            prefix,
            keys: answer.count,
            took: start.elapsed(),
        });
        if end == ALL_KEYS {
            break;
        }
        next = end;
    }
    counted.sort_by_key(|counted| std::cmp::Reverse(counted.took));
    let mut out =
        "\nSLOWEST PREFIXES                                        KEYS      TIME\n".to_owned();
    for Counted { prefix, keys, took } in counted.iter().take(SHOWN_MAX) {
        let milliseconds = took.as_secs_f64() * 1000.0;
        let prefix = prefix.escape_ascii().to_string();
        let _ = writeln!(out, "{prefix:<50} {keys:>9}  {milliseconds:>5.1} ms");
    }
    out
}

/// A serializable read: this looks at the members' load, and is not to add to the leader's.
fn from(key: &[u8], range_end: &[u8]) -> RangeRequest {
    RangeRequest {
        key: key.to_vec().into(),
        range_end: range_end.to_vec().into(),
        serializable: true,
        ..Default::default()
    }
}

async fn ask(client: &Client, request: RangeRequest) -> Option<RangeResponse> {
    client
        .range(request, Some(tokio::time::Instant::now() + TIMEOUT))
        .await
        .ok()
}

/// The key up to its second slash that is not its first byte; a key with fewer is its own prefix.
fn prefix_of(key: &[u8]) -> Vec<u8> {
    let slashes = key
        .iter()
        .enumerate()
        .filter(|(at, byte)| *at > 0 && **byte == b'/');
    match slashes.map(|(at, _)| at).take(DEPTH).last() {
        Some(at) => key[..=at].to_vec(),
        None => key.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_the_first_parts_of_keys() {
        assert_eq!(prefix_of(b"/registry/pods/default/a"), b"/registry/pods/");
        assert_eq!(prefix_of(b"app/x"), b"app/");
        assert_eq!(prefix_of(b"plain"), b"plain");
    }
}
