//! Replies: one message, or a stream of them, and the status at the end.

use std::convert::Infallible;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use prost::Message;
use tonic::Status;

use super::messages::FRAME_HEAD_BYTES;
use crate::metrics::GrpcMethod;

/// Bytes after which a stream's messages go out even though more are ready.
const PIECE_BYTES: usize = 32 * 1024;

/// Bytes below which a copy costs less than a frame of their own.
const COPIED_BYTES_MAX: usize = 16 * 1024;

/// What answers a call with one reply.
pub(in crate::rpc) trait Reply {
    /// Writes the message to `out`, which is empty.
    fn write_to(self, out: &mut Outgoing);
}

impl<M: Message> Reply for M {
    fn write_to(self, out: &mut Outgoing) {
        out.message(&self);
    }
}

/// What a streaming call has to say.
pub(in crate::rpc) trait Source: Send {
    /// Writes the messages that are ready to `out`, until it is full. Ready when the call is over; pending when
    /// nothing more is ready now; [`Poll::Pending`] with messages in `out`, or with `out` full, means to be
    /// asked again once they are on their way.
    fn poll_messages(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut Outgoing,
    ) -> Poll<Result<(), Status>>;
}

/// Encoded messages on their way out.
pub(in crate::rpc) struct Outgoing {
    bytes: BytesMut,
    /// The end of the message in `bytes`.
    rest: Option<Bytes>,
    gzip: bool,
    method: &'static GrpcMethod,
}

impl Outgoing {
    pub(super) fn new(gzip: bool, method: &'static GrpcMethod) -> Self {
        Self {
            bytes: BytesMut::new(),
            rest: None,
            gzip,
            method,
        }
    }

    /// Whether it is time to send.
    pub(in crate::rpc) fn is_full(&self) -> bool {
        self.bytes.len() >= PIECE_BYTES
    }

    /// Adds a message.
    pub(in crate::rpc) fn message(&mut self, message: &impl Message) {
        self.encoded(message.encoded_len(), |buffer| message.encode_raw(buffer));
    }

    /// Writes a message, the only one, whose last fields are encoded already.
    pub(in crate::rpc) fn only(&mut self, first: &impl Message, rest: Bytes) {
        let length = first.encoded_len() + rest.len();
        if self.gzip || rest.len() < COPIED_BYTES_MAX {
            return self.encoded(length, |buffer| {
                first.encode_raw(buffer);
                buffer.put_slice(&rest);
            });
        }
        self.method.sent(length);
        self.bytes.put_u8(0);
        self.bytes.put_u32(length as u32);
        first.encode_raw(&mut self.bytes);
        self.rest = Some(rest);
    }

    /// Adds a message of `length` bytes that `write` writes.
    pub(in crate::rpc) fn encoded(&mut self, length: usize, write: impl FnOnce(&mut BytesMut)) {
        self.method.sent(length);
        if self.gzip {
            let mut plain = BytesMut::with_capacity(length);
            write(&mut plain);
            return self.compressed(&plain);
        }
        self.bytes.reserve(FRAME_HEAD_BYTES + length);
        self.bytes.put_u8(0);
        self.bytes.put_u32(length as u32);
        let start = self.bytes.len();
        write(&mut self.bytes);
        debug_assert_eq!(self.bytes.len() - start, length);
    }

    fn compressed(&mut self, plain: &[u8]) {
        let start = self.bytes.len();
        self.bytes.put_bytes(0, FRAME_HEAD_BYTES);
        let mut encoder =
            GzEncoder::new((&mut self.bytes).writer(), flate2::Compression::default());
        // Writing to memory does not fail.
        let _ = encoder
            .write_all(plain)
            .and_then(|()| encoder.finish().map(drop));
        let length = (self.bytes.len() - start - FRAME_HEAD_BYTES) as u32;
        let head = &mut self.bytes[start..start + FRAME_HEAD_BYTES];
        head[0] = 1;
        head[1..].copy_from_slice(&length.to_be_bytes());
    }

    fn take(&mut self) -> Option<Bytes> {
        (!self.bytes.is_empty()).then(|| self.bytes.split().freeze())
    }
}

/// The body of a reply.
pub struct ReplyBody(Kind);

enum Kind {
    /// Nothing: the status is among the headers.
    Empty,
    /// One message, then the status.
    Unary {
        message: Option<Bytes>,
        rest: Option<Bytes>,
        trailers: Option<HeaderMap>,
    },
    /// Messages, then the status.
    Stream(Pin<Box<dyn Body<Data = Bytes, Error = Infallible> + Send>>),
}

impl ReplyBody {
    pub(super) fn empty() -> Self {
        Self(Kind::Empty)
    }

    pub(super) fn unary(mut out: Outgoing) -> Self {
        Self(Kind::Unary {
            message: out.take(),
            rest: out.rest,
            trailers: Some(trailers(&Status::ok(""))),
        })
    }

    pub(super) fn stream(
        body: impl Body<Data = Bytes, Error = Infallible> + Send + 'static,
    ) -> Self {
        Self(Kind::Stream(Box::pin(body)))
    }
}

impl std::fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Kind::Empty => "no message",
            Kind::Unary { .. } => "one message",
            Kind::Stream(_) => "a stream of messages",
        })
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Unary {
                message,
                rest,
                trailers,
            } => {
                let next = message.take().or_else(|| rest.take()).map(Frame::data);
                Poll::Ready(
                    next.or_else(|| trailers.take().map(Frame::trailers))
                        .map(Ok),
                )
            }
            Kind::Stream(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Unary { trailers, .. } => trailers.is_none(),
            Kind::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

pin_project_lite::pin_project! {
    /// A [`Source`] as a body.
    pub(super) struct SourceBody<S, G, E> where E: FnOnce(tonic::Code) {
        #[pin]
        source: S,
        // Ends the call from outside: its deadline, or a leader that was lost.
        #[pin]
        guard: G,
        out: Outgoing,
        over: Option<Status>,
        ended: Option<E>,
    }
    impl<S, G, E> PinnedDrop for SourceBody<S, G, E> where E: FnOnce(tonic::Code) {
        fn drop(this: Pin<&mut Self>) {
            if let Some(ended) = this.project().ended.take() {
                ended(tonic::Code::Cancelled);
            }
        }
    }
}

impl<S, G, E: FnOnce(tonic::Code)> SourceBody<S, G, E> {
    /// `ended` learns how the call ended.
    pub(super) fn new(source: S, guard: G, out: Outgoing, ended: E) -> Self {
        Self {
            source,
            guard,
            out,
            over: None,
            ended: Some(ended),
        }
    }
}

impl<S, G, E> Body for SourceBody<S, G, E>
where
    S: Source,
    G: Future<Output = Status>,
    E: FnOnce(tonic::Code),
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.project();
        if this.ended.is_none() {
            return Poll::Ready(None);
        }
        if this.over.is_none() {
            if let Poll::Ready(status) = this.guard.poll(cx) {
                *this.over = Some(status);
            } else if let Poll::Ready(result) = this.source.poll_messages(cx, this.out) {
                *this.over = Some(result.err().unwrap_or_else(|| Status::ok("")));
            }
        }
        if let Some(bytes) = this.out.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let Some(status) = this.over.take() else {
            return Poll::Pending;
        };
        if let Some(ended) = this.ended.take() {
            ended(status.code());
        }
        Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended.is_none()
    }
}

/// The status as what ends a reply.
fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    if status.code() == tonic::Code::Ok {
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("grpc-message", HeaderValue::from_static(""));
    } else {
        // The text is encoded so that any of it fits a header.
        let _ = status.add_header(&mut trailers);
    }
    trailers
}
