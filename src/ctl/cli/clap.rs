//! The command tables as a `clap::Command`, for what clap's companions make from one: man pages and completion
//! scripts.

use super::{Command, Flag, Kind};
use clap::builder::PossibleValuesParser;

/// The same program for clap.
pub fn to_clap(command: &Command) -> clap::Command {
    let mut out = clap::Command::new(command.name)
        .about(command.short)
        .disable_help_subcommand(true);
    if !command.long.is_empty() {
        out = out.long_about(command.long.trim_end());
    }
    if !command.examples.is_empty() {
        out = out.after_help(format!("Examples:\n{}", command.examples));
    }
    if command.run.is_some() && command.choices.is_empty() {
        out = out.override_usage(format!("{} {} [flags]", command.name, command.usage));
        out = out.arg(clap::Arg::new("argument").num_args(0..).hide(true));
    }
    if !command.choices.is_empty() {
        let choices = PossibleValuesParser::new(command.choices);
        out = out.arg(clap::Arg::new("argument").value_parser(choices));
    }
    // clap brings its own.
    let own = command.flags.iter().filter(|flag| flag.name != "help");
    let own = own.map(|flag| arg(flag, false));
    out = out
        .args(own)
        .args(command.persistent.iter().map(|flag| arg(flag, true)));
    out.subcommands(
        command
            .children
            .iter()
            .filter(|child| !child.hidden)
            .map(|c| to_clap(c)),
    )
}

fn arg(flag: &Flag, global: bool) -> clap::Arg {
    let mut arg = clap::Arg::new(flag.name)
        .long(flag.name)
        .help(flag.help)
        .global(global);
    if let Some(letter) = flag.short {
        arg = arg.short(letter);
    }
    if !flag.default.is_empty() {
        arg = arg.default_value(flag.default);
    }
    if flag.kind == Kind::Bool {
        // `--flag=false` is fine, `--flag false` is not.
        let values = PossibleValuesParser::new(["true", "false"]);
        return arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(values);
    }
    if !flag.values.is_empty() {
        arg = arg.value_parser(PossibleValuesParser::new(flag.values));
    }
    arg.num_args(1).value_name(match flag.kind {
        Kind::Text => "string",
        Kind::List => "strings",
        Kind::Int => "int",
        Kind::Uint => "uint",
        Kind::Duration | Kind::Bool => "duration",
    })
}
