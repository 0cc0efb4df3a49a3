//! What the rest of the program may ask of the member.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use prost::Message;
use tokio::sync::{oneshot, watch};

use super::apply_loop::ApplyInput;
use super::checkpoint_loop::Then;
use super::pending::{Proposal, Waiter};
use super::proposal_meter::ProposalMeter;
use super::queue::Sender;
use super::raft_loop::RaftInput;
use super::shared::{Role, Shared, Status};
use super::{Identity, NodeError, Watches};
use crate::lease::Lease;
use crate::machine::{Published, Response};
use crate::metrics;
use crate::mvcc::KvHash;
use crate::pb::etcdserverpb::alarm_request::AlarmAction;
use crate::pb::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, InternalRaftRequest, LeaseRevokeRequest,
    RequestHeader,
};
use crate::store::{Frozen, Values};
use crate::types::LeaseId;

/// The member, for everyone above: proposals, reads, leases, maintenance. Cheap to clone.
#[derive(Clone)]
pub struct NodeHandle {
    shared: Arc<Shared>,
    apply: Sender<ApplyInput>,
}

impl NodeHandle {
    pub(crate) fn new(shared: Arc<Shared>, apply: Sender<ApplyInput>) -> Self {
        Self { shared, apply }
    }

    /// Ids and names that never change while the process runs.
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// Role, leader, term and marks, as of now.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// State as of the last applied entry.
    pub fn view(&self) -> Arc<Published> {
        self.shared.published.load_full()
    }

    /// Records and history, for watchers that catch up.
    pub fn values(&self) -> &Arc<Values> {
        &self.shared.values
    }

    /// Where watch streams are opened.
    pub fn watches(&self) -> &Watches {
        &self.shared.watches
    }

    /// Changes whenever the leader does; holds its id, 0 for none.
    pub fn leader_changes(&self) -> watch::Receiver<u64> {
        self.shared.leader_changed.subscribe()
    }

    /// A fresh request id; masked to 63 bits it is a fresh lease id.
    pub fn next_request_id(&self) -> u64 {
        self.shared.request_ids.next()
    }

    /// Sends a request to the log at once; what it returns waits for the outcome. Headers are filled but for ids and term.
    pub fn propose(
        &self,
        request: InternalRaftRequest,
    ) -> impl Future<Output = Result<Response, NodeError>> + Send + use<> {
        let began = Instant::now();
        let meter = ProposalMeter::begin(metrics::Request::of(&request), began);
        // Sent before anything is waited for: the request would be kept as long as its caller waits.
        let sent = self.send_proposal(request, began);
        async move {
            let result = match sent {
                // The raft thread answers late requests itself, so no timer is armed here.
                Ok(answer) => answer.await.unwrap_or(Err(NodeError::Stopped)),
                Err(error) => Err(error),
            };
            meter.end(&result);
            result
        }
    }

    fn send_proposal(
        &self,
        mut request: InternalRaftRequest,
        began: Instant,
    ) -> Result<oneshot::Receiver<Result<Response, NodeError>>, NodeError> {
        let id = self.next_request_id();
        request.header = Some(RequestHeader {
            id,
            ..request.header.unwrap_or_default()
        });
        let data = bytes::Bytes::from(request.encode_to_vec());
        if data.len() > self.shared.settings.request_bytes_max {
            return Err(NodeError::RequestTooLarge);
        }
        let (reply, answer) = oneshot::channel();
        self.send(RaftInput::Propose(Proposal {
            data,
            waiter: Box::new(Waiter {
                id,
                request: Some(request),
                deadline: began + self.shared.request_timeout(),
                reply: Some(reply),
            }),
        }))?;
        Ok(answer)
    }

    /// Revokes leases without waiting for the outcome.
    pub(crate) fn revoke_leases(&self, leases: &[LeaseId]) -> Result<(), NodeError> {
        for lease in leases {
            let id = self.next_request_id();
            let request = InternalRaftRequest {
                header: Some(RequestHeader {
                    id,
                    ..RequestHeader::default()
                }),
                lease_revoke: Some(Box::new(LeaseRevokeRequest { id: lease.0 })),
                ..InternalRaftRequest::default()
            };
            self.send(RaftInput::Propose(Proposal {
                data: request.encode_to_vec().into(),
                waiter: Box::new(Waiter {
                    id,
                    request: Some(request),
                    deadline: Instant::now() + self.shared.request_timeout(),
                    reply: None,
                }),
            }))?;
        }
        Ok(())
    }

