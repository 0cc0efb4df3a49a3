//! The gate between a peer's bytes and `raft`.
//!
//! `raft` trusts its messages: an index that does not fit, a term where none may be or a conflict with a
//! committed entry is a panic, and a panic here ends the process. So every message is checked against
//! what `raft` would do with it *in this member's present state*, and a refused one says why. What other
//! implementations put into fields `raft` reads differently is cleaned on the way.
//!
//! Each check names the panic it stands before. The property "no message panics" is tested with random
//! bytes and random messages in every role (`fuzz.rs`).

use raft_proto::eraftpb::{Entry, EntryType, Message, MessageType};

use super::conf_change;
use super::core::ProposalRefused;
use super::output::Role;
use super::restore::check_members;

/// Largest index and term taken from a peer: `raft` adds to them without looking.
const NUMBER_MAX: u64 = 1 << 62;
/// Longest read-index context; Go sends 8 bytes, this implementation 24.
const READ_CONTEXT_BYTES_MAX: usize = 256;

/// Why a peer's message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// A type that never travels, or unknown.
    #[error("message type {0} does not belong on the wire")]
    Kind(i32),
    /// Not addressed to this member.
    #[error("message to {to:x} arrived at {id:x}")]
    Recipient {
        /// The addressee.
        to: u64,
        /// This member.
        id: u64,
    },
    /// No sender, or this member itself.
    #[error("message from {0:x}, which is no other member")]
    Sender(u64),
    /// The term is absent, present where it must not be, or out of range.
    #[error("message with impossible term {0}")]
    Term(u64),
    /// An index is out of range.
    #[error("message with impossible index {0}")]
    Index(u64),
    /// Entries that are absent, out of order or of a kind etcd does not write.
    #[error("message with unusable entries: {0}")]
    Entries(String),
    /// A snapshot without index, term or sensible members.
    #[error("message with unusable snapshot: {0}")]
    Snapshot(String),
    /// The leader thinks this member has entries that it has not: its data was lost.
    #[error(
        "the leader says entries up to {commit} are committed and stored here, but the log ends at \
         {last_index}: this member lost data; remove it and add it anew"
    )]
    LostData {
        /// The leader's commit index, capped at what this member once acknowledged.
        commit: u64,
        /// Last entry here.
        last_index: u64,
    },
    /// A member acknowledges entries that this leader never had.
    #[error("acknowledgement of entry {index}, but the log ends at {last_index}")]
    AcknowledgedTooMuch {
        /// The acknowledged index.
        index: u64,
        /// Last entry here.
        last_index: u64,
    },
    /// Asked to stand for election while a write is on its way to the disk.
    #[error("cannot stand for election now: the log or the state machine is behind")]
    NotReadyToLead,
    /// An answer of a member that is not in the configuration (it was removed, or is not yet known).
    #[error("answer of {0:x}, which is no member")]
    NotMember(u64),
    /// A message only a leader takes, or one that comes from somebody else than the leader.
    #[error("message for or from a leader that is none")]
    NotLeader,
    /// A forwarded proposal that cannot be taken now.
    #[error("forwarded proposal: {0}")]
    Proposal(ProposalRefused),
    /// `raft` refused it.
    #[error("raft: {0}")]
    Raft(String),
}

impl Rejected {
    /// True when no correct peer sends this: close the stream it came from. False for what happens in
    /// normal operation through delay and change.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        match self {
            Self::Kind(_)
            | Self::Recipient { .. }
            | Self::Sender(_)
            | Self::Term(_)
            | Self::Index(_)
            | Self::Entries(_)
            | Self::Snapshot(_)
            | Self::AcknowledgedTooMuch { .. } => true,
            Self::LostData { .. }
            | Self::NotReadyToLead
            | Self::NotMember(_)
            | Self::NotLeader
            | Self::Proposal(_)
            | Self::Raft(_) => false,
        }
    }
}

/// The present state that decides what a message would do.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) id: u64,
    pub(super) role: Role,
    pub(super) term: u64,
    pub(super) leader: u64,
    pub(super) last_index: u64,
    pub(super) can_campaign: bool,
}

/// Checks one message and cleans it; see the module's head.
pub(super) fn validate(message: &mut Message, view: &View) -> Result<(), Rejected> {
    let kind = check_envelope(message, view)?;
    clean(message);
    match kind {
        MessageType::MsgPropose => check_proposal(message),
        MessageType::MsgReadIndex => check_read_index(message),
        MessageType::MsgAppend => check_append(message),
        MessageType::MsgHeartbeat => check_heartbeat(message, view),
        MessageType::MsgSnapshot => check_snapshot(message),
        MessageType::MsgAppendResponse => check_append_response(message, view),
        // Panic: a won election with entries not yet on disk.
        MessageType::MsgTimeoutNow if !view.can_campaign => Err(Rejected::NotReadyToLead),
        // Panic: a follower that forwards it finds the term set.
        MessageType::MsgTransferLeader if view.role != Role::Leader => Err(Rejected::NotLeader),
        MessageType::MsgReadIndexResp => check_read_index_response(message, view),
        _ => Ok(()),
    }
}

