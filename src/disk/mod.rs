//! The file system as the storage modules see it: few operations, each with its durability spelled out.
//!
//! Two implementors: [`RealDisk`] for the process, and [`SimulatedDisk`], whose power can be cut between
//! any two calls and whose calls can be made to fail. The write-ahead log and `state.redb` run on either,
//! so what a power cut leaves behind is tested on the code that runs in production.
//!
//! Durability, as POSIX has it and no better:
//! - written bytes and a changed size are durable after [`DiskFile::sync_data`];
//! - a name that was created, renamed or removed is durable after [`Disk::sync_dir`] on its directory;
//! - until then each may survive a power cut or not, sector by sector and name by name.
//!
//! Deliberately absent: seeking (offsets are arguments), permissions as arguments (files are 0600 and
//! directories 0700), and anything asynchronous.

mod real;
mod simulated;

use std::fmt::Debug;
use std::io;
use std::path::Path;

pub use real::{RealDisk, operations};
pub use simulated::{Fault, SimulatedDisk};

/// The unit a disk writes whole or not at all, in bytes.
pub const SECTOR_BYTES: u64 = 512;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// An existing file, to read only.
    Read,
    /// An existing file, to read and write.
    Write,
    /// To read and write; created when missing, kept as it is otherwise.
    Create,
    /// To read and write; created when missing, emptied otherwise.
    Replace,
}

/// Directories and the names in them.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>>;
    /// Creates a directory; its parent must exist and it must not.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted.
    fn names(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Renames inside one directory, replacing a file or an empty directory of the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and everything in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file. Dropping it closes it and releases its lock.
pub trait DiskFile: Debug + Send + Sync {
    /// The file's size, in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Fills `buffer` from `offset` on as far as the file goes; answers how many bytes that were.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`, growing the file when needed.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts the file, or grows it with zeros that take no space.
    fn set_size(&self, size: u64) -> io::Result<()>;
    /// Grows the file to at least `size` bytes of zeros with their space reserved, where the file system can.
    fn allocate(&self, size: u64) -> io::Result<()>;
    /// Makes everything from `offset` on read as zeros and the file `size` bytes long, its space reserved.
    fn clear_from(&self, offset: u64, size: u64) -> io::Result<()>;
    /// Writes zeros where space is reserved, so that what is written there next is durable without a change to the
    /// file system's own records; `false`, and nothing done, where that gains nothing.
    fn prepare(&self, offset: u64, bytes: usize) -> io::Result<bool>;
    /// Makes the bytes and the size durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Takes the exclusive lock of the whole file; `false` when another open file has it.
    fn try_lock(&self) -> io::Result<bool>;
}
