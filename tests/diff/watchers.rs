//! The same watchers on both servers: each must see the same events in the same order.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd::pb::etcdserverpb as pb;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::calls::channel;

/// How long a stream may take to deliver what has happened.
const SETTLE_MAX: Duration = Duration::from_secs(20);
/// Both have served a new watcher's past after this long.
const CATCH_UP: Duration = Duration::from_millis(120);
/// A quiet stream is read this long before it counts as settled.
const QUIET: Duration = Duration::from_millis(400);

/// One stream on each server.
pub struct Watchers {
    ours: Side,
    theirs: Side,
}

struct Side {
    requests: mpsc::Sender<pb::WatchRequest>,
    replies: Streaming<pb::WatchResponse>,
    /// What each watcher was told since the last comparison, in order. How events are grouped into replies is
    /// left to the server.
    seen: BTreeMap<i64, Vec<String>>,
}

impl Watchers {
    pub async fn connect(ours: &str, theirs: &str) -> Self {
        Self {
            ours: Side::connect(ours).await,
            theirs: Side::connect(theirs).await,
        }
    }

    pub async fn send(&mut self, request: pb::WatchRequest) {
        if let Some(RequestUnion::CancelRequest(_)) = request.request_union {
            // etcd drops what it has not sent of a watcher that is cancelled.
            self.ours.read(CATCH_UP).await;
            self.theirs.read(CATCH_UP).await;
        }
        let _ = self.ours.requests.send(request.clone()).await;
        let _ = self.theirs.requests.send(request).await;
        // etcd looks after watchers that start in the past every 100 ms; a compaction before that would cancel
        // one which ours has served already.
        self.ours.read(CATCH_UP).await;
        self.theirs.read(CATCH_UP).await;
    }

    /// Reads until both have fallen silent, then compares.
    pub async fn compare(&mut self, revision: i64) -> Result<(), String> {
        let deadline = tokio::time::Instant::now() + SETTLE_MAX;
        loop {
            self.ours.read(QUIET).await;
            self.theirs.read(QUIET).await;
            if self.ours.seen == self.theirs.seen || tokio::time::Instant::now() > deadline {
                break;
            }
        }
        let (ours, theirs) = (
            std::mem::take(&mut self.ours.seen),
            std::mem::take(&mut self.theirs.seen),
        );
        if ours == theirs {
            return Ok(());
        }
        let mut ids = ours.keys().chain(theirs.keys());
        let different = ids.find(|id| ours.get(id) != theirs.get(id));
        Err(format!(
            "watcher {different:?} at revision {revision}\n  ours {:?}\n  etcd {:?}",
            different.and_then(|id| ours.get(id)),
            different.and_then(|id| theirs.get(id)),
        ))
    }
}

impl Side {
    async fn connect(endpoint: &str) -> Self {
        let (requests, outgoing) = mpsc::channel(64);
        // A watcher that stays keeps the stream from being empty: etcd answers its headers late otherwise.
        let first = pb::WatchCreateRequest {
            key: bytes::Bytes::from_static(b"nothing"),
            ..Default::default()
        };
        let request_union = Some(RequestUnion::CreateRequest(first));
        let _ = requests.send(pb::WatchRequest { request_union }).await;
        let mut client = WatchClient::new(channel(endpoint).await);
        let replies = client
            .watch(ReceiverStream::new(outgoing))
            .await
            .expect("watch");
        Self {
            requests,
            replies: replies.into_inner(),
            seen: BTreeMap::new(),
        }
    }

    async fn read(&mut self, quiet: Duration) {
        while let Ok(Ok(Some(reply))) = tokio::time::timeout(quiet, self.replies.message()).await {
            let seen = self.seen.entry(reply.watch_id).or_default();
            if reply.created || reply.canceled || reply.compact_revision != 0 {
                seen.push(format!(
                    "created {} canceled {} compacted {} reason {:?}",
                    reply.created, reply.canceled, reply.compact_revision, reply.cancel_reason
                ));
            }
            seen.extend(reply.events.iter().map(|event| format!("{event:?}")));
        }
    }
}
