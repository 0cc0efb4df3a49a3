//! What a member says of itself while it opens its data and joins its cluster, in etcd's words.
//!
//! Deliberately absent: what etcd says of parts this server has not (a bbolt file, snapshot files and the
//! tasks that purge them).

use std::path::Path;
use std::time::Duration;

use prost::Message;

use super::shared::Shared;
use super::tasks::minor;
use crate::logging::{GoDuration, HumanBytes, List};
use crate::machine::Published;
use crate::membership::ConfigurationChange;
use crate::pb::raftpb::ConfChange;
use crate::types::MemberId;
use crate::wal::Metadata;

/// The checkpoint database is open; `applied_index` is what it holds.
pub(super) fn database_opened(member_dir: &Path, took: Duration, applied_index: u64) {
    tracing::info!(
        path = %member_dir.join("state.redb").display(),
        took = %GoDuration::from(took),
        "opened backend db"
    );
    tracing::info!(index = applied_index, "restore consistentIndex");
}

/// The log is open, the member known.
pub(super) fn member_starting(metadata: &Metadata, is_new: bool, commit_index: u64) {
    let (member, cluster) = (metadata.node_id, metadata.cluster_id);
    if is_new {
        tracing::info!(
            "local-member-id" = %member,
            "cluster-id" = %cluster,
            "starting local member"
        );
    } else {
        tracing::info!(
            "cluster-id" = %cluster,
            "local-member-id" = %member,
            "commit-index" = commit_index,
            "restarting local member"
        );
    }
}

/// Everything the checkpoint holds is in memory.
pub(super) fn state_restored(state: &Published, metadata: &Metadata, compacted: Option<i64>) {
    let (member, cluster) = (metadata.node_id, metadata.cluster_id);
    let membership = &state.membership;
    let is_known = membership.members().next().is_some();
    if is_known {
        let sizes = state.sizes;
        tracing::info!(
            "backend-size-bytes" = sizes.file_bytes,
            "backend-size" = %HumanBytes(sizes.file_bytes.unsigned_abs()),
            "backend-size-in-use-bytes" = sizes.in_use_bytes,
            "backend-size-in-use" = %HumanBytes(sizes.in_use_bytes.unsigned_abs()),
            "recovered v3 backend"
        );
    }
    for known in membership.members() {
        tracing::info!(
            "cluster-id" = %cluster,
            "local-member-id" = %member,
            "recovered-remote-peer-id" = %MemberId(known.id),
            "recovered-remote-peer-urls" = %List(&known.peer_urls),
            "recovered-remote-peer-is-learner" = known.is_learner,
            "recovered/added member from store"
        );
    }
    if let Some(version) = membership.version() {
        tracing::info!(
            "cluster-version" = minor(version),
            "enabled capabilities for version"
        );
        tracing::info!(
            "cluster-version" = minor(version),
            "set cluster version from store"
        );
    }
    tracing::info!("bootstrap successfully");
    if let Some(revision) = compacted {
        tracing::info!(
            "meta-bucket-name-key" = "finishedCompactRev",
            "restored-compact-revision" = revision,
            "restored last compact revision"
        );
    }
    tracing::info!("current-rev" = state.mvcc.revision(), "kvstore restored");
}

/// The only voter does not wait for an election timeout.
pub(super) fn fast_forwarding(shared: &Shared) {
    let settings = &shared.settings;
    let ticks = settings.election_ticks();
    let time = |ticks: usize| {
        GoDuration::from(settings.heartbeat_interval * u32::try_from(ticks).unwrap_or(u32::MAX))
    };
    let forward = ticks.saturating_sub(1);
    tracing::info!(
        "local-member-id" = %shared.identity.member_id,
        "forward-ticks" = forward,
        "forward-duration" = %time(forward),
        "election-ticks" = ticks,
        "election-timeout" = %time(ticks),
        "started as single-node; fast-forwarding election ticks"
    );
}

/// A configuration change took effect. One that was refused is the empty change, which names no member.
pub(super) fn configuration(shared: &Shared, change: &ConfChange) {
    let decoded = ConfigurationChange::decode(&change.encode_to_vec());
    if let Ok((_, ConfigurationChange::Add(member))) = decoded {
        tracing::info!(
            "cluster-id" = %shared.identity.cluster_id,
            "local-member-id" = %shared.identity.member_id,
            "added-peer-id" = %MemberId(member.id),
            "added-peer-peer-urls" = %List(&member.peer_urls),
            "added-peer-is-learner" = member.is_learner,
            "added member"
        );
    }
}
