//! Why there is no member: etcd's text, and beyond etcd where the mistake stands and how to mend it.

use std::fmt;

use super::environment::EnvironmentError;
use super::environment_file::locate;
use super::file::{FileError, Refusal};
use super::settings::{Origin, Settings};
use super::table::OPTIONS;
use super::validate::ConfigError;
use super::value::{Kind, quote};
use super::{Done, EXIT_CONFIG, Sources};
use crate::logging::Line;

/// What went wrong while a configuration was read.
#[derive(Debug)]
pub(super) enum Failure {
    /// A word of the command line that is no flag.
    Positional(String),
    /// A variable.
    Environment(EnvironmentError),
    /// The configuration file.
    File(Refusal),
    /// The whole of it.
    Config(ConfigError),
}

/// Where a mistake stands and how to mend it.
#[derive(Debug, Default)]
pub(super) struct Advice {
    /// Flag, variable or file that is to blame, if one is known.
    pub(super) set_by: Option<String>,
    /// What to do.
    pub(super) fix: String,
}

/// The failure etcd would report: the first conflict, or else the last that was met.
pub(super) fn reported(failures: Vec<Failure>) -> Option<Failure> {
    let at = failures.iter().position(Failure::is_conflict);
    let at = at.unwrap_or(failures.len().saturating_sub(1));
    failures.into_iter().nth(at)
}

impl Failure {
    /// Whether a flag and its variable are both there.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Environment(EnvironmentError::Conflict { .. }))
    }

    /// The end of the process: the lines so far, the failure, status 78.
    pub(super) fn into_done(
        self,
        mut lines: Vec<Line>,
        settings: &Settings,
        sources: &Sources<'_>,
    ) -> Done {
        let advice = self.advice(settings, sources);
        let advised = |mut line: Line| {
            if let Some(set_by) = &advice.set_by {
                line = line.with("set-by", set_by.as_str());
            }
            line.with("fix", advice.fix.as_str())
        };
        let mut done = Done {
            exit_code: EXIT_CONFIG,
            ..Done::default()
        };
        let text = self.to_string();
        match &self {
            Self::Environment(EnvironmentError::Conflict { variable }) => {
                let line = Line::fatal(text);
                lines.push(advised(
                    line.with("environment-variable", variable.as_str()),
                ));
            }
            other => {
                if matches!(
                    other,
                    Self::File(Refusal {
                        error: FileError::Urls { .. },
                        ..
                    })
                ) {
                    done.stderr = format!("{text}\n");
                }
                let line = Line::warn("failed to verify flags").with("error", text.as_str());
                lines.push(advised(line));
                if matches!(other, Self::Config(ConfigError::AdvertiseClientUrlsMissing)) {
                    let line = Line::warn("advertise client URLs are not set");
                    lines.push(line.with("error", text));
                }
            }
        }
        done.lines = lines;
        done
    }

    /// Where to look and what to do.
    pub(super) fn advice(&self, settings: &Settings, sources: &Sources<'_>) -> Advice {
        match self {
            Self::Positional(word) => Advice {
                set_by: Some("command line".to_owned()),
                fix: match (word.strip_prefix('-'), word.split_once('=')) {
                    (Some(_), _) => "remove the - or -- before it".to_owned(),
                    (None, Some((name, _))) => format!("write --{name}=…"),
                    (None, None) => "remove it; a bool flag takes its value after =, as in \
                                     --pre-vote=false"
                        .to_owned(),
                },
            },
            Self::Environment(EnvironmentError::Conflict { variable }) => Advice {
                set_by: Some(variable_and_file(variable, sources)),
                fix: "unset the variable or remove the flag".to_owned(),
            },
            Self::Environment(EnvironmentError::Value { variable, .. }) => {
                let option = OPTIONS.iter().find(|option| option.variable() == *variable);
                Advice {
                    set_by: Some(variable_and_file(variable, sources)),
                    fix: option.map_or_else(String::new, |option| expects(option.kind)),
                }
            }
            Self::File(refusal) => refusal_advice(refusal),
            Self::Config(error) => {
                let (option, fix) = error.advice();
                let origin = &settings.get(option).origin;
                Advice {
                    set_by: set_by(option, origin, sources),
                    fix: fix.to_owned(),
                }
            }
        }
    }
}

