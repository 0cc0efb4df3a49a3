//! The configuration file: YAML or JSON, read alone, without flags and variables.
//!
//! etcd turns the file into JSON and decodes that with Go's rules: no conversion between kinds,
//! keys in any case, unknown keys without a word. The errors are Go's; unknown keys are warned
//! about here, because a misspelt key is a setting that silently does not hold.

use std::path::{Path, PathBuf};

use super::gates::FeatureGates;
use super::settings::{Origin, Settings};
use super::table::OPTIONS;
use super::url;
use super::value::{Kind, Value};
use super::yaml::{self, Node, Source};
use crate::logging::Line;

/// Why a file was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FileError {
    /// It cannot be read.
    #[error("open {path}: {reason}")]
    Open {
        /// The file.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// It is no YAML.
    #[error("error converting YAML to JSON: yaml: {0}")]
    Yaml(String),
    /// A value has the wrong kind.
    #[error("error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {0}")]
    Kind(String),
    /// A value has the right kind but makes no sense.
    #[error("{0}")]
    Value(String),
    /// A list of URLs makes no sense. etcd prints this without a log line.
    #[error("unexpected error setting up {key}: {reason}")]
    Urls {
        /// The key etcd names.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

/// An error and where it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What is wrong.
    pub(super) error: FileError,
    /// The file.
    pub(super) path: PathBuf,
    /// The dotted key, where one is to blame.
    pub(super) key: Option<String>,
    /// Its line, where it can be told.
    pub(super) line: Option<usize>,
}

/// A section of the file and the Go types etcd names in its errors.
struct Section {
    path: &'static str,
    go_struct: &'static str,
    go_type: &'static str,
}

const SECTIONS: [Section; 7] = [
    Section {
        path: "client-transport-security",
        go_struct: "securityConfig",
        go_type: "embed.securityConfig",
    },
    Section {
        path: "peer-transport-security",
        go_struct: "securityConfig",
        go_type: "embed.securityConfig",
    },
    Section {
        path: "socket-options",
        go_struct: "SocketOpts",
        go_type: "transport.SocketOpts",
    },
    Section {
        path: "discovery-config",
        go_struct: "DiscoveryConfig",
        go_type: "v3discovery.DiscoveryConfig",
    },
    Section {
        path: "discovery-config.client",
        go_struct: "ConfigSpec",
        go_type: "clientv3.ConfigSpec",
    },
    Section {
        path: "discovery-config.client.secure",
        go_struct: "SecureConfig",
        go_type: "clientv3.SecureConfig",
    },
    Section {
        path: "discovery-config.client.auth",
        go_struct: "AuthConfig",
        go_type: "clientv3.AuthConfig",
    },
];

/// Keys that etcd's Go type declares outside its main struct; only its errors show the difference.
const OUTER_KEYS: [&str; 10] = [
    "listen-peer-urls",
    "listen-client-urls",
    "listen-client-http-urls",
    "initial-advertise-peer-urls",
    "advertise-client-urls",
    "cors",
    "host-whitelist",
    "client-transport-security",
    "peer-transport-security",
    "feature-gates",
];

/// Reads the text of the file at `path` into `settings`; notes keys nobody knows.
pub(super) fn read(
    path: &Path,
    text: &str,
    settings: &mut Settings,
    notes: &mut Vec<Line>,
) -> Result<(), Refusal> {
    let mut file = File {
        path,
        source: Source::new(text),
        settings,
        notes,
    };
    let root = yaml::parse(text).map_err(|error| Refusal {
        line: error.line,
        ..file.refuse(FileError::Yaml(error.to_string()), None)
    })?;
    match root {
        Node::Null => Ok(()),
        Node::Map(entries) => file.section("", entries),
        other => {
            let kind = other.json_kind();
            let text = format!("{kind} into Go value of type embed.configYAML");
            Err(file.refuse(FileError::Kind(text), None))
        }
    }
}

struct File<'a> {
    path: &'a Path,
    source: Source<'a>,
    settings: &'a mut Settings,
    notes: &'a mut Vec<Line>,
}

