//! What can be said against a request from its shape alone, before it is proposed or read.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use super::read::has_filters;
use crate::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};
use crate::pb::etcdserverpb::{RequestOp, TxnRequest};

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No key.
    #[error("key is empty: name one")]
    EmptyKey,
    /// `ignore_value` and a value.
    #[error("value is given though it is to be ignored: give none")]
    ValueProvided,
    /// `ignore_lease` and a lease.
    #[error("lease is given though it is to be ignored: give none")]
    LeaseProvided,
    /// An unknown sort order or target.
    #[error("sort order or target is unknown")]
    InvalidSortOption,
    /// A stream in another order than that of keys.
    #[error("a range stream cannot be sorted")]
    StreamSorted,
    /// A stream with a bound on revisions.
    #[error("a range stream cannot be filtered")]
    StreamFiltered,
    /// More operations or conditions than allowed.
    #[error("transaction has too many operations: split it")]
    TooManyOps,
    /// An operation that is none.
    #[error("transaction has an empty operation")]
    EmptyOp,
    /// A key put twice, or put and deleted.
    #[error("transaction changes a key twice")]
    DuplicateKey,
}

/// Checks a range request.
pub fn check_range(request: &RangeRequest) -> Result<(), RequestError> {
    if request.key.is_empty() {
        return Err(RequestError::EmptyKey);
    }
    let order = SortOrder::try_from(request.sort_order);
    let target = SortTarget::try_from(request.sort_target);
    if order.is_err() || target.is_err() {
        return Err(RequestError::InvalidSortOption);
    }
    Ok(())
}

/// Checks a range request to be answered as a stream.
pub fn check_range_stream(request: &RangeRequest) -> Result<(), RequestError> {
    check_range(request)?;
    match (request.sort_order(), request.sort_target()) {
        (SortOrder::None, _) | (SortOrder::Ascend, SortTarget::Key) => {}
        _ => return Err(RequestError::StreamSorted),
    }
    if has_filters(request) {
        return Err(RequestError::StreamFiltered);
    }
    Ok(())
}

/// Checks a put request.
pub fn check_put(request: &PutRequest) -> Result<(), RequestError> {
    if request.key.is_empty() {
        return Err(RequestError::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(RequestError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(RequestError::LeaseProvided);
    }
    Ok(())
}

/// Checks a delete request.
pub fn check_delete(request: &DeleteRangeRequest) -> Result<(), RequestError> {
    if request.key.is_empty() {
        return Err(RequestError::EmptyKey);
    }
    Ok(())
}

/// Checks a transaction: at most `ops_max` conditions and operations in a branch, where a nested transaction has
/// what is left of that.
pub fn check_txn(request: &TxnRequest, ops_max: usize) -> Result<(), RequestError> {
    check_ops(request, ops_max)?;
    Effects::of(&request.success)?;
    Effects::of(&request.failure)?;
    Ok(())
}

fn check_ops(request: &TxnRequest, ops_max: usize) -> Result<(), RequestError> {
    let branches = [&request.success, &request.failure];
    let most = branches.map(Vec::len).into_iter().max().unwrap_or(0);
    let Some(left) = ops_max.checked_sub(most.max(request.compare.len())) else {
        return Err(RequestError::TooManyOps);
    };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(RequestError::EmptyKey);
    }
    for op in branches.into_iter().flatten() {
        match &op.request {
            Some(Request::RequestRange(range)) => check_range(range)?,
            Some(Request::RequestPut(put)) => check_put(put)?,
            Some(Request::RequestDeleteRange(delete)) => check_delete(delete)?,
            Some(Request::RequestTxn(nested)) => check_ops(nested, left)?,
            None => return Err(RequestError::EmptyOp),
        }
    }
    Ok(())
}

/// What some operations may change, nested ones included.
#[derive(Default)]
struct Effects<'a> {
    puts: HashSet<&'a [u8]>,
    deletes: Intervals,
}

impl<'a> Effects<'a> {
    /// Refuses keys that are put twice, and ones that are put when they were deleted before. Before is meant as
    /// etcd looks at it: all deletes of this level, then nested transactions in order, then this level's puts.
    fn of(ops: &'a [RequestOp]) -> Result<Self, RequestError> {
        let mut effects = Self::default();
        for op in ops {
            if let Some(Request::RequestDeleteRange(delete)) = &op.request {
                effects.deletes.add(&delete.key, &delete.range_end);
            }
        }
        for op in ops {
            if let Some(Request::RequestTxn(nested)) = &op.request {
                effects.add_nested(nested)?;
            }
        }
        for op in ops {
            if let Some(Request::RequestPut(put)) = &op.request {
                effects.add_put(&put.key)?;
            }
        }
        Ok(effects)
    }

    fn add_nested(&mut self, nested: &'a TxnRequest) -> Result<(), RequestError> {
        let success = Self::of(&nested.success)?;
        let failure = Self::of(&nested.failure)?;
        for key in &success.puts {
            self.add_put(key)?;
        }
        // Only one of the branches runs, so they may put the same key.
        for key in failure.puts.difference(&success.puts) {
            self.add_put(key)?;
        }
        self.deletes.add_all(success.deletes);
        self.deletes.add_all(failure.deletes);
        Ok(())
    }

    fn add_put(&mut self, key: &'a [u8]) -> Result<(), RequestError> {
        if !self.puts.insert(key) || self.deletes.contains(key) {
            return Err(RequestError::DuplicateKey);
        }
        Ok(())
    }
}

/// Half-open intervals of keys, joined where they overlap: starts with their ends.
#[derive(Default)]
struct Intervals(BTreeMap<Vec<u8>, Vec<u8>>);

impl Intervals {
    /// Adds the keys of a delete. A delete without upper bound counts for nothing, in etcd, and neither does one
    /// whose end is not above its start.
    fn add(&mut self, key: &[u8], range_end: &[u8]) {
        let end = match range_end {
            [] => [key, &[0]].concat(),
            end => end.to_vec(),
        };
        self.add_interval(key.to_vec(), end);
    }

    fn add_interval(&mut self, mut start: Vec<u8>, mut end: Vec<u8>) {
        if end <= start {
            return;
        }
        while let Some((other_start, other_end)) = self.0.range(..=end.clone()).next_back() {
            if *other_end < start {
                break;
            }
            let other_start = other_start.clone();
            end = end.max(self.0.remove(&other_start).unwrap_or_default());
            start = start.min(other_start);
        }
        self.0.insert(start, end);
    }

    fn add_all(&mut self, other: Self) {
        for (start, end) in other.0 {
            self.add_interval(start, end);
        }
    }

    fn contains(&self, key: &[u8]) -> bool {
        let up_to = (Bound::Unbounded, Bound::Included(key));
        let before = self.0.range::<[u8], _>(up_to).next_back();
        before.is_some_and(|(_, end)| key < end.as_slice())
    }
}
