//! The `apply` thread: committed entries into the machine, answers and events out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use flume::RecvTimeoutError;
use tokio::sync::{mpsc, oneshot};

use super::apply_meter::ApplyMeter;
use super::checkpoint_loop::{CheckpointTask, Then};
use super::compaction::Compactions;
use super::pending::{Answers, Reply, Waiter};
use super::queue::{Receiver, Sender};
use super::raft_loop::RaftInput;
use super::shared::{Role, Shared};
use super::watch::Changes;
use super::{Failure, NodeError};
use crate::lease::Lease;
use crate::machine::{Applied, Effect, Fatal, Machine};
use crate::metrics;
use crate::mvcc::KvHash;
use crate::pb::raftpb::{ConfChange, Entry};

use crate::types::LeaseId;

/// How often sizes are refreshed and a due checkpoint is looked for, as etcd's backend commits.
const TIMER: Duration = Duration::from_millis(100);
/// Entries applied before their answers leave.
const BATCH_ENTRIES_MAX: usize = 1000;
/// Changes that make a checkpoint due.
const CHECKPOINT_CHANGES_MAX: usize = 5_000;
/// Bytes of changes that make a checkpoint due.
const CHECKPOINT_BYTES_MAX: usize = 4 << 20;
/// Bytes of changes that are not durable before the apply thread waits for the disk.
const NOT_DURABLE_BYTES_MAX: usize = 32 << 20;
/// Applied entries wait for their checkpoint no longer than this.
const CHECKPOINT_AGE_MAX: Duration = Duration::from_secs(5);
/// A due checkpoint that finds no room is tried again after this.
const CHECKPOINT_RETRY: Duration = Duration::from_millis(1);
/// Keys looked at between two batches while a compaction is under way.
const PRUNE_KEYS_MAX: usize = 500;

/// What the apply thread is asked to do.
pub(crate) enum ApplyInput {
    /// Committed entries, each with whoever waits for it.
    Entries(Vec<(Entry, Option<Box<Waiter>>)>),
    /// Make everything applied so far durable, then this.
    Checkpoint(Then),
    /// The keys of a lease.
    LeaseKeys(LeaseId, oneshot::Sender<Option<Lease>>),
    /// The history below a compact revision has been hashed; it can go.
    Prune { revision: i64, hash: Option<KvHash> },
    /// Nothing more comes.
    Stop,
}

pub(crate) struct ApplyLoop {
    pub(crate) machine: Machine,
    pub(crate) input: Receiver<ApplyInput>,
    pub(crate) checkpoints: Sender<CheckpointTask>,
    pub(crate) changes: Changes,
    pub(crate) effects: mpsc::UnboundedSender<Effect>,
    pub(crate) answers: mpsc::UnboundedSender<Answers>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) compactions: Compactions,
    pub(crate) checkpoint: CheckpointDue,
    pub(crate) meter: ApplyMeter,
}

/// When the next checkpoint is due, and who waits for it.
pub(crate) struct CheckpointDue {
    last: Instant,
    bytes: usize,
    applied_index: u64,
    then: Vec<Then>,
}

impl CheckpointDue {
    pub(crate) fn new(applied_index: u64) -> Self {
        Self {
            last: Instant::now(),
            bytes: 0,
            applied_index,
            then: Vec::new(),
        }
    }
}

