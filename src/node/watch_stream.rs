//! A watch stream's end of the hub: requests in, deliveries out of a bounded queue.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::watch::{Inbox, Request};
use crate::metrics;
use crate::pb::etcdserverpb::WatchCreateRequest;
use crate::watch::Delivery;

/// Deliveries that may wait in a stream's queue.
const DELIVERIES_QUEUED_MAX: usize = 128;
/// Bytes that may wait there, unless it is a single delivery.
const BYTES_QUEUED_MAX: usize = 4 << 20;

/// Deliveries on their way to one stream.
pub(super) struct Queue {
    /// The stream's id; set by the hub with its first request.
    id: AtomicU32,
    state: Mutex<QueueState>,
}

#[derive(Default)]
struct QueueState {
    deliveries: VecDeque<Delivery>,
    bytes: usize,
    waker: Option<Waker>,
    /// Something did not fit: the hub waits to hear of room.
    refused: bool,
    closed: bool,
}

impl Queue {
    pub(super) fn id(&self) -> u32 {
        self.id.load(Ordering::Relaxed)
    }

    pub(super) fn set_id(&self, id: u32) {
        self.id.store(id, Ordering::Relaxed);
    }

    /// Adds a delivery if there is room.
    pub(super) fn try_push(&self, delivery: Delivery) -> bool {
        let mut state = self.state.lock();
        let bytes = delivery.bytes();
        let full = state.deliveries.len() >= DELIVERIES_QUEUED_MAX
            || state.bytes > 0 && state.bytes + bytes > BYTES_QUEUED_MAX;
        if full {
            state.refused = true;
            return false;
        }
        metrics::global()
            .pending_events
            .add(delivery.events() as i64);
        state.bytes += bytes;
        state.deliveries.push_back(delivery);
        let waker = state.waker.take();
        drop(state);
        wake(waker);
        true
    }

    /// Adds a delivery, room or not.
    pub(super) fn push(&self, delivery: Delivery) {
        let mut state = self.state.lock();
        state.deliveries.push_back(delivery);
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }

    /// Nothing more comes.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        wake(state.waker.take());
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A watch stream. Dropping it ends its watchers.
pub struct WatchStream {
    inbox: Arc<Inbox>,
    queue: Arc<Queue>,
    /// Taken from the queue and not yet handed out.
    taken: VecDeque<Delivery>,
}

impl WatchStream {
    pub(super) fn open(inbox: Arc<Inbox>) -> Self {
        let queue = Arc::new(Queue {
            id: AtomicU32::new(u32::MAX),
            state: Mutex::new(QueueState::default()),
        });
        inbox.request(&queue, Request::Open);
        Self {
            inbox,
            queue,
            taken: VecDeque::new(),
        }
    }

    /// Asks for a watcher. There is always a reply, however many events wait: bound the requests that are open.
    pub fn create(&self, request: WatchCreateRequest) {
        self.inbox.request(&self.queue, Request::Create(request));
    }

    /// Ends a watcher. No reply comes for an unknown id.
    pub fn cancel(&self, watch_id: i64) {
        self.inbox.request(&self.queue, Request::Cancel(watch_id));
    }

    /// Asks how far all watchers are. No reply comes while one is behind.
    pub fn progress(&self) {
        self.inbox.request(&self.queue, Request::Progress);
    }

    /// A progress interval has passed.
    pub fn progress_interval(&self) {
        self.inbox.request(&self.queue, Request::Interval);
    }

    /// The next delivery; `None` when the member stops.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        if self.taken.is_empty() {
            let mut state = self.queue.state.lock();
            if state.deliveries.is_empty() {
                if state.closed {
                    return Poll::Ready(None);
                }
                match &mut state.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                return Poll::Pending;
            }
            std::mem::swap(&mut state.deliveries, &mut self.taken);
            state.bytes = 0;
            let refused = std::mem::take(&mut state.refused);
            drop(state);
            if refused {
                self.inbox.request(&self.queue, Request::Drained);
            }
        }
        let next = self.taken.pop_front();
        let events = next.as_ref().map_or(0, Delivery::events);
        if events > 0 {
            metrics::global().pending_events.add(-(events as i64));
            metrics::global().watch_events.add(events as u64);
        }
        Poll::Ready(next)
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.inbox.request(&self.queue, Request::Close);
        let queued = self
            .queue
            .state
            .lock()
            .deliveries
            .iter()
            .map(Delivery::events)
            .sum::<usize>();
        let taken = self.taken.iter().map(Delivery::events).sum::<usize>();
        metrics::global()
            .pending_events
            .add(-((queued + taken) as i64));
    }
}