impl File<'_> {
    fn section(&mut self, prefix: &str, entries: Vec<(String, Node)>) -> Result<(), Refusal> {
        for (key, node) in entries {
            let path = if prefix.is_empty() {
                key
            } else {
                format!("{prefix}.{key}")
            };
            let node = self.source.resolve(&path, node);
            let known = SECTIONS
                .iter()
                .find(|section| section.path.eq_ignore_ascii_case(&path));
            if let Some(section) = known {
                self.enter(section, node)?;
            } else if let Some(at) = option_at(&path) {
                self.option(at, node)?;
            } else {
                self.unknown(&path);
            }
        }
        Ok(())
    }

    fn enter(&mut self, section: &Section, node: Node) -> Result<(), Refusal> {
        let error = match node {
            Node::Map(entries) => return self.section(section.path, entries),
            Node::Null if section.path == "peer-transport-security" => {
                FileError::Value("invalid peer-transport-security".to_owned())
            }
            Node::Null => return Ok(()),
            other => mismatch(&other, section.path, section.go_type),
        };
        Err(self.refuse(error, Some(section.path)))
    }

    fn refuse(&self, error: FileError, key: Option<&str>) -> Refusal {
        Refusal {
            error,
            path: self.path.to_owned(),
            key: key.map(str::to_owned),
            line: key.and_then(|key| self.line(key)),
        }
    }

    fn option(&mut self, at: usize, node: Node) -> Result<(), Refusal> {
        let path = OPTIONS[at].file_path().unwrap_or_default();
        let origin = Origin::File(self.path.to_owned(), self.line(path));
        let so_far = self.settings.rows()[at].value.clone();
        if node != Node::Null {
            let value = value_of(at, path, &node, &so_far)
                .map_err(|error| self.refuse(error, Some(path)))?;
            self.settings.set(at, value, origin);
        } else {
            self.settings.set(at, so_far, origin); // etcd takes the key for set, its value not
        }
        Ok(())
    }

    fn unknown(&mut self, path: &str) {
        let line = Line::warn("unknown key in the configuration file; it has no effect")
            .display("path", self.path.display())
            .with("key", path);
        let line = match self.line(path) {
            Some(number) => line.with("line", number),
            None => line,
        };
        self.notes.push(match nearest(path) {
            Some(known) => line.with("did-you-mean", known),
            None => line,
        });
    }

    fn line(&self, path: &str) -> Option<usize> {
        self.source.find(path).map(|place| place.line)
    }
}

fn option_at(path: &str) -> Option<usize> {
    let same = |known: &str| known.eq_ignore_ascii_case(path);
    OPTIONS
        .iter()
        .position(|option| option.file_path().is_some_and(same))
}

/// A known key that differs in one or two letters, or that ends the same in another section.
fn nearest(path: &str) -> Option<&'static str> {
    let known = OPTIONS.iter().filter_map(|option| option.file_path());
    let same_flag = OPTIONS.iter().find(|option| option.name == path);
    same_flag.and_then(|option| option.file_path()).or_else(|| {
        known
            .map(|key| (edit_distance(key, path), key))
            .filter(|(distance, _)| *distance <= 2)
            .min()
            .map(|(_, key)| key)
    })
}

/// Letters to add, drop or change between two texts.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut before = i;
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = before + usize::from(ca != *cb);
            before = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(before + 1);
        }
    }
    row[b.len()]
}

/// The value of a node that is there.
fn value_of(at: usize, path: &str, node: &Node, so_far: &Value) -> Result<Value, FileError> {
    let option = &OPTIONS[at];
    if option.list_in_file {
        let Node::List(items) = node else {
            return Err(mismatch(node, path, "[]string"));
        };
        let mut texts = Vec::new();
        for item in items {
            match item {
                Node::Text(text) => texts.push(text.clone()),
                Node::Null => texts.push(String::new()),
                other => return Err(mismatch(other, path, "string")),
            }
        }
        return Ok(Value::Texts(texts));
    }
    let value = match (option.kind, node) {
        (Kind::Bool, Node::Bool(value)) => Some(Value::Bool(*value)),
        (Kind::Int | Kind::Int64, node) => signed(node).map(Value::Int),
        (Kind::Duration, node) => signed(node).map(Value::Duration),
        (Kind::Uint | Kind::Uint64, node) => unsigned(node).map(Value::Uint),
        (Kind::Uint32, node) => unsigned(node)
            .filter(|n| *n <= u64::from(u32::MAX))
            .map(Value::Uint),
        (Kind::Bool, _) => None,
        (kind, Node::Text(text)) => return from_text(kind, path, text, so_far),
        _ => None,
    };
    value.ok_or_else(|| mismatch(node, path, go_type(option.kind)))
}

/// The value of a text. Empty texts keep the default where etcd asks for a non-empty one.
fn from_text(kind: Kind, path: &str, text: &str, so_far: &Value) -> Result<Value, FileError> {
    let keep_when_empty = matches!(
        kind,
        Kind::UrlSet | Kind::Origins | Kind::TextSet | Kind::Gates
    );
    if text.is_empty() && keep_when_empty {
        return Ok(so_far.clone());
    }
    match kind {
        Kind::UrlSet => url::parse_list(text).map(Value::Urls).map_err(|reason| {
            // etcd names the wrong key for this one.
            let swapped = path == "advertise-client-urls";
            let key = if swapped { "advertise-peer-urls" } else { path };
            FileError::Urls {
                key: key.to_owned(),
                reason,
            }
        }),
        Kind::Origins => {
            let nothing = Value::Texts(Vec::new());
            kind.parse(text, &nothing).map_err(|reason| {
                FileError::Value(format!("new UniqueURLs should never fail: {reason}"))
            })
        }
        // Wrong words are found by validation; the stage of the v2 store is overruled anyway.
        Kind::Choice(words) if text.is_empty() => Ok(Value::Text(
            words.first().copied().unwrap_or_default().to_owned(),
        )),
        Kind::Choice(_) | Kind::Text => Ok(Value::Text(text.to_owned())),
        Kind::Stages(_) => Ok(Value::Texts(vec![text.to_owned()])),
        Kind::Gates => FeatureGates::default()
            .with(text)
            .map(Value::Gates)
            .map_err(FileError::Value),
        _ => kind.parse(text, so_far).map_err(FileError::Value),
    }
}

