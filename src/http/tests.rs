//! Real sockets, a member made up, and what etcd answered in the same place.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::client::{Endpoints, Traffic, serve_clients, serve_metrics};
use super::member::LeaseLeft;
use super::peer::{PeerEndpoints, serve_peers};
use super::*;
use crate::mvcc::KvHash;
use crate::pb::etcdserverpb::{AlarmMember, AlarmType};
use crate::tls;
use crate::types::{ClusterId, LeaseId};

/// A member in the state the recording's was in.
#[derive(Clone, Default)]
struct Fake {
    alarm: Arc<AtomicI32>,
    trouble: Trouble,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Trouble {
    #[default]
    None,
    NoLeader,
    NoQuorum,
    Learner,
    Undecided,
}

impl Member for Fake {
    fn alarms(&self) -> Vec<AlarmMember> {
        match self.alarm.load(Ordering::Relaxed) {
            0 => Vec::new(),
            alarm => vec![AlarmMember {
                member_id: 1,
                alarm,
            }],
        }
    }

    fn has_leader(&self) -> bool {
        self.trouble != Trouble::NoLeader
    }

    fn is_learner(&self) -> bool {
        self.trouble == Trouble::Learner
    }

    async fn linearizable_read(&self) -> Result<(), String> {
        match self.trouble {
            Trouble::NoQuorum => Err("etcdserver: request timed out".into()),
            _ => Ok(()),
        }
    }

    fn cluster_version(&self) -> Option<String> {
        (self.trouble != Trouble::Undecided).then(|| "3.7.0".into())
    }

    fn storage_version(&self) -> Option<String> {
        self.cluster_version()
    }

    fn cluster_id(&self) -> ClusterId {
        ClusterId(0xcdf818194e3a8c32)
    }

    fn members(&self) -> Vec<crate::membership::Member> {
        vec![crate::membership::Member {
            id: 10276657743932975437,
            peer_urls: vec!["http://127.0.0.1:2380".into()],
            name: "default".into(),
            client_urls: vec!["http://127.0.0.1:2379".into()],
            ..Default::default()
        }]
    }

    fn is_downgrading(&self) -> bool {
        false
    }

    fn raft_status(&self) -> Value {
        json!({ "id": "1" })
    }

