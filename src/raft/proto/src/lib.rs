//! The messages the `raft` crate works on, as etcd encodes them.
//!
//! The registry's `raft-proto` brings a second prost, deep-copied payloads, a protoc at build time,
//! conf-change numbers that differ from etcd's, and getters that panic on an unknown enum number.
//! This package has the same Rust surface without them:
//!
//! * payloads ([`eraftpb::Entry::data`], contexts, snapshot data) are [`bytes::Bytes`];
//! * [`eraftpb::ConfChangeType`] has etcd's numbers (add 0, remove 1, **update 2, add learner 3**). The raft
//!   crate matches on exactly three variants, so update has none: translate it before raft sees it;
//! * getters read an unknown enum number as the zero variant. Callers validate before they step a message.

mod accessors;
mod confchange;
pub mod eraftpb;

pub use confchange::{
    new_conf_change_single, parse_conf_change, stringify_conf_change, ConfChangeI,
};

/// Whether two configurations name the same members, in any order.
#[must_use]
pub fn conf_state_eq(lhs: &eraftpb::ConfState, rhs: &eraftpb::ConfState) -> bool {
    let same = |a: &[u64], b: &[u64]| {
        let (mut a, mut b) = (a.to_vec(), b.to_vec());
        a.sort_unstable();
        b.sort_unstable();
        a == b
    };
    lhs.auto_leave == rhs.auto_leave
        && same(&lhs.voters, &rhs.voters)
        && same(&lhs.learners, &rhs.learners)
        && same(&lhs.voters_outgoing, &rhs.voters_outgoing)
        && same(&lhs.learners_next, &rhs.learners_next)
}

/// The names the `raft` crate imports in one line.
pub mod prelude {
    pub use crate::eraftpb::{
        ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2,
        ConfState, Entry, EntryType, HardState, Message, MessageType, Snapshot, SnapshotMetadata,
    };
}

/// Conversions the `raft` crate expects here.
pub mod util {
    use crate::eraftpb::ConfState;

    impl<Voters, Learners> From<(Voters, Learners)> for ConfState
    where
        Voters: IntoIterator<Item = u64>,
        Learners: IntoIterator<Item = u64>,
    {
        fn from((voters, learners): (Voters, Learners)) -> Self {
            ConfState {
                voters: voters.into_iter().collect(),
                learners: learners.into_iter().collect(),
                ..ConfState::default()
            }
        }
    }
}
