//! The client against servers made for the purpose: what it repeats, where it goes, what it resumes.

use super::*;
use crate::pb::etcdserverpb as pb;
use crate::pb::{Event, EventFields, EventType, KeyValueFields};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

/// What a server does, and what was asked of it.
#[derive(Default)]
struct Script {
    /// Failures of the next unary calls.
    failures: parking_lot::Mutex<VecDeque<Status>>,
    calls: AtomicUsize,
    tokens: parking_lot::Mutex<Vec<String>>,
    logins: AtomicUsize,
    /// Requests on watch streams.
    watched: parking_lot::Mutex<Vec<pb::watch_request::RequestUnion>>,
    /// What the next watch streams answer to their first request.
    streams: parking_lot::Mutex<VecDeque<Vec<Result<pb::WatchResponse, Status>>>>,
    renewals: AtomicUsize,
    connections: parking_lot::Mutex<JoinSet<()>>,
}

impl Script {
    async fn serve(self: &Arc<Self>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let script = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = Arc::clone(&script);
                let service = hyper::service::service_fn(move |request| {
                    let script = Arc::clone(&served);
                    async move { Ok::<_, Infallible>(script.answer(request).await) }
                });
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service);
                script.connections.lock().spawn(async move {
                    let _ = connection.await;
                });
            }
        });
        address
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        match request.uri().path() {
            "/etcdserverpb.KV/Range" => {
                self.unary::<pb::RangeRequest, pb::RangeResponse>(request)
                    .await
            }
            "/etcdserverpb.KV/Put" => self.unary::<pb::PutRequest, pb::PutResponse>(request).await,
            "/etcdserverpb.KV/RangeStream" => range_stream(request).await,
            "/etcdserverpb.Auth/Authenticate" => self.authenticate(request).await,
            "/etcdserverpb.Watch/Watch" => self.watch(request).await,
            "/etcdserverpb.Lease/LeaseKeepAlive" => self.keep_alive(request).await,
            other => panic!("nobody serves {other}"),
        }
    }

    async fn unary<Req, Resp>(self: Arc<Self>, request: Request<Incoming>) -> Response<Body>
    where
        Req: prost::Message + Default + 'static,
        Resp: prost::Message + Default + 'static,
    {
        self.calls.fetch_add(1, Relaxed);
        let token = request.headers().get("token");
        let token = token.map(|token| token.to_str().unwrap().to_owned());
        self.tokens.lock().push(token.unwrap_or_default());
        let failure = self.failures.lock().pop_front();
        let service = tower::service_fn(move |_: tonic::Request<Req>| {
            let result = failure
                .clone()
                .map_or(Ok(tonic::Response::new(Resp::default())), Err);
            async move { result }
        });
        tonic::server::Grpc::new(ProstCodec::default())
            .unary(service, request)
            .await
    }

    async fn authenticate(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let service = tower::service_fn(move |_: tonic::Request<pb::AuthenticateRequest>| {
            let token = format!("token-{}", self.logins.fetch_add(1, Relaxed) + 1);
            let response = pb::AuthenticateResponse {
                token,
                ..Default::default()
            };
            async move { Ok(tonic::Response::new(response)) }
        });
        tonic::server::Grpc::new(ProstCodec::default())
            .unary(service, request)
            .await
    }

    async fn watch(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let script = Arc::clone(&self);
        let service = tower::service_fn(
            move |request: tonic::Request<Streaming<pb::WatchRequest>>| {
                let (answers, receiver) = mpsc::channel(64);
                tokio::spawn(Arc::clone(&script).serve_watch(request.into_inner(), answers));
                async move { Ok(tonic::Response::new(ReceiverStream::new(receiver))) }
            },
        );
        tonic::server::Grpc::new(ProstCodec::default())
            .streaming(service, request)
            .await
    }

    async fn serve_watch(
        self: Arc<Self>,
        mut requests: Streaming<pb::WatchRequest>,
        answers: mpsc::Sender<Result<pb::WatchResponse, Status>>,
    ) {
        while let Some(Ok(request)) = requests.next().await {
            self.watched.lock().push(request.request_union.unwrap());
            let Some(script) = self.streams.lock().pop_front() else {
                continue;
            };
            let ends = script.last().is_some_and(Result::is_err);
            for answer in script {
                let _ = answers.send(answer).await;
            }
            if ends {
                return;
            }
        }
    }

    async fn keep_alive(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let script = Arc::clone(&self);
        let service = tower::service_fn(
            move |request: tonic::Request<Streaming<pb::LeaseKeepAliveRequest>>| {
                let script = Arc::clone(&script);
                let answers = request.into_inner().map(move |request| {
                    let renewal = script.renewals.fetch_add(1, Relaxed) + 1;
                    let ttl = if renewal < 3 { 1 } else { 0 };
                    request.map(|r| pb::LeaseKeepAliveResponse {
                        id: r.id,
                        ttl,
                        ..Default::default()
                    })
                });
                async move { Ok(tonic::Response::new(answers)) }
            },
        );
        tonic::server::Grpc::new(ProstCodec::default())
            .streaming(service, request)
            .await
    }

    fn fails(&self, statuses: impl IntoIterator<Item = Status>) {
        self.failures.lock().extend(statuses);
    }

    fn start_revisions(&self) -> Vec<i64> {
        let watched = self.watched.lock();
        let creates = watched.iter().filter_map(|request| match request {
            pb::watch_request::RequestUnion::CreateRequest(create) => Some(create.start_revision),
            _ => None,
        });
        creates.collect()
    }
}

