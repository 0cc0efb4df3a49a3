//! etcd's checks of a whole configuration, in etcd's order: the first that fails is reported.

use std::net::IpAddr;

use super::options::Support;
use super::settings::Settings;
use super::table::OPTIONS;
use super::url;
use super::value::quote;
use crate::logging::{self, GoDuration, Line};

/// Longest election timeout, in milliseconds.
const ELECTION_MS_MAX: u64 = 50_000;

/// Why a configuration was refused. The texts are etcd's but for the last.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value, or several together, make no sense.
    #[error("{text}")]
    Invalid {
        /// etcd's words.
        text: String,
        /// The option to look at first.
        option: &'static str,
        /// What to do.
        fix: &'static str,
    },
    /// The client URLs are set but not those to advertise. etcd adds a second warning.
    #[error("--advertise-client-urls is required when --listen-client-urls is set explicitly")]
    AdvertiseClientUrlsMissing,
    /// A feature that is not there yet and whose absence would change what the member does.
    #[error("--{option} is not served yet by this release")]
    NotServed {
        /// The option.
        option: &'static str,
        /// What to do instead.
        fix: &'static str,
    },
}

fn invalid(option: &'static str, fix: &'static str, text: impl Into<String>) -> ConfigError {
    ConfigError::Invalid {
        text: text.into(),
        option,
        fix,
    }
}

impl ConfigError {
    /// The option to look at, and what to do.
    pub fn advice(&self) -> (&'static str, &'static str) {
        match self {
            Self::Invalid { option, fix, .. } | Self::NotServed { option, fix } => (option, fix),
            Self::AdvertiseClientUrlsMissing => (
                "advertise-client-urls",
                "set it to URLs under which clients reach this member",
            ),
        }
    }
}

/// TLS versions to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TlsVersions {
    /// TLS 1.2.
    pub tls12: bool,
    /// TLS 1.3.
    pub tls13: bool,
}

/// What validation has read on its way.
#[derive(Debug)]
pub(super) struct Checked {
    /// How to log.
    pub log: logging::Options,
    /// TLS versions.
    pub tls: TlsVersions,
}

/// Checks everything that can be checked without touching the system.
pub(super) fn check(s: &Settings, warnings: &mut Vec<Line>) -> Result<Checked, ConfigError> {
    if s.text("discovery-fallback") == "proxy" {
        return Err(invalid(
            "discovery-fallback",
            "use exit",
            "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
        ));
    }
    let log = log_options(s)?;
    check_bind_urls(s, "listen-peer-urls")?;
    check_bind_urls(s, "listen-client-urls")?;
    check_bind_urls(s, "listen-client-http-urls")?;
    if s.urls("listen-client-http-urls").is_empty() {
        warnings.push(Line::warn(
            "Running http and grpc server on single port. This is not recommended for production.",
        ));
    }
    check_bind_urls(s, "listen-metrics-urls")?;
    check_advertised(s)?;
    check_bootstrap(s)?;
    check_raft_timing(s)?;
    if s.urls("advertise-client-urls").is_empty() {
        return Err(ConfigError::AdvertiseClientUrlsMissing);
    }
    check_compaction_mode(s)?;
    check_features(s, warnings)?;
    if s.text("name") == "default" {
        warnings.push(
            Line::warn(
                "it isn't recommended to use default name, please set a value for --name. Note \
                 that etcd might run into issue when multiple members have the same default name",
            )
            .with("name", "default"),
        );
    }
    Ok(Checked {
        log,
        tls: tls_versions(s)?,
    })
}

fn log_options(s: &Settings) -> Result<logging::Options, ConfigError> {
    let refused = |text: String| invalid("logger", "use zap", text);
    match s.text("logger") {
        "zap" => {}
        "capnslog" => return Err(refused("--logger=capnslog is removed in v3.5".to_owned())),
        other => return Err(refused(format!("unknown logger option {}", quote(other)))),
    }
    let rotation = s
        .bool("enable-log-rotation")
        .then(|| s.text("log-rotation-config-json"));
    let outputs = s.texts("log-outputs");
    logging::Options::parse(s.text("log-level"), s.text("log-format"), outputs, rotation).map_err(
        |text| {
            let (option, fix) = if text.contains("level") {
                ("log-level", "use debug, info, warn, error, panic or fatal")
            } else if text.contains("format: ") {
                ("log-format", "use json or console")
            } else if text.contains("rotation config") {
                ("log-rotation-config-json", "write it like the default")
            } else {
                (
                    "log-outputs",
                    "use default, or one of stderr, stdout and a file",
                )
            };
            invalid(option, fix, text)
        },
    )
}

