//! Both tables of revisions as of one commit, read side by side.

use redb::{ReadOnlyTable, ReadTransaction};

use super::StoreError;
use super::database::Database;
use super::schema::{
    RECORDS, ROWS, RevisionKey, RowRef, decode_record, decode_row, revision_key, revision_of,
};
use crate::types::Revision;

/// A table by revision.
pub(super) type RevisionTable = ReadOnlyTable<RevisionKey, &'static [u8]>;

/// The tables; they keep their commit alive.
pub(super) struct Revisions {
    rows: RevisionTable,
    records: RevisionTable,
}

/// A revision as it is stored.
#[derive(Clone, Copy)]
pub(super) struct StoredRevision<'a> {
    pub(super) key: RevisionKey,
    /// In stored form.
    pub(super) row: &'a [u8],
    /// In stored form.
    pub(super) stored_record: &'a [u8],
    /// Without what is stored with it.
    pub(super) record: &'a [u8],
}

impl Revisions {
    /// As of the commit that `txn` looks at.
    pub(super) fn open(database: &Database, txn: &ReadTransaction) -> Result<Self, StoreError> {
        database.check(|| {
            Ok(Self {
                rows: txn.open_table(ROWS)?,
                records: txn.open_table(RECORDS)?,
            })
        })
    }

    /// Calls `visit` with each revision from `from` on until it answers false.
    pub(super) fn scan(
        &self,
        database: &Database,
        from: RevisionKey,
        visit: &mut dyn FnMut(StoredRevision<'_>) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let (rows, mut records) =
            database.check(|| Ok((self.rows.range(from..)?, self.records.range(from..)?)))?;
        for row in rows {
            let (key, row) = database.check(|| Ok(row?))?;
            let key = key.value();
            let record = database.check(|| Ok(records.next().transpose()?))?;
            let stored = record.as_ref().filter(|(of, _)| of.value() == key);
            let stored = stored.and_then(|(_, stored)| {
                let stored_record = stored.value();
                let record = decode_record(&key, stored_record)?;
                Some(StoredRevision {
                    key,
                    row: row.value(),
                    stored_record,
                    record,
                })
            });
            let stored = stored.ok_or_else(|| damaged_record(database, revision_of(&key)))?;
            if !visit(stored)? {
                break;
            }
        }
        Ok(())
    }

    /// Calls `visit` with each row. Reads no records.
    pub(super) fn scan_rows(
        &self,
        database: &Database,
        visit: &mut dyn FnMut(RowRef<'_>),
    ) -> Result<(), StoreError> {
        scan_rows(database, &self.rows, 0..i64::MAX, &mut |row| {
            visit(row);
            true
        })
    }
}

/// Calls `visit` with the rows of a range of main revisions until it answers false.
pub(super) fn scan_rows(
    database: &Database,
    rows: &RevisionTable,
    mains: std::ops::Range<i64>,
    visit: &mut dyn FnMut(RowRef<'_>) -> bool,
) -> Result<(), StoreError> {
    if mains.is_empty() {
        return Ok(());
    }
    let edge = |main: i64| revision_key(Revision::new(main.max(0), 0));
    let range = edge(mains.start)..edge(mains.end);
    for entry in database.check(|| Ok(rows.range(range)?))? {
        let (key, row) = database.check(|| Ok(entry?))?;
        if !visit(row_of(database, revision_of(&key.value()), row.value())?) {
            break;
        }
    }
    Ok(())
}

/// A row from the database's own bytes.
pub(super) fn row_of<'a>(
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

/// The error for a record that is missing or not what was written.
pub(super) fn damaged_record(database: &Database, revision: Revision) -> StoreError {
    StoreError::DamagedRecord {
        path: database.path().clone(),
        revision,
    }
}
