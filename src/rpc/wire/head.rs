//! The head of a request: what makes it gRPC, and what it asks of the exchange.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use tonic::Status;

use super::reply::ReplyBody;

const GRPC: &str = "application/grpc";
/// Digits and unit of `grpc-timeout`.
const TIMEOUT_LENGTH_MAX: usize = 9;

/// What the head asks for.
#[derive(Debug)]
pub(super) struct Head {
    /// How long the client waits.
    pub(super) timeout: Option<Duration>,
    /// Messages may be compressed, and replies are.
    pub(super) gzip: bool,
    /// What the reply calls itself.
    pub(super) content_type: HeaderValue,
}

impl Head {
    /// Reads a head; the answer to one that is not gRPC, or not acceptable.
    pub(super) fn read(parts: &Parts) -> Result<Self, Response<ReplyBody>> {
        let content_type = parts.headers.get(CONTENT_TYPE);
        let Some(content_type) = content_type.and_then(reply_content_type) else {
            let found = content_type.map_or("", |value| value.to_str().unwrap_or(""));
            let status =
                Status::invalid_argument(format!("invalid gRPC request content-type {found:?}"));
            return Err(reject(StatusCode::UNSUPPORTED_MEDIA_TYPE, status));
        };
        let timeout = match parts
            .headers
            .get("grpc-timeout")
            .map(parse_timeout)
            .transpose()
        {
            Ok(timeout) => timeout,
            Err(reason) => {
                let status = Status::internal(format!("malformed grpc-timeout: {reason}"));
                return Err(reject(StatusCode::BAD_REQUEST, status));
            }
        };
        if parts.method != Method::POST {
            let status = Status::internal(format!(
                "Received a HEADERS frame with :method {:?} which should be POST",
                parts.method.as_str()
            ));
            return Err(reject(StatusCode::METHOD_NOT_ALLOWED, status));
        }
        let gzip = match parts
            .headers
            .get("grpc-encoding")
            .map(HeaderValue::as_bytes)
        {
            None | Some(b"" | b"identity") => false,
            Some(b"gzip") => true,
            Some(other) => {
                let other = String::from_utf8_lossy(other);
                return Err(refuse(Status::unimplemented(format!(
                    "grpc: Decompressor is not installed for grpc-encoding {other:?}"
                ))));
            }
        };
        Ok(Self {
            timeout,
            gzip,
            content_type,
        })
    }
}

/// The answer to a head that is not gRPC.
pub(in crate::rpc) fn check(parts: &Parts) -> Result<(), Response<ReplyBody>> {
    Head::read(parts).map(drop)
}

/// The reply's content type, if the request's is gRPC.
fn reply_content_type(asked: &HeaderValue) -> Option<HeaderValue> {
    if asked == GRPC {
        return Some(HeaderValue::from_static(GRPC));
    }
    let (separator, subtype) = asked
        .to_str()
        .ok()?
        .strip_prefix(GRPC)?
        .split_at_checked(1)?;
    match (separator, subtype) {
        ("+" | ";", "") => Some(HeaderValue::from_static(GRPC)),
        ("+", _) => Some(asked.clone()),
        (";", _) => HeaderValue::try_from(format!("{GRPC}+{subtype}")).ok(),
        _ => None,
    }
}

fn parse_timeout(value: &HeaderValue) -> Result<Duration, String> {
    let text = String::from_utf8_lossy(value.as_bytes());
    if text.len() < 2 {
        return Err(format!("transport: timeout string is too short: {text:?}"));
    }
    if text.len() > TIMEOUT_LENGTH_MAX {
        return Err(format!("transport: timeout string is too long: {text:?}"));
    }
    let unknown = || format!("transport: timeout unit is not recognized: {text:?}");
    let (number, unit) = text.split_at_checked(text.len() - 1).ok_or_else(unknown)?;
    let of: fn(u64) -> Duration = match unit {
        "H" => |hours| Duration::from_secs(hours * 3600),
        "M" => |minutes| Duration::from_secs(minutes * 60),
        "S" => Duration::from_secs,
        "m" => Duration::from_millis,
        "u" => Duration::from_micros,
        "n" => Duration::from_nanos,
        _ => return Err(unknown()),
    };
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    match number.parse().ok().filter(|_| digits) {
        Some(number) => Ok(of(number)),
        None => Err(format!(
            "strconv.ParseUint: parsing {number:?}: invalid syntax"
        )),
    }
}

