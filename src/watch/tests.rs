//! The hub against a model: every watcher hears the exact slice of history it asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::pb::etcdserverpb::{WatchCreateRequest, WatchResponse};
use crate::pb::{EventFields, EventType, KeyValueFields};
use crate::store::Change;

/// A store's past.
pub(super) struct Past {
    pub(super) revisions: Vec<Vec<Change>>,
    alive: BTreeMap<Bytes, KeyValueFields>,
    pub(super) compact_revision: i64,
    /// Revisions one look returns.
    pub(super) rows_step: i64,
}

impl Past {
    pub(super) fn new() -> Self {
        Self {
            revisions: Vec::new(),
            alive: BTreeMap::new(),
            compact_revision: -1,
            rows_step: 1000,
        }
    }

    pub(super) fn revision(&self) -> i64 {
        self.revisions.len() as i64 + 1
    }

    /// One write transaction: puts (with a value) and deletes.
    pub(super) fn write(&mut self, writes: &[(&str, Option<&str>)]) -> &[Change] {
        let main = self.revision() + 1;
        let mut changes: Vec<Change> = Vec::new();
        for (key, value) in writes {
            let key = Bytes::from(key.to_string());
            let before = self.alive.get(&key).cloned();
            if value.is_none() && before.is_none() {
                continue;
            }
            let revision = Revision::new(main, changes.len() as i64);
            let pair = KeyValueFields {
                key: key.clone(),
                create_revision: before.as_ref().map_or(main, |pair| pair.create_revision),
                mod_revision: main,
                version: before.as_ref().map_or(1, |pair| pair.version + 1),
                value: value.unwrap_or_default().to_owned().into(),
                lease: 0,
            };
            let written = |change: &Change| (change.row.key == key).then_some(change.row.revision);
            let previous = before.as_ref().map(|_| {
                let same = changes.iter().rev().find_map(written);
                same.or_else(|| self.all().filter_map(written).last())
                    .unwrap()
            });
            let tombstone = value.is_none();
            let record = if tombstone {
                self.alive.remove(&key);
                KeyValueFields {
                    key: key.clone(),
                    ..Default::default()
                }
            } else {
                self.alive.insert(key.clone(), pair.clone());
                pair.clone()
            };
            changes.push(Change {
                row: RevisionRow {
                    revision,
                    tombstone,
                    key,
                    create_revision: if tombstone { 0 } else { pair.create_revision },
                    version: if tombstone { 0 } else { pair.version },
                    lease: 0,
                    record_bytes: 0,
                },
                record: record.encode_to_vec().into(),
                previous,
                previous_lease: 0,
            });
        }
        if !changes.is_empty() {
            self.revisions.push(changes);
            return self.revisions.last().unwrap();
        }
        &[]
    }

    fn all(&self) -> impl DoubleEndedIterator<Item = &Change> {
        self.revisions.iter().flatten()
    }

    fn pair_at(&self, key: &[u8], at: i64) -> Option<&Change> {
        let last = self
            .all()
            .rfind(|c| c.row.key == key && c.row.revision.main <= at)?;
        (!last.row.tombstone).then_some(last)
    }
}

impl History for Past {
    fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    fn rows(&self, from: i64, to: i64) -> Result<Rows, StoreError> {
        let to = to.min(from + self.rows_step);
        let rows = self.all().map(|change| &change.row);
        let rows = rows
            .filter(|row| (from..to).contains(&row.revision.main))
            .cloned()
            .collect();
        Ok(Rows { rows, to })
    }

    fn record(&self, revision: Revision) -> Result<Option<Bytes>, StoreError> {
        let change = self
            .all()
            .find(|change| change.row.revision == revision)
            .unwrap();
        let newest = self.pair_at(&change.row.key, self.compact_revision);
        let kept = revision.main >= self.compact_revision
            || newest.is_some_and(|newest| newest.row.revision == revision);
        Ok(kept.then(|| change.record.clone()))
    }

    fn written(&self, key: &[u8], at: i64) -> Result<Option<Revision>, StoreError> {
        Ok(self.pair_at(key, at).map(|change| change.row.revision))
    }
}

/// Queues with room for `limit` deliveries.
pub(super) struct Queues {
    pub(super) queues: BTreeMap<StreamId, VecDeque<Delivery>>,
    pub(super) limit: usize,
    pub(super) refused: BTreeSet<StreamId>,
}

impl Queues {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            queues: BTreeMap::new(),
            limit,
            refused: BTreeSet::new(),
        }
    }
}

