//! The endpoints other members ask, and their tools.
//!
//! Raft's own traffic (`/raft`, `/raft/stream`, `/raft/snapshot`) is checked as etcd checks it and then
//! answered with 501: clusters of several members are not served yet.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use prost::Message;

use super::accept::{Opened, Rejected, Serving, serve};
use super::bind::Bound;
use super::client::version;
use super::connection::{Http2Settings, run_http1, run_http2};
use super::member::Member;
use super::reply::{JSON, PLAIN_TEXT, Reply, error, method_not_allowed, not_found, ok};
use super::sniff::Protocol;
use crate::pb::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveResponse, ResponseHeader,
};
use crate::pb::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use crate::tls;
use crate::types::LeaseId;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a peer listener answers with.
pub struct PeerEndpoints<M> {
    /// The member.
    pub member: M,
    /// The version this server is compatible with, such as `3.7.1`.
    pub server_version: &'static str,
}

/// The oldest cluster version this member works with.
const CLUSTER_VERSION_MIN: (u64, u64) = (3, 0);
/// Bytes of a request's body that are read.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Serves other members until shutdown.
pub fn serve_peers<M: Member>(
    bound: Bound,
    serving: &Serving,
    tls: Option<Arc<tls::Server>>,
    endpoints: Arc<PeerEndpoints<M>>,
) {
    tracing::info!(address = bound.local(), "serving peer traffic");
    let shutdown = serving.shutdown.clone();
    let plain = tls.is_none();
    serve(
        bound,
        serving,
        plain,
        tls,
        Rejected::Peer,
        move |opened, _| {
            let (endpoints, shutdown) = (endpoints.clone(), shutdown.clone());
            async move {
                let answer = |request: Request<Incoming>| {
                    let endpoints = endpoints.clone();
                    async move { route(&endpoints, request).await }
                };
                match opened {
                    Opened::Plain(Protocol::Http1, io) => run_http1(io, &shutdown, answer).await,
                    Opened::Tls(io) if io.get_ref().1.alpn_protocol() == Some(b"h2") => {
                        run_http2(io, &Http2Settings::default(), &shutdown, answer).await;
                    }
                    Opened::Tls(io) => run_http1(io, &shutdown, answer).await,
                    Opened::Plain(..) => {}
                }
            }
        },
    );
}

/// The endpoint of a path.
pub(super) async fn route<M, B>(endpoints: &PeerEndpoints<M>, request: Request<B>) -> Reply
where
    M: Member,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    let member = &endpoints.member;
    match request.uri().path() {
        "/version" => version(member, endpoints.server_version, &request),
        "/members" => members(member, &request),
        "/members/hashkv" => hash_kv(member, request).await,
        "/downgrade/enabled" => downgrade_enabled(member, &request).await,
        "/leases" => keep_alive(member, request).await,
        "/leases/internal" => lease_left(member, request).await,
        "/raft/probing" => probing(),
        path if path.starts_with("/members/promote/") => promote(member, &request),
        "/raft" | "/raft/snapshot" => raft(endpoints, &request, Method::POST),
        path if path.starts_with("/raft/stream/") => raft(endpoints, &request, Method::GET),
        _ => not_found(),
    }
}

fn mark_cluster(member: &impl Member, headers: &mut HeaderMap) {
    if let Ok(id) = HeaderValue::try_from(member.cluster_id().to_string()) {
        headers.insert("x-etcd-cluster-id", id);
    }
}

fn marked(member: &impl Member, mut reply: Reply) -> Reply {
    mark_cluster(member, reply.headers_mut());
    reply
}

fn members<B>(member: &impl Member, request: &Request<B>) -> Reply {
    if request.method() != Method::GET {
        return method_not_allowed(Some("GET"));
    }
    let mut all = member.members();
    all.sort_by_key(|member| member.id);
    let text = serde_json::to_string(&all).unwrap_or_default();
    marked(member, ok(JSON, text + "\n"))
}

