//! Running a call: read the request, run its handler, answer, count.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body;
use prost::Message;
use tokio::time::Sleep;
use tonic::{Code, Status};

use super::head::{Head, refuse};
use super::messages::{Messages, decode_reason};
use super::reply::{Outgoing, Reply, ReplyBody, Source, SourceBody};
use crate::metrics::{GrpcCode, GrpcMethod};

/// The text of a deadline that passed.
const DEADLINE_EXCEEDED: &str = "context deadline exceeded";
/// A reply waits so long for the client to end its side, which clients do right behind their message.
const END_WAIT_MAX: Duration = Duration::from_millis(100);

/// A method, as far as all calls of it are alike.
#[derive(Clone, Copy)]
pub(in crate::rpc) struct Method {
    /// Its path.
    pub(in crate::rpc) path: &'static str,
    /// Where it is counted.
    pub(in crate::rpc) counters: &'static GrpcMethod,
    /// The largest message it takes.
    pub(in crate::rpc) receive_bytes_max: usize,
}

/// What a handler may want to know of a call besides its messages.
pub(in crate::rpc) struct Context {
    /// Request metadata.
    pub(in crate::rpc) headers: HeaderMap,
    /// The client.
    pub(in crate::rpc) remote: Option<SocketAddr>,
}

/// A call whose head is in order.
pub(in crate::rpc) struct Call<B> {
    pub(in crate::rpc) context: Context,
    pub(in crate::rpc) method: Method,
    messages: Messages<B>,
    head: Head,
    counted: Counted,
}

/// A call that was begun and is counted when it ends, however that is.
struct Counted {
    method: &'static GrpcMethod,
    started: Instant,
    code: Code,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let seconds = self.started.elapsed().as_secs_f64();
        self.method
            .handled(GrpcCode::from_number(self.code as i32), seconds);
    }
}

impl<B: Body<Data = Bytes> + Unpin> Call<B> {
    /// Begins a call; the answer to a head that is not in order.
    pub(in crate::rpc) fn begin(
        request: Request<B>,
        remote: Option<SocketAddr>,
        method: Method,
    ) -> Result<Self, Response<ReplyBody>> {
        let (parts, body) = request.into_parts();
        let head = Head::read(&parts)?;
        method.counters.started.inc();
        Ok(Self {
            context: Context {
                headers: parts.headers,
                remote,
            },
            method,
            messages: Messages::new(body, head.gzip, method.receive_bytes_max, method.counters),
            head,
            counted: Counted {
                method: method.counters,
                started: Instant::now(),
                // Until it ends otherwise: its client went away.
                code: Code::Cancelled,
            },
        })
    }

    /// The one message of a call that has one, as it was encoded.
    async fn only(&mut self) -> Result<Bytes, Status> {
        let message = poll_fn(|cx| self.messages.poll_encoded(cx)).await;
        message.unwrap_or_else(|| {
            let text =
                "cardinality violation: received no request message from non-client-streaming RPC";
            Err(Status::internal(text))
        })
    }

    /// Waits for the client to end its side. A reply before that resets the stream, and h2 closes the connection
    /// once the ends of a thousand such streams came late: with many calls on few connections that happens.
    async fn end(&mut self) {
        if self.messages.is_over() {
            return;
        }
        let ended = poll_fn(|cx| self.messages.poll_end(cx));
        // A client that does not is answered all the same.
        let _ = tokio::time::timeout(END_WAIT_MAX, ended).await;
    }

    fn deadline(&self) -> Option<Sleep> {
        // A deadline beyond all clocks is none.
        let timeout = self.head.timeout?;
        tokio::time::Instant::now()
            .checked_add(timeout)
            .map(tokio::time::sleep_until)
    }
}

/// Runs a call with one request and one reply. `log` sees what took long: how long, the request as it was
/// encoded, and the reply.
pub(in crate::rpc) async fn unary<B, Q, R>(
    mut call: Call<B>,
    handler: impl AsyncFnOnce(&Context, Q) -> Result<R, Status>,
    log: impl FnOnce(&Context, Duration, Bytes, Option<&R>),
) -> Response<ReplyBody>
where
    B: Body<Data = Bytes> + Unpin,
    Q: Message + Default,
    R: Reply,
{
    let deadline = call.deadline();
    let mut kept = Bytes::new();
    let run = async {
        let encoded = call.only().await?;
        kept = encoded.clone();
        let request = Q::decode(encoded).map_err(|error| {
            let reason = decode_reason(&error);
            Status::internal(format!("grpc: error unmarshalling request: {reason}"))
        })?;
        handler(&call.context, request).await
    };
    let result = {
        // Pinned here, it is not moved, and so kept only once in what the call takes of memory.
        let mut run = std::pin::pin!(run);
        match deadline {
            None => run.as_mut().await,
            Some(deadline) => tokio::select! {
                biased;
                result = run.as_mut() => result,
                () = deadline => Err(Status::deadline_exceeded(DEADLINE_EXCEEDED)),
            },
        }
    };
    log(
        &call.context,
        call.counted.started.elapsed(),
        kept,
        result.as_ref().ok(),
    );
    call.end().await;
    match result {
        Ok(reply) => {
            call.counted.code = Code::Ok;
            let mut out = Outgoing::new(call.head.gzip, call.counted.method);
            reply.write_to(&mut out);
            respond(call.head, ReplyBody::unary(out))
        }
        Err(status) => {
            call.counted.method.sent_refusal();
            call.counted.code = status.code();
            refuse(status)
        }
    }
}

