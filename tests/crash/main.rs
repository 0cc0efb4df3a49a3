//! A member is killed again and again under load, and must come back each time with everything it has said.
//!
//! ```text
//! cargo test --test crash                                                 the small form
//! cargo test --test crash -- --kills 300 --writers 64 [--binary PATH]     the long one
//! ```
//!
//! Writers put ascending numbers, each into a key of its own; others grant, fill and revoke leases; watchers of all
//! keys go on where they stopped. The kills come while the member works, and some while it starts. After each:
//!
//! - watchers get every revision since the first once, in order, and all the same events (`history.rs`): no gap, no
//!   duplicate, and no revision that is given out again;
//! - every acknowledged put is in that history, at its revision with its value;
//! - the store is what the history adds up to, with revisions and leases;
//! - leases that were granted are there, revoked ones are gone with their keys, none has run out early, and in the end
//!   all that should run out have.

#![allow(unreachable_pub)] // Modules of one test binary.

mod history;
mod leases;
#[path = "../it/member.rs"]
#[allow(dead_code)]
mod member;
mod writers;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd::pb::etcdserverpb as pb;
use pb::kv_client::KvClient;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use history::{History, Shared};
use leases::Leases;
use member::Member;
use writers::Put;

/// Connections the clients share.
const CONNECTIONS: usize = 8;
/// Watchers of all keys.
const WATCHERS: usize = 4;
/// How long the clients work before a kill, in milliseconds.
const WORK_MS: std::ops::Range<u64> = 20..400;
/// How long a start is left before a kill, in milliseconds.
const START_MS: std::ops::Range<u64> = 0..60;
/// One kill of so many comes during a start.
const START_KILL_RATE: u32 = 6;
/// One round of so many begins with a compaction.
const COMPACTION_RATE: u32 = 4;
/// A watcher that has not caught up after this long has a gap.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);
/// Checkpoints and snapshots come often.
const FLAGS: &[&str] = &["--snapshot-count=500"];

struct Options {
    binary: PathBuf,
    kills: u64,
    writers: usize,
    seed: u64,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        binary: env!("CARGO_BIN_EXE_etcd").into(),
        kills: 8,
        writers: 16,
        seed: 1,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|error| error.to_string());
        match word.as_str() {
            "--binary" => options.binary = value()?.into(),
            "--kills" => options.kills = number(value()?)?,
            "--writers" => options.writers = number(value()?)? as usize,
            "--seed" => options.seed = number(value()?)?,
            // What cargo passes to every test binary.
            _ => {}
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    // What cargo-nextest asks of a test binary.
    if std::env::args().any(|word| word == "--list") {
        if !std::env::args().any(|word| word == "--ignored") {
            println!("kills: test");
        }
        return ExitCode::SUCCESS;
    }
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("crash: {error}");
            return ExitCode::from(2);
        }
    };
    let mut trial = Trial::new(&options);
    for kill in 1..=options.kills {
        if let Err(loss) = trial.round(options.writers) {
            println!("kill {kill}: {loss}\n{}", trial.member.log());
            return ExitCode::FAILURE;
        }
    }
    if let Err(loss) = trial.finish() {
        println!("at the end: {loss}\n{}", trial.member.log());
        return ExitCode::FAILURE;
    }
    println!("{}", trial.summary(options.kills));
    // So few writes would mean that nothing was tested.
    match trial.acknowledged > options.kills * options.writers as u64 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// A member's life, and what it has promised.
struct Trial {
    member: Member,
    random: SmallRng,
    history: Shared,
    leases: Leases,
    /// Puts acknowledged since the last check.
    puts: Vec<Put>,
    acknowledged: u64,
    compactions: u64,
    kills_at_start: u64,
    started: Instant,
}

/// Clients of one life of the process; its runtime and connections end with it.
pub struct Clients {
    channels: Vec<Channel>,
}

impl Clients {
    async fn connect(endpoint: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{endpoint}")).expect("endpoint");
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS {
            channels.push(endpoint.connect().await.expect("connect"));
        }
        Self { channels }
    }

    /// A connection; clients spread over them by number.
    pub fn channel(&self, number: usize) -> Channel {
        self.channels[number % CONNECTIONS].clone()
    }
}

impl Trial {
    fn new(options: &Options) -> Self {
        Self {
            member: Member::start_binary(&options.binary, FLAGS),
            random: SmallRng::seed_from_u64(options.seed),
            history: Shared::default(),
            leases: Leases::default(),
            puts: Vec::new(),
            acknowledged: 0,
            compactions: 0,
            kills_at_start: 0,
            started: Instant::now(),
        }
    }

