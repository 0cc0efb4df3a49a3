//! The key index: a copy-on-write B+tree.
//!
//! A clone is O(1) and never changes again: a writer copies the path it touches, unless it already owns it.
//! Every child is held with a [`Summary`] of its subtree, so a count at the current revision is O(log n), a
//! count at a recent one walks what changed since, and compaction passes over what it has no work with.
//!
//! The fan-out of inner nodes is small because each child costs a copied node a reference count.

#[cfg(test)]
use std::cmp::Ordering;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use super::keys::{Keys, separator};
use super::leaf::{Found, Head, Leaf, Summary};
use super::range::KeyRange;

/// Children of an inner node. Few in tests, as all sizes here, so that small trees have every shape.
pub(super) const INNER_CHILDREN_MAX: usize = if cfg!(test) { 8 } else { 16 };

#[derive(Clone)]
pub(super) enum Node {
    Leaf(Leaf),
    Inner(Inner),
}

#[derive(Clone, Default)]
pub(super) struct Inner {
    pub(super) children: Vec<Child>,
    /// One fewer than children: keys below separator `i` are in child `i` or before it, all others behind.
    pub(super) separators: Keys,
}

#[derive(Clone)]
pub(super) struct Child {
    pub(super) node: Arc<Node>,
    pub(super) summary: Summary,
}

/// An ordered map from keys to their revisions.
#[derive(Clone)]
pub(super) struct Tree {
    pub(super) root: Child,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            root: Child::new(Node::Leaf(Leaf::default())),
        }
    }
}

impl Child {
    pub(super) fn new(node: Node) -> Self {
        Self {
            summary: node.summary(),
            node: Arc::new(node),
        }
    }
}

impl Node {
    pub(super) fn summary(&self) -> Summary {
        match self {
            Self::Leaf(leaf) => leaf.summary(),
            Self::Inner(inner) => {
                let mut sum = Summary::default();
                for child in &inner.children {
                    sum.add(child.summary);
                }
                sum
            }
        }
    }
}

impl Inner {
    /// The child that a key belongs to.
    pub(super) fn child_of(&self, key: &[u8]) -> usize {
        match self.separators.search(key) {
            Ok(at) => at + 1,
            Err(at) => at,
        }
    }

    /// The children that may have keys of a range.
    fn children_of(&self, range: &KeyRange<'_>) -> std::ops::RangeInclusive<usize> {
        let last = match range.upper() {
            Bound::Unbounded => self.children.len() - 1,
            Bound::Included(end) | Bound::Excluded(end) => self.child_of(end),
        };
        self.child_of(range.start)..=last
    }
}

/// What a put found and did on its way down.
struct Put {
    previous: Option<Head>,
    /// The upper half of a node that had to be split.
    split: Option<(Vec<u8>, Child)>,
}

impl Tree {
    /// Keys that are alive.
    pub(super) fn live(&self) -> u64 {
        self.root.summary.live
    }

    /// The newest revision of a key, tombstones included.
    pub(super) fn head(&self, key: &[u8]) -> Option<Head> {
        let leaf = self.leaf(key);
        leaf.keys().search(key).ok().map(|at| leaf.head(at))
    }

    /// A key at a main revision, if it was alive.
    pub(super) fn get(&self, key: &[u8], main: i64) -> Option<Found<'_>> {
        let leaf = self.leaf(key);
        leaf.found(leaf.keys().search(key).ok()?, main)
    }

    fn leaf(&self, key: &[u8]) -> &Leaf {
        let mut node = &self.root.node;
        loop {
            match &**node {
                Node::Leaf(leaf) => return leaf,
                Node::Inner(inner) => node = &inner.children[inner.child_of(key)].node,
            }
        }
    }

    /// Keys of a range that were alive at a main revision.
    pub(super) fn count(&self, range: &KeyRange<'_>, main: i64) -> u64 {
        if range.is_point() {
            return u64::from(self.get(range.start, main).is_some());
        }
        count(&self.root.node, range, main)
    }

    /// Calls `visit` with the keys of a range that were alive at a main revision, in order, but for the first `skip`.
    pub(super) fn walk<'a, B>(
        &'a self,
        range: &KeyRange<'_>,
        main: i64,
        skip: u64,
        mut visit: impl FnMut(Found<'a>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if range.is_point() {
            return match self.get(range.start, main) {
                Some(found) if skip == 0 => visit(found),
                _ => ControlFlow::Continue(()),
            };
        }
        let mut skip = skip;
        walk(&self.root.node, range, main, &mut skip, &mut visit)
    }

    /// Calls `visit` with the keys of a range that changed at or after a main revision: the leaf, and where in it.
    pub(super) fn walk_changed<'a, B>(
        &'a self,
        range: &KeyRange<'_>,
        from: i64,
        mut visit: impl FnMut(&'a Leaf, usize) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        walk_changed(&self.root, range, from, &mut visit)
    }

    /// Gives a key a revision that is newer than all others, made by `head` from the one it has. Returns that.
    pub(super) fn put(
        &mut self,
        key: &[u8],
        head: impl FnOnce(Option<&Head>) -> Head,
    ) -> Option<Head> {
        let put = put(&mut self.root, key, head);
        if let Some((key, right)) = put.split {
            let left = std::mem::replace(&mut self.root, right.clone());
            let mut separators = Keys::default();
            separators.insert(0, &key);
            self.root = Child::new(Node::Inner(Inner {
                children: vec![left, right],
                separators,
            }));
        }
        put.previous
    }
}

