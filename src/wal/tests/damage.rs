//! Torn ends and damaged bits: repaired, or refused with file and offset, never something else than what
//! was written.

use crate::wal::record::{FRAME_BYTES, Length};
use crate::wal::tests::*;

/// Where the records of a segment begin, and where the last one ends.
fn record_starts(segment: &[u8]) -> Vec<usize> {
    let mut starts = vec![0];
    loop {
        let at = starts[starts.len() - 1];
        let field = segment
            .get(at..at + 8)
            .map(|field| field.try_into().unwrap());
        match field.and_then(|field| Length::from_field(u64::from_le_bytes(field))) {
            Some(length) => starts.push(at + (FRAME_BYTES + length.body()) as usize),
            None => return starts,
        }
    }
}

/// Where the last record of a segment begins, and where it ends.
fn last_record(segment: &[u8]) -> (usize, usize) {
    let starts = record_starts(segment);
    (starts[starts.len() - 2], starts[starts.len() - 1])
}

/// A log in one segment whose last record, of this many bytes of data, may be torn.
fn ending_in(data: Vec<u8>) -> (SimulatedDisk, Vec<Entry>) {
    let disk = disk();
    let mut wal = create(&disk);
    let entries = [
        entry(1, 1, vec![5; 300]),
        entry(1, 2, "kept"),
        entry(1, 3, data),
    ];
    wal.append(Some(&state(1, 2)), &entries[..2]).unwrap();
    wal.append(None, &entries[2..]).unwrap();
    wal.sync().unwrap();
    drop(wal);
    (disk, entries.to_vec())
}

#[test]
fn a_file_that_ends_inside_its_last_record_loses_just_that() {
    for size in [0, 13, 1300] {
        let (disk, entries) = ending_in(vec![6; size]);
        let path = last_segment(&disk);
        let whole = disk.content(&path).unwrap();
        let (start, end) = last_record(&whole);
        for cut in start + 1..end {
            let disk = disk.fork();
            disk.put(&path, &whole[..cut]).unwrap();
            let (mut wal, recovered) = open(&disk).unwrap();
            assert_eq!(recovered.entries, entries[..2], "cut at {cut}");
            assert_eq!(recovered.hard_state, state(1, 2));
            let repair = recovered.repair.unwrap();
            assert_eq!((&repair.path, repair.offset), (&path, start as u64));
            assert_eq!(disk.content(&repair.copy).unwrap(), whole[..cut]);
            wal.append(None, &[entry(2, 3, "new")]).unwrap();
            wal.sync().unwrap();
            drop(wal);
            let (_, again) = open(&disk).unwrap();
            assert_eq!(again.repair, None, "repaired once");
            assert_eq!(again.entries.last().unwrap(), &entry(2, 3, "new"));
        }
    }
}

#[test]
fn sectors_missing_from_the_last_record_lose_just_that() {
    let (disk, entries) = ending_in(vec![6; 2500]);
    let path = last_segment(&disk);
    let whole = disk.content(&path).unwrap();
    let (start, end) = last_record(&whole);
    let sectors = (start / 512..end.div_ceil(512)).collect::<Vec<_>>();
    assert!(sectors.len() > 4);
    for missing in 1_u32..1 << sectors.len() {
        let mut torn = whole.clone();
        for (i, sector) in sectors.iter().enumerate() {
            if missing & 1 << i != 0 {
                torn[start.max(sector * 512)..(sector + 1) * 512].fill(0);
            }
        }
        let disk = disk.fork();
        disk.put(&path, &torn).unwrap();
        assert_eq!(
            read(&disk, dir(), &WalSnapshot::default()).unwrap().entries,
            entries[..2]
        );
        assert_eq!(
            open(&disk).unwrap().1.entries,
            entries[..2],
            "without {missing:b}"
        );
        assert_eq!(open(&disk).unwrap().1.repair, None);
    }
}

/// Opens a log in which one bit is turned: it must be refused with file and offset, or be as if it were not.
fn check_flip(disk: &SimulatedDisk, path: &Path, damaged: &[u8], expected: &Recovered) -> bool {
    let disk = disk.fork();
    disk.put(path, damaged).unwrap();
    match open(&disk).map(|(_, recovered)| recovered) {
        Ok(recovered) => {
            assert_eq!(
                Recovered {
                    repair: None,
                    ..recovered
                },
                *expected
            );
            let (_, again) = open(&disk).expect("refused after it was accepted");
            assert_eq!(again, *expected);
            true
        }
        Err(WalError::Corrupt {
            path: named,
            offset,
            ..
        }) => {
            assert!(
                named == path || segments(&disk).contains(&named),
                "{named:?}"
            );
            assert!(offset < disk.content(&named).unwrap().len() as u64);
            false
        }
        Err(error) => panic!("neither harmless nor refused with file and offset: {error}"),
    }
}

