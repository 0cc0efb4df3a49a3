//! Flipped bits: never a wrong answer, never a panic.

use std::path::Path;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::sample::{Model, state};
use crate::disk::SimulatedDisk;
use crate::store::*;

const FILE: &str = "/member/state.redb";

/// A small file, and what it has.
fn sample() -> (Vec<u8>, Model) {
    let disk = SimulatedDisk::new();
    disk.create_dir_all(Path::new("/member")).unwrap();
    let mut model = Model::with_small_values(3);
    let member = Path::new("/member");
    let mut store = Store::create(Arc::new(disk.clone()), member, Options::default()).unwrap();
    for _ in 0..4 {
        store.write(&model.next_checkpoint()).unwrap();
    }
    // As a crash leaves it: the engine's own farewell is missing.
    (disk.content(Path::new(FILE)).unwrap(), model)
}

#[derive(Debug, Default)]
struct Outcomes {
    harmless: usize,
    refused_at_open: usize,
    refused_at_read: usize,
    with_offset: usize,
}

impl Outcomes {
    /// Opens `content` and reads everything in it: it is right, or refused by a message that names the file.
    fn count(&mut self, content: &[u8], model: &Model, what: &str) {
        let disk = SimulatedDisk::new();
        disk.put(Path::new(FILE), content).unwrap();
        let opened = Store::open(Arc::new(disk), Path::new("/member"), Options::default());
        let error = match opened {
            Err(error) => {
                self.refused_at_open += 1;
                error
            }
            Ok((store, loaded)) => match state(&store, &loaded) {
                Ok(found) => {
                    assert!(found == model.state, "{what}: a wrong answer");
                    self.harmless += 1;
                    return;
                }
                Err(error) => {
                    self.refused_at_read += 1;
                    error
                }
            },
        };
        let text = error.to_string();
        assert!(text.contains(FILE), "{what}: {text}");
        self.with_offset += usize::from(text.contains("damaged at offset"));
    }

    fn refused(&self) -> usize {
        self.refused_at_open + self.refused_at_read
    }
}

#[test]
fn every_flipped_bit_is_harmless_or_refused_with_file_and_offset() {
    let (mut content, model) = sample();
    let mut outcomes = Outcomes::default();
    // All of them with `FLIP_EVERY=1`.
    let every = std::env::var("FLIP_EVERY").ok();
    let every: usize = every.map_or(499, |every| every.parse().unwrap());
    let mut bit = 0;
    while bit < content.len() * 8 {
        content[bit / 8] ^= 1 << (bit % 8);
        outcomes.count(&content, &model, &format!("bit {bit}"));
        content[bit / 8] ^= 1 << (bit % 8);
        bit += every;
    }
    println!(
        "database: {} bytes, every {every}th bit: {outcomes:?}",
        content.len()
    );
    assert!(outcomes.harmless > 0 && outcomes.refused() > 0);
    assert_eq!(outcomes.with_offset, outcomes.refused());
}

#[test]
fn lost_blocks_and_cut_off_files_are_refused() {
    let (content, model) = sample();
    let mut rng = SmallRng::seed_from_u64(1);
    let mut outcomes = Outcomes::default();
    for block in 0..content.len() / 4096 {
        let mut lost = content.clone();
        lost[block * 4096..(block + 1) * 4096].fill(0);
        outcomes.count(&lost, &model, &format!("block {block} lost"));
    }
    for _ in 0..20 {
        let bytes = rng.random_range(0..content.len());
        outcomes.count(&content[..bytes], &model, &format!("cut to {bytes}"));
    }
    outcomes.count(b"not a database, but a text", &model, "text");
    assert!(outcomes.refused() > 10);
}

#[test]
fn a_file_of_a_newer_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    super::sample::create(&directory).close().unwrap();
    let path = directory.path().join("state.redb");
    let open = || {
        let file =
            crate::disk::Disk::open(&crate::disk::RealDisk, &path, crate::disk::Access::Write);
        super::super::database::Database::open(file.unwrap(), path.clone(), 1 << 20)
    };
    let database = open().unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(super::super::schema::ABOUT)
        .unwrap()
        .insert(super::super::schema::ABOUT_FORMAT, 2)
        .unwrap();
    database.commit(txn).unwrap();
    drop(database);
    let error = open().err().unwrap().to_string();
    assert!(
        error.contains("has format 2, this etcd reads format 1"),
        "{error}"
    );
}
