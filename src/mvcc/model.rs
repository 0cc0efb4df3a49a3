//! The store as plainly as it can be written, to hold the real one against: every revision of every key in
//! one map, and each request as etcd words it.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::range::KeyRange;
use super::read::header;
use super::{KvHash, MvccError};
use crate::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::response_op::Response;
use crate::pb::etcdserverpb::*;
use crate::pb::{KeyValue, KeyValueFields};
use crate::types::Revision;

/// The lease that exists; no other does.
pub(super) const LEASE: i64 = 7;

#[derive(Clone)]
pub(super) struct Model {
    /// Every stored revision by key and order of history; `None` is a tombstone.
    pub(super) keys: BTreeMap<Bytes, BTreeMap<Revision, Option<KeyValueFields>>>,
    pub(super) revision: i64,
    pub(super) compact_revision: i64,
    /// Changes of the write that is going on.
    changed: i64,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            keys: BTreeMap::new(),
            revision: 1,
            compact_revision: -1,
            changed: 0,
        }
    }

    fn now(&self) -> i64 {
        self.revision + i64::from(self.changed > 0)
    }

    fn finish(&mut self) {
        self.revision = self.now();
        self.changed = 0;
    }

    fn get(&self, key: &[u8], at: i64) -> Option<&KeyValueFields> {
        let history = self.keys.get(key)?;
        let newest = history.range(..=Revision::new(at, i64::MAX)).next_back();
        newest?.1.as_ref()
    }

    fn alive(&self, range: &KeyRange<'_>, at: i64) -> Vec<KeyValueFields> {
        let keys = self.keys.keys().filter(|key| range.contains(key));
        keys.filter_map(|key| self.get(key, at)).cloned().collect()
    }

    pub(super) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, MvccError> {
        if request.revision > self.now() {
            return Err(MvccError::FutureRevision);
        }
        let at = match request.revision {
            revision if revision > 0 => revision,
            _ => self.now(),
        };
        if at < self.compact_revision {
            return Err(MvccError::Compacted);
        }
        let mut pairs = self.alive(&KeyRange::new(&request.key, &request.range_end), at);
        let count = pairs.len() as i64;
        if request.count_only {
            pairs.clear();
        }
        let filtered = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ]
        .iter()
        .any(|bound| *bound != 0);
        let (target, mut order) = (request.sort_target(), request.sort_order());
        let default =
            order == SortOrder::None || (order == SortOrder::Ascend && target == SortTarget::Key);
        if default && !filtered && request.limit > 0 {
            pairs.truncate(request.limit as usize + 1);
        }
        let (min, max) = (request.min_mod_revision, request.max_mod_revision);
        pairs.retain(|pair| max == 0 || pair.mod_revision <= max);
        pairs.retain(|pair| min == 0 || pair.mod_revision >= min);
        let (min, max) = (request.min_create_revision, request.max_create_revision);
        pairs.retain(|pair| max == 0 || pair.create_revision <= max);
        pairs.retain(|pair| min == 0 || pair.create_revision >= min);
        if order == SortOrder::None && target != SortTarget::Key {
            order = SortOrder::Ascend;
        }
        let by = |a: &KeyValueFields, b: &KeyValueFields| match target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        match order {
            SortOrder::None => {}
            SortOrder::Ascend => pairs.sort_by(by),
            SortOrder::Descend => pairs.sort_by(|a, b| by(b, a)),
        }
        let more = request.limit > 0 && pairs.len() as i64 > request.limit;
        if more {
            pairs.truncate(request.limit as usize);
        }
        for pair in pairs.iter_mut().filter(|_| request.keys_only) {
            pair.value = Bytes::new();
            if target != SortTarget::Value {
                pair.lease = 0;
            }
        }
        Ok(RangeResponse {
            header: header(self.now()),
            kvs: pairs.into_iter().map(KeyValue::from).collect(),
            more,
            count,
        })
    }

    fn store(&mut self, key: &Bytes, pair: Option<KeyValueFields>) {
        let revision = Revision::new(self.revision + 1, self.changed);
        let history = self.keys.entry(key.clone()).or_default();
        history.insert(revision, pair);
        self.changed += 1;
    }

    fn do_put(&mut self, request: &PutRequest) -> PutResponse {
        let previous = self.get(&request.key, self.now()).cloned();
        let old = previous.clone().unwrap_or_default();
        let main = self.revision + 1;
        let pair = KeyValueFields {
            key: request.key.clone(),
            create_revision: previous.as_ref().map_or(main, |old| old.create_revision),
            mod_revision: main,
            version: old.version + 1,
            value: match request.ignore_value {
                true => old.value,
                false => request.value.clone(),
            },
            lease: match request.ignore_lease {
                true => old.lease,
                false => request.lease,
            },
        };
        self.store(&request.key, Some(pair));
        PutResponse {
            header: header(self.now()),
            prev_kv: previous.filter(|_| request.prev_kv).map(KeyValue::from),
        }
    }

    fn do_delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let range = KeyRange::new(&request.key, &request.range_end);
        let pairs = self.alive(&range, self.now());
        for pair in &pairs {
            self.store(&pair.key, None);
        }
        DeleteRangeResponse {
            header: header(self.now()),
            deleted: pairs.len() as i64,
            prev_kvs: match request.prev_kv {
                true => pairs.into_iter().map(KeyValue::from).collect(),
                false => Vec::new(),
            },
        }
    }

    fn check_put(&self, request: &PutRequest) -> Result<(), MvccError> {
        if ![0, LEASE].contains(&request.lease) {
            return Err(MvccError::LeaseNotFound);
        }
        let keeps = request.ignore_value || request.ignore_lease;
        match self.get(&request.key, self.now()) {
            None if keeps => Err(MvccError::KeyNotFound),
            _ => Ok(()),
        }
    }

    pub(super) fn put(&mut self, request: &PutRequest) -> Result<PutResponse, MvccError> {
        self.check_put(request)?;
        let response = self.do_put(request);
        self.finish();
        Ok(response)
    }

    pub(super) fn delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let response = self.do_delete(request);
        self.finish();
        response
    }

    pub(super) fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, MvccError> {
        let before = self.clone();
        let mut response = self.do_txn(&before, request);
        match &mut response {
            Ok(response) => {
                response.header = header(self.now());
                self.finish();
            }
            Err(_) => *self = before,
        }
        response
    }

    fn do_txn(&mut self, before: &Self, request: &TxnRequest) -> Result<TxnResponse, MvccError> {
        let succeeded = request.compare.iter().all(|compare| before.holds(compare));
        let ops = match succeeded {
            true => &request.success,
            false => &request.failure,
        };
        let mut responses = Vec::new();
        for op in ops {
            let response = match op.request.as_ref().unwrap() {
                Request::RequestRange(range) => {
                    if range.revision > before.revision {
                        return Err(MvccError::FutureRevision);
                    }
                    if range.revision != 0 && range.revision < before.compact_revision {
                        return Err(MvccError::Compacted);
                    }
                    Response::ResponseRange(self.range(range)?)
                }
                Request::RequestPut(put) => {
                    before.check_put(put)?;
                    self.check_put(put)?;
                    Response::ResponsePut(self.do_put(put))
                }
                Request::RequestDeleteRange(delete) => {
                    Response::ResponseDeleteRange(self.do_delete(delete))
                }
                Request::RequestTxn(nested) => Response::ResponseTxn(self.do_txn(before, nested)?),
            };
            responses.push(ResponseOp {
                response: Some(response),
            });
        }
        Ok(TxnResponse {
            header: header(0),
            succeeded,
            responses,
        })
    }

    fn holds(&self, compare: &Compare) -> bool {
        let range = KeyRange::new(&compare.key, &compare.range_end);
        let mut pairs = self.alive(&range, self.revision);
        if pairs.is_empty() {
            if compare.target() == CompareTarget::Value {
                return false;
            }
            pairs.push(KeyValueFields::default());
        }
        pairs.iter().all(|pair| holds(compare, pair))
    }

    pub(super) fn compact(&mut self, revision: i64) -> Result<KvHash, MvccError> {
        if revision <= self.compact_revision {
            return Err(MvccError::Compacted);
        }
        if revision > self.revision {
            return Err(MvccError::FutureRevision);
        }
        let hash = self.hash(self.compact_revision, revision);
        self.compact_revision = revision;
        for history in self.keys.values_mut() {
            let mut old: Vec<_> = history.keys().copied().collect();
            old.retain(|at| at.main <= revision);
            if let Some(newest) = old.pop_if(|at| history[at].is_some() || at.main == revision) {
                assert!(history.contains_key(&newest));
            }
            history.retain(|at, _| !old.contains(at));
        }
        self.keys.retain(|_, history| !history.is_empty());
        Ok(hash)
    }

    /// The stored revisions with keys and records, in order of history.
    pub(super) fn rows(&self) -> BTreeMap<Revision, (Bytes, bool, Vec<u8>)> {
        let mut rows = BTreeMap::new();
        for (key, history) in &self.keys {
            for (revision, pair) in history {
                let tombstone = KeyValueFields {
                    key: key.clone(),
                    ..KeyValueFields::default()
                };
                let record = pair.as_ref().unwrap_or(&tombstone).encode_to_vec();
                rows.insert(*revision, (key.clone(), pair.is_none(), record));
            }
        }
        rows
    }

    pub(super) fn hash(&self, compact_revision: i64, revision: i64) -> KvHash {
        let newest = |key: &Bytes| {
            let history = self.keys[key].range(..=Revision::new(revision, i64::MAX));
            history.map(|(at, pair)| (*at, pair.is_some())).next_back()
        };
        let keep: Vec<Revision> = self
            .keys
            .keys()
            .filter_map(newest)
            .filter_map(|(at, alive)| alive.then_some(at))
            .collect();
        let mut bytes = b"key".to_vec();
        for (at, (_, tombstone, record)) in self.rows() {
            let compacted = at.main <= compact_revision && !keep.is_empty() && !keep.contains(&at);
            if at.main > revision || compacted || tombstone && at.main == compact_revision {
                continue;
            }
            bytes.extend(at.to_key());
            bytes.extend(tombstone.then_some(b't'));
            bytes.extend(record);
        }
        KvHash {
            hash: crc32c::crc32c(&bytes),
            compact_revision,
            revision,
        }
    }

    pub(super) fn stored_bytes(&self) -> u64 {
        let rows = self.rows();
        let bytes = rows
            .values()
            .map(|(_, tombstone, record)| 17 + 16 + u64::from(*tombstone) + record.len() as u64);
        bytes.sum()
    }
}

