//! Opens a member's data, or makes a new member's.
//!
//! A new member is made in an order that any crash leaves open-able: the database (empty, nothing applied),
//! then the log, then the entries that found the cluster. A step that is missing is made up for at the next
//! start.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hashbrown::HashMap;

use super::defragmentation::Defragmentation;
use super::start::{Identity, Settings};
use super::{Failure, lines};
use crate::alarm::Alarms;
use crate::disk::{Disk, RealDisk};
use crate::lease::Table;
use crate::logging::HumanBytes;
use crate::machine::{self, Machine};
use crate::membership::{ConfigurationChange, Member, Membership, cluster_id};
use crate::mvcc::{CompactMarks, Loader};
use crate::pb::raftpb::{ConfState, Entry, EntryType, HardState};
use crate::raft::Restored;
use crate::store::{Bucket, Defragmented, Loaded, Options, Store, StoreError, Values};
use crate::types::{LeaseId, MemberId};
use crate::wal::{self, Metadata, Recovered, Wal, WalSnapshot};

/// Payload bytes of applied entries kept in memory for slow followers.
pub(crate) const LOG_WINDOW_BYTES_MAX: u64 = 2 << 20;
/// The term of the entries that found a cluster.
const FOUNDING_TERM: u64 = 1;

/// Everything the threads start from.
pub(crate) struct Opened {
    pub(crate) identity: Identity,
    pub(crate) wal: Wal,
    pub(crate) store: Store,
    pub(crate) values: Arc<Values>,
    pub(crate) machine: Machine,
    pub(crate) restored: Restored,
    /// The last snapshot record in the log.
    pub(crate) snapshot_index: u64,
    /// A compaction that a stop interrupted: its revision, and the one before it.
    pub(crate) unfinished_compaction: Option<(i64, i64)>,
}

/// Opens the data directory, or makes one for a new member.
pub(crate) fn open(settings: &Settings) -> Result<Opened, Failure> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let began = Instant::now();
    let (mut store, loaded) = open_store(settings)?;
    defragment(&mut store, settings.bootstrap_defrag_threshold_bytes).map_err(failed)?;
    lines::database_opened(&settings.member_dir, began.elapsed(), loaded.applied_index);
    tracing::info!("bootstrapping cluster");
    tracing::info!("bootstrapping storage");
    let (mut wal, recovered, at) = open_log(settings, disk, &loaded)?;
    let metadata = recovered.metadata;
    let mut entries = recovered.entries;
    let mut hard_state = recovered.hard_state;
    let is_new = loaded.applied_index == 0 && at.index == 0 && entries.is_empty();
    if is_new {
        (hard_state, entries) = found_cluster(&mut wal, &settings.initial_members)?;
    }
    tracing::info!("bootstrapping raft");
    lines::member_starting(&metadata, is_new, hard_state.commit);
    let mut conf_state = loaded.conf_state.clone();
    if loaded.applied_index == 0 {
        // Founding members are voters before their entries are applied: who else could commit those.
        conf_state = ConfState {
            voters: settings
                .initial_members
                .iter()
                .map(|member| member.id)
                .collect(),
            ..ConfState::default()
        };
    }
    let restored = Restored {
        hard_state,
        conf_state: conf_state.clone(),
        applied: loaded.applied_index,
        snapshot: (at.index, at.term),
        entries,
    };
    let (machine, values, unfinished_compaction) =
        restore_machine(settings, &store, &loaded, conf_state, metadata.node_id)?;
    lines::state_restored(&machine.publish(), &metadata, loaded.finished_compact);
    Ok(Opened {
        identity: Identity {
            member_id: metadata.node_id,
            cluster_id: metadata.cluster_id,
            name: settings.name.clone(),
            client_urls: settings.client_urls.clone(),
        },
        wal,
        store,
        values,
        machine,
        restored,
        snapshot_index: at.index,
        unfinished_compaction,
    })
}

fn failed(reason: impl std::fmt::Display) -> Failure {
    Failure {
        thread: "start",
        reason: reason.to_string(),
    }
}

