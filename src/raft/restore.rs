//! From what the disk holds to a state `raft` can start from.
//!
//! `raft` panics on a state that does not fit together. Here every contradiction is found first and
//! named, and the three lags that are normal are lifted:
//!
//! * the commit index, written lazily, up to the applied index;
//! * the term, up to the last entry's: a torn write may have kept entries and lost the term written
//!   behind them. The vote of the lifted term was not given, or its write would have been complete;
//! * both up to the snapshot's.

use std::collections::BTreeSet;

use raft_proto::eraftpb::{ConfState, Entry, HardState};

/// What the log and the checkpoint gave.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// The last hard state written; the default for a new member.
    pub hard_state: HardState,
    /// The configuration as of `applied`; empty for a member that has yet to join.
    pub conf_state: ConfState,
    /// Last index whose effects the state machine holds.
    pub applied: u64,
    /// Index and term of the entry before `entries`; zeroes for a log from the beginning.
    pub snapshot: (u64, u64),
    /// The log behind `snapshot`, without a gap.
    pub entries: Vec<Entry>,
}

/// Why a member cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoreError {
    /// A configuration value is impossible.
    #[error("raft configuration: {0}")]
    Config(String),
    /// The log has a hole.
    #[error("raft log: entry {expected} is missing, found entry {found} in its place")]
    Gap {
        /// The index that should come next.
        expected: u64,
        /// The index that came.
        found: u64,
    },
    /// Terms in the log run backwards.
    #[error("raft log: entry {index} has term {term}, less than the entry before it")]
    TermOrder {
        /// The offending entry.
        index: u64,
        /// Its term.
        term: u64,
    },
    /// The checkpoint is newer than the log.
    #[error(
        "the state is applied up to entry {applied} but the raft log ends at {last_index}: \
         log files are missing; restore them or rebuild this member from its peers"
    )]
    AppliedBeyondLog {
        /// Applied index of the checkpoint.
        applied: u64,
        /// Last entry of the log.
        last_index: u64,
    },
    /// The checkpoint is older than the log's beginning.
    #[error(
        "the state is applied up to entry {applied} but the raft log begins after {snapshot_index}: \
         the entries between them are missing; rebuild this member from its peers"
    )]
    AppliedBelowLog {
        /// Applied index of the checkpoint.
        applied: u64,
        /// Index before the log's first entry.
        snapshot_index: u64,
    },
    /// The log is shorter than what was committed.
    #[error(
        "entries up to {commit} were committed but the raft log ends at {last_index}: \
         log files are missing; rebuild this member from its peers"
    )]
    CommitBeyondLog {
        /// Commit index of the hard state.
        commit: u64,
        /// Last entry of the log.
        last_index: u64,
    },
    /// The configuration contradicts itself.
    #[error("raft members: {0}")]
    Members(String),
    /// Refused by `raft` itself.
    #[error("raft: {0}")]
    Raft(String),
}

/// Checks `restored` and lifts its hard state; see the module's head.
pub(super) fn check(restored: &Restored) -> Result<HardState, CoreError> {
    let (snapshot_index, snapshot_term) = restored.snapshot;
    let (mut last_index, mut last_term) = restored.snapshot;
    for entry in &restored.entries {
        if entry.index != last_index + 1 {
            return Err(CoreError::Gap {
                expected: last_index + 1,
                found: entry.index,
            });
        }
        if entry.term < last_term {
            return Err(CoreError::TermOrder {
                index: entry.index,
                term: entry.term,
            });
        }
        (last_index, last_term) = (entry.index, entry.term);
    }
    let applied = restored.applied;
    if applied > last_index {
        return Err(CoreError::AppliedBeyondLog {
            applied,
            last_index,
        });
    }
    if applied < snapshot_index {
        return Err(CoreError::AppliedBelowLog {
            applied,
            snapshot_index,
        });
    }
    let commit = restored.hard_state.commit;
    if commit > last_index {
        return Err(CoreError::CommitBeyondLog { commit, last_index });
    }
    check_members(&restored.conf_state).map_err(CoreError::Members)?;

    let mut hard_state = restored.hard_state.clone();
    hard_state.commit = commit.max(applied);
    let term = last_term.max(snapshot_term);
    if hard_state.term < term {
        (hard_state.term, hard_state.vote) = (term, 0);
    }
    Ok(hard_state)
}

/// Whether `raft` takes this configuration: no id twice, no 0, no joint consensus.
pub(super) fn check_members(conf_state: &ConfState) -> Result<(), String> {
    if !conf_state.voters_outgoing.is_empty()
        || !conf_state.learners_next.is_empty()
        || conf_state.auto_leave
    {
        return Err("joint consensus is not supported".to_owned());
    }
    if conf_state.voters.is_empty() && !conf_state.learners.is_empty() {
        return Err("learners without a voter".to_owned());
    }
    let mut seen = BTreeSet::new();
    for &id in conf_state.voters.iter().chain(&conf_state.learners) {
        if id == 0 {
            return Err("a member has id 0".to_owned());
        }
        if !seen.insert(id) {
            return Err(format!("member {id:x} occurs twice"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restored() -> Restored {
        let entry = |index, term| Entry {
            index,
            term,
            ..Entry::default()
        };
        Restored {
            hard_state: HardState {
                term: 3,
                vote: 2,
                commit: 5,
            },
            conf_state: ConfState {
                voters: vec![1, 2],
                ..ConfState::default()
            },
            applied: 5,
            snapshot: (4, 2),
            entries: vec![entry(5, 2), entry(6, 3)],
        }
    }

    #[test]
    fn a_sound_state_is_kept() {
        assert_eq!(check(&restored()), Ok(restored().hard_state));
        assert_eq!(check(&Restored::default()), Ok(HardState::default()));
    }

    #[test]
    fn lags_are_lifted() {
        let lagging = Restored {
            hard_state: HardState::default(),
            ..restored()
        };
        assert_eq!(
            check(&lagging),
            Ok(HardState {
                term: 3,
                vote: 0,
                commit: 5
            })
        );
    }

    #[test]
    fn contradictions_are_named() {
        let wrong = |change: fn(&mut Restored)| {
            let mut state = restored();
            change(&mut state);
            check(&state).expect_err("contradiction")
        };
        assert_eq!(
            wrong(|s| s.entries[1].index = 7),
            CoreError::Gap {
                expected: 6,
                found: 7
            }
        );
        assert_eq!(
            wrong(|s| s.entries[1].term = 1),
            CoreError::TermOrder { index: 6, term: 1 }
        );
        assert!(matches!(
            wrong(|s| s.applied = 7),
            CoreError::AppliedBeyondLog { .. }
        ));
        assert!(matches!(
            wrong(|s| s.applied = 3),
            CoreError::AppliedBelowLog { .. }
        ));
        let beyond = wrong(|s| s.hard_state.commit = 9);
        assert_eq!(
            beyond,
            CoreError::CommitBeyondLog {
                commit: 9,
                last_index: 6
            }
        );
        assert!(matches!(
            wrong(|s| s.conf_state.learners = vec![2]),
            CoreError::Members(_)
        ));
        assert!(matches!(
            wrong(|s| s.conf_state.voters = vec![0]),
            CoreError::Members(_)
        ));
        assert!(matches!(
            wrong(|s| s.conf_state.auto_leave = true),
            CoreError::Members(_)
        ));
    }
}
