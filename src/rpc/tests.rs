//! The services over a real member, called as the listener calls them.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use prost::Message;
use tokio::sync::mpsc;

use super::{Limits, ReplyBody, Services};
use crate::membership::{Member, member_id};
use crate::node::{Running, Settings, start};
use crate::pb::etcdserverpb::watch_request::RequestUnion;
use crate::pb::etcdserverpb::*;

/// A client's side of a stream: pieces as they are sent.
struct Sent(mpsc::UnboundedReceiver<Bytes>);

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(cx)
            .map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len() as u32);
    message.encode(&mut bytes).unwrap();
    bytes.freeze()
}

/// Splits a reply's bytes into messages; what is left over stays.
fn unframed(bytes: &mut BytesMut) -> Vec<Bytes> {
    let mut messages = Vec::new();
    while let Some(head) = bytes.first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if bytes.len() < 5 + length {
            break;
        }
        messages.push(bytes.split_to(5 + length).freeze().slice(5..));
    }
    messages
}

struct World {
    running: Option<Running>,
    services: Services,
    _directory: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let peer_urls = vec!["http://localhost:2380".to_owned()];
        let mut running = start(Settings {
            member_dir: directory.path().join("member"),
            wal_dir: directory.path().join("member/wal"),
            name: "one".to_owned(),
            client_urls: vec!["http://localhost:2379".to_owned()],
            initial_members: vec![Member {
                id: member_id(&peer_urls, "etcd-cluster").0,
                name: "one".to_owned(),
                peer_urls,
                ..Member::default()
            }],
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_secs(1),
            pre_vote: true,
            snapshot_entries: 100,
            catch_up_entries: 50,
            wal_segments_max: 5,
            request_bytes_max: 10_000,
            warning_apply_duration: Duration::from_secs(10),
            quota_bytes: Some(1 << 20),
            learners_max: 1,
            auto_compaction: None,
            lease_checkpoint_interval: None,
            value_cache_bytes_max: 1 << 20,
            page_cache_bytes_max: 8 << 20,
            bootstrap_defrag_threshold_bytes: 0,
            unsafe_no_fsync: true,
        })
        .unwrap();
        running.spawn_tasks();
        running.published().await;
        let limits = Limits {
            server_version: "3.7.1",
            request_bytes_max: 10_000,
            txn_ops_max: 128,
            quota_bytes: Some(1 << 20),
            watch_progress_interval: Duration::from_millis(100),
            election_timeout: Duration::from_secs(1),
            warning_unary_duration: Duration::from_secs(10),
            warning_apply_duration: Duration::from_secs(10),
            stop_serving_on_defragment: false,
        };
        let services = Services::new(running.handle.clone(), limits);
        Self {
            running: Some(running),
            services,
            _directory: directory,
        }
    }

    async fn send(&self, request: Request<Sent>) -> Response<ReplyBody> {
        self.services.call(None, request).await
    }

    /// Calls a method with one message; all replies, code and text.
    async fn call_with<Q: Message, R: Message + Default>(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
        request: &Q,
    ) -> (Vec<R>, String, String) {
        let (sender, receiver) = mpsc::unbounded_channel();
        sender.send(framed(request)).unwrap();
        drop(sender);
        let mut http = Request::post(path).header("content-type", "application/grpc");
        for (name, value) in headers {
            http = http.header(*name, *value);
        }
        let reply = self.send(http.body(Sent(receiver)).unwrap()).await;
        let (parts, body) = reply.into_parts();
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or(parts.headers);
        let mut bytes = BytesMut::from(&body.to_bytes()[..]);
        let replies = unframed(&mut bytes)
            .into_iter()
            .map(|m| R::decode(m).unwrap())
            .collect();
        let text = trailers["grpc-message"]
            .to_str()
            .unwrap()
            .replace("%20", " ");
        (
            replies,
            trailers["grpc-status"].to_str().unwrap().to_owned(),
            text,
        )
    }

    async fn call<Q: Message, R: Message + Default>(&self, path: &str, request: &Q) -> R {
        let (mut replies, code, text) = self.call_with::<Q, R>(path, &[], request).await;
        assert_eq!(code, "0", "{path}: {text}");
        replies.remove(0)
    }

    async fn refused<Q: Message>(&self, path: &str, request: &Q) -> (String, String) {
        let (replies, code, text) = self.call_with::<Q, PutResponse>(path, &[], request).await;
        assert!(replies.is_empty());
        (code, text)
    }

    async fn put(&self, key: &str, value: impl Into<Bytes>) -> i64 {
        let request = PutRequest {
            key: key.to_owned().into(),
            value: value.into(),
            ..Default::default()
        };
        let reply: PutResponse = self.call("/etcdserverpb.KV/Put", &request).await;
        reply.header.unwrap().revision
    }

    fn open(&self, path: &str) -> impl Future<Output = Stream> + use<> {
        let (requests, receiver) = mpsc::unbounded_channel();
        let http = Request::post(path).header("content-type", "application/grpc");
        let reply = self.services.call(None, http.body(Sent(receiver)).unwrap());
        async move {
            let body = reply.await.into_body();
            Stream {
                requests,
                body,
                bytes: BytesMut::new(),
                ready: Vec::new(),
            }
        }
    }

    fn stop(mut self) {
        self.running.take().unwrap().stop();
    }
}

