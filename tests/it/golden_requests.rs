//! Scenarios recorded from etcd 3.7.1 (`tests/golden/requests`, and refused requests in `tests/golden/errors`),
//! replayed against a fresh member each.
//!
//! A line is one step: a call with the reply that etcd gave, or a stream action with the messages that followed.
//! `cluster_id`, `member_id` and `raft_term` are not compared, nor are fields a line names as volatile.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, MethodDescriptor};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use crate::member::Member;
use crate::rpc::{self, DynamicCodec};

const NOT_COMPARED: [&str; 3] = ["cluster_id", "member_id", "raft_term"];
const CALL_MAX: Duration = Duration::from_secs(20);
const RECEIVE_MAX: Duration = Duration::from_secs(5);

/// What came back in one step, in the recording's own terms.
#[derive(Default)]
struct Outcome {
    response: Option<Value>,
    responses: Vec<Value>,
    code: String,
    message: String,
}

enum Received {
    Message(DynamicMessage),
    End(Option<Status>),
}

struct Stream {
    method: MethodDescriptor,
    requests: Option<mpsc::Sender<DynamicMessage>>,
    replies: mpsc::Receiver<Received>,
    reader: tokio::task::JoinHandle<()>,
}

type Reply = Result<DynamicMessage, Status>;

struct Runner {
    client: tonic::client::Grpc<tonic::transport::Channel>,
    variables: BTreeMap<String, String>,
    streams: BTreeMap<String, Stream>,
    calls: BTreeMap<String, tokio::task::JoinHandle<Reply>>,
}

/// Plays `tests/golden/<name>.jsonl` and compares every step.
fn replay(name: &str) {
    let path = format!("{}/tests/golden/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("recording");
    let steps: Vec<Map<String, Value>> = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| serde_json::from_str(line).expect("step"))
        .collect();
    let flags = steps
        .iter()
        .find_map(|step| step.get("flags")?.as_str())
        .unwrap_or_default();
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let member = Member::start(&flags);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let wrong = runtime.block_on(async {
        let mut runner = Runner {
            client: rpc::connect(&member.endpoint).await,
            variables: BTreeMap::new(),
            streams: BTreeMap::new(),
            calls: BTreeMap::new(),
        };
        let mut wrong = Vec::new();
        let mut compared = 0;
        for (number, step) in steps.iter().enumerate() {
            if ["rpc", "stream", "wait", "sleep_ms"]
                .iter()
                .all(|key| !step.contains_key(*key))
            {
                continue;
            }
            let outcome = runner.step(step).await;
            compared += 1;
            let (want, got) = (recorded(step), observed(&outcome));
            if want != got {
                wrong.push(format!(
                    "step {}: {}\n  want {want}\n  got  {got}",
                    number + 1,
                    call(step)
                ));
            }
        }
        assert!(compared > 0, "{name} has no steps");
        wrong
    });
    assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
}

fn call(step: &Map<String, Value>) -> Value {
    let keys = ["rpc", "stream", "request"];
    json!(keys.map(|key| step.get(key).cloned().unwrap_or(Value::Null)))
}

fn recorded(step: &Map<String, Value>) -> Value {
    json!({
        "response": step.get("response"),
        "responses": step.get("responses").cloned().unwrap_or(json!([])),
        "code": step.get("code").cloned().unwrap_or(json!("")),
        "message": step.get("message").cloned().unwrap_or(json!("")),
    })
}

fn observed(outcome: &Outcome) -> Value {
    json!({
        "response": outcome.response,
        "responses": outcome.responses,
        "code": outcome.code,
        "message": outcome.message,
    })
}

fn number(step: &Map<String, Value>, key: &str) -> Option<u64> {
    step.get(key)?.as_u64()
}

fn text<'a>(step: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    step.get(key)?.as_str()
}

impl Runner {
    async fn step(&mut self, step: &Map<String, Value>) -> Outcome {
        let mut outcome = Outcome::default();
        if let Some(milliseconds) = number(step, "sleep_ms") {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        } else if let Some(name) = text(step, "wait") {
            let call = self.calls.remove(name).expect("a call was started");
            self.finish(step, call.await.expect("call"), &mut outcome);
        } else if text(step, "stream").is_some() {
            self.stream_step(step, &mut outcome).await;
        } else {
            self.call_step(step, &mut outcome).await;
        }
        outcome
    }

