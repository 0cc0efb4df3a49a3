//! The world: one queue of events in virtual time, the members, the network, the clients.

mod clients;
mod drive;
mod trouble;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;

use etcd::raft::Role;
use etcd::raft::eraftpb::Message;

use crate::checks::Checks;
use crate::client::{Client, Operation};
use crate::disk::Checkpoint;
use crate::fault::{Planted, Swarm};
use crate::member::Member;
use crate::net::Net;
use crate::random::{MILLISECOND, Micros, Random, SECOND};
use crate::trace::Trace;

/// How long things go wrong.
const TROUBLED_TIME: Micros = 25 * SECOND;
/// How long a healed cluster may take to agree and serve.
const HEALING_TIME: Micros = 40 * SECOND;
/// Operations of each kind a client completes in a healed world.
const OPERATIONS_AFTER_HEAL: u64 = 2;

/// What happens at a moment. Events of a member carry its incarnation.
enum Event {
    Tick(u64, u64),
    /// With the body, if it is a snapshot.
    Deliver(Box<Message>, Option<Checkpoint>),
    Synced(u64, u64),
    Apply(u64, u64),
    CheckpointDone(u64, u64),
    OfferSnapshot(u64, u64, u64),
    ReportSnapshot {
        sender: u64,
        incarnation: u64,
        to: u64,
        is_delivered: bool,
    },
    Start(u64),
    Crash(u64, u64),
    /// Left the cluster.
    Leave(u64),
    ClientCalls(u64),
    /// A client's operation reaches a member.
    Request {
        member: u64,
        client: u64,
        operation: Operation,
    },
    ClientGivesUp(u64, u64),
    Trouble,
    Mend,
}

/// An event in its place: by time, then by the order it was made in.
struct Due(Micros, u64, Event);

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// What a clean run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) runs: u64,
    pub(crate) events: u64,
    pub(crate) operations: u64,
    pub(crate) elections: u64,
    pub(crate) crashes: u64,
    pub(crate) snapshots: u64,
    pub(crate) member_changes: u64,
    pub(crate) trace: u64,
}

impl Summary {
    pub(crate) fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.events += other.events;
        self.operations += other.operations;
        self.elections += other.elections;
        self.crashes += other.crashes;
        self.snapshots += other.snapshots;
        self.member_changes += other.member_changes;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            runs,
            events,
            operations,
            elections,
            crashes,
            snapshots,
            member_changes,
            ..
        } = self;
        write!(
            f,
            "{runs} runs, {events} events, {operations} operations, {elections} elections, \
             {crashes} crashes, {snapshots} snapshots, {member_changes} member changes"
        )
    }
}

pub(crate) struct World {
    now: Micros,
    queue: BinaryHeap<Reverse<Due>>,
    made: u64,
    random: Random,
    swarm: Swarm,
    planted: Option<Planted>,
    members: BTreeMap<u64, Member>,
    next_member: u64,
    net: Net,
    clients: BTreeMap<u64, Client>,
    next_operation: u64,
    is_healed: bool,
    /// Largest index whose durability was looked into.
    newest_durable: u64,
    checks: Checks,
    trace: Trace,
    summary: Summary,
}

impl World {
    pub(crate) fn new(seed: u64, planted: Option<Planted>, is_verbose: bool) -> Self {
        let mut random = Random::new(seed);
        let swarm = Swarm::draw(&mut random);
        let count = swarm.voters + swarm.learners;
        let members = (1..=count)
            .map(|id| (id, Member::bootstrapped(id, &swarm, planted)))
            .collect();
        let mut trace = Trace::new(is_verbose);
        trace.note(0, "swarm", &[seed], format_args!("{swarm:?}"));
        Self {
            now: 0,
            queue: BinaryHeap::new(),
            made: 0,
            random,
            net: Net::new(swarm.quality),
            clients: (0..swarm.clients)
                .map(|id| (id, Client::default()))
                .collect(),
            swarm,
            planted,
            members,
            next_member: count + 1,
            next_operation: 1,
            is_healed: false,
            newest_durable: 0,
            checks: Checks::default(),
            trace,
            summary: Summary {
                runs: 1,
                ..Summary::default()
            },
        }
    }

    /// Runs both phases.
    pub(crate) fn run(mut self) -> Result<Summary, String> {
        for id in self.members.keys().copied().collect::<Vec<_>>() {
            self.start(id);
        }
        for id in self.clients.keys().copied().collect::<Vec<_>>() {
            self.after(0, 100 * MILLISECOND, Event::ClientCalls(id));
        }
        self.after(SECOND, 2 * SECOND, Event::Trouble);
        self.run_until(TROUBLED_TIME, |_| false)?;
        self.heal();
        let has_recovered = self.run_until(TROUBLED_TIME + HEALING_TIME, Self::has_recovered)?;
        if !has_recovered {
            return Err(format!("no recovery: {}", self.describe()));
        }
        self.checks.linearizable.check()?;
        self.summary.operations = self.checks.linearizable.len() as u64;
        self.summary.trace = self.trace.hash();
        Ok(self.summary)
    }

