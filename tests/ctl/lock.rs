//! `etcdctl lock`: holders never overlap, although some are killed while they hold the lock or wait for it.
//!
//! A holder's command notes its begin and its end in one file that all append to: an end must follow its begin with
//! nothing between, unless that holder was killed. A watch of the lock's keys is the fence: when a holder begins, the key of
//! the one before must have been deleted at or before the revision the new one was told it got the lock at.
//!
//! A killed holder dies with its command, as with its machine: a command that outlives its `etcdctl` is not protected.

use std::collections::HashMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use etcd::pb::etcdserverpb as pb;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::member::Member;
use crate::{Options, ensure, words};

/// Processes that want the lock at once.
const WORKERS: u64 = 6;
/// The lock of a dead holder is free after so long.
const TTL_SECONDS: u64 = 2;
/// One holder of so many kills itself, one process of so many is killed at any moment.
const HOLDER_KILL_RATE: u32 = 20;
const ANY_KILL_RATE: u32 = 40;
/// When a process is killed that may hold the lock or not, in milliseconds after its start.
const ANY_KILL_MS: std::ops::Range<u64> = 1..200;
/// Hand-overs must go on at least at this pace.
const STALL_MAX: Duration = Duration::from_secs(60);

/// Lets holders come and go until there were so many hand-overs.
pub fn prove(options: &Options) -> Result<String, String> {
    let began = Instant::now();
    let member = Member::start_binary(&options.server, &[]);
    let directory = tempfile::tempdir().map_err(words)?;
    let journal = directory.path().join("journal");
    std::fs::write(&journal, "").map_err(words)?;
    let runtime = tokio::runtime::Runtime::new().map_err(words)?;
    let keys = runtime.block_on(Keys::watch(&member.endpoint))?;
    let site = Arc::new(Site {
        etcdctl: options.etcdctl.clone(),
        endpoint: member.endpoint.clone(),
        journal: journal.display().to_string(),
        stop: AtomicBool::new(false),
        runs: AtomicU64::new(0),
    });
    let workers: Vec<_> = (0..WORKERS)
        .map(|seed| {
            let site = site.clone();
            std::thread::spawn(move || site.work(SmallRng::seed_from_u64(seed)))
        })
        .collect();
    let waited = wait_for(&journal, options.hand_overs + 1);
    site.stop.store(true, Ordering::Release);
    let mut killed = Vec::new();
    for worker in workers {
        killed.extend(worker.join().map_err(|_| "a worker panicked")??);
    }
    waited?;
    let begins = check_journal(&read(&journal)?, &killed)?;
    runtime.block_on(keys.check(&begins))?;
    let holders_killed = begins
        .iter()
        .filter(|begin| killed.contains(&begin.run))
        .count();
    ensure(holders_killed > 0, || "no holder was killed".to_owned())?;
    Ok(format!(
        "{} hand-overs, {} kills ({holders_killed} of holders), 0 overlaps, in {} s",
        begins.len() - 1,
        killed.len(),
        began.elapsed().as_secs()
    ))
}

fn read(journal: &Path) -> Result<String, String> {
    std::fs::read_to_string(journal).map_err(words)
}

