//! The endpoints of client and metrics listeners, beside gRPC.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Either;
use hyper::body::Incoming;

use super::accept::{Opened, Rejected, Serving, serve};
use super::access::{Access, Admission};
use super::bind::Bound;
use super::connection::{Http2Settings, Peer, run_http1, run_http2};
use super::debug;
use super::health;
use super::member::Member;
use super::reply::{JSON, Reply, error, method_not_allowed, not_found, ok};
use super::scrape;
use super::sniff::Protocol;
use crate::tls;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a client listener answers with.
pub struct Endpoints<M> {
    /// The member.
    pub member: M,
    /// Hosts and origins.
    pub access: Access,
    /// The version this server is compatible with, such as `3.7.1`.
    pub server_version: &'static str,
    /// Whether `/debug/pprof/` answers.
    pub profiles: bool,
    /// Settings of HTTP/2.
    pub http2: Http2Settings,
}

/// What a client listener carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// gRPC.
    pub grpc: bool,
    /// The endpoints here.
    pub http: bool,
}

impl Traffic {
    /// As the log says it.
    pub fn name(self) -> &'static str {
        match (self.grpc, self.http) {
            (true, true) => "grpc+http",
            (true, false) => "grpc",
            _ => "http",
        }
    }
}

/// Serves client traffic until shutdown. A port may carry plain traffic, TLS, or both. `grpc` answers
/// calls; it is given the peer of the connection with each.
pub fn serve_clients<M, G, F, B>(
    bound: Bound,
    serving: &Serving,
    traffic: Traffic,
    plain: bool,
    tls: Option<Arc<tls::Server>>,
    endpoints: Arc<Endpoints<M>>,
    grpc: G,
) where
    M: Member,
    G: Fn(&Arc<Peer>, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    if plain {
        tracing::info!(
            traffic = traffic.name(),
            address = bound.local(),
            "serving client traffic insecurely; this is strongly discouraged!"
        );
    }
    if tls.is_some() {
        tracing::info!(
            traffic = traffic.name(),
            address = bound.local(),
            "serving client traffic securely"
        );
    }
    let shutdown = serving.shutdown.clone();
    serve(
        bound,
        serving,
        plain,
        tls,
        Rejected::Client,
        move |opened, peer| {
            let (endpoints, grpc, shutdown) = (endpoints.clone(), grpc.clone(), shutdown.clone());
            async move {
                let settings = &endpoints.http2;
                match opened {
                    Opened::Plain(Protocol::Http2, io) if traffic.grpc => {
                        run_http2(io, settings, &shutdown, |request| grpc(&peer, request)).await;
                    }
                    Opened::Plain(Protocol::Http1, io) if traffic.http => {
                        let answer = |request| admit(&endpoints, peer.clone(), request);
                        run_http1(io, &shutdown, answer).await;
                    }
                    Opened::Plain(..) => {}
                    Opened::Tls(io) if io.get_ref().1.alpn_protocol() != Some(b"h2") => {
                        if traffic.http {
                            let answer = |request| admit(&endpoints, peer.clone(), request);
                            run_http1(io, &shutdown, answer).await;
                        }
                    }
                    Opened::Tls(io) if !traffic.http => {
                        run_http2(io, settings, &shutdown, |request| grpc(&peer, request)).await;
                    }
                    Opened::Tls(io) => {
                        let answer = |request| either(&endpoints, traffic, &peer, &grpc, request);
                        run_http2(io, settings, &shutdown, answer).await;
                    }
                }
            }
        },
    );
}

