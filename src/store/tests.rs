//! The store as a whole: what is written is read, also after a restart.

mod crash;
mod damage;
mod sample;
mod snapshots;

use std::sync::Arc;

use sample::{Model, create, open};

use super::*;
use crate::disk::RealDisk;
use crate::types::Revision;

#[test]
fn what_was_written_is_read_again_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut model = Model::new(1);
    let mut store = create(&directory);
    for _ in 0..20 {
        store.write(&model.next_checkpoint()).unwrap();
    }
    model.check(&store.reader());
    let reader = store.reader();
    drop(store);
    model.check(&reader);
    drop(reader);
    let (store, loaded) = open(&directory);
    model.check_loaded(&loaded);
    model.check(&store.reader());
    assert_eq!(store.applied_index(), loaded.applied_index);
}

#[test]
fn rows_end_with_a_whole_main_revision() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = create(&directory);
    let change = |main, sub| sample::put(Revision::new(main, sub), b"k", b"v");
    let checkpoint = Checkpoint {
        changes: vec![
            [change(2, 0)].into(),
            (0..3).map(|sub| change(3, sub)).collect(),
            [change(4, 0)].into(),
        ],
        ..Checkpoint::default()
    };
    store.write(&checkpoint).unwrap();
    let reader = store.reader();
    let mains = |from, to, limit| -> Vec<i64> {
        let rows = reader.rows(from, to, limit).unwrap();
        rows.iter().map(|row| row.revision.main).collect()
    };
    assert_eq!(mains(2, 5, 100), [2, 3, 3, 3, 4]);
    assert_eq!(mains(2, 4, 100), [2, 3, 3, 3]);
    assert_eq!(mains(2, 5, 2), [2]);
    assert_eq!(mains(2, 5, 4), [2, 3, 3, 3]);
    assert_eq!(mains(3, 5, 1), [3, 3, 3], "the first revision is never cut");
    assert!(mains(4, 2, 1).is_empty());
}

#[test]
fn records_are_found_whether_they_lie_together_or_apart() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = create(&directory);
    // Some main revisions hold more than is passed over on the way from one wanted record to the next.
    let subs = |main: i64| if main % 50 == 0 { 900 } else { 1 };
    let batch = |main: i64| -> Arc<[Change]> {
        (0..subs(main))
            .map(|sub| {
                let text = format!("{main}/{sub}");
                sample::put(Revision::new(main, sub), b"k", text.as_bytes())
            })
            .collect()
    };
    let checkpoint = Checkpoint {
        changes: (2..500).map(batch).collect(),
        removed: (2..500)
            .filter(|main| main % 7 == 0)
            .map(|main| Revision::new(main, 0))
            .collect(),
        ..Checkpoint::default()
    };
    store.write(&checkpoint).unwrap();
    let reader = store.reader();
    let wanted: [Vec<i64>; 6] = [
        (0..600).collect(),
        (0..600).rev().collect(),
        (0..600).step_by(3).collect(),
        (0..600).step_by(40).collect(),
        (0..600).map(|at| at * 7919 % 600).collect(),
        vec![300, 300, 299, 2, 300, 301, 302, 303, 304, 305],
    ];
    for mains in wanted {
        let wanted: Vec<_> = mains.iter().map(|&main| Revision::new(main, 0)).collect();
        let records = reader.records(&wanted).unwrap();
        for (revision, record) in wanted.iter().zip(records) {
            let main = revision.main;
            let exists = (2..500).contains(&main) && main % 7 != 0;
            let expected = exists.then(|| format!("{main}/0"));
            assert_eq!(record.as_deref(), expected.as_deref().map(str::as_bytes));
        }
    }
}

#[test]
fn a_change_that_its_own_checkpoint_removes_is_never_written() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = create(&directory);
    let checkpoint = Checkpoint {
        changes: vec![
            [sample::put(Revision::new(2, 0), b"k", &[1; 300_000])].into(),
            [sample::put(Revision::new(3, 0), b"k", b"small")].into(),
        ],
        removed: vec![Revision::new(2, 0)],
        ..Checkpoint::default()
    };
    let written = store.write(&checkpoint).unwrap();
    assert!(written.bytes < 300_000, "{written:?}");
    assert_eq!(store.reader().record(Revision::new(2, 0)).unwrap(), None);
    assert!(
        store
            .reader()
            .record(Revision::new(3, 0))
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_checkpoint_that_goes_back_is_refused_and_stops_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = create(&directory);
    let checkpoint = |applied_index| Checkpoint {
        applied_index,
        ..Checkpoint::default()
    };
    store.write(&checkpoint(7)).unwrap();
    let error = store.write(&checkpoint(6)).unwrap_err();
    assert!(error.to_string().contains("applied index 6 is behind 7"));
    let again = store.write(&checkpoint(8)).unwrap_err();
    assert_eq!(again.to_string(), error.to_string());
}

#[test]
fn a_second_process_is_told_that_the_file_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let store = create(&directory);
    let second = Store::open(Arc::new(RealDisk), directory.path(), Options::default());
    let error = second.err().unwrap().to_string();
    assert!(
        error.contains("state.redb is in use by another etcd"),
        "{error}"
    );
    drop(store);
    open(&directory);
}

#[test]
fn a_database_is_neither_made_twice_nor_opened_before_it_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let missing = Store::open(Arc::new(RealDisk), directory.path(), Options::default());
    assert!(matches!(missing.err(), Some(StoreError::Missing(_))));
    drop(create(&directory));
    let exists = Store::create(Arc::new(RealDisk), directory.path(), Options::default());
    assert!(matches!(exists.err(), Some(StoreError::Exists(_))));
}
