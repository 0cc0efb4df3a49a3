//! The key-value store: every key with its history, in memory but for the values.
//!
//! [`Mvcc`] is owned by the one thread that applies the log. Each write makes a new revision and the
//! [`Change`](crate::store::Change)s that go with it, which are also handed to
//! [`Values`](crate::store::Values), where records are read from. Readers take a [`View`]: an immutable
//! state of the index (a copy-on-write tree, `tree.rs`) that costs a few reference counts, so neither side
//! ever waits for the other.
//!
//! Reading order: `range.rs` (what a request names), `keys.rs`, `history.rs`, `leaf.rs`, `tree.rs` (the
//! index), `read.rs` (ranges), `encoded.rs` (as bytes), `engine.rs` and `write.rs`
//! (writes), `txn.rs`, `prune.rs` (compaction),
//! `view.rs` and its uses: `stream.rs`, `changes.rs`, `hash.rs`.
//!
//! Invariants: revisions come without gaps; a revision's record never changes; what compaction may remove
//! is removed from the index first, so only a view older than that can miss a record, and it says so
//! ([`MvccError::Stale`]).
//!
//! Deliberately absent: leases (whoever applies a put checks that its lease exists, and follows the changes
//! to attach and detach keys), permissions, quotas, watchers.

mod build;
mod changes;
mod check;
mod compare;
mod encoded;
mod engine;
mod hash;
mod history;
mod keys;
mod leaf;
mod load;
mod operations;
mod prune;
mod range;
mod read;
mod record;
mod stream;
mod tree;
mod txn;
mod view;
mod write;

#[cfg(test)]
mod model;
#[cfg(test)]
mod script;
#[cfg(test)]
mod tests;

pub use changes::{Changes, PastChange};
pub use check::{
    RequestError, check_delete, check_put, check_range, check_range_stream, check_txn,
};
pub use encoded::EncodedRange;
pub use engine::{Applied, Mvcc, Pruned};
pub use hash::{CompactionHashes, KvHash};
pub use load::{CompactMarks, Loader};
pub use operations::Operations;
pub use range::{KeyRange, RangeEnd};
pub use stream::RangeStream;
pub use txn::{is_read_only, is_serializable};
pub use view::View;
pub use write::WriteTxn;

use crate::store::StoreError;
use crate::types::Revision;

/// Why a read or write was refused, or failed.
#[derive(Debug, thiserror::Error)]
pub enum MvccError {
    /// The revision asked for is below the compact revision.
    #[error("revision is compacted: read at the compact revision or above")]
    Compacted,
    /// The revision asked for does not exist yet.
    #[error("revision is in the future: read at the current revision or below")]
    FutureRevision,
    /// A put that keeps the value or the lease of a key that does not exist.
    #[error("key not found: put it with a value and a lease first")]
    KeyNotFound,
    /// A put names a lease that does not exist.
    #[error("lease not found: grant it first")]
    LeaseNotFound,
    /// The view is older than a compaction that removed what it needs. Repeat the read with a new view.
    #[error("view is too old: take a new one")]
    Stale,
    /// A transaction that writes was given to a view.
    #[error("transaction writes: apply it through the log")]
    NotReadOnly,
    /// A stored row contradicts the others.
    #[error("stored revision {}.{} is broken: {reason}", revision.main, revision.sub)]
    Broken {
        /// Which.
        revision: Revision,
        /// How.
        reason: &'static str,
    },
    /// The database failed. After this in a write the state in memory must not be used any more.
    #[error(transparent)]
    Store(#[from] StoreError),
}
