//! What goes wrong: by chance in every run, and on purpose to see that the checks see.

use crate::net::Quality;
use crate::random::{MILLISECOND, Micros, Random};

/// A defect planted into the driver. Each must be found within a few seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planted {
    /// Writes are reported durable while they are not.
    SkipFsync,
    /// The vote is left out of what is written.
    ForgetVote,
    /// Acknowledgements leave before the write they rest on is durable.
    SendBeforeSync,
    /// A leader answers reads from its commit index without asking anybody.
    SkipReadQuorum,
    /// A read is served before its index is applied.
    ReadTooEarly,
    /// After a restart the last applied entry is applied once more.
    ApplyTwice,
    /// Conflicting entries in the log are not replaced.
    KeepConflicts,
    /// A snapshot says it is newer than it is.
    StaleSnapshot,
    /// The configuration in the checkpoint is the one the member started with.
    StaleMembers,
}

impl Planted {
    pub(crate) const ALL: [Self; 9] = [
        Self::SkipFsync,
        Self::ForgetVote,
        Self::SendBeforeSync,
        Self::SkipReadQuorum,
        Self::ReadTooEarly,
        Self::ApplyTwice,
        Self::KeepConflicts,
        Self::StaleSnapshot,
        Self::StaleMembers,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SkipFsync => "skip-fsync",
            Self::ForgetVote => "forget-vote",
            Self::SendBeforeSync => "send-before-sync",
            Self::SkipReadQuorum => "skip-read-quorum",
            Self::ReadTooEarly => "read-too-early",
            Self::ApplyTwice => "apply-twice",
            Self::KeepConflicts => "keep-conflicts",
            Self::StaleSnapshot => "stale-snapshot",
            Self::StaleMembers => "stale-members",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|planted| planted.name() == name)
    }
}

/// Something that happens to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Crash,
    /// In the middle of its next write.
    CrashWriting,
    CrashAll,
    Split,
    /// The leader is alone.
    IsolateLeader,
    Clog,
    Freeze,
    StallDisk,
    Transfer,
    ChangeMembers,
}

/// The character of one run, drawn from its seed.
#[derive(Clone, Debug)]
pub(crate) struct Swarm {
    pub(crate) voters: u64,
    pub(crate) learners: u64,
    pub(crate) clients: u64,
    pub(crate) pre_vote: bool,
    pub(crate) quality: Quality,
    pub(crate) troubles: Vec<Trouble>,
    pub(crate) trouble_every_max: Micros,
    pub(crate) sync_max: Micros,
    pub(crate) apply_max: Micros,
    /// Entries between checkpoints.
    pub(crate) checkpoint_every: u64,
    /// Entries kept in memory behind a checkpoint.
    pub(crate) catch_up_entries: u64,
    pub(crate) log_bytes_max: u64,
    pub(crate) message_bytes_max: u64,
    pub(crate) inflight_messages_max: usize,
}

impl Swarm {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let some = |random: &mut Random, choices: &[u64]| random.pick(choices).unwrap_or(0);
        let mut troubles = Vec::new();
        for trouble in [
            Trouble::Crash,
            Trouble::CrashWriting,
            Trouble::CrashWriting,
            Trouble::CrashAll,
            Trouble::Split,
            Trouble::IsolateLeader,
            Trouble::Clog,
            Trouble::Freeze,
            Trouble::StallDisk,
            Trouble::Transfer,
            Trouble::ChangeMembers,
            Trouble::ChangeMembers,
        ] {
            if !random.one_in(3) {
                troubles.push(trouble);
            }
        }
        let voters = some(random, &[3, 3, 3, 3, 5, 5, 1]);
        let learners: &[u64] = if voters == 1 {
            &[0, 1, 2]
        } else {
            &[0, 0, 0, 1]
        };
        Self {
            voters,
            learners: some(random, learners),
            clients: random.between(1, 11),
            pre_vote: !random.one_in(4),
            quality: Quality {
                latency_max: some(random, &[1, 5, 20, 60]) * MILLISECOND,
                lost_one_in: some(random, &[0, 0, 100, 20]),
                repeated_one_in: some(random, &[0, 50, 10]),
                straggles_one_in: some(random, &[0, 0, 200, 20]),
            },
            troubles,
            trouble_every_max: some(random, &[1_000, 3_000, 6_000]) * MILLISECOND,
            sync_max: some(random, &[1, 10, 80]) * MILLISECOND,
            apply_max: some(random, &[1, 5, 50]) * MILLISECOND,
            checkpoint_every: some(random, &[5, 40, 400]),
            catch_up_entries: some(random, &[0, 5, 50]),
            log_bytes_max: some(random, &[2_000, 1 << 20]),
            message_bytes_max: some(random, &[0, 200, 1 << 20]),
            inflight_messages_max: some(random, &[1, 4, 256]) as usize,
        }
    }
}
