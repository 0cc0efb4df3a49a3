//! One entry at a time.

use std::sync::Arc;

use prost::Message;

use super::{
    Applied, ApplyError, Effect, Fatal, Machine, Response, compaction_mark, deterministic,
};
use crate::membership::{ConfigurationChange, Downgrade};
use crate::pb::etcdserverpb::alarm_request::AlarmAction;
use crate::pb::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, CompactionRequest, CompactionResponse,
    InternalRaftRequest, LeaseCheckpointRequest, LeaseCheckpointResponse, LeaseGrantRequest,
    LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse, PutRequest, ResponseHeader,
};
use crate::pb::raftpb::{ConfChange, Entry, EntryType};
use crate::store::{Bucket, BucketWrite, Change};
use crate::types::{LeaseId, MemberId};

type Changes = Option<Arc<[Change]>>;

/// An answer, the changes of keys it came with, and what the shell has to do.
struct Outcome {
    response: Response,
    changes: Changes,
    effect: Option<Effect>,
}

impl From<Response> for Outcome {
    fn from(response: Response) -> Self {
        Self {
            response,
            changes: None,
            effect: None,
        }
    }
}

impl Machine {
    /// Applies the next entry. `request` is what its data decodes to, where the caller still has it.
    pub fn apply(
        &mut self,
        entry: &Entry,
        request: Option<InternalRaftRequest>,
    ) -> Result<Applied, Fatal> {
        self.pending.applied_index = entry.index;
        self.pending.applied_term = entry.term;
        match entry.entry_type() {
            EntryType::EntryConfChange => Ok(self.apply_configuration_change(&entry.data)),
            EntryType::EntryConfChangeV2 => Ok(refused(0, ApplyError::NotServed)),
            EntryType::EntryNormal if entry.data.is_empty() => Ok(Applied {
                request_id: 0,
                result: Ok(Response::Done),
                changes: None,
                effect: Some(Effect::TermStarted),
            }),
            EntryType::EntryNormal => {
                let request = match request {
                    Some(request) => request,
                    None => match InternalRaftRequest::decode(entry.data.clone()) {
                        Ok(request) => request,
                        Err(_) => return Ok(refused(0, ApplyError::NotServed)),
                    },
                };
                self.apply_request(request)
            }
        }
    }

    fn apply_request(&mut self, request: InternalRaftRequest) -> Result<Applied, Fatal> {
        let request_id = request
            .header
            .as_ref()
            .map_or(request.id, |header| header.id);
        let over_quota = match self.admit(&request) {
            Ok(over_quota) => over_quota,
            Err(error) => return Ok(refused(request_id, error)),
        };
        let outcome = match self.execute(request)? {
            Ok(outcome) => outcome,
            Err(error) => return Ok(refused(request_id, error)),
        };
        let mut applied = Applied {
            request_id,
            result: Ok(outcome.response),
            changes: outcome.changes,
            effect: outcome.effect,
        };
        if over_quota {
            applied.result = Err(ApplyError::NoSpace);
            applied.effect = applied.effect.or(Some(Effect::QuotaExceeded));
        }
        Ok(applied)
    }

