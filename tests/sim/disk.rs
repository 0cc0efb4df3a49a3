//! A member's disk: the raft log, the checkpoint of the state machine, received snapshot bodies.
//!
//! The log is written in groups: everything queued goes out as one write with one sync. A crash keeps
//! what was synced and, of the group under way, some first part: the log's checksums let a reader tell
//! where a torn tail begins, so a cut between records is all that tearing can do. (`crate::wal` has its
//! own tests that this is so.)
//!
//! The checkpoint is replaced atomically. A received snapshot is three steps, in this order: the body is
//! stored, the log begins anew behind it, the checkpoint is replaced. A crash after the second finds a
//! log that begins after the checkpoint and finishes the third from the stored body.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use etcd::raft::eraftpb::{ConfState, Entry, HardState};
use etcd::raft::{Restored, Write};

use crate::fault::Planted;
use crate::random::Random;

/// The log as a reader finds it.
#[derive(Clone, Default)]
pub(crate) struct Image {
    pub(crate) hard_state: HardState,
    /// Index and term of the entry before the first.
    pub(crate) base: (u64, u64),
    pub(crate) entries: VecDeque<Entry>,
}

impl Image {
    pub(crate) fn last_index(&self) -> u64 {
        self.base.0 + self.entries.len() as u64
    }

    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        let at = index.checked_sub(self.base.0 + 1)?;
        self.entries.get(at as usize).map(|entry| entry.term)
    }

    fn take(&mut self, record: Record, planted: Option<Planted>) {
        match record {
            Record::Snapshot(index, term) => {
                self.base = (index, term);
                self.entries.clear();
            }
            Record::Entry(entry) => {
                if planted == Some(Planted::KeepConflicts) && entry.index <= self.last_index() {
                    return;
                }
                while self.last_index() >= entry.index {
                    self.entries.pop_back();
                }
                self.entries.push_back(entry);
            }
            Record::HardState(hard_state) => {
                let vote = match planted {
                    Some(Planted::ForgetVote) => 0,
                    _ => hard_state.vote,
                };
                self.hard_state = HardState { vote, ..hard_state };
            }
        }
    }

    fn release(&mut self, index: u64) {
        while self.base.0 < index {
            let Some(entry) = self.entries.pop_front() else {
                return;
            };
            self.base = (entry.index, entry.term);
        }
    }
}

enum Record {
    Snapshot(u64, u64),
    Entry(Entry),
    HardState(HardState),
}

/// What the state machine looked like at one index.
#[derive(Clone, Default)]
pub(crate) struct Checkpoint {
    pub(crate) applied: u64,
    pub(crate) conf_state: ConfState,
    pub(crate) machine: Bytes,
}

#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) log: Image,
    pub(crate) checkpoint: Checkpoint,
    bodies: BTreeMap<u64, Checkpoint>,
    queue: VecDeque<Write>,
    /// The group under way.
    writing: VecDeque<Record>,
    written: Vec<Write>,
    planted: Option<Planted>,
}

impl Disk {
    pub(crate) fn new(planted: Option<Planted>) -> Self {
        Self {
            planted,
            ..Self::default()
        }
    }

    pub(crate) fn queue(&mut self, write: Write) {
        self.queue.push_back(write);
    }

    pub(crate) fn is_busy(&self) -> bool {
        !self.written.is_empty()
    }

    /// Starts writing all that is queued. False when there is nothing.
    pub(crate) fn start(&mut self) -> bool {
        for write in self.queue.drain(..) {
            if let Some(snapshot) = &write.snapshot {
                let metadata = snapshot.get_metadata();
                self.writing
                    .push_back(Record::Snapshot(metadata.index, metadata.term));
            }
            self.writing
                .extend(write.entries.iter().cloned().map(Record::Entry));
            self.writing
                .extend(write.hard_state.clone().map(Record::HardState));
            self.written.push(write);
        }
        self.is_busy()
    }

    /// The sync is done: what was written is durable.
    pub(crate) fn finish(&mut self) -> Vec<Write> {
        for record in self.writing.drain(..) {
            self.log.take(record, self.planted);
        }
        std::mem::take(&mut self.written)
    }

    /// Reports the group without a sync: the planted fault.
    pub(crate) fn skip_sync(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.written)
    }

    /// Power is gone. Of the group under way some first part survives.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        let kept = random.between(0, self.writing.len() as u64 + 1);
        for record in self.writing.drain(..).take(kept as usize) {
            self.log.take(record, self.planted);
        }
        self.writing.clear();
        self.written.clear();
        self.queue.clear();
    }

    /// Stores the body of a snapshot that is about to be stepped.
    pub(crate) fn store_body(&mut self, body: Checkpoint) {
        self.bodies.insert(body.applied, body);
    }

    /// Makes a stored body the checkpoint.
    pub(crate) fn install_body(&mut self, index: u64) -> Option<Checkpoint> {
        self.checkpoint = self.bodies.remove(&index)?;
        self.bodies.retain(|&stored, _| stored > index);
        Some(self.checkpoint.clone())
    }

    /// Replaces the checkpoint and lets go of the log before it, but for the last `kept` entries.
    pub(crate) fn set_checkpoint(&mut self, checkpoint: Checkpoint, kept: u64) {
        if checkpoint.applied > self.checkpoint.applied {
            self.log.release(checkpoint.applied.saturating_sub(kept));
            self.checkpoint = checkpoint;
        }
    }

    /// What a starting member finds.
    pub(crate) fn recover(&mut self) -> Result<Restored, String> {
        let (base, _) = self.log.base;
        if base > self.checkpoint.applied && self.install_body(base).is_none() {
            return Err(format!(
                "the log begins after {base}, the body of that snapshot is missing"
            ));
        }
        Ok(Restored {
            hard_state: self.log.hard_state.clone(),
            conf_state: self.checkpoint.conf_state.clone(),
            applied: self.checkpoint.applied,
            snapshot: self.log.base,
            entries: self.log.entries.iter().cloned().collect(),
        })
    }
}
