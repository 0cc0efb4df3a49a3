//! Term, commit and applied index never go back, and what was durable is there after a restart.

use std::collections::BTreeMap;

use etcd::raft::Status;
use etcd::raft::eraftpb::HardState;

use super::Verdict;

#[derive(Default)]
struct Seen {
    term: u64,
    commit: u64,
    applied: u64,
    durable: HardState,
}

#[derive(Default)]
pub(crate) struct Monotone {
    members: BTreeMap<u64, Seen>,
}

impl Monotone {
    pub(crate) fn is_at(&mut self, status: &Status) -> Verdict {
        let seen = self.members.entry(status.id).or_default();
        let before = (seen.term, seen.commit, seen.applied);
        (seen.term, seen.commit, seen.applied) = (status.term, status.commit, status.applied);
        if status.term < before.0 || status.commit < before.1 || status.applied < before.2 {
            return Err(format!(
                "monotone: {} went from term, commit, applied {before:?} to {:?}",
                status.id,
                (status.term, status.commit, status.applied)
            ));
        }
        Ok(())
    }

    /// A write was reported durable.
    pub(crate) fn persisted(&mut self, member: u64, hard_state: &HardState) {
        self.members.entry(member).or_default().durable = hard_state.clone();
    }

    /// A member starts from its disk.
    pub(crate) fn restarts(&mut self, status: &Status) -> Verdict {
        let seen = self.members.entry(status.id).or_default();
        let durable = &seen.durable;
        // Promises may have gone out for these; what was only in memory may be lost.
        let has_lost_vote =
            status.term == durable.term && durable.vote != 0 && status.vote != durable.vote;
        if status.term < durable.term || has_lost_vote || status.commit < durable.commit {
            return Err(format!(
                "monotone: {} restarts in term {} with vote {} and commit {}, after {durable:?} was durable",
                status.id, status.term, status.vote, status.commit
            ));
        }
        (seen.term, seen.commit, seen.applied) = (status.term, status.commit, status.applied);
        Ok(())
    }
}
