//! When leases run out. Only the leader's queue decides; another member's holds no deadlines.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashMap;

use crate::types::LeaseId;

/// Milliseconds on a clock of the caller's choice that never goes back.
pub type Deadline = u64;

/// After a change of leader, at most this many leases run out in one second.
const REARMED_PER_SECOND_MAX: u64 = 750;

/// Leases and their deadlines.
///
/// A keep-alive only moves the deadline in the map; the queue learns of it when the old one comes up, so
/// renewing is O(1) and a lease has one slot in the queue.
#[derive(Debug, Default)]
pub struct Expiry {
    leases: HashMap<LeaseId, Entry>,
    queue: BinaryHeap<Reverse<(Deadline, LeaseId)>>,
    /// Grants and renewals so far: tells apart those of one millisecond.
    armed: u64,
    /// Whether this member hands out time.
    leading: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    ttl_seconds: i64,
    /// What a checkpoint says is left, 0 for the full time.
    remaining_seconds: i64,
    deadline: Deadline,
    /// Number of the grant or renewal that set the deadline.
    armed: u64,
    /// Out, and the caller was told; it stays until its revocation is applied.
    expired: bool,
}

impl Expiry {
    /// A lease was granted, or found at start.
    pub fn granted(
        &mut self,
        id: LeaseId,
        ttl_seconds: i64,
        remaining_seconds: i64,
        now: Deadline,
    ) {
        let deadline = now + milliseconds(ttl_seconds);
        self.armed += 1;
        let entry = Entry {
            ttl_seconds,
            remaining_seconds,
            deadline,
            armed: self.armed,
            expired: false,
        };
        self.leases.insert(id, entry);
        if self.leading {
            self.queue.push(Reverse((deadline, id)));
        }
    }

    /// A lease was revoked.
    pub fn revoked(&mut self, id: LeaseId) {
        self.leases.remove(&id);
    }

    /// A checkpoint of a lease was applied.
    pub fn checkpointed(&mut self, id: LeaseId, remaining_seconds: i64) {
        if let Some(entry) = self.leases.get_mut(&id) {
            entry.remaining_seconds = remaining_seconds;
        }
    }

    /// This member leads from now on: every lease gets what is left of it plus `extend_milliseconds`, and a
    /// large crowd is spread out so that it does not end in one instant.
    pub fn lead(&mut self, now: Deadline, extend_milliseconds: u64) {
        self.leading = true;
        self.queue.clear();
        let mut deadlines: Vec<_> = self
            .leases
            .iter_mut()
            .map(|(id, entry)| {
                let seconds = match entry.remaining_seconds {
                    0 => entry.ttl_seconds,
                    left => left,
                };
                entry.expired = false;
                (now + milliseconds(seconds) + extend_milliseconds, *id)
            })
            .collect();
        deadlines.sort_unstable();
        if deadlines.len() as u64 >= REARMED_PER_SECOND_MAX {
            let mut free = 0;
            for (deadline, _) in &mut deadlines {
                *deadline = (*deadline).max(free);
                free = *deadline + 1000 / REARMED_PER_SECOND_MAX + 1;
            }
        }
        for (deadline, id) in deadlines {
            if let Some(entry) = self.leases.get_mut(&id) {
                entry.deadline = deadline;
            }
            self.queue.push(Reverse((deadline, id)));
        }
    }

    /// Whether leases run out here.
    pub fn is_leading(&self) -> bool {
        self.leading
    }

    /// Another member leads: nothing runs out here.
    pub fn follow(&mut self) {
        self.leading = false;
        self.queue.clear();
    }

    /// Gives a lease its full time again. Returns it in seconds; `None` for a lease that is unknown or out.
    pub fn renew(&mut self, id: LeaseId, now: Deadline) -> Option<i64> {
        let entry = self.leases.get_mut(&id)?;
        if entry.expired || now >= entry.deadline {
            return None;
        }
        self.armed += 1;
        entry.armed = self.armed;
        entry.deadline = now + milliseconds(entry.ttl_seconds);
        entry.remaining_seconds = 0;
        Some(entry.ttl_seconds)
    }

    /// Whether a lease is known here and its time is over.
    pub fn is_expired(&self, id: LeaseId, now: Deadline) -> bool {
        self.leases
            .get(&id)
            .is_some_and(|entry| entry.expired || now >= entry.deadline)
    }

    /// Seconds left (truncated; negative once overdue) and seconds granted. Some time has always passed since
    /// the grant, if less than a millisecond: of 60 seconds 59 are left at once.
    pub fn time_to_live(&self, id: LeaseId, now: Deadline) -> Option<(i64, i64)> {
        let entry = self.leases.get(&id)?;
        let left = entry.deadline as i64 - now as i64 - 1;
        Some((left / 1000, entry.ttl_seconds))
    }

