//! The distinct ranges that are watched, so that those holding a key are found without looking at the others.
//!
//! A treap ordered by start, then end. Every node knows which node below it reaches furthest, so a search for a
//! key leaves out all subtrees that end before it: O(log n + ranges found). Watchers of one range share a node;
//! they hang in a ring that starts at the node's `head`. The bounds themselves are the watchers'.

use std::cmp::Ordering;

use slab::Slab;

use super::index::{join_ring, leave_ring};
use super::watcher::{WatchRange, Watcher};

#[derive(Default)]
pub(super) struct RangeTree {
    nodes: Slab<Node>,
    root: Option<u32>,
    created: u64,
}

struct Node {
    head: u32,
    left: Option<u32>,
    right: Option<u32>,
    /// The node in this subtree whose range ends last.
    furthest: u32,
    /// Random heap order, which keeps the tree flat.
    priority: u64,
}

impl RangeTree {
    pub(super) fn insert(&mut self, watchers: &mut Slab<Watcher>, watcher: u32) {
        self.root = Some(self.insert_below(watchers, self.root, watcher));
    }

    pub(super) fn remove(&mut self, watchers: &mut Slab<Watcher>, watcher: u32) {
        self.root = self.remove_below(watchers, self.root, watcher);
    }

    /// Calls `found` with the first watcher of every range that holds `key`.
    pub(super) fn holding(
        &self,
        watchers: &Slab<Watcher>,
        key: &[u8],
        found: &mut impl FnMut(u32),
    ) {
        self.search(watchers, self.root, key, found);
    }

    fn node(&self, node: u32) -> &Node {
        &self.nodes[node as usize]
    }

    fn range<'w>(&self, watchers: &'w Slab<Watcher>, node: u32) -> &'w WatchRange {
        &watchers[self.node(node).head as usize].range
    }

    fn search(
        &self,
        watchers: &Slab<Watcher>,
        node: Option<u32>,
        key: &[u8],
        found: &mut impl FnMut(u32),
    ) {
        let Some(node) = node else { return };
        let this = self.node(node);
        if !reaches(self.range(watchers, this.furthest), key) {
            return;
        }
        self.search(watchers, this.left, key, found);
        let range = self.range(watchers, node);
        if range.start() <= key {
            if reaches(range, key) {
                found(this.head);
            }
            self.search(watchers, this.right, key, found);
        }
    }

    fn insert_below(
        &mut self,
        watchers: &mut Slab<Watcher>,
        node: Option<u32>,
        watcher: u32,
    ) -> u32 {
        let Some(node) = node else {
            return self.leaf(watchers, watcher);
        };
        let (left, right) = (self.node(node).left, self.node(node).right);
        match compare(
            &watchers[watcher as usize].range,
            self.range(watchers, node),
        ) {
            Ordering::Equal => {
                join_ring(watchers, self.node(node).head, watcher);
                node
            }
            Ordering::Less => {
                let left = self.insert_below(watchers, left, watcher);
                self.set_children(watchers, node, Some(left), right);
                if self.node(left).priority <= self.node(node).priority {
                    return node;
                }
                let between = self.node(left).right;
                self.set_children(watchers, node, between, right);
                let outer = self.node(left).left;
                self.set_children(watchers, left, outer, Some(node));
                left
            }
            Ordering::Greater => {
                let right = self.insert_below(watchers, right, watcher);
                self.set_children(watchers, node, left, Some(right));
                if self.node(right).priority <= self.node(node).priority {
                    return node;
                }
                let between = self.node(right).left;
                self.set_children(watchers, node, left, between);
                let outer = self.node(right).right;
                self.set_children(watchers, right, Some(node), outer);
                right
            }
        }
    }

    fn leaf(&mut self, watchers: &mut Slab<Watcher>, watcher: u32) -> u32 {
        join_ring(watchers, watcher, watcher);
        self.created += 1;
        let vacant = self.nodes.vacant_entry();
        let node = vacant.key() as u32;
        vacant.insert(Node {
            head: watcher,
            left: None,
            right: None,
            furthest: node,
            priority: mix(self.created),
        });
        node
    }

    fn remove_below(
        &mut self,
        watchers: &mut Slab<Watcher>,
        node: Option<u32>,
        watcher: u32,
    ) -> Option<u32> {
        let node = node?;
        let (left, right) = (self.node(node).left, self.node(node).right);
        match compare(
            &watchers[watcher as usize].range,
            self.range(watchers, node),
        ) {
            Ordering::Less => {
                let left = self.remove_below(watchers, left, watcher);
                self.set_children(watchers, node, left, right);
            }
            Ordering::Greater => {
                let right = self.remove_below(watchers, right, watcher);
                self.set_children(watchers, node, left, right);
            }
            Ordering::Equal => match leave_ring(watchers, watcher) {
                Some(next) if self.node(node).head == watcher => {
                    self.nodes[node as usize].head = next;
                }
                Some(_) => {}
                None => {
                    self.nodes.remove(node as usize);
                    return self.merge(watchers, left, right);
                }
            },
        }
        Some(node)
    }

    /// One tree of two, where all of `left` comes before all of `right`.
    fn merge(
        &mut self,
        watchers: &Slab<Watcher>,
        left: Option<u32>,
        right: Option<u32>,
    ) -> Option<u32> {
        let (Some(l), Some(r)) = (left, right) else {
            return left.or(right);
        };
        if self.node(l).priority > self.node(r).priority {
            let (outer, inner) = (self.node(l).left, self.node(l).right);
            let inner = self.merge(watchers, inner, right);
            self.set_children(watchers, l, outer, inner);
            Some(l)
        } else {
            let (inner, outer) = (self.node(r).left, self.node(r).right);
            let inner = self.merge(watchers, left, inner);
            self.set_children(watchers, r, inner, outer);
            Some(r)
        }
    }

    fn set_children(
        &mut self,
        watchers: &Slab<Watcher>,
        node: u32,
        left: Option<u32>,
        right: Option<u32>,
    ) {
        let mut furthest = node;
        for child in [left, right].into_iter().flatten() {
            let candidate = self.node(child).furthest;
            let best = self.range(watchers, furthest).end();
            let end = self.range(watchers, candidate).end();
            if compare_ends(end, best) == Ordering::Greater {
                furthest = candidate;
            }
        }
        let node = &mut self.nodes[node as usize];
        (node.left, node.right, node.furthest) = (left, right, furthest);
    }
}

/// Whether the range goes beyond `key`.
fn reaches(range: &WatchRange, key: &[u8]) -> bool {
    range.end().is_none_or(|end| key < end)
}

fn compare(a: &WatchRange, b: &WatchRange) -> Ordering {
    a.start()
        .cmp(b.start())
        .then_with(|| compare_ends(a.end(), b.end()))
}

/// No end is the last one.
fn compare_ends(a: Option<&[u8]>, b: Option<&[u8]>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.cmp(b),
        (a, b) => a.is_none().cmp(&b.is_none()),
    }
}

/// Spreads a counter over all bits (the finalizer of splitmix64).
fn mix(counter: u64) -> u64 {
    let mut z = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
