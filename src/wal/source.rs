//! A segment's bytes, read through a window, so that a log larger than memory can be read and an entry that
//! is kept holds on to one window's bytes, not to a segment's.

use std::io;

use bytes::{Bytes, BytesMut};

use crate::disk::DiskFile;

/// Bytes read at a time.
const WINDOW_BYTES: u64 = 256 << 10;

/// Random access to one segment.
pub(super) struct Source<'a> {
    file: Option<&'a dyn DiskFile>,
    size: u64,
    window: Bytes,
    window_at: u64,
}

impl<'a> Source<'a> {
    /// Reads a file.
    pub(super) fn of_file(file: &'a dyn DiskFile) -> io::Result<Self> {
        let size = file.size()?;
        Ok(Self {
            file: Some(file),
            size,
            window: Bytes::new(),
            window_at: 0,
        })
    }

    /// Reads a segment that is in memory.
    pub(super) fn of_bytes(bytes: Bytes) -> Self {
        Self {
            file: None,
            size: bytes.len() as u64,
            window: bytes,
            window_at: 0,
        }
    }

    /// Bytes in the segment, its unused end included.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The bytes from `at` to `end`, or to the segment's end where that comes first.
    pub(super) fn bytes(&mut self, at: u64, end: u64) -> io::Result<Bytes> {
        let end = end.min(self.size);
        if at >= end {
            return Ok(Bytes::new());
        }
        let window_end = self.window_at + self.window.len() as u64;
        if at < self.window_at || end > window_end {
            self.read(at, end)?;
        }
        let from = (at - self.window_at) as usize;
        let to = ((end - self.window_at) as usize).min(self.window.len());
        Ok(self.window.slice(from.min(to)..to))
    }

    fn read(&mut self, at: u64, end: u64) -> io::Result<()> {
        let Some(file) = self.file else { return Ok(()) };
        let end = end.max(at + WINDOW_BYTES).min(self.size);
        let mut window = BytesMut::zeroed((end - at) as usize);
        let read = file.read_at(&mut window, at)?;
        window.truncate(read);
        self.window = window.freeze();
        self.window_at = at;
        Ok(())
    }

    /// The eight bytes at `at` as a length field; `None` past the end.
    pub(super) fn length_field(&mut self, at: u64) -> io::Result<Option<u64>> {
        let bytes = self.bytes(at, at + 8)?;
        Ok(bytes.as_ref().try_into().ok().map(u64::from_le_bytes))
    }
}
