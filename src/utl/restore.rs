//! `snapshot restore`: the data directory of a new member, from a snapshot.
//!
//! The keys, leases, users and alarms are the snapshot's; the cluster is a new one. What is written is the directory of
//! a member of this etcd, or with `--format=go` of etcd in Go. Unlike etcd's, a restore that fails leaves nothing behind: it
//! can be repeated.

use std::fs::{DirBuilder, File as OsFile};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::bbolt::{BboltError, File, SHA256_BYTES, Sha256Writer, has_sha256};
use crate::ctl::cli::{Command, Flag, Invocation, Kind};
use crate::ctl::exit::Failure;
use crate::ctl::go::quote::quote;
use crate::ctl::progress::{self, Shown};
use crate::disk::RealDisk;
use crate::logging::Line;
use crate::store::{Bucket, Change, Checkpoint, Edit, Options, RevisionRow, Store};
use crate::types::Revision;

use super::bootstrap::{self, Founding};
use super::edited::{KEY_BUCKET, sync_parent};
use super::member::{Raised, TERM};
use super::source::go_text;
use super::{blocking, failed, go_member, log, misused};

const fn uint(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        default,
        help,
        kind: Kind::Uint,
        ..Flag::NEW
    }
}

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "restore",
    usage: "<filename> --data-dir {output dir} [options]",
    short: "Makes the data directory of a new member from a snapshot",
    flags: &[
        Flag::text("data-dir", "directory to make; <name>.etcd if not given"),
        Flag::text(
            "wal-dir",
            "directory to make for the log; inside the data directory if not given",
        ),
        Flag::text(
            "initial-cluster",
            "members of the new cluster, as name=url,...",
        )
        .or("default=http://localhost:2380"),
        Flag::text(
            "initial-cluster-token",
            "what keeps the new cluster's ids apart from others'",
        )
        .or("etcd-cluster"),
        Flag::text(
            "initial-advertise-peer-urls",
            "this member's URLs for the other members",
        )
        .or("http://localhost:2380"),
        Flag::text("name", "this member's name").or("default"),
        Flag::bool(
            "skip-hash-check",
            "accept a snapshot without or with a wrong checksum, as a copied database has",
        ),
        uint(
            "initial-memory-map-size",
            "10737418240",
            "accepted, and of no use here",
        ),
        uint(
            "bump-revision",
            "",
            "how far to raise the revision; needs --mark-compacted",
        ),
        Flag::bool(
            "mark-compacted",
            "mark all up to the raised revision as compacted; needs --bump-revision",
        ),
        Flag::text(
            "format",
            "what to write: native, for this etcd to start from, or go, for etcd in Go",
        )
        .or("native")
        .offering(&["native", "go"])
        .beyond(),
    ],
    run: blocking!(run),
    ..Command::NEW
};

fn run(invocation: &Invocation) -> Result<(), Failure> {
    let [_] = invocation.args.as_slice() else {
        return Err(Failure::args(
            "snapshot restore requires exactly one argument",
        ));
    };
    let flags = &invocation.flags;
    let bump = flags.uint("bump-revision");
    if (bump > 0) != flags.bool("mark-compacted") {
        return Err(Failure::args(
            "--mark-compacted required if --revision-bump > 0",
        ));
    }
    let go = match flags.text("format").as_str() {
        "native" => false,
        "go" => true,
        other => {
            let other = quote(other.as_bytes());
            let message =
                format!("invalid argument {other} for \"--format\" flag: it is native or go");
            return Err(misused(invocation, &message));
        }
    };
    let founding = bootstrap::found(
        &flags.text("name"),
        &flags.text("initial-cluster"),
        &flags.text("initial-cluster-token"),
        &flags.text("initial-advertise-peer-urls"),
    )
    .map_err(failed)?;
    let places = Places::choose(
        flags.text("data-dir"),
        flags.text("wal-dir"),
        &flags.text("name"),
    )
    .map_err(failed)?;
    let snapshot = invocation.text(0).into_owned();
    let say = |message: &'static str| {
        log(Line::info(message)
            .with("path", snapshot.as_str())
            .display("wal-dir", places.wal.display())
            .with("data-dir", places.data_text.as_str())
            .display("snap-dir", places.snap.display())
            .with(
                "initial-memory-map-size",
                flags.uint("initial-memory-map-size"),
            ));
    };
    say("restoring snapshot");
    check_sha256(Path::new(&snapshot), flags.bool("skip-hash-check")).map_err(failed)?;
    let file = File::open(&RealDisk, Path::new(&snapshot)).map_err(failed)?;
    log(Line::info(
        "Trimming membership information from the backend...",
    ));
    let raised = match bump {
        0 => None,
        bump => Some(raise(&file, bump).map_err(failed)?),
    };
    log_members(&founding);
    places.fill(&file, &founding, raised, go).map_err(failed)?;
    say("restored snapshot");
    Ok(())
}

