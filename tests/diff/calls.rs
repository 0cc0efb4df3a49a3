//! Seeded calls, and their answers as comparable text.

use bytes::Bytes;
use etcd::pb::etcdserverpb as pb;
use pb::cluster_client::ClusterClient;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use pb::range_request::SortTarget;
use pb::request_op::Request as Op;
use pb::response_op::Response as Answer;
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

/// Distinct keys: few, so that calls meet.
const KEYS: u32 = 60;
/// Distinct lease ids.
const LEASES: i64 = 12;
/// Long enough not to run out during a seed.
const TTL_SECONDS: i64 = 100_000;
/// Deepest nesting of transactions.
const TXN_DEPTH: u32 = 3;
/// Watch ids a seed works with.
const WATCHERS: i64 = 24;

/// One call.
#[derive(Clone, Debug)]
pub enum Call {
    Range(pb::RangeRequest),
    RangeStream(pb::RangeRequest),
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
    LeaseGrant(pb::LeaseGrantRequest),
    LeaseRevoke(pb::LeaseRevokeRequest),
    LeaseTimeToLive(pb::LeaseTimeToLiveRequest),
    HashKv(i64),
    Alarms,
    Watch(pb::WatchRequest),
}

/// Draws calls.
pub struct Generator {
    random: StdRng,
    revision: i64,
    compacted: i64,
    value: u64,
}

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            revision: 1,
            compacted: 0,
            value: 0,
        }
    }

    /// The store's revision, as the answers so far tell.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Takes the revision out of an answer.
    pub fn learn(&mut self, answer: &str) {
        let header = answer.split("revision: ").nth(1);
        let digits = header.and_then(|text| text.split(|c: char| !c.is_ascii_digit()).next());
        if let Some(revision) = digits.and_then(|digits| digits.parse().ok()) {
            self.revision = self.revision.max(revision);
        }
    }

    pub fn next(&mut self) -> Call {
        match self.random.random_range(0..1000) {
            0..300 => Call::Put(self.put()),
            300..540 => Call::Range(self.range()),
            540..570 => Call::RangeStream(self.range()),
            570..650 => Call::DeleteRange(self.delete()),
            650..850 => Call::Txn(self.txn_without_panic()),
            850..856 => Call::Compact(self.compaction()),
            856..890 => Call::LeaseGrant(pb::LeaseGrantRequest {
                id: self.random.random_range(1..=LEASES),
                ttl: if self.chance(20) {
                    i64::MAX
                } else {
                    TTL_SECONDS
                },
            }),
            890..910 => Call::LeaseRevoke(pb::LeaseRevokeRequest { id: self.lease() }),
            910..930 => Call::LeaseTimeToLive(pb::LeaseTimeToLiveRequest {
                id: self.lease(),
                keys: self.random.random(),
            }),
            930..945 => Call::HashKv(self.any_revision()),
            945..950 => Call::Alarms,
            _ => Call::Watch(self.watch()),
        }
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.random.random_range(0..one_in) == 0
    }

    fn key(&mut self) -> Bytes {
        if self.chance(200) {
            return Bytes::new();
        }
        let number = self.random.random_range(0..KEYS);
        match number % 3 {
            0 => Bytes::from(format!("a{number:02}")),
            1 => Bytes::from(format!("a/{number:02}")),
            _ => Bytes::from(vec![b'b', number as u8, 0xff]),
        }
    }

    fn range_end(&mut self) -> Bytes {
        match self.random.random_range(0..10) {
            0..4 => Bytes::new(),
            4 => Bytes::from_static(&[0]),
            5 => Bytes::from_static(b"b"),
            6 => Bytes::from_static(b"c"),
            _ => self.key(),
        }
    }

    fn lease(&mut self) -> i64 {
        self.random.random_range(1..=LEASES)
    }

    fn value(&mut self) -> Bytes {
        self.value += 1;
        let size = self.random.random_range(0..64);
        let unique = format!("{}-", self.value);
        Bytes::from(unique.repeat(size / unique.len() + usize::from(size > 0)))
    }

    fn any_revision(&mut self) -> i64 {
        match self.random.random_range(0..10) {
            0..6 => 0,
            6 => self.revision + self.random.random_range(0..3),
            7 => self.compacted + self.random.random_range(-1..2),
            _ => self
                .random
                .random_range(self.compacted.min(self.revision)..=self.revision),
        }
    }

    fn put(&mut self) -> pb::PutRequest {
        let ignore_value = self.chance(12);
        let ignore_lease = self.chance(12);
        pb::PutRequest {
            key: self.key(),
            value: if ignore_value && !self.chance(6) {
                Bytes::new()
            } else {
                self.value()
            },
            lease: match self.random.random_range(0..4) {
                0 if !ignore_lease || self.chance(6) => self.lease(),
                _ => 0,
            },
            prev_kv: self.random.random(),
            ignore_value,
            ignore_lease,
        }
    }

    fn range(&mut self) -> pb::RangeRequest {
        let (order, target) = match self.random.random_range(0..4) {
            0 => (
                self.random.random_range(0..4),
                self.random.random_range(0..6),
            ),
            _ => (0, 0),
        };
        let bound = |generator: &mut Self| match generator.random.random_range(0..8) {
            0 => generator.random.random_range(0..=generator.revision),
            _ => 0,
        };
        pb::RangeRequest {
            key: self.key(),
            range_end: self.range_end(),
            limit: if self.random.random() {
                0
            } else {
                self.random.random_range(-1..12)
            },
            revision: self.any_revision(),
            sort_order: order,
            sort_target: target,
            serializable: self.random.random(),
            keys_only: self.chance(4),
            count_only: self.chance(6),
            min_mod_revision: bound(self),
            max_mod_revision: bound(self),
            min_create_revision: bound(self),
            max_create_revision: bound(self),
        }
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        let single = !self.chance(5);
        pb::DeleteRangeRequest {
            key: self.key(),
            range_end: if single {
                Bytes::new()
            } else {
                self.range_end()
            },
            prev_kv: self.random.random(),
        }
    }

    fn compaction(&mut self) -> pb::CompactionRequest {
        let revision = match self.random.random_range(0..4) {
            0 => self.revision + 1,
            1 => self.compacted,
            _ => self
                .random
                .random_range(self.compacted.min(self.revision)..=self.revision),
        };
        if revision <= self.revision {
            self.compacted = self.compacted.max(revision);
        }
        // Only a finished compaction leaves nothing to chance.
        pb::CompactionRequest {
            revision,
            physical: true,
        }
    }

    fn txn(&mut self, depth: u32) -> pb::TxnRequest {
        let ops = |generator: &mut Self| {
            let count = generator.random.random_range(0..4);
            (0..count).map(|_| generator.op(depth)).collect::<Vec<_>>()
        };
        let (success, failure) = (ops(self), ops(self));
        let compares = self.random.random_range(0..3);
        let compare = (0..compares).map(|_| self.compare()).collect();
        pb::TxnRequest {
            compare,
            success,
            failure,
        }
    }

    /// etcd panics on a put that keeps value or lease of a key which the same transaction has deleted, and again
    /// on every restart.
    fn txn_without_panic(&mut self) -> pb::TxnRequest {
        let mut txn = self.txn(0);
        if has_delete(&txn) {
            keep_nothing(&mut txn);
        }
        txn
    }

    fn op(&mut self, depth: u32) -> pb::RequestOp {
        let request = match self.random.random_range(0..20) {
            0..7 => Op::RequestPut(self.put()),
            7..13 => Op::RequestRange(self.range()),
            13..16 => Op::RequestDeleteRange(self.delete()),
            16..19 if depth < TXN_DEPTH => Op::RequestTxn(self.txn(depth + 1)),
            _ => return pb::RequestOp { request: None },
        };
        pb::RequestOp {
            request: Some(request),
        }
    }

    fn compare(&mut self) -> pb::Compare {
        let target = self.random.random_range(0..5);
        let number = self.random.random_range(0..=self.revision);
        let union = match CompareTarget::try_from(target) {
            _ if self.chance(10) => None,
            Ok(CompareTarget::Version) => Some(TargetUnion::Version(number % 4)),
            Ok(CompareTarget::Create) => Some(TargetUnion::CreateRevision(number)),
            Ok(CompareTarget::Mod) => Some(TargetUnion::ModRevision(number)),
            Ok(CompareTarget::Value) => Some(TargetUnion::Value(self.value())),
            _ => Some(TargetUnion::Lease(self.lease())),
        };
        let results = [
            CompareResult::Equal,
            CompareResult::Greater,
            CompareResult::Less,
            CompareResult::NotEqual,
        ];
        pb::Compare {
            result: results[self.random.random_range(0..4)] as i32,
            target,
            key: self.key(),
            range_end: if self.chance(4) {
                self.range_end()
            } else {
                Bytes::new()
            },
            target_union: union,
        }
    }

    fn watch(&mut self) -> pb::WatchRequest {
        let watch_id = self.random.random_range(1..=WATCHERS);
        let union = match self.random.random_range(0..4) {
            0 => RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }),
            _ => RequestUnion::CreateRequest(pb::WatchCreateRequest {
                key: self.key(),
                range_end: self.range_end(),
                // Below the compact revision etcd cancels up to 100 ms later: whether the id is free by then
                // is chance. The golden scenarios have that case.
                start_revision: match self.any_revision() {
                    0 => 0,
                    any => any.clamp(self.compacted, self.revision),
                },
                progress_notify: false,
                filters: match self.random.random_range(0..6) {
                    0 => vec![FilterType::Noput as i32],
                    1 => vec![FilterType::Nodelete as i32],
                    _ => Vec::new(),
                },
                prev_kv: self.random.random(),
                watch_id,
                fragment: self.random.random(),
            }),
        };
        pb::WatchRequest {
            request_union: Some(union),
        }
    }
}

