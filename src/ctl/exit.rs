//! How a command ends when it does not end well.

use crate::client;

/// Exit codes.
pub mod code {
    /// Anything without a code of its own.
    pub const ERROR: u8 = 1;
    /// No client could be made, or the connection did not serve.
    pub const BAD_CONNECTION: u8 = 2;
    /// What was read from standard input makes no sense.
    pub const INVALID_INPUT: u8 = 3;
    /// A known flag with a value that is not supported.
    pub const BAD_FEATURE: u8 = 4;
    /// The server ended it.
    pub const INTERRUPTED: u8 = 5;
    /// Wrong arguments.
    pub const BAD_ARGS: u8 = 128;
}

/// The end of a command: its exit code and what is said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// Printed behind `Error: ` on stderr; `None` where the command has said it all.
    pub message: Option<String>,
}

impl Failure {
    /// A failure with its message.
    pub fn new(code: u8, message: impl std::fmt::Display) -> Self {
        Self {
            code,
            message: Some(message.to_string()),
        }
    }

    /// Wrong arguments.
    pub fn args(message: impl std::fmt::Display) -> Self {
        Self::new(code::BAD_ARGS, message)
    }

    /// An end of which everything has been said.
    pub fn silent(code: u8) -> Self {
        Self {
            code,
            message: None,
        }
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        Self::new(code::ERROR, error)
    }
}

impl From<std::io::Error> for Failure {
    /// Writing to standard output failed: whoever read it is gone, as after SIGPIPE.
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::silent(128 + 13),
            _ => Self::new(code::ERROR, error),
        }
    }
}
