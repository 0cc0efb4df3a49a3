//! `/metrics` of a member that did one of everything, against what etcd 3.7.1 shows after the same.
//!
//! `tests/golden/metrics.txt` holds the values; the families' types, labels and bounds are those of
//! `src/metrics/testdata/families.txt`. With `ETCD=path` the same test runs an etcd: that is how the values were
//! recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BufMut, Bytes};
use serde_json::{Value, json};
use tokio_stream::StreamExt;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};

use crate::http;
use crate::member::Member;
use crate::rpc::{self, DynamicCodec};

const FAMILIES: &str = include_str!("../../src/metrics/testdata/families.txt");
const VALUES: &str = include_str!("../golden/metrics.txt");

/// Families that only a member with peers shows, and those of calls this scenario does not make.
const ABSENT: [&str; 10] = [
    "etcd_debugging_server_alarms",
    "etcd_server_healthcheck",
    "etcd_server_healthchecks_total",
    "etcd_network_active_peers",
    "etcd_network_peer_received_bytes_total",
    "etcd_network_peer_round_trip_time_seconds",
    "etcd_network_peer_sent_bytes_total",
    "etcd_network_peer_sent_failures_total",
    "etcd_server_learner_promote_failures",
    "grpc_server_handling_seconds",
];

/// Families of this implementation that a member without TLS shows.
const OURS: [&str; 6] = [
    "etcd_disk_db_physical_size_bytes",
    "etcd_disk_wal_lag_bytes",
    "etcd_disk_wal_lag_entries",
    "etcd_log_dropped_lines_total",
    "etcd_server_build_info",
    "etcd_watch_lag_revisions",
];

/// What is waited for may take this long on a busy machine.
const WAIT_MAX: Duration = Duration::from_secs(30);

fn start(flags: &[&str]) -> (Member, bool) {
    match std::env::var_os("ETCD").map(PathBuf::from) {
        Some(etcd) => (Member::start_binary(&etcd, flags), false),
        None => (Member::start(flags), true),
    }
}

/// A page as families, described as in the list, and as values by series.
struct Page {
    families: BTreeMap<String, String>,
    values: BTreeMap<String, f64>,
}

impl Page {
    fn of(member: &Member) -> Self {
        Self::parse(&http::get(&member.endpoint, "/metrics"))
    }

    fn parse(text: &str) -> Self {
        let mut families = BTreeMap::new();
        let mut values = BTreeMap::new();
        let mut current: Option<(String, String)> = None;
        let (mut labels, mut bounds) = (BTreeSet::new(), Vec::new());
        let mut finish = |current: Option<(String, String)>,
                          labels: &mut BTreeSet<String>,
                          bounds: &mut Vec<String>| {
            if let Some((name, kind)) = current {
                let names: Vec<_> = std::mem::take(labels).into_iter().collect();
                let mut line = format!("{name} {kind} {{{}}}", names.join(","));
                if !bounds.is_empty() {
                    line += &format!(" [{}]", std::mem::take(bounds).join(" "));
                }
                families.insert(name, line);
            }
        };
        for line in text.lines() {
            if let Some(typed) = line.strip_prefix("# TYPE ") {
                finish(current.take(), &mut labels, &mut bounds);
                let (name, kind) = typed.split_once(' ').expect("type");
                current = Some((name.to_owned(), kind.to_owned()));
            }
            if line.starts_with('#') {
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect("value");
            values.insert(series.to_owned(), value.parse().expect("number"));
            let inside = series.split_once('{').map_or("", |(_, rest)| rest);
            for pair in inside.trim_end_matches('}').split("\",") {
                match pair.split_once("=\"") {
                    Some(("le" | "quantile", bound)) => {
                        let bound = bound.trim_end_matches('"').to_owned();
                        if !bounds.contains(&bound) {
                            bounds.push(bound);
                        }
                    }
                    Some((name, _)) => {
                        labels.insert(name.to_owned());
                    }
                    None => {}
                }
            }
        }
        finish(current, &mut labels, &mut bounds);
        Self { families, values }
    }

    fn value(&self, series: &str) -> f64 {
        let value = self.values.get(series);
        *value.unwrap_or_else(|| panic!("no series {series}"))
    }
}

/// The list's lines by family, and whether a fresh member shows them.
fn recorded() -> BTreeMap<&'static str, (&'static str, bool)> {
    let lines = FAMILIES.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (family, note) = line.split_once("  #").unwrap_or((line, ""));
            let name = family.split(' ').next().expect("name");
            (name, (family.trim_end(), note.is_empty()))
        })
        .collect()
}

