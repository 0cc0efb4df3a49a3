//! Workloads: closed loops of clients, each with one request in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Subcommand;
use etcd::pb::etcdserverpb as pb;
use hdrhistogram::Histogram;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::request_op::Request as Op;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use crate::Shape;
use crate::report::Figures;

/// Latencies up to a minute, three digits.
const LATENCY_MICROSECONDS_MAX: u64 = 60_000_000;
/// Larger than any answer of a workload.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// Keys put by one transaction while filling.
const FILL_BATCH: usize = 100;

/// What clients do.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum Workload {
    /// Put random keys of a key space.
    Put {
        /// Distinct keys.
        #[arg(long, default_value_t = 100_000)]
        keys: u64,
        /// Value bytes.
        #[arg(long, default_value_t = 256)]
        value_size: usize,
    },
    /// Put every key of a key space once, in transactions; not timed by duration.
    Fill {
        /// Keys.
        #[arg(long, default_value_t = 100_000)]
        keys: u64,
        /// Value bytes.
        #[arg(long, default_value_t = 256)]
        value_size: usize,
        /// Puts in one transaction.
        #[arg(long, default_value_t = FILL_BATCH)]
        batch: usize,
    },
    /// Read one random key at a time.
    Get {
        /// Distinct keys.
        #[arg(long, default_value_t = 100_000)]
        keys: u64,
        /// Do not ask for the latest state.
        #[arg(long)]
        serializable: bool,
    },
    /// Read from the first key on.
    Range {
        /// Keys at most; 0 for all.
        #[arg(long, default_value_t = 1000)]
        limit: i64,
        /// End at this key of the key space instead of its end; 0 for the end.
        #[arg(long, default_value_t = 0)]
        until: u64,
        /// Only count.
        #[arg(long)]
        count_only: bool,
    },
    /// Half puts, half ranges over all keys with a limit, in transactions.
    TxnMixed {
        /// Distinct keys.
        #[arg(long, default_value_t = 100_000)]
        keys: u64,
        /// Limit of the ranges.
        #[arg(long, default_value_t = 10)]
        limit: i64,
        /// Value bytes.
        #[arg(long, default_value_t = 256)]
        value_size: usize,
    },
    /// Keep leases alive, a new stream each time.
    LeaseKeepAlive,
    /// One key, many watchers; the figures are events received.
    Watch {
        /// Watchers.
        #[arg(long, default_value_t = 1000)]
        watchers: usize,
        /// Streams they are spread over.
        #[arg(long, default_value_t = 50)]
        streams: usize,
        /// Puts a second to the watched key.
        #[arg(long, default_value_t = 100)]
        puts_per_second: u64,
    },
}

/// The key with this number in the key space.
pub(crate) fn key(number: u64) -> Bytes {
    Bytes::from(format!("bench/{number:016}"))
}

/// The first key after the key space.
fn end_of_keys() -> Bytes {
    Bytes::from_static(b"bench0")
}

/// Counters of a run, shared by its clients.
struct Meter {
    measuring: AtomicBool,
    stop: AtomicBool,
    done: AtomicU64,
}

/// A small generator: which key is next need not be unpredictable, only cheap.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }
}

/// Runs a workload to its end.
pub(crate) async fn run(endpoint: &str, shape: &Shape, workload: &Workload) -> Result<Figures> {
    let channels = connect(endpoint, shape.connections).await?;
    match workload {
        Workload::Fill {
            keys,
            value_size,
            batch,
        } => fill(&channels, shape.clients, *keys, *value_size, *batch).await,
        Workload::Watch {
            watchers,
            streams,
            puts_per_second,
        } => watch(&channels, shape, *watchers, *streams, *puts_per_second).await,
        _ => closed_loop(&channels, shape, workload).await,
    }
}

/// Opens this many connections.
pub(crate) async fn connect(endpoint: &str, count: usize) -> Result<Vec<Channel>> {
    ensure!(count > 0, "at least one connection");
    let mut channels = Vec::with_capacity(count);
    for _ in 0..count {
        let endpoint = Endpoint::from_shared(format!("http://{endpoint}"))?;
        channels.push(
            endpoint
                .tcp_nodelay(true)
                .connect()
                .await
                .context("connect")?,
        );
    }
    Ok(channels)
}

