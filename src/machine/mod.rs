//! The replicated state machine: a log entry goes in, an outcome comes out.
//!
//! [`Machine::apply`] is synchronous and has no clock, randomness or I/O of its own (a value that left
//! memory is read back through `store::Values`). Every member that applies the same entries holds the same
//! state, to the byte. A request that is refused is an outcome like any other: [`ApplyError`] values are the
//! same on every member, and there is no conversion from a storage error into one. Storage errors are
//! [`Fatal`]: the process stops, since its state no longer follows from its log.
//!
//! What the machine changed since the last [`Machine::take_checkpoint`] collects here until the checkpoint
//! writer asks for it.

mod admit;
mod apply;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::alarm::Alarms;
use crate::lease::{LeaseError, Table};
use crate::membership::{Membership, MembershipError};
use crate::mvcc::{Mvcc, MvccError, Operations, View};
use crate::pb::etcdserverpb::{
    AlarmResponse, CompactionResponse, DeleteRangeResponse, LeaseCheckpointResponse,
    LeaseGrantResponse, LeaseRevokeResponse, Member, PutResponse, RangeResponse, TxnResponse,
};
use crate::pb::raftpb::{ConfChange, ConfState};
use crate::store::{BucketWrite, Change, Checkpoint};
use crate::types::{LeaseId, MemberId, Revision};

pub use admit::{put_cost_bytes, request_cost_bytes, txn_cost_bytes};

/// Bytes of an empty database in the size model: etcd's meta pages and bucket roots.
const EMPTY_PAGES: i64 = 6;
/// etcd's page size; sizes grow in these steps.
const PAGE_BYTES: i64 = 4096;
/// How full etcd keeps its pages, in percent.
const PAGE_FILL_PERCENT: i64 = 90;

/// What the machine needs to know of its configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member: alarms of its own carry the id.
    pub member_id: MemberId,
    /// Learners the cluster may have.
    pub learners_max: usize,
    /// Database size in bytes at which writes are refused; `None` for no limit.
    pub quota_bytes: Option<i64>,
    /// Leases granted for less get this many seconds.
    pub lease_ttl_seconds_min: i64,
}

/// Why a request changed nothing (or, for [`ApplyError::NoSpace`], was the last to change something).
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// A CORRUPT alarm is up.
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    /// A NOSPACE alarm is up, or this request passed the quota.
    #[error("etcdserver: no space")]
    NoSpace,
    /// A read or write that the key space refuses.
    #[error(transparent)]
    Mvcc(#[from] KeySpaceError),
    /// A lease command refused.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// A membership change refused.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// An alarm request with an action number etcd does not know.
    #[error("unknown alarm action {0}")]
    UnknownAlarmAction(i32),
    /// The entry asks for something this release does not apply.
    #[error("etcdserver: request is not served by this release")]
    NotServed,
}

/// The deterministic part of [`MvccError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySpaceError {
    /// The revision was compacted.
    #[error("mvcc: required revision has been compacted")]
    Compacted,
    /// The revision does not exist yet.
    #[error("mvcc: required revision is a future revision")]
    FutureRevision,
    /// `ignore_value` or `ignore_lease` for a key that is not there.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// A put names a lease that is not there.
    #[error("lease not found")]
    LeaseNotFound,
}

/// State can no longer be read or written: the process must stop.
#[derive(Debug, thiserror::Error)]
#[error("stored state cannot be read: {0}")]
pub struct Fatal(pub MvccError);

/// An answer, with `header.revision` filled.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Response {
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Range(RangeResponse),
    Txn(TxnResponse),
    Compaction(CompactionResponse),
    LeaseGrant(LeaseGrantResponse),
    LeaseRevoke(LeaseRevokeResponse),
    LeaseCheckpoint(LeaseCheckpointResponse),
    Alarm(AlarmResponse),
    /// The members after a configuration change.
    Members(Vec<Member>),
    /// Nothing to say but that it was applied.
    Done,
}

/// What the shell has to do about an applied entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The first entry of a leader: its term has a committed entry now.
    TermStarted,
    /// A lease began.
    LeaseGranted {
        /// The lease.
        id: LeaseId,
        /// Its effective time to live.
        ttl_seconds: i64,
    },
    /// A lease ended.
    LeaseRevoked(LeaseId),
    /// What is left of leases was recorded.
    LeasesCheckpointed(Vec<(LeaseId, i64)>),
    /// The write passed the quota: this member should raise NOSPACE.
    QuotaExceeded,
    /// A compaction was accepted; history below `revision` is to be pruned.
    CompactionScheduled {
        /// The new compact revision.
        revision: i64,
        /// The one before, -1 for none.
        previous: i64,
        /// Whether the caller waits for the pruning.
        physical: bool,
    },
    /// A configuration change entry was judged. Raft gets the change, or, refused, the empty one.
    ConfigurationDecided(ConfChange),
    /// Members, their attributes, cluster version or downgrade state changed.
    MembershipChanged,
    /// Alarms changed.
    AlarmsChanged,
}

/// What applying one entry did.
#[derive(Debug)]
pub struct Applied {
    /// Id of the request, for whoever waits; 0 for none.
    pub request_id: u64,
    /// The answer.
    pub result: Result<Response, ApplyError>,
    /// Changes of keys, for watchers.
    pub changes: Option<Arc<[Change]>>,
    /// What the shell has to do.
    pub effect: Option<Effect>,
}

/// Database size as etcd counts it: whole pages, and a file that shrinks only by defragmentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Size of the file.
    pub file_bytes: i64,
    /// What of it holds data.
    pub in_use_bytes: i64,
}