async fn range_stream(request: Request<Incoming>) -> Response<Body> {
    let service = tower::service_fn(|_: tonic::Request<pb::RangeRequest>| {
        let chunk = |key: &'static str, count| {
            let kvs = vec![
                KeyValueFields {
                    key: key.into(),
                    ..Default::default()
                }
                .into(),
            ];
            let response = pb::RangeResponse {
                kvs,
                count,
                ..Default::default()
            };
            Ok(pb::RangeStreamResponse {
                range_response: Some(response),
            })
        };
        let chunks = tokio_stream::iter([chunk("a", 0), chunk("b", 2)]);
        async move { Ok(tonic::Response::new(chunks)) }
    });
    tonic::server::Grpc::new(ProstCodec::default())
        .server_streaming(service, request)
        .await
}

fn config(endpoints: &[&str]) -> Config {
    Config {
        endpoints: endpoints
            .iter()
            .map(|endpoint| (*endpoint).to_owned())
            .collect(),
        dial_timeout: Duration::from_secs(5),
        keepalive_time: Duration::from_secs(2),
        keepalive_timeout: Duration::from_secs(6),
        request_bytes_max: Config::REQUEST_BYTES_MAX,
        response_bytes_max: Config::RESPONSE_BYTES_MAX,
        tls: None,
        credentials: Credentials::None,
        logger: log::Logger::silent(),
    }
}

async fn one() -> (Arc<Script>, Client) {
    let script = Arc::<Script>::default();
    let address = script.serve().await;
    (script, Client::connect(config(&[&address])).await.unwrap())
}

fn unavailable() -> Status {
    Status::unavailable("etcdserver: leader changed")
}

/// An address nobody listens on.
async fn dead() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn reads_are_repeated_writes_are_not() {
    let (script, client) = one().await;
    script.fails([unavailable(), unavailable()]);
    client.range(Default::default(), None).await.unwrap();
    assert_eq!(script.calls.load(Relaxed), 3);
    script.fails([unavailable()]);
    let error = client.put(Default::default(), None).await.unwrap_err();
    assert_eq!(error.to_string(), "etcdserver: leader changed");
    assert_eq!(script.calls.load(Relaxed), 4);
}

#[tokio::test]
async fn what_the_server_refuses_is_not_repeated() {
    let (script, client) = one().await;
    script.fails([Status::out_of_range(text::COMPACTED)]);
    let error = client.range(Default::default(), None).await.unwrap_err();
    assert!(error.is(text::COMPACTED));
    assert_eq!(script.calls.load(Relaxed), 1);
}