    async fn hash_kv(&self, revision: i64) -> Result<(KvHash, i64), String> {
        match revision {
            0 => Ok((
                KvHash {
                    hash: 7,
                    compact_revision: 3,
                    revision: 6,
                },
                6,
            )),
            ..3 => Err("mvcc: required revision has been compacted".into()),
            _ => Err("mvcc: required revision is a future revision".into()),
        }
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Option<i64>, String> {
        Ok((lease.0 == 5).then_some(60))
    }

    async fn lease_left(&self, lease: LeaseId, keys: bool) -> Result<Option<LeaseLeft>, String> {
        let found = || {
            (
                59,
                60,
                if keys {
                    vec![Bytes::from_static(b"k")]
                } else {
                    Vec::new()
                },
            )
        };
        Ok((lease.0 == 5).then(found))
    }
}

const BOTH: Traffic = Traffic {
    grpc: true,
    http: true,
};

fn endpoints(member: Fake) -> Arc<Endpoints<Fake>> {
    Arc::new(Endpoints {
        member,
        access: Access::default(),
        server_version: "3.7.1",
        profiles: false,
        http2: Http2Settings::default(),
    })
}

/// Stands in for gRPC: tells who asked for what.
async fn grpc(peer: Arc<Peer>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let name = peer.common_name.as_deref().unwrap_or("-");
    Response::new(Full::from(format!("grpc {} {name}", request.uri().path())))
}

fn any_port() -> Bound {
    bind(
        &Address::Tcp("127.0.0.1".into(), 0),
        SocketOptions::default(),
    )
    .unwrap()
}

/// Serves clients on a port of its own.
fn clients(
    serving: &Serving,
    traffic: Traffic,
    plain: bool,
    tls: Option<Arc<tls::Server>>,
    endpoints: Arc<Endpoints<Fake>>,
) -> SocketAddr {
    let bound = any_port();
    let address = bound.local().parse().unwrap();
    let answer = |peer: &Arc<Peer>, request| grpc(peer.clone(), request);
    serve_clients(bound, serving, traffic, plain, tls, endpoints, answer);
    address
}

/// Sends bytes and reads until the other side closes.
async fn exchange(mut io: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> Vec<u8> {
    io.write_all(bytes).await.unwrap();
    let mut read = Vec::new();
    // A reset is as good as a close.
    let _ = tokio::time::timeout(Duration::from_secs(10), io.read_to_end(&mut read))
        .await
        .unwrap();
    read
}

async fn plain_exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    exchange(TcpStream::connect(address).await.unwrap(), bytes).await
}

const GET_VERSION: &[u8] = b"GET /version HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

fn is_ok(reply: &[u8]) -> bool {
    reply.starts_with(b"HTTP/1.1 200 OK\r\n")
}

type Http2 = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

async fn http2(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Http2 {
    let executor = TokioExecutor::new();
    let (sender, connection) = hyper::client::conn::http2::handshake(executor, TokioIo::new(io))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

/// Status, body and allowed origin of a request over HTTP/2.
async fn ask(client: &mut Http2, path: &str, content_type: &str) -> (u16, String, bool) {
    let request = Request::post(format!("http://h{path}"))
        .version(Version::HTTP_2)
        .header("content-type", content_type)
        .body(Empty::new())
        .unwrap();
    let reply = client.send_request(request).await.unwrap();
    let cors = reply.headers().contains_key("access-control-allow-origin");
    let status = reply.status().as_u16();
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap(), cors)
}

#[tokio::test]
async fn a_plain_port_tells_protocols_apart() {
    let serving = Serving::new(100);
    let address = clients(&serving, BOTH, true, None, endpoints(Fake::default()));
    assert!(is_ok(&plain_exchange(address, GET_VERSION).await));
    let mut client = http2(TcpStream::connect(address).await.unwrap()).await;
    // Whatever comes over HTTP/2 on a plain port is gRPC's business.
    assert_eq!(
        ask(&mut client, "/metrics", "").await,
        (200, "grpc /metrics -".into(), false)
    );
    for bytes in [
        b"hello there\r\n".as_slice(),
        b"\x16\x03\x01\x00\x10hello",
        b"\0\0\0\0",
    ] {
        assert_eq!(plain_exchange(address, bytes).await, b"");
    }
    let upgrade = b"GET /version HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\n\
        Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n\
        GET /version HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let reply = plain_exchange(address, upgrade).await;
    assert!(is_ok(&reply));
    assert_eq!(
        String::from_utf8_lossy(&reply)
            .matches("HTTP/1.1 200 OK")
            .count(),
        2
    );
}

#[tokio::test]
async fn split_ports_carry_one_protocol() {
    let serving = Serving::new(100);
    let grpc_only = Traffic {
        grpc: true,
        http: false,
    };
    let http_only = Traffic {
        grpc: false,
        http: true,
    };
    let grpc_port = clients(&serving, grpc_only, true, None, endpoints(Fake::default()));
    let http_port = clients(&serving, http_only, true, None, endpoints(Fake::default()));
    assert_eq!(plain_exchange(grpc_port, GET_VERSION).await, b"");
    assert!(is_ok(&plain_exchange(http_port, GET_VERSION).await));
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    assert_eq!(plain_exchange(http_port, preface).await, b"");
    let mut client = http2(TcpStream::connect(grpc_port).await.unwrap()).await;
    assert_eq!(
        ask(&mut client, "/s/m", "application/grpc").await.1,
        "grpc /s/m -"
    );
}

/// A self-signed server certificate and a client that trusts it.
struct Certificate {
    _dir: tempfile::TempDir,
    server: Arc<tls::Server>,
    client: rustls::ClientConfig,
}

impl Certificate {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = tls::self_signed(dir.path(), &["localhost".to_owned()], 1, true).unwrap();
        let server = tls::Server::load(tls::ServerOptions {
            usage: "http-tests",
            cert_file: made.cert_file.clone(),
            key_file: made.key_file,
            ..Default::default()
        });
        let trusted_ca_file = Some(made.cert_file);
        let client = tls::ClientOptions {
            trusted_ca_file,
            ..Default::default()
        };
        let client = Arc::unwrap_or_clone(tls::client_config(&client).unwrap());
        Self {
            _dir: dir,
            server: server.unwrap(),
            client,
        }
    }

    async fn connect<S>(&self, io: S, alpn: &[u8]) -> tokio_rustls::client::TlsStream<S>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut config = self.client.clone();
        config.alpn_protocols = vec![alpn.to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector
            .connect("localhost".try_into().unwrap(), io)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn after_a_handshake_the_content_type_decides() {
    let certificate = Certificate::new();
    let serving = Serving::new(100);
    let tls = Some(certificate.server.clone());
    let address = clients(
        &serving,
        BOTH,
        false,
        tls.clone(),
        endpoints(Fake::default()),
    );
    let dial = || async move { TcpStream::connect(address).await.unwrap() };

    let stream = certificate.connect(dial().await, b"http/1.1").await;
    assert!(is_ok(&exchange(stream, GET_VERSION).await));
    let mut client = http2(certificate.connect(dial().await, b"h2").await).await;
    let asked = ask(&mut client, "/s/m", "application/grpc+proto").await;
    assert_eq!(asked, (200, "grpc /s/m -".into(), true));
    let asked = ask(&mut client, "/nope", "text/plain").await;
    assert_eq!(asked, (404, "404 page not found\n".into(), true));
    // Plain requests to a port with TLS get no reply.
    assert_eq!(plain_exchange(address, GET_VERSION).await, b"");

    let both = clients(&serving, BOTH, true, tls, endpoints(Fake::default()));
    assert!(is_ok(&plain_exchange(both, GET_VERSION).await));
    let stream = TcpStream::connect(both).await.unwrap();
    assert!(is_ok(
        &exchange(certificate.connect(stream, b"http/1.1").await, GET_VERSION).await
    ));
}

#[tokio::test]
async fn unix_sockets_serve_like_ports() {
    let certificate = Certificate::new();
    let dir = tempfile::tempdir().unwrap();
    let serving = Serving::new(100);
    for tls in [None, Some(certificate.server.clone())] {
        let path = dir.path().join(format!("s{}", u8::from(tls.is_some())));
        let bound = bind(&Address::Unix(path.clone()), SocketOptions::default()).unwrap();
        let (plain, endpoints) = (tls.is_none(), endpoints(Fake::default()));
        let answer = |peer: &Arc<Peer>, request| grpc(peer.clone(), request);
        serve_clients(bound, &serving, BOTH, plain, tls, endpoints, answer);
        let stream = UnixStream::connect(&path).await.unwrap();
        let reply = match plain {
            true => exchange(stream, GET_VERSION).await,
            false => exchange(certificate.connect(stream, b"http/1.1").await, GET_VERSION).await,
        };
        assert!(is_ok(&reply));
    }
}

#[tokio::test]
async fn shutdown_needs_no_grace_for_connections_without_requests() {
    let serving = Serving::new(100);
    let address = clients(&serving, BOTH, true, None, endpoints(Fake::default()));
    let mut client = http2(TcpStream::connect(address).await.unwrap()).await;
    ask(&mut client, "/s/m", "application/grpc").await;
    let _silent = TcpStream::connect(address).await.unwrap();
    let hour = Duration::from_secs(3600);
    let finished = tokio::time::timeout(hour / 120, serving.shutdown.finish(hour)).await;
    assert!(finished.is_ok(), "idle connections hold the shutdown up");
    assert!(
        TcpStream::connect(address).await.is_err(),
        "the port is closed"
    );
    assert!(client.ready().await.is_err(), "the client is told");
}

#[tokio::test]
async fn shutdown_finishes_requests_and_closes_those_that_do_not_end() {
    let serving = Serving::new(100);
    let bound = any_port();
    let address: SocketAddr = bound.local().parse().unwrap();
    let begun = Arc::new(tokio::sync::Notify::new());
    let go_on = Arc::new(tokio::sync::Notify::new());
    let (begun_inside, go_on_inside) = (begun.clone(), go_on.clone());
    let answer = move |peer: &Arc<Peer>, request: Request<Incoming>| {
        let (peer, begun, go_on) = (peer.clone(), begun_inside.clone(), go_on_inside.clone());
        async move {
            begun.notify_one();
            match request.uri().path() {
                "/ends" => go_on.notified().await,
                _ => std::future::pending().await,
            }
            grpc(peer, request).await
        }
    };
    let endpoints = endpoints(Fake::default());
    serve_clients(bound, &serving, BOTH, true, None, endpoints, answer);
    let mut calls = Vec::new();
    for path in ["/ends", "/never"] {
        let mut client = http2(TcpStream::connect(address).await.unwrap()).await;
        let request = Request::post(format!("http://h{path}"))
            .body(Empty::new())
            .unwrap();
        let reply = client.send_request(request);
        calls.push(tokio::spawn(async move { reply.await.is_ok() }));
        begun.notified().await;
    }
    serving.shutdown.begin();
    go_on.notify_one();
    let never = calls.pop().unwrap();
    assert!(
        calls.pop().unwrap().await.unwrap(),
        "a call that ends is answered"
    );
    serving.shutdown.finish(Duration::from_millis(10)).await;
    assert!(!never.await.unwrap(), "the other is cut off");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let serving = Serving::new(1);
    let address = clients(&serving, BOTH, true, None, endpoints(Fake::default()));
    let first = TcpStream::connect(address).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    second.write_all(GET_VERSION).await.unwrap();
    let mut byte = [0];
    let waiting = tokio::time::timeout(Duration::from_millis(100), second.read(&mut byte)).await;
    assert!(waiting.is_err());
    drop(first);
    assert_eq!(second.read(&mut byte).await.unwrap(), 1);
}

/// Status and body of an endpoint.
async fn get(member: Fake, path: &str) -> (u16, String) {
    let request = Request::get(path).body(()).unwrap();
    let reply = client::route(&endpoints(member), &request).await;
    (reply.status().as_u16(), reply.body().text().to_owned())
}

#[tokio::test]
async fn health_tells_what_is_wrong() {
    let with = |trouble| Fake {
        trouble,
        ..Fake::default()
    };
    let health = |reason: &str| {
        (
            503,
            format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n"),
        )
    };
    assert_eq!(
        get(with(Trouble::NoLeader), "/health").await,
        health("RAFT NO LEADER")
    );
    let timeout = health("RANGE ERROR:etcdserver: request timed out");
    assert_eq!(get(with(Trouble::NoQuorum), "/health").await, timeout);
    assert_eq!(
        get(with(Trouble::NoQuorum), "/health?serializable=true")
            .await
            .0,
        200
    );
    assert_eq!(
        get(with(Trouble::NoQuorum), "/livez").await,
        (200, "ok\n".into())
    );
    let report = "[+]data_corruption ok\n[+]serializable_read ok\n\
        [-]linearizable_read failed: etcdserver: request timed out\n[+]non_learner ok\n\n";
    assert_eq!(
        get(with(Trouble::NoQuorum), "/readyz").await,
        (503, report.into())
    );
    let learner = "[-]non_learner failed: not supported for learner\n\n";
    assert_eq!(
        get(with(Trouble::Learner), "/readyz/non_learner").await,
        (503, learner.into())
    );
    let version =
        "{\"etcdserver\":\"3.7.1\",\"etcdcluster\":\"not_decided\",\"storage\":\"unknown\"}";
    assert_eq!(
        get(with(Trouble::Undecided), "/version").await,
        (200, version.into())
    );
}

#[tokio::test]
async fn peers_keep_leases_alive_and_learn_what_is_left() {
    use prost::Message;

    use crate::pb::etcdserverpb::{LeaseKeepAliveResponse, LeaseTimeToLiveRequest};
    use crate::pb::leasepb::{LeaseInternalRequest, LeaseInternalResponse};

    let endpoints = PeerEndpoints {
        member: Fake::default(),
        server_version: "3.7.1",
    };
    let post = |path: &str, body: Vec<u8>| {
        let request = Request::post(path).body(Full::<Bytes>::from(body)).unwrap();
        peer::route(&endpoints, request)
    };
    let reply = post("/leases", b"\x08\x05".to_vec()).await;
    assert_eq!(reply.headers()["content-type"], "application/protobuf");
    let bytes = reply.into_body().collect().await.unwrap().to_bytes();
    let reply = LeaseKeepAliveResponse::decode(bytes).unwrap();
    assert_eq!((reply.id, reply.ttl, reply.header), (5, 60, None));

    let ask = LeaseTimeToLiveRequest { id: 5, keys: true };
    let ask = LeaseInternalRequest {
        lease_time_to_live_request: Some(ask),
    };
    let bytes = post("/leases/internal", ask.encode_to_vec()).await;
    let bytes = bytes.into_body().collect().await.unwrap().to_bytes();
    let left = LeaseInternalResponse::decode(bytes)
        .unwrap()
        .lease_time_to_live_response
        .unwrap();
    assert_eq!((left.ttl, left.granted_ttl, left.keys.len()), (59, 60, 1));

    assert_eq!(post("/leases", vec![0; 70_000]).await.status(), 413);
}

#[tokio::test]
async fn raft_traffic_is_checked_and_then_declined() {
    let endpoints = PeerEndpoints {
        member: Fake::default(),
        server_version: "3.7.1",
    };
    let ask = |server: &str, min: &str, cluster: &str| {
        let request = Request::post("/raft")
            .header("x-server-version", server)
            .header("x-min-cluster-version", min)
            .header("x-etcd-cluster-id", cluster)
            .body(Empty::<Bytes>::new())
            .unwrap();
        peer::route(&endpoints, request)
    };
    let own = "cdf818194e3a8c32";
    for (server, min, cluster, status) in [
        ("3.7.1", "3.0.0", own, 501),
        ("3.4.0", "3.0.0", own, 501),
        ("2.3.0", "2.0.0", own, 412),
        ("4.0.0", "3.8.0", own, 412),
        ("nonsense", "3.0.0", own, 412),
        ("3.7.1", "3.0.0", "1", 412),
    ] {
        assert_eq!(
            ask(server, min, cluster).await.status(),
            status,
            "{server} {min} {cluster}"
        );
    }
}

/// A recorded request with its reply.
struct Recorded<'a> {
    title: &'a str,
    target: &'a str,
    method: &'a str,
    path: &'a str,
    headers: Vec<&'a str>,
    body: Option<Vec<u8>>,
    reply: Vec<&'a str>,
}

impl<'a> Recorded<'a> {
    fn parse(block: &'a str) -> Self {
        let mut lines = block.lines();
        let title = lines.next().unwrap();
        let mut rest = title.split("  # ").next().unwrap();
        let mut headers = Vec::new();
        let mut words = rest.splitn(4, ' ');
        let (_, target, method) = (words.next(), words.next().unwrap(), words.next().unwrap());
        rest = words.next().unwrap();
        let (path, mut rest) = rest.split_once("  ").unwrap_or((rest, "\0"));
        if let Some((inside, after)) = rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
            headers = inside.split("; ").collect();
            rest = after.strip_prefix("  ").unwrap_or("\0");
        }
        let body = (rest != "\0").then(|| unquoted(rest));
        Self {
            title,
            target,
            method,
            path,
            headers,
            body,
            reply: lines.collect(),
        }
    }

    fn request(&self, address: SocketAddr) -> Vec<u8> {
        let version = if self.reply[0].starts_with("HTTP/1.0") {
            "1.0"
        } else {
            "1.1"
        };
        let mut text = format!("{} {} HTTP/{version}\r\n", self.method, self.path);
        if !self
            .headers
            .iter()
            .any(|header| header.starts_with("Host:"))
        {
            text += &format!("Host: {address}\r\n");
        }
        self.headers
            .iter()
            .for_each(|header| text += &format!("{header}\r\n"));
        if let Some(body) = &self.body {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        let mut bytes = (text + "Connection: close\r\n\r\n").into_bytes();
        bytes.extend(self.body.iter().flatten());
        bytes
    }
}

/// A body as Python prints it when it has control characters, else as it is.
fn unquoted(text: &str) -> Vec<u8> {
    let Some(inside) = text
        .strip_prefix('\'')
        .and_then(|text| text.strip_suffix('\''))
    else {
        return text.as_bytes().to_vec();
    };
    let mut bytes = Vec::new();
    let mut rest = inside.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
                rest = after;
            }
            (b'\\', [b'n', after @ ..]) => {
                bytes.push(b'\n');
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
    bytes
}

const CORS: [&str; 3] = [
    "Access-Control-Allow-Headers: accept, content-type, authorization",
    "Access-Control-Allow-Methods: POST, GET, OPTIONS, PUT, DELETE",
    "Access-Control-Allow-Origin: *",
];

/// A reply in the recording's form: status, sorted headers, body.
fn shown(reply: &[u8]) -> Vec<String> {
    let end = reply
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a whole head");
    let head = String::from_utf8(reply[..end].to_vec()).unwrap();
    let mut lines: Vec<String> = head.lines().map(str::to_owned).collect();
    let chunked = lines
        .iter()
        .any(|line| line == "Transfer-Encoding: chunked");
    let body = &reply[end + 4..];
    let body = if chunked {
        dechunked(body)
    } else {
        body.to_vec()
    };
    let status = lines.remove(0);
    lines.retain(|line| !line.starts_with("Date: ") && !line.starts_with("Connection: "));
    lines.sort();
    let mut shown = vec![status];
    if CORS
        .iter()
        .all(|header| lines.iter().any(|line| line == header))
    {
        lines.retain(|line| !CORS.contains(&line.as_str()));
        shown.push("(+cors)".to_owned());
    }
    shown.append(&mut lines);
    let body = String::from_utf8_lossy(&body).replace('\n', "\\n");
    shown.push(format!("body: {body}"));
    shown
}

fn dechunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..at]).unwrap(), 16).unwrap();
        let chunk = &bytes[at + 2..];
        body.extend_from_slice(&chunk[..size]);
        bytes = &chunk[(size + 2).min(chunk.len())..];
    }
    body
}

