//! Clients that put ascending numbers, one at a time.

use bytes::Bytes;
use etcd::pb::etcdserverpb as pb;
use pb::kv_client::KvClient;
use tonic::transport::Channel;

/// An acknowledged put.
#[derive(Debug)]
pub struct Put {
    pub key: Bytes,
    pub number: u64,
    pub revision: i64,
}

/// Puts the numbers behind `from` until the server is gone. Returns what was acknowledged.
pub async fn write_until_gone(channel: Channel, key: Bytes, from: u64) -> Vec<Put> {
    let mut client = KvClient::new(channel);
    let mut acknowledged = Vec::new();
    for number in from + 1.. {
        let put = pb::PutRequest {
            key: key.clone(),
            value: Bytes::from(number.to_string()),
            ..pb::PutRequest::default()
        };
        let Ok(reply) = client.put(put).await else {
            break;
        };
        let revision = reply.into_inner().header.map_or(0, |h| h.revision);
        let key = key.clone();
        acknowledged.push(Put {
            key,
            number,
            revision,
        });
    }
    acknowledged
}
