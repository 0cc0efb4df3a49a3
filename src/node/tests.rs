//! A member of one on a real directory: writes, reads, restarts.

use std::time::Duration;

use bytes::Bytes;

use super::{NodeError, Running, Settings, start};
use crate::machine::{ApplyError, KeySpaceError, Response};
use crate::membership::{Member, member_id};
use crate::pb::etcdserverpb::{
    CompactionRequest, InternalRaftRequest, LeaseGrantRequest, PutRequest, RangeRequest,
};
use crate::types::LeaseId;

pub(super) fn settings(directory: &std::path::Path) -> Settings {
    let peer_urls = vec!["http://localhost:2380".to_owned()];
    Settings {
        member_dir: directory.join("member"),
        wal_dir: directory.join("member/wal"),
        name: "one".to_owned(),
        client_urls: vec!["http://localhost:2379".to_owned()],
        initial_members: vec![Member {
            id: member_id(&peer_urls, "etcd-cluster").0,
            name: "one".to_owned(),
            peer_urls,
            ..Member::default()
        }],
        heartbeat_interval: Duration::from_millis(100),
        election_timeout: Duration::from_secs(1),
        pre_vote: true,
        snapshot_entries: 100,
        catch_up_entries: 50,
        wal_segments_max: 5,
        request_bytes_max: 1 << 20,
        warning_apply_duration: Duration::from_secs(10),
        quota_bytes: None,
        learners_max: 1,
        auto_compaction: None,
        lease_checkpoint_interval: None,
        value_cache_bytes_max: 1 << 20,
        page_cache_bytes_max: 8 << 20,
        bootstrap_defrag_threshold_bytes: 0,
        unsafe_no_fsync: false,
    }
}

/// A stop that takes longer hangs.
const STOP_MAX: Duration = Duration::from_secs(20);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn put(key: &str, value: &str) -> InternalRaftRequest {
    let put = PutRequest {
        key: Bytes::from(key.to_owned()),
        value: Bytes::from(value.to_owned()),
        ..PutRequest::default()
    };
    InternalRaftRequest {
        put: Some(put),
        ..InternalRaftRequest::default()
    }
}

async fn value(running: &Running, key: &str) -> Option<String> {
    running.handle.read_index().await.unwrap();
    let request = RangeRequest {
        key: Bytes::from(key.to_owned()),
        ..RangeRequest::default()
    };
    let reply = running.handle.view().mvcc.range(&request).unwrap();
    let kv = reply.kvs.first()?.fields();
    Some(String::from_utf8(kv.value.to_vec()).unwrap())
}

#[test]
fn what_is_acknowledged_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut revision = 0;
    for round in 0..3 {
        runtime().block_on(async {
            let mut running = start(settings(directory.path())).unwrap();
            running.spawn_tasks();
            running.published().await;
            assert!(running.handle.view().mvcc.revision() >= revision);
            for number in 0..round {
                let found = value(&running, &format!("key {number}")).await;
                assert_eq!(found.as_deref(), Some("value 299"), "round {round}");
            }
            for number in 0..300 {
                let request = put(&format!("key {round}"), &format!("value {number}"));
                let reply = running.handle.propose(request).await.unwrap();
                let Response::Put(reply) = reply else {
                    panic!("{reply:?}")
                };
                let next = reply.header.unwrap().revision;
                assert!(next > revision, "revisions rise");
                revision = next;
            }
            assert_eq!(running.handle.view().membership.members().count(), 1);
            tokio::task::spawn_blocking(move || running.stop())
                .await
                .unwrap();
        });
    }
}

