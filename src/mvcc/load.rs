//! Loads the index from stored rows at start, without reading a value.

use std::sync::Arc;

use super::MvccError;
use super::build::Builder;
use super::engine::{Mvcc, Pruning};
use super::leaf::Head;
use super::record::stored_bytes;
use crate::store::{RowRef, Values};
use crate::types::Revision;

/// How far compaction was when the rows were stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactMarks {
    /// The last compaction that was asked for.
    pub scheduled: Option<i64>,
    /// The last compaction whose revisions are all removed.
    pub finished: Option<i64>,
}

/// Collects the rows of the history, oldest first, and makes the store of them.
///
/// Keys lie in one buffer and rows in one list: a million of them cost no allocation each.
#[derive(Default)]
pub struct Loader {
    keys: Vec<u8>,
    rows: Vec<Collected>,
    last: Revision,
    broken: Option<MvccError>,
}

/// A row, its key in [`Loader::keys`].
struct Collected {
    key_at: usize,
    key_bytes: u32,
    head: Head,
    tombstone: bool,
}

impl Loader {
    /// Adds the next row. What is wrong with it is told by [`Loader::finish`].
    pub fn push(&mut self, row: RowRef<'_>) {
        if self.broken.is_some() {
            return;
        }
        let row = with_marker_alive(row);
        if let Err(reason) = check(&row, self.last) {
            self.broken = Some(MvccError::Broken {
                revision: row.revision,
                reason,
            });
            return;
        }
        self.last = row.revision;
        self.rows.push(Collected {
            key_at: self.keys.len(),
            key_bytes: row.key.len() as u32,
            head: head(&row),
            tombstone: row.tombstone,
        });
        self.keys.extend_from_slice(row.key);
    }

    /// The store that the rows are the history of.
    ///
    /// A compaction that was scheduled and not finished is resumed: [`Mvcc::prune`] is not done then.
    pub fn finish(mut self, marks: CompactMarks, values: Arc<Values>) -> Result<Mvcc, MvccError> {
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        let mut mvcc = Mvcc::new(values);
        mvcc.revision = mvcc.revision.max(self.last.main);
        let mut builder = Builder::default();
        let places = self.in_key_order();
        for places in places.chunk_by(|a, b| self.key(a.row) == self.key(b.row)) {
            self.load_key(&mut mvcc, &mut builder, places);
        }
        mvcc.tree = builder.finish();
        mvcc.load_marks(marks);
        Ok(mvcc)
    }

    fn key(&self, row: u32) -> &[u8] {
        let row = &self.rows[row as usize];
        &self.keys[row.key_at..][..row.key_bytes as usize]
    }

    /// Adds a key whose revisions are at `places`, oldest first.
    fn load_key(&self, mvcc: &mut Mvcc, builder: &mut Builder, places: &[Place]) {
        let Some((newest, older)) = places.split_last() else {
            return;
        };
        let row = |place: &Place| &self.rows[place.row as usize];
        builder.key(self.key(newest.row), row(newest).head);
        for row in older.iter().rev().map(row) {
            builder.older(row.head.revision, row.tombstone, row.head.record_bytes);
        }
        for row in places.iter().map(row) {
            mvcc.stored_bytes += stored_bytes(row.head.record_bytes, row.tombstone);
        }
        let newest = row(newest);
        if !newest.tombstone {
            mvcc.live_bytes += stored_bytes(newest.head.record_bytes, false);
        }
    }

    /// The places of the rows, ordered by key and then history.
    fn in_key_order(&self) -> Vec<Place> {
        // Comparisons are decided by eight bytes that lie in the place, not by the keys all over memory.
        let shared_bytes = self.shared_prefix_bytes();
        let mut places: Vec<Place> = (0..self.rows.len() as u32)
            .map(|row| Place {
                eight_bytes: eight_bytes(&self.key(row)[shared_bytes..]),
                row,
            })
            .collect();
        places.sort_unstable();
        // Keys that differ only after those bytes are still among each other.
        for alike in places.chunk_by_mut(|a, b| a.eight_bytes == b.eight_bytes) {
            let same_key = |pair: &[Place]| self.key(pair[0].row) == self.key(pair[1].row);
            if !alike.windows(2).all(same_key) {
                alike.sort_unstable_by_key(|place| (self.key(place.row), place.row));
            }
        }
        places
    }

    /// How many bytes all keys begin with alike.
    fn shared_prefix_bytes(&self) -> usize {
        let Some((first, others)) = self.rows.split_first() else {
            return 0;
        };
        let first = &self.keys[first.key_at..][..first.key_bytes as usize];
        others.iter().fold(first.len(), |shared, row| {
            let key = &self.keys[row.key_at..][..row.key_bytes as usize];
            if key.starts_with(&first[..shared]) {
                return shared;
            }
            let pairs = first[..shared].iter().zip(key);
            pairs.take_while(|(a, b)| a == b).count()
        })
    }
}

/// Where a row goes in the order of keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Of the key, after what all keys share.
    eight_bytes: u64,
    row: u32,
}

impl Mvcc {
    fn load_marks(&mut self, marks: CompactMarks) {
        let compacted = marks.finished.max(marks.scheduled);
        self.compact_revision = compacted.unwrap_or(self.compact_revision);
        // A compaction of everything may have left no row that tells the revision.
        self.revision = self.revision.max(self.compact_revision);
        if let Some(revision) = marks.scheduled.filter(|_| marks.scheduled > marks.finished) {
            self.pruning = Some(Pruning {
                revision,
                from: Vec::new(),
            });
        }
    }
}

fn eight_bytes(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let count = key.len().min(8);
    bytes[..count].copy_from_slice(&key[..count]);
    u64::from_be_bytes(bytes)
}

fn head(row: &RowRef<'_>) -> Head {
    Head {
        revision: row.revision,
        create_revision: row.create_revision,
        version: if row.tombstone { 0 } else { row.version },
        lease: row.lease,
        record_bytes: row.record_bytes,
    }
}

/// The row that a restore with a raised revision leaves has no content at all. etcd takes it for a put of the empty key, which no
/// request can name, and its hashes count it for as long as that key lives.
fn with_marker_alive(mut row: RowRef<'_>) -> RowRef<'_> {
    if row.key.is_empty() && !row.tombstone && row.version == 0 {
        row.version = 1;
        row.create_revision = row.revision.main;
    }
    row
}

fn check(row: &RowRef<'_>, last: Revision) -> Result<(), &'static str> {
    if row.revision <= last {
        return Err("it is not above the one before");
    }
    if u32::try_from(row.revision.sub).is_err() {
        return Err("its sub revision is out of range");
    }
    if !row.tombstone && row.version < 1 {
        return Err("its version is not positive");
    }
    Ok(())
}
