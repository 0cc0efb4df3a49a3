//! What all handlers share: the member, the limits, who is admitted, response headers.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use parking_lot::RwLock;
use tonic::Status;

use super::status;
use super::wire::Context;
use crate::metrics::{self, Counter};
use crate::mvcc::{MvccError, View};
use crate::node::{NodeHandle, Role};
use crate::pb::etcdserverpb::ResponseHeader;

/// What the services need to know of the configuration.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The version this server is compatible with, such as `3.7.1`.
    pub server_version: &'static str,
    /// Encoded request bytes.
    pub request_bytes_max: usize,
    /// Operations in a transaction.
    pub txn_ops_max: usize,
    /// Database size at which writes are refused; `None` for no limit.
    pub quota_bytes: Option<i64>,
    /// How often watchers that asked for it are told of progress, before jitter.
    pub watch_progress_interval: Duration,
    /// Silence before an election.
    pub election_timeout: Duration,
    /// Unary calls that take longer are logged.
    pub warning_unary_duration: Duration,
    /// Reads that take longer are logged.
    pub warning_apply_duration: Duration,
    /// Say NOT_SERVING while the database is defragmented.
    pub stop_serving_on_defragment: bool,
}

/// What a message may have besides the request in it.
const REQUEST_OVERHEAD_BYTES: usize = 512 * 1024;
impl Limits {
    /// The largest message that is received, or sent in one piece to a watcher that wants fragments.
    pub(super) fn message_bytes_max(&self) -> usize {
        self.request_bytes_max + REQUEST_OVERHEAD_BYTES
    }
}

/// The services' common part.
pub(super) struct Server {
    pub(super) node: NodeHandle,
    pub(super) limits: Limits,
    pub(super) health: super::health::State,
    versions: Versions,
}

const CLIENT_API_VERSION: HeaderName = HeaderName::from_static("client-api-version");
const HAS_LEADER: HeaderName = HeaderName::from_static("hasleader");

impl Server {
    pub(super) fn new(node: NodeHandle, limits: Limits) -> Self {
        Self {
            node,
            limits,
            health: super::health::State::new(),
            versions: Versions::default(),
        }
    }

    /// What comes before any argument check of a unary call.
    pub(super) fn admit(&self, context: &Context) -> Result<(), Status> {
        self.admit_if(context, "unary", false)
    }

    /// [`Server::admit`] for calls that learners answer too.
    pub(super) fn admit_learner(&self, context: &Context) -> Result<(), Status> {
        self.admit_if(context, "unary", true)
    }

    /// What comes before everything in a stream.
    pub(super) fn admit_stream(&self, context: &Context, learner: bool) -> Result<(), Status> {
        self.admit_if(context, "stream", learner)
    }

    fn admit_if(&self, context: &Context, kind: &str, learner: bool) -> Result<(), Status> {
        let status = self.node.status();
        if status.role == Role::Learner && !learner {
            return Err(status::unsupported_for_learner());
        }
        let version = match context.headers.get(CLIENT_API_VERSION) {
            None => "unknown",
            Some(version) => std::str::from_utf8(version.as_bytes())
                .map_err(|_| status::invalid_client_api_version())?,
        };
        self.versions.count(kind, version);
        if wants_leader(&context.headers) && status.leader == 0 {
            return Err(status::no_leader());
        }
        Ok(())
    }

    /// Ends a stream that asked for a leader when none has been known for three election timeouts.
    pub(super) fn leader_guard(
        &self,
        headers: &HeaderMap,
    ) -> impl Future<Output = Status> + Send + 'static {
        let patience = 3 * self.limits.election_timeout;
        let leader = wants_leader(headers).then(|| self.node.leader_changes());
        async move {
            let Some(mut leader) = leader else {
                return std::future::pending().await;
            };
            loop {
                if leader.wait_for(|leader| *leader == 0).await.is_err() {
                    return status::stopped();
                }
                let back = leader.wait_for(|leader| *leader != 0);
                if tokio::time::timeout(patience, back).await.is_err() {
                    return status::no_leader();
                }
            }
        }
    }

    /// The header of answers that do not bring a revision: the store's, now.
    pub(super) fn header(&self) -> Option<ResponseHeader> {
        self.header_at(self.node.view().mvcc.revision())
    }

    /// A header with a revision.
    pub(super) fn header_at(&self, revision: i64) -> Option<ResponseHeader> {
        let identity = self.node.identity();
        Some(ResponseHeader {
            cluster_id: identity.cluster_id.0,
            member_id: identity.member_id.0,
            revision,
            raft_term: self.node.status().term,
        })
    }

    /// Completes the header of an answer that has a revision.
    pub(super) fn complete(&self, header: Option<ResponseHeader>) -> Option<ResponseHeader> {
        match header.map_or(0, |header| header.revision) {
            0 => self.header(),
            revision => self.header_at(revision),
        }
    }

    /// Reads from the newest state; again if compaction took some of it meanwhile.
    pub(super) fn read<R>(
        &self,
        read: impl Fn(&View) -> Result<R, MvccError>,
    ) -> Result<R, Status> {
        loop {
            match read(&self.node.view().mvcc) {
                Err(MvccError::Stale) => {}
                result => return result.map_err(status::read),
            }
        }
    }

    /// [`Server::read`] where it takes long, off the threads that serve everyone.
    pub(super) async fn read_long<R: Send + 'static>(
        self: &Arc<Self>,
        read: impl Fn(&View) -> Result<R, MvccError> + Send + 'static,
    ) -> Result<R, Status> {
        let server = self.clone();
        let task = tokio::task::spawn_blocking(move || server.read(read));
        task.await.map_err(|error| status::failed(&error))?
    }
}

fn wants_leader(headers: &HeaderMap) -> bool {
    headers.get(HAS_LEADER).is_some_and(|value| value == "true")
}

/// Client versions that are counted without a look into the metrics' own table.
const VERSIONS_KEPT_MAX: usize = 16;

/// Counters of requests by the version their client names.
#[derive(Default)]
struct Versions(RwLock<Vec<(&'static str, String, Arc<Counter>)>>);

impl Versions {
    fn count(&self, kind: &str, version: &str) {
        let kept = self.0.read();
        if let Some((.., counter)) = kept.iter().find(|(k, v, _)| *k == kind && v == version) {
            return counter.inc();
        }
        let room = kept.len() < VERSIONS_KEPT_MAX;
        drop(kept);
        let counter = metrics::global().client_requests.with(&[version, kind]);
        counter.inc();
        if room {
            let kind = if kind == "unary" { "unary" } else { "stream" };
            self.0.write().push((kind, version.to_owned(), counter));
        }
    }
}
