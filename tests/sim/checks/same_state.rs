//! State machines that have applied the same index are equal.

use std::collections::BTreeMap;

use super::Verdict;

#[derive(Default)]
pub(crate) struct SameState {
    hashes: BTreeMap<u64, (u64, u64)>,
}

impl SameState {
    pub(crate) fn is_at(&mut self, member: u64, applied: u64, hash: u64) -> Verdict {
        let (first, expected) = *self.hashes.entry(applied).or_insert((member, hash));
        if expected == hash {
            return Ok(());
        }
        Err(format!(
            "same state: {first} and {member} differ at applied index {applied}"
        ))
    }
}
