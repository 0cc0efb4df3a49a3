//! Why stored state could not be read or written, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blocks::DamagedBlock;
use crate::bbolt::BboltError;
use crate::types::Revision;

/// Why stored state could not be read or written.
///
/// After any of these from [`super::Store::write`] nothing is known about what reached the disk: the
/// process must stop, and a restart finds out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the file.
    #[error("{} is in use by another etcd: stop that process first", .0.display())]
    InUse(PathBuf),
    /// The disk is full, or a quota of the file system is.
    #[error("no space left on device: free space in {} and restart", .0.display())]
    NoSpace(PathBuf),
    /// The operating system refused or failed.
    #[error("{}: {error}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        error: Arc<io::Error>,
    },
    /// The file is not what was written.
    #[error(
        "{} is damaged{}: {reason}; restore this member from a snapshot or from its peers",
        .path.display(), offset.map(|at| format!(" at offset {at}")).unwrap_or_default()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first byte of the damaged block, where one is known.
        offset: Option<u64>,
        /// What is wrong with it.
        reason: String,
    },
    /// A record's checksum does not match.
    #[error(
        "{}: the record of revision {}/{} is damaged; restore this member from a snapshot or from its peers",
        .path.display(), revision.main, revision.sub
    )]
    DamagedRecord {
        /// The file.
        path: PathBuf,
        /// Whose record.
        revision: Revision,
    },
    /// A newer program wrote the file.
    #[error("{} has format {found}, this etcd reads format {expected}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The only one this program knows.
        expected: u64,
    },
    /// There is no database yet.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// A database is there already.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// A file to import is not usable.
    #[error(transparent)]
    Import(#[from] BboltError),
    /// A file to import has a row that means nothing.
    #[error("row {0} of bucket key cannot be imported")]
    ImportRow(String),
    /// What was to be written contradicts what is stored.
    #[error("refused to write state: {0}")]
    Refused(String),
}

impl StoreError {
    /// Whether only a file to import is to blame, and the store is as it was.
    pub fn is_import(&self) -> bool {
        matches!(self, Self::Import(_) | Self::ImportRow(_))
    }

    /// An operating system error on `path`.
    pub(super) fn io(path: &Path, error: io::Error) -> Self {
        let damaged = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<DamagedBlock>());
        if let Some(DamagedBlock { offset, reason }) = damaged {
            return Self::damaged(path, Some(*offset), *reason);
        }
        if error.kind() == io::ErrorKind::InvalidData {
            return Self::damaged(path, None, error.to_string());
        }
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        if full.contains(&error.kind()) {
            return Self::NoSpace(path.parent().unwrap_or(path).to_owned());
        }
        Self::Io {
            path: path.to_owned(),
            error: Arc::new(error),
        }
    }

    /// An error of the database engine on `path`.
    pub(super) fn redb(path: &Path, error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => Self::io(path, error),
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
                Self::InUse(path.to_owned())
            }
            redb::Error::UnorderedKey => {
                Self::Refused("revisions do not ascend from the last one stored".to_owned())
            }
            other @ (redb::Error::ValueTooLarge(_) | redb::Error::TransactionPoisoned) => {
                Self::Refused(other.to_string())
            }
            other => Self::damaged(path, None, other.to_string()),
        }
    }

    /// Contents of `path` that no version of this program writes.
    pub(super) fn damaged(path: &Path, offset: Option<u64>, reason: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            offset,
            reason: reason.into(),
        }
    }
}
