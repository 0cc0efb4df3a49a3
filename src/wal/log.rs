//! The log as its one writer has it.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::error::{WalError, io_error};
use super::record::{self, Encoder};
use super::repair;
use super::replay::{Keep, Recovered, Replay, Segment, open_all};
use super::segment::{self, Name};
use super::{Metadata, Options, WalSnapshot};
use crate::disk::{Access, Disk};
use crate::pb::raftpb::{ConfState, Entry, HardState};

/// What the next segment is called until it is whole; etcd also uses the second.
const TEMPORARY: [&str; 2] = ["0.tmp", "1.tmp"];

/// How far ahead of the last record the space of a segment is prepared, in bytes.
const PREPARED_AHEAD_BYTES: u64 = 64 * 1024;
/// A sync of more than this is not worth preparing for: the time goes into its bytes, and zeros would double them.
const PREPARED_WRITE_BYTES_MAX: u64 = 16 * 1024;
/// What a file system maps, and a page of its cache, in bytes.
const BLOCK_BYTES: u64 = 4096;

/// A log open for appending; it holds the locks of its segments until it is dropped.
#[derive(Debug)]
pub struct Wal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: Options,
    /// As encoded: every segment repeats it byte for byte.
    metadata: Bytes,
    /// The last one written; repeated at the head of every segment.
    hard_state: HardState,
    /// The last entry or snapshot written; names the next segment.
    last_index: u64,
    /// The segments not released, in sequence. The last one is written to, and always there.
    segments: Vec<Segment>,
    /// Where in the last one the next record goes.
    offset: u64,
    /// Where the next record went when the last sync ended.
    synced_offset: u64,
    /// Up to where the last segment's space was written before, with records or zeros.
    prepared_offset: u64,
    encoder: Encoder,
    /// Whether anything was written since the last sync.
    dirty: bool,
    poisoned: bool,
}

/// What a sync did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// The segment that was begun because the last one was full.
    pub new_segment: Option<PathBuf>,
}

