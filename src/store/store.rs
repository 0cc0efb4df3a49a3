//! The one writer: opens the database, writes checkpoints, hands out readers.

use std::sync::Arc;

use bytes::Bytes;
use redb::{ReadTransaction, ReadableTable};

use super::checkpoint::{ContentBytes, write_effects};
use super::database::{Database, FILE, NEW_FILE, Shared};
use super::schema::{
    ABOUT, ABOUT_CONTENT_BYTES, BUCKETS, META_CONF_STATE, META_FINISHED_COMPACT, META_INDEX,
    META_SCHEDULED_COMPACT, META_TERM, ROWS, decode_conf_state, revision_of, split_bucket_key,
};
use super::{Bucket, Checkpoint, Directory, Reader, StoreError};
use crate::pb::raftpb::ConfState;
use crate::types::Revision;

/// How much memory the database may take.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Most bytes of pages in memory; half of them may wait to be written.
    pub cache_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes_max: 64 << 20,
        }
    }
}

/// What the last checkpoint left, but for the revisions.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The last applied entry; 0 for none.
    pub applied_index: u64,
    /// Its term.
    pub applied_term: u64,
    /// Who votes and learns after it.
    pub conf_state: ConfState,
    /// Every row of every bucket besides `key`, in order of bucket names and keys.
    pub buckets: Vec<BucketRow>,
    /// The revision that compaction was last asked for. Beyond the finished one, compaction must go on.
    pub scheduled_compact: Option<i64>,
    /// The revision up to which compaction is complete.
    pub finished_compact: Option<i64>,
    /// The newest stored revision.
    pub last_revision: Option<Revision>,
}

impl Loaded {
    /// The main revision the store is at: the newest there is a trace of, at least 1.
    pub fn current_revision(&self) -> i64 {
        let last = self.last_revision.map_or(1, |revision| revision.main);
        let compacted = self.finished_compact.max(self.scheduled_compact);
        last.max(compacted.unwrap_or(1)).max(1)
    }
}

/// A row of a bucket besides `key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketRow {
    /// Where.
    pub bucket: Bucket,
    /// Its key in the bucket.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
}

/// What writing a checkpoint took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written {
    /// Bytes written to the file.
    pub bytes: u64,
    /// Calls of `fdatasync`.
    pub syncs: u64,
}

/// What the database takes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// What the file occupies on the disk, in bytes.
    pub allocated_bytes: u64,
    /// The part of it that is not free for new content, in bytes; an estimate.
    pub in_use_bytes: u64,
}

/// The database, for the one thread that writes it.
pub struct Store {
    shared: Arc<Shared>,
    options: Options,
    /// Of the last checkpoint.
    applied_index: u64,
    content_bytes: u64,
}

impl Store {
    /// Makes a new database; there must be none yet.
    pub fn create(
        directory: impl Directory + 'static,
        options: Options,
    ) -> Result<Self, StoreError> {
        let directory: Box<dyn Directory> = Box::new(directory);
        if exists(&*directory)? {
            return Err(StoreError::Exists(directory.path(FILE)));
        }
        // A crash leaves no database, or a whole one.
        let new = directory.path(NEW_FILE);
        let file = directory.create(NEW_FILE);
        let file = file.map_err(|error| StoreError::io(&new, error))?;
        let database = Database::create(file, directory.path(FILE), options.cache_bytes_max)?;
        let renamed = directory.rename(NEW_FILE, FILE);
        renamed.map_err(|error| StoreError::io(&new, error))?;
        Ok(Self::new(
            database,
            directory,
            options,
            &Loaded::default(),
            0,
        ))
    }

    /// Opens the database and reads everything but the revisions.
    pub fn open(
        directory: impl Directory + 'static,
        options: Options,
    ) -> Result<(Self, Loaded), StoreError> {
        let directory: Box<dyn Directory> = Box::new(directory);
        let path = directory.path(FILE);
        if !exists(&*directory)? {
            return Err(StoreError::Missing(path));
        }
        let removed = directory.remove(NEW_FILE);
        removed.map_err(|error| StoreError::io(&directory.path(NEW_FILE), error))?;
        let file = directory.open(FILE);
        let file = file.map_err(|error| StoreError::io(&path, error))?;
        let database = Database::open(file, path, options.cache_bytes_max)?;
        let loaded = load(&database)?;
        let content_bytes = database.content_bytes()?;
        let store = Self::new(database, directory, options, &loaded, content_bytes);
        Ok((store, loaded))
    }

    fn new(
        database: Database,
        directory: Box<dyn Directory>,
        options: Options,
        loaded: &Loaded,
        content_bytes: u64,
    ) -> Self {
        Self {
            shared: Shared::new(database, directory),
            options,
            applied_index: loaded.applied_index,
            content_bytes,
        }
    }

