//! What a [`Core`](super::Core) asks of its driver, and what it says about itself.

use raft_proto::eraftpb::{Entry, HardState, Message, Snapshot};

use super::lines::LogLine;

/// A member's part in its term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one. Learners are followers.
    #[default]
    Follower,
    /// Asks whether it could win an election.
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

impl From<::raft::StateRole> for Role {
    fn from(role: ::raft::StateRole) -> Self {
        match role {
            ::raft::StateRole::Follower => Self::Follower,
            ::raft::StateRole::PreCandidate => Self::PreCandidate,
            ::raft::StateRole::Candidate => Self::Candidate,
            ::raft::StateRole::Leader => Self::Leader,
        }
    }
}

/// Term, role and leader: what others watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoftState {
    /// Current term.
    pub term: u64,
    /// Role of this member.
    pub role: Role,
    /// The leader's id; 0 when unknown.
    pub leader: u64,
}

/// Work for the driver. Every part may be empty.
#[derive(Debug, Default)]
pub struct Output {
    /// Send now.
    pub messages: Vec<Message>,
    /// Append to the log and sync.
    pub write: Option<Write>,
    /// Apply, in order.
    pub committed: Vec<Entry>,
    /// Reads that may be served once `index` is applied.
    pub reads: Vec<ReadReady>,
    /// Set when term, role or leader changed.
    pub state: Option<SoftState>,
    /// Members that need a snapshot; each is named once until it is answered.
    pub snapshots_wanted: Vec<u64>,
    /// Lines for the log, logger `raft`.
    pub lines: Vec<LogLine>,
}

/// One durable write: snapshot first, then entries (they replace what the log holds from the first
/// one's index on), then the hard state.
#[derive(Debug, Default)]
pub struct Write {
    /// Pass to [`Core::persisted`](super::Core::persisted) after the sync.
    pub number: u64,
    /// Replaces the log and the state machine.
    pub snapshot: Option<Snapshot>,
    /// Follow the log or the snapshot without a gap.
    pub entries: Vec<Entry>,
    /// Set when it differs from the one written last.
    pub hard_state: Option<HardState>,
    /// Send after the sync.
    pub messages_after: Vec<Message>,
}

/// Linearizable reads that were confirmed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadReady {
    /// As given to [`Core::read_index`](super::Core::read_index).
    pub tickets: Vec<u64>,
    /// Serve from a state that has applied at least this index.
    pub index: u64,
}

/// How a leader replicates to one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicationState {
    /// Looks for the last entry in common, one message at a time.
    Probe,
    /// Streams entries.
    Replicate,
    /// Waits for a snapshot to arrive.
    Snapshot,
}

/// A leader's view of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberProgress {
    /// The member.
    pub id: u64,
    /// Does not vote.
    pub is_learner: bool,
    /// Last index known to be on the member's disk.
    pub matched: u64,
    /// Next index to send.
    pub next: u64,
    /// How entries are sent.
    pub state: ReplicationState,
    /// Heard of within the last election timeout.
    pub recent_active: bool,
    /// No message may be sent right now.
    pub paused: bool,
    /// Index of the snapshot on its way; 0 for none.
    pub pending_snapshot: u64,
}

/// A member's state at one moment.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// This member.
    pub id: u64,
    /// Current term.
    pub term: u64,
    /// Vote in this term; 0 for none.
    pub vote: u64,
    /// Role of this member.
    pub role: Role,
    /// The leader's id; 0 when unknown.
    pub leader: u64,
    /// Where leadership is being handed to; 0 for nowhere.
    pub transferee: u64,
    /// Last committed index.
    pub commit: u64,
    /// Last index reported applied (and durable in the log).
    pub applied: u64,
    /// Last index known to be on this member's disk.
    pub persisted: u64,
    /// Oldest entry still in memory.
    pub first_index: u64,
    /// Newest entry.
    pub last_index: u64,
    /// Every member, this one included, by id. Empty unless leader.
    pub progress: Vec<MemberProgress>,
}
