//! What reads and writes did, counted the way etcd's metrics count it.
//!
//! etcd counts operations, not requests: a put that also returns the pair before it is a put and a range, a
//! condition of a transaction is a range. What one state was read or written with counts as a transaction when
//! it was more than one operation; a transaction's conditions and its writes are counted apart.

use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::{PutRequest, TxnRequest};

/// Operations so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// Ranges read.
    pub ranges: u64,
    /// Pairs put.
    pub puts: u64,
    /// Ranges deleted, whatever was in them.
    pub deletes: u64,
    /// Reads or writes of more than one operation.
    pub txns: u64,
    /// Bytes of keys and values put.
    pub put_bytes: u64,
}

impl Operations {
    /// One range.
    pub const RANGE: Self = Self {
        ranges: 1,
        puts: 0,
        deletes: 0,
        txns: 0,
        put_bytes: 0,
    };

    /// Of a transaction that only reads and was answered with `ranges` ranges.
    pub fn of_read_only(request: &TxnRequest, ranges: usize) -> Self {
        let ranges = (request.compare.len() + ranges) as u64;
        Self {
            ranges,
            txns: u64::from(ranges > 1),
            ..Self::default()
        }
    }

    /// Of deciding a transaction: its conditions, and its puts that need to know the pair before.
    pub(super) fn of_decisions(
        request: &TxnRequest,
        steps: &mut impl Iterator<Item = bool>,
    ) -> Self {
        let mut decided = Self {
            ranges: request.compare.len() as u64,
            ..Self::default()
        };
        let ops = match steps.next().unwrap_or_default() {
            true => &request.success,
            false => &request.failure,
        };
        for op in ops {
            match &op.request {
                Some(Request::RequestPut(put)) => decided.ranges += u64::from(reads(put)),
                Some(Request::RequestTxn(nested)) => {
                    decided.ranges += Self::of_decisions(nested, steps).ranges;
                }
                _ => {}
            }
        }
        decided
    }

    /// Adds what was done with one state.
    pub(super) fn add(&mut self, done: &Self) {
        self.ranges += done.ranges;
        self.puts += done.puts;
        self.deletes += done.deletes;
        self.txns += u64::from(done.ranges + done.puts + done.deletes > 1);
        self.put_bytes += done.put_bytes;
    }

    /// A put of this many bytes.
    pub(super) fn put(&mut self, bytes: usize) {
        self.puts += 1;
        self.put_bytes += bytes as u64;
    }
}

/// Whether a put reads the pair before it.
pub(super) fn reads(put: &PutRequest) -> bool {
    put.prev_kv || put.ignore_value || put.ignore_lease
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::Mvcc;
    use crate::pb::etcdserverpb::{Compare, DeleteRangeRequest, RangeRequest, RequestOp};
    use crate::store::Values;

    fn put(key: &str, prev_kv: bool) -> PutRequest {
        PutRequest {
            key: key.to_owned().into(),
            value: "12".into(),
            prev_kv,
            ..Default::default()
        }
    }

    fn op(request: Request) -> RequestOp {
        RequestOp {
            request: Some(request),
        }
    }

    /// The numbers are those an etcd showed after the same.
    #[test]
    fn operations_are_counted_as_etcd_counts_them() {
        let mut mvcc = Mvcc::new(Values::new(None, 1, 0));
        mvcc.put(&put("a", false), &|_| true).unwrap();
        let counted = |mvcc: &Mvcc| {
            let Operations {
                ranges,
                puts,
                deletes,
                txns,
                put_bytes,
            } = mvcc.operations();
            [put_bytes, deletes, puts, ranges, txns]
        };
        assert_eq!(counted(&mvcc), [3, 0, 1, 0, 0]);
        mvcc.put(&put("b", true), &|_| true).unwrap();
        assert_eq!(counted(&mvcc), [6, 0, 2, 1, 1]);
        let nested = TxnRequest {
            compare: vec![Compare::default()],
            success: vec![op(Request::RequestPut(put("x", true)))],
            failure: vec![op(Request::RequestPut(put("x", true)))],
        };
        let range = RangeRequest {
            key: "a".into(),
            ..Default::default()
        };
        let txn = TxnRequest {
            compare: vec![Compare {
                key: "a".into(),
                ..Default::default()
            }],
            success: Vec::new(),
            failure: vec![
                op(Request::RequestRange(range)),
                op(Request::RequestTxn(nested)),
            ],
        };
        // Decided with two conditions and a pair to return, then a range and a put that returns the pair.
        mvcc.txn(&txn, &|_| true).unwrap();
        assert_eq!(counted(&mvcc), [9, 0, 3, 6, 3]);
        let delete = DeleteRangeRequest {
            key: "nothing".into(),
            ..Default::default()
        };
        mvcc.delete_range(&delete).unwrap();
        assert_eq!(counted(&mvcc), [9, 1, 3, 6, 3]);
        let mut revoke = mvcc.write();
        revoke.delete_keys(["a", "b"]);
        revoke.finish();
        assert_eq!(counted(&mvcc), [9, 3, 3, 6, 4]);
        assert_eq!(
            Operations::of_read_only(&txn, 1),
            Operations {
                ranges: 2,
                txns: 1,
                ..Default::default()
            }
        );
    }
}
