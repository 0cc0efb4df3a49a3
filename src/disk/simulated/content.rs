//! One simulated file: its durable bytes, its bytes as written, and the changes between the two.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::SmallRng;

use crate::disk::SECTOR_BYTES;

/// How kind one power cut is to what was not synced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Survival {
    Nothing,
    Everything,
    /// Each sector, size and directory has its newest state with this probability, else an older one.
    Some(f64),
}

impl Survival {
    pub(super) fn draw(random: &mut SmallRng) -> Self {
        match random.random_range(0..6) {
            0 => Self::Nothing,
            1 => Self::Everything,
            _ => Self::Some(random.random_range(0.0..1.0)),
        }
    }

    /// How many of `changes` in a row survive.
    pub(super) fn surviving(self, changes: usize, random: &mut SmallRng) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Everything => changes,
            Self::Some(newest) if changes == 0 || random.random_bool(newest) => changes,
            Self::Some(_) => random.random_range(0..changes),
        }
    }
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Zeros { from: u64, to: u64 },
    Size(u64),
}

/// A file.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    durable: Vec<u8>,
    written: Vec<u8>,
    changes: Vec<Change>,
    locked_by: Option<u64>,
    /// Open handles.
    pub(super) handles: usize,
}

impl Content {
    pub(super) fn content(&self) -> &[u8] {
        &self.written
    }

    pub(super) fn put(&mut self, content: &[u8]) {
        self.durable = content.to_vec();
        self.written = content.to_vec();
        self.changes.clear();
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len() as u64;
        if end > self.written.len() as u64 {
            self.change(Change::Size(end));
        }
        self.change(Change::Write {
            offset,
            bytes: bytes.to_vec(),
        });
    }

    pub(super) fn set_size(&mut self, size: u64) {
        self.clear_from(size);
        if size != self.written.len() as u64 {
            self.change(Change::Size(size));
        }
    }

    pub(super) fn clear_from(&mut self, offset: u64) {
        let to = self.written.len() as u64;
        if offset < to {
            self.change(Change::Zeros { from: offset, to });
        }
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.written, &change, 0, u64::MAX);
        self.changes.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.changes.drain(..) {
            apply(&mut self.durable, &change, 0, u64::MAX);
        }
    }

    pub(super) fn lock(&mut self, handle: u64) -> bool {
        *self.locked_by.get_or_insert(handle) == handle
    }

    pub(super) fn unlock(&mut self, handle: u64) {
        self.locked_by.take_if(|holder| *holder == handle);
    }

    pub(super) fn close_all(&mut self) {
        self.handles = 0;
        self.locked_by = None;
    }

    /// Leaves what a power cut leaves.
    pub(super) fn crash(&mut self, survival: Survival, random: &mut SmallRng) {
        let changes = std::mem::take(&mut self.changes);
        let sizes = changes.iter().filter_map(|change| match change {
            Change::Size(size) => Some(*size),
            _ => None,
        });
        let sizes = std::iter::once(self.durable.len() as u64)
            .chain(sizes)
            .collect::<Vec<_>>();
        let size = sizes[survival.surviving(sizes.len() - 1, random)];
        let largest = sizes.iter().copied().max().unwrap_or_default();
        let mut content = std::mem::take(&mut self.durable);
        content.resize(largest as usize, 0);

        let mut sectors = BTreeMap::<u64, Vec<&Change>>::new();
        for change in &changes {
            let (from, to) = match change {
                Change::Write { offset, bytes } => (*offset, offset + bytes.len() as u64),
                Change::Zeros { from, to } => (*from, *to),
                Change::Size(_) => continue,
            };
            for sector in from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES) {
                sectors.entry(sector).or_default().push(change);
            }
        }
        for (sector, changes) in sectors {
            let survivors = survival.surviving(changes.len(), random);
            for change in &changes[..survivors] {
                let start = sector * SECTOR_BYTES;
                apply(&mut content, change, start, start + SECTOR_BYTES);
            }
        }
        content.truncate(size as usize);
        self.put(&content);
        self.close_all();
    }
}

/// Applies the part of a change that lies in `start..end`.
fn apply(content: &mut Vec<u8>, change: &Change, start: u64, end: u64) {
    match change {
        Change::Size(size) => content.resize(*size as usize, 0),
        Change::Zeros { from, to } => {
            let (from, to) = ((*from).max(start) as usize, (*to).min(end) as usize);
            let to = to.min(content.len());
            content[from.min(to)..to].fill(0);
        }
        Change::Write { offset, bytes } => {
            let from = (*offset).max(start);
            let to = (offset + bytes.len() as u64).min(end);
            let source = (from - offset) as usize..(to - offset) as usize;
            content[from as usize..to as usize].copy_from_slice(&bytes[source]);
        }
    }
}