    /// Every lease, the next to run out first.
    pub fn by_deadline(&self) -> Vec<LeaseId> {
        let mut leases: Vec<_> = self
            .leases
            .iter()
            .map(|(id, e)| (e.deadline, e.armed, *id))
            .collect();
        leases.sort_unstable();
        leases.into_iter().map(|(_, _, id)| id).collect()
    }

    /// Takes up to `count_max` leases whose time is over, to be revoked. One that is not revoked within
    /// `retry_milliseconds` comes again.
    pub fn take_expired(
        &mut self,
        now: Deadline,
        count_max: usize,
        retry_milliseconds: u64,
    ) -> Vec<LeaseId> {
        let mut expired = Vec::new();
        while expired.len() < count_max {
            let Some(Reverse((due, id))) = self.queue.peek().copied() else {
                break;
            };
            if due > now {
                break;
            }
            self.queue.pop();
            let Some(entry) = self.leases.get_mut(&id) else {
                continue;
            };
            if entry.deadline > now && !entry.expired {
                // Renewed since it was queued.
                self.queue.push(Reverse((entry.deadline, id)));
                continue;
            }
            entry.expired = true;
            self.queue.push(Reverse((now + retry_milliseconds, id)));
            expired.push(id);
        }
        expired
    }

    /// Leases with more than `interval_seconds` left, and how much: what a checkpoint records.
    pub fn remaining(&self, now: Deadline, interval_seconds: i64) -> Vec<(LeaseId, i64)> {
        let left = |entry: &Entry| (entry.deadline.saturating_sub(now) / 1000) as i64;
        let long = self
            .leases
            .iter()
            .filter(|(_, e)| e.ttl_seconds > interval_seconds);
        long.map(|(id, entry)| (*id, left(entry)))
            .filter(|(_, left)| *left > 0)
            .collect()
    }

    /// Leases known.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether no lease is known.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }
}

fn milliseconds(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: u64 = 7000;

    fn leading() -> Expiry {
        let mut expiry = Expiry::default();
        expiry.lead(0, 0);
        expiry
    }

    #[test]
    fn a_renewed_lease_outlives_its_first_deadline_once() {
        let mut expiry = leading();
        expiry.granted(LeaseId(1), 2, 0, 0);
        assert_eq!(expiry.renew(LeaseId(1), 1500), Some(2));
        assert!(expiry.take_expired(2000, 10, RETRY).is_empty());
        assert_eq!(expiry.take_expired(3500, 10, RETRY), [LeaseId(1)]);
        assert_eq!(expiry.renew(LeaseId(1), 3500), None, "out is out");
        assert!(
            expiry.take_expired(3600, 10, RETRY).is_empty(),
            "asked for once"
        );
        assert_eq!(
            expiry.take_expired(3500 + RETRY, 10, RETRY),
            [LeaseId(1)],
            "and again"
        );
    }

    #[test]
    fn a_follower_expires_nothing_and_a_new_leader_starts_from_the_checkpoint() {
        let mut expiry = Expiry::default();
        expiry.granted(LeaseId(1), 100, 0, 0);
        expiry.granted(LeaseId(2), 100, 0, 0);
        expiry.checkpointed(LeaseId(2), 30);
        assert!(expiry.take_expired(1_000_000, 10, RETRY).is_empty());
        expiry.lead(1000, 500);
        assert_eq!(expiry.time_to_live(LeaseId(2), 1000), Some((30, 100)));
        assert_eq!(expiry.take_expired(31_500, 10, RETRY), [LeaseId(2)]);
        expiry.follow();
        assert!(expiry.take_expired(1_000_000, 10, RETRY).is_empty());
    }

    #[test]
    fn a_crowd_is_spread_after_a_change_of_leader() {
        let mut expiry = Expiry::default();
        for id in 0..3000 {
            expiry.granted(LeaseId(id), 10, 0, 0);
        }
        expiry.lead(0, 0);
        let first_second = expiry.take_expired(11_000, usize::MAX, RETRY).len() as u64;
        assert!(first_second <= REARMED_PER_SECOND_MAX, "{first_second}");
        assert!(first_second > REARMED_PER_SECOND_MAX / 2, "{first_second}");
    }

    #[test]
    fn leases_are_listed_as_they_run_out_those_of_one_moment_as_granted() {
        let mut expiry = leading();
        for id in [7, 3, 5] {
            expiry.granted(LeaseId(id), 60, 0, 0);
        }
        expiry.granted(LeaseId(1), 10, 0, 0);
        expiry.renew(LeaseId(7), 0);
        assert_eq!(expiry.by_deadline(), [1, 3, 5, 7].map(LeaseId));
        assert_eq!(expiry.time_to_live(LeaseId(3), 0), Some((59, 60)));
    }

    #[test]
    fn overdue_time_is_negative() {
        let mut expiry = leading();
        expiry.granted(LeaseId(1), 2, 0, 0);
        assert_eq!(expiry.time_to_live(LeaseId(1), 3500), Some((-1, 2)));
        assert_eq!(expiry.time_to_live(LeaseId(9), 0), None);
    }
}
