//! A file of checksummed blocks, under the database engine.
//!
//! redb trusts the pages it reads: it verifies its own checksums only when it repairs, and a flipped bit shows up as
//! a wrong answer, a panic, or later, when an altered free list lets a page in use be overwritten. Here every block
//! carries a CRC32C of itself and its number, checked on each read from the file, so what reaches redb is what redb wrote, or an
//! error that names the offset.
//!
//! ```text
//! head (4 KiB: two copies of redb's header)  | group 0 | group 1 | …
//! group: one block of checksums, then 1016 blocks of data (about 4 MiB)
//! ```
//!
//! Why this is as crash-safe as redb alone:
//! - Every commit here is one that redb writes in two phases, so what a crash leaves of unsynced blocks is never
//!   part of the state that the durable header names, whether block and checksum agree or not.
//! - Checksums are rewritten in place, in sectors of 512 bytes that carry a checksum each. A disk writes a sector whole or not at
//!   all; either way the checksums of blocks that did not change are in it.
//! - The header is written in place too, as redb does. It has two copies and a sequence number: torn or damaged, one is left.
//!
//! A block that was never written may not be read, so a zeroed stretch of the file is found as well. The head says how
//! long the file is at least: it is written before a file shrinks, and after it grew, with a sync in between.
//!
//! Deliberately absent: locks. Whoever opens the file has locked it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock, RwLockUpgradableReadGuard};
use redb::StorageBackend;

use super::gathered::Gathered;
use crate::disk::DiskFile;

/// Bytes of a block, and of redb's page.
pub(super) const BLOCK_BYTES: usize = 4096;
/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;
/// Checksums in a sector; the last place is for the sector's own.
const SECTOR_SUMS: usize = SECTOR_BYTES / 4 - 1;
/// Data blocks in a group: the checksums one block holds.
pub(super) const GROUP_BLOCKS: usize = SECTOR_SUMS * (BLOCK_BYTES / SECTOR_BYTES);

/// First bytes of either copy of the head.
const HEAD_MAGIC: [u8; 8] = *b"etcdst\x00\x01";
/// Where the copies start; apart, so that damage to a stretch of the file leaves one.
const HEAD_COPIES: [usize; 2] = [0, BLOCK_BYTES / 2];
/// Where a copy has the sequence number, and where redb's bytes.
const HEAD_SEQUENCE_AT: usize = 8;
const HEAD_BLOCKS_AT: usize = 16;
const HEAD_CONTENT_AT: usize = 24;
/// Most of redb's bytes a copy holds. redb uses 320.
const HEAD_CONTENT_BYTES: usize = 480;

/// What a read of a damaged block fails with, inside an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("damaged at offset {offset}: {reason}")]
pub(super) struct DamagedBlock {
    /// Where in the file the damage begins.
    pub(super) offset: u64,
    /// What is wrong.
    pub(super) reason: &'static str,
}

fn damaged(offset: u64, reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, DamagedBlock { offset, reason })
}

/// What went through to the file so far.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// Bytes written.
    pub(super) bytes_written: AtomicU64,
    /// Calls of `fdatasync`.
    pub(super) syncs: AtomicU64,
}

/// The file, as redb sees it: without checksums.
pub(super) struct BlockFile {
    file: Box<dyn DiskFile>,
    head: Mutex<Head>,
    groups: RwLock<Vec<Arc<Mutex<Group>>>>,
    /// Blocks that are written as far as redb knows. In the file before the head, a sync or a read of them.
    gathered: RwLock<Gathered>,
    traffic: Arc<Traffic>,
}

/// redb's header, and ours.
struct Head {
    /// How often it was written.
    sequence: u64,
    /// Data blocks the file has at least.
    blocks: u64,
    content: [u8; HEAD_CONTENT_BYTES],
}

/// Checksums of a group's blocks, 0 where no block was ever written.
#[derive(Default)]
struct Group {
    /// `None` until one is needed.
    sums: Option<Box<[u32; GROUP_BLOCKS]>>,
    /// Changed since they were last written.
    dirty: bool,
}

/// A stretch of blocks that is contiguous in the file.
struct Run {
    group: usize,
    /// The first block, counted within the group.
    first: usize,
    blocks: usize,
    /// Where it starts in the file.
    file_offset: u64,
    /// Where it starts in the caller's buffer.
    buffer_offset: usize,
}

