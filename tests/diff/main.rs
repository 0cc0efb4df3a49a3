//! The same calls to this server and to etcd; every answer must be equal in every field but ids, terms and sizes.
//!
//! `cargo test --test diff -- --etcd PATH [--binary PATH] [--seeds N] [--calls N] [--seed S]`. Without `--etcd` there
//! is nothing to compare with, and the program says so and ends: a plain `cargo test` has no etcd.
//!
//! A seed decides every call: ranges with every option, puts, deletes, nested transactions, compactions, leases and
//! watchers, with provoked errors among them. At the end of a seed both histories must have the same HashKV.

#![allow(unreachable_pub)] // Modules of one test binary.

mod calls;
#[path = "../it/member.rs"]
#[allow(dead_code)]
mod member;
mod watchers;

use std::path::PathBuf;
use std::process::ExitCode;

use calls::{Call, Generator};
use member::Member;
use watchers::Watchers;

struct Options {
    etcd: Option<PathBuf>,
    /// This server.
    binary: PathBuf,
    seeds: u64,
    first_seed: u64,
    calls: u64,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        etcd: None,
        binary: env!("CARGO_BIN_EXE_etcd").into(),
        seeds: 20,
        first_seed: 1,
        calls: 10_000,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|error| error.to_string());
        match word.as_str() {
            "--etcd" => options.etcd = Some(value()?.into()),
            "--binary" => options.binary = value()?.into(),
            "--seeds" => options.seeds = number(value()?)?,
            "--calls" => options.calls = number(value()?)?,
            "--seed" => {
                options.first_seed = number(value()?)?;
                options.seeds = 1;
            }
            // What cargo passes to every test binary.
            _ => {}
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("diff: {error}");
            return ExitCode::from(2);
        }
    };
    let Some(etcd) = &options.etcd else {
        println!("diff: no --etcd PATH given, nothing to compare with");
        return ExitCode::SUCCESS;
    };
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let mut failed = 0;
    for seed in options.first_seed..options.first_seed + options.seeds {
        let ours = Member::start_binary(&options.binary, &["--log-level=info"]);
        let theirs = Member::start_binary(etcd, &["--log-level=info"]);
        match runtime.block_on(compare(&ours, &theirs, seed, options.calls)) {
            Ok(compared) => println!("seed {seed}: {compared} answers equal"),
            Err(difference) => {
                failed += 1;
                println!("seed {seed}: {difference}");
            }
        }
    }
    println!("{} passed, {failed} failed", options.seeds - failed);
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Calls between two comparisons of what watchers saw.
const WATCH_ROUND: u64 = 100;

async fn compare(ours: &Member, theirs: &Member, seed: u64, calls: u64) -> Result<u64, String> {
    let mut generator = Generator::new(seed);
    let mut left = calls::Server::connect(&ours.endpoint).await;
    let mut right = calls::Server::connect(&theirs.endpoint).await;
    let mut watchers = Watchers::connect(&ours.endpoint, &theirs.endpoint).await;
    for number in 0..calls {
        let call = generator.next();
        if let Call::Watch(request) = &call {
            watchers.send(request.clone()).await;
            continue;
        }
        // etcd looks for the pair before an event when it sends it: after a compaction it may not find it.
        if number % WATCH_ROUND == 0 || matches!(call, Call::Compact(_)) {
            let compared = watchers.compare(generator.revision()).await;
            compared.map_err(|error| format!("before call {number}: {error}"))?;
        }
        let (a, b) = tokio::join!(left.call(&call), right.call(&call));
        if a != b {
            return Err(format!("call {number}: {call:?}\n  ours {a}\n  etcd {b}"));
        }
        generator.learn(&a);
    }
    watchers.compare(generator.revision()).await?;
    let (a, b) = tokio::join!(left.call(&Call::HashKv(0)), right.call(&Call::HashKv(0)));
    if a != b {
        return Err(format!(
            "history differs at the end\n  ours {a}\n  etcd {b}"
        ));
    }
    Ok(calls)
}
