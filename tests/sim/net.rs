//! The network between members: every message is on its own, may be lost, repeated, late.
//!
//! Proposals are never repeated: over a stream they cannot be, and a repeated one would rightly be
//! applied twice.

use std::collections::{BTreeMap, BTreeSet};

use etcd::raft::eraftpb::{Message, MessageType};

use crate::random::{MILLISECOND, Micros, Random, SECOND};

/// Probabilities are "one in n"; 0 is never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quality {
    pub(crate) latency_max: Micros,
    pub(crate) lost_one_in: u64,
    pub(crate) repeated_one_in: u64,
    pub(crate) straggles_one_in: u64,
}

impl Quality {
    pub(crate) const PERFECT: Self = Self {
        latency_max: 2 * MILLISECOND,
        lost_one_in: 0,
        repeated_one_in: 0,
        straggles_one_in: 0,
    };
}

pub(crate) struct Net {
    pub(crate) quality: Quality,
    /// Links that lose everything, by direction.
    cut: BTreeSet<(u64, u64)>,
    /// Links that hold everything back until a moment.
    clogged: BTreeMap<(u64, u64), Micros>,
}

impl Net {
    pub(crate) fn new(quality: Quality) -> Self {
        Self {
            quality,
            cut: BTreeSet::new(),
            clogged: BTreeMap::new(),
        }
    }

    /// When the copies of a message arrive; none when it is lost.
    pub(crate) fn arrivals(
        &self,
        message: &Message,
        now: Micros,
        random: &mut Random,
    ) -> Vec<Micros> {
        let link = (message.from, message.to);
        if self.cut.contains(&link) || random.one_in(self.quality.lost_one_in) {
            return Vec::new();
        }
        let is_proposal = message.get_msg_type() == MessageType::MsgPropose;
        let copies = 1 + u64::from(!is_proposal && random.one_in(self.quality.repeated_one_in));
        let start = self.clogged.get(&link).copied().unwrap_or(0).max(now);
        (0..copies)
            .map(|_| {
                let late = if random.one_in(self.quality.straggles_one_in) {
                    2 * SECOND
                } else {
                    0
                };
                start
                    + random.between(MILLISECOND / 5, self.quality.latency_max)
                    + random.between(0, late)
            })
            .collect()
    }

    /// Breaks the links between two groups, in one direction or both.
    pub(crate) fn split(&mut self, here: &[u64], there: &[u64], is_one_way: bool) {
        for &a in here {
            for &b in there {
                self.cut.insert((a, b));
                if !is_one_way {
                    self.cut.insert((b, a));
                }
            }
        }
    }

    pub(crate) fn clog(&mut self, from: u64, to: u64, until: Micros) {
        self.clogged.insert((from, to), until);
    }

    pub(crate) fn mend(&mut self) {
        self.cut.clear();
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        self.clogged.clear();
        self.quality = Quality::PERFECT;
    }
}
