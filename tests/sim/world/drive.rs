//! What happens around one member: the duties of the driver, event by event.

use etcd::raft::eraftpb::{Entry, EntryType, Message, MessageType, Snapshot};
use etcd::raft::{Core, Output, Role, Status, Write};

use super::{Event, World};
use crate::client::Answer;
use crate::disk::Checkpoint;
use crate::fault::Planted;
use crate::machine::{MemberChange, Request};
use crate::member::Member;
use crate::random::{MILLISECOND, SECOND};

impl World {
    pub(super) fn start(&mut self, id: u64) {
        let seed = self.random.number();
        let tick_every = self.random.between(80, 120) * MILLISECOND;
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        if member.core.is_some() || member.is_gone {
            return;
        }
        let started = member.start(&self.swarm, seed);
        member.tick_every = tick_every;
        let incarnation = member.incarnation;
        let status = member.core.as_ref().map(Core::status);
        self.note(
            "start",
            &[id, incarnation],
            format_args!("{id}: {status:?}"),
        );
        let started = started.map_err(|error| format!("member {id} does not start: {error}"));
        self.checks.judge(|_| started);
        if let Some(status) = status {
            self.checks
                .judge(|checks| checks.monotone.restarts(&status));
        }
        self.after(0, tick_every, Event::Tick(id, incarnation));
        self.pump(id);
    }

    pub(super) fn tick(&mut self, id: u64) {
        let Some(member) = self.members.get(&id) else {
            return;
        };
        let (tick_every, incarnation) = (member.tick_every, member.incarnation);
        self.after(tick_every, tick_every + 1, Event::Tick(id, incarnation));
        self.with_core(id, Core::tick);
    }

    /// Feeds one input to a core that is up, and does what comes of it.
    pub(super) fn with_core(&mut self, id: u64, input: impl FnOnce(&mut Core)) {
        if let Some(core) = self
            .members
            .get_mut(&id)
            .and_then(|member| member.core.as_mut())
        {
            input(core);
            self.pump(id);
        }
    }

    pub(super) fn deliver(&mut self, message: Message, body: Option<Checkpoint>) {
        let (from, to) = (message.from, message.to);
        let kind = message.get_msg_type();
        self.note(
            "deliver",
            &[
                from,
                to,
                kind as u64,
                message.term,
                message.index,
                message.commit,
            ],
            format_args!(
                "{from} -> {to} {kind:?} term {} index {} commit {} entries {:?}{}",
                message.term,
                message.index,
                message.commit,
                message
                    .entries
                    .iter()
                    .map(|entry| (entry.index, entry.term))
                    .collect::<Vec<_>>(),
                if message.reject { " reject" } else { "" }
            ),
        );
        let Some(member) = self.members.get_mut(&to) else {
            return;
        };
        let Some(core) = member.core.as_mut() else {
            return;
        };
        // The body is on disk before the message is stepped.
        if let Some(body) = body {
            member.disk.store_body(body);
        }
        if let Err(rejected) = core.step(message) {
            self.note("rejected", &[to], format_args!("{to}: {rejected}"));
            let is_wrong = rejected.is_malformed()
                || matches!(rejected, etcd::raft::Rejected::LostData { .. });
            if is_wrong {
                self.checks
                    .judge(|_| Err(format!("{to} refuses {kind:?} of {from}: {rejected}")));
            }
        }
        self.pump(to);
    }

    /// Proposes what waits, takes all output, and keeps disk and state machine busy.
    pub(super) fn pump(&mut self, id: u64) {
        loop {
            let Some(member) = self.members.get_mut(&id) else {
                return;
            };
            let Some(core) = member.core.as_mut() else {
                return;
            };
            if !member.proposals.is_empty() && core.can_propose().is_ok() {
                // Refused for size: the clients give up.
                let _ = core.propose(std::mem::take(&mut member.proposals));
            }
            if !core.has_output() {
                break;
            }
            let output = core.take_output();
            let status = core.status();
            self.checks.judge(|checks| checks.monotone.is_at(&status));
            self.check_durable(id, &status);
            self.observe(id, &output);
            self.take_output(id, output);
        }
        self.serve_reads(id);
        self.start_work(id);
    }

