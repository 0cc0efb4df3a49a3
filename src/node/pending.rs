//! Proposals whose answer somebody waits for.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use hashbrown::HashMap;
use prost::Message;
use tokio::sync::oneshot;

use super::NodeError;
use crate::machine::Response;
use crate::pb::etcdserverpb::InternalRaftRequest;
use crate::pb::raftpb::{ConfChange, Entry, EntryType};

/// Where a proposal's answer goes.
pub(crate) type Reply = oneshot::Sender<Result<Response, NodeError>>;

/// What one batch of applied entries answers.
pub(crate) type Answers = Vec<(Reply, Result<Response, NodeError>)>;

/// A request on its way into the log.
pub(crate) struct Proposal {
    /// Its entry data.
    pub(crate) data: Bytes,
    /// Who proposed it. Boxed: it goes through three queues, which then hold a word for it.
    pub(crate) waiter: Box<Waiter>,
}

/// Whoever waits until a request is applied.
pub(crate) struct Waiter {
    pub(crate) id: u64,
    /// What the entry's data decodes to; spares the apply thread the decoding.
    pub(crate) request: Option<InternalRaftRequest>,
    pub(crate) deadline: Instant,
    /// `None` when nobody waits, as for lease expiry.
    pub(crate) reply: Option<Reply>,
}

/// Accepted proposals in flight.
///
/// The leader knows each one's place in the log and finds its waiter there; a follower's proposals come back
/// under any index, and are found by the id in the entry.
#[derive(Default)]
pub(crate) struct Pending {
    /// (index, term, waiter), in log order.
    placed: VecDeque<(u64, u64, Box<Waiter>)>,
    forwarded: HashMap<u64, Box<Waiter>>,
}

impl Pending {
    /// A proposal was appended by this leader.
    pub(crate) fn place(&mut self, index: u64, term: u64, waiter: Box<Waiter>) {
        self.placed.push_back((index, term, waiter));
    }

    /// A proposal was sent to the leader.
    pub(crate) fn forward(&mut self, waiter: Box<Waiter>) {
        self.forwarded.insert(waiter.id, waiter);
    }

    /// The waiter of a committed entry.
    pub(crate) fn take(&mut self, entry: &Entry) -> Option<Box<Waiter>> {
        while let Some((index, term, _)) = self.placed.front() {
            if *index > entry.index {
                break;
            }
            let ours = *index == entry.index && *term == entry.term;
            let waiter = self.placed.pop_front().map(|(_, _, waiter)| waiter);
            if ours {
                return waiter;
            }
            // Overwritten by another leader: the answer will never come from here.
            if let Some(reply) = waiter.and_then(|waiter| waiter.reply) {
                let _ = reply.send(Err(NodeError::LeaderChanged));
            }
        }
        if self.forwarded.is_empty() {
            return None;
        }
        self.forwarded.remove(&request_id(entry)?)
    }

    /// Answers what waited too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self
            .placed
            .front()
            .is_some_and(|(_, _, waiter)| waiter.deadline <= now)
        {
            let waiter = self.placed.pop_front().map(|(_, _, waiter)| waiter);
            if let Some(reply) = waiter.and_then(|waiter| waiter.reply) {
                let _ = reply.send(Err(NodeError::Timeout));
            }
        }
        let late = self
            .forwarded
            .extract_if(|_, waiter| waiter.deadline <= now);
        for (_, waiter) in late {
            if let Some(reply) = waiter.reply {
                let _ = reply.send(Err(NodeError::Timeout));
            }
        }
    }

    /// Proposals in flight.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.placed.len() + self.forwarded.len()
    }
}

/// The id a request carries in its entry.
fn request_id(entry: &Entry) -> Option<u64> {
    match entry.entry_type() {
        EntryType::EntryNormal => {
            let request = InternalRaftRequest::decode(entry.data.clone()).ok()?;
            Some(request.header.map_or(request.id, |header| header.id))
        }
        EntryType::EntryConfChange => Some(ConfChange::decode(entry.data.clone()).ok()?.id),
        EntryType::EntryConfChangeV2 => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::etcdserverpb::RequestHeader;
    use std::time::Duration;

    fn waiter(id: u64) -> (Box<Waiter>, oneshot::Receiver<Result<Response, NodeError>>) {
        let (reply, receiver) = oneshot::channel();
        let deadline = Instant::now() + Duration::from_secs(60);
        (
            Box::new(Waiter {
                id,
                request: None,
                deadline,
                reply: Some(reply),
            }),
            receiver,
        )
    }

    fn entry(index: u64, term: u64, id: u64) -> Entry {
        let header = Some(RequestHeader {
            id,
            ..RequestHeader::default()
        });
        let request = InternalRaftRequest {
            header,
            ..InternalRaftRequest::default()
        };
        Entry {
            index,
            term,
            data: request.encode_to_vec().into(),
            ..Entry::default()
        }
    }

    #[test]
    fn a_leaders_waiter_is_found_by_place_and_an_overwritten_one_is_told() {
        let mut pending = Pending::default();
        let (first, mut lost) = waiter(1);
        let (second, _kept) = waiter(2);
        pending.place(5, 2, first);
        pending.place(6, 2, second);
        assert!(pending.take(&entry(4, 2, 0)).is_none());
        assert!(
            pending.take(&entry(5, 3, 9)).is_none(),
            "another leader's entry"
        );
        assert!(matches!(lost.try_recv(), Ok(Err(NodeError::LeaderChanged))));
        assert_eq!(
            pending.take(&entry(6, 2, 2)).map(|waiter| waiter.id),
            Some(2)
        );
    }

    #[test]
    fn a_followers_waiter_is_found_by_id() {
        let mut pending = Pending::default();
        let (forwarded, _kept) = waiter(7);
        pending.forward(forwarded);
        assert!(pending.take(&entry(1, 1, 8)).is_none());
        assert_eq!(
            pending.take(&entry(2, 1, 7)).map(|waiter| waiter.id),
            Some(7)
        );
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn what_waits_too_long_times_out() {
        let mut pending = Pending::default();
        let (placed, mut first) = waiter(1);
        let (forwarded, mut second) = waiter(2);
        pending.place(1, 1, placed);
        pending.forward(forwarded);
        pending.expire(Instant::now());
        assert!(first.try_recv().is_err());
        pending.expire(Instant::now() + Duration::from_secs(61));
        assert!(matches!(first.try_recv(), Ok(Err(NodeError::Timeout))));
        assert!(matches!(second.try_recv(), Ok(Err(NodeError::Timeout))));
    }
}
