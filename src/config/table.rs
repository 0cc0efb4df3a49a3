//! The option table: every option once. Flags, `ETCD_*`, file keys, help, samples, man page and
//! docs come from here and from nowhere else.
//!
//! The order is that of help and samples. A later release serves a `.later()` or `.refused()`
//! option by deleting that word.

use Group::{
    Auth, Clustering, Features, Hidden, Logging, Member, Monitoring, Security, Tracing, Unsafe,
};
use Kind::{
    Bool, Choice, Duration, Gates, Ignored, Int, Int64, Origins, Stages, Text, TextList, TextSet,
    Uint, Uint32, Uint64, UrlSet,
};

use super::options::{Group, Opt};
use super::value::Kind;

const fn opt(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    group: Group,
    meaning: &'static str,
) -> Opt {
    Opt::new(name, kind, default, group, meaning)
}

const fn ignored(name: &'static str) -> Opt {
    Opt::new(name, Ignored, "", Hidden, "Accepted and ignored.").not_in_file()
}

/// What etcd's own storage engine would do; ours has no such knob.
const NO_BBOLT: &str = "the storage engine here is not bbolt and schedules its own commits";
/// The one stage etcd 3.7 still has, whatever is asked for.
const V2_STAGES: &[&str] = &[
    "write-only",
    "write-only-skip-check",
    "write-only-drop-data",
    "gone",
];
/// Rotation as etcd's help shows it.
pub const LOG_ROTATION: &str =
    r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#;

