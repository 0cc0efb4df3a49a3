//! What one checkpoint writes.

use std::sync::Arc;

use bytes::Bytes;

use crate::pb::raftpb::ConfState;
use crate::types::Revision;

/// The small part of a revision: everything about it but the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionRow {
    /// Its place in history.
    pub revision: Revision,
    /// Whether the key was deleted here. The three numbers below are then 0.
    pub tombstone: bool,
    /// The key.
    pub key: Bytes,
    /// Main revision of the first put of the generation.
    pub create_revision: i64,
    /// Puts in the generation up to here, from 1.
    pub version: i64,
    /// The lease the key hangs on, 0 for none.
    pub lease: i64,
    /// Length of the stored record, so that sizes are known without reading it.
    pub record_bytes: u32,
}

/// One change of one key, as applied.
#[derive(Clone, Debug)]
pub struct Change {
    /// Revision, key and numbers.
    pub row: RevisionRow,
    /// The stored record: an encoded `mvccpb.KeyValue`; of a tombstone it has the key alone.
    pub record: Bytes,
    /// Where the live pair before this change was written, if the key was alive.
    pub previous: Option<Revision>,
    /// The lease the key hung on before this change, 0 for none.
    pub previous_lease: i64,
}

/// The buckets besides `key`. Keys and values in them are etcd's encodings, so that a snapshot file can
/// be written without translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bucket {
    /// Raised alarms: an encoded `AlarmMember` each, no value.
    Alarm,
    /// Whether authentication is on, and its revision.
    Auth,
    /// Roles by name.
    AuthRoles,
    /// Users by name.
    AuthUsers,
    /// Cluster version and downgrade state.
    Cluster,
    /// Leases by id.
    Lease,
    /// Members by id.
    Members,
    /// Ids that may never come back.
    MembersRemoved,
    /// Applied index and term, configuration, storage version, compaction marks.
    Meta,
}

impl Bucket {
    /// Every bucket, in the order of their names (`key` would stand between `cluster` and `lease`).
    pub const ALL: [Self; 9] = [
        Self::Alarm,
        Self::Auth,
        Self::AuthRoles,
        Self::AuthUsers,
        Self::Cluster,
        Self::Lease,
        Self::Members,
        Self::MembersRemoved,
        Self::Meta,
    ];

    /// The bucket's name in etcd's database file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alarm => "alarm",
            Self::Auth => "auth",
            Self::AuthRoles => "authRoles",
            Self::AuthUsers => "authUsers",
            Self::Cluster => "cluster",
            Self::Lease => "lease",
            Self::Members => "members",
            Self::MembersRemoved => "members_removed",
            Self::Meta => "meta",
        }
    }
}

/// A write to one row of one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketWrite {
    /// Where.
    pub bucket: Bucket,
    /// The row.
    pub key: Bytes,
    /// Its new value; `None` deletes the row.
    pub value: Option<Bytes>,
}

/// The effects of all log entries up to `applied_index` that no earlier checkpoint had.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    /// The last applied entry.
    pub applied_index: u64,
    /// Its term.
    pub applied_term: u64,
    /// Who votes and learns after it.
    pub conf_state: ConfState,
    /// Changes in order; each element is one main revision.
    pub changes: Vec<Arc<[Change]>>,
    /// Revisions that compaction removed. Some may be among `changes`.
    pub removed: Vec<Revision>,
    /// Writes to the other buckets, in order.
    pub buckets: Vec<BucketWrite>,
}