#[test]
fn every_flipped_bit_is_harmless_or_refused() {
    let disk = disk();
    drop(rich(&disk));
    let expected = open(&disk).unwrap().1;
    let (mut harmless, mut refused) = (0, 0);
    // Every one with `FLIP_EVERY=1`.
    let all = std::env::var_os("FLIP_EVERY").is_some();
    for path in segments(&disk) {
        let whole = disk.content(&path).unwrap();
        let used = last_record(&whole).1;
        for byte in 0..whole.len() {
            // Payloads of one value need not be tried bit by bit.
            let repeats = !all
                && byte > 40
                && byte + 40 < whole.len()
                && whole[byte - 40..byte + 40].windows(2).all(|w| w[0] == w[1]);
            for bit in 0..8 {
                if repeats && (byte + bit) % 61 != 0 {
                    continue;
                }
                let mut damaged = whole.clone();
                damaged[byte] ^= 1 << bit;
                let accepted = check_flip(&disk, &path, &damaged, &expected);
                assert!(
                    accepted || byte < used,
                    "{path:?}: the zeros at {byte} are nobody's"
                );
                *(if accepted {
                    &mut harmless
                } else {
                    &mut refused
                }) += 1;
            }
        }
    }
    println!("log: {refused} flipped bits refused, {harmless} harmless");
    assert!(
        refused > 5_000 && harmless > 300,
        "{refused} refused, {harmless} harmless"
    );
}

#[test]
fn damage_in_front_of_a_sound_record_is_not_taken_for_the_end() {
    // Each offset of the frame in its sector, so that it meets every rule about sectors.
    for lead in (0..512).step_by(8) {
        let disk = disk();
        let mut wal = create(&disk);
        wal.append(None, &[entry(1, 1, vec![8; 600 + lead])])
            .unwrap();
        // Records of 64 bytes and of 600: a length that one turned bit makes zero, and one that spans sectors.
        wal.append(None, &[entry(1, 2, vec![8; 43]), entry(1, 3, vec![0; 580])])
            .unwrap();
        wal.sync().unwrap();
        drop(wal);
        let expected = open(&disk).unwrap().1;
        let path = last_segment(&disk);
        let whole = disk.content(&path).unwrap();
        let end = last_record(&whole).1;
        let starts = record_starts(&whole);
        let heads = starts[starts.len() - 3..starts.len() - 1]
            .iter()
            .flat_map(|&start| start..start + 20);
        let payloads = (end - 800..end).step_by(31);
        for byte in heads.chain(payloads) {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[byte] ^= 1 << bit;
                check_flip(&disk, &path, &damaged, &expected);
            }
        }
    }
}

#[test]
fn refusals_say_where_and_what_to_do() {
    let disk = disk();
    drop(rich(&disk));
    let path = segments(&disk)[1].clone();
    let mut damaged = disk.content(&path).unwrap();
    let (start, _) = last_record(&damaged);
    damaged[start + 20] ^= 0x10;
    disk.put(&path, &damaged).unwrap();
    let error = open(&disk).unwrap_err().to_string();
    let position = format!(
        ": in file {} at position: {start}. The log is damaged there",
        path.display()
    );
    assert!(
        error.contains("walpb: crc mismatch: expected: ") && error.contains(&position),
        "{error}"
    );
}

#[test]
fn lengths_from_disk_are_not_believed() {
    let (disk, _) = ending_in(vec![6; 100]);
    let path = last_segment(&disk);
    let whole = disk.content(&path).unwrap();
    let (start, _) = last_record(&whole);
    for field in [
        u64::MAX,
        1 << 55,
        0x8700_ffff_ffff_fff9,
        0x7fff_ffff_ffff_fff8,
        1,
    ] {
        let mut damaged = whole.clone();
        damaged[start..start + 8].copy_from_slice(&field.to_le_bytes());
        let error = decode_segment(&damaged).unwrap_err();
        assert!(matches!(error, WalError::Corrupt { offset, .. } if offset == start as u64));
    }
}

proptest::proptest! {
    /// What the fuzzer does at length: no bytes make the decoder panic.
    #[test]
    fn any_bytes_are_read_or_refused(
        noise in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
        at in 0_usize..4096,
        size in 0_usize..6000,
    ) {
        let disk = disk();
        drop(rich(&disk));
        let mut bytes = disk.content(&last_segment(&disk)).unwrap();
        bytes.splice(at..(at + noise.len()).min(4096), noise.iter().copied());
        bytes.resize(size, 0);
        let _ = decode_segment(&bytes);
        let _ = decode_segment(&noise);
    }
}
