//! The member as a process: wires configuration, node, listeners and the service manager together, and takes
//! them apart in order. No decision about data is made here.

mod announce;
mod bootstrap;
mod listeners;
mod settings;
mod status;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{Config, EXIT_CONFIG, EXIT_FAILURE};
use crate::logging::{self, Line};
use crate::node::{Failure, NodeHandle, Running};
use crate::systemd::{self, Notifier};
use listeners::Listeners;

/// Open calls get this long to end when the process stops.
const DRAIN_MAX: Duration = Duration::from_millis(500);
/// While the start goes on, the service manager is asked for this much more time…
const START_EXTENSION: Duration = Duration::from_secs(30);
/// …this often.
const START_EXTENSION_INTERVAL: Duration = Duration::from_secs(10);
/// A start that only waits for others stops asking for more time after this long, so that whoever waits for
/// the unit hears of it.
const QUORUM_PATIENCE: Duration = Duration::from_secs(600);

/// Why a member ended, or did not begin.
#[derive(Debug)]
enum Stop {
    /// Starting again as it is cannot help: exit status 78.
    Configuration(String),
    /// Starting again may help: exit status 1.
    Failure(String),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure.to_string())
    }
}

/// Runs a member until it is asked to stop, or cannot go on. The result is the process's exit status.
pub fn run(config: Config) -> ExitCode {
    // On one core the plain scheduler does the same work for less.
    let mut runtime = match std::thread::available_parallelism() {
        Ok(cores) if cores.get() == 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.enable_all().thread_name("rpc").build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(member(&config));
            runtime.shutdown_timeout(DRAIN_MAX);
            result
        }
        Err(error) => Err(Stop::Failure(format!("cannot start the runtime: {error}"))),
    };
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            let (text, code) = match stop {
                Stop::Configuration(text) => (text, EXIT_CONFIG),
                Stop::Failure(text) => (text, EXIT_FAILURE),
            };
            Notifier::default().failed(errno(&text), &text);
            let mut line = Line::fatal("discovery failed").with("error", text.as_str());
            if code == EXIT_CONFIG {
                line = line.message_id(logging::message_id::CONFIGURATION_WRONG);
            }
            logging::emit(line);
            ExitCode::from(code)
        }
    };
    logging::flush();
    code
}

/// The error number a service manager is told, where the text tells one: in the system's words or in Go's.
fn errno(text: &str) -> i32 {
    let known = [
        ("read-only file system", nix::errno::Errno::EROFS),
        ("permission denied", nix::errno::Errno::EACCES),
        ("no space left", nix::errno::Errno::ENOSPC),
        ("address already in use", nix::errno::Errno::EADDRINUSE),
    ];
    let text = text.to_lowercase();
    known
        .iter()
        .find(|(part, _)| text.contains(part))
        .map_or(0, |(_, errno)| *errno as i32)
}

async fn member(config: &Config) -> Result<(), Stop> {
    // Before anything slow, so that a stop during the start is orderly too.
    let mut signals = Signals::install().map_err(|error| Stop::Failure(error.to_string()))?;
    let notifier = Arc::new(Notifier::default());
    announce::initializing(config);
    let settings = settings::node(config).map_err(Stop::Configuration)?;
    settings::check_data_dir(config).map_err(Stop::Configuration)?;
    let listeners = Listeners::bind(config).map_err(Stop::Failure)?;
    let is_initialized = config.member.wal_dir().exists();
    logging::emit(config.startup_line(is_initialized, ""));
    notifier.status("replaying the log");
    let opening = tokio::task::spawn_blocking(move || crate::node::start(settings));
    let mut running = tokio::select! {
        started = waiting(&notifier, Duration::ZERO, crate::disk::operations, opening) => {
            started.map_err(|error| Stop::Failure(error.to_string()))??
        }
        name = signals.stop() => {
            // Replay cannot be interrupted half way; the log it reads is only read.
            tracing::info!(signal = name, "received signal; shutting down");
            return Ok(());
        }
    };
    announce::starting(config, &running.handle);
    running.spawn_tasks();
    status::register_metrics(&running.handle, config);
    let node = running.handle.clone();
    let serving = listeners.serve_before_ready(config, &node);
    notifier.status("waiting for a leader");
    let applied = || node.status().applied_index;
    let published = waiting(&notifier, QUORUM_PATIENCE, applied, running.published());
    let stopped_early = tokio::select! {
        () = published => None,
        failure = running.failures.recv() => {
            return Err(failure.map_or(Stop::Failure("a thread ended".to_owned()), Stop::from));
        }
        name = signals.stop() => Some(name),
    };
    if let Some(name) = stopped_early {
        tracing::info!(signal = name, "received signal; shutting down");
        return stop(running, &serving, &notifier, config).await;
    }
    serving.serve_clients(config, &node);
    let line = status::Line::new(node.clone(), config, serving.tls());
    notifier.status(&line.text().to_string());
    tracing::info!("notifying init daemon");
    notifier.ready();
    tracing::info!("successfully notified init daemon");
    tokio::spawn(line.keep(notifier.clone()));
    tokio::spawn(watchdog(notifier.clone(), node.clone()));
    let outcome = loop {
        tokio::select! {
            failure = running.failures.recv() => {
                break Err(failure.map_or(Stop::Failure("a thread ended".to_owned()), Stop::from));
            }
            asked = signals.next() => match asked {
                Asked::Stop(name) => {
                    tracing::info!(signal = name, "received signal; shutting down");
                    break Ok(());
                }
                Asked::Reload => {
                    let _notice = notifier.reloading();
                    serving.reload_certificates();
                }
            }
        }
    };
    match outcome {
        Ok(()) => stop(running, &serving, &notifier, config).await,
        // Nothing is flushed after an error: what is on disk is what a restart may trust.
        failed => failed,
    }
}

