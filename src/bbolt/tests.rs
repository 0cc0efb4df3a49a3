//! Files of etcd 3.7.1 (see `testdata/README.md`), files written here, and files of no one.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::read::GzDecoder;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::page::{Header, LEAF, Meta, PAGE_BYTES};
use super::*;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
type Contents = BTreeMap<String, Rows>;

const SNAPSHOT: &[u8] = include_bytes!("testdata/snapshot.db.gz");
const STOPPED: &[u8] = include_bytes!("testdata/stopped.db.gz");

fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut content).unwrap();
    content
}

fn file(content: &[u8]) -> Result<File, BboltError> {
    File::from_bytes("test.db", Bytes::copy_from_slice(content))
}

fn contents(file: &File) -> Result<Contents, BboltError> {
    let mut contents = Contents::new();
    for (name, bucket) in file.buckets()? {
        let mut rows = file.rows(&bucket);
        let of_bucket = contents.entry(String::from_utf8_lossy(&name).into_owned());
        let of_bucket = of_bucket.or_default();
        while let Some((key, value)) = rows.next()? {
            of_bucket.insert(key.to_vec(), value.to_vec());
        }
    }
    Ok(contents)
}

impl Source for Contents {
    type Error = Infallible;

    fn buckets(&self) -> Vec<&str> {
        self.keys().map(String::as_str).collect()
    }

    fn sizes(&self, bucket: &str, row: &mut SizeVisitor<'_>) -> Result<(), Infallible> {
        self[bucket]
            .iter()
            .for_each(|(key, value)| row(key, value.len()));
        Ok(())
    }

    fn rows(&self, bucket: &str, row: &mut RowVisitor<'_>) -> Result<io::Result<()>, Infallible> {
        let mut rows = self[bucket].iter();
        Ok(rows.try_for_each(|(key, value)| row(key, value)))
    }
}

fn write(contents: &Contents) -> Vec<u8> {
    let layout = Layout::plan(contents).unwrap();
    let mut written = Vec::new();
    layout.write(contents, &mut written).unwrap();
    assert_eq!(written.len() as u64, layout.file_bytes());
    written
}

/// What bbolt's own check looks at: every page below the high-water mark is reached once, keys ascend, and those of a
/// child lie between its branch's.
fn check_structure(content: &[u8]) {
    let meta = |id: usize| Meta::decode(&content[id * PAGE_BYTES..]).unwrap();
    let (first, second) = (meta(0), meta(1));
    assert_eq!(first.transaction, second.transaction + 1);
    assert_eq!(
        Meta {
            transaction: 0,
            ..first
        },
        Meta {
            transaction: 0,
            ..second
        }
    );
    let pages = content.len() / PAGE_BYTES;
    assert_eq!(first.high_water, pages as u64);
    let mut reached = vec![false; pages];
    reached[..2].fill(true);
    let mut roots = vec![first.root];
    for (_, Bucket(root)) in file(content).unwrap().buckets().unwrap() {
        if let super::file::Root::Page(page) = root {
            roots.push(page);
        }
    }
    for root in roots {
        check_tree(content, root, &[], None, &mut reached);
    }
    assert!(reached.iter().all(|reached| *reached), "{reached:?}");
}

fn check_tree(content: &[u8], id: u64, from: &[u8], to: Option<&[u8]>, reached: &mut [bool]) {
    let page = &content[id as usize * PAGE_BYTES..];
    let header = Header::decode(page).unwrap();
    assert_eq!(header.id, id);
    for page in id..=id + u64::from(header.overflow) {
        assert!(
            !std::mem::replace(&mut reached[page as usize], true),
            "page {page} twice"
        );
    }
    let keys: Vec<&[u8]> = (0..usize::from(header.count))
        .map(|index| match header.flags {
            LEAF => super::page::leaf_element(page, index).unwrap().key,
            _ => super::page::branch_element(page, index).unwrap().0,
        })
        .collect();
    assert!(keys.is_sorted_by(|a, b| a < b));
    assert!(keys.first().is_none_or(|first| *first >= from));
    assert!(
        keys.last()
            .is_none_or(|last| to.is_none_or(|to| *last < to))
    );
    if header.flags != LEAF {
        for (index, key) in keys.iter().enumerate() {
            let (_, child) = super::page::branch_element(page, index).unwrap();
            check_tree(
                content,
                child,
                key,
                keys.get(index + 1).copied().or(to),
                reached,
            );
        }
    }
}

