//! What must always hold, one file each. A check is told facts as they happen and answers with a
//! violation in words; [`Checks`] keeps the first.

mod committed;
mod durable;
mod leader_completeness;
mod linearizable;
mod log_matching;
mod monotone;
mod one_leader;
mod same_state;

use std::hash::{DefaultHasher, Hash, Hasher};

use etcd::raft::eraftpb::Entry;

pub(crate) type Verdict = Result<(), String>;

#[derive(Default)]
pub(crate) struct Checks {
    pub(crate) committed: committed::Committed,
    pub(crate) leader_completeness: leader_completeness::LeaderCompleteness,
    pub(crate) linearizable: linearizable::Linearizable,
    pub(crate) log_matching: log_matching::LogMatching,
    pub(crate) monotone: monotone::Monotone,
    pub(crate) one_leader: one_leader::OneLeader,
    pub(crate) same_state: same_state::SameState,
    pub(crate) durable: durable::Durable,
    violation: Option<String>,
}

impl Checks {
    /// Runs a check and keeps its violation, if it is the first.
    pub(crate) fn judge(&mut self, check: impl FnOnce(&mut Self) -> Verdict) {
        if let Err(violation) = check(self) {
            self.violation.get_or_insert(violation);
        }
    }

    pub(crate) fn verdict(&mut self) -> Verdict {
        self.violation.take().map_or(Ok(()), Err)
    }
}

/// Equal for equal contents.
fn fingerprint(entry: &Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    (entry.entry_type, &entry.data).hash(&mut hasher);
    hasher.finish()
}
