//! Events through the whole way: `tracing` macro, queue, log thread, text.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that `log` makes at `level`, without time and line number.
fn logged(level: Level, log: impl FnOnce()) -> Vec<String> {
    let memory = Memory::default();
    let sink = Sink::Text(Encoder::new(Format::Json), Box::new(memory.clone()));
    let writer = Writer::start(level, vec![sink]).unwrap();
    let events = subscriber::Events {
        writer: Arc::clone(&writer),
    };
    let subscriber = tracing_subscriber::registry().with(events);
    tracing::subscriber::with_default(subscriber, log);
    writer.flush();
    let bytes = memory.0.lock().unwrap().clone();
    String::from_utf8(bytes)
        .unwrap()
        .lines()
        .map(without_time_and_number)
        .collect()
}

fn without_time_and_number(line: &str) -> String {
    let (head, rest) = line.split_once("\"ts\":\"").unwrap();
    let (_, rest) = rest.split_once("\",").unwrap();
    let (caller, rest) = rest.split_once("tests.rs:").unwrap();
    format!(
        "{head}{caller}tests.rs{}",
        rest.trim_start_matches(|c: char| c.is_ascii_digit())
    )
}

#[test]
fn events_keep_order_names_and_types() {
    let urls = ["http://localhost:2380"];
    let lines = logged(Level::Info, || {
        tracing::info!(
            "local-member-id" = %crate::types::MemberId(0x8e9e),
            "listen-peer-urls" = %List(&urls),
            "quota-size-bytes" = 2_147_483_648u64,
            "quota-size" = %HumanBytes(2_147_483_648),
            took = %GoDuration::from(Duration::from_millis(90_500)),
            ready = true,
            offset = -1,
            plain = "text",
            message_id = "f0f0",
            "enabled backend quota"
        );
        tracing::debug!("hidden");
        tracing::warn!(target: "raft", "8e9e became leader at term {}", 2);
        let error = io::Error::other("no room");
        tracing::error!(error = %error, "failed");
    });
    assert_eq!(
        lines,
        [
            concat!(
                r#"{"level":"info","caller":"logging/tests.rs","msg":"enabled backend quota","#,
                r#""local-member-id":"8e9e","listen-peer-urls":["http://localhost:2380"],"#,
                r#""quota-size-bytes":2147483648,"quota-size":"2.1 GB","took":"1m30.5s","#,
                r#""ready":true,"offset":-1,"plain":"text"}"#
            ),
            concat!(
                r#"{"level":"warn","logger":"raft","caller":"logging/tests.rs","#,
                r#""msg":"8e9e became leader at term 2"}"#
            ),
            concat!(
                r#"{"level":"error","caller":"logging/tests.rs","msg":"failed","#,
                r#""error":"no room"}"#
            ),
        ]
    );
}

#[test]
fn libraries_are_heard_when_they_warn() {
    let lines = logged(Level::Debug, || {
        tracing::debug!(target: "h2::codec", "frame");
        tracing::warn!(target: "h2::codec", "broken");
        tracing::debug!("own");
    });
    let messages: Vec<bool> = lines
        .iter()
        .map(|l| l.contains("broken") || l.contains("own"))
        .collect();
    assert_eq!(messages, [true, true]);
}

#[test]
fn whether_a_level_is_written_can_be_asked() {
    let ask = || {
        if tracing::enabled!(tracing::Level::DEBUG) {
            tracing::debug!("costly");
        }
    };
    assert_eq!(logged(Level::Info, ask).len(), 0);
    assert_eq!(logged(Level::Debug, ask).len(), 1);
}

#[test]
fn forged_lists_stay_texts() {
    let forged = "\u{1}json:[\"a\"],\"level\":\"x\"";
    let lines = logged(Level::Info, || tracing::info!(key = %forged, "m"));
    assert!(
        lines[0].ends_with(r#""key":"\u0001json:[\"a\"],\"level\":\"x\""}"#),
        "{}",
        lines[0]
    );
}

#[test]
fn missing_files_are_named_as_etcd_does() {
    let outputs = vec![Output::File("/nowhere/x".to_owned())];
    let error = open_sinks(&Options {
        outputs,
        ..Options::default()
    })
    .err()
    .unwrap();
    let text = "open sink \"/nowhere/x\": open /nowhere/x: no such file or directory";
    assert_eq!(error.to_string(), text);
    let outputs = vec![Output::File(String::new())];
    let error = open_sinks(&Options {
        outputs,
        ..Options::default()
    })
    .err()
    .unwrap();
    assert_eq!(
        error.to_string(),
        "open sink \"\": open : no such file or directory"
    );
}