fn put(child: &mut Child, key: &[u8], make: impl FnOnce(Option<&Head>) -> Head) -> Put {
    let node = Arc::make_mut(&mut child.node);
    match node {
        Node::Leaf(leaf) => put_in_leaf(leaf, &mut child.summary, key, make),
        Node::Inner(inner) => {
            let at = inner.child_of(key);
            let before = inner.children[at].summary;
            let mut put = put(&mut inner.children[at], key, make);
            let Some((separator, right)) = put.split.take() else {
                let after = inner.children[at].summary;
                child.summary.live = child.summary.live + after.live - before.live;
                child.summary.prunable = child.summary.prunable + after.prunable - before.prunable;
                child.summary.newest = after.newest.max(child.summary.newest);
                return put;
            };
            inner.children.insert(at + 1, right);
            inner.separators.insert(at, &separator);
            if inner.children.len() > INNER_CHILDREN_MAX {
                let append = at + 2 == inner.children.len();
                put.split = Some(split_inner(inner, append));
            }
            child.summary = node.summary();
            put
        }
    }
}

fn put_in_leaf(
    leaf: &mut Leaf,
    summary: &mut Summary,
    key: &[u8],
    make: impl FnOnce(Option<&Head>) -> Head,
) -> Put {
    let at = match leaf.keys().search(key) {
        Ok(at) => {
            let previous = leaf.head(at);
            let head = make(Some(&previous));
            let was_prunable = leaf.is_prunable(at);
            leaf.update(at, head);
            summary.live += u64::from(!head.is_tombstone());
            summary.live -= u64::from(!previous.is_tombstone());
            summary.prunable += u64::from(!was_prunable);
            summary.newest = head.revision.main;
            return Put {
                previous: Some(previous),
                split: None,
            };
        }
        Err(at) => at,
    };
    let head = make(None);
    let split = leaf.is_full().then(|| {
        // Keys that come in order leave full leaves behind.
        let half = leaf.len() / 2;
        let cut = if at == leaf.len() { at - 1 } else { half };
        let mut right = leaf.split_off(cut);
        if at > cut {
            right.insert(at - cut, key, head);
        } else {
            leaf.insert(at, key, head);
        }
        let last = leaf.keys().get(leaf.len() - 1);
        let between = separator(last, right.keys().get(0));
        (between, Child::new(Node::Leaf(right)))
    });
    if split.is_none() {
        leaf.insert(at, key, head);
        summary.live += u64::from(!head.is_tombstone());
        summary.prunable += u64::from(head.is_tombstone());
        summary.newest = head.revision.main;
    } else {
        *summary = leaf.summary();
    }
    Put {
        previous: None,
        split,
    }
}

fn split_inner(inner: &mut Inner, append: bool) -> (Vec<u8>, Child) {
    let count = inner.children.len();
    let cut = if append { count - 2 } else { count / 2 };
    let children = inner.children.split_off(cut);
    let mut separators = inner.separators.split_off(cut - 1);
    let between = separators.get(0).to_vec();
    separators.remove(0);
    let right = Inner {
        children,
        separators,
    };
    (between, Child::new(Node::Inner(right)))
}

/// Where in a leaf the keys of a range are.
fn slots(leaf: &Leaf, range: &KeyRange<'_>) -> std::ops::Range<usize> {
    let place = |key| leaf.keys().search(key).unwrap_or_else(|at| at);
    let end = match range.upper() {
        Bound::Unbounded => leaf.len(),
        Bound::Excluded(end) => place(end),
        Bound::Included(key) => match leaf.keys().search(key) {
            Ok(at) => at + 1,
            Err(at) => at,
        },
    };
    place(range.start)..end
}

