//! The log thread: everybody else only puts lines into its bounded queue.
//!
//! Whoever logs never waits for an output. When the queue is full, because a pipe, a disk or the
//! journal is stuck, lines are dropped and counted; the count is logged once there is room again.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use flume::{Receiver, Sender, bounded};

use super::encode::Encoder;
use super::journal::Journal;
use super::level::Level;
use super::line::Line;
use super::sample::Sampler;

/// Lines waiting to be written; above that they are dropped.
const QUEUE_LINES_MAX: usize = 8192;
/// Longest wait of [`Writer::flush`].
const FLUSH_MAX: Duration = Duration::from_secs(2);
/// Least time between two lines about dropped lines.
const DROPPED_INTERVAL: Duration = Duration::from_secs(1);

/// One output.
pub(super) enum Sink {
    /// Text, one write per line.
    Text(Encoder, Box<dyn Write + Send>),
    /// The journal's fields.
    Journal(Journal),
}

impl Sink {
    fn write(&mut self, line: &Line, text: &mut String) -> std::io::Result<()> {
        match self {
            Self::Text(encoder, out) => {
                encoder.encode(line, text);
                out.write_all(text.as_bytes())
            }
            Self::Journal(journal) => journal.send(line),
        }
    }
}

/// Writes a line at once, on the caller's thread: before the log thread exists.
pub(super) fn write_directly(sinks: &mut [Sink], line: &Line) {
    let mut text = String::new();
    for sink in sinks {
        let _ = sink.write(line, &mut text); // where to would this be reported?
    }
}

enum Message {
    Line(Box<Line>),
    Flushed(Sender<()>),
}

/// The way to the log thread.
pub(super) struct Writer {
    level: AtomicU8,
    sampler: Sampler,
    queue: Sender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    /// Starts the log thread. It ends with the process, or with the last handle in tests.
    pub(super) fn start(level: Level, sinks: Vec<Sink>) -> std::io::Result<Arc<Self>> {
        Self::with_queue(level, sinks, QUEUE_LINES_MAX)
    }

    fn with_queue(level: Level, sinks: Vec<Sink>, lines_max: usize) -> std::io::Result<Arc<Self>> {
        let (queue, lines) = bounded(lines_max);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || run(&lines, sinks, &counter))?;
        let level = AtomicU8::new(level as u8);
        Ok(Arc::new(Self {
            level,
            sampler: Sampler::new(),
            queue,
            dropped,
        }))
    }

    pub(super) fn level(&self) -> Level {
        Level::from_number(self.level.load(Ordering::Relaxed))
    }

    pub(super) fn set_level(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    pub(super) fn enabled(&self, level: Level) -> bool {
        level as u8 >= self.level.load(Ordering::Relaxed)
    }

    /// Lines dropped since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Puts a line into the queue if its level and its sampling let it pass. Never waits, but for
    /// lines above error, after which the process ends: they are written when this returns.
    pub(super) fn emit(&self, line: Line) {
        if !self.enabled(line.level) {
            return;
        }
        if line.level > Level::Error {
            let _ = self
                .queue
                .send_timeout(Message::Line(Box::new(line)), FLUSH_MAX);
            self.flush();
        } else if self.sampler.passes(line.level, &line.message, line.time)
            && self.queue.try_send(Message::Line(Box::new(line))).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything before is written, or [`FLUSH_MAX`] has passed.
    pub(super) fn flush(&self) {
        let (flushed, done) = bounded(1);
        let start = Instant::now();
        if self
            .queue
            .send_timeout(Message::Flushed(flushed), FLUSH_MAX)
            .is_ok()
        {
            let _ = done.recv_timeout(FLUSH_MAX.saturating_sub(start.elapsed()));
        }
    }
}

fn run(lines: &Receiver<Message>, mut sinks: Vec<Sink>, dropped: &AtomicU64) {
    let mut text = String::new();
    let mut reported = 0;
    let mut reported_at: Option<Instant> = None;
    while let Ok(message) = lines.recv() {
        match message {
            Message::Line(line) => write(&mut sinks, &line, &mut text, dropped),
            Message::Flushed(done) => {
                let _ = done.try_send(());
            }
        }
        let count = dropped.load(Ordering::Relaxed);
        let due = reported_at.is_none_or(|at| at.elapsed() >= DROPPED_INTERVAL);
        if count > reported && due {
            let line = Line::warn("log lines were dropped because an output is too slow")
                .with("dropped", count - reported)
                .with("dropped-total", count);
            write(&mut sinks, &line, &mut text, dropped);
            (reported, reported_at) = (count, Some(Instant::now()));
        }
    }
}

fn write(sinks: &mut [Sink], line: &Line, text: &mut String, dropped: &AtomicU64) {
    for sink in sinks {
        if sink.write(line, text).is_err() {
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::Mutex;

    use super::super::options::Format;
    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Memory {
        fn sink(&self) -> Sink {
            Sink::Text(Encoder::new(Format::Json), Box::new(self.clone()))
        }

        fn messages(&self) -> Vec<String> {
            let bytes = self.0.lock().unwrap().clone();
            let text = String::from_utf8(bytes).unwrap();
            let message = |line: &str| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                line["msg"].as_str().unwrap().to_owned()
            };
            text.lines().map(message).collect()
        }
    }

    #[test]
    fn level_flush_and_fatal() {
        let memory = Memory::default();
        let writer = Writer::start(Level::Info, vec![memory.sink()]).unwrap();
        writer.emit(Line::new(Level::Debug, "hidden"));
        writer.emit(Line::info("one"));
        writer.flush();
        assert_eq!(memory.messages(), ["one"]);
        writer.set_level(Level::Debug);
        writer.emit(Line::new(Level::Debug, "two"));
        writer.emit(Line::fatal("three"));
        assert_eq!(
            memory.messages(),
            ["one", "two", "three"],
            "fatal is written at once"
        );
    }

    /// A journal that reads nothing: its socket fills, then the queue, and callers go on. If they
    /// waited for the journal, each of these lines would take a second.
    #[test]
    fn a_blocked_journal_blocks_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let stopped = UnixDatagram::bind(&path).unwrap();
        let sinks = vec![Sink::Journal(Journal::connect_to(&path).unwrap())];
        let (queue_lines, socket_lines_max, lines) = (16, 1_000, 10_000);
        let writer = Writer::with_queue(Level::Info, sinks, queue_lines).unwrap();
        for number in 0..lines {
            writer.emit(Line::info(format!("line {number}")));
        }
        assert!(writer.dropped() >= lines - queue_lines as u64 - socket_lines_max);
        let mut buffer = [0; 1024];
        let length = stopped.recv(&mut buffer).unwrap();
        assert!(
            buffer[..length].starts_with(b"MESSAGE=line 0\n"),
            "what was sent is there"
        );
    }

    #[test]
    fn dropped_lines_are_told() {
        let memory = Memory::default();
        let held = memory.0.lock().unwrap();
        let writer = Writer::with_queue(Level::Info, vec![memory.sink()], 2).unwrap();
        for number in 0..10 {
            writer.emit(Line::info(format!("{number}")));
        }
        drop(held);
        writer.flush();
        writer.flush(); // the report follows the first one
        assert!(writer.dropped() >= 7);
        assert!(
            memory
                .messages()
                .iter()
                .any(|m| m.starts_with("log lines were dropped"))
        );
    }
}
