//! What a [`Core`](super::Core) is started with: identity, timing in ticks, limits.

/// Identity, timing and limits of one member. [`Config::new`] has etcd's values.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member's id; never 0.
    pub id: u64,
    /// Differs at every start of the process: it spreads election timeouts and makes the contexts of
    /// read-index rounds unique across restarts. The same seed and inputs give the same outputs.
    pub seed: u64,
    /// Ticks without a word from the leader before an election; the actual wait is between this and
    /// twice this. Must be larger than `heartbeat_ticks`.
    pub election_ticks: usize,
    /// Ticks between two heartbeats of a leader.
    pub heartbeat_ticks: usize,
    /// Ask before standing for election, so that a member that was cut off does not depose a leader.
    pub pre_vote: bool,
    /// Entries of one append message, encoded bytes. One entry always fits.
    pub message_bytes_max: u64,
    /// Append messages on their way to one follower.
    pub inflight_messages_max: usize,
    /// Payload bytes a leader holds uncommitted before it refuses proposals.
    pub uncommitted_bytes_max: u64,
    /// Committed entries handed out by one output, encoded bytes. One entry always fits.
    pub committed_bytes_max: u64,
    /// Payload bytes kept in memory of entries that are applied: what a lagging follower can be sent
    /// without a snapshot.
    pub log_bytes_max: u64,
}

impl Config {
    /// etcd's timing and limits for member `id`.
    #[must_use]
    pub fn new(id: u64, seed: u64) -> Self {
        Self {
            id,
            seed,
            election_ticks: 10,
            heartbeat_ticks: 1,
            pre_vote: true,
            message_bytes_max: 1 << 20,
            inflight_messages_max: 512,
            uncommitted_bytes_max: 256 << 20,
            committed_bytes_max: 8 << 20,
            log_bytes_max: 128 << 20,
        }
    }

    pub(super) fn to_raft(&self, applied: u64) -> ::raft::Config {
        ::raft::Config {
            id: self.id,
            election_tick: self.election_ticks,
            heartbeat_tick: self.heartbeat_ticks,
            applied,
            max_size_per_msg: self.message_bytes_max,
            max_inflight_msgs: self.inflight_messages_max,
            check_quorum: true,
            pre_vote: self.pre_vote,
            max_uncommitted_size: self.uncommitted_bytes_max.max(self.message_bytes_max),
            max_committed_size_per_ready: self.committed_bytes_max,
            ..::raft::Config::default()
        }
    }

    /// Ticks until the next campaign, in `election_ticks..2 * election_ticks`: a hash in place of a
    /// random number. `campaigns` tells attempts within one term apart.
    pub(super) fn election_timeout_ticks(&self, term: u64, campaigns: u64) -> usize {
        let mut hash = self.seed;
        for word in [self.id, term, campaigns] {
            hash = mix(hash ^ word);
        }
        let spread = u64::try_from(self.election_ticks)
            .unwrap_or(u64::MAX)
            .max(1);
        self.election_ticks + usize::try_from(hash % spread).unwrap_or(0)
    }
}

/// The finalizer of SplitMix64: every input bit reaches every output bit.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn election_timeouts_stay_in_range_and_spread() {
        let mut seen = std::collections::BTreeSet::new();
        for id in 1..6 {
            for term in 0..20 {
                let config = Config::new(id, 7);
                let ticks = config.election_timeout_ticks(term, 0);
                assert!((10..20).contains(&ticks), "{ticks}");
                assert_eq!(ticks, config.election_timeout_ticks(term, 0));
                seen.insert(ticks);
            }
        }
        assert_eq!(seen.len(), 10, "every value of the range occurs");
        let attempts = (0..8).map(|n| Config::new(1, 7).election_timeout_ticks(3, n));
        assert!(attempts.collect::<std::collections::BTreeSet<_>>().len() > 2);
    }
}
