//! What a client speaks, by the first bytes it sends.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// A request line of HTTP/1.0 or 1.1.
    Http1,
    /// The connection preface of HTTP/2.
    Http2,
    /// A TLS handshake record.
    Tls,
    /// Nothing served here.
    Unknown,
}

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Type of a TLS record that carries a handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// Longest request line that is waited for, in bytes.
const REQUEST_LINE_BYTES_MAX: usize = 4096;

/// Reads until the protocol is clear; also returns what was read, which belongs to it.
pub(super) async fn sniff(io: &mut (impl AsyncRead + Unpin)) -> io::Result<(Protocol, Bytes)> {
    let mut seen = BytesMut::with_capacity(512);
    loop {
        if let Some(protocol) = decide(&seen) {
            return Ok((protocol, seen.freeze()));
        }
        if io.read_buf(&mut seen).await? == 0 {
            return Ok((Protocol::Unknown, seen.freeze()));
        }
    }
}

/// The protocol, or None while more bytes are needed.
fn decide(seen: &[u8]) -> Option<Protocol> {
    let first = *seen.first()?;
    if first == TLS_HANDSHAKE {
        return Some(Protocol::Tls);
    }
    if !first.is_ascii_graphic() {
        return Some(Protocol::Unknown);
    }
    let compared = seen.len().min(HTTP2_PREFACE.len());
    if seen[..compared] == HTTP2_PREFACE[..compared] {
        return (compared == HTTP2_PREFACE.len()).then_some(Protocol::Http2);
    }
    match seen.iter().position(|byte| *byte == b'\n') {
        Some(end) if is_http1_request_line(&seen[..end]) => Some(Protocol::Http1),
        Some(_) => Some(Protocol::Unknown),
        None => (seen.len() >= REQUEST_LINE_BYTES_MAX).then_some(Protocol::Unknown),
    }
}

/// `METHOD target HTTP/1.x`, with a carriage return or without.
fn is_http1_request_line(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let has = |word: Option<&[u8]>| word.is_some_and(|word| !word.is_empty());
    has(method)
        && has(target)
        && version.is_some_and(|v| v.starts_with(b"HTTP/1.") && v.len() == 8)
        && words.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every prefix must stay undecided until the whole decides.
    fn decides(bytes: &[u8], at: usize, protocol: Protocol) {
        for length in 0..at {
            assert_eq!(
                decide(&bytes[..length]),
                None,
                "{:?}",
                bytes[..length].escape_ascii()
            );
        }
        assert_eq!(decide(&bytes[..at]), Some(protocol));
        assert_eq!(decide(bytes), Some(protocol));
    }

    #[test]
    fn protocols_by_their_first_bytes() {
        decides(HTTP2_PREFACE, 24, Protocol::Http2);
        decides(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 16, Protocol::Http1);
        decides(b"PRIX / HTTP/1.0\n", 16, Protocol::Http1);
        decides(b"\x16\x03\x01", 1, Protocol::Tls);
        decides(b"\x00\x01", 1, Protocol::Unknown);
        decides(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 19, Protocol::Unknown);
        decides(b"GET / HTTP/2.0\r\n\r\n", 16, Protocol::Unknown);
        decides(b"hello\r\nworld", 7, Protocol::Unknown);
        decides(&[b'a'; 5000], REQUEST_LINE_BYTES_MAX, Protocol::Unknown);
    }

    #[tokio::test]
    async fn bytes_in_pieces_are_kept() {
        let (mut near, mut far) = tokio::io::duplex(3);
        let text = b"GET /health HTTP/1.1\r\n";
        let writing = tokio::io::AsyncWriteExt::write_all(&mut near, text);
        let (read, written) = tokio::join!(sniff(&mut far), writing);
        written.unwrap();
        assert_eq!(read.unwrap(), (Protocol::Http1, Bytes::from_static(text)));
        drop(near);
        assert_eq!(sniff(&mut far).await.unwrap().0, Protocol::Unknown);
    }
}
