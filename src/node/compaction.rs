//! Compactions on their way: history is hashed in the background, then pruned in slices.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::apply_loop::ApplyInput;
use super::pending::Reply;
use super::queue::Sender;
use super::shared::Shared;
use crate::logging::{GoDuration, HumanBytes};
use crate::machine::{Machine, Response};
use crate::metrics;
use crate::mvcc::{KvHash, View};

/// Niceness of threads that work in the background.
const BACKGROUND_NICE: libc::c_int = 10;

/// Compactions in the order they were accepted; one is worked on at a time.
pub(crate) struct Compactions {
    queue: VecDeque<Job>,
    running: Option<Running>,
    apply: Sender<ApplyInput>,
    shared: Arc<Shared>,
}

struct Job {
    revision: i64,
    previous: i64,
    held: Option<(Reply, Response)>,
}

struct Running {
    job: Job,
    hash: Option<Option<KvHash>>,
    began: Instant,
    /// Revisions removed so far.
    removed: usize,
    /// The longest slice of pruning: what a write had to wait.
    pause_max: Duration,
}

impl Compactions {
    pub(crate) fn new(apply: Sender<ApplyInput>, shared: Arc<Shared>) -> Self {
        Self {
            queue: VecDeque::new(),
            running: None,
            apply,
            shared,
        }
    }

    /// Takes an accepted compaction. `held` is answered when its history is gone.
    pub(crate) fn schedule(
        &mut self,
        revision: i64,
        previous: i64,
        held: Option<(Reply, Response)>,
        machine: &mut Machine,
    ) {
        self.queue.push_back(Job {
            revision,
            previous,
            held,
        });
        self.retry(machine);
    }

    /// Starts the next compaction if none is running.
    pub(crate) fn retry(&mut self, machine: &mut Machine) {
        if self.running.is_some() {
            return;
        }
        let Some(job) = self.queue.pop_front() else {
            return;
        };
        let view = machine.publish().mvcc;
        let (revision, previous) = (job.revision, job.previous);
        let apply = self.apply.clone();
        // Hashing reads all history up to the compact revision; pruning begins when it is done.
        let hashing = std::thread::Builder::new().name("compact-hash".to_owned());
        let spawned = hashing.spawn(move || {
            give_way();
            hash(&view, revision, previous, &apply);
        });
        self.running = Some(Running {
            job,
            hash: None,
            began: Instant::now(),
            removed: 0,
            pause_max: Duration::ZERO,
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "compaction goes on without a hash");
            self.hashed(revision, None);
        }
    }

    /// The history of the running compaction has been hashed.
    pub(crate) fn hashed(&mut self, revision: i64, hash: Option<KvHash>) {
        if let Some(running) = &mut self.running {
            if running.job.revision == revision {
                running.hash = Some(hash);
            }
        }
    }

    /// Whether history is to be pruned now.
    pub(crate) fn is_pruning(&self) -> bool {
        self.running
            .as_ref()
            .is_some_and(|running| running.hash.is_some())
    }

    /// A slice of history was removed.
    pub(crate) fn slice(&mut self, removed: usize, took: Duration) {
        metrics::global().compaction_keys.add(removed as u64);
        metrics::global()
            .compaction_pause
            .observe(milliseconds(took));
        if let Some(running) = &mut self.running {
            running.removed += removed;
            running.pause_max = running.pause_max.max(took);
        }
    }

    /// The compact revision whose history is gone now.
    pub(crate) fn pruned(&self) -> Option<i64> {
        self.running.as_ref().map(|running| running.job.revision)
    }

    /// Ends the running compaction. Returns who waited for it.
    pub(crate) fn finished(&mut self, revision: i64) -> Option<(Reply, Response)> {
        let running = self.running.take()?;
        let hash = running.hash.flatten();
        if let Some(hash) = hash {
            self.shared.compaction_hashes.lock().push(hash);
        }
        let took = running.began.elapsed();
        let metrics = metrics::global();
        metrics.compaction_total.observe(milliseconds(took));
        metrics
            .index_compaction_pause
            .observe(milliseconds(running.pause_max));
        metrics.compaction_last.set(unix_seconds());
        let sizes = self.shared.published.load().sizes;
        let (file, in_use) = (sizes.file_bytes, sizes.in_use_bytes);
        tracing::info!(revision, "compact tree index");
        tracing::info!(
            "compact-revision" = revision,
            took = %GoDuration::from(took),
            "number-of-keys-compacted" = running.removed,
            hash = hash.map_or(0, |hash| hash.hash),
            "current-db-size-bytes" = file,
            "current-db-size" = %HumanBytes(file.unsigned_abs()),
            "current-db-size-in-use-bytes" = in_use,
            "current-db-size-in-use" = %HumanBytes(in_use.unsigned_abs()),
            "finished scheduled compaction"
        );
        running.job.held
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn unix_seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs() as i64)
}

/// Lets every other thread run first: the calling thread's work is long and nobody waits for it alone.
fn give_way() {
    // SAFETY: a system call without pointers. 0 is the calling thread; lowering a priority is always allowed.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, BACKGROUND_NICE) };
}

fn hash(view: &View, revision: i64, previous: i64, apply: &Sender<ApplyInput>) {
    let hash = view
        .hash_compaction(previous, revision)
        .inspect_err(|error| {
            tracing::warn!(%error, revision, "compaction hash could not be computed");
        })
        .ok();
    let _ = apply.send(ApplyInput::Prune { revision, hash });
}
