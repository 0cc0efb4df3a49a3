//! `get --tree`: keys as the tree their slashes make, with the number of keys and bytes under each branch.

use crate::ctl::go::bytes::human;
use crate::pb::KeyValue;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A branch, or a key, or both.
#[derive(Default)]
struct Node {
    children: BTreeMap<String, Node>,
    keys: usize,
    bytes: u64,
}

impl Node {
    fn add(&mut self, path: &[&str], bytes: u64) {
        self.keys += 1;
        self.bytes += bytes;
        if let [first, rest @ ..] = path {
            self.children
                .entry((*first).to_owned())
                .or_default()
                .add(rest, bytes);
        }
    }

    fn draw(&self, out: &mut String, indent: &str) {
        let last = self.children.len().saturating_sub(1);
        for (index, (name, child)) in self.children.iter().enumerate() {
            let (branch, below) = if index == last {
                ("└── ", "    ")
            } else {
                ("├── ", "│   ")
            };
            let mut label = name.clone();
            let mut node = child;
            // A branch with one branch and nothing else is drawn in one line with it.
            while let Some((name, only)) = node.only_branch() {
                label.push_str(name);
                node = only;
            }
            let _ = writeln!(out, "{indent}{branch}{label}  {}", node.size());
            node.draw(out, &format!("{indent}{below}"));
        }
    }

    fn only_branch(&self) -> Option<(&String, &Node)> {
        let (name, child) = self.children.iter().next()?;
        (self.children.len() == 1 && child.keys == self.keys && !child.children.is_empty())
            .then_some((name, child))
    }

    fn size(&self) -> String {
        match self.children.is_empty() {
            true => human(self.bytes),
            false => format!("{} keys, {}", self.keys, human(self.bytes)),
        }
    }
}

/// Draws the tree of some pairs.
pub(super) fn draw(pairs: &[KeyValue]) -> String {
    let mut root = Node::default();
    for pair in pairs {
        let pair = pair.fields();
        let key = pair.key.escape_ascii().to_string();
        let path: Vec<&str> = key.split_inclusive('/').collect();
        root.add(&path, (pair.key.len() + pair.value.len()) as u64);
    }
    let mut out = format!("{} keys, {}\n", root.keys, human(root.bytes));
    root.draw(&mut out, "");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::KeyValueFields;

    #[test]
    fn branches_show_what_is_under_them() {
        let pair = |key: &'static str, value: &'static str| {
            let fields = KeyValueFields {
                key: key.into(),
                value: value.into(),
                ..Default::default()
            };
            KeyValue::from(fields)
        };
        let pairs = [
            pair("/registry/pods/default/a", "12345"),
            pair("/registry/pods/default/b", ""),
            pair("/registry/nodes/n", "1"),
            pair("plain", "x"),
        ];
        assert_eq!(
            draw(&pairs),
            "4 keys, 77 B\n\
             ├── /registry/  3 keys, 71 B\n\
             │   ├── nodes/  1 keys, 18 B\n\
             │   │   └── n  18 B\n\
             │   └── pods/default/  2 keys, 53 B\n\
             │       ├── a  29 B\n\
             │       └── b  24 B\n\
             └── plain  6 B\n"
        );
    }
}