/// The moments of a start, of the first entries and of load.
#[test]
fn a_member_stops_at_any_moment_and_lets_everybody_go() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    for round in 0..60 {
        let directory = tempfile::tempdir().unwrap();
        let mut running = start(settings(directory.path())).unwrap();
        let node = running.handle.clone();
        runtime.block_on(async { running.spawn_tasks() });
        let callers: Vec<_> = (0..8)
            .map(|caller| {
                let node = node.clone();
                runtime.spawn(async move {
                    let is_over =
                        |outcome: &Result<_, NodeError>| matches!(outcome, Err(NodeError::Stopped));
                    loop {
                        let over = match caller % 4 {
                            0 => is_over(&node.read_index().await),
                            1 => is_over(&node.flush().await),
                            2 => is_over(&node.lease(LeaseId(1)).await.map(|_| ())),
                            _ => is_over(&node.propose(put("key", "value")).await.map(|_| ())),
                        };
                        if over {
                            return;
                        }
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        std::thread::sleep(Duration::from_micros(round * 500));
        let (stopped, over) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            running.stop();
            let _ = stopped.send(());
        });
        over.recv_timeout(STOP_MAX).expect("the threads end");
        runtime.block_on(async {
            for (number, caller) in callers.into_iter().enumerate() {
                // With one voter, reads need no raft thread.
                if number % 4 == 0 {
                    caller.abort();
                    continue;
                }
                tokio::time::timeout(STOP_MAX, caller)
                    .await
                    .unwrap_or_else(|_| panic!("caller {number} waits for nobody"))
                    .unwrap();
            }
        });
    }
}

#[test]
fn leases_run_out_and_refusals_reach_the_caller() {
    let directory = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let mut running = start(settings(directory.path())).unwrap();
        running.spawn_tasks();
        running.published().await;
        let mut lost = put("leased", "x");
        lost.put.as_mut().unwrap().lease = 9;
        let refused = running.handle.propose(lost.clone()).await;
        let not_found = ApplyError::from(KeySpaceError::LeaseNotFound);
        assert!(matches!(refused, Err(NodeError::Apply(error)) if error == not_found));
        let grant = InternalRaftRequest {
            lease_grant: Some(Box::new(LeaseGrantRequest { ttl: 2, id: 9 })),
            ..InternalRaftRequest::default()
        };
        running.handle.propose(grant).await.unwrap();
        running.handle.propose(lost).await.unwrap();
        assert_eq!(value(&running, "leased").await.as_deref(), Some("x"));
        assert_eq!(
            running.handle.keep_alive(LeaseId(9)).await.unwrap(),
            Some(2)
        );
        while running.handle.time_to_live(LeaseId(9)).is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(value(&running, "leased").await, None);
        assert_eq!(running.handle.keep_alive(LeaseId(9)).await.unwrap(), None);
        tokio::task::spawn_blocking(move || running.stop())
            .await
            .unwrap();
    });
}

#[test]
fn a_physical_compaction_answers_when_history_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let mut running = start(settings(directory.path())).unwrap();
        running.spawn_tasks();
        running.published().await;
        for number in 0..50 {
            running
                .handle
                .propose(put("k", &number.to_string()))
                .await
                .unwrap();
        }
        let before = running.handle.view().mvcc.stored_bytes();
        let request = CompactionRequest {
            revision: 51,
            physical: true,
        };
        running.handle.compact(request).await.unwrap();
        let view = running.handle.view();
        assert_eq!(view.mvcc.compact_revision(), 51);
        assert!(view.mvcc.stored_bytes() < before / 10);
        assert!(running.handle.compaction_hash(51).is_some());
        assert_eq!(value(&running, "k").await.as_deref(), Some("49"));
        tokio::task::spawn_blocking(move || running.stop())
            .await
            .unwrap();
    });
}

/// What a restart reads is bounded in bytes, however few the entries.
#[test]
fn the_log_is_marked_after_so_many_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        snapshot_entries: u64::MAX / 2,
        ..settings(directory.path())
    };
    let wal_dir = settings.wal_dir.clone();
    let marks = || {
        let marks = crate::wal::valid_snapshots(&crate::disk::RealDisk, &wal_dir).unwrap();
        marks.iter().map(|mark| mark.index).collect::<Vec<_>>()
    };
    runtime().block_on(async {
        let mut running = start(settings).unwrap();
        running.spawn_tasks();
        running.published().await;
        let value = "x".repeat(1_000_000);
        let mut before = 0;
        for (megabytes, marked) in [(15, false), (3, true)] {
            for _ in 0..megabytes {
                running.handle.propose(put("key", &value)).await.unwrap();
            }
            running.handle.flush().await.unwrap();
            // The mark comes before whatever is written after the checkpoint.
            running.handle.propose(put("key", "x")).await.unwrap();
            let is_new = marks().iter().any(|&mark| mark > before);
            assert_eq!(is_new, marked, "{:?} after {before}", marks());
            before = running.handle.status().applied_index;
        }
        tokio::task::spawn_blocking(move || running.stop())
            .await
            .unwrap();
    });
}

#[test]
fn a_start_gives_space_back_if_it_is_enough() {
    let directory = tempfile::tempdir().unwrap();
    let file_bytes = |threshold_bytes: u64, keys: i64| {
        runtime().block_on(async {
            let mut running = start(Settings {
                bootstrap_defrag_threshold_bytes: threshold_bytes,
                ..settings(directory.path())
            })
            .unwrap();
            running.spawn_tasks();
            running.published().await;
            let file = directory.path().join("member/state.redb");
            let bytes = std::fs::metadata(file).unwrap().len();
            let value = "x".repeat(50_000);
            for number in 0..10 * keys {
                let key = format!("key {}", number / 10);
                running.handle.propose(put(&key, &value)).await.unwrap();
            }
            if keys > 0 {
                running.handle.flush().await.unwrap();
                let compaction = CompactionRequest {
                    revision: running.handle.view().mvcc.revision(),
                    physical: true,
                };
                running.handle.compact(compaction).await.unwrap();
            }
            tokio::task::spawn_blocking(move || running.stop())
                .await
                .unwrap();
            bytes
        })
    };
    file_bytes(0, 50);
    let before = file_bytes(1 << 30, 0);
    let after = file_bytes(1 << 20, 0);
    assert!(after < before / 2, "{before} before, {after} after");
}
