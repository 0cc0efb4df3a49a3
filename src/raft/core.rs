//! [`Core`]: one member of a raft group, inputs in, outputs out. The module above tells the rules.

use std::collections::{BTreeSet, VecDeque};

use ::raft::{ProgressState, RawNode, Ready, SnapshotStatus, StateRole};
use bytes::Bytes;
use raft_proto::eraftpb::{
    ConfChange, ConfState, Entry, EntryType, HardState, Message, MessageType, Snapshot,
};

use super::conf_change::{self, ConfChangeRefused};
use super::config::Config;
use super::lines::{LineLevel, Lines};
use super::log::Log;
use super::output::{MemberProgress, Output, ReplicationState, Role, SoftState, Status, Write};
use super::reads::{self, Reads};
use super::restore::{self, CoreError, Restored};
use super::validate::{self, Rejected};

/// Why a proposal was not taken. Nothing of it is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposalRefused {
    /// No leader is known; wait for one.
    #[error("no leader")]
    NoLeader,
    /// Leadership is being handed over; wait for the new leader.
    #[error("leadership is being transferred")]
    Transferring,
    /// The leader holds [`Config::uncommitted_bytes_max`] uncommitted.
    #[error("too many uncommitted bytes")]
    TooLarge,
    /// An earlier configuration change, or the start of this term, is not applied yet.
    #[error("a configuration change is pending")]
    PendingConfChange,
    /// The payload is not a configuration change.
    #[error("not a configuration change")]
    Malformed,
}

/// A write that the disk has not confirmed.
struct Outstanding {
    number: u64,
    /// The term it makes durable.
    term: u64,
}

/// Messages that rest on a write handed out before them.
struct Held {
    after: u64,
    messages: Vec<Message>,
}

/// See [the module](super).
pub struct Core {
    config: Config,
    node: RawNode<Log>,
    lines: Lines,
    reads: Reads,
    outstanding: VecDeque<Outstanding>,
    held: VecDeque<Held>,
    released: Vec<Message>,
    /// Number of the newest `Ready`.
    newest: u64,
    /// The term that is on disk.
    persisted_term: u64,
    /// The hard state of the newest write.
    written: HardState,
    /// As reported; `raft` hears of it once it is durable too.
    applied: u64,
    /// Campaigns this process started: tells election timeouts of one term apart.
    campaigns: u64,
    snapshots_asked: BTreeSet<u64>,
    announced: SoftState,
}

impl Core {
    /// Starts a member from what its disk holds.
    ///
    /// # Errors
    /// When the parts of `restored` contradict each other, or the configuration is impossible.
    pub fn new(config: Config, restored: Restored) -> Result<Self, CoreError> {
        let hard_state = restore::check(&restored)?;
        let Restored {
            conf_state,
            applied,
            snapshot,
            entries,
            hard_state: on_disk,
        } = restored;
        let raft_config = config.to_raft(applied);
        raft_config
            .validate()
            .map_err(|error| CoreError::Config(error.to_string()))?;

        let lines = Lines::new(config.id);
        lines.configuration(&conf_state);
        let log = Log::new((hard_state.clone(), conf_state.clone()), snapshot, entries);
        let node = RawNode::new(&raft_config, log, &lines.logger())
            .map_err(|error| CoreError::Raft(error.to_string()))?;
        let raft_log = &node.raft.raft_log;
        let members: Vec<_> = conf_state
            .voters
            .iter()
            .map(|id| format!("{id:x}"))
            .collect();
        lines.push(
            LineLevel::Info,
            format!(
                "newRaft {:x} [peers: [{}], term: {}, commit: {}, applied: {}, lastindex: {}, lastterm: {}]",
                config.id,
                members.join(","),
                hard_state.term,
                hard_state.commit,
                applied,
                raft_log.last_index(),
                raft_log.last_term(),
            ),
        );
        let mut core = Self {
            reads: Reads::new(config.id, config.seed),
            node,
            lines,
            outstanding: VecDeque::new(),
            held: VecDeque::new(),
            released: Vec::new(),
            newest: 0,
            persisted_term: hard_state.term,
            written: on_disk,
            applied,
            campaigns: 0,
            snapshots_asked: BTreeSet::new(),
            announced: SoftState {
                term: hard_state.term,
                ..SoftState::default()
            },
            config,
        };
        core.settle_election_timeout();
        Ok(core)
    }