/// One server's clients.
pub struct Server {
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
    _cluster: ClusterClient<Channel>,
}

impl Server {
    pub async fn connect(endpoint: &str) -> Self {
        let channel = channel(endpoint).await;
        Self {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(1 << 30),
            lease: LeaseClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel.clone()),
            _cluster: ClusterClient::new(channel),
        }
    }

    /// Makes a call. The answer is text: equal answers give equal text.
    pub async fn call(&mut self, call: &Call) -> String {
        match call {
            Call::Range(request) => {
                let mut reply = self.kv.range(request.clone()).await;
                if let Ok(reply) = &mut reply {
                    settle(request, reply.get_mut());
                }
                text(reply)
            }
            Call::RangeStream(request) => self.range_stream(request).await,
            Call::Put(request) => text(self.kv.put(request.clone()).await),
            Call::DeleteRange(request) => text(self.kv.delete_range(request.clone()).await),
            Call::Txn(request) => {
                let mut reply = self.kv.txn(request.clone()).await;
                if let Ok(reply) = &mut reply {
                    settle_txn(request, reply.get_mut());
                }
                text(reply)
            }
            Call::Compact(request) => text(self.kv.compact(*request).await),
            Call::LeaseGrant(request) => text(self.lease.lease_grant(*request).await),
            Call::LeaseRevoke(request) => text(self.lease.lease_revoke(*request).await),
            Call::LeaseTimeToLive(request) => {
                let mut reply = self.lease.lease_time_to_live(*request).await;
                if let Ok(reply) = &mut reply {
                    let reply = reply.get_mut();
                    reply.ttl = reply.ttl.signum();
                    reply.keys.sort();
                }
                text(reply)
            }
            Call::HashKv(revision) => {
                let request = pb::HashKvRequest {
                    revision: *revision,
                };
                text(self.maintenance.hash_kv(request).await)
            }
            Call::Alarms => text(self.maintenance.alarm(pb::AlarmRequest::default()).await),
            Call::Watch(_) => unreachable!("watchers have streams of their own"),
        }
    }

    /// The chunks of a stream, as etcd cuts them.
    async fn range_stream(&mut self, request: &pb::RangeRequest) -> String {
        let mut stream = match self.kv.range_stream(request.clone()).await {
            Ok(stream) => stream.into_inner(),
            Err(status) => return text::<()>(Err(status)),
        };
        let mut chunks = Vec::new();
        loop {
            match stream.message().await {
                Ok(Some(chunk)) => chunks.push(chunk.range_response.unwrap_or_default()),
                Ok(None) => {
                    settle_stream(request, &mut chunks);
                    return without_ids(&format!("{chunks:?}"));
                }
                Err(status) => return text::<()>(Err(status)),
            }
        }
    }
}

