//! Transactions: first all conditions are decided, nested ones too, then every operation on the chosen path
//! is checked, then they run.

use super::MvccError;
use super::compare;
use super::range::KeyRange;
use super::read::{Reader, header};
use super::write::WriteTxn;
use crate::pb::etcdserverpb::TxnResponse;
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::response_op::Response;
use crate::pb::etcdserverpb::{PutRequest, RangeRequest, RequestOp, ResponseOp, TxnRequest};

/// Whether both branches have ranges only, so that the transaction need not go through the log. A nested
/// transaction makes it a writing one, whatever is in it.
pub fn is_read_only(request: &TxnRequest) -> bool {
    all_ranges(request, |_| true)
}

/// Whether it reads only, and every range in it may be answered from local state.
pub fn is_serializable(request: &TxnRequest) -> bool {
    all_ranges(request, |range| range.serializable)
}

fn all_ranges(request: &TxnRequest, holds: impl Fn(&RangeRequest) -> bool) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(&op.request, Some(Request::RequestRange(range)) if holds(range)))
}

/// Decides and answers a transaction that only reads.
pub(super) fn read_only(
    reader: &Reader<'_>,
    request: &TxnRequest,
) -> Result<(bool, Vec<ResponseOp>), MvccError> {
    let succeeded = compare::hold(reader, &request.compare)?;
    let mut ranges = Vec::new();
    for op in branch(request, succeeded) {
        let Some(Request::RequestRange(range)) = &op.request else {
            return Err(MvccError::NotReadOnly);
        };
        check_range(reader, range)?;
        ranges.push(range);
    }
    let responses = ranges.into_iter().map(|range| {
        let response = Response::ResponseRange(reader.range(range)?);
        Ok(ResponseOp {
            response: Some(response),
        })
    });
    Ok((succeeded, responses.collect::<Result<_, MvccError>>()?))
}

fn branch(request: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    match succeeded {
        true => &request.success,
        false => &request.failure,
    }
}

/// Which branch was chosen in a transaction and, in order of operations, in the nested ones on its path.
pub(super) struct Path(Vec<bool>);

impl Path {
    /// Decides every condition on the path in the state before the transaction.
    pub(super) fn decide(reader: &Reader<'_>, request: &TxnRequest) -> Result<Self, MvccError> {
        let mut path = Self(Vec::new());
        path.descend(reader, request)?;
        Ok(path)
    }

    fn descend(&mut self, reader: &Reader<'_>, request: &TxnRequest) -> Result<(), MvccError> {
        let succeeded = compare::hold(reader, &request.compare)?;
        self.0.push(succeeded);
        for op in branch(request, succeeded) {
            if let Some(Request::RequestTxn(nested)) = &op.request {
                self.descend(reader, nested)?;
            }
        }
        Ok(())
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = bool> + '_ {
        self.0.iter().copied()
    }
}

/// The checks that come before a transaction changes anything, in the state before it.
pub(super) struct Checks<'a> {
    reader: &'a Reader<'a>,
    lease_exists: &'a dyn Fn(i64) -> bool,
    /// What earlier operations on the path delete.
    deleted: Vec<KeyRange<'a>>,
}

impl<'a> Checks<'a> {
    pub(super) fn new(reader: &'a Reader<'a>, lease_exists: &'a dyn Fn(i64) -> bool) -> Self {
        Self {
            reader,
            lease_exists,
            deleted: Vec::new(),
        }
    }

    /// Checks the operations on the path, in order.
    pub(super) fn txn(
        &mut self,
        request: &'a TxnRequest,
        steps: &mut impl Iterator<Item = bool>,
    ) -> Result<(), MvccError> {
        for op in branch(request, steps.next().unwrap_or_default()) {
            match &op.request {
                Some(Request::RequestRange(range)) => check_range(self.reader, range)?,
                Some(Request::RequestPut(put)) => self.put(put)?,
                Some(Request::RequestTxn(nested)) => self.txn(nested, steps)?,
                Some(Request::RequestDeleteRange(delete)) => {
                    let range = KeyRange::new(&delete.key, &delete.range_end);
                    self.deleted.push(range);
                }
                None => {}
            }
        }
        Ok(())
    }

    pub(super) fn put(&self, put: &PutRequest) -> Result<(), MvccError> {
        if put.lease != 0 && !(self.lease_exists)(put.lease) {
            return Err(MvccError::LeaseNotFound);
        }
        if !put.ignore_value && !put.ignore_lease {
            return Ok(());
        }
        // etcd does not look at earlier deletes, and panics when it comes to the put.
        let gone = self.deleted.iter().any(|range| range.contains(&put.key));
        if gone
            || self
                .reader
                .tree
                .get(&put.key, self.reader.revision)
                .is_none()
        {
            return Err(MvccError::KeyNotFound);
        }
        Ok(())
    }
}

/// Unlike outside of a transaction, a negative revision is an old one.
fn check_range(reader: &Reader<'_>, range: &RangeRequest) -> Result<(), MvccError> {
    match range.revision {
        0 => Ok(()),
        at if at > reader.revision => Err(MvccError::FutureRevision),
        at if at < reader.compact_revision => Err(MvccError::Compacted),
        _ => Ok(()),
    }
}

/// Runs the operations on the path. They were checked, so what fails now is the database.
pub(super) fn run(
    write: &mut WriteTxn<'_>,
    request: &TxnRequest,
    steps: &mut impl Iterator<Item = bool>,
) -> Result<TxnResponse, MvccError> {
    let succeeded = steps.next().unwrap_or_default();
    let ops = branch(request, succeeded);
    let mut responses = Vec::with_capacity(ops.len());
    for op in ops {
        let response = match &op.request {
            Some(Request::RequestRange(range)) => Response::ResponseRange(write.range(range)?),
            Some(Request::RequestPut(put)) => Response::ResponsePut(write.put(put)?),
            Some(Request::RequestDeleteRange(delete)) => {
                Response::ResponseDeleteRange(write.delete_range(delete)?)
            }
            Some(Request::RequestTxn(nested)) => Response::ResponseTxn(run(write, nested, steps)?),
            None => {
                responses.push(ResponseOp::default());
                continue;
            }
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