#[derive(serde::Deserialize)]
struct HashRequest {
    #[serde(default)]
    revision: i64,
}

async fn hash_kv<B>(member: &impl Member, request: Request<B>) -> Reply
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    if request.method() != Method::GET {
        return method_not_allowed(Some("GET"));
    }
    if is_of_other_cluster(member, request.headers()) {
        return error(StatusCode::PRECONDITION_FAILED, "cluster ID mismatch");
    }
    let body = match read(request).await {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    let Ok(asked) = serde_json::from_slice::<HashRequest>(&body) else {
        return error(StatusCode::BAD_REQUEST, "error unmarshalling request");
    };
    match member.hash_kv(asked.revision).await {
        Ok((hash, revision)) => {
            let mut text = serde_json::json!({
                "header": { "revision": revision },
                "hash": hash.hash,
                "compact_revision": hash.compact_revision,
                "hash_revision": hash.revision,
            });
            // Go leaves out what is zero.
            if let Some(fields) = text.as_object_mut() {
                fields.retain(|_, value| *value != 0);
            }
            marked(member, ok(JSON, text.to_string()))
        }
        Err(reason) => {
            tracing::warn!(
                "requested-revision" = asked.revision,
                error = reason,
                "failed to get hashKV"
            );
            error(StatusCode::BAD_REQUEST, reason)
        }
    }
}

async fn downgrade_enabled<B>(member: &impl Member, request: &Request<B>) -> Reply {
    if request.method() != Method::GET {
        return method_not_allowed(Some("GET"));
    }
    let reply = match member.linearizable_read().await {
        Ok(()) => ok(
            HeaderValue::from_static("text/plain"),
            member.is_downgrading().to_string(),
        ),
        Err(reason) => {
            let text = format!("failed linearized read: {reason}");
            error(StatusCode::INTERNAL_SERVER_ERROR, text)
        }
    };
    marked(member, reply)
}

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/protobuf");
const LEASE_NOT_FOUND: &str = "lease not found";

/// Reads and decodes the protobuf body of a POST.
async fn decode<Q, B>(request: Request<B>) -> Result<Q, Reply>
where
    Q: Message + Default,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    if request.method() != Method::POST {
        return Err(method_not_allowed(None));
    }
    let body = read(request).await?;
    let malformed = |_| error(StatusCode::BAD_REQUEST, "error unmarshalling request");
    Q::decode(body).map_err(malformed)
}

async fn keep_alive<B>(member: &impl Member, request: Request<B>) -> Reply
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    let asked: LeaseKeepAliveRequest = match decode(request).await {
        Ok(asked) => asked,
        Err(reply) => return reply,
    };
    match member.keep_alive(LeaseId(asked.id)).await {
        Ok(Some(ttl)) => {
            let reply = LeaseKeepAliveResponse {
                header: None,
                id: asked.id,
                ttl,
            };
            ok(PROTOBUF, reply.encode_to_vec())
        }
        Ok(None) => error(StatusCode::NOT_FOUND, LEASE_NOT_FOUND),
        Err(reason) => error(StatusCode::BAD_REQUEST, reason),
    }
}

async fn lease_left<B>(member: &impl Member, request: Request<B>) -> Reply
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    let asked: LeaseInternalRequest = match decode(request).await {
        Ok(asked) => asked,
        Err(reply) => return reply,
    };
    let asked = asked.lease_time_to_live_request.unwrap_or_default();
    match member.lease_left(LeaseId(asked.id), asked.keys).await {
        Ok(Some((ttl, granted_ttl, keys))) => {
            let left = LeaseTimeToLiveResponse {
                header: Some(ResponseHeader::default()),
                id: asked.id,
                ttl,
                granted_ttl,
                keys,
            };
            let reply = LeaseInternalResponse {
                lease_time_to_live_response: Some(left),
            };
            ok(PROTOBUF, reply.encode_to_vec())
        }
        Ok(None) => error(StatusCode::NOT_FOUND, LEASE_NOT_FOUND),
        Err(reason) => error(StatusCode::INTERNAL_SERVER_ERROR, reason),
    }
}

