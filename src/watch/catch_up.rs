//! Bringing unsynced watchers forward, a bounded stretch of history at a time.

use std::ops::Bound::{Excluded, Unbounded};

use super::Outbox;
use super::delivery::Delivery;
use super::hub::{Hub, Stream, StreamId};
use crate::mvcc::{MvccError, PastChange, View};

/// Changes one step reads, in reads of so many.
const STEP_CHANGES_MAX: usize = if cfg!(test) { 4 } else { 1024 };
const READ_CHANGES_MAX: usize = if cfg!(test) { 2 } else { 64 };
/// Reads of one step; one that has to pass over the changes of others finds few.
const STEP_READS_MAX: usize = if cfg!(test) { 2 } else { 16 };
/// Records after which a step ends.
const STEP_BYTES_MAX: usize = 2 << 20;
/// Watchers that one step looks at, and events that it hands out to them.
const STEP_WATCHERS_MAX: usize = 4096;
const STEP_EVENTS_MAX: usize = 64 * 1024;

/// A stretch of history of one range.
struct Stretch {
    changes: Vec<PastChange>,
    /// The first main revision behind it.
    to: i64,
}

impl Hub {
    /// One step: the next watcher of the next stream that is behind, and with it others of the same range that
    /// need the same stretch of history. Nothing happens when no stream with room is behind. `view` is at the
    /// hub's revision or above.
    pub fn catch_up(&mut self, view: &View, outbox: &mut impl Outbox) -> Result<(), MvccError> {
        let Some(leading) = self.ready.pop_front() else {
            return Ok(());
        };
        self.streams[leading as usize].queued = false;
        self.end_compacted(leading, view.compact_revision(), outbox);
        let stream = &self.streams[leading as usize];
        let Some((from, leader)) = stream.next_leader().filter(|_| !stream.blocked) else {
            return Ok(());
        };
        let stretch = match self.read(leader, from, view) {
            Ok(stretch) => stretch,
            // Compaction has overtaken the view: the next one tells.
            Err(MvccError::Compacted) => {
                self.mark_ready(leading);
                return Ok(());
            }
            Err(error) => return Err(error),
        };

        let chosen = self.choose(leader, from, &stretch);
        for change in &stretch.changes {
            self.hit(change, &chosen, view)?;
        }
        let mut refused = self.deliver(self.revision, true, outbox);
        refused.sort_unstable();
        for (next, watcher) in chosen {
            if refused.binary_search(&watcher).is_err() {
                self.bring_forward(watcher, next, stretch.to);
            }
        }
        self.streams[leading as usize].cursor = (stretch.to, leader);
        self.mark_ready(leading);
        Ok(())
    }

    /// Ends the watchers of a stream that need what compaction removed.
    fn end_compacted(&mut self, id: u32, compact_revision: i64, outbox: &mut impl Outbox) {
        while let Some((next, watcher)) = self.streams[id as usize].unsynced.first().copied()
            && next < compact_revision
            && !self.streams[id as usize].blocked
        {
            let watch_id = self.watchers[watcher as usize].watch_id;
            if outbox.try_send(
                StreamId(id),
                Delivery::Compacted {
                    watch_id,
                    compact_revision,
                },
            ) {
                self.end(StreamId(id), watch_id);
            } else {
                self.streams[id as usize].blocked = true;
            }
        }
    }

    /// What a watcher's range has gone through from a revision on, as far as one step goes.
    fn read(&self, watcher: u32, from: i64, view: &View) -> Result<Stretch, MvccError> {
        let range = self.watchers[watcher as usize].range.keys();
        let mut stretch = Stretch {
            changes: Vec::new(),
            to: from,
        };
        let mut bytes = 0;
        for _ in 0..STEP_READS_MAX {
            let read = view.changes(&range, stretch.to, READ_CHANGES_MAX)?;
            bytes += read
                .changes
                .iter()
                .map(|change| change.record.len())
                .sum::<usize>();
            stretch.changes.extend(read.changes);
            stretch.to = read.next;
            if stretch.to > self.revision
                || stretch.changes.len() >= STEP_CHANGES_MAX
                || bytes >= STEP_BYTES_MAX
            {
                break;
            }
        }
        // The view may be ahead of what the hub was told; live changes will come.
        let told = |change: &PastChange| change.row.revision.main <= self.revision;
        let count = stretch.changes.partition_point(told);
        stretch.changes.truncate(count);
        stretch.to = stretch.to.min(self.revision + 1);
        Ok(stretch)
    }

    /// The leader, and watchers of its range that need some of the stretch and nothing before it.
    fn choose(&self, leader: u32, from: i64, stretch: &Stretch) -> Vec<(i64, u32)> {
        let mut chosen = vec![(from, leader)];
        let chosen_max = (STEP_EVENTS_MAX / stretch.changes.len().max(1)).max(1);
        let mut at = self.watchers[leader as usize].ring_next;
        for _ in 0..STEP_WATCHERS_MAX {
            if at == leader || chosen.len() >= chosen_max {
                break;
            }
            let watcher = &self.watchers[at as usize];
            let fits = !watcher.synced && (from..stretch.to).contains(&watcher.next);
            if fits && !self.streams[watcher.stream as usize].blocked {
                chosen.push((watcher.next, at));
            }
            at = watcher.ring_next;
        }
        chosen
    }

    /// Gives a change to those of the chosen watchers that want it.
    fn hit(
        &mut self,
        change: &PastChange,
        chosen: &[(i64, u32)],
        view: &View,
    ) -> Result<(), MvccError> {
        let row = &change.row;
        let first_hit = self.scratch.hits.len();
        for (next, at) in chosen {
            let watcher = &self.watchers[*at as usize];
            if *next <= row.revision.main && watcher.wants(row.tombstone) {
                self.scratch.hits.push((*at, u32::from(watcher.prev_kv)));
            }
        }
        self.scratch.encode(first_hit, row, &change.record, view)
    }

    /// A watcher that needed `next` has been told everything before `to`.
    fn bring_forward(&mut self, watcher: u32, next: i64, to: i64) {
        if to <= next {
            return;
        }
        let this = &mut self.watchers[watcher as usize];
        this.next = to;
        this.synced = to > self.revision;
        let stream = &mut self.streams[this.stream as usize];
        stream.unsynced.remove(&(next, watcher));
        if this.synced {
            self.unsynced -= 1;
        } else {
            stream.unsynced.insert((to, watcher));
        }
    }
}

impl Stream {
    /// The first watcher behind the cursor, in a circle.
    fn next_leader(&self) -> Option<(i64, u32)> {
        let behind = self
            .unsynced
            .range((Excluded(self.cursor), Unbounded))
            .next();
        behind.or_else(|| self.unsynced.first()).copied()
    }
}
