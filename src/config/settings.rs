//! The values in force and where each came from.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::gates::FeatureGates;
use super::table::{OPTIONS, position};
use super::url::Url;
use super::value::Value;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The table.
    Default,
    /// The command line.
    Flag,
    /// The environment.
    Variable(String),
    /// A configuration file, with the line where it could be told.
    File(PathBuf, Option<usize>),
    /// Other values; the text says how.
    Derived(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Flag => f.write_str("flag"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Self::File(path, None) => path.display().fmt(f),
            Self::Derived(how) => write!(f, "derived: {how}"),
        }
    }
}

/// A value and its origin.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The value in force.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
    /// Whether somebody said so, even if the value is the default.
    pub is_set: bool,
}

/// One setting for each row of [`OPTIONS`].
#[derive(Clone, Debug)]
pub struct Settings {
    rows: Vec<Setting>,
}

impl Settings {
    /// Every option at its default.
    pub fn defaults() -> Self {
        let row = |option: &super::options::Opt| Setting {
            value: option.default_value(),
            origin: Origin::Default,
            is_set: false,
        };
        Self {
            rows: OPTIONS.iter().map(row).collect(),
        }
    }

    /// The rows, in the order of [`OPTIONS`].
    pub fn rows(&self) -> &[Setting] {
        &self.rows
    }

    /// Sets the option at a place in the table.
    pub fn set(&mut self, at: usize, value: Value, origin: Origin) {
        if let Some(row) = self.rows.get_mut(at) {
            *row = Setting {
                value,
                origin,
                is_set: true,
            };
        }
    }

    /// Changes a value that follows from others. It does not count as set.
    pub fn derive(&mut self, name: &'static str, value: Value, how: &'static str) {
        if let Some(row) = position(name).and_then(|at| self.rows.get_mut(at)) {
            row.value = value;
            row.origin = Origin::Derived(how);
        }
    }

    /// The setting of an option. `name` is a name of the table, which the tests make sure of.
    pub fn get(&self, name: &'static str) -> &Setting {
        match position(name).and_then(|at| self.rows.get(at)) {
            Some(row) => row,
            None => unreachable!("no option {name} in the table"),
        }
    }

    /// Whether somebody said anything about an option.
    pub fn is_set(&self, name: &'static str) -> bool {
        self.get(name).is_set
    }

    pub(super) fn text(&self, name: &'static str) -> &str {
        match &self.get(name).value {
            Value::Text(text) => text,
            other => unreachable!("{name} is {other:?}"),
        }
    }

    pub(super) fn bool(&self, name: &'static str) -> bool {
        match self.get(name).value {
            Value::Bool(value) => value,
            ref other => unreachable!("{name} is {other:?}"),
        }
    }

    pub(crate) fn int(&self, name: &'static str) -> i64 {
        match self.get(name).value {
            Value::Int(value) => value,
            ref other => unreachable!("{name} is {other:?}"),
        }
    }

    pub(super) fn uint(&self, name: &'static str) -> u64 {
        match self.get(name).value {
            Value::Uint(value) => value,
            ref other => unreachable!("{name} is {other:?}"),
        }
    }

    /// Signed nanoseconds.
    pub(super) fn nanos(&self, name: &'static str) -> i64 {
        match self.get(name).value {
            Value::Duration(nanos) => nanos,
            ref other => unreachable!("{name} is {other:?}"),
        }
    }

    /// A negative duration counts as none.
    pub(super) fn duration(&self, name: &'static str) -> Duration {
        Duration::from_nanos(u64::try_from(self.nanos(name)).unwrap_or(0))
    }

    pub(super) fn urls(&self, name: &'static str) -> &[Url] {
        match &self.get(name).value {
            Value::Urls(urls) => urls,
            other => unreachable!("{name} is {other:?}"),
        }
    }

    pub(super) fn texts(&self, name: &'static str) -> &[String] {
        match &self.get(name).value {
            Value::Texts(texts) => texts,
            other => unreachable!("{name} is {other:?}"),
        }
    }

    pub(super) fn gates(&self, name: &'static str) -> &FeatureGates {
        match &self.get(name).value {
            Value::Gates(gates) => gates,
            other => unreachable!("{name} is {other:?}"),
        }
    }
}