fn signed(node: &Node) -> Option<i64> {
    match node {
        Node::Int(number) => Some(*number),
        Node::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 => Some(*number as i64),
        _ => None,
    }
}

fn unsigned(node: &Node) -> Option<u64> {
    match node {
        Node::Uint(number) => Some(*number),
        node => signed(node).and_then(|number| u64::try_from(number).ok()),
    }
}

fn go_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::Int => "int",
        Kind::Int64 => "int64",
        Kind::Uint => "uint",
        Kind::Uint32 => "uint32",
        Kind::Uint64 => "uint64",
        Kind::Duration => "time.Duration",
        _ => "string",
    }
}

/// Go's JSON error for a value of the wrong kind.
fn mismatch(node: &Node, path: &str, go_type: &str) -> FileError {
    let numeric = ["int", "int64", "uint", "uint32", "uint64", "time.Duration"].contains(&go_type);
    let number = match node {
        Node::Int(n) if numeric => format!(" {n}"),
        Node::Uint(n) if numeric => format!(" {n}"),
        Node::Float(n) if numeric => format!(" {n}"),
        _ => String::new(),
    };
    let top = path.split('.').next().unwrap_or_default();
    let outer = if OUTER_KEYS.contains(&top) {
        "configJSON"
    } else {
        "Config"
    };
    let section = path.rsplit_once('.').map(|(section, _)| section);
    let holder = SECTIONS
        .iter()
        .find(|known| Some(known.path) == section)
        .map_or("configYAML", |known| known.go_struct);
    FileError::Kind(format!(
        "{}{number} into Go struct field {holder}.{outer}.{path} of type {go_type}",
        node.json_kind()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        let mut settings = Settings::defaults();
        let refusal = read(Path::new("c"), text, &mut settings, &mut Vec::new()).unwrap_err();
        refusal.error.to_string()
    }

    /// Each text was printed by etcd 3.7.1 for the same file.
    #[test]
    fn errors_are_gos() {
        let json = "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal ";
        for (text, reason) in [
            (
                "name: 5",
                "number into Go struct field configYAML.Config.name of type string",
            ),
            (
                "name: on",
                "bool into Go struct field configYAML.Config.name of type string",
            ),
            (
                "name: [a]",
                "array into Go struct field configYAML.Config.name of type string",
            ),
            (
                "listen-peer-urls: 5",
                "number into Go struct field configYAML.configJSON.listen-peer-urls of type string",
            ),
            (
                "client-transport-security:\n  cert-file: 5",
                "number into Go struct field \
                 securityConfig.configJSON.client-transport-security.cert-file of type string",
            ),
            (
                "client-transport-security: 5",
                "number into Go struct field configYAML.configJSON.client-transport-security of \
                 type embed.securityConfig",
            ),
            (
                "log-outputs: stderr",
                "string into Go struct field configYAML.Config.log-outputs of type []string",
            ),
            (
                "log-outputs: [5]",
                "number into Go struct field configYAML.Config.log-outputs of type string",
            ),
            (
                "discovery-config:\n  client:\n    endpoints: 5",
                "number into Go struct field ConfigSpec.Config.discovery-config.client.endpoints \
                 of type []string",
            ),
            (
                "heartbeat-interval: -1",
                "number -1 into Go struct field configYAML.Config.heartbeat-interval of type uint",
            ),
            (
                "heartbeat-interval: 1.5",
                "number 1.5 into Go struct field configYAML.Config.heartbeat-interval of type uint",
            ),
            (
                "grpc-keepalive-min-time: 5s",
                "string into Go struct field configYAML.Config.grpc-keepalive-min-time of type \
                 time.Duration",
            ),
            (
                "max-concurrent-streams: 5000000000",
                "number 5000000000 into Go struct field configYAML.Config.max-concurrent-streams \
                 of type uint32",
            ),
            (
                "pre-vote: \"yes\"",
                "string into Go struct field configYAML.Config.pre-vote of type bool",
            ),
            ("[a]", "array into Go value of type embed.configYAML"),
        ] {
            assert_eq!(error(text), format!("{json}{reason}"));
        }
        assert_eq!(
            error("peer-transport-security:"),
            "invalid peer-transport-security"
        );
        assert_eq!(
            error("feature-gates: X=true"),
            "unrecognized feature gate: X"
        );
        assert_eq!(
            error("advertise-client-urls: x"),
            "unexpected error setting up advertise-peer-urls: URL scheme must be http, https, \
             unix, or unixs: x"
        );
    }
}
