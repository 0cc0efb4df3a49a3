//! Random checkpoints, and a model of what a store that took them must hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use crate::disk::RealDisk;
use crate::pb::KeyValueFields;
use crate::pb::raftpb::ConfState;
use crate::store::*;
use crate::types::Revision;

pub(super) fn create(directory: &TempDir) -> Store {
    Store::create(Arc::new(RealDisk), directory.path(), Options::default()).unwrap()
}

pub(super) fn open(directory: &TempDir) -> (Store, Loaded) {
    Store::open(Arc::new(RealDisk), directory.path(), Options::default()).unwrap()
}

pub(super) fn put(revision: Revision, key: &[u8], record: &[u8]) -> Change {
    Change {
        row: RevisionRow {
            revision,
            tombstone: false,
            key: Bytes::copy_from_slice(key),
            create_revision: revision.main,
            version: 1,
            lease: 0,
            record_bytes: record.len() as u32,
        },
        record: Bytes::copy_from_slice(record),
        previous: None,
        previous_lease: 0,
    }
}

type Revisions = BTreeMap<Revision, (RevisionRow, Bytes)>;

/// What a store must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    pub(super) applied_index: u64,
    pub(super) conf_state: ConfState,
    pub(super) revisions: Revisions,
    pub(super) buckets: BTreeMap<(Bucket, Bytes), Bytes>,
}

/// A source of checkpoints.
pub(super) struct Model {
    pub(super) state: State,
    rng: SmallRng,
    main: i64,
    value_bytes_max: usize,
}

impl Model {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            state: State::default(),
            rng: SmallRng::seed_from_u64(seed),
            main: 1,
            value_bytes_max: 20_000,
        }
    }

    /// One whose database fits few pages.
    pub(super) fn with_small_values(seed: u64) -> Self {
        Self {
            value_bytes_max: 50,
            ..Self::new(seed)
        }
    }

    /// The effects of a few more entries; the model has them applied.
    pub(super) fn next_checkpoint(&mut self) -> Checkpoint {
        let changes = (0..self.rng.random_range(0..8))
            .map(|_| self.change())
            .collect();
        let state = &mut self.state;
        state.applied_index += self.rng.random_range(1..100);
        state.conf_state.voters = vec![self.rng.random_range(1..4)];
        let mut checkpoint = Checkpoint {
            applied_index: state.applied_index,
            applied_term: state.applied_index / 50,
            conf_state: state.conf_state.clone(),
            changes,
            ..Checkpoint::default()
        };
        for change in checkpoint.changes.iter().flat_map(|batch| batch.iter()) {
            let content = (change.row.clone(), change.record.clone());
            state.revisions.insert(change.row.revision, content);
        }
        self.compact(&mut checkpoint);
        self.write_buckets(&mut checkpoint);
        checkpoint
    }

    fn change(&mut self) -> Arc<[Change]> {
        self.main += 1;
        let main = self.main;
        (0..self.rng.random_range(1..4))
            .map(|sub| self.change_of(Revision::new(main, sub)))
            .collect()
    }

    fn change_of(&mut self, revision: Revision) -> Change {
        let rng = &mut self.rng;
        let key = format!("key {}", rng.random_range(0..20));
        let bytes = match rng.random_range(0..20) {
            0 => rng.random_range(0..self.value_bytes_max),
            _ => rng.random_range(0..self.value_bytes_max / 100 + 10),
        };
        let mut record = KeyValueFields {
            key: key.into(),
            ..KeyValueFields::default()
        };
        let tombstone = rng.random_range(0..4) == 0;
        if !tombstone {
            record.create_revision = rng.random_range(1..=revision.main);
            record.version = rng.random_range(1..1 << 40);
            record.value = (0..bytes).map(|_| rng.random()).collect();
            if rng.random() {
                record.lease = rng.random();
            }
        }
        let mut change = put(revision, &record.key, &record.encode_to_vec());
        change.row.tombstone = tombstone;
        change.row.create_revision = record.create_revision;
        change.row.version = record.version;
        change.row.lease = record.lease;
        change
    }

    fn compact(&mut self, checkpoint: &mut Checkpoint) {
        if self.rng.random_range(0..3) > 0 {
            return;
        }
        let revisions: Vec<Revision> = self.state.revisions.keys().copied().collect();
        for revision in revisions {
            if self.rng.random_range(0..3) == 0 {
                self.state.revisions.remove(&revision);
                checkpoint.removed.push(revision);
            }
        }
        checkpoint.removed.reverse();
    }

    fn write_buckets(&mut self, checkpoint: &mut Checkpoint) {
        for _ in 0..self.rng.random_range(0..6) {
            let bucket = Bucket::ALL[self.rng.random_range(0..Bucket::ALL.len())];
            let key = Bytes::from(format!("row {}", self.rng.random_range(0..5)));
            let value = self.rng.random_bool(0.7);
            let value = value.then(|| Bytes::from(self.main.to_string()));
            match &value {
                Some(value) => self
                    .state
                    .buckets
                    .insert((bucket, key.clone()), value.clone()),
                None => self.state.buckets.remove(&(bucket, key.clone())),
            };
            checkpoint.buckets.push(BucketWrite { bucket, key, value });
        }
    }

    pub(super) fn check(&self, reader: &Reader) {
        assert_eq!(revisions(reader).unwrap(), self.state.revisions);
    }

    pub(super) fn check_loaded(&self, loaded: &Loaded) {
        assert_eq!(buckets(loaded), self.state.buckets);
        assert_eq!(loaded.applied_index, self.state.applied_index);
        assert_eq!(loaded.applied_term, self.state.applied_index / 50);
        assert_eq!(loaded.conf_state, self.state.conf_state);
        let last = self.state.revisions.keys().last().copied();
        assert_eq!(loaded.last_revision, last);
    }
}

/// Everything a store holds.
pub(super) fn state(store: &Store, loaded: &Loaded) -> Result<State, StoreError> {
    Ok(State {
        applied_index: loaded.applied_index,
        conf_state: loaded.conf_state.clone(),
        revisions: revisions(&store.reader())?,
        buckets: buckets(loaded),
    })
}

fn revisions(reader: &Reader) -> Result<Revisions, StoreError> {
    let mut rows = Vec::new();
    reader.scan_rows(&mut |row| rows.push(row.to_row()))?;
    let paged = reader.rows(0, i64::MAX, 7)?;
    assert!(rows.iter().zip(&paged).all(|(row, paged)| row == paged));
    let at: Vec<Revision> = rows.iter().map(|row| row.revision).collect();
    let records = reader.records(&at)?.into_iter();
    let records = records.map(|record| record.unwrap());
    Ok(at.into_iter().zip(rows.into_iter().zip(records)).collect())
}

/// All bucket rows but those that a checkpoint writes by itself.
fn buckets(loaded: &Loaded) -> BTreeMap<(Bucket, Bytes), Bytes> {
    let own = ["consistent_index", "term", "confState"];
    let rows = loaded.buckets.iter();
    rows.filter(|row| row.bucket != Bucket::Meta || !own.iter().any(|own| row.key == own))
        .map(|row| ((row.bucket, row.key.clone()), row.value.clone()))
        .collect()
}
