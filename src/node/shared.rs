//! What the threads publish for everyone: marks that only go up, and the state as of the last entry.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::queue::Sender;
use super::raft_loop::RaftInput;
use super::read_waiters::ReadWaiters;
use super::request_id::RequestIds;
use super::start::{Identity, Settings};
use super::watch::Watches;
use crate::lease::Expiry;
use crate::machine::Published;
use crate::mvcc::CompactionHashes;
use crate::store::Values;

/// What a member is to its cluster at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Follows a leader, or waits for one.
    #[default]
    Follower = 0,
    /// Asks for votes.
    Candidate = 1,
    /// Leads.
    Leader = 2,
    /// Replicates without a vote.
    Learner = 3,
}

/// The member's place in the cluster and in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Its role.
    pub role: Role,
    /// The leader's id, 0 for none.
    pub leader: u64,
    /// The term.
    pub term: u64,
    /// The last committed entry known here.
    pub commit_index: u64,
    /// The last applied entry.
    pub applied_index: u64,
    /// The last entry of a durable checkpoint.
    pub checkpoint_index: u64,
}

/// State that several threads read. Every field has one writer.
pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(crate) settings: Settings,
    pub(crate) started: Instant,
    pub(crate) request_ids: RequestIds,
    pub(crate) values: Arc<Values>,
    pub(crate) raft: Sender<RaftInput>,
    pub(crate) watches: Watches,
    /// Written by `raft`.
    pub(crate) role: AtomicU8,
    pub(crate) leader: AtomicU64,
    pub(crate) term: AtomicU64,
    pub(crate) commit_index: AtomicU64,
    /// Whether this member is the only voter and leads with an entry of its term committed: then every
    /// acknowledged write is in `published` before its answer leaves, and reads need no round.
    pub(crate) sole_leader: AtomicBool,
    /// Written by `wal`.
    pub(crate) persisted_ready: AtomicU64,
    /// When the write in flight began, in milliseconds since `started` plus one; 0 while there is none.
    pub(crate) wal_write_started: AtomicU64,
    /// Written by `apply`.
    pub(crate) applied_index: AtomicU64,
    pub(crate) published: ArcSwap<Published>,
    pub(crate) lease_expiry: Mutex<Expiry>,
    pub(crate) read_waiters: Mutex<ReadWaiters>,
    /// Written by `checkpoint`.
    pub(crate) checkpoint_index: AtomicU64,
    pub(crate) checkpoint_steps: Steps,
    /// Loops that went round since the start: what a watchdog watches.
    pub(crate) raft_rounds: AtomicU64,
    pub(crate) apply_rounds: AtomicU64,
    pub(crate) wal_rounds: AtomicU64,
    /// Written by `raft`: the leader's id, 0 for none.
    pub(crate) leader_changed: watch::Sender<u64>,
    /// Written by `apply`: the newest compactions' hashes.
    pub(crate) compaction_hashes: Mutex<CompactionHashes>,
}

/// Work that goes in steps of unknown length: a number that moves while it goes on.
#[derive(Default)]
pub(crate) struct Steps {
    /// Milliseconds of all steps that are over, and one for each.
    over: AtomicU64,
    /// When the step under way began, on the clock of the caller plus one; 0 for none.
    began: AtomicU64,
}

impl Steps {
    /// A step begins.
    pub(crate) fn begin(&self, now_milliseconds: u64) {
        self.began.store(now_milliseconds + 1, Ordering::Release);
    }

    /// It is over.
    pub(crate) fn end(&self, now_milliseconds: u64) {
        let began = self.began.swap(0, Ordering::AcqRel);
        let took = (now_milliseconds + 1).saturating_sub(began);
        self.over.fetch_add(took + 1, Ordering::AcqRel);
    }

    /// Stands still only while no step is under way.
    pub(crate) fn moved(&self, now_milliseconds: u64) -> u64 {
        let under_way = match self.began.load(Ordering::Acquire) {
            0 => 0,
            began => (now_milliseconds + 1).saturating_sub(began) + 1,
        };
        self.over.load(Ordering::Acquire) + under_way
    }
}

impl Shared {
    pub(crate) fn status(&self) -> Status {
        Status {
            role: self.role(),
            leader: self.leader.load(Ordering::Acquire),
            term: self.term.load(Ordering::Acquire),
            commit_index: self.commit_index.load(Ordering::Acquire),
            applied_index: self.applied_index.load(Ordering::Acquire),
            checkpoint_index: self.checkpoint_index.load(Ordering::Acquire),
        }
    }

    pub(crate) fn role(&self) -> Role {
        match self.role.load(Ordering::Acquire) {
            1 => Role::Candidate,
            2 => Role::Leader,
            3 => Role::Learner,
            _ => Role::Follower,
        }
    }

    /// Milliseconds on the clock lease deadlines are on.
    pub(crate) fn now_milliseconds(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// How long a request waits for its answer: etcd's 5 s and two election timeouts.
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.settings.election_timeout
    }

    /// Wakes the raft thread to look at the marks. When its inbox is full it is awake anyway.
    pub(crate) fn wake_raft(&self) {
        let _ = self.raft.try_send(RaftInput::Wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_move_while_one_is_under_way_and_stand_between() {
        let steps = Steps::default();
        assert_eq!(steps.moved(5), 0);
        steps.begin(10);
        let (first, second) = (steps.moved(10), steps.moved(5000));
        assert!(0 < first && first < second);
        steps.end(5000);
        assert_eq!(steps.moved(5000), second);
        assert_eq!(steps.moved(9000), second);
    }
}
