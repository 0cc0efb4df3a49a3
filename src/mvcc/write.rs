//! [`WriteTxn`]: the changes of one revision in the making.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::engine::Mvcc;
use super::leaf::Head;
use super::operations::{self, Operations};
use super::range::KeyRange;
use super::read::{Reader, header};
use super::record::{key_of, stored_bytes, tombstone};
use super::{MvccError, txn};
use crate::pb::etcdserverpb::{DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse};
use crate::pb::etcdserverpb::{RangeRequest, RangeResponse, TxnRequest, TxnResponse};
use crate::pb::{KeyValue, KeyValueFields};
use crate::store::{Change, RevisionRow};
use crate::types::Revision;

/// A write: its changes share a main revision and become visible together with [`finish`](Self::finish).
///
/// Every write must be finished. The checks a put needs (that its lease exists, that a key whose value or
/// lease it keeps exists) come before it; [`Mvcc::put`] and [`Mvcc::txn`] make them.
#[must_use = "a write must be finished"]
pub struct WriteTxn<'a> {
    mvcc: &'a mut Mvcc,
    changes: Vec<Change>,
    done: Operations,
}

impl<'a> WriteTxn<'a> {
    pub(super) fn new(mvcc: &'a mut Mvcc) -> Self {
        let changes = std::mem::take(&mut mvcc.changes);
        debug_assert!(changes.is_empty(), "a write was not finished");
        let done = Operations::default();
        Self {
            mvcc,
            changes,
            done,
        }
    }

    /// The current revision as this write sees it: the one it makes, once it changed something.
    pub fn revision(&self) -> i64 {
        self.mvcc.revision + i64::from(!self.changes.is_empty())
    }

    /// Puts a pair.
    pub fn put(&mut self, request: &PutRequest) -> Result<PutResponse, MvccError> {
        self.done.ranges += u64::from(operations::reads(request));
        let previous = match request.prev_kv || request.ignore_value {
            true => self.reader().pair(&request.key, self.revision())?,
            false => None,
        };
        let value = match &previous {
            Some(pair) if request.ignore_value => pair.fields().value,
            None if request.ignore_value => return Err(MvccError::KeyNotFound),
            _ => request.value.clone(),
        };
        self.put_value(request, value)?;
        Ok(PutResponse {
            header: header(self.revision()),
            prev_kv: previous.filter(|_| request.prev_kv),
        })
    }

    fn put_value(&mut self, request: &PutRequest, value: Bytes) -> Result<(), MvccError> {
        self.done.put(request.key.len() + value.len());
        let revision = self.next();
        let mut pair = KeyValueFields {
            key: request.key.clone(),
            create_revision: revision.main,
            mod_revision: revision.main,
            version: 1,
            value,
            lease: request.lease,
        };
        if request.ignore_lease {
            let head = self.mvcc.tree.head(&request.key);
            let head = head.filter(|head| !head.is_tombstone());
            pair.lease = head.ok_or(MvccError::KeyNotFound)?.lease;
        }
        let mut record = Bytes::new();
        let previous = self.mvcc.tree.put(&request.key, |previous| {
            if let Some(previous) = previous.filter(|previous| !previous.is_tombstone()) {
                pair.create_revision = previous.create_revision;
                pair.version = previous.version + 1;
            }
            record = pair.encode_to_vec().into();
            Head {
                revision,
                create_revision: pair.create_revision,
                version: pair.version,
                lease: pair.lease,
                record_bytes: record.len() as u32,
            }
        });
        let row = RevisionRow {
            revision,
            tombstone: false,
            // A slice of the record, lest the change keep the whole request alive.
            key: key_of(&record, request.key.len()),
            create_revision: pair.create_revision,
            version: pair.version,
            lease: pair.lease,
            record_bytes: record.len() as u32,
        };
        self.changed(row, record, previous);
        Ok(())
    }

