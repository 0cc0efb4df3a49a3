//! Sorted keys packed into one buffer, their common prefix stored once.
//!
//! A node of the tree is copied for nearly every put, so its keys must copy as bytes: a key that is an
//! allocation of its own would cost a reference count and a cache miss each. etcd's keys also tend to be
//! paths, and neighbours share most of theirs.

use std::cmp::Ordering;

use bytes::Bytes;

/// Spare bytes a buffer gets when it has to grow.
const GROWTH_BYTES: usize = 64;

/// Keys in ascending order without repeats.
#[derive(Clone, Default)]
pub(super) struct Keys {
    /// The common prefix, then what is left of every key.
    bytes: Vec<u8>,
    /// Where each key ends in `bytes`.
    ends: Vec<u32>,
    prefix_bytes: usize,
}

/// One key in its two parts.
#[derive(Clone, Copy)]
pub(super) struct KeyRef<'a> {
    prefix: &'a [u8],
    rest: &'a [u8],
}

impl<'a> KeyRef<'a> {
    pub(super) fn len(self) -> usize {
        self.prefix.len() + self.rest.len()
    }

    pub(super) fn append_to(self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(self.prefix);
        buffer.extend_from_slice(self.rest);
    }

    pub(super) fn to_vec(self) -> Vec<u8> {
        [self.prefix, self.rest].concat()
    }

    pub(super) fn to_bytes(self) -> Bytes {
        self.to_vec().into()
    }

    #[cfg(test)]
    pub(super) fn compare(self, key: &[u8]) -> Ordering {
        let (head, tail) = key.split_at(self.prefix.len().min(key.len()));
        self.prefix.cmp(head).then_with(|| self.rest.cmp(tail))
    }

    fn bytes(self) -> impl Iterator<Item = u8> + 'a {
        self.prefix.iter().chain(self.rest).copied()
    }

    fn common_bytes(self, other: KeyRef<'_>) -> usize {
        let pairs = self.bytes().zip(other.bytes());
        pairs.take_while(|(a, b)| a == b).count()
    }

    fn skip(self, count: usize) -> Self {
        let from_prefix = count.min(self.prefix.len());
        Self {
            prefix: &self.prefix[from_prefix..],
            rest: &self.rest[count - from_prefix..],
        }
    }
}

impl<'a> From<&'a [u8]> for KeyRef<'a> {
    fn from(key: &'a [u8]) -> Self {
        Self {
            prefix: key,
            rest: &[],
        }
    }
}

/// The shortest key that is above `left` and not above `right`.
pub(super) fn separator(left: KeyRef<'_>, right: KeyRef<'_>) -> Vec<u8> {
    right
        .bytes()
        .take(left.common_bytes(right) + 1)
        .collect::<Vec<u8>>()
}