fn log_members(founding: &Founding) {
    for member in &founding.members {
        log(Line::info("added member")
            .display("cluster-id", founding.cluster_id)
            .with("local-member-id", "0")
            .with("added-peer-id", format!("{:x}", member.id))
            .list("added-peer-peer-urls", &member.peer_urls)
            .with("added-peer-is-learner", member.is_learner));
    }
}

/// Refuses a snapshot that is not what was saved.
pub(super) fn check_sha256(path: &Path, skip: bool) -> Result<(), String> {
    let mut file = OsFile::open(path).map_err(|error| go_text("open", path, &error))?;
    let in_words = |error: io::Error| go_text("read", path, &error);
    let bytes = file.metadata().map_err(in_words)?.len();
    let Some(content_bytes) = bytes.checked_sub(SHA256_BYTES as u64) else {
        return Err(format!("seek {}: invalid argument", path.display()));
    };
    if skip {
        return Ok(());
    }
    if !has_sha256(bytes) {
        return Err("snapshot missing hash but --skip-hash-check=false".to_owned());
    }
    let mut sum = Sha256Writer::new(Counted(progress::bytes(content_bytes)));
    io::copy(&mut (&file).take(content_bytes), &mut sum).map_err(in_words)?;
    let (_, actual) = sum.finish();
    let mut expected = [0; SHA256_BYTES];
    file.seek(SeekFrom::Start(content_bytes))
        .map_err(in_words)?;
    file.read_exact(&mut expected).map_err(in_words)?;
    match actual == expected {
        true => Ok(()),
        false => Err(BboltError::Sha256 { expected, actual }.to_string()),
    }
}

