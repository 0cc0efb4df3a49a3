//! Log lines: etcd's JSON or console form on streams and files, fields in the journal.
//!
//! Code logs with `tracing`. The message is etcd's, fields keep etcd's names and order:
//!
//! ```ignore
//! use etcd::logging::{GoDuration, HumanBytes, List};
//!
//! tracing::info!(
//!     "local-member-id" = %id,                          // Display: a text, hexadecimal for ids
//!     "listen-peer-urls" = %List(&urls),                // an array of texts
//!     "quota-size-bytes" = bytes,                       // integers stay numbers
//!     "quota-size" = %HumanBytes(bytes),                // "2.1 GB"
//!     took = %GoDuration::from(elapsed),                // "1m0.5s"
//!     "enabled backend quota"
//! );
//! tracing::warn!(error = %error, message_id = SLOW_FSYNC, "slow fdatasync");
//! tracing::info!(target: "raft", "{text}");             // under the logger `raft`
//! ```
//!
//! `message_id` is no field of the line but its identity in the journal's catalog. [`Line`] is for
//! what `tracing` cannot say: more than 32 fields, names known at run time, `fatal`, or lines made
//! before [`init`].
//!
//! Keys come in zap's order: level, ts, logger, caller, msg, fields. `caller` is
//! `module/file.rs:line`. Lines of level error carry no `stacktrace`: Rust's would name inlined
//! frames of a release build and cost milliseconds, and nothing reads etcd's.
//!
//! **Invariant: logging never waits.** A line goes into a bounded queue or is dropped and counted
//! ([`dropped`]); one thread writes. Only lines above error wait, up to two seconds, because the
//! process ends after them.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use tracing_subscriber::layer::SubscriberExt;

mod encode;
mod fields;
mod journal;
mod level;
mod line;
pub mod message_id;
mod options;
mod rotate;
mod sample;
mod subscriber;
#[cfg(test)]
mod tests;
mod writer;

pub use fields::{GoDuration, HumanBytes, List};
pub use level::Level;
pub use line::{FieldValue, Line};
pub use options::{Format, Options, Output, Rotation};

use encode::Encoder;
use journal::Journal;
use rotate::RotatingFile;
use writer::{Sink, Writer};

static WRITER: OnceLock<Arc<Writer>> = OnceLock::new();

/// Why logging could not begin. The texts are etcd's.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file cannot be opened.
    #[error("open sink {path:?}: open {path}: {reason}")]
    Open {
        /// The file.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// The journal is not there.
    #[error("{0}")]
    Journal(String),
    /// The log thread cannot start.
    #[error("cannot start the log thread: {0}")]
    Thread(#[from] io::Error),
    /// Another part of the process has set up `tracing`, or this was called twice.
    #[error("logging is set up already")]
    Twice,
}

/// Opens the outputs, starts the log thread and makes it the process's subscriber.
///
/// From here on a panic is logged too, before the process ends.
pub fn init(options: &Options) -> Result<(), LogError> {
    let sinks = open_sinks(options)?;
    let writer = Writer::start(options.level, sinks)?;
    let events = subscriber::Events {
        writer: Arc::clone(&writer),
    };
    let subscriber = tracing_subscriber::registry().with(events);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
    WRITER.set(writer).map_err(|_| LogError::Twice)?;
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("panic");
        let mut line = Line::new(Level::Panic, text.to_owned());
        if let Some(place) = panic.location() {
            line = line.at(place.file().to_owned(), place.line());
        }
        let thread = std::thread::current();
        emit(line.with("thread", thread.name().unwrap_or("unnamed")));
    }));
    Ok(())
}

/// Logs a line. Before [`init`] it is written at once, in the default way.
pub fn emit(line: Line) {
    match WRITER.get() {
        Some(writer) => writer.emit(line),
        None => {
            let sinks = open_sinks(&Options::default());
            writer::write_directly(&mut sinks.unwrap_or_default(), &line);
        }
    }
}

/// A line in zap's console form with times to the second, as etcd's offline tools have it; its end included.
pub fn console_line(line: &Line) -> String {
    let mut text = String::new();
    Encoder::to_the_second().encode(line, &mut text);
    text
}

/// Waits until every line so far is written, at most two seconds. To be called before the end.
pub fn flush() {
    if let Some(writer) = WRITER.get() {
        writer.flush();
    }
}

/// The mildest level that is written.
pub fn level() -> Level {
    WRITER.get().map_or(Level::Info, |writer| writer.level())
}

/// Writes lines of this level and above from now on.
pub fn set_level(level: Level) {
    if let Some(writer) = WRITER.get() {
        writer.set_level(level);
        tracing::callsite::rebuild_interest_cache();
    }
}

/// Lines lost since the start because an output was too slow or failed.
pub fn dropped() -> u64 {
    WRITER.get().map_or(0, |writer| writer.dropped())
}

fn open_sinks(options: &Options) -> Result<Vec<Sink>, LogError> {
    let mut sinks = Vec::new();
    let text = |out: Box<dyn io::Write + Send>| Sink::Text(Encoder::new(options.format), out);
    for output in &options.outputs {
        sinks.push(match output {
            Output::Stderr => text(Box::new(io::stderr())),
            Output::Stdout => text(Box::new(io::stdout())),
            Output::Journal => Sink::Journal(Journal::connect().map_err(LogError::Journal)?),
            Output::Default if journal::reads_stderr() => match Journal::connect() {
                Ok(journal) => Sink::Journal(journal),
                Err(_) => text(Box::new(io::stderr())),
            },
            Output::Default => text(Box::new(io::stderr())),
            Output::File(path) => text(open_file(path, options.rotation.as_ref())?),
        });
    }
    Ok(sinks)
}

fn open_file(
    path: &str,
    rotation: Option<&Rotation>,
) -> Result<Box<dyn io::Write + Send>, LogError> {
    let opened: io::Result<Box<dyn io::Write + Send>> = match rotation {
        Some(rotation) => RotatingFile::open(Path::new(path), rotation.clone())
            .map(|file| Box::new(file) as Box<dyn io::Write + Send>),
        None => OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o644)
            .open(path)
            .map(|file| Box::new(file) as Box<dyn io::Write + Send>),
    };
    opened.map_err(|error| LogError::Open {
        path: path.to_owned(),
        reason: os_error_text(&error),
    })
}

/// An operating system's error in Go's words: `no such file or directory`.
pub fn os_error_text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => {
            let text = nix::errno::Errno::from_raw(number).desc();
            let mut letters = text.chars();
            let first = letters.next().map(|c| c.to_lowercase().to_string());
            first.unwrap_or_default() + letters.as_str()
        }
        None => error.to_string(),
    }
}
