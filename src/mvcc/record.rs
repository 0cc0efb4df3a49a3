//! Records: the encoded `mvccpb.KeyValue` that is stored and served for a revision.

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::MvccError;
use super::keys::KeyRef;
use crate::pb::{KeyValue, KeyValueFields};
use crate::types::Revision;

/// What a stored revision costs besides its key and record: an element header of a database page.
const ELEMENT_BYTES: u64 = 16;

/// What a stored revision counts against the quota, in bytes.
pub(super) fn stored_bytes(record_bytes: u32, tombstone: bool) -> u64 {
    Revision::KEY_BYTES as u64 + u64::from(tombstone) + u64::from(record_bytes) + ELEMENT_BYTES
}

/// The part of a record that holds the key, without a copy.
pub(super) fn key_of(record: &Bytes, key_bytes: usize) -> Bytes {
    let start = 1 + prost::encoding::encoded_len_varint(key_bytes as u64);
    record.slice(start..start + key_bytes)
}

/// A tombstone's record.
pub(super) fn tombstone(key: &[u8]) -> Bytes {
    let pair = IndexPair {
        key: key.to_vec(),
        ..IndexPair::default()
    };
    pair.encode_to_vec().into()
}

/// The fields of a record. Only records this program wrote or checked get here, so a failure is damage.
pub(super) fn fields(revision: Revision, record: &Bytes) -> Result<KeyValueFields, MvccError> {
    KeyValueFields::decode(record.clone()).map_err(|_| MvccError::Broken {
        revision,
        reason: "its record is no KeyValue",
    })
}

/// `mvccpb.KeyValue` without what the index does not know.
#[derive(Clone, PartialEq, Message)]
struct IndexPair {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(int64, tag = "2")]
    create_revision: i64,
    #[prost(int64, tag = "3")]
    mod_revision: i64,
    #[prost(int64, tag = "4")]
    version: i64,
}

/// Encodes pairs without value and lease, many into one buffer.
#[derive(Default)]
pub(super) struct KeysOnly {
    scratch: IndexPair,
    buffer: BytesMut,
}

/// Bytes a buffer for [`KeysOnly`] is extended by.
const BUFFER_BYTES: usize = 4096;

impl KeysOnly {
    pub(super) fn pair(
        &mut self,
        key: KeyRef<'_>,
        create_revision: i64,
        mod_revision: i64,
        version: i64,
    ) -> KeyValue {
        self.scratch.key.clear();
        key.append_to(&mut self.scratch.key);
        self.scratch.create_revision = create_revision;
        self.scratch.mod_revision = mod_revision;
        self.scratch.version = version;
        let length = self.scratch.encoded_len();
        if self.buffer.capacity() < length {
            self.buffer = BytesMut::with_capacity(length.max(BUFFER_BYTES));
        }
        self.scratch.encode_raw(&mut self.buffer);
        KeyValue::from_encoded(self.buffer.split().freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_its_record() {
        for length in [1, 127, 128, 20_000] {
            let key = vec![b'k'; length];
            assert_eq!(key_of(&tombstone(&key), length), key);
        }
    }

    #[test]
    fn keys_only_pairs_share_a_buffer_and_decode() {
        let mut keys = KeysOnly::default();
        for number in 0..1000i64 {
            let key = format!("key {number}");
            let pair = keys.pair(key.as_bytes().into(), number, number + 1, 3);
            let expected = KeyValueFields {
                key: key.into(),
                create_revision: number,
                mod_revision: number + 1,
                version: 3,
                ..KeyValueFields::default()
            };
            assert_eq!(pair.into_fields(), expected);
        }
    }
}
