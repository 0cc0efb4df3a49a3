//! The configuration as its consumers want it: one struct for each, valid and typed.
//!
//! `server` hands each part to the module it is for; no module gets the whole [`Config`].

use std::path::PathBuf;
use std::time::Duration;

use super::gates::FeatureGates;
use super::settings::Settings;
use super::url::Url;
use crate::logging;

/// Everything a member is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name and directories.
    pub member: Member,
    /// Timing and log length of raft.
    pub raft: Raft,
    /// Limits of the stored data.
    pub storage: Storage,
    /// Where to listen.
    pub listen: Listen,
    /// How members and clients find this one, and it them.
    pub cluster: Cluster,
    /// TLS towards clients.
    pub client_tls: Tls,
    /// TLS between members.
    pub peer_tls: Tls,
    /// Limits of gRPC calls.
    pub rpc: Rpc,
    /// HTTP endpoints.
    pub http: Http,
    /// Compaction, by request and by itself.
    pub compaction: Compaction,
    /// Periodic checks.
    pub checks: Checks,
    /// Users and tokens.
    pub auth: Auth,
    /// Log lines.
    pub log: logging::Options,
    /// Feature switches.
    pub feature_gates: FeatureGates,
    /// The validation warnings. etcd logs them twice: while it reads its flags (they are in
    /// [`super::Run::notes`]) and again after `Initialize and start etcd server`.
    pub warnings: Vec<logging::Line>,
    /// Every value with its origin, for those who show them.
    pub settings: Settings,
}

/// Name and directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The member's name.
    pub name: String,
    /// Directory of all data; the member's own is `member` inside it.
    pub data_dir: PathBuf,
    /// Directory of the write-ahead log when it is not inside `data_dir`.
    pub dedicated_wal_dir: Option<PathBuf>,
}

impl Member {
    /// `<data-dir>/member`.
    pub fn member_dir(&self) -> PathBuf {
        self.data_dir.join("member")
    }

    /// Where the write-ahead log is.
    pub fn wal_dir(&self) -> PathBuf {
        self.dedicated_wal_dir
            .clone()
            .unwrap_or_else(|| self.member_dir().join("wal"))
    }
}

/// Timing and log length of raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raft {
    /// One tick: time between two heartbeats. Above zero.
    pub heartbeat_interval: Duration,
    /// Time without a leader before an election; at least five ticks.
    pub election_timeout: Duration,
    /// Skip most of the first election timeout.
    pub initial_election_tick_advance: bool,
    /// Ask for votes before an election.
    pub pre_vote: bool,
    /// Applied entries between two snapshots; never 0.
    pub snapshot_count: u64,
    /// Entries kept behind a snapshot.
    pub snapshot_catchup_entries: u64,
    /// Write-ahead log files to keep; 0: all.
    pub wal_files_max: u64,
    /// Never fsync.
    pub unsafe_no_fsync: bool,
}

impl Raft {
    /// The election timeout in ticks.
    pub fn election_ticks(&self) -> u64 {
        let tick = self.heartbeat_interval.as_millis().max(1);
        u64::try_from(self.election_timeout.as_millis() / tick).unwrap_or(u64::MAX)
    }
}

/// Limits of the stored data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Bytes above which writes are refused; `None`: no quota. The default of 2 GiB is filled in.
    pub quota_bytes: Option<u64>,
    /// Whether the quota is the default.
    pub quota_is_default: bool,
    /// Keep the process in RAM.
    pub memory_mlock: bool,
    /// Defragment at start when this many MiB would be freed; 0: never.
    pub bootstrap_defrag_threshold_mib: u64,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// For other members.
    pub peer_urls: Vec<Url>,
    /// For clients: gRPC, and HTTP when `client_http_urls` is empty.
    pub client_urls: Vec<Url>,
    /// For HTTP clients alone.
    pub client_http_urls: Vec<Url>,
    /// For metrics and health.
    pub metrics_urls: Vec<Url>,
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// `SO_REUSEADDR`.
    pub reuse_address: bool,
}

/// How members and clients find this one, and it them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// This member's URLs for other members.
    pub advertise_peer_urls: Vec<Url>,
    /// This member's URLs for clients.
    pub advertise_client_urls: Vec<Url>,
    /// `name=url,…` of a new cluster; empty with discovery.
    pub initial_cluster: String,
    /// Join a cluster that is there, instead of starting one.
    pub join_existing: bool,
    /// Keeps clusters with the same URLs apart.
    pub token: String,
    /// Refuse membership changes that cost the quorum.
    pub strict_reconfig_check: bool,
    /// Most learners.
    pub learners_max: i64,
    /// Make a cluster of this member alone.
    pub force_new_cluster: bool,
    /// Longest silence on a connection between members.
    pub peer_read_timeout: Duration,
    /// Longest wait for a write between members.
    pub peer_write_timeout: Duration,
}

