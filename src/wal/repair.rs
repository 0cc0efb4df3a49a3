//! Making a log that was read ready for more: what was never wholly written goes, behind the last record
//! are zeros, and all of it is durable before anything is appended.
//!
//! The last point matters: were a new record written over the remains of an old one and torn in turn, the
//! two together would look like damage.

use std::path::{Path, PathBuf};

use super::decoder::Ending;
use super::error::{WalError, io_error};
use super::replay::Segment;
use crate::disk::{Access, Disk};

/// Bytes copied at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// That the log's end was torn, and what was done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The segment.
    pub path: PathBuf,
    /// Where it was cut, in bytes.
    pub offset: u64,
    /// Where the segment as it was is kept.
    pub copy: PathBuf,
}

/// Prepares the last segment for appending behind `ending`.
pub(super) fn prepare(
    disk: &dyn Disk,
    dir: &Path,
    tail: &Segment,
    ending: &Ending,
    segment_bytes: u64,
) -> Result<Option<Repair>, WalError> {
    let path = tail.name.path(dir);
    let repair = match ending.torn {
        true => Some(keep_copy(disk, dir, tail, ending.offset)?),
        false => None,
    };
    for mend in &ending.mends {
        tail.file
            .write_at(&mend.bytes, mend.offset)
            .map_err(io_error("repair", &path))?;
    }
    let size = segment_bytes.max(ending.offset);
    tail.file
        .clear_from(ending.offset, size)
        .map_err(io_error("clear the end of", &path))?;
    tail.file.sync_data().map_err(io_error("sync", &path))?;
    Ok(repair)
}

/// Copies a segment that will be cut at `offset` to `<name>.broken`, as etcd does.
fn keep_copy(disk: &dyn Disk, dir: &Path, torn: &Segment, offset: u64) -> Result<Repair, WalError> {
    let path = torn.name.path(dir);
    let copy = dir.join(format!("{}.broken", torn.name));
    let failed = || io_error("copy the torn segment to", &copy);
    let target = disk.open(&copy, Access::Replace).map_err(failed())?;
    let size = torn.file.size().map_err(io_error("read", &path))?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = 0;
    while at < size {
        let read = torn
            .file
            .read_at(&mut chunk, at)
            .map_err(io_error("read", &path))?;
        let bytes = chunk.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        // The preallocated rest need take no space a second time.
        if bytes.iter().any(|&byte| byte != 0) {
            target.write_at(bytes, at).map_err(failed())?;
        }
        at += read as u64;
    }
    target.set_size(size).map_err(failed())?;
    target.sync_data().map_err(failed())?;
    disk.sync_dir(dir).map_err(io_error("sync", dir))?;
    Ok(Repair { path, offset, copy })
}
