//! A stop is orderly; a data directory has one process.

use std::process::{Command, Stdio};

use bytes::Bytes;
use etcd::pb::etcdserverpb as pb;
use pb::kv_client::KvClient;
use tonic::transport::{Channel, Endpoint};

use crate::member::{Member, free_port};

async fn connect(endpoint: &str) -> KvClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{endpoint}")).expect("endpoint");
    KvClient::new(endpoint.connect().await.expect("connect"))
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
