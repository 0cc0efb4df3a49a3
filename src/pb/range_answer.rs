//! A `RangeResponse` that stays as it came.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{DecodeError, Message};

use super::etcdserverpb::RangeResponse;

/// The number of `RangeResponse.kvs`.
const KVS_TAG: u32 = 2;
/// The number of `KeyValue.key`.
const KEY_TAG: u32 = 1;
/// The number of `KeyValue.value`.
const VALUE_TAG: u32 = 5;

/// The encoding of a `RangeResponse`. Keys and values are read where they are: a hundred thousand of them are shown
/// before a decoder would have made as many objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedRangeResponse(Bytes);

impl EncodedRangeResponse {
    /// The whole message.
    pub fn decoded(&self) -> Result<RangeResponse, DecodeError> {
        RangeResponse::decode(self.0.clone())
    }

    /// Shows key and value of each pair in turn, up to the first that is malformed.
    pub fn visit<E: From<DecodeError>>(
        &self,
        mut show: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut fields = &self.0[..];
        while !fields.is_empty() {
            let (KVS_TAG, mut pair) = next_field(&mut fields)? else {
                continue;
            };
            let (mut key, mut value) = (&[][..], &[][..]);
            while !pair.is_empty() {
                match next_field(&mut pair)? {
                    (KEY_TAG, bytes) => key = bytes,
                    (VALUE_TAG, bytes) => value = bytes,
                    _ => {}
                }
            }
            show(key, value)?;
        }
        Ok(())
    }
}

/// Number and contents of the next field; no contents if it is not length-delimited.
fn next_field<'a>(fields: &mut &'a [u8]) -> Result<(u32, &'a [u8]), DecodeError> {
    let (tag, wire_type) = decode_key(fields)?;
    let mut field = *fields;
    skip_field(wire_type, tag, fields, DecodeContext::default())?;
    if wire_type != WireType::LengthDelimited {
        return Ok((tag, &[]));
    }
    field = &field[..field.len() - fields.len()];
    decode_varint(&mut field)?;
    Ok((tag, field))
}

impl From<RangeResponse> for EncodedRangeResponse {
    fn from(response: RangeResponse) -> Self {
        Self(response.encode_to_vec().into())
    }
}

impl Message for EncodedRangeResponse {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge(&mut self, mut buf: impl Buf) -> Result<(), DecodeError> {
        self.0 = buf.copy_to_bytes(buf.remaining());
        Ok(())
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        let mut message = self.decoded()?;
        message.merge_field(tag, wire_type, buf, context)?;
        self.0 = message.encode_to_vec().into();
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::KeyValueFields;
    use super::*;

    fn response() -> RangeResponse {
        let pair = |key: &'static str, value: &'static str| {
            KeyValueFields {
                key: key.into(),
                create_revision: 300,
                mod_revision: 301,
                version: 2,
                value: value.into(),
                lease: -1,
            }
            .into()
        };
        RangeResponse {
            header: Some(Default::default()),
            kvs: vec![pair("a", "1"), pair("empty", ""), pair("b", "2")],
            more: true,
            count: 7,
        }
    }

    fn pairs(encoded: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, DecodeError> {
        let response = EncodedRangeResponse::decode(encoded)?;
        let mut pairs = Vec::new();
        response.visit(|key, value| {
            pairs.push((key.to_vec(), value.to_vec()));
            Ok::<_, DecodeError>(())
        })?;
        Ok(pairs)
    }

    #[test]
    fn pairs_are_what_a_decoder_finds() {
        let encoded = response().encode_to_vec();
        let found = pairs(&encoded).unwrap();
        let expected: Vec<_> = response()
            .kvs
            .iter()
            .map(|kv| (kv.fields().key.to_vec(), kv.fields().value.to_vec()))
            .collect();
        assert_eq!(found, expected);
        let decoded = EncodedRangeResponse::decode(&encoded[..])
            .unwrap()
            .decoded();
        assert_eq!(decoded.unwrap(), response());
    }

    #[test]
    fn fields_of_later_versions_are_passed_over() {
        let mut encoded = vec![0x7a, 1, b'x']; // field 15, bytes
        encoded.extend(response().encode_to_vec());
        encoded.extend([0x12, 8, 0x0a, 1, b'k', 0x7d, 0, 0, 0, 0]); // a pair with field 15, fixed32
        let found = pairs(&encoded).unwrap();
        assert_eq!(found[3], (b"k".to_vec(), Vec::new()));
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn what_is_cut_anywhere_is_an_error_or_a_shorter_answer() {
        let encoded = response().encode_to_vec();
        for end in 0..encoded.len() {
            let cut = &encoded[..end];
            assert_eq!(
                pairs(cut).map_err(|_| ()),
                RangeResponse::decode(cut).map_err(|_| ()).map(|response| {
                    let pairs = response.kvs.iter().map(|kv| kv.fields());
                    pairs
                        .map(|kv| (kv.key.to_vec(), kv.value.to_vec()))
                        .collect()
                }),
                "{end}"
            );
        }
    }
}
