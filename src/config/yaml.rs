//! YAML as etcd reads it: version 1.1 scalars, the last of repeated keys wins.
//!
//! serde_norway parses; it knows YAML 1.2, where `yes` is a text and `1_000` is none of our numbers,
//! and tells neither lines nor quotes. Both are looked up in the source text: [`Source::find`] goes
//! down the usual block layout and gives up on anything fancier.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

use super::value::{parse_int, parse_uint};

/// A YAML value, mappings in the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// Nothing.
    Null,
    /// `true`, and in YAML 1.1 also `yes`, `on`, `y`.
    Bool(bool),
    /// A whole number that fits.
    Int(i64),
    /// A whole number above `i64`.
    Uint(u64),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Keys and values, repeated keys included.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// Go's word for this kind in its JSON errors; numbers are followed by their text where etcd does.
    pub(super) fn json_kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::Uint(_) | Self::Float(_) => "number",
            Self::Text(_) => "string",
            Self::List(_) => "array",
            Self::Map(_) => "object",
        }
    }

    /// A plain (unquoted) text read by YAML 1.1's rules.
    fn into_plain(self) -> Self {
        let Self::Text(text) = &self else { return self };
        match text.as_str() {
            "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Self::Bool(true),
            "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Self::Bool(false),
            _ => {}
        }
        if text.contains('_') || text.starts_with('0') {
            if let Ok(number) = parse_int(text) {
                return Self::Int(number);
            }
            if let Ok(number) = parse_uint(text, u64::MAX) {
                return Self::Uint(number);
            }
        }
        self
    }
}

/// The text of a file, to find keys in.
pub(super) struct Source<'a> {
    lines: Vec<&'a str>,
}

/// Where a key stands, and what follows it on its line.
pub(super) struct Place<'a> {
    /// Counted from 1.
    pub line: usize,
    rest: &'a str,
}

impl<'a> Source<'a> {
    /// For this text.
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            lines: text.lines().collect(),
        }
    }

    /// The place of a dotted key in block layout; the last one when it is repeated.
    pub(super) fn find(&self, path: &str) -> Option<Place<'a>> {
        let mut range = 0..self.lines.len();
        let mut indent_min = 0;
        let mut place = None;
        for key in path.split('.') {
            let (at, rest) = range
                .clone()
                .rev()
                .filter(|at| indent_of(self.lines[*at]) >= indent_min)
                .filter_map(|at| after_key(self.lines[at], key).map(|rest| (at, rest)))
                .min_by_key(|(at, _)| indent_of(self.lines[*at]))?;
            let indent = indent_of(self.lines[at]);
            let below = |line: &&&str| line.trim().is_empty() || indent_of(line) > indent;
            let length = self.lines[at + 1..range.end]
                .iter()
                .take_while(below)
                .count();
            range = at + 1..at + 1 + length;
            indent_min = indent + 1;
            place = Some(Place { line: at + 1, rest });
        }
        place
    }

    /// `node` under `path`, read by YAML 1.1's rules unless it is seen to be quoted.
    pub(super) fn resolve(&self, path: &str, node: Node) -> Node {
        match self.find(path) {
            Some(place)
                if place
                    .rest
                    .trim_start()
                    .starts_with(['"', '\'', '|', '>', '!']) =>
            {
                node
            }
            Some(place) if !place.rest.trim().is_empty() => node.into_plain(),
            _ => node,
        }
    }
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn after_key<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let line = line.trim_start_matches(' ');
    let quoted = line.starts_with(['"', '\'']);
    let line = line.strip_prefix(['"', '\'']).unwrap_or(line);
    let head = line.get(..key.len())?;
    if !head.eq_ignore_ascii_case(key) {
        return None;
    }
    let rest = line.get(key.len()..)?;
    let rest = if quoted {
        rest.strip_prefix(['"', '\''])?
    } else {
        rest
    };
    rest.trim_start().strip_prefix(':')
}

/// Text that is no YAML. Prints as what follows `yaml: ` in etcd's message.
#[derive(Debug)]
pub(super) struct YamlError {
    /// Where the parser stumbled.
    pub(super) line: Option<usize>,
    reason: String,
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) if line > 1 => write!(f, "line {line}: {}", self.reason),
            _ => f.write_str(&self.reason),
        }
    }
}

/// Parses a file.
pub(super) fn parse(text: &str) -> Result<Node, YamlError> {
    if text.trim().is_empty() {
        return Ok(Node::Null);
    }
    serde_norway::from_str(text).map_err(|error| {
        let message = error.to_string();
        let reason = message
            .split(" at line ")
            .next()
            .unwrap_or_default()
            .to_owned();
        YamlError {
            line: error.location().map(|place| place.line()),
            reason,
        }
    })
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(i64::try_from(value).map_or(Node::Uint(value), Node::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Node, Node>()? {
            map.push((key_text(key), value));
        }
        Ok(Node::Map(map))
    }
}

/// Keys of all kinds are texts in the JSON that etcd makes of its file.
fn key_text(key: Node) -> String {
    match key {
        Node::Text(text) => text,
        Node::Bool(value) => value.to_string(),
        Node::Int(number) => number.to_string(),
        Node::Uint(number) => number.to_string(),
        Node::Float(number) => number.to_string(),
        Node::Null | Node::List(_) | Node::Map(_) => "null".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, Node)]) -> Node {
        Node::Map(
            entries
                .iter()
                .map(|(k, v)| ((*k).to_owned(), v.clone()))
                .collect(),
        )
    }

    #[test]
    fn repeated_keys_stay() {
        let node = parse("a: 1\na: x\n").unwrap();
        assert_eq!(
            node,
            map(&[("a", Node::Int(1)), ("a", Node::Text("x".into()))])
        );
    }

    #[test]
    fn plain_scalars_follow_yaml_1_1() {
        let text = "a: yes\nb: 'yes'\nc: 1_000\ns:\n  d: off\ne: 010\nf:\n  yes\n";
        let source = Source::new(text);
        let of = |path: &str, text: &str| source.resolve(path, Node::Text(text.into()));
        assert_eq!(of("a", "yes"), Node::Bool(true));
        assert_eq!(of("b", "yes"), Node::Text("yes".into()));
        assert_eq!(of("c", "1_000"), Node::Int(1000));
        assert_eq!(of("s.d", "off"), Node::Bool(false));
        assert_eq!(of("e", "010"), Node::Int(8));
        assert_eq!(of("f", "yes"), Node::Text("yes".into()));
    }

    #[test]
    fn keys_are_found_in_their_section() {
        let source = Source::new("x:\n  k: 1\n\n# k: 2\ny:\n  z: 0\n  k: 3\nk: 4\n");
        let line = |path| source.find(path).map(|place| place.line);
        assert_eq!(line("x.k"), Some(2));
        assert_eq!(line("y.k"), Some(7));
        assert_eq!(line("k"), Some(8));
        assert_eq!(line("x.z"), None);
    }

    #[test]
    fn errors_name_the_line() {
        let error = parse("a: 1\nb: c: d\n").unwrap_err().to_string();
        assert_eq!(
            error,
            "line 2: mapping values are not allowed in this context"
        );
    }
}
