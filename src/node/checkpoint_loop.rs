//! The `checkpoint` thread: makes applied state durable, and serves what needs all of it at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use flume::TryRecvError;
use tokio::sync::oneshot;

use super::defragmentation::Defragmentation;
use super::pending::Reply;
use super::queue::{Receiver, Sender};
use super::shared::Shared;
use super::wal_loop::WalTask;
use super::{Failure, NodeError};
use crate::machine::Response;
use crate::metrics;
use crate::store::{Checkpoint, Defragmented, Frozen, Store, StoreError};

/// Log bytes that a restart reads at most, besides what no checkpoint has: the log gets a snapshot record this often.
const UNMARKED_LOG_BYTES_MAX: usize = 16 << 20;

/// A checkpoint and what is to be done once it is durable.
pub(crate) struct CheckpointTask {
    pub(crate) checkpoint: Checkpoint,
    /// Main revision of the last change in it or before it.
    pub(crate) revision: i64,
    /// Bytes of the entries since the checkpoint before.
    pub(crate) log_bytes: usize,
    pub(crate) then: Vec<Then>,
}

/// What waits for a checkpoint.
pub(crate) enum Then {
    /// A view of exactly this state.
    Freeze(oneshot::Sender<Result<Frozen, NodeError>>),
    /// Give unused space back.
    Defragment(oneshot::Sender<Result<(), NodeError>>),
    /// Just to know that it is durable.
    Tell(oneshot::Sender<Result<(), NodeError>>),
    /// The answer to a request that is to be durable in the database too.
    Answer(Reply, Box<Response>),
}

pub(crate) struct CheckpointLoop {
    pub(crate) store: Store,
    pub(crate) tasks: Receiver<CheckpointTask>,
    pub(crate) wal: Sender<WalTask>,
    pub(crate) shared: Arc<Shared>,
    /// The entry of the last snapshot record that was due by number of entries.
    pub(crate) snapshot_index: u64,
    /// Bytes of entries since the last snapshot record.
    pub(crate) unmarked_log_bytes: usize,
    /// The one under way.
    pub(crate) defragmentation: Option<Defragmentation>,
}

impl CheckpointLoop {
    /// Runs until nobody can send checkpoints any more; the last one is durable then.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let failed = |error: StoreError| Failure {
            thread: "checkpoint",
            reason: error.to_string(),
        };
        self.measure();
        loop {
            // Defragmentation goes on in steps between checkpoints, which it must not hold up.
            let task = match self.defragmentation.is_none() {
                true => self.tasks.recv().map_err(|_| TryRecvError::Disconnected),
                false => self.tasks.try_recv(),
            };
            match task {
                Ok(task) => self.round(task).map_err(failed)?,
                Err(TryRecvError::Empty) => self.defragment_step().map_err(failed)?,
                Err(TryRecvError::Disconnected) => break,
            }
        }
        self.store.close().map_err(|error| Failure {
            thread: "checkpoint",
            reason: error.to_string(),
        })
    }

    fn round(&mut self, task: CheckpointTask) -> Result<(), StoreError> {
        let CheckpointTask {
            checkpoint,
            revision,
            log_bytes,
            then,
        } = task;
        let began = Instant::now();
        let written = self.step(|store| store.write(&checkpoint))?;
        let metrics = metrics::global();
        metrics.backend_commit.observe_duration(began.elapsed());
        metrics.backend_commit_spill.observe_duration(written.fill);
        metrics
            .backend_commit_write
            .observe_duration(written.commit);
        // The database balances its trees as it is filled.
        metrics.backend_commit_rebalance.observe(0.0);
        metrics.checkpoint_lag_bytes.add(-(log_bytes as i64));
        self.measure();
        self.shared.values.durable(revision);
        self.shared.values.forget(&checkpoint.removed);
        self.shared
            .checkpoint_index
            .store(checkpoint.applied_index, Ordering::Release);
        self.unmarked_log_bytes += log_bytes;
        self.mark_in_log(&checkpoint);
        for then in then {
            match then {
                Then::Tell(reply) => drop(reply.send(Ok(()))),
                Then::Answer(reply, response) => drop(reply.send(Ok(*response))),
                Then::Freeze(reply) => {
                    let _ = reply.send(self.store.frozen().map_err(NodeError::from));
                }
                Then::Defragment(reply) => {
                    let store = &self.store;
                    self.defragmentation
                        .get_or_insert_with(|| Defragmentation::begin(store))
                        .join(reply);
                }
            }
        }
        Ok(())
    }

    /// Works on the database, visibly for the watchdog: the apply thread may have to wait for it.
    fn step<R>(
        &mut self,
        work: impl FnOnce(&mut Store) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let steps = &self.shared.checkpoint_steps;
        steps.begin(self.shared.now_milliseconds());
        let result = work(&mut self.store);
        steps.end(self.shared.now_milliseconds());
        result
    }

    fn measure(&self) {
        if let Ok(size) = self.store.size() {
            metrics::global()
                .db_physical_size
                .set(size.allocated_bytes as i64);
        }
    }

    fn defragment_step(&mut self) -> Result<(), StoreError> {
        if self.step(Store::defragment_step)? == Defragmented::Wholly {
            self.measure();
            if let Some(defragmentation) = self.defragmentation.take() {
                defragmentation.end(&self.store);
            }
        }
        Ok(())
    }

    /// Every so many entries or bytes the log gets a snapshot record, and segments nobody needs go.
    fn mark_in_log(&mut self, checkpoint: &Checkpoint) {
        let settings = &self.shared.settings;
        let index = checkpoint.applied_index;
        let counted = index >= self.snapshot_index + settings.snapshot_entries;
        if !counted && self.unmarked_log_bytes < UNMARKED_LOG_BYTES_MAX {
            return;
        }
        if counted {
            tracing::info!(
                "local-member-id" = %self.shared.identity.member_id,
                "local-member-applied-index" = index,
                "local-member-snapshot-index" = self.snapshot_index,
                "local-member-snapshot-count" = settings.snapshot_entries,
                "snapshot-forced" = false,
                "triggering snapshot"
            );
        }
        let task = WalTask::Snapshot {
            index,
            term: checkpoint.applied_term,
            conf_state: checkpoint.conf_state.clone(),
            keep_from: index.saturating_sub(settings.catch_up_entries),
        };
        if self.wal.send(task).is_err() {
            return;
        }
        self.unmarked_log_bytes = 0;
        if counted {
            self.snapshot_index = index;
            tracing::info!("snapshot-index" = index, "saved snapshot to disk");
        }
    }
}