    fn execute(
        &mut self,
        request: InternalRaftRequest,
    ) -> Result<Result<Outcome, ApplyError>, Fatal> {
        if let Some(put) = request.put {
            return self.put(&put);
        }
        if let Some(txn) = request.txn {
            let leases = &self.leases;
            let exists = |id: i64| leases.get(LeaseId(id)).is_some();
            let done = deterministic(self.mvcc.txn(&txn, &exists))?;
            return Ok(done.map(|(response, changes)| {
                self.keep(&changes);
                Outcome {
                    response: Response::Txn(response),
                    changes,
                    effect: None,
                }
            }));
        }
        if let Some(delete) = request.delete_range {
            let done = deterministic(self.mvcc.delete_range(&delete))?;
            return Ok(done.map(|(response, changes)| {
                self.keep(&changes);
                Outcome {
                    response: Response::DeleteRange(response),
                    changes,
                    effect: None,
                }
            }));
        }
        if let Some(range) = request.range {
            let response = deterministic(self.mvcc.view().range(&range))?;
            return Ok(response.map(|response| Response::Range(response).into()));
        }
        if let Some(grant) = request.lease_grant {
            return Ok(self.grant(&grant));
        }
        if let Some(revoke) = request.lease_revoke {
            return self.revoke(&revoke);
        }
        if let Some(checkpoint) = request.lease_checkpoint {
            return Ok(Ok(self.checkpoint_leases(&checkpoint)));
        }
        if let Some(compaction) = request.compaction {
            return self.compact(&compaction);
        }
        if let Some(alarm) = request.alarm {
            return Ok(self.alarm(&alarm));
        }
        if let Some(attributes) = request.cluster_member_attr_set {
            let published = attributes.member_attributes.unwrap_or_default();
            let id = MemberId(attributes.member_id);
            let row = Arc::make_mut(&mut self.membership).publish(
                id,
                &published.name,
                &published.client_urls,
            );
            self.write(row);
            return Ok(Ok(membership_changed()));
        }
        if let Some(version) = request.cluster_version_set {
            let row = Arc::make_mut(&mut self.membership).set_version(version.ver.clone());
            self.write([row, storage_version(&version.ver)]);
            return Ok(Ok(membership_changed()));
        }
        if let Some(downgrade) = request.downgrade_info_set {
            let downgrade = Downgrade {
                target_version: downgrade.ver,
                enabled: downgrade.enabled,
            };
            let row = Arc::make_mut(&mut self.membership).set_downgrade(downgrade);
            self.write([row]);
            return Ok(Ok(membership_changed()));
        }
        if request.downgrade_version_test.is_some() {
            return Ok(Ok(Response::Done.into()));
        }
        Ok(Err(ApplyError::NotServed))
    }

    fn put(&mut self, put: &PutRequest) -> Result<Result<Outcome, ApplyError>, Fatal> {
        let leases = &self.leases;
        let exists = |id: i64| leases.get(LeaseId(id)).is_some();
        let done = deterministic(self.mvcc.put(put, &exists))?;
        Ok(done.map(|(response, changes)| {
            self.keep(&changes);
            Outcome {
                response: Response::Put(response),
                changes,
                effect: None,
            }
        }))
    }

    fn grant(&mut self, grant: &LeaseGrantRequest) -> Result<Outcome, ApplyError> {
        let id = LeaseId(grant.id);
        let (ttl_seconds, row) = self.leases.grant(id, grant.ttl)?;
        self.write([row]);
        Ok(Outcome {
            response: Response::LeaseGrant(LeaseGrantResponse {
                header: self.header(),
                id: grant.id,
                ttl: ttl_seconds,
                error: String::new(),
            }),
            changes: None,
            effect: Some(Effect::LeaseGranted { id, ttl_seconds }),
        })
    }

    fn revoke(
        &mut self,
        revoke: &LeaseRevokeRequest,
    ) -> Result<Result<Outcome, ApplyError>, Fatal> {
        let id = LeaseId(revoke.id);
        let (keys, row) = match self.leases.revoke(id) {
            Ok(revoked) => revoked,
            Err(error) => return Ok(Err(error.into())),
        };
        self.write([row]);
        let mut txn = self.mvcc.write();
        txn.delete_keys(&keys);
        let changes = txn.finish();
        self.keep(&changes);
        Ok(Ok(Outcome {
            response: Response::LeaseRevoke(LeaseRevokeResponse {
                header: self.header(),
            }),
            changes,
            effect: Some(Effect::LeaseRevoked(id)),
        }))
    }

    fn checkpoint_leases(&mut self, request: &LeaseCheckpointRequest) -> Outcome {
        let mut known = Vec::new();
        for checkpoint in &request.checkpoints {
            let id = LeaseId(checkpoint.id);
            if let Some(row) = self.leases.checkpoint(id, checkpoint.remaining_ttl) {
                self.pending.buckets.push(row);
                known.push((id, checkpoint.remaining_ttl));
            }
        }
        let response = LeaseCheckpointResponse {
            header: self.header(),
        };
        Outcome {
            response: Response::LeaseCheckpoint(response),
            changes: None,
            effect: Some(Effect::LeasesCheckpointed(known)),
        }
    }

