//! One log line before it has a format.

use std::borrow::Cow;
use std::fmt;
use std::panic::Location;
use std::time::SystemTime;

use super::level::Level;

/// The value of a field, with the type it keeps in JSON.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldValue {
    /// `true`, `false`.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A number.
    Uint(u64),
    /// A number.
    Float(f64),
    /// A text.
    Text(String),
    /// An array of texts.
    List(Vec<String>),
}

/// A line: what happened, where in the code, and its fields in the order they were given.
///
/// Most code logs with `tracing`'s macros, and the subscriber makes this of an event. Build one by
/// hand where those cannot: more than 32 fields, names known at run time, the levels above error,
/// or a line that is kept to be written later.
#[derive(Clone, Debug)]
pub struct Line {
    pub(crate) level: Level,
    pub(crate) time: SystemTime,
    pub(crate) logger: Option<Cow<'static, str>>,
    pub(crate) file: Cow<'static, str>,
    pub(crate) file_line: u32,
    pub(crate) message: Cow<'static, str>,
    pub(crate) fields: Vec<(Cow<'static, str>, FieldValue)>,
    pub(crate) message_id: Option<String>,
}

impl Line {
    /// A line of now, from the caller's place in the code.
    #[track_caller]
    pub fn new(level: Level, message: impl Into<Cow<'static, str>>) -> Self {
        let caller = Location::caller();
        Self {
            level,
            time: SystemTime::now(),
            logger: None,
            file: Cow::Borrowed(caller.file()),
            file_line: caller.line(),
            message: message.into(),
            fields: Vec::new(),
            message_id: None,
        }
    }

    /// A line of level info.
    #[track_caller]
    pub fn info(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Level::Info, message)
    }

    /// A line of level warn.
    #[track_caller]
    pub fn warn(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Level::Warn, message)
    }

    /// A line of level error.
    #[track_caller]
    pub fn error(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Level::Error, message)
    }

    /// A line of level fatal. Writing it waits until it is out; ending the process is up to the caller.
    #[track_caller]
    pub fn fatal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Level::Fatal, message)
    }

    /// With one more field.
    pub fn with(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<FieldValue>,
    ) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// With one more field that is the text of `value`.
    pub fn display(self, name: impl Into<Cow<'static, str>>, value: impl fmt::Display) -> Self {
        self.with(name, FieldValue::Text(value.to_string()))
    }

    /// With one more field that is a list of texts.
    pub fn list<T: fmt::Display>(self, name: impl Into<Cow<'static, str>>, values: &[T]) -> Self {
        self.with(
            name,
            FieldValue::List(values.iter().map(T::to_string).collect()),
        )
    }

    /// Under the name of a logger, such as `raft`.
    pub fn logger(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.logger = Some(name.into());
        self
    }

    /// As said at another place in the code.
    pub fn at(mut self, file: impl Into<Cow<'static, str>>, line: u32) -> Self {
        self.file = file.into();
        self.file_line = line;
        self
    }

    /// With an identity in the journal's message catalog: 32 hexadecimal digits.
    pub fn message_id(mut self, id: impl Into<String>) -> Self {
        self.message_id = Some(id.into());
        self
    }

    /// The severity.
    pub fn severity(&self) -> Level {
        self.level
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// `dir/file.rs:12`: the last two parts of the path.
    pub(crate) fn caller(&self) -> String {
        let mut cuts = self.file.rmatch_indices('/').map(|(at, _)| at + 1);
        let start = cuts.nth(1).unwrap_or(0);
        format!(
            "{}:{}",
            self.file.get(start..).unwrap_or_default(),
            self.file_line
        )
    }
}

impl fmt::Display for Line {
    /// The message and its fields, for people: `msg key=value key="two words"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (name, value) in &self.fields {
            let value = value.to_string();
            let bare = |c: char| !c.is_whitespace() && c != '"';
            if !value.is_empty() && value.chars().all(bare) {
                write!(f, " {name}={value}")?;
            } else {
                write!(f, " {name}={value:?}")?;
            }
        }
        Ok(())
    }
}

macro_rules! field_values {
    ($($from:ty => $variant:ident),+ $(,)?) => {
        $(impl From<$from> for FieldValue {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        })+
    };
}
field_values!(
    bool => Bool, i32 => Int, i64 => Int, u8 => Uint, u16 => Uint, u32 => Uint, u64 => Uint,
    f64 => Float, &str => Text, String => Text, Vec<String> => List,
);

impl From<usize> for FieldValue {
    fn from(value: usize) -> Self {
        Self::Uint(value as u64)
    }
}

impl fmt::Display for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Uint(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
            Self::List(values) => f.write_str(&values.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caller_is_the_end_of_the_path() {
        let line = |file| Line::info("").at(file, 7).caller();
        assert_eq!(line("src/raft/core.rs"), "raft/core.rs:7");
        assert_eq!(line("src/types.rs"), "src/types.rs:7");
        assert_eq!(line("types.rs"), "types.rs:7");
        assert!(Line::info("").caller().starts_with("logging/line.rs:"));
    }
}
