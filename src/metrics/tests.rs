//! Compares every family with the list recorded from etcd, and the rest with its habits.

use std::collections::BTreeSet;

use super::family::Kind;
use super::{Family, GrpcCode, Metrics, Request, Runtime, encode_text};

/// A family as a line of the list: name, type, label names, bucket bounds or quantiles.
fn describe(family: &Family) -> String {
    let mut text = String::new();
    encode_text(std::slice::from_ref(family), &mut text);
    let mut labels = BTreeSet::new();
    let mut bounds: Vec<&str> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let inside = line
            .split_once('{')
            .and_then(|(_, rest)| rest.rsplit_once('}'));
        for pair in inside.map_or("", |(inside, _)| inside).split(',') {
            match pair.split_once('=') {
                Some(("le" | "quantile", bound)) => {
                    let bound = bound.trim_matches('"');
                    if !bounds.contains(&bound) {
                        bounds.push(bound);
                    }
                }
                Some((name, _)) => {
                    labels.insert(name);
                }
                None => {}
            }
        }
    }
    let labels = labels.into_iter().collect::<Vec<_>>().join(",");
    let kind = match family.kind() {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Summary => "summary",
        Kind::Histogram => "histogram",
    };
    let line = format!("{} {kind} {{{labels}}}", family.name());
    if bounds.is_empty() {
        line
    } else {
        format!("{line} [{}]", bounds.join(" "))
    }
}

const RECORDED: &str = include_str!("testdata/families.txt");

/// Families etcd has but this recording's runs did not make.
const UNRECORDED: [&str; 12] = [
    "etcd_network_disconnected_peers_total",
    "etcd_network_peer_received_failures_total",
    "etcd_network_server_stream_failures_total",
    "etcd_network_snapshot_receive_failures",
    "etcd_network_snapshot_receive_inflights_total",
    "etcd_network_snapshot_receive_success",
    "etcd_network_snapshot_receive_total_duration_seconds",
    "etcd_network_snapshot_send_failures",
    "etcd_network_snapshot_send_inflights_total",
    "etcd_network_snapshot_send_success",
    "etcd_network_snapshot_send_total_duration_seconds",
    "grpc_server_handling_seconds",
];

/// Families of this implementation.
const OURS: [&str; 8] = [
    "etcd_disk_db_physical_size_bytes",
    "etcd_disk_wal_lag_bytes",
    "etcd_disk_wal_lag_entries",
    "etcd_log_dropped_lines_total",
    "etcd_server_build_info",
    "etcd_tls_certificate_expiry_timestamp_seconds",
    "etcd_tls_reloads_total",
    "etcd_watch_lag_revisions",
];

/// Metrics of a member that has just started.
fn fresh() -> Metrics {
    let metrics = Metrics::new();
    metrics.set_runtime(Runtime {
        version: "v".into(),
        tasks: None,
    });
    metrics.cluster_version.set_only(&["3.7"]);
    metrics.server_version.set_only(&["3.7.1"]);
    metrics.server_id.set_only(&["8e9e05c52164694d"]);
    metrics.known_peers.with(&["1", "1"]).set(1);
    metrics.feature_enabled.with(&["AllAlpha", "ALPHA"]).set(0);
    metrics
        .apply
        .observe(Request::ClusterVersionSet, true, 0.0001);
    metrics
        .request
        .observe(Request::ClusterVersionSet, true, 0.01);
    metrics
}

/// Gives every family at least one series.
fn use_all(metrics: &Metrics) {
    metrics.grpc.show_handling();
    metrics.range_duration.observe(true, 0.1);
    metrics.alarms.with(&["NOSPACE", "1"]).add(1);
    metrics.client_requests.with(&["3.7", "unary"]).inc();
    metrics
        .healthcheck
        .with(&["serializable_read", "livez"])
        .set(1);
    metrics
        .healthchecks
        .with(&["serializable_read", "success", "livez"])
        .inc();
    metrics.learner_promote_failures.with(&["why"]).inc();
    metrics.stream_failures.with(&["watch", "send"]).inc();
    metrics.build_info.set_only(&["0.1.0"]);
    metrics.certificate_expiry.with(&["f", "s", "u"]).set(1);
    metrics.tls_reloads.with(&["success", "client"]).inc();
    metrics.active_peers.with(&["1", "2"]).set(1);
    metrics.disconnected_peers.with(&["1", "2"]).inc();
    for counters in [
        &metrics.peer_received_bytes,
        &metrics.peer_received_failures,
        &metrics.peer_sent_bytes,
        &metrics.peer_sent_failures,
        &metrics.snapshot_receive_failures,
        &metrics.snapshot_receive_success,
        &metrics.snapshot_send_failures,
        &metrics.snapshot_send_success,
    ] {
        counters.with(&["2"]).inc();
    }
    for gauges in [
        &metrics.snapshot_receive_inflights,
        &metrics.snapshot_send_inflights,
    ] {
        gauges.with(&["2"]).add(1);
    }
    for times in [
        &metrics.peer_round_trip,
        &metrics.snapshot_receive,
        &metrics.snapshot_send,
    ] {
        times.with(&["2"]).observe(0.1);
    }
}

