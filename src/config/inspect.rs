//! `etcd config …`: what a configuration means, before a member runs with it.
//!
//! `check` ends with 0 when a member would start, with 78 when it would not, with 2 when the
//! command line has no sense and with 1 when a file to check from cannot be read.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use serde_json::json;

use super::environment_file::{self, UNIT_FILES};
use super::failure::{Failure, set_by};
use super::options::{Group, Opt};
use super::settings::{Origin, Setting, Settings};
use super::table::OPTIONS;
use super::value::Kind;
use super::{
    Done, EXIT_CONFIG, EXIT_FAILURE, EXIT_USAGE, Sources, command_line, file_path, gather, sample,
};
use crate::logging::{Level, Line};

/// What the unit sets before its files.
const UNIT_DATA_DIR: &str = "/var/lib/etcd";

#[derive(Parser)]
#[command(
    name = "config",
    bin_name = "etcd config",
    about = "Check and show a configuration"
)]
struct ConfigCommand {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Say what is wrong, where it was set, and how to mend it
    Check(Input),
    /// Show every value in force
    Show {
        /// Say where each value comes from
        #[arg(long)]
        origin: bool,
        /// Leave out what is at its default
        #[arg(long)]
        changed: bool,
        #[command(flatten)]
        input: Input,
    },
    /// Print a file with every option at its default
    Sample {
        /// The kind of file
        #[arg(long, value_enum)]
        format: SampleFormat,
    },
    /// Print the manual page
    Man,
    /// Print the completion script of a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(clap::Args)]
struct Input {
    /// Read variables from a file, as EnvironmentFile= does
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Take the variables etcd.service has, instead of this shell's
    #[arg(long)]
    unit: bool,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "simple")]
    write_out: Form,
    /// Flags of the member
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    flags: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Simple,
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum SampleFormat {
    /// Variables for EnvironmentFile=
    Env,
    /// YAML for --config-file
    Yaml,
}

/// For completions and the man page.
pub(super) fn command() -> clap::Command {
    ConfigCommand::command()
}

/// Runs `etcd config …`.
pub(super) fn run(sources: &Sources<'_>) -> Done {
    let words = sources.words.iter().skip(1);
    let task = match ConfigCommand::try_parse_from(words) {
        Ok(command) => command.task,
        Err(error) if error.use_stderr() => {
            let stderr = error.to_string();
            return Done {
                stderr,
                exit_code: EXIT_USAGE,
                ..Done::default()
            };
        }
        Err(help) => return printed(help.to_string()),
    };
    match task {
        Task::Check(input) => examined(sources, &input, |report| match input.write_out {
            Form::Simple => report.problems_text(),
            Form::Json => format!("{:#}\n", report.problems_json()),
        }),
        Task::Show {
            origin,
            changed,
            input,
        } => examined(sources, &input, |report| {
            let values = report
                .values
                .iter()
                .filter(|shown| shown.is_changed || !changed);
            let values: Vec<&Shown> = values.collect();
            match input.write_out {
                Form::Simple => report.values_text(&values, origin),
                Form::Json => format!("{:#}\n", report.values_json(&values, origin)),
            }
        }),
        Task::Sample {
            format: SampleFormat::Env,
        } => printed(sample::environment_file()),
        Task::Sample {
            format: SampleFormat::Yaml,
        } => printed(sample::yaml_file()),
        Task::Completion { shell } => printed(sample::completion(shell)),
        Task::Man => match sample::man_page() {
            Ok(page) => printed(page),
            Err(error) => failed(format!("write the manual page: {error}")),
        },
    }
}

fn printed(stdout: String) -> Done {
    Done {
        stdout,
        ..Done::default()
    }
}

fn failed(reason: String) -> Done {
    Done {
        stderr: format!("{reason}\n"),
        exit_code: EXIT_FAILURE,
        ..Done::default()
    }
}

