//! The log of a first start and a stop, recorded from etcd 3.7.1 (`tests/golden/startup-log.jsonl`): every line's
//! level, logger, text and fields.
//!
//! Order is compared where it means something: threads and tasks of both programs log as they come.

use serde_json::Value;

use crate::member::Member;

/// Lines about parts of etcd that this server has not. Each is the start of a text.
const NOT_HERE: [&str; 10] = [
    // Its database.
    "Opening db file",
    "Opening bbolt db",
    // A raft log that is written before its members are.
    "<id> switched to configuration voters=()",
    "<id> became follower at term 0",
    "newRaft <id>",
    // The port multiplexer, which also fails at every stop.
    "cmux::serve",
    "setting up serving from embedded etcd failed.",
    "stopping insecure grpc server due to error",
    "stopped insecure grpc server due to error",
    // Snapshot files, and the task that removes them and old log files.
    "started to purge file",
];

/// Tasks that end by themselves here when their work is done.
const ENDED_BEFORE: &str = "server has stopped; stopping";

/// What has to come in this order, whatever comes between.
const MILESTONES: [&str; 17] = [
    "Running: ",
    "Initialize and start etcd server",
    "configuring peer listeners",
    "configuring client listeners",
    "starting an etcd server",
    "opened backend db",
    "starting local member",
    "bootstrap successfully",
    "kvstore restored",
    "starting etcd server",
    "now serving peer/client/metrics",
    "published local member to cluster through raft",
    "ready to serve client requests",
    "notifying init daemon",
    "received signal; shutting down",
    "closing etcd server",
    "closed etcd server",
];

/// `level logger text [fields]`.
fn shape(level: &str, logger: &str, text: &str, fields: &[String]) -> String {
    format!("{level} {logger} {text} {fields:?}")
}

fn recorded() -> Vec<String> {
    let recording = include_str!("../golden/startup-log.jsonl");
    let lines = recording
        .lines()
        .map(|line| -> Value { serde_json::from_str(line).expect("line") });
    let is_here = |line: &Value| {
        let text = line["msg"].as_str().expect("text");
        !text.starts_with(ENDED_BEFORE) && !NOT_HERE.iter().any(|start| text.starts_with(start))
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    lines
        .filter(is_here)
        .map(|line| {
            let fields: Vec<_> = line["keys"]
                .as_array()
                .expect("keys")
                .iter()
                .map(text)
                .collect();
            shape(
                &text(&line["level"]),
                &text(&line["logger"]),
                &text(&line["msg"]),
                &fields,
            )
        })
        .collect()
}

/// The log as (text, shape); ids in texts by name.
fn logged(log: &str) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for line in log.lines() {
        let line: serde_json::Map<String, Value> =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let text = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default();
        let message: Vec<_> = text("msg")
            .split_inclusive([' ', '(', ')', '[', ']'])
            .map(name_id)
            .collect();
        let message = message.concat();
        let head = ["level", "ts", "logger", "caller", "msg"];
        let fields: Vec<String> = line
            .keys()
            .filter(|key| !head.contains(&key.as_str()))
            .cloned()
            .collect();
        let shape = shape(text("level"), text("logger"), &message, &fields);
        if !NOT_HERE.iter().any(|start| message.starts_with(start)) {
            lines.push((message, shape));
        }
    }
    lines
}

fn name_id(word: &str) -> String {
    let bare = word.trim_end_matches([' ', '(', ')', '[', ']']);
    let is_id = bare.len() > 12 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id {
        word.replace(bare, "<id>")
    } else {
        word.to_owned()
    }
}

#[test]
fn a_start_and_a_stop_are_told_as_etcd_tells_them() {
    let mut member = Member::start(&[]);
    assert!(member.terminate().success());
    let lines = logged(&member.log());

    let (mut want, mut got) = (
        recorded(),
        lines.iter().map(|line| line.1.clone()).collect::<Vec<_>>(),
    );
    want.sort();
    got.sort();
    let missing: Vec<_> = want.iter().filter(|line| !got.contains(line)).collect();
    let new: Vec<_> = got.iter().filter(|line| !want.contains(line)).collect();
    assert!(
        missing.is_empty() && new.is_empty(),
        "missing {missing:#?}\nnew {new:#?}"
    );
    assert_eq!(got, want, "a line comes more often or less often");

    let reached: Vec<_> = lines
        .iter()
        .map(|line| line.0.as_str())
        .filter(|text| MILESTONES.contains(text))
        .collect();
    assert_eq!(reached, MILESTONES);
}
