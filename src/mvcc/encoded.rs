//! A range's answer as bytes, made by copying records: nothing is counted, shared or dropped pair by pair.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::MvccError;
use super::range::KeyRange;
use super::read::{Reader, Selection};
use crate::pb::etcdserverpb::{RangeRequest, RangeResponse};
use crate::types::Revision;

/// The number of `RangeResponse.kvs`.
const KVS_TAG: u32 = 2;
/// Pairs from whose size that of all is guessed.
const PAIRS_SAMPLED: usize = 64;
/// Bytes of room made on a guess at most: the first pairs may be large and the rest small.
const GUESSED_BYTES_MAX: usize = 16 << 20;

/// The answer to a range request, encoded but for its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedRange {
    /// The current revision when it was read.
    pub revision: i64,
    /// Pairs in it.
    pub pairs: usize,
    /// Keys in the range, those left out by a limit included.
    pub count: i64,
    /// The fields of a `RangeResponse` behind the header.
    pub fields: Bytes,
}

impl Reader<'_> {
    /// [`Reader::range`], encoded. Only for views: a write's own changes are not looked at.
    pub(super) fn range_encoded(&self, request: &RangeRequest) -> Result<EncodedRange, MvccError> {
        let range = KeyRange::new(&request.key, &request.range_end);
        if !request.keys_only && !request.count_only && !range.is_point() {
            let at = self.at(request.revision)?;
            let count = self.tree.count(&range, at);
            if let Some(selection) = Selection::of(request, count).filter(|some| !some.reverse) {
                let mut revisions = Vec::new();
                self.walk(&range, at, selection.skip, selection.take, |found| {
                    revisions.push(found.revision);
                });
                return self.encode(&revisions, at, count as i64, selection.more);
            }
        }
        let mut response = self.range(request)?;
        response.header = None;
        Ok(EncodedRange {
            revision: self.revision,
            pairs: response.kvs.len(),
            count: response.count,
            fields: response.encode_to_vec().into(),
        })
    }

    fn encode(
        &self,
        revisions: &[Revision],
        at: i64,
        count: i64,
        more: bool,
    ) -> Result<EncodedRange, MvccError> {
        let mut fields = Vec::new();
        let mut done = 0;
        let missing = self.values.visit(revisions, |record| {
            encode_key(KVS_TAG, WireType::LengthDelimited, &mut fields);
            encode_varint(record.len() as u64, &mut fields);
            fields.extend_from_slice(record);
            done += 1;
            if done == PAIRS_SAMPLED {
                fields.reserve(room(fields.len(), revisions.len() - done));
            }
        })?;
        if let Some(revision) = missing {
            return Err(self.lost(revision, at));
        }
        let rest = RangeResponse {
            more,
            count,
            ..RangeResponse::default()
        };
        rest.encode_raw(&mut fields);
        Ok(EncodedRange {
            revision: self.revision,
            pairs: revisions.len(),
            count,
            fields: fields.into(),
        })
    }
}

/// Room to make for the pairs that are left, from the bytes that those sampled took.
fn room(sampled_bytes: usize, pairs_left: usize) -> usize {
    let guess = (sampled_bytes / PAIRS_SAMPLED).saturating_mul(pairs_left);
    guess.min(GUESSED_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pairs_in_front_of_many_small_ones_do_not_take_all_memory() {
        assert_eq!(room(64 * 300, 10_000), 3_000_000);
        assert_eq!(room(64 * 1_500_000, 1_000_000), GUESSED_BYTES_MAX);
        assert_eq!(room(usize::MAX, usize::MAX), GUESSED_BYTES_MAX);
    }
}
