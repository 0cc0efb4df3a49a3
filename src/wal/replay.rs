//! Reading a log: what its records add up to.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::decoder::{Decoder, Ending};
use super::error::{WalError, io_error};
use super::record::{self, Kind, Record};
use super::repair::Repair;
use super::segment::{self, Name};
use super::source::Source;
use super::{Metadata, WalSnapshot};
use crate::disk::{Access, Disk, DiskFile};
use crate::pb::raftpb::{Entry, HardState};

/// What a log holds behind a snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    /// Whose log it is.
    pub metadata: Metadata,
    /// The last one written; all zero when none was.
    pub hard_state: HardState,
    /// The entries behind the snapshot, without gaps; some at the end may not be committed.
    pub entries: Vec<Entry>,
    /// Every snapshot mark in the segments read, in the order written.
    pub snapshots: Vec<WalSnapshot>,
    /// What had to be repaired.
    pub repair: Option<Repair>,
}

/// What one segment holds; see [`decode_segment`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// Its records.
    pub recovered: Recovered,
    /// Behind the last record, in bytes.
    pub end: u64,
    /// Whether a record that was never wholly written follows.
    pub torn: bool,
}

/// Whether a directory holds a log.
pub fn exists(disk: &dyn Disk, dir: &Path) -> Result<bool, WalError> {
    Ok(!segment::list(disk, dir)?.is_empty())
}

/// Reads a log without locking or changing it, up to where it cannot be read because it is being written.
pub fn read(disk: &dyn Disk, dir: &Path, at: &WalSnapshot) -> Result<Recovered, WalError> {
    let names = segment::needed(dir, &segment::list(disk, dir)?, at.index)?;
    let segments = open_all(disk, dir, &names, Access::Read)?;
    let (replay, _) = Replay::run(dir, &segments, Keep::Behind(at.index))?;
    replay.finish(dir, at)
}

/// The snapshot marks a member can start from: those not beyond the last commit index written.
pub fn valid_snapshots(disk: &dyn Disk, dir: &Path) -> Result<Vec<WalSnapshot>, WalError> {
    let names = segment::list(disk, dir)?;
    if names.is_empty() {
        return Err(WalError::NotFound {
            dir: dir.to_owned(),
        });
    }
    let segments = open_all(disk, dir, segment::contiguous(&names), Access::Read)?;
    let (mut replay, _) = Replay::run(dir, &segments, Keep::Nothing)?;
    replay
        .snapshots
        .retain(|snapshot| snapshot.index <= replay.hard_state.commit);
    Ok(replay.snapshots)
}

/// The newest snapshot mark up to `index` that a member can start from. Segments are read from the end only until
/// they tell it.
pub fn newest_snapshot(
    disk: &dyn Disk,
    dir: &Path,
    index: u64,
) -> Result<Option<WalSnapshot>, WalError> {
    let names = segment::list(disk, dir)?;
    let names = segment::contiguous(&names);
    let mut count = 1;
    loop {
        let last = &names[names.len().saturating_sub(count)..];
        let segments = open_all(disk, dir, last, Access::Read)?;
        let (replay, _) = Replay::run(dir, &segments, Keep::Nothing)?;
        let commit = replay.hard_state.commit;
        let usable = |mark: &WalSnapshot| mark.index <= commit.min(index);
        let newest = replay.snapshots.into_iter().filter(usable);
        let newest = newest.max_by_key(|mark| mark.index);
        if newest.is_some() || count >= names.len() {
            return Ok(newest);
        }
        count *= 2;
    }
}

/// Reads the bytes of one segment as if it were a log's only one. Never panics, whatever the bytes.
pub fn decode_segment(bytes: &[u8]) -> Result<Decoded, WalError> {
    let source = Source::of_bytes(Bytes::copy_from_slice(bytes));
    let decoder = Decoder::new(source, PathBuf::from("segment"), None, true);
    let mut replay = Replay::new(Keep::All);
    let ending = replay.segment(decoder)?;
    Ok(Decoded {
        recovered: replay.recovered(),
        end: ending.offset,
        torn: ending.torn,
    })
}

/// An open segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) name: Name,
    pub(super) file: Box<dyn DiskFile>,
}

/// Opens segments in the order given.
pub(super) fn open_all(
    disk: &dyn Disk,
    dir: &Path,
    names: &[Name],
    access: Access,
) -> Result<Vec<Segment>, WalError> {
    let open = |name: &Name| {
        let path = name.path(dir);
        let file = disk.open(&path, access).map_err(io_error("open", &path))?;
        Ok(Segment { name: *name, file })
    };
    names.iter().map(open).collect()
}

/// Which entries a reader wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Keep {
    /// Those behind this index.
    Behind(u64),
    All,
    Nothing,
}

