//! Compactions on their way: history is hashed in the background, then pruned in slices.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::apply_loop::ApplyInput;
use super::pending::Reply;
use super::shared::Shared;
use crate::machine::{Machine, Response};
use crate::mvcc::{KvHash, View};

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
    began: std::time::Instant,
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
        let spawned = hashing.spawn(move || hash(&view, revision, previous, &apply));
        self.running = Some(Running {
            job,
            hash: None,
            began: std::time::Instant::now(),
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
        tracing::info!(revision, "compact tree index");
        tracing::info!(
            "compact-revision" = revision,
            took = %crate::logging::GoDuration::from(running.began.elapsed()),
            hash = hash.map_or(0, |hash| hash.hash),
            "finished scheduled compaction"
        );
        running.job.held
    }
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