/// Whether text is what was recorded, `<...>` and its like standing for anything.
fn matches(recorded: &str, text: &str) -> bool {
    let mut rest = text;
    let mut parts = Vec::new();
    let mut pattern = recorded;
    while let Some(start) = pattern.find('<') {
        parts.push(&pattern[..start]);
        pattern = pattern[start..].split_once('>').unwrap().1;
    }
    parts.push(pattern);
    if parts.len() == 1 {
        return recorded == text;
    }
    let last = parts.pop().unwrap();
    for (i, part) in parts.iter().enumerate() {
        let Some(at) = rest.find(part).filter(|at| i > 0 || *at == 0) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[tokio::test]
async fn endpoints_answer_as_recorded_from_etcd() {
    let member = Fake::default();
    let serving = Serving::new(100);
    let client_port = clients(&serving, BOTH, true, None, endpoints(member.clone()));
    let (peer_socket, metrics_socket) = (any_port(), any_port());
    let peer_port: SocketAddr = peer_socket.local().parse().unwrap();
    let metrics_port: SocketAddr = metrics_socket.local().parse().unwrap();
    let peers = PeerEndpoints {
        member: member.clone(),
        server_version: "3.7.1",
    };
    serve_peers(peer_socket, &serving, None, Arc::new(peers));
    serve_metrics(metrics_socket, &serving, None, member.clone());
    crate::metrics::global().cluster_version.set_only(&["3.7"]);

    let text = include_str!("testdata/endpoints.txt");
    let mut replayed = 0;
    for block in text.split("\n\n").skip(1) {
        let recorded = Recorded::parse(block);
        if recorded.path.ends_with("/alarm") {
            let body = String::from_utf8(recorded.body.unwrap()).unwrap();
            let kind = match body {
                body if body.contains("DEACTIVATE") => AlarmType::None,
                body if body.contains("NOSPACE") => AlarmType::Nospace,
                _ => AlarmType::Corrupt,
            };
            member.alarm.store(kind as i32, Ordering::Relaxed);
            continue;
        }
        let port = match recorded.target {
            "client" => client_port,
            "peer" => peer_port,
            _ => metrics_port,
        };
        let reply = shown(&plain_exchange(port, &recorded.request(port)).await);
        let same = reply.len() == recorded.reply.len()
            && recorded
                .reply
                .iter()
                .zip(&reply)
                .all(|(recorded, line)| matches(recorded, line));
        let head: Vec<String> = reply
            .iter()
            .map(|line| line.chars().take(300).collect())
            .collect();
        assert!(
            same,
            "{}\nrecorded {:#?}\nanswered {head:#?}",
            recorded.title, recorded.reply
        );
        replayed += 1;
    }
    assert_eq!(replayed, 133);
}
