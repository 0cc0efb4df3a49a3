//! The option table against etcd's own list, and golden scripts of whole configurations.
//!
//! A script's block is one configuration: `env`, `file` and `host` set the surroundings, `etcd`
//! starts a member in them, `config` asks about it. The error texts in the scripts are those of
//! etcd 3.7.1 for the same input.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use goldenscript::{Argument, Block, Command, Context};
use proptest::prelude::*;

use super::options::Group;
use super::table::OPTIONS;
use super::*;
use crate::logging::Level;

/// The table has etcd's flags, each with etcd's type, default and variable, in etcd's order.
#[test]
fn table_is_etcds() {
    let golden = include_str!("testdata/flags.txt");
    let mut ours = OPTIONS.iter().filter(|option| option.on_command_line);
    for line in golden.lines().filter(|line| !line.starts_with('#')) {
        let [name, kind, default, variable] =
            line.split(" | ").collect::<Vec<_>>().try_into().unwrap();
        if kind == "not registered" {
            continue;
        }
        let option = ours.next().unwrap();
        assert_eq!(option.name, name);
        assert_eq!(option.kind.name(), kind, "{name}");
        assert_eq!(option.variable(), variable, "{name}");
        let unquoted = default.trim_matches('\'');
        let no_value = option.kind.initial(unquoted) == option.kind.initial("");
        if default != "-" && !(no_value && option.shown_default() == "0") {
            assert_eq!(option.shown_default(), unquoted, "{name}");
        }
    }
    assert_eq!(ours.next().map(|option| option.name), None);
}

#[test]
fn defaults_are_values_of_their_kind() {
    for option in OPTIONS.iter().filter(|option| option.kind != Kind::Ignored) {
        let value = option.default_value();
        let text = value.to_string();
        let again = option.kind.initial(&text);
        assert_eq!(again, value, "{}", option.name);
        if !option.default.is_empty() {
            assert!(
                option.kind.parse(option.default, &value).is_ok(),
                "{}",
                option.name
            );
        }
    }
}

#[test]
fn samples_are_the_generated_ones() {
    let env = include_str!("../../config/etcd.conf");
    let yaml = include_str!("../../config/etcd.conf.yml");
    let hint = "run: etcd config sample --format=env > config/etcd.conf (yaml: etcd.conf.yml)";
    assert!(env == sample::environment_file(), "{hint}");
    assert!(yaml == sample::yaml_file(), "{hint}");
}

