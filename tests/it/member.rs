//! A member of its own for a test: fresh data directory, free ports, killed at the end.

use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// A start may take this long on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);
/// So may a stop.
const STOP_MAX: Duration = Duration::from_secs(30);

/// A running `etcd` process.
pub struct Member {
    child: Child,
    directory: tempfile::TempDir,
    /// `host:port` of the client listener.
    pub endpoint: String,
    /// `host:port` of the peer listener.
    pub peer_endpoint: String,
    binary: PathBuf,
    arguments: Vec<String>,
    starts: usize,
}

impl Member {
    /// Starts a member with these flags besides name, directory and URLs, and waits until it serves.
    pub fn start(flags: &[&str]) -> Self {
        Self::start_binary(Path::new(env!("CARGO_BIN_EXE_etcd")), flags)
    }

    /// The same with another `etcd`.
    pub fn start_binary(binary: &Path, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (client, peer) = (free_port(), free_port());
        let mut arguments = vec![
            "--name=default".to_owned(),
            format!("--data-dir={}", directory.path().join("data").display()),
            format!("--listen-client-urls=http://127.0.0.1:{client}"),
            format!("--advertise-client-urls=http://127.0.0.1:{client}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-cluster=default=http://127.0.0.1:{peer}"),
        ];
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let child = spawn(binary, &arguments, &log_path(directory.path(), 0));
        let endpoint = format!("127.0.0.1:{client}");
        let peer_endpoint = format!("127.0.0.1:{peer}");
        let binary = binary.to_owned();
        let mut member = Self {
            child,
            directory,
            endpoint,
            peer_endpoint,
            binary,
            arguments,
            starts: 1,
        };
        member.wait_ready();
        member
    }

    /// Everything the running process has logged.
    pub fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = File::open(log_path(self.directory.path(), self.starts - 1)) {
            let _ = file.read_to_string(&mut text);
        }
        text
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Kills it without notice.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to stop, and waits for that.
    pub fn terminate(&mut self) -> ExitStatus {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("signal");
        let deadline = Instant::now() + STOP_MAX;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(Instant::now() < deadline, "does not stop:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts it again on the same data.
    pub fn restart(&mut self) {
        self.start_again();
        self.wait_ready();
    }

    /// The same without waiting until it serves.
    pub fn start_again(&mut self) {
        self.child = spawn(
            &self.binary,
            &self.arguments,
            &log_path(self.directory.path(), self.starts),
        );
        self.starts += 1;
    }

    fn wait_ready(&mut self) {
        let deadline = Instant::now() + START_MAX;
        loop {
            let log = self.log();
            if log.contains("serving client traffic") && log.contains("updated storage version")
                || self.starts > 1 && log.contains("serving client traffic")
            {
                return;
            }
            if let Some(status) = self.child.try_wait().expect("wait") {
                panic!("member ended with {status}:\n{log}");
            }
            assert!(Instant::now() < deadline, "member is not ready:\n{log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(binary: &Path, arguments: &[String], log: &Path) -> Child {
    let log = File::create(log).expect("log file");
    Command::new(binary)
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("log file"))
        .stderr(log)
        .spawn()
        .expect("etcd starts")
}

fn log_path(directory: &Path, start: usize) -> PathBuf {
    directory.join(format!("log.{start}"))
}

/// Ports below those the kernel hands out, which would be taken by any connection.
const PORTS: Range<u16> = 20_000..32_000;

/// A port nobody listens on at the moment, and that no other call in this process gets.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes begin at different places.
    let begin = (std::process::id() * 61) as u16;
    for _ in PORTS {
        let step = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + step % (PORTS.end - PORTS.start);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("every port of {PORTS:?} is taken");
}