impl Keys {
    /// Packs keys that come in ascending order.
    pub(super) fn pack<'a>(keys: impl DoubleEndedIterator<Item = KeyRef<'a>> + Clone) -> Self {
        let mut ends_of_list = keys.clone();
        let Some(first) = ends_of_list.next() else {
            return Self::default();
        };
        let last = ends_of_list.next_back().unwrap_or(first);
        let prefix_bytes = first.common_bytes(last);
        let rests = keys.clone().map(|key| key.len() - prefix_bytes);
        let mut packed = Self {
            bytes: Vec::with_capacity(prefix_bytes + rests.sum::<usize>()),
            ends: Vec::new(),
            prefix_bytes,
        };
        packed.bytes.extend(first.bytes().take(prefix_bytes));
        for key in keys {
            key.skip(prefix_bytes).append_to(&mut packed.bytes);
            packed.ends.push(packed.bytes.len() as u32);
        }
        packed.ends.shrink_to_fit();
        packed
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, at: usize) -> KeyRef<'_> {
        KeyRef {
            prefix: &self.bytes[..self.prefix_bytes],
            rest: self.rest(at),
        }
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = KeyRef<'_>> + Clone {
        (0..self.len()).map(|at| self.get(at))
    }

    /// Where the key is, or else where it belongs.
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let prefix = &self.bytes[..self.prefix_bytes];
        let (head, tail) = key.split_at(self.prefix_bytes.min(key.len()));
        match head.cmp(prefix) {
            Ordering::Less => return Err(0),
            Ordering::Greater => return Err(self.len()),
            Ordering::Equal => {}
        }
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            match self.rest(middle).cmp(tail) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// Puts a key where [`Self::search`] said it belongs.
    pub(super) fn insert(&mut self, at: usize, key: &[u8]) {
        let common = match self.len() {
            0 => key.len(),
            _ => KeyRef::from(&self.bytes[..self.prefix_bytes]).common_bytes(key.into()),
        };
        if self.len() == 0 {
            self.bytes = key.to_vec();
            self.prefix_bytes = common;
        } else if common < self.prefix_bytes {
            self.shorten_prefix(common);
        }
        let rest = &key[common..];
        let start = self.start(at);
        let old_bytes = self.bytes.len();
        if self.bytes.capacity() - old_bytes < rest.len() {
            self.bytes.reserve_exact(rest.len() + GROWTH_BYTES);
        }
        self.bytes.resize(old_bytes + rest.len(), 0);
        self.bytes.copy_within(start..old_bytes, start + rest.len());
        self.bytes[start..start + rest.len()].copy_from_slice(rest);
        for end in &mut self.ends[at..] {
            *end += rest.len() as u32;
        }
        self.ends.insert(at, (start + rest.len()) as u32);
    }

    /// Removes one key. The prefix stays as it is.
    pub(super) fn remove(&mut self, at: usize) {
        let (start, end) = (self.start(at), self.ends[at] as usize);
        self.bytes.drain(start..end);
        self.ends.remove(at);
        for later in &mut self.ends[at..] {
            *later -= (end - start) as u32;
        }
    }

    /// Cuts the keys from `at` on off.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let right = Self::pack((at..self.len()).map(|one| self.get(one)));
        *self = Self::pack((0..at).map(|one| self.get(one)));
        right
    }

    /// Heap bytes in use, spare ones included.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<u32>()
    }

    fn start(&self, at: usize) -> usize {
        match at.checked_sub(1) {
            Some(before) => self.ends[before] as usize,
            None => self.prefix_bytes,
        }
    }

    fn rest(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.ends[at] as usize]
    }

    fn shorten_prefix(&mut self, prefix_bytes: usize) {
        let mut bytes = Vec::with_capacity(
            self.bytes.len() + (self.prefix_bytes - prefix_bytes) * self.len() + GROWTH_BYTES,
        );
        bytes.extend_from_slice(&self.bytes[..prefix_bytes]);
        let mut ends = Vec::with_capacity(self.ends.len() + 1);
        for key in self.iter() {
            key.skip(prefix_bytes).append_to(&mut bytes);
            ends.push(bytes.len() as u32);
        }
        *self = Self {
            bytes,
            ends,
            prefix_bytes,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0..3u8, 0..6)
    }

    fn check(keys: &Keys, model: &BTreeSet<Vec<u8>>) {
        let all: Vec<_> = keys.iter().map(KeyRef::to_vec).collect();
        assert_eq!(all, model.iter().cloned().collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn keys_are_a_sorted_set(steps in prop::collection::vec((any::<bool>(), key()), 1..40)) {
            let (mut keys, mut model) = (Keys::default(), BTreeSet::new());
            for (insert, key) in steps {
                let at = keys.search(&key);
                prop_assert_eq!(at.is_ok(), model.contains(&key));
                match (insert, at) {
                    (true, Err(at)) => {
                        keys.insert(at, &key);
                        model.insert(key);
                    }
                    (false, Ok(at)) => {
                        prop_assert_eq!(keys.get(at).compare(&key), Ordering::Equal);
                        keys.remove(at);
                        model.remove(&key);
                    }
                    _ => {}
                }
                check(&keys, &model);
            }
            let middle = keys.len() / 2;
            let mut left = keys.clone();
            let right = left.split_off(middle);
            let mut joined = left.iter().map(KeyRef::to_vec).collect::<Vec<_>>();
            joined.extend(right.iter().map(KeyRef::to_vec));
            prop_assert_eq!(joined, keys.iter().map(KeyRef::to_vec).collect::<Vec<_>>());
        }

        #[test]
        fn separators_lie_between(a in key(), b in key()) {
            prop_assume!(a < b);
            let between = separator(a.as_slice().into(), b.as_slice().into());
            prop_assert!(a < between && between <= b);
        }

        #[test]
        fn two_parts_compare_as_one(a in key(), b in key(), cut in 0..6usize) {
            let (prefix, rest) = a.split_at(cut.min(a.len()));
            prop_assert_eq!(KeyRef { prefix, rest }.compare(&b), a.cmp(&b));
        }
    }
}
