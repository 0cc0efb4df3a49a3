//! Log lines of what took long: `request stats` of a unary call (or of any, while debugging), and `apply request
//! took too long` of a read, which is not applied but answered from a view.

use std::time::Duration;

use bytes::Bytes;
use jiff::Zoned;
use prost::Message;
use tonic::Status;

use super::kv::RangeReply;
use super::wire::Context;
use crate::logging::GoDuration;
use crate::metrics;
use crate::mvcc::EncodedRange;
use crate::pb::etcdserverpb::response_op::Response;
use crate::pb::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    ResponseHeader, TxnRequest, TxnResponse,
};
use crate::pb::text::Redacted;

/// How long a call may take unnoticed, and its name.
#[derive(Clone, Copy)]
pub(super) struct Slow {
    pub(super) after: Duration,
    pub(super) path: &'static str,
}

/// What a line says of request and reply. Calls outside KV have none of it.
pub(super) struct Sizes {
    requests: i64,
    request_bytes: i64,
    responses: i64,
    response_bytes: i64,
    content: String,
}

impl Default for Sizes {
    fn default() -> Self {
        let content = String::new();
        Self {
            requests: -1,
            request_bytes: -1,
            responses: -1,
            response_bytes: -1,
            content,
        }
    }
}

impl Slow {
    /// Logs a call if it is due. The request comes as it was received, and is looked at only then.
    pub(super) fn log<R>(
        self,
        context: &Context,
        took: Duration,
        request: Bytes,
        reply: Option<&R>,
        sizes: fn(Bytes, Option<&R>) -> Sizes,
    ) {
        if tracing::enabled!(tracing::Level::DEBUG) {
            let line = self.line(context, took, sizes(request, reply));
            emit!(debug, line);
        } else if took > self.after {
            let line = self.line(context, took, sizes(request, reply));
            emit!(warn, line);
        }
    }

    fn line(self, context: &Context, took: Duration, sizes: Sizes) -> Line {
        let started = Zoned::now()
            .checked_sub(took)
            .unwrap_or_else(|_| Zoned::now());
        let remote = context
            .remote
            .map_or_else(|| "@".to_owned(), |remote| remote.to_string());
        Line {
            started: go_time(&started),
            took,
            remote,
            path: self.path,
            sizes,
        }
    }
}

struct Line {
    started: String,
    took: Duration,
    remote: String,
    path: &'static str,
    sizes: Sizes,
}

macro_rules! emit {
    ($level:ident, $line:ident) => {
        tracing::$level!(
            "start time" = $line.started,
            "time spent" = %GoDuration::from($line.took),
            remote = $line.remote,
            "response type" = $line.path,
            "request count" = $line.sizes.requests,
            "request size" = $line.sizes.request_bytes,
            "response count" = $line.sizes.responses,
            "response size" = $line.sizes.response_bytes,
            "request content" = $line.sizes.content,
            "request stats"
        )
    };
}
use emit;

/// A time as the log's own `ts`.
fn go_time(time: &Zoned) -> String {
    let text = time.strftime("%Y-%m-%dT%H:%M:%S.%6f").to_string();
    match time.offset().seconds() {
        0 => text + "Z",
        _ => text + &time.strftime("%z").to_string(),
    }
}

fn bytes(message: Option<&impl Message>) -> i64 {
    message.map_or(0, |message| message.encoded_len() as i64)
}

pub(super) fn other<R>(_: Bytes, _: Option<&R>) -> Sizes {
    Sizes::default()
}

pub(super) fn range(request: Bytes, reply: Option<&RangeReply>) -> Sizes {
    let request = RangeRequest::decode(request).unwrap_or_default();
    Sizes {
        requests: 0,
        request_bytes: bytes(Some(&request)),
        responses: reply.map_or(0, |reply| reply.range.count),
        response_bytes: reply.map_or(0, |reply| reply.encoded_len() as i64),
        content: Redacted(&request).to_string(),
    }
}

pub(super) fn put(request: Bytes, reply: Option<&PutResponse>) -> Sizes {
    let request = PutRequest::decode(request).unwrap_or_default();
    Sizes {
        requests: 1,
        request_bytes: bytes(Some(&request)),
        responses: 0,
        response_bytes: bytes(reply),
        content: Redacted(&request).to_string(),
    }
}

pub(super) fn delete_range(request: Bytes, reply: Option<&DeleteRangeResponse>) -> Sizes {
    let request = DeleteRangeRequest::decode(request).unwrap_or_default();
    Sizes {
        requests: 0,
        request_bytes: bytes(Some(&request)),
        responses: reply.map_or(0, |reply| reply.deleted),
        response_bytes: bytes(reply),
        content: Redacted(&request).to_string(),
    }
}

pub(super) fn txn(request: Bytes, reply: Option<&TxnResponse>) -> Sizes {
    let request = TxnRequest::decode(request).unwrap_or_default();
    let (mut requests, mut request_bytes) = (0, 0);
    if let Some(reply) = reply {
        let ops = if reply.succeeded {
            &request.success
        } else {
            &request.failure
        };
        requests = ops.len() as i64;
        request_bytes = ops.iter().map(|op| op.encoded_len() as i64).sum();
    }
    Sizes {
        requests,
        request_bytes,
        responses: 0,
        response_bytes: bytes(reply),
        content: Redacted(&request).to_string(),
    }
}

/// Logs a range that took `took`, which is more than `expected`.
pub(super) fn log_range(
    took: Duration,
    expected: Duration,
    request: &RangeRequest,
    result: &Result<EncodedRange, Status>,
) {
    let response = result.as_ref().map(|range| {
        let header = ResponseHeader {
            revision: range.revision,
            ..ResponseHeader::default()
        };
        let first = RangeResponse {
            header: Some(header),
            ..RangeResponse::default()
        };
        let (count, bytes) = (range.pairs, first.encoded_len() + range.fields.len());
        format!("range_response_count:{count} size:{bytes}")
    });
    log_read(
        took,
        expected,
        "read-only range ",
        Redacted(request).to_string(),
        response,
    );
}

/// Logs a transaction that only read and took `took`, which is more than `expected`.
pub(super) fn log_txn(
    took: Duration,
    expected: Duration,
    request: &TxnRequest,
    result: &Result<TxnResponse, Status>,
) {
    let response = result.as_ref().map(|response| {
        let ranges = response.responses.iter();
        let counts: Vec<_> = ranges
            .filter_map(|response| match &response.response {
                Some(Response::ResponseRange(range)) => {
                    Some(format!("range_response_count:{}", range.kvs.len()))
                }
                _ => None,
            })
            .collect();
        let bytes = response.encoded_len();
        format!("responses:<{}> size:{bytes}", counts.join(" "))
    });
    log_read(
        took,
        expected,
        "read-only txn ",
        Redacted(request).to_string(),
        response,
    );
}

fn log_read(
    took: Duration,
    expected: Duration,
    prefix: &str,
    request: String,
    response: Result<String, &Status>,
) {
    metrics::global().slow_apply.inc();
    let error = response.as_ref().err().map(|status| {
        // The text of the store, not the one that goes to clients.
        let text = status.message();
        text.strip_prefix("etcdserver: ").unwrap_or(text)
    });
    tracing::warn!(
        took = %GoDuration::from(took),
        "expected-duration" = %GoDuration::from(expected),
        prefix,
        request,
        response = response.as_deref().unwrap_or_default(),
        error,
        "apply request took too long"
    );
}
