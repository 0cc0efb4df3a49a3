//! One checkpoint as one transaction: sorted appends at the right edge, removals, and the other buckets.

use std::collections::BTreeMap;
use std::ops::Bound;

use redb::{CursorMut, Table, WriteTransaction};

use super::StoreError;
use super::change::{Bucket, BucketWrite, Change, Checkpoint};
use super::database::Database;
use super::schema::{
    ABOUT, ABOUT_CONTENT_BYTES, BUCKETS, META_CONF_STATE, META_INDEX, META_TERM, RECORDS,
    REVISION_KEY_BYTES, ROWS, RevisionKey, bucket_key, encode_conf_state, encode_record,
    encode_row, revision_key,
};
use crate::types::Revision;

/// Bytes appended in one run. The database keeps a run in memory until it ends, besides its pages.
const RUN_BYTES: u64 = 64 * 1024;

/// A transaction, and what it does to the size of the content.
pub(super) struct Transaction<'a> {
    database: &'a Database,
    txn: WriteTransaction,
    content_bytes: u64,
}

impl<'a> Transaction<'a> {
    /// Begins a transaction that is durable once committed. The content has `content_bytes`.
    pub(super) fn begin(database: &'a Database, content_bytes: u64) -> Result<Self, StoreError> {
        Ok(Self {
            database,
            txn: database.begin_write()?,
            content_bytes,
        })
    }

    /// Begins one that need not outlive a crash.
    pub(super) fn begin_draft(
        database: &'a Database,
        content_bytes: u64,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            database,
            txn: database.begin_draft()?,
            content_bytes,
        })
    }

    /// Ends it; answers the size of the content.
    pub(super) fn commit(self) -> Result<u64, StoreError> {
        let content_bytes = self.content_bytes;
        self.database.check(|| {
            let mut about = self.txn.open_table(ABOUT)?;
            about.insert(ABOUT_CONTENT_BYTES, content_bytes)?;
            Ok(())
        })?;
        self.database.commit(self.txn)?;
        Ok(content_bytes)
    }

    /// Writes the effects of a checkpoint.
    pub(super) fn write(&mut self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let mut removed = checkpoint.removed.clone();
        removed.sort_unstable();
        let changes = checkpoint.changes.iter().flat_map(|batch| batch.iter());
        // What is removed again by the same checkpoint is never written.
        let kept = changes.filter(|change| removed.binary_search(&change.row.revision).is_err());
        let mut kept = kept.peekable();
        while kept.peek().is_some() {
            self.append(|appender| appender.push_changes(&mut kept))?;
        }
        self.remove(&removed)?;
        let mut writes = latest_writes(&checkpoint.buckets);
        let meta = [
            (META_INDEX, checkpoint.applied_index.to_be_bytes().to_vec()),
            (META_TERM, checkpoint.applied_term.to_be_bytes().to_vec()),
            (META_CONF_STATE, encode_conf_state(&checkpoint.conf_state)),
        ];
        for (key, value) in &meta {
            writes.insert(bucket_key(Bucket::Meta, key), Some(value));
        }
        self.write_buckets(writes)
    }

    /// Appends the revisions that `fill` comes up with, all of them newer than what is there.
    pub(super) fn append<R>(
        &mut self,
        fill: impl FnOnce(&mut Appender<'_>) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let database = self.database;
        let (mut rows, mut records) =
            database.check(|| Ok((self.txn.open_table(ROWS)?, self.txn.open_table(RECORDS)?)))?;
        let end = Bound::<RevisionKey>::Unbounded;
        let (rows, records) =
            database.check(|| Ok((rows.upper_bound_mut(end)?, records.upper_bound_mut(end)?)))?;
        let mut appender = Appender {
            database,
            rows,
            records,
            row: Vec::new(),
            record: Vec::new(),
            appended_bytes: 0,
        };
        let filled = fill(&mut appender)?;
        self.content_bytes += appender.appended_bytes;
        database.check(|| {
            appender.rows.close()?;
            appender.records.close()?;
            Ok(())
        })?;
        Ok(filled)
    }

    /// Removes revisions, which are sorted; not having them is no error.
    pub(super) fn remove(&mut self, removed: &[Revision]) -> Result<(), StoreError> {
        if removed.is_empty() {
            return Ok(());
        }
        let mut bytes = 0;
        self.database.check(|| {
            for table in [ROWS, RECORDS] {
                let mut table = self.txn.open_table(table)?;
                for revision in removed {
                    bytes += remove_one(&mut table, *revision)?;
                }
            }
            Ok(())
        })?;
        self.content_bytes = self.content_bytes.saturating_sub(bytes);
        Ok(())
    }

    /// Writes rows of the other buckets by their full keys.
    pub(super) fn write_buckets(
        &mut self,
        writes: BTreeMap<Vec<u8>, Option<&[u8]>>,
    ) -> Result<(), StoreError> {
        let (mut added, mut removed) = (0, 0);
        self.database.check(|| {
            let mut table = self.txn.open_table(BUCKETS)?;
            for (key, value) in &writes {
                let key = key.as_slice();
                let old = match value {
                    Some(value) => {
                        added += (key.len() + value.len()) as u64;
                        table.insert(key, *value)?
                    }
                    None => table.remove(key)?,
                };
                removed += old.map_or(0, |old| (key.len() + old.value().len()) as u64);
            }
            Ok(())
        })?;
        self.content_bytes = (self.content_bytes + added).saturating_sub(removed);
        Ok(())
    }
}