fn bytes(text: &str) -> String {
    STANDARD.encode(text)
}

struct Client(tonic::client::Grpc<tonic::transport::Channel>);

impl Client {
    async fn try_call(&self, name: &str, request: Value) -> Result<Vec<Value>, Status> {
        let method = rpc::method(name);
        let message = rpc::build(method.input(), &request);
        self.call_with(name, DynamicCodec(method), vec![message])
            .await
            .map(|replies| replies.iter().map(rpc::to_json).collect())
    }

    async fn call(&self, name: &str, request: Value) -> Value {
        let reply = self.try_call(name, request.clone()).await;
        let reply = reply.unwrap_or_else(|status| panic!("{name} {request}: {status}"));
        reply.into_iter().next().unwrap_or_default()
    }

    async fn refused(&self, name: &str, request: Value) {
        let reply = self.try_call(name, request.clone()).await;
        assert!(reply.is_err(), "{name} {request} was not refused");
    }

    /// Sends messages and takes all replies until the call ends.
    async fn call_with<C>(
        &self,
        name: &str,
        codec: C,
        messages: Vec<C::Encode>,
    ) -> Result<Vec<C::Decode>, Status>
    where
        C: Codec + Send + 'static,
        C::Encode: Send + Sync + 'static,
        C::Decode: Send + Sync + 'static,
    {
        let path = rpc::path(&rpc::method(name));
        let mut request = Request::new(tokio_stream::iter(messages));
        let version = "3.7".parse().expect("metadata");
        request.metadata_mut().insert("client-api-version", version);
        let mut grpc = self.0.clone();
        grpc.ready().await.expect("connection");
        let mut replies = grpc.streaming(request, path, codec).await?.into_inner();
        let mut all = Vec::new();
        while let Some(reply) = replies.next().await {
            all.push(reply?);
        }
        Ok(all)
    }

    /// Opens a watch, makes `change` once it exists, and ends it when an event has come.
    async fn watch(&self, key: &str, change: impl AsyncFnOnce()) {
        let method = rpc::method("Watch/Watch");
        let create = rpc::build(
            method.input(),
            &json!({"create_request": {"key": bytes(key)}}),
        );
        let (requests, outgoing) = tokio::sync::mpsc::channel(4);
        let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(outgoing));
        let version = "3.7".parse().expect("metadata");
        request.metadata_mut().insert("client-api-version", version);
        let mut grpc = self.0.clone();
        grpc.ready().await.expect("connection");
        requests.send(create).await.expect("open");
        let codec = DynamicCodec(method.clone());
        let replies = grpc.streaming(request, rpc::path(&method), codec).await;
        let mut replies = replies.expect("watch").into_inner();
        let created = replies.next().await.expect("created").expect("created");
        assert_eq!(rpc::to_json(&created)["created"], json!(true));
        change().await;
        let event = replies.next().await.expect("event").expect("event");
        assert!(rpc::to_json(&event)["events"].is_array());
    }
}

/// Messages that cannot be read.
async fn garbage(client: &Client) {
    for name in ["Watch/Watch", "Lease/LeaseKeepAlive"] {
        let message = Bytes::from_static(b"\xff\xff\xff");
        let ended = client.call_with(name, Raw, vec![message]).await;
        assert_eq!(ended.map_err(|status| status.code()), Err(Code::Internal));
    }
}

/// Bytes as they are.
struct Raw;
struct RawPart;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = RawPart;
    type Decoder = RawPart;

    fn encoder(&mut self) -> RawPart {
        RawPart
    }

    fn decoder(&mut self) -> RawPart {
        RawPart
    }
}

