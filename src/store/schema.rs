//! Every table of the database, and how its rows are encoded.
//!
//! `rows` and `records` both grow at their right edge, in revision order. No key may ever sort above the
//! revisions: redb packs pages full only while inserts go to the very end, and halves them otherwise.
//!
//! `records` holds what `etcd` keeps as the value in its `key` bucket; `rows` holds what a restart needs of it, so
//! that a restart reads no values.

use bytes::Bytes;
use redb::TableDefinition;
use serde::{Deserialize, Serialize};

use super::change::{Bucket, RevisionRow};
use crate::pb::raftpb::ConfState;
use crate::types::Revision;

/// Format of everything below. A program opens no other.
pub(super) const FORMAT: u64 = 1;

/// Revision → [`encode_row`].
pub(super) const ROWS: TableDefinition<'static, RevisionKey, &[u8]> = TableDefinition::new("rows");
/// Revision → [`encode_record`].
pub(super) const RECORDS: TableDefinition<'static, RevisionKey, &[u8]> =
    TableDefinition::new("records");
/// Bucket number and key → value.
pub(super) const BUCKETS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("buckets");
/// Numbers about the database itself, by the names below.
pub(super) const ABOUT: TableDefinition<'static, &str, u64> = TableDefinition::new("about");

/// In [`ABOUT`]: the [`FORMAT`] the database was written in.
pub(super) const ABOUT_FORMAT: &str = "format";
/// In [`ABOUT`]: bytes of all keys and values of the other tables.
pub(super) const ABOUT_CONTENT_BYTES: &str = "content_bytes";

/// Main and sub revision, both big-endian.
pub(super) type RevisionKey = [u8; REVISION_KEY_BYTES];
/// Size of a [`RevisionKey`].
pub(super) const REVISION_KEY_BYTES: usize = 16;

/// Key in [`Bucket::Meta`]: index of the last applied entry, eight bytes big-endian.
pub(super) const META_INDEX: &[u8] = b"consistent_index";
/// Key in [`Bucket::Meta`]: its term, eight bytes big-endian.
pub(super) const META_TERM: &[u8] = b"term";
/// Key in [`Bucket::Meta`]: the configuration after it, JSON.
pub(super) const META_CONF_STATE: &[u8] = b"confState";
/// Key in [`Bucket::Meta`]: the version of etcd's schema.
pub(super) const META_STORAGE_VERSION: &[u8] = b"storageVersion";
/// Key in [`Bucket::Meta`]: the revision that compaction was last asked for.
pub(super) const META_SCHEDULED_COMPACT: &[u8] = b"scheduledCompactRev";
/// Key in [`Bucket::Meta`]: the revision up to which compaction is complete.
pub(super) const META_FINISHED_COMPACT: &[u8] = b"finishedCompactRev";

/// First byte of an encoded row. A record size and the key follow a tombstone's, and all numbers a put's.
const ROW_PUT: u8 = 0;
const ROW_TOMBSTONE: u8 = 1;
/// A put with a lease, whose id is eight bytes little-endian: ids are random, a varint would be longer.
const ROW_PUT_LEASED: u8 = 2;

pub(super) fn revision_key(revision: Revision) -> RevisionKey {
    let mut key = [0; REVISION_KEY_BYTES];
    key[..8].copy_from_slice(&revision.main.to_be_bytes());
    key[8..].copy_from_slice(&revision.sub.to_be_bytes());
    key
}

pub(super) fn revision_of(key: &RevisionKey) -> Revision {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *key;
    Revision::new(
        i64::from_be_bytes([a, b, c, d, e, f, g, h]),
        i64::from_be_bytes([i, j, k, l, m, n, o, p]),
    )
}

/// A row as it is stored, its key borrowed from the page it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRef<'a> {
    /// Its place in history.
    pub revision: Revision,
    /// Whether the key was deleted here. The three numbers below are then 0.
    pub tombstone: bool,
    /// The key. Empty in the one row that marks a revision and nothing else, as a restore with a raised revision
    /// leaves it.
    pub key: &'a [u8],
    /// Main revision of the first put of the generation.
    pub create_revision: i64,
    /// Puts in the generation up to here, from 1.
    pub version: i64,
    /// The lease the key hangs on, 0 for none.
    pub lease: i64,
    /// Size of the record.
    pub record_bytes: u32,
}

impl RowRef<'_> {
    /// The row with a key of its own.
    pub fn to_row(self) -> RevisionRow {
        RevisionRow {
            revision: self.revision,
            tombstone: self.tombstone,
            key: Bytes::copy_from_slice(self.key),
            create_revision: self.create_revision,
            version: self.version,
            lease: self.lease,
            record_bytes: self.record_bytes,
        }
    }
}

impl<'a> From<&'a RevisionRow> for RowRef<'a> {
    fn from(row: &'a RevisionRow) -> Self {
        Self {
            revision: row.revision,
            tombstone: row.tombstone,
            key: &row.key,
            create_revision: row.create_revision,
            version: row.version,
            lease: row.lease,
            record_bytes: row.record_bytes,
        }
    }
}

