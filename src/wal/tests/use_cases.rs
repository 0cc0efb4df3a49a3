//! A log in good health.

use crate::disk::RealDisk;
use crate::wal::tests::*;

#[test]
fn what_was_written_is_read_again() {
    let disk = disk();
    drop(rich(&disk));
    let (wal, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.metadata, METADATA);
    assert_eq!(recovered.hard_state, state(3, 8));
    assert_eq!(recovered.repair, None);
    let indexes = recovered
        .entries
        .iter()
        .map(|entry| (entry.index, entry.term));
    let expected = [
        (1, 1),
        (2, 2),
        (3, 2),
        (4, 2),
        (5, 3),
        (6, 3),
        (7, 3),
        (8, 3),
        (9, 3),
        (10, 3),
    ];
    assert_eq!(indexes.collect::<Vec<_>>(), expected);
    assert_eq!(recovered.entries[0].entry_type, 1);
    assert_eq!(recovered.entries[5].data, vec![9; 4000]);
    assert_eq!(recovered.snapshots.len(), 2);
    assert_eq!(wal.last_index(), 10);
}

#[test]
fn a_log_read_from_a_snapshot_begins_behind_it() {
    let disk = disk();
    drop(rich(&disk));
    let marks = valid_snapshots(&disk, dir()).unwrap();
    let mark = WalSnapshot {
        index: 4,
        term: 2,
        conf_state: Some(conf_state()),
    };
    assert_eq!(marks, [WalSnapshot::default(), mark.clone()]);
    let recovered = read(&disk, dir(), &mark).unwrap();
    assert_eq!(recovered.entries.first().unwrap().index, 5);
    let refused = |index, term| {
        let at = WalSnapshot {
            index,
            term,
            conf_state: None,
        };
        read(&disk, dir(), &at).unwrap_err().to_string()
    };
    assert!(refused(4, 3).contains("has the snapshot at index 4 with term 2, not 3"));
    assert!(refused(5, 3).contains("no record of the snapshot at index 5, term 3"));
}

#[test]
fn marks_beyond_the_last_commit_are_not_valid() {
    let disk = disk();
    let mut wal = create(&disk);
    wal.append(
        Some(&state(1, 2)),
        &[entry(1, 1, "a"), entry(1, 2, "b"), entry(1, 3, "c")],
    )
    .unwrap();
    wal.append_snapshot(2, 1, &conf_state()).unwrap();
    wal.append_snapshot(3, 1, &conf_state()).unwrap();
    let indexes = |marks: Vec<WalSnapshot>| marks.iter().map(|mark| mark.index).collect::<Vec<_>>();
    assert_eq!(indexes(valid_snapshots(&disk, dir()).unwrap()), [0, 2]);
    wal.append(Some(&state(1, 3)), &[]).unwrap();
    assert_eq!(indexes(valid_snapshots(&disk, dir()).unwrap()), [0, 2, 3]);
}

#[test]
fn the_newest_mark_is_found_from_the_end() {
    let disk = disk();
    let mut wal = create(&disk);
    for index in 1..60 {
        wal.append(Some(&state(1, index)), &[entry(1, index, vec![1; 400])])
            .unwrap();
        wal.sync().unwrap();
        if index % 17 == 0 {
            wal.append_snapshot(index, 1, &conf_state()).unwrap();
        }
    }
    assert!(segments(&disk).len() > 5);
    let marks = valid_snapshots(&disk, dir()).unwrap();
    for index in 0..70 {
        let expected = marks.iter().rfind(|mark| mark.index <= index);
        let newest = newest_snapshot(&disk, dir(), index).unwrap();
        assert_eq!(newest.as_ref(), expected, "up to {index}");
    }
}

#[test]
fn appending_goes_on_where_it_ended() {
    let disk = disk();
    drop(rich(&disk));
    for index in 11..40 {
        let (mut wal, recovered) = open(&disk).unwrap();
        assert_eq!(recovered.entries.last().unwrap().index, index - 1);
        wal.append(Some(&state(3, index)), &[entry(3, index, vec![3; 400])])
            .unwrap();
        wal.sync().unwrap();
    }
    assert!(segments(&disk).len() > 5);
}

#[test]
fn segments_are_named_reserved_and_cut() {
    let disk = disk();
    let mut wal = create(&disk);
    let size = |path: &Path| disk.content(path).unwrap().len();
    assert_eq!(size(&last_segment(&disk)), 4096);
    wal.append(Some(&state(1, 0)), &[entry(1, 1, vec![1; 5000])])
        .unwrap();
    assert_eq!(segments(&disk).len(), 1, "appending does not cut");
    let begun = wal.sync().unwrap().new_segment.unwrap();
    assert_eq!(begun, dir().join("0000000000000001-0000000000000002.wal"));
    assert_eq!(
        segments(&disk),
        [
            dir().join("0000000000000000-0000000000000000.wal"),
            begun.clone()
        ]
    );
    assert_eq!(size(&begun), 4096);
    let first = disk.content(&segments(&disk)[0]).unwrap();
    assert_eq!(
        first.iter().rposition(|&byte| byte != 0).map(|at| at / 8),
        Some(first.len() / 8 - 1)
    );
    assert_eq!(wal.sync().unwrap(), Synced::default());
}

