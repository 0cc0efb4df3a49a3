//! From a data directory to running threads, and back.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::apply_loop::{ApplyInput, ApplyLoop, CheckpointDue};
use super::apply_meter::ApplyMeter;
use super::checkpoint_loop::{CheckpointLoop, CheckpointTask};
use super::compaction::Compactions;
use super::pending::Answers;
use super::queue::queue;
use super::raft_loop::{RaftInput, RaftLoop};
use super::request_id::RequestIds;
use super::shared::{Role, Shared, Steps};
use super::wal_loop::{WalLoop, WalTask};
use super::watch::{WatchLoop, Watches};
use super::{Failure, NodeHandle, lease_clock, open, tasks};
use crate::lease::Expiry;
use crate::membership::Member;
use crate::raft::Core;
use crate::types::{ClusterId, MemberId};

/// Inputs that may wait for the raft thread. It drains them every round, so this is only ever full when the
/// machine is.
const RAFT_INBOX: usize = 16 * 1024;
/// Writes that may wait for the log thread.
const WAL_QUEUE: usize = 256;
/// Batches that may wait for the apply thread.
const APPLY_QUEUE: usize = 256;
/// Checkpoints on their way to disk.
const CHECKPOINT_QUEUE: usize = 1;

/// Who this member is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its id.
    pub member_id: MemberId,
    /// Its cluster's id.
    pub cluster_id: ClusterId,
    /// Its name.
    pub name: String,
    /// Where it tells clients to reach it.
    pub client_urls: Vec<String>,
}

/// How history is compacted without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Keep this much time.
    Periodic(Duration),
    /// Keep this many revisions.
    Revisions(i64),
}

/// What the node needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `<data-dir>/member`.
    pub member_dir: PathBuf,
    /// Where the log is.
    pub wal_dir: PathBuf,
    /// This member's name.
    pub name: String,
    /// Where it tells clients to reach it.
    pub client_urls: Vec<String>,
    /// The initial cluster; ids are already computed. Only looked at without a data directory.
    pub initial_members: Vec<Member>,
    /// One raft tick.
    pub heartbeat_interval: Duration,
    /// Silence before an election.
    pub election_timeout: Duration,
    /// Ask before standing for election.
    pub pre_vote: bool,
    /// Entries between snapshot records in the log.
    pub snapshot_entries: u64,
    /// Entries kept behind a checkpoint for slow followers.
    pub catch_up_entries: u64,
    /// Log segments kept after their release.
    pub wal_segments_max: usize,
    /// Encoded request bytes.
    pub request_bytes_max: usize,
    /// Requests that take longer to apply are logged.
    pub warning_apply_duration: Duration,
    /// Database size at which writes are refused; `None` for no limit.
    pub quota_bytes: Option<i64>,
    /// Learners the cluster may have.
    pub learners_max: usize,
    /// Compact history without being asked.
    pub auto_compaction: Option<AutoCompaction>,
    /// How often the leader records what is left of long leases; `None` for never.
    pub lease_checkpoint_interval: Option<Duration>,
    /// Records kept in memory.
    pub value_cache_bytes_max: usize,
    /// Pages of the database kept in memory.
    pub page_cache_bytes_max: usize,
    /// The database is defragmented at start when that gives so many bytes back; 0: never.
    pub bootstrap_defrag_threshold_bytes: u64,
    /// Never fsync the log.
    pub unsafe_no_fsync: bool,
}

impl Settings {
    /// Ticks of an election timeout.
    pub(crate) fn election_ticks(&self) -> usize {
        let heartbeat = self.heartbeat_interval.as_millis().max(1);
        (self.election_timeout.as_millis() / heartbeat).max(1) as usize
    }

    /// Shorter leases get this: one and a half election timeouts.
    pub(crate) fn lease_ttl_seconds_min(&self) -> i64 {
        let milliseconds = self.election_timeout.as_millis() as i64 * 3 / 2;
        (milliseconds + 999) / 1000
    }
}

/// A running member.
pub struct Running {
    /// For everyone who needs the member.
    pub handle: NodeHandle,
    /// Why the member cannot go on. The first word here ends the process.
    pub failures: mpsc::UnboundedReceiver<Failure>,
    pub(super) shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    effects: Option<mpsc::UnboundedReceiver<crate::machine::Effect>>,
    answers: Option<mpsc::UnboundedReceiver<Answers>>,
}

