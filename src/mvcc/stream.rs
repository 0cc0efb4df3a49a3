//! [`RangeStream`]: a range in chunks.

use super::MvccError;
use super::read::header;
use super::view::View;
use crate::pb::etcdserverpb::{RangeRequest, RangeResponse};

/// A range request answered in several messages, all at one revision.
pub struct RangeStream {
    view: View,
    /// What is left of the request.
    request: RangeRequest,
    /// Keys in the messages so far.
    sent: i64,
    done: bool,
}

impl View {
    /// Begins to answer a range request without sorting and filters in chunks.
    pub fn range_stream(&self, request: &RangeRequest) -> Result<RangeStream, MvccError> {
        let at = self.reader().at(request.revision)?;
        Ok(RangeStream {
            view: self.clone(),
            request: RangeRequest {
                revision: at,
                ..request.clone()
            },
            sent: 0,
            done: false,
        })
    }
}

impl RangeStream {
    /// The next message, with at most `keys_max` keys; `None` after the last one. Header, `more` and `count` are
    /// in the last one only, as etcd has it.
    ///
    /// [`MvccError::Stale`] comes from the first message only; start over with a new view then.
    pub fn next(&mut self, keys_max: usize) -> Result<Option<RangeResponse>, MvccError> {
        if self.done {
            return Ok(None);
        }
        let limit = self.request.limit;
        let chunk = RangeRequest {
            // A negative limit is none at all, not even that of a chunk.
            limit: match limit {
                0 => keys_max.max(1) as i64,
                _ => limit.min(keys_max.max(1) as i64),
            },
            ..self.request.clone()
        };
        let mut response = self.view.range(&chunk).map_err(|error| match error {
            MvccError::Stale if self.sent > 0 => MvccError::Compacted,
            error => error,
        })?;
        let keys = response.kvs.len() as i64;
        self.done = !response.more || keys == limit;
        self.advance(&response);
        if self.done {
            response.header = header(self.view.revision);
            response.count = match response.more {
                true => self.sent + keys + self.left()?,
                false => self.sent + response.count,
            };
        } else {
            response.header = None;
            response.more = false;
            response.count = 0;
        }
        self.sent += keys;
        Ok(Some(response))
    }

    /// Keys behind the last one sent. With a sort target each chunk is sorted by itself, and then these are not
    /// all that were not sent: etcd counts so.
    fn left(&self) -> Result<i64, MvccError> {
        let rest = RangeRequest {
            count_only: true,
            limit: 0,
            ..self.request.clone()
        };
        Ok(self.view.range(&rest)?.count)
    }

    fn advance(&mut self, response: &RangeResponse) {
        if let Some(last) = response.kvs.last() {
            let key = last.fields().key;
            self.request.key = [&key[..], &[0]].concat().into();
        }
        if self.request.limit > 0 {
            self.request.limit -= response.kvs.len() as i64;
        }
    }
}
