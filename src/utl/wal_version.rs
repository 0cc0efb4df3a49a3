//! The oldest etcd that understands what the log of a member still has to say.

use prost::Message;
use std::path::Path;

use super::migrate::Version;
use crate::disk::RealDisk;
use crate::pb::etcdserverpb::InternalRaftRequest;
use crate::pb::raftpb::{Entry, EntryType};
use crate::wal;

/// Reads the entries behind the last snapshot, and answers with the version they need.
pub(super) fn of_log(dir: &Path) -> Result<Option<Version>, String> {
    let snapshots = wal::valid_snapshots(&RealDisk, dir)
        .map_err(|error| format!("failed to get the lastest snapshot: {error}"))?;
    let last = snapshots
        .into_iter()
        .max_by_key(|mark| mark.index)
        .unwrap_or_default();
    let log =
        wal::read(&RealDisk, dir, &last).map_err(|error| format!("failed to read wal: {error}"))?;
    Ok(of_entries(&log.entries))
}

/// Of all that etcd writes to its log, one request only came after 3.5: the one that tests of downgrades make.
fn of_entries(entries: &[Entry]) -> Option<Version> {
    let version = |entry: &Entry| match EntryType::try_from(entry.entry_type) {
        Ok(EntryType::EntryNormal) => of_request(&entry.data),
        Ok(EntryType::EntryConfChangeV2) => Some(Version {
            major: 3,
            minor: 4,
            patch: 0,
        }),
        _ => Some(Version {
            major: 3,
            minor: 0,
            patch: 0,
        }),
    };
    entries.iter().filter_map(version).max()
}

fn of_request(data: &[u8]) -> Option<Version> {
    let request = InternalRaftRequest::decode(data).ok()?;
    let test = request.downgrade_version_test?;
    let least = Version {
        major: 3,
        minor: 6,
        patch: 0,
    };
    Some(Version::parse(&test.ver).map_or(least, |version| version.max(least)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::etcdserverpb::DowngradeVersionTestRequest;

    #[test]
    fn a_log_needs_what_its_newest_entry_needs() {
        let entry = |request: InternalRaftRequest| Entry {
            data: request.encode_to_vec().into(),
            ..Entry::default()
        };
        let plain = entry(InternalRaftRequest::default());
        assert_eq!(of_entries(std::slice::from_ref(&plain)), None);
        let test = DowngradeVersionTestRequest {
            ver: "3.7.0".to_owned(),
        };
        let newer = entry(InternalRaftRequest {
            downgrade_version_test: Some(test.into()),
            ..InternalRaftRequest::default()
        });
        let founding = Entry {
            entry_type: EntryType::EntryConfChange as i32,
            ..Entry::default()
        };
        let version = of_entries(&[newer, founding, plain]);
        assert_eq!(
            version.map(|version| version.to_string()),
            Some("3.7.0".to_owned())
        );
    }
}