#[test]
fn an_empty_append_writes_nothing() {
    let disk = disk();
    let mut wal = create(&disk);
    assert_eq!(wal.append(None, &[]).unwrap(), 0);
    assert_eq!(wal.append(Some(&HardState::default()), &[]).unwrap(), 0);
    let calls = disk.calls();
    wal.sync().unwrap();
    assert_eq!(disk.calls(), calls, "nothing to sync");
}

#[test]
fn what_could_not_be_read_back_is_refused_and_nothing_happened() {
    let disk = disk();
    let mut wal = create(&disk);
    wal.append(None, &[entry(1, 1, "a"), entry(1, 2, "b")])
        .unwrap();
    for entries in [
        vec![entry(1, 4, "")],
        vec![entry(1, 0, "")],
        vec![entry(1, 3, ""), entry(1, 5, "")],
        vec![entry(1, 3, ""), entry(1, 2, "")],
        vec![entry(0, 3, "no term")],
        vec![Entry {
            entry_type: 1,
            ..entry(1, 3, "")
        }],
        vec![Entry {
            entry_type: 3,
            ..entry(1, 3, "x")
        }],
    ] {
        let error = wal.append(None, &entries).unwrap_err();
        assert!(matches!(error, WalError::Refused { .. }), "{error}");
    }
    let no_term = HardState {
        term: 0,
        vote: 0,
        commit: 1,
    };
    let error = wal.append(Some(&no_term), &[]).unwrap_err();
    assert!(matches!(error, WalError::Refused { .. }), "{error}");
    wal.append(None, &[entry(2, 2, "b"), entry(2, 3, "c")])
        .unwrap();
    wal.sync().unwrap();
    drop(wal);
    assert_eq!(open(&disk).unwrap().1.entries.len(), 3);
}

#[test]
fn a_received_snapshot_may_leave_a_gap_before_it() {
    let disk = disk();
    let mut wal = create(&disk);
    wal.append(Some(&state(1, 1)), &[entry(1, 1, "a")]).unwrap();
    wal.append_snapshot(100, 4, &conf_state()).unwrap();
    wal.append(Some(&state(4, 101)), &[entry(4, 101, "b")])
        .unwrap();
    wal.sync().unwrap();
    drop(wal);
    let at = valid_snapshots(&disk, dir()).unwrap().pop().unwrap();
    let (wal, recovered) = Wal::open(shared(&disk), dir(), &at, SMALL).unwrap();
    assert_eq!(recovered.entries, [entry(4, 101, "b")]);
    drop(wal);
    let error = open(&disk).unwrap_err().to_string();
    assert!(error.contains("entry 101 follows entry 1"), "{error}");
}

#[test]
fn entries_replaced_before_a_snapshot_do_not_come_back_behind_it() {
    let disk = disk();
    let mut wal = create(&disk);
    let old = [1, 2, 3, 4].map(|index| entry(1, index, "old"));
    wal.append(Some(&state(1, 1)), &old).unwrap();
    wal.append(Some(&state(2, 2)), &[entry(2, 2, "new")])
        .unwrap();
    wal.append_snapshot(2, 2, &conf_state()).unwrap();
    let at = valid_snapshots(&disk, dir()).unwrap().pop().unwrap();
    assert_eq!(read(&disk, dir(), &at).unwrap().entries, []);
}

#[test]
fn released_segments_are_purged_down_to_the_limit() {
    let disk = disk();
    let mut wal = create(&disk);
    for index in 1..=6 {
        wal.append(Some(&state(1, index)), &[entry(1, index, vec![1; 4096])])
            .unwrap();
        wal.sync().unwrap();
    }
    // The segments begin at 0, 2, 3, 4, 5, 6, 7.
    assert_eq!(wal.purge(1).unwrap(), Vec::<PathBuf>::new(), "all in use");
    wal.append_snapshot(4, 1, &conf_state()).unwrap();
    wal.release_to(4);
    assert_eq!(wal.purge(0).unwrap(), Vec::<PathBuf>::new(), "no limit");
    let before = segments(&disk);
    assert_eq!(wal.purge(6).unwrap(), before[..1]);
    assert_eq!(wal.purge(1).unwrap(), before[1..2]);
    assert_eq!(segments(&disk), before[2..]);
    wal.append(Some(&state(1, 7)), &[entry(1, 7, "on")])
        .unwrap();
    wal.sync().unwrap();
    drop(wal);
    let at = WalSnapshot {
        index: 4,
        term: 1,
        conf_state: None,
    };
    let (_, recovered) = Wal::open(shared(&disk), dir(), &at, SMALL).unwrap();
    assert_eq!(
        recovered
            .entries
            .iter()
            .map(|entry| entry.index)
            .collect::<Vec<_>>(),
        [5, 6, 7]
    );
    let error = open(&disk).unwrap_err();
    assert!(matches!(error, WalError::MissingSegment { .. }), "{error}");
}

