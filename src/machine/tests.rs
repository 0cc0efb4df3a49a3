//! Entries in, outcomes and checkpoints out.

use bytes::Bytes;
use prost::Message;

use super::{ApplyError, Config, Effect, KeySpaceError, Machine, Response};
use crate::alarm::Alarms;
use crate::lease::{LeaseError, Table};
use crate::membership::{ConfigurationChange, Member, Membership, MembershipError};
use crate::mvcc::Mvcc;
use crate::pb::etcdserverpb::alarm_request::AlarmAction;
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, DeleteRangeRequest, InternalRaftRequest,
    LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RequestHeader, RequestOp, TxnRequest,
};
use crate::pb::raftpb::{ConfState, Entry, EntryType};
use crate::store::{Bucket, Values};
use crate::types::MemberId;

struct Fixture {
    machine: Machine,
    index: u64,
}

impl Fixture {
    fn new(quota_bytes: Option<i64>) -> Self {
        let config = Config {
            member_id: MemberId(1),
            learners_max: 1,
            quota_bytes,
            lease_ttl_seconds_min: 2,
        };
        let machine = Machine::new(
            config,
            Mvcc::new(Values::new(None, 1, 0)),
            Table::new(2),
            Alarms::default(),
            Membership::default(),
            (0, 0),
            ConfState::default(),
        );
        Self { machine, index: 0 }
    }

    fn entry(&mut self, entry_type: EntryType, data: Bytes) -> super::Applied {
        self.index += 1;
        let entry = Entry {
            entry_type: entry_type as i32,
            term: 2,
            index: self.index,
            data,
            ..Entry::default()
        };
        self.machine.apply(&entry, None).unwrap()
    }

    fn request(&mut self, request: InternalRaftRequest) -> super::Applied {
        self.entry(EntryType::EntryNormal, request.encode_to_vec().into())
    }

    fn put(&mut self, key: &'static str, value: &[u8], lease: i64) -> super::Applied {
        let put = put(key, value, lease);
        self.request(InternalRaftRequest {
            put: Some(put),
            ..Default::default()
        })
    }

    fn alarm(&mut self, action: AlarmAction, alarm: AlarmType) -> super::Applied {
        let request = AlarmRequest {
            action: action as i32,
            member_id: 1,
            alarm: alarm as i32,
        };
        self.request(InternalRaftRequest {
            alarm: Some(Box::new(request)),
            ..Default::default()
        })
    }

    fn grant(&mut self, id: i64) -> super::Applied {
        let grant = LeaseGrantRequest { id, ttl: 60 };
        self.request(InternalRaftRequest {
            lease_grant: Some(Box::new(grant)),
            ..Default::default()
        })
    }

    fn revoke(&mut self, id: i64) -> super::Applied {
        let revoke = LeaseRevokeRequest { id };
        self.request(InternalRaftRequest {
            lease_revoke: Some(Box::new(revoke)),
            ..Default::default()
        })
    }
}

fn put(key: &'static str, value: &[u8], lease: i64) -> PutRequest {
    PutRequest {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::copy_from_slice(value),
        lease,
        ..PutRequest::default()
    }
}

#[test]
fn an_answer_carries_the_id_of_its_request() {
    let mut fixture = Fixture::new(None);
    let applied = fixture.request(InternalRaftRequest {
        header: Some(RequestHeader {
            id: 77,
            ..RequestHeader::default()
        }),
        put: Some(put("a", b"1", 0)),
        ..InternalRaftRequest::default()
    });
    assert_eq!(applied.request_id, 77);
    assert_eq!(applied.changes.unwrap().len(), 1);
    assert_eq!(fixture.machine.applied_index(), 1);
}

#[test]
fn alarms_stop_what_they_must_and_nothing_else() {
    let mut fixture = Fixture::new(None);
    fixture.put("a", b"1", 0);
    fixture.alarm(AlarmAction::Activate, AlarmType::Nospace);
    assert_eq!(fixture.put("b", b"1", 0).result, Err(ApplyError::NoSpace));
    assert_eq!(fixture.grant(5).result, Err(ApplyError::NoSpace));
    // Puts in the branch that is not taken count too.
    let op = RequestOp {
        request: Some(Request::RequestPut(put("c", b"", 0))),
    };
    let txn = TxnRequest {
        failure: vec![op],
        ..TxnRequest::default()
    };
    let txn = InternalRaftRequest {
        txn: Some(Box::new(txn)),
        ..Default::default()
    };
    assert_eq!(
        fixture.request(txn.clone()).result,
        Err(ApplyError::NoSpace)
    );
    let delete = DeleteRangeRequest {
        key: Bytes::from_static(b"a"),
        ..Default::default()
    };
    let delete = InternalRaftRequest {
        delete_range: Some(delete),
        ..Default::default()
    };
    assert!(fixture.request(delete.clone()).result.is_ok());
    fixture.alarm(AlarmAction::Activate, AlarmType::Corrupt);
    assert_eq!(
        fixture.put("b", b"1", 0).result,
        Err(ApplyError::Corrupt),
        "corrupt comes first"
    );
    assert_eq!(fixture.request(delete).result, Err(ApplyError::Corrupt));
    assert_eq!(fixture.revoke(5).result, Err(ApplyError::Corrupt));
    fixture.alarm(AlarmAction::Deactivate, AlarmType::Corrupt);
    fixture.alarm(AlarmAction::Deactivate, AlarmType::Nospace);
    assert!(fixture.request(txn).result.is_ok());
}

