//! Watches over one stream, which is opened again when it breaks.
//!
//! One task owns the stream and every watcher on it. For each watcher it keeps the revision the next event may
//! have; a new stream registers the watcher from there, so events are neither lost nor seen twice. Watchers are
//! registered one after the other: the server's `created` answers carry no name to tell them apart.
//!
//! A watcher's channel is bounded. A consumer that falls behind stops the stream, and HTTP/2 flow control the
//! server; nothing piles up here.

use super::Client;
use super::call::{Method, Repeat, is_final};
use super::error::{Error, text};
use crate::pb::etcdserverpb as pb;
use pb::watch_request::RequestUnion;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

/// Responses that wait for one consumer.
const RESPONSES_MAX: usize = 128;

/// Requests that wait for the stream.
const REQUESTS_MAX: usize = 64;

/// Pauses before a broken stream is opened again.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// What the server uses as a watch id in answers to all watchers.
const EVERY_WATCHER: i64 = -1;

const WATCH: Method = Method {
    path: "/etcdserverpb.Watch/Watch",
    repeat: Repeat::Unsent,
};

/// One answer of the server to one watcher.
#[derive(Clone, Debug, Default)]
pub struct WatchResponse {
    /// Revision and members.
    pub header: Option<pb::ResponseHeader>,
    /// The changes, oldest first.
    pub events: Vec<crate::pb::Event>,
    /// Not 0: the revision asked for is compacted, this is the oldest there is.
    pub compact_revision: i64,
    /// The last response.
    pub canceled: bool,
    /// Why the watch ended, where the server named a reason or the stream could not be kept.
    pub failure: Option<Error>,
}

impl WatchResponse {
    /// Why this is the last response.
    pub fn error(&self) -> Option<Error> {
        if self.failure.is_some() {
            return self.failure.clone();
        }
        if self.compact_revision != 0 {
            let text = text::COMPACTED.to_owned();
            return Some(Error::Etcd {
                code: Code::OutOfRange,
                text,
            });
        }
        let text = text::FUTURE_REVISION.to_owned();
        self.canceled.then_some(Error::Etcd {
            code: Code::OutOfRange,
            text,
        })
    }

    /// Whether it only says how far the watch has come.
    pub fn is_progress(&self) -> bool {
        self.events.is_empty()
            && !self.canceled
            && self.compact_revision == 0
            && self.header.is_some_and(|header| header.revision != 0)
    }
}

/// A stream that watchers are put on.
#[derive(Clone)]
pub struct WatchStream {
    commands: mpsc::Sender<Command>,
}

/// The events of one watch. Dropping it ends the watch.
pub struct Watcher {
    responses: mpsc::Receiver<WatchResponse>,
    /// Keeps the task alive, and tells it when this watcher is gone.
    commands: mpsc::Sender<Command>,
}

enum Command {
    Watch(pb::WatchCreateRequest, mpsc::Sender<WatchResponse>),
    Progress,
    Dropped,
}

impl Client {
    /// A stream for watches. `require_leader`: it ends when the server it is on has no leader.
    pub fn watch_stream(&self, require_leader: bool) -> WatchStream {
        let (commands, receiver) = mpsc::channel(REQUESTS_MAX);
        let task = Task {
            client: self.clone(),
            require_leader,
            commands: receiver,
            watchers: Vec::new(),
        };
        tokio::spawn(task.run());
        WatchStream { commands }
    }

    /// One watch on a stream of its own.
    pub async fn watch(&self, request: pb::WatchCreateRequest) -> Watcher {
        self.watch_stream(false).watch(request).await
    }
}

impl WatchStream {
    /// Starts a watch. A start revision of 0 means: from now on.
    pub async fn watch(&self, request: pb::WatchCreateRequest) -> Watcher {
        let (sender, responses) = mpsc::channel(RESPONSES_MAX);
        // A task that has ended has dropped the sender, which ends the watcher too.
        let _ = self.commands.send(Command::Watch(request, sender)).await;
        Watcher {
            responses,
            commands: self.commands.clone(),
        }
    }

    /// Asks for a progress answer to all watchers.
    pub async fn request_progress(&self) {
        let _ = self.commands.send(Command::Progress).await;
    }
}

impl Watcher {
    /// The next response; `None`: the watch has ended.
    pub async fn next(&mut self) -> Option<WatchResponse> {
        self.responses.recv().await
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.responses.close();
        // A full queue has the task busy; it notices the closed channel when it next has something to say.
        let _ = self.commands.try_send(Command::Dropped);
    }
}

/// One watch, as the task sees it.
struct Registration {
    /// Its `start_revision` is the revision the next event may have.
    request: pb::WatchCreateRequest,
    /// The server's name for it on the present stream.
    id: Option<i64>,
    responses: mpsc::Sender<WatchResponse>,
    /// The beginning of a response that comes in pieces.
    partial: Option<pb::WatchResponse>,
}

struct Task {
    client: Client,
    require_leader: bool,
    commands: mpsc::Receiver<Command>,
    watchers: Vec<Registration>,
}

/// Why a stream ended.
enum End {
    /// Nobody watches any more.
    Unused,
    Broken(Status),
}

