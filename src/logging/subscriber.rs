//! From `tracing` events to lines.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::fields::marked_list;
use super::level::Level;
use super::line::{FieldValue, Line};
use super::writer::Writer;

/// Targets that are names of loggers rather than modules.
const LOGGERS: [&str; 3] = ["raft", "bbolt", "etcd-client"];

/// Sends events to the log thread.
pub(super) struct Events {
    pub(super) writer: Arc<Writer>,
}

impl Events {
    /// Our own modules and named loggers at every level; libraries only when they warn.
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let own = is_own(metadata.target()) || LOGGERS.contains(&metadata.target());
        let level = Level::from(*metadata.level());
        !metadata.is_span() && self.writer.enabled(level) && (own || level >= Level::Warn)
    }
}

fn is_own(target: &str) -> bool {
    target
        .strip_prefix("etcd")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

impl<S: Subscriber> Layer<S> for Events {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Beside events there are the questions of `enabled!`, which are neither event nor span.
        if metadata.is_span() {
            Interest::never()
        } else {
            Interest::sometimes()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.writer.level() {
            Level::Debug => LevelFilter::TRACE,
            Level::Info => LevelFilter::INFO,
            Level::Warn => LevelFilter::WARN,
            Level::Error => LevelFilter::ERROR,
            _ => LevelFilter::OFF,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut line = Line::new(Level::from(*metadata.level()), "").at(
            metadata.file().unwrap_or_default(),
            metadata.line().unwrap_or_default(),
        );
        if LOGGERS.contains(&metadata.target()) {
            line.logger = Some(Cow::Borrowed(metadata.target()));
        }
        event.record(&mut Fields { line: &mut line });
        self.writer.emit(line);
    }
}

/// Puts the fields of an event into a line, each with its type.
struct Fields<'a> {
    line: &'a mut Line,
}

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: FieldValue) {
        match (field.name(), value) {
            ("message", value) => self.line.message = Cow::Owned(value.to_string()),
            ("message_id", value) => self.line.message_id = Some(value.to_string()),
            (name, value) => self.line.fields.push((Cow::Borrowed(name), value)),
        }
    }
}

impl Visit for Fields<'_> {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, FieldValue::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, FieldValue::Int(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, FieldValue::Uint(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, FieldValue::Float(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, FieldValue::Text(value.to_owned()));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, FieldValue::Text(value.to_string()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        let value = marked_list(&text).map_or(FieldValue::Text(text), FieldValue::List);
        self.put(field, value);
    }
}
