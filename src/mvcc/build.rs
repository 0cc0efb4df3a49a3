//! Builds the index bottom-up from keys in order.

use super::history::Row;
use super::keys::{KeyRef, Keys, separator};
use super::leaf::{Head, LEAF_KEYS_MAX, Leaf};
use super::tree::{Child, INNER_CHILDREN_MAX, Inner, Node, Tree};
use crate::types::Revision;

/// Keys a built leaf gets: nearly all that fit, so that the first put in it needs no split.
const LEAF_KEYS: usize = LEAF_KEYS_MAX * 7 / 8;
/// Children a built inner node gets.
const INNER_CHILDREN: usize = INNER_CHILDREN_MAX * 7 / 8;

/// A tree under construction.
#[derive(Default)]
pub(super) struct Builder {
    /// The leaf being filled: all keys, and where each ends.
    keys: Vec<u8>,
    ends: Vec<usize>,
    heads: Vec<Head>,
    older: Vec<Row>,
    /// Finished nodes, each with the separator before it.
    nodes: Vec<(Vec<u8>, Child)>,
    last_key: Vec<u8>,
}

impl Builder {
    /// Adds the next key with its newest revision.
    pub(super) fn key(&mut self, key: &[u8], head: Head) {
        if self.heads.len() == LEAF_KEYS {
            self.finish_leaf();
        }
        self.keys.extend_from_slice(key);
        self.ends.push(self.keys.len());
        self.heads.push(head);
    }

    /// Adds the next older revision of the key added last.
    pub(super) fn older(&mut self, revision: Revision, tombstone: bool, record_bytes: u32) {
        let tag = self.heads.len().saturating_sub(1) as u32;
        let row = Row::new(tag, revision, tombstone, record_bytes);
        self.older.push(row);
    }

    /// The tree of all keys.
    pub(super) fn finish(mut self) -> Tree {
        if !self.heads.is_empty() {
            self.finish_leaf();
        }
        while self.nodes.len() > 1 {
            self.nodes = level(std::mem::take(&mut self.nodes));
        }
        match self.nodes.pop() {
            Some((_, root)) => Tree { root },
            None => Tree::default(),
        }
    }

    fn finish_leaf(&mut self) {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let places: Vec<_> = starts.zip(self.ends.iter().copied()).collect();
        let keys = places
            .iter()
            .map(|&(start, end)| KeyRef::from(&self.keys[start..end]));
        let between = match keys.clone().next() {
            Some(first) if !self.nodes.is_empty() => {
                separator(self.last_key.as_slice().into(), first)
            }
            _ => Vec::new(),
        };
        let last_key = keys.clone().next_back().map(KeyRef::to_vec);
        let older = std::mem::take(&mut self.older);
        let leaf = Leaf::load(keys, self.heads.drain(..), older);
        self.nodes.push((between, Child::new(Node::Leaf(leaf))));
        self.last_key = last_key.unwrap_or_default();
        self.keys.clear();
        self.ends.clear();
    }
}

/// The level above some nodes.
fn level(nodes: Vec<(Vec<u8>, Child)>) -> Vec<(Vec<u8>, Child)> {
    // Spread evenly, so that the last node is no runt.
    let parents = nodes.len().div_ceil(INNER_CHILDREN);
    let (share, extra) = (nodes.len() / parents, nodes.len() % parents);
    let mut nodes = nodes.into_iter();
    (0..parents)
        .map(|at| {
            let some = nodes.by_ref().take(share + usize::from(at < extra));
            let (separators, children): (Vec<_>, Vec<_>) = some.unzip();
            let inner = Inner {
                separators: Keys::pack(separators[1..].iter().map(|key| key.as_slice().into())),
                children,
            };
            let before = separators.into_iter().next().unwrap_or_default();
            (before, Child::new(Node::Inner(inner)))
        })
        .collect()
}
