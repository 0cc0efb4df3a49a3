//! The rules of the source tree that no compiler checks: who may name whom, that every file says what it is,
//! that none grows without a reason, that no note is left lying about.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each module may name of the crate. Like a dependency list: an entry more needs a reason in review.
/// A module names lower layers only, never one of its own layer; the last layer is free.
const LAYERS: &[&[&str]] = &[
    &["disk", "pb", "types"],
    &["bbolt", "store", "wal"],
    &["alarm", "lease", "membership", "mvcc"],
    &["machine", "raft", "watch"],
    &["logging", "metrics", "systemd", "tls"],
    &["node"],
    &["http", "rpc"],
    &["bench", "client", "config", "ctl", "fuzz", "server", "utl"],
];

/// Modules that may name one of their own layer, and why.
const NEIGHBOURS: &[(&str, &str, &str)] = &[
    (
        "store",
        "bbolt",
        "snapshots are bbolt files, written from and read into the store",
    ),
    ("tls", "metrics", "certificate expiry is a metric"),
    (
        "systemd",
        "metrics",
        "the status line reads what is counted anyway",
    ),
    ("logging", "metrics", "dropped lines are counted"),
    (
        "tls",
        "logging",
        "lines that the journal's catalog explains carry its identities",
    ),
    ("http", "rpc", "a listener serves both on one port"),
];

/// Replicated state and the engines: no clock, randomness, threads, channels, locks, tasks or environment.
const PURE: &[&str] = &[
    "alarm",
    "lease",
    "machine",
    "membership",
    "mvcc",
    "raft",
    "watch",
];
const IMPURE: &[&str] = &[
    "std::time::Instant",
    "SystemTime",
    "std::thread",
    "std::env",
    "std::sync::Mutex",
    "std::sync::mpsc",
    "std::sync::atomic",
    "parking_lot",
    "crossbeam",
    "flume",
    "tokio",
    "async fn",
    "rand::",
    "tracing::",
];

/// Words an otherwise pure file may have, and why.
const EXCUSED: &[(&str, &str, &str)] = &[(
    "src/raft/lines.rs",
    "std::sync::Mutex",
    "slog wants a drain that could be shared; it never leaves its thread",
)];

/// Lines a file may have before it needs a reason.
const FILE_LINES_MAX: usize = 900;
/// Longer files that are still one thing.
const LONG_FILES: &[(&str, &str)] = &[];

fn sources(root: &str) -> Vec<PathBuf> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(directory) else {
            return;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new(root), &mut found);
    found.sort();
    assert!(!found.is_empty(), "{root} has no sources: wrong directory?");
    found
}

/// The top-level module a file belongs to.
fn module(path: &Path) -> Option<String> {
    let first = path.strip_prefix("src").ok()?.components().next()?;
    let name = first.as_os_str().to_str()?;
    let name = name.strip_suffix(".rs").unwrap_or(name);
    (!["bin", "lib"].contains(&name)).then(|| name.to_owned())
}

/// The source without comments and without its tests.
fn code(text: &str) -> String {
    let until_tests = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text);
    let uncommented = until_tests
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    uncommented.collect::<Vec<_>>().join("\n")
}

fn is_test_file(path: &Path) -> bool {
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    let directory = path
        .parent()
        .and_then(Path::file_name)
        .and_then(|name| name.to_str());
    ["tests", "fuzz", "model"].contains(&stem) || directory == Some("tests")
}

fn named_modules(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let list = list.split('}').next().unwrap_or_default();
            for item in list.split(',') {
                names.extend(item.trim().split("::").next().map(str::to_owned));
            }
        } else {
            let name = rest
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next();
            names.extend(name.map(str::to_owned));
        }
    }
    names
}

#[test]
fn modules_name_lower_layers_only() {
    let layer: BTreeMap<&str, usize> = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(layer, modules)| modules.iter().map(move |module| (*module, layer)))
        .collect();
    let mut wrong = Vec::new();
    for path in sources("src") {
        let Some(this) = module(&path) else { continue };
        let Some(&own) = layer.get(this.as_str()) else {
            wrong.push(format!("{}: module {this} has no layer", path.display()));
            continue;
        };
        let text = fs::read_to_string(&path).unwrap();
        for named in named_modules(&code(&text)) {
            let Some(&other) = layer.get(named.as_str()) else {
                continue;
            };
            let neighbour = NEIGHBOURS
                .iter()
                .any(|(from, to, _)| *from == this && *to == named);
            if named != this && other >= own && own + 1 < LAYERS.len() && !neighbour {
                wrong.push(format!("{}: {this} names {named}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "layer rule:\n{}", wrong.join("\n"));
}

#[test]
fn pure_modules_stay_pure() {
    let mut wrong = Vec::new();
    for path in sources("src") {
        if is_test_file(&path) || !module(&path).is_some_and(|m| PURE.contains(&m.as_str())) {
            continue;
        }
        if path.starts_with("src/raft/proto") {
            continue;
        }
        let text = code(&fs::read_to_string(&path).unwrap());
        for word in IMPURE {
            let excused = EXCUSED
                .iter()
                .any(|(file, of, _)| Path::new(file) == path && of == word);
            if text.contains(word) && !excused {
                wrong.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "impure:\n{}", wrong.join("\n"));
}

#[test]
fn one_module_names_each_engine() {
    for (engine, owner) in [("redb", "store"), ("raft", "raft")] {
        for path in sources("src") {
            if module(&path).as_deref() == Some(owner) {
                continue;
            }
            let text = code(&fs::read_to_string(&path).unwrap());
            let names = text.contains(&format!("use {engine}::"))
                || text.contains(&format!(" ::{engine}::"));
            assert!(
                !names,
                "{} names the {engine} crate; only {owner} may",
                path.display()
            );
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    for root in ["src", "tests"] {
        for path in sources(root) {
            let text = fs::read_to_string(&path).unwrap();
            let text = text.trim_start_matches("#![forbid(unsafe_code)]\n");
            assert!(
                text.starts_with("//!"),
                "{} has no module head",
                path.display()
            );
        }
    }
}

#[test]
fn files_stay_small() {
    for path in sources("src") {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        let excused = LONG_FILES.iter().any(|(file, _)| Path::new(file) == path);
        assert!(
            lines <= FILE_LINES_MAX || excused,
            "{} has {lines} lines: split it, or say in LONG_FILES why it is one thing",
            path.display()
        );
    }
}

#[test]
fn no_loose_ends() {
    // Spelled apart so that this file passes its own test.
    let words = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].map(|[a, b]| format!("{a}{b}"));
    let calls = [
        ["todo", "!("],
        ["unimplemented", "!("],
        ["dbg", "!("],
        ["#[ig", "nore"],
    ]
    .map(|[a, b]| format!("{a}{b}"));
    for path in sources("src").into_iter().chain(sources("tests")) {
        let text = fs::read_to_string(&path).unwrap();
        for word in words.iter().chain(&calls) {
            assert!(
                !text.contains(word.as_str()),
                "{} has {word}",
                path.display()
            );
        }
    }
}