    async fn call_step(&mut self, step: &Map<String, Value>, outcome: &mut Outcome) {
        let method = rpc::method(text(step, "rpc").expect("rpc"));
        let mut request = Request::new(self.request(step, method.input()));
        self.add_metadata(step, &mut request);
        let limit = number(step, "timeout_ms").map_or(CALL_MAX, Duration::from_millis);
        request.set_timeout(limit);
        let mut client = self.client.clone();
        let codec = DynamicCodec(method.clone());
        if method.is_server_streaming() {
            client.ready().await.expect("connection");
            match client
                .server_streaming(request, rpc::path(&method), codec)
                .await
            {
                Err(status) => self.fail(step, &status, outcome),
                Ok(replies) => {
                    let mut replies = replies.into_inner();
                    while let Some(reply) = replies.next().await {
                        match reply {
                            Ok(message) => {
                                let reply = self.normal(step, &message);
                                outcome.responses.push(reply);
                            }
                            Err(status) => return self.fail(step, &status, outcome),
                        }
                    }
                }
            }
            return;
        }
        let call = async move {
            client.ready().await.expect("connection");
            let reply = client.unary(request, rpc::path(&method), codec).await;
            reply.map(tonic::Response::into_inner)
        };
        match text(step, "async") {
            Some(name) => {
                self.calls.insert(name.to_owned(), tokio::spawn(call));
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            None => {
                let reply = call.await;
                self.finish(step, reply, outcome);
            }
        }
    }

    async fn stream_step(&mut self, step: &Map<String, Value>, outcome: &mut Outcome) {
        let name = text(step, "stream").expect("stream").to_owned();
        if let Some(rpc) = text(step, "rpc") {
            let stream = self.open(step, rpc);
            self.streams.insert(name.clone(), stream);
        }
        if step.contains_key("request") {
            let method = self.streams[&name].method.clone();
            let request = self.request(step, method.input());
            if let Some(requests) = &self.streams[&name].requests {
                let _ = requests.send(request).await;
            }
        }
        match text(step, "close") {
            Some("send") => self.streams.get_mut(&name).expect("open").requests = None,
            Some("cancel") => {
                let stream = self.streams.get_mut(&name).expect("open");
                stream.reader.abort();
                stream.requests = None;
            }
            _ => {}
        }
        let limit = number(step, "timeout_ms").map_or(RECEIVE_MAX, Duration::from_millis);
        for _ in 0..number(step, "recv").unwrap_or(0) {
            if !self.receive(step, &name, limit, outcome).await {
                if outcome.code.is_empty() {
                    outcome.message = format!("(no more messages within {} ms)", limit.as_millis());
                }
                return;
            }
        }
        if let Some(quiet) = number(step, "quiet_ms") {
            self.receive(step, &name, Duration::from_millis(quiet), outcome)
                .await;
        }
        if step.get("end").and_then(Value::as_bool) == Some(true)
            && !self.receive(step, &name, limit, outcome).await
            && outcome.code.is_empty()
        {
            outcome.message = format!("(stream still open after {} ms)", limit.as_millis());
        }
    }

    /// Takes one message of a stream. False when none came, or the stream ended.
    async fn receive(
        &mut self,
        step: &Map<String, Value>,
        name: &str,
        limit: Duration,
        outcome: &mut Outcome,
    ) -> bool {
        let stream = self.streams.get_mut(name).expect("stream is open");
        match tokio::time::timeout(limit, stream.replies.recv()).await {
            Ok(Some(Received::Message(message))) => {
                let reply = self.normal(step, &message);
                outcome.responses.push(reply);
                true
            }
            Ok(Some(Received::End(None))) => {
                outcome.code = "OK".to_owned();
                false
            }
            Ok(Some(Received::End(Some(status)))) => {
                self.fail(step, &status, outcome);
                false
            }
            Ok(None) | Err(_) => false,
        }
    }

    fn open(&self, step: &Map<String, Value>, rpc: &str) -> Stream {
        let method = rpc::method(rpc);
        let (requests, outgoing) = mpsc::channel(4096);
        let (sender, replies) = mpsc::channel(4096);
        let mut request = Request::new(ReceiverStream::new(outgoing));
        self.add_metadata(step, &mut request);
        let mut client = self.client.clone();
        let (path, codec) = (rpc::path(&method), DynamicCodec(method.clone()));
        let reader = tokio::spawn(async move {
            client.ready().await.expect("connection");
            let end = match client.streaming(request, path, codec).await {
                Err(status) => Some(status),
                Ok(reply) => {
                    let mut reply = reply.into_inner();
                    loop {
                        match reply.next().await {
                            Some(Ok(message)) => {
                                let _ = sender.send(Received::Message(message)).await;
                            }
                            Some(Err(status)) => break Some(status),
                            None => break None,
                        }
                    }
                }
            };
            let _ = sender.send(Received::End(end)).await;
        });
        Stream {
            method,
            requests: Some(requests),
            replies,
            reader,
        }
    }

    fn add_metadata<T>(&self, step: &Map<String, Value>, request: &mut Request<T>) {
        for (key, value) in step
            .get("metadata")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let key: tonic::metadata::AsciiMetadataKey = key.parse().expect("metadata key");
            let value = self.substitute(value.as_str().expect("metadata value"));
            request
                .metadata_mut()
                .insert(key, value.parse().expect("metadata value"));
        }
    }

