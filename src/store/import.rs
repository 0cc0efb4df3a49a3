//! A bbolt file, as etcd keeps or a snapshot has it, as a database of ours.

use std::collections::BTreeMap;

use prost::Message;

use super::checkpoint::Transaction;
use super::database::Database;
use super::frozen::KEY_BUCKET;
use super::place::Place;
use super::schema::bucket_key;
use super::successor::Successor;
use super::{Bucket, Checkpoint, RevisionRow, StoreError};
use crate::bbolt;
use crate::pb::KeyValueFields;
use crate::types::Revision;

/// Content imported in one transaction, in bytes. Tests want several.
const STEP_BYTES: u64 = if cfg!(test) { 2_000 } else { 8 << 20 };

/// What becomes different on the way.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    /// Buckets whose rows are left behind.
    pub without: Vec<Bucket>,
    /// Written on top, as if it came next, but that its applied index may be any. Without one, the file's own remains.
    pub then: Option<Checkpoint>,
}

/// Fills a database from `file` and puts it in place. Answers with the size of its content, too.
pub(super) fn import(
    place: &Place,
    cache_bytes: usize,
    file: &bbolt::File,
    edit: &Edit,
) -> Result<(Database, u64), StoreError> {
    let mut successor = Successor::begin(place, cache_bytes)?;
    if let Some(bucket) = file.find_bucket(KEY_BUCKET)? {
        let mut rows = file.rows(&bucket);
        while successor.step(|transaction| import_revisions(transaction, &mut rows))? {}
    }
    let mut writes = BTreeMap::new();
    for bucket in Bucket::ALL {
        if edit.without.contains(&bucket) {
            continue;
        }
        let Some(found) = file.find_bucket(bucket.name())? else {
            continue;
        };
        let mut rows = file.rows(&found);
        while let Some((key, value)) = rows.next()? {
            writes.insert(bucket_key(bucket, key), value.to_vec());
        }
    }
    successor.finish(|transaction| {
        let writes = writes.iter();
        transaction.write_buckets(
            writes
                .map(|(key, value)| (key.clone(), Some(value.as_slice())))
                .collect(),
        )?;
        match &edit.then {
            Some(checkpoint) => transaction.write(checkpoint),
            None => Ok(()),
        }
    })
}

/// Imports a step's worth; false at the end.
fn import_revisions(
    transaction: &mut Transaction<'_>,
    rows: &mut bbolt::Rows<'_>,
) -> Result<bool, StoreError> {
    transaction.append(|appender| {
        while appender.appended_bytes() < STEP_BYTES {
            let Some((key, record)) = rows.next()? else {
                return Ok(false);
            };
            let row = row_of(key, record).ok_or_else(|| StoreError::ImportRow(hex::encode(key)))?;
            appender.push_row(&row, record)?;
        }
        Ok(true)
    })
}

/// What a record of the `key` bucket says, but for its value.
pub(super) fn row_of(key: &[u8], record: &[u8]) -> Option<RevisionRow> {
    let (revision, tombstone) = Revision::from_key(key)?;
    if revision.main < 0 || revision.sub < 0 {
        return None;
    }
    let fields = KeyValueFields::decode(record).ok()?;
    let mut row = RevisionRow {
        revision,
        tombstone,
        key: fields.key,
        create_revision: 0,
        version: 0,
        lease: 0,
        record_bytes: u32::try_from(record.len()).ok()?,
    };
    if !tombstone {
        row.create_revision = fields.create_revision;
        row.version = fields.version;
        row.lease = fields.lease;
    }
    Some(row)
}
