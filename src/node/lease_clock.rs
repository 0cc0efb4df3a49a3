//! The leader's lease clock: proposes the revocation of what ran out, and checkpoints of what is left.

use std::sync::Arc;
use std::time::Duration;

use super::handle::NodeHandle;
use super::shared::{Role, Shared};
use crate::metrics;
use crate::pb::etcdserverpb::{InternalRaftRequest, LeaseCheckpoint, LeaseCheckpointRequest};

/// How often expired leases are looked for.
const INTERVAL: Duration = Duration::from_millis(100);
/// Leases revoked in one round: a crowd is gone in seconds and still leaves room for others.
const REVOKED_PER_ROUND_MAX: usize = 2000;
/// Leases recorded by one entry.
const CHECKPOINTS_PER_ENTRY_MAX: usize = 1000;

/// Runs for as long as the member does.
pub(crate) async fn run(shared: Arc<Shared>, node: NodeHandle) {
    let mut timer = tokio::time::interval(INTERVAL);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let checkpoint_interval = shared.settings.lease_checkpoint_interval;
    let mut next_checkpoint = tokio::time::Instant::now();
    loop {
        timer.tick().await;
        let now = shared.now_milliseconds();
        let retry = shared.request_timeout().as_millis() as u64;
        let expired = {
            let mut expiry = shared.lease_expiry.lock();
            // Asked with the lock held: the apply thread starts the clock with a term.
            if shared.role() != Role::Leader {
                expiry.follow();
            }
            if !expiry.is_leading() {
                continue;
            }
            expiry.take_expired(now, REVOKED_PER_ROUND_MAX, retry)
        };
        metrics::global().lease_expired.add(expired.len() as u64);
        // Refused ones come again after the retry time.
        let _ = node.revoke_leases(&expired);
        if let Some(interval) = checkpoint_interval {
            if tokio::time::Instant::now() >= next_checkpoint {
                next_checkpoint = tokio::time::Instant::now() + interval;
                checkpoint(&shared, &node, now, interval).await;
            }
        }
    }
}

async fn checkpoint(shared: &Shared, node: &NodeHandle, now: u64, interval: Duration) {
    let remaining = shared
        .lease_expiry
        .lock()
        .remaining(now, interval.as_secs() as i64);
    for leases in remaining.chunks(CHECKPOINTS_PER_ENTRY_MAX) {
        let checkpoints = leases
            .iter()
            .map(|(id, left)| LeaseCheckpoint {
                id: id.0,
                remaining_ttl: *left,
            })
            .collect();
        let request = InternalRaftRequest {
            lease_checkpoint: Some(Box::new(LeaseCheckpointRequest { checkpoints })),
            ..InternalRaftRequest::default()
        };
        if node.propose(request).await.is_err() {
            return;
        }
    }
}