#[test]
fn a_snapshot_of_etcd_is_read_completely_and_written_again() {
    let original = file(&unpack(SNAPSHOT)).unwrap();
    assert!(original.has_sha256());
    original.verify_sha256().unwrap();
    let read = contents(&original).unwrap();
    let rows: Vec<(&str, usize)> = read
        .iter()
        .map(|(name, rows)| (name.as_str(), rows.len()))
        .collect();
    assert_eq!(
        rows,
        [
            ("alarm", 0),
            ("auth", 1),
            ("authRoles", 1),
            ("authUsers", 2),
            ("cluster", 1),
            ("key", 95),
            ("lease", 2),
            ("members", 1),
            ("members_removed", 0),
            ("meta", 6),
        ]
    );
    let written = write(&read);
    check_structure(&written);
    assert_eq!(contents(&file(&written).unwrap()).unwrap(), read);
}

#[test]
fn a_stopped_etcds_database_has_what_its_snapshot_has() {
    let stopped = file(&unpack(STOPPED)).unwrap();
    assert!(!stopped.has_sha256());
    stopped.verify_sha256().unwrap();
    let mut stopped = contents(&stopped).unwrap();
    let mut snapshot = contents(&file(&unpack(SNAPSHOT)).unwrap()).unwrap();
    // Only these rows move on without a write.
    for contents in [&mut stopped, &mut snapshot] {
        contents
            .get_mut("meta")
            .unwrap()
            .remove(b"consistent_index".as_slice());
    }
    assert_eq!(stopped, snapshot);
}

#[test]
fn a_changed_snapshot_fails_its_checksum() {
    let mut content = unpack(SNAPSHOT);
    let at = content.len() / 2;
    content[at] ^= 1;
    let error = file(&content)
        .unwrap()
        .verify_sha256()
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("expected sha256 [") && error.contains("], got ["),
        "{error}"
    );
}

#[test]
fn the_checksum_of_what_was_written_is_that_of_etcd() {
    let content = unpack(SNAPSHOT);
    let (pages, expected) = content.split_at(content.len() - SHA256_BYTES);
    let mut writer = Sha256Writer::new(io::sink());
    pages
        .chunks(1000)
        .for_each(|chunk| writer.write_all(chunk).unwrap());
    assert_eq!(writer.finish().1, expected);
}

#[test]
fn large_trees_have_several_levels_and_large_values_pages_of_their_own() {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut rows = Rows::new();
    for number in 0..30_000_u64 {
        let bytes = match rng.random_range(0..1000) {
            0 => rng.random_range(4_000..50_000),
            1..100 => rng.random_range(1_000..4_200),
            _ => rng.random_range(0..100),
        };
        rows.insert(number.to_be_bytes().to_vec(), vec![number as u8; bytes]);
    }
    // Long keys make many levels.
    let long = |number: u32| (vec![(number / 50) as u8; 900], number.to_be_bytes());
    let long = (0..2_000).map(|number| [long(number).0, long(number).1.to_vec()].concat());
    let long: Rows = long.map(|key| (key, Vec::new())).collect();
    let empty = ("empty".to_owned(), Rows::new());
    let contents_written = Contents::from([("a".to_owned(), rows), ("b".to_owned(), long), empty]);
    let written = write(&contents_written);
    check_structure(&written);
    assert_eq!(
        contents(&file(&written).unwrap()).unwrap(),
        contents_written
    );
}