/// Type, addresses, term.
fn check_envelope(message: &Message, view: &View) -> Result<MessageType, Rejected> {
    // Panic: unknown types are read as the zero variant, an election.
    let kind = MessageType::try_from(message.msg_type)
        .ok()
        .filter(|kind| !is_local(*kind))
        .ok_or(Rejected::Kind(message.msg_type))?;
    if message.to != view.id {
        return Err(Rejected::Recipient {
            to: message.to,
            id: view.id,
        });
    }
    // What is forwarded keeps its first sender, who may be the leader by the time it arrives.
    let is_forwarded = matches!(
        kind,
        MessageType::MsgPropose | MessageType::MsgReadIndex | MessageType::MsgTransferLeader
    );
    if message.from == 0 || (message.from == view.id && !is_forwarded) {
        return Err(Rejected::Sender(message.from));
    }
    // Panic: "term should not be set when sending" on forwarding; and a term of 0 passes every term check
    // of raft as a message of its own.
    let wants_term = !matches!(kind, MessageType::MsgPropose | MessageType::MsgReadIndex);
    if wants_term != (message.term != 0) || message.term > NUMBER_MAX {
        return Err(Rejected::Term(message.term));
    }
    for index in [message.index, message.commit, message.reject_hint] {
        // Panic: overflow.
        if index > NUMBER_MAX {
            return Err(Rejected::Index(index));
        }
    }
    Ok(kind)
}

fn is_local(kind: MessageType) -> bool {
    matches!(
        kind,
        MessageType::MsgHup
            | MessageType::MsgBeat
            | MessageType::MsgUnreachable
            | MessageType::MsgSnapStatus
            | MessageType::MsgCheckQuorum
    )
}

/// Fields `raft` has and etcd has not, or has under another meaning (13 is `vote` in Go): a priority
/// makes a new member panic (raft issue 511), a requested snapshot unwraps a compacted term.
fn clean(message: &mut Message) {
    message.priority = 0;
    message.deprecated_priority = 0;
    message.request_snapshot = 0;
    for entry in &mut message.entries {
        entry.context.clear();
        entry.sync_log = false;
    }
}

fn check_proposal(message: &Message) -> Result<(), Rejected> {
    // Panic: "stepped empty MsgProp".
    if message.entries.is_empty() {
        return Err(Rejected::Entries("a proposal of nothing".to_owned()));
    }
    for entry in &message.entries {
        check_entry_kind(entry)?;
        if entry.entry_type == EntryType::EntryConfChange as i32 {
            conf_change::decode(&entry.data)
                .map_err(|error| Rejected::Entries(error.to_string()))?;
        }
    }
    Ok(())
}

fn check_entry_kind(entry: &Entry) -> Result<(), Rejected> {
    // Joint consensus is not served, and other numbers would be read as normal entries.
    let is_known = entry.entry_type == EntryType::EntryNormal as i32
        || entry.entry_type == EntryType::EntryConfChange as i32;
    if is_known {
        Ok(())
    } else {
        Err(Rejected::Entries(format!(
            "kind {} is not supported",
            entry.entry_type
        )))
    }
}

fn check_read_index(message: &Message) -> Result<(), Rejected> {
    // Panic: the first entry is taken unseen.
    match message.entries.as_slice() {
        [entry] if entry.data.len() <= READ_CONTEXT_BYTES_MAX => Ok(()),
        _ => Err(Rejected::Entries(
            "a read index carries one short context".to_owned(),
        )),
    }
}

fn check_read_index_response(message: &Message, view: &View) -> Result<(), Rejected> {
    check_read_index(message)?;
    // An answer moves the commit index; only the leader of this term may.
    if message.from == view.leader && message.term == view.term {
        Ok(())
    } else {
        Err(Rejected::NotLeader)
    }
}

fn check_append(message: &Message) -> Result<(), Rejected> {
    // Panic: beyond the log every index "has" term 0, so the append would be taken and leave a hole.
    if (message.index == 0) != (message.log_term == 0) || message.log_term > message.term {
        return Err(Rejected::Term(message.log_term));
    }
    let (mut index, mut term) = (message.index, message.log_term);
    for entry in &message.entries {
        check_entry_kind(entry)?;
        // Panic: slices by position; also the way a conflict with committed entries would arise.
        if entry.index != index + 1 {
            return Err(Rejected::Entries(format!(
                "entry {} follows {index}",
                entry.index
            )));
        }
        if entry.term < term || entry.term == 0 || entry.term > message.term {
            return Err(Rejected::Entries(format!(
                "entry {index} of term {term} is followed by one of term {} in term {}",
                entry.term, message.term
            )));
        }
        (index, term) = (entry.index, entry.term);
    }
    Ok(())
}

