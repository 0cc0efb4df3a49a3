//! The Lease service.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use http_body::Body;
use tonic::Status;

use super::server::Server;
use super::status;
use super::wire::{Context, Messages};
use crate::machine::{Response, request_cost_bytes};
use crate::metrics;
use crate::node::Role;
use crate::pb::etcdserverpb::{
    InternalRaftRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
    LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest,
    LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use crate::types::LeaseId;

impl Server {
    pub(super) async fn lease_grant(
        &self,
        context: &Context,
        mut request: LeaseGrantRequest,
    ) -> Result<LeaseGrantResponse, Status> {
        self.admit(context)?;
        while request.id == 0 {
            request.id = (self.node.next_request_id() & i64::MAX as u64) as i64;
        }
        let request = InternalRaftRequest {
            lease_grant: Some(request.into()),
            ..Default::default()
        };
        self.check_quota(request_cost_bytes(&request)).await?;
        let answer = self.node.propose(request).await.map_err(status::node)?;
        let Response::LeaseGrant(mut response) = answer else {
            return Err(status::unexpected_answer());
        };
        response.header = self.complete(response.header);
        Ok(response)
    }

    pub(super) async fn lease_revoke(
        &self,
        context: &Context,
        request: LeaseRevokeRequest,
    ) -> Result<LeaseRevokeResponse, Status> {
        self.admit(context)?;
        let request = InternalRaftRequest {
            lease_revoke: Some(request.into()),
            ..Default::default()
        };
        let answer = self.node.propose(request).await.map_err(status::node)?;
        let Response::LeaseRevoke(mut response) = answer else {
            return Err(status::unexpected_answer());
        };
        response.header = self.complete(response.header);
        Ok(response)
    }

    pub(super) async fn lease_time_to_live(
        &self,
        context: &Context,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse, Status> {
        self.admit(context)?;
        // Only the leader knows what is left.
        if self.node.status().role != Role::Leader {
            return Err(status::no_leader());
        }
        let id = LeaseId(request.id);
        let mut response = LeaseTimeToLiveResponse {
            id: id.0,
            ttl: -1,
            ..Default::default()
        };
        if let Some((left, granted)) = self.node.time_to_live(id) {
            (response.ttl, response.granted_ttl) = (left, granted);
            if request.keys {
                let lease = self.node.lease(id).await.map_err(status::node)?;
                response.keys = lease.into_iter().flat_map(|lease| lease.keys).collect();
            }
        }
        response.header = self.header();
        Ok(response)
    }

    pub(super) async fn lease_leases(
        &self,
        context: &Context,
        _: LeaseLeasesRequest,
    ) -> Result<LeaseLeasesResponse, Status> {
        self.admit(context)?;
        let leases = self
            .node
            .leases()
            .into_iter()
            .map(|id| LeaseStatus { id: id.0 })
            .collect();
        Ok(LeaseLeasesResponse {
            header: self.header(),
            leases,
        })
    }

    /// Answers one request after the other, from the leader's memory.
    pub(super) fn lease_keep_alive<B>(
        self: &Arc<Self>,
        context: &Context,
        requests: Messages<B>,
    ) -> Result<impl Stream<Item = Result<LeaseKeepAliveResponse, Status>> + Send + use<B>, Status>
    where
        B: Body<Data = Bytes> + Unpin + Send,
    {
        self.admit_stream(context, false)?;
        let start = Some((self.clone(), requests));
        Ok(futures_util::stream::unfold(start, |state| async move {
            let (server, mut requests) = state?;
            let reply = match requests.next().await? {
                Ok(request) => server.keep_alive(request).await,
                Err(status) => {
                    if status.code() != tonic::Code::Cancelled {
                        let labels = ["lease-keepalive", "receive"];
                        metrics::global().stream_failures.with(&labels).inc();
                    }
                    Err(status)
                }
            };
            let next = reply.is_ok().then_some((server, requests));
            Some((reply, next))
        }))
    }

    async fn keep_alive(
        &self,
        request: LeaseKeepAliveRequest,
    ) -> Result<LeaseKeepAliveResponse, Status> {
        // The header comes first: its revision must not be one at which the lease was gone.
        let header = self.header();
        let ttl = self
            .node
            .keep_alive(LeaseId(request.id))
            .await
            .map_err(status::node)?;
        Ok(LeaseKeepAliveResponse {
            header,
            id: request.id,
            ttl: ttl.unwrap_or(0),
        })
    }
}