/// A listener binds an address, not a name that may resolve to any.
fn check_bind_urls(s: &Settings, option: &'static str) -> Result<(), ConfigError> {
    for url in s.urls(option).iter().filter(|url| !url.is_unix()) {
        let host = url.host();
        let address = host.split('%').next().unwrap_or_default();
        if host != "localhost" && address.parse::<IpAddr>().is_err() {
            let fix = "use an IP address of this host, or 0.0.0.0 for all of them";
            return Err(invalid(
                option,
                fix,
                format!("expected IP in URL for binding ({url})"),
            ));
        }
    }
    Ok(())
}

fn check_advertised(s: &Settings) -> Result<(), ConfigError> {
    let peer = "must be \"host:port\"";
    let client = "must be in the format \"host:port\", \"unix:/path/to/socket\" or \
                  \"unixs:/path/to/socket\"";
    for (option, form) in [
        ("initial-advertise-peer-urls", peer),
        ("advertise-client-urls", client),
    ] {
        let urls = s.urls(option);
        if let Some(url) = urls
            .iter()
            .find(|url| !url.is_unix() && url.host().is_empty())
        {
            let all = quote(&url::join(urls));
            let text = format!("--{option} {all} {form} (unexpected empty host ({url}))");
            return Err(invalid(
                option,
                "name the host others reach this one by",
                text,
            ));
        }
    }
    Ok(())
}

fn check_bootstrap(s: &Settings) -> Result<(), ConfigError> {
    let state = s.text("initial-cluster-state");
    if state != "new" && state != "existing" {
        let text = format!("unexpected clusterState {}", quote(state));
        return Err(invalid(
            "initial-cluster-state",
            "use new or existing",
            text,
        ));
    }
    let endpoints = s.texts("discovery-endpoints");
    let ways = [
        !s.text("initial-cluster").is_empty(),
        !s.text("discovery-srv").is_empty(),
        !endpoints.is_empty(),
    ];
    if ways.iter().filter(|given| **given).count() > 1 {
        return Err(invalid(
            "initial-cluster",
            "keep one of the three",
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
             \"discovery-endpoints\" or \"discovery-srv\"",
        ));
    }
    if s.text("discovery-token").is_empty() != endpoints.is_empty() {
        return Err(invalid(
            "discovery-token",
            "set both or none",
            "both --discovery-token and --discovery-endpoints must be set",
        ));
    }
    if endpoints.iter().any(|endpoint| endpoint.trim().is_empty()) {
        let text = "--discovery-endpoints must not contain empty endpoints";
        return Err(invalid(
            "discovery-endpoints",
            "remove the empty ones",
            text,
        ));
    }
    Ok(())
}

fn check_raft_timing(s: &Settings) -> Result<(), ConfigError> {
    let heartbeat = s.uint("heartbeat-interval");
    let election = s.uint("election-timeout");
    if heartbeat == 0 {
        let text = "--heartbeat-interval must be >0 (set to 0ms)";
        return Err(invalid(
            "heartbeat-interval",
            "use the round-trip time, or 100",
            text,
        ));
    }
    let fix = "use ten times the heartbeat interval, at most 50000";
    if election == 0 {
        let text = "--election-timeout must be >0 (set to 0ms)";
        return Err(invalid("election-timeout", fix, text));
    }
    if heartbeat.saturating_mul(5) > election {
        let text = format!(
            "--election-timeout[{election}ms] should be at least as 5 times as \
             --heartbeat-interval[{heartbeat}ms]"
        );
        return Err(invalid("election-timeout", fix, text));
    }
    if election > ELECTION_MS_MAX {
        let text = format!(
            "--election-timeout[{election}ms] is too long, and should be set less than \
             {ELECTION_MS_MAX}ms"
        );
        return Err(invalid("election-timeout", fix, text));
    }
    Ok(())
}

fn check_compaction_mode(s: &Settings) -> Result<(), ConfigError> {
    let text = match s.text("auto-compaction-mode") {
        "periodic" | "revision" => return Ok(()),
        "" => "undefined auto-compaction-mode".to_owned(),
        other => format!("unknown auto-compaction-mode {}", quote(other)),
    };
    Err(invalid(
        "auto-compaction-mode",
        "use periodic or revision",
        text,
    ))
}

