//! [`View`]: what readers read.

use std::sync::Arc;

use super::MvccError;
use super::encoded::EncodedRange;
use super::read::{Reader, header};
use super::tree::Tree;
use super::txn;
use crate::pb::KeyValue;
use crate::pb::etcdserverpb::{RangeRequest, RangeResponse, TxnRequest, TxnResponse};
use crate::store::Values;

/// The store as it was after some revision. Cheap to clone, never changes, and holds up nobody.
///
/// A compaction after the view was taken may remove records of it. A read that needs one of them fails
/// with [`MvccError::Stale`] if it was at the view's own revision (repeat it with a new view) and with
/// [`MvccError::Compacted`] otherwise.
#[derive(Clone)]
pub struct View {
    pub(super) tree: Tree,
    pub(super) values: Arc<Values>,
    pub(super) revision: i64,
    pub(super) compact_revision: i64,
    pub(super) stored_bytes: u64,
}

impl View {
    /// The current revision, 1 in a store never written to.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The revision below which nothing can be read, -1 in a store never compacted.
    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    /// Keys that are alive.
    pub fn live_count(&self) -> u64 {
        self.tree.live()
    }

    /// What the quota counts, see [`Mvcc::stored_bytes`](super::Mvcc::stored_bytes).
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Answers a range request. The header has the view's revision and nothing else.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, MvccError> {
        self.reader().range(request)
    }

    /// [`View::range`], encoded.
    pub fn range_encoded(&self, request: &RangeRequest) -> Result<EncodedRange, MvccError> {
        self.reader().range_encoded(request)
    }

    /// The pair of a key at a main revision, 0 or less for the current one.
    pub fn get(&self, key: &[u8], revision: i64) -> Result<Option<KeyValue>, MvccError> {
        let reader = self.reader();
        reader.pair(key, reader.at(revision)?)
    }

    /// Answers a transaction for which [`is_read_only`](super::is_read_only) holds.
    pub fn txn_read_only(&self, request: &TxnRequest) -> Result<TxnResponse, MvccError> {
        let reader = self.reader();
        let (succeeded, responses) = txn::read_only(&reader, request)?;
        Ok(TxnResponse {
            header: header(self.revision),
            succeeded,
            responses,
        })
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        Reader {
            tree: &self.tree,
            values: &self.values,
            own: None,
            revision: self.revision,
            compact_revision: self.compact_revision,
        }
    }
}