/// Waits for a part of the start and keeps the service manager from giving up on it: for as long as `progress`
/// grows, and for `patience` when it does not. A start that hangs runs into the manager's timeout.
async fn waiting<T>(
    notifier: &Notifier,
    patience: Duration,
    progress: impl Fn() -> u64,
    part: impl Future<Output = T>,
) -> T {
    let mut timer = tokio::time::interval(START_EXTENSION_INTERVAL);
    let began = tokio::time::Instant::now();
    let mut seen = None;
    tokio::pin!(part);
    loop {
        tokio::select! {
            done = &mut part => return done,
            _ = timer.tick() => {
                let now = Some(progress());
                if now != seen || began.elapsed() < patience {
                    notifier.extend_timeout(START_EXTENSION);
                }
                seen = now;
            }
        }
    }
}

async fn stop(
    running: Running,
    serving: &listeners::Serving,
    notifier: &Notifier,
    config: &Config,
) -> Result<(), Stop> {
    notifier.stopping("stopping");
    announce::closing(config, "closing etcd server");
    tracing::info!(
        "local-member-id" = %running.handle.identity().member_id,
        "current-leader-member-id" = %crate::types::MemberId(running.handle.status().leader),
        "skipped leadership transfer for single voting member cluster"
    );
    serving.finish(DRAIN_MAX).await;
    let stopped = tokio::task::spawn_blocking(move || running.stop()).await;
    stopped.map_err(|error| Stop::Failure(error.to_string()))?;
    announce::closing(config, "closed etcd server");
    Ok(())
}

async fn watchdog(notifier: Arc<Notifier>, node: NodeHandle) {
    systemd::feed_watchdog(&notifier, || {
        let progress = node.progress();
        systemd::Progress {
            raft: progress.raft_rounds,
            apply: progress.apply_rounds,
            log: progress.wal_rounds,
            log_write_age: Duration::from_millis(progress.wal_write_milliseconds),
            long_work: progress.checkpoint_steps,
        }
    })
    .await;
}

/// Signals that end or reload the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("terminated"),
            _ = self.interrupt.recv() => Asked::Stop("interrupt"),
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }

    /// Waits for a stop; there is nothing to reload yet.
    async fn stop(&mut self) -> &'static str {
        loop {
            if let Asked::Stop(name) = self.next().await {
                return name;
            }
        }
    }
}

/// What a signal asks for.
enum Asked {
    /// End; the signal as etcd names it.
    Stop(&'static str),
    /// Read certificates again.
    Reload,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_manager_is_told_the_number_of_what_the_text_says() {
        for (text, number) in [
            (
                "mkdir /data/etcd: read-only file system; add a drop-in",
                libc::EROFS,
            ),
            (
                "open /d/state.redb: Permission denied (os error 13)",
                libc::EACCES,
            ),
            (
                "listen tcp 127.0.0.1:2379: bind: address already in use",
                libc::EADDRINUSE,
            ),
            ("No space left on device (os error 28)", libc::ENOSPC),
            ("the log has a gap", 0),
        ] {
            assert_eq!(errno(text), number, "{text}");
        }
    }
}