fn check_features(s: &Settings, warnings: &mut Vec<Line>) -> Result<(), ConfigError> {
    let rate = s.int("distributed-tracing-sampling-rate");
    if s.bool("enable-distributed-tracing") && !(0..=1_000_000).contains(&rate) {
        let reason = if rate < 0 {
            "positive"
        } else {
            "less than 1000000"
        };
        let text = format!(
            "distributed tracing configurition is not valid: (tracing sampling rate must be {reason})"
        );
        return Err(invalid(
            "distributed-tracing-sampling-rate",
            "use 0 to 1000000",
            text,
        ));
    }
    let gates = s.gates("feature-gates");
    match (
        gates.enabled("LeaseCheckpoint"),
        gates.enabled("LeaseCheckpointPersist"),
    ) {
        (true, false) => warnings.push(Line::warn(
            "Detected that checkpointing is enabled without persistence. Consider enabling \
             feature gate LeaseCheckpointPersist",
        )),
        (false, true) => {
            let text = "enabling feature gate LeaseCheckpointPersist requires enabling feature \
                        gate LeaseCheckpoint";
            return Err(invalid("feature-gates", "add LeaseCheckpoint=true", text));
        }
        _ => {}
    }
    let check_time = s.nanos("compact-hash-check-time");
    if check_time <= 0 {
        let text = GoDuration::from_nanos(check_time);
        let text = format!("--compact-hash-check-time must be >0 (set to {text})");
        return Err(invalid(
            "compact-hash-check-time",
            "use a duration such as 1m",
            text,
        ));
    }
    if s.nanos("corrupt-check-time") < 0 {
        // etcd panics on this one after its start.
        let text = GoDuration::from_nanos(s.nanos("corrupt-check-time"));
        let text = format!("--corrupt-check-time must not be negative (set to {text})");
        return Err(invalid("corrupt-check-time", "use 0s for never", text));
    }
    Ok(())
}

fn tls_versions(s: &Settings) -> Result<TlsVersions, ConfigError> {
    let minor = |option: &'static str| match s.text(option) {
        "" => Ok(None),
        "TLS1.2" => Ok(Some(2)),
        "TLS1.3" => Ok(Some(3)),
        other => {
            let text = quote(other);
            let text = format!("unexpected TLS version {text} (must be one of: TLS1.2, TLS1.3)");
            Err(invalid(option, "use TLS1.2 or TLS1.3", text))
        }
    };
    let oldest = minor("tls-min-version")?.unwrap_or(2);
    let newest = minor("tls-max-version")?.unwrap_or(3);
    if oldest > newest {
        let (min, max) = (s.text("tls-min-version"), s.text("tls-max-version"));
        let text = format!("min version ({min}) is greater than max version ({max})");
        return Err(invalid(
            "tls-max-version",
            "raise it, or lower tls-min-version",
            text,
        ));
    }
    if oldest == 3 && !s.texts("cipher-suites").is_empty() {
        let text = "cipher suites cannot be configured when only TLS1.3 is enabled";
        return Err(invalid("cipher-suites", "remove it, or allow TLS1.2", text));
    }
    Ok(TlsVersions {
        tls12: oldest == 2,
        tls13: newest == 3,
    })
}

/// etcd's warnings about options that will go.
pub(super) fn deprecations(s: &Settings) -> Vec<Line> {
    let rows = OPTIONS.iter().zip(s.rows());
    let warning = |(option, row): (&super::options::Opt, &super::settings::Setting)| {
        option.deprecation.filter(|_| row.is_set).map(Line::warn)
    };
    rows.filter_map(warning).collect()
}

/// Warnings about options that this release does not act on; an error for those that matter.
pub(super) fn not_served(s: &Settings) -> Result<Vec<Line>, ConfigError> {
    let mut lines = Vec::new();
    for (option, row) in OPTIONS.iter().zip(s.rows()) {
        if !row.is_set || row.value == option.default_value() {
            continue;
        }
        let line = |message| {
            Line::warn(message)
                .with("option", option.name)
                .with("value", option.shown(&row.value))
                .display("origin", &row.origin)
        };
        match option.support {
            Support::Served => {}
            Support::NoEffect(_) if option.deprecation.is_some() => {}
            Support::NoEffect(reason) => {
                lines.push(line("option has no effect").with("reason", reason));
            }
            Support::Later => {
                lines.push(line(
                    "option is not served yet by this release; it has no effect",
                ));
            }
            Support::Refused => {
                let fix = "remove it to start without that feature";
                return Err(ConfigError::NotServed {
                    option: option.name,
                    fix,
                });
            }
        }
    }
    if s.text("auth-token").split(',').next() == Some("jwt") {
        let fix = "use --auth-token=simple";
        return Err(ConfigError::NotServed {
            option: "auth-token",
            fix,
        });
    }
    for gate in s.gates("feature-gates").on_but_not_served() {
        let message = "feature gate is not served yet by this release; it has no effect";
        lines.push(Line::warn(message).with("feature-gate", gate.name));
    }
    Ok(lines)
}