    /// What a leader commits is on a majority's disks.
    fn check_durable(&mut self, id: u64, status: &Status) {
        let Some(core) = self
            .members
            .get(&id)
            .and_then(|member| member.core.as_ref())
        else {
            return;
        };
        if status.role != Role::Leader || status.commit <= self.newest_durable {
            return;
        }
        self.newest_durable = status.commit;
        let (index, term) = (status.commit, core.term_at(status.commit).unwrap_or(0));
        let voters = core.conf_state().voters;
        let disks = voters.into_iter().map(|voter| {
            let log = self.members.get(&voter).map(|member| &member.disk.log);
            let has_it =
                log.is_some_and(|log| log.base.0 >= index || log.term_at(index) == Some(term));
            (voter, has_it)
        });
        self.checks
            .judge(|checks| checks.durable.commits(id, (index, term), disks));
    }

    /// Tells the checks.
    fn observe(&mut self, id: u64, output: &Output) {
        let Some(core) = self
            .members
            .get(&id)
            .and_then(|member| member.core.as_ref())
        else {
            return;
        };
        if let Some(state) = output.state {
            self.trace.note(
                self.now,
                "state",
                &[id, state.term, state.leader, state.role as u64],
                format_args!("{id} {state:?}"),
            );
            if state.role == Role::Leader {
                self.summary.elections += 1;
                self.checks
                    .judge(|checks| checks.one_leader.leads(id, state.term));
                let newest = self.checks.committed.newest();
                let first = core.status().first_index;
                self.checks.judge(|checks| {
                    checks
                        .leader_completeness
                        .leads(id, state.term, newest, first, |index| core.term_at(index))
                });
            }
        }
        for entry in &output.committed {
            self.checks
                .judge(|checks| checks.committed.commits(id, entry));
        }
    }

    fn take_output(&mut self, id: u64, output: Output) {
        for line in &output.lines {
            self.trace
                .note(self.now, "raft", &[], format_args!("{}", line.text));
        }
        for message in output.messages {
            self.send(message);
        }
        if let Some(mut write) = output.write {
            if self.planted == Some(Planted::SendBeforeSync) {
                for message in std::mem::take(&mut write.messages_after) {
                    self.send(message);
                }
            }
            if let Some(member) = self.members.get_mut(&id) {
                member.disk.queue(write);
            }
        }
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        member.apply_queue.extend(output.committed);
        for read in output.reads {
            member
                .reads_due
                .extend(read.tickets.iter().map(|&ticket| (ticket, read.index)));
        }
        let incarnation = member.incarnation;
        for to in output.snapshots_wanted {
            self.after(
                0,
                300 * MILLISECOND,
                Event::OfferSnapshot(id, incarnation, to),
            );
        }
    }

    pub(super) fn send(&mut self, message: Message) {
        self.checks.judge(|checks| {
            checks.one_leader.sends(&message)?;
            checks.log_matching.sends(&message)
        });
        let (from, to) = (message.from, message.to);
        let is_snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
        let index = message.get_snapshot().get_metadata().index;
        let Some(sender) = self.members.get_mut(&from) else {
            return;
        };
        let body = if is_snapshot {
            sender.bodies_out.remove(&(to, index))
        } else {
            None
        };
        let incarnation = sender.incarnation;
        let is_up = self
            .members
            .get(&to)
            .is_some_and(|member| member.core.is_some());
        let arrivals = self.net.arrivals(&message, self.now, &mut self.random);
        let is_lost = arrivals.is_empty() || !is_up;
        if is_snapshot {
            self.summary.snapshots += u64::from(!is_lost);
            let report = Event::ReportSnapshot {
                sender: from,
                incarnation,
                to,
                is_delivered: !is_lost,
            };
            let first = arrivals.first().copied().unwrap_or(self.now);
            self.at(first + 10 * MILLISECOND, report);
        } else if is_lost
            && self.random.one_in(4)
            && let Some(core) = self
                .members
                .get_mut(&from)
                .and_then(|member| member.core.as_mut())
        {
            core.report_unreachable(to);
        }
        for time in arrivals {
            self.at(
                time,
                Event::Deliver(Box::new(message.clone()), body.clone()),
            );
        }
    }

