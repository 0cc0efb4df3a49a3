//! `ETCD_*` variables.
//!
//! envy gives the variables with the prefix as texts; Go's rules for values and etcd's for
//! precedence are applied here. A variable for an option that is also a flag is fatal, even when
//! both agree: etcd refuses to guess which one was meant.

use std::collections::HashSet;

use super::settings::{Origin, Settings};
use super::table::OPTIONS;
use super::value::quote;
use crate::logging::Line;

/// The environment as texts, in its own order. Bytes that are no UTF-8 are replaced.
pub(super) type Variables = Vec<(String, String)>;

/// `ETCD_*` names that are not options and whose presence means nothing.
const FOREIGN: [&str; 1] = ["ETCD_OPTIONS"]; // extra words of the unit's command line

/// Why the environment was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EnvironmentError {
    /// A variable and its flag are both there.
    #[error(
        "conflicting environment variable is shadowed by corresponding command-line flag \
         (either unset environment variable or disable flag))"
    )]
    Conflict {
        /// The variable.
        variable: String,
    },
    /// A variable's text does not fit its option.
    #[error("invalid value {} for {variable}: {reason}", quote(value))]
    Value {
        /// The variable.
        variable: String,
        /// Its text.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The value of a variable, empty when unset.
pub(super) fn lookup<'a>(variables: &'a Variables, name: &str) -> &'a str {
    variables
        .iter()
        .find(|(key, _)| key == name)
        .map_or("", |(_, value)| value)
}

/// Fills every option that is no flag from its variable; notes what was used and what was not.
///
/// Of several errors etcd reports the first conflict, or else the last value: `failure::reported` chooses.
pub(super) fn apply(
    variables: &Variables,
    settings: &mut Settings,
    notes: &mut Vec<Line>,
) -> Vec<EnvironmentError> {
    let version = lookup(variables, "ETCD_VERSION");
    if !version.is_empty() {
        let line = Line::warn("cannot set special environment variable");
        notes.push(line.with("key", "ETCD_VERSION").with("value", version));
    }
    let raw = raw_texts(variables);
    let mut flags = HashSet::new();
    let mut used = HashSet::new();
    let mut errors = Vec::new();
    for at in by_name() {
        let option = &OPTIONS[at];
        let variable = option.variable();
        if settings.rows()[at].is_set {
            flags.insert(variable);
            continue;
        }
        let special = option.name == "version" || option.name == "config-file";
        let Some(text) = raw
            .get(&variable)
            .filter(|text| !text.is_empty() && !special)
        else {
            continue;
        };
        used.insert(variable.clone());
        match option.kind.parse(text, &settings.rows()[at].value) {
            Ok(value) => {
                let shown = if option.is_secret() {
                    option.shown(&value)
                } else {
                    text.clone()
                };
                settings.set(at, value, Origin::Variable(variable.clone()));
                let line = Line::info("recognized and used environment variable");
                notes.push(
                    line.with("variable-name", variable)
                        .with("variable-value", shown),
                );
            }
            Err(reason) => {
                let value = text.clone();
                errors.push(EnvironmentError::Value {
                    variable,
                    value,
                    reason,
                });
            }
        }
    }
    errors.extend(note_the_rest(variables, &flags, &used, notes));
    errors
}

fn note_the_rest(
    variables: &Variables,
    flags: &HashSet<String>,
    used: &HashSet<String>,
    notes: &mut Vec<Line>,
) -> Vec<EnvironmentError> {
    let mut conflicts = Vec::new();
    for (name, value) in variables {
        if used.contains(name) || !name.starts_with("ETCD_") || FOREIGN.contains(&name.as_str()) {
            continue;
        }
        if flags.contains(name) {
            conflicts.push(EnvironmentError::Conflict {
                variable: name.clone(),
            });
            continue;
        }
        if name == "ETCD_VERSION" && !value.is_empty() {
            continue;
        }
        let line = Line::warn("unrecognized environment variable");
        notes.push(line.with("environment-variable", format!("{name}={value}")));
    }
    conflicts
}

/// The first text of each variable with the prefix.
fn raw_texts(variables: &Variables) -> std::collections::HashMap<String, String> {
    // envy folds case, where `ETCD_name` is not `ETCD_NAME`: only exact names may pass.
    let exact = |name: &str| {
        name.starts_with("ETCD_")
            && !name.starts_with("ETCD_ETCD_") // envy strips the prefix as often as it stands there
            && *name == name.to_ascii_uppercase()
    };
    let exact = variables
        .iter()
        .rev()
        .filter(|(name, _)| exact(name))
        .cloned();
    let folded: std::collections::HashMap<String, String> =
        envy::prefixed("ETCD_").from_iter(exact).unwrap_or_default();
    folded
        .into_iter()
        .map(|(k, v)| (format!("ETCD_{}", k.to_ascii_uppercase()), v))
        .collect()
}

/// Places of all flags in the order of their names, which is the order etcd reads variables in.
fn by_name() -> Vec<usize> {
    let mut places: Vec<usize> = (0..OPTIONS.len())
        .filter(|at| OPTIONS[*at].on_command_line)
        .collect();
    places.sort_by_key(|at| OPTIONS[*at].name);
    places
}
