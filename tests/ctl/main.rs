//! What the programs promise beyond single answers, each a mode:
//!
//! ```text
//! cargo test --test ctl                             all of them, in their small forms
//! cargo test --test ctl -- watch --restarts 50      a watch of a server that is ended again and again
//! cargo test --test ctl -- lock --hand-overs 1000   holders of a lock that are killed now and then
//! cargo test --test ctl -- doctor                   a fault for each finding
//! cargo test --test ctl -- progress                 bars on terminals, and nothing elsewhere
//! ```
//!
//! `--etcdctl PATH`, `--etcdutl PATH` and `--server PATH` name other binaries, such as release builds or etcd's.

#![allow(unreachable_pub)] // Modules of one test binary.

mod doctor;
mod lock;
#[path = "../it/member.rs"]
#[allow(dead_code)]
mod member;
mod progress;
mod stub;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

/// What is asked for on the command line.
pub struct Options {
    pub etcdctl: PathBuf,
    pub etcdutl: PathBuf,
    pub server: PathBuf,
    pub restarts: u64,
    pub hand_overs: usize,
}

/// A proof: what it found, or what is wrong.
type Proof = fn(&Options) -> Result<String, String>;

const PROOFS: [(&str, Proof); 4] = [
    ("watch", watch::prove),
    ("lock", lock::prove),
    ("doctor", doctor::prove),
    ("progress", progress::prove),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // What cargo-nextest asks of a test binary.
    if words.iter().any(|word| word == "--list") {
        if !words.iter().any(|word| word == "--ignored") {
            PROOFS.iter().for_each(|(name, _)| println!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    let (options, named) = match options(&words) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("ctl: {error}");
            return ExitCode::from(2);
        }
    };
    let mut failed = false;
    for (name, prove) in PROOFS {
        if !named.is_empty() && !named.contains(&name) {
            continue;
        }
        match prove(&options) {
            Ok(found) => println!("{name}: {found}"),
            Err(wrong) => {
                failed = true;
                println!("{name}: FAILED: {wrong}");
            }
        }
    }
    match failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn options(words: &[String]) -> Result<(Options, Vec<&'static str>), String> {
    let mut options = Options {
        etcdctl: env!("CARGO_BIN_EXE_etcdctl").into(),
        etcdutl: env!("CARGO_BIN_EXE_etcdutl").into(),
        server: env!("CARGO_BIN_EXE_etcd").into(),
        restarts: 4,
        hand_overs: 25,
    };
    let mut named = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: &String| text.parse::<u64>().map_err(|error| error.to_string());
        match word.as_str() {
            "--etcdctl" => options.etcdctl = value()?.into(),
            "--etcdutl" => options.etcdutl = value()?.into(),
            "--server" => options.server = value()?.into(),
            "--restarts" => options.restarts = number(value()?)?,
            "--hand-overs" => options.hand_overs = number(value()?)? as usize,
            // The rest is what cargo passes to every test binary.
            name => named.extend(PROOFS.iter().map(|(n, _)| *n).filter(|n| *n == name)),
        }
    }
    Ok((options, named))
}

/// Fails with these words unless it is so.
pub fn ensure(so: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    match so {
        true => Ok(()),
        false => Err(otherwise()),
    }
}

/// A failure of the test's own doings, in words.
pub fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