#[test]
fn families_are_etcds() {
    let metrics = fresh();
    use_all(&metrics);
    let ours: Vec<String> = metrics.gather().iter().map(describe).collect();
    assert!(ours.is_sorted_by_key(|line| line.split(' ').next().unwrap().to_owned()));
    let wanted = RECORDED.lines().filter(|line| !line.starts_with('#'));
    let wanted: BTreeSet<&str> = wanted
        .map(|line| line.split("  #").next().unwrap().trim_end())
        .collect();
    for line in &wanted {
        assert!(
            ours.iter().any(|our| our == line),
            "not served as recorded: {line}"
        );
    }
    let name = |line: &str| line.split(' ').next().unwrap().to_owned();
    let recorded: BTreeSet<String> = wanted.iter().map(|line| name(line)).collect();
    for line in &ours {
        let name = name(line);
        let known = UNRECORDED.contains(&name.as_str()) || OURS.contains(&name.as_str());
        assert!(known || recorded.contains(&name), "nobody asked for {line}");
    }
}

#[test]
fn a_fresh_member_shows_what_etcds_shows() {
    let shown: BTreeSet<String> = fresh()
        .gather()
        .iter()
        .map(|family| family.name().to_owned())
        .collect();
    for line in RECORDED.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(' ').next().unwrap();
        let later = line.contains("# not on a fresh member") || line.contains("# only with");
        assert_eq!(!later, shown.contains(name), "{line}");
    }
}

fn text(metrics: &Metrics) -> String {
    let mut text = String::new();
    encode_text(&metrics.gather(), &mut text);
    text
}

#[test]
fn series_are_in_order_and_exact() {
    let metrics = fresh();
    metrics.apply.observe(Request::AuthStatus, true, 0.0);
    metrics.apply.observe(Request::Put, false, 0.00015);
    metrics.request.observe(Request::AuthStatus, true, 0.0);
    let text = text(&metrics);
    let applied: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("etcd_server_apply_duration_seconds_count"))
        .collect();
    assert_eq!(
        applied,
        [
            r#"etcd_server_apply_duration_seconds_count{op="ClusterVersionSet",success="true",version="v3"} 1"#,
            r#"etcd_server_apply_duration_seconds_count{op="Put",success="false",version="v3"} 1"#,
            r#"etcd_server_apply_duration_seconds_count{op="unknown",success="true",version="v3"} 1"#,
        ]
    );
    for line in [
        r#"etcd_server_apply_duration_seconds_bucket{op="Put",success="false",version="v3",le="0.0001"} 0"#,
        r#"etcd_server_apply_duration_seconds_bucket{op="Put",success="false",version="v3",le="0.0002"} 1"#,
        r#"etcd_server_request_duration_seconds_count{success="true",type="AuthStatus"} 1"#,
        r#"etcd_server_version{server_version="3.7.1"} 1"#,
        "etcd_mvcc_put_total 0",
    ] {
        assert!(text.lines().any(|have| have == line), "{line}");
    }
}

#[test]
fn grpc_methods_show_all_codes_and_late_services_after_use() {
    let metrics = fresh();
    let count = |text: &str, of: &str| text.lines().filter(|line| line.starts_with(of)).count();
    let before = text(&metrics);
    assert_eq!(count(&before, "grpc_server_started_total{"), 45);
    assert_eq!(count(&before, "grpc_server_handled_total{"), 45 * 17);
    assert_eq!(count(&before, "grpc_server_handling_seconds"), 0);

    let watch = metrics.grpc.method("/etcdserverpb.Watch/Watch").unwrap();
    watch.started.inc();
    watch.handled(GrpcCode::from_number(1), 0.5);
    let lock = metrics.grpc.method("/v3lockpb.Lock/Lock").unwrap();
    lock.started.inc();
    lock.handled(GrpcCode::from_number(99), 0.5);
    assert!(metrics.grpc.method("/etcdserverpb.Watch/Nope").is_none());
    assert!(metrics.grpc.method("nope").is_none());
    let after = text(&metrics);
    for line in [
        r#"grpc_server_handled_total{grpc_code="Canceled",grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 1"#,
        r#"grpc_server_handled_total{grpc_code="Unknown",grpc_method="Lock",grpc_service="v3lockpb.Lock",grpc_type="unary"} 1"#,
        r#"grpc_server_started_total{grpc_method="Lock",grpc_service="v3lockpb.Lock",grpc_type="unary"} 1"#,
    ] {
        assert!(after.lines().any(|have| have == line), "{line}");
    }
    assert_eq!(count(&after, "grpc_server_started_total{"), 46);
    assert_eq!(count(&after, "grpc_server_handled_total{"), 45 * 17 + 1);
}

#[test]
fn values_held_elsewhere_are_asked_for_at_each_gather() {
    let metrics = fresh();
    let revision = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(5));
    let held = revision.clone();
    metrics.on_gather(move |metrics| {
        metrics
            .current_revision
            .set(held.load(std::sync::atomic::Ordering::Relaxed));
    });
    assert!(text(&metrics).contains("\netcd_debugging_mvcc_current_revision 5\n"));
    revision.store(6, std::sync::atomic::Ordering::Relaxed);
    assert!(text(&metrics).contains("\netcd_debugging_mvcc_current_revision 6\n"));
    metrics.scraped("200");
    assert!(text(&metrics).contains("promhttp_metric_handler_requests_total{code=\"200\"} 1\n"));
}

#[test]
fn requests_in_the_log_have_their_kind() {
    use crate::pb::etcdserverpb::{InternalRaftRequest, LeaseRevokeRequest, PutRequest};
    let none = InternalRaftRequest::default;
    assert_eq!(Request::of(&none()), Request::Unknown);
    let put = InternalRaftRequest {
        put: Some(PutRequest::default()),
        ..none()
    };
    assert_eq!(Request::of(&put), Request::Put);
    let lease_revoke = Some(Box::new(LeaseRevokeRequest::default()));
    assert_eq!(
        Request::of(&InternalRaftRequest {
            lease_revoke,
            ..none()
        }),
        Request::LeaseRevoke
    );
}
