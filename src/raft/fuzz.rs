//! No message may panic: random bytes and random messages against a member in every role.
//!
//! Messages are drawn around the member's present state (terms and indexes just below, at and above
//! its own, echoes of what it sent), because a message far from it is refused by its first field. Between
//! messages the driver does its part at random: ticks, writes that complete late, applied reports,
//! proposals, reads, snapshots. A failure prints the case; the same case fails again.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message as _;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::eraftpb::{
    ConfChange, ConfState, Entry, EntryType, HardState, Message, MessageType, Snapshot,
};
use super::{Config, Core, Restored, Role};

/// A member with a driver that dawdles.
struct Member {
    core: Core,
    random: StdRng,
    writing: VecDeque<u64>,
    /// Contexts this member sent, to be echoed.
    contexts: Vec<Bytes>,
    committed: VecDeque<Entry>,
    snapshot_index: u64,
}

impl Member {
    fn new(case: u64, restored: Restored) -> Self {
        let config = Config {
            pre_vote: case.is_multiple_of(2),
            ..Config::new(1, case)
        };
        Self {
            core: Core::new(config, restored).expect("a sound state"),
            random: StdRng::seed_from_u64(case),
            writing: VecDeque::new(),
            contexts: Vec::new(),
            committed: VecDeque::new(),
            snapshot_index: 0,
        }
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.random.random_ratio(1, n)
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.random.random_range(0..choices.len())]
    }

    fn collect(&mut self) {
        while self.core.has_output() {
            let output = self.core.take_output();
            if let Some(write) = output.write {
                self.writing.push_back(write.number);
                if let Some(snapshot) = write.snapshot {
                    self.snapshot_index = snapshot.get_metadata().index;
                    self.committed.clear();
                }
                self.note(&write.messages_after);
            }
            self.note(&output.messages);
            self.committed.extend(output.committed);
            for to in output.snapshots_wanted {
                let snapshot = self.one_in(2).then(|| self.snapshot());
                self.core.offer_snapshot(to, snapshot);
            }
        }
    }

    fn note(&mut self, messages: &[Message]) {
        for message in messages {
            let of_entries = message.entries.iter().map(|entry| entry.data.clone());
            self.contexts
                .extend(of_entries.chain([message.context.clone()]));
        }
        let excess = self.contexts.len().saturating_sub(8);
        self.contexts.drain(..excess);
    }

    fn snapshot(&self) -> Snapshot {
        let index = self.core.status().applied;
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = index;
        metadata.term = self.core.term_at(index).unwrap_or(1);
        metadata.set_conf_state(self.core.conf_state());
        snapshot
    }

    fn persist_all(&mut self) {
        self.collect();
        while let Some(number) = self.writing.pop_front() {
            self.core.persisted(number);
            self.collect();
        }
    }

    fn apply_all(&mut self) {
        if self.snapshot_index > 0 {
            self.core.applied(self.snapshot_index);
        }
        while let Some(entry) = self.committed.pop_front() {
            if entry.entry_type == EntryType::EntryConfChange as i32
                && let Ok(change) = ConfChange::decode(entry.data)
            {
                let _ = self.core.apply_conf_change(&change);
            }
            self.core.applied(entry.index);
        }
    }

    /// Something a driver may do.
    fn dawdle(&mut self) {
        match self.random.random_range(0..12) {
            0..=3 => self.core.tick(),
            4 => {
                if let Some(number) = self.writing.pop_front() {
                    self.core.persisted(number);
                }
            }
            5 => self.apply_all(),
            6 => self.core.read_index(7),
            7 => drop(self.core.propose(vec![Bytes::from_static(b"x"); 3])),
            8 => {
                let change = self.conf_change();
                let _ = self.core.propose_conf_change(change);
            }
            9 => {
                let to = self.pick(&[1, 2, 3, 4, 9]);
                match self.random.random_range(0..3) {
                    0 => self.core.transfer_leader(to),
                    1 => self.core.report_unreachable(to),
                    _ => {
                        let is_delivered = self.one_in(2);
                        self.core.report_snapshot(to, is_delivered);
                    }
                }
            }
            10 => {
                let applied = self.core.status().applied;
                self.core.compact(applied);
            }
            _ => self.persist_all(),
        }
        if self.one_in(2) {
            self.collect();
        }
    }

    fn conf_change(&mut self) -> Bytes {
        let change = ConfChange {
            change_type: self.pick(&[0, 1, 2, 3, 3, 4, -1]),
            node_id: self.pick(&[0, 1, 2, 3, 4, 5]),
            ..ConfChange::default()
        };
        change.encode_to_vec().into()
    }

    fn around(&mut self, values: &[u64]) -> u64 {
        let near = self.pick(values);
        match self.random.random_range(0..24) {
            0 => u64::MAX,
            1 => 0,
            2 => 1 << 40,
            3..=6 => near.saturating_add(1),
            7..=9 => near.saturating_sub(1),
            10 => near.saturating_add(5),
            _ => near,
        }
    }

    fn entries(&mut self, after: u64, term: u64) -> Vec<Entry> {
        let count = self.pick(&[0, 0, 1, 1, 2, 5]);
        let mut index = after;
        (0..count)
            .map(|_| {
                index = if self.one_in(30) {
                    self.around(&[index])
                } else {
                    index.wrapping_add(1)
                };
                let entry_type = self.pick(&[0, 0, 0, 0, 0, 0, 1, 1, 2, 3]);
                let data = match entry_type {
                    1 => self.conf_change(),
                    _ => self.context(),
                };
                let term = if self.one_in(10) {
                    self.around(&[term])
                } else {
                    term
                };
                Entry {
                    entry_type,
                    index,
                    term,
                    data,
                    ..Entry::default()
                }
            })
            .collect()
    }

    fn context(&mut self) -> Bytes {
        if self.contexts.is_empty() || self.one_in(4) {
            return self
                .pick(&[&b""[..], b"CampaignTransfer", b"12345678"])
                .into();
        }
        let at = self.random.random_range(0..self.contexts.len());
        self.contexts[at].clone()
    }

    fn message(&mut self) -> Message {
        let status = self.core.status();
        let indexes = [
            status.commit,
            status.applied,
            status.persisted,
            status.first_index,
            status.last_index,
        ];
        let kind = self.random.random_range(-1..25);
        let term = if matches!(kind, 2 | 15) && !self.one_in(8) {
            0
        } else {
            self.around(&[status.term, status.term, status.term])
        };
        let index = self.around(&indexes);
        let log_term = match self.core.term_at(index) {
            Some(term) if !self.one_in(4) => term,
            _ => self.around(&[status.term]),
        };
        let snapshot = (kind == 7 || self.one_in(20)).then(|| {
            let mut snapshot = Snapshot::default();
            let conf_state = ConfState {
                voters: self
                    .pick(&[&[1, 2, 3][..], &[2, 3], &[1], &[], &[1, 1], &[0, 1]])
                    .to_vec(),
                learners: self.pick(&[&[][..], &[4], &[1]]).to_vec(),
                voters_outgoing: self.pick(&[&[][..], &[], &[], &[3]]).to_vec(),
                ..ConfState::default()
            };
            let metadata = snapshot.mut_metadata();
            metadata.index = index;
            metadata.term = log_term;
            metadata.set_conf_state(conf_state);
            snapshot
        });
        Message {
            msg_type: kind,
            to: self.pick(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 2]),
            from: self.pick(&[2, 2, 3, 3, 4, 2, 3, 9, 0, 1, status.leader]),
            term,
            log_term,
            index,
            entries: self.entries(index, log_term.max(status.term)),
            commit: self.around(&indexes),
            commit_term: self.around(&[status.term]),
            snapshot,
            reject: self.one_in(3),
            reject_hint: self.around(&indexes),
            context: self.context(),
            request_snapshot: self.pick(&[0, 0, 1, status.last_index]),
            deprecated_priority: self.pick(&[0, 0, 1]),
            priority: self.pick(&[0, 0, -1, 1]),
        }
    }

    fn hear_two(&mut self, message: Message) {
        let message = Message {
            from: 2,
            to: 1,
            ..message
        };
        self.core.step(message).expect("a sound message");
        self.collect();
    }
}

