//! The commands on files of etcd 3.7.1 (see `bbolt/testdata/README.md`). Hashes are those its own etcdutl gave.

use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::edited::{Edited, write_file};
use super::source::{self, Source};
use super::status::{Status, status_of_file, status_of_path};
use super::{PROGRAM, hashkv, restore};
use crate::bbolt::File;
use crate::ctl::exit::Failure;
use crate::disk::{Disk, RealDisk};
use crate::membership::ConfigurationChange;
use crate::store::{Bucket, Options, Store};
use crate::types::{ClusterId, MemberId};
use crate::wal::{self, WalSnapshot};

const SNAPSHOT: &[u8] = include_bytes!("../bbolt/testdata/snapshot.db.gz");
const STOPPED: &[u8] = include_bytes!("../bbolt/testdata/stopped.db.gz");
/// HashKV of the snapshot at its last revision, 98.
const HASH: u32 = 1_363_779_293;
/// The same after a restore that raised the revision by 100.
const RAISED_HASH: u32 = 47_319_270;

fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    flate2::read::GzDecoder::new(packed)
        .read_to_end(&mut content)
        .unwrap();
    content
}

fn directory_with(name: &str, content: &[u8]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(name), content).unwrap();
    directory
}

/// Calls the program; `$` in an argument stands for the directory.
fn call(directory: &TempDir, line: &str) -> Result<(), Failure> {
    let root = directory.path().to_str().unwrap();
    let words = format!("etcdutl {line}").replace('$', root);
    PROGRAM.run(
        words
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect(),
    )
}

fn error(directory: &TempDir, line: &str) -> (u8, String) {
    let failure = call(directory, line).unwrap_err();
    let root = directory.path().to_str().unwrap();
    (
        failure.code,
        failure.message.unwrap_or_default().replace(root, "$"),
    )
}

fn open(path: &Path) -> File {
    File::open(&RealDisk, path).unwrap()
}

fn hash(path: &Path) -> (u32, i64, i64) {
    let source = match source::is_native(path) {
        true => Source::Native(Box::new(
            Store::open(
                Arc::new(RealDisk),
                path.parent().unwrap(),
                Options::default(),
            )
            .unwrap(),
        )),
        false => source::open_go(path, None).unwrap(),
    };
    let hash = hashkv::hash(source, 0).unwrap();
    (hash.hash, hash.revision, hash.compact_revision)
}

fn check_log(directory: &Path, cluster: u64, own: u64, members: usize) {
    let snapshots = wal::valid_snapshots(&RealDisk, directory).unwrap();
    let last = snapshots.last().unwrap();
    assert_eq!((last.index, last.term), (members as u64, 1));
    let log = wal::read(&RealDisk, directory, &WalSnapshot::default()).unwrap();
    assert_eq!(log.metadata.cluster_id, ClusterId(cluster));
    assert_eq!(log.metadata.node_id, MemberId(own));
    let voters: Vec<_> = log
        .entries
        .iter()
        .map(
            |entry| match ConfigurationChange::decode(&entry.data).unwrap() {
                (0, ConfigurationChange::Add(member)) => member.id,
                other => panic!("{other:?}"),
            },
        )
        .collect();
    assert_eq!(voters, last.conf_state.as_ref().unwrap().voters);
    assert_eq!(log.hard_state.vote, voters[0]);
    assert_eq!(
        (log.hard_state.commit, log.hard_state.term),
        (members as u64, 1)
    );
}

#[test]
fn a_snapshot_has_the_status_etcd_gives_it() {
    let directory = directory_with("snap.db", &unpack(SNAPSHOT));
    let status = status_of_file(&open(&directory.path().join("snap.db"))).unwrap();
    assert_eq!(
        status,
        Status {
            hash: 0xeeac_e22d,
            revision: 98,
            keys: 18,
            bytes: 61_440,
            version: "3.7.0".to_owned(),
        }
    );
    assert_eq!(hash(&directory.path().join("snap.db")), (HASH, 98, 40));
}

