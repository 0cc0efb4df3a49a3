//! Snapshots out of the store, and etcd's files into it.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::GzDecoder;

use super::sample::{Model, create, open, state};
use crate::bbolt::{self, File};
use crate::disk::RealDisk;
use crate::store::*;
use crate::types::Revision;

/// A snapshot of etcd 3.7.1, and what that etcd answered to Maintenance.Hash.
const ETCD_SNAPSHOT: &[u8] = include_bytes!("../../bbolt/testdata/snapshot.db.gz");
const ETCD_HASH: u32 = 2_521_554_650;

fn etcd_snapshot() -> File {
    let mut content = Vec::new();
    GzDecoder::new(ETCD_SNAPSHOT)
        .read_to_end(&mut content)
        .unwrap();
    File::from_bytes("snapshot.db", content.into()).unwrap()
}

fn write_snapshot(store: &Store) -> Bytes {
    let frozen = store.frozen().unwrap();
    let snapshot = frozen.snapshot().unwrap();
    let mut written = Vec::new();
    snapshot.write(&mut written).unwrap();
    assert_eq!(written.len() as u64, snapshot.file_bytes());
    written.into()
}

type Rows = Vec<(Bytes, Bytes, Bytes)>;

fn rows(file: &File) -> Rows {
    let mut all = Vec::new();
    for (name, bucket) in file.buckets().unwrap() {
        let mut rows = file.rows(&bucket);
        while let Some((key, value)) = rows.next().unwrap() {
            let [key, value] = [key, value].map(Bytes::copy_from_slice);
            all.push((name.clone(), key, value));
        }
    }
    all
}

fn import(directory: &tempfile::TempDir, edit: &Edit) -> (Store, Loaded) {
    let file = etcd_snapshot();
    let options = Options::default();
    Store::import(Arc::new(RealDisk), directory.path(), options, &file, edit).unwrap()
}

#[test]
fn etcds_snapshot_is_imported_hashed_as_etcd_does_and_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let (store, loaded) = import(&directory, &Edit::default());
    assert_eq!(loaded.current_revision(), 98);
    assert_eq!(loaded.finished_compact, Some(40));
    assert_eq!(loaded.conf_state.voters, [3_319_814_642_761_637_952]);
    assert_eq!(store.frozen().unwrap().hash().unwrap(), ETCD_HASH);
    let written = write_snapshot(&store);
    let written = File::from_bytes("written", written).unwrap();
    assert_eq!(rows(&written), rows(&etcd_snapshot()));
    drop(store);
    let (store, loaded) = open(&directory);
    assert_eq!(store.applied_index(), loaded.applied_index);
    assert!(loaded.applied_index > 98);
}

#[test]
fn an_import_can_leave_members_behind_and_start_the_log_over() {
    let directory = tempfile::tempdir().unwrap();
    let member = BucketWrite {
        bucket: Bucket::Members,
        key: Bytes::from_static(b"1"),
        value: Some(Bytes::from_static(b"{}")),
    };
    let edit = Edit {
        without: vec![Bucket::Members, Bucket::MembersRemoved],
        then: Some(Checkpoint {
            applied_index: 3,
            applied_term: 1,
            buckets: vec![member.clone()],
            changes: vec![[super::sample::put(Revision::new(1_000, 0), b"", b"")].into()],
            ..Checkpoint::default()
        }),
    };
    let (store, loaded) = import(&directory, &edit);
    assert_eq!((loaded.applied_index, loaded.applied_term), (3, 1));
    assert_eq!(loaded.current_revision(), 1_000);
    let members = loaded
        .buckets
        .iter()
        .filter(|row| row.bucket == Bucket::Members);
    let members: Vec<&Bytes> = members.map(|row| &row.key).collect();
    assert_eq!(members, [&member.key]);
    assert!(
        loaded
            .buckets
            .iter()
            .any(|row| row.bucket == Bucket::AuthUsers)
    );
    let reader = store.reader();
    assert_eq!(
        reader.record(Revision::new(1_000, 0)).unwrap(),
        Some(Bytes::new())
    );
}

