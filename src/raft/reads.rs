//! Linearizable reads: which index a reader must wait for.
//!
//! A reader takes a ticket. Tickets gather into a batch, and a batch becomes a *round*: one exchange
//! that proves the leader was still leader after every ticket of the batch was taken. Up to
//! [`ROUNDS_MAX`] rounds are on their way at once, so that a reader who comes late does not wait for two.
//!
//! A round is proved by whichever comes first:
//!
//! * **heartbeats**: `raft`'s ReadIndex, a quorum echoes the round's context. On a follower the request
//!   goes to the leader first;
//! * **a commit**, on the leader and for free: an entry appended after the round opened commits in the
//!   same term. A quorum took it in this term after the round opened, hence nobody had won a later term
//!   before that, hence the commit index noted at opening covered every acknowledged write.
//!
//! A member alone needs neither: its commit index is the answer.
//!
//! Rounds that lose their ground (term or leader changed, or a follower got no answer for a while) put
//! their tickets back to be asked again; a ticket is answered exactly once, and giving up is for the
//! caller to decide. Every attempt has a context of its own: member id, seed of this start, counter.
//! Contexts that repeat let a delayed echo prove a later round (etcd issue 20418), so a leader also puts
//! its own context in front of a follower's, whatever that follower chose.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use raft_proto::eraftpb::Message;

use super::output::ReadReady;

/// Rounds on their way at once.
const ROUNDS_MAX: usize = 4;
/// Requests of followers kept until the leader has committed in its term.
const PARKED_MAX: usize = 256;
/// Length of a context of ours.
const CONTEXT_BYTES: usize = 24;

/// What reads need to know of the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) term: u64,
    /// 0 when unknown.
    pub(super) leader: u64,
    pub(super) is_leader: bool,
    /// The commit index is of the current term: from here on it covers all that was ever committed.
    pub(super) committed_in_term: bool,
    pub(super) is_single_voter: bool,
    pub(super) committed: u64,
    pub(super) last_index: u64,
}

impl View {
    fn authority(&self) -> (u64, u64) {
        (self.term, self.leader)
    }

    /// What a later commit proves about this moment; nothing unless this is a settled leader.
    fn mark(&self) -> Option<Mark> {
        (self.is_leader && self.committed_in_term).then_some(Mark {
            term: self.term,
            committed: self.committed,
            last_index: self.last_index,
        })
    }
}

/// A moment of a leader's term.
#[derive(Clone, Copy, Debug)]
struct Mark {
    term: u64,
    committed: u64,
    last_index: u64,
}

impl Mark {
    fn is_proved(&self, view: &View) -> bool {
        view.is_leader && view.term == self.term && view.committed > self.last_index
    }
}

struct Round {
    counter: u64,
    tickets: Vec<u64>,
    authority: (u64, u64),
    mark: Option<Mark>,
    age_ticks: usize,
}

/// See the module's head.
pub(super) struct Reads {
    member: u64,
    seed: u64,
    counter: u64,
    waiting: Vec<u64>,
    /// The moment the last waiting ticket was taken.
    waiting_mark: Option<Mark>,
    rounds: VecDeque<Round>,
    ready: Vec<ReadReady>,
    parked: Vec<Message>,
}

impl Reads {
    pub(super) fn new(member: u64, seed: u64) -> Self {
        Self {
            member,
            seed,
            counter: 0,
            waiting: Vec::new(),
            waiting_mark: None,
            rounds: VecDeque::new(),
            ready: Vec::new(),
            parked: Vec::new(),
        }
    }

    /// Takes a reader in.
    pub(super) fn ask(&mut self, ticket: u64, view: &View) {
        self.waiting.push(ticket);
        self.waiting_mark = view.mark();
    }

    /// Whether [`Reads::open`] has something to do.
    pub(super) fn can_open(&self, view: &View) -> bool {
        let answerable = if view.is_leader {
            view.committed_in_term
        } else {
            view.leader != 0
        };
        let room = self.rounds.len() < ROUNDS_MAX || (view.is_leader && view.is_single_voter);
        !self.waiting.is_empty() && answerable && room
    }

    /// Answers the batch on the spot if this member votes alone; otherwise makes it a round and returns
    /// the context to ask `raft` with.
    pub(super) fn open(&mut self, view: &View) -> Option<Bytes> {
        if !self.can_open(view) {
            return None;
        }
        let tickets = std::mem::take(&mut self.waiting);
        if view.is_leader && view.is_single_voter {
            self.ready.push(ReadReady {
                tickets,
                index: view.committed,
            });
            return None;
        }
        let context = self.next_context(0);
        self.rounds.push_back(Round {
            counter: self.counter,
            tickets,
            authority: view.authority(),
            mark: view.mark(),
            age_ticks: 0,
        });
        Some(context.freeze())
    }

