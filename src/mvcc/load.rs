//! Loads the index from stored rows at start, without reading a value.

use std::sync::Arc;

use super::MvccError;
use super::build::Builder;
use super::engine::{Mvcc, Pruning};
use super::leaf::Head;
use super::record::stored_bytes;
use crate::store::{RevisionRow, StoreError, Values};
use crate::types::Revision;

/// How far compaction was when the rows were stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactMarks {
    /// The last compaction that was asked for.
    pub scheduled: Option<i64>,
    /// The last compaction whose revisions are all removed.
    pub finished: Option<i64>,
}

impl Mvcc {
    /// The store that `rows` (in order of history) are the history of.
    ///
    /// A compaction that was scheduled and not finished is resumed: [`prune`](Self::prune) is not done then.
    pub fn load(
        rows: impl IntoIterator<Item = Result<RevisionRow, StoreError>>,
        marks: CompactMarks,
        values: Arc<Values>,
    ) -> Result<Self, MvccError> {
        let mut mvcc = Self::new(values);
        let rows = checked(rows)?;
        if let Some(last) = rows.last() {
            mvcc.revision = mvcc.revision.max(last.revision.main);
        }
        let mut builder = Builder::default();
        let mut history: Vec<&RevisionRow> = Vec::new();
        for at in in_key_order(&rows) {
            if history.last().is_some_and(|last| last.key != rows[at].key) {
                mvcc.load_key(&mut builder, &history);
                history.clear();
            }
            history.push(&rows[at]);
        }
        mvcc.load_key(&mut builder, &history);
        mvcc.tree = builder.finish();
        mvcc.load_marks(marks);
        Ok(mvcc)
    }

    fn load_key(&mut self, builder: &mut Builder, history: &[&RevisionRow]) {
        let Some((newest, older)) = history.split_last() else {
            return;
        };
        builder.key(&newest.key, head(newest));
        for row in older.iter().rev() {
            builder.older(row.revision, row.tombstone, row.record_bytes);
        }
        for row in history {
            self.stored_bytes += stored_bytes(row.record_bytes, row.tombstone);
        }
        if !newest.tombstone {
            self.live_bytes += stored_bytes(newest.record_bytes, false);
        }
    }

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

/// The places of the rows, ordered by key and then history.
fn in_key_order(rows: &[RevisionRow]) -> impl Iterator<Item = usize> + use<> {
    // Most comparisons are decided by eight bytes that lie beside the place, not by the keys all over memory.
    let shared_bytes = shared_prefix_bytes(rows);
    let mut places: Vec<(u64, usize)> = rows
        .iter()
        .zip(0..)
        .map(|(row, place)| (eight_bytes(&row.key[shared_bytes..]), place))
        .collect();
    places.sort_unstable_by(|a, b| {
        let keys = || rows[a.1].key.cmp(&rows[b.1].key);
        a.0.cmp(&b.0).then_with(keys).then(a.1.cmp(&b.1))
    });
    places.into_iter().map(|(_, place)| place)
}

/// How many bytes all keys begin with alike.
fn shared_prefix_bytes(rows: &[RevisionRow]) -> usize {
    let Some((first, others)) = rows.split_first() else {
        return 0;
    };
    others.iter().fold(first.key.len(), |shared, row| {
        let pairs = first.key[..shared].iter().zip(&row.key);
        pairs.take_while(|(a, b)| a == b).count()
    })
}

fn eight_bytes(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let count = key.len().min(8);
    bytes[..count].copy_from_slice(&key[..count]);
    u64::from_be_bytes(bytes)
}

fn head(row: &RevisionRow) -> Head {
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
fn with_marker_alive(mut row: RevisionRow) -> RevisionRow {
    if row.key.is_empty() && !row.tombstone && row.version == 0 {
        row.version = 1;
        row.create_revision = row.revision.main;
    }
    row
}

fn checked(
    rows: impl IntoIterator<Item = Result<RevisionRow, StoreError>>,
) -> Result<Vec<RevisionRow>, MvccError> {
    let rows = rows.into_iter();
    let mut checked = Vec::with_capacity(rows.size_hint().0);
    let mut last = Revision::default();
    for row in rows {
        let row = with_marker_alive(row?);
        let broken = |reason| MvccError::Broken {
            revision: row.revision,
            reason,
        };
        if row.revision <= last {
            return Err(broken("it is not above the one before"));
        }
        if u32::try_from(row.revision.sub).is_err() {
            return Err(broken("its sub revision is out of range"));
        }
        if !row.tombstone && row.version < 1 {
            return Err(broken("its version is not positive"));
        }
        last = row.revision;
        checked.push(row);
    }
    Ok(checked)
}
