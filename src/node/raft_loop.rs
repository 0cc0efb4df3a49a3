//! The `raft` thread: feeds `raft::Core` and hands out what it wants done. It does no I/O and waits for
//! nothing but its inbox and the next tick.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flume::RecvTimeoutError;
use hashbrown::HashMap;

use super::apply_loop::ApplyInput;
use super::pending::{Pending, Proposal};
use super::queue::{Receiver, Refused, Sender};
use super::read_waiters::ReadReply;
use super::shared::{Role, Shared};
use super::wal_loop::{WalTask, WalWrite};
use super::{Failure, NodeError, lines};
use crate::metrics;
use crate::pb::raftpb::{ConfChange, ConfState, Message};
use crate::raft::{Core, LineKind, LineLevel, LogLine, Output, ProposalRefused, SoftState, Write};

/// Inputs taken before raft is asked what to do about them.
const INPUTS_PER_ROUND_MAX: usize = 512;
/// Payload bytes of proposals folded into one append.
const PROPOSAL_BATCH_BYTES_MAX: usize = 1 << 20;
/// Entries between commit and apply, and proposals that wait for the log; more refuses proposals, as in etcd.
const APPLY_GAP_MAX: u64 = 5000;

/// What the raft thread is told.
pub(crate) enum RaftInput {
    /// Look at the marks of the other threads.
    Wake,
    /// Put a request into the log.
    Propose(Proposal),
    /// Tell when a read may be served.
    Read(ReadReply),
    /// A configuration change was accepted (or refused: the empty change).
    Configure {
        change: ConfChange,
        reply: flume::Sender<Option<ConfState>>,
    },
    /// Entries up to here are in a durable checkpoint.
    Compact(u64),
    /// Run for leader as soon as everything committed is applied, if there is nobody else.
    Campaign,
    /// Nothing more comes.
    Stop,
}

pub(crate) struct RaftLoop {
    core: Core,
    inbox: Receiver<RaftInput>,
    wal: Sender<WalTask>,
    apply: Sender<ApplyInput>,
    shared: Arc<Shared>,
    tick: Duration,
    pending: Pending,
    /// Proposals since the last round.
    proposals: Vec<Proposal>,
    reads: HashMap<u64, ReadReply>,
    next_ticket: u64,
    wal_backlog: VecDeque<WalTask>,
    apply_backlog: VecDeque<ApplyInput>,
    /// Last committed entry handed to the apply thread.
    commit_index: u64,
    applied_index: u64,
    persisted_ready: u64,
    voters: Vec<u64>,
    state: SoftState,
    /// A sole voter is to lead without waiting for an election timeout.
    campaign_due: bool,
    /// Messages that may leave once their write is on disk.
    after: VecDeque<(u64, Vec<Message>)>,
}

impl RaftLoop {
    pub(crate) fn new(
        core: Core,
        conf_state: &ConfState,
        inbox: Receiver<RaftInput>,
        wal: Sender<WalTask>,
        apply: Sender<ApplyInput>,
        shared: Arc<Shared>,
    ) -> Self {
        let status = core.status();
        Self {
            inbox,
            wal,
            apply,
            tick: shared.settings.heartbeat_interval,
            pending: Pending::default(),
            proposals: Vec::new(),
            reads: HashMap::new(),
            next_ticket: 0,
            wal_backlog: VecDeque::new(),
            apply_backlog: VecDeque::new(),
            commit_index: status.applied,
            applied_index: status.applied,
            persisted_ready: 0,
            voters: conf_state.voters.clone(),
            state: SoftState {
                term: status.term,
                role: status.role,
                leader: status.leader,
            },
            campaign_due: false,
            after: VecDeque::new(),
            core,
            shared,
        }
    }