#[tokio::test]
async fn a_learners_refusal_sends_even_a_write_to_the_next_endpoint() {
    let (first, second) = (Arc::<Script>::default(), Arc::<Script>::default());
    let (a, b) = (first.serve().await, second.serve().await);
    let client = Client::connect(config(&[&a, &b])).await.unwrap();
    let refusal = Status::failed_precondition(text::NOT_SUPPORTED_FOR_LEARNER);
    first.fails(std::iter::repeat_n(refusal, 10));
    for _ in 0..4 {
        client.put(Default::default(), None).await.unwrap();
    }
    assert_eq!(second.calls.load(Relaxed), 4);
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_over() {
    let script = Arc::<Script>::default();
    let (dead, alive) = (dead().await, script.serve().await);
    let client = Client::connect(config(&[&dead, &alive])).await.unwrap();
    for _ in 0..4 {
        client.put(Default::default(), None).await.unwrap();
    }
    assert_eq!(script.calls.load(Relaxed), 4);
}

#[tokio::test]
async fn endpoints_take_turns() {
    let (first, second) = (Arc::<Script>::default(), Arc::<Script>::default());
    let (a, b) = (first.serve().await, second.serve().await);
    let client = Client::connect(config(&[&a, &b])).await.unwrap();
    // Whichever connection comes up first serves alone for a moment.
    while first.calls.load(Relaxed) == 0 || second.calls.load(Relaxed) == 0 {
        client.put(Default::default(), None).await.unwrap();
    }
    let before = first.calls.load(Relaxed);
    for _ in 0..10 {
        client.put(Default::default(), None).await.unwrap();
    }
    assert_eq!(first.calls.load(Relaxed) - before, 5);
}

#[tokio::test]
async fn without_a_server_the_deadline_decides() {
    let dead = dead().await;
    let client = Client::connect(config(&[&dead])).await.unwrap();
    let deadline = Some(tokio::time::Instant::now() + Duration::from_millis(50));
    let error = client.put(Default::default(), deadline).await.unwrap_err();
    assert_eq!(error, Error::DeadlineExceeded);
    let balancer = &client.inner.balancer;
    let why = balancer.last_error().unwrap();
    assert!(why.contains("connect: connection refused"), "{why}");
}

#[tokio::test]
async fn a_server_whose_clock_is_a_moment_ahead_ends_no_call_before_its_deadline() {
    let (script, client) = one().await;
    let given_up = || Status::cancelled("stream terminated by RST_STREAM with error code: CANCEL");
    script.fails([given_up()]);
    let far = tokio::time::Instant::now() + Duration::from_secs(60);
    client.range(Default::default(), Some(far)).await.unwrap();
    assert_eq!(script.calls.load(Relaxed), 2);
    script.fails([given_up()]);
    let near = tokio::time::Instant::now() + Duration::from_millis(10);
    let ended = client.range(Default::default(), Some(near)).await;
    assert_eq!(ended, Err(Error::DeadlineExceeded));
    assert!(tokio::time::Instant::now() >= near);
}

#[tokio::test]
async fn a_peer_that_speaks_no_http2_is_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ =
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 No\r\n\r\n").await;
        }
    });
    let client = Client::connect(config(&[&address])).await.unwrap();
    let deadline = Some(tokio::time::Instant::now() + Duration::from_millis(100));
    let error = client.put(Default::default(), deadline).await.unwrap_err();
    assert_eq!(error, Error::DeadlineExceeded);
}

#[tokio::test]
async fn a_broken_connection_is_made_again() {
    let (script, client) = one().await;
    client.put(Default::default(), None).await.unwrap();
    script.connections.lock().abort_all();
    client.range(Default::default(), None).await.unwrap();
    assert!(script.calls.load(Relaxed) >= 2);
}

#[tokio::test]
async fn an_expired_token_is_renewed_once_per_refusal() {
    let script = Arc::<Script>::default();
    let address = script.serve().await;
    let credentials = Credentials::Password {
        user: "root".to_owned(),
        password: "pw".to_owned(),
    };
    let client = Client::connect(Config {
        credentials,
        ..config(&[&address])
    })
    .await
    .unwrap();
    script.fails([Status::unauthenticated(text::INVALID_AUTH_TOKEN)]);
    client.put(Default::default(), None).await.unwrap();
    assert_eq!(*script.tokens.lock(), ["token-1", "token-2"]);
}