    /// One heartbeat interval has passed.
    pub fn tick(&mut self) {
        let is_leader = self.node.raft.state == StateRole::Leader;
        if is_leader || self.can_campaign() {
            let raft = &self.node.raft;
            let is_due = raft.election_elapsed + 1 >= raft.randomized_election_timeout();
            self.campaigns += u64::from(!is_leader && is_due && raft.promotable());
            self.node.tick();
        } else if self.node.raft.state == StateRole::Follower {
            // Time passes, so that the first tick after the disk has come back may campaign.
            self.node.raft.election_elapsed += 1;
        }
        // A candidate's time starts when its requests leave, which is after its write.
        let view = self.read_view();
        self.reads
            .tick(&view, self.config.election_ticks.div_ceil(2));
        self.settle_election_timeout();
    }

    /// A peer's message.
    ///
    /// # Errors
    /// The message was not taken; [`Rejected::is_malformed`] tells a broken peer from a late message.
    pub fn step(&mut self, mut message: Message) -> Result<(), Rejected> {
        validate::validate(&mut message, &self.validation_view())?;
        let is_leader = self.node.raft.state == StateRole::Leader;
        let kind = message.get_msg_type();
        if is_leader && kind == MessageType::MsgReadIndex && message.from == self.config.id {
            // Asked as a follower, forwarded back to the leader of now: the round was put back since.
            return Ok(());
        }
        if is_leader && kind == MessageType::MsgReadIndex {
            if !self.node.raft.commit_to_current_term() {
                self.reads.park(message);
                return Ok(());
            }
            self.reads.wrap(&mut message);
        }
        if kind == MessageType::MsgPropose {
            self.can_propose().map_err(Rejected::Proposal)?;
        }
        let from = message.from;
        let result = self.node.step(message).map_err(|error| match error {
            ::raft::Error::StepPeerNotFound => Rejected::NotMember(from),
            ::raft::Error::ProposalDropped => Rejected::Proposal(ProposalRefused::TooLarge),
            error => Rejected::Raft(error.to_string()),
        });
        self.settle_election_timeout();
        result
    }

    /// Whether a proposal would be taken or forwarded now.
    ///
    /// # Errors
    /// Why not.
    pub fn can_propose(&self) -> Result<(), ProposalRefused> {
        let raft = &self.node.raft;
        match raft.state {
            StateRole::Leader if raft.lead_transferee.is_some() => {
                Err(ProposalRefused::Transferring)
            }
            StateRole::Leader => Ok(()),
            StateRole::Follower if raft.leader_id != 0 => Ok(()),
            _ => Err(ProposalRefused::NoLeader),
        }
    }

    /// Proposes entries, all or none. On a follower they go to the leader, which may still drop them.
    ///
    /// # Errors
    /// Why they were not taken.
    pub fn propose(&mut self, payloads: Vec<Bytes>) -> Result<(), ProposalRefused> {
        if payloads.is_empty() {
            return Ok(());
        }
        let entry = |data| Entry {
            data,
            ..Entry::default()
        };
        self.propose_entries(payloads.into_iter().map(entry).collect())
    }

    /// Proposes a configuration change, encoded as etcd's `ConfChange`. One at a time: on the leader a
    /// second is refused, where `raft` would replace it by an empty entry without a word.
    ///
    /// # Errors
    /// Why it was not taken.
    pub fn propose_conf_change(&mut self, payload: Bytes) -> Result<(), ProposalRefused> {
        conf_change::decode(&payload).map_err(|_| ProposalRefused::Malformed)?;
        self.can_propose()?;
        let raft = &self.node.raft;
        if raft.state == StateRole::Leader && raft.has_pending_conf() {
            return Err(ProposalRefused::PendingConfChange);
        }
        let entry_type = EntryType::EntryConfChange as i32;
        self.propose_entries(vec![Entry {
            entry_type,
            data: payload,
            ..Entry::default()
        }])
    }

    fn propose_entries(&mut self, entries: Vec<Entry>) -> Result<(), ProposalRefused> {
        self.can_propose()?;
        let mut message = Message {
            from: self.config.id,
            entries,
            ..Message::default()
        };
        message.set_msg_type(MessageType::MsgPropose);
        // What else `raft` drops for was excluded before.
        self.node
            .step(message)
            .map_err(|_| ProposalRefused::TooLarge)
    }

    /// Asks which index a linearizable read must wait for. The ticket comes back in
    /// [`Output::reads`] once; while there is no leader it stays, giving up is the caller's affair.
    pub fn read_index(&mut self, ticket: u64) {
        let view = self.read_view();
        self.reads.ask(ticket, &view);
    }

