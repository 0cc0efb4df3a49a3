//! gRPC's health service. Only the server as a whole has a state.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::Status;

use super::server::Server;
use super::status;
use super::wire::Context;
use crate::pb::health::health_check_response::ServingStatus;
use crate::pb::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};

/// Whether the server serves.
pub(super) struct State(watch::Sender<ServingStatus>);

impl State {
    pub(super) fn new() -> Self {
        tracing::info!(
            service = "",
            status = "SERVING",
            "grpc service status changed"
        );
        Self(watch::Sender::new(ServingStatus::Serving))
    }

    pub(super) fn set_serving(&self, serving: bool) {
        if serving {
            tracing::info!(
                service = "",
                status = "SERVING",
                "grpc service status changed"
            );
            self.0.send_replace(ServingStatus::Serving);
        } else {
            let reason = "defrag is active";
            tracing::warn!(
                service = "",
                status = "NOT_SERVING",
                reason,
                "grpc service status changed"
            );
            self.0.send_replace(ServingStatus::NotServing);
        }
    }

    fn now(&self) -> HealthCheckResponse {
        response(*self.0.borrow())
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status as i32,
    }
}

impl Server {
    pub(super) async fn health_check(
        &self,
        context: &Context,
        request: HealthCheckRequest,
    ) -> Result<HealthCheckResponse, Status> {
        self.admit(context)?;
        if !request.service.is_empty() {
            return Err(status::unknown_health_service());
        }
        Ok(self.health.now())
    }

    pub(super) async fn health_list(
        &self,
        context: &Context,
        _: HealthListRequest,
    ) -> Result<HealthListResponse, Status> {
        self.admit(context)?;
        let statuses = HashMap::from([(String::new(), self.health.now())]);
        Ok(HealthListResponse { statuses })
    }

    pub(super) async fn health_watch(
        self: &Arc<Self>,
        context: &Context,
        request: HealthCheckRequest,
    ) -> Result<impl Stream<Item = Result<HealthCheckResponse, Status>> + Send + use<>, Status>
    {
        self.admit_stream(context, false)?;
        let states = if request.service.is_empty() {
            WatchStream::new(self.health.0.subscribe()).left_stream()
        } else {
            // It may be registered some day, as far as the protocol goes.
            let unknown = futures_util::stream::iter([ServingStatus::ServiceUnknown]);
            unknown
                .chain(futures_util::stream::pending())
                .right_stream()
        };
        Ok(states.map(|status| Ok(response(status))))
    }
}
