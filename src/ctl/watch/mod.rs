//! `watch`: prints changes as they happen, runs a command for each, or takes watches from standard input.

mod args;

use super::cli::{Arg, Command, Flag, Flags, Invocation, flags};
use super::exit::{Failure, code};
use super::go::quote::quote;
use super::input::Lines;
use super::print::{Display, complain, event_type, say};
use super::{child, words};
use crate::client::{ALL_KEYS, WatchResponse, WatchStream, Watcher, prefix_end};
use crate::pb::etcdserverpb::WatchCreateRequest;
use std::os::unix::ffi::OsStringExt;
use tokio::sync::mpsc;

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "watch",
    usage: "[options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
    group: super::commands::KEY_VALUE,
    short: "Prints changes of keys as they happen",
    flags: &FLAGS,
    run: Some(|invocation| Box::pin(run(invocation))),
    ..Command::NEW
};

static FLAGS: [Flag; 5] = [
    Flag::bool("interactive", "take watches from standard input").short('i'),
    Flag::bool("prefix", "all keys that begin with the key"),
    Flag::int("rev", "begin at this revision"),
    Flag::bool("prev-kv", "print what the key held before, too"),
    Flag::bool(
        "progress-notify",
        "print how far the watch has come, now and then",
    ),
];

async fn run(mut invocation: Invocation) -> Result<(), Failure> {
    let variable = |name: &str| std::env::var_os(name).unwrap_or_default().into_vec();
    let environment = args::Environment {
        key: variable("ETCDCTL_WATCH_KEY"),
        range_end: variable("ETCDCTL_WATCH_RANGE_END"),
    };
    if environment.key.is_empty() && !environment.range_end.is_empty() {
        let range_end = quote(&environment.range_end);
        return Err(Failure::args(format!(
            "ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={range_end}"
        )));
    }
    if invocation.flags.bool("interactive") {
        return interactive(invocation, &environment).await;
    }
    let parsed = args::from_command_line(&invocation.argv, &invocation.args, &environment);
    let args::Parsed { keys, command } = parsed.map_err(Failure::args)?;
    let (client, display) = invocation.connect().await?;
    let request = request(&keys, &invocation.flags).map_err(Failure::args)?;
    let watcher = client.watch_stream(true).watch(request).await;
    print_all(watcher, display, command).await?;
    Err(Failure::new(
        code::INTERRUPTED,
        "watch is canceled by the server",
    ))
}

/// The request for `key [range_end]`.
fn request(keys: &[Arg], flags: &Flags) -> Result<WatchCreateRequest, String> {
    let key = keys.first().ok_or(args::BAD_NUMBER)?;
    let prefix = flags.bool("prefix");
    // More than two are as good as one.
    let range_end = keys.get(1).filter(|_| keys.len() == 2);
    if range_end.is_some() && prefix {
        return Err("`range_end` and `--prefix` are mutually exclusive".to_owned());
    }
    let (key, range_end) = match range_end {
        None if prefix && key.is_empty() => (b"\0".to_vec(), ALL_KEYS.to_vec()),
        None if prefix => (key.clone(), prefix_end(key)),
        None => (key.clone(), Vec::new()),
        Some(range_end) => (key.clone(), range_end.clone()),
    };
    Ok(WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        start_revision: flags.int("rev"),
        prev_kv: flags.bool("prev-kv"),
        progress_notify: flags.bool("progress-notify"),
        // Large responses come in pieces, which the client puts together.
        fragment: true,
        ..Default::default()
    })
}

/// Prints a watch's responses and runs the command for each event, until the watch ends.
async fn print_all(
    mut watcher: Watcher,
    display: Display,
    command: Vec<Arg>,
) -> Result<(), Failure> {
    while let Some(response) = watcher.next().await {
        if response.canceled {
            let error = response
                .error()
                .map(|error| error.to_string())
                .unwrap_or_default();
            complain(format_args!("watch was canceled ({error})"));
        }
        if response.is_progress() {
            let revision = response.header.unwrap_or_default().revision;
            say(format_args!("progress notify: {revision}"))?;
        }
        display.show(&response)?;
        if !command.is_empty() {
            run_for_each(&response, &command).await?;
        }
    }
    Ok(())
}

