//! Whether a request may be applied at all: one function, in etcd's order.

use super::{ApplyError, Machine};
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::{AlarmType, InternalRaftRequest, PutRequest, RequestOp, TxnRequest};

/// What a put is taken to cost besides key and value.
const PUT_OVERHEAD_BYTES: i64 = 256;
/// What a lease is taken to cost.
const LEASE_BYTES: i64 = 64;

/// What a put is taken to cost.
pub fn put_cost_bytes(put: &PutRequest) -> i64 {
    put.key.len() as i64 + put.value.len() as i64 + PUT_OVERHEAD_BYTES
}

/// What a transaction is taken to cost: its dearer branch.
pub fn txn_cost_bytes(txn: &TxnRequest) -> i64 {
    branch_cost_bytes(&txn.success).max(branch_cost_bytes(&txn.failure))
}

fn branch_cost_bytes(ops: &[RequestOp]) -> i64 {
    ops.iter()
        .map(|op| match &op.request {
            Some(Request::RequestPut(put)) => put_cost_bytes(put),
            Some(Request::RequestTxn(txn)) => txn_cost_bytes(txn),
            _ => 0,
        })
        .sum()
}

/// What a request is taken to cost; 0 for one that space never refuses.
pub fn request_cost_bytes(request: &InternalRaftRequest) -> i64 {
    if let Some(put) = &request.put {
        put_cost_bytes(put)
    } else if let Some(txn) = &request.txn {
        txn_cost_bytes(txn)
    } else if request.lease_grant.is_some() {
        LEASE_BYTES
    } else {
        0
    }
}

impl Machine {
    /// Refuses what the alarms forbid. Otherwise says whether the request passes the quota: it is applied all
    /// the same, so that members with different quotas stay alike.
    pub(super) fn admit(&self, request: &InternalRaftRequest) -> Result<bool, ApplyError> {
        if self.alarms.is_raised(AlarmType::Corrupt) && is_stopped_by_corruption(request) {
            return Err(ApplyError::Corrupt);
        }
        let cost_bytes = request_cost_bytes(request);
        if cost_bytes == 0 {
            return Ok(false);
        }
        if self.alarms.is_raised(AlarmType::Nospace) {
            return Err(ApplyError::NoSpace);
        }
        let quota = self.config.quota_bytes;
        Ok(quota.is_some_and(|quota| self.sizes.file_bytes + cost_bytes >= quota))
    }
}

fn is_stopped_by_corruption(request: &InternalRaftRequest) -> bool {
    request.put.is_some()
        || request.delete_range.is_some()
        || request.txn.is_some()
        || request.range.is_some()
        || request.compaction.is_some()
        || request.lease_grant.is_some()
        || request.lease_revoke.is_some()
}
