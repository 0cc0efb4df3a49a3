//! The real store against the model: random histories, and every kind of read on them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::model::{LEASE, Model};
use super::*;
use crate::pb::etcdserverpb::compare::TargetUnion;
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::*;
use crate::store::{Change, RevisionRow, RevisionSource, Values};

/// A database in memory.
#[derive(Default)]
struct Disk(Mutex<BTreeMap<Revision, (RevisionRow, Bytes)>>);

impl RevisionSource for Disk {
    fn record(&self, revision: Revision) -> Result<Option<Bytes>, StoreError> {
        let rows = self.0.lock();
        Ok(rows.get(&revision).map(|(_, record)| record.clone()))
    }

    fn rows(&self, from: i64, to: i64, limit: usize) -> Result<Vec<RevisionRow>, StoreError> {
        let rows = self.0.lock();
        let range = rows.range(Revision::new(from, 0)..Revision::new(to, 0));
        let all: Vec<_> = range.map(|(_, (row, _))| row.clone()).collect();
        let Some(cut_off) = all.get(limit).map(|row| row.revision.main) else {
            return Ok(all);
        };
        let first = all[0].revision.main;
        let fits = |main| main < cut_off || main == first;
        Ok(all
            .into_iter()
            .filter(|row| fits(row.revision.main))
            .collect())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    /// Compacts at this many revisions below the current one.
    Compact(i64),
    Prune(usize),
    /// Makes everything so far durable, and forgets it in memory.
    Checkpoint,
    /// Keeps a view for later reads.
    Hold,
    Range(RangeRequest),
    Stream(RangeRequest, usize),
    ReadTxn(TxnRequest),
    Changes(Bytes, Bytes, i64, usize),
    Hash(i64),
    Restart,
}

fn key() -> impl Strategy<Value = Bytes> {
    let letter = prop::sample::select(vec![0u8, b'a', b'b', 0xff]);
    prop::collection::vec(letter, 1..4).prop_map(Bytes::from)
}

fn range_end() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        2 => Just(Bytes::new()),
        3 => Just(Bytes::from_static(&[0])),
        4 => key(),
    ]
}

fn flag(weight: u32) -> impl Strategy<Value = bool> {
    prop_oneof![weight => Just(false), 1 => Just(true)]
}