async fn run_for_each(response: &WatchResponse, command: &[Arg]) -> Result<(), Failure> {
    // The response's revision, not the event's: etcd's choice.
    let revision = response.header.unwrap_or_default().revision.to_string();
    for event in &response.events {
        let event = event.fields();
        let pair = event.kv.unwrap_or_default().into_fields();
        let kind = quote(event_type(event.r#type).as_bytes());
        let environment = [
            ("ETCD_WATCH_REVISION", revision.clone().into_bytes()),
            ("ETCD_WATCH_EVENT_TYPE", kind.into_bytes()),
            ("ETCD_WATCH_KEY", quote(&pair.key).into_bytes()),
            ("ETCD_WATCH_VALUE", quote(&pair.value).into_bytes()),
        ];
        if let Err(failure) = child::run(command, environment).await {
            let words: Vec<_> = command.iter().map(|word| quote(word)).collect();
            complain(format_args!(
                "command [{}] error ({})",
                words.join(" "),
                failure.message
            ));
            return Err(Failure::silent(code::ERROR));
        }
    }
    Ok(())
}

/// Takes `watch …` and `progress` lines from standard input. All watches are on one stream, which is what
/// `progress` asks about.
async fn interactive(
    mut invocation: Invocation,
    environment: &args::Environment,
) -> Result<(), Failure> {
    let (client, display) = invocation.connect().await?;
    let stream = client.watch_stream(true);
    let mut lines = read_lines()?;
    // A watch whose command fails ends the program.
    let (failed, mut failures) = mpsc::channel(1);
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            failure = failures.recv() => match failure {
                Some(failure) => return Err(failure),
                None => continue,
            },
        };
        let Some(line) = line else {
            return Err(Failure::new(
                code::INVALID_INPUT,
                "error reading watch request line: EOF",
            ));
        };
        let words = words::split(&line)?;
        let text = String::from_utf8_lossy(&line).into_owned();
        let invalid = |why: &str| complain(format_args!("Invalid command {text} ({why})"));
        match words.first().map(Vec::as_slice) {
            None => complain(format_args!(
                "Invalid command: {text} (watch and progress supported)"
            )),
            Some(b"progress") => stream.request_progress().await,
            Some(b"watch") if words.len() < 2 && environment.key.is_empty() => {
                invalid("command type or key is not provided");
            }
            Some(b"watch") => {
                let started = start(&stream, &words[1..], environment).await?;
                match started {
                    Ok((watcher, command)) => {
                        let failed = failed.clone();
                        tokio::spawn(async move {
                            if let Err(failure) = print_all(watcher, display, command).await {
                                // Only the first one counts.
                                let _ = failed.try_send(failure);
                            }
                        });
                    }
                    Err(why) => invalid(&why),
                }
            }
            Some(_) => invalid("only support watch"),
        }
    }
}

/// Starts a watch from a line. The outer error ends the program, the inner one is only told.
async fn start(
    stream: &WatchStream,
    words: &[Arg],
    environment: &args::Environment,
) -> Result<Result<(Watcher, Vec<Arg>), String>, Failure> {
    let mut flags = Flags::new(FLAGS.iter().chain([&flags::HELP]));
    let args::Parsed { keys, command } =
        args::from_line(words, &mut flags, environment).map_err(Failure::args)?;
    Ok(match request(&keys, &flags) {
        Ok(request) => Ok((stream.watch(request).await, command)),
        Err(why) => Err(why),
    })
}

/// Reads lines on a thread of its own: reading blocks, and the watches must go on.
fn read_lines() -> Result<mpsc::Receiver<Vec<u8>>, Failure> {
    let mut lines = Lines::open()?;
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        while let Ok(Some(line)) = lines.next() {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}