/// Reads the configuration `input` describes and prints what `print` makes of it.
fn examined(sources: &Sources<'_>, input: &Input, print: impl Fn(&Report) -> String) -> Done {
    let variables = match variables(sources, input) {
        Ok(variables) => variables,
        Err(reason) => return failed(reason),
    };
    let mut words = vec!["etcd".to_owned()];
    words.extend(input.flags.iter().cloned());
    let sources = Sources {
        words,
        variables,
        read_file: sources.read_file,
        host_name: sources.host_name,
        default_host: sources.default_host,
    };
    let report = examine(&sources);
    let failed = report.problems.iter().any(|problem| problem.is_error);
    let exit_code = match (report.is_usage, failed) {
        (true, _) => EXIT_USAGE,
        (_, true) => EXIT_CONFIG,
        _ => 0,
    };
    Done {
        stdout: print(&report),
        exit_code,
        ..Done::default()
    }
}

/// The environment, or the unit's, with the variables of files on top.
fn variables(sources: &Sources<'_>, input: &Input) -> Result<Vec<(String, String)>, String> {
    let mut variables = sources.variables.clone();
    let mut files = Vec::new();
    if input.unit {
        let name = ("ETCD_NAME".to_owned(), (sources.host_name)());
        variables = vec![name, ("ETCD_DATA_DIR".to_owned(), UNIT_DATA_DIR.to_owned())];
        // The unit lets each of its files be missing.
        let read = |path: &&str| (sources.read_file)(Path::new(path)).ok();
        files.extend(UNIT_FILES.iter().filter_map(read));
    }
    for path in &input.env_file {
        let reason = |error| {
            format!(
                "read {}: {}",
                path.display(),
                crate::logging::os_error_text(&error)
            )
        };
        files.push((sources.read_file)(path).map_err(reason)?);
    }
    for assignment in files.iter().flat_map(|text| environment_file::parse(text)) {
        variables.retain(|(name, _)| *name != assignment.name);
        variables.push((assignment.name, assignment.value));
    }
    Ok(variables)
}

/// What was found out about a configuration.
struct Report {
    values: Vec<Shown>,
    problems: Vec<Problem>,
    /// The command line itself makes no sense.
    is_usage: bool,
}

/// One value in force.
struct Shown {
    option: &'static Opt,
    value: String,
    origin: String,
    is_changed: bool,
}

/// Something that is wrong, or that has no effect.
struct Problem {
    is_error: bool,
    text: String,
    set_by: Option<String>,
    fix: Option<String>,
}

impl Problem {
    fn warning(text: String) -> Self {
        Self {
            is_error: false,
            text,
            set_by: None,
            fix: None,
        }
    }
}

fn examine(sources: &Sources<'_>) -> Report {
    let mut settings = Settings::defaults();
    let words = sources.words.get(1..).unwrap_or_default();
    let positional = match command_line::read(words, &mut settings) {
        Ok(command_line::Words::Flags(positional)) => positional,
        Ok(command_line::Words::Help) => None,
        Err(reason) => {
            let problem = Problem {
                is_error: true,
                ..Problem::warning(reason)
            };
            return Report {
                values: Vec::new(),
                problems: vec![problem],
                is_usage: true,
            };
        }
    };
    let mut problems = ignored(sources, &settings);
    let failure = |failure: &Failure, settings: &Settings| {
        let advice = failure.advice(settings, sources);
        let text = failure.to_string();
        Problem {
            is_error: true,
            text,
            set_by: advice.set_by,
            fix: Some(advice.fix),
        }
    };
    if let Some(word) = positional {
        problems.push(failure(&Failure::Positional(word), &settings));
    }
    let mut notes = Vec::new();
    let mut gathered = gather(sources, settings, &mut notes);
    let unread: Vec<Failure> = gathered.failures.drain(..).collect();
    problems.extend(
        unread
            .iter()
            .map(|unread| failure(unread, &gathered.settings)),
    );
    let settings = match gathered.resolve(sources, &mut notes) {
        Ok(config) => config.settings,
        Err(refused) => {
            let (error, settings) = *refused;
            problems.push(failure(&error, &settings));
            settings
        }
    };
    let warned = |line: &&Line| line.severity() >= Level::Warn;
    problems.extend(
        notes
            .iter()
            .filter(warned)
            .map(|line| Problem::warning(line.to_string())),
    );
    Report {
        values: shown(&settings, sources),
        problems,
        is_usage: false,
    }
}

