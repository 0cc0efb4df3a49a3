//! Bringing unsynced watchers forward, a bounded stretch of history at a time.

use std::ops::Bound::{Excluded, Unbounded};

use super::delivery::{Delivery, encode_event};
use super::hub::{Hub, Stream, StreamId};
use super::{History, Outbox};
use crate::store::{RevisionRow, StoreError};

/// Main revisions one step covers; also the most that one response holds.
const STEP_REVISIONS_MAX: i64 = 1000;
/// Watchers one step brings forward.
const STEP_WATCHERS_MAX: usize = 512;
/// Streams one step looks at for watchers that can ride along.
const STEP_STREAMS_MAX: usize = 256;
/// Encoded events after which a step ends with the revision it is in.
const STEP_BYTES_MAX: usize = 2 << 20;

impl Hub {
    /// One step: the next watcher of the next stream that is behind, and all others that need the same stretch
    /// of history. Nothing happens when no stream with room is behind.
    pub fn catch_up(
        &mut self,
        history: &impl History,
        outbox: &mut impl Outbox,
    ) -> Result<(), StoreError> {
        let Some(leading) = self.ready.pop_front() else {
            return Ok(());
        };
        self.streams[leading as usize].queued = false;
        self.end_compacted(leading, history.compact_revision(), outbox);
        let stream = &self.streams[leading as usize];
        let Some((from, leader)) = stream.next_leader().filter(|_| !stream.blocked) else {
            return Ok(());
        };

        let rows = match history.rows(from, (from + STEP_REVISIONS_MAX).min(self.revision + 1)) {
            Ok(rows) => rows,
            Err(error) => {
                self.mark_ready(leading);
                return Err(error);
            }
        };
        let to = rows.to.clamp(from + 1, self.revision + 1);
        let chosen = self.choose(leading, leader, from, to);
        for (_, watcher) in &chosen {
            self.watchers[*watcher as usize].chosen = true;
        }
        let matched = self.match_rows(&rows.rows, to, history);
        for (_, watcher) in &chosen {
            self.watchers[*watcher as usize].chosen = false;
        }
        let to = match matched {
            Ok(to) => to,
            Err(error) => {
                self.scratch.hits.clear();
                self.scratch.fields.clear();
                self.mark_ready(leading);
                return Err(error);
            }
        };

        let mut refused = self.deliver(self.revision, true, outbox);
        refused.sort_unstable();
        for (next, watcher) in chosen {
            if refused.binary_search(&watcher).is_err() {
                self.bring_forward(watcher, next, to);
            }
        }
        let stream = &mut self.streams[leading as usize];
        stream.cursor = (to, leader);
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
            if !outbox.try_send(
                StreamId(id),
                Delivery::Compacted {
                    watch_id,
                    compact_revision,
                },
            ) {
                self.streams[id as usize].blocked = true;
            } else {
                self.end(StreamId(id), watch_id);
            }
        }
    }

    /// The leader, and watchers that need something in `from..to` and nothing before it.
    fn choose(&self, leading: u32, leader: u32, from: i64, to: i64) -> Vec<(i64, u32)> {
        let streams = [leading].into_iter().chain(self.ready.iter().copied());
        let streams = streams
            .take(STEP_STREAMS_MAX)
            .map(|id| &self.streams[id as usize]);
        let riders = streams
            .filter(|stream| !stream.blocked)
            .flat_map(|stream| stream.unsynced.range((from, 0)..(to, 0)).copied())
            .filter(|(_, watcher)| *watcher != leader);
        [(from, leader)]
            .into_iter()
            .chain(riders)
            .take(STEP_WATCHERS_MAX)
            .collect()
    }

    /// Finds the rows that chosen watchers want. Returns the revision up to which they were looked at, which is
    /// less than `to` when there was much to encode.
    fn match_rows(
        &mut self,
        rows: &[RevisionRow],
        to: i64,
        history: &impl History,
    ) -> Result<i64, StoreError> {
        let mut bytes = 0;
        for revision in rows.chunk_by(|a, b| a.revision.main == b.revision.main) {
            let main = revision.first().map_or(0, |row| row.revision.main);
            if main >= to {
                break;
            }
            for row in revision {
                bytes += self.match_row(row, history)?;
            }
            if bytes >= STEP_BYTES_MAX {
                return Ok(main + 1);
            }
        }
        Ok(to)
    }

    /// Adds the hits of one row; the bytes that were encoded for them.
    fn match_row(
        &mut self,
        row: &RevisionRow,
        history: &impl History,
    ) -> Result<usize, StoreError> {
        let main = row.revision.main;
        let first_hit = self.scratch.hits.len();
        let hits = &mut self.scratch.hits;
        self.index.holding(&self.watchers, &row.key, |at, watcher| {
            if watcher.chosen && watcher.next <= main && watcher.wants(row.tombstone) {
                hits.push((at, u32::from(watcher.prev_kv)));
            }
        });
        if self.scratch.hits.len() == first_hit {
            return Ok(0);
        }
        // Compaction keeps all that watchers at or above its revision need.
        let Some(record) = history.record(row.revision)? else {
            self.scratch.hits.truncate(first_hit);
            return Ok(0);
        };
        let mut bytes = 0;
        let mut encoded: [Option<u32>; 2] = [None; 2];
        for hit in first_hit..self.scratch.hits.len() {
            let with_prev = self.scratch.hits[hit].1 == 1;
            let slot = &mut encoded[usize::from(with_prev)];
            let field = match *slot {
                Some(field) => field,
                None => {
                    let prev = if with_prev {
                        previous(row, history)?
                    } else {
                        None
                    };
                    let event = encode_event(main, row.tombstone, &record, prev.as_deref());
                    bytes += event.len();
                    self.scratch.add(event)
                }
            };
            *slot = Some(field);
            self.scratch.hits[hit].1 = field;
        }
        Ok(bytes)
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

/// The pair a key had before the main revision of a row, unless the row created it or compaction took it.
fn previous(row: &RevisionRow, history: &impl History) -> Result<Option<bytes::Bytes>, StoreError> {
    let main = row.revision.main;
    let created = !row.tombstone && row.create_revision == main;
    if created || main - 1 < history.compact_revision() {
        return Ok(None);
    }
    match history.written(&row.key, main - 1)? {
        Some(written) => history.record(written),
        None => Ok(None),
    }
}
