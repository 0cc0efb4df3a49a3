//! Committed means on disk: when a leader counts an entry as committed, a majority of the voters of that
//! moment has it durably. Nothing is acknowledged before it is committed.

use super::Verdict;

#[derive(Default)]
pub(crate) struct Durable;

impl Durable {
    /// `has_it` tells for each voter whether its disk has the entry.
    pub(crate) fn commits(
        &self,
        leader: u64,
        (index, term): (u64, u64),
        has_it: impl Iterator<Item = (u64, bool)>,
    ) -> Verdict {
        let disks: Vec<_> = has_it.collect();
        let count = disks.iter().filter(|(_, has_it)| *has_it).count();
        if count * 2 > disks.len() {
            return Ok(());
        }
        let without: Vec<_> = disks
            .iter()
            .filter(|(_, has_it)| !has_it)
            .map(|(id, _)| id)
            .collect();
        Err(format!(
            "durable: {leader} commits entry {index}/{term}, which is not on the disks of {without:?} of {} voters",
            disks.len()
        ))
    }
}
