//! Reading revisions, from any thread, while checkpoints are written.

use std::sync::Arc;

use bytes::Bytes;
use redb::{ReadOnlyTable, TableDefinition};

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
            scan_rows(database, 0, i64::MAX, &mut |row| {
                visit(row);
                true
            })
        })
    }

    fn with<R>(
        &self,
        read: impl FnOnce(&Database) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        // A full handle, not a borrowed one: a replaced database must not be closed under a reader.
        self.shared
            .attempt(|| read(&self.shared.current.load_full()))
    }
}

impl RevisionSource for Reader {
    fn record(&self, revision: Revision) -> Result<Option<Bytes>, StoreError> {
        self.with(|database| record_of(database, &open(database, RECORDS)?, revision))
    }

    fn records(&self, revisions: &[Revision]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.with(|database| {
            let table = open(database, RECORDS)?;
            let revisions = revisions.iter();
            revisions
                .map(|revision| record_of(database, &table, *revision))
                .collect()
        })
    }

    fn rows(&self, from: i64, to: i64, limit_rows: usize) -> Result<Vec<RevisionRow>, StoreError> {
        let mut rows: Vec<RevisionRow> = Vec::new();
        self.with(|database| {
            scan_rows(database, from, to, &mut |row| {
                let last = rows.last().map(|last| last.revision.main);
                let full = rows.len() >= limit_rows && last != Some(row.revision.main);
                if !full {
                    rows.push(row.to_row());
                }
                !full
            })
        })?;
        cut_to_whole_revisions(&mut rows, limit_rows);
        Ok(rows)
    }
}

/// Drops the last main revision where it went over the limit, unless it is the only one.
pub(super) fn cut_to_whole_revisions(rows: &mut Vec<RevisionRow>, limit_rows: usize) {
    if rows.len() <= limit_rows {
        return;
    }
    let last = rows.last().map(|row| row.revision.main);
    let whole = rows.partition_point(|row| Some(row.revision.main) < last);
    if whole > 0 {
        rows.truncate(whole);
    }
}

/// A table by revision, as of one commit.
pub(super) type RevisionTable = ReadOnlyTable<RevisionKey, &'static [u8]>;

fn open(
    database: &Database,
    table: TableDefinition<'static, RevisionKey, &'static [u8]>,
) -> Result<RevisionTable, StoreError> {
    database.read(|txn| Ok(txn.open_table(table)?))
}

/// Calls `visit` with the rows of the main revisions `from..to` until it answers false.
fn scan_rows(
    database: &Database,
    from: i64,
    to: i64,
    visit: &mut dyn FnMut(RowRef<'_>) -> bool,
) -> Result<(), StoreError> {
    if from >= to {
        return Ok(());
    }
    let [from, to] = [from, to].map(|main| revision_key(Revision::new(main.max(0), 0)));
    let entries = database.read(|txn| Ok(txn.open_table(ROWS)?.range(from..to)?))?;
    for entry in entries {
        let (key, value) = database.check(|| Ok(entry?))?;
        let row = decode_stored_row(database, revision_of(&key.value()), value.value())?;
        if !visit(row) {
            break;
        }
    }
    Ok(())
}

/// A row from the database's own bytes.
pub(super) fn decode_stored_row<'a>(
    database: &Database,
    revision: Revision,
    stored: &'a [u8],
) -> Result<RowRef<'a>, StoreError> {
    decode_row(revision, stored).ok_or_else(|| {
        let Revision { main, sub } = revision;
        let reason = format!("the row of revision {main}/{sub} has no meaning");
        StoreError::damaged(database.path(), None, reason)
    })
}

/// The record of a revision, its checksum verified.
pub(super) fn record_of(
    database: &Database,
    table: &RevisionTable,
    revision: Revision,
) -> Result<Option<Bytes>, StoreError> {
    let key = revision_key(revision);
    let Some(stored) = database.check(|| Ok(table.get(key)?))? else {
        return Ok(None);
    };
    let record = decode_record(&key, stored.value());
    let record = record.ok_or_else(|| damaged_record(database, revision))?;
    Ok(Some(Bytes::copy_from_slice(record)))
}

/// The error for a record that is missing or not what was written.
pub(super) fn damaged_record(database: &Database, revision: Revision) -> StoreError {
    StoreError::DamagedRecord {
        path: database.path().clone(),
        revision,
    }
}
