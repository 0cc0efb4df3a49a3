//! Reads of the index and the records it points to, at any revision that is left.

use std::cmp::Reverse;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::MvccError;
use super::keys::KeyRef;
use super::leaf::Found;
use super::range::KeyRange;
use super::record::{KeysOnly, fields};
use super::tree::Tree;
use crate::pb::KeyValue;
use crate::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::pb::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use crate::store::{Change, Values};
use crate::types::Revision;

/// The state to read: a view's, or in a write what it made of the state so far.
pub(super) struct Reader<'a> {
    pub(super) tree: &'a Tree,
    pub(super) values: &'a Values,
    /// In a write, its changes so far; their records are here only.
    pub(super) own: Option<&'a [Change]>,
    /// The current revision; in a write that changed something, the one it makes.
    pub(super) revision: i64,
    pub(super) compact_revision: i64,
}

/// A response header with nothing but a revision: the rest is the edge's to fill.
pub(super) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

/// A pair on its way into a sorted or filtered reply.
struct Item<'a> {
    key: KeyRef<'a>,
    revision: Revision,
    create_revision: i64,
    version: i64,
    record: Option<Bytes>,
    value: Bytes,
}

impl<'a> Reader<'a> {
    /// The main revision that a request's `revision` means.
    pub(super) fn at(&self, revision: i64) -> Result<i64, MvccError> {
        let at = match revision {
            at if at > self.revision => return Err(MvccError::FutureRevision),
            at if at <= 0 => self.revision,
            at => at,
        };
        if at < self.compact_revision {
            return Err(MvccError::Compacted);
        }
        Ok(at)
    }

    /// The pair of a key at a main revision.
    pub(super) fn pair(&self, key: &[u8], at: i64) -> Result<Option<KeyValue>, MvccError> {
        let found = self.tree.get(key, at).map(|found| found.revision);
        let record = found
            .map(|revision| self.record(revision, at))
            .transpose()?;
        Ok(record.map(KeyValue::from_encoded))
    }

    /// Answers a range request.
    pub(super) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, MvccError> {
        let at = self.at(request.revision)?;
        let range = KeyRange::new(&request.key, &request.range_end);
        let mut response = RangeResponse {
            header: header(self.revision),
            ..RangeResponse::default()
        };
        if request.count_only {
            response.count = self.tree.count(&range, at) as i64;
        } else if range.is_point() && is_plain(request) {
            response.kvs.extend(self.pair(range.start, at)?);
            response.count = response.kvs.len() as i64;
        } else {
            let count = self.tree.count(&range, at);
            response.count = count as i64;
            (response.kvs, response.more) = match Selection::of(request, count) {
                Some(selection) => self.natural(request, &range, at, selection)?,
                None => self.arranged(request, &range, at)?,
            };
        }
        Ok(response)
    }

    /// Pairs in key order, or in reverse.
    fn natural(
        &self,
        request: &RangeRequest,
        range: &KeyRange<'_>,
        at: i64,
        selection: Selection,
    ) -> Result<(Vec<KeyValue>, bool), MvccError> {
        let mut kvs = if request.keys_only {
            let items = self.items(range, at, selection.skip, selection.take)?;
            keys_only(&items)
        } else {
            self.pairs(range, at, selection.skip, selection.take)?
        };
        if selection.reverse {
            kvs.reverse();
        }
        Ok((kvs, selection.more))
    }

    /// Pairs of a range in key order, without the first `skip`.
    pub(super) fn pairs(
        &self,
        range: &KeyRange<'_>,
        at: i64,
        skip: u64,
        take: usize,
    ) -> Result<Vec<KeyValue>, MvccError> {
        let mut revisions = Vec::new();
        self.walk(range, at, skip, take, |found| {
            revisions.push(found.revision)
        });
        let records = self.records(&revisions, at)?;
        Ok(records.into_iter().map(KeyValue::from_encoded).collect())
    }

