//! What the endpoints ask of the member.

use bytes::Bytes;
use serde_json::Value;

use crate::mvcc::{KvHash, MvccError};
use crate::node::{NodeHandle, Role};
use crate::pb::etcdserverpb::{AlarmMember, AlarmType};
use crate::types::{ClusterId, LeaseId};

/// A member, as far as HTTP shows it. The node is one; tests have another.
pub trait Member: Clone + Send + Sync + 'static {
    /// Alarms of any member.
    fn alarms(&self) -> Vec<AlarmMember>;
    /// Whether a leader is known.
    fn has_leader(&self) -> bool;
    /// Whether this member replicates without a vote.
    fn is_learner(&self) -> bool;
    /// Waits for the confirmation a linearizable read needs; the error as clients would see it.
    fn linearizable_read(&self) -> impl Future<Output = Result<(), String>> + Send;
    /// The cluster's version, once it is decided.
    fn cluster_version(&self) -> Option<String>;
    /// The version of the stored format, once it is known.
    fn storage_version(&self) -> Option<String>;
    /// The cluster's id.
    fn cluster_id(&self) -> ClusterId;
    /// Members by id, as `/members` spells them.
    fn members(&self) -> Vec<crate::membership::Member>;
    /// Whether a downgrade is under way.
    fn is_downgrading(&self) -> bool;
    /// Raft's state, as `/debug/vars` shows it.
    fn raft_status(&self) -> Value;
    /// The hash of all history up to `revision` (0: all), and the store's revision; the error in etcd's
    /// words.
    fn hash_kv(&self, revision: i64) -> impl Future<Output = Result<(KvHash, i64), String>> + Send;
    /// Gives a lease its full time again: its TTL, None for an unknown one.
    fn keep_alive(
        &self,
        lease: LeaseId,
    ) -> impl Future<Output = Result<Option<i64>, String>> + Send;
    /// What is left of a lease.
    fn lease_left(
        &self,
        lease: LeaseId,
        keys: bool,
    ) -> impl Future<Output = Result<Option<LeaseLeft>, String>> + Send;
}

/// Seconds left, seconds granted, and the keys, if they were asked for.
pub(super) type LeaseLeft = (i64, i64, Vec<Bytes>);

/// What etcd calls a member that does not keep the leases' time.
const NOT_PRIMARY: &str = "not a primary lessor";

impl Member for NodeHandle {
    fn alarms(&self) -> Vec<AlarmMember> {
        self.view().alarms.list(AlarmType::None as i32)
    }

    fn has_leader(&self) -> bool {
        self.status().leader != 0
    }

    fn is_learner(&self) -> bool {
        self.status().role == Role::Learner
    }

    async fn linearizable_read(&self) -> Result<(), String> {
        self.read_index().await.map_err(|error| error.to_string())
    }

    fn cluster_version(&self) -> Option<String> {
        self.view().membership.version().map(str::to_owned)
    }

    fn storage_version(&self) -> Option<String> {
        // The stored format follows the cluster's version at once.
        self.cluster_version()
    }

    fn cluster_id(&self) -> ClusterId {
        self.identity().cluster_id
    }

    fn members(&self) -> Vec<crate::membership::Member> {
        self.view().membership.members().cloned().collect()
    }

    fn is_downgrading(&self) -> bool {
        self.view().membership.downgrade().enabled
    }

    fn raft_status(&self) -> Value {
        let status = self.status();
        let state = match status.role {
            Role::Leader => "StateLeader",
            Role::Candidate => "StateCandidate",
            Role::Follower | Role::Learner => "StateFollower",
        };
        serde_json::json!({
            "id": self.identity().member_id.to_string(),
            "term": status.term,
            "vote": format!("{:x}", status.leader),
            "commit": status.commit_index,
            "lead": format!("{:x}", status.leader),
            "raftState": state,
            "applied": status.applied_index,
            "progress": {},
            "leadtransferee": "0",
        })
    }

    async fn hash_kv(&self, revision: i64) -> Result<(KvHash, i64), String> {
        loop {
            let view = self.view();
            let now = view.mvcc.revision();
            let hash = tokio::task::spawn_blocking(move || view.mvcc.hash_kv(revision)).await;
            match hash.map_err(|error| error.to_string())? {
                Ok(hash) => return Ok((hash, now)),
                // A compaction came between; a new view is beyond it.
                Err(MvccError::Stale) => {}
                Err(MvccError::Compacted) => {
                    return Err("mvcc: required revision has been compacted".to_owned());
                }
                Err(MvccError::FutureRevision) => {
                    return Err("mvcc: required revision is a future revision".to_owned());
                }
                Err(other) => return Err(other.to_string()),
            }
        }
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Option<i64>, String> {
        if self.status().role != Role::Leader {
            return Err(NOT_PRIMARY.to_owned());
        }
        NodeHandle::keep_alive(self, lease)
            .await
            .map_err(|error| error.to_string())
    }

    async fn lease_left(&self, lease: LeaseId, keys: bool) -> Result<Option<LeaseLeft>, String> {
        if self.status().role != Role::Leader {
            return Err(NOT_PRIMARY.to_owned());
        }
        let Some((left, granted)) = self.time_to_live(lease) else {
            return Ok(None);
        };
        let keys = match keys {
            true => self
                .lease(lease)
                .await
                .map_err(|error| error.to_string())?
                .map(|l| l.keys),
            false => None,
        };
        Ok(Some((left, granted, keys.into_iter().flatten().collect())))
    }
}