    /// Writes up to and including this number are on disk.
    pub fn persisted(&mut self, number: u64) {
        let mut is_news = false;
        while let Some(write) = self
            .outstanding
            .front()
            .filter(|write| write.number <= number)
        {
            self.persisted_term = write.term;
            self.outstanding.pop_front();
            is_news = true;
        }
        if !is_news {
            return;
        }
        // Later outputs without a write need no disk.
        let settled = if self.outstanding.is_empty() {
            self.newest
        } else {
            number
        };
        self.node.on_persist_ready(settled);
        while self.held.front().is_some_and(|held| held.after <= number) {
            self.released.extend(
                self.held
                    .pop_front()
                    .map(|held| held.messages)
                    .unwrap_or_default(),
            );
        }
        self.settle_applied();
    }

    /// The state machine has applied entries up to and including this index.
    pub fn applied(&mut self, index: u64) {
        self.applied = self.applied.max(index);
        self.settle_applied();
    }

    /// The state machine accepted a committed configuration change. Returns the new configuration.
    ///
    /// # Errors
    /// The change is unusable; the configuration is as before.
    pub fn apply_conf_change(
        &mut self,
        change: &ConfChange,
    ) -> Result<ConfState, ConfChangeRefused> {
        conf_change::check(change)?;
        if !conf_change::concerns_raft(change) {
            return Ok(self.conf_state());
        }
        let conf_state = self
            .node
            .apply_conf_change(change)
            .map_err(|error| ConfChangeRefused::Contradiction(error.to_string()))?;
        self.lines.configuration(&conf_state);
        self.snapshots_asked
            .retain(|&id| self.node.raft.prs().get(id).is_some());
        let raft = &mut self.node.raft;
        if !raft.promotable() && raft.state != StateRole::Follower {
            // `raft` would go on leading and panic at the next commit, for want of its own progress. Let
            // the others know of this commit, then make room.
            raft.ping();
            let term = raft.term;
            raft.become_follower(term, 0);
            self.settle_election_timeout();
        }
        Ok(conf_state)
    }

    /// Hands leadership to a voter, from whoever leads. Gives up after an election timeout.
    pub fn transfer_leader(&mut self, to: u64) {
        self.node.transfer_leader(to);
    }

    /// A message to this member could not be sent.
    pub fn report_unreachable(&mut self, id: u64) {
        self.node.report_unreachable(id);
    }

    /// A snapshot message to this member was delivered and taken, or lost.
    pub fn report_snapshot(&mut self, id: u64, is_delivered: bool) {
        let status = if is_delivered {
            SnapshotStatus::Finish
        } else {
            SnapshotStatus::Failure
        };
        self.node.report_snapshot(id, status);
    }

    /// Answers [`Output::snapshots_wanted`]: a snapshot at an applied index for `to`, or none if it could
    /// not be made. True if its message is in the next output; false if it is not needed any more, or
    /// older than the log reaches back.
    pub fn offer_snapshot(&mut self, to: u64, snapshot: Option<Snapshot>) -> bool {
        self.snapshots_asked.remove(&to);
        let Some(snapshot) = snapshot else {
            return false;
        };
        let raft = &mut self.node.raft;
        let metadata = snapshot.get_metadata();
        let fits = metadata.index + 1 >= raft.store().first_index()
            && metadata.index <= raft.raft_log.applied
            && raft.store().term_at(metadata.index) == Some(metadata.term);
        if raft.state != StateRole::Leader || !fits {
            return false;
        }
        let Some(progress) = raft.mut_prs().get_mut(to) else {
            return false;
        };
        if progress.state == ProgressState::Snapshot {
            return false;
        }
        progress.resume();
        raft.mut_store().offer(to, snapshot);
        raft.send_append(to);
        raft.mut_store().withdraw()
    }

    /// Forgets log entries up to and including `index`, as far as they are applied.
    pub fn compact(&mut self, index: u64) {
        let index = index.min(self.node.raft.raft_log.applied);
        self.node.mut_store().compact(index);
    }

    /// Whether [`Core::take_output`] has anything to give.
    #[must_use]
    pub fn has_output(&self) -> bool {
        let view = self.read_view();
        self.node.has_ready()
            || !self.released.is_empty()
            || self.reads.has_ready()
            || self.reads.can_open(&view)
            || (self.reads.has_parked() && view.committed_in_term)
            || self.node.store().has_wanted()
            || !self.lines.is_empty()
    }