async fn read<B>(request: Request<B>) -> Result<Bytes, Reply>
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX)
        .collect()
        .await;
    body.map(|body| body.to_bytes()).map_err(|reason| {
        match reason.is::<http_body_util::LengthLimitError>() {
            true => error(StatusCode::PAYLOAD_TOO_LARGE, "request body too large"),
            false => error(StatusCode::BAD_REQUEST, "error reading body"),
        }
    })
}

/// A peer measures the round trip and the clocks' difference with this.
fn probing() -> Reply {
    let now = jiff::Timestamp::now();
    ok(PLAIN_TEXT, format!("{{\"OK\":true,\"Now\":\"{now}\"}}\n"))
}

fn promote<B>(member: &impl Member, request: &Request<B>) -> Reply {
    if request.method() != Method::POST {
        return method_not_allowed(Some("POST"));
    }
    let id = request
        .uri()
        .path()
        .strip_prefix("/members/promote/")
        .unwrap_or_default();
    let known = |id: u64| member.members().into_iter().find(|member| member.id == id);
    let reply = match id.parse().map(known) {
        Err(_) => error(
            StatusCode::NOT_FOUND,
            format!("member {id} not found in cluster"),
        ),
        Ok(None) => error(StatusCode::NOT_FOUND, "membership: ID not found"),
        Ok(Some(known)) if !known.is_learner => {
            let text = "membership: can only promote a learner member";
            error(StatusCode::PRECONDITION_FAILED, text)
        }
        Ok(Some(_)) => error(StatusCode::NOT_IMPLEMENTED, NOT_SERVED),
    };
    marked(member, reply)
}

const NOT_SERVED: &str = "etcd: clusters of several members are not served yet";

/// Raft's traffic: the checks of who asks, and then the answer that it is not served.
fn raft<M: Member, B>(endpoints: &PeerEndpoints<M>, request: &Request<B>, method: Method) -> Reply {
    let is_stream = method == Method::GET;
    if request.method() != method {
        return method_not_allowed(Some(if is_stream { "GET" } else { "POST" }));
    }
    let member = &endpoints.member;
    let mut reply = if !is_compatible(request.headers(), endpoints.server_version) {
        error(StatusCode::PRECONDITION_FAILED, "incompatible version")
    } else if is_of_other_cluster(member, request.headers()) {
        error(StatusCode::PRECONDITION_FAILED, "cluster ID mismatch")
    } else {
        error(StatusCode::NOT_IMPLEMENTED, NOT_SERVED)
    };
    if is_stream {
        let version = HeaderValue::from_static(endpoints.server_version);
        reply.headers_mut().insert("x-server-version", version);
    }
    marked(member, reply)
}

fn is_of_other_cluster(member: &impl Member, headers: &HeaderMap) -> bool {
    let named = headers.get("x-etcd-cluster-id").filter(|id| !id.is_empty());
    named.is_some_and(|id| id.as_bytes() != member.cluster_id().to_string().as_bytes())
}

/// Whether a peer of these versions and this one can talk: by major and minor number.
fn is_compatible(headers: &HeaderMap, server_version: &str) -> bool {
    // A peer that names none is taken for one of before they were named.
    let of = |name: &str| {
        let text = headers.get(name).and_then(|value| value.to_str().ok());
        major_minor(text.unwrap_or_default()).unwrap_or((2, 0))
    };
    let own = major_minor(server_version).unwrap_or_default();
    of("x-server-version") >= CLUSTER_VERSION_MIN && of("x-min-cluster-version") <= own
}

fn major_minor(version: &str) -> Option<(u64, u64)> {
    semver::Version::parse(version)
        .ok()
        .map(|version| (version.major, version.minor))
}
