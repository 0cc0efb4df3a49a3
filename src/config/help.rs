//! What `--help`, a wrong flag and `--version` print.

use std::fmt::Write as _;

use super::options::{Group, Support};
use super::table::OPTIONS;
use super::value::Kind;

/// The etcd release whose interfaces this one has; clients and peers parse it.
pub const COMPATIBLE_VERSION: &str = "3.7.1";

/// The commit this was built from.
pub const GIT_SHA: &str = match option_env!("ETCD_GIT_SHA") {
    Some(sha) => sha,
    None => "Not provided",
};

/// The short text after a wrong flag and before the long help.
pub(super) const USAGE: &str = "Usage:

  etcd [flags]
    Run an etcd member.

  etcd --version
    Print the version.

  etcd -h | --help
    Print all flags.

  etcd --config-file FILE
    Run with the settings of a YAML or JSON file; other flags and ETCD_* variables are ignored.
    Durations in the file are whole nanoseconds.

  etcd config check [flags]
    Say what is wrong with a configuration, and how to mend it.

  etcd config show [--origin] [flags]
    Show every value in force and where it comes from.

  etcd config sample --format env|yaml
    Print a sample configuration with every option.
";

/// All flags by group.
pub(super) fn flags() -> String {
    let mut text = String::new();
    for group in Group::LISTED {
        let _ = write!(text, "\n{}:\n", group.title());
        let listed = OPTIONS.iter().filter(|option| option.group == group);
        for option in listed.filter(|option| option.on_command_line) {
            let _ = writeln!(text, "  --{} '{}'", option.name, option.shown_default());
            let _ = writeln!(text, "    {}{}", option.meaning, remark(option.support));
            if option.kind == Kind::Gates {
                for gate in super::gates::GATES {
                    let (name, meaning, on) = (gate.name, gate.meaning, gate.default);
                    let _ = writeln!(text, "    {name}={on}: {meaning}");
                }
            }
        }
    }
    text.push_str(
        "\nEvery flag --NAME has a variable ETCD_NAME, in capitals and with _ for -. A flag and \
         its variable\ntogether are an error.\n",
    );
    text
}

/// What help and samples add to an option this release does not act on.
pub(super) fn remark(support: Support) -> String {
    match support {
        Support::Served => String::new(),
        Support::NoEffect(reason) => format!(" No effect: {reason}."),
        Support::Later | Support::Refused => " Not served yet.".to_owned(),
    }
}

/// The processor's name in etcd's words.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The four lines of `--version`. Programs parse the first.
pub fn version_text() -> String {
    format!(
        "etcd Version: {COMPATIBLE_VERSION}
Git SHA: {GIT_SHA}
Release: {} (Rust)
Target: {}/{}
",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        architecture(),
    )
}
