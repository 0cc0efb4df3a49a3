//! The thread of the watch hub: changes come in from `apply`, requests from streams, deliveries go out to
//! streams' queues.
//!
//! Both inputs share one inbox, so a request that a client makes after its write was answered is handled after
//! that write. Neither side waits: while nobody watches, changes are not even queued, and when too many are
//! queued the newest are left out. The inbox notes the store's revision at both occasions, and the hub takes
//! what it was not told from history.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Failure;
use super::shared::Shared;
use super::watch_stream::{Queue, WatchStream};
use crate::metrics;
use crate::pb::etcdserverpb::WatchCreateRequest;
use crate::store::Change;
use crate::watch::{Delivery, Hub, Outbox, StreamId};

/// Main revisions that may wait for the hub; the rest it reads itself.
const REVISIONS_QUEUED_MAX: usize = 4096;
/// How often the lag of watchers is measured while there is one.
const LAG_INTERVAL: Duration = Duration::from_millis(100);

/// What comes to the hub.
pub(super) enum Input {
    Changes(Arc<[Change]>),
    /// From a stream, when the store was at `revision`.
    Request {
        stream: Arc<Queue>,
        revision: i64,
        request: Request,
    },
    Stop,
}

/// What a stream asks for.
pub(super) enum Request {
    Open,
    Create(WatchCreateRequest),
    Cancel(i64),
    Progress,
    /// A progress interval has passed.
    Interval,
    /// There is room again.
    Drained,
    Close,
}

/// The hub's inbox.
pub(super) struct Inbox {
    state: Mutex<InboxState>,
    ready: Condvar,
}

struct InboxState {
    inputs: Vec<Input>,
    revisions: usize,
    /// The store's revision.
    revision: i64,
    /// Whether changes are wanted.
    watched: bool,
    waiting: bool,
}

impl Inbox {
    fn push(&self, make: impl FnOnce(&mut InboxState) -> Option<Input>) {
        let mut state = self.state.lock();
        if let Some(input) = make(&mut state) {
            state.inputs.push(input);
            if std::mem::take(&mut state.waiting) {
                drop(state);
                self.ready.notify_one();
            }
        }
    }

    pub(super) fn request(&self, stream: &Arc<Queue>, request: Request) {
        self.push(|state| {
            state.watched |= matches!(request, Request::Create(_));
            let (stream, revision) = (stream.clone(), state.revision);
            Some(Input::Request {
                stream,
                revision,
                request,
            })
        });
    }

    /// Moves what came to `inputs`; the store's revision then. Waits for something if asked to, and notes that
    /// changes are not wanted if `watched` is false and nothing came.
    fn take(&self, inputs: &mut Vec<Input>, wait: bool, watched: bool) -> i64 {
        let mut state = self.state.lock();
        if state.inputs.is_empty() && !watched {
            state.watched = false;
        }
        while state.inputs.is_empty() && wait {
            state.waiting = true;
            self.ready.wait(&mut state);
        }
        state.revisions = 0;
        std::mem::swap(&mut state.inputs, inputs);
        state.revision
    }
}

/// The apply thread's end: tells the hub of changes.
pub(crate) struct Changes(Arc<Inbox>);

impl Changes {
    /// Tells the changes of the next main revision, which is published already.
    pub(crate) fn tell(&self, changes: Arc<[Change]>) {
        let Some(revision) = changes.first().map(|change| change.row.revision.main) else {
            return;
        };
        self.0.push(|state| {
            state.revision = revision;
            if !state.watched || state.revisions >= REVISIONS_QUEUED_MAX {
                return None;
            }
            state.revisions += 1;
            Some(Input::Changes(changes))
        });
    }

    /// No more come.
    pub(crate) fn stop(&self) {
        self.0.push(|_| Some(Input::Stop));
    }
}

/// Everyone else's end: opens streams. Cheap to clone.
#[derive(Clone)]
pub struct Watches(Arc<Inbox>);

impl Watches {
    /// Ends for a store at `revision`.
    pub(crate) fn new(revision: i64) -> Self {
        let state = InboxState {
            inputs: Vec::new(),
            revisions: 0,
            revision,
            watched: false,
            waiting: false,
        };
        Self(Arc::new(Inbox {
            state: Mutex::new(state),
            ready: Condvar::new(),
        }))
    }

