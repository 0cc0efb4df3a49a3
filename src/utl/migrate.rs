//! `migrate`: makes the database of a stopped etcd fit for another version of etcd.
//!
//! That is a row of the meta bucket, which 3.5 does not know. A database of this etcd has a format of its own, which no other
//! version reads: there is nothing to migrate, and the way to another etcd is a snapshot.

use std::fmt;
use std::path::Path;

use bytes::Bytes;

use crate::bbolt::File;
use crate::ctl::cli::{Command, Flag, Invocation};
use crate::ctl::exit::Failure;
use crate::ctl::go::number;
use crate::ctl::progress;
use crate::logging::Line;
use crate::store::{Bucket, BucketWrite};

use super::edited::{Edited, write_file};
use super::source::{self, Source};
use super::{VERSION, blocking, failed, log, require_flags, wal_version};

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "migrate",
    short: "Makes a stopped member's database fit for another version of etcd",
    flags: &[
        Flag::text(
            "data-dir",
            "required: data directory of a member that is not running",
        ),
        Flag::text(
            "target-version",
            "required: version to migrate to, from 3.5 on, as in 3.6",
        ),
        Flag::bool(
            "force",
            "set the version even where the migration is refused",
        ),
    ],
    run: blocking!(run),
    ..Command::NEW
};

const STORAGE_VERSION: &[u8] = b"storageVersion";
const OLDEST: Version = Version {
    major: 3,
    minor: 5,
    patch: 0,
};
/// The first version that notes its own.
const FIRST_NOTED: Version = Version {
    major: 3,
    minor: 6,
    patch: 0,
};
/// The newest schema there is.
const NEWEST_MINOR: i64 = 7;

/// A version of etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    pub(super) major: i64,
    pub(super) minor: i64,
    pub(super) patch: i64,
}

