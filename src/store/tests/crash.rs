//! Power cuts and failing disks: whatever happens, a restart finds the last checkpoint or the one that was being
//! written, whole, with its applied index.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::sample::{Model, State, state};
use crate::bbolt;
use crate::disk::{Fault, SimulatedDisk};
use crate::store::*;

const DIRECTORY: &str = "/member";
/// Power cuts a life.
const CUTS: u64 = 8;

/// Lives to test; as many as make `POWER_CUTS`, or 1,200, power cuts.
fn seeds() -> u64 {
    let cuts = std::env::var("POWER_CUTS").ok();
    let cuts: u64 = cuts.map_or(1_200, |cuts| cuts.parse().unwrap());
    cuts.div_ceil(CUTS)
}

/// What the power cuts hit.
#[derive(Debug, Default)]
struct Cuts {
    start: u64,
    work: u64,
    /// The store was not being called.
    rest: u64,
}

fn options() -> Options {
    // So small that pages are written out before the commit.
    Options {
        cache_bytes_max: 64 << 10,
    }
}

/// A store's life, and what is known of it.
struct Life {
    disk: SimulatedDisk,
    rng: SmallRng,
    model: Model,
    /// What the disk must have.
    durable: State,
    /// What it may have instead: the outcome of a write that failed.
    possible: Option<State>,
    created: bool,
    /// A snapshot taken on the way, and the state it has.
    snapshot: Option<(Bytes, State)>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let disk = SimulatedDisk::new();
        disk.create_dir_all(Path::new(DIRECTORY)).unwrap();
        Self {
            disk,
            rng: SmallRng::seed_from_u64(seed),
            model: Model::new(seed),
            durable: State::default(),
            possible: None,
            created: false,
            snapshot: None,
        }
    }

    /// Opens or creates the store and checks what it has. `None` when the power went meanwhile.
    fn start(&mut self) -> Result<Store, StoreError> {
        let disk = Arc::new(self.disk.clone());
        let opened = Store::open(disk.clone(), Path::new(DIRECTORY), options());
        let (store, loaded) = match opened {
            Err(StoreError::Missing(_)) if !self.created => {
                let store = Store::create(disk, Path::new(DIRECTORY), options())?;
                self.created = true;
                (store, Loaded::default())
            }
            opened => opened?,
        };
        self.created = true;
        let found = state(&store, &loaded)?;
        if self
            .possible
            .take()
            .is_some_and(|possible| found == possible)
        {
            self.durable = found;
        } else {
            assert!(
                found == self.durable,
                "{found:#?}\nis not\n{:#?}",
                self.durable
            );
        }
        self.model.state = self.durable.clone();
        Ok(store)
    }

    /// Writes, defragments, takes and installs snapshots until something fails.
    fn work(&mut self, store: &mut Store, rounds: usize) -> Result<(), StoreError> {
        for _ in 0..rounds {
            match self.rng.random_range(0..10) {
                0 | 1 => drop(store.defragment_step()?),
                2 => {
                    let snapshot = snapshot_of(store)?;
                    self.snapshot = Some((snapshot, self.durable.clone()));
                }
                3 if self.snapshot.is_some() => self.install(store)?,
                _ => self.write(store)?,
            }
        }
        Ok(())
    }

    fn write(&mut self, store: &mut Store) -> Result<(), StoreError> {
        let checkpoint = self.model.next_checkpoint();
        self.possible = Some(self.model.state.clone());
        store.write(&checkpoint)?;
        self.durable = self.model.state.clone();
        self.possible = None;
        Ok(())
    }

    fn install(&mut self, store: &mut Store) -> Result<(), StoreError> {
        let Some((snapshot, state)) = self.snapshot.take() else {
            return Ok(());
        };
        let file = bbolt::File::from_bytes("snapshot", snapshot).unwrap();
        self.possible = Some(state.clone());
        store.install(&file)?;
        self.durable = state.clone();
        self.model.state = state;
        self.possible = None;
        Ok(())
    }
}

fn snapshot_of(store: &Store) -> Result<Bytes, StoreError> {
    let frozen = store.frozen()?;
    let mut written = Vec::new();
    let failed = |error| match error {
        bbolt::WriteError::Source(error) => error,
        other => panic!("{other}"),
    };
    let snapshot = frozen.snapshot().map_err(failed)?;
    snapshot.write(&mut written).map_err(failed)?;
    Ok(written.into())
}

#[test]
fn no_power_cut_loses_a_checkpoint_or_leaves_half_of_one() {
    let mut cuts = Cuts::default();
    for seed in 0..seeds() {
        let mut life = Life::new(seed);
        for _ in 0..CUTS {
            // Half of them soon, so that many hit while the store is being opened.
            let calls = match life.rng.random_range(0..2) {
                0 => life.rng.random_range(0..30),
                _ => life.rng.random_range(0..400),
            };
            life.disk.fail_after(calls, Fault::PowerCut);
            let started = life.start();
            let hit = match &started {
                Err(_) => &mut cuts.start,
                Ok(_) => &mut cuts.work,
            };
            match started.and_then(|mut store| life.work(&mut store, 40)) {
                Err(_) => *hit += 1,
                Ok(()) => {
                    life.disk.fail_never();
                    cuts.rest += 1;
                }
            }
            let crash_seed = life.rng.random();
            life.disk.crash(crash_seed);
        }
        let mut store = life
            .start()
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        life.work(&mut store, 5).unwrap();
    }
    println!("database: {} power cuts: {cuts:?}", seeds() * CUTS);
    assert!(cuts.start > seeds() && cuts.work > seeds());
}

#[test]
fn every_failing_call_stops_the_store_and_loses_nothing() {
    for fault in [Fault::InputOutput, Fault::NoSpace] {
        let mut calls = 0;
        loop {
            let mut life = Life::new(1);
            life.disk.fail_after(calls, fault);
            let failed = life.start().and_then(|mut store| {
                let failed = life.work(&mut store, 25);
                if let Err(error) = &failed {
                    check_poisoned(&mut store, error);
                }
                failed
            });
            if life.disk.calls() <= calls {
                break;
            }
            // Closing a database that was replaced may fail unheard: nobody needs it any more.
            let text = failed.err().map(|error| error.to_string());
            let expected = match fault {
                Fault::NoSpace => "no space left on device: free space in /member and restart",
                _ => "Input/output error",
            };
            assert!(
                text.as_ref().is_none_or(|text| text.contains(expected)),
                "call {calls}: {text:?}"
            );
            // The process ends without a power cut and starts again.
            let mut store = life
                .start()
                .unwrap_or_else(|error| panic!("call {calls}: {error}"));
            life.work(&mut store, 3).unwrap();
            calls += 1;
        }
        assert!(calls > 200, "{calls} calls can fail");
    }
}

fn check_poisoned(store: &mut Store, error: &StoreError) {
    let checkpoint = Checkpoint {
        applied_index: u64::MAX,
        ..Checkpoint::default()
    };
    let again = store.write(&checkpoint).unwrap_err();
    assert_eq!(again.to_string(), error.to_string());
    let read = store.reader().record(crate::types::Revision::new(2, 0));
    assert_eq!(read.unwrap_err().to_string(), error.to_string());
}
