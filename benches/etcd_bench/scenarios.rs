//! What a closed loop of clients does not show: mass expiry, memory per watcher, a large store's cost, its restart,
//! and stalls while it is maintained.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd::pb::etcdserverpb as pb;
use hdrhistogram::Histogram;
use nix::sys::signal::Signal;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::Shape;
use crate::load::{self, MESSAGE_BYTES_MAX, Workload, histogram, key};
use crate::server::Server;

/// Leases that run out together, each with a key.
const LEASES: u64 = 50_000;
/// Long enough to grant them all before the first runs out.
const LEASE_TTL_SECONDS: i64 = 60;
/// Watchers on a key of their own each, and the connections they share.
const WATCHERS: u64 = 100_000;
const WATCH_CONNECTIONS: usize = 16;
/// The large store: keys, bytes of each value, puts in a transaction, times everything is written.
const LARGE_KEYS: u64 = 500_000;
const LARGE_VALUE_BYTES: usize = 1024;
const LARGE_BATCH: usize = 50;
const LARGE_PASSES: usize = 2;
/// Clients that fill it.
const LARGE_CLIENTS: usize = 20;

/// One measured quantity; less is better.
pub(crate) struct Figure {
    /// What it is, with its unit.
    pub(crate) name: &'static str,
    pub(crate) value: f64,
}

/// A named measurement that starts its own servers.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Site<'_>) -> Result<Vec<Figure>>,
}

/// Every scenario.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "lease expiry",
        run: lease_expiry,
    },
    Scenario {
        name: "watchers",
        run: watchers,
    },
    Scenario {
        name: "large",
        run: large,
    },
];

/// Where and how a scenario starts its server.
pub(crate) struct Site<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) parent: &'a Path,
    pub(crate) name: &'a str,
    pub(crate) core: Option<usize>,
}

impl Site<'_> {
    fn start(&self) -> Result<Server> {
        Server::start(self.binary, self.parent, self.name, self.core)
    }
}

fn figure(name: &'static str, value: f64) -> Figure {
    Figure { name, value }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    // Two threads although there is one core: a long stream must not hold up a probe.
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(2).enable_all().build()?)
}

fn lease_expiry(site: &Site<'_>) -> Result<Vec<Figure>> {
    let server = site.start()?;
    let figures = runtime()?.block_on(async {
        let channels = load::connect(&server.endpoint, 10).await?;
        let next = Arc::new(AtomicU64::new(0));
        let mut clients = JoinSet::new();
        let began = Instant::now();
        for client in 0..100 {
            let channel = channels[client % channels.len()].clone();
            clients.spawn(grant_and_attach(channel, next.clone()));
        }
        while let Some(client) = clients.join_next().await {
            client??;
        }
        let last_deadline = Instant::now() + Duration::from_secs(LEASE_TTL_SECONDS as u64);
        ensure!(
            began.elapsed() < Duration::from_secs(LEASE_TTL_SECONDS as u64),
            "granting took longer than a lease lasts"
        );
        let first_deadline = began + Duration::from_secs(LEASE_TTL_SECONDS as u64);
        tokio::time::sleep_until(first_deadline.into()).await;
        let probe = Probe::start(&channels[0]);
        let mut kv = KvClient::new(channels[1].clone());
        loop {
            let count = pb::RangeRequest {
                key: b"leased/".as_slice().into(),
                range_end: b"leased0".as_slice().into(),
                count_only: true,
                ..Default::default()
            };
            if kv.range(count).await?.into_inner().count == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let outlived = Instant::now().saturating_duration_since(last_deadline);
        let probed = probe.stop().await?;
        Ok::<_, anyhow::Error>(vec![
            figure("last key outlives its TTL, s", outlived.as_secs_f64()),
            figure(
                "put p99 meanwhile, ms",
                milliseconds(probed.puts.value_at_quantile(0.99)),
            ),
        ])
    })?;
    server.stop(Signal::SIGTERM)?;
    Ok(figures)
}

async fn grant_and_attach(channel: Channel, next: Arc<AtomicU64>) -> Result<()> {
    let (mut lease, mut kv) = (LeaseClient::new(channel.clone()), KvClient::new(channel));
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= LEASES {
            return Ok(());
        }
        let grant = pb::LeaseGrantRequest {
            ttl: LEASE_TTL_SECONDS,
            id: 0,
        };
        let id = lease.lease_grant(grant).await?.into_inner().id;
        let put = pb::PutRequest {
            key: format!("leased/{number}").into(),
            value: b"v".as_slice().into(),
            lease: id,
            ..Default::default()
        };
        kv.put(put).await?;
    }
}

