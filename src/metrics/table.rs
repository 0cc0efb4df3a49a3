//! Every family by name: the one place where a metric is added.
//!
//! `field: Kind = constructor, "name", "what it counts";` The text is both the field's documentation and
//! the `# HELP` line. Families of fixed size live in `grpc.rs` (per method) and `process.rs`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::{Mutex, RwLock};

use super::family::{Family, Kind, Series, labels};
use super::grpc::GrpcMethods;
use super::process::{self, Runtime};
use super::request::{RequestHistograms, SuccessHistograms, apply_labels, request_labels};
use super::value::{Collect, Counter, Gauge, Histogram, Labelled};

/// Bounds `start × 2^k`; doubling is exact, so these are the bounds etcd computes.
const fn doubling<const N: usize>(start: f64) -> [f64; N] {
    let mut bounds = [start; N];
    let mut i = 1;
    while i < N {
        bounds[i] = bounds[i - 1] * 2.0;
        i += 1;
    }
    bounds
}

/// 1 ms to 8 s: disks and requests.
const MILLISECONDS: &[f64] = &doubling::<14>(0.001);
/// 0.1 ms to 52 s: the state machine.
const TENTHS: &[f64] = &doubling::<20>(0.0001);
/// 10 ms to 164 s: hashes.
const HASH: &[f64] = &doubling::<15>(0.01);
/// 0.1 s to 51 s: snapshots between members.
const SNAPSHOT_TRANSFER: &[f64] = &doubling::<10>(0.1);

type Refresh = Box<dyn Fn(&Metrics) + Send + Sync>;

