//! Simulation: a whole cluster on virtual time, network and disk, driven by one seed.
//!
//! ```text
//! cargo test --test sim                      the smoke set: some seeds, one of them twice, planted faults
//! cargo test --test sim -- 4711              one seed, with its trace
//! cargo test --test sim -- --seeds 1000      seeds 1..=1000
//! cargo test --test sim -- --planted         every planted fault must be found
//! cargo test --test sim -- --fault skip-fsync 3     one planted fault with one seed, with its trace
//! ```
//!
//! The members are the production [`etcd::raft::Core`]; what surrounds them (`member.rs`) does what the
//! server's three threads do, step by step on virtual time. A run has two phases. First everything may
//! fail: messages are lost, repeated, delayed and overtaken, links break in one direction, disks stall
//! and tear what was not synced, members crash, freeze, join, leave and lag. Then the world heals, and
//! the cluster must agree and serve within a bound. The checks in `checks/` watch throughout.
//!
//! Which kinds of failure a run has, and how often, is drawn from its seed too: a run with all of them at
//! once rarely gets far enough to break anything interesting.

mod checks;
mod client;
mod disk;
mod fault;
mod machine;
mod member;
mod net;
mod random;
mod trace;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use fault::Planted;
use world::{Summary, World};

/// Seeds of the smoke set.
const SMOKE_SEEDS: u64 = 100;
/// Seeds a planted fault may take to be found.
const PLANTED_SEEDS_MAX: u64 = 40;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    let is_fine = match args.as_slice() {
        // What cargo-nextest asks of a test binary.
        [rest @ .., "terse"] | ["--list", rest @ ..] => {
            if !rest.contains(&"--ignored") {
                println!("smoke: test");
            }
            true
        }
        ["--seeds", count] if number(count).is_some() => run_seeds(1, number(count).unwrap_or(0)),
        ["--planted"] => run_planted(),
        ["--fault", name, seed] if Planted::named(name).is_some() && number(seed).is_some() => {
            replay(number(seed).unwrap_or(0), Planted::named(name))
        }
        [seed] if number(seed).is_some() => replay(number(seed).unwrap_or(0), None),
        _ => run_seeds(1, SMOKE_SEEDS) && run_twice(7) && run_planted(),
    };
    if is_fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// One run; a panic counts as a violation.
fn run(seed: u64, planted: Option<Planted>, is_verbose: bool) -> Result<Summary, String> {
    let run = AssertUnwindSafe(|| World::new(seed, planted, is_verbose).run());
    catch_unwind(run).unwrap_or_else(|_| Err("panic, see above".to_owned()))
}

fn run_seeds(first: u64, last: u64) -> bool {
    let next = AtomicU64::new(first);
    let failed = Mutex::new(Vec::new());
    let total = Mutex::new(Summary::default());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > last {
                        return;
                    }
                    match run(seed, None, false) {
                        Ok(summary) => total.lock().expect("no panic holds it").add(&summary),
                        Err(violation) => {
                            eprintln!("seed {seed}: {violation}\n    replay: cargo test --test sim -- {seed}");
                            failed.lock().expect("no panic holds it").push(seed);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("threads have ended");
    println!(
        "sim: seeds {first}..={last}: {}",
        total.into_inner().expect("threads have ended")
    );
    if !failed.is_empty() {
        println!("sim: {} seeds failed: {failed:?}", failed.len());
    }
    failed.is_empty()
}

/// The same seed gives the same run.
fn run_twice(seed: u64) -> bool {
    let first = run(seed, None, false).map(|summary| summary.trace);
    let second = run(seed, None, false).map(|summary| summary.trace);
    let is_same = first == second;
    println!(
        "sim: seed {seed} twice: {}",
        if is_same {
            "the same trace"
        } else {
            "TRACES DIFFER"
        }
    );
    is_same
}

/// Every planted fault is found, or the checks are blind.
fn run_planted() -> bool {
    // The panics of a broken cluster are expected.
    std::panic::set_hook(Box::new(|_| ()));
    let mut all_found = true;
    for planted in Planted::ALL {
        let found = (1..=PLANTED_SEEDS_MAX).find_map(|seed| {
            run(seed, Some(planted), false)
                .err()
                .map(|violation| (seed, violation))
        });
        match found {
            Some((seed, violation)) => {
                println!("sim: planted {}: seed {seed}: {violation}", planted.name());
            }
            None => {
                println!("sim: planted {}: NOT FOUND", planted.name());
                all_found = false;
            }
        }
    }
    drop(std::panic::take_hook());
    all_found
}

fn replay(seed: u64, planted: Option<Planted>) -> bool {
    match run(seed, planted, true) {
        Ok(summary) => {
            println!("seed {seed}: clean, {summary}");
            true
        }
        Err(violation) => {
            println!("seed {seed}: {violation}");
            false
        }
    }
}
