//! What the member says about itself: one line for the service manager, and metrics that others hold.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::{COMPATIBLE_VERSION, Config};
use crate::logging;
use crate::metrics::{self, HistogramSnapshot, Metrics, Runtime};
use crate::node::{NodeHandle, Role};
use crate::pb::etcdserverpb::AlarmType;
use crate::systemd::{Notifier, StatusText};
use crate::tls;

/// How often the line is brought up to date.
const INTERVAL: Duration = Duration::from_secs(2);
/// Seconds in a day.
const DAY: i64 = 86_400;

/// Fsyncs older than this no longer count for the line.
const FSYNC_WINDOW: Duration = Duration::from_secs(60);

/// The line for the service manager.
pub(super) struct Line {
    node: NodeHandle,
    quota_bytes: u64,
    /// Listeners' certificates.
    tls: Vec<Arc<tls::Server>>,
    /// Fsyncs as of the beginning of the window.
    fsyncs_before: HistogramSnapshot,
}

impl Line {
    pub(super) fn new(node: NodeHandle, config: &Config, tls: Vec<Arc<tls::Server>>) -> Self {
        let quota_bytes = config.storage.quota_bytes.unwrap_or(0);
        Self {
            node,
            quota_bytes,
            tls,
            fsyncs_before: metrics::global().wal_fsync.snapshot(),
        }
    }

    /// The line now.
    pub(super) fn text(&self) -> StatusText {
        let status = self.node.status();
        let view = self.node.view();
        let role = match status.role {
            Role::Leader => "leader".to_owned(),
            Role::Learner => "learner".to_owned(),
            _ if status.leader == 0 => "NO LEADER".to_owned(),
            _ => {
                let leader = view
                    .membership
                    .members()
                    .find(|member| member.id == status.leader);
                format!("follower of {}", leader.map_or("?", |member| &member.name))
            }
        };
        let kinds = [
            (AlarmType::Nospace, "NOSPACE"),
            (AlarmType::Corrupt, "CORRUPT"),
        ];
        let raised = kinds
            .into_iter()
            .filter(|(kind, _)| view.alarms.is_raised(*kind));
        let members = view.membership.members().count();
        let fsyncs = metrics::global().wal_fsync.snapshot();
        let p99 = fsyncs.quantile_since(&self.fsyncs_before, 0.99);
        let facts = self.tls.iter().flat_map(|tls| tls.certificates());
        let end = facts.map(|certificate| certificate.not_after).min();
        StatusText {
            role,
            term: status.term,
            revision: view.mvcc.revision(),
            members: Some((members, members)),
            db_bytes: Some((
                u64::try_from(view.sizes.file_bytes).unwrap_or(0),
                self.quota_bytes,
            )),
            fsync_p99: p99.map(Duration::from_secs_f64),
            certificate_days: end.map(|end| (end - unix_seconds()) / DAY),
            alarms: raised.map(|(_, name)| name.to_owned()).collect(),
        }
    }

    /// Keeps the line up to date.
    pub(super) async fn keep(mut self, notifier: Arc<Notifier>) {
        let mut timer = tokio::time::interval(INTERVAL);
        let mut window_began = tokio::time::Instant::now();
        loop {
            timer.tick().await;
            notifier.status(&self.text().to_string());
            if window_began.elapsed() >= FSYNC_WINDOW {
                window_began = tokio::time::Instant::now();
                self.fsyncs_before = metrics::global().wal_fsync.snapshot();
            }
        }
    }
}

fn unix_seconds() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// Has metrics set what the member holds anyway, whenever somebody asks.
pub(super) fn register_metrics(node: &NodeHandle, config: &Config) {
    let metrics = metrics::global();
    metrics.set_runtime(Runtime {
        version: env!("COMPILER").to_owned(),
        tasks: Some(live_tasks),
    });
    if config.http.extensive_metrics {
        metrics.grpc.show_handling();
    }
    for (name, stage, on) in config.feature_gates.all() {
        metrics
            .feature_enabled
            .with(&[name, stage.name()])
            .set(i64::from(on));
    }
    metrics.server_version.set_only(&[COMPATIBLE_VERSION]);
    metrics
        .server_id
        .set_only(&[&node.identity().member_id.to_string()]);
    metrics.build_info.set_only(&[env!("CARGO_PKG_VERSION")]);
    // Without users and roles it is the one etcd begins with.
    metrics.auth_revision.set(1);
    metrics
        .quota
        .set(config.storage.quota_bytes.map_or(0, |bytes| bytes as i64));
    let node = node.clone();
    metrics.on_gather(move |metrics| gather(&node, metrics));
}

/// Tasks of the runtime that asks; none outside of one.
fn live_tasks() -> usize {
    let runtime = tokio::runtime::Handle::try_current();
    runtime.map_or(0, |runtime| runtime.metrics().num_alive_tasks())
}

fn gather(node: &NodeHandle, metrics: &Metrics) {
    let status = node.status();
    let view = node.view();
    metrics.current_revision.set(view.mvcc.revision());
    metrics.compact_revision.set(view.mvcc.compact_revision());
    metrics
        .keys
        .set(i64::try_from(view.mvcc.live_count()).unwrap_or(i64::MAX));
    metrics.db_size.set(view.sizes.file_bytes);
    metrics.db_size_in_use.set(view.sizes.in_use_bytes);
    metrics.proposals_applied.set(status.applied_index as i64);
    metrics.proposals_committed.set(status.commit_index as i64);
    let lag = status.applied_index.saturating_sub(status.checkpoint_index);
    metrics.checkpoint_lag_entries.set(lag as i64);
    metrics.log_dropped.advance_to(logging::dropped());
    let alarms = view.alarms.list(AlarmType::None as i32);
    let alarms = alarms.iter().map(|alarm| {
        let kind = AlarmType::try_from(alarm.alarm).unwrap_or(AlarmType::None);
        vec![
            kind.as_str_name().to_owned(),
            format!("{:x}", alarm.member_id),
        ]
    });
    metrics.alarms.set_ones(alarms);
    metrics
        .is_learner
        .set(i64::from(status.role == Role::Learner));
    if let Some(version) = view.membership.version() {
        let short = version.rsplit_once('.').map_or(version, |(short, _)| short);
        metrics.cluster_version.set_only(&[short]);
    }
    let own = node.identity().member_id.to_string();
    let members = view.membership.members();
    let peers = members.map(|member| vec![own.clone(), format!("{:x}", member.id)]);
    metrics.known_peers.set_ones(peers);
}
