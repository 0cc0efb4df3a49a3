//! A server under test: started on an empty directory, pinned, and asked what it used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// A start on data may take this long.
const START_MAX: Duration = Duration::from_secs(120);

/// A running server.
pub(crate) struct Server {
    child: Child,
    directory: PathBuf,
    /// `host:port` for clients.
    pub(crate) endpoint: String,
}

/// What a process used up to now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// CPU time of all its threads.
    pub(crate) cpu_seconds: f64,
    /// Most memory it held since [`Server::forget_peak`].
    pub(crate) peak_rss_bytes: u64,
    /// Memory it holds.
    pub(crate) rss_bytes: u64,
    /// Bytes it wrote to disk.
    pub(crate) written_bytes: u64,
}

impl Server {
    /// Starts `binary` on a directory below `parent`, on one core, and waits until it serves.
    pub(crate) fn start(
        binary: &Path,
        parent: &Path,
        name: &str,
        core: Option<usize>,
    ) -> Result<Self> {
        let directory = parent.join(name);
        fs::create_dir_all(&directory)?;
        let [client, peer] = free_ports()?;
        let mut command = Command::new(binary);
        command
            .arg("--name=bench")
            .arg(format!("--data-dir={}", directory.join("data").display()))
            .arg(format!("--listen-client-urls=http://127.0.0.1:{client}"))
            .arg(format!("--advertise-client-urls=http://127.0.0.1:{client}"))
            .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer}"))
            .arg(format!(
                "--initial-advertise-peer-urls=http://127.0.0.1:{peer}"
            ))
            .arg(format!("--initial-cluster=bench=http://127.0.0.1:{peer}"))
            .arg("--quota-backend-bytes=8589934592")
            .arg("--log-level=warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.join("log"))?);
        // A child inherits the affinity of the thread that makes it.
        let child = match core {
            Some(core) => {
                let before = nix::sched::sched_getaffinity(Pid::from_raw(0))?;
                pin(core)?;
                let child = command.spawn();
                sched_setaffinity(Pid::from_raw(0), &before)?;
                child
            }
            None => command.spawn(),
        };
        let child = child.with_context(|| format!("start {}", binary.display()))?;
        let mut server = Self {
            child,
            directory,
            endpoint: format!("127.0.0.1:{client}"),
        };
        server.wait_ready()?;
        Ok(server)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                bail!("server ended with {status}: {log}");
            }
            if health(&self.endpoint) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        bail!("server is not ready after {START_MAX:?}")
    }

    /// Begins to measure the peak of its memory anew.
    pub(crate) fn forget_peak(&self) -> Result<()> {
        let path = format!("/proc/{}/clear_refs", self.child.id());
        fs::write(&path, "5").with_context(|| path)
    }

    /// What it used so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let base = PathBuf::from(format!("/proc/{}", self.child.id()));
        let stat = fs::read_to_string(base.join("stat"))?;
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .split_whitespace()
            .collect();
        let ticks: u64 = fields
            .iter()
            .skip(11)
            .take(2)
            .filter_map(|f| f.parse::<u64>().ok())
            .sum();
        let per_second = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100) as f64;
        let status = fs::read_to_string(base.join("status"))?;
        let io = fs::read_to_string(base.join("io")).unwrap_or_default();
        Ok(Usage {
            cpu_seconds: ticks as f64 / per_second,
            peak_rss_bytes: field(&status, "VmHWM:") * 1024,
            rss_bytes: field(&status, "VmRSS:") * 1024,
            written_bytes: field(&io, "write_bytes:"),
        })
    }

    /// Fsyncs it counted: of the log, and two for each commit of the database.
    pub(crate) fn fsyncs(&self) -> Result<u64> {
        let metrics = get(&self.endpoint, "/metrics")?;
        let count = |name: &str| -> u64 {
            let line = metrics.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_whitespace().nth(1));
            value
                .and_then(|value| value.parse::<f64>().ok())
                .unwrap_or(0.0) as u64
        };
        Ok(count("etcd_disk_wal_fsync_duration_seconds_count")
            + 2 * count("etcd_disk_backend_commit_duration_seconds_count"))
    }

    /// Ends it with this signal and waits.
    pub(crate) fn stop(mut self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), signal)?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps this thread, and what it starts, on one core.
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    Ok(())
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}

/// Both are held until both are known: they differ.
fn free_ports() -> Result<[u16; 2]> {
    let first = std::net::TcpListener::bind("127.0.0.1:0")?;
    let second = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok([first.local_addr()?.port(), second.local_addr()?.port()])
}

fn health(endpoint: &str) -> bool {
    get(endpoint, "/health").is_ok_and(|body| body.contains("\"health\":\"true\""))
}

fn get(endpoint: &str, path: &str) -> Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(endpoint)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {endpoint}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
