//! Go's rules for the text of a value: what `--flag=text` and `ETCD_FLAG=text` mean.
//!
//! etcd's users write values for Go's `flag` and `strconv` packages: `1_000`, `0x10`, `TRUE`, `1m30s`.
//! No crate follows these rules and error texts, so they are here, one function per kind.
//! Durations are Go's: signed 64-bit nanoseconds.

use std::fmt;

use super::gates::FeatureGates;
use super::url::{self, Url};
use crate::logging::GoDuration;

/// What a value is, and with that how its text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// `1 t T TRUE true True` and their opposites; on the command line alone also the bare flag.
    Bool,
    /// Signed 64-bit, Go's `int`.
    Int,
    /// Signed 64-bit, Go's `int64`.
    Int64,
    /// Unsigned 64-bit, Go's `uint`.
    Uint,
    /// Unsigned 32-bit.
    Uint32,
    /// Unsigned 64-bit, Go's `uint64`.
    Uint64,
    /// Go duration text such as `1m30s`; integer nanoseconds in a configuration file.
    Duration,
    /// URLs with commas between them: sorted, each once.
    UrlSet,
    /// Like [`Kind::UrlSet`], but `*` is a value too.
    Origins,
    /// Texts with commas between them: sorted, each once.
    TextSet,
    /// Texts with commas between them, in the given order.
    TextList,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Some of these words, added up over repeated flags.
    Stages(&'static [&'static str]),
    /// `Gate=true,Gate2=false`.
    Gates,
    /// Accepted with any text and forgotten, as etcd does with flags of its distant past.
    Ignored,
}

/// A value that has been read.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::Int`] and [`Kind::Int64`].
    Int(i64),
    /// Of the unsigned kinds.
    Uint(u64),
    /// Nanoseconds, of [`Kind::Duration`].
    Duration(i64),
    /// Of [`Kind::Text`] and [`Kind::Choice`].
    Text(String),
    /// Of [`Kind::UrlSet`].
    Urls(Vec<Url>),
    /// Of the kinds that hold several texts.
    Texts(Vec<String>),
    /// Of [`Kind::Gates`].
    Gates(FeatureGates),
}

impl Kind {
    /// Whether the bare flag is complete without a value.
    pub fn is_bool(self) -> bool {
        matches!(self, Self::Bool | Self::Ignored)
    }

    /// The name of this kind in help, docs and the golden list of flags.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Int64 => "int64",
            Self::Uint => "uint",
            Self::Uint32 => "uint32",
            Self::Uint64 => "uint64",
            Self::Duration => "duration",
            Self::UrlSet | Self::Origins => "url-set",
            Self::TextSet => "string-set",
            Self::TextList => "string-list",
            Self::Choice(_) | Self::Stages(_) => "enum",
            Self::Gates => "Name=bool,...",
            Self::Ignored => "ignored (bool)",
        }
    }

    /// Reads `text` on top of the value so far: some kinds add to it, an empty URL list keeps it.
    ///
    /// The error is the reason alone, as Go's `Value.Set` returns it.
    pub fn parse(self, text: &str, so_far: &Value) -> Result<Value, String> {
        Ok(match self {
            Self::Text => Value::Text(text.to_owned()),
            Self::Bool => Value::Bool(parse_bool(text).ok_or("parse error")?),
            Self::Int | Self::Int64 => Value::Int(parse_int(text).map_err(NumberError::reason)?),
            Self::Uint | Self::Uint64 => {
                Value::Uint(parse_uint(text, u64::MAX).map_err(NumberError::reason)?)
            }
            Self::Uint32 => {
                let number = parse_uint(text, u64::from(u32::MAX));
                Value::Uint(number.map_err(|e| e.strconv("ParseUint", text))?)
            }
            Self::Duration => Value::Duration(parse_duration(text).map_err(|_| "parse error")?),
            Self::UrlSet if text.is_empty() => so_far.clone(),
            Self::UrlSet => Value::Urls(url::parse_unique_list(text)?),
            Self::Origins => origins(text, so_far)?,
            Self::TextSet => Value::Texts(sorted(text.split(',').map(str::to_owned).collect())),
            Self::TextList => Value::Texts(text.split(',').map(str::to_owned).collect()),
            Self::Choice(words) if words.contains(&text) => Value::Text(text.to_owned()),
            Self::Choice(_) => return Err("invalid value".to_owned()),
            Self::Stages(words) => {
                let Value::Texts(mut stages) = so_far.clone() else {
                    return Err(String::new());
                };
                for word in text.split(',') {
                    if !words.contains(&word) {
                        return Err(format!("invalid value {}", quote(word)));
                    }
                    stages.push(word.to_owned());
                }
                stages.sort();
                Value::Texts(stages)
            }
            Self::Gates => Value::Gates(gates_so_far(so_far).with(text)?),
            Self::Ignored => Value::Bool(true),
        })
    }

    /// The value before anything is said: `text` read, or empty.
    pub fn initial(self, text: &str) -> Value {
        let empty = match self {
            Self::UrlSet => Value::Urls(Vec::new()),
            Self::Origins | Self::TextSet | Self::TextList | Self::Stages(_) => {
                Value::Texts(Vec::new())
            }
            Self::Gates => Value::Gates(FeatureGates::default()),
            Self::Bool | Self::Ignored => Value::Bool(false),
            Self::Int | Self::Int64 => Value::Int(0),
            Self::Uint | Self::Uint32 | Self::Uint64 => Value::Uint(0),
            Self::Duration => Value::Duration(0),
            Self::Text | Self::Choice(_) => Value::Text(String::new()),
        };
        if text.is_empty() {
            empty
        } else {
            self.parse(text, &empty).unwrap_or(empty)
        }
    }
}

