//! `etcdctl watch` over the restarts of its server: every revision once and in order, and every acknowledged write
//! among them.
//!
//! Writers put ascending numbers, each into a key of its own. All revisions are theirs, so what the watch prints must be
//! a row of revisions without a hole. A write whose answer the restart swallowed may be there or not.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use etcd::pb::etcdserverpb as pb;
use pb::kv_client::KvClient;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use crate::member::Member;
use crate::{Options, ensure, words};

/// Writes a second, over all writers.
const WRITES_PER_SECOND: u64 = 200;
const WRITERS: u64 = 8;
/// A write that is not answered by then has an unknown fate.
const WRITE_MAX: Duration = Duration::from_secs(2);
/// How long the server works before it is ended, in milliseconds.
const WORK_MS: std::ops::Range<u64> = 200..1500;
/// A watch that has not caught up after this long has a gap.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);
/// The first revision that a write can have.
const FIRST: i64 = 2;
const PREFIX: &str = "w/";
const LAST_KEY: &str = "w/last";

/// An acknowledged write.
struct Put {
    key: String,
    value: String,
    revision: i64,
}

/// A change that the watch printed.
#[derive(Debug)]
struct Event {
    key: String,
    value: String,
    revision: i64,
}

/// Ends the server so many times, and compares what was acknowledged with what the watch printed.
pub fn prove(options: &Options) -> Result<String, String> {
    let began = Instant::now();
    let mut member = Member::start_binary(&options.server, &[]);
    let mut watch = Watch::start(&options.etcdctl, &member.endpoint)?;
    let runtime = tokio::runtime::Runtime::new().map_err(words)?;
    let stop = Arc::new(AtomicBool::new(false));
    let channel = Endpoint::from_shared(format!("http://{}", member.endpoint))
        .map_err(words)?
        .connect_timeout(WRITE_MAX);
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let channel = runtime.block_on(async { channel.connect_lazy() });
        writers.spawn_on(write(channel, number, stop.clone()), runtime.handle());
    }
    let mut random = SmallRng::seed_from_u64(1);
    for restart in 0..options.restarts {
        std::thread::sleep(Duration::from_millis(random.random_range(WORK_MS)));
        match restart % 2 {
            0 => member.kill(),
            _ => {
                member.terminate();
            }
        }
        member.restart();
    }
    std::thread::sleep(Duration::from_millis(WORK_MS.end));
    stop.store(true, Ordering::Release);
    let mut acknowledged: Vec<Put> = runtime
        .block_on(writers.join_all())
        .into_iter()
        .flatten()
        .collect();
    acknowledged.push(runtime.block_on(async { last(channel.connect_lazy()).await })?);
    let events = watch.until_last()?;
    let found = compare(&acknowledged, &events)?;
    // So few writes would mean that nothing was tested.
    let least = options.restarts * WRITERS;
    ensure(acknowledged.len() as u64 > least, || {
        "hardly anything was written".to_owned()
    })?;
    Ok(format!(
        "{} restarts ({} by SIGKILL), {} writes acknowledged, {found}, in {} s",
        options.restarts,
        options.restarts.div_ceil(2),
        acknowledged.len(),
        began.elapsed().as_secs()
    ))
}

async fn write(channel: Channel, writer: u64, stop: Arc<AtomicBool>) -> Vec<Put> {
    let mut client = KvClient::new(channel);
    let mut ticks =
        tokio::time::interval(Duration::from_millis(1000 * WRITERS / WRITES_PER_SECOND));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut acknowledged = Vec::new();
    for number in 1u64.. {
        ticks.tick().await;
        if stop.load(Ordering::Acquire) {
            break;
        }
        let (key, value) = (format!("{PREFIX}{writer}"), number.to_string());
        acknowledged.extend(put(&mut client, key, value).await);
    }
    acknowledged
}

/// One put; nothing when it was not answered.
async fn put(client: &mut KvClient<Channel>, key: String, value: String) -> Option<Put> {
    let request = pb::PutRequest {
        key: key.clone().into(),
        value: value.clone().into(),
        ..pb::PutRequest::default()
    };
    let answer = tokio::time::timeout(WRITE_MAX, client.put(request)).await;
    let revision = answer.ok()?.ok()?.into_inner().header?.revision;
    Some(Put {
        key,
        value,
        revision,
    })
}

/// The write behind all others.
async fn last(channel: Channel) -> Result<Put, String> {
    let mut client = KvClient::new(channel);
    let deadline = Instant::now() + CATCH_UP_MAX;
    while Instant::now() < deadline {
        if let Some(put) = put(&mut client, LAST_KEY.to_owned(), String::new()).await {
            return Ok(put);
        }
    }
    Err("the last write was not acknowledged".to_owned())
}

fn compare(acknowledged: &[Put], events: &[Event]) -> Result<String, String> {
    let mut next = FIRST;
    let (mut missing, mut duplicated) = (0, 0);
    let mut first_wrong = None;
    for event in events {
        if event.revision != next && first_wrong.is_none() {
            first_wrong = Some(format!("revision {next} was due, {event:?} came"));
        }
        missing += (event.revision - next).max(0);
        duplicated += i64::from(event.revision < next);
        next = next.max(event.revision + 1);
    }
    if let Some(wrong) = first_wrong {
        return Err(format!(
            "{missing} revisions missing, {duplicated} twice: {wrong}"
        ));
    }
    let printed: HashMap<i64, &Event> =
        events.iter().map(|event| (event.revision, event)).collect();
    for put in acknowledged {
        let event = printed.get(&put.revision);
        let same = event.is_some_and(|event| event.key == put.key && event.value == put.value);
        ensure(same, || {
            let Put {
                key,
                value,
                revision,
            } = put;
            format!(
                "{key}={value} was acknowledged at revision {revision}; the watch has {event:?}"
            )
        })?;
    }
    Ok(format!(
        "{} seen: 0 missing, 0 duplicated, all in order",
        events.len()
    ))
}

/// The program under test, and what it prints.
struct Watch {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
    errors: Option<std::thread::JoinHandle<String>>,
}

impl Watch {
    fn start(etcdctl: &Path, endpoint: &str) -> Result<Self, String> {
        let mut child = Command::new(etcdctl)
            .args([
                "--endpoints",
                endpoint,
                "-w",
                "json",
                "watch",
                "--prefix",
                PREFIX,
                "--rev=1",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(words)?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let mut stderr = child.stderr.take().ok_or("no stderr")?;
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Ok(Self {
            child,
            lines,
            errors: Some(errors),
        })
    }

    /// Everything it printed up to the last write.
    fn until_last(&mut self) -> Result<Vec<Event>, String> {
        let deadline = Instant::now() + CATCH_UP_MAX;
        let mut events = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                let _ = self.child.kill();
                let errors = self.errors.take().and_then(|thread| thread.join().ok());
                return Err(format!(
                    "the watch ended or lags after {} events: {}",
                    events.len(),
                    errors.unwrap_or_default()
                ));
            };
            let response: serde_json::Value =
                serde_json::from_str(&line).map_err(|error| format!("{error}: {line}"))?;
            for event in response["Events"].as_array().into_iter().flatten() {
                let text = |name: &str| {
                    let bytes = BASE64.decode(event["kv"][name].as_str().unwrap_or_default());
                    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
                };
                events.push(Event {
                    key: text("key"),
                    value: text("value"),
                    revision: event["kv"]["mod_revision"].as_i64().unwrap_or_default(),
                });
            }
            if events.last().is_some_and(|event| event.key == LAST_KEY) {
                return Ok(events);
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