    /// Handles events until a time or until something is reached; tells which.
    fn run_until(&mut self, end: Micros, is_reached: fn(&Self) -> bool) -> Result<bool, String> {
        while let Some(Reverse(Due(time, _, event))) = self.queue.pop() {
            if time > end {
                self.queue.push(Reverse(Due(time, 0, event)));
                return Ok(false);
            }
            self.now = time;
            self.summary.events += 1;
            self.handle(event);
            self.checks.verdict()?;
            if is_reached(self) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn handle(&mut self, event: Event) {
        let (member, incarnation) = match &event {
            Event::Deliver(message, _) => (message.to, None),
            Event::Request { member, .. } => (*member, None),
            Event::Tick(id, incarnation)
            | Event::Synced(id, incarnation)
            | Event::Apply(id, incarnation)
            | Event::CheckpointDone(id, incarnation)
            | Event::Crash(id, incarnation)
            | Event::OfferSnapshot(id, incarnation, _)
            | Event::ReportSnapshot {
                sender: id,
                incarnation,
                ..
            } => (*id, Some(*incarnation)),
            _ => (0, None),
        };
        if let Some(member) = self.members.get(&member) {
            if incarnation.is_some_and(|incarnation| incarnation != member.incarnation) {
                return;
            }
            if member.frozen_until > self.now {
                let wake = member.frozen_until;
                self.at(wake, event);
                return;
            }
        }
        match event {
            Event::Tick(id, _) => self.tick(id),
            Event::Deliver(message, body) => self.deliver(*message, body),
            Event::Synced(id, _) => self.synced(id),
            Event::Apply(id, _) => self.apply(id),
            Event::CheckpointDone(id, _) => self.checkpoint_done(id),
            Event::OfferSnapshot(id, _, to) => self.offer_snapshot(id, to),
            Event::ReportSnapshot {
                sender,
                to,
                is_delivered,
                ..
            } => {
                self.with_core(sender, |core| core.report_snapshot(to, is_delivered));
            }
            Event::Start(id) => self.start(id),
            Event::Crash(id, _) => self.crash(id),
            Event::Leave(id) => self.leave(id),
            Event::ClientCalls(id) => self.client_calls(id),
            Event::Request {
                member,
                client,
                operation,
            } => {
                self.request(member, client, &operation);
            }
            Event::ClientGivesUp(id, operation) => self.client_gives_up(id, operation),
            Event::Trouble => self.trouble(),
            Event::Mend => self.net.mend(),
        }
    }

    fn at(&mut self, time: Micros, event: Event) {
        self.made += 1;
        self.queue.push(Reverse(Due(time, self.made, event)));
    }

    /// Some time from now, at least `low` and less than `high`.
    fn after(&mut self, low: Micros, high: Micros, event: Event) {
        let time = self.now + self.random.between(low, high);
        self.at(time, event);
    }

    fn note(&mut self, what: &str, facts: &[u64], text: fmt::Arguments<'_>) {
        self.trace.note(self.now, what, facts, text);
    }

    /// Everything works from here on.
    fn heal(&mut self) {
        self.note("heal", &[], format_args!("{}", self.describe()));
        self.is_healed = true;
        self.net.heal();
        self.swarm.sync_max = 2 * MILLISECOND;
        self.swarm.apply_max = 2 * MILLISECOND;
        for (&id, member) in &mut self.members {
            member.frozen_until = 0;
            member.disk_stalled_until = 0;
            if member.core.is_none() {
                self.made += 1;
                self.queue
                    .push(Reverse(Due(self.now + SECOND, self.made, Event::Start(id))));
            }
        }
    }

    /// One leader, everybody has applied all it has, and every client was served.
    fn has_recovered(&self) -> bool {
        let is_served = |client: &Client| {
            client.reads_since_heal >= OPERATIONS_AFTER_HEAL
                && client.writes_since_heal >= OPERATIONS_AFTER_HEAL
                && client.waits_for.is_none()
        };
        if !self.clients.values().all(is_served) {
            return false;
        }
        let statuses = self.members.values().filter(|member| !member.is_gone);
        let mut leaders = statuses.filter_map(|member| {
            let status = member.core.as_ref()?.status();
            (status.role == Role::Leader).then_some((member, status))
        });
        let Some((leader, status)) = leaders.next() else {
            return false;
        };
        if leaders.next().is_some() || leader.machine.applied() != status.last_index {
            return false;
        }
        let everybody = leader
            .machine
            .voters()
            .into_iter()
            .chain(leader.machine.learners());
        everybody.into_iter().all(|id| {
            self.members.get(&id).is_some_and(|member| {
                member.core.is_some() && member.machine.hash() == leader.machine.hash()
            })
        })
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for member in self.members.values() {
            let state = member.core.as_ref().map(|core| {
                let status = core.status();
                format!(
                    "{:?} term {} leader {} commit {} last {} persisted {}",
                    status.role,
                    status.term,
                    status.leader,
                    status.commit,
                    status.last_index,
                    status.persisted
                )
            });
            let state = state.unwrap_or_else(|| {
                if member.is_gone {
                    "gone".to_owned()
                } else {
                    "down".to_owned()
                }
            });
            text.push_str(&format!(
                "[{}: {state}, applied {}, voters {:?} learners {:?}] ",
                member.id,
                member.machine.applied(),
                member.conf_state.voters,
                member.conf_state.learners,
            ));
        }
        let waiting = self.clients.iter().filter(|(_, client)| {
            client.reads_since_heal < OPERATIONS_AFTER_HEAL
                || client.writes_since_heal < OPERATIONS_AFTER_HEAL
        });
        text.push_str(&format!(
            "clients not served: {:?}",
            waiting.map(|(id, _)| id).collect::<Vec<_>>()
        ));
        text
    }
}
