//! [`KeyRange`]: which keys a request names.

use std::ops::Bound;

/// The keys a request's `key` and `range_end` name.
///
/// No end names the one key, an end of one zero byte every key from `key` on, and any other end the keys
/// from `key` up to but not including it; that is no key at all when the end does not lie above the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRange<'a> {
    /// The first key.
    pub start: &'a [u8],
    /// What ends the range.
    pub end: RangeEnd<'a>,
}

/// What ends a [`KeyRange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeEnd<'a> {
    /// The range is its first key alone.
    Point,
    /// Nothing: all keys from the first on.
    Unbounded,
    /// The first key that is outside again.
    Before(&'a [u8]),
}

impl<'a> KeyRange<'a> {
    /// The range that a request's two fields name.
    pub fn new(key: &'a [u8], range_end: &'a [u8]) -> Self {
        let end = match range_end {
            [] => RangeEnd::Point,
            [0] => RangeEnd::Unbounded,
            end => RangeEnd::Before(end),
        };
        Self { start: key, end }
    }

    /// Whether the key is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self.end {
            RangeEnd::Point => key == self.start,
            RangeEnd::Unbounded => key >= self.start,
            RangeEnd::Before(end) => key >= self.start && key < end,
        }
    }

    /// Whether the range is one key.
    pub fn is_point(&self) -> bool {
        self.end == RangeEnd::Point
    }

    pub(super) fn upper(&self) -> Bound<&'a [u8]> {
        match self.end {
            RangeEnd::Point => Bound::Included(self.start),
            RangeEnd::Unbounded => Bound::Unbounded,
            RangeEnd::Before(end) => Bound::Excluded(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_mean_what_etcd_means() {
        assert!(KeyRange::new(b"a", b"").contains(b"a"));
        assert!(!KeyRange::new(b"a", b"").contains(b"a\0"));
        assert!(KeyRange::new(b"a", b"\0").contains(b"\xff\xff"));
        assert!(!KeyRange::new(b"b", b"\0").contains(b"a"));
        assert!(KeyRange::new(b"a", b"b").contains(b"a\xff"));
        assert!(!KeyRange::new(b"a", b"b").contains(b"b"));
        assert!(!KeyRange::new(b"b", b"\0\0").contains(b"b"), "inverted");
    }
}