    /// Collects the work that the inputs since the last call caused.
    pub fn take_output(&mut self) -> Output {
        self.open_reads();
        let mut output = Output {
            messages: std::mem::take(&mut self.released),
            ..Output::default()
        };
        if self.node.has_ready() {
            self.take_ready(&mut output);
        }
        let view = self.read_view();
        self.reads.settle(&view);
        output.reads = self.reads.take_ready();
        output.state = self.announce();
        for id in self.node.mut_store().take_wanted() {
            if self.snapshots_asked.insert(id) {
                output.snapshots_wanted.push(id);
            }
        }
        let applied = self.node.raft.raft_log.applied;
        self.node
            .mut_store()
            .trim(self.config.log_bytes_max, applied);
        output.lines = self.lines.take();
        output
    }

    /// This member's state.
    #[must_use]
    pub fn status(&self) -> Status {
        let raft = &self.node.raft;
        let mut progress: Vec<_> = match raft.state {
            StateRole::Leader => raft
                .prs()
                .iter()
                .map(|(&id, progress)| self.progress(id, progress))
                .collect(),
            _ => Vec::new(),
        };
        progress.sort_unstable_by_key(|member| member.id);
        Status {
            id: raft.id,
            term: raft.term,
            vote: raft.vote,
            role: raft.state.into(),
            leader: raft.leader_id,
            transferee: raft.lead_transferee.unwrap_or(0),
            commit: raft.raft_log.committed,
            applied: raft.raft_log.applied,
            persisted: raft.raft_log.persisted,
            first_index: raft.raft_log.first_index(),
            last_index: raft.raft_log.last_index(),
            progress,
        }
    }

    fn progress(&self, id: u64, progress: &::raft::Progress) -> MemberProgress {
        MemberProgress {
            id,
            is_learner: self.node.raft.prs().conf().learners().contains(&id),
            matched: progress.matched,
            next: progress.next_idx,
            state: match progress.state {
                ProgressState::Probe => ReplicationState::Probe,
                ProgressState::Replicate => ReplicationState::Replicate,
                ProgressState::Snapshot => ReplicationState::Snapshot,
            },
            recent_active: progress.recent_active || id == self.config.id,
            paused: progress.is_paused(),
            pending_snapshot: progress.pending_snapshot,
        }
    }

    /// Newest entry.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    /// Whether an entry of the current term is committed: a leader knows the commit index then.
    #[must_use]
    pub fn commit_to_current_term(&self) -> bool {
        self.node.raft.commit_to_current_term()
    }

    /// Term, role and leader now.
    #[must_use]
    pub fn soft_state(&self) -> SoftState {
        let raft = &self.node.raft;
        SoftState {
            term: raft.term,
            role: raft.state.into(),
            leader: raft.leader_id,
        }
    }