impl Encoder for RawPart {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for RawPart {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

fn compare(key: &str) -> Value {
    json!({"result": "GREATER", "target": "MOD", "key": bytes(key), "mod_revision": 0})
}

/// One of everything, and of most a failure, too.
async fn one_of_everything(client: &Client) {
    let put = |key: &str, value: &str| json!({"key": bytes(key), "value": bytes(value)});
    for (key, value) in [("a", "1"), ("b", "22"), ("c", "333")] {
        client.call("KV/Put", put(key, value)).await;
    }
    let mut again = put("a", "4");
    again["prev_kv"] = json!(true);
    client.call("KV/Put", again).await;
    client.call("KV/Range", json!({"key": bytes("a")})).await;
    let all = json!({"key": bytes("\0"), "range_end": bytes("\0"), "serializable": true});
    client.call("KV/Range", all.clone()).await;
    client.call("KV/RangeStream", all).await;
    let write = json!({
        "compare": [compare("a")],
        "success": [
            {"request_put": put("t", "5")},
            {"request_range": {"key": bytes("a")}},
            {"request_delete_range": {"key": bytes("b")}},
        ],
    });
    client.call("KV/Txn", write).await;
    let read = json!({
        "compare": [compare("a"), compare("c")],
        "success": [{"request_range": {"key": bytes("a")}}],
    });
    client.call("KV/Txn", read).await;
    let delete = json!({"key": bytes("c"), "prev_kv": true});
    client.call("KV/DeleteRange", delete).await;

    for id in [5, 6] {
        let grant = json!({"ID": id, "TTL": 600});
        client.call("Lease/LeaseGrant", grant).await;
    }
    client
        .refused("Lease/LeaseGrant", json!({"ID": 5, "TTL": 600}))
        .await;
    let mut leased = put("l", "1");
    leased["lease"] = json!(5);
    client.call("KV/Put", leased).await;
    client.call("Lease/LeaseKeepAlive", json!({"ID": 5})).await;
    client.call("Lease/LeaseKeepAlive", json!({"ID": 9})).await;
    client
        .call("Lease/LeaseTimeToLive", json!({"ID": 5, "keys": true}))
        .await;
    client.call("Lease/LeaseRevoke", json!({"ID": 5})).await;
    client.refused("Lease/LeaseRevoke", json!({"ID": 9})).await;

    let change = async || {
        client.call("KV/Put", put("w", "1")).await;
    };
    client.watch("w", change).await;
    let mut unknown_lease = put("a", "1");
    unknown_lease["lease"] = json!(77);
    client.refused("KV/Put", unknown_lease).await;
    client
        .refused("KV/Range", json!({"key": bytes("a"), "revision": 999}))
        .await;
    let compact = json!({"revision": 5, "physical": true});
    client.call("KV/Compact", compact.clone()).await;
    client.refused("KV/Compact", compact).await;

    client.call("Maintenance/Status", json!({})).await;
    client.call("Maintenance/Hash", json!({})).await;
    client.call("Maintenance/HashKV", json!({})).await;
    client.call("Maintenance/Defragment", json!({})).await;
    client.call("Maintenance/Snapshot", json!({})).await;
    client.call("Maintenance/Alarm", json!({})).await;
    client.call("Health/Check", json!({})).await;
}

fn run<R>(member: &Member, scenario: impl AsyncFnOnce(&Client) -> R) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let client = Client(rpc::connect(&member.endpoint).await);
        scenario(&client).await
    })
}

