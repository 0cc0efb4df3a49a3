//! Configuration: one [option table](table), three sources, one typed [`Config`].
//!
//! ```text
//! command_line ┐
//! environment  ├─> settings (value + origin of every option) ─> validate ─> resolve ─> Config
//! file (yaml)  ┘
//! ```
//!
//! Precedence is etcd's. Without a file: flag, then `ETCD_*`, then default; a flag and its variable
//! together are fatal. With `--config-file` or `ETCD_CONFIG_FILE`: the file alone.
//!
//! Exit statuses: 0 help and version; 2 the command line has no sense; [`EXIT_CONFIG`] (78) any
//! other mistake in the configuration, where etcd has 1. systemd must tell a mistake, which a
//! restart does not mend, from a failure, which it may; nothing else reads the difference.
//!
//! Deliberately absent: reading a directory of drop-ins, includes, variables in values. A changed
//! configuration is read at the next start; only log level and certificates change while running.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;

use crate::logging::Line;

mod command_line;
mod environment;
mod file;
pub mod gates;
mod help;
mod model;
pub mod options;
mod resolve;
mod settings;
pub mod table;
#[cfg(test)]
mod tests;
pub mod url;
mod validate;
mod value;
mod yaml;

pub use gates::FeatureGates;
pub use help::{COMPATIBLE_VERSION, GIT_SHA, version_text};
pub use model::{
    Auth, AutoCompaction, Checks, Cluster, Compaction, Config, Http, Listen, Member, Raft, Rpc,
    Storage, Tls,
};
pub use settings::{Origin, Setting, Settings};
pub use url::{Scheme, Url};
pub use validate::ConfigError;
pub use value::{Kind, Value};

/// The process failed; starting it again may help.
pub const EXIT_FAILURE: u8 = 1;
/// The command line has no sense.
pub const EXIT_USAGE: u8 = 2;
/// The configuration is wrong; starting again does not help (`EX_CONFIG`).
pub const EXIT_CONFIG: u8 = 78;

/// What the process is to do.
#[derive(Debug)]
pub enum Start {
    /// Run a member.
    Run(Box<Run>),
    /// Print this and end.
    Done(Done),
}

/// A member to run.
#[derive(Debug)]
pub struct Run {
    /// Its configuration.
    pub config: Config,
    /// Lines about how it came to be, to be logged first, in this order.
    pub notes: Vec<Line>,
}

/// An end without a member.
#[derive(Debug, Default)]
pub struct Done {
    /// For standard output.
    pub stdout: String,
    /// For standard error, before any line.
    pub stderr: String,
    /// To be logged the default way.
    pub lines: Vec<Line>,
    /// The exit status.
    pub exit_code: u8,
}

/// Where the configuration comes from: the process's surroundings, or a test's.
pub struct Sources<'a> {
    /// The words of the command line, the program's name first.
    pub words: Vec<String>,
    /// The environment.
    pub variables: Vec<(String, String)>,
    /// Reads a file.
    pub read_file: &'a dyn Fn(&Path) -> io::Result<String>,
    /// The address of this host on the default route.
    pub default_host: &'a dyn Fn() -> Result<IpAddr, String>,
}

/// Reads the configuration of this process.
pub fn of_this_process() -> Start {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    start(&Sources {
        words: std::env::args_os().map(text).collect(),
        variables: std::env::vars_os()
            .map(|(key, value)| (text(key), text(value)))
            .collect(),
        read_file: &|path| std::fs::read_to_string(path),
        default_host: &default_host,
    })
}

/// Reads a configuration.
pub fn start(sources: &Sources<'_>) -> Start {
    match sources.words.get(1).map(String::as_str) {
        Some(word @ ("gateway" | "grpc-proxy")) => Start::Done(Done {
            stderr: format!("etcd {word} is not served yet by this release\n"),
            exit_code: EXIT_FAILURE,
            ..Done::default()
        }),
        _ => start_member(sources),
    }
}

fn start_member(sources: &Sources<'_>) -> Start {
    let mut settings = Settings::defaults();
    let words = sources.words.get(1..).unwrap_or_default();
    let positional = match command_line::read(words, &mut settings) {
        Ok(command_line::Words::Flags(positional)) => positional,
        Ok(command_line::Words::Help) => {
            return Start::Done(Done {
                stdout: help::flags(),
                stderr: format!("{}\n", help::USAGE),
                ..Done::default()
            });
        }
        Err(reason) => {
            let mut stderr = String::new();
            let _ = write!(stderr, "{reason}\n{}\n", help::USAGE);
            return Start::Done(Done {
                stderr,
                exit_code: EXIT_USAGE,
                ..Done::default()
            });
        }
    };
    let mut notes = Vec::new();
    if let Some(word) = positional {
        notes.push(running(sources));
        let failure = Failure::plain(format!("{} is not a valid flag", value::quote(&word)));
        return Start::Done(failure.into_done(notes));
    }
    if settings.bool("version") {
        return Start::Done(Done {
            stdout: version_text(),
            ..Done::default()
        });
    }
    match read_and_resolve(sources, settings, &mut notes) {
        Ok(config) => Start::Run(Box::new(Run { config, notes })),
        Err(failure) => Start::Done(failure.into_done(notes)),
    }
}

