//! The KV service.

use std::sync::Arc;
use std::time::Instant;

use futures_util::Stream;
use prost::Message;
use tonic::Status;

use super::server::Server;
use super::slow;
use super::status;
use super::wire::{Context, Outgoing, Reply};
use crate::machine::{Response, put_cost_bytes, txn_cost_bytes};
use crate::metrics::{self, Request};
use crate::mvcc::{
    EncodedRange, Operations, RangeStream, check_delete, check_put, check_range,
    check_range_stream, check_txn, is_read_only, is_serializable,
};
use crate::pb::etcdserverpb::range_request::SortTarget;
use crate::pb::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
    InternalRaftRequest, PutRequest, PutResponse, RangeRequest, RangeResponse, RangeStreamResponse,
    ResponseHeader, TxnRequest, TxnResponse,
};

/// Ranges of more keys are read off the threads that serve everyone.
const KEYS_READ_INLINE_MAX: i64 = 1000;
/// Keys in the first message of a stream.
const FIRST_CHUNK_KEYS: usize = 10;

impl Server {
    pub(super) async fn range(
        self: &Arc<Self>,
        context: &Context,
        request: RangeRequest,
    ) -> Result<RangeReply, Status> {
        match request.serializable {
            true => self.admit_learner(context)?,
            false => self.admit(context)?,
        }
        check_range(&request).map_err(status::request)?;
        let began = Instant::now();
        let result = self.read_range(&request).await;
        let took = began.elapsed();
        let metrics = metrics::global();
        metrics
            .request
            .observe(Request::Range, result.is_ok(), took.as_secs_f64());
        if took > self.limits.warning_apply_duration {
            slow::log_range(took, self.limits.warning_apply_duration, &request, &result);
        }
        let range = result?;
        let header = self.header_at(range.revision);
        Ok(RangeReply { header, range })
    }

    async fn read_range(self: &Arc<Self>, request: &RangeRequest) -> Result<EncodedRange, Status> {
        if !request.serializable {
            self.node.read_index().await.map_err(status::node)?;
        }
        let began = Instant::now();
        let result = if self.is_long(request) {
            let request = request.clone();
            self.read_long(move |view| view.range_encoded(&request))
                .await
        } else {
            self.read(|view| view.range_encoded(request))
        };
        let seconds = began.elapsed().as_secs_f64();
        self.count_reads(&Operations::RANGE);
        metrics::global()
            .range_duration
            .observe(result.is_ok(), seconds);
        result
    }

    fn count_reads(&self, done: &Operations) {
        metrics::global().ranges.add(done.ranges);
        if done.txns > 0 {
            metrics::global().txns.add(done.txns);
        }
    }

    /// Whether a range has many keys to read.
    fn is_long(&self, request: &RangeRequest) -> bool {
        let filtered = request.min_mod_revision != 0
            || request.max_mod_revision != 0
            || request.min_create_revision != 0
            || request.max_create_revision != 0
            || request.sort_target() != SortTarget::Key;
        let limited = (1..=KEYS_READ_INLINE_MAX).contains(&request.limit) && !filtered;
        if request.range_end.is_empty() || request.count_only || limited {
            return false;
        }
        // The index knows without walking; it is asked for what is there now, which is close enough.
        let count = RangeRequest {
            key: request.key.clone(),
            range_end: request.range_end.clone(),
            count_only: true,
            ..RangeRequest::default()
        };
        let counted = self.node.view().mvcc.range(&count);
        counted.is_ok_and(|counted| counted.count > KEYS_READ_INLINE_MAX)
    }

    pub(super) async fn range_stream(
        self: &Arc<Self>,
        context: &Context,
        request: RangeRequest,
    ) -> Result<impl Stream<Item = Result<RangeStreamResponse, Status>> + Send + use<>, Status>
    {
        self.admit_stream(context, false)?;
        check_range_stream(&request).map_err(status::request)?;
        if !request.serializable {
            self.node.read_index().await.map_err(status::node)?;
        }
        let began = Instant::now();
        // The first message is made here, while the range can still be begun anew with a newer view.
        let result = self.read(|view| {
            let mut range = view.range_stream(&request)?;
            Ok((range.next(FIRST_CHUNK_KEYS)?, range))
        });
        self.count_reads(&Operations::RANGE);
        metrics::global()
            .range_duration
            .observe(result.is_ok(), began.elapsed().as_secs_f64());
        let (first, rest) = result?;
        let server = self.clone();
        let chunks = Chunks {
            server,
            rest: Some(rest),
            keys: FIRST_CHUNK_KEYS,
            first,
        };
        Ok(futures_util::stream::unfold(Some(chunks), Chunks::next))
    }

    pub(super) async fn put(
        &self,
        context: &Context,
        request: PutRequest,
    ) -> Result<PutResponse, Status> {
        self.admit(context)?;
        self.check_quota(put_cost_bytes(&request)).await?;
        check_put(&request).map_err(status::request)?;
        let request = InternalRaftRequest {
            put: Some(request),
            ..Default::default()
        };
        let answer = self.node.propose(request).await.map_err(status::node)?;
        let Response::Put(mut response) = answer else {
            return Err(status::unexpected_answer());
        };
        response.header = self.complete(response.header);
        Ok(response)
    }

