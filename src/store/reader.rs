//! Reading revisions, from any thread, while checkpoints are written.

use std::sync::Arc;

use bytes::Bytes;
use redb::TableDefinition;

use super::database::{Database, Shared};
use super::revisions::{RevisionTable, damaged_record, scan_rows};
use super::schema::{RECORDS, ROWS, RevisionKey, RowRef, decode_record, revision_key};
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
            let mains = 0..i64::MAX;
            scan_rows(database, &open(database, ROWS)?, mains, &mut |row| {
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

/// Wanted revisions that lie together are read by going from one to the next: these are so many main revisions apart
/// at most,
const NEARBY_MAINS: i64 = 4;
/// and so many at least, or each is looked up.
const NEARBY_RECORDS_MIN: usize = 8;
/// Records passed for each that is wanted before the rest is looked up after all: a main revision may have many.
const PASSED_MAX: usize = 8;

impl RevisionSource for Reader {
    fn record(&self, revision: Revision) -> Result<Option<Bytes>, StoreError> {
        self.with(|database| record_of(database, &open(database, RECORDS)?, revision))
    }

    fn records(&self, revisions: &[Revision]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.with(|database| {
            let table = open(database, RECORDS)?;
            let mut records = vec![None; revisions.len()];
            let mut order: Vec<usize> = (0..revisions.len()).collect();
            order.sort_unstable_by_key(|&at| revisions[at]);
            let nearby = |&one: &usize, &next: &usize| {
                revisions[next].main - revisions[one].main <= NEARBY_MAINS
            };
            for wanted in order.chunk_by(nearby) {
                let read = records_nearby(database, &table, revisions, wanted, &mut records)?;
                for &at in &wanted[read..] {
                    records[at] = record_of(database, &table, revisions[at])?;
                }
            }
            Ok(records)
        })
    }

    fn rows(&self, from: i64, to: i64, limit_rows: usize) -> Result<Vec<RevisionRow>, StoreError> {
        let mut rows: Vec<RevisionRow> = Vec::new();
        self.with(|database| {
            scan_rows(database, &open(database, ROWS)?, from..to, &mut |row| {
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

fn open(
    database: &Database,
    table: TableDefinition<'static, RevisionKey, &'static [u8]>,
) -> Result<RevisionTable, StoreError> {
    database.read(|txn| Ok(txn.open_table(table)?))
}

/// Reads the records of revisions that lie together, in their order; answers how many of `wanted` are done.
fn records_nearby(
    database: &Database,
    table: &RevisionTable,
    revisions: &[Revision],
    wanted: &[usize],
    records: &mut [Option<Bytes>],
) -> Result<usize, StoreError> {
    if wanted.len() < NEARBY_RECORDS_MIN {
        return Ok(0);
    }
    let from = revision_key(revisions[wanted[0]]);
    let mut stored = database.check(|| Ok(table.range(from..)?))?;
    let mut next = database.check(|| Ok(stored.next().transpose()?))?;
    let mut passed = 0;
    for (done, &at) in wanted.iter().enumerate() {
        let key = revision_key(revisions[at]);
        while let Some((of, _)) = &next
            && of.value() < key
        {
            passed += 1;
            if passed > PASSED_MAX * wanted.len() {
                return Ok(done);
            }
            next = database.check(|| Ok(stored.next().transpose()?))?;
        }
        if let Some((of, stored)) = &next
            && of.value() == key
        {
            records[at] = Some(verified(database, revisions[at], stored.value())?);
        }
    }
    Ok(wanted.len())
}

/// The record of a revision, its checksum verified.
fn record_of(
    database: &Database,
    table: &RevisionTable,
    revision: Revision,
) -> Result<Option<Bytes>, StoreError> {
    let key = revision_key(revision);
    let stored = database.check(|| Ok(table.get(key)?))?;
    stored
        .map(|stored| verified(database, revision, stored.value()))
        .transpose()
}

/// A record from its stored form.
fn verified(database: &Database, revision: Revision, stored: &[u8]) -> Result<Bytes, StoreError> {
    let record = decode_record(&revision_key(revision), stored);
    let record = record.ok_or_else(|| damaged_record(database, revision))?;
    Ok(Bytes::copy_from_slice(record))
}