impl Version {
    /// Reads `X.Y.Z`; what follows a `-` or `+` is not looked at. The error is that of etcd's library.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let core = text.split_once('+').map_or(text, |(core, _)| core);
        let core = core.split_once('-').map_or(core, |(core, _)| core);
        let parts: Vec<_> = core.splitn(3, '.').collect();
        let [major, minor, patch] = parts.as_slice() else {
            return Err(format!("{core} is not in dotted-tri format"));
        };
        Ok(Self {
            major: number::parse_int(major, 10)?,
            minor: number::parse_int(minor, 10)?,
            patch: number::parse_int(patch, 10)?,
        })
    }

    /// `X.Y`.
    fn short(self) -> String {
        format!("{}.{}", self.major, self.minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

fn run(invocation: &Invocation) -> Result<(), Failure> {
    require_flags(invocation, &["data-dir", "target-version"])?;
    let target = target(&invocation.flags.text("target-version")).map_err(Failure::args)?;
    let data_dir = invocation.flags.text("data-dir");
    let path = source::database_of(&data_dir);
    source::require_file(&path).map_err(failed)?;
    match source::open(invocation, &path, false)? {
        Source::Native(_) => refuse_native(target, &data_dir),
        Source::Go(go) => {
            let wal_dir = Path::new(&data_dir).join("member").join("wal");
            migrate(
                &go.file,
                &path,
                &wal_dir,
                target,
                invocation.flags.bool("force"),
            )
        }
    }
}

fn target(text: &str) -> Result<Version, String> {
    if text.matches('.').count() != 1 {
        return Err(format!(
            "wrong target version format, expected \"X.Y\", got {text:?}"
        ));
    }
    let target = Version::parse(&format!("{text}.0"))
        .map_err(|reason| format!("failed to parse target version: {reason}"))?;
    if target < OLDEST {
        let short = target.short();
        return Err(format!(
            "target version {short:?} not supported. Minimal \"3.5\""
        ));
    }
    Ok(target)
}

fn refuse_native(target: Version, data_dir: &str) -> Result<(), Failure> {
    if Version::parse(VERSION).is_ok_and(|own| own.short() == target.short()) {
        log(Line::info("storage version up-to-date").with("storage-version", target.short()));
        return Ok(());
    }
    Err(failed(format!(
        "{data_dir} is a data directory of this etcd, in a format that no version of etcd in Go reads: nothing to migrate. \
         To go to etcd {}, save a snapshot (etcdctl snapshot save) and restore it with \
         etcdutl snapshot restore --format=go, then migrate the result",
        target.short()
    )))
}

fn migrate(
    file: &File,
    path: &Path,
    wal_dir: &Path,
    target: Version,
    force: bool,
) -> Result<(), Failure> {
    let current = current(file).inspect_err(|_| {
        log(Line::error(
            "failed to detect storage version. \
             Please make sure you are using data dir from etcd v3.5 and older",
        ));
    });
    let current = current.map_err(failed)?;
    if current == target {
        log(Line::info("storage version up-to-date").with("storage-version", target.short()));
        return Ok(());
    }
    let log_version = wal_version::of_log(wal_dir).map_err(|reason| {
        log(Line::error("Failed to finalize config").with("error", reason.as_str()));
        failed(reason)
    })?;
    match plan(current, target, log_version) {
        Ok(steps) => {
            set_version(file, path, target)?;
            for step in steps {
                log(Line::info("updated storage version")
                    .with("new-storage-version", step.to_string()));
            }
        }
        Err(reason) if !force => return Err(failed(reason)),
        Err(reason) => {
            log(Line::info("normal migrate failed, trying with force").with("error", reason));
            set_version(file, path, target)?;
            log(match target < FIRST_NOTED {
                true => Line::warn("forcefully cleared storage version"),
                false => Line::warn("forcefully set storage version")
                    .with("storage-version", target.short()),
            });
        }
    }
    Ok(())
}

/// The version whose schema a database has.
fn current(file: &File) -> Result<Version, String> {
    let (mut version, mut term) = (None, 0);
    let in_words = |error: crate::bbolt::BboltError| error.to_string();
    if let Some(meta) = file.find_bucket(Bucket::Meta.name()).map_err(in_words)? {
        let mut rows = file.rows(&meta);
        while let Some((key, value)) = rows.next().map_err(in_words)? {
            match key {
                STORAGE_VERSION => version = Version::parse(&String::from_utf8_lossy(value)).ok(),
                b"term" => term = value.try_into().map_or(0, u64::from_be_bytes),
                _ => {}
            }
        }
    }
    match version {
        Some(version) => Ok(version),
        None if term > 0 => Ok(OLDEST),
        None => Err("missing term information".to_owned()),
    }
}

/// The versions on the way.
fn plan(
    current: Version,
    target: Version,
    log_version: Option<Version>,
) -> Result<Vec<Version>, String> {
    const NO_PLAN: &str = "cannot create migration plan";
    if current.major != target.major {
        log(
            Line::error("Changing major storage version is not supported")
                .with("storage-version", current.to_string())
                .with("target-storage-version", target.to_string()),
        );
        return Err(format!(
            "{NO_PLAN}: changing major storage version is not supported"
        ));
    }
    let mut steps = Vec::new();
    let mut at = Version {
        patch: 0,
        ..current
    };
    while at.minor != target.minor {
        let next = Version {
            minor: at.minor + (target.minor - at.minor).signum(),
            ..at
        };
        // What changes is known of the newer of the two.
        let newer = at.max(next);
        if !(FIRST_NOTED.minor..=NEWEST_MINOR).contains(&newer.minor) {
            return Err(format!("{NO_PLAN}: version \"{newer}\" is not supported"));
        }
        steps.push(next);
        at = next;
    }
    if let Some(needed) = log_version.filter(|needed| target < current && target < *needed) {
        return Err(format!(
            "cannot downgrade storage, WAL contains newer entries, as the target version ({target}) is \
             lower than the version ({needed}) detected from WAL logs"
        ));
    }
    Ok(steps)
}

fn set_version(file: &File, path: &Path, target: Version) -> Result<(), Failure> {
    let mut edited = Edited::new(file).map_err(failed)?;
    let text = (target >= FIRST_NOTED).then(|| Bytes::from(target.to_string()));
    edited.write(BucketWrite {
        bucket: Bucket::Meta,
        key: Bytes::from_static(STORAGE_VERSION),
        value: text,
    });
    let _shown = progress::spinner(format!("rewriting {}", path.display()));
    write_file(&edited, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_refused_as_in_etcd() {
        assert_eq!(
            target("3.6").map(|version| version.to_string()),
            Ok("3.6.0".to_owned())
        );
        let refused = |text| target(text).unwrap_err();
        assert_eq!(
            refused("3.6.0"),
            "wrong target version format, expected \"X.Y\", got \"3.6.0\""
        );
        assert_eq!(
            refused("x.y"),
            "failed to parse target version: strconv.ParseInt: parsing \"x\": invalid syntax"
        );
        assert_eq!(
            refused("-1.2"),
            "failed to parse target version:  is not in dotted-tri format"
        );
        assert_eq!(
            refused("3.4"),
            "target version \"3.4\" not supported. Minimal \"3.5\""
        );
    }

    #[test]
    fn a_plan_goes_version_by_version() {
        let version = |minor| Version {
            major: 3,
            minor,
            patch: 0,
        };
        let way = |from, to, needed: Option<i64>| {
            plan(version(from), version(to), needed.map(version))
                .map(|steps| steps.iter().map(|step| step.minor).collect::<Vec<_>>())
        };
        assert_eq!(way(7, 5, None), Ok(vec![6, 5]));
        assert_eq!(way(5, 7, Some(7)), Ok(vec![6, 7]));
        let unsupported = "cannot create migration plan: version \"3.8.0\" is not supported";
        assert_eq!(way(7, 8, None), Err(unsupported.to_owned()));
        assert_eq!(way(8, 7, None), Err(unsupported.to_owned()));
        assert!(way(7, 6, Some(6)).is_ok());
        assert_eq!(
            way(7, 6, Some(7)).unwrap_err(),
            "cannot downgrade storage, WAL contains newer entries, as the target version (3.6.0) is \
             lower than the version (3.7.0) detected from WAL logs"
        );
    }
}