/// The replicated state and what has changed in it since the last checkpoint.
pub struct Machine {
    config: Config,
    mvcc: Mvcc,
    leases: Table,
    alarms: Arc<Alarms>,
    membership: Arc<Membership>,
    sizes: Sizes,
    pending: Checkpoint,
}

/// The state readers see, as of one applied entry. Cheap to clone; never changes.
#[derive(Clone)]
pub struct Published {
    /// Keys.
    pub mvcc: View,
    /// The last applied entry.
    pub applied_index: u64,
    /// Its term.
    pub applied_term: u64,
    /// Raised alarms.
    pub alarms: Arc<Alarms>,
    /// Members, cluster version, downgrade state.
    pub membership: Arc<Membership>,
    /// Database size as of the last refresh.
    pub sizes: Sizes,
}

impl Machine {
    /// The machine as its parts were restored at start.
    pub fn new(
        config: Config,
        mvcc: Mvcc,
        leases: Table,
        alarms: Alarms,
        membership: Membership,
        applied: (u64, u64),
        conf_state: ConfState,
    ) -> Self {
        let pending = Checkpoint {
            applied_index: applied.0,
            applied_term: applied.1,
            conf_state,
            ..Checkpoint::default()
        };
        let mut machine = Self {
            config,
            mvcc,
            leases,
            alarms: Arc::new(alarms),
            membership: Arc::new(membership),
            sizes: Sizes::default(),
            pending,
        };
        machine.refresh_sizes();
        machine
    }

    /// The last applied entry.
    pub fn applied_index(&self) -> u64 {
        self.pending.applied_index
    }

    /// State for readers.
    pub fn publish(&self) -> Published {
        Published {
            mvcc: self.mvcc.view(),
            applied_index: self.pending.applied_index,
            applied_term: self.pending.applied_term,
            alarms: self.alarms.clone(),
            membership: self.membership.clone(),
            sizes: self.sizes,
        }
    }

    /// The lease table.
    pub fn leases(&self) -> &Table {
        &self.leases
    }

    /// What writes have done to keys since the start.
    pub fn operations(&self) -> Operations {
        self.mvcc.operations()
    }

    /// Changes of keys that no checkpoint has yet.
    pub fn pending_changes(&self) -> usize {
        self.pending.changes.len() + self.pending.removed.len() + self.pending.buckets.len()
    }

    /// Everything since the last call, with the applied index it belongs to.
    pub fn take_checkpoint(&mut self) -> Checkpoint {
        let next = Checkpoint {
            applied_index: self.pending.applied_index,
            applied_term: self.pending.applied_term,
            conf_state: self.pending.conf_state.clone(),
            ..Checkpoint::default()
        };
        std::mem::replace(&mut self.pending, next)
    }

    /// The voters and learners after a configuration change, as raft has them.
    pub fn set_conf_state(&mut self, conf_state: ConfState) {
        self.pending.conf_state = conf_state;
    }

    /// Removes up to `entries_max` keys' compacted history. Returns whether nothing is left to remove, and
    /// how many revisions went.
    pub fn prune(&mut self, entries_max: usize) -> (bool, usize) {
        let pruned = self.mvcc.prune(entries_max);
        let count = pruned.removed.len();
        self.pending.removed.extend(pruned.removed);
        (pruned.done, count)
    }

    /// Notes that all history below this compact revision is gone.
    pub fn finish_compaction(&mut self, revision: i64) {
        self.pending
            .buckets
            .push(compaction_mark(b"finishedCompactRev", revision));
    }

    /// Brings the size up to date. etcd's moves with its backend commits, so callers do this on a timer.
    pub fn refresh_sizes(&mut self) {
        let stored = self.mvcc.stored_bytes() as i64;
        let pages = stored * 100 / PAGE_FILL_PERCENT / PAGE_BYTES;
        self.sizes.in_use_bytes = (EMPTY_PAGES + pages) * PAGE_BYTES;
        self.sizes.file_bytes = self.sizes.file_bytes.max(self.sizes.in_use_bytes);
    }

    /// Lets the file shrink to what is in use.
    pub fn defragmented(&mut self) {
        self.sizes.file_bytes = 0;
        self.refresh_sizes();
    }

    fn write(&mut self, row: impl IntoIterator<Item = BucketWrite>) {
        self.pending.buckets.extend(row);
    }
}

fn compaction_mark(name: &'static [u8], revision: i64) -> BucketWrite {
    BucketWrite {
        bucket: crate::store::Bucket::Meta,
        key: bytes::Bytes::from_static(name),
        value: Some(bytes::Bytes::copy_from_slice(
            &Revision::new(revision, 0).to_key(),
        )),
    }
}

/// Splits what the key space answers into what every member answers alike and what stops the process.
fn deterministic<T>(result: Result<T, MvccError>) -> Result<Result<T, ApplyError>, Fatal> {
    let error = match result {
        Ok(value) => return Ok(Ok(value)),
        Err(MvccError::Compacted) => KeySpaceError::Compacted,
        Err(MvccError::FutureRevision) => KeySpaceError::FutureRevision,
        Err(MvccError::KeyNotFound) => KeySpaceError::KeyNotFound,
        Err(MvccError::LeaseNotFound) => KeySpaceError::LeaseNotFound,
        Err(
            error @ (MvccError::Stale
            | MvccError::NotReadOnly
            | MvccError::Broken { .. }
            | MvccError::Store(_)),
        ) => return Err(Fatal(error)),
    };
    Ok(Err(error.into()))
}
