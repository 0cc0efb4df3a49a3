//! HashKV: a number that members with the same history share.
//!
//! It is CRC-32C over the word `key` and then, in order of history, each revision's database key and record,
//! as etcd computes it over its `key` bucket. Revisions that a compaction removes must not count, whether
//! they are gone already or not: at or below the compact revision only those count that are still the
//! newest of a live key.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::MvccError;
use super::range::{KeyRange, RangeEnd};
use super::record::tombstone;
use super::view::View;
use crate::store::RevisionRow;

/// Rows read at a time.
const ROWS: usize = 1024;
/// Hashes of compactions that are remembered.
const COMPACTION_HASHES_MAX: usize = 10;

/// A hash and what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// The hash.
    pub hash: u32,
    /// The compact revision it was taken with, -1 for none.
    pub compact_revision: i64,
    /// The revision it goes up to.
    pub revision: i64,
}

impl View {
    /// The hash of everything up to `revision`, 0 for all. Reads every record: call it where blocking is allowed.
    ///
    /// Fails with [`MvccError::Stale`] when compaction removed something meanwhile; repeat it with a new view.
    pub fn hash_kv(&self, revision: i64) -> Result<KvHash, MvccError> {
        match revision {
            at if at > self.revision => Err(MvccError::FutureRevision),
            at if at > 0 && at < self.compact_revision => Err(MvccError::Compacted),
            0 => self.hash(self.compact_revision, self.revision),
            at => self.hash(self.compact_revision, at),
        }
    }

    /// The hash that belongs to a compaction at `revision`: of everything up to there as the compaction before it,
    /// at `previous`, left it. No [`prune`](super::Mvcc::prune) may have come between, nor come before the hash is
    /// done; [`MvccError::Stale`] if one did.
    pub fn hash_compaction(&self, previous: i64, revision: i64) -> Result<KvHash, MvccError> {
        self.hash(previous, revision)
    }

    fn hash(&self, compact_revision: i64, revision: i64) -> Result<KvHash, MvccError> {
        // When no key is alive, etcd counts what the compaction left.
        let state = match self.any_alive(revision) {
            true => revision,
            false => compact_revision,
        };
        let counts = |row: &RevisionRow| {
            row.revision.main > compact_revision || !row.tombstone && self.is_newest(row, state)
        };
        let mut hash = crc32c::crc32c(b"key");
        let mut from = 0;
        while from <= revision {
            let mut rows = self.values.rows(from, revision + 1, ROWS)?;
            let Some(last) = rows.last() else {
                break;
            };
            from = last.revision.main + 1;
            rows.retain(counts);
            hash = self.append(hash, &rows)?;
        }
        if self.values.pruned_revision() > compact_revision {
            return Err(MvccError::Stale);
        }
        Ok(KvHash {
            hash,
            compact_revision,
            revision,
        })
    }

    fn any_alive(&self, revision: i64) -> bool {
        let everything = KeyRange {
            start: &[],
            end: RangeEnd::Unbounded,
        };
        let walk = self
            .tree
            .walk(&everything, revision, 0, |_| ControlFlow::Break(()));
        walk.is_break()
    }

    fn is_newest(&self, row: &RevisionRow, revision: i64) -> bool {
        let newest = self.tree.get(&row.key, revision);
        newest.is_some_and(|newest| newest.revision == row.revision)
    }

    fn append(&self, mut hash: u32, rows: &[RevisionRow]) -> Result<u32, MvccError> {
        let puts = rows.iter().filter(|row| !row.tombstone);
        let revisions: Vec<_> = puts.map(|row| row.revision).collect();
        let mut records = self.values.records(&revisions, false)?.into_iter();
        for row in rows {
            hash = crc32c::crc32c_append(hash, &row.revision.to_key());
            let record: Bytes = if row.tombstone {
                hash = crc32c::crc32c_append(hash, b"t");
                tombstone(&row.key)
            } else {
                records.next().flatten().ok_or(MvccError::Stale)?
            };
            hash = crc32c::crc32c_append(hash, &record);
        }
        Ok(hash)
    }
}

/// The hashes of the newest compactions. HashKV at one of their revisions is answered from here, and members
/// compare them with each other.
#[derive(Clone, Debug, Default)]
pub struct CompactionHashes(VecDeque<KvHash>);

impl CompactionHashes {
    /// Adds the hash of the newest compaction.
    pub fn push(&mut self, hash: KvHash) {
        self.0.push_back(hash);
        if self.0.len() > COMPACTION_HASHES_MAX {
            self.0.pop_front();
        }
    }

    /// The hash taken for a compaction at `revision`.
    pub fn at(&self, revision: i64) -> Option<KvHash> {
        self.0
            .iter()
            .copied()
            .find(|hash| hash.revision == revision)
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = KvHash> + '_ {
        self.0.iter().copied()
    }
}