impl Cluster {
    /// The members of `initial_cluster`, see [`parse_initial_cluster`].
    pub fn initial_members(&self) -> Result<Vec<(String, Vec<Url>)>, String> {
        parse_initial_cluster(&self.initial_cluster)
    }
}

/// Reads `name=url,…`: the members in the order of their names, each with its sorted URLs.
pub fn parse_initial_cluster(text: &str) -> Result<Vec<(String, Vec<Url>)>, String> {
    let mut members: std::collections::BTreeMap<String, Vec<Url>> = Default::default();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (name, url) = pair.split_once('=').unwrap_or((pair, ""));
        members
            .entry(name.to_owned())
            .or_default()
            .push(Url::parse(url)?);
    }
    for urls in members.values_mut() {
        urls.sort_by_key(Url::to_string);
    }
    Ok(members.into_iter().collect())
}

/// One side's TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificate file to show.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// Certificate file for connections this process opens; `None`: `cert_file`.
    pub client_cert_file: Option<PathBuf>,
    /// Its key.
    pub client_key_file: Option<PathBuf>,
    /// CAs that may sign the other side's certificates.
    pub trusted_ca_file: Option<PathBuf>,
    /// Revoked certificates.
    pub crl_file: Option<PathBuf>,
    /// Demand a certificate. A CA file alone demands one too, see [`Tls::demands_certificate`].
    pub client_cert_auth: bool,
    /// Make a self-signed certificate when none is given.
    pub auto_tls: bool,
    /// Years such a certificate is valid; 0 is an error at start.
    pub self_signed_years: u64,
    /// Common names of which a certificate must have one.
    pub allowed_cns: Vec<String>,
    /// Host names of which a certificate must have one.
    pub allowed_hostnames: Vec<String>,
    /// Do not check host names of members that connect.
    pub skip_client_san_verification: bool,
    /// TLS 1.2 suites by IANA name; empty: the default ones.
    pub cipher_suites: Vec<String>,
    /// Accept TLS 1.2.
    pub tls12: bool,
    /// Accept TLS 1.3.
    pub tls13: bool,
}

impl Tls {
    /// Whether neither certificate nor key is given.
    pub fn is_empty(&self) -> bool {
        self.cert_file.is_none() && self.key_file.is_none()
    }

    /// Whether clients must show a certificate.
    pub fn demands_certificate(&self) -> bool {
        self.client_cert_auth || self.trusted_ca_file.is_some()
    }
}

/// Limits of gRPC calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rpc {
    /// Most operations in a transaction.
    pub txn_ops_max: u64,
    /// Largest request in bytes.
    pub request_bytes_max: u64,
    /// Most streams on a connection.
    pub concurrent_streams_max: u32,
    /// Silence after which a client is pinged; zero: never.
    pub keepalive_interval: Duration,
    /// Time to answer a ping; zero: no limit.
    pub keepalive_timeout: Duration,
    /// Calls that take longer are logged.
    pub warning_unary_duration: Duration,
    /// Changes that take longer to apply are logged.
    pub warning_apply_duration: Duration,
    /// Time without events after which a watcher is told its progress.
    pub watch_progress_interval: Duration,
}

/// HTTP endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Allowed origins; `*`: all.
    pub cors: Vec<String>,
    /// Host names clients without TLS may ask for; `*`: all.
    pub host_whitelist: Vec<String>,
    /// Serve the JSON API.
    pub grpc_gateway: bool,
    /// Serve profiles; log-level debug does too.
    pub pprof: bool,
    /// Latency histograms of every call.
    pub extensive_metrics: bool,
}

/// When the member compacts by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Never.
    Off,
    /// Keep this much time of history.
    Periodic(Duration),
    /// Keep this many revisions.
    Revisions(i64),
}

/// Compaction, by request and by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// `periodic` or `revision`.
    pub mode: String,
    /// The retention as given.
    pub retention_text: String,
    /// Both, read; the error is a start error of etcd's.
    pub auto: Result<AutoCompaction, String>,
    /// Revisions removed in one step.
    pub batch_limit: u64,
    /// Pause between two steps.
    pub sleep_interval: Duration,
}

/// Periodic checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// Compare all members' data this often; zero: never.
    pub corrupt_check_time: Duration,
    /// Compare compaction hashes this often. Above zero.
    pub compact_hash_check_time: Duration,
    /// Look for the end of a downgrade this often; zero: never.
    pub downgrade_check_time: Duration,
}

/// Users and tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// `simple`, or `jwt` with options.
    pub token: String,
    /// Cost of hashing a password, as given.
    pub bcrypt_cost: u64,
    /// Life of a simple token.
    pub token_ttl: Duration,
}