/// A reply that is nothing but a status.
pub(in crate::rpc) fn refuse(status: Status) -> Response<ReplyBody> {
    reject(StatusCode::OK, status)
}

fn reject(http: StatusCode, status: Status) -> Response<ReplyBody> {
    let mut reply = Response::new(ReplyBody::empty());
    *reply.status_mut() = http;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    // The text is encoded so that any of it fits a header.
    let _ = status.add_header(reply.headers_mut());
    reply
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn read(headers: &[(&str, &str)]) -> Result<Head, Response<ReplyBody>> {
        let mut request = Request::builder().method("POST").uri("/s/m");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Head::read(&request.body(()).unwrap().into_parts().0)
    }

    fn refusal(headers: &[(&str, &str)]) -> (u16, String, String) {
        let reply = read(headers).unwrap_err();
        let text = |name: &str| reply.headers()[name].to_str().unwrap().to_owned();
        let message = text("grpc-message")
            .replace("%20", " ")
            .replace("%22", "\"");
        (reply.status().as_u16(), text("grpc-status"), message)
    }

    #[test]
    fn content_types_are_accepted_and_echoed_like_etcds() {
        for (asked, reply) in [
            ("application/grpc", Some("application/grpc")),
            ("application/grpc+proto", Some("application/grpc+proto")),
            ("application/grpc+x", Some("application/grpc+x")),
            ("application/grpc;x", Some("application/grpc+x")),
            ("application/grpc+", Some("application/grpc")),
            ("application/grpcx", None),
            ("application/json", None),
        ] {
            let read = read(&[("content-type", asked)])
                .ok()
                .map(|head| head.content_type);
            assert_eq!(read, reply.map(HeaderValue::from_static), "{asked}");
        }
        let (http, code, message) = refusal(&[("content-type", "text/plain")]);
        assert_eq!((http, code.as_str()), (415, "3"));
        assert_eq!(message, "invalid gRPC request content-type \"text/plain\"");
    }

    #[test]
    fn timeouts_are_read_like_etcds() {
        let timeout = |value| read(&[("content-type", GRPC), ("grpc-timeout", value)]);
        assert_eq!(
            timeout("100m").unwrap().timeout,
            Some(Duration::from_millis(100))
        );
        assert_eq!(
            timeout("99999999H").unwrap().timeout,
            Some(Duration::from_secs(359_999_996_400))
        );
        for (value, reason) in [
            ("5", "transport: timeout string is too short: \"5\""),
            (
                "123456789S",
                "transport: timeout string is too long: \"123456789S\"",
            ),
            ("5x", "transport: timeout unit is not recognized: \"5x\""),
            ("-1S", "strconv.ParseUint: parsing \"-1\": invalid syntax"),
        ] {
            let (http, code, message) = refusal(&[("content-type", GRPC), ("grpc-timeout", value)]);
            assert_eq!((http, code.as_str()), (400, "13"));
            assert_eq!(message, format!("malformed grpc-timeout: {reason}"));
        }
    }

    #[test]
    fn compression_other_than_gzip_is_refused() {
        assert!(
            read(&[("content-type", GRPC), ("grpc-encoding", "gzip")])
                .unwrap()
                .gzip
        );
        let (http, code, message) = refusal(&[("content-type", GRPC), ("grpc-encoding", "snappy")]);
        assert_eq!((http, code.as_str()), (200, "12"));
        assert_eq!(
            message,
            "grpc: Decompressor is not installed for grpc-encoding \"snappy\""
        );
    }
}
