//! A new leader has every entry that was committed before.

use super::Verdict;

#[derive(Default)]
pub(crate) struct LeaderCompleteness;

impl LeaderCompleteness {
    /// `newest` is the newest committed entry; log matching extends the proof to all before it.
    pub(crate) fn leads(
        &self,
        member: u64,
        term: u64,
        newest: Option<(u64, u64)>,
        first_index: u64,
        term_at: impl Fn(u64) -> Option<u64>,
    ) -> Verdict {
        let Some((index, committed_term)) = newest else {
            return Ok(());
        };
        // A leader of an older term may find out late that it leads.
        if committed_term > term || index < first_index.saturating_sub(1) {
            return Ok(());
        }
        match term_at(index) {
            Some(found) if found == committed_term => Ok(()),
            found => Err(format!(
                "leader completeness: {member} leads term {term} with {found:?} at {index}, \
                 where term {committed_term} is committed"
            )),
        }
    }
}
