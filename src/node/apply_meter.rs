//! What applying costs: its metrics, and the lines about requests that took long or were refused.

use std::time::{Duration, Instant};

use prost::Message;

use crate::logging::GoDuration;
use crate::machine::{ApplyError, KeySpaceError, Response};
use crate::metrics::{self, Request};
use crate::mvcc::Operations;
use crate::pb::etcdserverpb::InternalRaftRequest;
use crate::pb::raftpb::{Entry, EntryType};
use crate::pb::text::Redacted;

/// The apply thread's own measuring.
pub(crate) struct ApplyMeter {
    /// Requests that take longer are logged.
    slow_after: Duration,
    /// Operations that metrics know of.
    counted: Operations,
}

/// A request being applied.
pub(crate) struct Measured {
    kind: Request,
    began: Instant,
}

impl ApplyMeter {
    pub(crate) fn new(slow_after: Duration) -> Self {
        Self {
            slow_after,
            counted: Operations::default(),
        }
    }

    /// Begins with an entry; `None` for one that is no request. `request` becomes what it decodes to.
    pub(crate) fn begin(
        entry: &Entry,
        request: &mut Option<InternalRaftRequest>,
    ) -> Option<Measured> {
        if entry.entry_type() != EntryType::EntryNormal || entry.data.is_empty() {
            return None;
        }
        if request.is_none() {
            *request = InternalRaftRequest::decode(entry.data.clone()).ok();
        }
        Some(Measured {
            kind: Request::of(request.as_ref()?),
            began: Instant::now(),
        })
    }

    /// The request was applied with this result.
    pub(crate) fn end(
        &self,
        measured: &Measured,
        entry: &Entry,
        result: &Result<Response, ApplyError>,
    ) {
        let took = measured.began.elapsed();
        // Whoever compacts asks for what somebody else may have done already.
        let compacted = ApplyError::Mvcc(KeySpaceError::Compacted);
        let failure = result.as_ref().err().filter(|error| **error != compacted);
        metrics::global()
            .apply
            .observe(measured.kind, failure.is_none(), took.as_secs_f64());
        if took > self.slow_after {
            metrics::global().slow_apply.inc();
            tracing::warn!(
                took = %GoDuration::from(took),
                "expected-duration" = %GoDuration::from(self.slow_after),
                prefix = "",
                request = request_text(entry),
                response = response_text(result),
                error = result.as_ref().err().map(tracing::field::display),
                "apply request took too long"
            );
        }
        if let Some(error) = failure {
            tracing::warn!(
                took = %GoDuration::from(took),
                request = request_text(entry),
                response = response_text(result),
                %error,
                "failed to apply request"
            );
        }
    }

    /// Tells metrics what has been done to keys so far.
    pub(crate) fn count(&mut self, operations: Operations) {
        let before = std::mem::replace(&mut self.counted, operations);
        let metrics = metrics::global();
        for (counter, now, then) in [
            (&metrics.puts, operations.puts, before.puts),
            (&metrics.deletes, operations.deletes, before.deletes),
            (&metrics.ranges, operations.ranges, before.ranges),
            (&metrics.txns, operations.txns, before.txns),
        ] {
            if now != then {
                counter.add(now - then);
            }
        }
        metrics.put_bytes.set(operations.put_bytes as i64);
    }
}

/// Decoded again: rarely asked for, and applying has used the request up.
fn request_text(entry: &Entry) -> String {
    let request = InternalRaftRequest::decode(entry.data.clone()).unwrap_or_default();
    Redacted(&request).to_string()
}

fn response_text(result: &Result<Response, ApplyError>) -> String {
    let bytes = match result {
        Ok(Response::Put(response)) => response.encoded_len(),
        Ok(Response::DeleteRange(response)) => response.encoded_len(),
        Ok(Response::Range(response)) => response.encoded_len(),
        Ok(Response::Txn(response)) => response.encoded_len(),
        Ok(Response::Compaction(response)) => response.encoded_len(),
        Ok(Response::LeaseGrant(response)) => response.encoded_len(),
        Ok(Response::LeaseRevoke(response)) => response.encoded_len(),
        Ok(Response::LeaseCheckpoint(response)) => response.encoded_len(),
        Ok(Response::Alarm(response)) => response.encoded_len(),
        Ok(Response::Members(_) | Response::Done) | Err(_) => return String::new(),
    };
    format!("size:{bytes}")
}
