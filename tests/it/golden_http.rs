//! HTTP/1.1 requests recorded from etcd 3.7.1 (`tests/golden/http.jsonl`), replayed against one member, raw: what
//! is compared are the bytes of status line, headers and body, but for `Date` and `Connection`.
//!
//! A line is a request with its answer, or a gRPC call that changes what later answers say. Ids and addresses stand
//! in the recording by name; a header `Content-Length` is only recorded where the body's length does not vary.

use prost_reflect::DynamicMessage;
use serde::Deserialize;
use serde_json::Value;
use tonic::Request;

use crate::http;
use crate::member::{Member, free_port};
use crate::rpc::{self, DynamicCodec};

/// A client listener allows every origin with these.
const CORS: [&str; 3] = [
    "Access-Control-Allow-Headers: accept, content-type, authorization",
    "Access-Control-Allow-Methods: POST, GET, OPTIONS, PUT, DELETE",
    "Access-Control-Allow-Origin: *",
];

#[derive(Deserialize)]
#[serde(untagged)]
enum Step {
    Call { rpc: String, request: Value },
    Http(Exchange),
}

#[derive(Deserialize)]
struct Exchange {
    /// `client`, `peer` or `metrics`.
    target: String,
    /// The request line.
    request: String,
    host: Option<String>,
    #[serde(default)]
    headers: Vec<String>,
    /// The request's body.
    send: Option<String>,
    status: String,
    reply_headers: Vec<String>,
    body: Option<String>,
    /// How a body begins that varies behind that.
    body_start: Option<String>,
}

/// Addresses and ids with the names they have in the recording.
struct Names(Vec<(String, String)>);

impl Names {
    fn put(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, value)| {
            text.replace(value.as_str(), name)
        })
    }

    fn value(&self, name: &str) -> &str {
        let found = self
            .0
            .iter()
            .find(|(known, _)| known.trim_matches(['<', '>']) == name);
        &found.expect("known name").1
    }
}

#[test]
fn every_recorded_answer() {
    let metrics = free_port();
    let flag = format!("--listen-metrics-urls=http://127.0.0.1:{metrics}");
    let member = Member::start(&[&flag]);
    let mut names = Names(vec![
        ("<client>".to_owned(), member.endpoint.clone()),
        ("<peer>".to_owned(), member.peer_endpoint.clone()),
        ("<metrics>".to_owned(), format!("127.0.0.1:{metrics}")),
    ]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let header = runtime.block_on(call(&member.endpoint, "Maintenance/Status", &Value::Null));
    for (name, field) in [("member id", "member_id"), ("cluster id", "cluster_id")] {
        let id: u64 = header["header"][field]
            .as_str()
            .expect("id")
            .parse()
            .expect("number");
        names.0.push((format!("<{name}>"), id.to_string()));
        names.0.push((format!("<{name} hex>"), format!("{id:x}")));
    }

    let recording = include_str!("../golden/http.jsonl");
    let mut wrong = Vec::new();
    for (number, line) in recording.lines().enumerate() {
        match serde_json::from_str(line).expect("step") {
            Step::Call { rpc, request } => {
                runtime.block_on(call(&member.endpoint, &rpc, &request));
            }
            Step::Http(exchange) => {
                if let Err(difference) = exchange.replay(&names) {
                    wrong.push(format!(
                        "line {}: {}\n{difference}",
                        number + 1,
                        exchange.request
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn call(endpoint: &str, name: &str, request: &Value) -> Value {
    let method = rpc::method(name);
    let message = match request {
        Value::Null => DynamicMessage::new(method.input()),
        request => rpc::build(method.input(), request),
    };
    let mut client = rpc::connect(endpoint).await;
    client.ready().await.expect("connection");
    let codec = DynamicCodec(method.clone());
    let reply = client
        .unary(Request::new(message), rpc::path(&method), codec)
        .await;
    rpc::to_json(&reply.expect(name).into_inner())
}

impl Exchange {
    fn replay(&self, names: &Names) -> Result<(), String> {
        let (head, body) = http::exchange(names.value(&self.target), &self.request(names));
        let mut lines = head.iter().map(String::as_str);
        let status = lines.next().unwrap_or_default();
        let headers: Vec<&str> = lines.collect();
        let body = names.put(&body);
        let headers = self.comparable(&headers, names);
        let body_agrees = match (&self.body, &self.body_start) {
            (Some(want), _) => body == *want,
            (None, Some(start)) => body.starts_with(start.as_str()),
            (None, None) => true,
        };
        if status == self.status && headers == self.reply_headers && body_agrees {
            return Ok(());
        }
        Err(format!(
            "  want {} {:?}\n       {:?}\n  got  {status} {headers:?}\n       {body:?}",
            self.status,
            self.reply_headers,
            self.body.as_ref().or(self.body_start.as_ref()),
        ))
    }

    fn request(&self, names: &Names) -> String {
        let host = self.host.as_deref().unwrap_or(names.value(&self.target));
        let mut text = format!("{}\r\nHost: {host}\r\n", self.request);
        for header in &self.headers {
            text.push_str(&format!("{header}\r\n"));
        }
        let body = self.send.as_deref();
        if let Some(body) = body {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text + "Connection: close\r\n\r\n" + body.unwrap_or_default()
    }

    /// Headers in the recording's form.
    fn comparable(&self, headers: &[&str], names: &Names) -> Vec<String> {
        let varies = |header: &str| {
            let name = header.split(':').next().unwrap_or_default();
            let counts = self
                .reply_headers
                .iter()
                .any(|want| want.starts_with("Content-Length"));
            matches!(name, "Date" | "Connection") || name == "Content-Length" && !counts
        };
        let mut kept: Vec<String> = headers
            .iter()
            .filter(|header| !varies(header))
            .map(|header| names.put(header))
            .collect();
        kept.sort();
        if CORS
            .iter()
            .all(|header| kept.iter().any(|kept| kept == header))
        {
            kept.retain(|header| !CORS.contains(&header.as_str()));
            kept.push("(cors)".to_owned());
        }
        kept
    }
}