    /// Deletes the keys of a range.
    pub fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, MvccError> {
        self.done.deletes += 1;
        self.done.ranges += u64::from(request.prev_kv);
        let range = KeyRange::new(&request.key, &request.range_end);
        let at = self.revision();
        let (mut keys, mut revisions) = (Vec::new(), Vec::new());
        let _ = self.mvcc.tree.walk(&range, at, 0, |found| {
            keys.push(found.key.to_vec());
            revisions.push(found.revision);
            ControlFlow::<()>::Continue(())
        });
        let prev_kvs = match request.prev_kv {
            true => self.reader().records(&revisions, at)?,
            false => Vec::new(),
        };
        for key in &keys {
            self.delete(key);
        }
        Ok(DeleteRangeResponse {
            header: header(self.revision()),
            deleted: keys.len() as i64,
            prev_kvs: prev_kvs.into_iter().map(KeyValue::from_encoded).collect(),
        })
    }

    /// Deletes those of some keys that are alive, in the order given. Returns how many were.
    pub fn delete_keys(&mut self, keys: impl IntoIterator<Item = impl AsRef<[u8]>>) -> usize {
        let before = self.changes.len();
        for key in keys {
            self.done.deletes += 1;
            let head = self.mvcc.tree.head(key.as_ref());
            if head.is_some_and(|head| !head.is_tombstone()) {
                self.delete(key.as_ref());
            }
        }
        self.changes.len() - before
    }

    /// Deletes a key that is alive.
    fn delete(&mut self, key: &[u8]) {
        let revision = self.next();
        let record = tombstone(key);
        let head = Head::tombstone(revision, record.len() as u32);
        let previous = self.mvcc.tree.put(key, |_| head);
        let row = RevisionRow {
            revision,
            tombstone: true,
            key: key_of(&record, key.len()),
            create_revision: 0,
            version: 0,
            lease: 0,
            record_bytes: head.record_bytes,
        };
        self.changed(row, record, previous);
    }

    /// Answers a range request from the state the write has made so far.
    pub fn range(&mut self, request: &RangeRequest) -> Result<RangeResponse, MvccError> {
        self.done.ranges += 1;
        self.reader().range(request)
    }

    /// Runs a transaction, or refuses it before anything was changed.
    pub(super) fn txn(
        &mut self,
        request: &TxnRequest,
        lease_exists: &dyn Fn(i64) -> bool,
    ) -> Result<TxnResponse, MvccError> {
        let reader = self.reader();
        let path = txn::Path::decide(&reader, request)?;
        txn::Checks::new(&reader, lease_exists).txn(request, &mut path.steps())?;
        let decided = Operations::of_decisions(request, &mut path.steps());
        self.mvcc.operations.add(&decided);
        let mut response = txn::run(self, request, &mut path.steps())?;
        response.header = header(self.revision());
        Ok(response)
    }

    /// Makes the changes the new current revision and returns them; `None` if there are none, which leaves
    /// the revision as it was.
    pub fn finish(mut self) -> Option<Arc<[Change]>> {
        let mut changes = std::mem::take(&mut self.changes);
        let batch: Option<Arc<[Change]>> =
            (!changes.is_empty()).then(|| changes.drain(..).collect());
        self.mvcc.changes = changes;
        self.mvcc.operations.add(&self.done);
        if let Some(batch) = &batch {
            self.mvcc.revision += 1;
            self.mvcc.values.push(Arc::clone(batch));
        }
        batch
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        Reader {
            tree: &self.mvcc.tree,
            values: &self.mvcc.values,
            own: Some(&self.changes),
            revision: self.revision(),
            compact_revision: self.mvcc.compact_revision,
        }
    }

    fn next(&self) -> Revision {
        Revision::new(self.mvcc.revision + 1, self.changes.len() as i64)
    }

    fn changed(&mut self, row: RevisionRow, record: Bytes, previous: Option<Head>) {
        let bytes = stored_bytes(row.record_bytes, row.tombstone);
        self.mvcc.stored_bytes += bytes;
        if !row.tombstone {
            self.mvcc.live_bytes += bytes;
        }
        let previous = previous.filter(|previous| !previous.is_tombstone());
        if let Some(previous) = &previous {
            self.mvcc.live_bytes -= stored_bytes(previous.record_bytes, false);
        }
        self.changes.push(Change {
            row,
            record,
            previous: previous.map(|previous| previous.revision),
            previous_lease: previous.map_or(0, |previous| previous.lease),
        });
    }
}
