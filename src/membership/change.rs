//! Configuration changes: what an entry asks for, and whether it is taken.

use bytes::Bytes;
use prost::Message;
use serde::{Deserialize, Serialize};

use super::{Member, Membership, row_key};
use crate::pb::raftpb::{ConfChange, ConfChangeType};
use crate::store::{Bucket, BucketWrite};
use crate::types::MemberId;

/// etcd's number for a change of peer URLs, which raft has no part in.
const UPDATE_NODE: i32 = 2;
/// Field 2 of a `ConfChange`, a varint.
const CHANGE_TYPE_TAG: u8 = 2 << 3;

/// Why a configuration change was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// The id belonged to a member that was removed.
    #[error("membership: ID removed")]
    IdRemoved,
    /// The id is in use.
    #[error("membership: ID exists")]
    IdExists,
    /// No member has the id.
    #[error("membership: ID not found")]
    IdNotFound,
    /// Another member has one of the peer URLs.
    #[error("membership: peerURL exists")]
    PeerUrlExists,
    /// Only learners are promoted.
    #[error("membership: can only promote a learner member")]
    NotLearner,
    /// More learners than the limit.
    #[error("membership: too many learner members in cluster")]
    TooManyLearners,
    /// The entry is not a configuration change etcd writes.
    #[error("membership: malformed configuration change: {0}")]
    Malformed(String),
}

/// A decoded configuration change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigurationChange {
    /// A member joins, as voter or learner.
    Add(Member),
    /// A learner becomes a voter.
    Promote(MemberId),
    /// A member goes for good.
    Remove(MemberId),
    /// A member's peer URLs change.
    Update(Member),
}

/// The context of a change, as etcd's JSON.
#[derive(Default, Serialize, Deserialize)]
struct Context {
    #[serde(flatten)]
    member: Member,
    #[serde(rename = "isPromote", default)]
    is_promote: bool,
}

impl ConfigurationChange {
    /// Reads the data of a configuration change entry: the request id that waits for it, and the change.
    pub fn decode(data: &[u8]) -> Result<(u64, Self), MembershipError> {
        let malformed = |what: String| MembershipError::Malformed(what);
        let change = ConfChange::decode(data).map_err(|e| malformed(e.to_string()))?;
        let context = || {
            serde_json::from_slice::<Context>(&change.context)
                .map_err(|e| malformed(format!("context: {e}")))
        };
        let decoded = match change.change_type {
            UPDATE_NODE => Self::Update(context()?.member),
            kind => match ConfChangeType::try_from(kind) {
                Ok(ConfChangeType::RemoveNode) => Self::Remove(MemberId(change.node_id)),
                Ok(ConfChangeType::AddNode | ConfChangeType::AddLearnerNode) => {
                    let context = context()?;
                    if context.is_promote {
                        Self::Promote(MemberId(change.node_id))
                    } else {
                        Self::Add(context.member)
                    }
                }
                Err(_) => return Err(malformed(format!("type {kind}"))),
            },
        };
        Ok((change.id, decoded))
    }

    /// The entry of a member of the initial cluster.
    pub fn bootstrap_entry(member: &Member) -> Bytes {
        let change = ConfChange {
            change_type: ConfChangeType::AddNode as i32,
            node_id: member.id,
            context: serde_json::to_vec(member).unwrap_or_default().into(),
            id: 0,
        };
        // etcd's readers want the type written out even where it is 0.
        let mut data = vec![CHANGE_TYPE_TAG, change.change_type as u8];
        data.extend(change.encode_to_vec());
        data.into()
    }
}

impl Membership {
    /// Applies a change, or says why not. Returns the rows to write.
    pub fn apply(
        &mut self,
        change: &ConfigurationChange,
        learners_max: usize,
    ) -> Result<Vec<BucketWrite>, MembershipError> {
        match change {
            ConfigurationChange::Add(member) => self.add(member, learners_max),
            ConfigurationChange::Promote(id) => {
                let member = self.existing(*id)?;
                if !member.is_learner {
                    return Err(MembershipError::NotLearner);
                }
                member.is_learner = false;
                Ok(vec![member.row()])
            }
            ConfigurationChange::Remove(id) => {
                self.existing(*id)?;
                self.members.remove(&id.0);
                self.removed.insert(id.0);
                let key = row_key(id.0);
                Ok(vec![
                    BucketWrite {
                        bucket: Bucket::Members,
                        key: key.clone(),
                        value: None,
                    },
                    BucketWrite {
                        bucket: Bucket::MembersRemoved,
                        key,
                        value: Some(Bytes::from_static(b"removed")),
                    },
                ])
            }
            ConfigurationChange::Update(update) => {
                self.existing(MemberId(update.id))?;
                self.refuse_shared_urls(update)?;
                let member = self.existing(MemberId(update.id))?;
                member.peer_urls.clone_from(&update.peer_urls);
                Ok(vec![member.row()])
            }
        }
    }

