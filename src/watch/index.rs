//! Which watchers a key concerns: single keys in a hash table, intervals in a [`RangeTree`].
//!
//! Every watcher is in the index from its creation to its end, synced or not; whoever searches skips those it
//! does not mean. Watchers of equal range hang in a ring, so a table entry costs four bytes and a thousand
//! watchers of one key are found by one look-up.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use slab::Slab;

use super::range_tree::RangeTree;
use super::watcher::Watcher;

#[derive(Default)]
pub(super) struct Index {
    keys: HashTable<u32>,
    hasher: DefaultHashBuilder,
    ranges: RangeTree,
}

impl Index {
    pub(super) fn insert(&mut self, watchers: &mut Slab<Watcher>, watcher: u32) {
        let range = &watchers[watcher as usize].range;
        if !range.is_key() {
            return self.ranges.insert(watchers, watcher);
        }
        let hash = self.hasher.hash_one(range.start());
        let same = |other: &u32| watchers[*other as usize].range == *range;
        match self.keys.find(hash, same).copied() {
            Some(head) => join_ring(watchers, head, watcher),
            None => {
                join_ring(watchers, watcher, watcher);
                let rehash = |other: &u32| {
                    self.hasher
                        .hash_one(watchers[*other as usize].range.start())
                };
                self.keys.insert_unique(hash, watcher, rehash);
            }
        }
    }

    pub(super) fn remove(&mut self, watchers: &mut Slab<Watcher>, watcher: u32) {
        let range = &watchers[watcher as usize].range;
        if !range.is_key() {
            return self.ranges.remove(watchers, watcher);
        }
        let hash = self.hasher.hash_one(range.start());
        let same = |other: &u32| watchers[*other as usize].range == *range;
        let Ok(mut entry) = self.keys.find_entry(hash, same) else {
            return;
        };
        match leave_ring(watchers, watcher) {
            Some(next) if *entry.get() == watcher => *entry.get_mut() = next,
            Some(_) => {}
            None => {
                entry.remove();
            }
        }
    }

    /// Calls `found` with every watcher whose range holds `key`.
    pub(super) fn holding(
        &self,
        watchers: &Slab<Watcher>,
        key: &[u8],
        mut found: impl FnMut(u32, &Watcher),
    ) {
        let mut ring = |head: u32| {
            let mut at = head;
            loop {
                let watcher = &watchers[at as usize];
                found(at, watcher);
                at = watcher.ring_next;
                if at == head {
                    break;
                }
            }
        };
        if !self.keys.is_empty() {
            let hash = self.hasher.hash_one(key);
            let same = |other: &u32| watchers[*other as usize].range.start() == key;
            if let Some(head) = self.keys.find(hash, same) {
                ring(*head);
            }
        }
        self.ranges.holding(watchers, key, &mut ring);
    }
}

/// Puts a watcher at the end of the ring that starts at `head`, or, being the head, into a ring of its own.
pub(super) fn join_ring(watchers: &mut Slab<Watcher>, head: u32, watcher: u32) {
    let last = if head == watcher {
        head
    } else {
        watchers[head as usize].ring_previous
    };
    let this = &mut watchers[watcher as usize];
    (this.ring_previous, this.ring_next) = (last, head);
    watchers[last as usize].ring_next = watcher;
    watchers[head as usize].ring_previous = watcher;
}

/// Takes a watcher out of its ring; the one behind it, or `None` if it was alone.
pub(super) fn leave_ring(watchers: &mut Slab<Watcher>, watcher: u32) -> Option<u32> {
    let (previous, next) = (
        watchers[watcher as usize].ring_previous,
        watchers[watcher as usize].ring_next,
    );
    watchers[previous as usize].ring_next = next;
    watchers[next as usize].ring_previous = previous;
    (next != watcher).then_some(next)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::pb::etcdserverpb::WatchCreateRequest;
    use crate::watch::watcher::WatchRange;

    fn bounds() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let word = || prop::collection::vec(0u8..4, 0..4);
        (word(), prop_oneof![word(), Just(vec![]), Just(vec![0])])
    }

    proptest! {
        #[test]
        fn finds_exactly_the_ranges_that_hold_a_key(
            steps in prop::collection::vec((bounds(), any::<u8>()), 1..120),
            keys in prop::collection::vec(prop::collection::vec(0u8..5, 1..4), 20),
        ) {
            let (mut index, mut watchers) = (Index::default(), Slab::new());
            for ((key, end), choice) in steps {
                if choice < 80 && !watchers.is_empty() {
                    let victim = watchers.iter().nth(usize::from(choice) % watchers.len());
                    let victim = victim.map(|(at, _)| at as u32).unwrap();
                    index.remove(&mut watchers, victim);
                    watchers.remove(victim as usize);
                } else if let Some(range) = WatchRange::new(&key, &end) {
                    let request = WatchCreateRequest::default();
                    let at = watchers.insert(Watcher::new(range, 0, 0, &request)) as u32;
                    index.insert(&mut watchers, at);
                }
                for key in &keys {
                    let mut found = Vec::new();
                    index.holding(&watchers, key, |at, _| found.push(at as usize));
                    let holds = |range: &WatchRange| match (range.is_key(), range.end()) {
                        (true, _) => range.start() == key,
                        (_, end) => range.start() <= &key[..] && end.is_none_or(|end| &key[..] < end),
                    };
                    let expected: BTreeSet<_> =
                        watchers.iter().filter(|(_, w)| holds(&w.range)).map(|(at, _)| at).collect();
                    prop_assert_eq!(found.len(), expected.len());
                    prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
                }
            }
        }
    }
}