/// Opens or creates the data directory and starts the threads. The member has no tasks yet: see
/// [`Running::spawn_tasks`].
pub fn start(settings: Settings) -> Result<Running, Failure> {
    let opened = open::open(&settings)?;
    let (raft_sender, raft_inbox) = queue(RAFT_INBOX);
    let (wal_sender, wal_tasks) = queue::<WalTask>(WAL_QUEUE);
    let (apply_sender, apply_input) = queue::<ApplyInput>(APPLY_QUEUE);
    let (checkpoint_sender, checkpoint_tasks) = queue::<CheckpointTask>(CHECKPOINT_QUEUE);
    let (effect_sender, effects) = mpsc::unbounded_channel();
    let (answer_sender, answers) = mpsc::unbounded_channel();
    let (failure_sender, failures) = mpsc::unbounded_channel();

    let seed = unix_milliseconds();
    let mut config = crate::raft::Config::new(opened.identity.member_id.0, seed);
    config.election_ticks = settings.election_ticks();
    config.pre_vote = settings.pre_vote;
    config.log_bytes_max = open::LOG_WINDOW_BYTES_MAX;
    let conf_state = opened.restored.conf_state.clone();
    let core = Core::new(config, opened.restored).map_err(|error| Failure {
        thread: "raft",
        reason: error.to_string(),
    })?;

    let mut machine = opened.machine;
    let mut expiry = Expiry::default();
    for (id, lease) in machine.leases().iter() {
        expiry.granted(id, lease.ttl_seconds, lease.remaining_seconds, 0);
    }
    let published = machine.publish();
    let applied_index = published.applied_index;
    let watches = Watches::new(published.mvcc.revision());
    let shared = Arc::new(Shared {
        watches: watches.clone(),
        request_ids: RequestIds::new(opened.identity.member_id, unix_milliseconds()),
        identity: opened.identity,
        settings,
        started: Instant::now(),
        values: opened.values,
        raft: raft_sender,
        role: AtomicU8::new(Role::Follower as u8),
        leader: AtomicU64::new(0),
        term: AtomicU64::new(core.status().term),
        commit_index: AtomicU64::new(core.status().commit),
        sole_leader: AtomicBool::new(false),
        persisted_ready: AtomicU64::new(0),
        wal_write_started: AtomicU64::new(0),
        applied_index: AtomicU64::new(applied_index),
        published: ArcSwap::from_pointee(published),
        lease_expiry: Mutex::new(expiry),
        read_waiters: Mutex::default(),
        checkpoint_index: AtomicU64::new(applied_index),
        checkpoint_steps: Steps::default(),
        raft_rounds: AtomicU64::new(0),
        apply_rounds: AtomicU64::new(0),
        wal_rounds: AtomicU64::new(0),
        leader_changed: watch::Sender::new(0),
        compaction_hashes: Mutex::default(),
    });

    let raft = RaftLoop::new(
        core,
        &conf_state,
        raft_inbox,
        wal_sender.clone(),
        apply_sender.clone(),
        shared.clone(),
    );
    let segments_max = shared.settings.wal_segments_max;
    let wal = WalLoop {
        wal: opened.wal,
        tasks: wal_tasks,
        shared: shared.clone(),
        segments_max,
    };
    let mut compactions = Compactions::new(apply_sender.clone(), shared.clone());
    if let Some((revision, previous)) = opened.unfinished_compaction {
        tracing::info!(
            "scheduled-compact-revision" = revision,
            "resume scheduled compaction"
        );
        compactions.schedule(revision, previous, None, &mut machine);
    }
    let apply = ApplyLoop {
        machine,
        input: apply_input,
        checkpoints: checkpoint_sender,
        changes: watches.changes(),
        effects: effect_sender,
        answers: answer_sender,
        shared: shared.clone(),
        compactions,
        checkpoint: CheckpointDue::new(applied_index),
        meter: ApplyMeter::new(shared.settings.warning_apply_duration),
    };
    let checkpoint = CheckpointLoop {
        store: opened.store,
        tasks: checkpoint_tasks,
        wal: wal_sender,
        shared: shared.clone(),
        snapshot_index: opened.snapshot_index,
        unmarked_log_bytes: 0,
        defragmentation: None,
    };
    let watch_loop = WatchLoop::new(&watches, shared.clone());
    let threads = vec![
        spawn("raft", &failure_sender, move || raft.run())?,
        spawn("wal", &failure_sender, move || wal.run())?,
        spawn("apply", &failure_sender, move || apply.run())?,
        spawn("checkpoint", &failure_sender, move || checkpoint.run())?,
        spawn("watch", &failure_sender, move || watch_loop.run())?,
    ];
    let _ = shared.raft.send(RaftInput::Campaign);
    Ok(Running {
        handle: NodeHandle::new(shared.clone(), apply_sender),
        failures,
        shared,
        threads,
        effects: Some(effects),
        answers: Some(answers),
    })
}

impl Running {
    /// Starts what the member does on its own, on the current runtime.
    pub fn spawn_tasks(&mut self) {
        let (shared, node) = (&self.shared, &self.handle);
        if let Some(effects) = self.effects.take() {
            tokio::spawn(tasks::follow_effects(shared.clone(), node.clone(), effects));
        }
        if let Some(answers) = self.answers.take() {
            tokio::spawn(tasks::deliver(answers));
        }
        tokio::spawn(lease_clock::run(shared.clone(), node.clone()));
        tokio::spawn(tasks::keep_cluster_version(shared.clone(), node.clone()));
        tokio::spawn(tasks::compact_log(shared.clone()));
        if let Some(mode) = shared.settings.auto_compaction {
            tokio::spawn(tasks::compact_automatically(
                shared.clone(),
                node.clone(),
                mode,
            ));
        }
    }

    /// Publishes this member; returns when it may serve clients.
    pub fn published(&self) -> impl Future<Output = ()> + use<> {
        tasks::publish(self.shared.clone(), self.handle.clone())
    }

    /// Stops the threads in order: nothing new, then the log, then what was applied is made durable.
    /// Blocks until that is done.
    pub fn stop(self) {
        let _ = self.shared.raft.send(RaftInput::Stop);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn spawn(
    name: &'static str,
    failures: &mpsc::UnboundedSender<Failure>,
    run: impl FnOnce() -> Result<(), Failure> + Send + 'static,
) -> Result<JoinHandle<()>, Failure> {
    let failures = failures.clone();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            if let Err(failure) = run() {
                let _ = failures.send(failure);
            }
        })
        .map_err(|error| Failure {
            thread: name,
            reason: format!("cannot start thread: {error}"),
        })
}

fn unix_milliseconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