fn watchers(site: &Site<'_>) -> Result<Vec<Figure>> {
    let server = site.start()?;
    let used = runtime()?.block_on(async {
        let channels = load::connect(&server.endpoint, WATCH_CONNECTIONS).await?;
        let before = server.usage()?.rss_bytes;
        let mut streams = JoinSet::new();
        for (at, channel) in channels.iter().enumerate() {
            let numbers = (at as u64..WATCHERS).step_by(WATCH_CONNECTIONS);
            streams.spawn(open_watchers(WatchClient::new(channel.clone()), numbers));
        }
        // Kept open until memory is read.
        let mut open = Vec::new();
        while let Some(stream) = streams.join_next().await {
            open.push(stream??);
        }
        let after = server.usage()?.rss_bytes;
        drop(open);
        Ok::<_, anyhow::Error>(after.saturating_sub(before))
    })?;
    server.stop(Signal::SIGKILL)?;
    Ok(vec![figure(
        "bytes per watcher",
        used as f64 / WATCHERS as f64,
    )])
}

type OpenWatch = (
    tokio::sync::mpsc::Sender<pb::WatchRequest>,
    tonic::Streaming<pb::WatchResponse>,
);

async fn open_watchers(
    mut client: WatchClient<Channel>,
    mut numbers: impl Iterator<Item = u64>,
) -> Result<OpenWatch> {
    let (sender, requests) = tokio::sync::mpsc::channel(1);
    let create = |number| {
        let create = pb::WatchCreateRequest {
            key: key(number),
            ..Default::default()
        };
        let request_union = Some(RequestUnion::CreateRequest(create));
        pb::WatchRequest { request_union }
    };
    // etcd says nothing, not even that the stream is open, before it has something to say.
    let first = numbers.next().context("no watcher for this stream")?;
    sender.send(create(first)).await?;
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut replies = client.watch(requests).await?.into_inner();
    loop {
        let reply = replies.message().await?.context("watch stream ended")?;
        ensure!(reply.created, "watch was not created");
        let Some(number) = numbers.next() else {
            break;
        };
        sender.send(create(number)).await?;
    }
    Ok((sender, replies))
}

fn large(site: &Site<'_>) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let server = site.start()?;
    let before = server.usage()?;
    let runtime = runtime()?;
    for _ in 0..LARGE_PASSES {
        let shape = Shape {
            connections: 10,
            clients: LARGE_CLIENTS,
            warm_up: 0.0,
            duration: 0.0,
            json: false,
        };
        let fill = Workload::Fill {
            keys: LARGE_KEYS,
            value_size: LARGE_VALUE_BYTES,
            batch: LARGE_BATCH,
        };
        runtime.block_on(load::run(&server.endpoint, &shape, &fill))?;
    }
    let used = server.usage()?;
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    figures.push(figure(
        "write: CPU s",
        used.cpu_seconds - before.cpu_seconds,
    ));
    figures.push(figure(
        "write: peak RSS MiB",
        mebibytes(used.peak_rss_bytes),
    ));
    figures.push(figure("write: written MiB", mebibytes(used.written_bytes)));

    let server = restart(site, server, Signal::SIGTERM, &runtime, &mut figures)?;
    let server = restart(site, server, Signal::SIGKILL, &runtime, &mut figures)?;

    runtime.block_on(async {
        let channels = load::connect(&server.endpoint, 2).await?;
        let mut maintenance = MaintenanceClient::new(channels[1].clone());
        let probe = Probe::start(&channels[0]);
        let mut snapshot = maintenance
            .snapshot(pb::SnapshotRequest {})
            .await?
            .into_inner();
        while snapshot.message().await?.is_some() {}
        let probed = probe.stop().await?;
        figures.push(figure(
            "snapshot: longest stall ms",
            probed.longest_milliseconds(),
        ));

        let probe = Probe::start(&channels[0]);
        let mut kv = KvClient::new(channels[1].clone());
        let status = maintenance.status(pb::StatusRequest {}).await?.into_inner();
        let revision = status.header.map_or(0, |header| header.revision);
        let compact = pb::CompactionRequest {
            revision,
            physical: true,
        };
        kv.compact(compact).await?;
        maintenance.defragment(pb::DefragmentRequest {}).await?;
        let probed = probe.stop().await?;
        figures.push(figure(
            "compact, defrag: longest stall ms",
            probed.longest_milliseconds(),
        ));
        Ok::<_, anyhow::Error>(())
    })?;
    server.stop(Signal::SIGTERM)?;
    Ok(figures)
}

