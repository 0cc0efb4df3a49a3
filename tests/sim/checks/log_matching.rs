//! Two logs that have an entry of the same index and term have the same entry, and the same before it.

use std::collections::BTreeMap;

use etcd::raft::eraftpb::{Entry, Message, MessageType};

use super::{Verdict, fingerprint};

#[derive(Default)]
pub(crate) struct LogMatching {
    /// By index and term: what it holds, and the term before it.
    entries: BTreeMap<(u64, u64), (u64, Option<u64>)>,
}

impl LogMatching {
    /// A leader tells others of its entries, durable with itself or not.
    pub(crate) fn sends(&mut self, message: &Message) -> Verdict {
        if message.get_msg_type() != MessageType::MsgAppend {
            return Ok(());
        }
        let before = (message.index > 0).then_some(message.log_term);
        self.holds(message.from, before, &message.entries)
    }

    /// A member has entries after one of term `term_before`, if that is still known.
    pub(crate) fn holds(
        &mut self,
        member: u64,
        term_before: Option<u64>,
        entries: &[Entry],
    ) -> Verdict {
        let mut term_before = term_before;
        for entry in entries {
            let place = (entry.index, entry.term);
            let (print, before) = *self
                .entries
                .entry(place)
                .or_insert((fingerprint(entry), term_before));
            if print != fingerprint(entry) {
                return Err(format!(
                    "log matching: {member} has another entry {}/{} than somebody before",
                    entry.index, entry.term
                ));
            }
            if let (Some(theirs), Some(ours)) = (before, term_before)
                && theirs != ours
            {
                return Err(format!(
                    "log matching: {member} has {}/{} after one of term {ours}, others after {theirs}",
                    entry.index, entry.term
                ));
            }
            term_before = Some(entry.term);
        }
        Ok(())
    }
}
