//! `etcd-bench`: load for one endpoint, or two servers measured in turn on the same disk.
//!
//! Against an endpoint it runs one workload and prints throughput and latency. `compare` starts our server and
//! an etcd binary alternately, each pinned to one core with the client on the other, runs every row against both, and
//! prints ratios. On shared machines absolute figures swing by two from hour to hour; only ratios of one
//! interleaved run mean something.

mod client;
mod compare;
mod load;
mod report;
mod scenarios;
mod server;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Load generator for etcd and this server.
#[derive(Parser)]
#[command(name = "etcd-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one workload against a running server.
    Run {
        /// host:port of the server.
        #[arg(long, default_value = "127.0.0.1:2379")]
        endpoint: String,
        #[command(flatten)]
        shape: Shape,
        /// What to do.
        #[command(subcommand)]
        workload: load::Workload,
    },
    /// Measure this server and an etcd binary in turn and print the ratios.
    Compare(compare::Options),
    /// Measure this project's etcdctl and etcd's in turn against one server.
    Client(client::Options),
    /// Run one command and print what it took.
    #[command(hide = true)]
    Once {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

/// How much of it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Shape {
    /// TCP connections.
    #[arg(long, default_value_t = 10)]
    pub(crate) connections: usize,
    /// Clients, spread over the connections; each has one request in flight.
    #[arg(long, default_value_t = 100)]
    pub(crate) clients: usize,
    /// Seconds before measuring begins.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) warm_up: f64,
    /// Seconds to measure.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) duration: f64,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Shape {
    fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up)
    }

    fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.duration)
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run {
            endpoint,
            shape,
            workload,
        } => run(&endpoint, &shape, &workload),
        Command::Compare(options) => compare::run(&options),
        Command::Client(options) => client::run(&options),
        Command::Once { command } => client::once(&command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("etcd-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(endpoint: &str, shape: &Shape, workload: &load::Workload) -> anyhow::Result<()> {
    // On one core the plain scheduler serves clients in turn; the other lets some of many wait for long.
    let mut runtime = match std::thread::available_parallelism()?.get() {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.enable_all().build()?;
    let figures = runtime.block_on(load::run(endpoint, shape, workload))?;
    match shape.json {
        true => println!("{}", serde_json::to_string(&figures)?),
        false => print!("{}", report::text(&figures)),
    }
    Ok(())
}
