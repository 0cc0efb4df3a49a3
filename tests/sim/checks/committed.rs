//! What was committed at an index stays committed there, the same everywhere.

use std::collections::BTreeMap;

use etcd::raft::eraftpb::Entry;

use super::{Verdict, fingerprint};

#[derive(Default)]
pub(crate) struct Committed {
    entries: BTreeMap<u64, (u64, u64)>,
}

impl Committed {
    pub(crate) fn commits(&mut self, member: u64, entry: &Entry) -> Verdict {
        let ours = (entry.term, fingerprint(entry));
        match *self.entries.entry(entry.index).or_insert(ours) {
            theirs if theirs == ours => Ok(()),
            (term, _) => Err(format!(
                "committed: {member} commits {}/{}, but {0}/{term} was committed before",
                entry.index, entry.term
            )),
        }
    }

    /// Index and term of the newest committed entry.
    pub(crate) fn newest(&self) -> Option<(u64, u64)> {
        self.entries
            .last_key_value()
            .map(|(&index, &(term, _))| (index, term))
    }
}