    /// Runs until it is told to stop.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let mut next_tick = Instant::now() + self.tick;
        loop {
            match self.inbox.recv_deadline(next_tick) {
                Ok(input) => {
                    if !self.drain(input) {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = Instant::now();
            if now >= next_tick {
                next_tick = self.ticks(next_tick, now);
            }
            self.act();
            self.shared.raft_rounds.fetch_add(1, Ordering::Relaxed);
        }
        // First, since the apply thread may wait for an answer from here while its queue is full.
        drop(self.inbox);
        let _ = self.wal.send(WalTask::Stop);
        let _ = self.apply.send(ApplyInput::Stop);
        Ok(())
    }

    /// Has raft look at what came in and at what the other threads have reached, and hands out what it wants done.
    fn act(&mut self) {
        self.marks();
        self.propose();
        if self.campaign_due {
            self.fast_forward();
        }
        while self.core.has_output() {
            let output = self.core.take_output();
            self.carry_out(output);
        }
        self.flush();
    }

    fn drain(&mut self, first: RaftInput) -> bool {
        let mut next = Some(first);
        let mut count = 0;
        while let Some(input) = next.take() {
            match input {
                RaftInput::Wake => {}
                RaftInput::Propose(proposal) => self.accept(proposal),
                RaftInput::Read(reply) => self.read(reply),
                RaftInput::Configure { change, reply } => {
                    let _ = reply.send(self.configure(&change));
                }
                RaftInput::Compact(index) => self.core.compact(index),
                RaftInput::Campaign => self.campaign_due = true,
                RaftInput::Stop => return false,
            }
            count += 1;
            if count < INPUTS_PER_ROUND_MAX {
                next = self.inbox.try_recv().ok();
            }
        }
        true
    }

    /// Refuses what there is no room for; the rest waits for the end of this round.
    fn accept(&mut self, proposal: Proposal) {
        let not_applied = self.commit_index.saturating_sub(self.applied_index);
        if not_applied + self.proposals.len() as u64 > APPLY_GAP_MAX {
            return answer(proposal.waiter.reply, NodeError::TooManyRequests);
        }
        self.proposals.push(proposal);
    }

    /// One append for everything that came in, so one write and one message to each follower.
    fn propose(&mut self) {
        if self.proposals.is_empty() {
            return;
        }
        self.flush();
        // A log or an apply thread that is behind gets fewer, larger batches. Either wakes this thread when it is done.
        let behind = !self.wal_backlog.is_empty() || !self.apply_backlog.is_empty();
        if self.state.leader == 0 || behind {
            // They expire with the next tick.
            return;
        }
        let mut batch: Vec<Bytes> = Vec::with_capacity(self.proposals.len());
        let mut bytes = 0;
        let mut taken = 0;
        for proposal in &self.proposals {
            if taken > 0 && bytes + proposal.data.len() > PROPOSAL_BATCH_BYTES_MAX {
                break;
            }
            bytes += proposal.data.len();
            batch.push(proposal.data.clone());
            taken += 1;
        }
        let leading = self.state.role == crate::raft::Role::Leader;
        let first_index = self.core.last_index() + 1;
        let refused = self.core.propose(batch).err();
        let proposals: Vec<_> = self.proposals.drain(..taken).collect();
        match refused {
            None => {
                for (offset, proposal) in proposals.into_iter().enumerate() {
                    let waiter = proposal.waiter;
                    if leading {
                        let index = first_index + offset as u64;
                        self.pending.place(index, self.state.term, waiter);
                    } else {
                        self.pending.forward(waiter);
                    }
                }
            }
            // Kept: a leader may come before the deadline.
            Some(ProposalRefused::NoLeader | ProposalRefused::Transferring) => {
                self.proposals.splice(0..0, proposals);
                self.expire_unproposed();
            }
            Some(_) => {
                for proposal in proposals {
                    answer(proposal.waiter.reply, NodeError::TooManyRequests);
                }
            }
        }
        // The rest of a large round goes out in the next, which is due at once.
        if !self.proposals.is_empty() && self.state.leader != 0 {
            self.shared.wake_raft();
        }
    }

    fn expire_unproposed(&mut self) {
        let now = Instant::now();
        for late in self
            .proposals
            .extract_if(.., |proposal| proposal.waiter.deadline <= now)
        {
            answer(late.waiter.reply, NodeError::DeadlineExceeded);
        }
    }

    fn read(&mut self, reply: ReadReply) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.reads.insert(ticket, reply);
        self.core.read_index(ticket);
    }

    fn configure(&mut self, change: &ConfChange) -> Option<ConfState> {
        let conf_state = self.core.apply_conf_change(change).ok()?;
        self.voters.clone_from(&conf_state.voters);
        self.publish_sole_leader();
        Some(conf_state)
    }

    /// A cluster of one need not wait for an election timeout. Its log may hold the change that makes it one,
    /// and raft does not campaign before that is applied.
    fn fast_forward(&mut self) {
        if self.voters.is_empty() || self.applied_index < self.core.hard_state().commit {
            return;
        }
        self.campaign_due = false;
        if self.voters != [self.shared.identity.member_id.0] {
            return;
        }
        lines::fast_forwarding(&self.shared);
        for _ in 0..2 * self.shared.settings.election_ticks() {
            if self.core.soft_state().role == crate::raft::Role::Leader {
                break;
            }
            self.core.tick();
        }
    }

    fn ticks(&mut self, mut next_tick: Instant, now: Instant) -> Instant {
        // A pause of the whole process (a suspended machine) is one tick, not an election.
        if now > next_tick + 3 * self.tick {
            next_tick = now;
        }
        while next_tick <= now {
            self.core.tick();
            next_tick += self.tick;
        }
        self.pending.expire(now);
        self.expire_unproposed();
        self.reads.retain(|_, reply| !reply.is_closed());
        next_tick
    }

    /// What the other threads have reached since the last round.
    fn marks(&mut self) {
        let ready = self.shared.persisted_ready.load(Ordering::Acquire);
        if ready > self.persisted_ready {
            self.persisted_ready = ready;
            self.core.persisted(ready);
            while self
                .after
                .front()
                .is_some_and(|(number, _)| *number <= ready)
            {
                if let Some((_, messages)) = self.after.pop_front() {
                    self.send(messages);
                }
            }
        }
        let applied = self.shared.applied_index.load(Ordering::Acquire);
        if applied > self.applied_index {
            self.applied_index = applied;
            self.core.applied(applied);
        }
    }

    fn carry_out(&mut self, output: Output) {
        self.send(output.messages);
        if let Some(state) = output.state {
            self.change_state(state);
        }
        if let Some(write) = output.write {
            self.write(write);
        }
        if let Some(last) = output.committed.last() {
            self.commit_index = last.index;
            self.shared
                .commit_index
                .store(last.index, Ordering::Release);
            self.publish_sole_leader();
            let pending = &mut self.pending;
            let entries = output
                .committed
                .into_iter()
                .map(|entry| {
                    let waiter = pending.take(&entry);
                    (entry, waiter)
                })
                .collect();
            self.apply_backlog.push_back(ApplyInput::Entries(entries));
        }
        for ready in output.reads {
            let replies: Vec<_> = ready
                .tickets
                .iter()
                .filter_map(|ticket| self.reads.remove(ticket))
                .collect();
            self.release_reads(ready.index, replies);
        }
        for line in output.lines {
            log(&line);
        }
    }

    fn release_reads(&self, index: u64, replies: Vec<ReadReply>) {
        let mut waiters = self.shared.read_waiters.lock();
        // Looked at under the lock that the apply thread takes after it moved the mark.
        if self.shared.applied_index.load(Ordering::Acquire) < index {
            return waiters.park(index, replies);
        }
        drop(waiters);
        for reply in replies {
            let _ = reply.send(Ok(()));
        }
    }

    fn write(&mut self, write: Write) {
        let must_sync = write.hard_state.is_some() || !write.entries.is_empty();
        if !write.messages_after.is_empty() {
            self.after.push_back((write.number, write.messages_after));
        }
        self.wal_backlog.push_back(WalTask::Write(WalWrite {
            ready_number: write.number,
            entries: write.entries,
            hard_state: write.hard_state,
            must_sync,
        }));
    }

    fn flush(&mut self) {
        flush_to(&self.wal, &mut self.wal_backlog);
        flush_to(&self.apply, &mut self.apply_backlog);
    }

    fn change_state(&mut self, state: SoftState) {
        let before = std::mem::replace(&mut self.state, state);
        let role = match state.role {
            crate::raft::Role::Leader => Role::Leader,
            crate::raft::Role::Candidate | crate::raft::Role::PreCandidate => Role::Candidate,
            crate::raft::Role::Follower => Role::Follower,
        };
        self.shared.role.store(role as u8, Ordering::Release);
        self.shared.term.store(state.term, Ordering::Release);
        self.shared.leader.store(state.leader, Ordering::Release);
        self.publish_sole_leader();
        metrics::global()
            .has_leader
            .set(i64::from(state.leader != 0));
        metrics::global()
            .is_leader
            .set(i64::from(role == Role::Leader));
        if before.leader != state.leader {
            metrics::global().leader_changes.inc();
            if before.leader != 0 {
                for (_, reply) in self.reads.drain() {
                    let _ = reply.send(Err(NodeError::LeaderChanged));
                }
            }
            self.shared.leader_changed.send_replace(state.leader);
        }
    }

    fn publish_sole_leader(&self) {
        let sole = self.state.role == crate::raft::Role::Leader
            && self.voters == [self.shared.identity.member_id.0]
            && self.core.commit_to_current_term();
        self.shared.sole_leader.store(sole, Ordering::Release);
    }

    /// No peer is connected in this release; raft takes that for a network that loses everything.
    fn send(&mut self, messages: Vec<Message>) {
        for message in messages {
            self.core.report_unreachable(message.to);
        }
    }
}

fn flush_to<T>(sender: &Sender<T>, backlog: &mut VecDeque<T>) {
    while let Some(item) = backlog.pop_front() {
        match sender.try_send(item) {
            Ok(()) => {}
            Err(Refused::Full(item)) => return backlog.push_front(item),
            Err(Refused::Ended) => return,
        }
    }
}

fn answer(reply: Option<super::pending::Reply>, error: NodeError) {
    if let Some(reply) = reply {
        let _ = reply.send(Err(error));
    }
}

fn log(line: &LogLine) {
    match (line.kind, line.level) {
        (LineKind::NewLeader, _) => {
            let message_id = crate::logging::message_id::LEADER_CHANGED;
            tracing::info!(target: "raft", message_id, "{}", line.text);
        }
        (_, LineLevel::Info) => tracing::info!(target: "raft", "{}", line.text),
        (_, LineLevel::Warn) => tracing::warn!(target: "raft", "{}", line.text),
        (_, LineLevel::Error) => tracing::error!(target: "raft", "{}", line.text),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::node::pending::Waiter;
    use crate::node::queue::queue;
    use crate::node::start;
    use crate::node::tests::settings;
    use crate::raft::{Config, Restored};

    /// Lets the log keep up: everything handed to it is on disk.
    fn persist(raft: &mut RaftLoop, tasks: &Receiver<WalTask>) -> usize {
        let mut entries = 0;
        for task in tasks.try_iter() {
            if let WalTask::Write(write) = task {
                entries += write.entries.len();
                let ready = &raft.shared.persisted_ready;
                ready.store(write.ready_number, Ordering::Release);
            }
        }
        raft.act();
        entries
    }

    #[test]
    fn a_log_that_is_slow_refuses_nobody_and_gets_what_waited_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let running = start(settings(directory.path())).unwrap();
        let shared = running.shared.clone();
        // Its marks are this test's from here on.
        running.stop();
        shared.applied_index.store(0, Ordering::Release);
        shared.persisted_ready.store(0, Ordering::Release);
        let member = shared.identity.member_id.0;
        let conf_state = ConfState {
            voters: vec![member],
            ..ConfState::default()
        };
        let restored = Restored {
            conf_state: conf_state.clone(),
            ..Restored::default()
        };
        let core = Core::new(Config::new(member, 1), restored).unwrap();
        let (_inbox, inbox) = queue(1);
        let (wal, tasks) = queue(2);
        let (apply, _applied) = queue(100);
        let mut raft = RaftLoop::new(core, &conf_state, inbox, wal, apply, shared);
        raft.campaign_due = true;
        for _ in 0..10 {
            raft.act();
            persist(&mut raft, &tasks);
        }
        assert!(raft.state.role == crate::raft::Role::Leader);

        let mut answers = Vec::new();
        for id in 0..3_000 {
            let (reply, answer) = oneshot::channel();
            raft.accept(Proposal {
                data: Bytes::from_static(b"x"),
                waiter: Box::new(Waiter {
                    id,
                    request: None,
                    deadline: Instant::now() + Duration::from_secs(60),
                    reply: Some(reply),
                }),
            });
            raft.act();
            answers.push(answer);
        }
        let mut rounds = Vec::new();
        while rounds.iter().sum::<usize>() < 3_000 {
            assert!(rounds.len() < 10, "{rounds:?}");
            rounds.push(persist(&mut raft, &tasks));
        }
        assert!(
            answers.iter_mut().all(|answer| answer.try_recv().is_err()),
            "nobody was answered before the entry was applied"
        );
    }

    #[test]
    fn what_a_queue_has_no_room_for_stays_in_order() {
        let (sender, receiver) = queue(2);
        let mut backlog = VecDeque::from([1, 2, 3, 4]);
        flush_to(&sender, &mut backlog);
        assert_eq!(backlog, [3, 4]);
        assert_eq!(receiver.recv(), Ok(1));
        // Somebody else took the room.
        sender.send(10).unwrap();
        flush_to(&sender, &mut backlog);
        assert_eq!(backlog, [3, 4]);
        let taken: Vec<_> = receiver.drain().collect();
        flush_to(&sender, &mut backlog);
        assert_eq!((taken, backlog.len()), (vec![2, 10], 0));
        assert_eq!(receiver.drain().collect::<Vec<_>>(), [3, 4]);
    }
}
