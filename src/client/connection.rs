//! One HTTP/2 connection to one endpoint.
//!
//! A connection counts as up only once the server's first frame came in. Until then nothing is sent, so a wrong
//! scheme or a TLS mismatch is a connection that never came up, not a request whose fate is unknown.

use super::endpoint::{Address, Endpoint};
use super::error::os_error_text;
use super::tls::Tls;
use http_body_util::BodyExt;
use http_body_util::combinators::MapErr;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tonic::Status;
use tonic::body::Body;

/// How connections are made; the same for all endpoints of a client.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// TLS, where it is used at all.
    pub tls: Option<Arc<Tls>>,
    /// A ping goes out when nothing was heard for so long while calls are open.
    pub keepalive_time: Duration,
    /// A ping unanswered for so long breaks the connection.
    pub keepalive_timeout: Duration,
}

/// Servers close connections that ping more often than every five seconds; gRPC clients keep to ten.
const KEEPALIVE_TIME_MIN: Duration = Duration::from_secs(10);

/// What a server may send before it has to wait for this side: so much that large answers come in one go.
const WINDOW_BYTES: u32 = 32 * 1024 * 1024;

/// The two ends of a connection, for log lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// The server's address.
    pub remote: String,
    /// Our address.
    pub local: String,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
}

/// An established connection; clones share it.
#[derive(Clone)]
pub(super) struct Connection {
    sender: http2::SendRequest<Body>,
    peer: Arc<Peer>,
    origin: http::Uri,
    unsent: Arc<AtomicBool>,
}

/// Completes when the connection has ended.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Connection {
    /// Connects. The error is worded as Go's gRPC words it.
    pub(super) async fn open(
        endpoint: &Endpoint,
        options: &Options,
    ) -> Result<(Self, Driver), String> {
        let dialing = |error: String| format!("transport: Error while dialing: {error}");
        let (stream, remote, local) = dial(&endpoint.address).await.map_err(dialing)?;
        let stream: Box<dyn Stream> = match &options.tls {
            None => stream,
            Some(tls) => {
                let handshake = tls.connect(endpoint.server_name(), stream).await;
                Box::new(handshake.map_err(|error| {
                    format!("transport: authentication handshake failed: {error}")
                })?)
            }
        };
        let (up, mut is_up) = oneshot::channel();
        let watched = FirstFrame {
            stream,
            head: [0; 9],
            seen: 0,
            up: Some(up),
        };
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(options.keepalive_time.max(KEEPALIVE_TIME_MIN))
            .keep_alive_timeout(options.keepalive_timeout)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(TokioIo::new(watched))
            .await
            .map_err(|error| format!("error reading server preface: {error}"))?;
        let mut connection = Box::pin(connection);
        tokio::select! {
            up = &mut is_up => match up {
                Ok(true) => {}
                Ok(false) => {
                    return Err("error reading server preface: http2: not a settings frame".to_owned());
                }
                Err(_) => return Err(no_preface(connection.await)),
            },
            ended = &mut connection => return Err(no_preface(ended)),
        }
        let driver: Driver = Box::pin(async move {
            // How it ended shows in the calls that were on it.
            let _ = connection.await;
        });
        let scheme = if options.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let origin = http::Uri::builder()
            .scheme(scheme)
            .authority(endpoint.authority.as_str())
            .path_and_query("/")
            .build()
            .unwrap_or_else(|_| http::Uri::from_static("http://localhost/"));
        let peer = Arc::new(Peer {
            remote,
            local,
            encrypted: options.tls.is_some(),
        });
        Ok((
            Self {
                sender,
                peer,
                origin,
                unsent: Arc::default(),
            },
            driver,
        ))
    }

    /// Whether calls can still be started on it.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Its two ends.
    pub(super) fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// Scheme and authority of requests on it.
    pub(super) fn origin(&self) -> &http::Uri {
        &self.origin
    }

    /// A handle for one call, whose [`Connection::was_unsent`] is its own.
    pub(super) fn for_one_call(&self) -> Self {
        Self {
            unsent: Arc::default(),
            ..self.clone()
        }
    }

    /// Whether the call failed before any of it was given to the connection, or before the server that closes it
    /// looked at it: it may be repeated, write or not.
    pub(super) fn was_unsent(&self) -> bool {
        self.unsent.load(Ordering::Relaxed)
    }
}

