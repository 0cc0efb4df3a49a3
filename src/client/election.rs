//! An election: the leader is the candidate whose turn it is in the election's queue.

use super::queue::{
    Place, created_at, first, found, is_absent, key_only, op, or_given_up, prefix_of,
};
use super::range::prefix_end;
use super::{Client, Error, Session};
use crate::pb::etcdserverpb as pb;
use crate::pb::{EventFields, EventType, KeyValue};
use pb::request_op::Request;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A candidate in one election.
pub struct Election<'a> {
    place: Place<'a>,
}

impl<'a> Election<'a> {
    /// The election of this name; nothing happens yet.
    pub fn new(session: &'a Session, name: &[u8]) -> Self {
        let place = Place::new(session, name);
        Self { place }
    }

    /// Stands with a proposal and waits to be elected. When `gave_up` fires first, the candidacy ends.
    pub async fn campaign(
        &mut self,
        proposal: &[u8],
        gave_up: &CancellationToken,
    ) -> Result<(), Error> {
        or_given_up(gave_up, self.stand(proposal)).await?;
        let elected = or_given_up(gave_up, self.place.turn()).await;
        if elected == Err(Error::Canceled) {
            // The caller hears that it was not elected, not why its key could not be removed.
            let _ = self.resign().await;
        }
        elected
    }

    /// Gives leadership or candidacy up.
    pub async fn resign(&self) -> Result<(), Error> {
        let place = &self.place;
        let request = pb::TxnRequest {
            compare: vec![created_at(&place.key, place.revision)],
            success: vec![op(Request::RequestDeleteRange(place.delete()))],
            failure: Vec::new(),
        };
        place.session.client().txn(request, None).await.map(drop)
    }

    /// The key that stands for this candidate.
    pub fn key(&self) -> &[u8] {
        &self.place.key
    }

    async fn stand(&mut self, proposal: &[u8]) -> Result<(), Error> {
        let place = &mut self.place;
        let put = place.put(proposal);
        let request = pb::TxnRequest {
            compare: vec![is_absent(&place.key)],
            success: vec![op(Request::RequestPut(put.clone()))],
            failure: vec![op(Request::RequestRange(key_only(&place.key)))],
        };
        let client = place.session.client();
        let answer = client.txn(request, None).await?;
        place.revision = answer.header.unwrap_or_default().revision;
        // The key is there already: an attempt whose answer was lost put it.
        if let Some(own) = found(answer.responses).flatten().next() {
            let own = own.into_fields();
            place.revision = own.create_revision;
            if own.value != proposal {
                client.put(put, None).await?;
            }
        }
        Ok(())
    }
}

/// Sends each leader of an election, the present one first, until the receiver is dropped or the watch is lost.
pub(super) async fn observe(
    client: Client,
    prefix: Vec<u8>,
    leaders: mpsc::Sender<pb::RangeResponse>,
) -> Result<(), Error> {
    loop {
        let answer = client.range(first(&prefix), None).await?;
        let mut header = answer.header.unwrap_or_default();
        let leader = match answer.kvs.into_iter().next() {
            Some(leader) => leader,
            None => {
                let (at, leader) = first_put(&client, &prefix, header).await?;
                header = at;
                leader
            }
        };
        if report(&leaders, header, leader.clone()).await.is_err() {
            return Ok(());
        }
        let request = pb::WatchCreateRequest {
            key: leader.fields().key,
            start_revision: header.revision + 1,
            ..Default::default()
        };
        let mut watcher = client.watch(request).await;
        'watching: loop {
            let response = watcher.next().await.ok_or_else(lost)?;
            for event in response.events {
                let EventFields { r#type, kv, .. } = event.into_fields();
                if r#type == EventType::Delete as i32 {
                    break 'watching;
                }
                let header = response.header.unwrap_or_default();
                if report(&leaders, header, kv.unwrap_or_default())
                    .await
                    .is_err()
                {
                    return Ok(());
                }
            }
        }
    }
}

async fn first_put(
    client: &Client,
    prefix: &[u8],
    header: pb::ResponseHeader,
) -> Result<(pb::ResponseHeader, KeyValue), Error> {
    let request = pb::WatchCreateRequest {
        key: prefix.to_vec().into(),
        range_end: prefix_end(prefix).into(),
        start_revision: header.revision,
        ..Default::default()
    };
    let mut watcher = client.watch(request).await;
    loop {
        let response = watcher.next().await.ok_or_else(lost)?;
        if let Some(error) = response.error() {
            return Err(error);
        }
        let put = response
            .events
            .into_iter()
            .map(crate::pb::Event::into_fields);
        let put = put
            .filter(|event| event.r#type() == EventType::Put)
            .find_map(|event| event.kv);
        if let Some(leader) = put {
            let mut header = response.header.unwrap_or_default();
            header.revision = leader.fields().mod_revision;
            return Ok((header, leader));
        }
    }
}

async fn report(
    leaders: &mpsc::Sender<pb::RangeResponse>,
    header: pb::ResponseHeader,
    leader: KeyValue,
) -> Result<(), mpsc::error::SendError<pb::RangeResponse>> {
    let answer = pb::RangeResponse {
        header: Some(header),
        kvs: vec![leader],
        more: false,
        count: 0,
    };
    leaders.send(answer).await
}

fn lost() -> Error {
    Error::Local("elect: observer lost".to_owned())
}

impl Client {
    /// The leaders of an election as they come.
    pub fn observe_election(&self, name: &[u8]) -> mpsc::Receiver<pb::RangeResponse> {
        let (leaders, receiver) = mpsc::channel(1);
        tokio::spawn(observe(self.clone(), prefix_of(name), leaders));
        receiver
    }
}
