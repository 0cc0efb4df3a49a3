//! Two command line clients in turn: what one `etcdctl get` costs as a whole process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

use crate::load::key;
use crate::server::Server;

/// What to compare, and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// This project's etcdctl.
    #[arg(long, default_value = "target/release/etcdctl")]
    ours: PathBuf,
    /// etcd's etcdctl; without it only ours is measured.
    #[arg(long)]
    etcdctl: Option<PathBuf>,
    /// The server they ask.
    #[arg(long, default_value = "target/release/etcd")]
    server: PathBuf,
    /// Interleaved runs of each.
    #[arg(long, default_value_t = 200)]
    runs: usize,
}

/// What one process took.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Taken {
    wall_milliseconds: f64,
    cpu_milliseconds: f64,
    peak_rss_kibibytes: f64,
}

/// Figures of a row: their names, and which of [`Taken`] they are.
const FIGURES: [(&str, fn(&Taken) -> f64); 3] = [
    ("wall ms", |taken| taken.wall_milliseconds),
    ("CPU ms", |taken| taken.cpu_milliseconds),
    ("peak RSS KiB", |taken| taken.peak_rss_kibibytes),
];

/// Runs the comparison: the median and the least of each figure.
pub(crate) fn run(options: &Options) -> Result<()> {
    let directory = tempfile::tempdir_in(".")?;
    let server = Server::start(&options.server, directory.path(), "server", None)?;
    let this = std::env::current_exe()?;
    let fill = Command::new(&this)
        .args(["run", "--endpoint", &server.endpoint, "fill"])
        .stdout(Stdio::null())
        .status()?;
    ensure!(fill.success(), "the store could not be filled");
    let one = String::from_utf8(key(0).to_vec())?;
    let rows = [
        ("get of one key", vec!["get", one.as_str()]),
        ("get of 100,000 keys", vec!["get", "--prefix", "bench/"]),
    ];
    let binaries: Vec<&Path> = [Some(&options.ours), options.etcdctl.as_ref()]
        .into_iter()
        .flatten()
        .map(PathBuf::as_path)
        .collect();
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["figure", "ours", "etcd", "×", "ours least", "etcd least"]);
    for (name, arguments) in rows {
        let mut taken = vec![Vec::new(); binaries.len()];
        for run in 0..options.runs {
            for turn in 0..binaries.len() {
                // Who is first changes, so that neither always follows the other.
                let at = (run + turn) % binaries.len();
                taken[at].push(apart(&this, binaries[at], &server.endpoint, &arguments)?);
            }
        }
        for (figure, of) in FIGURES {
            let sorted: Vec<Vec<f64>> = taken.iter().map(|taken| sorted(taken, of)).collect();
            let shown = |at: usize, which: fn(&[f64]) -> f64| {
                let value = sorted.get(at).map(|values| which(values));
                value.map_or("–".to_owned(), |value| format!("{value:.2}"))
            };
            let ratio = sorted
                .get(1)
                .map(|theirs| middle(&sorted[0]) / middle(theirs));
            table.add_row([
                format!("{name}: {figure}"),
                shown(0, middle),
                shown(1, middle),
                ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.3}")),
                shown(0, |values| values[0]),
                shown(1, |values| values[0]),
            ]);
        }
    }
    println!("{table}");
    Ok(())
}

fn sorted(taken: &[Taken], of: fn(&Taken) -> f64) -> Vec<f64> {
    let mut values: Vec<f64> = taken.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values
}

fn middle(values: &[f64]) -> f64 {
    values[values.len() / 2]
}

/// Runs it below a process of its own: a peak counts what the process was forked from, and this one is large.
fn apart(this: &Path, binary: &Path, endpoint: &str, arguments: &[&str]) -> Result<Taken> {
    let output = Command::new(this)
        .arg("once")
        .arg(binary)
        .args(["--endpoints", endpoint])
        .args(arguments)
        .output()?;
    serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Runs a command once, its output thrown away, and prints what it took.
pub(crate) fn once(command: &[String]) -> Result<()> {
    let (binary, arguments) = command.split_first().context("no command")?;
    let began = Instant::now();
    let status = Command::new(binary)
        .args(arguments)
        .stdout(Stdio::null())
        .status()?;
    let wall_milliseconds = began.elapsed().as_secs_f64() * 1000.0;
    ensure!(status.success(), "{binary}: {status}");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let milliseconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 * 1e3 + time.tv_usec() as f64 / 1e3;
    let taken = Taken {
        wall_milliseconds,
        cpu_milliseconds: milliseconds(usage.user_time()) + milliseconds(usage.system_time()),
        peak_rss_kibibytes: usage.max_rss() as f64,
    };
    let own = getrusage(UsageWho::RUSAGE_SELF)?.max_rss() as f64;
    ensure!(
        taken.peak_rss_kibibytes > own,
        "the peak of {binary} is hidden by this process's {own} KiB"
    );
    println!("{}", serde_json::to_string(&taken)?);
    Ok(())
}