    /// Filtered or sorted pairs.
    fn arranged(
        &self,
        request: &RangeRequest,
        range: &KeyRange<'_>,
        at: i64,
    ) -> Result<(Vec<KeyValue>, bool), MvccError> {
        let limit = limit(request);
        // With no order given the limit counts before sorting too, as it does in etcd.
        let unsorted = request.sort_order() == SortOrder::None && !has_filters(request);
        let take = if unsorted {
            limit.saturating_add(1)
        } else {
            usize::MAX
        };
        let mut items = self.items(range, at, 0, take)?;
        items.retain(|item| passes(request, item));
        if request.sort_target() == SortTarget::Value {
            self.read_values(&mut items, at)?;
        }
        sort(request, &mut items);
        let more = items.len() > limit;
        items.truncate(limit);
        let kvs = if !request.keys_only {
            self.whole(items, at)?
        } else if request.sort_target() == SortTarget::Value {
            without_values(&items)?
        } else {
            keys_only(&items)
        };
        Ok((kvs, more))
    }

    fn items(
        &self,
        range: &KeyRange<'_>,
        at: i64,
        skip: u64,
        take: usize,
    ) -> Result<Vec<Item<'a>>, MvccError> {
        let mut items = Vec::new();
        let mut unknown = Vec::new();
        self.walk(range, at, skip, take, |found| {
            if found.head.is_none() {
                unknown.push(items.len());
            }
            items.push(Item {
                key: found.key,
                revision: found.revision,
                create_revision: found.head.map_or(0, |head| head.create_revision),
                version: found.head.map_or(0, |head| head.version),
                record: None,
                value: Bytes::new(),
            });
        });
        let revisions: Vec<_> = unknown.iter().map(|&one| items[one].revision).collect();
        for (one, record) in unknown.into_iter().zip(self.records(&revisions, at)?) {
            let item = &mut items[one];
            let fields = fields(item.revision, &record)?;
            item.create_revision = fields.create_revision;
            item.version = fields.version;
            item.record = Some(record);
        }
        Ok(items)
    }

    fn read_values(&self, items: &mut [Item<'_>], at: i64) -> Result<(), MvccError> {
        let revisions: Vec<_> = items.iter().map(|item| item.revision).collect();
        for (item, record) in items.iter_mut().zip(self.records(&revisions, at)?) {
            item.value = fields(item.revision, &record)?.value;
            item.record = Some(record);
        }
        Ok(())
    }

    fn whole(&self, items: Vec<Item<'_>>, at: i64) -> Result<Vec<KeyValue>, MvccError> {
        let missing = items.iter().filter(|item| item.record.is_none());
        let revisions: Vec<_> = missing.map(|item| item.revision).collect();
        let mut read = self.records(&revisions, at)?.into_iter();
        let records = items
            .into_iter()
            .filter_map(|item| item.record.or_else(|| read.next()));
        Ok(records.map(KeyValue::from_encoded).collect())
    }

    pub(super) fn walk(
        &self,
        range: &KeyRange<'_>,
        at: i64,
        skip: u64,
        mut take: usize,
        mut visit: impl FnMut(Found<'a>),
    ) {
        if take == 0 {
            return;
        }
        let _ = self.tree.walk(range, at, skip, |found| {
            visit(found);
            take -= 1;
            match take {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
    }

    /// The record of a revision that the index has at main revision `at`.
    pub(super) fn record(&self, revision: Revision, at: i64) -> Result<Bytes, MvccError> {
        if let Some(record) = self.own_record(revision) {
            return Ok(record);
        }
        let record = self.values.record(revision)?;
        record.ok_or_else(|| self.lost(revision, at))
    }

    /// The records of revisions that the index has at main revision `at`.
    pub(super) fn records(&self, revisions: &[Revision], at: i64) -> Result<Vec<Bytes>, MvccError> {
        if self.own.is_some_and(|own| !own.is_empty()) {
            return revisions.iter().map(|&one| self.record(one, at)).collect();
        }
        let records = self.values.records(revisions, true)?.into_iter();
        let records = records.zip(revisions);
        records
            .map(|(record, &revision)| record.ok_or_else(|| self.lost(revision, at)))
            .collect()
    }

    fn own_record(&self, revision: Revision) -> Option<Bytes> {
        let own = self.own?;
        let first = own.first()?.row.revision;
        let sub = usize::try_from(revision.sub).ok()?;
        let change = own.get(sub).filter(|_| revision.main == first.main);
        change.map(|change| change.record.clone())
    }

    /// Compaction got ahead of a view. It cannot get ahead of a write.
    pub(super) fn lost(&self, revision: Revision, at: i64) -> MvccError {
        if self.own.is_some() {
            let reason = "its record is missing; restore this member from a snapshot or its peers";
            MvccError::Broken { revision, reason }
        } else if at == self.revision {
            MvccError::Stale
        } else {
            MvccError::Compacted
        }
    }
}

/// Which part of a range in key order a request asks for.
pub(super) struct Selection {
    pub(super) skip: u64,
    pub(super) take: usize,
    pub(super) reverse: bool,
    pub(super) more: bool,
}

impl Selection {
    /// `None` if the request needs sorting or filtering.
    pub(super) fn of(request: &RangeRequest, count: u64) -> Option<Self> {
        if has_filters(request) || request.sort_target() != SortTarget::Key {
            return None;
        }
        let take = limit(request);
        let left = count.saturating_sub(take as u64);
        let reverse = request.sort_order() == SortOrder::Descend;
        Some(Self {
            skip: if reverse { left } else { 0 },
            take,
            reverse,
            more: left > 0,
        })
    }
}

fn limit(request: &RangeRequest) -> usize {
    match usize::try_from(request.limit) {
        Ok(limit) if limit > 0 => limit,
        _ => usize::MAX,
    }
}

pub(super) fn has_filters(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn is_plain(request: &RangeRequest) -> bool {
    !request.keys_only && !has_filters(request)
}

fn passes(request: &RangeRequest, item: &Item<'_>) -> bool {
    let within = |at: i64, min: i64, max: i64| (min == 0 || at >= min) && (max == 0 || at <= max);
    let modified = item.revision.main;
    within(modified, request.min_mod_revision, request.max_mod_revision)
        && within(
            item.create_revision,
            request.min_create_revision,
            request.max_create_revision,
        )
}

/// Ties stay in key order.
fn sort(request: &RangeRequest, items: &mut [Item<'_>]) {
    let descend = request.sort_order() == SortOrder::Descend;
    match (request.sort_target(), descend) {
        (SortTarget::Key, false) => {}
        (SortTarget::Key, true) => items.reverse(),
        (SortTarget::Version, false) => items.sort_by_key(|item| item.version),
        (SortTarget::Version, true) => items.sort_by_key(|item| Reverse(item.version)),
        (SortTarget::Create, false) => items.sort_by_key(|item| item.create_revision),
        (SortTarget::Create, true) => items.sort_by_key(|item| Reverse(item.create_revision)),
        (SortTarget::Mod, false) => items.sort_by_key(|item| item.revision.main),
        (SortTarget::Mod, true) => items.sort_by_key(|item| Reverse(item.revision.main)),
        (SortTarget::Value, false) => items.sort_by(|a, b| a.value.cmp(&b.value)),
        (SortTarget::Value, true) => items.sort_by(|a, b| b.value.cmp(&a.value)),
    }
}

/// Pairs from the index alone: they do not tell the lease.
fn keys_only(items: &[Item<'_>]) -> Vec<KeyValue> {
    let mut encoder = KeysOnly::default();
    let pairs = items.iter().map(|item| {
        let main = item.revision.main;
        encoder.pair(item.key, item.create_revision, main, item.version)
    });
    pairs.collect()
}

/// Pairs from their records, which do tell the lease.
fn without_values(items: &[Item<'_>]) -> Result<Vec<KeyValue>, MvccError> {
    let records = items
        .iter()
        .filter_map(|item| Some((item, item.record.as_ref()?)));
    records
        .map(|(item, record)| {
            let mut fields = fields(item.revision, record)?;
            fields.value = Bytes::new();
            Ok(fields.into())
        })
        .collect()
}