impl BlockFile {
    /// Takes a file with anything or nothing in it.
    pub(super) fn open(file: Box<dyn DiskFile>) -> io::Result<Self> {
        let file_bytes = file.size()?;
        let head = match file_bytes {
            0 => Head::empty(),
            bytes if bytes < BLOCK_BYTES as u64 => {
                return Err(damaged(0, "cut off within the head"));
            }
            _ => {
                let mut block = [0; BLOCK_BYTES];
                read_whole(&*file, &mut block, 0)?;
                Head::decode(&block)?
            }
        };
        let blocks = logical_blocks(file_bytes);
        if blocks < head.blocks {
            return Err(damaged(file_bytes, "the rest of the file is missing"));
        }
        let this = Self {
            file,
            head: Mutex::new(head),
            groups: RwLock::default(),
            gathered: RwLock::default(),
            traffic: Arc::default(),
        };
        this.resize_groups(blocks);
        Ok(this)
    }

    /// Counters of what is written from now on.
    pub(super) fn traffic(&self) -> Arc<Traffic> {
        self.traffic.clone()
    }

    fn resize_groups(&self, blocks: u64) {
        let groups = (blocks as usize).div_ceil(GROUP_BLOCKS);
        self.groups.write().resize_with(groups, Arc::default);
    }

    fn write_file(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let written = &self.traffic.bytes_written;
        written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.file.write_at(bytes, offset)
    }

    /// Readers go on meanwhile: a write can take long while the disk is behind.
    fn write_gathered(&self) -> io::Result<()> {
        let gathered = self.gathered.upgradable_read();
        gathered.write_all(|offset, bytes| self.write_file(offset, bytes))?;
        RwLockUpgradableReadGuard::upgrade(gathered).clear();
        Ok(())
    }

    fn write_head(&self, content: &[u8]) -> io::Result<()> {
        self.write_gathered()?;
        let mut head = self.head.lock();
        let place = head.content.get_mut(..content.len());
        place
            .ok_or_else(|| unaligned(0, content.len()))?
            .copy_from_slice(content);
        head.blocks = logical_blocks(self.file.size()?);
        self.write_next(&mut head)
    }

    fn write_next(&self, head: &mut Head) -> io::Result<()> {
        head.sequence += 1;
        self.write_file(0, &head.encode())
    }

    /// The file is about to have fewer blocks.
    fn shrink_head(&self, blocks: u64) -> io::Result<()> {
        let mut head = self.head.lock();
        if blocks >= head.blocks {
            return Ok(());
        }
        head.blocks = blocks;
        self.write_next(&mut head)?;
        self.file.sync_data()
    }

    /// Calls `with` on the checksums of a group, which it reads first if need be.
    fn with_group<R>(
        &self,
        index: usize,
        with: impl FnOnce(&mut [u32; GROUP_BLOCKS], &mut bool) -> R,
    ) -> io::Result<R> {
        let group = self.groups.read().get(index).cloned();
        let group = group.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let mut group = group.lock();
        let Group { sums, dirty } = &mut *group;
        let sums = match sums {
            Some(sums) => sums,
            None => sums.insert(self.read_sums(index)?),
        };
        Ok(with(sums, dirty))
    }

    fn read_sums(&self, group: usize) -> io::Result<Box<[u32; GROUP_BLOCKS]>> {
        let mut block = [0; BLOCK_BYTES];
        let offset = group_offset(group);
        read_whole(&*self.file, &mut block, offset)?;
        decode_sums(&block).map_err(|sector| {
            let at = offset + (sector * SECTOR_BYTES) as u64;
            damaged(at, "a sector of checksums has changed")
        })
    }

    fn check_run(&self, run: &Run, data: &[u8]) -> io::Result<()> {
        for (index, block) in data.chunks(BLOCK_BYTES).enumerate() {
            let expected = self.with_group(run.group, |sums, _| sums[run.first + index])?;
            let reason = match expected {
                0 => "this block was never written",
                sum if sum != block_sum(run.number(index), block) => "this block has changed",
                _ => continue,
            };
            let offset = run.file_offset + (index * BLOCK_BYTES) as u64;
            return Err(damaged(offset, reason));
        }
        Ok(())
    }

    /// Writes the checksums that changed.
    fn write_sums(&self) -> io::Result<()> {
        let groups = self.groups.read().clone();
        for (index, group) in groups.iter().enumerate() {
            let mut group = group.lock();
            let Group { sums, dirty } = &mut *group;
            if let Some(sums) = sums.as_deref().filter(|_| *dirty) {
                self.write_file(group_offset(index), &encode_sums(sums))?;
                *dirty = false;
            }
        }
        Ok(())
    }
}

