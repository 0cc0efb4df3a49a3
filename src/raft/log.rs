//! The raft log's recent part in memory: what `raft` reads.
//!
//! Holds the entries `(snapshot_index, last]`. Every entry enters here in the same call that hands it
//! out as a [`Write`](super::Write), so that the core may read what is still on its way to the disk. The
//! disk itself is never read: an entry that has left the window reaches a lagging member as part of a
//! snapshot.
//!
//! Invariant: the window has every entry above the applied index, because `raft` reads those for
//! applying and before campaigning; [`Log::compact`]'s caller sees to it.
//!
//! `raft` asks for a snapshot through a shared reference and expects an answer at once. The answer is
//! "not yet", and the wish is noted for the driver; a body that the driver offers is handed out once.

use std::cell::RefCell;
use std::collections::VecDeque;

use ::raft::{Error, GetEntriesContext, RaftState, StorageError};
use prost::Message as _;
use raft_proto::eraftpb::{ConfState, Entry, HardState, Snapshot};

/// Memory of an entry besides its payload, bytes.
const ENTRY_OVERHEAD_BYTES: u64 = 128;

/// See the module's head.
pub(super) struct Log {
    /// Read once, when `raft` starts.
    initial: (HardState, ConfState),
    snapshot_index: u64,
    snapshot_term: u64,
    entries: VecDeque<Entry>,
    bytes: u64,
    snapshots: RefCell<Snapshots>,
}

/// Snapshot traffic between `raft`'s shared reference and the driver.
#[derive(Default)]
struct Snapshots {
    wanted: Vec<u64>,
    offered: Option<(u64, Snapshot)>,
}

impl Log {
    /// A window over `entries`, which follow `snapshot` (index and term) without a gap.
    pub(super) fn new(
        initial: (HardState, ConfState),
        snapshot: (u64, u64),
        entries: Vec<Entry>,
    ) -> Self {
        let bytes = entries.iter().map(entry_bytes).sum();
        Self {
            initial,
            snapshot_index: snapshot.0,
            snapshot_term: snapshot.1,
            entries: entries.into(),
            bytes,
            snapshots: RefCell::default(),
        }
    }

    pub(super) fn first_index(&self) -> u64 {
        self.snapshot_index + 1
    }

    pub(super) fn last_index(&self) -> u64 {
        self.snapshot_index + self.entries.len() as u64
    }

    /// Term of an entry in the window or of the one just before it.
    pub(super) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.snapshot_index {
            return Some(self.snapshot_term);
        }
        let offset = index.checked_sub(self.first_index())?;
        self.entries
            .get(usize::try_from(offset).ok()?)
            .map(|entry| entry.term)
    }

    /// Appends, replacing what the window holds from the first entry's index on.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index > self.snapshot_index && first.index <= self.last_index() + 1,
            "entry {} does not follow the log window {}..={}",
            first.index,
            self.first_index(),
            self.last_index(),
        );
        while self.last_index() >= first.index {
            self.bytes -= self.entries.pop_back().as_ref().map_or(0, entry_bytes);
        }
        self.bytes += entries.iter().map(entry_bytes).sum::<u64>();
        self.entries.extend(entries.iter().cloned());
    }

    /// Empties the window behind a received snapshot.
    pub(super) fn restore(&mut self, index: u64, term: u64) {
        self.entries.clear();
        self.bytes = 0;
        self.snapshot_index = index;
        self.snapshot_term = term;
    }

    /// Forgets entries up to and including `index`, which must be applied.
    pub(super) fn compact(&mut self, index: u64) {
        while self.snapshot_index < index {
            let Some(entry) = self.entries.pop_front() else {
                return;
            };
            self.bytes -= entry_bytes(&entry);
            self.snapshot_index = entry.index;
            self.snapshot_term = entry.term;
        }
    }

    /// Forgets the oldest applied entries while the window is larger than `bytes_max`.
    pub(super) fn trim(&mut self, bytes_max: u64, applied: u64) {
        while self.bytes > bytes_max && self.snapshot_index < applied {
            self.compact(self.snapshot_index + 1);
        }
    }

    /// Members whose snapshot `raft` asked for since the last call.
    pub(super) fn take_wanted(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.snapshots.get_mut().wanted)
    }

    /// Whether a snapshot was asked for since the last [`Log::take_wanted`].
    pub(super) fn has_wanted(&self) -> bool {
        !self.snapshots.borrow().wanted.is_empty()
    }

    /// Lays a snapshot out for member `to`.
    pub(super) fn offer(&mut self, to: u64, snapshot: Snapshot) {
        self.snapshots.get_mut().offered = Some((to, snapshot));
    }

    /// Takes the offer back; true if `raft` had taken it.
    pub(super) fn withdraw(&mut self) -> bool {
        self.snapshots.get_mut().offered.take().is_none()
    }
}

fn entry_bytes(entry: &Entry) -> u64 {
    entry.data.len() as u64 + ENTRY_OVERHEAD_BYTES
}

