//! Lines as text: JSON as zap writes it, and zap's console form.

use std::time::SystemTime;

use jiff::tz::TimeZone;

use super::line::{FieldValue, Line};
use super::options::Format;

/// zap's time: microseconds, `Z` or an offset without a colon.
const TIME_FORMAT: &str = "%Y-%m-%dT%H:%M:%S.%6f";
/// RFC 3339.
const TIME_FORMAT_SECONDS: &str = "%Y-%m-%dT%H:%M:%S";

/// Turns lines into text in one time zone.
pub(super) struct Encoder {
    format: Format,
    zone: TimeZone,
    time_format: &'static str,
    /// What stands for an offset other than zero.
    offset_format: &'static str,
}

impl Encoder {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            zone: TimeZone::system(),
            time_format: TIME_FORMAT,
            offset_format: "%z",
        }
    }

    /// The console form with times of RFC 3339 to the second.
    pub(super) fn to_the_second() -> Self {
        Self {
            time_format: TIME_FORMAT_SECONDS,
            offset_format: "%:z",
            ..Self::new(Format::Console)
        }
    }

    /// Replaces `text` by the line, its end included.
    pub(super) fn encode(&self, line: &Line, text: &mut String) {
        text.clear();
        match self.format {
            Format::Json => self.json(line, text),
            Format::Console => self.console(line, text),
        }
        text.push('\n');
    }

    fn json(&self, line: &Line, text: &mut String) {
        text.push_str("{\"level\":\"");
        text.push_str(line.level.word());
        text.push_str("\",\"ts\":\"");
        text.push_str(&self.time(line.time));
        text.push('"');
        if let Some(logger) = &line.logger {
            text.push_str(",\"logger\":");
            push_text(text, logger);
        }
        text.push_str(",\"caller\":");
        push_text(text, &line.caller());
        text.push_str(",\"msg\":");
        push_text(text, &line.message);
        for (name, value) in &line.fields {
            text.push(',');
            push_text(text, name);
            text.push(':');
            push_value(text, value, ",");
        }
        text.push('}');
    }

    fn console(&self, line: &Line, text: &mut String) {
        text.push_str(&self.time(line.time));
        text.push('\t');
        text.push_str(line.level.word());
        if let Some(logger) = &line.logger {
            text.push('\t');
            text.push_str(logger);
        }
        text.push('\t');
        text.push_str(&line.caller());
        text.push('\t');
        text.push_str(&line.message);
        for (at, (name, value)) in line.fields.iter().enumerate() {
            text.push_str(if at == 0 { "\t{" } else { ", " });
            push_text(text, name);
            text.push_str(": ");
            push_value(text, value, ", ");
        }
        if !line.fields.is_empty() {
            text.push('}');
        }
    }

    fn time(&self, time: SystemTime) -> String {
        let Ok(time) = jiff::Timestamp::try_from(time) else {
            return String::new();
        };
        let time = time.to_zoned(self.zone.clone());
        let utc = time.offset().is_zero();
        let offset = if utc { "Z" } else { self.offset_format };
        let format = format!("{}{offset}", self.time_format);
        time.strftime(&format).to_string()
    }
}

fn push_text(out: &mut String, text: &str) {
    // A string always serializes.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

fn push_value(out: &mut String, value: &FieldValue, comma: &str) {
    match value {
        FieldValue::Text(text) => push_text(out, text),
        // JSON has no such numbers; zap makes texts of them.
        FieldValue::Float(number) if !number.is_finite() => push_text(out, &number.to_string()),
        FieldValue::List(texts) => {
            out.push('[');
            for (at, text) in texts.iter().enumerate() {
                if at > 0 {
                    out.push_str(comma);
                }
                push_text(out, text);
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Level;
    use super::*;

    fn line() -> Line {
        let mut line = Line::new(Level::Warn, "a \"b\"\n")
            .at("src/raft/core.rs", 3)
            .with("number", 7u64)
            .with("text", "x<y\u{7f}é")
            .with("yes", true)
            .with("ratio", 0.5)
            .list("urls", &["http://a", "http://b"]);
        line.time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_042);
        line
    }

    fn encoded(format: Format, zone: TimeZone, line: &Line) -> String {
        let mut text = "old".to_owned();
        let encoder = Encoder {
            zone,
            ..Encoder::new(format)
        };
        encoder.encode(line, &mut text);
        text
    }

    #[test]
    fn json_as_zap() {
        assert_eq!(
            encoded(Format::Json, TimeZone::UTC, &line().logger("raft")),
            concat!(
                r#"{"level":"warn","ts":"2023-11-14T22:13:20.000042Z","logger":"raft","#,
                r#""caller":"raft/core.rs:3","msg":"a \"b\"\n","number":7,"#,
                "\"text\":\"x<y\u{7f}é\",\"yes\":true,\"ratio\":0.5,",
                r#""urls":["http://a","http://b"]}"#,
                "\n"
            )
        );
    }

    #[test]
    fn console_as_zap() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(
            encoded(
                Format::Console,
                zone.clone(),
                &Line {
                    fields: vec![],
                    ..line()
                }
            ),
            "2023-11-15T00:13:20.000042+0200\twarn\traft/core.rs:3\ta \"b\"\n\n"
        );
        let seconds = Encoder {
            zone: zone.clone(),
            ..Encoder::to_the_second()
        };
        assert_eq!(seconds.time(line().time), "2023-11-15T00:13:20+02:00");
        let with_fields = encoded(Format::Console, zone, &line().logger("raft"));
        assert!(with_fields.starts_with("2023-11-15T00:13:20.000042+0200\twarn\traft\traft/core"));
        assert!(with_fields.ends_with("\"ratio\": 0.5, \"urls\": [\"http://a\", \"http://b\"]}\n"));
    }
}