struct Stream {
    requests: mpsc::UnboundedSender<Bytes>,
    body: ReplyBody,
    bytes: BytesMut,
    ready: Vec<Bytes>,
}

impl Stream {
    fn send(&self, request: &impl Message) {
        self.requests.send(framed(request)).unwrap();
    }

    fn watch(&self, union: RequestUnion) {
        self.send(&WatchRequest {
            request_union: Some(union),
        });
    }

    async fn next<R: Message + Default>(&mut self) -> R {
        while self.ready.is_empty() {
            let frame = self.body.frame().await.expect("open").unwrap();
            self.bytes
                .extend_from_slice(&frame.into_data().expect("data"));
            self.ready = unframed(&mut self.bytes);
        }
        R::decode(self.ready.remove(0)).unwrap()
    }

    async fn end(&mut self) -> HeaderMap {
        self.body
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_trailers()
            .unwrap()
    }
}

fn run<F: AsyncFnOnce(&World)>(test: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::new().await;
        test(&world).await;
        tokio::task::spawn_blocking(move || world.stop())
            .await
            .unwrap();
    });
}

fn create(key: &str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.to_owned().into(),
        start_revision,
        ..Default::default()
    }
}

#[test]
fn a_call_on_its_way_takes_little_memory() {
    run(async |world| {
        for method in ["KV/Range", "KV/Put", "KV/Txn", "Lease/LeaseGrant"] {
            let (_, receiver) = mpsc::unbounded_channel();
            let http = Request::post(format!("/etcdserverpb.{method}"))
                .header("content-type", "application/grpc");
            let http = http.body(Sent(receiver)).unwrap();
            let bytes = size_of_val(&*world.services.call(None, http));
            assert!(bytes <= 2_048, "{method}: {bytes} bytes");
        }
    });
}

