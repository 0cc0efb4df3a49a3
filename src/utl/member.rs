//! What a restored member of either etcd has besides the snapshot's keys: the cluster's members, and a log that begins with
//! them.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::bootstrap::Founding;
use crate::disk::RealDisk;
use crate::membership::{ConfigurationChange, Membership, MembershipError};
use crate::pb::raftpb::{ConfState, Entry, EntryType, HardState};
use crate::store::{Bucket, BucketWrite};
use crate::types::Revision;
use crate::wal::{Metadata, Options, Wal, WalError};

/// The term of the entries that found a cluster.
pub(super) const TERM: u64 = 1;

impl Founding {
    /// The last of the entries that found the cluster, all of which a restored member has applied.
    pub(super) fn index(&self) -> u64 {
        self.members.len() as u64
    }

    /// Who votes.
    pub(super) fn conf_state(&self) -> ConfState {
        ConfState {
            voters: self.members.iter().map(|member| member.id).collect(),
            ..ConfState::default()
        }
    }

    /// The rows of the members.
    pub(super) fn rows(&self) -> Result<Vec<BucketWrite>, MembershipError> {
        let mut membership = Membership::default();
        let mut rows = Vec::new();
        for member in &self.members {
            let change = ConfigurationChange::Add(member.clone());
            rows.extend(membership.apply(&change, 0)?);
        }
        Ok(rows)
    }

    /// Makes the log. It begins with an entry per member, all applied, and says that a snapshot is behind them.
    pub(super) fn write_log(&self, dir: &Path) -> Result<(), WalError> {
        let metadata = Metadata {
            node_id: self.own,
            cluster_id: self.cluster_id,
        };
        let mut wal = Wal::create(Arc::new(RealDisk), dir, metadata, Options::default())?;
        let entries: Vec<_> = (1..)
            .zip(&self.members)
            .map(|(index, member)| Entry {
                entry_type: EntryType::EntryConfChange as i32,
                term: TERM,
                index,
                data: ConfigurationChange::bootstrap_entry(member),
                ..Entry::default()
            })
            .collect();
        let vote = self.members.first().map_or(0, |member| member.id);
        let state = HardState {
            term: TERM,
            vote,
            commit: self.index(),
        };
        wal.append(Some(&state), &entries)?;
        wal.append_snapshot(self.index(), TERM, &self.conf_state())?;
        Ok(())
    }
}

/// A revision far above all others, up to which everything counts as compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Raised {
    /// Under which a row without content is written.
    pub(super) revision: Revision,
}

impl Raised {
    /// The row that makes a server complete the compaction.
    pub(super) fn mark(self) -> BucketWrite {
        BucketWrite {
            bucket: Bucket::Meta,
            key: Bytes::from_static(b"scheduledCompactRev"),
            value: Some(Bytes::copy_from_slice(&self.revision.to_key())),
        }
    }
}