    /// `raft` proved `context` at `index`.
    pub(super) fn confirm(&mut self, context: &[u8], index: u64, view: &View) {
        let Some(counter) = self.own_counter(context) else {
            return;
        };
        let Some(at) = self
            .rounds
            .iter()
            .position(|round| round.counter == counter)
        else {
            return;
        };
        let Some(round) = self.rounds.remove(at) else {
            return;
        };
        if round.authority == view.authority() {
            self.ready.push(ReadReady {
                tickets: round.tickets,
                index,
            });
        } else {
            self.put_back(round.tickets);
        }
    }

    /// Proves by commit what can be, and takes back what lost its ground.
    pub(super) fn settle(&mut self, view: &View) {
        while let Some(round) = self.rounds.front() {
            let Some(mark) = round.mark.filter(|mark| mark.is_proved(view)) else {
                break;
            };
            let tickets = self
                .rounds
                .pop_front()
                .map(|round| round.tickets)
                .unwrap_or_default();
            self.ready.push(ReadReady {
                tickets,
                index: mark.committed,
            });
        }
        if let Some(mark) = self.waiting_mark.filter(|mark| mark.is_proved(view)) {
            let tickets = std::mem::take(&mut self.waiting);
            self.waiting_mark = None;
            if !tickets.is_empty() {
                self.ready.push(ReadReady {
                    tickets,
                    index: mark.committed,
                });
            }
        }
        self.take_back(|round| round.authority != view.authority());
        if !view.is_leader {
            self.parked.clear();
        }
    }

    /// Ages rounds; a follower asks anew when an answer seems lost. A leader need not: its heartbeats
    /// repeat the newest context, whose echo proves all rounds before it.
    pub(super) fn tick(&mut self, view: &View, patience_ticks: usize) {
        for round in &mut self.rounds {
            round.age_ticks += 1;
        }
        if !view.is_leader {
            self.take_back(|round| round.age_ticks > patience_ticks);
        }
    }

    pub(super) fn take_ready(&mut self) -> Vec<ReadReady> {
        std::mem::take(&mut self.ready)
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Keeps a follower's request until the leader may answer it; drops it when too many wait (the
    /// follower asks again).
    pub(super) fn park(&mut self, request: Message) {
        if self.parked.len() < PARKED_MAX {
            self.parked.push(request);
        }
    }

    pub(super) fn take_parked(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.parked)
    }

    pub(super) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Puts a context of our own in front of a follower's.
    pub(super) fn wrap(&mut self, request: &mut Message) {
        for entry in &mut request.entries {
            let mut context = self.next_context(entry.data.len());
            context.extend_from_slice(&entry.data);
            entry.data = context.freeze();
        }
    }

    /// Restores the follower's context in the answer.
    pub(super) fn unwrap(&self, answer: &mut Message) {
        for entry in &mut answer.entries {
            if self.own_counter(&entry.data).is_some() {
                entry.data = entry.data.slice(CONTEXT_BYTES..);
            }
        }
    }

    fn next_context(&mut self, extra_bytes: usize) -> BytesMut {
        self.counter += 1;
        let mut context = BytesMut::with_capacity(CONTEXT_BYTES + extra_bytes);
        for word in [self.member, self.seed, self.counter] {
            context.extend_from_slice(&word.to_be_bytes());
        }
        context
    }

    fn own_counter(&self, context: &[u8]) -> Option<u64> {
        let word = |at: usize| {
            context
                .get(at..at + 8)?
                .try_into()
                .ok()
                .map(u64::from_be_bytes)
        };
        (word(0)? == self.member && word(8)? == self.seed).then(|| word(16))?
    }

    fn take_back(&mut self, lost: impl Fn(&Round) -> bool) {
        if !self.rounds.iter().any(&lost) {
            return;
        }
        let mut tickets = Vec::new();
        self.rounds.retain_mut(|round| {
            let is_lost = lost(round);
            if is_lost {
                tickets.append(&mut round.tickets);
            }
            !is_lost
        });
        self.put_back(tickets);
    }