    fn finish(&mut self, step: &Map<String, Value>, reply: Reply, outcome: &mut Outcome) {
        match reply {
            Ok(message) => outcome.response = Some(self.normal(step, &message)),
            Err(status) => self.fail(step, &status, outcome),
        }
    }

    fn fail(&self, step: &Map<String, Value>, status: &Status, outcome: &mut Outcome) {
        outcome.code = etcd::client::code_name(status.code()).to_owned();
        outcome.message = status.message().to_owned();
        if step.contains_key("timeout_ms")
            && (outcome.code == "DeadlineExceeded" || status.message() == "Timeout expired")
        {
            // The client's own deadline; its text depends on who noticed first.
            outcome.code = "DeadlineExceeded".to_owned();
            outcome.message.clear();
        }
    }

    /// A reply as the recording has it: volatile fields out, known values by their names.
    fn normal(&mut self, step: &Map<String, Value>, message: &DynamicMessage) -> Value {
        let mut value = rpc::to_json(message);
        for (name, field) in step
            .get("save")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let pointer = format!("/{}", field.as_str().expect("path").replace('.', "/"));
            if let Some(found) = value.pointer(&pointer) {
                let found = found
                    .as_str()
                    .map_or_else(|| found.to_string(), str::to_owned);
                self.variables.insert(name.clone(), found);
            }
        }
        let mut dropped: Vec<&str> = NOT_COMPARED.to_vec();
        let volatile = step.get("volatile").and_then(Value::as_array);
        dropped.extend(volatile.into_iter().flatten().filter_map(Value::as_str));
        self.clean(&mut value, &dropped);
        value
    }

    fn clean(&self, value: &mut Value, dropped: &[&str]) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, _| !dropped.contains(&name.as_str()));
                fields
                    .values_mut()
                    .for_each(|field| self.clean(field, dropped));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.clean(item, dropped)),
            Value::String(text) => {
                if let Some((name, _)) = self.variables.iter().find(|(_, known)| *known == text) {
                    *text = name.clone();
                }
            }
            _ => {}
        }
    }

    fn substitute(&self, text: &str) -> String {
        let mut names: Vec<_> = self.variables.iter().collect();
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        names.iter().fold(text.to_owned(), |text, (name, value)| {
            text.replace(*name, value)
        })
    }

    fn request(&self, step: &Map<String, Value>, descriptor: MessageDescriptor) -> DynamicMessage {
        let mut json = step.get("request").cloned().unwrap_or(json!({}));
        if text(step, "rpc") == Some("KV/Compact") {
            // The steps behind it saw its history gone; the answer is the same, only later.
            json["physical"] = json!(true);
        }
        self.expand(&mut json, &descriptor);
        rpc::build(descriptor, &json)
    }

    /// Writes out the short forms of a recorded request.
    fn expand(&self, value: &mut Value, descriptor: &MessageDescriptor) {
        let Value::Object(fields) = value else { return };
        for (name, value) in fields {
            let by_name = descriptor.get_field_by_name(name);
            let Some(field) = by_name.or_else(|| descriptor.get_field_by_json_name(name)) else {
                continue;
            };
            if let Value::Array(items) = value {
                *items = items.iter().flat_map(repeat).collect();
                items
                    .iter_mut()
                    .for_each(|item| self.expand_field(item, &field.kind()));
            } else {
                self.expand_field(value, &field.kind());
            }
        }
    }

    fn expand_field(&self, value: &mut Value, kind: &Kind) {
        if let Kind::Message(descriptor) = kind {
            return self.expand(value, descriptor);
        }
        let Value::String(text) = value else { return };
        let long = lengthen(&self.substitute(text));
        *text = match (kind, long.strip_prefix('~')) {
            (Kind::Bytes, Some(plain)) => {
                STANDARD.encode(plain.chars().map(|c| c as u8).collect::<Vec<_>>())
            }
            _ => long,
        };
    }
}