/// Every option.
pub const OPTIONS: &[Opt] = &[
    opt("name", Text, "default", Member, "Name of this member, unique in the cluster."),
    opt("data-dir", Text, "", Member, "Directory of all this member's data.")
        .effectively("${name}.etcd"),
    opt("wal-dir", Text, "", Member, "Directory of the write-ahead log; empty: inside data-dir."),
    opt("snapshot-count", Uint64, "10000", Member, "Applied entries between two snapshots of the raft log."),
    opt("heartbeat-interval", Uint, "100", Member, "Milliseconds between two heartbeats of the leader."),
    opt("election-timeout", Uint, "1000", Member, "Milliseconds without a leader before an election; at least 5 heartbeats."),
    opt("initial-election-tick-advance", Bool, "true", Member, "Shorten the first wait for an election after a start."),
    opt("listen-peer-urls", UrlSet, "http://localhost:2380", Member, "URLs to listen on for other members."),
    opt("listen-client-urls", UrlSet, "http://localhost:2379", Member, "URLs to listen on for clients: gRPC, and HTTP unless listen-client-http-urls is set."),
    opt("listen-client-http-urls", UrlSet, "", Member, "URLs to listen on for HTTP clients alone; listen-client-urls then serve gRPC alone."),
    opt("max-snapshots", Uint, "5", Member, "Snapshot files to keep (0: all).")
        .no_effect("snapshots are not kept as files here")
        .deprecated("--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8."),
    opt("max-wals", Uint, "5", Member, "Write-ahead log files to keep (0: all)."),
    opt("memory-mlock", Bool, "false", Member, "Keep the process in RAM, never in swap."),
    opt("quota-backend-bytes", Int64, "0", Member, "Bytes of data above which writes are refused and an alarm is raised (0: 2 GiB, negative: no quota)."),
    opt("backend-bbolt-freelist-type", Text, "", Member, "Free list of etcd's storage engine.")
        .effectively("map")
        .no_effect(NO_BBOLT),
    opt("backend-batch-interval", Duration, "", Member, "Longest time between two commits of etcd's storage engine.")
        .no_effect(NO_BBOLT),
    opt("backend-batch-limit", Int, "0", Member, "Most changes between two commits of etcd's storage engine.")
        .no_effect(NO_BBOLT),
    opt("max-txn-ops", Uint, "128", Member, "Most operations in one transaction."),
    opt("max-request-bytes", Uint, "1572864", Member, "Largest request of a client, in bytes."),
    opt("max-concurrent-streams", Uint32, "4294967295", Member, "Most streams a client may have open on one connection.")
        .effectively("math.MaxUint32"),
    opt("grpc-keepalive-min-time", Duration, "5s", Member, "Clients that ping more often than this are disconnected.")
        .no_effect("pings are answered where they cannot be counted, and cost next to nothing"),
    opt("grpc-keepalive-interval", Duration, "2h", Member, "Time of silence after which a client is pinged (0: never)."),
    opt("grpc-keepalive-timeout", Duration, "20s", Member, "Time a pinged client has to answer before it is disconnected (0: no limit)."),
    opt("socket-reuse-port", Bool, "false", Member, "Listen with SO_REUSEPORT: several processes may share a port.")
        .key("socket-options.reuse-port"),
    opt("socket-reuse-address", Bool, "false", Member, "Listen with SO_REUSEADDR: take over a port in TIME_WAIT.")
        .key("socket-options.reuse-address"),
    opt("enable-grpc-gateway", Bool, "true", Member, "Serve the JSON API under /v3/."),
    opt("raft-read-timeout", Duration, "5s", Member, "Longest silence on a connection between members; at least 5s.")
        .not_in_file()
        .later(),
    opt("raft-write-timeout", Duration, "5s", Member, "Longest wait for a write to another member; at least 5s.")
        .not_in_file()
        .later(),
    opt("feature-gates", Gates, "", Member, "Switches for features: Name=true,Name=false."),
    //
    opt("initial-advertise-peer-urls", UrlSet, "http://localhost:2380", Clustering, "URLs under which other members reach this one."),
    opt("initial-cluster", Text, "default=http://localhost:2380", Clustering, "All members of a new cluster: name=url,name=url."),
    opt("initial-cluster-state", Choice(&["new", "existing"]), "new", Clustering, "new to start a cluster, existing to join one; ignored when the member has data."),
    opt("initial-cluster-token", Text, "etcd-cluster", Clustering, "Keeps clusters with the same URLs apart."),
    opt("advertise-client-urls", UrlSet, "http://localhost:2379", Clustering, "URLs under which clients reach this member."),
    opt("discovery-token", Text, "", Clustering, "Discovery service: token of the cluster to form.")
        .key("discovery-config.token")
        .refused(),
    opt("discovery-endpoints", TextSet, "", Clustering, "Discovery service: its endpoints.")
        .key("discovery-config.client.endpoints")
        .list()
        .refused(),
    opt("discovery-dial-timeout", Duration, "2s", Clustering, "Discovery service: time to connect.")
        .key("discovery-config.client.dial-timeout")
        .later(),
    opt("discovery-request-timeout", Duration, "5s", Clustering, "Discovery service: time for a request.")
        .key("discovery-config.client.request-timeout")
        .later(),
    opt("discovery-keepalive-time", Duration, "2s", Clustering, "Discovery service: time between pings.")
        .key("discovery-config.client.keepalive-time")
        .later(),
    opt("discovery-keepalive-timeout", Duration, "6s", Clustering, "Discovery service: time to answer a ping.")
        .key("discovery-config.client.keepalive-timeout")
        .later(),
    opt("discovery-insecure-transport", Bool, "true", Clustering, "Discovery service: connect without TLS.")
        .key("discovery-config.client.secure.insecure-transport")
        .later(),
    opt("discovery-insecure-skip-tls-verify", Bool, "false", Clustering, "Discovery service: accept any certificate.")
        .key("discovery-config.client.secure.insecure-skip-tls-verify")
        .later(),
    opt("discovery-cert", Text, "", Clustering, "Discovery service: client certificate file.")
        .key("discovery-config.client.secure.cert")
        .later(),
    opt("discovery-key", Text, "", Clustering, "Discovery service: client key file.")
        .key("discovery-config.client.secure.key")
        .later(),
    opt("discovery-cacert", Text, "", Clustering, "Discovery service: file of trusted CAs.")
        .key("discovery-config.client.secure.cacert")
        .later(),
    opt("discovery-server-name", Text, "", Clustering, "Discovery service: name its certificate must have.")
        .key("discovery-config.client.secure.server-name")
        .only_in_file()
        .later(),
    opt("discovery-user", Text, "", Clustering, "Discovery service: user, or user:password.")
        .key("discovery-config.client.auth.username")
        .later(),
    opt("discovery-password", Text, "", Clustering, "Discovery service: password.")
        .key("discovery-config.client.auth.password")
        .later(),
    opt("discovery-auth-token", Text, "", Clustering, "Discovery service: token to authenticate with.")
        .key("discovery-config.client.auth.token")
        .only_in_file()
        .later(),
    opt("discovery-fallback", Choice(&["exit", "proxy"]), "exit", Clustering, "What to do when discovery fails; only exit is left.")
        .not_in_file(),
    opt("discovery-srv", Text, "", Clustering, "DNS domain whose SRV records list the members.").refused(),
    opt("discovery-srv-name", Text, "", Clustering, "Suffix of the SRV service name to ask for.").refused(),
    opt("strict-reconfig-check", Bool, "true", Clustering, "Refuse membership changes that would cost the quorum."),
    opt("pre-vote", Bool, "true", Clustering, "Ask for votes without disturbing the cluster before a real election."),
    opt("auto-compaction-retention", Text, "0", Clustering, "History to keep: hours or a duration in periodic mode, revisions in revision mode (0: all)."),
    opt("auto-compaction-mode", Text, "periodic", Clustering, "periodic: keep by time; revision: keep by number of revisions."),
    opt("v2-deprecation", Stages(V2_STAGES), "", Clustering, "Stage of the v2 store's removal; always write-only.")
        .effectively("write-only")
        .no_effect("there is no v2 store")
        .deprecated("--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring user input."),
    //
    opt("cert-file", Text, "", Security, "Certificate for clients to see.").key("client-transport-security.cert-file"),
    opt("key-file", Text, "", Security, "Key of cert-file.").key("client-transport-security.key-file"),
    opt("client-cert-auth", Bool, "false", Security, "Demand a certificate of every client.")
        .key("client-transport-security.client-cert-auth"),
    opt("client-cert-file", Text, "", Security, "Certificate for the member's own client connections; empty: cert-file.")
        .key("client-transport-security.client-cert-file"),
    opt("client-key-file", Text, "", Security, "Key of client-cert-file.").key("client-transport-security.client-key-file"),
    opt("client-crl-file", Text, "", Security, "Revoked client certificates.").not_in_file(),
    opt("client-cert-allowed-hostname", TextList, "", Security, "Host names of which a client certificate must have one.")
        .key("client-transport-security.allowed-hostname")
        .list(),
    opt("client-cert-allowed-cn", TextList, "", Security, "Common names of which a client certificate must have one.")
        .key("client-transport-security.allowed-cn")
        .list()
        .only_in_file(),
    opt("client-skip-client-san-verification", Bool, "false", Security, "No meaning for clients.")
        .key("client-transport-security.skip-client-san-verification")
        .only_in_file()
        .no_effect("it concerns connections between members"),
    opt("trusted-ca-file", Text, "", Security, "CAs that may sign client certificates.")
        .key("client-transport-security.trusted-ca-file"),
    opt("auto-tls", Bool, "false", Security, "Serve clients with a self-signed certificate.")
        .key("client-transport-security.auto-tls"),
    opt("peer-cert-file", Text, "", Security, "Certificate for other members to see.").key("peer-transport-security.cert-file"),
    opt("peer-key-file", Text, "", Security, "Key of peer-cert-file.").key("peer-transport-security.key-file"),
    opt("peer-client-cert-auth", Bool, "false", Security, "Demand a certificate of every member.")
        .key("peer-transport-security.client-cert-auth"),
    opt("peer-client-cert-file", Text, "", Security, "Certificate for connections to other members; empty: peer-cert-file.")
        .key("peer-transport-security.client-cert-file"),
    opt("peer-client-key-file", Text, "", Security, "Key of peer-client-cert-file.")
        .key("peer-transport-security.client-key-file"),
    opt("peer-trusted-ca-file", Text, "", Security, "CAs that may sign members' certificates.")
        .key("peer-transport-security.trusted-ca-file"),
    opt("peer-cert-allowed-cn", TextList, "", Security, "Common names of which a member's certificate must have one.")
        .key("peer-transport-security.allowed-cn")
        .list(),
    opt("peer-cert-allowed-hostname", TextList, "", Security, "Host names of which a member's certificate must have one.")
        .key("peer-transport-security.allowed-hostname")
        .list(),
    opt("peer-auto-tls", Bool, "false", Security, "Speak to other members with a self-signed certificate.")
        .key("peer-transport-security.auto-tls"),
    opt("self-signed-cert-validity", Uint, "1", Security, "Years a self-signed certificate is valid."),
    opt("peer-crl-file", Text, "", Security, "Revoked member certificates.").not_in_file(),
    opt("cipher-suites", TextList, "", Security, "TLS 1.2 cipher suites to offer, by IANA name (empty: all secure ones).").list(),
    opt("cors", Origins, "*", Security, "Web origins that may use the HTTP API (*: all)."),
    opt("host-whitelist", TextSet, "*", Security, "Host names HTTP clients without TLS may ask for (*: all)."),
    opt("tls-min-version", Text, "TLS1.2", Security, "Oldest TLS version to accept: TLS1.2 or TLS1.3."),
    opt("tls-max-version", Text, "", Security, "Newest TLS version to accept: TLS1.2 or TLS1.3 (empty: no limit)."),
    //
    opt("auth-token", Text, "simple", Auth, "Kind of token: simple, or jwt with its options."),
    opt("bcrypt-cost", Uint, "10", Auth, "Cost of hashing a password, 4 to 31.").later(),
    opt("auth-token-ttl", Uint, "300", Auth, "Seconds a simple token lives.").later(),
    //
    opt("enable-pprof", Bool, "false", Monitoring, "Serve profiles under /debug/pprof/."),
    opt("metrics", Text, "basic", Monitoring, "basic, or extensive for latency histograms of every call."),
    opt("listen-metrics-urls", UrlSet, "", Monitoring, "More URLs to serve /metrics and health on; https uses the client certificate."),
    //
    opt("logger", Text, "zap", Logging, "Form of the log lines; only zap."),
    opt("log-outputs", TextSet, "default", Logging, "Where log lines go: default, stderr, stdout, systemd/journal or files.").list(),
    opt("log-level", Text, "info", Logging, "Least severe level to log: debug, info, warn, error, panic or fatal."),
    opt("log-format", Text, "json", Logging, "json or console."),
    opt("enable-log-rotation", Bool, "false", Logging, "Rotate the log file when it is full."),
    opt("log-rotation-config-json", Text, LOG_ROTATION, Logging, "Rotation: megabytes per file, days and files to keep (0: all), local time in names, gzip."),
    opt("warning-unary-request-duration", Duration, "300ms", Logging, "Log calls that take longer than this."),
    //
    opt("enable-distributed-tracing", Bool, "false", Tracing, "Send OpenTelemetry traces.").later(),
    opt("distributed-tracing-address", Text, "localhost:4317", Tracing, "Address of the trace collector.").later(),
    opt("distributed-tracing-service-name", Text, "etcd", Tracing, "Service name in traces, the same on all members.").later(),
    opt("distributed-tracing-instance-id", Text, "", Tracing, "Instance id in traces, another on each member.").later(),
    opt("distributed-tracing-sampling-rate", Int, "0", Tracing, "Traces to send per million.").later(),
    //
    opt("corrupt-check-time", Duration, "0s", Features, "Time between comparisons of all members' data (0: never).").later(),
    opt("compact-hash-check-time", Duration, "1m", Features, "Time between comparisons of all members' compaction hashes.").later(),
    opt("compaction-batch-limit", Int, "0", Features, "Most revisions removed in one step of a compaction.")
        .effectively("1000"),
    opt("peer-skip-client-san-verification", Bool, "false", Features, "Accept members' certificates without their host name.")
        .key("peer-transport-security.skip-client-san-verification"),
    opt("watch-progress-notify-interval", Duration, "", Features, "Time without events after which a watcher is told how far it is.")
        .effectively("10m"),
    opt("warning-apply-duration", Duration, "100ms", Features, "Log changes that take longer than this to apply."),
    opt("bootstrap-defrag-threshold-megabytes", Uint, "0", Features, "Defragment at start when this much would be freed (0: never)."),
    opt("max-learners", Int, "1", Features, "Most learners in the cluster."),
    opt("compaction-sleep-interval", Duration, "", Features, "Pause between two steps of a compaction.")
        .effectively("10ms"),
    opt("downgrade-check-time", Duration, "5s", Features, "Time between checks of a downgrade's progress (0: never).").later(),
    opt("snapshot-catchup-entries", Uint64, "5000", Features, "Raft entries kept behind a snapshot for slow members."),
    //
    opt("force-new-cluster", Bool, "false", Unsafe, "Make a cluster of this member alone from its data.").refused(),
    opt("unsafe-no-fsync", Bool, "false", Unsafe, "Never wait for the disk: loses data on a power cut."),
    //
    opt("config-file", Text, "", Hidden, "Configuration file; every other flag and variable is then ignored.").not_in_file(),
    opt("version", Bool, "false", Hidden, "Print the version and exit.").not_in_file(),
    ignored("cluster-active-size"),
    ignored("cluster-remove-delay"),
    ignored("cluster-sync-interval"),
    ignored("config"),
    ignored("force"),
    ignored("max-result-buffer"),
    ignored("max-retry-attempts"),
    ignored("peer-heartbeat-interval"),
    ignored("peer-election-timeout"),
    ignored("retry-interval"),
    ignored("snapshot"),
    ignored("v"),
    ignored("vv"),
    ignored("test.coverprofile"),
    ignored("test.outputdir"),
];

/// The place of an option in [`OPTIONS`].
pub fn position(name: &str) -> Option<usize> {
    OPTIONS.iter().position(|option| option.name == name)
}

/// The place of the option a flag or variable names; file-only options have neither.
pub fn position_of_flag(name: &str) -> Option<usize> {
    position(name).filter(|at| OPTIONS[*at].on_command_line)
}
