//! Opens a member's data, or makes a new member's.
//!
//! A new member is made in an order that any crash leaves open-able: the database (empty, nothing applied),
//! then the log, then its first entries. Each step that is missing is made up for at the next start.

use std::sync::Arc;

use super::start::{Identity, Settings};
use super::{Failure, Role};
use crate::alarm::Alarms;
use crate::lease::Table;
use crate::machine::{self, Machine};
use crate::membership::{ConfigurationChange, Membership, cluster_id};
use crate::mvcc::Mvcc;
use crate::pb::raftpb::{ConfState, Entry, EntryType, HardState};
use crate::raft::Restored;
use crate::store::{Bucket, Loaded, LocalDirectory, Options, Store, Values};
use crate::types::{ClusterId, LeaseId, MemberId};
use crate::wal::{self, Wal};

/// Payload bytes of applied entries kept in memory for slow followers.
pub(crate) const LOG_WINDOW_BYTES_MAX: u64 = 16 << 20;
/// The term of the entries that found a cluster.
const FOUNDING_TERM: u64 = 1;

/// Everything the threads start from.
pub(crate) struct Opened {
    pub(crate) identity: Identity,
    pub(crate) wal: Wal,
    pub(crate) store: Store,
    pub(crate) values: Arc<Values>,
    pub(crate) machine: Machine,
    pub(crate) restored: Restored,
    /// The last snapshot record in the log.
    pub(crate) snapshot_index: u64,
    /// A compaction that a stop interrupted: its revision, and the one before it.
    pub(crate) unfinished_compaction: Option<(i64, i64)>,
}