impl Task {
    async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        let mut first = match self.commands.recv().await {
            Some(command) => Some(command),
            None => return,
        };
        loop {
            match self.serve(first.take()).await {
                End::Unused => return,
                End::Broken(status) if is_final(&status) && status.code() != Code::Cancelled => {
                    return self.end_all(&status).await;
                }
                End::Broken(_) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause + pause / 4).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Opens a stream and serves all watchers on it until it ends.
    async fn serve(&mut self, first: Option<Command>) -> End {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        for watcher in &mut self.watchers {
            (watcher.id, watcher.partial) = (None, None);
        }
        self.register_next(&requests).await;
        if let Some(command) = first {
            self.obey(command, &requests).await;
        }
        let client = self.client.clone();
        let opening = client.streams(WATCH, receiver, self.require_leader);
        tokio::pin!(opening);
        let mut stream: Option<Streaming<pb::WatchResponse>> = None;
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => {
                        self.obey(command, &requests).await;
                    }
                    None => return End::Unused,
                },
                opened = &mut opening, if stream.is_none() => match opened {
                    Ok(opened) => stream = Some(opened),
                    Err(status) => return End::Broken(status),
                },
                message = next_message(&mut stream) => match message {
                    Ok(Some(response)) => self.handle(response, &requests).await,
                    Ok(None) => return End::Broken(Status::unavailable("the stream ended")),
                    Err(status) => return End::Broken(status),
                },
            }
        }
    }

    async fn obey(&mut self, command: Command, requests: &mpsc::Sender<pb::WatchRequest>) {
        match command {
            Command::Watch(request, responses) => {
                let registering = self.watchers.iter().any(|watcher| watcher.id.is_none());
                self.watchers.push(Registration {
                    request,
                    id: None,
                    responses,
                    partial: None,
                });
                if !registering {
                    self.register_next(requests).await;
                }
            }
            Command::Progress => {
                let progress = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
                send(requests, progress).await;
            }
            Command::Dropped => {
                for watcher in self
                    .watchers
                    .extract_if(.., |watcher| watcher.responses.is_closed())
                {
                    if let Some(id) = watcher.id {
                        cancel(requests, id).await;
                    }
                }
            }
        }
    }

    async fn register_next(&self, requests: &mpsc::Sender<pb::WatchRequest>) {
        if let Some(next) = self.watchers.iter().find(|watcher| watcher.id.is_none()) {
            send(requests, RequestUnion::CreateRequest(next.request.clone())).await;
        }
    }

    async fn handle(
        &mut self,
        response: pb::WatchResponse,
        requests: &mpsc::Sender<pb::WatchRequest>,
    ) {
        if response.created {
            self.created(response).await;
            self.register_next(requests).await;
            return;
        }
        if response.watch_id == EVERY_WATCHER {
            for watcher in self
                .watchers
                .iter_mut()
                .filter(|watcher| watcher.id.is_some())
            {
                watcher.deliver(response.clone()).await;
            }
            return;
        }
        let found = self
            .watchers
            .iter()
            .position(|w| w.id == Some(response.watch_id));
        let Some(index) = found else {
            return cancel(requests, response.watch_id).await;
        };
        let (canceled, compacted) = (response.canceled, response.compact_revision != 0);
        if !canceled || compacted {
            self.watchers[index].deliver(response).await;
        }
        if canceled {
            self.watchers.swap_remove(index);
        }
    }

    /// The answer to the one registration that is under way.
    async fn created(&mut self, response: pb::WatchResponse) {
        let Some(index) = self
            .watchers
            .iter()
            .position(|watcher| watcher.id.is_none())
        else {
            return;
        };
        if response.watch_id == EVERY_WATCHER
            || (response.canceled && !response.cancel_reason.is_empty())
        {
            let refused = self.watchers.remove(index);
            refused
                .end(Error::from_reason(&response.cancel_reason))
                .await;
            return;
        }
        let watcher = &mut self.watchers[index];
        watcher.id = Some(response.watch_id);
        if watcher.request.start_revision == 0 {
            // A stream that breaks before the first event must not skip what happens meanwhile.
            let now = response.header.unwrap_or_default().revision;
            watcher.request.start_revision = now + 1;
        }
    }

    async fn end_all(self, status: &Status) {
        let error = Error::from_status(status, false);
        for watcher in self.watchers {
            watcher.end(error.clone()).await;
        }
    }
}

impl Registration {
    /// Hands a response on once it is whole, and moves the start of the next registration behind it.
    async fn deliver(&mut self, response: pb::WatchResponse) {
        let whole = match self.partial.take() {
            None => response,
            Some(mut partial) => {
                partial.events.extend(response.events);
                pb::WatchResponse {
                    events: partial.events,
                    ..response
                }
            }
        };
        if whole.fragment {
            self.partial = Some(whole);
            return;
        }
        let revision = whole.header.unwrap_or_default().revision;
        let last = whole.events.last().and_then(|event| event.fields().kv);
        let seen = last.map_or(revision, |pair| pair.fields().mod_revision);
        if !whole.canceled {
            self.request.start_revision = self.request.start_revision.max(seen + 1);
        }
        let response = WatchResponse {
            header: whole.header,
            events: whole.events,
            compact_revision: whole.compact_revision,
            canceled: whole.canceled,
            failure: None,
        };
        // A watcher that is gone is removed when its `Dropped` comes in.
        let _ = self.responses.send(response).await;
    }

    async fn end(self, error: Error) {
        let last = WatchResponse {
            canceled: true,
            failure: Some(error),
            ..WatchResponse::default()
        };
        let _ = self.responses.send(last).await;
    }
}

async fn next_message(
    stream: &mut Option<Streaming<pb::WatchResponse>>,
) -> Result<Option<pb::WatchResponse>, Status> {
    match stream {
        Some(stream) => stream.message().await,
        None => std::future::pending().await,
    }
}

async fn cancel(requests: &mpsc::Sender<pb::WatchRequest>, watch_id: i64) {
    send(
        requests,
        RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }),
    )
    .await;
}

async fn send(requests: &mpsc::Sender<pb::WatchRequest>, request: RequestUnion) {
    // A broken stream reports itself.
    let _ = requests
        .send(pb::WatchRequest {
            request_union: Some(request),
        })
        .await;
}
