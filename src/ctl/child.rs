//! Running a user's command, and Go's words for how that ends.

use super::cli::Arg;
use super::go::quote::quote;
use crate::client::os_error_text;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

/// How a command ended badly.
pub(super) struct ChildFailure {
    /// Go's text.
    pub message: String,
    /// Its exit status; 255 when a signal ended it, 1 when it never ran.
    pub code: u8,
}

/// Runs a command to its end with more environment, and with nothing on its standard input.
pub(super) async fn run(
    command: &[Arg],
    environment: impl IntoIterator<Item = (&'static str, Vec<u8>)>,
) -> Result<(), ChildFailure> {
    let Some((program, args)) = command.split_first() else {
        return Ok(());
    };
    let mut child = tokio::process::Command::new(OsStr::from_bytes(program));
    child.args(args.iter().map(|arg| OsStr::from_bytes(arg)));
    child.stdin(Stdio::null());
    for (name, value) in environment {
        child.env(name, OsStr::from_bytes(&value));
    }
    match child.status().await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(ended(status)),
        Err(error) => Err(ChildFailure {
            message: not_started(program, &error),
            code: 1,
        }),
    }
}

fn ended(status: ExitStatus) -> ChildFailure {
    if let Some(code) = status.code() {
        return ChildFailure {
            message: format!("exit status {code}"),
            code: code as u8,
        };
    }
    let signal = status.signal().unwrap_or_default();
    let name = match signal {
        1 => "hangup".to_owned(),
        2 => "interrupt".to_owned(),
        3 => "quit".to_owned(),
        4 => "illegal instruction".to_owned(),
        6 => "aborted".to_owned(),
        8 => "floating point exception".to_owned(),
        9 => "killed".to_owned(),
        11 => "segmentation fault".to_owned(),
        13 => "broken pipe".to_owned(),
        14 => "alarm clock".to_owned(),
        15 => "terminated".to_owned(),
        other => format!("signal {other}"),
    };
    let core = if status.core_dumped() {
        " (core dumped)"
    } else {
        ""
    };
    ChildFailure {
        message: format!("signal: {name}{core}"),
        code: 255,
    }
}

fn not_started(program: &[u8], error: &std::io::Error) -> String {
    if !program.contains(&b'/') && error.kind() == std::io::ErrorKind::NotFound {
        return format!(
            "exec: {}: executable file not found in $PATH",
            quote(program)
        );
    }
    format!(
        "fork/exec {}: {}",
        String::from_utf8_lossy(program),
        os_error_text(error)
    )
}