    pub(super) async fn delete_range(
        &self,
        context: &Context,
        request: DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Status> {
        self.admit(context)?;
        check_delete(&request).map_err(status::request)?;
        let request = InternalRaftRequest {
            delete_range: Some(request),
            ..Default::default()
        };
        let answer = self.node.propose(request).await.map_err(status::node)?;
        let Response::DeleteRange(mut response) = answer else {
            return Err(status::unexpected_answer());
        };
        response.header = self.complete(response.header);
        Ok(response)
    }

    pub(super) async fn txn(
        &self,
        context: &Context,
        request: TxnRequest,
    ) -> Result<TxnResponse, Status> {
        self.admit(context)?;
        self.check_quota(txn_cost_bytes(&request)).await?;
        check_txn(&request, self.limits.txn_ops_max).map_err(status::request)?;
        let mut response = if is_read_only(&request) {
            if !is_serializable(&request) {
                self.node.read_index().await.map_err(status::node)?;
            }
            let began = Instant::now();
            let result = self.read(|view| view.txn_read_only(&request));
            let took = began.elapsed();
            metrics::global().request.observe(
                Request::ReadonlyTxn,
                result.is_ok(),
                took.as_secs_f64(),
            );
            let ranges = result
                .as_ref()
                .map_or(0, |response| response.responses.len());
            self.count_reads(&Operations::of_read_only(&request, ranges));
            if took > self.limits.warning_apply_duration {
                slow::log_txn(took, self.limits.warning_apply_duration, &request, &result);
            }
            result?
        } else {
            let request = InternalRaftRequest {
                txn: Some(request.into()),
                ..Default::default()
            };
            let answer = self.node.propose(request).await.map_err(status::node)?;
            let Response::Txn(response) = answer else {
                return Err(status::unexpected_answer());
            };
            response
        };
        response.header = self.complete(response.header);
        Ok(response)
    }

    pub(super) async fn compact(
        &self,
        context: &Context,
        request: CompactionRequest,
    ) -> Result<CompactionResponse, Status> {
        self.admit(context)?;
        let answer = self.node.compact(request).await.map_err(status::node)?;
        let Response::Compaction(mut response) = answer else {
            return Err(status::unexpected_answer());
        };
        response.header = self.complete(response.header);
        Ok(response)
    }

    /// Refuses what would not fit the quota, and raises the alarm that says so.
    pub(super) async fn check_quota(&self, cost_bytes: i64) -> Result<(), Status> {
        let Some(quota_bytes) = self.limits.quota_bytes else {
            return Ok(());
        };
        if cost_bytes == 0 || self.node.view().sizes.file_bytes + cost_bytes < quota_bytes {
            return Ok(());
        }
        // The request is refused whether or not the alarm gets through.
        self.node.raise_no_space().await;
        Err(status::no_space())
    }
}

/// The answer to a range.
pub(super) struct RangeReply {
    header: Option<ResponseHeader>,
    /// All but the header.
    pub(super) range: EncodedRange,
}

impl RangeReply {
    /// What is encoded before the rest.
    fn first(&self) -> RangeResponse {
        RangeResponse {
            header: self.header,
            ..RangeResponse::default()
        }
    }

    pub(super) fn encoded_len(&self) -> usize {
        self.first().encoded_len() + self.range.fields.len()
    }
}

impl Reply for RangeReply {
    fn write_to(self, out: &mut Outgoing) {
        out.only(&self.first(), self.range.fields);
    }
}

/// A range on its way, in messages that grow while they stay small.
struct Chunks {
    server: Arc<Server>,
    /// What is left of the range; `None` while a message is being read.
    rest: Option<RangeStream>,
    keys: usize,
    first: Option<RangeResponse>,
}

impl Chunks {
    async fn next(
        chunks: Option<Self>,
    ) -> Option<(Result<RangeStreamResponse, Status>, Option<Self>)> {
        let mut chunks = chunks?;
        let chunk = match chunks.first.take() {
            Some(first) => Ok(Some(first)),
            None => chunks.read().await,
        };
        match chunk {
            Ok(None) => None,
            Ok(Some(mut response)) => {
                chunks.adapt(response.encoded_len());
                if let Some(header) = response.header {
                    response.header = chunks.server.header_at(header.revision);
                }
                Some((
                    Ok(RangeStreamResponse {
                        range_response: Some(response),
                    }),
                    Some(chunks),
                ))
            }
            Err(status) => Some((Err(status), None)),
        }
    }

    async fn read(&mut self) -> Result<Option<RangeResponse>, Status> {
        let Some(mut rest) = self.rest.take() else {
            return Ok(None);
        };
        let keys = self.keys;
        let (chunk, rest) = if keys as i64 <= KEYS_READ_INLINE_MAX {
            (rest.next(keys), rest)
        } else {
            let task = tokio::task::spawn_blocking(move || (rest.next(keys), rest));
            task.await.map_err(|error| status::failed(&error))?
        };
        self.rest = Some(rest);
        chunk.map_err(status::read)
    }

    fn adapt(&mut self, bytes: usize) {
        let aim = self.server.limits.request_bytes_max;
        if bytes < aim / 2 {
            self.keys *= 2;
        } else if bytes > aim * 2 {
            self.keys = (self.keys / 2).max(1);
        }
    }
}
