//! The replicated state machine of the simulation: a few keys with revisions, and the members.
//!
//! **The seam.** Everything else in this directory knows the machine by [`Request`], [`Outcome`] and the
//! methods of [`Machine`]; the real one takes its place by having the same methods.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use etcd::raft::eraftpb::ConfChange;
use prost::Message as _;
use serde::{Deserialize, Serialize};

/// What a client asks for through the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Unique in a run.
    pub(crate) id: u64,
    pub(crate) key: u64,
    /// Unique in a run; none deletes.
    pub(crate) value: Option<u64>,
}

impl Request {
    pub(crate) fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("numbers are JSON").into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The store's revision afterwards. A delete of nothing changes nothing.
    pub(crate) revision: u64,
    pub(crate) has_changed: bool,
}

/// What a read saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) revision: u64,
    pub(crate) value: Option<u64>,
}

/// A change of members, as etcd knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberChange {
    /// At the beginning, or by promotion.
    AddVoter(u64),
    AddLearner(u64),
    Remove(u64),
}

impl MemberChange {
    /// As etcd's `ConfChange` numbers them.
    pub(crate) fn encode(self) -> Bytes {
        let (change_type, node_id) = match self {
            Self::AddVoter(id) => (0, id),
            Self::Remove(id) => (1, id),
            Self::AddLearner(id) => (3, id),
        };
        ConfChange {
            change_type,
            node_id,
            ..ConfChange::default()
        }
        .encode_to_vec()
        .into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<(Self, ConfChange)> {
        let change = ConfChange::decode(bytes).ok()?;
        let kind = match change.change_type {
            0 => Self::AddVoter,
            1 => Self::Remove,
            3 => Self::AddLearner,
            _ => return None,
        };
        Some((kind(change.node_id), change))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    applied: u64,
    revision: u64,
    values: BTreeMap<u64, u64>,
    voters: BTreeSet<u64>,
    learners: BTreeSet<u64>,
    /// With the index of their removal.
    removed: BTreeMap<u64, u64>,
}

impl Machine {
    /// Applies one entry's request; an empty entry only moves the applied index.
    pub(crate) fn apply(&mut self, index: u64, request: Option<&Request>) -> Outcome {
        self.applied = index;
        let has_changed = match request {
            None => false,
            Some(Request {
                key,
                value: Some(value),
                ..
            }) => {
                self.values.insert(*key, *value);
                true
            }
            Some(Request {
                key, value: None, ..
            }) => self.values.remove(key).is_some(),
        };
        self.revision += u64::from(has_changed);
        Outcome {
            revision: self.revision,
            has_changed,
        }
    }

    /// Decides about a change of members, by replicated state alone.
    pub(crate) fn accept(&mut self, index: u64, change: MemberChange) -> bool {
        self.applied = index;
        match change {
            MemberChange::AddLearner(id) => {
                let is_known = self.voters.contains(&id) || self.removed.contains_key(&id);
                !is_known && self.learners.insert(id)
            }
            MemberChange::AddVoter(id) => {
                self.learners.remove(&id);
                !self.removed.contains_key(&id) && self.voters.insert(id)
            }
            MemberChange::Remove(id) => {
                let is_last = self.voters.len() == 1 && self.voters.contains(&id);
                let is_member = self.voters.contains(&id) || self.learners.contains(&id);
                if is_last || !is_member {
                    return false;
                }
                self.voters.remove(&id);
                self.learners.remove(&id);
                self.removed.insert(id, index).is_none()
            }
        }
    }

    pub(crate) fn read(&self, key: u64) -> Seen {
        Seen {
            revision: self.revision,
            value: self.values.get(&key).copied(),
        }
    }

    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    pub(crate) fn voters(&self) -> Vec<u64> {
        self.voters.iter().copied().collect()
    }

    pub(crate) fn learners(&self) -> Vec<u64> {
        self.learners.iter().copied().collect()
    }

    /// Index of a member's removal.
    pub(crate) fn removed_at(&self, id: u64) -> Option<u64> {
        self.removed.get(&id).copied()
    }

    pub(crate) fn snapshot(&self) -> Bytes {
        serde_json::to_vec(self).expect("numbers are JSON").into()
    }

    pub(crate) fn restore(snapshot: &[u8]) -> Option<Self> {
        serde_json::from_slice(snapshot).ok()
    }

    /// Equal for equal states.
    pub(crate) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let Self {
            applied,
            revision,
            values,
            voters,
            learners,
            removed,
        } = self;
        (applied, revision, values, voters, learners, removed).hash(&mut hasher);
        hasher.finish()
    }
}