#[test]
fn files_that_are_no_snapshot_are_refused_in_etcds_words() {
    let directory = directory_with("junk", &b"junk".repeat(4096));
    fs::write(directory.path().join("empty"), b"").unwrap();
    fs::write(directory.path().join("short"), b"xxxxxxxxxx").unwrap();
    for (line, code, message) in [
        (
            "snapshot status",
            128,
            "snapshot status requires exactly one argument",
        ),
        (
            "snapshot status $/none",
            1,
            "stat $/none: no such file or directory",
        ),
        ("snapshot status $/junk", 1, "invalid database"),
        (
            "snapshot status $/empty",
            1,
            "write $/empty: bad file descriptor",
        ),
        (
            "snapshot restore $/none --data-dir $/d",
            1,
            "open $/none: no such file or directory",
        ),
        (
            "snapshot restore $/short --data-dir $/d",
            1,
            "seek $/short: invalid argument",
        ),
        (
            "snapshot restore $/junk --data-dir $/d",
            1,
            "snapshot missing hash but --skip-hash-check=false",
        ),
        (
            "snapshot restore $/junk --mark-compacted",
            128,
            "--mark-compacted required if --revision-bump > 0",
        ),
        (
            "snapshot restore $/junk --data-dir $",
            1,
            "data-dir \"$\" not empty or could not be read",
        ),
        (
            "snapshot restore $/junk --data-dir $/d --wal-dir $",
            1,
            "wal-dir \"$\" exists",
        ),
        ("hashkv $/none", 1, "stat $/none: no such file or directory"),
        ("hashkv $/junk", 2, ""),
        (
            "defrag --data-dir $/none",
            1,
            "Failed to defragment etcd data[$/none] (stat $/none/member/snap/db: no such file or directory)",
        ),
    ] {
        assert_eq!(
            error(&directory, line),
            (code, message.to_owned()),
            "{line}"
        );
    }
    let (code, message) = error(&directory, "defrag");
    assert_eq!(code, 1);
    let again = "required flag(s) \"data-dir\" not set";
    assert!(message.starts_with(again) && message.ends_with(&format!("\n\nError: {again}")));
}

#[test]
fn a_snapshot_with_any_byte_changed_is_refused() {
    // As small as one can be: all its buckets are empty.
    let directory = directory_with("etcd.db", &unpack(SNAPSHOT));
    let etcds = open(&directory.path().join("etcd.db"));
    let mut edited = Edited::new(&etcds).unwrap();
    Bucket::ALL
        .into_iter()
        .for_each(|bucket| edited.empty(bucket));
    let path = directory.path().join("small.db");
    write_file(&edited, &path).unwrap();
    let mut content = fs::read(&path).unwrap();
    content.truncate(8192);
    content.extend(<[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(
        &content,
    )));
    fs::write(&path, &content).unwrap();
    restore::check_sha256(&path, false).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for (at, byte) in content.iter().enumerate() {
        file.write_all_at(&[byte ^ (1 << (at % 8))], at as u64)
            .unwrap();
        let refused = restore::check_sha256(&path, false).unwrap_err();
        assert!(
            refused.starts_with("expected sha256 ["),
            "byte {at}: {refused}"
        );
        file.write_all_at(&[*byte], at as u64).unwrap();
    }
}

#[test]
fn a_snapshot_with_a_changed_byte_has_no_status() {
    let mut content = unpack(SNAPSHOT);
    let directory = directory_with("snap.db", &content);
    let path = directory.path().join("snap.db");
    let status = status_of_path(&path).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    // A prime step: pages are hit at ever other places, in use or not, and so is the checksum.
    for (at, byte) in content.iter().enumerate().rev().step_by(97) {
        file.write_all_at(&[byte ^ (1 << (at % 8))], at as u64)
            .unwrap();
        assert!(status_of_path(&path).is_err(), "byte {at}");
        file.write_all_at(&[*byte], at as u64).unwrap();
    }
    // The copied database of a member has no checksum.
    content.truncate(status.bytes as usize);
    fs::write(&path, &content).unwrap();
    assert_eq!(status_of_path(&path).unwrap(), status);
    // Of the two meta pages one is enough, so nothing but the checksum can tell that the other is damaged.
    let line = format!("snapshot status {}", path.display());
    content = unpack(SNAPSHOT);
    content[20] ^= 1;
    fs::write(&path, &content).unwrap();
    let (code, message) = error(&directory, &line);
    let head = "snapshot file integrity check failed. 1 errors found.\nexpected sha256 [";
    assert!(code == 1 && message.starts_with(head), "{message}");
}

