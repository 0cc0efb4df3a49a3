//! Two servers in turn, row by row.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;
use nix::sys::signal::Signal;
use serde::Serialize;

use crate::report::Figures;
use crate::scenarios::{Figure, SCENARIOS, Scenario, Site};
use crate::server::{Server, Usage, pin};

/// Keys in the store while rows run.
const KEYS: u64 = 100_000;

/// What to compare, and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// This server's binary.
    #[arg(long, default_value = "target/release/etcd")]
    ours: PathBuf,
    /// An etcd binary; without it only ours is measured.
    #[arg(long)]
    etcd: Option<PathBuf>,
    /// Interleaved rounds; the median of each row counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds measured per row.
    #[arg(long, default_value_t = 5.0)]
    duration: f64,
    /// Only rows whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Where data goes; must be the disk to be measured.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One row: a workload and its shape, as arguments of `run`.
struct Row {
    name: &'static str,
    arguments: &'static [&'static str],
}

const ROWS: &[Row] = &[
    Row {
        name: "put, 1 client",
        arguments: &["--connections=1", "--clients=1", "put"],
    },
    Row {
        name: "put, 100 clients",
        arguments: &["--connections=10", "--clients=100", "put"],
    },
    Row {
        name: "put, 1000 clients",
        arguments: &["--connections=100", "--clients=1000", "put"],
    },
    Row {
        name: "get, linearizable",
        arguments: &["--clients=100", "get"],
    },
    Row {
        name: "get, serializable",
        arguments: &["--clients=100", "get", "--serializable"],
    },
    Row {
        name: "range, limit 1000",
        arguments: &["--clients=10", "range", "--limit=1000"],
    },
    Row {
        name: "range of 10,000",
        arguments: &["--clients=4", "range", "--limit=0", "--until=10000"],
    },
    Row {
        name: "count",
        arguments: &["--clients=10", "range", "--limit=0", "--count-only"],
    },
    Row {
        name: "txn mix",
        arguments: &["--clients=100", "txn-mixed"],
    },
    Row {
        name: "lease keep-alive",
        arguments: &["--clients=100", "lease-keep-alive"],
    },
    Row {
        name: "watch, 1000 on 50",
        arguments: &["--connections=10", "watch"],
    },
];

/// A row's figures against one server.
#[derive(Clone, Debug, Serialize)]
struct Measured {
    figures: Figures,
    cpu_microseconds_per_request: f64,
    /// Most memory the server held while the row ran.
    peak_rss_bytes: u64,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Comparison {
    rows: Vec<ComparedRow>,
    figures: Vec<ComparedFigure>,
}

#[derive(Serialize)]
struct ComparedRow {
    row: &'static str,
    ours: Measured,
    etcd: Option<Measured>,
}

/// A scenario's figure; the median of the rounds.
#[derive(Serialize)]
struct ComparedFigure {
    figure: &'static str,
    ours: f64,
    etcd: Option<f64>,
}

struct Contestant {
    name: &'static str,
    binary: PathBuf,
    rows: Vec<Vec<Measured>>,
    /// Values of each scenario's figures, one list per round.
    scenarios: Vec<Vec<Vec<Figure>>>,
    last: Usage,
    fsyncs: u64,
}

/// Runs the comparison.
pub(crate) fn run(options: &Options) -> Result<()> {
    let rows: Vec<&Row> = ROWS
        .iter()
        .filter(|row| row.name.contains(&options.only))
        .collect();
    let scenarios: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|scenario| scenario.name.contains(&options.only))
        .collect();
    let temporary = match &options.directory {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir_in(".")?,
    };
    let cores = std::thread::available_parallelism()?.get();
    let server_core = (cores > 1).then_some(0);
    let binaries = [
        ("ours", Some(options.ours.clone())),
        ("etcd", options.etcd.clone()),
    ];
    let mut contestants: Vec<Contestant> = binaries
        .into_iter()
        .filter_map(|(name, binary)| {
            Some(Contestant {
                name,
                binary: binary?,
                rows: vec![Vec::new(); rows.len()],
                scenarios: scenarios.iter().map(|_| Vec::new()).collect(),
                last: Usage::default(),
                fsyncs: 0,
            })
        })
        .collect();
    if cores > 1 {
        pin(1)?;
    }
    let steps = options.rounds * (rows.len() + scenarios.len()) * contestants.len();
    let progress = indicatif::ProgressBar::new(steps as u64);
    for _ in 0..options.rounds {
        if !rows.is_empty() {
            measure_rows(
                &rows,
                &mut contestants,
                temporary.path(),
                server_core,
                options,
                &progress,
            )?;
        }
        for (at, scenario) in scenarios.iter().enumerate() {
            for contestant in &mut contestants {
                let site = Site {
                    binary: &contestant.binary,
                    parent: temporary.path(),
                    name: contestant.name,
                    core: server_core,
                };
                contestant.scenarios[at].push((scenario.run)(&site)?);
                std::fs::remove_dir_all(temporary.path().join(contestant.name))?;
                progress.inc(1);
            }
        }
    }
    progress.finish_and_clear();
    show(options, &rows, &contestants)
}

/// One round of every row. All servers are up at once and take turns row by row, so that a slower minute of the
/// machine meets both.
fn measure_rows(
    rows: &[&Row],
    contestants: &mut [Contestant],
    directory: &Path,
    server_core: Option<usize>,
    options: &Options,
    progress: &indicatif::ProgressBar,
) -> Result<()> {
    let mut servers = Vec::new();
    for contestant in &*contestants {
        let server = Server::start(&contestant.binary, directory, contestant.name, server_core)?;
        load(&server, &["--clients=20", "fill"], 0.0)?;
        servers.push(server);
    }
    for (at, row) in rows.iter().enumerate() {
        for (server, contestant) in servers.iter().zip(&mut *contestants) {
            contestant.rows[at].push(measure(server, row, options.duration)?);
            progress.inc(1);
        }
    }
    for (server, contestant) in servers.into_iter().zip(contestants) {
        contestant.last = server.usage()?;
        contestant.fsyncs = server.fsyncs().unwrap_or(0);
        server.stop(Signal::SIGTERM)?;
        std::fs::remove_dir_all(directory.join(contestant.name))?;
    }
    Ok(())
}

