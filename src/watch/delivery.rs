//! What the hub hands to a stream, and the one encoding of an event.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::pb::EventType;
use crate::store::RevisionRow;

/// Field numbers of `WatchResponse.events`, and of `Event` and `KeyValue`.
const EVENTS: u32 = 11;
const EVENT_TYPE: u32 = 1;
const EVENT_KV: u32 = 2;
const EVENT_PREV_KV: u32 = 3;
const KV_KEY: u32 = 1;
const KV_MOD_REVISION: u32 = 3;

/// One thing for a stream to tell its client. Revisions are those of the response's header.
#[derive(Clone, Debug, PartialEq)]
pub enum Delivery {
    /// A watcher was created.
    Created {
        /// Its id.
        watch_id: i64,
        /// The store's revision.
        revision: i64,
    },
    /// A watcher could not be created.
    Refused {
        /// Why.
        refusal: Refusal,
        /// The store's revision.
        revision: i64,
    },
    /// A watcher was cancelled as asked.
    Canceled {
        /// Its id.
        watch_id: i64,
        /// The store's revision.
        revision: i64,
    },
    /// A watcher ended because changes it had not heard of were compacted.
    Compacted {
        /// Its id.
        watch_id: i64,
        /// What is older is gone.
        compact_revision: i64,
    },
    /// Everything up to `revision` has been told.
    Progress {
        /// The watcher this is about; `None` for all of the stream.
        watch_id: Option<i64>,
        /// Up to here.
        revision: i64,
    },
    /// Changes.
    Events(Events),
}

/// Why there is no watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It was to start below every revision.
    Compacted,
    /// Its range holds no key.
    EmptyRange,
    /// Its id is in use.
    DuplicateId,
}

/// Changes for some watchers of one stream: for each a part, to be sent as a response of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Events {
    /// The revision of the responses' headers.
    pub revision: i64,
    /// Encoded events, shared with other streams: each is a whole `events` field of a response.
    pub fields: Arc<[Bytes]>,
    /// Indices into `fields`, the watchers' shares one after the other.
    pub shares: Vec<u32>,
    /// Who gets how much of `shares`.
    pub parts: Vec<Part>,
}

/// One watcher's share of [`Events`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The watcher's id.
    pub watch_id: i64,
    /// Whether its client takes big responses in pieces.
    pub fragment: bool,
    /// Its events, how many of [`Events::shares`].
    pub events: u32,
}

impl Events {
    /// Every part with its encoded events.
    pub fn parts(&self) -> impl Iterator<Item = (Part, impl ExactSizeIterator<Item = &Bytes>)> {
        let mut at = 0;
        self.parts.iter().map(move |part| {
            let share = at..at + part.events as usize;
            at = share.end;
            (
                *part,
                self.shares[share]
                    .iter()
                    .map(|field| &self.fields[*field as usize]),
            )
        })
    }
}

impl Delivery {
    /// Roughly the memory this keeps alive while it waits.
    pub fn bytes(&self) -> usize {
        let Self::Events(events) = self else {
            return size_of::<Self>();
        };
        size_of::<Self>()
            + size_of_val(events.parts.as_slice())
            + size_of_val(events.shares.as_slice())
            + events.fields.iter().map(Bytes::len).sum::<usize>()
    }

    /// Number of events in it.
    pub fn events(&self) -> usize {
        if let Self::Events(events) = self {
            events.shares.len()
        } else {
            0
        }
    }
}

/// Encodes one event as a field of a watch response. `record` is the stored pair; the event of a deletion has
/// key and revision alone.
pub(super) fn encode_event(row: &RevisionRow, record: &[u8], prev: Option<&[u8]>) -> Bytes {
    let main_revision = row.revision.main as u64;
    let kv_bytes = match row.tombstone {
        true => field_bytes(row.key.len()) + 1 + encoded_len_varint(main_revision),
        false => record.len(),
    };
    let event_bytes = if row.tombstone { 2 } else { 0 }
        + field_bytes(kv_bytes)
        + prev.map_or(0, |prev| field_bytes(prev.len()));

    let mut out = BytesMut::with_capacity(field_bytes(event_bytes));
    encode_head(EVENTS, event_bytes, &mut out);
    if row.tombstone {
        encode_key(EVENT_TYPE, WireType::Varint, &mut out);
        encode_varint(EventType::Delete as u64, &mut out);
        encode_head(EVENT_KV, kv_bytes, &mut out);
        encode_head(KV_KEY, row.key.len(), &mut out);
        out.put_slice(&row.key);
        encode_key(KV_MOD_REVISION, WireType::Varint, &mut out);
        encode_varint(main_revision, &mut out);
    } else {
        encode_head(EVENT_KV, kv_bytes, &mut out);
        out.put_slice(record);
    }
    if let Some(prev) = prev {
        encode_head(EVENT_PREV_KV, prev.len(), &mut out);
        out.put_slice(prev);
    }
    out.freeze()
}

fn encode_head(field: u32, content_bytes: usize, out: &mut BytesMut) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(content_bytes as u64, out);
}

/// Bytes of a length-delimited field with a one-byte key.
fn field_bytes(content: usize) -> usize {
    1 + encoded_len_varint(content as u64) + content
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::pb::KeyValueFields;
    use crate::pb::etcdserverpb::WatchResponse;
    use crate::types::Revision;

    fn row(main: i64, tombstone: bool) -> RevisionRow {
        RevisionRow {
            revision: Revision::new(main, 0),
            tombstone,
            key: "k".into(),
            create_revision: main,
            version: 1,
            lease: 0,
            record_bytes: 0,
        }
    }

    #[test]
    fn an_encoded_event_is_a_field_of_a_response() {
        let pair = KeyValueFields {
            key: "k".into(),
            mod_revision: 900,
            value: vec![7; 300].into(),
            ..Default::default()
        };
        let record = pair.encode_to_vec();
        let put = encode_event(&row(900, false), &record, None);
        let gone = encode_event(&row(901, true), &[], Some(&record));
        assert_eq!(put.len(), field_bytes(field_bytes(record.len())));

        let response = WatchResponse::decode(&[put, gone].concat()[..]).unwrap();
        let [put, gone] = response.events.try_into().unwrap();
        assert_eq!(put.fields().r#type(), EventType::Put);
        assert_eq!(put.fields().kv.unwrap().encoded(), record);
        assert_eq!(put.fields().prev_kv, None);
        assert_eq!(gone.fields().r#type(), EventType::Delete);
        let key_and_revision = KeyValueFields {
            key: "k".into(),
            mod_revision: 901,
            ..Default::default()
        };
        assert_eq!(gone.fields().kv.unwrap().fields(), key_and_revision);
        assert_eq!(gone.fields().prev_kv.unwrap().encoded(), record);
    }
}