    /// Term, vote and commit index now: what an orderly stop writes last.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.node.raft.hard_state()
    }

    /// The members, as of the last applied change, ids ascending.
    #[must_use]
    pub fn conf_state(&self) -> ConfState {
        let mut conf_state = self.node.raft.prs().conf().to_conf_state();
        conf_state.voters.sort_unstable();
        conf_state.learners.sort_unstable();
        conf_state
    }

    /// Term of an entry that is still in memory, or of the last one that is not.
    #[must_use]
    pub fn term_at(&self, index: u64) -> Option<u64> {
        self.node.store().term_at(index)
    }

    fn take_ready(&mut self, output: &mut Output) {
        let mut ready = self.node.ready();
        self.newest = ready.number();
        output.committed = ready.take_committed_entries();
        let view = self.read_view();
        for state in ready.take_read_states() {
            self.reads.confirm(&state.request_ctx, state.index, &view);
        }
        let late = self.sort_messages(&mut ready, output);
        let entries = ready.take_entries();
        let snapshot = (!ready.snapshot().is_empty()).then(|| ready.snapshot().clone());
        let log = self.node.mut_store();
        if let Some(snapshot) = &snapshot {
            let metadata = snapshot.get_metadata();
            log.restore(metadata.index, metadata.term);
            self.lines.configuration(metadata.get_conf_state());
        }
        log.append(&entries);
        // Alone, a commit index is not worth a write. That members changed is: should the members that
        // saw the change committed forget it, the ones they removed would be needed to learn it again.
        let commits_members = output.committed.iter().any(is_conf_change);
        let must_write = ready.must_sync() || commits_members;
        let number = ready.number();
        self.node.advance_append_async(ready);

        if must_write {
            let hard_state = self.node.raft.hard_state();
            let is_news = hard_state != self.written;
            self.written.clone_from(&hard_state);
            self.outstanding.push_back(Outstanding {
                number,
                term: hard_state.term,
            });
            output.write = Some(Write {
                number,
                snapshot,
                entries,
                hard_state: is_news.then_some(hard_state),
                messages_after: late,
            });
        } else if let Some(write) = self.outstanding.back() {
            if !late.is_empty() {
                self.held.push_back(Held {
                    after: write.number,
                    messages: late,
                });
            }
        } else {
            self.node.on_persist_ready(number);
            output.messages.extend(late);
        }
    }

    /// Puts messages that may leave now into the output and returns those that rest on the disk.
    fn sort_messages(&self, ready: &mut Ready, output: &mut Output) -> Vec<Message> {
        let mut late = Vec::new();
        // `raft` tells the two kinds apart by role; what each message promises is the finer measure.
        let messages = [ready.take_messages(), ready.take_persisted_messages()];
        for mut message in messages.into_iter().flatten() {
            if message.get_msg_type() == MessageType::MsgReadIndexResp {
                self.reads.unwrap(&mut message);
            }
            if may_leave(&message, self.persisted_term) {
                output.messages.push(message);
            } else {
                late.push(message);
            }
        }
        late
    }

    fn open_reads(&mut self) {
        let view = self.read_view();
        if view.committed_in_term && self.reads.has_parked() {
            for mut request in self.reads.take_parked() {
                self.reads.wrap(&mut request);
                // Whatever comes of it, the follower asks again.
                let _ = self.node.step(request);
            }
        }
        while let Some(context) = self.reads.open(&view) {
            self.node.read_index(context.to_vec());
        }
    }

    fn announce(&mut self) -> Option<SoftState> {
        let now = self.soft_state();
        let before = std::mem::replace(&mut self.announced, now);
        if now.leader != before.leader {
            self.lines.leader(before.leader, now.leader, now.term);
        }
        (now != before).then_some(now)
    }

    /// Whether a campaign could be won without a panic in `raft`: everything this member has said or will
    /// say is on disk, and the log reaches back to what is applied.
    fn can_campaign(&self) -> bool {
        let log = &self.node.raft.raft_log;
        self.outstanding.is_empty()
            && log.persisted == log.last_index()
            && log.applied + 1 >= log.first_index()
    }

    fn settle_applied(&mut self) {
        let log = &self.node.raft.raft_log;
        let applied = self.applied.min(log.committed).min(log.persisted);
        if applied > log.applied {
            self.node.advance_apply_to(applied);
        }
    }

    /// `raft` draws a random timeout whenever its role changes; ours replaces it before it is used.
    fn settle_election_timeout(&mut self) {
        let ticks = self
            .config
            .election_timeout_ticks(self.node.raft.term, self.campaigns);
        self.node.raft.set_randomized_election_timeout(ticks);
    }

    fn read_view(&self) -> reads::View {
        let raft = &self.node.raft;
        let is_leader = raft.state == StateRole::Leader;
        reads::View {
            term: raft.term,
            leader: raft.leader_id,
            is_leader,
            committed_in_term: is_leader && raft.commit_to_current_term(),
            is_single_voter: raft.prs().is_singleton(),
            committed: raft.raft_log.committed,
            last_index: raft.raft_log.last_index(),
        }
    }

    fn validation_view(&self) -> validate::View {
        let raft = &self.node.raft;
        validate::View {
            id: raft.id,
            role: Role::from(raft.state),
            term: raft.term,
            leader: raft.leader_id,
            last_index: raft.raft_log.last_index(),
            can_campaign: self.can_campaign(),
        }
    }
}

fn is_conf_change(entry: &Entry) -> bool {
    entry.entry_type == EntryType::EntryConfChange as i32
}

/// Whether a message promises nothing that is not on disk yet.
fn may_leave(message: &Message, persisted_term: u64) -> bool {
    match message.get_msg_type() {
        MessageType::MsgHeartbeatResponse
        | MessageType::MsgPropose
        | MessageType::MsgReadIndex
        | MessageType::MsgTransferLeader => true,
        // A leader's words stand once its term does. Usually that was so before the votes came in; but a
        // sole voter wins in the same breath as it votes for itself, and were its entries to reach a
        // learner before that vote is on disk, a crash could let it fill the same term again.
        MessageType::MsgAppend
        | MessageType::MsgHeartbeat
        | MessageType::MsgSnapshot
        | MessageType::MsgTimeoutNow
        | MessageType::MsgReadIndexResp => message.term <= persisted_term,
        // Votes, requests for them, acknowledgements.
        _ => false,
    }
}