#[test]
fn the_write_that_passes_the_quota_is_done_refused_and_reported() {
    let mut fixture = Fixture::new(Some(100_000));
    assert!(fixture.put("a", &[0; 1000], 0).result.is_ok());
    let applied = fixture.put("b", &[0; 99_000], 0);
    assert_eq!(applied.result, Err(ApplyError::NoSpace));
    assert_eq!(applied.effect, Some(Effect::QuotaExceeded));
    assert!(
        applied.changes.is_some(),
        "members with a larger quota have it too"
    );
}

#[test]
fn a_revoked_lease_takes_its_keys_in_one_revision() {
    let mut fixture = Fixture::new(None);
    assert_eq!(
        fixture.put("a", b"", 5).result,
        Err(ApplyError::Mvcc(KeySpaceError::LeaseNotFound))
    );
    fixture.grant(5);
    assert_eq!(
        fixture.grant(5).result,
        Err(ApplyError::Lease(LeaseError::Exists))
    );
    for key in ["b", "a", "kept"] {
        fixture.put(key, b"", 5);
    }
    fixture.put("kept", b"", 0);
    let applied = fixture.revoke(5);
    let changes = applied.changes.unwrap();
    let keys: Vec<_> = changes
        .iter()
        .map(|change| change.row.key.clone())
        .collect();
    assert_eq!(keys, ["a", "b"]);
    assert!(
        changes
            .iter()
            .all(|c| c.row.tombstone && c.row.revision.main == 6)
    );
    assert_eq!(
        fixture.revoke(5).result,
        Err(ApplyError::Lease(LeaseError::NotFound))
    );
}

#[test]
fn a_checkpoint_holds_what_changed_since_the_last() {
    let mut fixture = Fixture::new(None);
    fixture.put("a", b"1", 0);
    fixture.grant(5);
    let checkpoint = fixture.machine.take_checkpoint();
    assert_eq!((checkpoint.applied_index, checkpoint.applied_term), (2, 2));
    assert_eq!(checkpoint.changes.len(), 1);
    assert!(
        checkpoint
            .buckets
            .iter()
            .any(|row| row.bucket == Bucket::Lease)
    );
    fixture.put("a", b"2", 0);
    let compaction = CompactionRequest {
        revision: 3,
        physical: false,
    };
    let applied = fixture.request(InternalRaftRequest {
        compaction: Some(Box::new(compaction)),
        ..InternalRaftRequest::default()
    });
    let scheduled = Effect::CompactionScheduled {
        revision: 3,
        previous: -1,
        physical: false,
    };
    assert_eq!(applied.effect, Some(scheduled));
    assert_eq!(fixture.machine.prune(100), (true, 1));
    fixture.machine.finish_compaction(3);
    let checkpoint = fixture.machine.take_checkpoint();
    assert_eq!(checkpoint.removed.len(), 1);
    let marks = checkpoint
        .buckets
        .iter()
        .filter(|row| row.bucket == Bucket::Meta)
        .count();
    assert_eq!(marks, 2, "scheduled and finished");
}

#[test]
fn a_refused_configuration_change_is_the_empty_one_for_raft() {
    let mut fixture = Fixture::new(None);
    let member = Member {
        id: 9,
        peer_urls: vec!["http://a:1".to_owned()],
        ..Member::default()
    };
    let data = ConfigurationChange::bootstrap_entry(&member);
    let applied = fixture.entry(EntryType::EntryConfChange, data.clone());
    let Some(Effect::ConfigurationDecided(change)) = applied.effect else {
        panic!()
    };
    assert_eq!(change.node_id, 9);
    assert!(matches!(applied.result, Ok(Response::Members(members)) if members.len() == 1));
    let applied = fixture.entry(EntryType::EntryConfChange, data);
    assert_eq!(
        applied.result,
        Err(ApplyError::Membership(MembershipError::IdExists))
    );
    let Some(Effect::ConfigurationDecided(change)) = applied.effect else {
        panic!()
    };
    assert_eq!(change.node_id, 0);
}

#[test]
fn bytes_that_are_no_request_are_refused_alike() {
    let mut fixture = Fixture::new(None);
    let applied = fixture.entry(EntryType::EntryNormal, Bytes::from_static(b"\xff\xff\xff"));
    assert_eq!(applied.result, Err(ApplyError::NotServed));
    let applied = fixture.entry(EntryType::EntryConfChangeV2, Bytes::new());
    assert_eq!(applied.result, Err(ApplyError::NotServed));
    let applied = fixture.entry(EntryType::EntryNormal, Bytes::new());
    assert_eq!(applied.effect, Some(Effect::TermStarted));
    assert_eq!(fixture.machine.applied_index(), 3);
}
