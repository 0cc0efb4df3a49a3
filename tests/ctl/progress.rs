//! Progress on long work: seen on a terminal, and not a byte of it anywhere else.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};

use crate::member::{Member, free_port};
use crate::{Options, ensure, words};

/// Work that shows nothing for so long shows nothing.
const SHOWN_MAX: Duration = Duration::from_secs(30);
/// Work that goes on until it is ended is ended after so long where nothing is to be seen.
const WATCHED: Duration = Duration::from_secs(2);

/// A command, and what its progress looks like.
struct Work<'a> {
    program: &'a Path,
    arguments: Vec<String>,
    /// Part of what a terminal shows.
    shown: &'static str,
    /// It goes on until it is ended.
    endless: bool,
}

/// Runs every long work on a terminal and elsewhere.
pub fn prove(options: &Options) -> Result<String, String> {
    let directory = tempfile::tempdir().map_err(words)?;
    let source = Member::start_binary(&options.server, &[]);
    let target = Member::start_binary(&options.server, &[]);
    let path = |name: &str| directory.path().join(name).display().to_string();
    let ctl = |endpoint: &str, arguments: &[&str], shown, endless| Work {
        program: &options.etcdctl,
        arguments: ["--endpoints", endpoint]
            .iter()
            .chain(arguments)
            .map(|word| (*word).to_owned())
            .collect(),
        shown,
        endless,
    };
    let utl = |arguments: &[&str], shown| Work {
        program: &options.etcdutl,
        arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
        shown,
        endless: false,
    };
    let filled = ctl(&source.endpoint, &["put", "key", "value"], "", false);
    ensure(filled.elsewhere()?.is_empty(), || {
        "put says something".to_owned()
    })?;
    let mut seen = 0;
    for terminal in [true, false] {
        let place = |name: &str| path(&format!("{name}-{terminal}"));
        let (snapshot, native, go) = (place("snapshot.db"), place("native"), place("go"));
        let dead = format!("127.0.0.1:{}", free_port());
        let works = [
            ctl(
                &source.endpoint,
                &["snapshot", "save", &snapshot],
                "KiB/",
                false,
            ),
            ctl(
                &source.endpoint,
                &["defrag"],
                "defragmenting 127.0.0.1",
                false,
            ),
            ctl(
                &source.endpoint,
                &["make-mirror", &target.endpoint],
                "keys mirrored",
                true,
            ),
            ctl(&source.endpoint, &["check", "perf"], "/60 s", true),
            ctl(
                &source.endpoint,
                &["check", "datascale"],
                "/10000 keys",
                true,
            ),
            utl(
                &["snapshot", "restore", &snapshot, "--data-dir", &native],
                "restoring to",
            ),
            utl(
                &[
                    "snapshot",
                    "restore",
                    &snapshot,
                    "--format=go",
                    "--data-dir",
                    &go,
                ],
                "KiB/",
            ),
            utl(&["defrag", "--data-dir", &native], "rewriting"),
            utl(&["defrag", "--data-dir", &go], "rewriting"),
            utl(
                &["migrate", "--data-dir", &go, "--target-version=3.6"],
                "rewriting",
            ),
            utl(&["hashkv", &snapshot], "hashing"),
        ];
        for work in works {
            if terminal {
                work.on_terminal()?;
                seen += 1;
            } else {
                work.unseen()?;
            }
            clear(&options.etcdctl, &source.endpoint)?;
        }
        // A command that fails leaves no bar behind either.
        if !terminal {
            let failing = ctl(
                &dead,
                &["--command-timeout=200ms", "defrag"],
                "defragmenting",
                false,
            );
            let said = failing.elsewhere()?;
            ensure(!said.contains('\r') && !said.contains('\x1b'), || {
                format!("a bar: {said:?}")
            })?;
        }
    }
    Ok(format!("{seen} bars on a terminal, none elsewhere"))
}

/// Takes away what an ended check has left.
fn clear(etcdctl: &Path, endpoint: &str) -> Result<(), String> {
    let deleted = Command::new(etcdctl)
        .args([
            "--endpoints",
            endpoint,
            "del",
            "--prefix",
            "/etcdctl-check-",
        ])
        .output()
        .map_err(words)?;
    ensure(deleted.status.success(), || format!("del: {deleted:?}"))
}

impl Work<'_> {
    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command
            .args(&self.arguments)
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// With a terminal for stderr: the bar must appear, and the line must be clean in the end.
    fn on_terminal(&self) -> Result<(), String> {
        let size = Winsize {
            ws_row: 24,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let terminal = openpty(Some(&size), None).map_err(words)?;
        let mut child = Ended(
            self.command()
                .stderr(terminal.slave)
                .spawn()
                .map_err(words)?,
        );
        let (sender, pieces) = std::sync::mpsc::channel();
        std::thread::spawn(move || read_all(terminal.master, &sender));
        let deadline = Instant::now() + SHOWN_MAX;
        let mut seen = String::new();
        while !seen.contains(self.shown) {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(piece) = pieces.recv_timeout(left) else {
                return Err(format!(
                    "{:?} shows no {:?}: {seen:?}",
                    self.arguments, self.shown
                ));
            };
            seen.push_str(&piece);
        }
        if self.endless {
            return Ok(());
        }
        let status = child.0.wait().map_err(words)?;
        ensure(status.success(), || {
            format!("{:?}: {status}: {seen:?}", self.arguments)
        })
    }

    /// With a pipe for stderr: what is said there has no trace of a bar.
    fn unseen(&self) -> Result<(), String> {
        let said = self.elsewhere()?;
        let clean = !said.contains('\r') && !said.contains('\x1b') && !said.contains(self.shown);
        ensure(clean, || {
            format!(
                "{:?} shows a bar where no terminal is: {said:?}",
                self.arguments
            )
        })
    }

    /// What it says on a stderr that is a pipe.
    fn elsewhere(&self) -> Result<String, String> {
        let mut child = Ended(
            self.command()
                .stderr(Stdio::piped())
                .spawn()
                .map_err(words)?,
        );
        let mut stderr = child.0.stderr.take().ok_or("no stderr")?;
        let reader = std::thread::spawn(move || {
            let mut said = String::new();
            let _ = stderr.read_to_string(&mut said);
            said
        });
        if self.endless {
            std::thread::sleep(WATCHED);
            child.0.kill().map_err(words)?;
        }
        child.0.wait().map_err(words)?;
        reader.join().map_err(|_| "the reader panicked".to_owned())
    }
}

/// A child that does not outlive the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Hands on what the terminal shows; it ends with the last program on it.
fn read_all(master: OwnedFd, sender: &std::sync::mpsc::Sender<String>) {
    let mut master = std::fs::File::from(master);
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = master.read(&mut buffer) {
        let piece = String::from_utf8_lossy(&buffer[..read]).into_owned();
        if sender.send(piece).is_err() {
            return;
        }
    }
}
