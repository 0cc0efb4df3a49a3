//! Clients see one history, in real time order.
//!
//! No search is needed, because every answer carries its witness, the revision:
//!
//! 1. The applied writes in log order are the history; each answer must be what the history says at its
//!    revision, and no request is in the history twice.
//! 2. What returned before an operation was called has no larger revision than it; for a write that
//!    changed something, a smaller one. What an operation saw was called before it returned.
//! 3. A write whose client gave up may be in the history or not; its value is unique, so the reads tell.

use std::collections::BTreeMap;

use super::Verdict;
use crate::client::{Answer, Operation};
use crate::machine::{Outcome, Request};
use crate::random::Micros;

#[derive(Default)]
pub(crate) struct Linearizable {
    /// Applied writes by index.
    history: BTreeMap<u64, (Request, Outcome)>,
    by_request: BTreeMap<u64, u64>,
    operations: Vec<Operation>,
}

impl Linearizable {
    /// Some member applies a request.
    pub(crate) fn applies(&mut self, index: u64, request: &Request, outcome: Outcome) -> Verdict {
        if let Some(&first) = self.by_request.get(&request.id)
            && first != index
        {
            return Err(format!(
                "linearizable: request {} is at {first} and at {index}",
                request.id
            ));
        }
        self.by_request.insert(request.id, index);
        let entry = (request.clone(), outcome);
        let known = self.history.entry(index).or_insert_with(|| entry.clone());
        if *known == entry {
            return Ok(());
        }
        Err(format!(
            "linearizable: entry {index} is applied as {entry:?} and as {known:?}"
        ))
    }

    /// An operation has ended, answered or given up.
    pub(crate) fn ends(&mut self, operation: Operation) {
        self.operations.push(operation);
    }

    pub(crate) fn len(&self) -> usize {
        self.operations
            .iter()
            .filter(|operation| operation.returned.is_some())
            .count()
    }

    /// After the run: judges every operation.
    pub(crate) fn check(&self) -> Verdict {
        self.check_answers()?;
        self.check_real_time()
    }

    fn check_answers(&self) -> Verdict {
        let mut values: BTreeMap<u64, Vec<(u64, Option<u64>)>> = BTreeMap::new();
        for (request, outcome) in self.history.values() {
            if outcome.has_changed {
                values
                    .entry(request.key)
                    .or_default()
                    .push((outcome.revision, request.value));
            }
        }
        let value_at = |key: u64, revision: u64| {
            let changes = values.get(&key).map_or(&[][..], Vec::as_slice);
            let at = changes.partition_point(|&(changed, _)| changed <= revision);
            at.checked_sub(1).and_then(|at| changes[at].1)
        };
        for operation in &self.operations {
            let Some((_, answer)) = operation.returned else {
                continue;
            };
            match answer {
                Answer::Wrote(outcome) => {
                    let applied = self.by_request.get(&operation.id);
                    let applied = applied.and_then(|index| self.history.get(index));
                    if applied.is_none_or(|(_, known)| *known != outcome) {
                        return Err(format!(
                            "linearizable: {operation:?} is acknowledged, but the history has {applied:?}"
                        ));
                    }
                }
                Answer::Read(seen) => {
                    let expected = value_at(operation.key, seen.revision);
                    if expected != seen.value {
                        return Err(format!(
                            "linearizable: {operation:?} should have seen {expected:?} at its revision"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    fn check_real_time(&self) -> Verdict {
        // Latest call among the writes up to each revision: those that gave up count as well.
        let called: BTreeMap<u64, Micros> = self
            .operations
            .iter()
            .map(|operation| (operation.id, operation.called))
            .collect();
        let mut latest_call = BTreeMap::new();
        let mut latest = 0;
        for (request, outcome) in self
            .history
            .values()
            .filter(|(_, outcome)| outcome.has_changed)
        {
            latest = latest.max(called.get(&request.id).copied().unwrap_or(0));
            latest_call.insert(outcome.revision, latest);
        }

        // In order of time; at equal times calls come before returns, which is the lenient reading.
        let mut moments = Vec::new();
        for (at, operation) in self.operations.iter().enumerate() {
            if let Some((returned, answer)) = operation.returned {
                moments.push((operation.called, false, at, answer));
                moments.push((returned, true, at, answer));
            }
        }
        moments.sort_by_key(|&(time, is_return, at, _)| (time, is_return, at));
        let mut newest_returned = (0, None);
        for (time, is_return, at, answer) in moments {
            let operation = &self.operations[at];
            let (revision, has_changed) = match answer {
                Answer::Wrote(outcome) => (outcome.revision, outcome.has_changed),
                Answer::Read(seen) => (seen.revision, false),
            };
            if is_return {
                if revision > newest_returned.0 {
                    newest_returned = (revision, Some(operation));
                }
                let seen = latest_call
                    .range(..=revision)
                    .next_back()
                    .map_or(0, |(_, &call)| call);
                if seen > time {
                    return Err(format!(
                        "linearizable: {operation:?} saw a write of the future"
                    ));
                }
            } else if revision < newest_returned.0 + u64::from(has_changed) {
                return Err(format!(
                    "linearizable: {operation:?} is older than {:?}, which had returned before",
                    newest_returned.1
                ));
            }
        }
        Ok(())
    }
}