/// Keeps nothing but the count of what is written to it.
struct Counted(Shown);

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.add(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn raise(file: &File, bump: u64) -> Result<Raised, String> {
    let shown = progress::spinner("looking for the latest revision");
    let mut latest = Revision::default();
    if let Some(keys) = file
        .find_bucket(KEY_BUCKET)
        .map_err(|error| error.to_string())?
    {
        let mut rows = file.rows(&keys);
        while let Some((key, _)) = rows.next().map_err(|error| error.to_string())? {
            if let Some((revision, _)) = Revision::from_key(key) {
                latest = revision;
            }
        }
    }
    drop(shown);
    let main = i64::try_from(bump)
        .ok()
        .and_then(|bump| latest.main.checked_add(bump));
    let Some(main) = main else {
        return Err(format!(
            "revision {} cannot be raised by {bump}: the sum is too large",
            latest.main
        ));
    };
    log(Line::info("bumping latest revision")
        .with("latest-revision", latest.main)
        .with("bump-amount", bump)
        .with("new-latest-revision", main));
    log(Line::info("marking revision compacted").with("revision", main));
    Ok(Raised {
        revision: Revision::new(main, 0),
    })
}

/// Where everything goes.
struct Places {
    /// As it was given, for messages.
    data_text: String,
    data: PathBuf,
    wal: PathBuf,
    snap: PathBuf,
    /// What is taken away again when something fails.
    made: Vec<PathBuf>,
}

impl Places {
    /// Refuses directories that hold anything.
    fn choose(data_dir: String, wal_dir: String, name: &str) -> Result<Self, String> {
        let data_text = match data_dir.is_empty() {
            true => format!("{name}.etcd"),
            false => data_dir,
        };
        let data = clean(Path::new(&data_text));
        let is_empty = || {
            data.read_dir()
                .is_ok_and(|mut names| names.next().is_none())
        };
        if data.exists() && !is_empty() {
            let data = quote(data_text.as_bytes());
            return Err(format!("data-dir {data} not empty or could not be read"));
        }
        let mut made = vec![match data.exists() {
            true => data.join("member"),
            false => data.clone(),
        }];
        let wal = match wal_dir.is_empty() {
            true => data.join("member").join("wal"),
            false if Path::new(&wal_dir).exists() => {
                return Err(format!("wal-dir {} exists", quote(wal_dir.as_bytes())));
            }
            false => {
                made.push(PathBuf::from(&wal_dir));
                PathBuf::from(wal_dir)
            }
        };
        let snap = data.join("member").join("snap");
        Ok(Self {
            data_text,
            data,
            wal,
            snap,
            made,
        })
    }

    fn fill(
        &self,
        file: &File,
        founding: &Founding,
        raised: Option<Raised>,
        go: bool,
    ) -> Result<(), String> {
        let filled = self.write_all(file, founding, raised, go);
        if filled.is_err() {
            for path in &self.made {
                // It may not have been made yet.
                let _ = std::fs::remove_dir_all(path);
            }
        }
        filled
    }

    fn write_all(
        &self,
        file: &File,
        founding: &Founding,
        raised: Option<Raised>,
        go: bool,
    ) -> Result<(), String> {
        // Files that must be made durable have a parent that can be named.
        let absolute = |path: &Path| std::path::absolute(path).map_err(|error| error.to_string());
        let (data, wal, snap) = (
            absolute(&self.data)?,
            absolute(&self.wal)?,
            absolute(&self.snap)?,
        );
        let member = data.join("member");
        let shown = progress::spinner(format!("restoring to {}", self.data_text));
        if go {
            make_directory(&snap)?;
            go_member::write(file, founding, raised, &snap)?;
        } else {
            make_directory(&member)?;
            write_state(file, founding, raised, &member)?;
        }
        drop(shown);
        if let Some(parent) = wal.parent() {
            make_directory(parent)?;
        }
        founding
            .write_log(&wal)
            .map_err(|error| error.to_string())?;
        for path in [&snap, &member, &data] {
            sync_parent(path).map_err(|error| format!("sync {}: {error}", path.display()))?;
        }
        Ok(())
    }
}

fn make_directory(path: &Path) -> Result<(), String> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| go_text("mkdir", path, &error))
}

/// Without `.` and doubled slashes, as Go joins paths.
fn clean(path: &Path) -> PathBuf {
    let cleaned: PathBuf = path
        .components()
        .filter(|part| *part != Component::CurDir)
        .collect();
    match cleaned.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => cleaned,
    }
}

/// Imports the snapshot into this etcd's database.
fn write_state(
    file: &File,
    founding: &Founding,
    raised: Option<Raised>,
    member_dir: &Path,
) -> Result<(), String> {
    let mut then = Checkpoint {
        applied_index: founding.index(),
        applied_term: TERM,
        conf_state: founding.conf_state(),
        buckets: founding.rows().map_err(|error| error.to_string())?,
        ..Checkpoint::default()
    };
    if let Some(raised) = raised {
        then.buckets.push(raised.mark());
        then.changes
            .push(Arc::from([without_content(raised.revision)]));
    }
    let edit = Edit {
        without: vec![Bucket::Members, Bucket::MembersRemoved],
        then: Some(then),
    };
    let imported = Store::import(
        Arc::new(RealDisk),
        member_dir,
        Options::default(),
        file,
        &edit,
    );
    imported
        .and_then(|(store, _)| store.close())
        .map_err(|error| error.to_string())
}

fn without_content(revision: Revision) -> Change {
    Change {
        row: RevisionRow {
            revision,
            tombstone: false,
            key: Bytes::new(),
            create_revision: 0,
            version: 0,
            lease: 0,
            record_bytes: 0,
        },
        record: Bytes::new(),
        previous: None,
        previous_lease: 0,
    }
}