#[tokio::test]
async fn a_given_token_is_never_renewed() {
    let script = Arc::<Script>::default();
    let address = script.serve().await;
    let credentials = Credentials::Token("jwt".to_owned());
    let client = Client::connect(Config {
        credentials,
        ..config(&[&address])
    })
    .await
    .unwrap();
    script.fails([Status::unauthenticated(text::INVALID_AUTH_TOKEN)]);
    client.put(Default::default(), None).await.unwrap_err();
    assert_eq!(
        (script.tokens.lock().as_slice(), script.logins.load(Relaxed)),
        (&["jwt".to_owned()][..], 0)
    );
}

#[tokio::test]
async fn limits_read_as_grpcs() {
    let (_script, client) = one().await;
    let small = Config {
        request_bytes_max: 10,
        ..client.inner.config.clone()
    };
    let client = Client::connect(Config {
        response_bytes_max: 20,
        ..small
    })
    .await
    .unwrap();
    let request = pb::PutRequest {
        key: vec![b'x'; 20].into(),
        ..Default::default()
    };
    assert_eq!(
        client.put(request, None).await.unwrap_err().to_string(),
        "rpc error: code = ResourceExhausted desc = trying to send message larger than max (22 vs. 10)"
    );
    let answer = Status::out_of_range(
        "Error, decoded message length too large: found 45 bytes, the limit is: 10 bytes",
    );
    assert_eq!(
        call::reworded(answer).message(),
        "grpc: received message larger than max (45 vs. 10)"
    );
}

#[tokio::test]
async fn chunks_of_a_range_are_put_together() {
    let (_script, client) = one().await;
    let whole = client.range_stream(Default::default(), None).await.unwrap();
    assert_eq!((whole.kvs.len(), whole.count), (2, 2));
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader {
        revision,
        ..Default::default()
    })
}

fn created(revision: i64) -> Result<pb::WatchResponse, Status> {
    Ok(pb::WatchResponse {
        created: true,
        header: header(revision),
        ..Default::default()
    })
}

fn put_event(revision: i64) -> Event {
    let pair = KeyValueFields {
        key: "k".into(),
        mod_revision: revision,
        ..Default::default()
    };
    let kv = Some(pair.into());
    EventFields {
        r#type: EventType::Put as i32,
        kv,
        prev_kv: None,
    }
    .into()
}

fn events(revisions: &[i64], fragment: bool) -> Result<pb::WatchResponse, Status> {
    let events = revisions
        .iter()
        .map(|revision| put_event(*revision))
        .collect();
    let header = header(revisions.last().copied().unwrap_or_default());
    Ok(pb::WatchResponse {
        events,
        fragment,
        header,
        ..Default::default()
    })
}

async fn watched(watcher: &mut Watcher, count: usize) -> Vec<i64> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let response = watcher.next().await.unwrap();
        let revision = |event: Event| event.into_fields().kv.unwrap().fields().mod_revision;
        seen.extend(response.events.into_iter().map(revision));
    }
    seen
}

#[tokio::test]
async fn a_watch_resumes_behind_the_last_event() {
    let (script, client) = one().await;
    script.streams.lock().extend([
        vec![created(5), events(&[6, 7], false), Err(unavailable())],
        // Broken before anything happened: the start does not move.
        vec![created(7), Err(unavailable())],
        vec![created(9), events(&[8, 9], false)],
    ]);
    let mut watcher = client.watch(Default::default()).await;
    assert_eq!(watched(&mut watcher, 4).await, [6, 7, 8, 9]);
    assert_eq!(script.start_revisions(), [0, 8, 8]);
}

#[tokio::test]
async fn a_watch_from_now_on_misses_nothing_before_its_first_event() {
    let (script, client) = one().await;
    script.streams.lock().extend([
        vec![created(5), Err(unavailable())],
        vec![created(8), events(&[6], false)],
    ]);
    let mut watcher = client.watch(Default::default()).await;
    assert_eq!(watched(&mut watcher, 1).await, [6]);
    assert_eq!(script.start_revisions(), [0, 6]);
}

#[tokio::test]
async fn pieces_of_a_response_are_one_response_or_none() {
    let (script, client) = one().await;
    script.streams.lock().extend([
        vec![created(5), events(&[6], true), Err(unavailable())],
        vec![created(5), events(&[6], true), events(&[7], false)],
    ]);
    let mut watcher = client.watch(Default::default()).await;
    let response = watcher.next().await.unwrap();
    assert_eq!(response.events.len(), 2);
    assert_eq!(script.start_revisions(), [0, 6]);
}

