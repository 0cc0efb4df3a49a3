//! At most one leader per term, and at most one vote per member and term.

use std::collections::BTreeMap;

use etcd::raft::eraftpb::{Message, MessageType};

use super::Verdict;

#[derive(Default)]
pub(crate) struct OneLeader {
    leaders: BTreeMap<u64, u64>,
    votes: BTreeMap<(u64, u64), u64>,
}

impl OneLeader {
    pub(crate) fn leads(&mut self, member: u64, term: u64) -> Verdict {
        match *self.leaders.entry(term).or_insert(member) {
            leader if leader == member => Ok(()),
            leader => Err(format!(
                "one leader: {leader} and {member} both lead term {term}"
            )),
        }
    }

    /// A message leaves its member.
    pub(crate) fn sends(&mut self, message: &Message) -> Verdict {
        if message.get_msg_type() != MessageType::MsgRequestVoteResponse || message.reject {
            return Ok(());
        }
        let (member, term, candidate) = (message.from, message.term, message.to);
        match *self.votes.entry((member, term)).or_insert(candidate) {
            first if first == candidate => Ok(()),
            first => Err(format!(
                "one vote: {member} voted for {first} and {candidate} in term {term}"
            )),
        }
    }
}
