//! The arguments of `watch`: `[key] [range_end] [-- command…]`, where the key may come from the environment.
//!
//! Flags are taken out before this sees the arguments, and with them the `--`; where the command begins is found
//! again in the raw command line. The odd cases are etcd's.

use crate::ctl::cli::{Arg, Flags};

/// The error of a missing key.
pub(super) const BAD_NUMBER: &str = "bad number of arguments";
const CONFLICTING_KEY: &str = "bad number of arguments (found conflicting environment key)";
const NO_COMMAND: &str = "bad number of arguments (found separator --, but no commands)";

/// `ETCDCTL_WATCH_KEY` and `ETCDCTL_WATCH_RANGE_END`; empty: not set.
pub(super) struct Environment {
    /// The key.
    pub key: Arg,
    /// Its range end.
    pub range_end: Arg,
}

impl Environment {
    fn before(&self, mut args: Vec<Arg>) -> Vec<Arg> {
        if !self.key.is_empty() {
            args.insert(0, self.key.clone());
            if !self.range_end.is_empty() {
                args.insert(1, self.range_end.clone());
            }
        }
        args
    }
}

/// What to watch and what to run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    /// Key and, maybe, range end.
    pub keys: Vec<Arg>,
    /// Command and arguments; empty: none.
    pub command: Vec<Arg>,
}

/// Reads a command line. `args`: what is left of it without flags and `--`.
pub(super) fn from_command_line(
    argv: &[Arg],
    args: &[Arg],
    environment: &Environment,
) -> Result<Parsed, &'static str> {
    let name = argv.iter().position(|arg| arg == b"watch");
    let raw = name.map_or(argv, |at| &argv[at + 1..]);
    let separator = separator(raw)?;
    if separator.is_none() && raw.is_empty() && environment.key.is_empty() {
        return Err(BAD_NUMBER);
    }
    if !environment.key.is_empty() {
        match separator {
            None if !args.is_empty() => return Err(CONFLICTING_KEY),
            Some(at) if has_more_than_the_command(raw, at, args) => return Err(CONFLICTING_KEY),
            _ => {}
        }
    }
    Ok(split(raw, separator, environment.before(args.to_vec())))
}

/// Reads the words behind `watch` on a line; the flags among them are set.
pub(super) fn from_line(
    words: &[Arg],
    flags: &mut Flags,
    environment: &Environment,
) -> Result<Parsed, String> {
    let separator = separator(words)?;
    let args = flags.parse(words)?;
    if separator.is_none() && args.is_empty() && environment.key.is_empty() {
        return Err(BAD_NUMBER.to_owned());
    }
    if separator.is_none() && !args.is_empty() && !environment.key.is_empty() {
        return Err(CONFLICTING_KEY.to_owned());
    }
    Ok(split(words, separator, environment.before(args)))
}

fn separator(words: &[Arg]) -> Result<Option<usize>, &'static str> {
    match words.iter().position(|word| word == b"--") {
        Some(at) if at + 1 == words.len() => Err(NO_COMMAND),
        found => Ok(found),
    }
}

/// Whether there are arguments besides those of the command, compared from the end.
fn has_more_than_the_command(raw: &[Arg], separator: usize, args: &[Arg]) -> bool {
    let mut last = raw.len() - 1;
    for arg in args.iter().rev() {
        if *arg == raw[last] && last > 0 {
            last -= 1;
        } else if last == separator {
            return true;
        }
    }
    false
}

/// Takes the command off the end of the arguments.
fn split(raw: &[Arg], separator: Option<usize>, mut args: Vec<Arg>) -> Parsed {
    let Some(at) = separator else {
        return Parsed {
            keys: args,
            command: Vec::new(),
        };
    };
    let command = raw[at + 1..].to_vec();
    let begin = args
        .iter()
        .rposition(|arg| *arg == command[0])
        .unwrap_or_default();
    args.truncate(begin);
    Parsed {
        keys: args,
        command,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<Arg> {
        line.split_whitespace()
            .map(|word| word.as_bytes().to_vec())
            .collect()
    }

    fn parsed(keys: &str, command: &str) -> Parsed {
        Parsed {
            keys: words(keys),
            command: words(command),
        }
    }

    fn environment(key: &str, range_end: &str) -> Environment {
        Environment {
            key: key.into(),
            range_end: range_end.into(),
        }
    }

    fn command_line(line: &str, args: &str, key: &str) -> Result<Parsed, &'static str> {
        from_command_line(&words(line), &words(args), &environment(key, ""))
    }

    #[test]
    fn keys_and_command_of_a_command_line() {
        assert_eq!(
            command_line("etcdctl watch foo", "foo", ""),
            Ok(parsed("foo", ""))
        );
        assert_eq!(
            command_line(
                "etcdctl watch foo bar --rev 1 -- echo hi",
                "foo bar echo hi",
                ""
            ),
            Ok(parsed("foo bar", "echo hi"))
        );
        assert_eq!(
            command_line("etcdctl watch --rev 1 -- echo hi", "echo hi", "foo"),
            Ok(parsed("foo", "echo hi"))
        );
        assert_eq!(
            from_command_line(&words("c watch"), &[], &environment("a", "c")),
            Ok(parsed("a c", ""))
        );
    }

    #[test]
    fn wrong_command_lines() {
        assert_eq!(command_line("etcdctl watch", "", ""), Err(BAD_NUMBER));
        assert_eq!(command_line("etcdctl watch a --", "a", ""), Err(NO_COMMAND));
        assert_eq!(
            command_line("etcdctl watch foo", "foo", "foo"),
            Err(CONFLICTING_KEY)
        );
        assert_eq!(
            command_line("etcdctl watch foo -- echo 1", "foo echo 1", "foo"),
            Err(CONFLICTING_KEY)
        );
    }

    #[test]
    fn lines_have_flags_of_their_own() {
        let line = |text: &str, key: &str| {
            let mut flags = Flags::new(super::super::FLAGS.iter());
            from_line(&words(text), &mut flags, &environment(key, ""))
                .map(|parsed| (parsed, flags.int("rev")))
        };
        assert_eq!(
            line("foo --rev 5 -- echo hi", ""),
            Ok((parsed("foo", "echo hi"), 5))
        );
        assert_eq!(line("--rev 5", "foo"), Ok((parsed("foo", ""), 5)));
        assert_eq!(line("--rev 5", ""), Err(BAD_NUMBER.to_owned()));
        assert_eq!(line("foo --", ""), Err(NO_COMMAND.to_owned()));
        assert_eq!(line("foo", "foo"), Err(CONFLICTING_KEY.to_owned()));
        assert_eq!(
            line("--bogus foo", ""),
            Err("unknown flag: --bogus".to_owned())
        );
    }
}
