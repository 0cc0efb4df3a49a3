//! Severity, in zap's seven levels.

use std::fmt;
use std::str::FromStr;

/// How severe a line is. The order is that of severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// For who looks for a fault.
    Debug,
    /// Normal course of things.
    Info,
    /// Somebody should look at it some day.
    Warn,
    /// Something failed.
    Error,
    /// A fault of the program itself; goes on.
    DPanic,
    /// A fault of the program itself; stops.
    Panic,
    /// The process stops with status 1.
    Fatal,
}

impl Level {
    /// Every level, mildest first.
    pub const ALL: [Self; 7] = [
        Self::Debug,
        Self::Info,
        Self::Warn,
        Self::Error,
        Self::DPanic,
        Self::Panic,
        Self::Fatal,
    ];

    /// The word in a log line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::DPanic => "dpanic",
            Self::Panic => "panic",
            Self::Fatal => "fatal",
        }
    }

    /// The level with this number, the most severe for numbers beyond.
    pub(crate) fn from_number(number: u8) -> Self {
        Self::ALL
            .get(usize::from(number))
            .copied()
            .unwrap_or(Self::Fatal)
    }

    /// syslog's number for it.
    pub(crate) fn priority(self) -> u8 {
        match self {
            Self::Debug => 7,
            Self::Info => 6,
            Self::Warn => 4,
            Self::Error => 3,
            Self::DPanic | Self::Panic | Self::Fatal => 2,
        }
    }
}

impl From<tracing::Level> for Level {
    fn from(level: tracing::Level) -> Self {
        match level {
            tracing::Level::ERROR => Self::Error,
            tracing::Level::WARN => Self::Warn,
            tracing::Level::INFO => Self::Info,
            _ => Self::Debug,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Level {
    type Err = String;

    /// Upper and lower case alike; the empty text is `info`. The error is zap's.
    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        match lower.as_str() {
            "" => Ok(Self::Info),
            "warning" => Ok(Self::Warn),
            word => Self::ALL
                .into_iter()
                .find(|level| level.word() == word)
                .ok_or_else(|| format!("unrecognized level: {text:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_as_zap_reads_them() {
        assert_eq!("WARN".parse(), Ok(Level::Warn));
        assert_eq!("warning".parse(), Ok(Level::Warn));
        assert_eq!("".parse(), Ok(Level::Info));
        assert_eq!(
            "x".parse::<Level>(),
            Err("unrecognized level: \"x\"".to_owned())
        );
        assert!(Level::Fatal > Level::Error);
    }
}