    /// Checks what the last kill left, works, and kills.
    fn round(&mut self, writers: usize) -> Result<(), String> {
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        runtime.block_on(async {
            let clients = Clients::connect(&self.member.endpoint).await;
            let watchers = self.watch(&clients);
            self.check(&clients).await?;
            self.work(&clients, writers).await;
            for watcher in watchers.join_all().await {
                watcher?;
            }
            Ok::<(), String>(())
        })?;
        drop(runtime);
        if self.random.random_ratio(1, START_KILL_RATE) {
            self.member.start_again();
            std::thread::sleep(Duration::from_millis(self.random.random_range(START_MS)));
            self.member.kill();
            self.kills_at_start += 1;
        }
        self.member.restart();
        Ok(())
    }

    fn watch(&self, clients: &Clients) -> JoinSet<Result<(), String>> {
        let mut watchers = JoinSet::new();
        for number in 0..WATCHERS {
            let channel = clients.channel(number);
            watchers.spawn(history::watch_until_gone(
                channel,
                number,
                self.history.clone(),
            ));
        }
        watchers
    }

    async fn work(&mut self, clients: &Clients, writers: usize) {
        let mut writing = JoinSet::new();
        for number in 0..writers {
            let key = Bytes::from(format!("writer/{number}"));
            let from = self.history.lock().number(&key);
            writing.spawn(writers::write_until_gone(
                clients.channel(number),
                key,
                from,
            ));
        }
        let leasing = self.leases.work(clients);
        let work = Duration::from_millis(self.random.random_range(WORK_MS));
        tokio::time::sleep(work).await;
        self.member.kill();
        self.puts = writing.join_all().await.into_iter().flatten().collect();
        self.acknowledged += self.puts.len() as u64;
        self.leases.learn(leasing.join_all().await);
    }

    /// Compares what the member has with what it has said.
    async fn check(&mut self, clients: &Clients) -> Result<(), String> {
        let mut kv = KvClient::new(clients.channel(0)).max_decoding_message_size(1 << 30);
        let revision = self.check_store(&mut kv).await?;
        for put in self.puts.drain(..) {
            self.history.lock().check_put(&put)?;
        }
        self.leases.check(clients).await?;
        if self.random.random_ratio(1, COMPACTION_RATE) {
            let physical = self.random.random();
            let request = pb::CompactionRequest { revision, physical };
            // There may have been nothing since the last one.
            let compacted = kv.compact(request).await;
            self.compactions += u64::from(compacted.is_ok());
        }
        Ok(())
    }

    /// Reads everything when nothing has happened since, and compares it with the history. Returns the revision.
    async fn check_store(&self, kv: &mut KvClient<Channel>) -> Result<i64, String> {
        loop {
            let everything = pb::RangeRequest {
                key: Bytes::from_static(b"\0"),
                range_end: Bytes::from_static(b"\0"),
                ..pb::RangeRequest::default()
            };
            let reply = kv.range(everything).await.map_err(|e| e.to_string())?;
            let reply = reply.into_inner();
            let revision = reply.header.map_or(0, |header| header.revision);
            if let Some(put) = self.puts.iter().max_by_key(|put| put.revision)
                && put.revision > revision
            {
                return Err(format!(
                    "lost: {put:?} was acknowledged, the store is at {revision}"
                ));
            }
            self.caught_up(revision).await?;
            let history = self.history.lock();
            // A lease that ran out meanwhile makes the two incomparable.
            if history.revision() == revision {
                history.check_state(&reply.kvs)?;
                return Ok(revision);
            }
        }
    }

    /// Waits until every watcher has seen a revision.
    async fn caught_up(&self, revision: i64) -> Result<(), String> {
        let deadline = Instant::now() + CATCH_UP_MAX;
        loop {
            let seen = self.history.lock().seen_by_all();
            if seen >= revision {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "a watcher is at {seen}, the store at {revision}: gap"
                ));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The last check, with every lease, after those that run out have.
    fn finish(&mut self) -> Result<(), String> {
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        runtime.block_on(async {
            let clients = Clients::connect(&self.member.endpoint).await;
            let watchers = self.watch(&clients);
            self.check(&clients).await?;
            self.leases.check_all(&clients).await?;
            let mut kv = KvClient::new(clients.channel(0)).max_decoding_message_size(1 << 30);
            self.check_store(&mut kv).await?;
            self.member.kill();
            for watcher in watchers.join_all().await {
                watcher?;
            }
            Ok(())
        })
    }

    fn summary(&self, kills: u64) -> String {
        format!(
            "{} kills, {} of them during a start; {} puts acknowledged, {} revisions seen by {WATCHERS} watchers, \
             {} leases, {} compactions: nothing lost, in {} s",
            kills + self.kills_at_start,
            self.kills_at_start,
            self.acknowledged,
            self.history.lock().revision() - History::FIRST + 1,
            self.leases.count(),
            self.compactions,
            self.started.elapsed().as_secs()
        )
    }
}