/// Settings that are there but do not count: all others beside a file, and flags without meaning.
fn ignored(sources: &Sources<'_>, flags: &Settings) -> Vec<Problem> {
    let path = file_path(sources, flags);
    let beside = format!("the file {path} is used alone");
    let mut problems = Vec::new();
    for (option, row) in OPTIONS
        .iter()
        .zip(flags.rows())
        .filter(|(_, row)| row.is_set)
    {
        let holds = matches!(
            option.name,
            "config-file" | "raft-read-timeout" | "raft-write-timeout"
        );
        if option.kind == Kind::Ignored {
            let text = format!(
                "--{} is ignored: etcd has no such option any more",
                option.name
            );
            problems.push(Problem::warning(text));
        } else if !path.is_empty() && !holds {
            let text = format!(
                "--{}={} is ignored: {beside}",
                option.name,
                option.shown(&row.value)
            );
            problems.push(Problem::warning(text));
        }
    }
    if !path.is_empty() {
        let ours = |name: &str| name.starts_with("ETCD_") && name != "ETCD_CONFIG_FILE";
        for (name, _) in sources.variables.iter().filter(|(name, _)| ours(name)) {
            problems.push(Problem::warning(format!("{name} is ignored: {beside}")));
        }
    }
    problems
}

fn shown(settings: &Settings, sources: &Sources<'_>) -> Vec<Shown> {
    let rows = OPTIONS.iter().zip(settings.rows());
    let listed = rows.filter(|(option, _)| option.group != Group::Hidden);
    let shown = |(option, row): (&'static Opt, &Setting)| Shown {
        option,
        value: option.shown(&row.value),
        origin: set_by(option.name, &row.origin, sources).unwrap_or_else(|| "default".to_owned()),
        is_changed: row.origin != Origin::Default,
    };
    listed.map(shown).collect()
}

impl Report {
    fn problems_text(&self) -> String {
        let mut text = String::new();
        for problem in &self.problems {
            let word = if problem.is_error { "error" } else { "warning" };
            let _ = writeln!(text, "{word}: {}", problem.text);
            if let Some(set_by) = &problem.set_by {
                let _ = writeln!(text, "  set by: {set_by}");
            }
            if let Some(fix) = &problem.fix {
                let _ = writeln!(text, "  fix: {fix}");
            }
        }
        let errors = self
            .problems
            .iter()
            .filter(|problem| problem.is_error)
            .count();
        let warnings = self.problems.len() - errors;
        let verdict = if errors == 0 {
            "a member starts with it"
        } else {
            "no member starts with it"
        };
        let _ = writeln!(text, "{verdict} (errors: {errors}, warnings: {warnings})");
        text
    }

    fn problems_json(&self) -> serde_json::Value {
        let problems = self.problems.iter().map(|problem| {
            let level = if problem.is_error { "error" } else { "warning" };
            json!({"level": level, "text": problem.text, "set-by": problem.set_by, "fix": problem.fix})
        });
        let starts = !self.problems.iter().any(|problem| problem.is_error);
        json!({"starts": starts, "problems": problems.collect::<Vec<_>>()})
    }

    fn values_text(&self, values: &[&Shown], origin: bool) -> String {
        let mut text = String::new();
        for shown in values {
            let value = format!("{} = {:?}", shown.option.name, shown.value);
            let _ = if origin {
                writeln!(text, "{value:<60} # {}", shown.origin)
            } else {
                writeln!(text, "{value}")
            };
        }
        if self.problems.iter().any(|problem| problem.is_error) {
            text.push('\n');
            text.push_str(&self.problems_text());
        }
        text
    }

    fn values_json(&self, shown: &[&Shown], origin: bool) -> serde_json::Value {
        let mut values = serde_json::Map::new();
        for shown in shown {
            let value = if origin {
                json!({"value": shown.value, "origin": shown.origin})
            } else {
                json!(shown.value)
            };
            values.insert(shown.option.name.to_owned(), value);
        }
        json!({"values": values, "problems": self.problems_json()["problems"]})
    }
}