async fn closed_loop(channels: &[Channel], shape: &Shape, workload: &Workload) -> Result<Figures> {
    let meter = Arc::new(Meter {
        measuring: AtomicBool::new(false),
        stop: AtomicBool::new(false),
        done: AtomicU64::new(0),
    });
    let mut clients = JoinSet::new();
    for client in 0..shape.clients {
        let channel = channels[client % channels.len()].clone();
        let (workload, meter) = (workload.clone(), meter.clone());
        clients.spawn(async move { client_loop(channel, client as u64, &workload, &meter).await });
    }
    tokio::time::sleep(shape.warm_up()).await;
    meter.measuring.store(true, Ordering::Release);
    let began = Instant::now();
    tokio::time::sleep(shape.duration()).await;
    meter.stop.store(true, Ordering::Release);
    let took = began.elapsed();
    let done = meter.done.load(Ordering::Acquire);
    let mut latencies = histogram()?;
    while let Some(client) = clients.join_next().await {
        latencies.add(client??)?;
    }
    Ok(Figures::new(done, took, &latencies))
}

/// An empty histogram of microseconds.
pub(crate) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LATENCY_MICROSECONDS_MAX, 3)?)
}

async fn client_loop(
    channel: Channel,
    seed: u64,
    workload: &Workload,
    meter: &Meter,
) -> Result<Histogram<u64>> {
    let mut latencies = histogram()?;
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut caller = Caller::new(channel, workload).await?;
    while !meter.stop.load(Ordering::Acquire) {
        let began = Instant::now();
        caller.call(workload, &mut random).await?;
        if meter.measuring.load(Ordering::Acquire) && !meter.stop.load(Ordering::Acquire) {
            meter.done.fetch_add(1, Ordering::Relaxed);
            latencies.saturating_record(began.elapsed().as_micros() as u64);
        }
    }
    Ok(latencies)
}

/// One client.
struct Caller {
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
    lease_id: i64,
    value: Bytes,
}

impl Caller {
    async fn new(channel: Channel, workload: &Workload) -> Result<Self> {
        let value_size = match workload {
            Workload::Put { value_size, .. } | Workload::TxnMixed { value_size, .. } => *value_size,
            _ => 0,
        };
        let mut lease = LeaseClient::new(channel.clone());
        let lease_id = match workload {
            Workload::LeaseKeepAlive => {
                lease
                    .lease_grant(pb::LeaseGrantRequest { ttl: 600, id: 0 })
                    .await?
                    .into_inner()
                    .id
            }
            _ => 0,
        };
        let kv = KvClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self {
            kv,
            lease,
            lease_id,
            value: Bytes::from(vec![b'v'; value_size]),
        })
    }

    async fn call(&mut self, workload: &Workload, random: &mut Random) -> Result<()> {
        match workload {
            Workload::Put { keys, .. } => {
                let request = self.put(key(random.below(*keys)));
                self.kv.put(request).await?;
            }
            Workload::Get { keys, serializable } => {
                let request = pb::RangeRequest {
                    key: key(random.below(*keys)),
                    serializable: *serializable,
                    ..Default::default()
                };
                self.kv.range(request).await?;
            }
            Workload::Range {
                limit,
                until,
                count_only,
            } => {
                let request = pb::RangeRequest {
                    key: key(0),
                    range_end: if *until == 0 {
                        end_of_keys()
                    } else {
                        key(*until)
                    },
                    limit: *limit,
                    count_only: *count_only,
                    ..Default::default()
                };
                self.kv.range(request).await?;
            }
            Workload::TxnMixed { keys, limit, .. } => {
                let op = match random.below(2) {
                    0 => Op::RequestPut(self.put(key(random.below(*keys)))),
                    _ => Op::RequestRange(pb::RangeRequest {
                        key: key(0),
                        range_end: end_of_keys(),
                        limit: *limit,
                        ..Default::default()
                    }),
                };
                let success = vec![pb::RequestOp { request: Some(op) }];
                self.kv
                    .txn(pb::TxnRequest {
                        success,
                        ..Default::default()
                    })
                    .await?;
            }
            Workload::LeaseKeepAlive => {
                let request = pb::LeaseKeepAliveRequest { id: self.lease_id };
                let stream = tokio_stream::once(request);
                let mut replies = self.lease.lease_keep_alive(stream).await?.into_inner();
                let reply = replies
                    .message()
                    .await?
                    .context("keep-alive stream ended")?;
                ensure!(reply.ttl > 0, "lease {} is gone", self.lease_id);
            }
            Workload::Fill { .. } | Workload::Watch { .. } => unreachable!("not a closed loop"),
        }
        Ok(())
    }

    fn put(&self, key: Bytes) -> pb::PutRequest {
        pb::PutRequest {
            key,
            value: self.value.clone(),
            ..Default::default()
        }
    }
}

