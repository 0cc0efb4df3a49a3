//! systemd's `EnvironmentFile`: read to check a unit's configuration from a shell, and to tell in
//! which file and line a variable was set.

use std::path::{Path, PathBuf};

/// The files `etcd.service` reads, in its order: the last one wins.
pub(super) const UNIT_FILES: [&str; 4] = [
    "/etc/default/etcd",
    "/etc/sysconfig/etcd",
    "/etc/etcd/etcd.conf",
    "/etc/etcd/config/etcd.conf",
];

/// One `NAME=value` of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    /// The variable.
    pub(super) name: String,
    /// Its text without quotes.
    pub(super) value: String,
    /// Where it begins, counted from 1.
    pub(super) line: usize,
}

/// The assignments of a file by systemd's rules: comments take whole lines, a backslash joins
/// lines, quotes are taken off, and lines that are none of this are skipped.
pub(super) fn parse(text: &str) -> Vec<Assignment> {
    let mut assignments = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let line = line.trim_start();
        if line.starts_with(['#', ';']) {
            continue;
        }
        let Some((name, start)) = line.split_once('=') else {
            continue;
        };
        let mut value = Value::default();
        value.read(start);
        while value.is_open {
            let Some((_, next)) = lines.next() else { break };
            value.read(next);
        }
        let name = name.trim_end();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !name.is_empty() && name.chars().all(is_name) {
            assignments.push(Assignment {
                name: name.to_owned(),
                value: value.finish(),
                line: number + 1,
            });
        }
    }
    assignments
}

/// The file and line of the unit's files that gave a variable its value.
pub(super) fn locate(
    name: &str,
    value: &str,
    read_file: &dyn Fn(&Path) -> std::io::Result<String>,
) -> Option<(PathBuf, usize)> {
    for path in UNIT_FILES.into_iter().rev() {
        let Ok(text) = read_file(Path::new(path)) else {
            continue;
        };
        if let Some(last) = parse(&text).into_iter().rfind(|a| a.name == name) {
            return (last.value == value).then(|| (PathBuf::from(path), last.line));
        }
    }
    None
}

/// A value while its lines are read.
#[derive(Default)]
struct Value {
    text: String,
    /// Length of `text` up to its last character that is no unquoted blank.
    kept: usize,
    quote: Option<char>,
    /// The next line belongs to it.
    is_open: bool,
}

impl Value {
    fn read(&mut self, line: &str) {
        self.is_open = false;
        let mut characters = line.chars();
        while let Some(character) = characters.next() {
            match (self.quote, character) {
                (None, '"' | '\'') => {
                    self.quote = Some(character);
                    self.kept = self.text.len();
                }
                (Some(quote), c) if c == quote => self.quote = None,
                (None | Some('"'), '\\') => match characters.next() {
                    None => {
                        self.is_open = true;
                        return;
                    }
                    Some(next) => {
                        if self.quote.is_some() && !"\"\\`$".contains(next) {
                            self.keep('\\');
                        }
                        self.keep(next);
                    }
                },
                (None, c) if c.is_whitespace() => {
                    if self.kept > 0 {
                        self.text.push(c);
                    }
                }
                (_, c) => self.keep(c),
            }
        }
        if self.quote.is_some() {
            self.keep('\n');
            self.is_open = true;
        }
    }

    fn keep(&mut self, character: char) {
        self.text.push(character);
        self.kept = self.text.len();
    }

    fn finish(mut self) -> String {
        self.text.truncate(self.kept);
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemds_rules() {
        let text = "# ETCD_A=0\nETCD_A=1\n  ETCD_B = \"x y\"  \n[member]\nexport ETCD_C=1\n\
                    ETCD_D='{\"a\": 1}'\nETCD_E=a # b \nETCD_F=a\\\nb\nETCD_G=\"q\\\"\\n\"\n\
                    ETCD_H=\nETCD_A=2\r\n";
        let got: Vec<(String, String, usize)> = parse(text)
            .into_iter()
            .map(|a| (a.name, a.value, a.line))
            .collect();
        let expected = [
            ("ETCD_A", "1", 2),
            ("ETCD_B", "x y", 3),
            ("ETCD_D", "{\"a\": 1}", 6),
            ("ETCD_E", "a # b", 7),
            ("ETCD_F", "ab", 8),
            ("ETCD_G", "q\"\\n", 10),
            ("ETCD_H", "", 11),
            ("ETCD_A", "2", 12),
        ];
        let expected: Vec<(String, String, usize)> = expected
            .iter()
            .map(|(n, v, l)| ((*n).to_owned(), (*v).to_owned(), *l))
            .collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn the_last_file_wins() {
        let read = |path: &Path| match path.to_str() {
            Some("/etc/default/etcd") => Ok("ETCD_NAME=a\nETCD_X=1".to_owned()),
            Some("/etc/etcd/etcd.conf") => Ok("\nETCD_NAME=b".to_owned()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        };
        let at = |name, value| {
            locate(name, value, &read).map(|(path, line)| format!("{}:{line}", path.display()))
        };
        assert_eq!(
            at("ETCD_NAME", "b").as_deref(),
            Some("/etc/etcd/etcd.conf:2")
        );
        assert_eq!(
            at("ETCD_NAME", "a"),
            None,
            "what the process has did not come from here"
        );
        assert_eq!(at("ETCD_X", "1").as_deref(), Some("/etc/default/etcd:2"));
    }
}