impl StorageBackend for BlockFile {
    fn len(&self) -> io::Result<u64> {
        let bytes = self.file.size()?;
        Ok(match bytes {
            0 => 0,
            bytes => (1 + logical_blocks(bytes)) * BLOCK_BYTES as u64,
        })
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset < BLOCK_BYTES as u64 {
            let head = self.head.lock();
            let content = head
                .content
                .get(offset as usize..offset as usize + out.len());
            out.copy_from_slice(content.ok_or_else(|| unaligned(offset, out.len()))?);
            return Ok(());
        }
        for run in runs(offset, out.len())? {
            let part = &mut out[run.buffer_offset..run.buffer_offset + run.blocks * BLOCK_BYTES];
            let is_gathered = self.gathered.read().overlaps(run.file_offset, part.len());
            if is_gathered {
                self.write_gathered()?;
            }
            read_whole(&*self.file, part, run.file_offset)?;
            self.check_run(&run, part)?;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        // Checksums beyond the end stay: a block there is written before it is read again.
        let blocks = (len / BLOCK_BYTES as u64).saturating_sub(1);
        self.write_gathered()?;
        self.shrink_head(blocks)?;
        self.file.set_size(file_bytes(blocks))?;
        self.resize_groups(blocks);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.write_gathered()?;
        self.write_sums()?;
        self.traffic.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset == 0 {
            return self.write_head(data);
        }
        for run in runs(offset, data.len())? {
            let part = &data[run.buffer_offset..run.buffer_offset + run.blocks * BLOCK_BYTES];
            self.with_group(run.group, |sums, dirty| {
                let sums = sums[run.first..].iter_mut();
                for (index, (block, sum)) in part.chunks(BLOCK_BYTES).zip(sums).enumerate() {
                    *sum = block_sum(run.number(index), block);
                }
                *dirty = true;
            })?;
            let mut gathered = self.gathered.write();
            gathered.put(run.file_offset, part);
            let is_full = gathered.is_full();
            drop(gathered);
            if is_full {
                self.write_gathered()?;
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for BlockFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BlockFile").field(&self.file).finish()
    }
}

impl Head {
    fn empty() -> Self {
        Self {
            sequence: 0,
            blocks: 0,
            content: [0; HEAD_CONTENT_BYTES],
        }
    }

    /// The newest intact copy.
    fn decode(block: &[u8; BLOCK_BYTES]) -> io::Result<Self> {
        let copies = HEAD_COPIES
            .iter()
            .filter_map(|at| Self::decode_copy(&block[*at..*at + SECTOR_BYTES]));
        let newest = copies.max_by_key(|copy| copy.sequence);
        newest.ok_or_else(|| {
            damaged(
                0,
                "this is not a state file, or both copies of its head are lost",
            )
        })
    }

    fn decode_copy(sector: &[u8]) -> Option<Self> {
        let (body, sum) = sector.split_last_chunk()?;
        let number = |at: usize| Some(u64::from_le_bytes(*body.get(at..)?.first_chunk()?));
        let content = body.get(HEAD_CONTENT_AT..HEAD_CONTENT_AT + HEAD_CONTENT_BYTES)?;
        let intact =
            body.starts_with(&HEAD_MAGIC) && crc32c::crc32c(body) == u32::from_le_bytes(*sum);
        intact.then_some(Self {
            sequence: number(HEAD_SEQUENCE_AT)?,
            blocks: number(HEAD_BLOCKS_AT)?,
            content: content.try_into().ok()?,
        })
    }

    fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut sector = [0; SECTOR_BYTES];
        sector[..HEAD_SEQUENCE_AT].copy_from_slice(&HEAD_MAGIC);
        sector[HEAD_SEQUENCE_AT..HEAD_BLOCKS_AT].copy_from_slice(&self.sequence.to_le_bytes());
        sector[HEAD_BLOCKS_AT..HEAD_CONTENT_AT].copy_from_slice(&self.blocks.to_le_bytes());
        sector[HEAD_CONTENT_AT..HEAD_CONTENT_AT + HEAD_CONTENT_BYTES]
            .copy_from_slice(&self.content);
        let sum = crc32c::crc32c(&sector[..SECTOR_BYTES - 4]);
        sector[SECTOR_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
        let mut block = [0; BLOCK_BYTES];
        for at in HEAD_COPIES {
            block[at..at + SECTOR_BYTES].copy_from_slice(&sector);
        }
        block
    }
}

impl Run {
    /// Number in the whole file of this run's block `index`.
    fn number(&self, index: usize) -> u64 {
        (self.group * GROUP_BLOCKS + self.first + index) as u64
    }
}

fn read_whole(file: &dyn DiskFile, out: &mut [u8], offset: u64) -> io::Result<()> {
    if file.read_at(out, offset)? < out.len() {
        return Err(damaged(offset, "the file ends within this block"));
    }
    Ok(())
}

/// Checksum of a block, never 0.
fn block_sum(number: u64, block: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), block).max(1)
}

fn encode_sums(sums: &[u32; GROUP_BLOCKS]) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    let sectors = block.chunks_exact_mut(SECTOR_BYTES);
    for (sector, sums) in sectors.zip(sums.chunks_exact(SECTOR_SUMS)) {
        let (body, own) = sector.split_at_mut(SECTOR_BYTES - 4);
        for (place, sum) in body.chunks_exact_mut(4).zip(sums) {
            place.copy_from_slice(&sum.to_le_bytes());
        }
        own.copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    }
    block
}