impl Wal {
    /// Creates a log in a directory that does not exist or is empty; its parent must exist. It is there
    /// durably and whole, or not at all.
    pub fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        metadata: Metadata,
        options: Options,
    ) -> Result<Self, WalError> {
        make_room(&*disk, dir)?;
        let mut temporary = OsString::from(dir);
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let built = Self::build(disk.clone(), &temporary, metadata, options).and_then(|mut wal| {
            disk.rename(&temporary, dir)
                .map_err(io_error("rename the new log to", dir))?;
            wal.dir = dir.to_owned();
            let parent = dir.parent().unwrap_or(Path::new("/"));
            disk.sync_dir(parent).map_err(io_error("sync", parent))?;
            Ok(wal)
        });
        if built.is_err() {
            // So that a full disk is not fuller for it. If this fails, the next attempt does it.
            let _ = disk.remove_dir_all(&temporary);
        }
        built
    }

    fn build(
        disk: Arc<dyn Disk>,
        dir: &Path,
        metadata: Metadata,
        options: Options,
    ) -> Result<Self, WalError> {
        match disk.remove_dir_all(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(io_error("remove the unfinished log", dir))?,
        }
        disk.create_dir(dir).map_err(io_error("create", dir))?;
        let mut wal = Self {
            disk,
            dir: dir.to_owned(),
            options,
            metadata: record::encode_metadata(metadata),
            hard_state: HardState::default(),
            last_index: 0,
            segments: Vec::new(),
            offset: 0,
            synced_offset: 0,
            prepared_offset: 0,
            encoder: Encoder::new(0),
            dirty: false,
            poisoned: false,
        };
        let name = Name {
            sequence: 0,
            first_index: 0,
        };
        wal.begin_segment(name, &name.path(dir), |encoder| {
            encoder.snapshot(0, 0, None)
        })?;
        wal.sync_dir()?;
        Ok(wal)
    }

    /// Opens a log for appending and reads what is behind the snapshot `at`, whose mark must be in it. A
    /// torn end is repaired. Nothing is changed when another process has the log open.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        at: &WalSnapshot,
        options: Options,
    ) -> Result<(Self, Recovered), WalError> {
        let names = segment::needed(dir, &segment::list(&*disk, dir)?, at.index)?;
        let segments = open_all(&*disk, dir, &names, Access::Write)?;
        for segment in &segments {
            let path = segment.name.path(dir);
            if !segment.file.try_lock().map_err(io_error("lock", &path))? {
                return Err(WalError::Locked { path });
            }
        }
        let (replay, ending) = Replay::run(dir, &segments, Keep::Behind(at.index))?;
        let (metadata, last_index) = (replay.metadata.clone(), replay.last_index);
        let mut recovered = replay.finish(dir, at)?;
        remove_temporary(&*disk, dir)?;
        if let Some(tail) = segments.last() {
            recovered.repair = repair::prepare(&*disk, dir, tail, &ending, options.segment_bytes)?;
        }
        let wal = Self {
            disk,
            dir: dir.to_owned(),
            options,
            metadata,
            hard_state: recovered.hard_state.clone(),
            last_index,
            segments,
            offset: ending.offset,
            synced_offset: ending.offset,
            prepared_offset: ending.offset,
            encoder: Encoder::new(ending.crc),
            dirty: false,
            poisoned: false,
        };
        Ok((wal, recovered))
    }

    /// The last entry or snapshot written.
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// Writes entries and a hard state in one piece; durable after [`Wal::sync`]. Answers the bytes written.
    ///
    /// Entries must follow each other, and may replace earlier ones but leave no gap.
    pub fn append(
        &mut self,
        hard_state: Option<&HardState>,
        entries: &[Entry],
    ) -> Result<usize, WalError> {
        let hard_state = hard_state.filter(|state| **state != HardState::default());
        if let Some(state) = hard_state.filter(|state| !record::is_state(state)) {
            let what = format!("a hard state without a term, {state:?},");
            return Err(WalError::Refused { what });
        }
        let last = self.check_entries(entries)?;
        let written = self.write(|encoder| {
            entries.iter().for_each(|entry| encoder.entry(entry));
            hard_state
                .into_iter()
                .for_each(|state| encoder.state(state));
        })?;
        self.last_index = last;
        if let Some(state) = hard_state {
            self.hard_state.clone_from(state);
        }
        Ok(written)
    }

    /// Marks that a snapshot of the state up to `index` exists, durably. Answers the bytes written.
    pub fn append_snapshot(
        &mut self,
        index: u64,
        term: u64,
        conf_state: &ConfState,
    ) -> Result<usize, WalError> {
        let written = self.write(|encoder| encoder.snapshot(index, term, Some(conf_state)))?;
        self.last_index = self.last_index.max(index);
        self.sync()?;
        Ok(written)
    }

    /// Makes everything written so far durable, and begins a new segment when the last one is full.
    pub fn sync(&mut self) -> Result<Synced, WalError> {
        self.unless_poisoned(|wal| {
            if wal.offset >= wal.options.segment_bytes {
                return wal.cut().map(|path| Synced {
                    new_segment: Some(path),
                });
            }
            if wal.dirty {
                wal.prepare()?;
                wal.sync_tail()?;
            }
            Ok(Synced::default())
        })
    }

    /// Gives up the segments that are not needed to read on from the snapshot at `index`: [`Wal::purge`] may
    /// remove them. Call it when what they held is durable elsewhere.
    pub fn release_to(&mut self, index: u64) {
        let at = self
            .segments
            .iter()
            .position(|segment| segment.name.first_index >= index);
        let keep_from = at.unwrap_or(self.segments.len()).saturating_sub(1);
        self.segments.drain(..keep_from);
    }

    /// Removes released segments, the oldest first, until at most `segments_max` are left or all are in use;
    /// 0 keeps all. Answers what was removed.
    pub fn purge(&mut self, segments_max: usize) -> Result<Vec<PathBuf>, WalError> {
        if segments_max == 0 {
            return Ok(Vec::new());
        }
        let names = segment::list(&*self.disk, &self.dir)?;
        let held = self.segments.first().map(|segment| segment.name);
        let surplus = names.len().saturating_sub(segments_max);
        let mut removed = Vec::new();
        for name in names
            .into_iter()
            .take(surplus)
            .take_while(|name| Some(*name) < held)
        {
            let path = name.path(&self.dir);
            self.disk
                .remove_file(&path)
                .map_err(io_error("remove", &path))?;
            removed.push(path);
        }
        if !removed.is_empty() {
            self.sync_dir()?;
        }
        Ok(removed)
    }

    /// Refuses entries that could not be read back; answers the last index once they are written.
    fn check_entries(&self, entries: &[Entry]) -> Result<u64, WalError> {
        let mut last = self.last_index;
        for (i, entry) in entries.iter().enumerate() {
            let index = entry.index;
            let replaces = i == 0 && (1..=last).contains(&index);
            if !replaces && last.checked_add(1) != Some(index) {
                let what = format!("entry {index} after entry {last}");
                return Err(WalError::Refused { what });
            }
            if !record::is_entry(entry) {
                let (kind, term) = (entry.entry_type, entry.term);
                let what = format!("entry {index} of type {kind} and term {term}");
                return Err(WalError::Refused { what });
            }
            last = index;
        }
        Ok(last)
    }

    /// Encodes records and writes them behind the last one.
    fn write(&mut self, encode: impl FnOnce(&mut Encoder)) -> Result<usize, WalError> {
        self.unless_poisoned(|wal| {
            encode(&mut wal.encoder);
            let written = wal.encoder.bytes().len();
            if written > 0 {
                let tail = wal.tail()?;
                let write = tail.file.write_at(wal.encoder.bytes(), wal.offset);
                write.map_err(io_error("write to", &tail.name.path(&wal.dir)))?;
            }
            wal.offset += written as u64;
            wal.dirty |= written > 0;
            wal.encoder.clear();
            Ok(written)
        })
    }

    /// Runs an operation whose failure leaves the disk in an unknown state.
    fn unless_poisoned<T>(
        &mut self,
        operation: impl FnOnce(&mut Self) -> Result<T, WalError>,
    ) -> Result<T, WalError> {
        if self.poisoned {
            return Err(WalError::Poisoned);
        }
        let result = operation(self);
        self.poisoned = result.is_err();
        result
    }

    /// Ends the full segment and begins the next.
    fn cut(&mut self) -> Result<PathBuf, WalError> {
        let tail = self.tail()?;
        let name = Name {
            sequence: tail.name.sequence.saturating_add(1),
            first_index: self.last_index.saturating_add(1),
        };
        // A reader must not find the space reserved behind the last record.
        let truncated = tail.file.set_size(self.offset);
        truncated.map_err(io_error("truncate", &tail.name.path(&self.dir)))?;
        self.sync_tail()?;

        let temporary = self.dir.join(TEMPORARY[0]);
        let state = self.hard_state.clone();
        self.begin_segment(name, &temporary, |encoder| {
            if state != HardState::default() {
                encoder.state(&state);
            }
        })?;
        let path = name.path(&self.dir);
        self.disk
            .rename(&temporary, &path)
            .map_err(io_error("rename the new segment to", &path))?;
        self.sync_dir()?;
        Ok(path)
    }

    /// Writes a segment's head to `path`, durably but for its name, and goes on behind it.
    fn begin_segment(
        &mut self,
        name: Name,
        path: &Path,
        head: impl FnOnce(&mut Encoder),
    ) -> Result<(), WalError> {
        let file = self
            .disk
            .open(path, Access::Replace)
            .map_err(io_error("create", path))?;
        if !file.try_lock().map_err(io_error("lock", path))? {
            return Err(WalError::Locked {
                path: path.to_owned(),
            });
        }
        let bytes = self.options.segment_bytes;
        file.allocate(bytes)
            .map_err(io_error("reserve space for", path))?;
        self.encoder.crc();
        self.encoder.metadata(&self.metadata);
        head(&mut self.encoder);
        file.write_at(self.encoder.bytes(), 0)
            .map_err(io_error("write to", path))?;
        self.offset = self.encoder.bytes().len() as u64;
        self.synced_offset = 0;
        self.prepared_offset = 0;
        self.encoder.clear();
        self.segments.push(Segment { name, file });
        self.sync_tail()
    }

    /// Before a small sync that had to go beyond the prepared space, prepares some more of it: the first write to
    /// reserved space makes fdatasync commit the file system's journal, which takes more than twice the time.
    fn prepare(&mut self) -> Result<(), WalError> {
        let synced_bytes = self.offset - self.synced_offset;
        if self.offset <= self.prepared_offset || !self.options.sync {
            return Ok(());
        }
        self.prepared_offset = self.offset;
        let from = self.offset.next_multiple_of(BLOCK_BYTES);
        let to = (from + PREPARED_AHEAD_BYTES).min(self.options.segment_bytes);
        if synced_bytes > PREPARED_WRITE_BYTES_MAX || from >= to {
            return Ok(());
        }
        let tail = self.tail()?;
        let prepared = tail.file.prepare(from, (to - from) as usize);
        if prepared.map_err(io_error("write to", &tail.name.path(&self.dir)))? {
            self.prepared_offset = to;
        }
        Ok(())
    }

    fn tail(&self) -> Result<&Segment, WalError> {
        self.segments.last().ok_or_else(|| WalError::NotFound {
            dir: self.dir.clone(),
        })
    }

    fn sync_tail(&mut self) -> Result<(), WalError> {
        if self.options.sync {
            let tail = self.tail()?;
            tail.file
                .sync_data()
                .map_err(io_error("sync", &tail.name.path(&self.dir)))?;
        }
        self.dirty = false;
        self.synced_offset = self.offset;
        Ok(())
    }

    fn sync_dir(&self) -> Result<(), WalError> {
        self.disk
            .sync_dir(&self.dir)
            .map_err(io_error("sync", &self.dir))
    }
}

/// Refuses a directory that a new log must not replace.
fn make_room(disk: &dyn Disk, dir: &Path) -> Result<(), WalError> {
    let names = match disk.names(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names.map_err(io_error("list", dir))?,
    };
    if names.iter().any(|name| Name::parse(name).is_some()) {
        return Err(WalError::Exists {
            dir: dir.to_owned(),
        });
    }
    remove_temporary(disk, dir)?;
    match names
        .into_iter()
        .find(|name| !TEMPORARY.contains(&name.as_str()))
    {
        Some(name) => Err(WalError::NotEmpty {
            dir: dir.to_owned(),
            name,
        }),
        None => Ok(()),
    }
}

/// Removes segments that were prepared but never used.
fn remove_temporary(disk: &dyn Disk, dir: &Path) -> Result<(), WalError> {
    for path in TEMPORARY.map(|name| dir.join(name)) {
        match disk.remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(io_error("remove", &path))?,
        }
    }
    Ok(())
}
