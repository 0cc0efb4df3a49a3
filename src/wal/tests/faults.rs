//! Calls that fail: the log stops at once, says so from then on, and has lost nothing that was synced.

use crate::disk::Fault;
use crate::wal::tests::*;

/// Creates a log and fills a few segments; answers the last entry that was synced and the first error.
fn run(disk: &SimulatedDisk) -> (u64, Result<(), WalError>) {
    let mut synced = 0;
    let mut steps = || -> Result<(), WalError> {
        let mut wal = match exists(disk, dir())? {
            false => Wal::create(shared(disk), dir(), METADATA, SMALL)?,
            true => open(disk)?.0,
        };
        let mut first = Ok(());
        for index in wal.last_index() + 1..=12 {
            first = wal
                .append(
                    Some(&state(1, index)),
                    &[entry(1, index, vec![index as u8; 900])],
                )
                .and_then(|_| wal.sync())
                .map(|_| synced = index)
                .and_then(|()| match index % 4 {
                    0 => wal.append_snapshot(index, 1, &conf_state()).map(drop),
                    _ => Ok(()),
                });
            if first.is_err() {
                break;
            }
        }
        if first.is_err() {
            let again = wal.append(None, &[entry(1, synced + 1, "")]).unwrap_err();
            assert!(matches!(again, WalError::Poisoned), "{again}");
            assert!(matches!(wal.sync().unwrap_err(), WalError::Poisoned));
            let again = wal.append_snapshot(1, 1, &conf_state()).unwrap_err();
            assert!(matches!(again, WalError::Poisoned), "{again}");
        }
        first
    };
    let result = steps();
    (synced, result)
}

#[test]
fn a_failing_call_stops_the_log_and_loses_nothing() {
    let calls = {
        let disk = disk();
        run(&disk).1.unwrap();
        disk.calls()
    };
    assert!(calls > 50, "{calls}");
    for fault in [Fault::InputOutput, Fault::NoSpace] {
        for call in 0..calls {
            let disk = disk();
            disk.fail_after(call, fault);
            let (synced, result) = run(&disk);
            // Tidying up is the only call whose failure changes nothing.
            let Err(error) = result else {
                panic!("call {call} failed unnoticed")
            };
            let text = error.to_string();
            assert!(
                matches!(error, WalError::Io { .. }) && text.contains("/data/member"),
                "{text}"
            );
            assert_eq!(
                text.contains("free space"),
                fault == Fault::NoSpace,
                "{text}"
            );
            // The process starts again: with what the page cache has, or after a power cut.
            for crash in [None, Some(call), Some(call + 1000)] {
                let disk = disk.fork();
                if let Some(seed) = crash {
                    disk.crash(seed);
                }
                if synced > 0 {
                    let recovered = open(&disk).unwrap().1;
                    assert!(
                        recovered.entries.len() as u64 >= synced,
                        "call {call}: {synced} lost"
                    );
                }
                let (last, result) = run(&disk);
                result.unwrap();
                assert!(
                    last == 12 || synced >= 11,
                    "the last entry was there already"
                );
            }
        }
    }
}

#[test]
fn a_failing_call_while_opening_changes_nothing_that_matters() {
    let (whole, torn) = (disk(), disk());
    for disk in [&whole, &torn] {
        drop(rich(disk));
    }
    let path = last_segment(&torn);
    let used = torn
        .content(&path)
        .unwrap()
        .iter()
        .rposition(|&byte| byte != 0)
        .unwrap();
    torn.put(&path, &torn.content(&path).unwrap()[..used])
        .unwrap();
    for original in [whole, torn] {
        let expected = open(&original.fork()).unwrap().1;
        for call in 0.. {
            let disk = original.fork();
            disk.fail_after(call, Fault::InputOutput);
            let result = open(&disk).map(drop);
            disk.fail_never();
            let done = match result {
                Ok(()) => true,
                Err(error) => {
                    assert!(matches!(error, WalError::Io { .. }), "{error}");
                    false
                }
            };
            let again = open(&disk).unwrap().1;
            assert_eq!(again.entries, expected.entries, "after call {call}");
            assert_eq!(again.hard_state, expected.hard_state);
            if done {
                break;
            }
        }
    }
}
