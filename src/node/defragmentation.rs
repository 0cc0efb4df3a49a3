//! A defragmentation under way: who waits for it, its metrics, and its log lines.

use std::time::Instant;

use tokio::sync::oneshot;

use super::NodeError;
use crate::logging::{GoDuration, HumanBytes};
use crate::metrics;
use crate::store::{Size, Store};

/// Where the end of it is told.
pub(crate) type Reply = oneshot::Sender<Result<(), NodeError>>;

/// From its first step to its last.
pub(crate) struct Defragmentation {
    waiting: Vec<Reply>,
    began: Instant,
    before: Size,
}

impl Defragmentation {
    /// It begins; `store` is as it was before.
    pub(crate) fn begin(store: &Store) -> Self {
        metrics::global().defrag_inflight.set(1);
        let before = store.size().unwrap_or_default();
        let (size, in_use) = (before.allocated_bytes, before.in_use_bytes);
        tracing::info!(
            path = %store.path().display(),
            "current-db-size-bytes" = size,
            "current-db-size" = %HumanBytes(size),
            "current-db-size-in-use-bytes" = in_use,
            "current-db-size-in-use" = %HumanBytes(in_use),
            "defragmenting"
        );
        Self {
            waiting: Vec::new(),
            began: Instant::now(),
            before,
        }
    }

    /// Somebody else wants one, too.
    pub(crate) fn join(&mut self, reply: Reply) {
        self.waiting.push(reply);
    }

    /// It is complete; `store` is as it is after.
    pub(crate) fn end(self, store: &Store) {
        let took = self.began.elapsed();
        metrics::global().defrag_inflight.set(0);
        metrics::global().defrag.observe_duration(took);
        let after = store.size().unwrap_or_default();
        let (size, in_use) = (after.allocated_bytes, after.in_use_bytes);
        tracing::info!(
            path = %store.path().display(),
            "current-db-size-bytes-diff" = size as i64 - self.before.allocated_bytes as i64,
            "current-db-size-bytes" = size,
            "current-db-size" = %HumanBytes(size),
            "current-db-size-in-use-bytes-diff" = in_use as i64 - self.before.in_use_bytes as i64,
            "current-db-size-in-use-bytes" = in_use,
            "current-db-size-in-use" = %HumanBytes(in_use),
            took = %GoDuration::from(took),
            "finished defragmenting directory"
        );
        for reply in self.waiting {
            let _ = reply.send(Ok(()));
        }
    }
}