/// On an encrypted HTTP/2 connection the content type tells gRPC from the rest.
fn either<M, G, F, B>(
    endpoints: &Arc<Endpoints<M>>,
    traffic: Traffic,
    peer: &Arc<Peer>,
    grpc: &G,
    request: Request<Incoming>,
) -> impl Future<Output = Response<Either<super::Body, B>>> + Send + 'static + use<M, G, F, B>
where
    M: Member,
    G: Fn(&Arc<Peer>, Request<Incoming>) -> F,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Send + 'static,
{
    let content_type = request.headers().get(CONTENT_TYPE);
    let is_grpc = content_type.is_some_and(|value| contains(value.as_bytes(), b"application/grpc"));
    let admission = endpoints.access.admit(&request, peer);
    let next = match admission {
        Admission::Answered(reply) => Next::Answered(reply),
        Admission::Admitted(cors) if is_grpc && traffic.grpc => {
            Next::Grpc(grpc(peer, request), cors)
        }
        Admission::Admitted(cors) => {
            let endpoints = endpoints.clone();
            Next::Here(async move { route(&endpoints, &request).await }, cors)
        }
    };
    async move {
        match next {
            Next::Answered(reply) => reply.map(Either::Left),
            Next::Grpc(reply, cors) => {
                let mut reply = reply.await.map(Either::Right);
                cors.apply(reply.headers_mut());
                reply
            }
            Next::Here(reply, cors) => {
                let mut reply = reply.await.map(Either::Left);
                cors.apply(reply.headers_mut());
                reply
            }
        }
    }
}

enum Next<F, H> {
    Answered(Reply),
    Grpc(F, super::access::CorsHeaders),
    Here(H, super::access::CorsHeaders),
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// A request of HTTP/1: access rules, then the endpoint.
fn admit<M: Member>(
    endpoints: &Arc<Endpoints<M>>,
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> impl Future<Output = Reply> + Send + use<M> {
    let endpoints = endpoints.clone();
    async move {
        match endpoints.access.admit(&request, &peer) {
            Admission::Answered(reply) => reply,
            Admission::Admitted(cors) => {
                let mut reply = route(&endpoints, &request).await;
                cors.apply(reply.headers_mut());
                reply
            }
        }
    }
}

/// The endpoint of a path on a client listener.
pub(super) async fn route<M: Member, B>(endpoints: &Endpoints<M>, request: &Request<B>) -> Reply {
    match request.uri().path() {
        "/version" => version(&endpoints.member, endpoints.server_version, request),
        "/debug/vars" => debug::vars(&endpoints.member, request),
        path if path.starts_with("/debug/pprof/") && endpoints.profiles => debug::profiles(),
        path if path.starts_with("/v3/") || path.starts_with("/v3beta/") => error(
            StatusCode::NOT_IMPLEMENTED,
            "etcd: the JSON gateway is not served yet; use gRPC, for example with etcdctl",
        ),
        _ => observe(&endpoints.member, request).await,
    }
}

/// The endpoint of a path on a metrics listener; client listeners have these too.
async fn observe<M: Member, B>(member: &M, request: &Request<B>) -> Reply {
    match request.uri().path() {
        "/metrics" => scrape::metrics(request),
        "/health" => health::health(member, request).await,
        _ => health::checks(member, request)
            .await
            .unwrap_or_else(not_found),
    }
}

/// Serves `/metrics` and health until shutdown; there is no access rule on these listeners.
pub fn serve_metrics<M: Member>(
    bound: Bound,
    serving: &Serving,
    tls: Option<Arc<tls::Server>>,
    member: M,
) {
    tracing::info!(address = bound.local(), "serving metrics");
    let shutdown = serving.shutdown.clone();
    let plain = tls.is_none();
    serve(
        bound,
        serving,
        plain,
        tls,
        Rejected::Client,
        move |opened, _| {
            let (member, shutdown) = (member.clone(), shutdown.clone());
            async move {
                let answer = |request: Request<Incoming>| {
                    let member = member.clone();
                    async move { observe(&member, &request).await }
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

/// Answers `/version`, on client and peer listeners alike.
pub(super) fn version<B>(
    member: &impl Member,
    server_version: &str,
    request: &Request<B>,
) -> Reply {
    if request.method() != Method::GET {
        return method_not_allowed(Some("GET"));
    }
    let versions = serde_json::json!({
        "etcdserver": server_version,
        "etcdcluster": member.cluster_version().unwrap_or_else(|| "not_decided".to_owned()),
        "storage": member.storage_version().unwrap_or_else(|| "unknown".to_owned()),
    });
    ok(JSON, versions.to_string())
}
