//! Power cuts at any call: while a log is created, written, cut into segments, purged, and while the last
//! cut is being recovered from. What was synced is there, and what else is there was written.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::disk::Fault;
use crate::wal::tests::*;

/// Power cuts a run survives before it ends. A run is a seed.
const CUTS: u64 = 3;

/// Runs; as many as make `POWER_CUTS`, or ten thousand, power cuts.
fn seeds() -> u64 {
    let cuts = std::env::var("POWER_CUTS").ok();
    let cuts: u64 = cuts.map_or(10_000, |cuts| cuts.parse().unwrap());
    cuts.div_ceil(CUTS)
}

/// What the power cuts hit.
#[derive(Debug, Default)]
struct Cuts {
    start: u64,
    work: u64,
    /// The log was not being called.
    rest: u64,
}

#[derive(Clone, Debug)]
enum Written {
    Entry(Entry),
    State(HardState),
    Snapshot(WalSnapshot),
}

/// What the log was told.
#[derive(Debug, Default)]
struct Model {
    created: bool,
    written: Vec<Written>,
    /// How many of them were synced.
    synced: usize,
}

impl Model {
    /// The last snapshot mark that was synced.
    fn start(&self) -> WalSnapshot {
        let marks = self.written[..self.synced]
            .iter()
            .rev()
            .filter_map(|written| match written {
                Written::Snapshot(mark) => Some(mark.clone()),
                _ => None,
            });
        marks.take(1).next().unwrap_or_default()
    }

    /// What reading must give if just the first `count` records survived.
    fn expected(&self, count: usize, start: u64) -> (HardState, Vec<Entry>, usize) {
        let (mut hard_state, mut entries, mut marks) = (HardState::default(), Vec::new(), 1);
        for written in &self.written[..count] {
            match written {
                Written::State(state) => hard_state = state.clone(),
                Written::Snapshot(_) => marks += 1,
                Written::Entry(entry) if entry.index <= start => entries.clear(),
                Written::Entry(entry) => {
                    entries.truncate((entry.index - start - 1) as usize);
                    entries.push(entry.clone());
                }
            }
        }
        (hard_state, entries, marks)
    }

    /// Checks what was recovered; it is durable now.
    fn recovered(&mut self, recovered: &Recovered, start: u64) {
        let survivors = (self.synced..=self.written.len()).rev().find(|&count| {
            let (hard_state, entries, marks) = self.expected(count, start);
            let last_mark = self.written[..count]
                .iter()
                .rev()
                .find_map(|written| match written {
                    Written::Snapshot(mark) => Some(mark.clone()),
                    _ => None,
                });
            (&hard_state, &entries) == (&recovered.hard_state, &recovered.entries)
                && recovered.snapshots.len() <= marks
                && recovered.snapshots.last() == Some(&last_mark.unwrap_or_default())
        });
        let Some(survivors) = survivors else {
            panic!(
                "{} synced of {}, found {recovered:?}, not {:?}",
                self.synced,
                self.written.len(),
                self.expected(self.written.len(), start)
            );
        };
        self.written.truncate(survivors);
        self.synced = survivors;
    }
}

fn is_power_cut(error: &WalError) -> bool {
    matches!(error, WalError::Io { source, .. } if source.raw_os_error().is_none())
}

/// Creates or opens the log as a starting process does.
fn start(disk: &SimulatedDisk, options: Options, model: &mut Model) -> Result<Wal, WalError> {
    if !exists(disk, dir())? {
        assert!(!model.created, "a log that was created is gone");
        let wal = Wal::create(shared(disk), dir(), METADATA, options)?;
        model.created = true;
        return Ok(wal);
    }
    let at = model.start();
    let (wal, recovered) = Wal::open(shared(disk), dir(), &at, options)?;
    model.created = true;
    assert_eq!(recovered.metadata, METADATA);
    model.recovered(&recovered, at.index);
    Ok(wal)
}

