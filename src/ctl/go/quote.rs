//! Double-quoted strings as Go's `%q` writes and reads them.

use std::fmt::Write as _;

/// Quotes bytes: printable text stays, the rest is escaped.
pub fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_char(&mut out, c);
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

fn push_char(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        ' '..='~' => out.push(c),
        '\0'..='\x7f' => {
            let _ = write!(out, "\\x{:02x}", c as u32);
        }
        _ if is_printable(c) => out.push(c),
        '\u{80}'..='\u{ffff}' => {
            let _ = write!(out, "\\u{:04x}", c as u32);
        }
        _ => {
            let _ = write!(out, "\\U{:08x}", c as u32);
        }
    }
}

/// Letters, marks, numbers, punctuation and symbols, and no blank but the ASCII one. A mark at the start of a
/// string would be escaped, so another character goes first.
fn is_printable(c: char) -> bool {
    let text: String = ['a', c].into_iter().collect();
    text.escape_debug().nth(1) == Some(c)
}

/// Reads a double-quoted string at the start of `text`: its bytes, and what follows the closing quote.
pub fn unquote_prefix(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = text.strip_prefix(b"\"")?;
    let mut out = Vec::new();
    loop {
        match rest {
            [b'"', tail @ ..] => return Some((out, tail)),
            [b'\\', tail @ ..] => rest = unescape(tail, &mut out)?,
            [b'\n', ..] | [] => return None,
            [byte, tail @ ..] => {
                out.push(*byte);
                rest = tail;
            }
        }
    }
}

fn unescape<'a>(text: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (kind, rest) = text.split_first()?;
    let simple = match kind {
        b'a' => Some(7),
        b'b' => Some(8),
        b'f' => Some(12),
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        b'v' => Some(11),
        b'\\' | b'"' => Some(*kind),
        _ => None,
    };
    if let Some(byte) = simple {
        out.push(byte);
        return Some(rest);
    }
    let number =
        |digits: &[u8], radix| u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok();
    let (length, radix, from) = match kind {
        b'x' => (2, 16, rest),
        b'u' => (4, 16, rest),
        b'U' => (8, 16, rest),
        b'0'..=b'7' => (3, 8, text),
        _ => return None,
    };
    let (digits, tail) = from.split_at_checked(length)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let value = number(digits, radix)?;
    match kind {
        b'u' | b'U' => {
            let c = char::from_u32(value)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        _ => out.push(u8::try_from(value).ok()?),
    }
    Some(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_is_gos() {
        for (bytes, text) in [
            (&b"plain 'text'"[..], r#""plain 'text'""#),
            (b"a\x01\nb\"\\", r#""a\x01\nb\"\\""#),
            ("ü\u{2028}\t".as_bytes(), r#""ü\u2028\t""#),
            (b"\xff\x00", r#""\xff\x00""#),
            (
                "\u{a0}\u{301}\u{1f600}\u{e0001}".as_bytes(),
                "\"\\u00a0\u{301}\u{1f600}\\U000e0001\"",
            ),
        ] {
            assert_eq!(quote(bytes), text);
            assert_eq!(
                unquote_prefix(text.as_bytes()),
                Some((bytes.to_vec(), &b""[..]))
            );
        }
    }

    #[test]
    fn unquoting_knows_every_escape_and_stops_at_the_quote() {
        let (bytes, rest) = unquote_prefix(br#""\x41\102\u00e9\U0001F600" rest"#).unwrap();
        assert_eq!(bytes, "ABé😀".as_bytes());
        assert_eq!(rest, b" rest");
    }

    #[test]
    fn broken_strings_are_refused() {
        for text in [
            &br#""open"#[..],
            br#""\z""#,
            br#""\x4""#,
            br#""\400""#,
            br#"bare"#,
            b"\"a\nb\"",
        ] {
            assert_eq!(unquote_prefix(text), None, "{text:?}");
        }
    }
}
