//! A lock: the holder is the session whose key under the lock's prefix was created first.
//!
//! A waiter watches only the key created just before its own, so a hand-over wakes one process.

use super::range::prefix_end;
use super::{Client, Error, Session};
use crate::pb::EventType;
use crate::pb::etcdserverpb as pb;
use pb::range_request::{SortOrder, SortTarget};
use pb::{request_op, response_op};
use tokio_util::sync::CancellationToken;

/// A lock on one name, held through one session.
pub struct Mutex<'a> {
    session: &'a Session,
    prefix: Vec<u8>,
    key: Vec<u8>,
    revision: i64,
}

impl<'a> Mutex<'a> {
    /// The lock of this name; nothing happens yet.
    pub fn new(session: &'a Session, name: &[u8]) -> Self {
        let prefix = [name, b"/"].concat();
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

    /// Waits for the lock. When `gave_up` fires first, the place in the queue is given up.
    /// Returns the revision at which it was taken.
    pub async fn lock(&mut self, gave_up: &CancellationToken) -> Result<i64, Error> {
        let client = self.session.client();
        let (header, owner) = or_given_up(gave_up, self.queue_up()).await?;
        if owner.is_none_or(|created| created == self.revision) {
            return Ok(header.revision);
        }
        let waiting = async {
            wait_for_predecessors(client, &self.prefix, self.revision - 1).await?;
            client.range(key_only(&self.key), None).await
        };
        let mine = match or_given_up(gave_up, waiting).await {
            Ok(mine) => mine,
            Err(error) => {
                // The caller hears why it has no lock, not why its key could not be removed.
                let _ = self.unlock().await;
                return Err(error);
            }
        };
        if mine.kvs.is_empty() {
            return Err(Error::Local("mutex: session is expired".to_owned()));
        }
        Ok(mine.header.unwrap_or_default().revision)
    }

    /// Gives the lock, or the place in its queue, up.
    pub async fn unlock(&self) -> Result<(), Error> {
        let request = pb::DeleteRangeRequest {
            key: self.key.clone().into(),
            ..Default::default()
        };
        self.session
            .client()
            .delete_range(request, None)
            .await
            .map(drop)
    }

    /// The key that stands for this holder.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Puts the own key if it is not there, and reads who is first: the creation revision of its key.
    async fn queue_up(&mut self) -> Result<(pb::ResponseHeader, Option<i64>), Error> {
        let first = pb::RangeRequest {
            key: self.prefix.clone().into(),
            range_end: prefix_end(&self.prefix).into(),
            limit: 1,
            sort_order: SortOrder::Ascend as i32,
            sort_target: SortTarget::Create as i32,
            ..Default::default()
        };
        let put = pb::PutRequest {
            key: self.key.clone().into(),
            lease: self.session.lease(),
            ..Default::default()
        };
        let request = pb::TxnRequest {
            compare: vec![is_absent(&self.key)],
            success: vec![
                op(request_op::Request::RequestPut(put)),
                op(request_op::Request::RequestRange(first.clone())),
            ],
            failure: vec![
                op(request_op::Request::RequestRange(key_only(&self.key))),
                op(request_op::Request::RequestRange(first)),
            ],
        };
        let answer = self.session.client().txn(request, None).await?;
        let header = answer.header.unwrap_or_default();
        let mut ranges = answer
            .responses
            .into_iter()
            .map(|response| match response.response {
                Some(response_op::Response::ResponseRange(range)) => range
                    .kvs
                    .into_iter()
                    .next()
                    .map(|pair| pair.into_fields().create_revision),
                _ => None,
            });
        let own = ranges.next().flatten();
        self.revision = match answer.succeeded {
            true => header.revision,
            false => own.unwrap_or(header.revision),
        };
        Ok((header, ranges.next().flatten()))
    }
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
pub(super) async fn wait_for_predecessors(
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