/// Ends the server and starts it again on its data; time until it answers a linearizable read.
fn restart(
    site: &Site<'_>,
    server: Server,
    signal: Signal,
    runtime: &tokio::runtime::Runtime,
    figures: &mut Vec<Figure>,
) -> Result<Server> {
    server.stop(signal)?;
    let began = Instant::now();
    let server = site.start()?;
    runtime.block_on(async {
        let channels = load::connect(&server.endpoint, 1).await?;
        let mut kv = KvClient::new(channels[0].clone());
        let read = pb::RangeRequest {
            key: key(LARGE_KEYS / 2),
            ..Default::default()
        };
        let answer = kv.range(read).await?.into_inner();
        ensure!(answer.count == 1, "a key is missing after the restart");
        Ok::<_, anyhow::Error>(())
    })?;
    let took = began.elapsed().as_secs_f64();
    let rss = server.usage()?.peak_rss_bytes as f64 / f64::from(1 << 20);
    let (time, memory) = match signal {
        Signal::SIGKILL => ("restart after SIGKILL: s", "restart after SIGKILL: RSS MiB"),
        _ => ("restart after SIGTERM: s", "restart after SIGTERM: RSS MiB"),
    };
    figures.push(figure(time, took));
    figures.push(figure(memory, rss));
    Ok(server)
}

/// A writer and a reader, each with one small request in flight.
struct Probe {
    stop: Arc<AtomicBool>,
    puts: tokio::task::JoinHandle<Result<Histogram<u64>>>,
    reads: tokio::task::JoinHandle<Result<Histogram<u64>>>,
}

/// Latencies in microseconds.
struct Probed {
    puts: Histogram<u64>,
    reads: Histogram<u64>,
}

impl Probed {
    fn longest_milliseconds(&self) -> f64 {
        milliseconds(self.puts.max().max(self.reads.max()))
    }
}

fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1000.0
}

impl Probe {
    fn start(channel: &Channel) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        Self {
            puts: tokio::spawn(probe(channel.clone(), stop.clone(), true)),
            reads: tokio::spawn(probe(channel.clone(), stop.clone(), false)),
            stop,
        }
    }

    async fn stop(self) -> Result<Probed> {
        self.stop.store(true, Ordering::Release);
        Ok(Probed {
            puts: self.puts.await??,
            reads: self.reads.await??,
        })
    }
}

async fn probe(channel: Channel, stop: Arc<AtomicBool>, writes: bool) -> Result<Histogram<u64>> {
    let mut kv = KvClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut latencies = histogram()?;
    while !stop.load(Ordering::Acquire) {
        let began = Instant::now();
        if writes {
            let put = pb::PutRequest {
                key: b"probe".as_slice().into(),
                value: b"v".as_slice().into(),
                ..Default::default()
            };
            // A call that times out was a stall, too.
            let _ = kv.put(put).await;
        } else {
            let read = pb::RangeRequest {
                key: b"probe".as_slice().into(),
                ..Default::default()
            };
            let _ = kv.range(read).await;
        }
        latencies.saturating_record(began.elapsed().as_micros() as u64);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(latencies)
}
