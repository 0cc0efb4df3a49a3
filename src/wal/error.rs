//! What can be wrong with a log, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why the log could not be read or written. Every text says where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The file system refused.
    #[error("{operation} {path}: {source}{}", advice(source))]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another open log holds a segment.
    #[error(
        "{path} is in use by another process: is an etcd already running on this data directory? \
         Stop it, or choose another --data-dir"
    )]
    Locked {
        /// The segment.
        path: PathBuf,
    },
    /// A log would have been created over another.
    #[error("{dir} already holds a write-ahead log: open it, or choose another directory")]
    Exists {
        /// The log's directory.
        dir: PathBuf,
    },
    /// A log would have been created among foreign files.
    #[error(
        "{dir} is to become the write-ahead log but holds {name}: move that file elsewhere, or choose another --wal-dir"
    )]
    NotEmpty {
        /// The log's directory.
        dir: PathBuf,
        /// One of the files in it.
        name: String,
    },
    /// The directory holds no segment.
    #[error("{dir} holds no write-ahead log (no *.wal file): check --data-dir and --wal-dir")]
    NotFound {
        /// The log's directory.
        dir: PathBuf,
    },
    /// Segments are missing, before all others or between two.
    #[error(
        "{dir}: the segment {missing} is missing: put the file back, or restore this member from a snapshot"
    )]
    MissingSegment {
        /// The log's directory.
        dir: PathBuf,
        /// What is missing, in words.
        missing: String,
    },
    /// Bytes that no crash can have left.
    #[error(
        "{what}: in file {path} at position: {offset}. The log is damaged there and cannot be trusted from there on: \
         check the disk, then restore this member from a snapshot, or remove it from the cluster and add it \
         again with an empty data directory"
    )]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The log does not know the snapshot it was to be read from.
    #[error(
        "{dir} has no record of the snapshot at index {index}, term {term}: the log and the stored state do not belong together"
    )]
    SnapshotNotFound {
        /// The log's directory.
        dir: PathBuf,
        /// The snapshot asked for.
        index: u64,
        /// Its term.
        term: u64,
    },
    /// The log knows a snapshot of that index, but of another term.
    #[error(
        "{dir} has the snapshot at index {index} with term {found}, not {term}: the log and the stored state do not belong together"
    )]
    SnapshotMismatch {
        /// The log's directory.
        dir: PathBuf,
        /// The snapshot asked for.
        index: u64,
        /// Its term.
        term: u64,
        /// The term in the log.
        found: u64,
    },
    /// What was to be appended could not be read back. Nothing was written.
    #[error("{what} cannot be written to the log: a defect of this program, please report it")]
    Refused {
        /// What it is, and why not.
        what: String,
    },
    /// An earlier write or sync failed, so what is on disk is unknown.
    #[error(
        "the write-ahead log failed earlier and takes no more records: this process must stop and start again"
    )]
    Poisoned,
}

/// What an operator can do about an I/O error.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": free space on this file system, then start again; nothing acknowledged is lost"
        }
        io::ErrorKind::PermissionDenied => ": let the user this process runs as write there",
        io::ErrorKind::ResourceBusy => ": choose a directory inside the mounted file system",
        io::ErrorKind::ReadOnlyFilesystem => ": mount this file system read-write",
        _ => "",
    }
}

/// Names the operation and the path of an I/O error.
pub(super) fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WalError {
    move |source| WalError::Io {
        operation,
        path: path.to_owned(),
        source,
    }
}