fn restored() -> Restored {
    let entry = |index| Entry {
        index,
        term: 1,
        ..Entry::default()
    };
    Restored {
        hard_state: HardState {
            term: 1,
            vote: 0,
            commit: 6,
        },
        conf_state: ConfState {
            voters: vec![1, 2, 3],
            learners: vec![4],
            ..ConfState::default()
        },
        applied: 5,
        snapshot: (4, 1),
        entries: (5..=8).map(entry).collect(),
    }
}

fn elect(member: &mut Member) {
    for _ in 0..200 {
        let role = member.core.status().role;
        let kind = match role {
            Role::Leader => return,
            Role::Follower => {
                member.core.tick();
                member.persist_all();
                continue;
            }
            Role::PreCandidate => MessageType::MsgRequestPreVoteResponse,
            Role::Candidate => MessageType::MsgRequestVoteResponse,
        };
        let term = member.core.status().term + u64::from(role == Role::PreCandidate);
        member.hear_two(Message {
            msg_type: kind as i32,
            term,
            ..Message::default()
        });
        member.persist_all();
    }
    unreachable!("two votes of three elect");
}

/// A member brought into one of the roles and situations a message can meet.
fn situation(kind: u64, case: u64) -> Member {
    let with = |change: fn(&mut Restored)| {
        let mut state = restored();
        change(&mut state);
        Member::new(case, state)
    };
    let append = |index: u64, term| Message {
        msg_type: MessageType::MsgAppend as i32,
        term,
        index,
        log_term: 1,
        entries: vec![Entry {
            index: index + 1,
            term,
            ..Entry::default()
        }],
        commit: 7,
        ..Message::default()
    };
    match kind {
        0 => Member::new(case, Restored::default()),
        1 => with(|_| ()),
        2 => {
            let mut follower = with(|_| ());
            follower.hear_two(append(8, 2));
            follower.persist_all();
            follower
        }
        3 => {
            let mut disk_behind = with(|_| ());
            disk_behind.hear_two(append(8, 2));
            disk_behind.hear_two(Message {
                log_term: 1,
                ..append(7, 3)
            });
            disk_behind
        }
        4 => {
            let mut candidate = with(|_| ());
            candidate.persist_all();
            candidate.apply_all();
            while candidate.core.status().role == Role::Follower {
                candidate.core.tick();
            }
            candidate
        }
        5 | 6 => {
            let mut leader = with(|_| ());
            leader.persist_all();
            leader.apply_all();
            elect(&mut leader);
            if kind == 6 {
                leader
                    .core
                    .propose(vec![Bytes::from_static(b"x"); 4])
                    .expect("leads");
                leader.collect();
            }
            leader
        }
        7 | 8 => {
            let mut alone = with(|state| state.conf_state.voters = vec![1]);
            alone.persist_all();
            alone.apply_all();
            while alone.core.status().role != Role::Leader {
                alone.core.tick();
            }
            if kind == 8 {
                alone.persist_all();
            }
            alone
        }
        9 => with(|state| {
            state.conf_state.voters = vec![2, 3];
            state.conf_state.learners = vec![1];
        }),
        10 => with(|state| state.conf_state.voters = vec![2, 3]),
        _ => {
            let mut restoring = with(|_| ());
            let mut snapshot = Snapshot::default();
            (snapshot.mut_metadata().index, snapshot.mut_metadata().term) = (20, 2);
            snapshot
                .mut_metadata()
                .set_conf_state(restored().conf_state);
            let msg_type = MessageType::MsgSnapshot as i32;
            restoring.hear_two(Message {
                msg_type,
                term: 2,
                snapshot: Some(snapshot),
                ..Message::default()
            });
            restoring
        }
    }
}