fn count(node: &Node, range: &KeyRange<'_>, main: i64) -> u64 {
    match node {
        Node::Leaf(leaf) => slots(leaf, range)
            .filter(|&at| leaf.found(at, main).is_some())
            .count() as u64,
        Node::Inner(inner) => {
            let some = inner.children_of(range);
            some.clone()
                .map(|at| match &inner.children[at] {
                    // All of it is in the range, and as it was.
                    child
                        if at > *some.start()
                            && (at < *some.end() || range.upper() == Bound::Unbounded)
                            && child.summary.newest <= main =>
                    {
                        child.summary.live
                    }
                    child => count(&child.node, range, main),
                })
                .sum()
        }
    }
}

fn walk<'a, B>(
    node: &'a Node,
    range: &KeyRange<'_>,
    main: i64,
    skip: &mut u64,
    visit: &mut impl FnMut(Found<'a>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    match node {
        Node::Leaf(leaf) => {
            for found in slots(leaf, range).filter_map(|at| leaf.found(at, main)) {
                match skip.checked_sub(1) {
                    Some(less) => *skip = less,
                    None => visit(found)?,
                }
            }
        }
        Node::Inner(inner) => {
            let some = inner.children_of(range);
            for at in some.clone() {
                let child = &inner.children[at];
                let inside = at > *some.start() && at < *some.end();
                if inside && child.summary.newest <= main && child.summary.live <= *skip {
                    *skip -= child.summary.live;
                } else {
                    walk(&child.node, range, main, skip, visit)?;
                }
            }
        }
    }
    ControlFlow::Continue(())
}

fn walk_changed<'a, B>(
    child: &'a Child,
    range: &KeyRange<'_>,
    from: i64,
    visit: &mut impl FnMut(&'a Leaf, usize) -> ControlFlow<B>,
) -> ControlFlow<B> {
    if child.summary.newest < from {
        return ControlFlow::Continue(());
    }
    match &*child.node {
        Node::Leaf(leaf) => {
            for at in slots(leaf, range) {
                if leaf.head(at).revision.main >= from {
                    visit(leaf, at)?;
                }
            }
        }
        Node::Inner(inner) => {
            for at in inner.children_of(range) {
                walk_changed(&inner.children[at], range, from, visit)?;
            }
        }
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
impl Tree {
    /// Panics unless order, counts and shape are as they should be. Returns the heap bytes of all leaves.
    pub(super) fn check(&self) -> usize {
        let mut bytes = 0;
        let mut last = None;
        check(&self.root, None, None, &mut |leaf| {
            bytes += leaf.heap_bytes() + size_of::<Node>() + 16;
            for key in leaf.keys().iter() {
                let key = key.to_vec();
                assert!(last.as_ref().is_none_or(|last| *last < key), "order");
                last = Some(key);
            }
        });
        if let Node::Inner(root) = &*self.root.node {
            assert!(root.children.len() > 1, "a root with one child");
        }
        bytes
    }
}

#[cfg(test)]
fn check(
    child: &Child,
    low: Option<&[u8]>,
    high: Option<&[u8]>,
    visit: &mut impl FnMut(&Leaf),
) -> usize {
    let summary = child.node.summary();
    assert_eq!(child.summary.live, summary.live);
    assert_eq!(child.summary.prunable, summary.prunable);
    assert!(child.summary.newest >= summary.newest);
    match &*child.node {
        Node::Leaf(leaf) => {
            assert!(leaf.len() <= super::leaf::LEAF_KEYS_MAX);
            for key in leaf.keys().iter() {
                assert!(low.is_none_or(|low| key.compare(low) != Ordering::Less));
                assert!(high.is_none_or(|high| key.compare(high) == Ordering::Less));
            }
            visit(leaf);
            0
        }
        Node::Inner(inner) => {
            assert!((1..=INNER_CHILDREN_MAX).contains(&inner.children.len()));
            assert_eq!(inner.separators.len() + 1, inner.children.len());
            let separators: Vec<_> = inner.separators.iter().map(|key| key.to_vec()).collect();
            let bounds = |at: usize| separators.get(at).map(Vec::as_slice);
            let heights: Vec<_> = (0..inner.children.len())
                .map(|at| {
                    let low = at.checked_sub(1).and_then(bounds).or(low);
                    check(&inner.children[at], low, bounds(at).or(high), visit)
                })
                .collect();
            assert!(heights.windows(2).all(|pair| pair[0] == pair[1]), "height");
            heights[0] + 1
        }
    }
}
