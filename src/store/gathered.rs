//! Blocks on their way to the file, so that neighbours are written by one call.
//!
//! redb writes page by page, in an order that is nearly but not quite that of the file. A call for each costs the
//! kernel more than the bytes do.

use std::collections::BTreeMap;
use std::io;

use super::blocks::BLOCK_BYTES;

/// Blocks held at most: 1 MiB.
const GATHERED_BLOCKS_MAX: usize = 256;
/// Bytes written by one call at most.
const CALL_BYTES_MAX: usize = 256 * 1024;

/// Blocks by their offset in the file.
#[derive(Default)]
pub(super) struct Gathered {
    blocks: BTreeMap<u64, Box<[u8]>>,
}

impl Gathered {
    /// Takes whole blocks that start at `offset` of the file; what it had of them is replaced.
    pub(super) fn put(&mut self, offset: u64, data: &[u8]) {
        let offsets = (offset..).step_by(BLOCK_BYTES);
        for (at, block) in offsets.zip(data.chunks(BLOCK_BYTES)) {
            self.blocks.insert(at, block.into());
        }
    }

    /// Whether it has enough to be worth writing.
    pub(super) fn is_full(&self) -> bool {
        self.blocks.len() >= GATHERED_BLOCKS_MAX
    }

    /// Whether it has any of the bytes at `offset`.
    pub(super) fn overlaps(&self, offset: u64, bytes: usize) -> bool {
        let mut there = self.blocks.range(offset..offset + bytes as u64);
        there.next().is_some()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.blocks.clear();
    }

    /// Hands everything to `write`, neighbours together. It is kept, so that readers can tell meanwhile.
    pub(super) fn write_all(
        &self,
        mut write: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut start = 0;
        let mut run = Vec::new();
        for (&offset, block) in &self.blocks {
            let goes_on = offset == start + run.len() as u64 && run.len() < CALL_BYTES_MAX;
            if !goes_on {
                if !run.is_empty() {
                    write(start, &run)?;
                }
                run.clear();
                start = offset;
            }
            run.extend_from_slice(block);
        }
        if run.is_empty() {
            return Ok(());
        }
        write(start, &run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_leave_together_and_the_last_content_wins() {
        let block = |byte: u8| vec![byte; BLOCK_BYTES];
        let at = |block: u64| block * BLOCK_BYTES as u64;
        let mut gathered = Gathered::default();
        gathered.put(at(5), &block(5));
        gathered.put(at(3), &[block(3), block(4)].concat());
        gathered.put(at(9), &block(1));
        gathered.put(at(9), &block(9));
        assert!(gathered.overlaps(at(4), 2 * BLOCK_BYTES));
        assert!(!gathered.overlaps(at(6), 3 * BLOCK_BYTES));
        let mut written = Vec::new();
        let write = |offset, bytes: &[u8]| {
            written.push((offset, bytes.to_vec()));
            Ok(())
        };
        gathered.write_all(write).unwrap();
        let run = [block(3), block(4), block(5)].concat();
        assert_eq!(written, [(at(3), run), (at(9), block(9))]);
        assert!(gathered.overlaps(at(9), BLOCK_BYTES));
        gathered.clear();
        assert!(!gathered.overlaps(0, 100 * BLOCK_BYTES));
    }

    #[test]
    fn a_long_run_is_cut() {
        let mut gathered = Gathered::default();
        gathered.put(0, &vec![1; 3 * CALL_BYTES_MAX / 2]);
        let mut calls = Vec::new();
        let write = |offset, bytes: &[u8]| {
            calls.push((offset, bytes.len()));
            Ok(())
        };
        gathered.write_all(write).unwrap();
        let half = CALL_BYTES_MAX / 2;
        assert_eq!(calls, [(0, CALL_BYTES_MAX), (CALL_BYTES_MAX as u64, half)]);
    }
}
