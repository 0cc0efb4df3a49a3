//! Reading a request's messages as a function of bytes, for the fuzzers.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message;
use tonic::Status;

use super::Messages;

/// Larger than what a fuzzer makes, and small enough to be compressed into one of its inputs.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// The messages of a body that comes in pieces of so many bytes, as a call reads them.
pub fn read_messages<Q: Message + Default>(
    body: &Bytes,
    piece_bytes: usize,
    gzip: bool,
) -> Vec<Result<Q, Status>> {
    let pieces = body.chunks(piece_bytes).map(|piece| body.slice_ref(piece));
    let frames = pieces.map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
    let body = StreamBody::new(stream::iter(frames));
    let path = "/etcdserverpb.KV/Put";
    let Some(method) = crate::metrics::global().grpc.method(path) else {
        return Vec::new();
    };
    let mut messages = Messages::new(body, gzip, MESSAGE_BYTES_MAX, method);
    let mut read = Vec::new();
    while let Some(Some(message)) = messages.next().now_or_never() {
        read.push(message);
    }
    read
}
