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
                fields.reserve(fields.len() / PAIRS_SAMPLED * (revisions.len() - done));
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