#[test]
fn a_refused_restore_leaves_nothing_behind() {
    let mut content = unpack(SNAPSHOT);
    content[20_000] ^= 1;
    let directory = directory_with("snap.db", &content);
    for format in ["go", "native"] {
        let line = format!("snapshot restore $/snap.db --data-dir $/d --format {format}");
        let (code, message) = error(&directory, &line);
        assert_eq!(code, 1);
        assert!(message.starts_with("expected sha256 ["));
        assert!(!directory.path().join("d").exists());
    }
    // The checksum is of the damaged file: now the pages themselves have to tell.
    let root = u64::from_le_bytes(content[32..40].try_into().unwrap()) as usize;
    content[root * 4096 + 8] = 0xff;
    fs::write(directory.path().join("snap.db"), &content).unwrap();
    fs::create_dir(directory.path().join("d")).unwrap();
    for format in ["go", "native"] {
        let line = format!(
            "snapshot restore $/snap.db --data-dir $/d --skip-hash-check --format {format}"
        );
        assert_eq!(error(&directory, &line).0, 1);
        assert!(
            directory
                .path()
                .join("d")
                .read_dir()
                .unwrap()
                .next()
                .is_none()
        );
    }
}

#[test]
fn a_member_of_etcd_in_go_is_restored() {
    let directory = directory_with("snap.db", &unpack(SNAPSHOT));
    call(
        &directory,
        "snapshot restore $/snap.db --data-dir $/d --format=go",
    )
    .unwrap();
    let member = directory.path().join("d/member");
    let status = status_of_file(&open(&member.join("snap/db"))).unwrap();
    assert_eq!((status.revision, status.keys), (98, 18));
    assert_eq!(hash(&member.join("snap/db")), (HASH, 98, 40));
    check_log(
        &member.join("wal"),
        0xcdf8_1819_4e3a_8c32,
        0x8e9e_05c5_2164_694d,
        1,
    );
    let names = RealDisk.names(&member.join("snap")).unwrap();
    assert_eq!(names, ["0000000000000001-0000000000000001.snap", "db"]);
    let again = error(
        &directory,
        "snapshot restore $/snap.db --data-dir $/d --format=go",
    );
    assert_eq!(again.1, "data-dir \"$/d\" not empty or could not be read");
}

#[test]
fn a_member_of_this_etcd_is_restored() {
    let directory = directory_with("snap.db", &unpack(SNAPSHOT));
    let cluster = "m1=http://127.0.0.1:14380,m2=http://127.0.0.1:14480";
    call(
        &directory,
        &format!(
            "snapshot restore $/snap.db --data-dir $/d --wal-dir $/w --name m1 --initial-cluster {cluster} \
             --initial-advertise-peer-urls http://127.0.0.1:14380 --initial-cluster-token tok"
        ),
    )
    .unwrap();
    let member = directory.path().join("d/member");
    assert_eq!(hash(&member.join("state.redb")), (HASH, 98, 40));
    check_log(
        &directory.path().join("w"),
        0x1a2b_3721_fca2_5145,
        0xbc53_e075_30e1_ef02,
        2,
    );
    let (_, loaded) = Store::open(Arc::new(RealDisk), &member, Options::default()).unwrap();
    assert_eq!((loaded.applied_index, loaded.applied_term), (2, 1));
    assert_eq!(
        loaded.conf_state.voters,
        [0xbc53_e075_30e1_ef02, 0xfdae_3988_0710_fef8]
    );
    let members = loaded
        .buckets
        .iter()
        .filter(|row| row.bucket == Bucket::Members);
    let ids: Vec<_> = members
        .map(|row| String::from_utf8_lossy(&row.key).into_owned())
        .collect();
    assert_eq!(ids, ["bc53e07530e1ef02", "fdae39880710fef8"]);
}

#[test]
fn a_raised_revision_hashes_as_in_etcd_in_either_format() {
    let directory = directory_with("snap.db", &unpack(SNAPSHOT));
    for (format, database) in [("go", "snap/db"), ("native", "state.redb")] {
        call(
            &directory,
            &format!(
                "snapshot restore $/snap.db --data-dir $/{format} --format {format} \
                 --bump-revision 100 --mark-compacted"
            ),
        )
        .unwrap();
        let database = directory.path().join(format).join("member").join(database);
        assert_eq!(hash(&database), (RAISED_HASH, 198, 198), "{format}");
    }
    let go = status_of_file(&open(&directory.path().join("go/member/snap/db"))).unwrap();
    assert_eq!((go.revision, go.keys), (198, 19));
}