    fn compact(
        &mut self,
        request: &CompactionRequest,
    ) -> Result<Result<Outcome, ApplyError>, Fatal> {
        let previous = self.mvcc.compact_revision();
        if let Err(error) = deterministic(self.mvcc.compact(request.revision))? {
            return Ok(Err(error));
        }
        self.write([compaction_mark(b"scheduledCompactRev", request.revision)]);
        Ok(Ok(Outcome {
            response: Response::Compaction(CompactionResponse {
                header: self.header(),
            }),
            changes: None,
            effect: Some(Effect::CompactionScheduled {
                revision: request.revision,
                previous,
                physical: request.physical,
            }),
        }))
    }

    fn alarm(&mut self, request: &AlarmRequest) -> Result<Outcome, ApplyError> {
        let member = AlarmMember {
            member_id: request.member_id,
            alarm: request.alarm,
        };
        let (alarms, effect) = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => (self.alarms.list(request.alarm), None),
            Ok(AlarmAction::Activate) if request.alarm == AlarmType::None as i32 => {
                (Vec::new(), None)
            }
            Ok(AlarmAction::Activate) => {
                let row = Arc::make_mut(&mut self.alarms).raise(request.member_id, request.alarm);
                self.write(row);
                (vec![member], Some(Effect::AlarmsChanged))
            }
            Ok(AlarmAction::Deactivate) => {
                let row = Arc::make_mut(&mut self.alarms).clear(request.member_id, request.alarm);
                let cleared = row.iter().map(|_| member).collect();
                self.write(row);
                (cleared, Some(Effect::AlarmsChanged))
            }
            Err(_) => return Err(ApplyError::UnknownAlarmAction(request.action)),
        };
        let response = AlarmResponse {
            header: self.header(),
            alarms,
        };
        Ok(Outcome {
            response: Response::Alarm(response),
            changes: None,
            effect,
        })
    }

    fn apply_configuration_change(&mut self, data: &[u8]) -> Applied {
        let decoded = ConfigurationChange::decode(data);
        let request_id = decoded.as_ref().map_or(0, |(id, _)| *id);
        let raft_change = ConfChange::decode(data).unwrap_or_default();
        let verdict = decoded.and_then(|(_, change)| {
            Arc::make_mut(&mut self.membership).apply(&change, self.config.learners_max)
        });
        match verdict {
            Ok(rows) => {
                self.write(rows);
                let members = self.membership.members().map(|m| m.to_wire()).collect();
                Applied {
                    request_id,
                    result: Ok(Response::Members(members)),
                    changes: None,
                    effect: Some(Effect::ConfigurationDecided(raft_change)),
                }
            }
            Err(error) => Applied {
                request_id,
                result: Err(error.into()),
                changes: None,
                effect: Some(Effect::ConfigurationDecided(ConfChange::default())),
            },
        }
    }

    /// Takes note of changed keys: for the next checkpoint, and for the leases they hang on.
    fn keep(&mut self, changes: &Changes) {
        if let Some(changes) = changes {
            self.leases.follow(changes);
            self.pending.changes.push(changes.clone());
        }
    }

    fn header(&self) -> Option<ResponseHeader> {
        let revision = self.mvcc.revision();
        Some(ResponseHeader {
            revision,
            ..ResponseHeader::default()
        })
    }
}

fn refused(request_id: u64, error: ApplyError) -> Applied {
    Applied {
        request_id,
        result: Err(error),
        changes: None,
        effect: None,
    }
}

fn membership_changed() -> Outcome {
    Outcome {
        response: Response::Done,
        changes: None,
        effect: Some(Effect::MembershipChanged),
    }
}

/// The storage version follows the cluster version.
fn storage_version(cluster_version: &str) -> BucketWrite {
    BucketWrite {
        bucket: Bucket::Meta,
        key: bytes::Bytes::from_static(b"storageVersion"),
        value: Some(bytes::Bytes::copy_from_slice(cluster_version.as_bytes())),
    }
}
