//! The replicated lease table: who holds what for how long, and which keys go with it.

use std::collections::BTreeMap;

use bytes::Bytes;
use hashbrown::HashSet;
use prost::Message;

use crate::pb::leasepb;
use crate::store::{Bucket, BucketWrite, Change};
use crate::types::LeaseId;

/// The largest time to live a lease may be granted, as in etcd.
pub const TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// Why a lease command changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// No lease has this id.
    #[error("lease not found")]
    NotFound,
    /// The id is taken.
    #[error("lease already exists")]
    Exists,
    /// Longer than [`TTL_SECONDS_MAX`].
    #[error("too large lease TTL")]
    TtlTooLarge,
}

/// One lease.
#[derive(Clone, Debug, Default)]
pub struct Lease {
    /// Granted time to live in seconds, after the floor.
    pub ttl_seconds: i64,
    /// What was left at the last checkpoint of the lease, 0 when it had none.
    pub remaining_seconds: i64,
    /// The keys that are deleted with it.
    pub keys: HashSet<Bytes>,
}

/// Every lease by id.
#[derive(Debug, Default)]
pub struct Table {
    leases: BTreeMap<LeaseId, Lease>,
    ttl_seconds_min: i64,
}

impl Table {
    /// An empty table. Shorter grants are raised to `ttl_seconds_min`.
    pub fn new(ttl_seconds_min: i64) -> Self {
        Self {
            leases: BTreeMap::new(),
            ttl_seconds_min,
        }
    }

    /// Takes a row of the lease bucket at start. `None` when the row is not a lease.
    pub fn restore(&mut self, row: &[u8]) -> Option<LeaseId> {
        let record = leasepb::Lease::decode(row).ok()?;
        let id = LeaseId(record.id);
        let lease = Lease {
            ttl_seconds: record.ttl.max(self.ttl_seconds_min),
            remaining_seconds: record.remaining_ttl,
            keys: HashSet::new(),
        };
        self.leases.insert(id, lease);
        Some(id)
    }

    /// Hangs a key on a lease at start, as its last stored record says. Unknown leases are passed over,
    /// as in etcd: the key then never expires.
    pub fn attach(&mut self, id: LeaseId, key: &Bytes) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.insert(key.clone());
        }
    }

    /// Creates a lease. Returns its effective time to live in seconds and the row to store.
    pub fn grant(&mut self, id: LeaseId, ttl: i64) -> Result<(i64, BucketWrite), LeaseError> {
        if ttl > TTL_SECONDS_MAX {
            return Err(LeaseError::TtlTooLarge);
        }
        if self.leases.contains_key(&id) {
            return Err(LeaseError::Exists);
        }
        let ttl_seconds = ttl.max(self.ttl_seconds_min);
        let lease = Lease {
            ttl_seconds,
            remaining_seconds: 0,
            keys: HashSet::new(),
        };
        let row = row(id, &lease);
        self.leases.insert(id, lease);
        Ok((ttl_seconds, row))
    }

    /// Ends a lease. Returns its keys in byte order and the row to delete.
    pub fn revoke(&mut self, id: LeaseId) -> Result<(Vec<Bytes>, BucketWrite), LeaseError> {
        let lease = self.leases.remove(&id).ok_or(LeaseError::NotFound)?;
        let mut keys: Vec<_> = lease.keys.into_iter().collect();
        keys.sort_unstable();
        Ok((
            keys,
            BucketWrite {
                bucket: Bucket::Lease,
                key: row_key(id),
                value: None,
            },
        ))
    }

    /// Records what is left of a lease, so that a new leader need not start from the full time.
    pub fn checkpoint(&mut self, id: LeaseId, remaining_seconds: i64) -> Option<BucketWrite> {
        let lease = self.leases.get_mut(&id)?;
        lease.remaining_seconds = remaining_seconds;
        Some(row(id, lease))
    }

    /// Follows the keys through a write transaction: a put moves its key to the put's lease, a delete
    /// takes it off.
    pub fn follow(&mut self, changes: &[Change]) {
        for change in changes {
            let (old, new) = (LeaseId(change.previous_lease), LeaseId(change.row.lease));
            if old == new {
                continue;
            }
            if let Some(lease) = self.leases.get_mut(&old) {
                lease.keys.remove(&change.row.key);
            }
            self.attach(new, &change.row.key);
        }
    }

    /// The lease with this id.
    pub fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(&id)
    }

    /// All leases in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.leases.iter().map(|(id, lease)| (*id, lease))
    }
}

fn row_key(id: LeaseId) -> Bytes {
    Bytes::copy_from_slice(&id.0.to_be_bytes())
}

fn row(id: LeaseId, lease: &Lease) -> BucketWrite {
    let record = leasepb::Lease {
        id: id.0,
        ttl: lease.ttl_seconds,
        remaining_ttl: lease.remaining_seconds,
    };
    BucketWrite {
        bucket: Bucket::Lease,
        key: row_key(id),
        value: Some(record.encode_to_vec().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RevisionRow;
    use crate::types::Revision;

    fn change(key: &'static str, lease: i64, previous_lease: i64) -> Change {
        let row = RevisionRow {
            revision: Revision::new(2, 0),
            tombstone: false,
            key: Bytes::from_static(key.as_bytes()),
            create_revision: 2,
            version: 1,
            lease,
            record_bytes: 0,
        };
        Change {
            row,
            record: Bytes::new(),
            previous: None,
            previous_lease,
        }
    }

    #[test]
    fn a_grant_is_raised_to_the_floor_and_its_row_brings_it_back() {
        let mut table = Table::new(2);
        let (ttl, row) = table.grant(LeaseId(-7), 0).unwrap();
        assert_eq!(ttl, 2);
        assert_eq!(table.grant(LeaseId(-7), 9), Err(LeaseError::Exists));
        assert_eq!(
            table.grant(LeaseId(1), TTL_SECONDS_MAX + 1),
            Err(LeaseError::TtlTooLarge)
        );
        let mut restored = Table::new(2);
        assert_eq!(restored.restore(&row.value.unwrap()), Some(LeaseId(-7)));
        assert_eq!(restored.get(LeaseId(-7)).unwrap().ttl_seconds, 2);
    }

    #[test]
    fn keys_follow_puts_between_leases_and_go_in_byte_order() {
        let mut table = Table::new(2);
        table.grant(LeaseId(1), 10).unwrap();
        table.grant(LeaseId(2), 10).unwrap();
        table.follow(&[change("b", 1, 0), change("a", 1, 0), change("c", 1, 0)]);
        table.follow(&[change("c", 2, 1), change("x", 0, 0)]);
        let (keys, row) = table.revoke(LeaseId(1)).unwrap();
        assert_eq!(keys, ["a", "b"]);
        assert_eq!(row.value, None);
        assert_eq!(table.get(LeaseId(2)).unwrap().keys.len(), 1);
        assert_eq!(table.revoke(LeaseId(1)), Err(LeaseError::NotFound));
    }
}