/// With every `#` before a setting removed, both samples say the defaults.
#[test]
fn samples_say_the_defaults() {
    let is_setting = |text: &str| {
        let key = text
            .trim_start()
            .split([':', '='])
            .next()
            .unwrap_or_default();
        let indent = text.len() - text.trim_start().len();
        indent.is_multiple_of(2) && key.len() < text.trim_start().len() && !key.contains([' ', '#'])
    };
    let uncomment = |text: &str| {
        let lines = text.lines().map(|line| match line.strip_prefix('#') {
            Some(rest) if is_setting(rest) => rest,
            _ => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let env = uncomment(&sample::environment_file());
    let assignments = environment_file::parse(&env);
    assert!(assignments.len() > 100);
    let mut settings = Settings::defaults();
    let variables = assignments.into_iter().map(|a| (a.name, a.value)).collect();
    assert_eq!(
        environment::apply(&variables, &mut settings, &mut Vec::new()),
        []
    );
    let yaml = uncomment(&sample::yaml_file());
    let mut from_file = Settings::defaults();
    let mut notes = Vec::new();
    file::read(Path::new("sample"), &yaml, &mut from_file, &mut notes).unwrap();
    assert!(notes.is_empty(), "{:?}", notes[0]);
    let rows = OPTIONS.iter().zip(settings.rows()).zip(from_file.rows());
    for ((option, variable), key) in rows.filter(|((o, _), _)| o.group != Group::Hidden) {
        assert_eq!(variable.value, option.default_value(), "{}", option.name);
        if option.name != "v2-deprecation" {
            assert_eq!(key.value, option.default_value(), "{}", option.name); // there "" is a word
        }
        assert_eq!(key.is_set, option.file_path().is_some(), "{}", option.name);
        let set = option.on_command_line && !option.default.is_empty();
        assert!(variable.is_set == set, "{}", option.name);
    }
}

#[test]
fn startup_line_has_etcds_fields() {
    let surroundings = Surroundings::default();
    let words = ["etcd", "--name=a", "--auto-compaction-retention=5"].map(str::to_owned);
    let Start::Run(run) = surroundings.with(words.to_vec(), start) else {
        panic!("no start")
    };
    let text = run.config.startup_line(false, "").to_string();
    let names: Vec<&str> = include_str!("testdata/startup-line.txt").lines().collect();
    let ours: Vec<&str> = text
        .trim_start_matches("starting an etcd server ")
        .split(' ')
        .filter_map(|field| field.split_once('=').map(|(name, _)| name))
        .collect();
    assert_eq!(ours, names);
    for part in [
        "member-dir=a.etcd/member",
        "initial-cluster=a=http://localhost:2380",
        "quota-backend-bytes=2147483648",
        "auto-compaction-retention=5h0m0s",
    ] {
        assert!(text.contains(part), "{part}");
    }
    let restarted = run.config.startup_line(true, "").to_string();
    assert!(restarted.contains("initial-cluster=\"\"") && restarted.contains("token=\"\""));
}

#[test]
fn version_has_four_lines() {
    let text = version_text();
    assert_eq!(text.lines().next(), Some("etcd Version: 3.7.1"));
    assert_eq!(text.lines().count(), 4);
    assert!(text.lines().nth(1).unwrap().starts_with("Git SHA: "));
}

#[test]
fn man_page_and_completions_know_every_flag() {
    let page = sample::man_page().unwrap();
    let script = sample::completion(clap_complete::Shell::Bash);
    for option in OPTIONS
        .iter()
        .filter(|o| o.group != Group::Hidden && o.on_command_line)
    {
        let escaped = option.name.replace('-', "\\-");
        assert!(
            page.contains(&format!("\\-\\-{escaped}")),
            "{}",
            option.name
        );
        assert!(
            script.contains(&format!("--{}", option.name)),
            "{}",
            option.name
        );
    }
}

/// Texts in the shape of flags, variables and YAML, with anything inside.
fn words() -> impl Strategy<Value = Vec<String>> {
    let name = proptest::sample::select(OPTIONS).prop_map(|option| option.name.to_owned());
    let value = prop_oneof![
        Just(String::new()),
        "-?[0-9_x]{1,21}(ns|ms|s|h|[.]5m)?",
        "(http|unix|[a-z]{0,3})://[\\[\\]:%@/a-z0-9]{0,12}(,http://a:1)?",
        "\\PC{0,12}",
    ];
    let word = (prop_oneof![name, "[a-z]{0,4}"], value, 0..3usize);
    let word = word.prop_map(|(name, value, dashes)| format!("{}{name}={value}", &"--"[..dashes]));
    proptest::collection::vec(word, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever an operator writes ends in a configuration or in an error, never in a panic.
    #[test]
    fn nothing_panics(flags in words(), variables in words(), lines in words(), junk in "\\PC{0,40}") {
        let upper = |word: String| {
            let word = word.trim_start_matches('-').to_owned();
            let (name, value) = word.split_once('=').unwrap_or((&word, ""));
            (format!("ETCD_{}", name.to_ascii_uppercase().replace('-', "_")), value.to_owned())
        };
        let mut surroundings = Surroundings {
            variables: variables.into_iter().map(upper).collect(),
            ..Surroundings::default()
        };
        let with = |first: &[&str]| {
            let first = first.iter().map(|word| (*word).to_owned());
            first.chain(flags.iter().cloned()).collect::<Vec<_>>()
        };
        surroundings.with(with(&["etcd"]), start);
        surroundings.with(with(&["etcd", "config", "check"]), start);
        let yaml = lines.iter().map(|line| line.trim_start_matches('-').replacen('=', ": ", 1));
        let nested = format!("client-transport-security:\n  {junk}\n");
        for text in [yaml.collect::<Vec<_>>().join("\n"), nested, junk] {
            surroundings.files.insert("c".into(), text);
            surroundings.with(with(&["etcd", "--config-file=c"]), start);
        }
    }
}

#[derive(Default)]
struct Surroundings {
    variables: Vec<(String, String)>,
    files: BTreeMap<PathBuf, String>,
    host: Option<IpAddr>,
}

impl Surroundings {
    fn with<T>(&self, words: Vec<String>, read: impl Fn(&Sources<'_>) -> T) -> T {
        let missing = || io::Error::from_raw_os_error(nix::errno::Errno::ENOENT as i32);
        read(&Sources {
            words,
            variables: self.variables.clone(),
            read_file: &|path| self.files.get(path).cloned().ok_or_else(missing),
            host_name: &|| "host7".to_owned(),
            default_host: &|| {
                self.host
                    .ok_or_else(|| "could not find default route".to_owned())
            },
        })
    }
}

impl goldenscript::Runner for Surroundings {
    type Command = Command;

    fn start_block(&mut self, _: &Block) -> Result<String, Box<dyn Error>> {
        *self = Self {
            host: Some(IpAddr::from([192, 0, 2, 7])),
            ..Self::default()
        };
        Ok(String::new())
    }

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let mut words = vec!["etcd".to_owned()];
        match command.name.as_str() {
            "env" => {
                while let Some((name, value)) = args.next_key() {
                    self.variables.push((name.to_owned(), value.to_owned()));
                }
            }
            "file" => {
                let path = args.next_pos().ok_or("no path")?;
                let lines: Vec<&str> = std::iter::from_fn(|| args.next_pos()).collect();
                self.files.insert(PathBuf::from(path), lines.join("\n"));
            }
            "host" => self.host = args.next_pos().ok_or("no host")?.parse().ok(),
            "etcd" | "config" => {
                if command.name == "config" {
                    words.push("config".to_owned());
                }
                words.extend(command.args.iter().filter_map(|argument| match argument {
                    Argument::Positional(word) => Some(word.clone()),
                    _ => None,
                }));
                return Ok(self.with(words, |sources| described(start(sources))));
            }
            other => return Err(format!("unknown command {other}").into()),
        }
        Ok(String::new())
    }
}

/// Lines in order, then what differs from the defaults, or how the process ends.
fn described(start: Start) -> String {
    let mut text = String::new();
    match start {
        Start::Run(run) => {
            describe_lines(&run.notes, &mut text);
            for (option, row) in OPTIONS.iter().zip(run.config.settings.rows()) {
                let changed = row.is_set || row.value != option.default_value();
                if changed && option.group != Group::Hidden {
                    let _ = writeln!(
                        text,
                        "{} = {:?} # {}",
                        option.name,
                        row.value.to_string(),
                        row.origin
                    );
                }
            }
        }
        Start::Done(done) => {
            text.push_str(&done.stdout);
            if let Some(first) = done.stderr.lines().next() {
                let _ = writeln!(text, "stderr: {first}");
            }
            describe_lines(&done.lines, &mut text);
            let _ = writeln!(text, "exit {}", done.exit_code);
        }
    }
    text
}

/// Every line but those that every start has.
fn describe_lines(lines: &[Line], text: &mut String) {
    const USUAL: [&str; 4] = [
        "Running",
        "it isn't",
        "detected default host",
        "'data-dir' was empty",
    ];
    for line in lines {
        let usual = USUAL.iter().any(|start| line.message().starts_with(start));
        if !usual || line.severity() > Level::Warn {
            let _ = writeln!(text, "{}: {line}", line.severity());
        }
    }
}

macro_rules! scripts {
    ($($name:ident),+) => {
        $(#[test]
        fn $name() {
            let path = concat!("src/config/scripts/", stringify!($name), ".txt");
            goldenscript::run(&mut Surroundings::default(), path).unwrap();
        })+
    };
}
scripts!(
    command_line,
    environment,
    configuration_file,
    derived,
    validation,
    not_served,
    inspect
);