async fn fill(
    channels: &[Channel],
    clients: usize,
    keys: u64,
    value_size: usize,
    batch: usize,
) -> Result<Figures> {
    let next = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let mut kv = KvClient::new(channels[client % channels.len()].clone());
        let next = next.clone();
        let value = Bytes::from(vec![b'v'; value_size]);
        tasks.spawn(async move {
            let mut latencies = histogram()?;
            loop {
                let first = next.fetch_add(batch as u64, Ordering::Relaxed);
                if first >= keys {
                    return Ok::<_, anyhow::Error>(latencies);
                }
                let success = (first..keys.min(first + batch as u64))
                    .map(|number| {
                        let put = pb::PutRequest {
                            key: key(number),
                            value: value.clone(),
                            ..Default::default()
                        };
                        pb::RequestOp {
                            request: Some(Op::RequestPut(put)),
                        }
                    })
                    .collect();
                let sent = Instant::now();
                kv.txn(pb::TxnRequest {
                    success,
                    ..Default::default()
                })
                .await?;
                latencies.saturating_record(sent.elapsed().as_micros() as u64);
            }
        });
    }
    let mut latencies = histogram()?;
    while let Some(task) = tasks.join_next().await {
        latencies.add(task??)?;
    }
    Ok(Figures::new(keys, began.elapsed(), &latencies))
}

async fn watch(
    channels: &[Channel],
    shape: &Shape,
    watchers: usize,
    streams: usize,
    puts_per_second: u64,
) -> Result<Figures> {
    let meter = Arc::new(Meter {
        measuring: AtomicBool::new(false),
        stop: AtomicBool::new(false),
        done: AtomicU64::new(0),
    });
    let mut tasks = JoinSet::new();
    for stream in 0..streams {
        let count = watchers / streams + usize::from(stream < watchers % streams);
        let client = WatchClient::new(channels[stream % channels.len()].clone());
        tasks.spawn(watch_stream(client, count, meter.clone()));
    }
    let mut kv = KvClient::new(channels[0].clone());
    let pause = Duration::from_secs_f64(1.0 / puts_per_second.max(1) as f64);
    let mut timer = tokio::time::interval(pause);
    let began = Instant::now();
    let (mut measured_from, warm_up) = (None, shape.warm_up());
    let mut latencies = histogram()?;
    while began.elapsed() < warm_up + shape.duration() {
        timer.tick().await;
        if measured_from.is_none() && began.elapsed() >= warm_up {
            measured_from = Some(Instant::now());
            meter.measuring.store(true, Ordering::Release);
        }
        let sent = Instant::now();
        let put = pb::PutRequest {
            key: key(0),
            value: Bytes::from_static(b"event"),
            ..Default::default()
        };
        kv.put(put).await?;
        latencies.saturating_record(sent.elapsed().as_micros() as u64);
    }
    meter.stop.store(true, Ordering::Release);
    let took = measured_from.map_or(shape.duration(), |from| from.elapsed());
    let done = meter.done.load(Ordering::Acquire);
    tasks.abort_all();
    Ok(Figures::new(done, took, &latencies))
}

async fn watch_stream(
    mut client: WatchClient<Channel>,
    watchers: usize,
    meter: Arc<Meter>,
) -> Result<()> {
    let (sender, requests) = tokio::sync::mpsc::channel(64);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    tokio::spawn(async move {
        for _ in 0..watchers {
            let create = pb::WatchCreateRequest {
                key: key(0),
                ..Default::default()
            };
            let request_union = Some(RequestUnion::CreateRequest(create));
            let _ = sender.send(pb::WatchRequest { request_union }).await;
        }
        // Held open until the task is dropped with its stream.
        std::future::pending::<()>().await;
    });
    let mut replies = client.watch(requests).await?.into_inner();
    while let Some(reply) = replies.message().await? {
        if meter.measuring.load(Ordering::Acquire) && !meter.stop.load(Ordering::Acquire) {
            meter
                .done
                .fetch_add(reply.events.len() as u64, Ordering::Relaxed);
        }
    }
    Ok(())
}