/// Appends the stored form of a row to `out`.
pub(super) fn encode_row(row: &RevisionRow, record_bytes: usize, out: &mut Vec<u8>) {
    out.push(match row {
        RevisionRow {
            tombstone: true, ..
        } => ROW_TOMBSTONE,
        RevisionRow { lease: 0, .. } => ROW_PUT,
        _ => ROW_PUT_LEASED,
    });
    put_varint(record_bytes as u64, out);
    if !row.tombstone {
        // How long ago the generation began is a small number where the revision is a large one.
        put_varint(
            row.revision.main.wrapping_sub(row.create_revision) as u64,
            out,
        );
        put_varint(row.version as u64, out);
        if row.lease != 0 {
            out.extend_from_slice(&row.lease.to_le_bytes());
        }
    }
    out.extend_from_slice(&row.key);
}

/// Reads what [`encode_row`] wrote; `None` for anything else.
pub(super) fn decode_row(revision: Revision, stored: &[u8]) -> Option<RowRef<'_>> {
    let (&kind, mut rest) = stored.split_first()?;
    let mut row = RowRef {
        revision,
        tombstone: kind == ROW_TOMBSTONE,
        key: &[],
        create_revision: 0,
        version: 0,
        lease: 0,
        record_bytes: u32::try_from(take_varint(&mut rest)?).ok()?,
    };
    if kind > ROW_PUT_LEASED {
        return None;
    }
    if !row.tombstone {
        row.create_revision = revision.main.wrapping_sub(take_varint(&mut rest)? as i64);
        row.version = take_varint(&mut rest)? as i64;
    }
    if kind == ROW_PUT_LEASED {
        let (lease, after) = rest.split_first_chunk()?;
        row.lease = i64::from_le_bytes(*lease);
        rest = after;
    }
    row.key = rest;
    Some(row)
}

/// Appends the stored form of a record to `out`: its checksum, then itself.
pub(super) fn encode_record(key: &RevisionKey, record: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&record_crc(key, record).to_le_bytes());
    out.extend_from_slice(record);
}

/// Reads what [`encode_record`] wrote; `None` when it is not that.
pub(super) fn decode_record<'a>(key: &RevisionKey, stored: &'a [u8]) -> Option<&'a [u8]> {
    let (crc, record) = stored.split_first_chunk()?;
    (u32::from_le_bytes(*crc) == record_crc(key, record)).then_some(record)
}

/// CRC32C over revision and record, so that a record in another's place does not pass either.
fn record_crc(key: &RevisionKey, record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), record)
}

/// Number of a bucket in [`BUCKETS`] keys. Numbers never change meaning.
pub(super) fn bucket_number(bucket: Bucket) -> u8 {
    match bucket {
        Bucket::Alarm => 1,
        Bucket::Auth => 2,
        Bucket::AuthRoles => 3,
        Bucket::AuthUsers => 4,
        Bucket::Cluster => 5,
        Bucket::Lease => 6,
        Bucket::Members => 7,
        Bucket::MembersRemoved => 8,
        Bucket::Meta => 9,
    }
}

/// The key of a bucket's row in [`BUCKETS`].
pub(super) fn bucket_key(bucket: Bucket, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(1 + key.len());
    full.push(bucket_number(bucket));
    full.extend_from_slice(key);
    full
}

/// Splits a [`BUCKETS`] key.
pub(super) fn split_bucket_key(full: &[u8]) -> Option<(Bucket, &[u8])> {
    let (&number, key) = full.split_first()?;
    let bucket = Bucket::ALL
        .into_iter()
        .find(|bucket| bucket_number(*bucket) == number)?;
    Some((bucket, key))
}

/// raft's configuration as etcd writes it in its `meta` bucket.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct ConfStateJson {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    voters: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    learners: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    voters_outgoing: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    learners_next: Vec<u64>,
    auto_leave: bool,
}

/// The configuration in etcd's encoding.
pub(super) fn encode_conf_state(state: &ConfState) -> Vec<u8> {
    let json = ConfStateJson {
        voters: state.voters.clone(),
        learners: state.learners.clone(),
        voters_outgoing: state.voters_outgoing.clone(),
        learners_next: state.learners_next.clone(),
        auto_leave: state.auto_leave,
    };
    // Numbers and lists of numbers always have a JSON form.
    serde_json::to_vec(&json).unwrap_or_default()
}

/// Reads etcd's encoding of the configuration.
pub(super) fn decode_conf_state(stored: &[u8]) -> Option<ConfState> {
    let json: ConfStateJson = serde_json::from_slice(stored).ok()?;
    Some(ConfState {
        voters: json.voters,
        learners: json.learners,
        voters_outgoing: json.voters_outgoing,
        learners_next: json.learners_next,
        auto_leave: json.auto_leave,
    })
}

fn put_varint(value: u64, out: &mut Vec<u8>) {
    prost::encoding::encode_varint(value, out);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    prost::encoding::decode_varint(bytes).ok()
}
