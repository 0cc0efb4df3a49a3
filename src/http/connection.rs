//! Running HTTP on one open connection.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::accept::{HEAD_TIMEOUT, Shutdown};
use super::reply::Reply;
use super::socket::Stream;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Who is at the other end of a connection.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Address; None on a unix socket.
    pub remote: Option<SocketAddr>,
    /// Process id, on a unix socket.
    pub process: Option<i32>,
    /// Whether the connection is encrypted.
    pub secure: bool,
    /// Common name of the client's verified certificate, if it has one.
    pub common_name: Option<Arc<str>>,
}

impl Peer {
    pub(super) fn of(stream: &Stream) -> Self {
        Self {
            remote: stream.remote(),
            process: stream.process(),
            ..Self::default()
        }
    }

    /// The address as logs show it; Go prints `@` for an unnamed unix socket.
    pub(super) fn text(&self) -> String {
        self.remote
            .map_or_else(|| "@".to_owned(), |remote| remote.to_string())
    }
}

/// Settings of HTTP/2 connections.
#[derive(Clone, Debug)]
pub struct Http2Settings {
    /// Streams a client may have open on one connection.
    pub concurrent_streams_max: u32,
    /// Quiet time after which a client is asked whether it is still there.
    pub keepalive_interval: Option<Duration>,
    /// How long it may take to answer.
    pub keepalive_timeout: Duration,
}

impl Default for Http2Settings {
    fn default() -> Self {
        Self {
            concurrent_streams_max: u32::MAX,
            keepalive_interval: Some(Duration::from_secs(2 * 3600)),
            keepalive_timeout: Duration::from_secs(20),
        }
    }
}

/// Credit a client starts with, per connection and per stream. Large requests need no round trip for
/// more; nothing is allocated until data comes.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Reply bytes buffered per stream before its handler must wait.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// Size of a request's headers; tokens are the longest.
const HEADER_LIST_BYTES_MAX: u32 = 64 * 1024;

impl Http2Settings {
    fn builder(&self) -> http2::Builder<TokioExecutor> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            // gRPC clients do not look at it.
            .auto_date_header(false)
            .keep_alive_interval(self.keepalive_interval)
            .keep_alive_timeout(self.keepalive_timeout);
        match self.concurrent_streams_max {
            u32::MAX => builder.max_concurrent_streams(None),
            max => builder.max_concurrent_streams(max),
        };
        builder
    }
}

/// Runs HTTP/1 until the client closes or the server stops.
pub(super) async fn run_http1<S, H, F>(io: S, shutdown: &Shutdown, handler: H)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    H: Fn(Request<Incoming>) -> F + Send,
    F: Future<Output = Reply> + Send,
{
    let service = service_fn(|request| {
        let reply = handler(request);
        async { Ok::<_, Infallible>(reply.await) }
    });
    let mut builder = http1::Builder::new();
    // Go's spelling of header names.
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .title_case_headers(true);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    tokio::select! {
        // An error is the client's, and there is nobody to tell.
        _ = connection.as_mut() => return,
        () = shutdown.stopping() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Runs HTTP/2 until the client closes or the server stops.
pub(super) async fn run_http2<S, H, F, B>(
    io: S,
    settings: &Http2Settings,
    shutdown: &Shutdown,
    handler: H,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F + Send,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let service = service_fn(|request| {
        let reply = handler(request);
        async { Ok::<_, Infallible>(reply.await) }
    });
    let connection = settings
        .builder()
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    tokio::select! {
        _ = after_others(connection.as_mut()) => return,
        () = shutdown.stopping() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = after_others(connection).await;
}

/// Runs a connection, but each time it is woken only once all tasks that are ready have had their turn.
///
/// Many requests of a connection are answered at once, when a batch of writes is applied. The first answer wakes the
/// connection, and tokio would run it next: each answer would leave in a write of its own, which costs more than
/// everything else that is done for the request.
async fn after_others<F: Future>(mut connection: Pin<&mut F>) -> F::Output {
    let mut waited = false;
    poll_fn(|context| {
        waited = !waited;
        if waited {
            // A task that wakes itself goes to the end of the queue.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        connection.as_mut().poll(context)
    })
    .await
}
