//! [`Mvcc`]: the owner of the store's state.

use std::sync::Arc;

use super::MvccError;
use super::operations::Operations;
use super::record::stored_bytes;
use super::tree::Tree;
use super::txn::Checks;
use super::view::View;
use super::write::WriteTxn;
use crate::pb::etcdserverpb::{DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse};
use crate::pb::etcdserverpb::{TxnRequest, TxnResponse};
use crate::store::{Change, Values};
use crate::types::Revision;

/// A response, and the changes of the revision that the request made, if it made one.
pub type Applied<R> = (R, Option<Arc<[Change]>>);

/// Key-value state, with one owner. Readers get [`View`]s.
///
/// After an [`MvccError::Store`] or [`MvccError::Broken`] from a write its state must not be used any more.
pub struct Mvcc {
    pub(super) tree: Tree,
    pub(super) values: Arc<Values>,
    pub(super) revision: i64,
    pub(super) compact_revision: i64,
    /// Compacted, but not all of it removed yet.
    pub(super) pruning: Option<Pruning>,
    pub(super) stored_bytes: u64,
    pub(super) live_bytes: u64,
    /// Room for the changes of the next write.
    pub(super) changes: Vec<Change>,
    pub(super) operations: Operations,
}

/// How far the removal of compacted revisions is.
pub(super) struct Pruning {
    pub(super) revision: i64,
    pub(super) from: Vec<u8>,
}

/// What one slice of pruning did.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Revisions that are gone. The next checkpoint removes them from the database.
    pub removed: Vec<Revision>,
    /// Nothing is left to remove for any compaction so far.
    pub done: bool,
}

impl Mvcc {
    /// An empty store, at revision 1.
    pub fn new(values: Arc<Values>) -> Self {
        Self {
            tree: Tree::default(),
            values,
            revision: 1,
            compact_revision: -1,
            pruning: None,
            stored_bytes: 0,
            live_bytes: 0,
            changes: Vec::new(),
            operations: Operations::default(),
        }
    }

    /// The current revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The revision below which nothing can be read, -1 before the first compaction.
    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    /// The sum over all stored revisions of what each takes in a database file of etcd's layout: 17 bytes of
    /// key (18 for a tombstone), its record and a page element of 16.
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// The part of [`stored_bytes`](Self::stored_bytes) that pairs which are alive take.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// What writes have done since the start.
    pub fn operations(&self) -> Operations {
        self.operations
    }

    /// The state as it is now, for readers. Cheap: take one after every batch of writes.
    pub fn view(&self) -> View {
        View {
            tree: self.tree.clone(),
            values: Arc::clone(&self.values),
            revision: self.revision,
            compact_revision: self.compact_revision,
            stored_bytes: self.stored_bytes,
        }
    }

    /// Begins a write.
    pub fn write(&mut self) -> WriteTxn<'_> {
        WriteTxn::new(self)
    }

    /// Puts one pair.
    pub fn put(
        &mut self,
        request: &PutRequest,
        lease_exists: &dyn Fn(i64) -> bool,
    ) -> Result<Applied<PutResponse>, MvccError> {
        let mut write = self.write();
        Checks::new(&write.reader(), lease_exists).put(request)?;
        let response = write.put(request)?;
        Ok((response, write.finish()))
    }

    /// Deletes the keys of a range.
    pub fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<Applied<DeleteRangeResponse>, MvccError> {
        let mut write = self.write();
        let response = write.delete_range(request)?;
        Ok((response, write.finish()))
    }

    /// Runs a transaction: all of it, or nothing if an operation on its path is refused.
    pub fn txn(
        &mut self,
        request: &TxnRequest,
        lease_exists: &dyn Fn(i64) -> bool,
    ) -> Result<Applied<TxnResponse>, MvccError> {
        let mut write = self.write();
        let response = write.txn(request, lease_exists)?;
        Ok((response, write.finish()))
    }

    /// Forbids reads below `revision` from now on. Removing what only those could see is left to
    /// [`prune`](Self::prune); a hash of what this compaction covers must be taken before that, from a view
    /// taken now.
    pub fn compact(&mut self, revision: i64) -> Result<(), MvccError> {
        if revision <= self.compact_revision {
            return Err(MvccError::Compacted);
        }
        if revision > self.revision {
            return Err(MvccError::FutureRevision);
        }
        self.compact_revision = revision;
        self.pruning = Some(Pruning {
            revision,
            from: Vec::new(),
        });
        Ok(())
    }

    /// Removes compacted revisions until about `entries_max` keys and revisions were looked at. To be called
    /// again, between other work, until it is done. Views keep what they have of the index.
    pub fn prune(&mut self, entries_max: usize) -> Pruned {
        let mut pruned = Pruned::default();
        let Some(mut pruning) = self.pruning.take() else {
            pruned.done = true;
            return pruned;
        };
        self.values.prune(pruning.revision);
        let mut looked_at = 0;
        let mut freed = 0;
        while looked_at + pruned.removed.len() < entries_max.max(1) {
            let (next, keys) = self
                .tree
                .prune_next(&pruning.from, pruning.revision, |row| {
                    freed += stored_bytes(row.record_bytes(), row.is_tombstone());
                    pruned.removed.push(row.revision());
                });
            looked_at += keys;
            match next {
                Some(next) => pruning.from = next,
                None => {
                    pruned.done = true;
                    break;
                }
            }
        }
        self.stored_bytes -= freed;
        self.values.forget(&pruned.removed);
        if !pruned.done {
            self.pruning = Some(pruning);
        }
        pruned
    }
}