#[test]
fn unary_calls_are_answered_refused_and_counted() {
    run(async |world| {
        let counters = crate::metrics::global()
            .grpc
            .method("/etcdserverpb.KV/Put")
            .unwrap();
        let (started, received, sent) = (
            counters.started.get(),
            counters.received.get(),
            counters.sent.get(),
        );
        assert_eq!(world.put("k", "v").await, 2);
        let get = RangeRequest {
            key: "k".into(),
            ..Default::default()
        };
        let reply: RangeResponse = world.call("/etcdserverpb.KV/Range", &get).await;
        let header = reply.header.unwrap();
        assert_eq!((header.revision, reply.count), (2, 1));
        assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0);
        assert_eq!(reply.kvs[0].fields().value, "v");

        let refused = world
            .refused("/etcdserverpb.KV/Put", &PutRequest::default())
            .await;
        assert_eq!(
            refused,
            ("3".into(), "etcdserver: key is not provided".into())
        );
        let large = PutRequest {
            key: "k".into(),
            value: vec![0; 11_000].into(),
            ..Default::default()
        };
        let refused = world.refused("/etcdserverpb.KV/Put", &large).await;
        assert_eq!(
            refused,
            ("3".into(), "etcdserver: request is too large".into())
        );
        let future = RangeRequest {
            revision: 99,
            ..get
        };
        let refused = world.refused("/etcdserverpb.KV/Range", &future).await;
        let text = "etcdserver: mvcc: required revision is a future revision";
        assert_eq!(refused, ("11".into(), text.into()));
        // Other tests may count meanwhile.
        assert!(counters.started.get() >= started + 3);
        assert!(counters.received.get() >= received + 3);
        assert!(counters.sent.get() > sent);
    });
}

#[test]
fn paths_that_name_no_method_are_told_so() {
    run(async |world| {
        for (path, text) in [
            (
                "/etcdserverpb.KV/Nope",
                "unknown method Nope for service etcdserverpb.KV",
            ),
            ("/v3lockpb.Lock/Lock", "unknown service v3lockpb.Lock"),
        ] {
            let refused = world.refused(path, &PutRequest::default()).await;
            assert_eq!(refused, ("12".into(), text.into()));
        }
    });
}

#[test]
fn a_reply_is_compressed_as_its_request_says() {
    run(async |world| {
        let (sender, receiver) = mpsc::unbounded_channel();
        sender.send(framed(&StatusRequest {})).unwrap();
        drop(sender);
        let http = Request::post("/etcdserverpb.Maintenance/Status")
            .header("content-type", "application/grpc+proto")
            .header("grpc-encoding", "gzip");
        let reply = world.send(http.body(Sent(receiver)).unwrap()).await;
        assert_eq!(reply.headers()["grpc-encoding"], "gzip");
        assert_eq!(reply.headers()["content-type"], "application/grpc+proto");
        let bytes = reply.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(bytes[0], 1, "compressed");
        let mut plain = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[5..]), &mut plain)
            .unwrap();
        assert_eq!(StatusResponse::decode(&plain[..]).unwrap().version, "3.7.1");
    });
}

#[test]
fn a_deadline_ends_a_stream() {
    run(async |world| {
        let (_sender, receiver) = mpsc::unbounded_channel();
        let http = Request::post("/etcdserverpb.Watch/Watch")
            .header("content-type", "application/grpc")
            .header("grpc-timeout", "50m");
        let reply = world.send(http.body(Sent(receiver)).unwrap()).await;
        let trailers = reply
            .into_body()
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_trailers()
            .unwrap();
        assert_eq!(trailers["grpc-status"], "4");
    });
}

#[test]
fn a_reply_waits_for_the_client_to_end_its_side() {
    run(async |world| {
        let (sender, receiver) = mpsc::unbounded_channel();
        let request = RangeRequest {
            key: "k".into(),
            serializable: true,
            ..Default::default()
        };
        sender.send(framed(&request)).unwrap();
        let http =
            Request::post("/etcdserverpb.KV/Range").header("content-type", "application/grpc");
        let mut reply = pin!(world.send(http.body(Sent(receiver)).unwrap()));
        for _ in 0..100 {
            tokio::select! {
                biased;
                _ = &mut reply => panic!("answered, which resets the stream"),
                () = tokio::task::yield_now() => {}
            }
        }
        drop(sender);
        assert_eq!(reply.await.status(), 200);
    });
}