#[test]
fn a_walk_may_begin_at_any_key() {
    let key = |number: u32| format!("{number:06}").into_bytes();
    let rows: Rows = (0..3000).map(|n| (key(n * 2), vec![0; 100])).collect();
    let contents = Contents::from([
        ("key".to_owned(), rows.clone()),
        ("small".to_owned(), rows.into_iter().take(3).collect()),
    ]);
    let written = write(&contents);
    let file = file(&written).unwrap();
    for (name, rows) in &contents {
        let bucket = file.bucket(name).unwrap();
        for number in (0..60).chain((61..6010).step_by(37)) {
            let from = key(number);
            let mut found = file.rows_from(&bucket, &from);
            for expected in rows.range(from..).take(50) {
                let (key, _) = found.next().unwrap().unwrap();
                assert_eq!(key, expected.0, "{name} from {number}");
            }
        }
        let mut found = file.rows_from(&bucket, b"9");
        assert_eq!(found.next().unwrap(), None);
    }
    let pages = (written.len() / PAGE_BYTES) as u64;
    assert_eq!(
        file.pages_in_use().unwrap(),
        pages,
        "no page is free in a new file"
    );
}

#[test]
fn pages_are_filled_as_etcd_fills_them() {
    let rows = (0..5_000_u32).map(|number| (number.to_be_bytes().to_vec(), vec![0; 100]));
    let written = write(&Contents::from([("a".to_owned(), rows.collect())]));
    let payload = 5_000 * (16 + 4 + 100);
    let fill = payload * 100 / written.len();
    assert!((85..92).contains(&fill), "{fill} %");
}

#[test]
fn rows_that_do_not_fit_the_format_are_refused() {
    for key in [Vec::new(), vec![1; 32_769]] {
        let rows = Rows::from([(key, Vec::new())]);
        let contents = Contents::from([("a".to_owned(), rows)]);
        let refused = Layout::plan(&contents).unwrap_err();
        assert!(matches!(refused, WriteError::RowTooLarge { .. }));
    }
}

#[test]
fn rows_that_changed_since_the_plan_are_noticed() {
    let rows = |bytes| Rows::from([(vec![1], vec![0; bytes])]);
    let planned = Contents::from([("a".to_owned(), rows(10_000))]);
    let layout = Layout::plan(&planned).unwrap();
    let changed = Contents::from([("a".to_owned(), rows(20_000))]);
    let error = layout.write(&changed, &mut io::sink()).unwrap_err();
    assert!(matches!(error, WriteError::Changed));
}

#[test]
fn the_newer_of_two_meta_pages_counts_and_one_is_enough() {
    let good = unpack(STOPPED);
    let expected = contents(&file(&good).unwrap()).unwrap();
    for page in 0..2 {
        let mut content = good.clone();
        content[page * PAGE_BYTES..(page + 1) * PAGE_BYTES].fill(0xFF);
        // The older state may lack the last rows; it must still be whole.
        let read = contents(&file(&content).unwrap()).unwrap();
        assert_eq!(read.len(), expected.len());
    }
    let mut content = good;
    content[..2 * PAGE_BYTES].fill(0);
    let error = file(&content).unwrap_err().to_string();
    assert!(
        error.contains("neither of its two meta pages is valid"),
        "{error}"
    );
}

#[test]
fn a_file_that_was_cut_off_is_refused() {
    let content = unpack(SNAPSHOT);
    let error = file(&content[..content.len() / 2]).unwrap_err().to_string();
    assert!(error.contains("it was cut off"), "{error}");
    assert!(file(&content[..100]).is_err());
    assert!(file(&[]).is_err());
}