#[test]
fn defragmentation_keeps_every_row_and_gives_space_back() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("d/member/snap/db");
    fs::create_dir_all(database.parent().unwrap()).unwrap();
    fs::write(&database, unpack(STOPPED)).unwrap();
    let before = status_of_file(&open(&database)).unwrap();
    call(&directory, "defrag --data-dir $/d").unwrap();
    let after = status_of_file(&open(&database)).unwrap();
    assert_eq!(after.hash, before.hash);
    assert!(after.bytes < before.bytes);
    assert_eq!(open(&database).pages_in_use().unwrap() * 4096, after.bytes);

    fs::write(directory.path().join("snap.db"), unpack(SNAPSHOT)).unwrap();
    call(&directory, "snapshot restore $/snap.db --data-dir $/ours").unwrap();
    call(&directory, "defrag --data-dir $/ours").unwrap();
    assert_eq!(
        hash(&directory.path().join("ours/member/state.redb")),
        (HASH, 98, 40)
    );
}

#[test]
fn migration_changes_the_version_and_nothing_else() {
    let directory = directory_with("snap.db", &unpack(SNAPSHOT));
    call(
        &directory,
        "snapshot restore $/snap.db --data-dir $/d --format=go",
    )
    .unwrap();
    let database = directory.path().join("d/member/snap/db");
    for (target, version) in [
        ("3.6", "3.6.0"),
        ("3.5", ""),
        ("3.7", "3.7.0"),
        ("3.7", "3.7.0"),
    ] {
        call(
            &directory,
            &format!("migrate --data-dir $/d --target-version {target}"),
        )
        .unwrap();
        assert_eq!(status_of_file(&open(&database)).unwrap().version, version);
        assert_eq!(hash(&database), (HASH, 98, 40));
    }
    let to_next = "migrate --data-dir $/d --target-version 3.8";
    let refused = "cannot create migration plan: version \"3.8.0\" is not supported";
    assert_eq!(error(&directory, to_next), (1, refused.to_owned()));
    call(&directory, &format!("{to_next} --force")).unwrap();
    assert_eq!(status_of_file(&open(&database)).unwrap().version, "3.8.0");
}

#[test]
fn migration_of_this_etcds_data_says_where_to_go() {
    let directory = directory_with("snap.db", &unpack(SNAPSHOT));
    call(&directory, "snapshot restore $/snap.db --data-dir $/d").unwrap();
    call(&directory, "migrate --data-dir $/d --target-version 3.7").unwrap();
    let (code, message) = error(&directory, "migrate --data-dir $/d --target-version 3.6");
    assert_eq!(code, 1);
    assert!(
        message.contains("etcdutl snapshot restore --format=go"),
        "{message}"
    );
}

#[test]
fn a_cluster_that_makes_no_sense_is_refused_in_etcds_words() {
    let directory = tempfile::tempdir().unwrap();
    for (flags, message) in [
        (
            "--name m1",
            "couldn't find local name \"m1\" in the initial cluster configuration",
        ),
        (
            "--initial-cluster bad",
            "URL scheme must be http, https, unix, or unixs: ",
        ),
        (
            "--initial-advertise-peer-urls bad",
            "URL scheme must be http, https, unix, or unixs: bad",
        ),
        (
            "--initial-cluster default=http://127.0.0.1:1",
            "--initial-cluster has default=http://127.0.0.1:1 but missing from \
             --initial-advertise-peer-urls=http://localhost:2380 \
             (resolved urls: \"http://localhost:2380\" != \"http://127.0.0.1:1\")",
        ),
        (
            "--initial-cluster default=http://a:1,default=http://b:1",
            "--initial-cluster has default=http://a:1,default=http://b:1 but missing from \
             --initial-advertise-peer-urls=http://localhost:2380 \
             (len([\"http://localhost:2380\"]) != len([\"http://a:1\" \"http://b:1\"]))",
        ),
        (
            "--initial-cluster default=http://localhost:2380,b=http://localhost:2380",
            "initial cluster b=http://localhost:2380,default=http://localhost:2380 has duplicate url",
        ),
    ] {
        let line = format!("snapshot restore $/none --data-dir $/d {flags}");
        assert_eq!(error(&directory, &line), (1, message.to_owned()), "{flags}");
    }
}

#[test]
fn a_database_in_use_is_waited_for_and_then_given_up() {
    let directory = directory_with("db", &unpack(STOPPED));
    let held = source::open_go(&directory.path().join("db"), None);
    assert_eq!(
        error(&directory, "hashkv $/db --timeout 1ms"),
        (2, String::new())
    );
    drop(held);
    call(&directory, "hashkv $/db --timeout 1ms").unwrap();
}