    fn add(
        &mut self,
        member: &Member,
        learners_max: usize,
    ) -> Result<Vec<BucketWrite>, MembershipError> {
        if self.removed.contains(&member.id) {
            return Err(MembershipError::IdRemoved);
        }
        if self.members.contains_key(&member.id) {
            return Err(MembershipError::IdExists);
        }
        self.refuse_shared_urls(member)?;
        if member.is_learner {
            let learners = self.members.values().filter(|m| m.is_learner).count();
            if learners + 1 > learners_max {
                return Err(MembershipError::TooManyLearners);
            }
        }
        self.members.insert(member.id, member.clone());
        Ok(vec![member.row()])
    }

    fn existing(&mut self, id: MemberId) -> Result<&mut Member, MembershipError> {
        if self.removed.contains(&id.0) {
            return Err(MembershipError::IdRemoved);
        }
        self.members
            .get_mut(&id.0)
            .ok_or(MembershipError::IdNotFound)
    }

    fn refuse_shared_urls(&self, member: &Member) -> Result<(), MembershipError> {
        let others = self.members.values().filter(|other| other.id != member.id);
        let taken: Vec<_> = others.flat_map(|other| &other.peer_urls).collect();
        match member.peer_urls.iter().any(|url| taken.contains(&url)) {
            true => Err(MembershipError::PeerUrlExists),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, url: &str, is_learner: bool) -> Member {
        Member {
            id,
            peer_urls: vec![url.to_owned()],
            is_learner,
            ..Member::default()
        }
    }

    #[test]
    fn a_change_is_judged_by_state_alone() {
        let mut membership = Membership::default();
        let mut apply = |change| membership.apply(&change, 1).map(|_| ());
        use ConfigurationChange::{Add, Promote, Remove, Update};
        assert_eq!(apply(Add(member(1, "http://a:1", false))), Ok(()));
        assert_eq!(
            apply(Add(member(1, "http://b:1", false))),
            Err(MembershipError::IdExists)
        );
        assert_eq!(
            apply(Add(member(2, "http://a:1", false))),
            Err(MembershipError::PeerUrlExists)
        );
        assert_eq!(apply(Add(member(2, "http://b:1", true))), Ok(()));
        assert_eq!(
            apply(Add(member(3, "http://c:1", true))),
            Err(MembershipError::TooManyLearners)
        );
        assert_eq!(
            apply(Promote(MemberId(1))),
            Err(MembershipError::NotLearner)
        );
        assert_eq!(apply(Promote(MemberId(2))), Ok(()));
        assert_eq!(
            apply(Update(member(2, "http://a:1", false))),
            Err(MembershipError::PeerUrlExists)
        );
        assert_eq!(apply(Remove(MemberId(2))), Ok(()));
        assert_eq!(
            apply(Add(member(2, "http://b:1", false))),
            Err(MembershipError::IdRemoved)
        );
        assert_eq!(apply(Remove(MemberId(9))), Err(MembershipError::IdNotFound));
    }

    #[test]
    fn etcds_contexts_are_read() {
        let change = ConfChange {
            id: 9,
            change_type: 3,
            node_id: 5,
            context: Bytes::from_static(
                br#"{"id":5,"peerURLs":["http://x:1"],"isLearner":true,"isPromote":false}"#,
            ),
        };
        let (id, decoded) = ConfigurationChange::decode(&change.encode_to_vec()).unwrap();
        assert_eq!(id, 9);
        assert_eq!(
            decoded,
            ConfigurationChange::Add(member(5, "http://x:1", true))
        );
        let promote = ConfChange {
            change_type: 0,
            node_id: 5,
            context: Bytes::from_static(br#"{"id":5,"peerURLs":null,"isPromote":true}"#),
            id: 0,
        };
        let (_, decoded) = ConfigurationChange::decode(&promote.encode_to_vec()).unwrap();
        assert_eq!(decoded, ConfigurationChange::Promote(MemberId(5)));
        assert!(ConfigurationChange::decode(b"\xff\xff").is_err());
    }

    #[test]
    fn rows_bring_the_membership_back() {
        let mut membership = Membership::default();
        let mut rows = Vec::new();
        for id in 1..=3 {
            let added = member(id, &format!("http://m{id}:1"), false);
            rows.extend(
                membership
                    .apply(&ConfigurationChange::Add(added), 1)
                    .unwrap(),
            );
        }
        rows.extend(
            membership
                .apply(&ConfigurationChange::Remove(MemberId(3)), 1)
                .unwrap(),
        );
        rows.extend(membership.publish(MemberId(1), "one", &["http://c:2".to_owned()]));
        rows.push(membership.set_version("3.7.0".to_owned()));
        let mut table = std::collections::BTreeMap::new();
        for row in rows {
            table.insert((row.bucket, row.key), row.value);
        }
        let mut restored = Membership::default();
        for ((bucket, key), value) in table {
            if let Some(value) = value {
                restored.restore(bucket, &key, &value).unwrap();
            }
        }
        assert_eq!(restored, membership);
    }
}