macro_rules! families {
    ($($field:ident : $kind:ty = $make:expr, $name:literal, $help:literal;)+) => {
        /// All families. Each field documents itself with its `# HELP` text.
        pub struct Metrics {
            $(#[doc = concat!("`", $name, "`: ", $help)] pub $field: $kind,)+
            /// `grpc_server_*`, by method.
            pub grpc: GrpcMethods,
            runtime: RwLock<Option<Runtime>>,
            refreshes: Mutex<Vec<Refresh>>,
            /// Answers to scrapes with status 200, 500 and 503.
            scrapes: [AtomicU64; 3],
        }

        impl Metrics {
            pub(super) const fn new() -> Self {
                Self {
                    $($field: $make,)+
                    grpc: GrpcMethods::new(),
                    runtime: RwLock::new(None),
                    refreshes: Mutex::new(Vec::new()),
                    scrapes: [const { AtomicU64::new(0) }; 3],
                }
            }

            fn collect(&self, out: &mut Vec<Family>) {
                $(self.$field.collect($name, $help, out);)+
            }
        }
    };
}

families! {
    cluster_version: Labelled<Gauge> = Labelled::new(&["cluster_version"], Gauge::new), "etcd_cluster_version", "Which version is running. 1 for the cluster version in the label.";
    auth_revision: Gauge = Gauge::new(), "etcd_debugging_auth_revision", "Revision of users and roles.";
    backend_commit_rebalance: Histogram = Histogram::new(MILLISECONDS), "etcd_debugging_disk_backend_commit_rebalance_duration_seconds", "Checkpoint time spent rebalancing the database's trees.";
    backend_commit_spill: Histogram = Histogram::new(MILLISECONDS), "etcd_debugging_disk_backend_commit_spill_duration_seconds", "Checkpoint time spent filling the transaction.";
    backend_commit_write: Histogram = Histogram::new(MILLISECONDS), "etcd_debugging_disk_backend_commit_write_duration_seconds", "Checkpoint time spent writing and syncing.";
    lease_granted: Counter = Counter::new(), "etcd_debugging_lease_granted_total", "Leases granted.";
    lease_renewed: Counter = Counter::new(), "etcd_debugging_lease_renewed_total", "Leases renewed while this member led.";
    lease_revoked: Counter = Counter::new(), "etcd_debugging_lease_revoked_total", "Leases revoked.";
    lease_ttl: Histogram = Histogram::new(const { &doubling::<24>(1.0) }), "etcd_debugging_lease_ttl_total", "TTLs of granted leases, in seconds.";
    compact_revision: Gauge = Gauge::new(), "etcd_debugging_mvcc_compact_revision", "Revision of the last compaction, -1 without one.";
    current_revision: Gauge = Gauge::new(), "etcd_debugging_mvcc_current_revision", "Revision of the store.";
    compaction_keys: Counter = Counter::new(), "etcd_debugging_mvcc_db_compaction_keys_total", "Revisions that compactions removed.";
    compaction_last: Gauge = Gauge::new(), "etcd_debugging_mvcc_db_compaction_last", "Unix time of the last compaction, 0 without one since the start.";
    compaction_pause: Histogram = Histogram::new(const { &doubling::<13>(1.0) }), "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", "Pauses that compactions caused in the database.";
    compaction_total: Histogram = Histogram::new(const { &doubling::<14>(100.0) }), "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", "How long compactions took in all.";
    watch_events: Counter = Counter::new(), "etcd_debugging_mvcc_events_total", "Events sent to watchers.";
    index_compaction_pause: Histogram = Histogram::new(const { &doubling::<14>(0.5) }), "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", "Pauses that compactions caused in the key index.";
    keys: Gauge = Gauge::new(), "etcd_debugging_mvcc_keys_total", "Keys that exist.";
    pending_events: Gauge = Gauge::new(), "etcd_debugging_mvcc_pending_events_total", "Events waiting to be sent to watchers.";
    slow_watchers: Gauge = Gauge::new(), "etcd_debugging_mvcc_slow_watcher_total", "Watchers that have to catch up.";
    put_bytes: Gauge = Gauge::new(), "etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes of keys and values put.";
    watch_streams: Gauge = Gauge::new(), "etcd_debugging_mvcc_watch_stream_total", "Open watch streams.";
    watchers: Gauge = Gauge::new(), "etcd_debugging_mvcc_watcher_total", "Watchers.";
    alarms: Labelled<Gauge> = Labelled::new(&["alarm_type", "server_id"], Gauge::new), "etcd_debugging_server_alarms", "1 while the alarm is raised, 0 once it is disarmed.";
    lease_expired: Counter = Counter::new(), "etcd_debugging_server_lease_expired_total", "Leases that ran out.";
    watch_loop_control: Histogram = Histogram::new(MILLISECONDS), "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds", "Time to send a watch stream's control reply.";
    watch_loop_progress: Histogram = Histogram::new(MILLISECONDS), "etcd_debugging_server_watch_send_loop_progress_duration_seconds", "Time to send a watch stream's progress notices.";
    watch_loop_event: Histogram = Histogram::new(MILLISECONDS), "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds", "Time to send a watch stream's events, per event.";
    watch_loop: Histogram = Histogram::new(MILLISECONDS), "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds", "Time to send a watch stream's events, per reply.";
    snap_marshalling: Histogram = Histogram::new(MILLISECONDS), "etcd_debugging_snap_save_marshalling_duration_seconds", "Time to encode a snapshot record.";
    snap_save: Histogram = Histogram::new(MILLISECONDS), "etcd_debugging_snap_save_total_duration_seconds", "Time to save a snapshot record.";
    store_expires: Counter = Counter::new(), "etcd_debugging_store_expires_total", "Always 0: there is no v2 store.";
    store_watch_requests: Counter = Counter::new(), "etcd_debugging_store_watch_requests_total", "Always 0: there is no v2 store.";
    store_watchers: Gauge = Gauge::new(), "etcd_debugging_store_watchers", "Always 0: there is no v2 store.";
    backend_commit: Histogram = Histogram::new(MILLISECONDS), "etcd_disk_backend_commit_duration_seconds", "Time of a checkpoint into the database.";
    defrag: Histogram = Histogram::new(const { &doubling::<13>(0.1) }), "etcd_disk_backend_defrag_duration_seconds", "Time of a defragmentation.";
    backend_snapshot: Histogram = Histogram::new(const { &doubling::<17>(0.01) }), "etcd_disk_backend_snapshot_duration_seconds", "Time to send a snapshot.";
    defrag_inflight: Gauge = Gauge::new(), "etcd_disk_defrag_inflight", "1 while the database is being defragmented.";
    wal_fsync: Histogram = Histogram::new(MILLISECONDS), "etcd_disk_wal_fsync_duration_seconds", "Time of a sync of the write-ahead log.";
    wal_write_bytes: Gauge = Gauge::new(), "etcd_disk_wal_write_bytes_total", "Bytes written to the write-ahead log.";
    wal_write: Histogram = Histogram::new(MILLISECONDS), "etcd_disk_wal_write_duration_seconds", "Time of a write to the write-ahead log.";
    proxy_cache_hits: Gauge = Gauge::new(), "etcd_grpc_proxy_cache_hits_total", "gRPC proxy: answers from the cache.";
    proxy_cache_keys: Gauge = Gauge::new(), "etcd_grpc_proxy_cache_keys_total", "gRPC proxy: answers in the cache.";
    proxy_cache_misses: Gauge = Gauge::new(), "etcd_grpc_proxy_cache_misses_total", "gRPC proxy: answers not in the cache.";
    proxy_events_coalescing: Counter = Counter::new(), "etcd_grpc_proxy_events_coalescing_total", "gRPC proxy: events of shared watchers.";
    proxy_watchers_coalescing: Gauge = Gauge::new(), "etcd_grpc_proxy_watchers_coalescing_total", "gRPC proxy: watchers that share another's.";
    open_read_transactions: Gauge = Gauge::new(), "etcd_mvcc_db_open_read_transactions", "Open read transactions.";
    db_size: Gauge = Gauge::new(), "etcd_mvcc_db_total_size_in_bytes", "Size of the database, as the quota counts it.";
    db_size_in_use: Gauge = Gauge::new(), "etcd_mvcc_db_total_size_in_use_in_bytes", "Size of the database without what a defragmentation would free.";
    deletes: Counter = Counter::new(), "etcd_mvcc_delete_total", "Deletions.";
    hash: Histogram = Histogram::new(HASH), "etcd_mvcc_hash_duration_seconds", "Time to hash the whole store.";
    hash_revision: Histogram = Histogram::new(HASH), "etcd_mvcc_hash_rev_duration_seconds", "Time to hash the store up to a revision.";
    puts: Counter = Counter::new(), "etcd_mvcc_put_total", "Puts.";
    ranges: Counter = Counter::new(), "etcd_mvcc_range_total", "Range reads.";
    txns: Counter = Counter::new(), "etcd_mvcc_txn_total", "Transactions.";
    active_peers: Labelled<Gauge> = Labelled::new(&["Local", "Remote"], Gauge::new), "etcd_network_active_peers", "Peers with an open stream.";
    disconnected_peers: Labelled<Counter> = Labelled::new(&["Local", "Remote"], Counter::new), "etcd_network_disconnected_peers_total", "Connections to peers that were lost.";
    known_peers: Labelled<Gauge> = Labelled::new(&["Local", "Remote"], Gauge::new), "etcd_network_known_peers", "1 for each member known, this one included.";
    peer_received_bytes: Labelled<Counter> = Labelled::new(&["From"], Counter::new), "etcd_network_peer_received_bytes_total", "Bytes received from peers.";
    peer_received_failures: Labelled<Counter> = Labelled::new(&["From"], Counter::new), "etcd_network_peer_received_failures_total", "Receptions from peers that failed.";
    peer_round_trip: Labelled<Histogram> = Labelled::new(&["To"], || Histogram::new(const { &doubling::<16>(0.0001) })), "etcd_network_peer_round_trip_time_seconds", "Round trip to a peer.";
    peer_sent_bytes: Labelled<Counter> = Labelled::new(&["To"], Counter::new), "etcd_network_peer_sent_bytes_total", "Bytes sent to peers.";
    peer_sent_failures: Labelled<Counter> = Labelled::new(&["To"], Counter::new), "etcd_network_peer_sent_failures_total", "Messages to peers that could not be sent.";
    stream_failures: Labelled<Counter> = Labelled::new(&["API", "Type"], Counter::new), "etcd_network_server_stream_failures_total", "Client streams that failed while sending or receiving.";
    snapshot_receive_failures: Labelled<Counter> = Labelled::new(&["From"], Counter::new), "etcd_network_snapshot_receive_failures", "Snapshots from peers that failed.";
    snapshot_receive_inflights: Labelled<Gauge> = Labelled::new(&["From"], Gauge::new), "etcd_network_snapshot_receive_inflights_total", "Snapshots from peers under way.";
    snapshot_receive_success: Labelled<Counter> = Labelled::new(&["From"], Counter::new), "etcd_network_snapshot_receive_success", "Snapshots from peers received.";
    snapshot_receive: Labelled<Histogram> = Labelled::new(&["From"], || Histogram::new(SNAPSHOT_TRANSFER)), "etcd_network_snapshot_receive_total_duration_seconds", "Time to receive a snapshot from a peer.";
    snapshot_send_failures: Labelled<Counter> = Labelled::new(&["To"], Counter::new), "etcd_network_snapshot_send_failures", "Snapshots to peers that failed.";
    snapshot_send_inflights: Labelled<Gauge> = Labelled::new(&["To"], Gauge::new), "etcd_network_snapshot_send_inflights_total", "Snapshots to peers under way.";
    snapshot_send_success: Labelled<Counter> = Labelled::new(&["To"], Counter::new), "etcd_network_snapshot_send_success", "Snapshots to peers sent.";
    snapshot_send: Labelled<Histogram> = Labelled::new(&["To"], || Histogram::new(SNAPSHOT_TRANSFER)), "etcd_network_snapshot_send_total_duration_seconds", "Time to send a snapshot to a peer.";
    apply: RequestHistograms = RequestHistograms::new(TENTHS, apply_labels), "etcd_server_apply_duration_seconds", "Time to apply a request to the state machine.";
    client_requests: Labelled<Counter> = Labelled::new(&["client_api_version", "type"], Counter::new), "etcd_server_client_requests_total", "Client requests by the version the client names.";
    feature_enabled: Labelled<Gauge> = Labelled::new(&["name", "stage"], Gauge::new), "etcd_server_feature_enabled", "1 for each feature that is on.";
    go_version: Labelled<Gauge> = Labelled::new(&["server_go_version"], Gauge::new), "etcd_server_go_version", "1 for the compiler in the label.";
    has_leader: Gauge = Gauge::new(), "etcd_server_has_leader", "1 while a leader is known.";
    health_failures: Counter = Counter::new(), "etcd_server_health_failures", "Answers of /health that were not healthy.";
    health_success: Counter = Counter::new(), "etcd_server_health_success", "Answers of /health that were healthy.";
    healthcheck: Labelled<Gauge> = Labelled::new(&["name", "type"], Gauge::new), "etcd_server_healthcheck", "Last result of a health check, 1 for success.";
    healthchecks: Labelled<Counter> = Labelled::new(&["name", "status", "type"], Counter::new), "etcd_server_healthchecks_total", "Health checks made.";
    heartbeat_send_failures: Counter = Counter::new(), "etcd_server_heartbeat_send_failures_total", "Heartbeats this leader sent too late.";
    server_id: Labelled<Gauge> = Labelled::new(&["server_id"], Gauge::new), "etcd_server_id", "1 for this member's id in the label.";
    is_leader: Gauge = Gauge::new(), "etcd_server_is_leader", "1 while this member leads.";
    is_learner: Gauge = Gauge::new(), "etcd_server_is_learner", "1 while this member is a learner.";
    leader_changes: Counter = Counter::new(), "etcd_server_leader_changes_seen_total", "Changes of leader seen.";
    learner_promote_failures: Labelled<Counter> = Labelled::new(&["Reason"], Counter::new), "etcd_server_learner_promote_failures", "Promotions of learners that failed while this member led.";
    learner_promote_successes: Counter = Counter::new(), "etcd_server_learner_promote_successes", "Promotions of learners while this member led.";
    proposals_applied: Gauge = Gauge::new(), "etcd_server_proposals_applied_total", "Index of the last entry applied.";
    proposals_committed: Gauge = Gauge::new(), "etcd_server_proposals_committed_total", "Index of the last entry committed.";
    proposals_failed: Counter = Counter::new(), "etcd_server_proposals_failed_total", "Proposals that failed.";
    proposals_pending: Gauge = Gauge::new(), "etcd_server_proposals_pending", "Proposals that wait for their result.";
    quota: Gauge = Gauge::new(), "etcd_server_quota_backend_bytes", "Size at which the database counts as full.";
    range_duration: SuccessHistograms = SuccessHistograms::new(TENTHS), "etcd_server_range_duration_seconds", "Time of a range read.";
    read_indexes_failed: Counter = Counter::new(), "etcd_server_read_indexes_failed_total", "Confirmations of a read index that failed.";
    request: RequestHistograms = RequestHistograms::new(MILLISECONDS, request_labels), "etcd_server_request_duration_seconds", "Time of a request from its acceptance to its result.";
    slow_apply: Counter = Counter::new(), "etcd_server_slow_apply_total", "Requests that took too long to apply.";
    slow_read_indexes: Counter = Counter::new(), "etcd_server_slow_read_indexes_total", "Confirmations of a read index that came late or not at all.";
    snapshot_apply_in_progress: Gauge = Gauge::new(), "etcd_server_snapshot_apply_in_progress_total", "1 while a leader's snapshot is being applied.";
    server_version: Labelled<Gauge> = Labelled::new(&["server_version"], Gauge::new), "etcd_server_version", "1 for the etcd version this is compatible with.";
    snap_db_fsync: Histogram = Histogram::new(MILLISECONDS), "etcd_snap_db_fsync_duration_seconds", "Time to sync a received database.";
    snap_db_save: Histogram = Histogram::new(SNAPSHOT_TRANSFER), "etcd_snap_db_save_total_duration_seconds", "Time to receive and save a database.";
    snap_fsync: Histogram = Histogram::new(MILLISECONDS), "etcd_snap_fsync_duration_seconds", "Time to sync a snapshot record.";
    scrapes_in_flight: Gauge = Gauge::new(), "promhttp_metric_handler_requests_in_flight", "Scrapes being answered.";

    // Ours: no etcd has these.
    build_info: Labelled<Gauge> = Labelled::new(&["release"], Gauge::new), "etcd_server_build_info", "1 for this implementation's own release number.";
    db_physical_size: Gauge = Gauge::new(), "etcd_disk_db_physical_size_bytes", "Size of the database's file.";
    checkpoint_lag_entries: Gauge = Gauge::new(), "etcd_disk_wal_lag_entries", "Applied log entries that the database does not hold durably yet: a restart replays them.";
    checkpoint_lag_bytes: Gauge = Gauge::new(), "etcd_disk_wal_lag_bytes", "Write-ahead log bytes that a restart would replay.";
    log_dropped: Counter = Counter::new(), "etcd_log_dropped_lines_total", "Log lines dropped because their sink was too slow.";
    certificate_expiry: Labelled<Gauge> = Labelled::new(&["file", "subject", "usage"], Gauge::new), "etcd_tls_certificate_expiry_timestamp_seconds", "Unix time at which a certificate runs out.";
    tls_reloads: Labelled<Counter> = Labelled::new(&["result", "usage"], Counter::new), "etcd_tls_reloads_total", "Reloads of changed TLS files, by result; after a failure the old ones stay.";
    watcher_lag: Gauge = Gauge::new(), "etcd_watch_lag_revisions", "Revisions that the slowest watcher is behind the store.";
}

/// Statuses of `promhttp_metric_handler_requests_total`, present from the start.
const SCRAPE_STATUSES: [&str; 3] = ["200", "500", "503"];

static GLOBAL: Metrics = Metrics::new();

/// This process' metrics.
pub fn global() -> &'static Metrics {
    &GLOBAL
}

