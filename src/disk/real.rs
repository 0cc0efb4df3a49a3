//! The operating system's files.
//!
//! Locks are open-file-description locks as etcd takes them, so that a Go etcd and this one exclude each
//! other on the same directory.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, fallocate, fcntl};
use nix::sys::statfs::{EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, fstatfs};

use super::{Access, Disk, DiskFile};

/// Mode of every created file.
const FILE_MODE: u32 = 0o600;
/// Mode of every created directory.
const DIRECTORY_MODE: u32 = 0o700;

/// The kernel's page, in bytes.
const PAGE_BYTES: usize = 4096;

/// Reads, writes and syncs that ended.
static OPERATIONS: AtomicU64 = AtomicU64::new(0);

/// Reads, writes and syncs of this process that ended. While the number grows, the disk answers and somebody
/// asks: that tells a start that is slow from one that hangs.
pub fn operations() -> u64 {
    OPERATIONS.load(Ordering::Relaxed)
}

fn count() {
    OPERATIONS.fetch_add(1, Ordering::Relaxed);
}

/// The file system of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(access != Access::Read)
            .create(matches!(access, Access::Create | Access::Replace))
            .truncate(access == Access::Replace)
            .mode(FILE_MODE)
            .open(path)?;
        // Both overwrite in place and keep reserved space marked unwritten; on others zeros would only cost.
        let prepares = access != Access::Read
            && fstatfs(&file)
                .map(|stat| [EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC].contains(&stat.filesystem_type()))
                .unwrap_or(false);
        Ok(Box::new(RealFile { file, prepares }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(DIRECTORY_MODE).create(path)
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = std::fs::read_dir(dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
    /// Whether the first write to reserved space costs the file system a journal commit.
    prepares: bool,
}

impl DiskFile for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        count();
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        count();
        Ok(())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.file.set_len(size)
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        if reserve(&self.file, FallocateFlags::empty(), 0, size)? || self.size()? >= size {
            return Ok(());
        }
        self.set_size(size)
    }

    fn clear_from(&self, offset: u64, size: u64) -> io::Result<()> {
        if self.size()? > size {
            self.set_size(size)?;
        }
        // Keeps the blocks the file has: on a full disk, giving them back would lose them.
        let zero = FallocateFlags::FALLOC_FL_ZERO_RANGE;
        if reserve(&self.file, zero, offset, size.saturating_sub(offset))? {
            return Ok(());
        }
        self.set_size(offset)?;
        self.allocate(size)
    }

    fn prepare(&self, offset: u64, bytes: usize) -> io::Result<bool> {
        if !self.prepares {
            return Ok(false);
        }
        // Page by page: what is written at once is kept as one folio, and counts as written whole with every part.
        let zeros = [0; PAGE_BYTES];
        for at in (0..bytes).step_by(PAGE_BYTES) {
            let piece = zeros.len().min(bytes - at);
            self.write_at(&zeros[..piece], offset + at as u64)?;
        }
        Ok(true)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()?;
        count();
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        let whole_file = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        match fcntl(&self.file, FcntlArg::F_OFD_SETLK(&whole_file)) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// `fallocate`; `false` where the file system has none.
fn reserve(file: &File, flags: FallocateFlags, offset: u64, bytes: u64) -> io::Result<bool> {
    if bytes == 0 {
        return Ok(true);
    }
    let off_t = |n| libc::off_t::try_from(n).map_err(|_| io::Error::from(Errno::EFBIG));
    loop {
        match fallocate(file, flags, off_t(offset)?, off_t(bytes)?) {
            Ok(()) => return Ok(true),
            Err(Errno::EINTR) => {}
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clearing_keeps_what_is_before_and_sets_the_size() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk
            .open(&dir.path().join("f"), Access::Create)
            .unwrap();
        for (before, size) in [(10_000, 4_096), (1_000, 8_192), (5_000, 5_000)] {
            file.set_size(0).unwrap();
            file.write_at(&vec![7; before], 0).unwrap();
            file.clear_from(700, size).unwrap();
            assert_eq!(file.size().unwrap(), size);
            let mut bytes = vec![1; size as usize + 1];
            assert_eq!(file.read_at(&mut bytes, 0).unwrap(), size as usize);
            assert!(bytes[..700].iter().all(|&byte| byte == 7));
            assert!(bytes[700..size as usize].iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn a_lock_excludes_other_open_files_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            RealDisk
                .open(&dir.path().join("f"), Access::Create)
                .unwrap()
        };
        let (first, second) = (open(), open());
        assert!(first.try_lock().unwrap());
        assert!(first.try_lock().unwrap(), "the holder may ask again");
        assert!(!second.try_lock().unwrap());
        drop(first);
        assert!(second.try_lock().unwrap());
    }
}