fn gates_so_far(value: &Value) -> FeatureGates {
    match value {
        Value::Gates(gates) => gates.clone(),
        _ => FeatureGates::default(),
    }
}

/// `*` adds itself to what is there; a list replaces it.
fn origins(text: &str, so_far: &Value) -> Result<Value, String> {
    if let Value::Texts(origins) = so_far {
        if origins.iter().any(|origin| origin == text) {
            return Ok(so_far.clone());
        }
        if text == "*" {
            let mut origins = origins.clone();
            origins.push(text.to_owned());
            return Ok(Value::Texts(sorted(origins)));
        }
    }
    let urls = url::parse_unique_list(text)?;
    Ok(Value::Texts(urls.iter().map(Url::to_string).collect()))
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts.dedup();
    texts
}

impl fmt::Display for Value {
    /// The text that, given as a flag, makes this value again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Uint(value) => value.fmt(f),
            Self::Duration(nanos) => GoDuration::from_nanos(*nanos).fmt(f),
            Self::Text(value) => value.fmt(f),
            Self::Urls(urls) => f.write_str(&url::join(urls)),
            Self::Texts(texts) => f.write_str(&texts.join(",")),
            Self::Gates(gates) => gates.fmt(f),
        }
    }
}

/// Go's `strconv.ParseBool`.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Why a number was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberError {
    /// Not a number.
    Syntax,
    /// Too large or too small for its kind.
    Range,
}

impl NumberError {
    /// As Go's `flag` package words it.
    fn reason(self) -> String {
        match self {
            Self::Syntax => "parse error".to_owned(),
            Self::Range => "value out of range".to_owned(),
        }
    }

    /// As Go's `strconv` words it.
    fn strconv(self, function: &str, text: &str) -> String {
        let reason = match self {
            Self::Syntax => "invalid syntax",
            Self::Range => "value out of range",
        };
        format!("strconv.{function}: parsing {}: {reason}", quote(text))
    }
}

/// Go's `strconv.ParseUint(text, 0, …)`: a prefix names the base, `_` may stand between digits.
pub(super) fn parse_uint(text: &str, max: u64) -> Result<u64, NumberError> {
    let lower = text.to_ascii_lowercase();
    let (base, digits, prefixed) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..], true),
        [b'0', b'b', ..] => (2, &lower[2..], true),
        [b'0', b'o', ..] => (8, &lower[2..], true),
        [b'0', _, ..] => (8, &lower[1..], true),
        _ => (10, lower.as_str(), false),
    };
    if !underscores_separate_digits(digits, prefixed) {
        return Err(NumberError::Syntax);
    }
    let mut number: u64 = 0;
    let mut overflow = false;
    let mut any = false;
    for character in digits.chars().filter(|c| *c != '_') {
        let digit = character.to_digit(base).ok_or(NumberError::Syntax)?;
        any = true;
        match number
            .checked_mul(u64::from(base))
            .and_then(|n| n.checked_add(u64::from(digit)))
        {
            Some(next) => number = next,
            None => overflow = true,
        }
    }
    match (any, overflow || number > max) {
        (false, _) => Err(NumberError::Syntax),
        (_, true) => Err(NumberError::Range),
        _ => Ok(number),
    }
}