/// The path of the configuration file, from flag or variable; empty for none.
fn file_path(sources: &Sources<'_>, settings: &Settings) -> String {
    match settings.text("config-file") {
        "" => environment::lookup(&sources.variables, "ETCD_CONFIG_FILE").to_owned(),
        path => path.to_owned(),
    }
}

fn read_and_resolve(
    sources: &Sources<'_>,
    mut settings: Settings,
    notes: &mut Vec<Line>,
) -> Result<Config, Failure> {
    let path = file_path(sources, &settings);
    let running = running(sources);
    let mut loaded = None;
    if path.is_empty() {
        if let Err(error) = environment::apply(&sources.variables, &mut settings, notes) {
            if !matches!(error, environment::EnvironmentError::Conflict { .. }) {
                notes.push(running);
            }
            return Err(Failure::Environment(error));
        }
        resolve::derive_from_flags(&mut settings, notes);
    } else {
        settings = from_file(sources, &path, &settings, notes).map_err(|error| {
            if !matches!(error, file::FileError::Urls { .. }) {
                notes.push(running.clone());
            }
            Failure::File(error)
        })?;
        let line = Line::info(
            "loaded server configuration, other configuration command line flags and environment \
             variables will be ignored if provided",
        );
        loaded = Some(line.with("path", path));
    }
    resolve::resolve(settings, loaded, running, sources.default_host, notes)
        .map_err(Failure::Config)
}

/// The settings of a file. Two timeouts have no key there, so the command line's hold.
fn from_file(
    sources: &Sources<'_>,
    path: &str,
    flags: &Settings,
    notes: &mut Vec<Line>,
) -> Result<Settings, file::FileError> {
    let mut settings = Settings::defaults();
    for name in ["raft-read-timeout", "raft-write-timeout"] {
        let flag = flags.get(name);
        if let (true, Some(at)) = (flag.is_set, table::position(name)) {
            settings.set(at, flag.value.clone(), flag.origin.clone());
        }
    }
    let path = Path::new(path);
    let text = (sources.read_file)(path).map_err(|error| file::FileError::Open {
        path: path.display().to_string(),
        reason: crate::logging::os_error_text(&error),
    })?;
    file::read(path, &text, &mut settings, notes)?;
    resolve::derive_from_file(&mut settings);
    Ok(settings)
}

fn running(sources: &Sources<'_>) -> Line {
    Line::info("Running: ").list("args", &sources.words)
}

/// Why there is no member.
#[derive(Debug)]
enum Failure {
    Plain(String),
    Environment(environment::EnvironmentError),
    File(file::FileError),
    Config(ConfigError),
}

impl Failure {
    fn plain(text: String) -> Self {
        Self::Plain(text)
    }

    fn into_done(self, mut lines: Vec<Line>) -> Done {
        let mut done = Done {
            exit_code: EXIT_CONFIG,
            ..Done::default()
        };
        match &self {
            Self::Environment(error @ environment::EnvironmentError::Conflict { variable }) => {
                let line = Line::fatal(error.to_string());
                lines.push(line.with("environment-variable", variable.as_str()));
            }
            Self::File(error @ file::FileError::Urls { .. }) => {
                done.stderr = format!("{error}\n");
            }
            other => {
                let text = other.to_string();
                lines.push(Line::warn("failed to verify flags").with("error", text.as_str()));
                if matches!(other, Self::Config(ConfigError::AdvertiseClientUrlsMissing)) {
                    let line = Line::warn("advertise client URLs are not set");
                    lines.push(line.with("error", text));
                }
            }
        }
        done.lines = lines;
        done
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(text) => f.write_str(text),
            Self::Environment(error) => error.fmt(f),
            Self::File(error) => error.fmt(f),
            Self::Config(error) => error.fmt(f),
        }
    }
}

/// The source address of the default route. A datagram socket that is connected but never written
/// to makes the kernel choose it without a packet.
fn default_host() -> Result<IpAddr, String> {
    let chosen = |bind: IpAddr, far: IpAddr| -> io::Result<IpAddr> {
        let socket = UdpSocket::bind((bind, 0))?;
        socket.connect((far, 9))?;
        Ok(socket.local_addr()?.ip())
    };
    // Addresses of documentation: they are on no host's own networks.
    let far_v4 = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let far_v6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    chosen(Ipv4Addr::UNSPECIFIED.into(), far_v4)
        .or_else(|_| chosen(Ipv6Addr::UNSPECIFIED.into(), far_v6))
        .map_err(|_| "could not find default route".to_owned())
}
