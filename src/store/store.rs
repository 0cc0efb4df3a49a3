//! The one writer: opens the database, writes checkpoints, hands out readers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redb::{ReadTransaction, ReadableTable};

use super::checkpoint::Transaction;
use super::database::{Database, Shared};
use super::import::import;
use super::place::Place;
use super::schema::{
    BUCKETS, META_CONF_STATE, META_FINISHED_COMPACT, META_INDEX, META_SCHEDULED_COMPACT, META_TERM,
    ROWS, decode_conf_state, revision_of, split_bucket_key,
};
use super::successor::{Defragmentation, Successor};
use super::{Bucket, Checkpoint, Edit, Frozen, Reader, StoreError};
use crate::bbolt;
use crate::disk::Disk;
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
    /// Time to put the changes into a transaction.
    pub fill: Duration,
    /// Time to make it durable.
    pub commit: Duration,
}

/// What the database takes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// What the file occupies on the disk, in bytes.
    pub allocated_bytes: u64,
    /// The part of it that is not free for new content, in bytes; an estimate.
    pub in_use_bytes: u64,
}

/// How far a defragmentation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defragmented {
    /// There is more to do.
    Partly,
    /// It is complete: the file is as small as its content.
    Wholly,
}

/// The database, for the one thread that writes it.
pub struct Store {
    place: Place,
    options: Options,
    shared: Arc<Shared>,
    /// Of the last checkpoint.
    applied_index: u64,
    /// Bytes of all keys and values.
    content_bytes: u64,
    defragmentation: Option<Defragmentation>,
    /// Replaced databases that readers may still be at. They are closed here, which takes a while, and not by a reader.
    replaced: Vec<Arc<Database>>,
}

impl Store {
    /// Makes a new database; there must be none yet.
    pub fn create(
        disk: Arc<dyn Disk>,
        directory: &Path,
        options: Options,
    ) -> Result<Self, StoreError> {
        let place = vacant_place(disk, directory)?;
        let successor = Successor::begin(&place, options.cache_bytes_max)?;
        // Another process may have been as fast; whoever holds the lock of the new file looks again.
        require_vacant(&place)?;
        let built = successor.finish(|_| Ok(()))?;
        Ok(Self::new(place, options, built, 0))
    }

    /// Opens the database and reads everything but the revisions.
    pub fn open(
        disk: Arc<dyn Disk>,
        directory: &Path,
        options: Options,
    ) -> Result<(Self, Loaded), StoreError> {
        let place = Place::new(disk, directory);
        let file = place.open()?;
        let database = Database::open(file, place.path(), options.cache_bytes_max)?;
        let loaded = load(&database)?;
        let content_bytes = database.content_bytes()?;
        let built = (database, content_bytes);
        Ok((
            Self::new(place, options, built, loaded.applied_index),
            loaded,
        ))
    }

    /// Makes a new database from a bbolt file: a snapshot, or the database of a stopped etcd. There must be none yet.
    pub fn import(
        disk: Arc<dyn Disk>,
        directory: &Path,
        options: Options,
        file: &bbolt::File,
        edit: &Edit,
    ) -> Result<(Self, Loaded), StoreError> {
        let place = vacant_place(disk, directory)?;
        let built = import(&place, options.cache_bytes_max, file, edit)?;
        let loaded = load(&built.0)?;
        Ok((
            Self::new(place, options, built, loaded.applied_index),
            loaded,
        ))
    }

    fn new(place: Place, options: Options, built: (Database, u64), applied_index: u64) -> Self {
        let (database, content_bytes) = built;
        Self {
            place,
            options,
            shared: Shared::new(database),
            applied_index,
            content_bytes,
            defragmentation: None,
            replaced: Vec::new(),
        }
    }

    /// A reader for any number of threads. It goes on through every replacement of the database.
    pub fn reader(&self) -> Reader {
        Reader::new(self.shared.clone())
    }

