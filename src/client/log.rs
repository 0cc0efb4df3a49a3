//! JSON lines on stderr in the shape etcd's clients print them.
//!
//! The client reports failed attempts even when a later one succeeds; operators grep for these lines, so keys,
//! their order and the messages are etcd's. `ETCD_CLIENT_DEBUG` names the lowest level that is printed.

use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::Location;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Progress.
    Info,
    /// Something failed, work goes on.
    Warn,
    /// A piece of work is lost.
    Error,
    /// The program ends.
    Fatal,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

/// A field's value.
#[derive(Clone, Debug)]
pub enum Value {
    /// Printed in quotes.
    Text(String),
    /// Printed bare.
    Number(i64),
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// Where a client's lines come from.
#[derive(Clone, Copy, Debug)]
pub struct Logger {
    name: Option<&'static str>,
    lowest: Level,
}

impl Logger {
    /// A logger with this name; its lowest level comes from `ETCD_CLIENT_DEBUG`.
    pub fn client(name: &'static str) -> Self {
        let lowest = match std::env::var("ETCD_CLIENT_DEBUG").as_deref() {
            Ok("warn" | "WARN") => Level::Warn,
            Ok("error" | "ERROR") => Level::Error,
            Ok("dpanic" | "panic" | "fatal" | "DPANIC" | "PANIC" | "FATAL") => Level::Fatal,
            _ => Level::Info,
        };
        Self {
            name: Some(name),
            lowest,
        }
    }

    /// The nameless logger of a command.
    pub const fn plain() -> Self {
        Self {
            name: None,
            lowest: Level::Info,
        }
    }

    /// A logger of nothing but the end of the program.
    pub const fn silent() -> Self {
        Self {
            name: None,
            lowest: Level::Fatal,
        }
    }

    /// Prints one line.
    #[track_caller]
    pub fn log(&self, level: Level, message: &str, fields: &[(&str, Value)]) {
        if level < self.lowest {
            return;
        }
        let line = self.line(level, message, fields, Location::caller());
        // Nowhere is left to report a closed stderr to.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn line(
        &self,
        level: Level,
        message: &str,
        fields: &[(&str, Value)],
        caller: &Location<'_>,
    ) -> String {
        let mut line = format!(
            "{{\"level\":\"{}\",\"ts\":\"{}\"",
            level.name(),
            timestamp()
        );
        if let Some(name) = self.name {
            let _ = write!(line, ",\"logger\":{}", quoted(name));
        }
        let file = caller.file().strip_prefix("src/").unwrap_or(caller.file());
        let _ = write!(
            line,
            ",\"caller\":\"{file}:{}\",\"msg\":{}",
            caller.line(),
            quoted(message)
        );
        for (key, value) in fields {
            let _ = match value {
                Value::Text(text) => write!(line, ",{}:{}", quoted(key), quoted(text)),
                Value::Number(number) => write!(line, ",{}:{number}", quoted(key)),
            };
        }
        if level >= Level::Error {
            let _ = write!(line, ",\"stacktrace\":\"{file}:{}\"", caller.line());
        }
        line.push_str("}\n");
        line
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn timestamp() -> String {
    jiff::Zoned::now()
        .strftime("%Y-%m-%dT%H:%M:%S.%6f%z")
        .to_string()
        .replace("+0000", "Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_etcds_keys_in_etcds_order() {
        let logger = Logger {
            name: Some("etcd-client"),
            lowest: Level::Info,
        };
        let fields = [
            ("attempt", Value::from(0)),
            ("error", Value::from("a \"b\"")),
        ];
        let line = logger.line(Level::Error, "it failed", &fields, Location::caller());
        let parsed: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&line).unwrap();
        let keys: Vec<_> = parsed.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "level",
                "ts",
                "logger",
                "caller",
                "msg",
                "attempt",
                "error",
                "stacktrace"
            ]
        );
        assert_eq!(parsed["error"], "a \"b\"");
        assert_eq!(parsed["attempt"], 0);
    }
}
