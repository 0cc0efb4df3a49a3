//! One member: the core, and what the server's threads do around it.
//!
//! The `wal` thread is [`Disk`] with one group under way; the `apply` thread is `apply_queue` with one
//! batch under way. Both complete by events of the world, so that anything may happen in between.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use etcd::raft::eraftpb::{ConfState, Entry, HardState};
use etcd::raft::{Config, Core};

use crate::disk::{Checkpoint, Disk};
use crate::fault::{Planted, Swarm};
use crate::machine::{Machine, MemberChange};
use crate::random::Micros;

pub(crate) struct Member {
    pub(crate) id: u64,
    /// None while it is down.
    pub(crate) core: Option<Core>,
    /// Counts starts; events of an earlier one are void.
    pub(crate) incarnation: u64,
    pub(crate) disk: Disk,
    pub(crate) machine: Machine,
    /// As of the machine's applied index. The core's own may be ahead: it takes a snapshot's members when
    /// the message comes, not when the state machine has it.
    pub(crate) conf_state: ConfState,
    pub(crate) apply_queue: VecDeque<Entry>,
    pub(crate) is_applying: bool,
    pub(crate) checkpoint_under_way: Option<Checkpoint>,
    /// Waiting for a leader.
    pub(crate) proposals: Vec<Bytes>,
    /// Client by request.
    pub(crate) waiters: BTreeMap<u64, u64>,
    /// Client and key by ticket.
    pub(crate) tickets: BTreeMap<u64, (u64, u64)>,
    /// Ticket and the index it waits for.
    pub(crate) reads_due: Vec<(u64, u64)>,
    /// Snapshot bodies on their way, by recipient and index.
    pub(crate) bodies_out: BTreeMap<(u64, u64), Checkpoint>,
    pub(crate) tick_every: Micros,
    pub(crate) frozen_until: Micros,
    pub(crate) disk_stalled_until: Micros,
    /// The next write is interrupted.
    pub(crate) is_to_crash_writing: bool,
    /// Left the cluster and stopped for good.
    pub(crate) is_gone: bool,
    planted: Option<Planted>,
}

impl Member {
    /// A member of the first hour: its log begins with one entry per member.
    pub(crate) fn bootstrapped(id: u64, swarm: &Swarm, planted: Option<Planted>) -> Self {
        let mut member = Self::joining(id, planted);
        let conf_state = ConfState {
            voters: (1..=swarm.voters).collect(),
            learners: (swarm.voters + 1..=swarm.voters + swarm.learners).collect(),
            ..ConfState::default()
        };
        let voters = conf_state
            .voters
            .iter()
            .map(|&id| MemberChange::AddVoter(id));
        let learners = conf_state
            .learners
            .iter()
            .map(|&id| MemberChange::AddLearner(id));
        for (index, change) in (1..).zip(voters.chain(learners)) {
            let entry = Entry {
                entry_type: 1,
                index,
                term: 1,
                data: change.encode(),
                ..Entry::default()
            };
            member.disk.log.entries.push_back(entry);
        }
        let commit = member.disk.log.last_index();
        member.disk.log.hard_state = HardState {
            term: 1,
            vote: 0,
            commit,
        };
        member.disk.checkpoint.conf_state = conf_state;
        member.disk.checkpoint.machine = Machine::default().snapshot();
        member
    }

    /// A member that knows nothing yet.
    pub(crate) fn joining(id: u64, planted: Option<Planted>) -> Self {
        let mut disk = Disk::new(planted);
        disk.checkpoint.machine = Machine::default().snapshot();
        Self {
            id,
            core: None,
            incarnation: 0,
            disk,
            machine: Machine::default(),
            conf_state: ConfState::default(),
            apply_queue: VecDeque::new(),
            is_applying: false,
            checkpoint_under_way: None,
            proposals: Vec::new(),
            waiters: BTreeMap::new(),
            tickets: BTreeMap::new(),
            reads_due: Vec::new(),
            bodies_out: BTreeMap::new(),
            tick_every: 0,
            frozen_until: 0,
            disk_stalled_until: 0,
            is_to_crash_writing: false,
            is_gone: false,
            planted,
        }
    }

    /// Starts from the disk.
    pub(crate) fn start(&mut self, swarm: &Swarm, seed: u64) -> Result<(), String> {
        self.incarnation += 1;
        let mut restored = self.disk.recover()?;
        if self.planted == Some(Planted::ApplyTwice) && restored.applied > restored.snapshot.0 {
            restored.applied -= 1;
        }
        let checkpoint = &self.disk.checkpoint;
        self.machine =
            Machine::restore(&checkpoint.machine).ok_or("the checkpoint is unreadable")?;
        self.conf_state = checkpoint.conf_state.clone();
        let config = Config {
            pre_vote: swarm.pre_vote,
            log_bytes_max: swarm.log_bytes_max,
            message_bytes_max: swarm.message_bytes_max,
            inflight_messages_max: swarm.inflight_messages_max,
            committed_bytes_max: 500,
            ..Config::new(self.id, seed)
        };
        self.core = Some(Core::new(config, restored).map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Stops at once: everything in memory is gone.
    pub(crate) fn stop(&mut self) {
        self.core = None;
        self.incarnation += 1;
        self.apply_queue.clear();
        self.is_applying = false;
        self.checkpoint_under_way = None;
        self.proposals.clear();
        self.waiters.clear();
        self.tickets.clear();
        self.reads_due.clear();
        self.bodies_out.clear();
        self.frozen_until = 0;
        self.disk_stalled_until = 0;
        self.is_to_crash_writing = false;
    }

    /// The state machine now, as a checkpoint.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        let conf_state = match self.planted {
            Some(Planted::StaleMembers) => self.disk.checkpoint.conf_state.clone(),
            _ => self.conf_state.clone(),
        };
        Checkpoint {
            applied: self.machine.applied(),
            conf_state,
            machine: self.machine.snapshot(),
        }
    }

    /// The body for a snapshot at the applied index.
    pub(crate) fn snapshot_body(&self) -> Checkpoint {
        let mut body = self.checkpoint();
        if self.planted == Some(Planted::StaleSnapshot) {
            body.machine = self.disk.checkpoint.machine.clone();
        }
        body
    }
}
