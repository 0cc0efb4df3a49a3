//! Golden scripts: small clusters driven by hand, every effect in the output.
//!
//! A script in `scripts/` starts with what it shows, then gives commands; the lines under `---` are what
//! the members did, in the words of [`Cluster::describe`]. After an intended change of behaviour run with
//! `UPDATE_GOLDENFILES=1` and read the difference.
//!
//! Nothing moves by itself: `stabilize` completes writes, applies, and delivers messages until nothing
//! is left, except on members whose disk is `slow`; `step` does one such round; `tick` is time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::fmt::Write as _;

use bytes::Bytes;
use goldenscript::{Argument, Command, Context};
use prost::Message as _;

use super::eraftpb::{
    ConfChange, ConfState, Entry, EntryType, HardState, Message, MessageType, Snapshot,
};
use super::{Config, Core, Output, Restored, Role, Write};

macro_rules! scripts {
    ($($name:ident)+) => {
        $(#[test]
        fn $name() {
            let path = format!("src/raft/scripts/{}.txt", stringify!($name));
            goldenscript::run(&mut Cluster::default(), path).expect("script runs");
        })+

        #[test]
        fn every_script_is_run() {
            let known = BTreeSet::from([$(concat!(stringify!($name), ".txt").to_owned()),+]);
            let found = std::fs::read_dir("src/raft/scripts").expect("directory of scripts");
            let found = found.map(|file| file.expect("entry").file_name().into_string());
            assert_eq!(known, found.map(|name| name.expect("plain name")).collect());
        }
    };
}

scripts!(
    conf_changes elections leader_removal leader_transfer learners read_index read_index_changes
    restart slow_disk snapshots
);

/// One member with its disk and its state machine, which only remembers what it applied.
struct Member {
    core: Core,
    disk: Disk,
    unsynced: VecDeque<Write>,
    is_disk_slow: bool,
    is_down: bool,
}

#[derive(Clone, Default)]
struct Disk {
    hard_state: HardState,
    snapshot: (u64, u64),
    entries: Vec<Entry>,
    applied: u64,
    conf_state: ConfState,
}

impl Disk {
    fn sync(&mut self, write: &Write) {
        if let Some(snapshot) = &write.snapshot {
            let metadata = snapshot.get_metadata();
            self.entries.clear();
            self.snapshot = (metadata.index, metadata.term);
            self.conf_state = metadata.get_conf_state().clone();
            self.applied = metadata.index;
        }
        if let Some(first) = write.entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            self.entries.extend(write.entries.iter().cloned());
        }
        if let Some(hard_state) = &write.hard_state {
            self.hard_state = hard_state.clone();
        }
    }

    fn restored(&self) -> Restored {
        Restored {
            hard_state: self.hard_state.clone(),
            conf_state: self.conf_state.clone(),
            applied: self.applied,
            snapshot: self.snapshot,
            entries: self.entries.clone(),
        }
    }
}

#[derive(Default)]
struct Cluster {
    members: BTreeMap<u64, Member>,
    network: VecDeque<Message>,
    /// Links that lose everything.
    cut: BTreeSet<(u64, u64)>,
    trace: String,
    shows_lines: bool,
}

type Failure = Box<dyn Error>;

impl Cluster {
    fn start(&mut self, id: u64, disk: Disk) -> Result<(), Failure> {
        let core = Core::new(Config::new(id, 1), disk.restored())?;
        let member = Member {
            core,
            disk,
            unsynced: VecDeque::new(),
            is_disk_slow: false,
            is_down: false,
        };
        self.members.insert(id, member);
        self.collect(id);
        Ok(())
    }

    fn member(&mut self, id: u64) -> Result<&mut Member, Failure> {
        self.members
            .get_mut(&id)
            .ok_or_else(|| format!("no member {id}").into())
    }

    fn say(&mut self, id: u64, what: &str) {
        let _ = writeln!(self.trace, "{id} {what}");
    }

    /// Takes a member's output to its disk, its state machine and the network.
    fn collect(&mut self, id: u64) {
        while let Some(member) = self.members.get_mut(&id) {
            if member.is_down || !member.core.has_output() {
                return;
            }
            let output = member.core.take_output();
            self.describe(id, &output);
            self.network.extend(output.messages);
            let Some(member) = self.members.get_mut(&id) else {
                return;
            };
            member.unsynced.extend(output.write);
            self.apply(id, output.committed);
            for to in output.snapshots_wanted {
                self.say(id, &format!("wants a snapshot for {to}"));
            }
        }
    }