impl ::raft::Storage for Log {
    fn initial_state(&self) -> ::raft::Result<RaftState> {
        Ok(RaftState::new(
            self.initial.0.clone(),
            self.initial.1.clone(),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> ::raft::Result<Vec<Entry>> {
        if low < self.first_index() {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last_index() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let start = (low - self.first_index()) as usize;
        let end = (high - self.first_index()) as usize;
        let max_size = max_size.into().unwrap_or(u64::MAX);
        let mut size = 0;
        let fits = |entry: &&Entry| {
            // As `raft` counts: the first entry always fits.
            let is_first = size == 0;
            size += entry.encoded_len() as u64;
            is_first || size <= max_size
        };
        Ok(self
            .entries
            .range(start..end)
            .take_while(fits)
            .cloned()
            .collect())
    }

    fn term(&self, index: u64) -> ::raft::Result<u64> {
        self.term_at(index)
            .ok_or(Error::Store(if index < self.snapshot_index {
                StorageError::Compacted
            } else {
                StorageError::Unavailable
            }))
    }

    fn first_index(&self) -> ::raft::Result<u64> {
        Ok(Log::first_index(self))
    }

    fn last_index(&self) -> ::raft::Result<u64> {
        Ok(Log::last_index(self))
    }

    fn snapshot(&self, request_index: u64, to: u64) -> ::raft::Result<Snapshot> {
        let mut snapshots = self.snapshots.borrow_mut();
        match snapshots.offered.take() {
            Some((member, snapshot))
                if member == to && snapshot.get_metadata().index >= request_index =>
            {
                Ok(snapshot)
            }
            offered => {
                snapshots.offered = offered;
                if !snapshots.wanted.contains(&to) {
                    snapshots.wanted.push(to);
                }
                Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ::raft::Storage as _;

    use super::*;

    fn entry(index: u64, term: u64, bytes: usize) -> Entry {
        Entry {
            index,
            term,
            data: vec![b'x'; bytes].into(),
            ..Entry::default()
        }
    }

    fn log() -> Log {
        Log::new(
            Default::default(),
            (4, 1),
            vec![entry(5, 1, 10), entry(6, 2, 10)],
        )
    }

    fn read(log: &Log, low: u64, high: u64, max: impl Into<Option<u64>>) -> Vec<u64> {
        let entries = log.entries(low, high, max, GetEntriesContext::empty(false));
        entries
            .expect("in the window")
            .iter()
            .map(|entry| entry.index)
            .collect()
    }

    #[test]
    fn append_replaces_the_tail() {
        let mut log = log();
        log.append(&[entry(6, 3, 1), entry(7, 3, 1)]);
        assert_eq!((log.first_index(), log.last_index()), (5, 7));
        assert_eq!(log.term_at(6), Some(3));
        assert_eq!(log.bytes, 10 + 1 + 1 + 3 * ENTRY_OVERHEAD_BYTES);
        assert_eq!(read(&log, 5, 8, None), [5, 6, 7]);
    }

    #[test]
    #[should_panic(expected = "does not follow")]
    fn append_refuses_a_gap() {
        log().append(&[entry(8, 3, 1)]);
    }

    #[test]
    fn sizes_limit_reads_but_the_first_entry_always_fits() {
        let mut log = log();
        log.append(&[entry(7, 2, 10)]);
        let size = entry(5, 1, 10).encoded_len() as u64;
        assert_eq!(read(&log, 5, 8, 0), [5]);
        assert_eq!(read(&log, 5, 8, 2 * size), [5, 6]);
        assert_eq!(read(&log, 5, 8, 2 * size - 1), [5]);
    }

    #[test]
    fn compaction_keeps_the_last_term() {
        let mut log = log();
        log.compact(5);
        assert_eq!(
            (log.first_index(), log.term_at(5), log.term_at(4)),
            (6, Some(1), None)
        );
        assert!(matches!(
            log.term(4),
            Err(Error::Store(StorageError::Compacted))
        ));
        assert!(matches!(
            log.term(9),
            Err(Error::Store(StorageError::Unavailable))
        ));
        assert!(
            log.entries(5, 7, None, GetEntriesContext::empty(false))
                .is_err()
        );
        log.compact(100);
        assert_eq!((log.first_index(), log.last_index(), log.bytes), (7, 6, 0));
    }

    #[test]
    fn trimming_stops_at_the_applied_index() {
        let mut log = log();
        log.append(&[entry(7, 2, 10), entry(8, 2, 10)]);
        log.trim(0, 6);
        assert_eq!(log.first_index(), 7);
        log.trim(u64::MAX, 8);
        assert_eq!(log.first_index(), 7);
    }

    #[test]
    fn a_snapshot_is_wished_for_once_and_handed_out_once() {
        let mut log = log();
        assert!(log.snapshot(0, 3).is_err());
        assert!(log.snapshot(0, 3).is_err());
        assert!(log.has_wanted());
        assert_eq!(log.take_wanted(), [3]);
        let mut snapshot = Snapshot::default();
        snapshot.mut_metadata().index = 5;
        log.offer(3, snapshot);
        assert!(log.snapshot(0, 2).is_err(), "offered to another");
        assert_eq!(log.snapshot(0, 3).expect("offered").get_metadata().index, 5);
        assert!(log.withdraw(), "taken");
        log.offer(3, Snapshot::default());
        assert!(!log.withdraw(), "not taken");
    }
}