#[tokio::test]
async fn a_watch_of_compacted_history_ends_with_the_reason() {
    let (script, client) = one().await;
    let compacted = pb::WatchResponse {
        canceled: true,
        compact_revision: 4,
        ..Default::default()
    };
    script
        .streams
        .lock()
        .push_back(vec![created(9), Ok(compacted)]);
    let mut watcher = client.watch(Default::default()).await;
    let last = watcher.next().await.unwrap();
    assert!(last.canceled && last.error().unwrap().is(text::COMPACTED));
    assert!(watcher.next().await.is_none());
}

#[tokio::test]
async fn a_refused_watch_says_why_and_leaves_the_others_alone() {
    let (script, client) = one().await;
    let reason = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    let refused = pb::WatchResponse {
        created: true,
        canceled: true,
        watch_id: -1,
        cancel_reason: reason.to_owned(),
        ..Default::default()
    };
    let second = pb::WatchResponse {
        created: true,
        watch_id: 1,
        ..Default::default()
    };
    let event = pb::WatchResponse {
        watch_id: 1,
        ..events(&[3], false).unwrap()
    };
    script
        .streams
        .lock()
        .extend([vec![Ok(refused)], vec![Ok(second), Ok(event)]]);
    let stream = client.watch_stream(false);
    let mut first = stream.watch(Default::default()).await;
    let mut second = stream.watch(Default::default()).await;
    assert_eq!(
        first.next().await.unwrap().error().unwrap().to_string(),
        reason
    );
    assert!(first.next().await.is_none());
    assert_eq!(watched(&mut second, 1).await, [3]);
}

#[tokio::test]
async fn a_watch_that_may_not_run_without_a_leader_ends_without_one() {
    let (script, client) = one().await;
    let gone = Status::unavailable(text::NO_LEADER);
    script.streams.lock().push_back(vec![created(5), Err(gone)]);
    let mut watcher = client.watch_stream(true).watch(Default::default()).await;
    assert!(
        watcher
            .next()
            .await
            .unwrap()
            .error()
            .unwrap()
            .is(text::NO_LEADER)
    );
    assert!(watcher.next().await.is_none());
}

#[tokio::test]
async fn progress_answers_go_to_every_watcher() {
    let (script, client) = one().await;
    let id = |watch_id| pb::WatchResponse {
        created: true,
        watch_id,
        ..Default::default()
    };
    let progress = pb::WatchResponse {
        watch_id: -1,
        header: header(7),
        ..Default::default()
    };
    script
        .streams
        .lock()
        .extend([vec![Ok(id(0))], vec![Ok(id(1))], vec![Ok(progress)]]);
    let stream = client.watch_stream(false);
    let mut first = stream.watch(Default::default()).await;
    let mut second = stream.watch(Default::default()).await;
    while script.watched.lock().len() < 2 {
        tokio::task::yield_now().await;
    }
    stream.request_progress().await;
    for watcher in [&mut first, &mut second] {
        let response = watcher.next().await.unwrap();
        assert!(response.is_progress());
    }
}

#[tokio::test]
async fn a_dropped_watcher_is_cancelled_on_the_server() {
    let (script, client) = one().await;
    script
        .streams
        .lock()
        .push_back(vec![created(5), events(&[6], false)]);
    let stream = client.watch_stream(false);
    let mut watcher = stream.watch(Default::default()).await;
    watched(&mut watcher, 1).await;
    drop(watcher);
    loop {
        use pb::watch_request::RequestUnion::CancelRequest;
        if script
            .watched
            .lock()
            .iter()
            .any(|request| matches!(request, CancelRequest(_)))
        {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_lease_is_kept_alive_until_it_is_gone() {
    let (script, client) = one().await;
    let mut answers = client.keep_alive(7);
    assert_eq!(answers.recv().await.unwrap().id, 7);
    assert!(answers.recv().await.is_some());
    assert!(answers.recv().await.is_none());
    assert_eq!(script.renewals.load(Relaxed), 3);
}
