//! The member: reads its configuration, sets up logging, runs.
//!
//! Exit statuses: 0 stopped as asked, 1 failed, 2 the command line has no sense, 78 the
//! configuration is wrong.

use std::io::Write as _;
use std::process::ExitCode;

use etcd::config::{self, Done, EXIT_CONFIG, Run, Start};
use etcd::logging;

fn main() -> ExitCode {
    match config::of_this_process() {
        Start::Run(run) => member(*run),
        Start::Done(done) => end(done),
    }
}

fn member(run: Run) -> ExitCode {
    if let Err(error) = logging::init(&run.config.log) {
        let fix = "name a file in a directory that is there, or use stderr";
        logging::emit(config::refused(
            &run.config.settings,
            "log-outputs",
            error,
            fix,
        ));
        return ExitCode::from(EXIT_CONFIG);
    }
    run.notes.into_iter().for_each(logging::emit);
    etcd::server::run(run.config)
}

fn end(done: Done) -> ExitCode {
    // A closed pipe is no reason to end in another way.
    let _ = std::io::stderr().write_all(done.stderr.as_bytes());
    let _ = std::io::stdout().write_all(done.stdout.as_bytes());
    done.lines.into_iter().for_each(logging::emit);
    ExitCode::from(done.exit_code)
}
