//! From settings to [`Config`]: derived defaults, validation, typed parts.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::model::{
    Auth, AutoCompaction, Checks, Cluster, Compaction, Config, Http, Listen, Member, Raft, Rpc,
    Storage, Tls,
};
use super::settings::Settings;
use super::table::OPTIONS;
use super::url::Url;
use super::validate::{self, ConfigError};
use super::value::{Value, parse_duration};
use crate::logging::Line;

/// 2 GiB, what `--quota-backend-bytes=0` means.
const QUOTA_BYTES_DEFAULT: u64 = 2 << 30;
/// Least `--raft-read-timeout` and `--raft-write-timeout`.
const PEER_TIMEOUT_MIN: Duration = Duration::from_secs(5);

/// What is derived when flags and variables were read (a file has rules of its own).
pub(super) fn derive_from_flags(settings: &mut Settings, notes: &mut Vec<Line>) {
    for name in ["raft-read-timeout", "raft-write-timeout"] {
        if settings.duration(name) < PEER_TIMEOUT_MIN {
            let minimum = i64::try_from(PEER_TIMEOUT_MIN.as_nanos()).unwrap_or(i64::MAX);
            settings.derive(name, Value::Duration(minimum), "the least possible");
            notes.push(Line::info(format!("{name} increased to minimum value: 5s")));
        }
    }
    if settings.is_set("listen-client-urls") && !settings.is_set("advertise-client-urls") {
        let how = "listen-client-urls is set, so it must be set too";
        settings.derive("advertise-client-urls", Value::Urls(Vec::new()), how);
    }
    let discovery = !settings.text("discovery-srv").is_empty()
        || !settings.text("discovery-srv-name").is_empty()
        || !settings.texts("discovery-endpoints").is_empty();
    if discovery && !settings.is_set("initial-cluster") {
        clear_initial_cluster(settings);
    }
}

/// What is derived when a file was read.
pub(super) fn derive_from_file(settings: &mut Settings) {
    let discovery = !settings.text("discovery-srv").is_empty()
        || !settings.texts("discovery-endpoints").is_empty();
    if discovery && has_default_initial_cluster(settings) {
        clear_initial_cluster(settings);
    }
    if settings.uint("self-signed-cert-validity") == 0 {
        settings.derive(
            "self-signed-cert-validity",
            Value::Uint(1),
            "0 in a file is 1",
        );
    }
}

fn clear_initial_cluster(settings: &mut Settings) {
    settings.derive(
        "initial-cluster",
        Value::Text(String::new()),
        "discovery finds the members",
    );
}

fn has_default_initial_cluster(settings: &Settings) -> bool {
    let default = OPTIONS
        .iter()
        .find(|option| option.name == "initial-cluster");
    default.is_some_and(|option| settings.text("initial-cluster") == option.default)
}

/// Validates, derives the rest and builds. `notes` gets every line of it in etcd's order, the
/// line `Running: ` with the `words` of the command line included; `path` is the file that was read
/// and `default_host` finds the host's address.
pub(super) fn resolve(
    mut settings: Settings,
    path: Option<&str>,
    words: &[String],
    default_host: &dyn Fn() -> Result<IpAddr, String>,
    notes: &mut Vec<Line>,
) -> Result<Config, ConfigError> {
    let mut warnings = Vec::new();
    let checked = validate::check(&settings, &mut warnings);
    notes.extend(warnings.iter().cloned());
    if let (Ok(_), Some(path)) = (&checked, path) {
        let line = Line::info(
            "loaded server configuration, other configuration command line flags and environment \
             variables will be ignored if provided",
        );
        notes.push(line.with("path", path));
    }
    notes.extend(validate::deprecations(&settings));
    notes.push(running(words));
    let checked = checked?;
    notes.extend(validate::not_served(&settings)?);
    derive_advertised(&mut settings, default_host, notes);
    if settings.text("data-dir").is_empty() {
        let dir = format!("{}.etcd", settings.text("name"));
        settings.derive("data-dir", Value::Text(dir.clone()), "from name");
        let line = Line::warn("'data-dir' was empty; using default");
        notes.push(line.with("data-dir", dir));
    }
    Ok(build(settings, checked, warnings))
}

