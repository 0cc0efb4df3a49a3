//! Splitting a typed line into words, as `txn` and interactive `watch` do.
//!
//! A word is a double-quoted string with escapes, a single-quoted one without, or a run of non-blanks that does
//! not start with a quote. A quote that opens nothing is passed over.

use super::exit::{Failure, code};
use super::go::quote::unquote_prefix;

/// The words of a line.
pub(super) fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some((first, tail)) = rest.split_first() {
        if let Some(length) = double_quoted(rest) {
            let (word, _) = unquote_prefix(&rest[..length])
                .ok_or_else(|| Failure::new(code::INVALID_INPUT, "invalid syntax"))?;
            words.push(word);
            rest = &rest[length..];
        } else if let Some(length) = single_quoted(rest) {
            words.push(rest[1..length - 1].to_vec());
            rest = &rest[length..];
        } else if matches!(first, b'"' | b'\'') || is_blank(*first) {
            rest = tail;
        } else {
            let length = rest
                .iter()
                .position(|byte| is_blank(*byte))
                .unwrap_or(rest.len());
            words.push(rest[..length].to_vec());
            rest = &rest[length..];
        }
    }
    Ok(words)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c)
}

/// The length of a double-quoted string at the start, if it is closed.
fn double_quoted(text: &[u8]) -> Option<usize> {
    let mut inside = text.strip_prefix(b"\"")?.iter().enumerate();
    while let Some((at, byte)) = inside.next() {
        match byte {
            b'"' => return Some(at + 2),
            // The dot of the pattern this follows does not match a line end.
            b'\\' => match inside.next() {
                Some((_, b'\n')) | None => return None,
                Some(_) => {}
            },
            _ => {}
        }
    }
    None
}

fn single_quoted(text: &[u8]) -> Option<usize> {
    let inside = text.strip_prefix(b"'")?;
    inside
        .iter()
        .position(|byte| *byte == b'\'')
        .map(|at| at + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        let words = split(line.as_bytes()).unwrap();
        words
            .into_iter()
            .map(|word| String::from_utf8(word).unwrap())
            .collect()
    }

    #[test]
    fn quotes_group_and_escapes_work_in_double_ones() {
        assert_eq!(
            words(r#"put "k \x41" 'v "w"' x"#),
            ["put", "k A", "v \"w\"", "x"]
        );
        assert_eq!(words("  get\tk  "), ["get", "k"]);
        assert_eq!(words("put k ab'c d"), ["put", "k", "ab'c", "d"]);
        assert_eq!(words("put \"open"), ["put", "open"]);
        assert_eq!(words("get \"\" --prefix"), ["get", "", "--prefix"]);
    }

    #[test]
    fn a_bad_escape_is_an_error() {
        assert_eq!(
            split(br#"watch "\z""#).unwrap_err().code,
            code::INVALID_INPUT
        );
    }
}
