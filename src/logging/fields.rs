//! Texts of values as etcd's log lines have them.

use std::fmt;
use std::time::Duration;

/// Marks a `Display` text as JSON, see [`List`].
pub(crate) const JSON_MARK: &str = "\u{1}json:";

/// A duration as Go prints it: `1m0s`, `1.5s`, `100ms`, `0s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoDuration {
    nanos: i64,
}

impl GoDuration {
    /// From signed nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self { nanos }
    }
}

impl From<Duration> for GoDuration {
    fn from(duration: Duration) -> Self {
        Self {
            nanos: i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX),
        }
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.nanos.unsigned_abs();
        if self.nanos < 0 {
            f.write_str("-")?;
        }
        match magnitude {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{magnitude}ns"),
            1_000..1_000_000 => decimal(f, magnitude, 1_000, "µs"),
            1_000_000..1_000_000_000 => decimal(f, magnitude, 1_000_000, "ms"),
            _ => {
                let minutes = magnitude / 60_000_000_000;
                if minutes >= 60 {
                    write!(f, "{}h", minutes / 60)?;
                }
                if minutes > 0 {
                    write!(f, "{}m", minutes % 60)?;
                }
                decimal(f, magnitude % 60_000_000_000, 1_000_000_000, "s")
            }
        }
    }
}

/// `number / unit` without trailing zeros.
fn decimal(f: &mut fmt::Formatter<'_>, number: u64, unit: u64, name: &str) -> fmt::Result {
    write!(f, "{}", number / unit)?;
    let fraction = number % unit;
    if fraction > 0 {
        let width = unit.ilog10() as usize;
        let digits = format!("{fraction:0width$}");
        write!(f, ".{}", digits.trim_end_matches('0'))?;
    }
    f.write_str(name)
}

/// Bytes for people, in decimal units: `999 B`, `1.5 MB`, `25 kB`.
#[derive(Clone, Copy, Debug)]
pub struct HumanBytes(pub u64);

impl fmt::Display for HumanBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
        if self.0 < 10 {
            return write!(f, "{} B", self.0);
        }
        let exponent = (self.0.ilog10() / 3) as usize;
        let value = self.0 as f64 / 1000f64.powi(exponent as i32);
        let rounded = (value * 10.0 + 0.5).floor() / 10.0;
        let unit = UNITS.get(exponent).copied().unwrap_or("EB");
        if rounded < 10.0 {
            write!(f, "{rounded:.1} {unit}")
        } else {
            write!(f, "{rounded:.0} {unit}")
        }
    }
}

/// Texts as a JSON array: `tracing::info!("listen-peer-urls" = %List(&urls), "…")`.
///
/// `tracing` has no lists, so the array travels as text behind a mark. Text that carries the mark
/// but no valid array is logged as the text it is: nobody can forge JSON into a line.
#[derive(Clone, Copy, Debug)]
pub struct List<'a, T>(pub &'a [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(T::to_string).collect();
        write!(f, "{JSON_MARK}{}", serde_json::Value::from(texts))
    }
}

/// Reads a text that [`List`] wrote.
pub(crate) fn marked_list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text.strip_prefix(JSON_MARK)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_as_in_go() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (100_000_000, "100ms"),
            (1_000_000_000, "1s"),
            (60_000_000_000, "1m0s"),
            (5_400_000_000_000, "1h30m0s"),
            (-2_000_000_001, "-2.000000001s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(GoDuration::from_nanos(nanos).to_string(), text);
        }
        assert_eq!(
            GoDuration::from(Duration::from_micros(1_234_500)).to_string(),
            "1.2345s"
        );
    }

    #[test]
    fn bytes_print_as_in_go_humanize() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (99, "99 B"),
            (1_000, "1.0 kB"),
            (20_480, "20 kB"),
            (2_147_483_648, "2.1 GB"),
            (999_999, "1000 kB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(HumanBytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn only_lists_pass_the_mark() {
        let text = List(&["a\"b", "c"]).to_string();
        assert_eq!(
            marked_list(&text),
            Some(vec!["a\"b".to_owned(), "c".to_owned()])
        );
        assert_eq!(marked_list("\u{1}json:[1],\"x\":2"), None);
        assert_eq!(marked_list("[]"), None);
    }
}
