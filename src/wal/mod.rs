//! The raft log: write-ahead files in etcd's own format, so that either etcd can take over from the other
//! and etcd's tools read what is written here.
//!
//! A log is a directory of *segments*, `<sequence>-<first index>.wal`, preallocated and filled one after
//! another with checksummed records: entries, hard states, snapshot marks. The byte format is in `record`.
//!
//! ```text
//!   Wal::create ─┐                         ┌─ append … sync ── one write, one fdatasync
//!                ├─ Wal (holds the locks) ─┤
//!   Wal::open ───┘   └─ Recovered          └─ append_snapshot, release_to, purge
//! ```
//!
//! Invariants:
//! - What [`Wal::sync`] has answered for is found again by every later [`Wal::open`], whatever happens to
//!   the machine, or `open` refuses with the file and the offset. `tail` says how that is told apart.
//! - A record is never changed in place. Entries are replaced by later entries of the same index.
//! - A name appears only when what it names is whole: directories and segments are written under a
//!   temporary name, synced and renamed.
//! - After a failed write or sync the log takes nothing more: nobody knows what is on disk.
//!
//! One thread owns a [`Wal`]. Deliberately absent: clocks and metrics (the caller times its calls), threads
//! (a segment is cut inside `sync`; its space is reserved, and written only a little ahead), and any knowledge of raft.

mod decoder;
mod error;
mod log;
mod record;
mod repair;
mod replay;
mod segment;
mod source;
mod tail;
#[cfg(test)]
mod tests;

pub use error::WalError;
pub use log::{Synced, Wal};
pub use repair::Repair;
pub use replay::{
    Decoded, Recovered, decode_segment, exists, newest_snapshot, read, valid_snapshots,
};

use crate::pb::raftpb::ConfState;
use crate::types::{ClusterId, MemberId};

/// A new segment is begun when one has reached this size, in bytes.
pub const SEGMENT_BYTES: u64 = 64_000_000;

/// Whose log it is; repeated in every segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The member.
    pub node_id: MemberId,
    /// Its cluster.
    pub cluster_id: ClusterId,
}

/// That a snapshot of the state up to `index` exists outside the log. The default is the log's beginning.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WalSnapshot {
    /// The last entry it covers.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The members as of that entry; absent at index 0 and in logs from before etcd 3.5.
    pub conf_state: Option<ConfState>,
}

/// How a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// When a new segment is begun, and what is reserved for it, in bytes.
    pub segment_bytes: u64,
    /// Whether [`Wal::sync`] reaches the disk; off for `--unsafe-no-fsync` only.
    pub sync: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES,
            sync: true,
        }
    }
}