    /// A reader for any number of threads.
    pub fn reader(&self) -> Reader {
        Reader::new(self.shared.clone())
    }

    /// Writes a checkpoint. It is durable when this returns, all of it, or after an error and a restart all of it or nothing.
    pub fn write(&mut self, checkpoint: &Checkpoint) -> Result<Written, StoreError> {
        let shared = self.shared.clone();
        shared.attempt(|| self.write_checkpoint(checkpoint))
    }

    fn write_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<Written, StoreError> {
        if checkpoint.applied_index < self.applied_index {
            return Err(StoreError::Refused(format!(
                "applied index {} is behind {}, which is stored already",
                checkpoint.applied_index, self.applied_index
            )));
        }
        let database = self.shared.current.load();
        let (bytes_before, syncs_before) = database.traffic();
        let mut removed = checkpoint.removed.clone();
        removed.sort_unstable();
        let txn = database.begin_write()?;
        let content_bytes = database.check(|| {
            let mut content = ContentBytes::default();
            write_effects(&txn, checkpoint, &removed, &mut content)?;
            let content_bytes = content.after(self.content_bytes);
            txn.open_table(ABOUT)?
                .insert(ABOUT_CONTENT_BYTES, content_bytes)?;
            Ok(content_bytes)
        })?;
        database.commit(txn)?;
        self.applied_index = checkpoint.applied_index;
        self.content_bytes = content_bytes;
        let (bytes, syncs) = database.traffic();
        Ok(Written {
            bytes: bytes - bytes_before,
            syncs: syncs - syncs_before,
        })
    }

    /// The applied index of the last checkpoint.
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// What the database takes up now.
    pub fn size(&self) -> Result<Size, StoreError> {
        let directory = &self.shared.directory;
        let allocated = directory.allocated_bytes(FILE);
        let allocated_bytes =
            allocated.map_err(|error| StoreError::io(&directory.path(FILE), error))?;
        Ok(Size {
            allocated_bytes,
            in_use_bytes: self.content_bytes.min(allocated_bytes),
        })
    }
}

fn exists(directory: &dyn Directory) -> Result<bool, StoreError> {
    let exists = directory.exists(FILE);
    exists.map_err(|error| StoreError::io(&directory.path(FILE), error))
}

/// Reads all buckets but `key`, and the newest revision.
fn load(database: &Database) -> Result<Loaded, StoreError> {
    let mut loaded = Loaded::default();
    loaded.last_revision = database.read(|txn| {
        let last = txn.open_table(ROWS)?.last()?.map(|(key, _)| key.value());
        Ok(last.map(|key| revision_of(&key)))
    })?;
    let txn = database.begin_read()?;
    loaded.buckets = bucket_rows(database, &txn)?;
    let malformed = |key: &[u8]| {
        let reason = format!("meta row {} is malformed", String::from_utf8_lossy(key));
        StoreError::damaged(database.path(), None, reason)
    };
    for row in loaded
        .buckets
        .iter()
        .filter(|row| row.bucket == Bucket::Meta)
    {
        let number = || {
            let bytes = row.value.as_ref().try_into().map(u64::from_be_bytes);
            bytes.map_err(|_| malformed(&row.key))
        };
        let revision = || match Revision::from_key(&row.value) {
            Some((revision, _)) => Ok(Some(revision.main)),
            None => Err(malformed(&row.key)),
        };
        match row.key.as_ref() {
            META_INDEX => loaded.applied_index = number()?,
            META_TERM => loaded.applied_term = number()?,
            META_CONF_STATE => {
                let state = decode_conf_state(&row.value);
                loaded.conf_state = state.ok_or_else(|| malformed(&row.key))?;
            }
            META_SCHEDULED_COMPACT => loaded.scheduled_compact = revision()?,
            META_FINISHED_COMPACT => loaded.finished_compact = revision()?,
            _ => {}
        }
    }
    Ok(loaded)
}

fn bucket_rows(database: &Database, txn: &ReadTransaction) -> Result<Vec<BucketRow>, StoreError> {
    let entries = database.check(|| Ok(txn.open_table(BUCKETS)?.range::<&[u8]>(..)?))?;
    let mut rows = Vec::new();
    for entry in entries {
        let (key, value) = database.check(|| Ok(entry?))?;
        let (bucket, key) = split_bucket_key(key.value())
            .ok_or_else(|| StoreError::damaged(database.path(), None, "unknown bucket"))?;
        rows.push(BucketRow {
            bucket,
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(value.value()),
        });
    }
    Ok(rows)
}
