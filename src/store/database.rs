//! One open database file, and which one is current.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use redb::{ReadTransaction, ReadableDatabase, WriteTransaction};

use super::StoreError;
use super::blocks::{BlockFile, Traffic};
use super::schema::{ABOUT, ABOUT_CONTENT_BYTES, ABOUT_FORMAT, BUCKETS, FORMAT, RECORDS, ROWS};
use crate::disk::DiskFile;

/// An open database.
pub(super) struct Database {
    redb: redb::Database,
    traffic: Arc<Traffic>,
    path: PathBuf,
    /// What redb means when it only says that there was an error before.
    first_error: OnceLock<StoreError>,
}

impl Database {
    /// Opens the database in `file`, which must hold one of this format.
    pub(super) fn open(
        file: Box<dyn DiskFile>,
        path: PathBuf,
        cache_bytes: usize,
    ) -> Result<Self, StoreError> {
        let bytes = file.size().map_err(|error| StoreError::io(&path, error))?;
        if bytes == 0 {
            return Err(StoreError::damaged(&path, Some(0), "the file is empty"));
        }
        let database = Self::attach(file, path, cache_bytes)?;
        database.check_format()?;
        Ok(database)
    }

    /// Makes a database without rows in an empty file; durable.
    pub(super) fn create(
        file: Box<dyn DiskFile>,
        path: PathBuf,
        cache_bytes: usize,
    ) -> Result<Self, StoreError> {
        let database = Self::attach(file, path, cache_bytes)?;
        let txn = database.begin_write()?;
        database.check(|| {
            txn.open_table(ROWS)?;
            txn.open_table(RECORDS)?;
            txn.open_table(BUCKETS)?;
            txn.open_table(ABOUT)?.insert(ABOUT_FORMAT, FORMAT)?;
            Ok(())
        })?;
        database.commit(txn)?;
        Ok(database)
    }

    fn attach(
        file: Box<dyn DiskFile>,
        path: PathBuf,
        cache_bytes: usize,
    ) -> Result<Self, StoreError> {
        let file = BlockFile::open(file).map_err(|error| StoreError::io(&path, error))?;
        let traffic = file.traffic();
        let mut builder = redb::Builder::new();
        builder.set_cache_size(cache_bytes);
        let redb = builder
            .create_with_backend(file)
            .map_err(|error| StoreError::redb(&path, error.into()))?;
        Ok(Self {
            redb,
            traffic,
            path,
            first_error: OnceLock::new(),
        })
    }

    fn check_format(&self) -> Result<(), StoreError> {
        match self.about(ABOUT_FORMAT)? {
            Some(FORMAT) => Ok(()),
            Some(found) => Err(StoreError::Format {
                path: self.path.clone(),
                found,
                expected: FORMAT,
            }),
            None => Err(StoreError::damaged(&self.path, None, "it has no format")),
        }
    }

    fn about(&self, name: &str) -> Result<Option<u64>, StoreError> {
        self.read(|txn| {
            let about = txn.open_table(ABOUT)?;
            Ok(about.get(name)?.map(|number| number.value()))
        })
    }

    /// Bytes of all keys and values.
    pub(super) fn content_bytes(&self) -> Result<u64, StoreError> {
        Ok(self.about(ABOUT_CONTENT_BYTES)?.unwrap_or(0))
    }

    /// The file's name in messages.
    pub(super) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Bytes written to the file and syncs of it, since it was opened.
    pub(super) fn traffic(&self) -> (u64, u64) {
        let Traffic {
            bytes_written,
            syncs,
        } = &*self.traffic;
        (
            bytes_written.load(Ordering::Relaxed),
            syncs.load(Ordering::Relaxed),
        )
    }

    /// Begins a transaction that a crash right after it needs no repair for.
    pub(super) fn begin_write(&self) -> Result<WriteTransaction, StoreError> {
        self.check(|| {
            let mut txn = self.redb.begin_write()?;
            // In two phases, and the allocator's state goes with it: opening after a crash verifies and rebuilds
            // nothing.
            txn.set_quick_repair(true);
            Ok(txn)
        })
    }

    /// Begins a transaction for a file that a crash makes worthless anyway.
    pub(super) fn begin_draft(&self) -> Result<WriteTransaction, StoreError> {
        // Still written out and synced, once, so that no long sync is left for the end.
        self.check(|| Ok(self.redb.begin_write()?))
    }

    /// Ends a transaction.
    pub(super) fn commit(&self, txn: WriteTransaction) -> Result<(), StoreError> {
        self.check(|| Ok(txn.commit()?))
    }

    /// A view of the last commit, as long as it is held.
    pub(super) fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        self.check(|| Ok(self.redb.begin_read()?))
    }

    /// Reads the last commit.
    pub(super) fn read<R>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<R, redb::Error>,
    ) -> Result<R, StoreError> {
        let txn = self.begin_read()?;
        self.check(|| read(&txn))
    }

    /// Runs `with` and names the file in its error.
    pub(super) fn check<R>(
        &self,
        with: impl FnOnce() -> Result<R, redb::Error>,
    ) -> Result<R, StoreError> {
        with().map_err(|error| {
            let error = StoreError::redb(&self.path, error);
            self.first_error.get_or_init(|| error).clone()
        })
    }
}

/// What the writer and all readers have in common.
pub(super) struct Shared {
    /// The database to read. Replaced, never changed.
    pub(super) current: ArcSwap<Database>,
    /// The first error, which every later call repeats: after it, memory and disk may disagree.
    failed: OnceLock<StoreError>,
}

impl Shared {
    pub(super) fn new(database: Database) -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwap::from_pointee(database),
            failed: OnceLock::new(),
        })
    }

    /// Runs `with` unless something failed before; remembers if it fails.
    pub(super) fn attempt<R>(
        &self,
        with: impl FnOnce() -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        self.check()?;
        with().inspect_err(|error| {
            // Another thread's error may have been first.
            let _ = self.failed.set(error.clone());
        })
    }

    /// The first error there was.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.failed.get().map_or(Ok(()), |error| Err(error.clone()))
    }
}