fn has_delete(txn: &pb::TxnRequest) -> bool {
    let mut ops = txn.success.iter().chain(&txn.failure);
    ops.any(|op| match &op.request {
        Some(Op::RequestDeleteRange(_)) => true,
        Some(Op::RequestTxn(nested)) => has_delete(nested),
        _ => false,
    })
}

fn keep_nothing(txn: &mut pb::TxnRequest) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(Op::RequestPut(put)) => (put.ignore_value, put.ignore_lease) = (false, false),
            Some(Op::RequestTxn(nested)) => keep_nothing(nested),
            _ => {}
        }
    }
}

/// A connection to a server.
pub async fn channel(endpoint: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{endpoint}")).expect("endpoint");
    endpoint.connect().await.expect("connect")
}

fn text<T: std::fmt::Debug>(reply: Result<Response<T>, Status>) -> String {
    match reply {
        Ok(reply) => without_ids(&format!("{:?}", reply.into_inner())),
        Err(status) => format!("{:?} {}", status.code(), status.message()),
    }
}

/// Ids and terms differ between two clusters.
fn without_ids(text: &str) -> String {
    let mut text = text.to_owned();
    for field in ["cluster_id: ", "member_id: ", "raft_term: "] {
        while let Some(at) = text.find(field) {
            let end = text[at + field.len()..]
                .find([',', ' ', '}'])
                .map(|n| at + field.len() + n);
            text.replace_range(at..end.unwrap_or(text.len()), "");
        }
    }
    text
}

