//! A queue of sessions: each puts a key under a prefix, and whose was created first has its turn.
//!
//! Whoever waits watches only the key created just before its own, so a hand-over wakes one process.

use super::range::prefix_end;
use super::{Client, Error, Session};
use crate::pb::etcdserverpb as pb;
use crate::pb::{EventType, KeyValue};
use pb::range_request::{SortOrder, SortTarget};
use pb::{request_op, response_op};
use tokio_util::sync::CancellationToken;

/// A session's place in a queue, or where it would be.
pub(super) struct Place<'a> {
    /// Whose it is.
    pub session: &'a Session,
    /// What the keys of all begin with.
    pub prefix: Vec<u8>,
    /// The key that stands for this session.
    pub key: Vec<u8>,
    /// At which that key was created; 0: it was not.
    pub revision: i64,
}

impl<'a> Place<'a> {
    /// The place in the queue of this name; nothing happens yet.
    pub(super) fn new(session: &'a Session, name: &[u8]) -> Self {
        let prefix = prefix_of(name);
        let key = [
            prefix.as_slice(),
            format!("{:x}", session.lease()).as_bytes(),
        ]
        .concat();
        Self {
            session,
            prefix,
            key,
            revision: 0,
        }
    }

    /// Puts the key, which goes with the session.
    pub(super) fn put(&self, value: &[u8]) -> pb::PutRequest {
        pb::PutRequest {
            key: self.key.clone().into(),
            value: value.to_vec().into(),
            lease: self.session.lease(),
            ..Default::default()
        }
    }

    /// Deletes the key.
    pub(super) fn delete(&self) -> pb::DeleteRangeRequest {
        pb::DeleteRangeRequest {
            key: self.key.clone().into(),
            ..Default::default()
        }
    }

    /// Waits until no key created before this one is left.
    pub(super) async fn turn(&self) -> Result<(), Error> {
        wait_for_predecessors(self.session.client(), &self.prefix, self.revision - 1).await
    }
}

/// What the keys of a queue begin with.
pub(super) fn prefix_of(name: &[u8]) -> Vec<u8> {
    [name, b"/"].concat()
}

/// Reads whose turn it is.
pub(super) fn first(prefix: &[u8]) -> pb::RangeRequest {
    pb::RangeRequest {
        key: prefix.to_vec().into(),
        range_end: prefix_end(prefix).into(),
        limit: 1,
        sort_order: SortOrder::Ascend as i32,
        sort_target: SortTarget::Create as i32,
        ..Default::default()
    }
}

/// The first pair that each read of a transaction found.
pub(super) fn found(responses: Vec<pb::ResponseOp>) -> impl Iterator<Item = Option<KeyValue>> {
    let ranges = responses
        .into_iter()
        .filter_map(|response| match response.response {
            Some(response_op::Response::ResponseRange(range)) => Some(range.kvs),
            _ => None,
        });
    ranges.map(|pairs| pairs.into_iter().next())
}

/// A comparison that holds when a key does not exist.
pub(super) fn is_absent(key: &[u8]) -> pb::Compare {
    created_at(key, 0)
}

/// A comparison that holds when a key was created at this revision.
pub(super) fn created_at(key: &[u8], revision: i64) -> pb::Compare {
    pb::Compare {
        result: pb::compare::CompareResult::Equal as i32,
        target: pb::compare::CompareTarget::Create as i32,
        key: key.to_vec().into(),
        range_end: Default::default(),
        target_union: Some(pb::compare::TargetUnion::CreateRevision(revision)),
    }
}

/// One operation of a transaction.
pub(super) fn op(request: request_op::Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

/// Reads one key.
pub(super) fn key_only(key: &[u8]) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.to_vec().into(),
        ..Default::default()
    }
}

/// Does the work unless the caller gives up first.
pub(super) async fn or_given_up<T>(
    gave_up: &CancellationToken,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        () = gave_up.cancelled() => Err(Error::Canceled),
        done = work => done,
    }
}

/// Waits until no key of the prefix created at or before this revision is left.
async fn wait_for_predecessors(
    client: &Client,
    prefix: &[u8],
    create_revision_max: i64,
) -> Result<(), Error> {
    loop {
        let request = pb::RangeRequest {
            key: prefix.to_vec().into(),
            range_end: prefix_end(prefix).into(),
            limit: 1,
            sort_order: SortOrder::Descend as i32,
            sort_target: SortTarget::Create as i32,
            max_create_revision: create_revision_max,
            ..Default::default()
        };
        let answer = client.range(request, None).await?;
        let Some(predecessor) = answer.kvs.into_iter().next() else {
            return Ok(());
        };
        let revision = answer.header.unwrap_or_default().revision;
        wait_for_delete(client, predecessor.into_fields().key, revision).await?;
    }
}

async fn wait_for_delete(client: &Client, key: bytes::Bytes, from: i64) -> Result<(), Error> {
    let request = pb::WatchCreateRequest {
        key,
        start_revision: from,
        ..Default::default()
    };
    let mut watcher = client.watch(request).await;
    while let Some(response) = watcher.next().await {
        if let Some(error) = response.error() {
            return Err(error);
        }
        if response
            .events
            .into_iter()
            .any(|e| e.into_fields().r#type() == EventType::Delete)
        {
            return Ok(());
        }
    }
    Err(Error::Local("lost watcher waiting for delete".to_owned()))
}