impl Metrics {
    /// Tells what only the program's start knows, and with it `go_info` and `etcd_server_go_version`.
    pub fn set_runtime(&self, runtime: Runtime) {
        self.go_version.set_only(&[&runtime.version]);
        *self.runtime.write() = Some(runtime);
    }

    /// Registers what sets values that their owner holds anyway; it runs at every scrape and must not
    /// wait for anything.
    pub fn on_gather(&self, refresh: impl Fn(&Metrics) + Send + Sync + 'static) {
        self.refreshes.lock().push(Box::new(refresh));
    }

    /// Counts a scrape that was answered with this status.
    pub fn scraped(&self, status: &str) {
        if let Some(i) = SCRAPE_STATUSES.iter().position(|known| *known == status) {
            self.scrapes[i].fetch_add(1, Relaxed);
        }
    }

    /// All families with their present values, by name.
    pub fn gather(&self) -> Vec<Family> {
        for refresh in self.refreshes.lock().iter() {
            refresh(self);
        }
        let mut families = Vec::with_capacity(200);
        self.collect(&mut families);
        self.grpc.collect(&mut families);
        let runtime = self.runtime.read().clone().unwrap_or_default();
        process::collect(&runtime, &mut families);
        families.push(self.scrape_counts());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        for family in &mut families {
            family.series.sort_by(|a, b| values(a).cmp(values(b)));
        }
        families
    }

    fn scrape_counts(&self) -> Family {
        let name = "promhttp_metric_handler_requests_total";
        let mut family = Family::new(name, "Scrapes answered, by status.", Kind::Counter);
        for (status, count) in SCRAPE_STATUSES.iter().zip(&self.scrapes) {
            let label = labels(&["code"], [*status]);
            let count = count.load(Relaxed) as f64;
            family
                .series
                .push(Series::number(Kind::Counter, label, count));
        }
        family
    }
}

/// A series' label values, in the order of the names.
fn values(series: &Series) -> impl Iterator<Item = &str> {
    series.label.iter().map(|label| label.value())
}