/// `{"$n": 3, "$each": …}` stands for three items, `$i` in them for their number.
fn repeat(item: &Value) -> Vec<Value> {
    let Some(count) = item.get("$n") else {
        return vec![item.clone()];
    };
    let count = count
        .as_u64()
        .or_else(|| count.as_str()?.parse().ok())
        .expect("count");
    let each = item["$each"].to_string();
    let numbered = (0..count).map(|i| each.replace("$i", &i.to_string()));
    numbered
        .map(|text| serde_json::from_str(&text).expect("item"))
        .collect()
}

/// `x*1000` at the end stands for a thousand times `x`.
fn lengthen(text: &str) -> String {
    let long = || {
        let (head, count) = text.rsplit_once('*')?;
        let count: usize = count.parse().ok()?;
        let last = head.chars().next_back()?;
        let start = &head[..head.len() - last.len_utf8()];
        (count >= 10).then(|| format!("{start}{}", last.to_string().repeat(count)))
    };
    long().unwrap_or_else(|| text.to_owned())
}

macro_rules! scenarios {
    ($($test:ident: $file:literal,)+) => {
        $(#[test]
        fn $test() {
            replay($file);
        })+

        #[test]
        fn every_recording_is_replayed() {
            let named = [$($file),+];
            for directory in ["requests", "errors"] {
                let path = format!("{}/tests/golden/{directory}", env!("CARGO_MANIFEST_DIR"));
                for entry in std::fs::read_dir(path).unwrap() {
                    let name = entry.unwrap().file_name().into_string().unwrap();
                    let name = format!("{directory}/{}", name.trim_end_matches(".jsonl"));
                    assert!(named.contains(&name.as_str()), "{name} has no test");
                }
            }
        }
    };
}

scenarios! {
    kv_basic: "requests/01-kv-basic",
    range_end: "requests/02-range-end",
    range_sort: "requests/03-range-sort",
    range_filters: "requests/04-range-filters",
    range_revision: "requests/05-range-revision",
    keys_only_lease: "requests/06-keys-only-lease",
    put_flags: "requests/07-put-flags",
    delete: "requests/08-delete",
    txn_compare: "requests/10-txn-compare",
    txn_compare_range: "requests/11-txn-compare-range",
    txn_ops: "requests/12-txn-ops",
    txn_nested: "requests/13-txn-nested",
    compact: "requests/15-compact",
    hash_kv: "requests/16-hashkv",
    watch_basic: "requests/20-watch-basic",
    watch_ids: "requests/21-watch-ids",
    watch_start: "requests/22-watch-start",
    watch_ranges: "requests/23-watch-ranges",
    watch_filters_prev_kv: "requests/24-watch-filters-prevkv",
    watch_txn: "requests/25-watch-txn",
    watch_progress: "requests/26-watch-progress",
    watch_progress_notify: "requests/27-watch-progress-notify",
    watch_fragment: "requests/28-watch-fragment",
    lease_basic: "requests/30-lease-basic",
    lease_keys: "requests/31-lease-keys",
    lease_keepalive: "requests/32-lease-keepalive",
    lease_expiry: "requests/33-lease-expiry",
    lease_expired: "requests/34-lease-expired",
    range_stream: "requests/40-rangestream",
    maintenance: "requests/41-maintenance",
    quota: "requests/42-quota",
    kv_errors: "errors/01-kv",
    lease_errors: "errors/02-lease",
    maintenance_errors: "errors/03-maintenance",
    order_of_checks: "errors/04-order",
}
