//! A bbolt file with other rows here and there, as the source of a new one.
//!
//! bbolt files are not changed in place here: a change of one row writes the file anew, which also packs it.

use std::collections::BTreeMap;
use std::fs::{self, File as OsFile, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::bbolt::{self, BboltError, File, Layout, RowVisitor, SizeVisitor, Source, WriteError};
use crate::store::{Bucket, BucketWrite};

/// Name of the bucket of revisions.
pub(super) const KEY_BUCKET: &str = "key";
/// Buffer between the writer of pages and the file.
const BUFFER_BYTES: usize = 1 << 20;

type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A file and what becomes different.
pub(super) struct Edited<'a> {
    file: &'a File,
    buckets: BTreeMap<String, Option<bbolt::Bucket>>,
    emptied: Vec<&'static str>,
    writes: BTreeMap<&'static str, Writes>,
}

impl<'a> Edited<'a> {
    /// The file as it is.
    pub(super) fn new(file: &'a File) -> Result<Self, BboltError> {
        let named = |(name, bucket): (bytes::Bytes, _)| {
            // Names are etcd's own and all text; another name would be no bucket of etcd.
            (String::from_utf8_lossy(&name).into_owned(), Some(bucket))
        };
        Ok(Self {
            file,
            buckets: file.buckets()?.into_iter().map(named).collect(),
            emptied: Vec::new(),
            writes: BTreeMap::new(),
        })
    }

    /// Leaves the rows of a bucket behind.
    pub(super) fn empty(&mut self, bucket: Bucket) {
        self.emptied.push(bucket.name());
        self.buckets.entry(bucket.name().to_owned()).or_default();
    }

    /// Writes a row, or removes it.
    pub(super) fn write(&mut self, write: BucketWrite) {
        let value = write.value.map(|value| value.to_vec());
        self.put(write.bucket.name(), write.key.to_vec(), value);
    }

    /// Writes a revision.
    pub(super) fn write_revision(&mut self, key: &[u8], record: &[u8]) {
        self.put(KEY_BUCKET, key.to_vec(), Some(record.to_vec()));
    }

    fn put(&mut self, bucket: &'static str, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.buckets.entry(bucket.to_owned()).or_default();
        self.writes.entry(bucket).or_default().insert(key, value);
    }
}

impl Source for Edited<'_> {
    type Error = BboltError;

    fn buckets(&self) -> Vec<&str> {
        self.buckets.keys().map(String::as_str).collect()
    }

    fn sizes(&self, bucket: &str, row: &mut SizeVisitor<'_>) -> Result<(), BboltError> {
        let visited = self.rows(bucket, &mut |key, value| {
            row(key, value.len());
            Ok(())
        })?;
        debug_assert!(visited.is_ok());
        Ok(())
    }

    /// The file's rows and the written ones, merged in order.
    fn rows(&self, bucket: &str, row: &mut RowVisitor<'_>) -> Result<io::Result<()>, BboltError> {
        let nothing = Writes::new();
        let writes = self.writes.get(bucket).unwrap_or(&nothing);
        let mut writes = writes.iter().peekable();
        let found = self.buckets.get(bucket).and_then(Option::as_ref);
        let mut rows = found
            .filter(|_| !self.emptied.contains(&bucket))
            .map(|found| self.file.rows(found));
        let mut put = |key: &[u8], value: &Option<Vec<u8>>| match value {
            Some(value) => row(key, value),
            None => Ok(()),
        };
        while let Some((key, value)) = rows.as_mut().map_or(Ok(None), |rows| rows.next())? {
            let mut replaced = false;
            while let Some((other, written)) = writes.next_if(|(other, _)| other.as_slice() <= key)
            {
                replaced = other.as_slice() == key;
                if let Err(error) = put(other, written) {
                    return Ok(Err(error));
                }
            }
            if !replaced && let Err(error) = put(key, &Some(value.to_vec())) {
                return Ok(Err(error));
            }
        }
        Ok(writes.try_for_each(|(key, value)| put(key, value)))
    }
}

/// Writes a bbolt file durably: under the name only when it is whole.
pub(super) fn write_file<S: Source>(source: &S, path: &Path) -> Result<(), String> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = Path::new(&temporary);
    let written = write_new(source, temporary).and_then(|()| {
        fs::rename(temporary, path)
            .and_then(|()| sync_parent(path))
            .map_err(|error| {
                format!(
                    "rename {} to {}: {error}",
                    temporary.display(),
                    path.display()
                )
            })
    });
    if written.is_err() {
        // So that a full disk is not fuller for it.
        let _ = fs::remove_file(temporary);
    }
    written
}

fn write_new<S: Source>(source: &S, path: &Path) -> Result<(), String> {
    let named = |error: io::Error| format!("write {}: {error}", path.display());
    let layout = Layout::plan(source).map_err(|error| error.to_string())?;
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(path).map_err(named)?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
    match layout.write(source, &mut out) {
        Err(WriteError::Write(error)) => return Err(named(error)),
        written => written.map_err(|error| error.to_string())?,
    }
    out.flush().map_err(named)?;
    out.get_ref().sync_all().map_err(named)
}

/// Makes a name in a directory durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => OsFile::open(parent)?.sync_all(),
        _ => OsFile::open(".")?.sync_all(),
    }
}