fn open_store(settings: &Settings) -> Result<(Store, Loaded), Failure> {
    let disk = RealDisk;
    make_directory(&disk, &settings.member_dir)?;
    // Empty: etcd's own tools look for it beside the log.
    make_directory(&disk, &settings.member_dir.join("snap"))?;
    let options = Options {
        cache_bytes_max: settings.page_cache_bytes_max,
    };
    if settings.member_dir.join("state.redb").exists() {
        return Store::open(Arc::new(disk), &settings.member_dir, options).map_err(failed);
    }
    if wal::exists(&disk, &settings.wal_dir).unwrap_or(false) {
        let has_snapshot = wal::valid_snapshots(&disk, &settings.wal_dir)
            .map_err(failed)?
            .iter()
            .any(|snapshot| snapshot.index > 0);
        if has_snapshot {
            return Err(failed(format!(
                "{} is missing while the log in {} goes on from a snapshot: restore the file, or \
                 restore the member from a snapshot",
                settings.member_dir.join("state.redb").display(),
                settings.wal_dir.display()
            )));
        }
    }
    let store = Store::create(Arc::new(disk), &settings.member_dir, options).map_err(failed)?;
    Ok((store, Loaded::default()))
}

/// Gives unused space back before anybody is served, if it is at least so much; 0 for never.
fn defragment(store: &mut Store, threshold_bytes: u64) -> Result<(), StoreError> {
    if threshold_bytes == 0 {
        return Ok(());
    }
    let size = store.size()?;
    if size.allocated_bytes.saturating_sub(size.in_use_bytes) < threshold_bytes {
        tracing::info!(
            "current-db-size-bytes" = size.allocated_bytes,
            "current-db-size" = %HumanBytes(size.allocated_bytes),
            "current-db-size-in-use-bytes" = size.in_use_bytes,
            "current-db-size-in-use" = %HumanBytes(size.in_use_bytes),
            "bootstrap-defrag-threshold-bytes" = threshold_bytes,
            "bootstrap-defrag-threshold" = %HumanBytes(threshold_bytes),
            "Skipping defragmentation"
        );
        return Ok(());
    }
    let defragmentation = Defragmentation::begin(store);
    while store.defragment_step()? == Defragmented::Partly {}
    defragmentation.end(store);
    Ok(())
}

fn make_directory(disk: &dyn Disk, directory: &Path) -> Result<(), Failure> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        make_directory(disk, parent)?;
    }
    disk.create_dir(directory)
        .map_err(|error| failed(format!("create {}: {error}", directory.display())))
}

fn open_log(
    settings: &Settings,
    disk: Arc<dyn Disk>,
    loaded: &Loaded,
) -> Result<(Wal, Recovered, WalSnapshot), Failure> {
    let dir = &settings.wal_dir;
    let options = wal::Options {
        sync: !settings.unsafe_no_fsync,
        ..wal::Options::default()
    };
    if !wal::exists(&*disk, dir).unwrap_or(false) {
        if loaded.applied_index > 0 {
            return Err(failed(format!(
                "the log directory {} is missing or empty, but entry {} was applied: restore the \
                 log files, or restore the member from a snapshot",
                dir.display(),
                loaded.applied_index
            )));
        }
        if let Some(parent) = dir.parent() {
            make_directory(&*disk, parent)?;
        }
        let metadata = new_metadata(settings)?;
        let wal = Wal::create(disk, dir, metadata, options).map_err(failed)?;
        let recovered = Recovered {
            metadata,
            ..Recovered::default()
        };
        return Ok((wal, recovered, WalSnapshot::default()));
    }
    let newest = wal::newest_snapshot(&*disk, dir, loaded.applied_index).map_err(failed)?;
    let at = newest.ok_or_else(|| {
        failed(format!(
            "the log in {} begins behind entry {}, the last one applied: log files are missing",
            dir.display(),
            loaded.applied_index
        ))
    })?;
    let (wal, recovered) = Wal::open(disk, dir, &at, options).map_err(failed)?;
    if let Some(repair) = &recovered.repair {
        tracing::warn!(repair = ?repair, "repaired the torn end of the write-ahead log");
    }
    Ok((wal, recovered, at))
}