    /// For the apply thread.
    pub(crate) fn changes(&self) -> Changes {
        Changes(self.0.clone())
    }

    /// A new stream.
    pub fn open(&self) -> WatchStream {
        WatchStream::open(self.0.clone())
    }
}

/// The thread.
pub(crate) struct WatchLoop {
    hub: Hub,
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
    outboxes: Outboxes,
    lag_measured: Instant,
}

/// Streams' queues by id.
#[derive(Default)]
struct Outboxes(Vec<Option<Arc<Queue>>>);

impl Outboxes {
    fn get(&self, id: StreamId) -> Option<&Arc<Queue>> {
        self.0.get(id.0 as usize)?.as_ref()
    }
}

impl Outbox for Outboxes {
    fn try_send(&mut self, id: StreamId, delivery: Delivery) -> bool {
        self.get(id).is_none_or(|queue| queue.try_push(delivery))
    }

    fn send(&mut self, id: StreamId, reply: Delivery) {
        if let Some(queue) = self.get(id) {
            queue.push(reply);
        }
    }
}

impl WatchLoop {
    pub(crate) fn new(watches: &Watches, shared: Arc<Shared>) -> Self {
        Self {
            hub: Hub::new(shared.published.load().mvcc.revision()),
            inbox: watches.0.clone(),
            shared,
            outboxes: Outboxes::default(),
            lag_measured: Instant::now(),
        }
    }

    /// Runs until it is told to stop; then all streams end.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let failed = |error: crate::mvcc::MvccError| Failure {
            thread: "watch",
            reason: format!("history cannot be read: {error}"),
        };
        let mut inputs = Vec::new();
        loop {
            let (wait, watched) = (!self.hub.is_behind(), self.hub.counts().watchers > 0);
            let revision = self.inbox.take(&mut inputs, wait, watched);
            for input in inputs.drain(..) {
                match input {
                    Input::Changes(changes) => {
                        let published = self.shared.published.load();
                        let told = self
                            .hub
                            .publish(&changes, &published.mvcc, &mut self.outboxes);
                        told.map_err(failed)?;
                    }
                    Input::Request {
                        stream,
                        revision,
                        request,
                    } => {
                        self.hub.skip_to(revision);
                        self.serve(&stream, request);
                    }
                    Input::Stop => {
                        self.outboxes
                            .0
                            .iter()
                            .flatten()
                            .for_each(|queue| queue.close());
                        return Ok(());
                    }
                }
            }
            self.hub.skip_to(revision);
            if self.hub.is_behind() {
                let published = self.shared.published.load();
                let step = self.hub.catch_up(&published.mvcc, &mut self.outboxes);
                step.map_err(failed)?;
            }
            self.measure();
        }
    }

    fn serve(&mut self, stream: &Arc<Queue>, request: Request) {
        let id = StreamId(stream.id());
        match request {
            Request::Open => {
                let id = self.hub.open();
                stream.set_id(id.0);
                let slot = id.0 as usize;
                if self.outboxes.0.len() <= slot {
                    self.outboxes.0.resize(slot + 1, None);
                }
                self.outboxes.0[slot] = Some(stream.clone());
            }
            Request::Create(request) => self.hub.create(id, &request, &mut self.outboxes),
            Request::Cancel(watch_id) => self.hub.cancel(id, watch_id, &mut self.outboxes),
            Request::Progress => self.hub.progress(id, &mut self.outboxes),
            Request::Interval => self.hub.progress_interval(id, &mut self.outboxes),
            Request::Drained => self.hub.drained(id),
            Request::Close => {
                self.hub.close(id);
                if let Some(slot) = self.outboxes.0.get_mut(id.0 as usize) {
                    *slot = None;
                }
            }
        }
    }

    fn measure(&mut self) {
        let (metrics, counts) = (metrics::global(), self.hub.counts());
        metrics.watch_streams.set(counts.streams as i64);
        metrics.watchers.set(counts.watchers as i64);
        let was_behind = metrics.slow_watchers.get() > 0;
        metrics.slow_watchers.set(counts.unsynced as i64);
        // It takes a look at every stream.
        let is_behind = counts.unsynced > 0;
        if (is_behind || was_behind) && (!is_behind || self.lag_measured.elapsed() >= LAG_INTERVAL)
        {
            self.lag_measured = Instant::now();
            metrics.watcher_lag.set(self.hub.lag_revisions());
        }
    }
}
