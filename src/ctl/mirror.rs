//! `make-mirror`: copies a prefix to another cluster, then every change of it, until a signal comes.

use super::cli::{Command, Flag, Invocation, Kind};
use super::exit::Failure;
use super::global::{self, Spec};
use super::{print, progress};
use crate::client::{ALL_KEYS, Client, Error, TlsOptions, prefix_end, text};
use crate::pb::etcdserverpb as pb;
use crate::pb::{EventFields, EventType, KeyValue, KeyValueFields};
use pb::request_op::Request;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tonic::Code;

/// Keys copied per read.
const BATCH_KEYS: i64 = 1000;

/// The number of copied keys is printed so often.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "make-mirror",
    usage: "[options] <destination>",
    group: super::commands::UTILITY,
    short: "Mirrors keys to another cluster",
    flags: &[
        Flag::text("prefix", "mirror only keys with this prefix"),
        Flag::int("rev", "mirror only changes from this revision on"),
        Flag {
            name: "max-txn-ops",
            kind: Kind::Uint,
            default: "128",
            help: "most changes to write in one transaction",
            ..Flag::NEW
        },
        Flag::text("dest-prefix", "prefix of the keys in the destination"),
        Flag::bool("no-dest-prefix", "leave the prefix out in the destination"),
        Flag::text("dest-cert", "client certificate file for the destination"),
        Flag::text("dest-key", "its key file"),
        Flag::text(
            "dest-cacert",
            "CA bundle to check the destination's certificate with",
        ),
        Flag::bool("dest-insecure-transport", "no TLS to the destination").or("true"),
        Flag::text(
            "dest-user",
            "user[:password] for the destination; asks for a missing password",
        ),
        Flag::text("dest-password", "password of --dest-user"),
    ],
    run: Some(|invocation| Box::pin(run(invocation))),
    ..Command::NEW
};

