//! What a member does on its own: publish itself, keep the cluster version, raise alarms, compact.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use super::handle::NodeHandle;
use super::lines;
use super::raft_loop::RaftInput;
use super::shared::{Role, Shared};
use super::start::AutoCompaction;
use crate::machine::Effect;
use crate::pb::etcdserverpb::{CompactionRequest, InternalRaftRequest};
use crate::pb::membershippb::{Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest};

/// The cluster version this release sets: the minor version of etcd it is compatible with.
pub(crate) const CLUSTER_VERSION: &str = "3.7.0";
/// What etcd takes data for whose storage version was never written.
const FIRST_STORAGE_VERSION: &str = "3.5.0";
/// Pause before a failed proposal of the member's own is made again.
const RETRY: Duration = Duration::from_millis(500);
/// How often a durable checkpoint lets raft drop entries.
const COMPACT_LOG_INTERVAL: Duration = Duration::from_secs(1);
/// Revisions samples a periodic compaction keeps per period.
const SAMPLES_PER_PERIOD: u32 = 10;

/// Publishes name and client URLs through the log. Returns when that is applied: the member is ready then.
pub(crate) async fn publish(shared: Arc<Shared>, node: NodeHandle) {
    let identity = &shared.identity;
    loop {
        let request = InternalRaftRequest {
            cluster_member_attr_set: Some(Box::new(ClusterMemberAttrSetRequest {
                member_id: identity.member_id.0,
                member_attributes: Some(Attributes {
                    name: identity.name.clone(),
                    client_urls: identity.client_urls.clone(),
                }),
            })),
            ..InternalRaftRequest::default()
        };
        match node.propose(request).await {
            Ok(_) => break,
            Err(error) => {
                tracing::warn!(
                    "local-member-id" = %identity.member_id,
                    %error,
                    "failed to publish local member to cluster through raft"
                );
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    tracing::info!(
        "local-member-id" = %identity.member_id,
        "local-member-attributes" = %format_args!(
            "{{Name:{} ClientURLs:[{}]}}",
            identity.name,
            identity.client_urls.join(" ")
        ),
        "cluster-id" = %identity.cluster_id,
        "publish-timeout" = %crate::logging::GoDuration::from(shared.request_timeout()),
        "published local member to cluster through raft"
    );
}

/// Sets the cluster version when there is none, or a lower one than every member could serve.
pub(crate) async fn keep_cluster_version(shared: Arc<Shared>, node: NodeHandle) {
    let mut leader = shared.leader_changed.subscribe();
    loop {
        let membership = node.view().membership.clone();
        let due = membership
            .version()
            .is_none_or(|version| is_lower(version, CLUSTER_VERSION));
        if due && shared.role() == Role::Leader && !membership.downgrade().enabled {
            tracing::info!(
                "cluster-version" = minor(CLUSTER_VERSION),
                "setting up initial cluster version using v3 API"
            );
            let request = InternalRaftRequest {
                cluster_version_set: Some(Box::new(ClusterVersionSetRequest {
                    ver: CLUSTER_VERSION.to_owned(),
                })),
                ..InternalRaftRequest::default()
            };
            if node.propose(request).await.is_ok() {
                announce_cluster_version(&shared);
                return;
            }
        }
        if !due {
            return;
        }
        // Looked at again when there is a leader, and in case it gave up.
        let _ = tokio::time::timeout(RETRY, leader.changed()).await;
    }
}

/// A cluster version as etcd shows it: `3.7` of `3.7.0`.
pub(super) fn minor(version: &str) -> &str {
    version.rsplit_once('.').map_or(version, |(minor, _)| minor)
}

fn is_lower(version: &str, than: &str) -> bool {
    match (
        semver::Version::parse(version),
        semver::Version::parse(than),
    ) {
        (Ok(version), Ok(than)) => version < than,
        _ => true,
    }
}

fn announce_cluster_version(shared: &Shared) {
    let identity = &shared.identity;
    let version = minor(CLUSTER_VERSION);
    tracing::info!(
        "cluster-id" = %identity.cluster_id,
        "local-member-id" = %identity.member_id,
        "cluster-version" = version,
        "set initial cluster version"
    );
    tracing::info!(
        "cluster-version" = version,
        "enabled capabilities for version"
    );
    tracing::info!("cluster-version" = version, "cluster version is updated");
    tracing::info!(
        "cluster-version" = CLUSTER_VERSION,
        "storage-version" = FIRST_STORAGE_VERSION,
        "cluster version differs from storage version."
    );
    for storage in ["3.6.0", "3.7.0"] {
        tracing::info!("new-storage-version" = storage, "updated storage version");
    }
}

/// Acts on effects that need a proposal of this member.
pub(crate) async fn follow_effects(
    shared: Arc<Shared>,
    node: NodeHandle,
    mut effects: mpsc::UnboundedReceiver<Effect>,
) {
    while let Some(effect) = effects.recv().await {
        match effect {
            Effect::QuotaExceeded => node.raise_no_space().await,
            Effect::ConfigurationDecided(change) => lines::configuration(&shared, &change),
            _ => {}
        }
    }
}

/// Lets raft forget entries that are in a durable checkpoint, but for what a follower may need to catch up.
pub(crate) async fn compact_log(shared: Arc<Shared>) {
    let mut timer = tokio::time::interval(COMPACT_LOG_INTERVAL);
    let mut compacted = 0;
    loop {
        timer.tick().await;
        let durable = shared.checkpoint_index.load(Ordering::Acquire);
        let index = durable.saturating_sub(shared.settings.catch_up_entries);
        if index > compacted && shared.raft.try_send(RaftInput::Compact(index)).is_ok() {
            compacted = index;
        }
    }
}

/// Compacts history by age or by count, as configured. Only the leader does.
pub(crate) async fn compact_automatically(
    shared: Arc<Shared>,
    node: NodeHandle,
    mode: AutoCompaction,
) {
    match mode {
        AutoCompaction::Periodic(period) => compact_periodically(shared, node, period).await,
        AutoCompaction::Revisions(kept) => compact_by_count(shared, node, kept).await,
    }
}

/// Keeps the history of the last `period`: samples the revision ten times a period, and compacts at the
/// oldest sample, at most once an hour (or a period, if that is shorter).
async fn compact_periodically(shared: Arc<Shared>, node: NodeHandle, period: Duration) {
    let interval = period.min(Duration::from_secs(3600));
    let sample_every = (interval / SAMPLES_PER_PERIOD).max(Duration::from_millis(1));
    let samples_max = (period.as_nanos() / sample_every.as_nanos().max(1)).max(1) as usize;
    let mut samples = std::collections::VecDeque::from([node.view().mvcc.revision()]);
    let mut timer = tokio::time::interval(sample_every);
    timer.tick().await;
    let mut since_compaction = Duration::ZERO;
    let mut last = 0;
    loop {
        timer.tick().await;
        samples.push_back(node.view().mvcc.revision());
        while samples.len() > samples_max + 1 {
            samples.pop_front();
        }
        since_compaction += sample_every;
        if samples.len() <= samples_max || since_compaction < interval {
            continue;
        }
        let Some(revision) = samples.front().copied() else {
            continue;
        };
        since_compaction = Duration::ZERO;
        if revision != last && compact(&shared, &node, revision).await {
            last = revision;
        }
    }
}

/// Keeps the newest `kept` revisions; looked at every five minutes.
async fn compact_by_count(shared: Arc<Shared>, node: NodeHandle, kept: i64) {
    let mut timer = tokio::time::interval(Duration::from_secs(300));
    let mut last = 0;
    loop {
        timer.tick().await;
        let revision = node.view().mvcc.revision() - kept;
        if revision > 0 && revision != last && compact(&shared, &node, revision).await {
            last = revision;
        }
    }
}

async fn compact(shared: &Shared, node: &NodeHandle, revision: i64) -> bool {
    if shared.role() != Role::Leader {
        return false;
    }
    tracing::info!(revision, "starting auto compaction");
    match node
        .compact(CompactionRequest {
            revision,
            physical: false,
        })
        .await
    {
        Ok(_) => true,
        // Somebody compacted further already.
        Err(super::NodeError::Apply(error))
            if error == crate::machine::KeySpaceError::Compacted.into() =>
        {
            true
        }
        Err(error) => {
            tracing::warn!(revision, %error, "failed auto compaction");
            false
        }
    }
}
