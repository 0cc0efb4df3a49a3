//! What every test here starts from. The files below are named after what they try to break the log with.

mod damage;
mod faults;
mod interchange;
mod power_cuts;
mod use_cases;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::disk::{Disk, SimulatedDisk};
use crate::pb::raftpb::{Entry, HardState};

const METADATA: Metadata = Metadata {
    node_id: MemberId(0x8e9e_05c5_2164_694d),
    cluster_id: ClusterId(0xcdf8_1819_4e3a_8c32),
};
const SMALL: Options = Options {
    segment_bytes: 4096,
    sync: true,
};

fn dir() -> &'static Path {
    Path::new("/data/member/wal")
}

fn disk() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.create_dir_all(Path::new("/data/member")).unwrap();
    disk
}

fn shared(disk: &SimulatedDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn create(disk: &SimulatedDisk) -> Wal {
    Wal::create(shared(disk), dir(), METADATA, SMALL).unwrap()
}

fn open(disk: &SimulatedDisk) -> Result<(Wal, Recovered), WalError> {
    Wal::open(shared(disk), dir(), &WalSnapshot::default(), SMALL)
}

fn entry(term: u64, index: u64, data: impl Into<Vec<u8>>) -> Entry {
    Entry {
        term,
        index,
        data: data.into().into(),
        ..Entry::default()
    }
}

fn state(term: u64, commit: u64) -> HardState {
    HardState {
        term,
        vote: 1,
        commit,
    }
}

fn conf_state() -> ConfState {
    ConfState {
        voters: vec![1, 2, u64::MAX],
        learners: vec![4],
        ..ConfState::default()
    }
}

/// The segments, in sequence.
fn segments(disk: &SimulatedDisk) -> Vec<PathBuf> {
    let names = disk.names(dir()).unwrap();
    names
        .iter()
        .filter(|name| name.ends_with(".wal"))
        .map(|name| dir().join(name))
        .collect()
}

fn last_segment(disk: &SimulatedDisk) -> PathBuf {
    segments(disk).pop().unwrap()
}

/// A log of three segments with everything in it: entries of every kind, replaced ones, a payload of zeros
/// longer than a sector, snapshot marks, and a last segment that is not full.
fn rich(disk: &SimulatedDisk) -> Wal {
    let mut wal = create(disk);
    let change = Entry {
        entry_type: 1,
        ..entry(1, 1, "change")
    };
    wal.append(Some(&state(1, 1)), &[change]).unwrap();
    wal.append(
        Some(&state(2, 1)),
        &[entry(2, 2, ""), entry(2, 3, vec![7; 900])],
    )
    .unwrap();
    wal.append(None, &[entry(2, 4, vec![0; 1600]), entry(2, 5, "lost")])
        .unwrap();
    wal.append(Some(&state(3, 4)), &[entry(3, 5, vec![1; 2000])])
        .unwrap();
    wal.sync().unwrap();
    wal.append_snapshot(4, 2, &conf_state()).unwrap();
    wal.append(Some(&state(3, 6)), &[entry(3, 6, vec![9; 4000])])
        .unwrap();
    wal.sync().unwrap();
    wal.append(
        Some(&state(3, 7)),
        &[entry(3, 7, "x"), entry(3, 8, vec![0; 1500])],
    )
    .unwrap();
    wal.append(Some(&state(3, 8)), &[entry(3, 9, ""), entry(3, 10, "end")])
        .unwrap();
    wal.sync().unwrap();
    assert_eq!(segments(disk).len(), 3);
    wal
}
