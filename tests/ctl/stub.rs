//! A server that answers what it is told to: the calls a diagnosis makes, over gRPC and HTTP/1 on one port.
//!
//! A real member cannot be asked for a slow disk, a wrong clock or a quota that is nearly used up.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use etcd::pb::etcdserverpb as pb;
use http::header::{CONTENT_TYPE, DATE};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::words;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What the server says.
#[derive(Clone, Default)]
pub struct Answers {
    pub status: pb::StatusResponse,
    /// The status is never answered.
    pub silent: bool,
    pub members: Vec<pb::Member>,
    pub alarms: Vec<pb::AlarmMember>,
    /// The metrics page.
    pub metrics: String,
    /// How far its clock is ahead.
    pub clock_ahead_seconds: i64,
    /// Time for a read.
    pub read_time: Duration,
    /// Authentication is on, and every user has this password; only root may read.
    pub password: Option<&'static str>,
    /// A status code and a message instead of a read's result.
    pub read_error: Option<(u32, &'static str)>,
}

/// A running server; it ends with this.
pub struct Stub {
    /// `host:port`.
    pub address: String,
    answers: Arc<Mutex<Answers>>,
    serving: JoinHandle<()>,
}

impl Stub {
    pub async fn start(tls: Option<TlsAcceptor>) -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(words)?;
        let address = listener.local_addr().map_err(words)?.to_string();
        let answers = Arc::<Mutex<Answers>>::default();
        let serving = tokio::spawn(serve(listener, tls, answers.clone()));
        Ok(Self {
            address,
            answers,
            serving,
        })
    }

    pub fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, answers: Arc<Mutex<Answers>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(converse(stream, tls.clone(), answers.clone()));
    }
}

/// One connection. Peers that only look, or do not trust the certificate, go without a word.
async fn converse(stream: TcpStream, tls: Option<TlsAcceptor>, answers: Arc<Mutex<Answers>>) {
    let service = service_fn(move |request| {
        let answers = answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        async move { Ok::<_, Infallible>(answer(request, answers).await) }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    match tls {
        None => {
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        }
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            }
        }
    }
}

async fn answer(request: Request<Incoming>, answers: Answers) -> Response<Body> {
    let header = answers.status.header;
    match request.uri().path() {
        "/metrics" => page(answers),
        "/etcdserverpb.Maintenance/Status" if answers.silent => std::future::pending().await,
        "/etcdserverpb.Maintenance/Status" => message(&answers.status),
        "/etcdserverpb.Maintenance/Alarm" => message(&pb::AlarmResponse {
            header,
            alarms: answers.alarms,
        }),
        "/etcdserverpb.Cluster/MemberList" => message(&pb::MemberListResponse {
            header,
            members: answers.members,
        }),
        "/etcdserverpb.Auth/Authenticate" => log_in(request, answers).await,
        "/etcdserverpb.KV/Range" => {
            let token = request.headers().get("token");
            match token.map(HeaderValue::as_bytes) {
                _ if answers.password.is_none() => {}
                None => return failure(3, "etcdserver: user name is empty"),
                Some(b"root") => {}
                Some(_) => return failure(7, "etcdserver: permission denied"),
            }
            tokio::time::sleep(answers.read_time).await;
            match answers.read_error {
                Some((code, text)) => failure(code, text),
                None => message(&pb::RangeResponse {
                    header,
                    ..Default::default()
                }),
            }
        }
        _ => failure(12, "unimplemented"),
    }
}

/// The token is the user's name.
async fn log_in(request: Request<Incoming>, answers: Answers) -> Response<Body> {
    const HEAD_BYTES: usize = 5;
    let Some(password) = answers.password else {
        return failure(9, "etcdserver: authentication is not enabled");
    };
    let body = request.into_body().collect().await;
    let framed = body.map(http_body_util::Collected::to_bytes);
    let asked = framed.ok().and_then(|framed| {
        pb::AuthenticateRequest::decode(framed.get(HEAD_BYTES..).unwrap_or_default()).ok()
    });
    match asked.filter(|asked| asked.password == password) {
        Some(asked) => message(&pb::AuthenticateResponse {
            header: answers.status.header,
            token: asked.name,
        }),
        None => failure(
            3,
            "etcdserver: authentication failed, invalid user ID or password",
        ),
    }
}

fn page(answers: Answers) -> Response<Body> {
    let now = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(answers.clock_ahead_seconds);
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now);
    let mut response = Response::new(Full::new(Bytes::from(answers.metrics)).boxed_unsync());
    if let Ok(date) = HeaderValue::try_from(date.unwrap_or_default()) {
        response.headers_mut().insert(DATE, date);
    }
    response
}

fn message(message: &impl Message) -> Response<Body> {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(message.encoded_len() as u32);
    framed.put_slice(&message.encode_to_vec());
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Frame::data(framed.freeze()), Frame::trailers(trailers)];
    let frames = futures_util::stream::iter(frames.map(Ok));
    grpc(Response::new(StreamBody::new(frames).boxed_unsync()))
}

fn failure(code: u32, text: &'static str) -> Response<Body> {
    let mut response = grpc(Response::new(Full::new(Bytes::new()).boxed_unsync()));
    let headers = response.headers_mut();
    headers.insert("grpc-status", HeaderValue::from(code));
    headers.insert("grpc-message", HeaderValue::from_static(text));
    response
}

fn grpc(mut response: Response<Body>) -> Response<Body> {
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
