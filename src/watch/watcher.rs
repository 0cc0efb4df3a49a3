//! One watcher: what it wants, how far it is. There may be hundreds of thousands, so it is kept small.

use crate::mvcc::{KeyRange, RangeEnd};
use crate::pb::etcdserverpb::WatchCreateRequest;
use crate::pb::etcdserverpb::watch_create_request::FilterType;

/// No watcher.
pub(super) const NONE: u32 = u32::MAX;

/// The keys a watcher watches: one, or a half-open interval. Both bounds share one allocation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WatchRange {
    bounds: Box<[u8]>,
    start_bytes: u32,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Key,
    Interval,
    From,
}

impl WatchRange {
    /// By the rules of range requests, save that an empty key is the smallest one. `None` if it holds no key.
    pub(super) fn new(key: &[u8], range_end: &[u8]) -> Option<Self> {
        let key = if key.is_empty() { &[0] } else { key };
        let kind = match range_end {
            [] => Kind::Key,
            [0] => Kind::From,
            end if key >= end => return None,
            _ => Kind::Interval,
        };
        let end = if kind == Kind::Interval {
            range_end
        } else {
            &[]
        };
        Some(Self {
            bounds: [key, end].concat().into(),
            start_bytes: u32::try_from(key.len()).ok()?,
            kind,
        })
    }

    pub(super) fn start(&self) -> &[u8] {
        &self.bounds[..self.start_bytes as usize]
    }

    /// The end of an interval; `None` when it has none.
    pub(super) fn end(&self) -> Option<&[u8]> {
        (self.kind == Kind::Interval).then(|| &self.bounds[self.start_bytes as usize..])
    }

    pub(super) fn keys(&self) -> KeyRange<'_> {
        let end = match self.kind {
            Kind::Key => RangeEnd::Point,
            Kind::From => RangeEnd::Unbounded,
            Kind::Interval => RangeEnd::Before(&self.bounds[self.start_bytes as usize..]),
        };
        KeyRange {
            start: self.start(),
            end,
        }
    }

    pub(super) fn is_key(&self) -> bool {
        self.kind == Kind::Key
    }
}

/// A watcher.
#[derive(Debug)]
pub struct Watcher {
    pub(super) range: WatchRange,
    /// The first main revision it still has to hear of. While it is synced and this is not in the future, the
    /// field is not kept up: everything up to the hub's revision has been handed over.
    pub(super) next: i64,
    pub(super) watch_id: i64,
    pub(super) stream: u32,
    /// Neighbours in the ring of watchers of the same range.
    pub(super) ring_previous: u32,
    pub(super) ring_next: u32,
    pub(super) synced: bool,
    /// It was asked to start at a revision that has not come yet.
    pub(super) future: bool,
    pub(super) no_put: bool,
    pub(super) no_delete: bool,
    pub(super) prev_kv: bool,
    pub(super) fragment: bool,
    pub(super) progress: bool,
    /// It has heard nothing since the last progress interval.
    pub(super) quiet: bool,
}

impl Watcher {
    pub(super) fn new(
        range: WatchRange,
        stream: u32,
        watch_id: i64,
        request: &WatchCreateRequest,
    ) -> Self {
        let filtered = |filter: FilterType| request.filters.contains(&(filter as i32));
        Self {
            range,
            next: 0,
            watch_id,
            stream,
            ring_previous: NONE,
            ring_next: NONE,
            synced: true,
            future: false,
            no_put: filtered(FilterType::Noput),
            no_delete: filtered(FilterType::Nodelete),
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress: request.progress_notify,
            quiet: true,
        }
    }

    /// Whether its filters let a change pass.
    pub(super) fn wants(&self, tombstone: bool) -> bool {
        if tombstone {
            !self.no_delete
        } else {
            !self.no_put
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_is_small() {
        assert!(size_of::<Watcher>() <= 72, "{}", size_of::<Watcher>());
    }

    #[test]
    fn ranges_follow_the_rules_of_requests() {
        assert!(WatchRange::new(b"", b"").unwrap().is_key());
        assert_eq!(WatchRange::new(b"", b"").unwrap().start(), [0]);
        let from = WatchRange::new(b"a", b"\0").unwrap();
        assert_eq!((from.is_key(), from.end()), (false, None));
        let interval = WatchRange::new(b"a", b"b").unwrap();
        assert_eq!(
            (interval.start(), interval.end()),
            (&b"a"[..], Some(&b"b"[..]))
        );
        assert_eq!(WatchRange::new(b"b", b"b"), None);
        assert_eq!(WatchRange::new(b"b", b"a"), None);
    }
}
