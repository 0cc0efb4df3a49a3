//! Configuration changes in etcd's encoding.
//!
//! A change is `raftpb.ConfChange` with etcd's numbers: 0 add a voter (or promote a learner), 1 remove,
//! 2 update (addresses only: nothing for raft), 3 add a learner. The generated enum has no variant for
//! 2, so the number is read from the raw field and never through the getter, which would call it 0.

use bytes::Bytes;
use prost::Message as _;
use raft_proto::eraftpb::ConfChange;

/// Number of the change that only updates a member's addresses.
const UPDATE: i32 = 2;
/// The largest number etcd writes.
const KIND_MAX: i32 = 3;

/// Why a configuration change could not be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfChangeRefused {
    /// The payload is not a `ConfChange`, or of a kind etcd does not have.
    #[error("not a configuration change: {0}")]
    Malformed(String),
    /// The change would leave no voter, or contradicts the configuration.
    #[error("configuration change does not fit the members: {0}")]
    Contradiction(String),
}

/// Decodes and checks a payload.
pub(super) fn decode(data: &Bytes) -> Result<ConfChange, ConfChangeRefused> {
    let change = ConfChange::decode(data.clone())
        .map_err(|error| ConfChangeRefused::Malformed(error.to_string()))?;
    check(&change)?;
    Ok(change)
}

/// Refuses kinds etcd does not have.
pub(super) fn check(change: &ConfChange) -> Result<(), ConfChangeRefused> {
    if (0..=KIND_MAX).contains(&change.change_type) {
        Ok(())
    } else {
        Err(ConfChangeRefused::Malformed(format!(
            "unknown kind {}",
            change.change_type
        )))
    }
}

/// Whether raft's configuration changes at all.
pub(super) fn concerns_raft(change: &ConfChange) -> bool {
    change.change_type != UPDATE && change.node_id != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_etcds() {
        let change = |change_type| ConfChange {
            change_type,
            node_id: 7,
            ..ConfChange::default()
        };
        for kind in 0..=3 {
            let decoded = decode(&change(kind).encode_to_vec().into()).expect("known kind");
            assert_eq!(decoded.change_type, kind);
            assert_eq!(concerns_raft(&decoded), kind != 2);
        }
        assert!(decode(&change(4).encode_to_vec().into()).is_err());
        assert!(decode(&Bytes::from_static(b"\xff\xff")).is_err());
        assert!(!concerns_raft(&ConfChange {
            node_id: 0,
            ..change(0)
        }));
    }
}