#[test]
fn an_open_log_is_locked_and_stays_as_it_is() {
    let disk = disk();
    let wal = rich(&disk);
    let before = segments(&disk)
        .iter()
        .map(|path| disk.content(path).unwrap())
        .collect::<Vec<_>>();
    let error = open(&disk).unwrap_err();
    assert!(matches!(error, WalError::Locked { .. }), "{error}");
    assert!(
        read(&disk, dir(), &WalSnapshot::default()).is_ok(),
        "a reader needs no lock"
    );
    let after = segments(&disk)
        .iter()
        .map(|path| disk.content(path).unwrap())
        .collect::<Vec<_>>();
    assert!(before == after);
    drop(wal);
    open(&disk).unwrap();
}

#[test]
fn a_log_is_not_created_over_anything() {
    let disk = disk();
    let create = || Wal::create(shared(&disk), dir(), METADATA, SMALL);
    disk.put(&dir().join("lost+found"), b"").unwrap();
    let error = create().unwrap_err();
    assert!(matches!(error, WalError::NotEmpty { .. }), "{error}");
    disk.remove_file(&dir().join("lost+found")).unwrap();
    disk.put(&dir().join("0.tmp"), b"x").unwrap();
    disk.put(&dir().with_extension("tmp").join("junk"), b"x")
        .unwrap();
    assert!(!exists(&disk, dir()).unwrap());
    drop(create().unwrap());
    assert!(exists(&disk, dir()).unwrap());
    assert_eq!(disk.names(dir().parent().unwrap()).unwrap(), ["wal"]);
    let error = create().unwrap_err();
    assert!(matches!(error, WalError::Exists { .. }), "{error}");
}

#[test]
fn missing_segments_are_named() {
    let disk = disk();
    drop(rich(&disk));
    let all = segments(&disk);
    disk.remove_file(&all[1]).unwrap();
    let error = open(&disk).unwrap_err().to_string();
    assert!(
        error.contains("/data/member/wal: the segment 0000000000000001-*.wal is missing"),
        "{error}"
    );
    disk.remove_file(&all[0]).unwrap();
    disk.remove_file(&all[2]).unwrap();
    let error = open(&disk).unwrap_err();
    assert!(matches!(error, WalError::NotFound { .. }), "{error}");
}

#[test]
fn small_syncs_find_their_space_prepared() {
    let disk = disk();
    let options = Options {
        segment_bytes: 1 << 20,
        sync: true,
    };
    let mut wal = Wal::create(shared(&disk), dir(), METADATA, options).unwrap();
    let mut calls_of = |from: u64, to: u64, bytes: usize| {
        let before = disk.calls();
        for index in from..to {
            wal.append(None, &[entry(1, index, vec![1; bytes])])
                .unwrap();
            wal.sync().unwrap();
        }
        disk.calls() - before
    };
    let written = 200 * 1_024;
    let prepared = calls_of(1, 201, 1_000) - 2 * 200;
    assert!((3..=written / 65_536 + 1).contains(&prepared), "{prepared}");
    assert_eq!(calls_of(201, 205, 100_000), 2 * 4, "large syncs are not");
    assert_eq!(calls_of(205, 206, 10), 3, "small ones behind them are");
    drop(wal);
    let (mut wal, _) = Wal::open(shared(&disk), dir(), &WalSnapshot::default(), options).unwrap();
    let before = disk.calls();
    wal.append(None, &[entry(1, 206, "x")]).unwrap();
    wal.sync().unwrap();
    assert_eq!(disk.calls() - before, 3, "and the first one after a start");
}

#[test]
fn it_works_on_the_file_system() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("wal");
    let disk = || Arc::new(RealDisk);
    let options = Options {
        segment_bytes: 1 << 20,
        sync: true,
    };
    let start = WalSnapshot::default();
    let mut wal = Wal::create(disk(), &dir, METADATA, options).unwrap();
    for index in 1..=30 {
        let value = vec![index as u8; 100_000];
        wal.append(Some(&state(1, index)), &[entry(1, index, value)])
            .unwrap();
        wal.sync().unwrap();
    }
    let error = Wal::open(disk(), &dir, &start, options).unwrap_err();
    assert!(matches!(error, WalError::Locked { .. }), "{error}");
    wal.append_snapshot(25, 1, &conf_state()).unwrap();
    drop(wal);
    let (mut wal, recovered) = Wal::open(disk(), &dir, &start, options).unwrap();
    assert_eq!(recovered.entries.len(), 30);
    assert_eq!(recovered.entries[29].data, vec![30; 100_000]);
    wal.release_to(25);
    assert_eq!(wal.purge(1).unwrap().len(), 2);
    wal.append(None, &[entry(1, 31, "on")]).unwrap();
    wal.sync().unwrap();
    let at = valid_snapshots(&RealDisk, &dir).unwrap().pop().unwrap();
    assert_eq!(read(&RealDisk, &dir, &at).unwrap().entries.len(), 6);
}