/// The sum of the records read so far.
#[derive(Debug)]
pub(super) struct Replay {
    keep: Keep,
    entries: Vec<Entry>,
    hard_state: HardState,
    /// As encoded.
    pub(super) metadata: Bytes,
    snapshots: Vec<WalSnapshot>,
    /// The last entry or snapshot written.
    pub(super) last_index: u64,
}

impl Replay {
    fn new(keep: Keep) -> Self {
        Self {
            keep,
            entries: Vec::new(),
            hard_state: HardState::default(),
            metadata: Bytes::new(),
            snapshots: Vec::new(),
            last_index: 0,
        }
    }

    /// Reads segments that follow each other; also answers how the last one ends.
    pub(super) fn run(
        dir: &Path,
        segments: &[Segment],
        keep: Keep,
    ) -> Result<(Self, Ending), WalError> {
        let mut replay = Self::new(keep);
        let mut ending = None::<Ending>;
        for (i, segment) in segments.iter().enumerate() {
            let path = segment.name.path(dir);
            let source = Source::of_file(&*segment.file).map_err(io_error("read", &path))?;
            let crc = ending.map(|ending| ending.crc);
            let last = i + 1 == segments.len();
            ending = Some(replay.segment(Decoder::new(source, path, crc, last))?);
        }
        let ending = ending.ok_or_else(|| WalError::NotFound {
            dir: dir.to_owned(),
        })?;
        Ok((replay, ending))
    }

    fn segment(&mut self, mut decoder: Decoder<'_>) -> Result<Ending, WalError> {
        while let Some((at, record)) = decoder.next()? {
            self.record(record)
                .map_err(|what| decoder.corrupt(at, what))?;
        }
        decoder.ending()
    }

    fn record(&mut self, record: Record) -> Result<(), String> {
        match record.kind {
            // Of use to the decoder only.
            Kind::Crc => {}
            Kind::Metadata if self.metadata.is_empty() => {
                self.metadata = Bytes::copy_from_slice(&record.data);
            }
            Kind::Metadata if self.metadata == record.data => {}
            Kind::Metadata => return Err(self.other_metadata(record.data)),
            Kind::State => {
                self.hard_state =
                    record::decode_state(record.data).ok_or("this is no hard state")?;
            }
            Kind::Snapshot => {
                let snapshot = record::decode_snapshot(record.data).ok_or("this is no snapshot")?;
                self.last_index = self.last_index.max(snapshot.index);
                self.snapshots.push(snapshot);
            }
            Kind::Entry if self.keep == Keep::Nothing => {}
            Kind::Entry => {
                self.entry(record::decode_entry(record.data).ok_or("this is no entry")?)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: Entry) -> Result<(), String> {
        let start = match self.keep {
            Keep::Behind(index) => index,
            Keep::All | Keep::Nothing => {
                self.entries
                    .first()
                    .map_or(entry.index, |first| first.index)
                    - 1
            }
        };
        let index = entry.index;
        self.last_index = index;
        if index <= start {
            // It replaced every later one, also those behind the snapshot, which came back under a new leader
            // or not at all.
            self.entries.clear();
            return Ok(());
        }
        let place = usize::try_from(index - start - 1).unwrap_or(usize::MAX);
        if place > self.entries.len() {
            let last = start.saturating_add(self.entries.len() as u64);
            return Err(format!(
                "entry {index} follows entry {last}: those between are missing"
            ));
        }
        // A new leader's entries replace those that were not committed.
        self.entries.truncate(place);
        self.entries.push(entry);
        Ok(())
    }

    fn other_metadata(&self, data: Bytes) -> String {
        let text = |data| match record::decode_metadata(data) {
            Some(Metadata {
                node_id,
                cluster_id,
            }) => format!("member {node_id} of cluster {cluster_id}"),
            None => "nobody".to_owned(),
        };
        format!(
            "this segment belongs to {}, the log to {}",
            text(data),
            text(self.metadata.clone())
        )
    }

    /// What was read, provided that the snapshot it was to be read from is among it.
    pub(super) fn finish(self, dir: &Path, at: &WalSnapshot) -> Result<Recovered, WalError> {
        let found = self.snapshots.iter().filter(|mark| mark.index == at.index);
        let terms = found.map(|mark| mark.term).collect::<Vec<_>>();
        match terms.first() {
            _ if terms.contains(&at.term) => Ok(self.recovered()),
            Some(found) => Err(WalError::SnapshotMismatch {
                dir: dir.to_owned(),
                index: at.index,
                term: at.term,
                found: *found,
            }),
            None => Err(WalError::SnapshotNotFound {
                dir: dir.to_owned(),
                index: at.index,
                term: at.term,
            }),
        }
    }

    fn recovered(self) -> Recovered {
        Recovered {
            metadata: record::decode_metadata(self.metadata).unwrap_or_default(),
            hard_state: self.hard_state,
            entries: self.entries,
            snapshots: self.snapshots,
            repair: None,
        }
    }
}
