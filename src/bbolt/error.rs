//! Why a file could not be read or written.

use std::io;
use std::sync::Arc;

use super::SHA256_BYTES;

/// Why a file could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BboltError {
    /// The operating system failed.
    #[error("{name}: {error}")]
    Io {
        /// The file.
        name: String,
        /// What the operating system said.
        error: Arc<io::Error>,
    },
    /// The file is no database, or not a whole one.
    #[error("{name} is not a usable bbolt file: {reason}")]
    NotADatabase {
        /// The file.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A page makes no sense.
    #[error("{name} is damaged: page {page} at offset {offset}: {reason}")]
    Page {
        /// The file.
        name: String,
        /// Number of the page.
        page: u64,
        /// Where it starts in the file; of a bucket inside another page, where that one starts.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A bucket that must be there is missing.
    #[error("{name} has no bucket {bucket}")]
    NoBucket {
        /// The file.
        name: String,
        /// The bucket.
        bucket: String,
    },
    /// The checksum at the end of a snapshot is of something else.
    #[error("expected sha256 {}, got {}", decimal(expected), decimal(actual))]
    Sha256 {
        /// What the file says.
        expected: [u8; SHA256_BYTES],
        /// What its pages give.
        actual: [u8; SHA256_BYTES],
    },
}

/// Bytes as etcd's tools print them.
fn decimal(bytes: &[u8]) -> String {
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    format!("[{}]", numbers.join(" "))
}

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError<E: std::error::Error + 'static> {
    /// Its rows could not be had.
    #[error(transparent)]
    Source(E),
    /// It could not be written.
    #[error("write snapshot: {0}")]
    Write(#[from] io::Error),
    /// A row is larger than the format can say.
    #[error(
        "a key of {key_bytes} bytes with a value of {value_bytes} bytes does not fit a bbolt file"
    )]
    RowTooLarge {
        /// Size of its key.
        key_bytes: usize,
        /// Size of its value.
        value_bytes: usize,
    },
    /// The rows are not those that were planned with.
    #[error("rows changed while a snapshot of them was written")]
    Changed,
}