async fn run(mut invocation: Invocation) -> Result<(), Failure> {
    if invocation.args.len() != 1 {
        return Err(Failure::args("make-mirror takes one destination argument"));
    }
    let destination = destination(&invocation)?.connect().await?;
    let (source, _) = invocation.connect().await?;
    let flags = &invocation.flags;
    let (prefix, given) = (flags.bytes("prefix"), flags.bytes("dest-prefix"));
    let bare = flags.bool("no-dest-prefix");
    if bare && !given.is_empty() {
        return Err(Failure::args(
            "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one",
        ));
    }
    let first_revision = flags.int("rev");
    // Without a copy of what is there, the prefix is not kept: etcd's choice.
    let copies = first_revision < 2;
    let destination_prefix = if given.is_empty() && !bare && copies {
        prefix.clone()
    } else {
        given
    };
    let mirror = Mirror {
        source,
        destination,
        prefix,
        destination_prefix,
        operations_max: usize::try_from(flags.uint("max-txn-ops")).unwrap_or(usize::MAX),
        total: Arc::default(),
    };
    let total = Arc::clone(&mirror.total);
    let report = async {
        loop {
            tokio::time::sleep(REPORT_INTERVAL).await;
            print::say(total.load(Ordering::Relaxed))?;
        }
    };
    let shown = async {
        let spinner = progress::spinner("");
        loop {
            spinner.say(|| format!("{} keys mirrored", total.load(Ordering::Relaxed)));
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let work = async {
        let revision = match copies {
            true => mirror.copy().await?,
            false => first_revision - 1,
        };
        mirror.follow(revision + 1).await.map_err(Failure::from)
    };
    tokio::select! {
        ended = report => ended,
        ended = shown => ended,
        ended = work => ended,
    }
}

fn destination(invocation: &Invocation) -> Result<Spec, Failure> {
    let flags = &invocation.flags;
    let (user, password) = (flags.text("dest-user"), flags.text("dest-password"));
    Ok(Spec {
        endpoints: vec![invocation.text(0).into_owned()],
        dial_timeout: invocation.duration("dial-timeout"),
        keepalive_time: invocation.duration("keepalive-time"),
        keepalive_timeout: invocation.duration("keepalive-timeout"),
        request_bytes_max: flags.int("max-request-bytes"),
        response_bytes_max: flags.int("max-recv-bytes"),
        tls: TlsOptions {
            cert: flags.text("dest-cert"),
            key: flags.text("dest-key"),
            cacert: flags.text("dest-cacert"),
            server_name: String::new(),
            insecure_transport: flags.bool("dest-insecure-transport"),
            insecure_skip_verify: false,
        },
        credentials: global::user_and_password(user, password, "Destination Password: ")?,
        log_name: "etcd-client",
    })
}

struct Mirror {
    source: Client,
    destination: Client,
    prefix: Vec<u8>,
    destination_prefix: Vec<u8>,
    operations_max: usize,
    total: Arc<AtomicU64>,
}

impl Mirror {
    /// The keys to mirror: start and end.
    fn range(&self) -> (Vec<u8>, Vec<u8>) {
        match self.prefix.as_slice() {
            b"" => (b"\0".to_vec(), ALL_KEYS.to_vec()),
            prefix => (prefix.to_vec(), prefix_end(prefix)),
        }
    }

    /// Copies what is there now; returns the revision it copied.
    async fn copy(&self) -> Result<i64, Error> {
        // Any read that is permitted tells the revision.
        let probe = if self.prefix.is_empty() {
            b"foo".to_vec()
        } else {
            self.prefix.clone()
        };
        let probe = pb::RangeRequest {
            key: probe.into(),
            ..Default::default()
        };
        let now = self
            .source
            .range(probe, None)
            .await?
            .header
            .unwrap_or_default()
            .revision;
        let (mut key, range_end) = self.range();
        loop {
            let request = pb::RangeRequest {
                key: key.into(),
                range_end: range_end.clone().into(),
                limit: BATCH_KEYS,
                revision: now,
                ..Default::default()
            };
            let batch = self.source.range(request, None).await?;
            let mut last = Vec::new();
            for pair in batch.kvs {
                let KeyValueFields { key, value, .. } = pair.into_fields();
                let put = pb::PutRequest {
                    key: self.rename(&key).into(),
                    value,
                    ..Default::default()
                };
                self.destination.put(put, None).await?;
                self.total.fetch_add(1, Ordering::Relaxed);
                last = key.to_vec();
            }
            if !batch.more {
                return Ok(now);
            }
            last.push(0);
            key = last;
        }
    }

    /// Repeats every change from this revision on; returns only with an error.
    async fn follow(&self, from: i64) -> Result<(), Error> {
        let (key, range_end) = self.range();
        let request = pb::WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            start_revision: from,
            fragment: true,
            ..Default::default()
        };
        let mut watcher = self.source.watch(request).await;
        while let Some(response) = watcher.next().await {
            if response.compact_revision != 0 {
                let text = text::COMPACTED.to_owned();
                return Err(Error::Etcd {
                    code: Code::OutOfRange,
                    text,
                });
            }
            if let Some(error) = response.error() {
                return Err(error);
            }
            self.repeat(response.events).await?;
        }
        Err(Error::Local("the watch of the source ended".to_owned()))
    }

    /// Writes changes, those of one revision in one transaction as far as they fit.
    async fn repeat(&self, events: Vec<crate::pb::Event>) -> Result<(), Error> {
        let mut operations: Vec<pb::RequestOp> = Vec::new();
        let mut revision = 0;
        for event in events {
            let EventFields { r#type, kv, .. } = event.into_fields();
            let pair = kv.map(KeyValue::into_fields).unwrap_or_default();
            let full = operations.len() == self.operations_max;
            if !operations.is_empty() && (pair.mod_revision > revision || full) {
                self.commit(std::mem::take(&mut operations)).await?;
            }
            revision = pair.mod_revision;
            let key = self.rename(&pair.key).into();
            let request = match EventType::try_from(r#type) {
                Ok(EventType::Delete) => Request::RequestDeleteRange(pb::DeleteRangeRequest {
                    key,
                    ..Default::default()
                }),
                _ => {
                    let value = pair.value;
                    Request::RequestPut(pb::PutRequest {
                        key,
                        value,
                        ..Default::default()
                    })
                }
            };
            operations.push(pb::RequestOp {
                request: Some(request),
            });
            self.total.fetch_add(1, Ordering::Relaxed);
        }
        match operations.is_empty() {
            true => Ok(()),
            false => self.commit(operations).await,
        }
    }

    async fn commit(&self, success: Vec<pb::RequestOp>) -> Result<(), Error> {
        let request = pb::TxnRequest {
            success,
            ..Default::default()
        };
        self.destination.txn(request, None).await.map(drop)
    }

    /// The key with its first occurrence of the prefix replaced.
    fn rename(&self, key: &[u8]) -> Vec<u8> {
        let width = self.prefix.len();
        let at = match width {
            0 => Some(0),
            _ => key.windows(width).position(|window| window == self.prefix),
        };
        match at {
            Some(at) => [
                &key[..at],
                self.destination_prefix.as_slice(),
                &key[at + width..],
            ]
            .concat(),
            None => key.to_vec(),
        }
    }
}
