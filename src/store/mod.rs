//! Durable state: what was replicated, as of the last checkpoint, in one redb database, and the newer
//! changes in memory on top of it.
//!
//! The raft log (`wal`) is the record of truth between checkpoints. A [`Checkpoint`] carries the effects of
//! a run of log entries together with the index of the last one, and becomes durable in one transaction, so
//! a restart re-applies exactly the entries behind it.
//!
//! [`Values`] is what the rest of the program reads records through; nothing above this module knows whether
//! a record is in memory or on disk.
//!
//! # Reading order
//! - [`Store`] writes, one thread at a time; [`Reader`] reads, from any thread, and never waits for the writer.
//! - `schema`: the tables. `checkpoint`: a checkpoint as one transaction. `blocks`: the checksummed file under redb.
//! - [`Frozen`]: all state as of one checkpoint, for hashes and snapshots.
//! - `successor`: a database that replaces the current one, by defragmentation or `import`.
//!
//! # Invariants
//! - Applied index and effects are one transaction.
//! - After an error every later call fails with the same error; the process stops.
//! - The file `state.redb` is whole at any moment: a database is built as `state.redb.new`, then renamed.
//!
//! Deliberately absent: retries, repair, redb's `compact` and savepoints.

mod blocks;
mod change;
mod checkpoint;
mod database;
mod error;
mod foreign;
mod frozen;
mod gathered;
mod import;
mod place;
mod reader;
mod revisions;
mod schema;
#[allow(clippy::module_inception)]
mod store;
mod successor;
#[cfg(test)]
mod tests;
mod values;

pub use change::{Bucket, BucketWrite, Change, Checkpoint, RevisionRow};
pub use error::StoreError;
pub use foreign::ForeignRevisions;
pub use frozen::{Frozen, Snapshot};
pub use import::Edit;
pub use reader::Reader;
pub use schema::RowRef;
pub use store::{BucketRow, Defragmented, Loaded, Options, Size, Store, Written};
pub use values::{RevisionSource, Values};
