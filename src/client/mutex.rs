//! A lock: the holder is the session whose turn it is in the lock's queue.

use super::queue::{Place, first, found, is_absent, key_only, op, or_given_up};
use super::{Error, Session};
use crate::pb::KeyValue;
use crate::pb::etcdserverpb as pb;
use pb::request_op::Request;
use tokio_util::sync::CancellationToken;

/// A lock on one name, held through one session.
pub struct Mutex<'a> {
    place: Place<'a>,
}

impl<'a> Mutex<'a> {
    /// The lock of this name; nothing happens yet.
    pub fn new(session: &'a Session, name: &[u8]) -> Self {
        let place = Place::new(session, name);
        Self { place }
    }

    /// Waits for the lock. When `gave_up` fires first, the place in the queue is given up.
    /// Returns the revision at which it was taken.
    pub async fn lock(&mut self, gave_up: &CancellationToken) -> Result<i64, Error> {
        let (header, owner) = or_given_up(gave_up, self.queue_up()).await?;
        if owner.is_none_or(|created| created == self.place.revision) {
            return Ok(header.revision);
        }
        let client = self.place.session.client();
        let waiting = async {
            self.place.turn().await?;
            client.range(key_only(&self.place.key), None).await
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
        let client = self.place.session.client();
        client
            .delete_range(self.place.delete(), None)
            .await
            .map(drop)
    }

    /// The key that stands for this holder.
    pub fn key(&self) -> &[u8] {
        &self.place.key
    }

    /// Puts the own key if it is not there, and reads who is first: the creation revision of its key.
    async fn queue_up(&mut self) -> Result<(pb::ResponseHeader, Option<i64>), Error> {
        let place = &mut self.place;
        let first = op(Request::RequestRange(first(&place.prefix)));
        let own = op(Request::RequestRange(key_only(&place.key)));
        let request = pb::TxnRequest {
            compare: vec![is_absent(&place.key)],
            success: vec![op(Request::RequestPut(place.put(b""))), first.clone()],
            failure: vec![own, first],
        };
        let answer = place.session.client().txn(request, None).await?;
        let header = answer.header.unwrap_or_default();
        let mut created = found(answer.responses)
            .map(|pair| pair.map(|pair: KeyValue| pair.into_fields().create_revision));
        place.revision = match answer.succeeded {
            true => header.revision,
            false => created.next().flatten().unwrap_or(header.revision),
        };
        Ok((header, created.next().flatten()))
    }
}
