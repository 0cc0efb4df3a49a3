//! The messages of a request.

use std::future::poll_fn;
use std::io::Read;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use flate2::read::GzDecoder;
use http_body::Body;
use prost::{DecodeError, Message};
use tonic::Status;

use crate::metrics::GrpcMethod;

/// Compression flag and length in front of every message.
pub(super) const FRAME_HEAD_BYTES: usize = 5;

/// Reads messages from a request's body. A message that lies in one piece of the body is not copied.
pub(in crate::rpc) struct Messages<B> {
    body: B,
    /// Bytes read and not yet used: what is left of a piece, or, copied together, of several.
    piece: Bytes,
    joined: BytesMut,
    gzip: bool,
    bytes_max: usize,
    ended: bool,
    method: &'static GrpcMethod,
}

impl<B> Drop for Messages<B> {
    fn drop(&mut self) {
        self.method.received_end();
    }
}

impl<B> Messages<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    pub(super) fn new(body: B, gzip: bool, bytes_max: usize, method: &'static GrpcMethod) -> Self {
        let (piece, joined) = (Bytes::new(), BytesMut::new());
        Self {
            body,
            piece,
            joined,
            gzip,
            bytes_max,
            ended: false,
            method,
        }
    }

    /// The next message; `None` when the client has sent its last.
    pub(in crate::rpc) async fn next<Q: Message + Default>(&mut self) -> Option<Result<Q, Status>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`Messages::next`] for hand-written streams.
    pub(in crate::rpc) fn poll_next<Q: Message + Default>(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Q, Status>>> {
        Poll::Ready(ready!(self.poll_encoded(cx)).map(|encoded| {
            Q::decode(encoded?).map_err(|error| {
                let reason = decode_reason(&error);
                Status::internal(format!(
                    "grpc: failed to unmarshal the received message: {reason}"
                ))
            })
        }))
    }

    /// The next message as it was encoded.
    pub(super) fn poll_encoded(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            match self.take_message() {
                Ok(None) => {}
                Ok(Some(message)) => {
                    self.method.received(message.len());
                    return Poll::Ready(Some(Ok(message)));
                }
                Err(status) => {
                    self.ended = true;
                    self.piece.clear();
                    self.joined.clear();
                    return Poll::Ready(Some(Err(status)));
                }
            }
            if self.ended {
                let cut = !self.piece.is_empty() || !self.joined.is_empty();
                self.piece.clear();
                self.joined.clear();
                return Poll::Ready(cut.then(|| Err(Status::internal("unexpected EOF"))));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.add(data);
                    }
                }
                // A connection or stream that broke: whatever we answered, nobody would hear it.
                Some(Err(_)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(Status::cancelled("context canceled"))));
                }
                None => self.ended = true,
            }
        }
    }

    /// Whether the client is known to have ended its side.
    pub(super) fn is_over(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    /// Ready once the client has ended its side. What it sends besides is dropped.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.is_over() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(_)) => {}
                _ => self.ended = true,
            }
        }
        Poll::Ready(())
    }

    fn add(&mut self, data: Bytes) {
        if self.piece.is_empty() && self.joined.is_empty() {
            self.piece = data;
        } else {
            self.joined
                .extend_from_slice(&std::mem::take(&mut self.piece));
            self.joined.extend_from_slice(&data);
        }
    }

    /// Takes a message off the bytes read, if they hold one.
    fn take_message(&mut self) -> Result<Option<Bytes>, Status> {
        let read: &[u8] = if self.joined.is_empty() {
            &self.piece
        } else {
            &self.joined
        };
        let Some((&[flag, ref length @ ..], rest)) = read.split_first_chunk::<FRAME_HEAD_BYTES>()
        else {
            return Ok(None);
        };
        let (length, available) = (u32::from_be_bytes(*length) as usize, rest.len());
        if length > self.bytes_max {
            return Err(Status::resource_exhausted(format!(
                "grpc: received message larger than max ({length} vs. {})",
                self.bytes_max
            )));
        }
        if available < length {
            if !self.joined.is_empty() {
                self.joined.reserve(length - available);
            }
            return Ok(None);
        }
        let message = if self.joined.is_empty() {
            self.piece.advance(FRAME_HEAD_BYTES);
            self.piece.split_to(length)
        } else {
            self.joined.advance(FRAME_HEAD_BYTES);
            self.joined.split_to(length).freeze()
        };
        match flag {
            0 => Ok(Some(message)),
            1 if self.gzip => self.decompress(&message).map(Some),
            1 => Err(Status::internal(
                "grpc: compressed flag set with identity or empty encoding",
            )),
            other => Err(Status::internal(format!(
                "grpc: received unexpected payload format {other}"
            ))),
        }
    }

    fn decompress(&self, message: &[u8]) -> Result<Bytes, Status> {
        let mut plain = Vec::new();
        let limit = self.bytes_max as u64 + 1;
        GzDecoder::new(message)
            .take(limit)
            .read_to_end(&mut plain)
            .map_err(|error| {
                let reason = match error.kind() {
                    std::io::ErrorKind::UnexpectedEof if message.is_empty() => "EOF",
                    std::io::ErrorKind::UnexpectedEof => "unexpected EOF",
                    std::io::ErrorKind::InvalidInput => "gzip: invalid header",
                    _ => "gzip: invalid checksum",
                };
                Status::internal(format!("grpc: failed to decompress the message: {reason}"))
            })?;
        if plain.len() > self.bytes_max {
            return Err(Status::resource_exhausted(format!(
                "grpc: received message after decompression larger than max {}",
                self.bytes_max
            )));
        }
        Ok(plain.into())
    }
}

