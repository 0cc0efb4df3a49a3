//! `/debug`: variables of the process, and where profiles are to be had.

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode};
use nix::sys::resource::{Resource, getrlimit};
use serde_json::{Value, json};

use super::member::Member;
use super::reply::{Body, Reply, error, method_not_allowed};

/// Answers `/debug/vars` in the frame of Go's `expvar`.
pub(super) fn vars<B>(member: &impl Member, request: &Request<B>) -> Reply {
    if request.method() != Method::GET {
        return method_not_allowed(Some("GET"));
    }
    let lines = variables(member).map(|(name, value)| format!("{name:?}: {value}"));
    let mut reply = Reply::new(Body::chunked(format!("{{\n{}\n}}\n", lines.join(",\n"))));
    let content_type = HeaderValue::from_static("application/json; charset=utf-8");
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}

/// Variables by name.
fn variables(member: &impl Member) -> [(&'static str, Value); 4] {
    let arguments: Vec<String> = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    [
        ("cmdline", json!(arguments)),
        ("file_descriptor_limit", json!(descriptors)),
        ("memstats", memory()),
        ("raft.status", member.raft_status()),
    ]
}

/// Sizes under the names Go's tools look for, in bytes.
fn memory() -> Value {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Vec<u64> = statm
        .split(' ')
        .filter_map(|text| text.trim().parse().ok())
        .collect();
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten();
    let page = page.map_or(4096, |bytes| bytes as u64);
    let bytes = |at: usize| pages.get(at).map_or(0, |pages| pages * page);
    json!({ "Alloc": bytes(1), "HeapAlloc": bytes(1), "HeapSys": bytes(5), "Sys": bytes(5), "NumGC": 0 })
}

/// Answers everything below `/debug/pprof/`.
pub(super) fn profiles() -> Reply {
    error(
        StatusCode::NOT_IMPLEMENTED,
        "etcd: this server has no built-in profiles. Use perf on its machine: \
         perf record -g -p \"$(pidof etcd)\" -- sleep 30 && perf report",
    )
}