#[test]
fn one_of_everything_is_counted_as_etcd_counts_it() {
    let (member, ours) = start(&["--metrics=extensive"]);
    let before = Page::of(&member);
    run(&member, one_of_everything);
    // Streams are taken apart, and counted, a moment after their clients know.
    let deadline = Instant::now() + WAIT_MAX;
    let page = loop {
        let page = Page::of(&member);
        let series = "etcd_debugging_mvcc_watcher_total";
        if page.value(series) == 0.0 || Instant::now() > deadline {
            break page;
        }
    };

    for message in ["defragmenting", "finished defragmenting directory"] {
        assert_eq!(lines(&member, message).len(), 1, "{message}");
    }
    let mut wrong = Vec::new();
    for (name, (family, _)) in recorded() {
        let extensive = name == "grpc_server_handling_seconds";
        if ABSENT.contains(&name) && !extensive {
            assert!(!page.families.contains_key(name), "unexpected {name}");
        } else if page.families.get(name).map(String::as_str) != Some(family) {
            wrong.push(format!("{family}\n   is {:?}", page.families.get(name)));
        }
    }
    for line in VALUES.lines().filter(|line| !line.starts_with('#')) {
        let (series, wanted) = line.rsplit_once(' ').expect("value");
        let is = page.values.get(series).copied();
        let was = before.values.get(series).copied().unwrap_or_default();
        let right = match wanted {
            "more" => is.is_some_and(|is| is > was),
            "some" => is.is_some_and(|is| is > 0.0),
            number => is == number.parse().ok(),
        };
        if !right {
            wrong.push(format!("{series} is {is:?}, not {wanted} (it was {was})"));
        }
    }
    if ours {
        for name in OURS {
            assert!(page.families.contains_key(name), "no {name}");
        }
        assert!(page.value("etcd_disk_db_physical_size_bytes") > 0.0);
        assert!(page.value("etcd_disk_wal_lag_bytes") >= 0.0);
        // etcd takes these for calls that their clients ended, and does not count them.
        run(&member, garbage);
        let page = Page::of(&member);
        for api in ["lease-keepalive", "watch"] {
            let name = "etcd_network_server_stream_failures_total";
            let series = format!(r#"{name}{{API="{api}",Type="receive"}}"#);
            assert_eq!(page.value(&series), 1.0);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn health_and_alarms_show_once_there_are_any() {
    let (member, _) = start(&[]);
    http::get(&member.endpoint, "/health");
    http::get(&member.endpoint, "/livez");
    let alarm = |action: &str| json!({"action": action, "memberID": 26, "alarm": "NOSPACE"});
    let series = r#"etcd_debugging_server_alarms{alarm_type="NOSPACE",server_id="1a"}"#;
    for (action, raised) in [("ACTIVATE", 1.0), ("DEACTIVATE", 0.0)] {
        run(&member, async |client: &Client| {
            client.call("Maintenance/Alarm", alarm(action)).await;
        });
        let page = Page::of(&member);
        assert_eq!(page.value(series), raised);
        for (name, (family, _)) in recorded() {
            if name.contains("alarms") || name.contains("health") {
                assert_eq!(page.families.get(name).map(String::as_str), Some(family));
            }
        }
        assert_eq!(page.value("etcd_server_health_success"), 1.0);
        let live = r#"etcd_server_healthcheck{name="serializable_read",type="livez"}"#;
        assert_eq!(page.value(live), 1.0);
    }
}

#[test]
fn a_fresh_member_shows_the_families_of_a_fresh_etcd() {
    let (member, ours) = start(&["--feature-gates=LeaseCheckpoint=true"]);
    let page = Page::of(&member);
    for (name, (family, fresh)) in recorded() {
        let shown = page.families.get(name).map(String::as_str);
        assert_eq!(shown, fresh.then_some(family), "{name}");
    }
    if ours {
        let known = recorded();
        let foreign = page.families.keys();
        let foreign: Vec<_> = foreign
            .filter(|name| !known.contains_key(name.as_str()))
            .collect();
        assert_eq!(foreign, OURS);
    }
    let gate = |name: &str, stage: &str| {
        let series = format!(r#"etcd_server_feature_enabled{{name="{name}",stage="{stage}"}}"#);
        page.value(&series)
    };
    assert_eq!(gate("LeaseCheckpoint", "ALPHA"), 1.0);
    assert_eq!(gate("LeaseCheckpointPersist", "ALPHA"), 0.0);
    assert_eq!(gate("FastLeaseKeepAlive", "BETA"), 1.0);
    assert_eq!(gate("AllAlpha", "ALPHA"), 0.0);
    let gates = page
        .values
        .keys()
        .filter(|series| series.starts_with("etcd_server_feature_enabled"));
    assert_eq!(gates.count(), 11);
}

/// The lines of a log with this message: all their fields but those that vary.
fn lines(member: &Member, message: &str) -> Vec<Value> {
    let log = member.log();
    let all = log.lines().map(|line| {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    });
    all.filter(|line| line["msg"] == message)
        .map(|mut line| {
            let fields = line.as_object_mut().expect("object");
            for name in ["took", "time spent", "start time", "remote"] {
                if let Some(value) = fields.get_mut(name) {
                    assert!(value.as_str().is_some_and(|text| !text.is_empty()));
                    *value = json!("*");
                }
            }
            for name in ["ts", "caller"] {
                assert!(fields.remove(name).is_some());
            }
            if let Some(Value::String(request)) = fields.get_mut("request") {
                let digits = request.find("ID:").map(|at| at + 3);
                if let Some(from) = digits {
                    let length = request[from..].chars().take_while(char::is_ascii_digit);
                    let to = from + length.count();
                    request.replace_range(from..to, "*");
                }
                // Go puts one space or two between fields, by a coin tossed when it is compiled.
                *request = request.replace("  ", " ");
            }
            line
        })
        .collect()
}

#[test]
fn what_takes_long_is_logged_and_counted() {
    let (member, _) = start(&[
        "--warning-apply-duration=1ns",
        "--warning-unary-request-duration=1ns",
    ]);
    let applied = |page: &Page| page.value("etcd_server_slow_apply_total");
    let before = applied(&Page::of(&member));
    run(&member, async |client: &Client| {
        let mut put = json!({"key": bytes("a"), "value": bytes("secret")});
        client.call("KV/Put", put.clone()).await;
        client.call("KV/Range", json!({"key": bytes("a")})).await;
        let read = json!({
            "compare": [{"target": "VALUE", "key": bytes("a"), "value": bytes("secret")}],
            "success": [{"request_range": {"key": bytes("a")}}],
        });
        client.call("KV/Txn", read).await;
        put["lease"] = json!(77);
        client.refused("KV/Put", put).await;
    });
    assert_eq!(applied(&Page::of(&member)) - before, 4.0);
    assert!(!member.log().contains("secret"));

    let took = |prefix: &str, request: &str, response: &str| {
        json!({
            "level": "warn", "msg": "apply request took too long", "took": "*",
            "expected-duration": "1ns", "prefix": prefix, "request": request,
            "response": response,
        })
    };
    let range = r#"key:"a""#;
    let txn = r#"compare:<target:VALUE key:"a" value_size:6 > success:<request_range:{key:"a"}> failure:<>"#;
    let put = r#"put:<key:"a" value_size:6 "#;
    let mut refused = took("", &format!("header:<ID:*> {put}lease:77 >"), "");
    refused["error"] = json!("lease not found");
    let mut failed = refused.clone();
    let fields = failed.as_object_mut().expect("object");
    fields.remove("expected-duration");
    fields.remove("prefix");
    fields.insert("msg".to_owned(), json!("failed to apply request"));
    let slow = lines(&member, "apply request took too long");
    let ours = slow.iter().filter(|line| {
        let request = line["request"].as_str().unwrap_or_default();
        !request.contains("cluster_")
    });
    assert_eq!(
        ours.collect::<Vec<_>>(),
        [
            &took("", &format!("header:<ID:*> {put}>"), "size:4"),
            &took("read-only range ", range, "range_response_count:1 size:25"),
            &took(
                "read-only txn ",
                txn,
                "responses:<range_response_count:1> size:35"
            ),
            &refused,
        ]
    );
    assert_eq!(lines(&member, "failed to apply request"), [failed]);

    let stats = |method: &str, counts: [i64; 4], content: &str| {
        json!({
            "level": "warn", "msg": "request stats", "start time": "*", "time spent": "*",
            "remote": "*", "response type": format!("/etcdserverpb.KV/{method}"),
            "request count": counts[0], "request size": counts[1],
            "response count": counts[2], "response size": counts[3],
            "request content": content,
        })
    };
    let all = lines(&member, "request stats");
    let header_bytes = all[0]["response size"].as_i64().expect("size") - 2;
    assert_eq!(
        all,
        [
            stats(
                "Put",
                [1, 11, 0, header_bytes + 2],
                r#"key:"a" value_size:6 "#
            ),
            stats("Range", [0, 3, 1, header_bytes + 23], range),
            stats("Txn", [1, 5, 0, header_bytes + 33], txn),
            stats("Put", [1, 13, 0, 0], r#"key:"a" value_size:6 lease:77 "#),
        ]
    );
}
