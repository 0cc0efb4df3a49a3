//! The Watch service: requests of a stream go to the hub, deliveries become responses.
//!
//! Everything a stream does happens while its reply is polled, so it costs no task; when the client takes
//! nothing, its requests wait too. A delivery for many watchers is many responses, written one after the other
//! into the same piece of the reply.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Instant;

use bytes::{BufMut, Bytes};
use http_body::Body;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, int64};
use rand::Rng;
use tokio::time::Sleep;
use tonic::Status;

use super::server::Server;
use super::status;
use super::wire::{Context, Messages, Outgoing, Source};
use crate::metrics;
use crate::node::WatchStream;
use crate::pb::etcdserverpb::watch_request::RequestUnion;
use crate::pb::etcdserverpb::{WatchRequest, WatchResponse};
use crate::watch::{Delivery, Events, Refusal};

/// Watchers that a stream may have asked for without having been told of; its next requests wait.
const CREATES_OPEN_MAX: usize = 64;
/// The id in responses that are about no watcher, or all of them.
const NO_WATCH_ID: i64 = -1;

/// Field numbers of `WatchResponse`.
const HEADER: u32 = 1;
const WATCH_ID: u32 = 2;
const FRAGMENT: u32 = 7;
/// Bytes of a `fragment` field that is set.
const FRAGMENT_BYTES: usize = 2;

/// A watch call.
pub(super) struct Watch<B> {
    server: Arc<Server>,
    requests: Messages<B>,
    /// The client has sent its last request. Its watchers go on.
    requests_over: bool,
    creates_open: usize,
    stream: WatchStream,
    /// What is left of a delivery.
    writing: Option<Writing>,
    /// Until the next progress interval has passed; from the first watcher on that asks for it.
    interval: Option<Pin<Box<Sleep>>>,
}

impl Server {
    pub(super) fn watch<B>(
        self: &Arc<Self>,
        context: &Context,
        requests: Messages<B>,
    ) -> Result<Watch<B>, Status> {
        self.admit_stream(context, false)?;
        Ok(Watch {
            server: self.clone(),
            requests,
            requests_over: false,
            creates_open: 0,
            stream: self.node.watches().open(),
            writing: None,
            interval: None,
        })
    }
}