fn underscores_separate_digits(digits: &str, after_prefix: bool) -> bool {
    let mut digit_before = after_prefix;
    for character in digits.chars() {
        if character == '_' && !digit_before {
            return false;
        }
        digit_before = character != '_';
    }
    digit_before
}

/// Go's `strconv.ParseInt(text, 0, 64)`.
pub(super) fn parse_int(text: &str) -> Result<i64, NumberError> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = parse_uint(digits, u64::MAX)?;
    if negative {
        0i64.checked_sub_unsigned(magnitude)
            .ok_or(NumberError::Range)
    } else {
        i64::try_from(magnitude).map_err(|_| NumberError::Range)
    }
}

/// Go's `time.ParseDuration`: nanoseconds, or Go's error text.
pub(super) fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let (negative, mut rest) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = split_at(rest, |c| !c.is_ascii_digit());
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => split_at(after, |c| !c.is_ascii_digit()),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let (unit, after) = split_at(after, |c| c == '.' || c.is_ascii_digit());
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quote(text)));
        }
        let nanos = unit_nanos(unit).ok_or_else(|| {
            format!(
                "time: unknown unit {} in duration {}",
                quote(unit),
                quote(text)
            )
        })?;
        let part = scaled(whole, fraction, nanos).ok_or_else(invalid)?;
        total = total
            .checked_add(part)
            .filter(|t| *t <= 1 << 63)
            .ok_or_else(invalid)?;
        rest = after;
    }
    let signed = if negative {
        0i64.checked_sub_unsigned(total)
    } else {
        total.try_into().ok()
    };
    signed.ok_or_else(invalid)
}

fn split_at(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
}

fn unit_nanos(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `whole.fraction × nanos`, the fraction cut off below a nanosecond.
fn scaled(whole: &str, fraction: &str, nanos: u64) -> Option<u64> {
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut total = whole.checked_mul(nanos)?;
    let mut scale = nanos as f64;
    let mut part = 0.0;
    for digit in fraction.bytes() {
        scale /= 10.0;
        part += f64::from(digit - b'0') * scale;
    }
    // A sum of decimal shares falls a hair short of the integer it stands for.
    total = total.checked_add((part + 1e-6) as u64)?;
    (total <= 1 << 63).then_some(total)
}

/// Go's `%q`.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0b' => out.push_str("\\v"),
            '\x0c' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                out.push_str(&format!("\\x{:02x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_go() {
        assert_eq!(parse_uint("0x10", u64::MAX), Ok(16));
        assert_eq!(parse_uint("0b11", u64::MAX), Ok(3));
        assert_eq!(parse_uint("0o17", u64::MAX), Ok(15));
        assert_eq!(parse_uint("017", u64::MAX), Ok(15));
        assert_eq!(parse_uint("1_000", u64::MAX), Ok(1000));
        assert_eq!(parse_uint("0_7", u64::MAX), Ok(7));
        assert_eq!(parse_uint("0x_f", u64::MAX), Ok(15));
        for bad in ["", "_1", "1_", "1__0", "0x", "09", "-1", "+1", "5s", "1.5"] {
            assert_eq!(parse_uint(bad, u64::MAX), Err(NumberError::Syntax), "{bad}");
        }
        assert_eq!(
            parse_uint("4294967296", u64::from(u32::MAX)),
            Err(NumberError::Range)
        );
        assert_eq!(
            parse_uint("99999999999999999999", u64::MAX),
            Err(NumberError::Range)
        );
        assert_eq!(parse_int("-0x10"), Ok(-16));
        assert_eq!(parse_int("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(parse_int("9223372036854775808"), Err(NumberError::Range));
    }

    #[test]
    fn durations_follow_go() {
        for (text, nanos) in [
            ("0", 0),
            ("1m30s", 90_000_000_000),
            ("-1.5h", -5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.1s", 1_100_000_000),
            ("3.000000001s", 3_000_000_001),
            ("100ms", 100_000_000),
            ("7µs", 7_000),
            ("+5ns", 5),
        ] {
            assert_eq!(parse_duration(text), Ok(nanos), "{text}");
        }
        let error = |text| parse_duration(text).unwrap_err();
        assert_eq!(error("5"), "time: missing unit in duration \"5\"");
        assert_eq!(error("5x"), "time: unknown unit \"x\" in duration \"5x\"");
        assert_eq!(error(""), "time: invalid duration \"\"");
        assert_eq!(error("."), "time: invalid duration \".\"");
        assert_eq!(error("9999999h"), "time: invalid duration \"9999999h\"");
    }
}
