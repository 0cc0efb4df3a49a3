//! What the process says of itself at its start and end, in etcd's words.

use crate::config::{COMPATIBLE_VERSION, Config};
use crate::logging::{self, HumanBytes, Line};
use crate::node::NodeHandle;

/// Name of the one thing that has a quota.
const QUOTA_NAME: &str = "v3-applier";

/// Whether there is data already; then the warnings about the configuration, which etcd says twice.
pub(super) fn initializing(config: &Config) {
    let (directory_type, text) = match config.member.member_dir().exists() {
        true => ("member", "server has already been initialized"),
        false => ("empty", "Initialize and start etcd server"),
    };
    logging::emit(
        Line::info(text)
            .display("data-dir", config.member.data_dir.display())
            .with("dir-type", directory_type),
    );
    for warning in &config.warnings {
        logging::emit(warning.clone());
    }
}

/// The member's data is open and its threads run.
pub(super) fn starting(config: &Config, node: &NodeHandle) {
    if config.auth.token == "simple" {
        tracing::warn!("simple token is not cryptographically signed");
    }
    quota(config);
    let identity = node.identity();
    let membership = &node.view().membership;
    let line = Line::info("starting etcd server")
        .display("local-member-id", identity.member_id)
        .with("local-server-version", COMPATIBLE_VERSION);
    let line = match membership.version() {
        Some(version) => line
            .display("cluster-id", identity.cluster_id)
            .with("cluster-version", version.trim_end_matches(".0")),
        None => line.with("cluster-version", "to_be_decided"),
    };
    logging::emit(line);
}

fn quota(config: &Config) {
    let line = match config.storage.quota_bytes {
        None => {
            let given = config.settings.int("quota-backend-bytes");
            Line::info("disabled backend quota")
                .with("quota-name", QUOTA_NAME)
                .with("quota-size-bytes", given)
        }
        Some(bytes) => Line::info(match config.storage.quota_is_default {
            true => "enabled backend quota with default value",
            false => "enabled backend quota",
        })
        .with("quota-name", QUOTA_NAME)
        .with("quota-size-bytes", bytes)
        .display("quota-size", HumanBytes(bytes)),
    };
    logging::emit(line);
}

/// The process ends: `closing etcd server`, `closed etcd server`.
pub(super) fn closing(config: &Config, text: &'static str) {
    logging::emit(
        Line::info(text)
            .with("name", config.member.name.as_str())
            .display("data-dir", config.member.data_dir.display())
            .list("advertise-peer-urls", &config.cluster.advertise_peer_urls)
            .list(
                "advertise-client-urls",
                &config.cluster.advertise_client_urls,
            ),
    );
}