fn payload(random: &mut SmallRng) -> Vec<u8> {
    let size = match random.random_range(0..10) {
        0 => 0,
        1..5 => random.random_range(0..80),
        5..9 => random.random_range(0..1200),
        _ => random.random_range(0..6000),
    };
    let mut payload = vec![0; size];
    match random.random_range(0..4) {
        0 => {}
        // Mostly zeros: sectors that look as if they were never written.
        1 => (0..size / 100).for_each(|_| payload[random.random_range(0..size)] = 1),
        _ => random.fill(&mut *payload),
    }
    payload
}

/// Uses the log until something fails.
fn work(wal: &mut Wal, model: &mut Model, random: &mut SmallRng) -> Result<(), WalError> {
    let (mut hard_state, entries, _) = model.expected(model.written.len(), model.start().index);
    hard_state.term = hard_state.term.max(1);
    let mut last = entries
        .last()
        .map_or(model.start().index, |entry| entry.index);
    for _ in 0..random.random_range(1..40) {
        let mut batch = Vec::new();
        if random.random_bool(0.1) && last > hard_state.commit {
            // Another leader replaces what is not committed.
            last = random.random_range(hard_state.commit..last);
            hard_state.term += 1;
        }
        for _ in 0..random.random_range(0..4) {
            last += 1;
            batch.push(entry(hard_state.term, last, payload(random)));
        }
        let with_state = random.random_bool(0.6);
        if with_state {
            hard_state.commit = random.random_range(hard_state.commit..=last);
        }
        model
            .written
            .extend(batch.iter().cloned().map(Written::Entry));
        if with_state {
            model.written.push(Written::State(hard_state.clone()));
        }
        wal.append(with_state.then_some(&hard_state), &batch)?;
        if random.random_bool(0.6) {
            wal.sync()?;
            model.synced = model.written.len();
        }
        if random.random_bool(0.1) && with_state {
            let mark = WalSnapshot {
                index: hard_state.commit,
                term: hard_state.term,
                conf_state: Some(conf_state()),
            };
            model.written.push(Written::Snapshot(mark.clone()));
            wal.append_snapshot(mark.index, mark.term, &conf_state())?;
            model.synced = model.written.len();
            wal.release_to(mark.index);
            wal.purge(random.random_range(0..3))?;
        }
    }
    Ok(())
}

fn run(seed: u64, cuts: &mut Cuts) -> usize {
    let mut random = SmallRng::seed_from_u64(seed);
    let (disk, mut model) = (disk(), Model::default());
    // A segment of more than a block is prepared in part.
    let options = Options {
        segment_bytes: [4_096, 12_288][seed as usize % 2],
        ..SMALL
    };
    for _ in 0..CUTS {
        let calls = match random.random_range(0..3) {
            0 => 20,
            _ => 150,
        };
        disk.fail_after(random.random_range(0..calls), Fault::PowerCut);
        let started = start(&disk, options, &mut model);
        let hit = match &started {
            Err(_) => &mut cuts.start,
            Ok(_) => &mut cuts.work,
        };
        match started.and_then(|mut wal| work(&mut wal, &mut model, &mut random)) {
            Err(error) => {
                assert!(is_power_cut(&error), "seed {seed}: unbootable: {error}");
                *hit += 1;
            }
            Ok(()) => cuts.rest += 1,
        }
        disk.crash(random.random());
    }
    let result = start(&disk, options, &mut model);
    result.unwrap_or_else(|error| panic!("seed {seed}: unbootable: {error}"));
    model.synced
}

#[test]
fn power_cuts_lose_nothing_that_was_synced() {
    let mut cuts = Cuts::default();
    let synced: usize = (0..seeds()).map(|seed| run(seed, &mut cuts)).sum();
    println!("log: {} power cuts: {cuts:?}", seeds() * CUTS);
    assert!(cuts.start > seeds() / 5 && cuts.work > seeds() / 5);
    assert!(
        synced > seeds() as usize,
        "the runs were too short to show anything: {synced}"
    );
}