#[test]
fn installing_a_snapshot_replaces_everything_under_its_readers() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = create(&directory);
    let reader = store.reader();
    let mut model = Model::new(5);
    for _ in 0..10 {
        store.write(&model.next_checkpoint()).unwrap();
    }
    let snapshot = File::from_bytes("snapshot", write_snapshot(&store)).unwrap();
    let mut at_snapshot = Model::new(6);
    at_snapshot.state = model.state.clone();
    for _ in 0..5 {
        store.write(&model.next_checkpoint()).unwrap();
    }
    let before = store.frozen().unwrap();
    let loaded = store.install(&snapshot).unwrap();
    at_snapshot.check(&reader);
    at_snapshot.check_loaded(&loaded);
    assert_eq!(
        before.applied_index(),
        model.state.applied_index,
        "an older view stays"
    );
    before.hash().unwrap();

    // A file that is no good changes nothing, and does not stop the store.
    let mut content = write_snapshot(&store).to_vec();
    let page = content.len() / 2 / 4096 * 4096;
    content[page..].fill(0xEE);
    let bad = File::from_bytes("bad", content.into()).unwrap();
    let error = store.install(&bad).unwrap_err();
    assert!(error.is_import(), "{error}");
    at_snapshot.check(&reader);
    store
        .write(&Checkpoint {
            applied_index: 10_000,
            ..Checkpoint::default()
        })
        .unwrap();
    drop((store, before, reader));
    let (_, loaded) = open(&directory);
    assert_eq!(loaded.applied_index, 10_000);
}

#[test]
fn a_frozen_view_does_not_see_what_comes_later() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = create(&directory);
    let mut model = Model::new(7);
    for _ in 0..10 {
        store.write(&model.next_checkpoint()).unwrap();
    }
    let frozen = store.frozen().unwrap();
    let hash = frozen.hash().unwrap();
    let size = frozen.snapshot().unwrap().file_bytes();
    for _ in 0..10 {
        store.write(&model.next_checkpoint()).unwrap();
    }
    store.defragment().unwrap();
    assert_eq!(frozen.hash().unwrap(), hash);
    let mut written = Vec::new();
    frozen.snapshot().unwrap().write(&mut written).unwrap();
    assert_eq!(written.len() as u64, size);
    assert_ne!(store.frozen().unwrap().hash().unwrap(), hash);
}

#[test]
fn a_snapshot_to_nowhere_is_an_error_of_the_receiver() {
    struct Gone;
    impl std::io::Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = import(&directory, &Edit::default());
    let frozen = store.frozen().unwrap();
    let error = frozen.snapshot().unwrap().write(&mut Gone).unwrap_err();
    assert!(matches!(error, bbolt::WriteError::Write(_)), "{error}");
    frozen.hash().unwrap();
}

#[test]
fn defragmentation_goes_on_between_checkpoints_and_under_readers() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = create(&directory);
    let mut model = Model::new(8);
    for _ in 0..60 {
        store.write(&model.next_checkpoint()).unwrap();
    }
    let reader = store.reader();
    let mut steps = 1;
    while store.defragment_step().unwrap() == Defragmented::Partly {
        steps += 1;
        if steps % 3 == 0 {
            store.write(&model.next_checkpoint()).unwrap();
        }
        model.check(&reader);
    }
    assert!(steps > 5, "{steps} steps");
    model.check(&reader);
    store.write(&model.next_checkpoint()).unwrap();
    drop((store, reader));
    let (store, loaded) = open(&directory);
    model.check_loaded(&loaded);
    model.check(&store.reader());
    let _ = state(&store, &loaded).unwrap();
}

#[test]
fn defragmentation_gives_space_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = create(&directory);
    let revisions: Vec<Revision> = (2..2_000).map(|main| Revision::new(main, 0)).collect();
    let changes = revisions.iter();
    let changes = changes.map(|at| [super::sample::put(*at, b"key", &[7; 1_000])].into());
    store
        .write(&Checkpoint {
            changes: changes.collect(),
            ..Checkpoint::default()
        })
        .unwrap();
    let full = store.size().unwrap();
    store
        .write(&Checkpoint {
            removed: revisions,
            ..Checkpoint::default()
        })
        .unwrap();
    let removed = store.size().unwrap();
    assert!(
        removed.in_use_bytes < full.in_use_bytes / 100,
        "{removed:?}"
    );
    store.defragment().unwrap();
    let defragmented = store.size().unwrap();
    assert!(
        defragmented.allocated_bytes < full.allocated_bytes / 10,
        "{defragmented:?}"
    );
    assert_eq!(removed.in_use_bytes, defragmented.in_use_bytes);
}