/// Why a message cannot be decoded, in the words of etcd's protobuf library.
pub(super) fn decode_reason(error: &DecodeError) -> &'static str {
    // The crate tells the two apart in its text only.
    if error.to_string().contains("UTF-8") {
        "string field contains invalid UTF-8"
    } else {
        "proto: cannot parse invalid wire-format data"
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use futures_util::FutureExt;
    use http_body::Frame;

    use super::*;
    use crate::pb::etcdserverpb::{AuthenticateRequest, PutRequest};

    struct Pieces(VecDeque<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn messages(bytes: &[u8], piece: usize, gzip: bool) -> Messages<Pieces> {
        let pieces = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
        let method = crate::metrics::global()
            .grpc
            .method("/etcdserverpb.KV/Put")
            .unwrap();
        Messages::new(Pieces(pieces), gzip, 1000, method)
    }

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat()
    }

    fn put(value: usize) -> PutRequest {
        PutRequest {
            key: "k".into(),
            value: vec![7; value].into(),
            ..Default::default()
        }
    }

    fn error(bytes: &[u8], gzip: bool) -> (tonic::Code, String) {
        let mut messages = messages(bytes, 1 << 20, gzip);
        let status = messages
            .next::<AuthenticateRequest>()
            .now_or_never()
            .unwrap()
            .unwrap();
        let status = status.unwrap_err();
        (status.code(), status.message().to_owned())
    }

    #[test]
    fn messages_come_out_however_the_body_is_cut() {
        let sent: Vec<_> = [0, 1, 300, 900].map(put).into();
        let bytes: Vec<u8> = sent
            .iter()
            .flat_map(|put| framed(0, &put.encode_to_vec()))
            .collect();
        for piece in [1, 2, 3, 7, 100, bytes.len()] {
            let mut messages = messages(&bytes, piece, false);
            let mut read: Vec<PutRequest> = Vec::new();
            while let Some(put) = messages.next().now_or_never().unwrap() {
                read.push(put.unwrap());
            }
            assert_eq!(read, sent, "pieces of {piece}");
        }
    }

    #[test]
    fn broken_messages_are_refused_in_etcds_words() {
        let too_large = framed(0, &[0; 1001]);
        let (code, text) = error(&too_large, false);
        assert_eq!(code, tonic::Code::ResourceExhausted);
        assert_eq!(
            text,
            "grpc: received message larger than max (1001 vs. 1000)"
        );
        assert_eq!(
            error(&framed(1, b""), false).1,
            "grpc: compressed flag set with identity or empty encoding"
        );
        assert_eq!(
            error(&framed(2, b""), false).1,
            "grpc: received unexpected payload format 2"
        );
        assert_eq!(error(&framed(0, b"abc")[..7], false).1, "unexpected EOF");
        let prefix = "grpc: failed to unmarshal the received message: ";
        let text = error(&framed(0, b"\x0a\x02\xff\xff"), false).1;
        assert_eq!(text, format!("{prefix}string field contains invalid UTF-8"));
        let text = error(&framed(0, b"\x0a\x7f"), false).1;
        assert_eq!(
            text,
            format!("{prefix}proto: cannot parse invalid wire-format data")
        );
    }

    #[test]
    fn compressed_messages_are_bounded_by_what_they_expand_to() {
        let gzip = |plain: &[u8]| {
            let mut packed = Vec::new();
            let level = flate2::Compression::default();
            flate2::read::GzEncoder::new(plain, level)
                .read_to_end(&mut packed)
                .unwrap();
            framed(1, &packed)
        };
        let bytes = gzip(&put(300).encode_to_vec());
        let read = messages(&bytes, 50, true)
            .next::<PutRequest>()
            .now_or_never()
            .unwrap();
        assert_eq!(read.unwrap().unwrap(), put(300));
        let (code, text) = error(&gzip(&[0; 100_000]), true);
        assert_eq!(code, tonic::Code::ResourceExhausted);
        assert_eq!(
            text,
            "grpc: received message after decompression larger than max 1000"
        );
    }
}
