//! Reading revisions, from any thread, while checkpoints are written.

use std::sync::Arc;

use bytes::Bytes;
use redb::ReadOnlyTable;

use super::database::{Database, Shared};
use super::schema::{
    RECORDS, ROWS, RevisionKey, RowRef, decode_record, decode_row, revision_key, revision_of,
};
use super::{RevisionRow, RevisionSource, StoreError};
use crate::types::Revision;

/// Reads what the last checkpoint left. Cheap to clone.
///
/// Every call looks at the newest checkpoint and lets go of it before it returns, so readers never hold
/// back the space that newer checkpoints free.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Calls `visit` with every row in revision order. Records are not read: a million rows take a tenth of a
    /// second.
    pub fn scan_rows(&self, visit: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        self.with(|database| {
            let table = open(database, ROWS)?;
            scan_rows(database, &table, 0, i64::MAX, &mut |row| {
                visit(row);
                Ok(true)
            })
        })
    }

    /// The records of several revisions, `None` for those that compaction removed.
    pub fn records(&self, revisions: &[Revision]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.with(|database| {
            let table = open(database, RECORDS)?;
            let revisions = revisions.iter();
            revisions
                .map(|revision| record(database, &table, *revision))
                .collect()
        })
    }

    fn with<R>(
        &self,
        read: impl FnOnce(&Database) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        self.shared.attempt(|| read(&self.shared.current.load()))
    }
}

impl RevisionSource for Reader {
    fn record(&self, revision: Revision) -> Result<Option<Bytes>, StoreError> {
        self.with(|database| record(database, &open(database, RECORDS)?, revision))
    }

    fn rows(&self, from: i64, to: i64, limit_rows: usize) -> Result<Vec<RevisionRow>, StoreError> {
        let mut rows: Vec<RevisionRow> = Vec::new();
        self.with(|database| {
            let table = open(database, ROWS)?;
            scan_rows(database, &table, from, to, &mut |row| {
                if rows.len() >= limit_rows
                    && rows.last().map(|last| last.revision.main) != Some(row.revision.main)
                {
                    return Ok(false);
                }
                rows.push(row.to_row());
                Ok(true)
            })
        })?;
        cut_to_whole_revisions(&mut rows, limit_rows);
        Ok(rows)
    }
}

/// Drops the last main revision where it went over the limit, unless it is the only one.
fn cut_to_whole_revisions(rows: &mut Vec<RevisionRow>, limit_rows: usize) {
    if rows.len() <= limit_rows {
        return;
    }
    let last = rows.last().map(|row| row.revision.main);
    let whole = rows.partition_point(|row| Some(row.revision.main) < last);
    if whole > 0 {
        rows.truncate(whole);
    }
}

/// A table of either kind of revision content.
pub(super) type RevisionTable = ReadOnlyTable<RevisionKey, &'static [u8]>;

fn open(
    database: &Database,
    table: redb::TableDefinition<'static, RevisionKey, &'static [u8]>,
) -> Result<RevisionTable, StoreError> {
    database.read(|txn| Ok(txn.open_table(table)?))
}

/// Calls `visit` with the rows of the main revisions `from..to` until it answers false.
pub(super) fn scan_rows(
    database: &Database,
    table: &RevisionTable,
    from: i64,
    to: i64,
    visit: &mut dyn FnMut(RowRef<'_>) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    if from >= to {
        return Ok(());
    }
    let [from, to] = [from, to].map(|main| revision_key(Revision::new(main.max(0), 0)));
    let entries = database.check(|| Ok(table.range(from..to)?))?;
    for entry in entries {
        let (key, value) = database.check(|| Ok(entry?))?;
        let revision = revision_of(&key.value());
        let row = decode_row(revision, value.value()).ok_or_else(|| {
            let reason = format!(
                "the row of revision {}/{} has no meaning",
                revision.main, revision.sub
            );
            StoreError::damaged(database.path(), None, reason)
        })?;
        if !visit(row)? {
            break;
        }
    }
    Ok(())
}

/// The record of a revision, its checksum verified.
pub(super) fn record(
    database: &Database,
    table: &RevisionTable,
    revision: Revision,
) -> Result<Option<Bytes>, StoreError> {
    let key = revision_key(revision);
    let Some(stored) = database.check(|| Ok(table.get(key)?))? else {
        return Ok(None);
    };
    let record = decode_record(&key, stored.value()).ok_or_else(|| StoreError::DamagedRecord {
        path: database.path().clone(),
        revision,
    })?;
    Ok(Some(Bytes::copy_from_slice(record)))
}
