//! Reads whose index is known and not yet applied.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tokio::sync::oneshot;

use super::NodeError;

/// Where a read waits for its turn.
pub(crate) type ReadReply = oneshot::Sender<Result<(), NodeError>>;

/// Readers by the index they wait for.
#[derive(Default)]
pub(crate) struct ReadWaiters {
    queue: BinaryHeap<Waiter>,
}

struct Waiter {
    index: Reverse<u64>,
    replies: Vec<ReadReply>,
}

impl ReadWaiters {
    /// Parks readers until `index` is applied.
    pub(crate) fn park(&mut self, index: u64, replies: Vec<ReadReply>) {
        self.queue.push(Waiter {
            index: Reverse(index),
            replies,
        });
    }

    /// Takes the readers that an applied index satisfies.
    pub(crate) fn take(&mut self, applied_index: u64) -> Vec<ReadReply> {
        let mut ready = Vec::new();
        while self
            .queue
            .peek()
            .is_some_and(|waiter| waiter.index.0 <= applied_index)
        {
            ready.extend(
                self.queue
                    .pop()
                    .into_iter()
                    .flat_map(|waiter| waiter.replies),
            );
        }
        ready
    }
}

impl PartialEq for Waiter {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index
    }
}

impl Eq for Waiter {}

impl PartialOrd for Waiter {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiter {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.index.cmp(&other.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_wake_in_the_order_of_their_index() {
        let mut waiters = ReadWaiters::default();
        let (reply, _keep) = oneshot::channel();
        waiters.park(7, vec![reply]);
        let (reply, _keep) = oneshot::channel();
        waiters.park(5, vec![reply]);
        assert_eq!(waiters.take(4).len(), 0);
        assert_eq!(waiters.take(5).len(), 1);
        assert_eq!(waiters.take(100).len(), 1);
        assert_eq!(waiters.take(100).len(), 0);
    }
}
