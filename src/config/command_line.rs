//! The command line, in the grammar of Go's `flag` package.
//!
//! `-f v`, `-f=v`, `--f v` and `--f=v` are the same; a bool never takes the next word; the last of
//! several wins; the first word that is no flag ends the flags. clap speaks GNU's grammar and
//! cannot be taught this one, so the words are read here; clap gets the table for completions and
//! man pages only.

use super::settings::{Origin, Settings};
use super::table::{OPTIONS, position_of_flag};
use super::value::quote;

/// What the words say.
#[derive(Debug)]
pub(super) enum Words {
    /// Flags were read into the settings; the first word that is no flag, if any.
    Flags(Option<String>),
    /// `-h` or `--help` came before any error.
    Help,
}

/// Reads the words after the program's name into `settings`.
///
/// The error is Go's text, to be printed before the usage; the process then exits with status 2.
pub(super) fn read(words: &[String], settings: &mut Settings) -> Result<Words, String> {
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let Some(flag) = flag_of(word) else {
            return Ok(Words::Flags(Some(word.clone())));
        };
        if flag.is_empty() {
            return Ok(Words::Flags(rest.next().cloned()));
        }
        if flag.starts_with(['-', '=']) {
            return Err(format!("bad flag syntax: {word}"));
        }
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag, None),
        };
        let Some(at) = position_of_flag(name) else {
            if name == "help" || name == "h" {
                return Ok(Words::Help);
            }
            return Err(format!("flag provided but not defined: -{name}"));
        };
        let option = &OPTIONS[at];
        let text = match value {
            Some(value) => value,
            None if option.kind.is_bool() => "true",
            None => rest
                .next()
                .ok_or_else(|| format!("flag needs an argument: -{name}"))?,
        };
        let so_far = &settings.rows()[at].value;
        let value = option.kind.parse(text, so_far).map_err(|reason| {
            if option.kind.is_bool() {
                format!(
                    "invalid boolean value {} for -{name}: {reason}",
                    quote(text)
                )
            } else {
                format!("invalid value {} for flag -{name}: {reason}", quote(text))
            }
        })?;
        settings.set(at, value, Origin::Flag);
    }
    Ok(Words::Flags(None))
}

/// The word without its one or two dashes; empty for `--`; `None` when it is no flag.
fn flag_of(word: &str) -> Option<&str> {
    let flag = word.strip_prefix('-')?;
    match flag.strip_prefix('-') {
        Some(flag) => Some(flag),
        None if flag.is_empty() => None,
        None => Some(flag),
    }
}
