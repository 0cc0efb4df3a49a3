//! All state as of one checkpoint, for hashes and snapshots.

use std::io::{self, Write};
use std::sync::Arc;

use redb::ReadOnlyTable;

use super::database::Database;
use super::revisions::{Revisions, row_of};
use super::schema::{
    BUCKETS, META_INDEX, META_STORAGE_VERSION, META_TERM, RowRef, bucket_key, bucket_number,
    revision_key, revision_of,
};
use super::{Bucket, StoreError};
use crate::bbolt::{Layout, RowVisitor, SizeVisitor, Source, WriteError};
use crate::types::Revision;

/// Name of the bucket of revisions, the one that is not a [`Bucket`].
pub(super) const KEY_BUCKET: &str = "key";
/// What follows the revision in the key of a tombstone.
const TOMBSTONE_MARK: u8 = b't';

/// All state as of the last checkpoint when it was made, however long it is kept.
///
/// What later checkpoints free stays on the disk meanwhile, so it should not be kept for long.
pub struct Frozen {
    revisions: Revisions,
    buckets: ReadOnlyTable<&'static [u8], &'static [u8]>,
    applied_index: u64,
    applied_term: u64,
    /// Last, so that it is dropped after the tables.
    database: Arc<Database>,
}

impl Frozen {
    pub(super) fn new(database: Arc<Database>) -> Result<Self, StoreError> {
        let txn = database.begin_read()?;
        let mut frozen = Self {
            revisions: Revisions::open(&database, &txn)?,
            buckets: database.check(|| Ok(txn.open_table(BUCKETS)?))?,
            applied_index: 0,
            applied_term: 0,
            database,
        };
        frozen.applied_index = frozen.meta_number(META_INDEX)?;
        frozen.applied_term = frozen.meta_number(META_TERM)?;
        Ok(frozen)
    }

    fn meta_number(&self, key: &[u8]) -> Result<u64, StoreError> {
        let key = bucket_key(Bucket::Meta, key);
        let stored = self
            .database
            .check(|| Ok(self.buckets.get(key.as_slice())?))?;
        Ok(stored.map_or(0, |stored| {
            stored.value().try_into().map_or(0, u64::from_be_bytes)
        }))
    }

    /// The last applied entry of this state.
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// Its term.
    pub fn applied_term(&self) -> u64 {
        self.applied_term
    }

    /// Plans a snapshot: a bbolt file, whose size is known from here on. Reads no records.
    pub fn snapshot(&self) -> Result<Snapshot<'_>, WriteError<StoreError>> {
        Ok(Snapshot {
            frozen: self,
            layout: Layout::plan(self)?,
        })
    }

    /// The checksum that Maintenance.Hash answers: CRC32C over each bucket's name and then its keys and values, but for what
    /// differs between members by right.
    pub fn hash(&self) -> Result<u32, StoreError> {
        let mut hash = 0;
        for bucket in self.buckets() {
            hash = crc32c::crc32c_append(hash, bucket.as_bytes());
            self.visit(bucket, &mut |key, value| {
                if bucket != Bucket::Meta.name() || !is_member_specific(key) {
                    hash = crc32c::crc32c_append(hash, key);
                    hash = crc32c::crc32c_append(hash, value);
                }
                Ok(())
            })?
            .unwrap_or_default();
        }
        Ok(hash)
    }

    fn visit(&self, bucket: &str, row: &mut RowVisitor<'_>) -> Result<io::Result<()>, StoreError> {
        match Bucket::ALL.into_iter().find(|known| known.name() == bucket) {
            Some(bucket) => self.visit_bucket(bucket, row),
            None => self.visit_revisions(row),
        }
    }

    fn visit_bucket(
        &self,
        bucket: Bucket,
        row: &mut RowVisitor<'_>,
    ) -> Result<io::Result<()>, StoreError> {
        let number = bucket_number(bucket);
        let (from, to) = ([number], [number + 1]);
        let range = from.as_slice()..to.as_slice();
        let entries = self.database.check(|| Ok(self.buckets.range(range)?))?;
        for entry in entries {
            let (key, value) = self.database.check(|| Ok(entry?))?;
            let key = key.value().get(1..).unwrap_or_default();
            if let Err(error) = row(key, value.value()) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    fn visit_revisions(&self, row: &mut RowVisitor<'_>) -> Result<io::Result<()>, StoreError> {
        let mut stopped = Ok(());
        let begin = revision_key(Revision::default());
        self.revisions.scan(&self.database, begin, &mut |stored| {
            let revision = revision_of(&stored.key);
            let decoded = row_of(&self.database, revision, stored.row)?;
            stopped = row(bucket_row_key(&decoded).as_bytes(), stored.record);
            Ok(stopped.is_ok())
        })?;
        Ok(stopped)
    }
}

/// A revision's key in etcd's `key` bucket.
struct BucketRowKey {
    bytes: [u8; Revision::KEY_BYTES + 1],
    length: usize,
}

impl BucketRowKey {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

fn bucket_row_key(row: &RowRef<'_>) -> BucketRowKey {
    let mut bytes = [TOMBSTONE_MARK; Revision::KEY_BYTES + 1];
    bytes[..Revision::KEY_BYTES].copy_from_slice(&row.revision.to_key());
    BucketRowKey {
        bytes,
        length: Revision::KEY_BYTES + usize::from(row.tombstone),
    }
}

/// Rows of the meta bucket that are not the same on every member.
fn is_member_specific(key: &[u8]) -> bool {
    [META_INDEX, META_TERM, META_STORAGE_VERSION].contains(&key)
}

impl Source for Frozen {
    type Error = StoreError;

    fn buckets(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Bucket::ALL.iter().map(|bucket| bucket.name()).collect();
        names.push(KEY_BUCKET);
        names.sort_unstable();
        names
    }

    fn sizes(&self, bucket: &str, row: &mut SizeVisitor<'_>) -> Result<(), StoreError> {
        if bucket == KEY_BUCKET {
            return self.revisions.scan_rows(&self.database, &mut |stored| {
                row(
                    bucket_row_key(&stored).as_bytes(),
                    stored.record_bytes as usize,
                );
            });
        }
        let visited = self.visit(bucket, &mut |key, value| {
            row(key, value.len());
            Ok(())
        })?;
        visited.map_err(|error| StoreError::io(self.database.path(), error))
    }

    fn rows(&self, bucket: &str, row: &mut RowVisitor<'_>) -> Result<io::Result<()>, StoreError> {
        self.visit(bucket, row)
    }
}

/// A snapshot that is planned.
pub struct Snapshot<'a> {
    frozen: &'a Frozen,
    layout: Layout,
}

impl Snapshot<'_> {
    /// Its exact size, without a checksum behind it.
    pub fn file_bytes(&self) -> u64 {
        self.layout.file_bytes()
    }

    /// Writes it, front to back. Takes as long as `out` and the disk do: not for an async task.
    pub fn write(&self, out: &mut dyn Write) -> Result<(), WriteError<StoreError>> {
        self.layout.write(self.frozen, out)
    }
}