/// The checksums in a block, or which of its sectors is damaged. A sector of zeros was never written.
fn decode_sums(block: &[u8; BLOCK_BYTES]) -> Result<Box<[u32; GROUP_BLOCKS]>, usize> {
    let mut sums = Box::new([0; GROUP_BLOCKS]);
    let places = sums.chunks_exact_mut(SECTOR_SUMS);
    for (index, (sector, places)) in block.chunks_exact(SECTOR_BYTES).zip(places).enumerate() {
        if sector.iter().all(|byte| *byte == 0) {
            continue;
        }
        let (body, own) = sector.split_at(SECTOR_BYTES - 4);
        if crc32c::crc32c(body).to_le_bytes() != own {
            return Err(index);
        }
        for (place, sum) in places.iter_mut().zip(body.chunks_exact(4)) {
            *place = u32::from_le_bytes([sum[0], sum[1], sum[2], sum[3]]);
        }
    }
    Ok(sums)
}

/// Where the checksums of a group are in the file.
fn group_offset(group: usize) -> u64 {
    ((1 + group * (1 + GROUP_BLOCKS)) * BLOCK_BYTES) as u64
}

/// Size of a file with this many data blocks.
fn file_bytes(blocks: u64) -> u64 {
    (1 + blocks + blocks.div_ceil(GROUP_BLOCKS as u64)) * BLOCK_BYTES as u64
}

/// Whole data blocks in a file of this size.
fn logical_blocks(file_bytes: u64) -> u64 {
    let group_blocks = 1 + GROUP_BLOCKS as u64;
    let blocks = (file_bytes / BLOCK_BYTES as u64).saturating_sub(1);
    blocks / group_blocks * GROUP_BLOCKS as u64 + (blocks % group_blocks).saturating_sub(1)
}

/// Splits whole blocks at group boundaries. Offsets are redb's: behind the head, without checksums.
fn runs(offset: u64, bytes: usize) -> io::Result<Vec<Run>> {
    if offset < BLOCK_BYTES as u64
        || !offset.is_multiple_of(BLOCK_BYTES as u64)
        || !bytes.is_multiple_of(BLOCK_BYTES)
    {
        return Err(unaligned(offset, bytes));
    }
    let mut runs = Vec::with_capacity(1);
    let mut block = (offset / BLOCK_BYTES as u64 - 1) as usize;
    let mut done = 0;
    while done < bytes {
        let (group, first) = (block / GROUP_BLOCKS, block % GROUP_BLOCKS);
        let blocks = (GROUP_BLOCKS - first).min((bytes - done) / BLOCK_BYTES);
        runs.push(Run {
            group,
            first,
            blocks,
            file_offset: group_offset(group) + ((1 + first) * BLOCK_BYTES) as u64,
            buffer_offset: done,
        });
        block += blocks;
        done += blocks * BLOCK_BYTES;
    }
    Ok(runs)
}

/// redb reads and writes its header and whole pages, nothing else.
fn unaligned(offset: u64, bytes: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("{bytes} bytes at {offset} are not whole blocks"),
    )
}
