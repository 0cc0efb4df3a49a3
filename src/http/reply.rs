//! Replies as Go's HTTP library words and frames them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use http_body::{Frame, SizeHint};

/// A reply of an endpoint.
pub type Reply = Response<Body>;

/// A body that is all there, with or without its length told beforehand.
#[derive(Debug, Default)]
pub struct Body {
    data: Bytes,
    chunked: bool,
}

impl Body {
    /// A body whose length goes into the head.
    pub fn sized(data: impl Into<Bytes>) -> Self {
        Self {
            data: data.into(),
            chunked: false,
        }
    }

    /// A body sent in chunks, as Go sends what it has not finished writing when the head leaves.
    pub fn chunked(data: impl Into<Bytes>) -> Self {
        Self {
            data: data.into(),
            chunked: true,
        }
    }

    /// All of it.
    #[cfg(test)]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.data).unwrap_or("<binary>")
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = std::mem::take(&mut self.data);
        Poll::Ready((!data.is_empty()).then(|| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty() && !self.chunked
    }

    fn size_hint(&self) -> SizeHint {
        match self.chunked {
            true => SizeHint::default(),
            false => SizeHint::with_exact(self.data.len() as u64),
        }
    }
}

pub(super) const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// 200 with this body.
pub(super) fn ok(content_type: HeaderValue, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Body::sized(body));
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}

/// Go's `http.Error`: the text and a newline, not to be taken for anything else.
pub(super) fn error(status: StatusCode, text: impl std::fmt::Display) -> Reply {
    let mut reply = ok(PLAIN_TEXT, format!("{text}\n"));
    *reply.status_mut() = status;
    reply.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
    reply
}

/// 200 as [`error`] frames it: what Go's health checks send.
pub(super) fn checked(body: String) -> Reply {
    let mut reply = ok(PLAIN_TEXT, body);
    reply.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
    reply
}

/// 404.
pub(super) fn not_found() -> Reply {
    error(StatusCode::NOT_FOUND, "404 page not found")
}

/// 405; `allowed` is the one method that works, if it is told.
pub(super) fn method_not_allowed(allowed: Option<&'static str>) -> Reply {
    let mut reply = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    if let Some(allowed) = allowed {
        reply
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(allowed));
    }
    reply
}

/// Values of a query parameter, decoded.
pub(super) fn query_values(uri: &http::Uri, name: &str) -> Vec<String> {
    let query = uri.query().unwrap_or_default().as_bytes();
    let pairs = url::form_urlencoded::parse(query);
    pairs
        .filter(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
        .collect()
}
