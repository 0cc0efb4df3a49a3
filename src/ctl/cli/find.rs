//! Which command is meant: names, unambiguous prefixes, and suggestions.

use super::flags::HELP;
use super::{Arg, Command, Flags, Path};
use crate::ctl::go::quote::quote;

/// The error of a first word that names no command, and what may have been meant.
#[derive(Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Behind `Error: `.
    pub message: String,
}

/// Follows the arguments down from the program; returns the command and what is left for it.
pub fn find(root: &'static Command, args: &[Arg]) -> Result<(Path, Vec<Arg>), Unknown> {
    let mut path = Path(vec![root]);
    let mut args = args.to_vec();
    loop {
        let Some((at, word)) = first_word(&path, &args) else {
            return Ok((path, args));
        };
        let Some(next) = child(path.command(), &word) else {
            if path.0.len() == 1 && !root.children.is_empty() {
                return Err(unknown(root, &word));
            }
            return Ok((path, args));
        };
        args.remove(at);
        path.0.push(next);
    }
}

/// The first argument that is neither a flag nor a flag's value, and its place.
fn first_word(path: &Path, args: &[Arg]) -> Option<(usize, String)> {
    let help = (path.0.len() == 1).then_some(&HELP);
    let known = Flags::new(path.local_flags().chain(path.inherited_flags()).chain(help));
    let needs_value = |flag: Option<&super::Flag>| flag.is_none_or(|f| f.kind != super::Kind::Bool);
    let mut at = 0;
    while let Some(arg) = args.get(at) {
        let text = String::from_utf8_lossy(arg);
        let takes_next = match text.as_ref() {
            "--" => return None,
            flag if flag.contains('=') => false,
            flag if flag.starts_with("--") => needs_value(known.find(&flag[2..])),
            flag if flag.starts_with('-') && flag.len() == 2 => needs_value(
                flag.chars()
                    .nth(1)
                    .and_then(|letter| known.find_short(letter)),
            ),
            _ => false,
        };
        if takes_next {
            at += 2;
            continue;
        }
        if !text.is_empty() && !text.starts_with('-') {
            return Some((at, text.into_owned()));
        }
        at += 1;
    }
    None
}

fn child(parent: &Command, word: &str) -> Option<&'static Command> {
    if let Some(exact) = parent.children.iter().find(|child| child.name == word) {
        return Some(exact);
    }
    let mut matching = parent
        .children
        .iter()
        .filter(|child| !child.hidden && !child.beyond && child.name.starts_with(word));
    match (matching.next(), matching.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

fn unknown(root: &Command, word: &str) -> Unknown {
    let mut message = format!(
        "unknown command {} for {}",
        quote(word.as_bytes()),
        quote(root.name.as_bytes())
    );
    let lower = word.to_lowercase();
    let near: Vec<_> = root
        .children
        .iter()
        .filter(|child| !child.hidden && !child.beyond)
        .filter(|child| child.name.starts_with(&lower) || distance(&lower, child.name) <= 2)
        .collect();
    if !near.is_empty() {
        message.push_str("\n\nDid you mean this?\n");
        for child in near {
            message.push_str(&format!("\t{}\n", child.name));
        }
    }
    Unknown { message }
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::super::Flag;
    use super::*;

    static ADD: Command = Command {
        name: "add",
        ..Command::NEW
    };
    static MEMBER: Command = Command {
        name: "member",
        children: &[&ADD],
        ..Command::NEW
    };
    static METER: Command = Command {
        name: "meter",
        beyond: true,
        ..Command::NEW
    };
    static MOVE: Command = Command {
        name: "move-leader",
        ..Command::NEW
    };
    static GET: Command = Command {
        name: "get",
        ..Command::NEW
    };
    static ROOT: Command = Command {
        name: "ctl",
        children: &[&GET, &MEMBER, &MOVE, &METER],
        persistent: &[Flag::text("user", "").short('u'), Flag::bool("hex", "")],
        ..Command::NEW
    };

    fn found(line: &str) -> Result<(String, Vec<String>), String> {
        let args: Vec<Arg> = line
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect();
        let (path, rest) = find(&ROOT, &args).map_err(|unknown| unknown.message)?;
        let rest = rest
            .into_iter()
            .map(|arg| String::from_utf8(arg).unwrap())
            .collect();
        Ok((path.text(), rest))
    }

    #[test]
    fn names_and_unambiguous_prefixes_among_flags() {
        let text = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(found("me a x"), Ok(("ctl member add".into(), text(&["x"]))));
        assert_eq!(
            found("--user get member --hex add get"),
            Ok((
                "ctl member add".into(),
                text(&["--user", "get", "--hex", "get"])
            ))
        );
        assert_eq!(
            found("member bogus"),
            Ok(("ctl member".into(), text(&["bogus"])))
        );
        assert_eq!(found("meter"), Ok(("ctl meter".into(), text(&[]))));
        assert_eq!(found("-- get"), Ok(("ctl".into(), text(&["--", "get"]))));
    }

    #[test]
    fn an_unknown_command_comes_with_suggestions() {
        assert_eq!(
            found("xyzzy"),
            Err("unknown command \"xyzzy\" for \"ctl\"".into())
        );
        assert_eq!(
            found("m"),
            Err("unknown command \"m\" for \"ctl\"\n\nDid you mean this?\n\tmember\n\tmove-leader\n".into())
        );
        assert_eq!(
            found("gett"),
            Err("unknown command \"gett\" for \"ctl\"\n\nDid you mean this?\n\tget\n".into())
        );
    }
}
