//! Help and usage texts in cobra's layout.

use super::flags::HELP;
use super::{Command, Flag, Kind, Path};

/// Width command names are padded to at least.
const NAME_WIDTH_MIN: usize = 11;

/// Who reads a text: what etcd does not have is left out of what scripts may compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Someone at a terminal.
    Person,
    /// A program.
    Script,
}

/// What `--help` prints.
pub fn help(path: &Path, reader: Reader) -> String {
    let command = path.command();
    let head = if command.long.is_empty() {
        command.short
    } else {
        command.long
    };
    match head.trim_end() {
        "" => usage(path, reader),
        head => format!("{head}\n\n{}", usage(path, reader)),
    }
}

/// The usage block, which mistakes are answered with.
pub fn usage(path: &Path, reader: Reader) -> String {
    let command = path.command();
    let name = path.text();
    let mut out = "Usage:".to_owned();
    if command.run.is_some() {
        out.push_str(&format!("\n  {}", use_line(path)));
    }
    if !command.children.is_empty() {
        out.push_str(&format!("\n  {name} [command]"));
    }
    if !command.examples.is_empty() {
        out.push_str(&format!("\n\nExamples:\n{}", command.examples));
    }
    if !command.children.is_empty() {
        out.push_str(&commands(command, reader));
    }
    let local = path
        .local_flags()
        .chain((path.0.len() > 1).then_some(&HELP));
    let shown = |flag: &&Flag| !flag.hidden && (!flag.beyond || reader == Reader::Person);
    let local = flag_usages(local.filter(shown));
    if !local.is_empty() {
        out.push_str(&format!("\n\nFlags:\n{}", local.trim_end()));
    }
    let inherited = flag_usages(path.inherited_flags().filter(shown));
    if !inherited.is_empty() {
        out.push_str(&format!("\n\nGlobal Flags:\n{}", inherited.trim_end()));
    }
    if !command.children.is_empty() {
        out.push_str(&format!(
            "\n\nUse \"{name} [command] --help\" for more information about a command."
        ));
    }
    out.push('\n');
    out
}

fn use_line(path: &Path) -> String {
    let command = path.command();
    let flags = if command.choices.is_empty() {
        " [flags]"
    } else {
        ""
    };
    let usage = if command.usage.is_empty() {
        ""
    } else {
        &format!(" {}", command.usage)
    };
    format!("{}{usage}{flags}", path.text())
}

/// A command's children that are listed, by name.
pub fn listed_children(command: &Command, reader: Reader) -> Vec<&'static Command> {
    let shown = |child: &&&Command| !child.hidden && (!child.beyond || reader == Reader::Person);
    let mut children: Vec<_> = command.children.iter().filter(shown).copied().collect();
    children.sort_by_key(|child| child.name);
    children
}

fn commands(command: &Command, reader: Reader) -> String {
    let children = listed_children(command, reader);
    let width = children
        .iter()
        .map(|child| child.name.len())
        .max()
        .unwrap_or_default();
    let width = width.max(NAME_WIDTH_MIN);
    let line = |child: &&Command| format!("\n  {:width$} {}", child.name, child.short);
    if command.groups.is_empty() {
        let lines: String = children.iter().map(line).collect();
        return format!("\n\nAvailable Commands:{lines}");
    }
    let in_group = |title: &str| -> String {
        children
            .iter()
            .filter(|child| !child.beyond && child.group == title)
            .map(line)
            .collect()
    };
    let groups = command
        .groups
        .iter()
        .map(|title| format!("\n\n{title}{}", in_group(title)));
    let beyond: String = children
        .iter()
        .filter(|child| child.beyond)
        .map(line)
        .collect();
    let beyond = if beyond.is_empty() {
        beyond
    } else {
        format!("\n\nBeyond etcd{beyond}")
    };
    groups.chain([beyond]).collect()
}

/// A line per flag, by name.
pub fn flag_usages(flags: impl Iterator<Item = &'static Flag>) -> String {
    let mut flags: Vec<_> = flags.collect();
    flags.sort_by_key(|flag| flag.name);
    let heads: Vec<_> = flags.iter().map(|flag| flag_head(flag)).collect();
    let width = heads.iter().map(String::len).max().unwrap_or_default();
    let line = |(flag, head): (&&Flag, &String)| {
        format!("{head:width$}   {}{}\n", flag.help, default_note(flag))
    };
    flags.iter().zip(&heads).map(line).collect()
}

fn flag_head(flag: &Flag) -> String {
    let short = match flag.short {
        Some(letter) => format!("  -{letter}, "),
        None => "      ".to_owned(),
    };
    let kind = match flag.kind {
        Kind::Bool => "",
        Kind::Text => " string",
        Kind::List => " strings",
        Kind::Int => " int",
        Kind::Uint => " uint",
        Kind::Duration => " duration",
    };
    format!("{short}--{}{kind}", flag.name)
}

fn default_note(flag: &Flag) -> String {
    match (flag.kind, flag.default) {
        (_, "") | (Kind::Bool, "false") | (Kind::Int | Kind::Uint, "0") => String::new(),
        (Kind::Text, text) => format!(" (default {text:?})"),
        (Kind::List, list) => format!(" (default [{list}])"),
        (_, value) => format!(" (default {value})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static CHILD: Command = Command {
        name: "child",
        usage: "<x>",
        short: "a child",
        flags: &[
            Flag::int("limit", "at most").or("7"),
            Flag::text("out", "where").short('o'),
            Flag::bool("tree", "as a tree").beyond(),
        ],
        run: Some(|_| Box::pin(async { Ok(()) })),
        ..Command::NEW
    };
    static ROOT: Command = Command {
        name: "ctl",
        short: "a program",
        children: &[&CHILD],
        persistent: &[
            Flag::bool("cluster", "all of them"),
            Flag {
                hidden: true,
                ..Flag::text("x", "")
            },
        ],
        ..Command::NEW
    };

    #[test]
    fn only_people_hear_of_what_etcd_does_not_have() {
        let path = Path(vec![&ROOT, &CHILD]);
        assert!(!usage(&path, Reader::Script).contains("--tree"));
        assert!(usage(&path, Reader::Person).contains("--tree"));
    }

    #[test]
    fn the_layout_is_cobras() {
        assert_eq!(
            help(&Path(vec![&ROOT, &CHILD]), Reader::Script),
            "a child\n\nUsage:\n  ctl child <x> [flags]\n\nFlags:\n  \
             -h, --help         help for this command\n      \
                 --limit int    at most (default 7)\n  \
             -o, --out string   where\n\nGlobal Flags:\n      --cluster   all of them\n"
        );
        assert_eq!(
            usage(&Path(vec![&ROOT]), Reader::Script),
            "Usage:\n  ctl [command]\n\nAvailable Commands:\n  child       a child\n\nFlags:\n      \
             --cluster   all of them\n\n\
             Use \"ctl [command] --help\" for more information about a command.\n"
        );
    }
}