const SITUATIONS: u64 = 12;

#[test]
fn no_random_message_panics() {
    let mut taken = [0; 32];
    for case in 0..SITUATIONS * 150 {
        println!("case {case}");
        let mut member = situation(case % SITUATIONS, case);
        for _ in 0..60 {
            let message = member.message();
            let kind = message.msg_type;
            if member.core.step(message).is_ok() {
                taken[kind as usize] += 1;
            }
            member.dawdle();
        }
    }
    // The generator must reach past the gate, or the test is worth nothing.
    let travelling = (2..=18).filter(|kind| !(10..=12).contains(kind));
    for kind in travelling {
        assert!(
            taken[kind] > 50,
            "only {} messages of type {kind} were taken",
            taken[kind]
        );
    }
}

#[test]
fn no_random_bytes_panic() {
    let mut decoded = 0;
    for case in 0..SITUATIONS * 100 {
        println!("case {case}");
        let mut member = situation(case % SITUATIONS, case);
        for _ in 0..40 {
            let mut bytes = if member.one_in(4) {
                let length = member.random.random_range(0..40);
                vec![0; length]
            } else {
                member.message().encode_to_vec()
            };
            let flips = if bytes.is_empty() {
                0
            } else {
                member.random.random_range(0..4)
            };
            for _ in 0..flips {
                let at = member.random.random_range(0..bytes.len());
                bytes[at] = member.random.random();
            }
            if let Ok(message) = Message::decode(Bytes::from(bytes)) {
                decoded += 1;
                let _ = member.core.step(message);
            }
            member.dawdle();
        }
    }
    assert!(decoded > 5_000, "{decoded}");
}
