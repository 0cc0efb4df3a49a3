//! The hub: streams, watchers, and live changes on their way to them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use slab::Slab;

use super::Outbox;
use super::delivery::{Delivery, Events, Part, Refusal, encode_event};
use super::index::Index;
use super::watcher::{WatchRange, Watcher};
use crate::mvcc::{MvccError, View};
use crate::pb::etcdserverpb::WatchCreateRequest;
use crate::store::{Change, RevisionRow};

/// A stream's place in the hub; free for another stream once it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u32);

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Open streams.
    pub streams: usize,
    /// Watchers of all of them.
    pub watchers: usize,
    /// Watchers that are behind.
    pub unsynced: usize,
}

/// See the module's head.
#[derive(Default)]
pub struct Hub {
    pub(super) revision: i64,
    pub(super) watchers: Slab<Watcher>,
    pub(super) index: Index,
    pub(super) streams: Slab<Stream>,
    /// Streams with room that have watchers behind, each once; the next step is the first one's.
    pub(super) ready: VecDeque<u32>,
    /// Watchers whose first revision has not come yet, by that revision.
    future: BTreeSet<(i64, u32)>,
    pub(super) unsynced: usize,
    pub(super) scratch: Scratch,
}

/// A stream.
#[derive(Default)]
pub(super) struct Stream {
    watchers: BTreeMap<i64, u32>,
    next_watch_id: i64,
    /// Watchers behind, by the revision they need next.
    pub(super) unsynced: BTreeSet<(i64, u32)>,
    /// Where the last catch-up step that was this stream's left its watcher; the next one starts behind it.
    pub(super) cursor: (i64, u32),
    /// Watchers that wait for a revision to come.
    future: usize,
    /// The outbox refused; it has not been drained since.
    pub(super) blocked: bool,
    /// In [`Hub::ready`].
    pub(super) queued: bool,
    parts: Vec<Part>,
    shares: Vec<u32>,
    recipients: Vec<u32>,
}

/// What one round of matching found, kept for its allocations.
#[derive(Default)]
pub(super) struct Scratch {
    /// Watcher and event, in order of events.
    pub(super) hits: Vec<(u32, u32)>,
    pub(super) fields: Vec<Bytes>,
    streams: Vec<u32>,
}

impl Hub {
    /// A hub for a store at `revision`.
    pub fn new(revision: i64) -> Self {
        Self {
            revision,
            ..Self::default()
        }
    }

    /// The last main revision it has been told.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Whether some watcher could be brought forward now by [`Hub::catch_up`].
    pub fn is_behind(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        Counts {
            streams: self.streams.len(),
            watchers: self.watchers.len(),
            unsynced: self.unsynced,
        }
    }

    /// How many revisions the watcher that is furthest behind still has to hear of.
    pub fn lag_revisions(&self) -> i64 {
        let first = |stream: &Stream| stream.unsynced.first().map(|(next, _)| *next);
        let oldest = self
            .streams
            .iter()
            .filter_map(|(_, stream)| first(stream))
            .min();
        oldest.map_or(0, |next| self.revision + 1 - next)
    }

    /// A new stream without watchers.
    pub fn open(&mut self) -> StreamId {
        StreamId(self.streams.insert(Stream::default()) as u32)
    }

    /// Ends a stream and its watchers.
    pub fn close(&mut self, stream: StreamId) {
        let Some(ended) = self.streams.get_mut(stream.0 as usize) else {
            return;
        };
        for watcher in std::mem::take(&mut ended.watchers).into_values() {
            self.remove(watcher);
        }
        self.ready.retain(|other| *other != stream.0);
        self.streams.remove(stream.0 as usize);
    }

    /// Creates a watcher, or says why not.
    pub fn create(
        &mut self,
        stream: StreamId,
        request: &WatchCreateRequest,
        outbox: &mut impl Outbox,
    ) {
        let revision = self.revision;
        let reply = match self.try_create(stream, request) {
            Ok(watch_id) => Delivery::Created { watch_id, revision },
            Err(refusal) => Delivery::Refused { refusal, revision },
        };
        outbox.send(stream, reply);
    }

    fn try_create(&mut self, id: StreamId, request: &WatchCreateRequest) -> Result<i64, Refusal> {
        if request.start_revision < 0 {
            return Err(Refusal::Compacted);
        }
        let range = WatchRange::new(&request.key, &request.range_end).ok_or(Refusal::EmptyRange)?;
        let stream = self
            .streams
            .get_mut(id.0 as usize)
            .ok_or(Refusal::EmptyRange)?;
        let watch_id = stream
            .free_watch_id(request.watch_id)
            .ok_or(Refusal::DuplicateId)?;

        let watcher = self
            .watchers
            .insert(Watcher::new(range, id.0, watch_id, request)) as u32;
        stream.watchers.insert(watch_id, watcher);
        self.index.insert(&mut self.watchers, watcher);
        let start = request.start_revision;
        if start > self.revision {
            let this = &mut self.watchers[watcher as usize];
            (this.next, this.future) = (start, true);
            stream.future += 1;
            self.future.insert((start, watcher));
        } else if start > 0 {
            self.fall_behind(watcher, start);
        }
        Ok(watch_id)
    }