fn new_metadata(settings: &Settings) -> Result<Metadata, Failure> {
    let own = settings
        .initial_members
        .iter()
        .find(|member| member.name == settings.name);
    let own = own.ok_or_else(|| {
        failed(format!(
            "couldn't find local name \"{}\" in the initial cluster configuration",
            settings.name
        ))
    })?;
    let ids = settings
        .initial_members
        .iter()
        .map(|member| MemberId(member.id));
    Ok(Metadata {
        node_id: MemberId(own.id),
        cluster_id: cluster_id(ids),
    })
}

/// Writes the entries every founding member begins with: one for each member, by id, already committed.
fn found_cluster(wal: &mut Wal, members: &[Member]) -> Result<(HardState, Vec<Entry>), Failure> {
    let mut members = members.to_vec();
    members.sort_by_key(|member| member.id);
    let entries: Vec<Entry> = members
        .iter()
        .zip(1..)
        .map(|(member, index)| {
            // Name and client URLs come later, when the member publishes itself.
            let founding = Member {
                id: member.id,
                peer_urls: member.peer_urls.clone(),
                ..Member::default()
            };
            Entry {
                entry_type: EntryType::EntryConfChange as i32,
                term: FOUNDING_TERM,
                index,
                data: ConfigurationChange::bootstrap_entry(&founding),
                ..Entry::default()
            }
        })
        .collect();
    let hard_state = HardState {
        term: FOUNDING_TERM,
        vote: 0,
        commit: entries.len() as u64,
    };
    wal.append(Some(&hard_state), &entries).map_err(failed)?;
    wal.sync().map_err(failed)?;
    Ok((hard_state, entries))
}

type Restarted = (Machine, Arc<Values>, Option<(i64, i64)>);

fn restore_machine(
    settings: &Settings,
    store: &Store,
    loaded: &Loaded,
    conf_state: ConfState,
    member_id: MemberId,
) -> Result<Restarted, Failure> {
    let reader = store.reader();
    let values = Values::new(
        Some(Arc::new(reader.clone())),
        loaded.current_revision(),
        settings.value_cache_bytes_max,
    );
    let finished = loaded.finished_compact;
    let scheduled = loaded.scheduled_compact.max(finished);
    let mut leases = Table::new(settings.lease_ttl_seconds_min());
    let mut alarms = Alarms::default();
    let mut membership = Membership::default();
    for row in &loaded.buckets {
        let known = match row.bucket {
            Bucket::Lease => leases.restore(&row.value).map(|_| ()),
            Bucket::Alarm => alarms.restore(&row.key),
            bucket => membership.restore(bucket, &row.key, &row.value),
        };
        if known.is_none() {
            return Err(failed(format!(
                "state.redb: row {:?} of bucket {} cannot be read",
                row.key,
                row.bucket.name()
            )));
        }
    }
    let mut loader = Loader::default();
    // Which lease a key hangs on is what its last row says.
    let mut leased: HashMap<Bytes, i64> = HashMap::new();
    reader
        .scan_rows(&mut |row| {
            if row.lease != 0 {
                leased.insert(Bytes::copy_from_slice(row.key), row.lease);
            } else if !leased.is_empty() {
                leased.remove(row.key);
            }
            loader.push(row);
        })
        .map_err(failed)?;
    for (key, lease) in &leased {
        leases.attach(LeaseId(*lease), key);
    }
    let marks = CompactMarks {
        scheduled,
        finished,
    };
    let mvcc = loader.finish(marks, values.clone()).map_err(failed)?;
    let machine = Machine::new(
        machine::Config {
            member_id,
            learners_max: settings.learners_max,
            quota_bytes: settings.quota_bytes,
            lease_ttl_seconds_min: settings.lease_ttl_seconds_min(),
        },
        mvcc,
        leases,
        alarms,
        membership,
        (loaded.applied_index, loaded.applied_term),
        conf_state,
    );
    let unfinished = (scheduled > finished).then_some(scheduled).flatten();
    Ok((
        machine,
        values,
        unfinished.map(|revision| (revision, finished.unwrap_or(-1))),
    ))
}
