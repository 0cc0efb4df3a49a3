//! The `wal` thread: appends, and one fsync for everything that queued up during the last.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use flume::RecvTimeoutError;

use super::Failure;
use super::queue::Receiver;
use super::shared::Shared;
use crate::metrics;
use crate::pb::raftpb::{ConfState, Entry, HardState};
use crate::wal::{Wal, WalError};

/// Writes merged into one fsync.
const GROUP_WRITES_MAX: usize = 1024;
/// Without work the thread goes round this often, so that a watchdog sees it alive.
const IDLE_ROUND: Duration = Duration::from_secs(1);
/// An fsync that takes longer is worth a warning.
const SLOW_SYNC: Duration = Duration::from_secs(1);

/// Work for the log.
pub(crate) enum WalTask {
    /// One ready of raft.
    Write(WalWrite),
    /// A durable checkpoint reaches `index`: mark it, and let go of segments before `keep_from`.
    Snapshot {
        index: u64,
        term: u64,
        conf_state: ConfState,
        keep_from: u64,
    },
    /// Nothing more comes.
    Stop,
}

/// What one ready of raft wants on disk.
pub(crate) struct WalWrite {
    pub(crate) ready_number: u64,
    pub(crate) entries: Vec<Entry>,
    pub(crate) hard_state: Option<HardState>,
    pub(crate) must_sync: bool,
}

pub(crate) struct WalLoop {
    pub(crate) wal: Wal,
    pub(crate) tasks: Receiver<WalTask>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) segments_max: usize,
}

impl WalLoop {
    /// Runs until it is told to stop or the disk fails.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        loop {
            match self.tasks.recv_timeout(IDLE_ROUND) {
                Ok(task) => {
                    let go_on = self.round(task).map_err(|error| Failure {
                        thread: "wal",
                        reason: error.to_string(),
                    })?;
                    if !go_on {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.shared.wal_rounds.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn round(&mut self, first: WalTask) -> Result<bool, WalError> {
        let started = self.shared.now_milliseconds() + 1;
        self.shared
            .wal_write_started
            .store(started, Ordering::Release);
        let mut last_ready = None;
        let mut must_sync = false;
        let mut snapshot_began = None;
        let mut go_on = true;
        let mut next = Some(first);
        let mut count = 0;
        while let Some(task) = next.take() {
            match task {
                WalTask::Write(write) => {
                    let began = Instant::now();
                    let bytes = self.wal.append(write.hard_state.as_ref(), &write.entries)?;
                    metrics::global()
                        .wal_write
                        .observe_duration(began.elapsed());
                    metrics::global().wal_write_bytes.add(bytes as i64);
                    must_sync |= write.must_sync;
                    last_ready = Some(write.ready_number);
                }
                WalTask::Snapshot {
                    index,
                    term,
                    conf_state,
                    keep_from,
                } => {
                    let began = *snapshot_began.insert(Instant::now());
                    self.wal.append_snapshot(index, term, &conf_state)?;
                    metrics::global()
                        .snap_marshalling
                        .observe_duration(began.elapsed());
                    must_sync = true;
                    self.wal.release_to(keep_from);
                    self.wal.purge(self.segments_max)?;
                }
                WalTask::Stop => {
                    go_on = false;
                    break;
                }
            }
            count += 1;
            if count < GROUP_WRITES_MAX {
                next = self.tasks.try_recv().ok();
            }
        }
        if must_sync {
            let took = self.sync()?;
            if let Some(began) = snapshot_began {
                metrics::global().snap_fsync.observe_duration(took);
                metrics::global()
                    .snap_save
                    .observe_duration(began.elapsed());
            }
        }
        self.shared.wal_write_started.store(0, Ordering::Release);
        if let Some(ready) = last_ready {
            self.shared.persisted_ready.store(ready, Ordering::Release);
            self.shared.wake_raft();
        }
        Ok(go_on)
    }

    fn sync(&mut self) -> Result<Duration, WalError> {
        let began = Instant::now();
        let synced = self.wal.sync()?;
        if let Some(segment) = synced.new_segment {
            tracing::info!(path = %segment.display(), "created a new WAL segment");
        }
        let took = began.elapsed();
        metrics::global().wal_fsync.observe_duration(took);
        if took > SLOW_SYNC {
            tracing::warn!(
                message_id = crate::logging::message_id::SLOW_FSYNC,
                took = %crate::logging::GoDuration::from(took),
                "expected-duration" = %crate::logging::GoDuration::from(SLOW_SYNC),
                "slow fdatasync"
            );
        }
        Ok(took)
    }
}
