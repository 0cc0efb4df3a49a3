//! Changes of the past, for watchers that start there or fell behind.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::MvccError;
use super::keys::KeyRef;
use super::range::KeyRange;
use super::record::fields;
use super::view::View;
use crate::store::RevisionRow;
use crate::types::Revision;

/// Revisions that are collected from the index at most. If a range has more, all rows are scanned instead,
/// in order, which costs the same whatever the range but needs no sorting.
const INDEX_REVISIONS_MAX: usize = if cfg!(test) { 8 } else { 4096 };

/// One change that was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastChange {
    /// Revision, key and numbers.
    pub row: RevisionRow,
    /// The stored record of a put; empty for a deletion.
    pub record: Bytes,
}

/// Some changes that were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In order of history, whole main revisions.
    pub changes: Vec<PastChange>,
    /// The first main revision that was not looked at: where to go on.
    pub next: i64,
}

impl View {
    /// The changes of a range's keys at main revisions from `from` to the view's, in order; no more than about
    /// `changes_max`, or fewer when many others lie between. Until `next` is above the view's revision there may
    /// be more.
    ///
    /// Fails with [`MvccError::Compacted`] if some may be missing.
    pub fn changes(
        &self,
        range: &KeyRange<'_>,
        from: i64,
        changes_max: usize,
    ) -> Result<Changes, MvccError> {
        if from < self.compact_revision {
            return Err(MvccError::Compacted);
        }
        match self.indexed_revisions(range, from) {
            Some(revisions) => self.read_index(revisions, changes_max.max(1)),
            None => self.read_rows(range, from, changes_max.max(1)),
        }
    }

    /// Revisions of a range's keys at or above `from`, if they are not too many.
    fn indexed_revisions(
        &self,
        range: &KeyRange<'_>,
        from: i64,
    ) -> Option<Vec<(Revision, bool, KeyRef<'_>)>> {
        let mut revisions = Vec::new();
        let full = self.tree.walk_changed(range, from, |leaf, at| {
            let key = leaf.keys().get(at);
            let end = leaf.revisions(at, |revision, tombstone| {
                if revision.main < from {
                    return ControlFlow::Break(false);
                }
                revisions.push((revision, tombstone, key));
                match revisions.len() {
                    INDEX_REVISIONS_MAX.. => ControlFlow::Break(true),
                    _ => ControlFlow::Continue(()),
                }
            });
            match end {
                ControlFlow::Break(true) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
        full.is_continue().then_some(revisions)
    }

    fn read_index(
        &self,
        mut revisions: Vec<(Revision, bool, KeyRef<'_>)>,
        changes_max: usize,
    ) -> Result<Changes, MvccError> {
        revisions.sort_unstable_by_key(|one| one.0);
        let next = cut(&mut revisions, changes_max, |one| one.0.main);
        let rows = revisions.into_iter().map(|(revision, tombstone, key)| {
            (
                RevisionRow {
                    revision,
                    tombstone,
                    key: key.to_bytes(),
                    create_revision: 0,
                    version: 0,
                    lease: 0,
                    record_bytes: 0,
                },
                true,
            )
        });
        Ok(Changes {
            changes: self.with_records(rows)?,
            next: next.unwrap_or(self.revision + 1),
        })
    }

    fn read_rows(
        &self,
        range: &KeyRange<'_>,
        from: i64,
        rows_max: usize,
    ) -> Result<Changes, MvccError> {
        let rows = self.values.rows(from, self.revision + 1, rows_max)?;
        let next = match rows.last() {
            Some(last) => last.revision.main + 1,
            None => self.revision + 1,
        };
        let matching = rows.into_iter().filter(|row| range.contains(&row.key));
        let changes = self.with_records(matching.map(|row| (row, false)))?;
        if self.values.pruned_revision() > from {
            return Err(MvccError::Compacted);
        }
        Ok(Changes { changes, next })
    }

    /// Adds the records, and from them the numbers of rows that come without.
    fn with_records(
        &self,
        rows: impl Iterator<Item = (RevisionRow, bool)>,
    ) -> Result<Vec<PastChange>, MvccError> {
        let rows: Vec<_> = rows.collect();
        let puts = rows.iter().filter(|(row, _)| !row.tombstone);
        let revisions: Vec<_> = puts.map(|(row, _)| row.revision).collect();
        let mut records = self.values.records(&revisions, false)?.into_iter();
        let changes = rows.into_iter().map(|(mut row, numberless)| {
            if row.tombstone {
                let record = Bytes::new();
                return Ok(PastChange { row, record });
            }
            let record = records.next().flatten().ok_or(MvccError::Compacted)?;
            if numberless {
                let fields = fields(row.revision, &record)?;
                row.create_revision = fields.create_revision;
                row.version = fields.version;
                row.lease = fields.lease;
                row.record_bytes = record.len() as u32;
            }
            Ok(PastChange { row, record })
        });
        changes.collect()
    }
}

/// Shortens a list to `max` items or the first main revision, whatever is more, and returns the main revision
/// that is then cut off.
fn cut<T>(items: &mut Vec<T>, max: usize, main: impl Fn(&T) -> i64) -> Option<i64> {
    let over = main(items.get(max)?);
    let mut end = items.partition_point(|item| main(item) < over);
    if end == 0 {
        end = items.partition_point(|item| main(item) <= over);
    }
    let next = items.get(end).map(&main);
    items.truncate(end);
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_never_parts_a_main_revision() {
        let cases: [(&[i64], usize, &[i64], Option<i64>); 5] = [
            (&[2, 3, 4], 5, &[2, 3, 4], None),
            (&[2, 3, 4], 2, &[2, 3], Some(4)),
            (&[2, 3, 3, 4], 2, &[2], Some(3)),
            (&[2, 2, 2, 4], 2, &[2, 2, 2], Some(4)),
            (&[2, 2, 2], 2, &[2, 2, 2], None),
        ];
        for (mains, max, left, next) in cases {
            let mut items = mains.to_vec();
            assert_eq!(cut(&mut items, max, |main| *main), next);
            assert_eq!(items, left);
        }
    }
}