impl<B: Body<Data = Bytes> + Unpin + Send> Source for Watch<B> {
    fn poll_messages(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        out: &mut Outgoing,
    ) -> Poll<Result<(), Status>> {
        let this = self.get_mut();
        loop {
            if let Poll::Ready(Err(status)) = this.poll_requests(cx) {
                return Poll::Ready(Err(status));
            }
            this.poll_interval(cx);
            let waiting = this.creates_open >= CREATES_OPEN_MAX;
            if !this.poll_deliveries(cx, out) {
                return Poll::Ready(Err(status::stopped()));
            }
            // Replies have made room for requests.
            if out.is_full() || !waiting || this.creates_open >= CREATES_OPEN_MAX {
                return Poll::Pending;
            }
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Watch<B> {
    fn poll_requests(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Status>> {
        while !self.requests_over && self.creates_open < CREATES_OPEN_MAX {
            match std::task::ready!(self.requests.poll_next::<WatchRequest>(cx)) {
                Some(Ok(request)) => self.request(request),
                Some(Err(status)) if status.code() == tonic::Code::Cancelled => {
                    return Poll::Ready(Err(status::watch_canceled()));
                }
                Some(Err(status)) => {
                    let labels = ["watch", "receive"];
                    metrics::global().stream_failures.with(&labels).inc();
                    return Poll::Ready(Err(status));
                }
                None => self.requests_over = true,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn request(&mut self, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => {
                if create.progress_notify && self.interval.is_none() {
                    self.interval = Some(Box::pin(self.next_interval()));
                }
                self.creates_open += 1;
                self.stream.create(create);
            }
            Some(RequestUnion::CancelRequest(cancel)) => self.stream.cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.stream.progress(),
            None => tracing::info!("invalid watch request type <nil> received in gRPC stream"),
        }
    }

    fn next_interval(&self) -> Sleep {
        let interval = self.server.limits.watch_progress_interval;
        // Streams that were opened together should not all speak together.
        let jitter = rand::rng().random_range(0.0..0.1);
        tokio::time::sleep(interval.mul_f64(1.0 + jitter))
    }

    fn poll_interval(&mut self, cx: &mut TaskContext<'_>) {
        while let Some(interval) = &mut self.interval
            && interval.as_mut().poll(cx).is_ready()
        {
            self.stream.progress_interval();
            let next = self.next_interval();
            self.interval = Some(Box::pin(next));
        }
    }

    /// Writes what has come, until `out` is full; false when the member stops.
    fn poll_deliveries(&mut self, cx: &mut TaskContext<'_>, out: &mut Outgoing) -> bool {
        let (mut started, mut events) = (None, 0);
        while !out.is_full() {
            if let Some(writing) = &mut self.writing {
                started.get_or_insert_with(Instant::now);
                events += writing.write_part(out, self.server.limits.message_bytes_max());
                if writing.is_done() {
                    self.writing = None;
                }
                continue;
            }
            match self.stream.poll_next(cx) {
                Poll::Ready(Some(delivery)) => self.deliver(delivery, out),
                Poll::Ready(None) => return false,
                Poll::Pending => break,
            }
        }
        if let Some(started) = started {
            let seconds = started.elapsed().as_secs_f64();
            metrics::global().watch_loop.observe(seconds);
            metrics::global()
                .watch_loop_event
                .observe(seconds / events.max(1) as f64);
        }
        true
    }

    fn deliver(&mut self, delivery: Delivery, out: &mut Outgoing) {
        let began = Instant::now();
        let is_progress = matches!(delivery, Delivery::Progress { .. });
        let header = |revision| self.server.header_at(revision);
        let response = match delivery {
            Delivery::Events(events) => {
                let header = header(events.revision).unwrap_or_default();
                self.writing = Some(Writing::new(&header, events));
                return;
            }
            Delivery::Created { watch_id, revision } => {
                self.creates_open -= 1;
                WatchResponse {
                    header: header(revision),
                    watch_id,
                    created: true,
                    ..Default::default()
                }
            }
            Delivery::Refused { refusal, revision } => {
                self.creates_open -= 1;
                WatchResponse {
                    header: header(revision),
                    watch_id: NO_WATCH_ID,
                    created: true,
                    canceled: true,
                    cancel_reason: reason(refusal).to_owned(),
                    ..Default::default()
                }
            }
            Delivery::Canceled { watch_id, revision } => WatchResponse {
                header: header(revision),
                watch_id,
                canceled: true,
                ..Default::default()
            },
            Delivery::Compacted {
                watch_id,
                compact_revision,
            } => WatchResponse {
                header: header(0),
                watch_id,
                canceled: true,
                compact_revision,
                ..Default::default()
            },
            Delivery::Progress { watch_id, revision } => WatchResponse {
                header: header(revision),
                watch_id: watch_id.unwrap_or(NO_WATCH_ID),
                ..Default::default()
            },
        };
        out.message(&response);
        let metrics = metrics::global();
        let family = match is_progress {
            true => &metrics.watch_loop_progress,
            false => &metrics.watch_loop_control,
        };
        family.observe_duration(began.elapsed());
    }
}

fn reason(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Compacted => "etcdserver: mvcc: required revision has been compacted",
        Refusal::EmptyRange => "mvcc: watcher range is empty",
        Refusal::DuplicateId => "mvcc: duplicate watch ID provided on the WatchStream",
    }
}

/// A delivery of events on its way into responses.
struct Writing {
    /// The header as a field of every response.
    header: Vec<u8>,
    events: Events,
    part: usize,
    share: usize,
}

impl Writing {
    fn new(header: &crate::pb::etcdserverpb::ResponseHeader, events: Events) -> Self {
        let mut field = Vec::with_capacity(header.encoded_len() + 2);
        encode_key(HEADER, WireType::LengthDelimited, &mut field);
        encode_varint(header.encoded_len() as u64, &mut field);
        header.encode_raw(&mut field);
        Self {
            header: field,
            events,
            part: 0,
            share: 0,
        }
    }

    fn is_done(&self) -> bool {
        self.part >= self.events.parts.len()
    }

    /// Writes the next watcher's response, in pieces if it is as big as `bytes_max` and its client wants that; how
    /// many events it has.
    fn write_part(&mut self, out: &mut Outgoing, bytes_max: usize) -> usize {
        let Some(part) = self.events.parts.get(self.part) else {
            return 0;
        };
        let shares = &self.events.shares[self.share..self.share + part.events as usize];
        let fields = |shares: &[u32]| -> usize {
            shares
                .iter()
                .map(|share| self.events.fields[*share as usize].len())
                .sum()
        };
        let id = part.watch_id;
        let head_bytes = self.header.len()
            + if id == 0 {
                0
            } else {
                int64::encoded_len(WATCH_ID, &id)
            };
        let whole = head_bytes + fields(shares);
        if !part.fragment || whole < bytes_max || shares.len() < 2 {
            self.write(out, id, false, shares, whole);
        } else {
            let mut rest = shares;
            while !rest.is_empty() {
                let mut bytes = head_bytes + FRAGMENT_BYTES;
                let fits = |share: &&u32| {
                    let first = bytes == head_bytes + FRAGMENT_BYTES;
                    bytes += self.events.fields[**share as usize].len();
                    first || bytes < bytes_max
                };
                let (piece, more) = rest.split_at(rest.iter().take_while(fits).count());
                let flag_bytes = if more.is_empty() { 0 } else { FRAGMENT_BYTES };
                self.write(
                    out,
                    id,
                    !more.is_empty(),
                    piece,
                    head_bytes + flag_bytes + fields(piece),
                );
                rest = more;
            }
        }
        let events = shares.len();
        self.part += 1;
        self.share += events;
        events
    }

    fn write(&self, out: &mut Outgoing, id: i64, fragment: bool, shares: &[u32], length: usize) {
        out.encoded(length, |buffer| {
            buffer.put_slice(&self.header);
            if id != 0 {
                int64::encode(WATCH_ID, &id, buffer);
            }
            if fragment {
                encode_key(FRAGMENT, WireType::Varint, buffer);
                buffer.put_u8(1);
            }
            for share in shares {
                buffer.put_slice(&self.events.fields[*share as usize]);
            }
        });
    }
}

const _: () = assert!(FRAGMENT < 16, "its key is one byte");
