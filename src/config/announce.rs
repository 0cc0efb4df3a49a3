//! The line `starting an etcd server`: everything that is in force, under etcd's names.

use super::help::{COMPATIBLE_VERSION, GIT_SHA, architecture};
use super::model::{AutoCompaction, Config};
use super::url::Url;
use crate::logging::{GoDuration, Line};

impl Config {
    /// The line, to be logged when it is known whether the member has data. `local_address` is what
    /// peers are dialled from, empty for any.
    #[track_caller]
    pub fn startup_line(&self, member_initialized: bool, local_address: &str) -> Line {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let line = Line::info("starting an etcd server")
            .with("etcd-version", COMPATIBLE_VERSION)
            .with("git-sha", GIT_SHA)
            .with(
                "go-version",
                concat!("rust", env!("CARGO_PKG_RUST_VERSION")),
            )
            .with("go-os", std::env::consts::OS)
            .with("go-arch", architecture())
            .with("max-cpu-set", cpus)
            .with("max-cpu-available", cpus)
            .with("member-initialized", member_initialized);
        let line = self.with_member(line);
        let line = self.with_cluster(line, member_initialized, local_address);
        let line = self.with_features(line);
        self.with_discovery(line)
            .display(
                "downgrade-check-interval",
                GoDuration::from(self.checks.downgrade_check_time),
            )
            .with("max-learners", self.cluster.learners_max)
            .with("v2-deprecation", "write-only")
    }

    fn with_member(&self, line: Line) -> Line {
        let dedicated = self
            .member
            .dedicated_wal_dir
            .as_deref()
            .unwrap_or("".as_ref());
        let raft = &self.raft;
        line.with("name", self.member.name.as_str())
            .display("data-dir", self.member.data_dir.display())
            .display("wal-dir", dedicated.display())
            .display("wal-dir-dedicated", dedicated.display())
            .display("member-dir", self.member.member_dir().display())
            .with("force-new-cluster", self.cluster.force_new_cluster)
            .display(
                "heartbeat-interval",
                GoDuration::from(raft.heartbeat_interval),
            )
            .display("election-timeout", GoDuration::from(raft.election_timeout))
            .with(
                "initial-election-tick-advance",
                raft.initial_election_tick_advance,
            )
            .with("snapshot-count", raft.snapshot_count)
            .with("max-wals", raft.wal_files_max)
            .with("max-snapshots", self.settings.uint("max-snapshots"))
            .with("snapshot-catchup-entries", raft.snapshot_catchup_entries)
            .list(
                "initial-advertise-peer-urls",
                &self.cluster.advertise_peer_urls,
            )
            .list("listen-peer-urls", &self.listen.peer_urls)
            .list("advertise-client-urls", &self.cluster.advertise_client_urls)
            .list("listen-client-urls", &self.listen.client_urls)
            .list("listen-metrics-urls", &self.listen.metrics_urls)
    }

    /// A member with data does not look at the initial cluster, nor does its line.
    fn with_cluster(&self, line: Line, member_initialized: bool, local_address: &str) -> Line {
        let quota = self
            .storage
            .quota_bytes
            .and_then(|bytes| i64::try_from(bytes).ok());
        let (initial_cluster, token) = match member_initialized {
            true => (String::new(), ""),
            false => (self.initial_cluster_text(), self.cluster.token.as_str()),
        };
        let state = if self.cluster.join_existing {
            "existing"
        } else {
            "new"
        };
        line.with("local-address", local_address)
            .list("cors", &self.http.cors)
            .list("host-whitelist", &self.http.host_whitelist)
            .with("initial-cluster", initial_cluster)
            .with("initial-cluster-state", state)
            .with("initial-cluster-token", token)
            .with(
                "quota-backend-bytes",
                quota.unwrap_or_else(|| self.settings.int("quota-backend-bytes")),
            )
            .with("max-request-bytes", self.rpc.request_bytes_max)
            .with("max-concurrent-streams", self.rpc.concurrent_streams_max)
            .with("pre-vote", self.raft.pre_vote)
    }

    fn initial_cluster_text(&self) -> String {
        let members = self.cluster.initial_members().unwrap_or_default();
        let pairs = members
            .iter()
            .flat_map(|(name, urls)| urls.iter().map(move |url: &Url| format!("{name}={url}")));
        pairs.collect::<Vec<_>>().join(",")
    }

    fn with_features(&self, line: Line) -> Line {
        let retention = GoDuration::from_nanos(match self.compaction.auto {
            Ok(AutoCompaction::Periodic(time)) => {
                i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
            }
            Ok(AutoCompaction::Revisions(count)) => count,
            Ok(AutoCompaction::Off) | Err(_) => 0,
        });
        line.display("feature-gates", &self.feature_gates)
            .with(
                "initial-corrupt-check",
                self.feature_gates.enabled("InitialCorruptCheck"),
            )
            .display(
                "corrupt-check-time-interval",
                GoDuration::from(self.checks.corrupt_check_time),
            )
            .display(
                "compact-check-time-interval",
                GoDuration::from(self.checks.compact_hash_check_time),
            )
            .with("auto-compaction-mode", self.compaction.mode.as_str())
            .display("auto-compaction-retention", retention)
            .display("auto-compaction-interval", retention)
    }

    fn with_discovery(&self, mut line: Line) -> Line {
        let s = &self.settings;
        line = line
            .with("discovery-token", s.text("discovery-token"))
            .with(
                "discovery-endpoints",
                s.texts("discovery-endpoints").join(","),
            );
        for name in [
            "discovery-dial-timeout",
            "discovery-request-timeout",
            "discovery-keepalive-time",
            "discovery-keepalive-timeout",
        ] {
            line = line.display(name, GoDuration::from_nanos(s.nanos(name)));
        }
        for name in [
            "discovery-insecure-transport",
            "discovery-insecure-skip-tls-verify",
        ] {
            line = line.with(name, s.bool(name));
        }
        for name in [
            "discovery-cert",
            "discovery-key",
            "discovery-cacert",
            "discovery-user",
        ] {
            line = line.with(name, s.text(name));
        }
        line
    }
}