    fn apply(&mut self, id: u64, committed: Vec<Entry>) {
        for entry in committed {
            let Some(member) = self.members.get_mut(&id) else {
                return;
            };
            if entry.entry_type == EntryType::EntryConfChange as i32
                && let Ok(change) = ConfChange::decode(entry.data.clone())
                && let Ok(conf_state) = member.core.apply_conf_change(&change)
            {
                member.disk.conf_state = conf_state;
            }
            member.disk.applied = entry.index;
            member.core.applied(entry.index);
        }
    }

    /// Completes the oldest write.
    fn sync(&mut self, id: u64) -> bool {
        let Some(member) = self.members.get_mut(&id) else {
            return false;
        };
        let Some(write) = member.unsynced.pop_front() else {
            return false;
        };
        member.disk.sync(&write);
        member.core.persisted(write.number);
        if let Some(snapshot) = &write.snapshot {
            member.core.applied(snapshot.get_metadata().index);
        }
        self.say(id, &format!("synced write {}", write.number));
        self.network.extend(write.messages_after);
        self.collect(id);
        true
    }

    /// Delivers what is on the network, then completes writes. False when there was nothing to do.
    fn step(&mut self) -> bool {
        let mut has_moved = false;
        let waiting: Vec<_> = self.network.drain(..).collect();
        for message in waiting {
            has_moved = true;
            self.deliver(message);
        }
        for id in self.members.keys().copied().collect::<Vec<_>>() {
            self.collect(id);
            while self
                .members
                .get(&id)
                .is_some_and(|m| !m.is_disk_slow && !m.is_down)
                && self.sync(id)
            {
                has_moved = true;
            }
        }
        has_moved
    }

    fn deliver(&mut self, message: Message) {
        let (from, to) = (message.from, message.to);
        let text = text_of(&message);
        let is_lost = self.cut.contains(&(from, to))
            || self.members.get(&to).is_none_or(|member| member.is_down);
        if is_lost {
            let _ = writeln!(self.trace, "{from} -> {to} {text} LOST");
            return;
        }
        let _ = writeln!(self.trace, "{from} -> {to} {text}");
        let Some(member) = self.members.get_mut(&to) else {
            return;
        };
        if let Err(rejected) = member.core.step(message) {
            self.say(to, &format!("refused: {rejected}"));
        }
        self.collect(to);
    }

    fn describe(&mut self, id: u64, output: &Output) {
        if let Some(state) = &output.state {
            let what = match (state.role, state.leader) {
                (Role::Leader, _) => format!("leads term {}", state.term),
                (Role::Follower, 0) => format!("follows nobody in term {}", state.term),
                (Role::Follower, leader) => format!("follows {leader} in term {}", state.term),
                (role, _) => format!("is {role:?} in term {}", state.term),
            };
            self.say(id, &what);
        }
        if let Some(write) = &output.write {
            self.say(id, &text_of_write(write));
        }
        for entry in &output.committed {
            self.say(id, &format!("applies {}", text_of_entry(entry)));
        }
        for read in &output.reads {
            self.say(
                id,
                &format!("serves reads {:?} at {}", read.tickets, read.index),
            );
        }
        if self.shows_lines {
            for line in &output.lines {
                let _ = writeln!(self.trace, "{:?}: {}", line.level, line.text);
            }
        }
    }