impl ApplyLoop {
    /// Runs until it is told to stop; what was applied is handed over for a last checkpoint.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let failed = |error: Fatal| Failure {
            thread: "apply",
            reason: error.to_string(),
        };
        let mut next_timer = Instant::now() + TIMER;
        loop {
            let held_up = self.checkpoints.is_full() && self.is_checkpoint_due();
            // What is removed is written by a checkpoint, too.
            let prunes = self.compactions.is_pruning() && !held_up;
            let input = match (prunes, held_up) {
                (true, _) => self.input.try_recv().map_err(|_| RecvTimeoutError::Timeout),
                (false, true) => self.input.recv_timeout(CHECKPOINT_RETRY),
                (false, false) => self.input.recv_deadline(next_timer),
            };
            let go_on = match input {
                Ok(input) => self.round(input).map_err(failed)?,
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => false,
            };
            if !go_on {
                break;
            }
            if prunes {
                self.prune();
            }
            if Instant::now() >= next_timer {
                next_timer = Instant::now() + TIMER;
                self.timer();
            }
            self.checkpoint_if_due();
            self.shared.apply_rounds.fetch_add(1, Ordering::Relaxed);
        }
        self.hand_over();
        self.changes.stop();
        Ok(())
    }

    /// Does what it is asked; false when nothing more comes.
    fn round(&mut self, first: ApplyInput) -> Result<bool, Fatal> {
        // Entries that queued up go into one batch: one publication, one wake-up of raft.
        let mut entries = Vec::new();
        let mut next = Some(first);
        let mut go_on = true;
        while let Some(input) = next.take() {
            match input {
                ApplyInput::Entries(more) if entries.is_empty() => entries = more,
                ApplyInput::Entries(more) => entries.extend(more),
                // Its state is what is applied when it is handed over, which is later.
                ApplyInput::Checkpoint(then) => self.checkpoint.then.push(then),
                ApplyInput::LeaseKeys(id, reply) => {
                    let _ = reply.send(self.machine.leases().get(id).cloned());
                }
                ApplyInput::Prune { revision, hash } => self.compactions.hashed(revision, hash),
                ApplyInput::Stop => go_on = false,
            }
            if go_on && !entries.is_empty() && entries.len() < BATCH_ENTRIES_MAX {
                next = self.input.try_recv().ok();
            }
        }
        if !entries.is_empty() {
            self.apply_batch(entries)?;
        }
        Ok(go_on)
    }

    fn apply_batch(&mut self, entries: Vec<(Entry, Option<Box<Waiter>>)>) -> Result<(), Fatal> {
        let mut answers = Answers::with_capacity(entries.len());
        let mut changes = Vec::new();
        let log_bytes_before = self.checkpoint.bytes;
        for (entry, waiter) in entries {
            if entry.index <= self.machine.applied_index() {
                continue;
            }
            let (mut request, reply) = match waiter {
                Some(waiter) => (waiter.request, waiter.reply),
                None => (None, None),
            };
            self.checkpoint.bytes += entry.data.len();
            let measured = ApplyMeter::begin(&entry, &mut request);
            let applied = self.machine.apply(&entry, request)?;
            if let Some(measured) = &measured {
                self.meter.end(measured, &entry, &applied.result);
            }
            let held = self.carry_out(&applied, reply);
            if let Some(batch) = applied.changes {
                changes.push(batch);
            }
            if let Some(reply) = held {
                answers.push((reply, applied.result.map_err(NodeError::from)));
            }
        }
        self.meter.count(self.machine.operations());
        let log_bytes = self.checkpoint.bytes - log_bytes_before;
        metrics::global().checkpoint_lag_bytes.add(log_bytes as i64);
        self.publish();
        for batch in changes {
            self.changes.tell(batch);
        }
        if !answers.is_empty() {
            let _ = self.answers.send(answers);
        }
        Ok(())
    }

    /// Does what an entry asks of the shell. Gives the reply back unless its answer has to wait.
    fn carry_out(&mut self, applied: &Applied, reply: Option<Reply>) -> Option<Reply> {
        let Some(effect) = &applied.effect else {
            return reply;
        };
        let now = self.shared.now_milliseconds();
        match effect {
            Effect::LeaseGranted { id, ttl_seconds } => {
                self.shared
                    .lease_expiry
                    .lock()
                    .granted(*id, *ttl_seconds, 0, now);
                metrics::global().lease_granted.inc();
                metrics::global().lease_ttl.observe(*ttl_seconds as f64);
            }
            Effect::LeaseRevoked(id) => {
                self.shared.lease_expiry.lock().revoked(*id);
                metrics::global().lease_revoked.inc();
            }
            Effect::LeasesCheckpointed(leases) => {
                let mut expiry = self.shared.lease_expiry.lock();
                for (id, remaining_seconds) in leases {
                    expiry.checkpointed(*id, *remaining_seconds);
                }
            }
            Effect::CompactionScheduled {
                revision,
                previous,
                physical,
            } => {
                let held = match (physical, &applied.result) {
                    (true, Ok(response)) => reply.map(|reply| (reply, response.clone())),
                    _ => {
                        self.compactions
                            .schedule(*revision, *previous, None, &mut self.machine);
                        return reply;
                    }
                };
                self.compactions
                    .schedule(*revision, *previous, held, &mut self.machine);
                return None;
            }
            Effect::ConfigurationDecided(change) => self.configure(change),
            // Before any lease of this term is granted.
            Effect::TermStarted if self.shared.role() == Role::Leader => {
                let extend = self.shared.settings.election_timeout.as_millis() as u64;
                self.shared.lease_expiry.lock().lead(now, extend);
            }
            Effect::TermStarted
            | Effect::QuotaExceeded
            | Effect::MembershipChanged
            | Effect::AlarmsChanged => {}
        }
        let _ = self.effects.send(effect.clone());
        reply
    }

    /// Lets raft take a configuration change, and keeps what came of it with the entry's effects.
    fn configure(&mut self, change: &ConfChange) {
        let (reply, answer) = flume::bounded(1);
        let input = RaftInput::Configure {
            change: change.clone(),
            reply,
        };
        if self.shared.raft.send(input).is_err() {
            return;
        }
        if let Ok(Some(conf_state)) = answer.recv() {
            self.machine.set_conf_state(conf_state);
        }
    }

    fn publish(&mut self) {
        let published = self.machine.publish();
        let applied_index = published.applied_index;
        self.shared.published.store(Arc::new(published));
        self.shared
            .applied_index
            .store(applied_index, Ordering::Release);
        let ready = self.shared.read_waiters.lock().take(applied_index);
        for reply in ready {
            let _ = reply.send(Ok(()));
        }
        self.shared.wake_raft();
    }

    fn prune(&mut self) {
        let began = Instant::now();
        let (done, removed) = self.machine.prune(PRUNE_KEYS_MAX);
        self.compactions.slice(removed, began.elapsed());
        if done {
            if let Some(revision) = self.compactions.pruned() {
                self.machine.finish_compaction(revision);
                self.machine.refresh_sizes();
                self.publish();
                if let Some((reply, response)) = self.compactions.finished(revision) {
                    let then = Then::Answer(reply, Box::new(response));
                    self.checkpoint.then.push(then);
                }
            }
        }
    }

    fn timer(&mut self) {
        let before = self.shared.published.load().sizes;
        self.machine.refresh_sizes();
        self.compactions.retry(&mut self.machine);
        let published = self.machine.publish();
        if published.sizes != before {
            self.shared.published.store(Arc::new(published));
        }
    }

    fn is_checkpoint_due(&self) -> bool {
        let applied = self.machine.applied_index() > self.checkpoint.applied_index;
        let pending = self.machine.pending_changes();
        pending >= CHECKPOINT_CHANGES_MAX
            || self.checkpoint.bytes >= CHECKPOINT_BYTES_MAX
            || !self.checkpoint.then.is_empty()
            || (applied || pending > 0) && self.checkpoint.last.elapsed() >= CHECKPOINT_AGE_MAX
    }

    fn checkpoint_if_due(&mut self) {
        // While checkpoints are on their way the next one grows, up to a limit, instead of holding up answers.
        let room = !self.checkpoints.is_full() || self.checkpoint.bytes >= NOT_DURABLE_BYTES_MAX;
        if room && self.is_checkpoint_due() {
            self.hand_over();
        }
    }

    /// Hands everything since the last checkpoint to the checkpoint thread. It waits while two are on their
    /// way already: memory for changes that are not durable is bounded.
    fn hand_over(&mut self) {
        for then in &self.checkpoint.then {
            if matches!(then, Then::Defragment(_)) {
                self.machine.defragmented();
                let published = self.machine.publish();
                self.shared.published.store(Arc::new(published));
            }
        }
        let revision = self.shared.published.load().mvcc.revision();
        let checkpoint = self.machine.take_checkpoint();
        let next = CheckpointDue::new(checkpoint.applied_index);
        let CheckpointDue {
            bytes: log_bytes,
            then,
            ..
        } = std::mem::replace(&mut self.checkpoint, next);
        let _ = self.checkpoints.send(CheckpointTask {
            checkpoint,
            revision,
            log_bytes,
            then,
        });
    }
}
