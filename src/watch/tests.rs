//! The hub against a model: every watcher hears the exact slice of history it asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::mvcc::{Mvcc, View};
use crate::pb::etcdserverpb::{DeleteRangeRequest, PutRequest, WatchCreateRequest, WatchResponse};
use crate::pb::{EventFields, EventType, KeyValueFields};
use crate::store::{Change, Values};

/// A store and all changes it ever had.
pub(super) struct Past {
    pub(super) mvcc: Mvcc,
    pub(super) revisions: Vec<Arc<[Change]>>,
}

impl Past {
    pub(super) fn new() -> Self {
        Self {
            mvcc: Mvcc::new(Values::new(None, 1, 0)),
            revisions: Vec::new(),
        }
    }

    pub(super) fn view(&self) -> View {
        self.mvcc.view()
    }

    /// One write transaction: puts (with a value) and deletes; its changes.
    pub(super) fn write(&mut self, writes: &[(&str, Option<&str>)]) -> Option<Arc<[Change]>> {
        let mut txn = self.mvcc.write();
        for (key, value) in writes {
            let key = Bytes::from(key.to_string());
            if let Some(value) = value {
                let value = value.to_string().into();
                txn.put(&PutRequest {
                    key,
                    value,
                    ..Default::default()
                })
                .unwrap();
            } else {
                txn.delete_range(&DeleteRangeRequest {
                    key,
                    ..Default::default()
                })
                .unwrap();
            }
        }
        let changes = txn.finish();
        self.revisions.extend(changes.clone());
        changes
    }

    fn compact(&mut self, revision: i64) {
        // Compacting again or too far is refused.
        if self.mvcc.compact(revision).is_ok() {
            while !self.mvcc.prune(3).done {}
        }
    }

    fn all(&self) -> impl DoubleEndedIterator<Item = &Change> {
        self.revisions.iter().flat_map(|changes| changes.iter())
    }

    fn pair_at(&self, key: &[u8], at: i64) -> Option<&Change> {
        let last = self
            .all()
            .rfind(|c| c.row.key == key && c.row.revision.main <= at)?;
        (!last.row.tombstone).then_some(last)
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
            past: Past::new(),
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
            if row.tombstone {
                kv = KeyValueFields {
                    key: row.key.clone(),
                    ..Default::default()
                };
            }
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
                assert!(!gone.compacted && compact_revision <= self.past.mvcc.compact_revision());
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
            if heard.prev_kv.is_none() && main - 1 < past.mvcc.compact_revision() {
                heard.prev_kv = event.prev_kv.clone();
            }
        }
        assert_eq!(heard, slice);
    }

    fn finish(mut self) {
        self.hub.skip_to(self.past.mvcc.revision());
        for _ in 0..10_000 {
            for stream in self.streams.clone() {
                self.take(stream, usize::MAX >> 1);
            }
            if !self.hub.is_behind() {
                break;
            }
            self.hub
                .catch_up(&self.past.view(), &mut self.queues)
                .unwrap();
        }
        assert!(!self.hub.is_behind());
        assert_eq!(self.hub.counts().unsynced, 0);
        assert_eq!(self.hub.counts().watchers, self.watchers.len());
        for watcher in self.watchers.values() {
            Self::check(&self.past, watcher, Some(self.past.mvcc.revision()));
        }
        for stream in self.streams {
            self.hub.close(stream);
        }
        assert_eq!(self.hub.counts(), Counts::default());
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(BTreeMap<usize, bool>),
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
        6 => prop::collection::btree_map(0..KEYS.len(), any::<bool>(), 1..4).prop_map(Step::Write),
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
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..Default::default() })]
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
                    let value = format!("v{}", past.mvcc.revision());
                    let writes: Vec<_> = writes
                        .iter()
                        .map(|(key, put)| (KEYS[*key], put.then_some(value.as_str())))
                        .collect();
                    if let Some(changes) = past.write(&writes) {
                        hub.publish(&changes, &past.view(), queues).unwrap();
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
                Step::CatchUp => hub.catch_up(&past.view(), queues).unwrap(),
                Step::Compact(back) => {
                    past.compact(past.mvcc.revision() - back);
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
    hub.publish(past.revisions.last().unwrap(), &past.view(), &mut queues)
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
        hub.publish(past.revisions.last().unwrap(), &past.view(), &mut queues)
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
    let mut past = Past::new();
    for _ in 0..100 {
        past.write(&[("old", Some("v"))]);
    }
    past.write(&[("new", Some("v"))]);
    let (mut hub, mut queues) = (Hub::new(past.mvcc.revision()), Queues::new(1000));
    let stream = hub.open();
    for (key, start_revision) in [("old", 2), ("new", past.mvcc.revision())] {
        let request = WatchCreateRequest {
            key: key.into(),
            start_revision,
            ..Default::default()
        };
        hub.create(stream, &request, &mut queues);
    }
    for _ in 0..2 {
        hub.catch_up(&past.view(), &mut queues).unwrap();
    }
    assert_eq!(
        hub.counts().unsynced,
        1,
        "the one nearly there did not wait for the other"
    );
}