    fn run_command(&mut self, command: &Command) -> Result<(), Failure> {
        let mut args = command.consume_args();
        let id = args.next_pos().map(str::parse).transpose()?.unwrap_or(0);
        match command.name.as_str() {
            "cluster" => {
                let learners = args.take_key("learners").map_or(Ok(0), str::parse)?;
                self.shows_lines = args.take_key("lines").is_some();
                let conf_state = ConfState {
                    voters: (1..=id).collect(),
                    learners: (id + 1..=id + learners).collect(),
                    ..ConfState::default()
                };
                for id in 1..=id + learners {
                    self.start(
                        id,
                        Disk {
                            conf_state: conf_state.clone(),
                            ..Disk::default()
                        },
                    )?;
                }
            }
            "join" => self.start(id, Disk::default())?,
            "tick" => {
                let count = args.next_pos().map_or(Ok(1), str::parse)?;
                for _ in 0..count {
                    self.member(id)?.core.tick();
                    self.collect(id);
                }
            }
            "campaign" => {
                let term = self.member(id)?.core.status().term;
                let is_waiting = |member: &Member| {
                    let status = member.core.status();
                    status.term == term && status.role == Role::Follower
                };
                for _ in 0..40 {
                    if is_waiting(self.member(id)?) {
                        self.member(id)?.core.tick();
                    }
                }
                self.collect(id);
            }
            "propose" => {
                let payloads = args.map(|arg| match arg {
                    Argument::Positional(value) => Bytes::from(value.clone()),
                    other => Bytes::from(other.to_string()),
                });
                self.member(id)?.core.propose(payloads.collect())?;
                self.collect(id);
                return Ok(());
            }
            "conf" => {
                let (kind, who) = args
                    .next_key()
                    .ok_or("conf ID add|learner|remove|update=MEMBER")?;
                let change_type = match kind {
                    "add" => 0,
                    "remove" => 1,
                    "update" => 2,
                    "learner" => 3,
                    other => other.parse()?,
                };
                let change = ConfChange {
                    change_type,
                    node_id: who.parse()?,
                    ..ConfChange::default()
                };
                self.member(id)?
                    .core
                    .propose_conf_change(change.encode_to_vec().into())?;
                self.collect(id);
            }
            "read" => {
                while let Some(ticket) = args.next_pos() {
                    self.member(id)?.core.read_index(ticket.parse()?);
                }
                self.collect(id);
            }
            "transfer" => {
                let to = args.next_pos().ok_or("transfer ID TO")?.parse()?;
                self.member(id)?.core.transfer_leader(to);
                self.collect(id);
            }
            "compact" => {
                let index = args.next_pos().ok_or("compact ID INDEX")?.parse()?;
                self.member(id)?.core.compact(index);
            }
            "snapshot" => {
                let to = args
                    .take_key("to")
                    .ok_or("snapshot ID to=MEMBER")?
                    .parse()?;
                self.offer_snapshot(id, to)?;
            }
            "report_snapshot" => {
                let to = args
                    .take_key("to")
                    .ok_or("report_snapshot ID to=MEMBER")?
                    .parse()?;
                self.member(id)?.core.report_snapshot(to, true);
                self.collect(id);
            }
            "disk" => match args.next_pos() {
                Some("slow") => self.member(id)?.is_disk_slow = true,
                Some("sync") => drop(self.sync(id)),
                Some("normal") => {
                    self.member(id)?.is_disk_slow = false;
                    while self.sync(id) {}
                }
                _ => return Err("disk ID slow|sync|normal".into()),
            },
            "cut" => {
                for other in 0..10 {
                    self.cut.extend([(id, other), (other, id)]);
                }
            }
            "heal" => self.cut.clear(),
            "lose" => {
                let kind = args.next_pos();
                self.network.retain(|message| {
                    !(message.to == id
                        && kind.is_none_or(|kind| text_of(message).starts_with(kind)))
                });
            }
            "duplicate" => {
                let copies = self
                    .network
                    .iter()
                    .filter(|message| message.to == id)
                    .cloned();
                let copies: Vec<_> = copies.collect();
                self.network.extend(copies);
            }
            "crash" => {
                let member = self.member(id)?;
                member.is_down = true;
                member.unsynced.clear();
            }
            "restart" => {
                let disk = self.member(id)?.disk.clone();
                self.start(id, disk)?;
            }
            "step" => drop(self.step()),
            "stabilize" => {
                for round in 0.. {
                    if !self.step() {
                        break;
                    }
                    if round > 200 {
                        return Err("never quiet".into());
                    }
                }
            }
            "status" => self.status(id),
            other => return Err(format!("unknown command {other}").into()),
        }
        args.reject_next()
    }

    fn offer_snapshot(&mut self, id: u64, to: u64) -> Result<(), Failure> {
        let member = self.member(id)?;
        let index = member.core.status().applied;
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = index;
        metadata.term = member.core.term_at(index).ok_or("compacted")?;
        metadata.set_conf_state(member.core.conf_state());
        let is_taken = member.core.offer_snapshot(to, Some(snapshot));
        self.say(
            id,
            if is_taken {
                "sends it"
            } else {
                "has no use for it"
            },
        );
        self.collect(id);
        Ok(())
    }

