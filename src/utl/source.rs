//! Opening the database of a member that is not running, of either kind, or a snapshot.

use std::fs::File as OsFile;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bbolt::{BboltError, File};
use crate::client::os_error_text;
use crate::ctl::cli::Invocation;
use crate::ctl::exit::Failure;
use crate::ctl::print::complain;
use crate::disk::RealDisk;
use crate::logging::{Level, Line};
use crate::store::{Loaded, Options, Store, StoreError};

use super::{failed, log};

/// The name of this etcd's database.
pub(super) const NATIVE_FILE: &str = "state.redb";
/// Time between attempts to get a lock.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);
/// The exit code of a Go program that panics.
const PANIC_CODE: u8 = 2;

/// An open database.
pub(super) enum Source {
    /// Of etcd in Go, locked as long as this lives.
    Go(GoFile),
    /// Of this etcd.
    Native(Box<(Store, Loaded)>),
}

/// A bbolt file that nobody else has open.
pub(super) struct GoFile {
    /// Its content.
    pub(super) file: File,
    _lock: OsFile,
}

/// Where a member's database is: of this etcd if there is one, else where etcd in Go would have it.
pub(super) fn database_of(data_dir: &str) -> PathBuf {
    let native = Path::new(data_dir).join("member").join(NATIVE_FILE);
    match native.exists() {
        true => native,
        false => Path::new(data_dir).join("member").join("snap").join("db"),
    }
}

/// Whether a file is this etcd's database, which goes by its name.
pub(super) fn is_native(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == NATIVE_FILE)
}

/// `stat x: no such file or directory`, for a file that is not there.
pub(super) fn require_file(path: &Path) -> Result<(), String> {
    match path.metadata() {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "stat {}: {}",
            path.display(),
            os_error_text(&error)
        )),
    }
}

/// Opens a database, waiting for its lock as long as `--timeout` says.
///
/// etcd panics where it gets no lock, or the file is no database; so does this, without a trace. `quiet`: without
/// the log line.
pub(super) fn open(invocation: &Invocation, path: &Path, quiet: bool) -> Result<Source, Failure> {
    let timeout = u64::try_from(invocation.flags.int("timeout")).unwrap_or_default();
    let deadline = (timeout > 0).then(|| Instant::now() + Duration::from_nanos(timeout));
    let opened = match is_native(path) {
        true => open_native(path, deadline)?,
        false => open_go(path, deadline),
    };
    opened.map_err(|reason| {
        if !quiet {
            let line = Line::new(Level::Panic, "failed to open database");
            log(line.display("path", path.display()).with("error", reason));
        }
        complain("panic: failed to open database");
        Failure::silent(PANIC_CODE)
    })
}

fn open_native(path: &Path, deadline: Option<Instant>) -> Result<Result<Source, String>, Failure> {
    let directory = std::path::absolute(path).map_err(failed)?;
    let directory = directory.parent().unwrap_or(Path::new("/"));
    loop {
        match Store::open(Arc::new(RealDisk), directory, Options::default()) {
            Ok(opened) => return Ok(Ok(Source::Native(Box::new(opened)))),
            Err(StoreError::InUse(_)) if is_over(deadline) => return Ok(Err("timeout".to_owned())),
            Err(StoreError::InUse(_)) => std::thread::sleep(LOCK_INTERVAL),
            Err(error) => return Err(failed(error)),
        }
    }
}

pub(super) fn open_go(path: &Path, deadline: Option<Instant>) -> Result<Source, String> {
    let lock = OsFile::open(path).map_err(|error| go_text("open", path, &error))?;
    while !try_lock(&lock).map_err(|error| go_text("flock", path, &error))? {
        if is_over(deadline) {
            return Err("timeout".to_owned());
        }
        std::thread::sleep(LOCK_INTERVAL);
    }
    let file = File::open(&RealDisk, path).map_err(|error| match error {
        BboltError::NotADatabase { .. } => "invalid database".to_owned(),
        other => other.to_string(),
    })?;
    Ok(Source::Go(GoFile { file, _lock: lock }))
}

/// bbolt's lock is `flock`, not the record lock that everything else of etcd takes.
fn try_lock(file: &OsFile) -> io::Result<bool> {
    // SAFETY: the descriptor is open; flock touches no memory.
    let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    match locked {
        0 => Ok(true),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            error => Err(error),
        },
    }
}

fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// An error of the operating system in Go's words.
pub(super) fn go_text(operation: &str, path: &Path, error: &io::Error) -> String {
    format!("{operation} {}: {}", path.display(), os_error_text(error))
}
