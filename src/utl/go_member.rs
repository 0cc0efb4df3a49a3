//! A member directory for etcd in Go: its database, and the snapshot file its raft starts from.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bytes::Bytes;
use prost::Message;
use serde_json::{Value, json};

use crate::bbolt::File;
use crate::pb::raftpb;
use crate::store::{Bucket, BucketWrite};

use super::bootstrap::Founding;
use super::edited::{Edited, sync_parent, write_file};
use super::member::{Raised, TERM};

/// The time that etcd's oldest store keeps for "never".
const NEVER: &str = "0001-01-01T00:00:00Z";

/// A snapshot file: the checksum of the snapshot in it.
#[derive(Clone, PartialEq, Message)]
struct Checked {
    #[prost(uint32, tag = "1")]
    crc: u32,
    #[prost(bytes = "bytes", tag = "2")]
    data: Bytes,
}

/// Writes `db` and the snapshot file into an existing directory.
pub(super) fn write(
    file: &File,
    founding: &Founding,
    raised: Option<Raised>,
    snap_dir: &Path,
) -> Result<(), String> {
    let edited = edited(file, founding, raised)?;
    write_file(&edited, &snap_dir.join("db"))?;
    write_snapshot_file(founding, snap_dir)
}

fn edited<'a>(
    file: &'a File,
    founding: &Founding,
    raised: Option<Raised>,
) -> Result<Edited<'a>, String> {
    let mut edited = Edited::new(file).map_err(|error| error.to_string())?;
    edited.empty(Bucket::Members);
    edited.empty(Bucket::MembersRemoved);
    for row in founding.rows().map_err(|error| error.to_string())? {
        edited.write(row);
    }
    let meta = |key: &'static str, value: Vec<u8>| BucketWrite {
        bucket: Bucket::Meta,
        key: Bytes::from_static(key.as_bytes()),
        value: Some(value.into()),
    };
    let voters: Vec<_> = founding.members.iter().map(|member| member.id).collect();
    let conf_state = json!({ "voters": voters, "auto_leave": false });
    edited.write(meta(
        "consistent_index",
        founding.index().to_be_bytes().to_vec(),
    ));
    edited.write(meta("term", TERM.to_be_bytes().to_vec()));
    edited.write(meta("confState", conf_state.to_string().into_bytes()));
    if let Some(raised) = raised {
        edited.write_revision(&raised.revision.to_key(), &[]);
        edited.write(raised.mark());
    }
    Ok(edited)
}

fn write_snapshot_file(founding: &Founding, snap_dir: &Path) -> Result<(), String> {
    let metadata = raftpb::SnapshotMetadata {
        conf_state: Some(founding.conf_state()),
        index: founding.index(),
        term: TERM,
    };
    let snapshot = raftpb::Snapshot {
        data: members_as_tree(founding).to_string().into(),
        metadata: Some(metadata),
    };
    let data = Bytes::from(snapshot.encode_to_vec());
    let content = Checked {
        crc: crc32c::crc32c(&data),
        data,
    }
    .encode_to_vec();
    let path = snap_dir.join(format!("{TERM:016x}-{:016x}.snap", founding.index()));
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let write = || {
        let mut file = options.open(&path)?;
        file.write_all(&content)?;
        file.sync_all()?;
        sync_parent(&path)
    };
    write().map_err(|error| format!("write {}: {error}", path.display()))
}

/// The members in the tree of etcd's oldest store, which snapshot files still carry.
fn members_as_tree(founding: &Founding) -> Value {
    let node = |path: &str, value: &str, children: Value, index: u64| {
        json!({
            "Path": path,
            "CreatedIndex": index,
            "ModifiedIndex": index,
            "ExpireTime": NEVER,
            "Value": value,
            "Children": children,
        })
    };
    let mut members = serde_json::Map::new();
    for (index, member) in (1..).zip(&founding.members) {
        let id = format!("{:x}", member.id);
        let path = format!("/0/members/{id}");
        let urls = json!({ "peerURLs": member.peer_urls }).to_string();
        let attributes = node(&format!("{path}/raftAttributes"), &urls, Value::Null, index);
        members.insert(
            id,
            node(&path, "", json!({ "raftAttributes": attributes }), index),
        );
    }
    let members = node("/0/members", "", members.into(), 1);
    let root = json!({
        "0": node("/0", "", json!({ "members": members }), 0),
        "1": node("/1", "", json!({}), 0),
    });
    json!({
        "Root": node("/", "", root, 0),
        "CurrentIndex": founding.index(),
        "CurrentVersion": 2,
    })
}