/// etcd's line with the words of the command line.
pub(super) fn running(words: &[String]) -> Line {
    Line::info("Running: ").list("args", words)
}

/// Advertised URLs of hosts that listen on all addresses, and the cluster of one member.
fn derive_advertised(
    settings: &mut Settings,
    default_host: &dyn Fn() -> Result<IpAddr, String>,
    notes: &mut Vec<Line>,
) {
    let host = default_host();
    let mut used = false;
    if let Ok(host) = &host {
        used |= advertise(
            settings,
            "listen-peer-urls",
            "initial-advertise-peer-urls",
            host,
        );
    }
    if settings.text("name") != "default" && has_default_initial_cluster(settings) {
        let name = match settings.text("name") {
            "" => "default",
            name => name,
        };
        let urls = settings.urls("initial-advertise-peer-urls");
        let pairs: Vec<String> = urls.iter().map(|url| format!("{name}={url}")).collect();
        let how = "from name and initial-advertise-peer-urls";
        settings.derive("initial-cluster", Value::Text(pairs.join(",")), how);
    }
    match &host {
        Ok(host) => {
            used |= advertise(
                settings,
                "listen-client-urls",
                "advertise-client-urls",
                host,
            );
            if used {
                let line = Line::info("detected default host for advertise");
                notes.push(line.display("host", host));
            }
        }
        Err(reason) => {
            let line = Line::info("failed to detect default host");
            notes.push(line.with("error", reason.as_str()));
        }
    }
}