    /// All state as of the last checkpoint.
    pub fn frozen(&self) -> Result<Frozen, StoreError> {
        let current = self.shared.current.load_full();
        self.shared.attempt(|| Frozen::new(current))
    }

    /// The applied index of the last checkpoint.
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// Writes a checkpoint. When this returns it is durable; after an error, a restart finds all of it or nothing.
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
        let began = Instant::now();
        let mut transaction = Transaction::begin(&database, self.content_bytes)?;
        transaction.write(checkpoint)?;
        let filled = Instant::now();
        self.content_bytes = transaction.commit()?;
        let commit = filled.elapsed();
        self.applied_index = checkpoint.applied_index;
        if let Some(defragmentation) = &mut self.defragmentation {
            defragmentation.note_removed(&checkpoint.removed);
        }
        self.close_replaced();
        let (bytes, syncs) = database.traffic();
        Ok(Written {
            bytes: bytes - bytes_before,
            syncs: syncs - syncs_before,
            fill: filled - began,
            commit,
        })
    }

    /// Gives unused space back, all at once. Readers go on; checkpoints have to wait.
    pub fn defragment(&mut self) -> Result<(), StoreError> {
        while self.defragment_step()? == Defragmented::Partly {}
        Ok(())
    }

    /// Begins to give unused space back, or goes on with it, for some 12 ms. Checkpoints may be written between steps.
    pub fn defragment_step(&mut self) -> Result<Defragmented, StoreError> {
        let shared = self.shared.clone();
        shared.attempt(|| {
            let mut defragmentation = match self.defragmentation.take() {
                Some(defragmentation) => defragmentation,
                None => Defragmentation::begin(&self.place, self.options.cache_bytes_max)?,
            };
            let current = shared.current.load_full();
            if !defragmentation.step(&current)? {
                self.defragmentation = Some(defragmentation);
                return Ok(Defragmented::Partly);
            }
            let built = defragmentation.finish(&current)?;
            self.replace(built);
            Ok(Defragmented::Wholly)
        })
    }

    /// Replaces all state by what a bbolt file has, as a snapshot from the leader demands. Readers go on, and read the new state from
    /// here on. When only the file is to blame for an error ([`StoreError::is_import`]), the store is as it was.
    pub fn install(&mut self, file: &bbolt::File) -> Result<Loaded, StoreError> {
        self.shared.check()?;
        self.defragmentation = None;
        let edit = Edit::default();
        let built = match import(&self.place, self.options.cache_bytes_max, file, &edit) {
            Err(error) if error.is_import() => return Err(error),
            built => self.shared.attempt(|| built)?,
        };
        let loaded = self.shared.attempt(|| load(&built.0))?;
        self.replace(built);
        self.applied_index = loaded.applied_index;
        Ok(loaded)
    }

    fn replace(&mut self, (database, content_bytes): (Database, u64)) {
        let replaced = self.shared.current.swap(Arc::new(database));
        self.replaced.push(replaced);
        self.content_bytes = content_bytes;
        self.close_replaced();
    }

    fn close_replaced(&mut self) {
        self.replaced
            .retain(|database| Arc::strong_count(database) > 1);
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        self.place.path()
    }

    /// What the database takes up now.
    pub fn size(&self) -> Result<Size, StoreError> {
        let allocated_bytes = self.place.allocated_bytes()?;
        Ok(Size {
            allocated_bytes,
            in_use_bytes: self.content_bytes.min(allocated_bytes),
        })
    }

    /// Ends it. Everything that was written is durable already; this only tells of an error that nobody was told yet.
    pub fn close(self) -> Result<(), StoreError> {
        self.shared.check()
    }
}

/// A directory that must not have a database yet.
fn vacant_place(disk: Arc<dyn Disk>, directory: &Path) -> Result<Place, StoreError> {
    let place = Place::new(disk, directory);
    require_vacant(&place)?;
    Ok(place)
}

fn require_vacant(place: &Place) -> Result<(), StoreError> {
    if place.exists()? {
        return Err(StoreError::Exists(place.path()));
    }
    Ok(())
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