    /// Waits until [`NodeHandle::view`] shows every write acknowledged before this call.
    pub async fn read_index(&self) -> Result<(), NodeError> {
        if self.shared.sole_leader.load(Ordering::Acquire) {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        self.send(RaftInput::Read(reply))?;
        match tokio::time::timeout(self.shared.request_timeout(), answer).await {
            Ok(Ok(result)) => {
                if result.is_err() {
                    metrics::global().read_indexes_failed.inc();
                }
                result
            }
            Ok(Err(_)) => Err(NodeError::Stopped),
            Err(_) => {
                metrics::global().slow_read_indexes.inc();
                Err(NodeError::Timeout)
            }
        }
    }

    /// Gives a lease its full time again. Returns seconds; `None` when it is unknown or out. Only the leader
    /// knows.
    pub async fn keep_alive(&self, lease: LeaseId) -> Result<Option<i64>, NodeError> {
        if !self.shared.sole_leader.load(Ordering::Acquire) {
            if self.shared.role() != Role::Leader {
                return Err(NodeError::NoLeader);
            }
            self.read_index().await?;
        }
        let renewed = self
            .shared
            .lease_expiry
            .lock()
            .renew(lease, self.shared.now_milliseconds());
        match renewed {
            Some(_) => metrics::global().lease_renewed.inc(),
            None => self.wait_while_expired(lease).await,
        }
        Ok(renewed)
    }

    /// A lease whose time is over answers only once its revocation is applied.
    async fn wait_while_expired(&self, lease: LeaseId) {
        while self
            .shared
            .lease_expiry
            .lock()
            .is_expired(lease, self.shared.now_milliseconds())
        {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Seconds left and seconds granted; `None` for an unknown lease.
    pub fn time_to_live(&self, lease: LeaseId) -> Option<(i64, i64)> {
        self.shared
            .lease_expiry
            .lock()
            .time_to_live(lease, self.shared.now_milliseconds())
    }

    /// Every lease, the next to run out first.
    pub fn leases(&self) -> Vec<LeaseId> {
        self.shared.lease_expiry.lock().by_deadline()
    }

    /// A lease and its keys, as applied.
    pub async fn lease(&self, lease: LeaseId) -> Result<Option<Lease>, NodeError> {
        let (reply, answer) = oneshot::channel();
        self.send_apply(ApplyInput::LeaseKeys(lease, reply))?;
        answer.await.map_err(|_| NodeError::Stopped)
    }

    /// A durable view of everything applied so far, for snapshots and hashes.
    pub async fn freeze(&self) -> Result<Frozen, NodeError> {
        let (reply, answer) = oneshot::channel();
        self.send_apply(ApplyInput::Checkpoint(Then::Freeze(reply)))?;
        answer.await.unwrap_or(Err(NodeError::Stopped))
    }

    /// Gives unused space back while reads and writes go on.
    pub async fn defragment(&self) -> Result<(), NodeError> {
        let (reply, answer) = oneshot::channel();
        self.send_apply(ApplyInput::Checkpoint(Then::Defragment(reply)))?;
        answer.await.unwrap_or(Err(NodeError::Stopped))
    }

    /// Waits until everything applied so far is durable.
    pub async fn flush(&self) -> Result<(), NodeError> {
        let (reply, answer) = oneshot::channel();
        self.send_apply(ApplyInput::Checkpoint(Then::Tell(reply)))?;
        answer.await.unwrap_or(Err(NodeError::Stopped))
    }

    /// The hash that was taken for the compaction at this revision, if it is one of the newest.
    pub fn compaction_hash(&self, revision: i64) -> Option<KvHash> {
        self.shared.compaction_hashes.lock().at(revision)
    }

    /// Whether raft, apply and log thread are alive: rounds each went since the start, and how long the log
    /// write in flight has taken.
    pub fn progress(&self) -> Progress {
        let started = self.shared.wal_write_started.load(Ordering::Acquire);
        let now = self.shared.now_milliseconds() + 1;
        Progress {
            raft_rounds: self.shared.raft_rounds.load(Ordering::Relaxed),
            apply_rounds: self.shared.apply_rounds.load(Ordering::Relaxed),
            wal_rounds: self.shared.wal_rounds.load(Ordering::Relaxed),
            wal_write_milliseconds: if started == 0 {
                0
            } else {
                now.saturating_sub(started)
            },
            checkpoint_steps: self.shared.checkpoint_steps.moved(now),
        }
    }

    /// Lowers the compact revision's history away; the answer comes when it is scheduled, or, for
    /// `physical`, done.
    pub async fn compact(&self, request: CompactionRequest) -> Result<Response, NodeError> {
        self.propose(InternalRaftRequest {
            compaction: Some(Box::new(request)),
            ..InternalRaftRequest::default()
        })
        .await
    }

    /// Raises NOSPACE for this member: it has no room for more.
    pub async fn raise_no_space(&self) {
        // Calls that are refused after the first are no news.
        if !self.view().alarms.is_raised(AlarmType::Nospace) {
            tracing::warn!(
                message_id = crate::logging::message_id::QUOTA_EXCEEDED,
                "quota-size-bytes" = self.shared.settings.quota_bytes.unwrap_or_default(),
                "message exceeded backend quota; raising alarm"
            );
        }
        let request = InternalRaftRequest {
            alarm: Some(Box::new(AlarmRequest {
                action: AlarmAction::Activate as i32,
                member_id: self.identity().member_id.0,
                alarm: AlarmType::Nospace as i32,
            })),
            ..InternalRaftRequest::default()
        };
        if let Err(error) = self.propose(request).await {
            tracing::warn!(%error, "failed to raise alarm");
        }
    }

    fn send(&self, input: RaftInput) -> Result<(), NodeError> {
        self.shared.raft.try_send(input).map_err(NodeError::from)
    }

    fn send_apply(&self, input: ApplyInput) -> Result<(), NodeError> {
        self.apply.try_send(input).map_err(NodeError::from)
    }
}

/// Signs of life, for a watchdog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rounds of the raft thread.
    pub raft_rounds: u64,
    /// Rounds of the apply thread.
    pub apply_rounds: u64,
    /// Rounds of the log thread.
    pub wal_rounds: u64,
    /// Age of the log write in flight; 0 for none.
    pub wal_write_milliseconds: u64,
    /// Moves while the checkpoint thread works, also within a step that takes long. The apply thread may have
    /// to wait for it.
    pub checkpoint_steps: u64,
}