fn check_heartbeat(message: &Message, view: &View) -> Result<(), Rejected> {
    // Panic: "to_commit is out of range". A message of an old term is only answered.
    if message.term >= view.term && message.commit > view.last_index {
        return Err(Rejected::LostData {
            commit: message.commit,
            last_index: view.last_index,
        });
    }
    Ok(())
}

fn check_snapshot(message: &Message) -> Result<(), Rejected> {
    let refused = |reason: &str| Err(Rejected::Snapshot(reason.to_owned()));
    let metadata = message.get_snapshot().get_metadata();
    // Panic: "invalid restore"; an index of 0 means no snapshot.
    if metadata.index == 0 || metadata.index > NUMBER_MAX {
        return refused("index out of range");
    }
    if metadata.term == 0 || metadata.term > message.term {
        return refused("term out of range");
    }
    let members = metadata.get_conf_state();
    if members.voters.is_empty() {
        return refused("no voters");
    }
    check_members(members).map_err(Rejected::Snapshot)
}

fn check_append_response(message: &Message, view: &View) -> Result<(), Rejected> {
    // Poisons the progress: the leader would count entries as replicated that do not exist.
    let is_counted = view.role == Role::Leader && message.term == view.term;
    if is_counted && message.index > view.last_index {
        return Err(Rejected::AcknowledgedTooMuch {
            index: message.index,
            last_index: view.last_index,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use raft_proto::eraftpb::{ConfChange, ConfState, Snapshot};

    use super::*;

    const VIEW: View = View {
        id: 1,
        role: Role::Follower,
        term: 5,
        leader: 2,
        last_index: 10,
        can_campaign: true,
    };

    fn message(kind: MessageType) -> Message {
        Message {
            msg_type: kind as i32,
            from: 2,
            to: 1,
            term: 5,
            ..Message::default()
        }
    }

    fn verdict(mut message: Message) -> Result<(), Rejected> {
        validate(&mut message, &VIEW)
    }

    fn entry(index: u64, term: u64) -> Entry {
        Entry {
            index,
            term,
            ..Entry::default()
        }
    }

    #[test]
    fn envelopes() {
        let beat = message(MessageType::MsgHeartbeat);
        assert_eq!(verdict(beat.clone()), Ok(()));
        for kind in [-1, 0, 1, 10, 11, 12, 19, 20, 21, 22, 23, 99] {
            let wrong = Message {
                msg_type: kind,
                ..beat.clone()
            };
            assert_eq!(verdict(wrong), Err(Rejected::Kind(kind)));
        }
        assert!(matches!(
            verdict(Message {
                to: 3,
                ..beat.clone()
            }),
            Err(Rejected::Recipient { .. })
        ));
        for from in [0, 1] {
            assert_eq!(
                verdict(Message {
                    from,
                    ..beat.clone()
                }),
                Err(Rejected::Sender(from))
            );
        }
        for term in [0, u64::MAX] {
            assert_eq!(
                verdict(Message {
                    term,
                    ..beat.clone()
                }),
                Err(Rejected::Term(term))
            );
        }
        assert_eq!(
            verdict(message(MessageType::MsgPropose)),
            Err(Rejected::Term(5))
        );
        let hint = Message {
            reject_hint: u64::MAX,
            ..message(MessageType::MsgAppendResponse)
        };
        assert_eq!(verdict(hint), Err(Rejected::Index(u64::MAX)));
    }

    #[test]
    fn foreign_fields_are_cleaned() {
        let mut vote = Message {
            priority: -1,
            deprecated_priority: 3,
            request_snapshot: 9,
            ..message(MessageType::MsgRequestVote)
        };
        assert_eq!(validate(&mut vote, &VIEW), Ok(()));
        assert_eq!(vote, message(MessageType::MsgRequestVote));
    }

    #[test]
    fn appends_must_be_contiguous_and_ordered() {
        let append = |entries| Message {
            index: 10,
            log_term: 4,
            entries,
            ..message(MessageType::MsgAppend)
        };
        assert_eq!(verdict(append(vec![entry(11, 4), entry(12, 5)])), Ok(()));
        for entries in [
            vec![entry(12, 5)],
            vec![entry(11, 5), entry(11, 5)],
            vec![entry(11, 5), entry(12, 4)],
            vec![entry(11, 6)],
            vec![entry(11, 0)],
            vec![Entry {
                entry_type: 2,
                ..entry(11, 5)
            }],
            vec![Entry {
                entry_type: 7,
                ..entry(11, 5)
            }],
        ] {
            assert!(matches!(
                verdict(append(entries)),
                Err(Rejected::Entries(_))
            ));
        }
        let hole = Message {
            log_term: 0,
            ..append(vec![])
        };
        assert_eq!(verdict(hole), Err(Rejected::Term(0)));
    }

    #[test]
    fn lost_data_is_told_from_malformed() {
        let beat = Message {
            commit: 11,
            ..message(MessageType::MsgHeartbeat)
        };
        let lost = verdict(beat.clone()).expect_err("beyond the log");
        assert_eq!(
            lost,
            Rejected::LostData {
                commit: 11,
                last_index: 10
            }
        );
        assert!(!lost.is_malformed());
        assert_eq!(
            verdict(Message { term: 4, ..beat }),
            Ok(()),
            "an old leader is answered"
        );
    }

    #[test]
    fn a_leader_counts_only_entries_it_has() {
        let leader = View {
            role: Role::Leader,
            leader: 1,
            ..VIEW
        };
        let mut answer = Message {
            index: 11,
            ..message(MessageType::MsgAppendResponse)
        };
        assert_eq!(
            validate(&mut answer, &leader),
            Err(Rejected::AcknowledgedTooMuch {
                index: 11,
                last_index: 10
            })
        );
        answer.index = 10;
        assert_eq!(validate(&mut answer, &leader), Ok(()));
    }

    #[test]
    fn elections_and_transfers_wait_for_the_disk_and_the_leader() {
        let busy = View {
            can_campaign: false,
            ..VIEW
        };
        let mut now = message(MessageType::MsgTimeoutNow);
        assert_eq!(validate(&mut now, &busy), Err(Rejected::NotReadyToLead));
        assert_eq!(validate(&mut now, &VIEW), Ok(()));
        assert_eq!(
            verdict(message(MessageType::MsgTransferLeader)),
            Err(Rejected::NotLeader)
        );
    }

    #[test]
    fn proposals_and_reads() {
        let propose = |entries| Message {
            term: 0,
            entries,
            ..message(MessageType::MsgPropose)
        };
        assert!(verdict(propose(vec![])).is_err());
        assert_eq!(verdict(propose(vec![Entry::default()])), Ok(()));
        let change = |change_type| Entry {
            entry_type: 1,
            data: ConfChange {
                change_type,
                node_id: 7,
                ..ConfChange::default()
            }
            .encode_to_vec()
            .into(),
            ..Entry::default()
        };
        assert_eq!(
            verdict(propose(vec![change(3)])),
            Ok(()),
            "etcd's add learner"
        );
        assert!(verdict(propose(vec![change(4)])).is_err());
        let read = |entries| Message {
            term: 0,
            entries,
            ..message(MessageType::MsgReadIndex)
        };
        assert_eq!(verdict(read(vec![Entry::default()])), Ok(()));
        assert!(verdict(read(vec![])).is_err());
        assert!(
            verdict(read(vec![Entry {
                data: vec![0; 300].into(),
                ..Entry::default()
            }]))
            .is_err()
        );
        let answer = |from, term| Message {
            from,
            term,
            entries: vec![Entry::default()],
            ..message(MessageType::MsgReadIndexResp)
        };
        assert_eq!(verdict(answer(2, 5)), Ok(()));
        assert_eq!(verdict(answer(3, 5)), Err(Rejected::NotLeader));
        assert_eq!(verdict(answer(2, 6)), Err(Rejected::NotLeader));
    }

    #[test]
    fn snapshots_need_sensible_members() {
        let snapshot = |index, term, voters: &[u64], learners: &[u64]| {
            let mut snapshot = Snapshot::default();
            let metadata = snapshot.mut_metadata();
            (metadata.index, metadata.term) = (index, term);
            metadata.set_conf_state(ConfState {
                voters: voters.to_vec(),
                learners: learners.to_vec(),
                ..ConfState::default()
            });
            verdict(Message {
                snapshot: Some(snapshot),
                ..message(MessageType::MsgSnapshot)
            })
        };
        assert_eq!(snapshot(20, 5, &[1, 2], &[3]), Ok(()));
        assert!(snapshot(0, 5, &[1, 2], &[]).is_err());
        assert!(snapshot(20, 6, &[1, 2], &[]).is_err());
        assert!(snapshot(20, 5, &[], &[]).is_err());
        assert!(snapshot(20, 5, &[1, 2], &[2]).is_err());
        assert!(snapshot(20, 5, &[1, 1], &[]).is_err());
        assert!(verdict(message(MessageType::MsgSnapshot)).is_err());
    }
}