#[test]
fn a_tree_that_leads_back_to_itself_ends_in_an_error() {
    let mut rows = Rows::new();
    for number in 0..1000_u32 {
        rows.insert(number.to_be_bytes().to_vec(), vec![0; 100]);
    }
    let content = write(&Contents::from([("a".to_owned(), rows)]));
    let branches: Vec<usize> = (2..content.len() / PAGE_BYTES)
        .filter(|page| content[page * PAGE_BYTES + 8] == super::page::BRANCH as u8)
        .collect();
    let branch = branches[0];
    // To itself, to its first child again, to the meta pages, beyond the file.
    for child in [branch as u64, 2, 0, 1 << 40, u64::MAX] {
        let mut looped = content.clone();
        let at = branch * PAGE_BYTES + 16 + 16 + 8;
        looped[at..at + 8].copy_from_slice(&child.to_le_bytes());
        let error = contents(&file(&looped).unwrap()).unwrap_err().to_string();
        assert!(
            error.contains("page") && error.contains("offset"),
            "{error}"
        );
    }
}

/// Reading `content` ends, with rows or an error.
fn survive(content: &[u8]) {
    if let Ok(file) = file(content) {
        let _ = contents(&file);
    }
}

#[test]
fn no_mutation_of_a_real_file_is_a_panic_or_an_endless_loop() {
    let original = unpack(SNAPSHOT);
    let mut rng = SmallRng::seed_from_u64(7);
    let fix_sums = |content: &mut Vec<u8>| {
        // Meta pages whose checksums are right let the rest of the damage through.
        for id in 0..2 {
            if let Some(meta) = Meta::decode(&original[id * PAGE_BYTES..]) {
                let page = meta.encode(id as u64);
                content[id * PAGE_BYTES..][..PAGE_BYTES].copy_from_slice(&page);
            }
        }
    };
    for round in 0..1_000 {
        let mut content = original.clone();
        for _ in 0..rng.random_range(1..20) {
            let at = rng.random_range(0..content.len());
            match rng.random_range(0..4) {
                0 => content[at] ^= 1 << rng.random_range(0..8),
                1 => content[at] = rng.random(),
                2 => content[at] = [0, 1, 2, 0x7F, 0x80, 0xFF][rng.random_range(0..6)],
                _ => {
                    // A page over another one.
                    let pages = content.len() / PAGE_BYTES;
                    let [from, to] = [(); 2].map(|()| rng.random_range(0..pages) * PAGE_BYTES);
                    let page = content[from..from + PAGE_BYTES].to_vec();
                    content[to..to + PAGE_BYTES].copy_from_slice(&page);
                }
            }
        }
        if round % 2 == 0 {
            fix_sums(&mut content);
        }
        survive(&content);
    }
}

#[test]
fn random_bytes_are_read_without_a_panic() {
    let mut rng = SmallRng::seed_from_u64(8);
    for round in 0..300 {
        let mut content = vec![0; rng.random_range(0..40_000)];
        rng.fill(content.as_mut_slice());
        if round % 2 == 0 && content.len() > 4 * PAGE_BYTES {
            let meta = Meta {
                page_bytes: PAGE_BYTES as u32,
                root: rng.random_range(0..4),
                high_water: (content.len() / PAGE_BYTES) as u64,
                transaction: 1,
            };
            content[..PAGE_BYTES].copy_from_slice(&meta.encode(0));
        }
        survive(&content);
    }
}

#[test]
fn what_is_written_is_read_again() {
    let mut rng = SmallRng::seed_from_u64(9);
    let mut bytes = |range: std::ops::Range<usize>| -> Vec<u8> {
        let bytes = rng.random_range(range);
        (0..bytes).map(|_| rng.random()).collect()
    };
    for round in 0..60 {
        let names = (0..round % 12).map(|number| format!("bucket {number}"));
        let contents_written: Contents = names
            .map(|name| {
                let rows = bytes(0..60).len();
                let rows = (0..rows).map(|_| (bytes(1..300), bytes(0..round * 50 + 1)));
                (name, rows.collect())
            })
            .collect();
        let written = write(&contents_written);
        check_structure(&written);
        assert_eq!(
            contents(&file(&written).unwrap()).unwrap(),
            contents_written
        );
    }
}