fn refusal_advice(refusal: &Refusal) -> Advice {
    let path = refusal.path.display();
    let set_by = match refusal.line {
        Some(line) => format!("{path}:{line}"),
        None => path.to_string(),
    };
    let key = refusal.key.as_deref();
    let option = OPTIONS
        .iter()
        .find(|option| key.is_some() && option.file_path() == key);
    let fix = match (&refusal.error, option) {
        (FileError::Open { .. }, _) => {
            "correct the path in --config-file or ETCD_CONFIG_FILE, or let the file be read"
                .to_owned()
        }
        (FileError::Kind { .. }, Some(option)) if option.list_in_file => {
            "write a YAML list: [\"a\", \"b\"]".to_owned()
        }
        (FileError::Kind { .. }, Some(option)) => match option.kind {
            Kind::Duration => "write whole nanoseconds: 5s is 5000000000".to_owned(),
            Kind::Bool => "write true or false, without quotes".to_owned(),
            Kind::Int | Kind::Int64 | Kind::Uint | Kind::Uint32 | Kind::Uint64 => {
                "write a whole number, without quotes".to_owned()
            }
            _ => "write a text in quotes".to_owned(),
        },
        (_, Some(option)) => expects(option.kind),
        (FileError::Yaml(_), None) => "write YAML: one KEY: VALUE on a line".to_owned(),
        (_, None) => "write KEY: VALUE lines below it, or remove it".to_owned(),
    };
    Advice {
        set_by: Some(set_by),
        fix,
    }
}

/// The line for a value that the start of the member found wrong, for instance a file that cannot
/// be opened: etcd's message, who set the option, and what to do. The process then ends with
/// [`EXIT_CONFIG`].
#[track_caller]
pub fn refused(
    settings: &Settings,
    option: &'static str,
    error: impl fmt::Display,
    fix: &str,
) -> Line {
    let line = Line::warn("failed to verify flags").with("error", error.to_string());
    let origin = &settings.get(option).origin;
    let line = match set_by(option, origin, &super::of_process()) {
        Some(set_by) => line.with("set-by", set_by),
        None => line.with("option", option),
    };
    line.with("fix", fix)
}

/// Who set an option, for people; nothing for defaults.
pub(super) fn set_by(option: &str, origin: &Origin, sources: &Sources<'_>) -> Option<String> {
    Some(match origin {
        Origin::Default => return None,
        Origin::Flag => format!("flag --{option}"),
        Origin::Variable(name) => variable_and_file(name, sources),
        Origin::File(..) | Origin::Derived(_) => origin.to_string(),
    })
}

fn variable_and_file(name: &str, sources: &Sources<'_>) -> String {
    let value = super::environment::lookup(&sources.variables, name);
    match locate(name, value, sources.read_file) {
        Some((path, line)) => format!("{name} ({}:{line})", path.display()),
        None => name.to_owned(),
    }
}

/// What a value of this kind looks like.
fn expects(kind: Kind) -> String {
    match kind {
        Kind::Bool => "write true or false".to_owned(),
        Kind::Int | Kind::Int64 => "write a whole number".to_owned(),
        Kind::Uint | Kind::Uint32 | Kind::Uint64 => "write a whole number from 0".to_owned(),
        Kind::Duration => "write a duration with its unit, such as 100ms, 5s or 1m30s".to_owned(),
        Kind::UrlSet => "write URLs such as http://10.0.0.1:2379, with commas between".to_owned(),
        Kind::Origins => "write * or origins such as https://a.example:443".to_owned(),
        Kind::Choice(words) | Kind::Stages(words) => format!("write {}", words.join(" or ")),
        Kind::Gates => "write gates of --help as Name=true,Name=false".to_owned(),
        Kind::Text | Kind::TextSet | Kind::TextList | Kind::Ignored => "write a text".to_owned(),
    }
}

impl fmt::Display for Failure {
    /// etcd's text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Positional(word) => write!(f, "{} is not a valid flag", quote(word)),
            Self::Environment(error) => error.fmt(f),
            Self::File(refusal) => refusal.error.fmt(f),
            Self::Config(error) => error.fmt(f),
        }
    }
}