/// The right edge of both tables of revisions.
pub(super) struct Appender<'a> {
    database: &'a Database,
    rows: CursorMut<'a, RevisionKey, &'static [u8]>,
    records: CursorMut<'a, RevisionKey, &'static [u8]>,
    row: Vec<u8>,
    record: Vec<u8>,
    appended_bytes: u64,
}

impl Appender<'_> {
    /// Bytes appended so far.
    pub(super) fn appended_bytes(&self) -> u64 {
        self.appended_bytes
    }

    /// Appends a revision in stored form.
    pub(super) fn push(
        &mut self,
        key: RevisionKey,
        row: &[u8],
        record: &[u8],
    ) -> Result<(), StoreError> {
        self.database.check(|| {
            self.rows.insert_before(key, row)?;
            self.records.insert_before(key, record)?;
            Ok(())
        })?;
        self.appended_bytes += (2 * REVISION_KEY_BYTES + row.len() + record.len()) as u64;
        Ok(())
    }

    /// Appends changes until the run is long enough.
    fn push_changes<'a>(
        &mut self,
        changes: &mut impl Iterator<Item = &'a Change>,
    ) -> Result<(), StoreError> {
        while self.appended_bytes < RUN_BYTES {
            let Some(Change { row, record, .. }) = changes.next() else {
                break;
            };
            self.push_row(row, record)?;
        }
        Ok(())
    }

    /// Appends a revision.
    pub(super) fn push_row(
        &mut self,
        row: &super::RevisionRow,
        record: &[u8],
    ) -> Result<(), StoreError> {
        let key = revision_key(row.revision);
        let mut encoded = (
            std::mem::take(&mut self.row),
            std::mem::take(&mut self.record),
        );
        encoded.0.clear();
        encode_row(row, record.len(), &mut encoded.0);
        encoded.1.clear();
        encode_record(&key, record, &mut encoded.1);
        let pushed = self.push(key, &encoded.0, &encoded.1);
        (self.row, self.record) = encoded;
        pushed
    }
}

/// Removes a revision from a table, if it is there; returns the bytes that went.
fn remove_one(
    table: &mut Table<'_, RevisionKey, &'static [u8]>,
    revision: Revision,
) -> Result<u64, redb::Error> {
    let old = table.remove(revision_key(revision))?;
    Ok(old.map_or(0, |old| (REVISION_KEY_BYTES + old.value().len()) as u64))
}

/// The last write to each row, by its full key.
pub(super) fn latest_writes(writes: &[BucketWrite]) -> BTreeMap<Vec<u8>, Option<&[u8]>> {
    let writes = writes.iter();
    writes
        .map(|write| (bucket_key(write.bucket, &write.key), write.value.as_deref()))
        .collect()
}