    pub(super) fn offer_snapshot(&mut self, id: u64, to: u64) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let body = member.snapshot_body();
        let Some(core) = member.core.as_mut() else {
            return;
        };
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = body.applied;
        metadata.term = core.term_at(body.applied).unwrap_or(0);
        metadata.set_conf_state(body.conf_state.clone());
        member.bodies_out.insert((to, body.applied), body);
        let is_taken = core.offer_snapshot(to, Some(snapshot));
        self.note(
            "snapshot",
            &[id, to],
            format_args!("{id} offers {to} one: {is_taken}"),
        );
        self.pump(id);
    }

    /// Starts a group write and a batch of applies, if there is something and none is under way.
    fn start_work(&mut self, id: u64) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let incarnation = member.incarnation;
        let stall = member.disk_stalled_until;
        let crashes = member.is_to_crash_writing && !self.is_healed;
        let starts_writing = !member.disk.is_busy() && member.disk.start();
        let starts_applying = !member.is_applying && !member.apply_queue.is_empty();
        member.is_applying |= starts_applying;
        if starts_writing {
            let sync = self.random.between(100, self.swarm.sync_max);
            let done = (self.now + sync).max(stall);
            self.at(done, Event::Synced(id, incarnation));
            if crashes {
                self.after(0, done - self.now, Event::Crash(id, incarnation));
            }
        }
        if starts_applying {
            self.after(50, self.swarm.apply_max, Event::Apply(id, incarnation));
        }
    }

    pub(super) fn synced(&mut self, id: u64) {
        let skips = self.planted == Some(Planted::SkipFsync) && !self.random.one_in(3);
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let writes = if skips {
            member.disk.skip_sync()
        } else {
            member.disk.finish()
        };
        for write in writes {
            self.note(
                "synced",
                &[id, write.number],
                format_args!("{id} write {}", write.number),
            );
            self.persisted(id, write);
        }
        self.pump(id);
    }

    fn persisted(&mut self, id: u64, write: Write) {
        if let Some(hard_state) = &write.hard_state {
            self.checks.monotone.persisted(id, hard_state);
        }
        if let Some(first) = write.entries.first() {
            let log = self.members.get(&id).map(|member| &member.disk.log);
            // Unless a later write of the group has replaced it already.
            let log = log.filter(|log| log.term_at(first.index) == Some(first.term));
            let before = log.and_then(|log| log.term_at(first.index - 1));
            self.checks
                .judge(|checks| checks.log_matching.holds(id, before, &write.entries));
        }
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        if let Some(snapshot) = &write.snapshot {
            let verdict = install(member, snapshot.get_metadata().index);
            let (applied, hash) = (member.machine.applied(), member.machine.hash());
            self.checks
                .judge(|checks| verdict.and_then(|()| checks.same_state.is_at(id, applied, hash)));
        }
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let Some(core) = member.core.as_mut() else {
            return;
        };
        core.persisted(write.number);
        if let Some(snapshot) = &write.snapshot {
            core.applied(snapshot.get_metadata().index);
        }
        for message in write.messages_after {
            self.send(message);
        }
    }

    pub(super) fn apply(&mut self, id: u64) {
        let count = self.random.between(1, 12);
        for _ in 0..count {
            let Some(member) = self.members.get_mut(&id) else {
                return;
            };
            let Some(entry) = member.apply_queue.pop_front() else {
                break;
            };
            self.apply_entry(id, &entry);
        }
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        member.is_applying = false;
        let applied = member.machine.applied();
        let hash = member.machine.hash();
        let due = member.disk.checkpoint.applied + self.swarm.checkpoint_every;
        if applied >= due && member.checkpoint_under_way.is_none() {
            member.checkpoint_under_way = Some(member.checkpoint());
            let incarnation = member.incarnation;
            self.after(
                MILLISECOND,
                SECOND / 5,
                Event::CheckpointDone(id, incarnation),
            );
        }
        self.checks
            .judge(|checks| checks.same_state.is_at(id, applied, hash));
        self.with_core(id, |core| core.applied(applied));
    }

    fn apply_entry(&mut self, id: u64, entry: &Entry) {
        if entry.entry_type == EntryType::EntryConfChange as i32 {
            self.apply_member_change(id, entry);
            return;
        }
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let request = Request::decode(&entry.data);
        let outcome = member.machine.apply(entry.index, request.as_ref());
        let Some(request) = request else { return };
        let client = member.waiters.remove(&request.id);
        self.checks
            .judge(|checks| checks.linearizable.applies(entry.index, &request, outcome));
        let Some(client) = client else { return };
        self.client_hears(client, request.id, Answer::Wrote(outcome));
    }

    fn apply_member_change(&mut self, id: u64, entry: &Entry) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let Some((change, raft_change)) = MemberChange::decode(&entry.data) else {
            return;
        };
        let is_accepted = member.machine.accept(entry.index, change);
        if let Some(core) = member.core.as_mut()
            && is_accepted
        {
            match core.apply_conf_change(&raft_change) {
                Ok(conf_state) => member.conf_state = conf_state,
                Err(error) => self
                    .checks
                    .judge(|_| Err(format!("{id}: {change:?}: {error}"))),
            }
        }
        self.note(
            "members",
            &[id, entry.index],
            format_args!("{id} {change:?}: {is_accepted}"),
        );
        if let MemberChange::Remove(out) = change {
            // As etcd: a second to let the others know.
            self.after(SECOND, SECOND + 1, Event::Leave(out));
        }
        if let MemberChange::AddLearner(new) = change
            && is_accepted
            && !self.members.contains_key(&new)
        {
            self.summary.member_changes += 1;
            self.members.insert(new, Member::joining(new, self.planted));
            self.after(0, SECOND, Event::Start(new));
        }
    }

    pub(super) fn checkpoint_done(&mut self, id: u64) {
        let catch_up = self.swarm.catch_up_entries;
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let Some(checkpoint) = member.checkpoint_under_way.take() else {
            return;
        };
        let applied = checkpoint.applied;
        member.disk.set_checkpoint(checkpoint, catch_up);
        self.note(
            "checkpoint",
            &[id, applied],
            format_args!("{id} at {applied}"),
        );
        self.with_core(id, |core| core.compact(applied.saturating_sub(catch_up)));
    }

    /// Answers reads whose index is applied.
    fn serve_reads(&mut self, id: u64) {
        let is_early = self.planted == Some(Planted::ReadTooEarly);
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let applied = member.machine.applied();
        let (served, due) = member
            .reads_due
            .drain(..)
            .partition(|&(_, index)| index <= applied || is_early);
        let _: &Vec<(u64, u64)> = &served;
        member.reads_due = due;
        let mut answers = Vec::new();
        for (ticket, _) in served {
            match member.tickets.remove(&ticket) {
                Some((client, key)) => answers.push((client, ticket, member.machine.read(key))),
                None => {
                    self.checks
                        .judge(|_| Err(format!("{id} answers ticket {ticket} twice")));
                }
            }
        }
        for (client, ticket, seen) in answers {
            self.client_hears(client, ticket, Answer::Read(seen));
        }
    }
}

/// Replaces the state machine by a received snapshot.
fn install(member: &mut Member, index: u64) -> Result<(), String> {
    let body = member.disk.install_body(index);
    let body = body.ok_or_else(|| format!("{}: no body for the snapshot at {index}", member.id))?;
    // What was committed before it is part of it.
    member.apply_queue.clear();
    member.checkpoint_under_way = None;
    let machine = crate::machine::Machine::restore(&body.machine);
    member.machine = machine.ok_or("an unreadable snapshot body")?;
    member.conf_state = body.conf_state;
    Ok(())
}
