//! Who belongs to the cluster: members, ids that may never return, cluster version, downgrade state.
//!
//! Replicated state. Configuration changes reach it as etcd's `ConfChange` entries with a JSON context;
//! what a change does is decided here from state alone, so that every member decides alike.

mod change;
mod identity;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::pb::etcdserverpb;
use crate::store::{Bucket, BucketWrite};
use crate::types::MemberId;

pub use change::{ConfigurationChange, MembershipError};
pub use identity::{cluster_id, member_id};

/// A member as the members bucket and configuration changes spell it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Where peers reach it.
    #[serde(rename = "peerURLs", default, deserialize_with = "null_is_empty")]
    pub peer_urls: Vec<String>,
    /// Whether it replicates without a vote.
    #[serde(rename = "isLearner", default, skip_serializing_if = "is_false")]
    pub is_learner: bool,
    /// Its name; empty until it has started and published itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where clients reach it; empty until it has published itself.
    #[serde(
        rename = "clientURLs",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub client_urls: Vec<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(d)?.unwrap_or_default())
}

impl Member {
    /// As clients see it.
    pub fn to_wire(&self) -> etcdserverpb::Member {
        etcdserverpb::Member {
            id: self.id,
            name: self.name.clone(),
            peer_ur_ls: self.peer_urls.clone(),
            client_ur_ls: self.client_urls.clone(),
            is_learner: self.is_learner,
        }
    }

    fn row(&self) -> BucketWrite {
        let value = serde_json::to_vec(self).unwrap_or_default();
        BucketWrite {
            bucket: Bucket::Members,
            key: row_key(self.id),
            value: Some(value.into()),
        }
    }
}

/// Whether, and to which version, the cluster is being downgraded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downgrade {
    /// `major.minor.0`, empty when none is under way.
    #[serde(rename = "target-version")]
    pub target_version: String,
    /// Whether one is under way.
    pub enabled: bool,
}

/// The membership as of the last applied entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    members: BTreeMap<u64, Member>,
    removed: BTreeSet<u64>,
    /// `major.minor.0`; `None` until the leader has set it.
    version: Option<String>,
    downgrade: Downgrade,
}

impl Membership {
    /// Takes a row of one of its buckets at start. `None` when the row makes no sense.
    pub fn restore(&mut self, bucket: Bucket, key: &[u8], value: &[u8]) -> Option<()> {
        let id = || u64::from_str_radix(std::str::from_utf8(key).ok()?, 16).ok();
        match (bucket, key) {
            (Bucket::Members, _) => {
                let member: Member = serde_json::from_slice(value).ok()?;
                self.members.insert(id()?, member);
            }
            (Bucket::MembersRemoved, _) => {
                self.removed.insert(id()?);
            }
            (Bucket::Cluster, b"clusterVersion") => {
                self.version = Some(String::from_utf8(value.to_vec()).ok()?);
            }
            (Bucket::Cluster, b"downgrade") => {
                self.downgrade = serde_json::from_slice(value).ok()?;
            }
            _ => {}
        }
        Some(())
    }

    /// Members in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The member with this id.
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(&id.0)
    }

    /// Whether this id was a member once and may never be again.
    pub fn is_removed(&self, id: MemberId) -> bool {
        self.removed.contains(&id.0)
    }

    /// The cluster version, `major.minor.0`.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The downgrade under way.
    pub fn downgrade(&self) -> &Downgrade {
        &self.downgrade
    }

    /// Sets the cluster version.
    pub fn set_version(&mut self, version: String) -> BucketWrite {
        let value = Bytes::from(version.clone());
        self.version = Some(version);
        BucketWrite {
            bucket: Bucket::Cluster,
            key: Bytes::from_static(b"clusterVersion"),
            value: Some(value),
        }
    }

    /// Sets the downgrade state.
    pub fn set_downgrade(&mut self, downgrade: Downgrade) -> BucketWrite {
        let value = serde_json::to_vec(&downgrade).unwrap_or_default();
        self.downgrade = downgrade;
        BucketWrite {
            bucket: Bucket::Cluster,
            key: Bytes::from_static(b"downgrade"),
            value: Some(value.into()),
        }
    }

    /// A member publishes its name and client URLs. A member that is gone changes nothing.
    pub fn publish(
        &mut self,
        id: MemberId,
        name: &str,
        client_urls: &[String],
    ) -> Option<BucketWrite> {
        let member = self.members.get_mut(&id.0)?;
        member.name = name.to_owned();
        member.client_urls = client_urls.to_vec();
        Some(member.row())
    }
}

fn row_key(id: u64) -> Bytes {
    Bytes::from(format!("{id:x}"))
}
