//! What was acknowledged survives kill -9; a stop is orderly; a data directory has one process.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use etcd::pb::etcdserverpb as pb;
use pb::kv_client::KvClient;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use crate::member::{Member, free_port};

/// Processes killed in the middle of writing.
const KILLS: usize = 6;
/// Concurrent clients, each with its own keys.
const WRITERS: usize = 16;
/// How long they write before the kill.
const WRITING: Duration = Duration::from_millis(300);

async fn connect(endpoint: &str) -> KvClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{endpoint}")).expect("endpoint");
    KvClient::new(endpoint.connect().await.expect("connect"))
}

/// Puts ever larger numbers until the server is gone. Returns the last acknowledged number and revision.
async fn write_until_gone(mut client: KvClient<Channel>, key: Bytes, from: u64) -> (u64, i64) {
    let (mut acknowledged, mut revision) = (from, 0);
    loop {
        let put = pb::PutRequest {
            key: key.clone(),
            value: Bytes::from((acknowledged + 1).to_string()),
            ..pb::PutRequest::default()
        };
        match client.put(put).await {
            Ok(reply) => {
                let next = reply.into_inner().header.expect("header").revision;
                assert!(next > revision, "a revision was given out twice");
                (acknowledged, revision) = (acknowledged + 1, next);
            }
            Err(_) => return (acknowledged, revision),
        }
    }
}

async fn stored(client: &mut KvClient<Channel>, key: &Bytes) -> (u64, i64) {
    let request = pb::RangeRequest {
        key: key.clone(),
        ..pb::RangeRequest::default()
    };
    let reply = client.range(request).await.expect("range").into_inner();
    let pair = reply.kvs.first().expect("the key is there").fields();
    let value = String::from_utf8(pair.value.to_vec()).expect("a number");
    (value.parse().expect("a number"), pair.mod_revision)
}

#[test]
fn nothing_acknowledged_is_lost_to_kills() {
    let mut member = Member::start(&["--snapshot-count=50"]);
    let mut written: BTreeMap<Bytes, u64> = BTreeMap::new();
    let mut total = 0;
    for round in 0..KILLS {
        // A runtime a round: connections to a dead process go with it.
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        let ended = runtime.block_on(async {
            let mut writers = JoinSet::new();
            for number in 0..WRITERS {
                let key = Bytes::from(format!("writer/{number}"));
                let from = written.get(&key).copied().unwrap_or(0);
                let client = connect(&member.endpoint).await;
                writers
                    .spawn(async move { (key.clone(), write_until_gone(client, key, from).await) });
            }
            tokio::time::sleep(WRITING).await;
            member.kill();
            writers.join_all().await
        });
        member.restart();
        runtime.block_on(async {
            let mut client = connect(&member.endpoint).await;
            for (key, (acknowledged, revision)) in ended {
                let (value, mod_revision) = stored(&mut client, &key).await;
                // One more may have been applied without its answer getting out.
                assert!(
                    (acknowledged..=acknowledged + 1).contains(&value),
                    "round {round}: {key:?} has {value}, acknowledged was {acknowledged}"
                );
                if value == acknowledged && revision > 0 {
                    assert_eq!(mod_revision, revision, "round {round}: {key:?}");
                }
                total += value - written.get(&key).copied().unwrap_or(0);
                written.insert(key, value);
            }
        });
    }
    assert!(
        total > (KILLS * WRITERS) as u64,
        "only {total} writes: nothing was tested"
    );
}

#[test]
fn a_stop_is_orderly_and_what_was_written_is_there_after() {
    let mut member = Member::start(&[]);
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let key = Bytes::from_static(b"k");
    let put = pb::PutRequest {
        key: key.clone(),
        value: Bytes::from_static(b"7"),
        ..pb::PutRequest::default()
    };
    runtime.block_on(async {
        connect(&member.endpoint).await.put(put).await.expect("put");
    });
    let status = member.terminate();
    assert_eq!(status.code(), Some(0), "{}", member.log());
    member.restart();
    let found = runtime.block_on(async {
        let mut client = connect(&member.endpoint).await;
        stored(&mut client, &key).await
    });
    assert_eq!(found, (7, 2));
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    let member = Member::start(&[]);
    let (client, peer) = (free_port(), free_port());
    let output = Command::new(env!("CARGO_BIN_EXE_etcd"))
        .arg("--name=default")
        .arg(format!("--data-dir={}", member.data_dir().display()))
        .arg(format!("--listen-client-urls=http://127.0.0.1:{client}"))
        .arg(format!("--advertise-client-urls=http://127.0.0.1:{client}"))
        .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer}"))
        .arg(format!(
            "--initial-advertise-peer-urls=http://127.0.0.1:{peer}"
        ))
        .arg(format!("--initial-cluster=default=http://127.0.0.1:{peer}"))
        .stdin(Stdio::null())
        .output()
        .expect("etcd starts");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("in use by another etcd"), "{log}");
}