/// Go's sort keeps the order of equal elements while there are no more than so many.
const STABLE_SORT_KEYS: i64 = 12;

/// etcd's sort leaves more equal elements than that in any order, so the order among them is taken out; with a
/// limit even which of the last ones are there.
fn settle(request: &pb::RangeRequest, reply: &mut pb::RangeResponse) {
    // With no order given, etcd sorts what the limit leaves and one more.
    let cut_first = request.limit > 0
        && request.sort_order == pb::range_request::SortOrder::None as i32
        && !has_filters(request);
    let sorted = match cut_first {
        true => reply.count.min(request.limit + 1),
        false => reply.count,
    };
    if sorted > STABLE_SORT_KEYS {
        settle_ties(request, reply);
    }
}

fn settle_ties(request: &pb::RangeRequest, reply: &mut pb::RangeResponse) {
    let target = request.sort_target();
    let element = |kv: &etcd::pb::KeyValue| {
        let fields = kv.fields();
        match target {
            SortTarget::Key => (0, fields.key),
            SortTarget::Version => (fields.version, Bytes::new()),
            SortTarget::Create => (fields.create_revision, Bytes::new()),
            SortTarget::Mod => (fields.mod_revision, Bytes::new()),
            // Not told with `keys_only`: all seem equal then.
            SortTarget::Value => (0, fields.value),
        }
    };
    if reply.more
        && let Some(last) = reply.kvs.last().map(element)
    {
        while reply.kvs.last().map(element).as_ref() == Some(&last) {
            reply.kvs.pop();
        }
    }
    for equal in reply.kvs.chunk_by_mut(|a, b| element(a) == element(b)) {
        equal.sort_by_key(|kv| kv.fields().key);
    }
}

fn has_filters(request: &pb::RangeRequest) -> bool {
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    bounds.iter().any(|&bound| bound != 0)
}

/// Each chunk is sorted by itself and the next one begins behind its last key: after one with equal elements in any
/// order the rest of the stream is left open, the count of keys with it.
fn settle_stream(request: &pb::RangeRequest, chunks: &mut Vec<pb::RangeResponse>) {
    if request.sort_target() == SortTarget::Key {
        return;
    }
    let last = chunks.len().saturating_sub(1);
    // What is sorted of a chunk that is not the last one is one more than it has.
    let open = chunks.iter().enumerate().position(|(number, chunk)| {
        chunk.kvs.len() as i64 + i64::from(number < last || chunk.more) > STABLE_SORT_KEYS
    });
    if let Some(open) = open {
        match chunks.get_mut(open) {
            // A negative limit makes one chunk of everything.
            Some(only) if open == last && !only.more => settle_ties(request, only),
            _ => chunks.truncate(open),
        }
    }
}

fn settle_txn(request: &pb::TxnRequest, reply: &mut pb::TxnResponse) {
    let ops = if reply.succeeded {
        &request.success
    } else {
        &request.failure
    };
    for (op, answer) in ops.iter().zip(&mut reply.responses) {
        match (&op.request, &mut answer.response) {
            (Some(Op::RequestRange(request)), Some(Answer::ResponseRange(reply))) => {
                settle(request, reply);
            }
            (Some(Op::RequestTxn(request)), Some(Answer::ResponseTxn(reply))) => {
                settle_txn(request, reply);
            }
            _ => {}
        }
    }
}
