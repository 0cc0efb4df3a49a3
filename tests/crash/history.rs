//! Everything that has happened, as watchers have seen it: one event per revision, since each request here changes
//! one key.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use etcd::pb::etcdserverpb as pb;
use etcd::pb::{EventType, KeyValue, KeyValueFields};
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tokio_stream::StreamExt;
use tonic::transport::Channel;

use crate::WATCHERS;
use crate::writers::Put;

/// What a revision did.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    key: Bytes,
    /// Value and lease; `None` when the key was deleted.
    put: Option<(Bytes, i64)>,
}

/// The history; the watchers write it together.
#[derive(Debug, Default)]
pub struct History {
    /// From revision [`History::FIRST`] on.
    events: Vec<Event>,
    /// Key to its last revision.
    state: BTreeMap<Bytes, i64>,
    /// How many of the events each watcher has seen.
    seen: [usize; WATCHERS],
}

/// A history in several hands.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<History>>);

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History {
    /// The revision of the first change of a new store.
    pub const FIRST: i64 = 2;

    /// The last revision any watcher has seen.
    pub fn revision(&self) -> i64 {
        Self::FIRST - 1 + self.events.len() as i64
    }

    /// The last revision every watcher has seen.
    pub fn seen_by_all(&self) -> i64 {
        Self::FIRST - 1 + self.seen.iter().min().copied().unwrap_or(0) as i64
    }

    /// The last number a writer has got into the store.
    pub fn number(&self, key: &Bytes) -> u64 {
        let revision = self.state.get(key).copied();
        let event = revision.and_then(|revision| self.at(revision));
        event.map_or(0, Event::number)
    }

    /// Whether the put is in the history.
    pub fn check_put(&self, put: &Put) -> Result<(), String> {
        let event = self.at(put.revision);
        let found = event.is_some_and(|event| {
            event.key == put.key && event.put.is_some() && event.number() == put.number
        });
        match found {
            true => Ok(()),
            false => Err(format!(
                "lost: {put:?} was acknowledged, that revision has {event:?}"
            )),
        }
    }

    /// Whether the store is what the history adds up to.
    pub fn check_state(&self, stored: &[KeyValue]) -> Result<(), String> {
        let mut expected = self.state.iter();
        for pair in stored {
            let KeyValueFields {
                key,
                value,
                mod_revision,
                lease,
                ..
            } = pair.fields();
            let next = expected.next();
            let event = next.and_then(|(_, revision)| self.at(*revision));
            let put = Some((value, lease));
            if next != Some((&key, &mod_revision)) || event.is_none_or(|event| event.put != put) {
                return Err(format!(
                    "{key:?} has {put:?} of revision {mod_revision}, expected {next:?} {event:?}"
                ));
            }
        }
        match expected.next() {
            None => Ok(()),
            Some(missing) => Err(format!("lost: {missing:?}")),
        }
    }

    fn at(&self, revision: i64) -> Option<&Event> {
        let at = usize::try_from(revision - Self::FIRST).ok()?;
        self.events.get(at)
    }

    /// A watcher was told of an event.
    fn tell(&mut self, watcher: usize, revision: i64, event: Event) -> Result<(), String> {
        let at = self.seen[watcher];
        let expected = Self::FIRST + at as i64;
        if revision != expected {
            return Err(format!(
                "watcher {watcher} got revision {revision} where {expected} was due"
            ));
        }
        match self.events.get(at) {
            Some(known) if *known == event => {}
            Some(known) => {
                return Err(format!(
                    "revision {revision} was {known:?}, now it is {event:?}"
                ));
            }
            None => self.push(revision, event)?,
        }
        self.seen[watcher] += 1;
        Ok(())
    }

    fn push(&mut self, revision: i64, event: Event) -> Result<(), String> {
        if event.key.starts_with(b"writer/") && event.number() != self.number(&event.key) + 1 {
            return Err(format!(
                "revision {revision} has {event:?} after number {}",
                self.number(&event.key)
            ));
        }
        match event.put {
            Some(_) => self.state.insert(event.key.clone(), revision),
            None => self.state.remove(&event.key),
        };
        self.events.push(event);
        Ok(())
    }
}

impl Event {
    /// The number a writer put; 0 for anything else.
    fn number(&self) -> u64 {
        let value = self.put.as_ref().map(|(value, _)| value.as_ref());
        let text = std::str::from_utf8(value.unwrap_or_default());
        text.ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or_default()
    }
}

/// Watches all keys from where this watcher stopped, until the server is gone.
pub async fn watch_until_gone(
    channel: Channel,
    watcher: usize,
    history: Shared,
) -> Result<(), String> {
    let start = History::FIRST + history.lock().seen[watcher] as i64;
    let create = pb::WatchCreateRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        start_revision: start,
        // Half of them may get a revision's events in pieces.
        fragment: watcher % 2 == 1,
        ..pb::WatchCreateRequest::default()
    };
    let request_union = Some(RequestUnion::CreateRequest(create));
    // The request side stays open: its end would end the watch.
    let requests = tokio_stream::once(pb::WatchRequest { request_union });
    let requests = requests.chain(tokio_stream::pending());
    let mut client = WatchClient::new(channel).max_decoding_message_size(1 << 30);
    let Ok(replies) = client.watch(requests).await else {
        return Ok(());
    };
    let mut replies = replies.into_inner();
    while let Ok(Some(reply)) = replies.message().await {
        if reply.canceled {
            return Err(format!("watcher {watcher} was cancelled: {reply:?}"));
        }
        let mut history = history.lock();
        for event in reply.events {
            let fields = event.fields();
            let Some(pair) = fields.kv.as_ref().map(KeyValue::fields) else {
                return Err(format!("an event without a key: {fields:?}"));
            };
            let is_put = fields.r#type == EventType::Put as i32;
            let event = Event {
                key: pair.key,
                put: is_put.then_some((pair.value, pair.lease)),
            };
            history.tell(watcher, pair.mod_revision, event)?;
        }
    }
    Ok(())
}
