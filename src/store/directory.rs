//! Where the database file and its successor live: a directory of the file system, or one a test makes up.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::StoreError;

/// Bytes in the unit `st_blocks` counts in, whatever the file system's block size.
const STAT_BLOCK_BYTES: u64 = 512;

/// A place for a few named files, of which one process has the use at a time.
pub trait Directory: Debug + Send + Sync {
    /// Opens a file for reading and writing; it must exist.
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>>;
    /// Opens a file for reading and writing; what it held is gone.
    fn create(&self, name: &str) -> io::Result<Box<dyn StorageBackend>>;
    /// Whether a file of the name exists.
    fn exists(&self, name: &str) -> io::Result<bool>;
    /// Moves one name over another, atomically; durable on return.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; not having it is no error.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// What the file takes up on the disk, in bytes.
    fn allocated_bytes(&self, name: &str) -> io::Result<u64>;
    /// The file's name in messages.
    fn path(&self, name: &str) -> PathBuf;
}

/// A directory of the file system, locked as long as this lives.
#[derive(Debug)]
pub struct LocalDirectory {
    path: PathBuf,
    /// Carries the lock, and makes renames durable.
    handle: File,
}

impl LocalDirectory {
    /// Takes an existing directory for this process.
    ///
    /// The lock covers the moments when the database file is being replaced and its own lock is not enough. Where
    /// directories cannot be locked (some network file systems) that one has to do.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let handle = File::open(path).map_err(|error| StoreError::io(path, error))?;
        if let Err(TryLockError::WouldBlock) = handle.try_lock() {
            return Err(StoreError::InUse(path.to_owned()));
        }
        Ok(Self {
            path: path.to_owned(),
            handle,
        })
    }
}

fn backend(file: File) -> io::Result<Box<dyn StorageBackend>> {
    let backend = FileBackend::new(file).map_err(io::Error::other)?;
    Ok(Box::new(backend))
}

impl Directory for LocalDirectory {
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let mut options = OpenOptions::new();
        backend(options.read(true).write(true).open(self.path(name))?)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        // A new file, never a truncated one: an old database of the name may still have readers.
        self.remove(name)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        backend(options.open(self.path(name))?)
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        fs::exists(self.path(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))?;
        self.handle.sync_all()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn allocated_bytes(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.path(name))?.blocks() * STAT_BLOCK_BYTES)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}
