//! Durable state: what was replicated, as of the last checkpoint, in one redb database, and the newer
//! changes in memory on top of it.
//!
//! The raft log (`wal`) is the record of truth between checkpoints. A [`Checkpoint`] carries the effects of
//! a run of log entries together with the index of the last one, and becomes durable in one transaction, so
//! a restart re-applies exactly the entries behind it.
//!
//! [`Values`] is what the rest of the program reads records through; nothing above this module knows whether
//! a record is in memory or on disk.

mod change;
mod values;

pub use change::{Bucket, BucketWrite, Change, Checkpoint, RevisionRow};
pub use values::{RevisionSource, Values};

/// Why stored state could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);