/// Why a connection ended before the server's first frame. A server that wants another client certificate says so only
/// after the handshake.
fn no_preface(ended: hyper::Result<()>) -> String {
    let error = ended.err();
    let source = error.as_ref().and_then(std::error::Error::source);
    let source = source.and_then(|e| e.downcast_ref::<std::io::Error>());
    match source.filter(|error| error.kind() == std::io::ErrorKind::InvalidData) {
        Some(alert) => format!("error reading server preface: tls: {alert}"),
        None => "error reading server preface: EOF".to_owned(),
    }
}

/// A response body whose errors are statuses.
pub(super) type ResponseBody = MapErr<Incoming, fn(hyper::Error) -> Status>;

impl tower::Service<http::Request<Body>> for Connection {
    type Response = http::Response<ResponseBody>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.sender.try_send_request(request);
        let unsent = Arc::clone(&self.unsent);
        Box::pin(async move {
            match answer.await {
                Ok(response) => Ok(response.map(|body| body.map_err(broken as fn(_) -> _))),
                Err(mut error) => {
                    let kept = error.take_message().is_some();
                    let error = error.into_error();
                    unsent.store(kept || is_unprocessed(&error), Ordering::Relaxed);
                    Err(broken(error))
                }
            }
        })
    }
}

/// Whether a server that closes the connection in order said that it has not looked at the call: streams it has
/// looked at are not ended by its GOAWAY.
fn is_unprocessed(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|e| e.downcast_ref::<h2::Error>());
    source.is_some_and(|error| {
        error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
    })
}

/// The status of a call whose connection or stream broke.
fn broken(error: hyper::Error) -> Status {
    let source = std::error::Error::source(&error).and_then(|e| e.downcast_ref::<h2::Error>());
    match source
        .filter(|error| error.is_remote() && error.is_reset())
        .and_then(h2::Error::reason)
    {
        Some(h2::Reason::CANCEL) => {
            Status::cancelled("stream terminated by RST_STREAM with error code: CANCEL")
        }
        Some(reason) if reason != h2::Reason::REFUSED_STREAM && reason != h2::Reason::NO_ERROR => {
            Status::internal(format!(
                "stream terminated by RST_STREAM with error code: {reason:?}"
            ))
        }
        _ => Status::unavailable(format!("error reading from server: {error}")),
    }
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to an address: the stream, and the names of its two ends.
pub(super) async fn dial(address: &Address) -> Result<(Box<dyn Stream>, String, String), String> {
    match address {
        Address::Bad(why) => Err(why.clone()),
        Address::Unix(path) => {
            let name = path.display().to_string();
            let stream = UnixStream::connect(path)
                .await
                .map_err(|error| format!("dial unix {name}: connect: {}", os_error_text(&error)))?;
            Ok((Box::new(stream), name, "@".to_owned()))
        }
        Address::Tcp { host, port } => {
            let stream = dial_tcp(host, *port).await?;
            let remote = stream.peer_addr().map(|address| address.to_string());
            let local = stream.local_addr().map(|address| address.to_string());
            Ok((
                Box::new(stream),
                remote.unwrap_or_default(),
                local.unwrap_or_default(),
            ))
        }
    }
}

/// Tries a host's addresses in turn.
async fn dial_tcp(host: &str, port: u16) -> Result<TcpStream, String> {
    let host = if host.is_empty() { "localhost" } else { host };
    let addresses = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| format!("dial tcp: lookup {host}: {}", os_error_text(&error)))?;
    let mut last = format!("dial tcp: lookup {host}: no such host");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Calls are small messages that wait for an answer each.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => {
                last = format!("dial tcp {address}: connect: {}", os_error_text(&error));
            }
        }
    }
    Err(last)
}

/// Reports the first frame that comes in: `true` for the settings frame every HTTP/2 server begins with.
struct FirstFrame {
    stream: Box<dyn Stream>,
    head: [u8; 9],
    seen: usize,
    up: Option<oneshot::Sender<bool>>,
}

impl FirstFrame {
    const KIND: usize = 3;
    const SETTINGS: u8 = 4;

    fn look(&mut self, incoming: &[u8]) {
        let taken = incoming.len().min(self.head.len() - self.seen);
        self.head[self.seen..self.seen + taken].copy_from_slice(&incoming[..taken]);
        self.seen += taken;
        if self.seen == self.head.len()
            && let Some(up) = self.up.take()
        {
            let _ = up.send(self.head[Self::KIND] == Self::SETTINGS);
        }
    }
}

impl AsyncRead for FirstFrame {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.up.is_some() && buf.filled().len() > before {
            self.look(&buf.filled()[before..]);
        }
        polled
    }
}

impl AsyncWrite for FirstFrame {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