    fn status(&mut self, only: u64) {
        let mut lines = Vec::new();
        for (id, member) in &self.members {
            if only != 0 && only != *id {
                continue;
            }
            let status = member.core.status();
            let mut line = format!(
                "{id} {:?} term={} vote={} leader={} log={}..{} commit={} persisted={} applied={}",
                status.role,
                status.term,
                status.vote,
                status.leader,
                status.first_index,
                status.last_index,
                status.commit,
                status.persisted,
                status.applied
            );
            for peer in status.progress {
                let learner = if peer.is_learner { " learner" } else { "" };
                let state = peer.state;
                let _ = write!(
                    line,
                    "\n    {}: {state:?} matched={} next={}{learner}",
                    peer.id, peer.matched, peer.next
                );
            }
            lines.push(line);
        }
        self.trace.push_str(&lines.join("\n"));
    }
}

fn text_of(message: &Message) -> String {
    let mut text = format!("{:?}", message.get_msg_type())
        .trim_start_matches("Msg")
        .to_owned();
    if message.term != 0 {
        let _ = write!(text, " term={}", message.term);
    }
    match message.get_msg_type() {
        MessageType::MsgAppend | MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => {
            let _ = write!(text, " after {}/{}", message.index, message.log_term);
        }
        MessageType::MsgAppendResponse | MessageType::MsgReadIndexResp => {
            let _ = write!(text, " index={}", message.index);
        }
        MessageType::MsgSnapshot => {
            let metadata = message.get_snapshot().get_metadata();
            let _ = write!(text, " at {}/{}", metadata.index, metadata.term);
        }
        _ => (),
    }
    if message.reject {
        let _ = write!(text, " REJECTED hint={}", message.reject_hint);
    }
    if message.commit != 0 {
        let _ = write!(text, " commit={}", message.commit);
    }
    if !message.context.is_empty() {
        let _ = write!(text, " context={}", text_of_context(&message.context));
    }
    for entry in &message.entries {
        let is_read = message.get_msg_type() == MessageType::MsgReadIndex
            || message.get_msg_type() == MessageType::MsgReadIndexResp;
        let entry = if is_read {
            text_of_context(&entry.data)
        } else {
            text_of_entry(entry)
        };
        let _ = write!(text, " [{entry}]");
    }
    text
}

/// Contexts as member.counter, one behind the other where they nest.
fn text_of_context(context: &Bytes) -> String {
    if !context.len().is_multiple_of(24) {
        return String::from_utf8_lossy(context).into_owned();
    }
    let text = |part: &[u8]| format!("{}.{}", part[7], part[23]);
    context.chunks(24).map(text).collect::<Vec<_>>().join("+")
}

fn text_of_entry(entry: &Entry) -> String {
    let what = match ConfChange::decode(entry.data.clone()) {
        Ok(change) if entry.entry_type == EntryType::EntryConfChange as i32 => {
            let kinds = ["add", "remove", "update", "learner"];
            let kind = usize::try_from(change.change_type)
                .ok()
                .and_then(|kind| kinds.get(kind));
            format!("{} {}", kind.unwrap_or(&"?"), change.node_id)
        }
        _ => format!("{:?}", String::from_utf8_lossy(&entry.data)),
    };
    format!("{}/{} {what}", entry.index, entry.term)
}

fn text_of_write(write: &Write) -> String {
    let mut text = format!("writes {}:", write.number);
    if let Some(snapshot) = &write.snapshot {
        let metadata = snapshot.get_metadata();
        let _ = write!(text, " snapshot {}/{}", metadata.index, metadata.term);
    }
    for entry in &write.entries {
        let _ = write!(text, " {},", text_of_entry(entry));
    }
    if let Some(hard_state) = &write.hard_state {
        let HardState { term, vote, commit } = hard_state;
        let _ = write!(text, " term={term} vote={vote} commit={commit}");
    }
    text
}

impl goldenscript::Runner for Cluster {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Failure> {
        let result = self.run_command(command);
        let trace = std::mem::take(&mut self.trace);
        result.map(|()| trace)
    }
}