fn measure(server: &Server, row: &Row, duration: f64) -> Result<Measured> {
    server.forget_peak()?;
    let before = server.usage()?;
    let figures = load(server, row.arguments, duration)?;
    let after = server.usage()?;
    let used = after.cpu_seconds - before.cpu_seconds;
    // Server CPU is counted over warm-up too, so requests are scaled to the same span.
    let requests = figures.per_second * (figures.seconds + 1.0);
    let cpu_microseconds_per_request = used * 1e6 / requests.max(1.0);
    Ok(Measured {
        figures,
        cpu_microseconds_per_request,
        peak_rss_bytes: after.peak_rss_bytes,
    })
}

/// Runs the client in a process of its own, so that its memory and threads start fresh.
fn load(server: &Server, arguments: &[&str], duration: f64) -> Result<Figures> {
    let output = Command::new(std::env::current_exe()?)
        .args(["run", "--json", "--endpoint", &server.endpoint])
        .arg(format!("--duration={duration}"))
        .args(arguments)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .with_context(|| format!("client failed: {}", String::from_utf8_lossy(&output.stderr)))
}

fn median(measured: &[Measured]) -> Option<Measured> {
    let mut sorted = measured.to_vec();
    let cpu = |m: &Measured| m.cpu_microseconds_per_request;
    sorted.sort_by(|a, b| cpu(a).total_cmp(&cpu(b)));
    sorted.get(sorted.len() / 2).cloned()
}

fn show(options: &Options, rows: &[&Row], contestants: &[Contestant]) -> Result<()> {
    let result = |name: &str, row: usize| {
        let contestant = contestants
            .iter()
            .find(|contestant| contestant.name == name)?;
        median(&contestant.rows[row])
    };
    let compared = rows.iter().enumerate().filter_map(|(at, row)| {
        Some(ComparedRow {
            row: row.name,
            ours: result("ours", at)?,
            etcd: result("etcd", at),
        })
    });
    let comparison = Comparison {
        rows: compared.collect(),
        figures: compare_figures(contestants),
    };
    if options.json {
        println!("{}", serde_json::to_string_pretty(&comparison)?);
        return Ok(());
    }
    if !comparison.rows.is_empty() {
        println!("{}", row_table(&comparison.rows));
    }
    if !comparison.figures.is_empty() {
        println!("{}", figure_table(&comparison.figures));
    }
    for contestant in contestants.iter().filter(|_| !rows.is_empty()) {
        println!(
            "{}: written {} MiB, fsyncs {} (last round, {KEYS} keys)",
            contestant.name,
            contestant.last.written_bytes >> 20,
            contestant.fsyncs,
        );
    }
    Ok(())
}

fn row_table(rows: &[ComparedRow]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header([
        "row",
        "ours/s",
        "etcd/s",
        "throughput ×",
        "ours p99",
        "etcd p99",
        "p99 ×",
        "ours CPU",
        "etcd CPU",
        "CPU ×",
        "ours RSS",
        "etcd RSS",
        "RSS ×",
    ]);
    for row in rows {
        let ours = &row.ours;
        let mut cells = vec![row.row.to_owned()];
        let etcd = row.etcd.as_ref();
        let mut triple = |of: &dyn Fn(&Measured) -> f64, unit: &str| {
            let theirs = etcd.map(of);
            cells.push(format!("{:.1}{unit}", of(ours)));
            cells.push(theirs.map_or("–".to_owned(), |value| format!("{value:.1}{unit}")));
            cells.push(theirs.map_or("–".to_owned(), |value| format!("{:.3}", of(ours) / value)));
        };
        triple(&|m| m.figures.per_second, "");
        triple(&|m| m.figures.p99_microseconds as f64 / 1000.0, " ms");
        triple(&|m| m.cpu_microseconds_per_request, " µs");
        triple(&|m| m.peak_rss_bytes as f64 / f64::from(1 << 20), " MiB");
        table.add_row(cells);
    }
    table
}

fn compare_figures(contestants: &[Contestant]) -> Vec<ComparedFigure> {
    let Some(ours) = contestants.first() else {
        return Vec::new();
    };
    let mut compared = Vec::new();
    for (at, rounds) in ours.scenarios.iter().enumerate() {
        for (line, figure) in rounds.iter().take(1).flatten().enumerate() {
            let middle = |contestant: &Contestant| {
                let rounds = contestant.scenarios[at].iter();
                let mut values: Vec<f64> = rounds.map(|figures| figures[line].value).collect();
                values.sort_by(f64::total_cmp);
                values[values.len() / 2]
            };
            compared.push(ComparedFigure {
                figure: figure.name,
                ours: middle(ours),
                etcd: contestants.get(1).map(middle),
            });
        }
    }
    compared
}

fn figure_table(figures: &[ComparedFigure]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["figure", "ours", "etcd", "×"]);
    for ComparedFigure { figure, ours, etcd } in figures {
        table.add_row([
            (*figure).to_owned(),
            format!("{ours:.2}"),
            etcd.map_or("–".to_owned(), |value| format!("{value:.2}")),
            etcd.map_or("–".to_owned(), |value| format!("{:.3}", ours / value)),
        ]);
    }
    table
}
