//! Where the database file and its successor are.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StoreError;
use crate::disk::{Access, Disk, DiskFile};

/// Name of the database file.
const FILE: &str = "state.redb";
/// Name of a database that is being written and will take the other's place.
const NEW_FILE: &str = "state.redb.new";

/// Bytes in the unit that `st_blocks` counts in, whatever the file system.
const STAT_BLOCK_BYTES: u64 = 512;

/// A directory with a database, or for one.
///
/// A lock is on the file itself, so it goes with the file when a successor takes the name.
#[derive(Clone, Debug)]
pub(super) struct Place {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
}

impl Place {
    pub(super) fn new(disk: Arc<dyn Disk>, directory: &Path) -> Self {
        Self {
            disk,
            directory: directory.to_owned(),
        }
    }

    /// The database file.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    fn new_path(&self) -> PathBuf {
        self.directory.join(NEW_FILE)
    }

    /// Whether there is a database.
    pub(super) fn exists(&self) -> Result<bool, StoreError> {
        self.has(FILE)
    }

    fn has(&self, name: &str) -> Result<bool, StoreError> {
        let names = self.disk.names(&self.directory);
        let names = names.map_err(|error| StoreError::io(&self.path(), error))?;
        Ok(names.iter().any(|known| known == name))
    }

    /// What the database occupies on the disk, in bytes. Where the operating system does not know it, as of a simulated
    /// disk, its size.
    pub(super) fn allocated_bytes(&self) -> Result<u64, StoreError> {
        let path = self.path();
        if let Ok(metadata) = fs::metadata(&path) {
            return Ok(metadata.blocks() * STAT_BLOCK_BYTES);
        }
        let size = self
            .disk
            .open(&path, Access::Read)
            .and_then(|file| file.size());
        size.map_err(|error| StoreError::io(&path, error))
    }

    /// Opens and locks the database file, and removes what a crash left of a successor.
    pub(super) fn open(&self) -> Result<Box<dyn DiskFile>, StoreError> {
        let path = self.path();
        if !self.exists()? {
            return Err(StoreError::Missing(path));
        }
        let file = self.locked(&path, Access::Write)?;
        if self.has(NEW_FILE)? {
            let new_path = self.new_path();
            let removed = self.disk.remove_file(&new_path);
            removed.map_err(|error| StoreError::io(&new_path, error))?;
        }
        Ok(file)
    }

    /// An empty, locked file for a successor, or for the first database.
    pub(super) fn create_new(&self) -> Result<Box<dyn DiskFile>, StoreError> {
        let path = self.new_path();
        // Emptied only once it is locked: it may be another process's.
        let file = self.locked(&path, Access::Create)?;
        file.set_size(0)
            .map_err(|error| StoreError::io(&path, error))?;
        Ok(file)
    }

    /// Gives the successor the name of the database, durably.
    pub(super) fn install_new(&self) -> Result<(), StoreError> {
        let rename = || -> io::Result<()> {
            self.disk.rename(&self.new_path(), &self.path())?;
            self.disk.sync_dir(&self.directory)
        };
        rename().map_err(|error| StoreError::io(&self.new_path(), error))
    }

    fn locked(&self, path: &Path, access: Access) -> Result<Box<dyn DiskFile>, StoreError> {
        let open = || -> io::Result<_> {
            let file = self.disk.open(path, access)?;
            let locked = file.try_lock()?;
            Ok(locked.then_some(file))
        };
        match open() {
            Ok(Some(file)) => Ok(file),
            Ok(None) => Err(StoreError::InUse(path.to_owned())),
            Err(error) => Err(StoreError::io(path, error)),
        }
    }
}