    fn put_back(&mut self, mut tickets: Vec<u64>) {
        tickets.append(&mut self.waiting);
        self.waiting = tickets;
        // Proves nothing until the next ticket or round sets a mark that covers all of them.
        self.waiting_mark = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader() -> View {
        View {
            term: 2,
            leader: 1,
            is_leader: true,
            committed_in_term: true,
            is_single_voter: false,
            committed: 10,
            last_index: 12,
        }
    }

    fn ready(reads: &mut Reads) -> Vec<(Vec<u64>, u64)> {
        reads
            .take_ready()
            .into_iter()
            .map(|ready| (ready.tickets, ready.index))
            .collect()
    }

    #[test]
    fn batches_become_rounds_and_rounds_are_limited() {
        let mut reads = Reads::new(1, 5);
        let view = leader();
        let mut contexts = Vec::new();
        for ticket in 0..6 {
            reads.ask(ticket, &view);
            contexts.extend(reads.open(&view));
        }
        assert_eq!(contexts.len(), ROUNDS_MAX);
        reads.confirm(&contexts[1], 10, &view);
        assert_eq!(ready(&mut reads), [(vec![1], 10)]);
        contexts.extend(reads.open(&view));
        reads.confirm(&contexts[4], 11, &view);
        assert_eq!(ready(&mut reads), [(vec![4, 5], 11)]);
        reads.confirm(&contexts[4], 11, &view);
        assert!(ready(&mut reads).is_empty(), "answered once");
    }

    #[test]
    fn a_later_commit_proves_rounds_for_free() {
        let mut reads = Reads::new(1, 5);
        let view = leader();
        reads.ask(7, &view);
        let context = reads.open(&view).expect("a round");
        reads.settle(&View {
            committed: 12,
            last_index: 13,
            ..view
        });
        assert!(
            ready(&mut reads).is_empty(),
            "12 was appended before the round opened"
        );
        reads.settle(&View {
            term: 3,
            committed: 13,
            last_index: 13,
            ..view
        });
        assert!(ready(&mut reads).is_empty(), "another term proves nothing");
        // The round was put back; open it again.
        let again = reads.open(&view).expect("a new round");
        assert_ne!(context, again);
        reads.settle(&View {
            committed: 13,
            last_index: 13,
            ..view
        });
        assert_eq!(ready(&mut reads), [(vec![7], 10)]);
        reads.confirm(&again, 13, &view);
        assert!(ready(&mut reads).is_empty());
    }

    #[test]
    fn waiting_tickets_are_proved_by_what_came_after_the_last_of_them() {
        let mut reads = Reads::new(1, 5);
        let view = leader();
        for ticket in 0..4 {
            reads.ask(ticket, &view);
            assert!(reads.open(&view).is_some());
        }
        reads.ask(4, &view);
        reads.ask(
            5,
            &View {
                last_index: 14,
                ..view
            },
        );
        let late = View {
            committed: 13,
            last_index: 14,
            ..view
        };
        reads.settle(&late);
        assert_eq!(ready(&mut reads).len(), 4);
        reads.settle(&View {
            committed: 15,
            last_index: 15,
            ..view
        });
        assert_eq!(ready(&mut reads), [(vec![4, 5], 10)]);
    }

    #[test]
    fn a_changed_leader_asks_again_with_a_new_context() {
        let mut reads = Reads::new(1, 5);
        let follower = View {
            is_leader: false,
            leader: 2,
            ..leader()
        };
        reads.ask(1, &follower);
        let first = reads.open(&follower).expect("asks the leader");
        let leaderless = View {
            leader: 0,
            ..follower
        };
        reads.settle(&leaderless);
        assert!(reads.open(&leaderless).is_none());
        let other = View {
            leader: 3,
            term: 3,
            ..follower
        };
        let second = reads.open(&other).expect("asks the new leader");
        reads.confirm(&first, 99, &other);
        assert!(ready(&mut reads).is_empty(), "an answer to the old context");
        reads.confirm(&second, 20, &leaderless);
        assert!(
            ready(&mut reads).is_empty(),
            "the answer came from a leader that is none any more"
        );
        let third = reads.open(&other).expect("asked again");
        reads.confirm(&third, 21, &other);
        assert_eq!(ready(&mut reads), [(vec![1], 21)]);
    }

    #[test]
    fn a_lost_answer_is_asked_for_again() {
        let mut reads = Reads::new(1, 5);
        let follower = View {
            is_leader: false,
            leader: 2,
            ..leader()
        };
        reads.ask(1, &follower);
        assert!(reads.open(&follower).is_some());
        for _ in 0..3 {
            reads.tick(&follower, 3);
            assert!(!reads.can_open(&follower));
        }
        reads.tick(&follower, 3);
        assert!(reads.can_open(&follower));
    }

    #[test]
    fn a_single_voter_answers_at_once_but_not_before_its_first_commit() {
        let mut reads = Reads::new(1, 5);
        let fresh = View {
            is_single_voter: true,
            committed_in_term: false,
            ..leader()
        };
        reads.ask(1, &fresh);
        assert!(reads.open(&fresh).is_none());
        assert!(!reads.has_ready());
        let settled = View {
            committed_in_term: true,
            ..fresh
        };
        assert!(reads.open(&settled).is_none());
        assert_eq!(ready(&mut reads), [(vec![1], 10)]);
    }

    #[test]
    fn contexts_of_followers_travel_inside_ours() {
        let mut reads = Reads::new(1, 5);
        let theirs = Bytes::from_static(b"theirs");
        let entry = raft_proto::eraftpb::Entry {
            data: theirs.clone(),
            ..Default::default()
        };
        let mut request = Message {
            entries: vec![entry],
            ..Message::default()
        };
        let mut again = request.clone();
        reads.wrap(&mut request);
        reads.wrap(&mut again);
        assert_ne!(request.entries[0].data, again.entries[0].data);
        reads.unwrap(&mut request);
        assert_eq!(request.entries[0].data, theirs);
        let mut foreign = Message {
            entries: again.entries.clone(),
            ..Message::default()
        };
        Reads::new(1, 6).unwrap(&mut foreign);
        assert_eq!(foreign.entries[0].data, again.entries[0].data);
    }
}
