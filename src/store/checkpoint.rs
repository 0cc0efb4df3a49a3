//! One checkpoint as one transaction: sorted appends at the right edge, removals, and the other buckets.

use std::collections::BTreeMap;
use std::ops::Bound;

use redb::{Table, WriteTransaction};

use super::change::{Bucket, BucketWrite, Change, Checkpoint};
use super::schema::{
    BUCKETS, META_CONF_STATE, META_INDEX, META_TERM, RECORDS, REVISION_KEY_BYTES, ROWS,
    RevisionKey, bucket_key, encode_conf_state, encode_record, encode_row, revision_key,
};
use crate::types::Revision;

/// Content that came and went, in bytes of keys and values.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ContentBytes {
    pub(super) added: u64,
    pub(super) removed: u64,
}

impl ContentBytes {
    /// The size after this, of content that had `before` bytes.
    pub(super) fn after(self, before: u64) -> u64 {
        (before + self.added).saturating_sub(self.removed)
    }
}

/// Writes the effects of `checkpoint`; the caller commits. `removed` are its removed revisions, sorted.
pub(super) fn write_effects(
    txn: &WriteTransaction,
    checkpoint: &Checkpoint,
    removed: &[Revision],
    content: &mut ContentBytes,
) -> Result<(), redb::Error> {
    append(txn, kept(checkpoint, removed), content)?;
    remove(txn, removed, content)?;
    let mut writes = latest_writes(&checkpoint.buckets);
    let meta = [
        (META_INDEX, checkpoint.applied_index.to_be_bytes().to_vec()),
        (META_TERM, checkpoint.applied_term.to_be_bytes().to_vec()),
        (META_CONF_STATE, encode_conf_state(&checkpoint.conf_state)),
    ];
    for (key, value) in &meta {
        writes.insert(bucket_key(Bucket::Meta, key), Some(value));
    }
    write_buckets(txn, writes, content)
}

/// The changes that the checkpoint does not itself remove again.
fn kept<'a>(
    checkpoint: &'a Checkpoint,
    removed: &'a [Revision],
) -> impl Iterator<Item = &'a Change> {
    let changes = checkpoint.changes.iter().flat_map(|batch| batch.iter());
    changes.filter(|change| removed.binary_search(&change.row.revision).is_err())
}

fn append<'a>(
    txn: &WriteTransaction,
    changes: impl Iterator<Item = &'a Change>,
    content: &mut ContentBytes,
) -> Result<(), redb::Error> {
    let mut rows = txn.open_table(ROWS)?;
    let mut records = txn.open_table(RECORDS)?;
    let mut rows = rows.upper_bound_mut(Bound::<RevisionKey>::Unbounded)?;
    let mut records = records.upper_bound_mut(Bound::<RevisionKey>::Unbounded)?;
    let mut stored = Vec::new();
    for change in changes {
        let key = revision_key(change.row.revision);
        stored.clear();
        encode_row(&change.row, change.record.len(), &mut stored);
        rows.insert_before(key, stored.as_slice())?;
        content.added += (2 * REVISION_KEY_BYTES + stored.len()) as u64;
        stored.clear();
        encode_record(&key, &change.record, &mut stored);
        records.insert_before(key, stored.as_slice())?;
        content.added += stored.len() as u64;
    }
    rows.close()?;
    records.close()?;
    Ok(())
}

fn remove(
    txn: &WriteTransaction,
    removed: &[Revision],
    content: &mut ContentBytes,
) -> Result<(), redb::Error> {
    if removed.is_empty() {
        return Ok(());
    }
    for table in [ROWS, RECORDS] {
        let mut table = txn.open_table(table)?;
        for revision in removed {
            content.removed += remove_one(&mut table, *revision)?;
        }
    }
    Ok(())
}

/// Removes a revision from a table, if it is there; returns the bytes that went.
fn remove_one(
    table: &mut Table<'_, RevisionKey, &[u8]>,
    revision: Revision,
) -> Result<u64, redb::Error> {
    let old = table.remove(revision_key(revision))?;
    Ok(old.map_or(0, |old| (REVISION_KEY_BYTES + old.value().len()) as u64))
}

/// The last write to each row, in table order.
fn latest_writes(writes: &[BucketWrite]) -> BTreeMap<Vec<u8>, Option<&[u8]>> {
    let writes = writes.iter();
    writes
        .map(|write| (bucket_key(write.bucket, &write.key), write.value.as_deref()))
        .collect()
}

fn write_buckets(
    txn: &WriteTransaction,
    writes: BTreeMap<Vec<u8>, Option<impl AsRef<[u8]>>>,
    content: &mut ContentBytes,
) -> Result<(), redb::Error> {
    let mut table = txn.open_table(BUCKETS)?;
    for (key, value) in &writes {
        let key = key.as_slice();
        let old = match value {
            Some(value) => {
                content.added += (key.len() + value.as_ref().len()) as u64;
                table.insert(key, value.as_ref())?
            }
            None => table.remove(key)?,
        };
        content.removed += old.map_or(0, |old| (key.len() + old.value().len()) as u64);
    }
    Ok(())
}