    /// Ends a watcher and says so; an unknown id has no effect and no reply.
    pub fn cancel(&mut self, id: StreamId, watch_id: i64, outbox: &mut impl Outbox) {
        if self.end(id, watch_id) {
            outbox.send(
                id,
                Delivery::Canceled {
                    watch_id,
                    revision: self.revision,
                },
            );
        }
    }

    /// Ends a watcher; whether there was one.
    pub(super) fn end(&mut self, id: StreamId, watch_id: i64) -> bool {
        let Some(stream) = self.streams.get_mut(id.0 as usize) else {
            return false;
        };
        let Some(watcher) = stream.watchers.remove(&watch_id) else {
            return false;
        };
        self.remove(watcher);
        true
    }

    fn remove(&mut self, watcher: u32) {
        self.index.remove(&mut self.watchers, watcher);
        let Some(gone) = self.watchers.try_remove(watcher as usize) else {
            return;
        };
        let stream = &mut self.streams[gone.stream as usize];
        if !gone.synced {
            stream.unsynced.remove(&(gone.next, watcher));
            self.unsynced -= 1;
        }
        if gone.future {
            stream.future -= 1;
            self.future.remove(&(gone.next, watcher));
        }
    }

    /// Reports how far all of a stream's watchers are, if they are all at the hub's revision.
    pub fn progress(&mut self, id: StreamId, outbox: &mut impl Outbox) {
        let Some(stream) = self.streams.get(id.0 as usize) else {
            return;
        };
        let waiting = stream.future > 0 || !stream.unsynced.is_empty();
        if !stream.watchers.is_empty() && !waiting {
            outbox.try_send(
                id,
                Delivery::Progress {
                    watch_id: None,
                    revision: self.revision,
                },
            );
        }
    }

    /// A progress interval of a stream has passed: the watchers that asked for it, are synced and have heard
    /// nothing since the last interval are told how far they are.
    pub fn progress_interval(&mut self, id: StreamId, outbox: &mut impl Outbox) {
        let Some(stream) = self.streams.get(id.0 as usize) else {
            return;
        };
        for (watch_id, watcher) in &stream.watchers {
            let watcher = &mut self.watchers[*watcher as usize];
            if !watcher.progress {
                continue;
            }
            let due = watcher.quiet && watcher.synced && !watcher.future;
            watcher.quiet = true;
            let progress = Delivery::Progress {
                watch_id: Some(*watch_id),
                revision: self.revision,
            };
            if due && !outbox.try_send(id, progress) {
                break;
            }
        }
    }

    /// A stream that had no room has some again.
    pub fn drained(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(id.0 as usize) {
            stream.blocked = false;
            self.mark_ready(id.0);
        }
    }

    /// Tells the changes of the next main revision. One that was told before has no effect; one that comes too
    /// early says that others were lost, and is preceded by [`Hub::skip_to`]. `view` is at that revision or
    /// above. After an error the hub must not be used any more.
    pub fn publish(
        &mut self,
        changes: &[Change],
        view: &View,
        outbox: &mut impl Outbox,
    ) -> Result<(), MvccError> {
        let Some(revision) = changes.first().map(|change| change.row.revision.main) else {
            return Ok(());
        };
        if revision <= self.revision {
            return Ok(());
        }
        self.skip_to(revision - 1);
        self.advance(revision);

        for Change { row, record, .. } in changes {
            let first_hit = self.scratch.hits.len();
            let hits = &mut self.scratch.hits;
            self.index.holding(&self.watchers, &row.key, |at, watcher| {
                if watcher.synced && watcher.next <= revision && watcher.wants(row.tombstone) {
                    hits.push((at, u32::from(watcher.prev_kv)));
                }
            });
            self.scratch.encode(first_hit, row, record, view)?;
        }
        let refused = self.deliver(revision, changes.len() > 1, outbox);
        for watcher in refused {
            self.fall_behind(watcher, revision);
        }
        Ok(())
    }

    /// The store is at `revision`, by a way the hub was not told (a snapshot was installed, changes were lost,
    /// or nobody watched): watchers catch up from history.
    pub fn skip_to(&mut self, revision: i64) {
        if revision <= self.revision {
            return;
        }
        let told = self.revision;
        self.advance(revision);
        let synced = |(at, watcher): (usize, &Watcher)| {
            let next = watcher.next.max(told + 1);
            (watcher.synced && next <= revision).then_some((at as u32, next))
        };
        for (watcher, next) in self.watchers.iter().filter_map(synced).collect::<Vec<_>>() {
            self.fall_behind(watcher, next);
        }
    }