#[test]
fn writes_over_the_quota_raise_the_alarm() {
    run(async |world| {
        let mut refused = None;
        for at in 0..200 {
            let key = format!("k{at}").into();
            let put = PutRequest {
                key,
                value: vec![1; 9_000].into(),
                ..Default::default()
            };
            let (_, code, text) = world
                .call_with::<_, PutResponse>("/etcdserverpb.KV/Put", &[], &put)
                .await;
            if code != "0" {
                refused = Some((code, text));
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let text = "etcdserver: mvcc: database space exceeded";
        assert_eq!(refused, Some(("8".into(), text.into())));
        let alarms: AlarmResponse = world
            .call("/etcdserverpb.Maintenance/Alarm", &AlarmRequest::default())
            .await;
        assert_eq!(alarms.alarms[0].alarm, AlarmType::Nospace as i32);
    });
}

#[test]
fn a_watch_tells_past_and_present_and_ends_when_asked() {
    run(async |world| {
        world.put("k", "1").await;
        let mut stream = world.open("/etcdserverpb.Watch/Watch").await;
        stream.watch(RequestUnion::CreateRequest(create("k", 1)));
        let created: WatchResponse = stream.next().await;
        assert!(created.created && created.header.unwrap().revision == 2);
        let past: WatchResponse = stream.next().await;
        assert_eq!(past.events[0].fields().kv.unwrap().fields().value, "1");
        world.put("other", "x").await;
        world.put("k", "2").await;
        let present: WatchResponse = stream.next().await;
        assert_eq!(
            (present.header.unwrap().revision, present.events.len()),
            (4, 1)
        );
        stream.watch(RequestUnion::ProgressRequest(WatchProgressRequest {}));
        let progress: WatchResponse = stream.next().await;
        assert_eq!(
            (progress.watch_id, progress.header.unwrap().revision),
            (-1, 4)
        );
        stream.watch(RequestUnion::CancelRequest(WatchCancelRequest {
            watch_id: 0,
        }));
        let canceled: WatchResponse = stream.next().await;
        assert!(canceled.canceled && canceled.cancel_reason.is_empty());
        stream.watch(RequestUnion::CreateRequest(create("k", -1)));
        let refused: WatchResponse = stream.next().await;
        assert_eq!(
            (refused.watch_id, refused.created, refused.canceled),
            (-1, true, true)
        );
    });
}

#[test]
fn a_stream_that_is_not_read_misses_nothing() {
    run(async |world| {
        let mut stream = world.open("/etcdserverpb.Watch/Watch").await;
        for _ in 0..3 {
            stream.watch(RequestUnion::CreateRequest(create("k", 0)));
            stream.next::<WatchResponse>().await;
        }
        // More than the queue holds.
        for value in 0..400 {
            world.put("k", value.to_string()).await;
        }
        let mut next = [0; 3];
        while next != [400; 3] {
            let response: WatchResponse = stream.next().await;
            let next = &mut next[response.watch_id as usize];
            for event in response.events {
                assert_eq!(event.fields().kv.unwrap().fields().value, next.to_string());
                *next += 1;
            }
        }
    });
}

#[test]
fn many_watchers_are_created_without_reading_a_reply() {
    run(async |world| {
        let mut stream = world.open("/etcdserverpb.Watch/Watch").await;
        for at in 0..500 {
            stream.watch(RequestUnion::CreateRequest(create(&format!("k{at}"), 0)));
        }
        for at in 0..500 {
            assert_eq!(stream.next::<WatchResponse>().await.watch_id, at);
        }
        world.put("k499", "v").await;
        assert_eq!(stream.next::<WatchResponse>().await.watch_id, 499);
    });
}

#[test]
fn big_responses_come_in_fragments_to_those_who_want_them() {
    run(async |world| {
        for at in 0..64 {
            world.put(&format!("k{at:02}"), vec![7; 9_000]).await;
        }
        let mut stream = world.open("/etcdserverpb.Watch/Watch").await;
        let request = WatchCreateRequest {
            range_end: "l".into(),
            fragment: true,
            prev_kv: true,
            ..create("k", 0)
        };
        stream.watch(RequestUnion::CreateRequest(request));
        stream.next::<WatchResponse>().await;
        let (key, range_end) = ("k".into(), "l".into());
        let delete = DeleteRangeRequest {
            key,
            range_end,
            prev_kv: false,
        };
        world
            .call::<_, DeleteRangeResponse>("/etcdserverpb.KV/DeleteRange", &delete)
            .await;
        let limit = 10_000 + 512 * 1024;
        let mut pieces: Vec<WatchResponse> = Vec::new();
        while pieces.last().is_none_or(|piece| piece.fragment) {
            let piece: WatchResponse = stream.next().await;
            assert!(piece.encoded_len() < limit);
            pieces.push(piece);
        }
        assert_eq!(pieces.len(), 2);
        assert_eq!(
            pieces.iter().map(|piece| piece.events.len()).sum::<usize>(),
            64
        );
    });
}

#[test]
fn watchers_are_told_their_progress_once_a_quiet_interval() {
    run(async |world| {
        let mut stream = world.open("/etcdserverpb.Watch/Watch").await;
        let request = WatchCreateRequest {
            progress_notify: true,
            ..create("k", 0)
        };
        stream.watch(RequestUnion::CreateRequest(request));
        stream.next::<WatchResponse>().await;
        let revision = world.put("other", "v").await;
        let progress: WatchResponse = stream.next().await;
        let told = progress.header.unwrap().revision;
        assert!(progress.events.is_empty() && (revision - 1..=revision).contains(&told));
    });
}

#[test]
fn keep_alive_answers_in_turn_and_ends_with_the_client() {
    run(async |world| {
        let grant = LeaseGrantRequest { id: 7, ttl: 60 };
        world
            .call::<_, LeaseGrantResponse>("/etcdserverpb.Lease/LeaseGrant", &grant)
            .await;
        let mut stream = world.open("/etcdserverpb.Lease/LeaseKeepAlive").await;
        for (id, ttl) in [(7, 60), (8, 0), (7, 60)] {
            stream.send(&LeaseKeepAliveRequest { id });
            let reply: LeaseKeepAliveResponse = stream.next().await;
            assert_eq!((reply.id, reply.ttl), (id, ttl));
        }
        stream.requests = mpsc::unbounded_channel().0;
        assert_eq!(stream.end().await["grpc-status"], "0");
    });
}

#[test]
fn a_range_stream_has_its_header_in_the_last_message() {
    run(async |world| {
        for at in 0..25 {
            world.put(&format!("k{at:02}"), "v").await;
        }
        let request = RangeRequest {
            key: "k".into(),
            range_end: "l".into(),
            ..Default::default()
        };
        let path = "/etcdserverpb.KV/RangeStream";
        let (replies, code, _) = world
            .call_with::<_, RangeStreamResponse>(path, &[], &request)
            .await;
        assert_eq!(code, "0");
        let chunks: Vec<_> = replies
            .into_iter()
            .filter_map(|reply| reply.range_response)
            .collect();
        let keys: Vec<_> = chunks.iter().map(|chunk| chunk.kvs.len()).collect();
        assert_eq!(keys, [10, 15]);
        assert_eq!(chunks[0].header, None);
        assert_eq!(
            (chunks[1].header.unwrap().revision, chunks[1].count),
            (26, 25)
        );
    });
}

#[test]
fn a_snapshot_ends_with_its_checksum() {
    use sha2::{Digest, Sha256};
    run(async |world| {
        world.put("k", vec![7; 9_000]).await;
        let path = "/etcdserverpb.Maintenance/Snapshot";
        let (mut pieces, code, _) = world
            .call_with::<_, SnapshotResponse>(path, &[], &SnapshotRequest {})
            .await;
        assert_eq!(code, "0");
        let checksum = pieces.pop().unwrap().blob;
        let file: Vec<u8> = pieces
            .iter()
            .flat_map(|piece| piece.blob.to_vec())
            .collect();
        assert_eq!(checksum, Sha256::digest(&file)[..]);
        assert_eq!(
            pieces[0].remaining_bytes as usize,
            file.len() - pieces[0].blob.len()
        );
        assert_eq!(pieces.last().unwrap().remaining_bytes, 0);
    });
}
