//! The SHA-256 that follows the pages of a snapshot.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use super::{BboltError, File};
use crate::disk::SECTOR_BYTES;

/// Bytes of the checksum.
pub const SHA256_BYTES: usize = 32;
/// How much is read at a time to verify one.
const READ_BYTES: usize = 1 << 20;

/// Whether a file of so many bytes ends in a checksum. Pages are whole sectors, so it stands out.
pub fn has_sha256(file_bytes: u64) -> bool {
    file_bytes % SECTOR_BYTES == SHA256_BYTES as u64
}

/// Passes bytes on and sums them up.
#[derive(Debug)]
pub struct Sha256Writer<W> {
    inner: W,
    digest: Sha256,
}

impl<W: Write> Sha256Writer<W> {
    /// Passes bytes on to `inner`.
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            digest: Sha256::new(),
        }
    }

    /// Ends it: `inner`, and the checksum of all that was written, which is not.
    pub fn finish(self) -> (W, [u8; SHA256_BYTES]) {
        (self.inner, self.digest.finalize().into())
    }
}

impl<W: Write> Write for Sha256Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.digest.update(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Compares the checksum at the end of a file with the rest of it.
pub(super) fn verify(file: &File) -> Result<(), BboltError> {
    let pages_bytes = file.file_bytes() - SHA256_BYTES as u64;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut offset = 0;
    while offset < pages_bytes {
        let bytes = (pages_bytes - offset).min(READ_BYTES as u64) as usize;
        let read = file.read(&mut buffer[..bytes], offset)?;
        if read == 0 {
            break;
        }
        digest.update(&buffer[..read]);
        offset += read as u64;
    }
    let mut expected = [0; SHA256_BYTES];
    file.read(&mut expected, pages_bytes)?;
    let actual: [u8; SHA256_BYTES] = digest.finalize().into();
    if actual == expected {
        return Ok(());
    }
    Err(BboltError::Sha256 { expected, actual })
}