    fn advance(&mut self, revision: i64) {
        self.revision = revision;
        while let Some((start, watcher)) = self.future.first().copied()
            && start <= revision
        {
            self.future.pop_first();
            let arrived = &mut self.watchers[watcher as usize];
            arrived.future = false;
            self.streams[arrived.stream as usize].future -= 1;
        }
    }

    /// Makes a synced watcher unsynced.
    fn fall_behind(&mut self, watcher: u32, next: i64) {
        let this = &mut self.watchers[watcher as usize];
        (this.synced, this.next) = (false, next);
        let stream = this.stream;
        self.streams[stream as usize]
            .unsynced
            .insert((next, watcher));
        self.unsynced += 1;
        self.mark_ready(stream);
    }

    pub(super) fn mark_ready(&mut self, id: u32) {
        let stream = &mut self.streams[id as usize];
        if !stream.queued && !stream.blocked && !stream.unsynced.is_empty() {
            stream.queued = true;
            self.ready.push_back(id);
        }
    }

    /// Sends what was matched, one delivery a stream; the watchers whose stream had no room. `several` says that
    /// a watcher may have been hit more than once.
    pub(super) fn deliver(
        &mut self,
        revision: i64,
        several: bool,
        outbox: &mut impl Outbox,
    ) -> Vec<u32> {
        let mut refused = Vec::new();
        if self.scratch.hits.is_empty() {
            return refused;
        }
        let fields: Arc<[Bytes]> = self.scratch.fields.drain(..).collect();
        let mut hits = std::mem::take(&mut self.scratch.hits);
        if several {
            hits.sort_by_key(|(watcher, _)| *watcher);
        }
        for share in hits.chunk_by(|a, b| a.0 == b.0) {
            self.allot(share);
        }
        hits.clear();
        self.scratch.hits = hits;

        let mut streams = std::mem::take(&mut self.scratch.streams);
        for id in streams.drain(..) {
            let stream = &mut self.streams[id as usize];
            let delivery = Delivery::Events(Events {
                revision,
                fields: fields.clone(),
                shares: std::mem::take(&mut stream.shares),
                parts: std::mem::take(&mut stream.parts),
            });
            if stream.blocked || !outbox.try_send(StreamId(id), delivery) {
                stream.blocked = true;
                refused.append(&mut stream.recipients);
            }
            stream.recipients.clear();
        }
        self.scratch.streams = streams;
        refused
    }

    /// Adds one watcher's events to its stream's delivery.
    fn allot(&mut self, share: &[(u32, u32)]) {
        let Some((at, _)) = share.first().copied() else {
            return;
        };
        let watcher = &mut self.watchers[at as usize];
        watcher.quiet = false;
        let stream = &mut self.streams[watcher.stream as usize];
        if stream.parts.is_empty() {
            self.scratch.streams.push(watcher.stream);
        }
        stream.parts.push(Part {
            watch_id: watcher.watch_id,
            fragment: watcher.fragment,
            events: share.len() as u32,
        });
        stream.shares.extend(share.iter().map(|(_, field)| *field));
        stream.recipients.push(at);
    }
}

impl Stream {
    /// The id for a new watcher: the one asked for if it is free, or, asked for none, the next that is.
    fn free_watch_id(&mut self, asked: i64) -> Option<i64> {
        if asked != 0 {
            return (!self.watchers.contains_key(&asked)).then_some(asked);
        }
        while self.watchers.contains_key(&self.next_watch_id) {
            self.next_watch_id += 1;
        }
        self.next_watch_id += 1;
        Some(self.next_watch_id - 1)
    }
}

impl Scratch {
    /// Turns the hits from `first_hit` on, which say whether the pair before is wanted, into events of one change:
    /// the event with that pair and the one without, as far as somebody wants them.
    pub(super) fn encode(
        &mut self,
        first_hit: usize,
        row: &RevisionRow,
        record: &[u8],
        view: &View,
    ) -> Result<(), MvccError> {
        let mut fields: [Option<u32>; 2] = [None; 2];
        for hit in &mut self.hits[first_hit..] {
            let with_prev = hit.1 == 1;
            let field = match fields[usize::from(with_prev)] {
                Some(field) => field,
                None => {
                    let prev = if with_prev {
                        previous(row, view)?
                    } else {
                        None
                    };
                    self.fields.push(encode_event(row, record, prev.as_deref()));
                    self.fields.len() as u32 - 1
                }
            };
            fields[usize::from(with_prev)] = Some(field);
            hit.1 = field;
        }
        Ok(())
    }
}

/// The pair a key had before the main revision of a change, unless the change created it or compaction took it.
fn previous(row: &RevisionRow, view: &View) -> Result<Option<Bytes>, MvccError> {
    let main = row.revision.main;
    if !row.tombstone && row.create_revision == main {
        return Ok(None);
    }
    match view.get(&row.key, main - 1) {
        Ok(pair) => Ok(pair.map(|pair| pair.encoded())),
        Err(MvccError::Compacted) => Ok(None),
        Err(error) => Err(error),
    }
}
