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

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;

use crate::logging::Line;
use failure::Failure;

mod announce;
mod command_line;
mod environment;
mod environment_file;
mod failure;
mod file;
pub mod gates;
mod help;
mod inspect;
mod model;
pub mod options;
mod resolve;
mod sample;
mod settings;
pub mod table;
#[cfg(test)]
mod tests;
pub mod url;
mod validate;
mod value;
mod yaml;

pub use failure::refused;
pub use gates::FeatureGates;
pub use help::{COMPATIBLE_VERSION, GIT_SHA, version_text};
pub use model::{
    Auth, AutoCompaction, Checks, Cluster, Compaction, Config, Http, Listen, Member, Raft, Rpc,
    Storage, Tls, parse_initial_cluster,
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
    /// The name of this host.
    pub host_name: &'a dyn Fn() -> String,
    /// The address of this host on the default route.
    pub default_host: &'a dyn Fn() -> Result<IpAddr, String>,
}

/// Reads the configuration of this process.
pub fn of_this_process() -> Start {
    start(&of_process())
}

fn of_process() -> Sources<'static> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    Sources {
        words: std::env::args_os().map(text).collect(),
        variables: std::env::vars_os()
            .map(|(key, value)| (text(key), text(value)))
            .collect(),
        read_file: &|path| std::fs::read_to_string(path),
        host_name: &|| {
            let name = nix::unistd::gethostname().unwrap_or_default();
            name.to_string_lossy().into_owned()
        },
        default_host: &default_host,
    }
}

/// Reads a configuration.
pub fn start(sources: &Sources<'_>) -> Start {
    match sources.words.get(1).map(String::as_str) {
        Some(word @ ("gateway" | "grpc-proxy")) => Start::Done(Done {
            stderr: format!("etcd {word} is not served yet by this release\n"),
            exit_code: EXIT_FAILURE,
            ..Done::default()
        }),
        Some("config") => Start::Done(inspect::run(sources)),
        _ => start_member(sources),
    }
}

fn start_member(sources: &Sources<'_>) -> Start {
    let mut flags = Settings::defaults();
    let words = sources.words.get(1..).unwrap_or_default();
    let positional = match command_line::read(words, &mut flags) {
        Ok(command_line::Words::Flags(positional)) => positional,
        Ok(command_line::Words::Help) => {
            return Start::Done(Done {
                stdout: help::flags(),
                stderr: format!("{}\n", help::USAGE),
                ..Done::default()
            });
        }
        Err(reason) => {
            let stderr = format!("{reason}\n{}\n", help::USAGE);
            return Start::Done(Done {
                stderr,
                exit_code: EXIT_USAGE,
                ..Done::default()
            });
        }
    };
    let mut notes = Vec::new();
    if let Some(word) = positional {
        notes.push(resolve::running(&sources.words));
        return Start::Done(Failure::Positional(word).into_done(notes, &flags, sources));
    }
    if flags.bool("version") {
        return Start::Done(Done {
            stdout: version_text(),
            ..Done::default()
        });
    }
    let gathered = gather(sources, flags, &mut notes);
    match gathered.resolve(sources, &mut notes) {
        Ok(config) => Start::Run(Box::new(Run { config, notes })),
        Err(refused) => {
            let (failure, settings) = *refused;
            Start::Done(failure.into_done(notes, &settings, sources))
        }
    }
}

/// What the sources say, before anybody asks whether it makes sense.
struct Gathered {
    settings: Settings,
    /// What could not be read, in the order it was met.
    failures: Vec<Failure>,
    /// The file they are from.
    path: Option<String>,
}

/// Reads the file, or else the variables, on top of the flags.
fn gather(sources: &Sources<'_>, flags: Settings, notes: &mut Vec<Line>) -> Gathered {
    let path = file_path(sources, &flags);
    if path.is_empty() {
        let mut settings = flags;
        let errors = environment::apply(&sources.variables, &mut settings, notes);
        if errors.is_empty() {
            resolve::derive_from_flags(&mut settings, notes);
        }
        let failures = errors.into_iter().map(Failure::Environment).collect();
        return Gathered {
            settings,
            failures,
            path: None,
        };
    }
    let mut settings = Settings::defaults();
    // Two timeouts have no key in a file, so the command line's hold.
    for name in ["raft-read-timeout", "raft-write-timeout"] {
        let flag = flags.get(name);
        if let (true, Some(at)) = (flag.is_set, table::position(name)) {
            settings.set(at, flag.value.clone(), flag.origin.clone());
        }
    }
    let failures = match read_file_into(sources, Path::new(&path), &mut settings, notes) {
        Ok(()) => Vec::new(),
        Err(refusal) => vec![Failure::File(refusal)],
    };
    Gathered {
        settings,
        failures,
        path: Some(path),
    }
}

/// The path of the configuration file, from flag or variable; empty for none.
fn file_path(sources: &Sources<'_>, flags: &Settings) -> String {
    match flags.text("config-file") {
        "" => environment::lookup(&sources.variables, "ETCD_CONFIG_FILE").to_owned(),
        path => path.to_owned(),
    }
}

fn read_file_into(
    sources: &Sources<'_>,
    path: &Path,
    settings: &mut Settings,
    notes: &mut Vec<Line>,
) -> Result<(), file::Refusal> {
    let text = (sources.read_file)(path).map_err(|error| file::Refusal {
        error: file::FileError::Open {
            path: path.display().to_string(),
            reason: crate::logging::os_error_text(&error),
        },
        path: path.to_owned(),
        key: None,
        line: None,
    })?;
    file::read(path, &text, settings, notes)?;
    resolve::derive_from_file(settings);
    Ok(())
}

impl Gathered {
    /// A configuration, or the failure etcd would report with the settings it is about.
    fn resolve(
        self,
        sources: &Sources<'_>,
        notes: &mut Vec<Line>,
    ) -> Result<Config, Box<(Failure, Settings)>> {
        let Self {
            settings,
            failures,
            path,
        } = self;
        if let Some(failure) = failure::reported(failures) {
            if !failure.is_conflict() {
                notes.push(resolve::running(&sources.words));
            }
            return Err(Box::new((failure, settings)));
        }
        let shown = settings.clone();
        resolve::resolve(
            settings,
            path.as_deref(),
            &sources.words,
            sources.default_host,
            notes,
        )
        .map_err(|error| Box::new((Failure::Config(error), shown)))
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
