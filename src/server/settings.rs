//! The node's part of the configuration.

use std::io::ErrorKind;

use super::bootstrap;
use crate::config::{AutoCompaction, Config};
use crate::membership::{self, Member};
use crate::node;

/// Records kept in memory besides those that are not durable yet.
const VALUE_CACHE_BYTES: usize = 4 << 20;
/// Pages of the database kept in memory; the kernel caches the rest of the file.
const PAGE_CACHE_BYTES: usize = 6 << 20;

/// What the node is started with. The error is a configuration mistake.
pub(super) fn node(config: &Config) -> Result<node::Settings, String> {
    let is_new = !config.member.wal_dir().exists();
    let members = bootstrap::initial_members(config, is_new)?;
    bootstrap::check_names(config)?;
    let mut initial_members = Vec::with_capacity(members.len());
    for (name, urls) in members {
        let peer_urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
        let id = membership::member_id(&peer_urls, &config.cluster.token);
        initial_members.push(Member {
            id: id.0,
            name,
            peer_urls,
            ..Member::default()
        });
    }
    if is_new && (initial_members.len() > 1 || config.cluster.join_existing) {
        return Err("clusters of more than one member are not served yet: \
                    set --initial-cluster to this member alone and --initial-cluster-state to new"
            .to_owned());
    }
    let auto_compaction = match &config.compaction.auto {
        Ok(AutoCompaction::Off) => None,
        Ok(AutoCompaction::Periodic(period)) => Some(node::AutoCompaction::Periodic(*period)),
        Ok(AutoCompaction::Revisions(count)) => Some(node::AutoCompaction::Revisions(*count)),
        Err(error) => return Err(error.clone()),
    };
    let quota = config.storage.quota_bytes;
    Ok(node::Settings {
        member_dir: config.member.member_dir(),
        wal_dir: config.member.wal_dir(),
        name: config.member.name.clone(),
        client_urls: texts(&config.cluster.advertise_client_urls),
        initial_members,
        heartbeat_interval: config.raft.heartbeat_interval,
        election_timeout: config.raft.election_timeout,
        pre_vote: config.raft.pre_vote,
        snapshot_entries: config.raft.snapshot_count,
        catch_up_entries: config.raft.snapshot_catchup_entries,
        wal_segments_max: usize::try_from(config.raft.wal_files_max).unwrap_or(usize::MAX),
        request_bytes_max: usize::try_from(config.rpc.request_bytes_max).unwrap_or(usize::MAX),
        warning_apply_duration: config.rpc.warning_apply_duration,
        quota_bytes: quota.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        learners_max: usize::try_from(config.cluster.learners_max).unwrap_or(1),
        auto_compaction,
        lease_checkpoint_interval: config
            .feature_gates
            .enabled("LeaseCheckpoint")
            .then_some(std::time::Duration::from_secs(300)),
        value_cache_bytes_max: VALUE_CACHE_BYTES,
        page_cache_bytes_max: PAGE_CACHE_BYTES,
        bootstrap_defrag_threshold_bytes: config
            .storage
            .bootstrap_defrag_threshold_mib
            .saturating_mul(1 << 20),
        unsafe_no_fsync: config.raft.unsafe_no_fsync,
    })
}

/// URLs as the log and other members spell them.
pub(super) fn texts(urls: &[crate::config::Url]) -> Vec<String> {
    urls.iter().map(ToString::to_string).collect()
}

/// Names what keeps a data directory from being written, with the mend where there is one.
pub(super) fn check_data_dir(config: &Config) -> Result<(), String> {
    let directory = &config.member.data_dir;
    let probe = directory.join(".touch");
    let made = std::fs::create_dir_all(directory).and_then(|()| std::fs::write(&probe, b""));
    let _ = std::fs::remove_file(&probe);
    let Err(error) = made else {
        return refuse_foreign_data(config);
    };
    let hint = match error.kind() {
        ErrorKind::ReadOnlyFilesystem => format!(
            "; under systemd add a drop-in with ReadWritePaths={} to the unit",
            directory.display()
        ),
        ErrorKind::PermissionDenied => {
            format!(
                "; make {} belong to the user etcd runs as",
                directory.display()
            )
        }
        _ => String::new(),
    };
    Err(format!(
        "cannot access data directory: mkdir {}: {}{hint}",
        directory.display(),
        crate::logging::os_error_text(&error)
    ))
}

/// Where packages of etcd itself keep a member below what is this server's data directory.
const OTHER_PACKAGES_DIRECTORIES: [&str; 2] = ["default", "default.etcd"];

/// Refuses to start empty beside the data of an etcd, or on top of it: taking over needs a tool, not a guess.
fn refuse_foreign_data(config: &Config) -> Result<(), String> {
    let own = config.member.member_dir();
    let beside = OTHER_PACKAGES_DIRECTORIES
        .map(|name| config.member.data_dir.join(name).join("member"))
        .into_iter()
        .filter(|_| !own.exists());
    let mut candidates = std::iter::once(own.clone()).chain(beside);
    let foreign = candidates.find(|member| {
        member.join("snap").join("db").exists() && !member.join("state.redb").exists()
    });
    let Some(foreign) = foreign else {
        return Ok(());
    };
    let database = foreign.join("snap").join("db");
    Err(format!(
        "{} is the database of an etcd, which this release does not take over in place. Stop that etcd, \
         move its directory {} away, then: etcdutl snapshot restore --skip-hash-check \
         <moved>/member/snap/db --data-dir {directory} && chown -R etcd:etcd {directory} \
         (or restore a snapshot saved from it)",
        database.display(),
        foreign.parent().unwrap_or(&foreign).display(),
        directory = config.member.data_dir.display(),
    ))
}
