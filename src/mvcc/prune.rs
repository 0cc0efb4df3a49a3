//! Removal of compacted revisions from the index, leaf by leaf, so that it can be done in small slices.

use std::sync::Arc;

use super::history::Row;
use super::keys::{KeyRef, Keys};
use super::leaf::{LEAF_KEYS_MAX, Leaf, Summary};
use super::tree::{Child, INNER_CHILDREN_MAX, Inner, Node, Tree};

/// Leaves with fewer keys are joined with a neighbour when that is possible.
const LEAF_KEYS_MIN: usize = LEAF_KEYS_MAX / 4;
/// Inner nodes with fewer children are joined with a neighbour when that is possible.
const INNER_CHILDREN_MIN: usize = INNER_CHILDREN_MAX / 4;

impl Tree {
    /// Prunes the next leaf that has anything prunable, at or behind the one `from` belongs to. Returns where to
    /// go on, or `None` when this was the last, and how many keys were looked at.
    pub(super) fn prune_next(
        &mut self,
        from: &[u8],
        revision: i64,
        removed: impl FnMut(Row),
    ) -> (Option<Vec<u8>>, usize) {
        let Some((leaf, upper)) = next_prunable(&self.root, from, None) else {
            return (None, 0);
        };
        let upper = upper.map(KeyRef::to_vec);
        let looked_at = leaf.len();
        if let Some(pruned) = leaf.pruned(revision, removed) {
            let key = leaf.keys().get(0).to_vec();
            replace(&mut self.root, &key, pruned);
            self.lower_root();
        }
        (upper, looked_at)
    }

    fn lower_root(&mut self) {
        while let Node::Inner(inner) = &*self.root.node {
            match inner.children.as_slice() {
                [] => self.root = Child::new(Node::Leaf(Leaf::default())),
                [only] => self.root = only.clone(),
                _ => break,
            }
        }
    }
}

/// The first leaf with anything prunable that may have keys at or above `from`, and the separator behind it.
fn next_prunable<'a>(
    child: &'a Child,
    from: &[u8],
    upper: Option<KeyRef<'a>>,
) -> Option<(&'a Leaf, Option<KeyRef<'a>>)> {
    if child.summary.prunable == 0 {
        return None;
    }
    match &*child.node {
        Node::Leaf(leaf) => Some((leaf, upper)),
        Node::Inner(inner) => (inner.child_of(from)..inner.children.len()).find_map(|at| {
            let last = at + 1 == inner.children.len();
            let upper = if last {
                upper
            } else {
                Some(inner.separators.get(at))
            };
            next_prunable(&inner.children[at], from, upper)
        }),
    }
}

/// Puts a leaf in the place of the one `key` belongs to. Leaves `child` without keys or children if there are none.
fn replace(child: &mut Child, key: &[u8], leaf: Leaf) {
    let node = Arc::make_mut(&mut child.node);
    match node {
        Node::Leaf(old) => *old = leaf,
        Node::Inner(inner) => {
            let at = inner.child_of(key);
            replace(&mut inner.children[at], key, leaf);
            inner.tidy(at);
        }
    }
    child.summary = Summary {
        newest: child.summary.newest,
        ..node.summary()
    };
}

impl Node {
    fn is_empty(&self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.len() == 0,
            Self::Inner(inner) => inner.children.is_empty(),
        }
    }

    fn is_small(&self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.len() < LEAF_KEYS_MIN,
            Self::Inner(inner) => inner.children.len() < INNER_CHILDREN_MIN,
        }
    }
}

impl Inner {
    /// Removes a child that became empty, and joins one that became small with a neighbour.
    fn tidy(&mut self, at: usize) {
        if self.children[at].node.is_empty() {
            self.children.remove(at);
            if self.separators.len() > 0 {
                self.separators.remove(at.saturating_sub(1));
            }
        } else if self.children[at].node.is_small() {
            let _ = self.join(at) || at > 0 && self.join(at - 1);
        }
    }

    /// Joins a child with the one behind it, if they fit.
    fn join(&mut self, at: usize) -> bool {
        let Some(right) = self.children.get(at + 1) else {
            return false;
        };
        let joined = match (&*self.children[at].node, &*right.node) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                let mut left = left.clone();
                left.join(right).then_some(Node::Leaf(left))
            }
            (Node::Inner(left), Node::Inner(right)) => {
                left.joined(self.separators.get(at), right).map(Node::Inner)
            }
            _ => None,
        };
        let Some(joined) = joined else {
            return false;
        };
        self.children[at] = Child::new(joined);
        self.children.remove(at + 1);
        self.separators.remove(at);
        true
    }

    fn joined(&self, between: KeyRef<'_>, right: &Self) -> Option<Self> {
        if self.children.len() + right.children.len() > INNER_CHILDREN_MAX * 3 / 4 {
            return None;
        }
        let left = self.separators.iter();
        let separators = left.chain([between]).chain(right.separators.iter());
        Some(Self {
            separators: Keys::pack(separators),
            children: [self.children.as_slice(), &right.children].concat(),
        })
    }
}