fn put() -> impl Strategy<Value = PutRequest> {
    let value = prop::collection::vec(any::<u8>(), 0..4);
    let lease = prop_oneof![6 => Just(0), 3 => Just(LEASE), 1 => Just(LEASE + 1)];
    (key(), value, lease, flag(3), flag(5), flag(5)).prop_map(
        |(key, value, lease, prev_kv, ignore_value, ignore_lease)| PutRequest {
            key,
            value: value.into(),
            lease: if ignore_lease { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn delete() -> impl Strategy<Value = DeleteRangeRequest> {
    let end = prop_oneof![4 => Just(Bytes::new()), 1 => range_end()];
    (key(), end, any::<bool>()).prop_map(|(key, range_end, prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn range() -> impl Strategy<Value = RangeRequest> {
    let bound = || prop_oneof![6 => Just(0), 1 => 1..40i64];
    let revision = prop_oneof![3 => Just(0), 1 => Just(-1), 6 => 1..60i64];
    (
        (
            key(),
            range_end(),
            prop_oneof![Just(0), Just(-1), 1..9i64],
            revision,
        ),
        (0..3i32, 0..5i32, flag(2), flag(3)),
        (bound(), bound(), bound(), bound()),
    )
        .prop_map(|(what, how, bounds)| RangeRequest {
            key: what.0,
            range_end: what.1,
            limit: what.2,
            revision: what.3,
            sort_order: how.0,
            sort_target: how.1,
            keys_only: how.2,
            count_only: how.3,
            min_mod_revision: bounds.0,
            max_mod_revision: bounds.1,
            min_create_revision: bounds.2,
            max_create_revision: bounds.3,
            ..RangeRequest::default()
        })
}

fn compare() -> impl Strategy<Value = Compare> {
    let union = prop_oneof![
        Just(None),
        (0..4i64).prop_map(|n| Some(TargetUnion::Version(n))),
        (0..40i64).prop_map(|n| Some(TargetUnion::CreateRevision(n))),
        (0..40i64).prop_map(|n| Some(TargetUnion::ModRevision(n))),
        any::<u8>().prop_map(|n| Some(TargetUnion::Value(vec![n].into()))),
        Just(Some(TargetUnion::Lease(LEASE))),
    ];
    (0..4i32, 0..5i32, key(), range_end(), union).prop_map(
        |(result, target, key, range_end, target_union)| Compare {
            result,
            target,
            key,
            target_union,
            range_end,
        },
    )
}

fn txn() -> impl Strategy<Value = TxnRequest> {
    fn of(op: impl Strategy<Value = Request> + Clone) -> impl Strategy<Value = TxnRequest> {
        let op = op.prop_map(|request| RequestOp {
            request: Some(request),
        });
        let ops = prop::collection::vec(op, 0..4);
        (prop::collection::vec(compare(), 0..2), ops.clone(), ops).prop_map(
            |(compare, success, failure)| TxnRequest {
                compare,
                success,
                failure,
            },
        )
    }
    let op = prop_oneof![
        put().prop_map(Request::RequestPut),
        delete().prop_map(Request::RequestDeleteRange),
        range().prop_map(Request::RequestRange),
    ]
    .boxed();
    let nested = prop_oneof![
        4 => op.clone(),
        1 => of(op).prop_map(Request::RequestTxn),
    ];
    of(nested.boxed())
}

fn read_txn() -> impl Strategy<Value = TxnRequest> {
    let op = range().prop_map(|range| RequestOp {
        request: Some(Request::RequestRange(range)),
    });
    let ops = prop::collection::vec(op, 0..4).boxed();
    let compares = prop::collection::vec(compare(), 0..3);
    (compares, ops.clone(), ops).prop_map(|(compare, success, failure)| TxnRequest {
        compare,
        success,
        failure,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        16 => put().prop_map(Step::Put),
        5 => delete().prop_map(Step::Delete),
        5 => txn().prop_map(Step::Txn),
        3 => (0..8i64).prop_map(Step::Compact),
        6 => (1..60usize).prop_map(Step::Prune),
        2 => Just(Step::Checkpoint),
        2 => Just(Step::Hold),
        10 => range().prop_map(Step::Range),
        3 => (range(), 1..4usize).prop_map(|(range, keys)| Step::Stream(range, keys)),
        2 => read_txn().prop_map(Step::ReadTxn),
        3 => (key(), range_end(), 0..20i64, 1..9usize)
            .prop_map(|(key, end, back, max)| Step::Changes(key, end, back, max)),
        2 => (-1..20i64).prop_map(Step::Hash),
        1 => Just(Step::Restart),
    ]
}

struct World {
    mvcc: Mvcc,
    model: Model,
    values: Arc<Values>,
    disk: Arc<Disk>,
    /// Since the last checkpoint.
    changes: Vec<Arc<[Change]>>,
    removed: Vec<Revision>,
    finished: Option<i64>,
    held: Vec<(View, Model)>,
    /// The keys that hang on the lease, as the changes tell it.
    leased: BTreeSet<Bytes>,
}

impl World {
    fn new() -> Self {
        let disk = Arc::new(Disk::default());
        let values = Values::new(Some(disk.clone()), 1, 0);
        Self {
            mvcc: Mvcc::new(values.clone()),
            model: Model::new(),
            values,
            disk,
            changes: Vec::new(),
            removed: Vec::new(),
            finished: None,
            held: Vec::new(),
            leased: BTreeSet::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        let lease_exists = |lease| lease == LEASE;
        match step {
            Step::Put(request) => {
                let applied = self.mvcc.put(request, &lease_exists);
                let expected = self.model.put(request);
                self.applied(applied, expected);
            }
            Step::Delete(request) => {
                let applied = self.mvcc.delete_range(request);
                let expected = self.model.delete(request);
                self.applied(applied, Ok(expected));
            }
            // Whether a key is put twice is the edge's to look at, and nothing here minds.
            Step::Txn(request) if check_txn(request, 128).is_ok() => {
                let applied = self.mvcc.txn(request, &lease_exists);
                let expected = self.model.txn(request);
                self.applied(applied, expected);
            }
            Step::Txn(_) => {}
            Step::Compact(back) => self.compact(self.model.revision - back),
            Step::Prune(entries) => self.prune(*entries),
            Step::Checkpoint => self.checkpoint(),
            Step::Hold => self.held.push((self.mvcc.view(), self.model.clone())),
            Step::Range(request) => self.read(|view, model| {
                seen(view, view.range(request), model.range(request));
            }),
            Step::Stream(request, keys) => self.read(|view, model| {
                stream(view, model, request, *keys);
            }),
            Step::ReadTxn(request) => self.read(|view, model| {
                assert!(is_read_only(request));
                seen(
                    view,
                    view.txn_read_only(request),
                    model.clone().txn(request),
                );
            }),
            Step::Changes(key, end, back, max) => {
                let from = self.model.revision - back;
                if from > self.model.compact_revision {
                    changes(&self.mvcc.view(), &self.model, key, end, from.max(0), *max);
                }
            }
            Step::Hash(back) => {
                let revision = self.model.revision - back;
                let hash = self.mvcc.view().hash_kv(revision);
                match revision {
                    at if *back < 0 => {
                        assert!(matches!(hash, Err(MvccError::FutureRevision)), "{at}");
                    }
                    at if at > 0 && at < self.model.compact_revision => {
                        assert!(matches!(hash, Err(MvccError::Compacted)), "{at}");
                    }
                    0 => {}
                    at => {
                        let expected = self.model.hash(self.model.compact_revision, at);
                        assert_eq!(hash.unwrap(), expected);
                    }
                }
            }
            Step::Restart => self.restart(),
        }
        self.check();
    }

    fn applied<R: std::fmt::Debug + PartialEq>(
        &mut self,
        applied: Result<Applied<R>, MvccError>,
        expected: Result<R, MvccError>,
    ) {
        let (response, changes) = match applied {
            Ok((response, changes)) => (Ok(response), changes),
            Err(error) => (Err(error), None),
        };
        same(response, expected);
        let Some(changes) = changes else {
            return;
        };
        for (sub, change) in changes.iter().enumerate() {
            assert_eq!(
                change.row.revision,
                Revision::new(self.model.revision, sub as i64)
            );
            let was = self.leased.contains(&change.row.key);
            assert_eq!(change.previous_lease, if was { LEASE } else { 0 });
            self.leased.remove(&change.row.key);
            if change.row.lease != 0 {
                self.leased.insert(change.row.key.clone());
            }
            assert_eq!(change.row.record_bytes as usize, change.record.len());
        }
        self.changes.push(changes);
    }

    fn compact(&mut self, revision: i64) {
        let previous = self.mvcc.compact_revision();
        let compacted = self.mvcc.compact(revision);
        let hash = compacted.and_then(|()| {
            let view = self.mvcc.view();
            match self.values.pruned_revision() > previous {
                // Cut short by the next compaction, as in a process that was busy.
                true => Ok(self.model.hash(previous, revision)),
                false => view.hash_compaction(previous, revision),
            }
        });
        same(hash, self.model.compact(revision));
    }

    fn prune(&mut self, entries: usize) {
        let pruned = self.mvcc.prune(entries);
        self.removed.extend(pruned.removed);
        if pruned.done && self.mvcc.compact_revision() >= 0 {
            self.finished = Some(self.mvcc.compact_revision());
            assert_eq!(self.mvcc.stored_bytes(), self.model.stored_bytes());
        }
    }

    fn checkpoint(&mut self) {
        let mut rows = self.disk.0.lock();
        for change in self.changes.drain(..).flat_map(|batch| batch.to_vec()) {
            rows.insert(change.row.revision, (change.row, change.record));
        }
        for revision in self.removed.drain(..) {
            assert!(
                rows.remove(&revision).is_some(),
                "{revision:?} removed twice"
            );
        }
        drop(rows);
        self.values.durable(self.model.revision);
    }

    fn restart(&mut self) {
        self.checkpoint();
        let scheduled = Some(self.mvcc.compact_revision()).filter(|at| *at >= 0);
        let marks = CompactMarks {
            scheduled,
            finished: self.finished,
        };
        let rows = self.values.rows(0, i64::MAX, usize::MAX).unwrap();
        let mut loader = Loader::default();
        rows.iter().for_each(|row| loader.push(row.into()));
        let (stored, live) = (self.mvcc.stored_bytes(), self.mvcc.live_bytes());
        self.mvcc = loader.finish(marks, self.values.clone()).unwrap();
        assert_eq!(self.mvcc.stored_bytes(), stored);
        assert_eq!(self.mvcc.live_bytes(), live);
        assert_eq!(self.mvcc.revision(), self.model.revision);
    }

    /// Reads now and as views see it that were taken earlier.
    fn read(&self, read: impl Fn(&View, &Model)) {
        read(&self.mvcc.view(), &self.model);
        for (view, model) in &self.held {
            read(view, model);
        }
    }

    fn check(&self) {
        self.mvcc.tree.check();
        assert_eq!(self.mvcc.revision(), self.model.revision);
        assert_eq!(self.mvcc.compact_revision(), self.model.compact_revision);
        let everything = RangeRequest {
            key: Bytes::from_static(&[0]),
            range_end: Bytes::from_static(&[0]),
            ..RangeRequest::default()
        };
        let view = self.mvcc.view();
        let (all, expected) = (
            view.range(&everything),
            self.model.range(&everything).unwrap(),
        );
        assert_eq!(view.live_count() as i64, expected.count);
        let live: u64 = expected
            .kvs
            .iter()
            .map(|pair| 33 + pair.encoded().len() as u64)
            .sum();
        assert_eq!(self.mvcc.live_bytes(), live);
        same(all, Ok(expected));
    }
}

fn same<T: std::fmt::Debug + PartialEq>(real: Result<T, MvccError>, model: Result<T, MvccError>) {
    match (real, model) {
        (Ok(real), Ok(model)) => assert_eq!(real, model),
        (Err(real), Err(model)) => assert_eq!(format!("{real:?}"), format!("{model:?}")),
        (real, model) => panic!("{real:?} instead of {model:?}"),
    }
}

/// What a view says is the same as ever, but that it may miss a record once compaction went on.
fn seen<T: std::fmt::Debug + PartialEq>(
    view: &View,
    real: Result<T, MvccError>,
    model: Result<T, MvccError>,
) {
    let overtaken = view.values.pruned_revision() > view.compact_revision();
    match real {
        Err(MvccError::Stale | MvccError::Compacted) if overtaken => {}
        real => same(real, model),
    }
}

fn stream(view: &View, model: &Model, request: &RangeRequest, keys_max: usize) {
    let request = RangeRequest {
        key: request.key.clone(),
        range_end: request.range_end.clone(),
        limit: request.limit,
        revision: request.revision,
        keys_only: request.keys_only,
        count_only: request.count_only,
        ..RangeRequest::default()
    };
    check_range_stream(&request).unwrap();
    let streamed = view.range_stream(&request).and_then(|mut stream| {
        let mut whole = RangeResponse::default();
        while let Some(message) = stream.next(keys_max)? {
            assert!(whole.header.is_none(), "only the last one has a header");
            assert!(request.limit < 0 || message.kvs.len() <= keys_max);
            whole.kvs.extend(message.kvs);
            whole.header = message.header;
            whole.more = message.more;
            whole.count = message.count;
        }
        Ok(whole)
    });
    seen(view, streamed, model.range(&request));
}

fn changes(view: &View, model: &Model, key: &Bytes, end: &Bytes, from: i64, max: usize) {
    let range = KeyRange::new(key, end);
    let mut next = from;
    let mut seen = Vec::new();
    while next <= view.revision() {
        let some = view.changes(&range, next, max).unwrap();
        assert!(some.next > next);
        next = some.next;
        seen.extend(some.changes);
    }
    let rows = model.rows().into_iter();
    let expected: Vec<_> = rows
        .filter(|(at, row)| at.main >= from && range.contains(&row.0))
        .collect();
    assert_eq!(seen.len(), expected.len());
    for (change, (revision, (key, tombstone, record))) in seen.iter().zip(expected) {
        assert_eq!(change.row.revision, revision);
        assert_eq!(change.row.key, key);
        assert_eq!(change.row.tombstone, tombstone);
        let pair = model.keys[&key][&revision].clone().unwrap_or_default();
        assert_eq!(change.row.create_revision, pair.create_revision);
        assert_eq!(change.row.version, pair.version);
        assert_eq!(change.row.lease, pair.lease);
        assert_eq!(change.record, if tombstone { Vec::new() } else { record });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn every_history_reads_as_in_the_model(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        // In the end everything that compaction may remove is removed.
        while !world.mvcc.prune(50).done {}
        prop_assert_eq!(world.mvcc.stored_bytes(), world.model.stored_bytes());
    }
}