fn wait_for(journal: &Path, begins: usize) -> Result<(), String> {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let now = read(journal)?.matches("begin ").count();
        if now >= begins {
            return Ok(());
        }
        if now > last {
            (last, since) = (now, Instant::now());
        }
        ensure(since.elapsed() < STALL_MAX, || {
            format!("nobody got the lock for {STALL_MAX:?}, after {now} holders")
        })?;
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What workers share.
struct Site {
    etcdctl: std::path::PathBuf,
    endpoint: String,
    journal: String,
    stop: AtomicBool,
    runs: AtomicU64,
}

impl Site {
    /// Takes the lock again and again. Returns the runs that were killed.
    fn work(&self, mut random: SmallRng) -> Result<Vec<u64>, String> {
        let mut killed = Vec::new();
        while !self.stop.load(Ordering::Acquire) {
            let run = self.runs.fetch_add(1, Ordering::Relaxed);
            // The first one always: a small number of runs must have a kill, too.
            let holder = run == 1 || random.random_ratio(1, HOLDER_KILL_RATE);
            let any = random.random_ratio(1, ANY_KILL_RATE);
            let deed = if holder {
                "kill -9 0"
            } else {
                "echo end $RUN >>$JOURNAL"
            };
            let script =
                format!("echo begin $RUN $ETCD_LOCK_KEY $ETCD_LOCK_REV >>$JOURNAL\n{deed}");
            let mut child = Command::new(&self.etcdctl)
                .args([
                    "--endpoints",
                    &self.endpoint,
                    "lock",
                    "--ttl",
                    &TTL_SECONDS.to_string(),
                ])
                .args(["proof", "--", "sh", "-c", &script])
                .env("RUN", run.to_string())
                .env("JOURNAL", &self.journal)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                // So that a kill reaches its command as well.
                .process_group(0)
                .spawn()
                .map_err(words)?;
            if any {
                std::thread::sleep(Duration::from_millis(random.random_range(ANY_KILL_MS)));
                // It may have ended, but is not waited for yet: the number is still its own.
                let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
            }
            let mut said = String::new();
            if let Some(mut stderr) = child.stderr.take() {
                let _ = std::io::Read::read_to_string(&mut stderr, &mut said);
            }
            let status = child.wait().map_err(words)?;
            match (status.success(), holder || any) {
                (true, _) => {}
                (false, true) => killed.push(run),
                (false, false) => return Err(format!("etcdctl lock: {status}: {said}")),
            }
        }
        Ok(killed)
    }
}

/// A holder's first line.
#[derive(Debug)]
struct Begin {
    run: u64,
    key: String,
    /// The revision at which it was told it had the lock.
    revision: i64,
}

fn check_journal(journal: &str, killed: &[u64]) -> Result<Vec<Begin>, String> {
    let mut begins: Vec<Begin> = Vec::new();
    let mut inside: Option<u64> = None;
    for line in journal.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["begin", run, key, revision] => {
                let run = run.parse().map_err(crate::words)?;
                if let Some(other) = inside.filter(|other| !killed.contains(other)) {
                    return Err(format!(
                        "overlap: run {run} began while run {other} held the lock"
                    ));
                }
                inside = Some(run);
                begins.push(Begin {
                    run,
                    key: (*key).to_owned(),
                    revision: revision.parse().map_err(crate::words)?,
                });
            }
            ["end", run] => {
                let run: u64 = run.parse().map_err(crate::words)?;
                if inside != Some(run) {
                    return Err(format!(
                        "overlap: run {run} ended while {inside:?} held the lock"
                    ));
                }
                inside = None;
            }
            _ => return Err(format!("the journal has {line:?}")),
        }
    }
    Ok(begins)
}

/// When the lock's keys were created and deleted, as the server tells.
struct Keys {
    stream: tonic::Streaming<pb::WatchResponse>,
    // The watch ends with it.
    _requests: tokio::sync::mpsc::Sender<pb::WatchRequest>,
}

impl Keys {
    async fn watch(endpoint: &str) -> Result<Self, String> {
        let connected = WatchClient::connect(format!("http://{endpoint}")).await;
        let mut client = connected.map_err(words)?;
        let (sender, requests) = tokio::sync::mpsc::channel(1);
        let create = pb::WatchCreateRequest {
            key: "proof/".into(),
            range_end: "proof0".into(),
            ..Default::default()
        };
        let request_union = Some(RequestUnion::CreateRequest(create));
        sender
            .send(pb::WatchRequest { request_union })
            .await
            .map_err(words)?;
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        let stream = client.watch(requests).await.map_err(words)?.into_inner();
        Ok(Self {
            stream,
            _requests: sender,
        })
    }

    /// Every holder's key must be gone when the next one has the lock, and be older than its.
    async fn check(mut self, begins: &[Begin]) -> Result<(), String> {
        let (mut created, mut deleted) = (HashMap::new(), HashMap::new());
        let last = begins.last().map_or(0, |begin| begin.revision);
        let mut seen = 0;
        while seen < last {
            let next = tokio::time::timeout(STALL_MAX, self.stream.message()).await;
            let response = next
                .map_err(words)?
                .map_err(words)?
                .ok_or("the watch ended")?;
            for event in response.events {
                let event = event.into_fields();
                let pair = event.kv.unwrap_or_default().into_fields();
                let key = String::from_utf8_lossy(&pair.key).into_owned();
                seen = seen.max(pair.mod_revision);
                match pair.create_revision {
                    0 => deleted.insert(key, pair.mod_revision),
                    revision => created.insert(key, revision),
                };
            }
            seen = seen.max(response.header.map_or(0, |header| header.revision));
        }
        for pair in begins.windows(2) {
            let [before, after] = pair else { continue };
            let gone = deleted.get(&before.key).copied().unwrap_or(i64::MAX);
            ensure(gone <= after.revision, || {
                format!("overlap: {after:?} has the lock, the key of {before:?} went at {gone}")
            })?;
            let (older, newer) = (created.get(&before.key), created.get(&after.key));
            ensure(older.is_some() && older < newer, || {
                format!("out of turn: {before:?} queued at {older:?}, {after:?} at {newer:?}")
            })?;
        }
        Ok(())
    }
}