impl Outbox for Queues {
    fn try_send(&mut self, stream: StreamId, delivery: Delivery) -> bool {
        let queue = self.queues.entry(stream).or_default();
        if queue.len() >= self.limit {
            self.refused.insert(stream);
            return false;
        }
        queue.push_back(delivery);
        true
    }

    fn send(&mut self, stream: StreamId, reply: Delivery) {
        self.queues.entry(stream).or_default().push_back(reply);
    }
}

/// What the model knows of a watcher.
struct Expected {
    request: WatchCreateRequest,
    from: i64,
    heard: Vec<EventFields>,
    last_in_part: Vec<i64>,
    compacted: bool,
}

/// A world of one hub; checks all that a stream is told as it is told.
struct World {
    past: Past,
    hub: Hub,
    queues: Queues,
    streams: Vec<StreamId>,
    /// By stream and watch id, from the `Created` reply on.
    watchers: BTreeMap<(StreamId, i64), Expected>,
    asked: BTreeMap<StreamId, VecDeque<WatchCreateRequest>>,
}

impl World {
    fn new(limit: usize) -> Self {
        let mut hub = Hub::new(1);
        let streams = (0..3).map(|_| hub.open()).collect();
        Self {
            past: Past {
                rows_step: 3,
                ..Past::new()
            },
            hub,
            queues: Queues::new(limit),
            streams,
            watchers: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// The events of history that a watcher should hear in `from..=to`.
    fn slice(past: &Past, request: &WatchCreateRequest, from: i64, to: i64) -> Vec<EventFields> {
        let holds = |key: &[u8]| match &request.range_end[..] {
            [] => request.key == key,
            [0] => request.key <= key,
            end => request.key <= key && key < end,
        };
        let filtered = |tombstone: bool| request.filters.contains(&i32::from(tombstone));
        let wanted = past.all().filter(|change| {
            let row = &change.row;
            (from..=to).contains(&row.revision.main) && holds(&row.key) && !filtered(row.tombstone)
        });
        let event = |change: &Change| {
            let row = &change.row;
            let created = !row.tombstone && row.create_revision == row.revision.main;
            let prev = past.pair_at(&row.key, row.revision.main - 1);
            let prev = prev.filter(|_| request.prev_kv && !created);
            let mut kv = KeyValueFields::decode(change.record.clone()).unwrap();
            kv.mod_revision = row.revision.main;
            EventFields {
                r#type: i32::from(row.tombstone),
                kv: Some(kv.into()),
                prev_kv: prev.map(|prev| crate::pb::KeyValue::from_encoded(prev.record.clone())),
            }
        };
        wanted.map(event).collect()
    }

    fn take(&mut self, stream: StreamId, count: usize) {
        for _ in 0..count {
            let Some(delivery) = self.queues.queues.entry(stream).or_default().pop_front() else {
                break;
            };
            self.hear(stream, delivery);
        }
        if self.queues.refused.remove(&stream) {
            self.hub.drained(stream);
        }
    }

    fn hear(&mut self, stream: StreamId, delivery: Delivery) {
        match delivery {
            Delivery::Created { watch_id, revision } => {
                let request = self.asked.get_mut(&stream).unwrap().pop_front().unwrap();
                let start = request.start_revision;
                let from = if start == 0 { revision + 1 } else { start };
                let (heard, last_in_part) = (Vec::new(), Vec::new());
                let fresh = Expected {
                    request,
                    from,
                    heard,
                    last_in_part,
                    compacted: false,
                };
                self.watchers.insert((stream, watch_id), fresh);
            }
            Delivery::Refused { .. } => {
                self.asked.get_mut(&stream).unwrap().pop_front();
            }
            Delivery::Canceled { watch_id, .. } => {
                let gone = self.watchers.remove(&(stream, watch_id)).expect("known");
                Self::check(&self.past, &gone, None);
            }
            Delivery::Compacted {
                watch_id,
                compact_revision,
            } => {
                let gone = self.watchers.get_mut(&(stream, watch_id)).expect("known");
                assert!(!gone.compacted && compact_revision <= self.past.compact_revision);
                gone.compacted = true;
                Self::check(&self.past, gone, None);
                let whole = Self::slice(&self.past, &gone.request, gone.from, compact_revision - 1);
                assert!(gone.from < compact_revision && gone.heard.len() <= whole.len());
                self.watchers.remove(&(stream, watch_id));
            }
            Delivery::Progress { watch_id, revision } => {
                let about = self.watchers.iter().filter(|((of, id), _)| {
                    *of == stream && watch_id.is_none_or(|watch_id| watch_id == *id)
                });
                for (_, watcher) in about {
                    Self::check(&self.past, watcher, Some(revision));
                }
            }
            Delivery::Events(events) => {
                for (part, fields) in events.parts() {
                    let encoded: Vec<u8> = fields.flat_map(|field| field.to_vec()).collect();
                    let response = WatchResponse::decode(&encoded[..]).unwrap();
                    let watcher = self
                        .watchers
                        .get_mut(&(stream, part.watch_id))
                        .expect("known");
                    watcher
                        .heard
                        .extend(response.events.iter().map(crate::pb::Event::fields));
                    let last = watcher.heard.last().unwrap().kv.as_ref().unwrap().fields();
                    assert!(last.mod_revision <= events.revision);
                    watcher.last_in_part.push(last.mod_revision);
                    assert!(
                        watcher.last_in_part.is_sorted_by(|a, b| a < b),
                        "revision split"
                    );
                }
            }
        }
    }

    /// What was heard is the beginning of the slice, and all of it up to `to`.
    fn check(past: &Past, watcher: &Expected, to: Option<i64>) {
        let upper = to.unwrap_or(i64::MAX);
        let mut slice = Self::slice(past, &watcher.request, watcher.from, upper);
        if to.is_none() {
            slice.truncate(watcher.heard.len());
        }
        let mut heard = watcher.heard.clone();
        for (heard, event) in heard.iter_mut().zip(&slice) {
            let main = event.kv.as_ref().unwrap().fields().mod_revision;
            if heard.prev_kv.is_none() && main - 1 < past.compact_revision {
                heard.prev_kv = event.prev_kv.clone();
            }
        }
        assert_eq!(heard, slice);
    }

    fn finish(mut self) {
        self.hub.skip_to(self.past.revision());
        for _ in 0..10_000 {
            for stream in self.streams.clone() {
                self.take(stream, usize::MAX >> 1);
            }
            if !self.hub.is_behind() {
                break;
            }
            self.hub.catch_up(&self.past, &mut self.queues).unwrap();
        }
        assert!(!self.hub.is_behind());
        assert_eq!(self.hub.counts().unsynced, 0);
        assert_eq!(self.hub.counts().watchers, self.watchers.len());
        for watcher in self.watchers.values() {
            Self::check(&self.past, watcher, Some(self.past.revision()));
        }
        for stream in self.streams {
            self.hub.close(stream);
        }
        assert_eq!(self.hub.counts(), Counts::default());
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<(usize, bool)>),
    /// Changes of which the hub is not told.
    Lost(usize),
    Create(usize, WatchCreateRequest),
    Cancel(usize, i64),
    Progress(usize),
    Interval(usize),
    Take(usize, usize),
    CatchUp,
    Compact(i64),
}

const KEYS: [&str; 5] = ["a", "aa", "ab", "b", "c"];

fn step() -> impl Strategy<Value = Step> {
    let stream = || 0usize..3;
    let bound = || prop::sample::select(vec!["a", "aa", "b", "bb", "c", "d"]);
    let end = prop_oneof![
        Just("".to_owned()),
        Just("\0".to_owned()),
        bound().prop_map_into()
    ];
    let start = prop_oneof![2 => Just(0i64), 3 => 1i64..20, 1 => 20i64..60];
    let flags = (
        any::<bool>(),
        any::<bool>(),
        prop::collection::vec(0i32..3, 0..2),
    );
    let create = (bound(), end, start, flags, 0i64..4).prop_map(
        |(key, end, start_revision, (prev_kv, progress_notify, filters), watch_id)| {
            WatchCreateRequest {
                key: key.into(),
                range_end: end.into(),
                start_revision,
                progress_notify,
                filters,
                prev_kv,
                watch_id,
                fragment: false,
            }
        },
    );
    prop_oneof![
        6 => prop::collection::vec((0..KEYS.len(), any::<bool>()), 1..4).prop_map(Step::Write),
        1 => (0..KEYS.len()).prop_map(Step::Lost),
        3 => (stream(), create).prop_map(|(stream, request)| Step::Create(stream, request)),
        1 => (stream(), 0i64..5).prop_map(|(stream, id)| Step::Cancel(stream, id)),
        1 => stream().prop_map(Step::Progress),
        1 => stream().prop_map(Step::Interval),
        4 => (stream(), 0usize..6).prop_map(|(stream, count)| Step::Take(stream, count)),
        4 => Just(Step::CatchUp),
        1 => (0i64..3).prop_map(Step::Compact),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_watcher_hears_its_exact_slice_of_history(
        limit in 1usize..5,
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut world = World::new(limit);
        for step in steps {
            let World { past, hub, queues, streams, asked, .. } = &mut world;
            match step {
                Step::Write(writes) => {
                    let value = format!("v{}", past.revision());
                    let writes: Vec<_> = writes
                        .iter()
                        .map(|(key, put)| (KEYS[*key], put.then_some(value.as_str())))
                        .collect();
                    if !past.write(&writes).is_empty() {
                        let changes = past.revisions.last().unwrap().clone();
                        hub.publish(&changes, past, queues).unwrap();
                    }
                }
                Step::Lost(key) => {
                    past.write(&[(KEYS[key], Some("lost"))]);
                }
                Step::Create(stream, request) => {
                    asked.entry(streams[stream]).or_default().push_back(request.clone());
                    hub.create(streams[stream], &request, queues);
                }
                Step::Cancel(stream, id) => hub.cancel(streams[stream], id, queues),
                Step::Progress(stream) => hub.progress(streams[stream], queues),
                Step::Interval(stream) => hub.progress_interval(streams[stream], queues),
                Step::Take(stream, count) => {
                    let stream = streams[stream];
                    world.take(stream, count);
                }
                Step::CatchUp => hub.catch_up(past, queues).unwrap(),
                Step::Compact(back) => {
                    past.compact_revision = past.compact_revision.max(past.revision() - back);
                }
            }
        }
        world.finish();
    }
}

#[test]
fn a_txn_that_writes_a_key_twice_has_the_pair_before_it_in_both_events() {
    let mut past = Past::new();
    let (mut hub, mut queues) = (Hub::new(1), Queues::new(9));
    past.write(&[("k", Some("1"))]);
    hub.skip_to(2);
    let stream = hub.open();
    let request = WatchCreateRequest {
        key: "k".into(),
        prev_kv: true,
        ..Default::default()
    };
    hub.create(stream, &request, &mut queues);
    past.write(&[("k", Some("2")), ("k", None)]);
    hub.publish(past.revisions.last().unwrap(), &past, &mut queues)
        .unwrap();
    let Some(Delivery::Events(events)) = queues.queues.get_mut(&stream).unwrap().pop_back() else {
        panic!("no events")
    };
    let heard = WatchResponse::decode(&events.fields.concat()[..])
        .unwrap()
        .events;
    let prev = |at: usize| heard[at].fields().prev_kv.unwrap().into_fields();
    assert_eq!(heard[1].fields().r#type(), EventType::Delete);
    assert_eq!((prev(0).value, prev(1).value), ("1".into(), "1".into()));
}

#[test]
fn a_stream_gets_one_delivery_a_revision_and_events_are_encoded_once() {
    let mut past = Past::new();
    let (mut hub, mut queues) = (Hub::new(1), Queues::new(9));
    let streams: Vec<_> = (0..5).map(|_| hub.open()).collect();
    for watcher in 0..100 {
        let prev_kv = watcher % 2 == 0;
        let request = WatchCreateRequest {
            key: "k".into(),
            prev_kv,
            ..Default::default()
        };
        hub.create(streams[watcher % 5], &request, &mut queues);
    }
    queues.queues.clear();
    for value in ["1", "2"] {
        past.write(&[("k", Some(value))]);
        hub.publish(past.revisions.last().unwrap(), &past, &mut queues)
            .unwrap();
    }
    let mut addresses = BTreeSet::new();
    for queue in queues.queues.values() {
        assert_eq!(queue.len(), 2);
        for delivery in queue {
            let Delivery::Events(events) = delivery else {
                panic!("{delivery:?}")
            };
            assert_eq!(events.parts.len(), 20);
            addresses.extend(events.fields.iter().map(|field| field.as_ptr()));
        }
    }
    assert_eq!(
        addresses.len(),
        4,
        "two revisions, with and without the pair before"
    );
}

#[test]
fn steps_go_round_the_watchers_of_a_stream() {
    let mut past = Past {
        rows_step: 1,
        ..Past::new()
    };
    for _ in 0..100 {
        past.write(&[("old", Some("v"))]);
    }
    past.write(&[("new", Some("v"))]);
    let (mut hub, mut queues) = (Hub::new(past.revision()), Queues::new(1000));
    let stream = hub.open();
    for (key, start_revision) in [("old", 2), ("new", past.revision())] {
        let request = WatchCreateRequest {
            key: key.into(),
            start_revision,
            ..Default::default()
        };
        hub.create(stream, &request, &mut queues);
    }
    for _ in 0..2 {
        hub.catch_up(&past, &mut queues).unwrap();
    }
    assert_eq!(
        hub.counts().unsynced,
        1,
        "the one nearly there did not wait for the other"
    );
}