fn advertise(
    settings: &mut Settings,
    listen: &'static str,
    advertised: &'static str,
    host: &IpAddr,
) -> bool {
    let default = OPTIONS.iter().find(|option| option.name == advertised);
    let [url] = settings.urls(advertised) else {
        return false;
    };
    if default.is_none_or(|option| url.to_string() != option.default) {
        return false;
    }
    let Some(("0.0.0.0", port)) = settings.urls(listen).first().and_then(Url::host_port) else {
        return false;
    };
    let host = match host {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let derived = Value::Urls(vec![url.with_host(&host, port)]);
    settings.derive(
        advertised,
        derived,
        "the host's address, as it listens on all of them",
    );
    true
}

fn build(settings: Settings, checked: validate::Checked, warnings: Vec<Line>) -> Config {
    let s = &settings;
    Config {
        member: Member {
            name: s.text("name").to_owned(),
            data_dir: PathBuf::from(s.text("data-dir")),
            dedicated_wal_dir: path(s, "wal-dir"),
        },
        raft: raft(s),
        storage: storage(s),
        listen: Listen {
            peer_urls: s.urls("listen-peer-urls").to_vec(),
            client_urls: s.urls("listen-client-urls").to_vec(),
            client_http_urls: s.urls("listen-client-http-urls").to_vec(),
            metrics_urls: s.urls("listen-metrics-urls").to_vec(),
            reuse_port: s.bool("socket-reuse-port"),
            reuse_address: s.bool("socket-reuse-address"),
        },
        cluster: cluster(s),
        client_tls: client_tls(s, checked.tls),
        peer_tls: peer_tls(s, checked.tls),
        rpc: rpc(s),
        http: Http {
            cors: s.texts("cors").to_vec(),
            host_whitelist: s.texts("host-whitelist").to_vec(),
            grpc_gateway: s.bool("enable-grpc-gateway"),
            pprof: s.bool("enable-pprof") || s.text("log-level").eq_ignore_ascii_case("debug"),
            extensive_metrics: s.text("metrics") == "extensive",
        },
        compaction: compaction(s),
        checks: Checks {
            corrupt_check_time: s.duration("corrupt-check-time"),
            compact_hash_check_time: s.duration("compact-hash-check-time"),
            downgrade_check_time: s.duration("downgrade-check-time"),
        },
        auth: Auth {
            token: or(s.text("auth-token"), "simple").to_owned(),
            bcrypt_cost: s.uint("bcrypt-cost"),
            token_ttl: Duration::from_secs(or_number(s.uint("auth-token-ttl"), 300)),
        },
        log: checked.log,
        feature_gates: s.gates("feature-gates").clone(),
        warnings,
        settings,
    }
}

fn raft(s: &Settings) -> Raft {
    Raft {
        heartbeat_interval: Duration::from_millis(s.uint("heartbeat-interval")),
        election_timeout: Duration::from_millis(s.uint("election-timeout")),
        initial_election_tick_advance: s.bool("initial-election-tick-advance"),
        pre_vote: s.bool("pre-vote"),
        snapshot_count: or_number(s.uint("snapshot-count"), 10_000),
        snapshot_catchup_entries: s.uint("snapshot-catchup-entries"),
        wal_files_max: s.uint("max-wals"),
        unsafe_no_fsync: s.bool("unsafe-no-fsync"),
    }
}

fn storage(s: &Settings) -> Storage {
    let quota = s.int("quota-backend-bytes");
    Storage {
        quota_bytes: match quota {
            0 => Some(QUOTA_BYTES_DEFAULT),
            bytes => u64::try_from(bytes).ok(),
        },
        quota_is_default: quota == 0,
        memory_mlock: s.bool("memory-mlock"),
        bootstrap_defrag_threshold_mib: s.uint("bootstrap-defrag-threshold-megabytes"),
    }
}

fn cluster(s: &Settings) -> Cluster {
    Cluster {
        advertise_peer_urls: s.urls("initial-advertise-peer-urls").to_vec(),
        advertise_client_urls: s.urls("advertise-client-urls").to_vec(),
        initial_cluster: s.text("initial-cluster").to_owned(),
        join_existing: s.text("initial-cluster-state") == "existing",
        token: s.text("initial-cluster-token").to_owned(),
        strict_reconfig_check: s.bool("strict-reconfig-check"),
        learners_max: s.int("max-learners"),
        force_new_cluster: s.bool("force-new-cluster"),
        peer_read_timeout: s.duration("raft-read-timeout"),
        peer_write_timeout: s.duration("raft-write-timeout"),
    }
}

fn rpc(s: &Settings) -> Rpc {
    Rpc {
        txn_ops_max: s.uint("max-txn-ops"),
        request_bytes_max: s.uint("max-request-bytes"),
        concurrent_streams_max: u32::try_from(s.uint("max-concurrent-streams")).unwrap_or(u32::MAX),
        keepalive_interval: s.duration("grpc-keepalive-interval"),
        keepalive_timeout: s.duration("grpc-keepalive-timeout"),
        warning_unary_duration: or_duration(
            s.duration("warning-unary-request-duration"),
            Duration::from_millis(300),
        ),
        warning_apply_duration: s.duration("warning-apply-duration"),
        watch_progress_interval: or_duration(
            s.duration("watch-progress-notify-interval"),
            Duration::from_secs(600),
        ),
    }
}

fn compaction(s: &Settings) -> Compaction {
    let mode = s.text("auto-compaction-mode");
    let retention = s.text("auto-compaction-retention");
    Compaction {
        mode: mode.to_owned(),
        retention_text: retention.to_owned(),
        auto: auto_compaction(mode, retention),
        batch_limit: or_number(
            u64::try_from(s.int("compaction-batch-limit")).unwrap_or(0),
            1000,
        ),
        sleep_interval: or_duration(
            s.duration("compaction-sleep-interval"),
            Duration::from_millis(10),
        ),
    }
}

/// A plain number is hours or revisions; anything else a duration, in nanoseconds if need be.
fn auto_compaction(mode: &str, retention: &str) -> Result<AutoCompaction, String> {
    let periodic = mode == "periodic";
    let hour = 3600 * 1_000_000_000;
    let plain = or(retention, "0")
        .parse::<i64>()
        .ok()
        .filter(|number| *number >= 0);
    let amount = match plain {
        Some(number) if periodic => number.checked_mul(hour).unwrap_or(i64::MAX),
        Some(number) => number,
        None => parse_duration(retention)
            .map_err(|reason| format!("error parsing CompactionRetention: {reason}"))?,
    };
    Ok(match u64::try_from(amount) {
        Ok(0) | Err(_) => AutoCompaction::Off,
        Ok(nanos) if periodic => AutoCompaction::Periodic(Duration::from_nanos(nanos)),
        Ok(_) => AutoCompaction::Revisions(amount),
    })
}

fn client_tls(s: &Settings, versions: validate::TlsVersions) -> Tls {
    Tls {
        cert_file: path(s, "cert-file"),
        key_file: path(s, "key-file"),
        client_cert_file: path(s, "client-cert-file"),
        client_key_file: path(s, "client-key-file"),
        trusted_ca_file: path(s, "trusted-ca-file"),
        crl_file: path(s, "client-crl-file"),
        client_cert_auth: s.bool("client-cert-auth"),
        auto_tls: s.bool("auto-tls"),
        self_signed_years: s.uint("self-signed-cert-validity"),
        allowed_cns: s.texts("client-cert-allowed-cn").to_vec(),
        allowed_hostnames: s.texts("client-cert-allowed-hostname").to_vec(),
        skip_client_san_verification: s.bool("client-skip-client-san-verification"),
        cipher_suites: s.texts("cipher-suites").to_vec(),
        tls12: versions.tls12,
        tls13: versions.tls13,
    }
}

fn peer_tls(s: &Settings, versions: validate::TlsVersions) -> Tls {
    Tls {
        cert_file: path(s, "peer-cert-file"),
        key_file: path(s, "peer-key-file"),
        client_cert_file: path(s, "peer-client-cert-file"),
        client_key_file: path(s, "peer-client-key-file"),
        trusted_ca_file: path(s, "peer-trusted-ca-file"),
        crl_file: path(s, "peer-crl-file"),
        client_cert_auth: s.bool("peer-client-cert-auth"),
        auto_tls: s.bool("peer-auto-tls"),
        self_signed_years: s.uint("self-signed-cert-validity"),
        allowed_cns: s.texts("peer-cert-allowed-cn").to_vec(),
        allowed_hostnames: s.texts("peer-cert-allowed-hostname").to_vec(),
        skip_client_san_verification: s.bool("peer-skip-client-san-verification"),
        cipher_suites: s.texts("cipher-suites").to_vec(),
        tls12: versions.tls12,
        tls13: versions.tls13,
    }
}

fn path(s: &Settings, name: &'static str) -> Option<PathBuf> {
    let text = s.text(name);
    (!text.is_empty()).then(|| PathBuf::from(text))
}

fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

fn or_number(number: u64, default: u64) -> u64 {
    if number == 0 { default } else { number }
}

fn or_duration(duration: Duration, default: Duration) -> Duration {
    if duration.is_zero() {
        default
    } else {
        duration
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_in_both_modes() {
        let periodic = |text| auto_compaction("periodic", text);
        let hours = |n: u64| Ok(AutoCompaction::Periodic(Duration::from_secs(3600 * n)));
        assert_eq!(periodic("5"), hours(5));
        assert_eq!(
            periodic("90m"),
            Ok(AutoCompaction::Periodic(Duration::from_secs(5400)))
        );
        assert_eq!(periodic("0"), Ok(AutoCompaction::Off));
        assert_eq!(periodic(""), Ok(AutoCompaction::Off));
        assert_eq!(periodic("-1h"), Ok(AutoCompaction::Off));
        assert_eq!(
            auto_compaction("revision", "1000"),
            Ok(AutoCompaction::Revisions(1000))
        );
        assert_eq!(
            auto_compaction("revision", "1us"),
            Ok(AutoCompaction::Revisions(1000))
        );
        assert_eq!(
            periodic("-1"),
            Err("error parsing CompactionRetention: time: missing unit in duration \"-1\"".into())
        );
        assert_eq!(
            periodic("x"),
            Err("error parsing CompactionRetention: time: invalid duration \"x\"".into())
        );
    }
}