/// Runs a call with one request and many replies.
pub(in crate::rpc) async fn server_stream<B, Q, S, M, G>(
    mut call: Call<B>,
    guard: G,
    handler: impl AsyncFnOnce(&Context, Q) -> Result<S, Status>,
) -> Response<ReplyBody>
where
    B: Body<Data = Bytes> + Unpin,
    Q: Message + Default,
    S: Stream<Item = Result<M, Status>> + Send + 'static,
    M: Message,
    G: Future<Output = Status> + Send + 'static,
{
    let run = async {
        let request = Q::decode(call.only().await?).map_err(|error| {
            let reason = decode_reason(&error);
            Status::internal(format!(
                "grpc: failed to unmarshal the received message: {reason}"
            ))
        })?;
        handler(&call.context, request).await
    };
    let result = run.await;
    call.end().await;
    match result {
        Ok(replies) => {
            let deadline = call.deadline();
            let source = FromStream::new(replies);
            finish_stream(call.head, call.counted, deadline, guard, source)
        }
        Err(status) => {
            call.counted.code = status.code();
            refuse(status)
        }
    }
}

/// Runs a call with many requests and many replies: `handler` makes of the requests what answers them.
pub(in crate::rpc) fn stream<B, S, G>(
    mut call: Call<B>,
    guard: G,
    handler: impl FnOnce(&Context, Messages<B>) -> Result<S, Status>,
) -> Response<ReplyBody>
where
    B: Body<Data = Bytes> + Unpin,
    S: Source + 'static,
    G: Future<Output = Status> + Send + 'static,
{
    let deadline = call.deadline();
    match handler(&call.context, call.messages) {
        Ok(source) => finish_stream(call.head, call.counted, deadline, guard, source),
        Err(status) => {
            call.counted.code = status.code();
            refuse(status)
        }
    }
}

fn finish_stream<S, G>(
    head: Head,
    counted: Counted,
    deadline: Option<Sleep>,
    guard: G,
    source: S,
) -> Response<ReplyBody>
where
    S: Source + 'static,
    G: Future<Output = Status> + Send + 'static,
{
    let out = Outgoing::new(head.gzip, counted.method);
    let ended = move |code| {
        let mut counted = counted;
        counted.code = code;
    };
    let body = match deadline {
        None => ReplyBody::stream(SourceBody::new(source, guard, out, ended)),
        Some(deadline) => {
            let guard = async move {
                tokio::select! {
                    status = guard => status,
                    () = deadline => Status::deadline_exceeded(DEADLINE_EXCEEDED),
                }
            };
            ReplyBody::stream(SourceBody::new(source, guard, out, ended))
        }
    };
    respond(head, body)
}

fn respond(head: Head, body: ReplyBody) -> Response<ReplyBody> {
    let mut reply = Response::new(body);
    if head.gzip {
        reply
            .headers_mut()
            .insert("grpc-encoding", HeaderValue::from_static("gzip"));
    }
    reply.headers_mut().insert(CONTENT_TYPE, head.content_type);
    reply
}

pin_project_lite::pin_project! {
    /// A stream of messages as a [`Source`].
    pub(in crate::rpc) struct FromStream<S> {
        #[pin]
        replies: S,
    }
}

impl<S> FromStream<S> {
    pub(in crate::rpc) fn new(replies: S) -> Self {
        Self { replies }
    }
}

impl<S, M> Source for FromStream<S>
where
    S: Stream<Item = Result<M, Status>> + Send,
    M: Message,
{
    fn poll_messages(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        out: &mut Outgoing,
    ) -> Poll<Result<(), Status>> {
        let mut replies = self.project().replies;
        while !out.is_full() {
            match std::task::ready!(replies.as_mut().poll_next(cx)) {
                Some(Ok(message)) => out.message(&message),
                Some(Err(status)) => return Poll::Ready(Err(status)),
                None => return Poll::Ready(Ok(())),
            }
        }
        Poll::Pending
    }
}