fn holds(compare: &Compare, pair: &KeyValueFields) -> bool {
    let number = |target: CompareTarget, union: &Option<TargetUnion>| match (target, union) {
        (CompareTarget::Version, Some(TargetUnion::Version(n)))
        | (CompareTarget::Create, Some(TargetUnion::CreateRevision(n)))
        | (CompareTarget::Mod, Some(TargetUnion::ModRevision(n)))
        | (CompareTarget::Lease, Some(TargetUnion::Lease(n))) => *n,
        _ => 0,
    };
    let target = compare.target();
    let wanted = number(target, &compare.target_union);
    let order = match target {
        CompareTarget::Value => match &compare.target_union {
            Some(TargetUnion::Value(value)) => pair.value.cmp(value),
            _ => pair.value.cmp(&Bytes::new()),
        },
        CompareTarget::Version => pair.version.cmp(&wanted),
        CompareTarget::Create => pair.create_revision.cmp(&wanted),
        CompareTarget::Mod => pair.mod_revision.cmp(&wanted),
        CompareTarget::Lease => pair.lease.cmp(&wanted),
    };
    match compare.result() {
        CompareResult::Equal => order == Ordering::Equal,
        CompareResult::NotEqual => order != Ordering::Equal,
        CompareResult::Greater => order == Ordering::Greater,
        CompareResult::Less => order == Ordering::Less,
    }
}
