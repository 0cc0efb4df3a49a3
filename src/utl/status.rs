//! `snapshot status`: what a snapshot, or the database of a member, holds.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use prost::Message;

use crate::bbolt::{BboltError, File, Source as Rows};
use crate::ctl::cli::{Command, Invocation};
use crate::ctl::exit::Failure;
use crate::ctl::go::bytes;
use crate::ctl::print::json::Object;
use crate::ctl::print::{Display, Out, Printable, Printed, fields, table};
use crate::disk::RealDisk;
use crate::pb::KeyValueFields;
use crate::types::Revision;

use super::edited::{Edited, KEY_BUCKET};
use super::source::{self, Source};
use super::{blocking, display, failed};

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "status",
    usage: "<filename>",
    short: "Prints hash, revision, keys, size and version of a snapshot",
    run: blocking!(run),
    ..Command::NEW
};

/// What a snapshot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// CRC-32C over the names of all buckets, and the keys and values in them.
    pub(super) hash: u32,
    /// The newest main revision.
    pub(super) revision: i64,
    /// Keys that are alive.
    pub(super) keys: usize,
    /// Size of the pages.
    pub(super) bytes: u64,
    /// Version of etcd's schema; empty before etcd 3.6.
    pub(super) version: String,
}

fn run(invocation: &Invocation) -> Result<(), Failure> {
    let [_] = invocation.args.as_slice() else {
        return Err(Failure::args(
            "snapshot status requires exactly one argument",
        ));
    };
    let display = display(invocation)?;
    let path = invocation.text(0).into_owned();
    let path = Path::new(&path);
    source::require_file(path).map_err(failed)?;
    if source::is_native(path) {
        if let Source::Native(native) = source::open(invocation, path, true)? {
            let frozen = native.0.frozen().map_err(failed)?;
            let snapshot = frozen.snapshot().map_err(failed)?;
            let status = status(&frozen, snapshot.file_bytes()).map_err(failed)?;
            return display.show(&status);
        }
    }
    if path.metadata().is_ok_and(|file| file.len() == 0) {
        // etcd takes an empty file for one to be initialized, and has it open for reading.
        return Err(failed(format!(
            "write {}: bad file descriptor",
            path.display()
        )));
    }
    display.show(&status_of_path(path).map_err(|error| failed(in_words(&error)))?)
}

/// The state of a snapshot or a bbolt database, checked as a whole: every page, and the checksum where there is one.
///
/// etcd does not look at the checksum here. Backups are verified with this, and one that cannot be restored must
/// not pass.
pub(super) fn status_of_path(path: &Path) -> Result<Status, BboltError> {
    let file = File::open(&RealDisk, path)?;
    let status = status_of_file(&file)?;
    file.verify_sha256()?;
    Ok(status)
}

/// The state of a bbolt file, every page of which is read and checked.
pub(super) fn status_of_file(file: &File) -> Result<Status, BboltError> {
    status(
        &Edited::new(file)?,
        file.high_water_pages() * file.page_bytes(),
    )
}

fn in_words(error: &BboltError) -> String {
    match error {
        BboltError::NotADatabase { .. } => "invalid database".to_owned(),
        BboltError::Io { .. } => error.to_string(),
        damage => format!("snapshot file integrity check failed. 1 errors found.\n{damage}"),
    }
}

fn status<S: Rows>(source: &S, bytes: u64) -> Result<Status, S::Error> {
    let mut status = Status {
        bytes,
        ..Status::default()
    };
    let mut alive = HashSet::new();
    for bucket in source.buckets() {
        status.hash = crc32c::crc32c_append(status.hash, bucket.as_bytes());
        let visited: io::Result<()> = source.rows(bucket, &mut |key, value| {
            status.hash = crc32c::crc32c_append(status.hash, key);
            status.hash = crc32c::crc32c_append(status.hash, value);
            match bucket {
                KEY_BUCKET => count(key, value, &mut status, &mut alive),
                "meta" if key == b"storageVersion" => {
                    status.version = String::from_utf8_lossy(value).into_owned();
                }
                _ => {}
            }
            Ok(())
        })?;
        debug_assert!(visited.is_ok());
    }
    status.keys = alive.len();
    Ok(status)
}

fn count(key: &[u8], record: &[u8], status: &mut Status, alive: &mut HashSet<Vec<u8>>) {
    let Some((revision, tombstone)) = Revision::from_key(key) else {
        return;
    };
    status.revision = revision.main;
    let key = KeyValueFields::decode(record)
        .map(|pair| pair.key)
        .unwrap_or_default();
    if tombstone {
        alive.remove(key.as_ref());
    } else if !alive.contains(key.as_ref()) {
        alive.insert(key.to_vec());
    }
}

impl Printable for Status {
    fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
        let size = bytes::human(self.bytes);
        let Self {
            hash,
            revision,
            keys,
            version,
            ..
        } = self;
        Ok(writeln!(
            out,
            "{hash:x}, {revision}, {keys}, {size}, {version}"
        )?)
    }

    fn json(&self, out: &mut String, _: bool) -> Printed {
        Object::write(out, |object| {
            object.number_always("hash", self.hash);
            object.number_always("revision", self.revision);
            object.number_always("totalKey", self.keys);
            object.number_always("totalSize", self.bytes);
            object.text_always("version", &self.version);
        });
        Ok(())
    }

    fn fields(&self, out: Out<'_>, _: bool) -> Printed {
        fields::plain(out, "Hash", self.hash)?;
        fields::plain(out, "Revision", self.revision)?;
        fields::plain(out, "Keys", self.keys)?;
        fields::plain(out, "Size", self.bytes)?;
        fields::plain(out, "Version", &self.version)
    }

    fn table(&self, out: Out<'_>) -> Printed {
        let header = ["hash", "revision", "total keys", "total size", "version"];
        let row = [
            format!("{:x}", self.hash),
            self.revision.to_string(),
            self.keys.to_string(),
            bytes::human(self.bytes),
            self.version.clone(),
        ];
        table::draw(out, &header, &[row.to_vec()])
    }
}
