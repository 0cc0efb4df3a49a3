//! The older revisions of a leaf's keys.
//!
//! They are kept per leaf, not per key: recent ones in a small log that is copied with the leaf, the rest in
//! a chain of shared immutable blocks. So a put copies bytes and one reference count, however much history
//! the leaf's keys have. A key is known to its history by a tag that no other key of the leaf, now or
//! earlier, has; after a split both halves share the chain and each looks up its own tags only.
//!
//! Invariants: every row in the log is newer than every row of the chain, and a block's rows are newer than
//! those of the next. Blocks at least about double in size along the chain up to [`BLOCK_ROWS_MAX`], so a
//! row is moved a few times in its life and a look-up visits few blocks.

use std::cmp::Reverse;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::types::Revision;

/// Rows in the log before they become a block.
const RECENT_ROWS_MAX: usize = if cfg!(test) { 12 } else { 64 };
/// Spare rows a copied log gets.
const RECENT_ROWS_SPARE: usize = 8;
/// Rows up to which blocks are joined.
const BLOCK_ROWS_MAX: usize = 4096;

/// One older revision of one key, in 20 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed(4))]
pub(super) struct Row {
    main: i64,
    sub: u32,
    /// The key's tag; the top bit says tombstone.
    tag: u32,
    record_bytes: u32,
}

const TOMBSTONE: u32 = 1 << 31;

impl Row {
    pub(super) fn new(tag: u32, revision: Revision, tombstone: bool, record_bytes: u32) -> Self {
        Self {
            main: revision.main,
            // Checked where revisions enter: a write has fewer changes, and a loaded row was looked at.
            sub: revision.sub as u32,
            tag: if tombstone { tag | TOMBSTONE } else { tag },
            record_bytes,
        }
    }

    pub(super) fn main(self) -> i64 {
        self.main
    }

    pub(super) fn revision(self) -> Revision {
        Revision::new(self.main, self.sub.into())
    }

    pub(super) fn tag(self) -> u32 {
        self.tag & !TOMBSTONE
    }

    pub(super) fn is_tombstone(self) -> bool {
        self.tag & TOMBSTONE != 0
    }

    pub(super) fn record_bytes(self) -> u32 {
        self.record_bytes
    }

    pub(super) fn with_tag(self, tag: u32) -> Self {
        Self::new(tag, self.revision(), self.is_tombstone(), self.record_bytes)
    }
}

/// Rows that never change, ordered by tag and newest first within one.
struct Block {
    rows: Arc<[Row]>,
    oldest_main: i64,
    next: Option<Arc<Block>>,
}

impl Block {
    fn new(rows: Vec<Row>, next: Option<Arc<Self>>) -> Arc<Self> {
        debug_assert!(rows.is_sorted_by_key(|row| (row.tag(), Reverse(row.revision()))));
        Arc::new(Self {
            oldest_main: rows.iter().map(|row| row.main()).min().unwrap_or(i64::MAX),
            rows: rows.into(),
            next,
        })
    }

    /// The rows of a tag that are not above a main revision.
    fn rows_of(&self, tag: u32, at: i64) -> impl Iterator<Item = Row> + '_ {
        let before = |row: &Row| (row.tag(), Reverse(row.main())) < (tag, Reverse(at));
        let first = self.rows.partition_point(before);
        let rows = self.rows[first..].iter().copied();
        rows.take_while(move |row| row.tag() == tag)
    }
}

impl Drop for Block {
    /// Not by recursion: a hot key's chain may be long.
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(mut block) = next.and_then(Arc::into_inner) {
            next = block.next.take();
        }
    }
}

/// All older revisions of a leaf's keys.
#[derive(Default)]
pub(super) struct History {
    /// In order of history.
    recent: Vec<Row>,
    blocks: Option<Arc<Block>>,
}

impl Clone for History {
    fn clone(&self) -> Self {
        let spare = if self.recent.is_empty() {
            0
        } else {
            RECENT_ROWS_SPARE
        };
        let mut recent = Vec::with_capacity(self.recent.len() + spare);
        recent.extend_from_slice(&self.recent);
        Self {
            recent,
            blocks: self.blocks.clone(),
        }
    }
}

impl History {
    /// A history of rows ordered by tag and newest first within one.
    pub(super) fn from_sorted(rows: Vec<Row>) -> Self {
        let blocks = (!rows.is_empty()).then(|| Block::new(rows, None));
        Self {
            recent: Vec::new(),
            blocks,
        }
    }

    /// A history of rows in order of history.
    pub(super) fn from_log(mut rows: Vec<Row>) -> Self {
        if rows.len() < RECENT_ROWS_MAX {
            return Self {
                recent: rows,
                blocks: None,
            };
        }
        rows.sort_by_key(|row| (row.tag(), Reverse(row.revision())));
        Self::from_sorted(rows)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.recent.is_empty() && self.blocks.is_none()
    }

    /// Adds the newest row.
    pub(super) fn push(&mut self, row: Row) {
        if self.recent.len() == self.recent.capacity() {
            self.recent.reserve_exact(RECENT_ROWS_SPARE);
        }
        self.recent.push(row);
        if self.recent.len() >= RECENT_ROWS_MAX {
            self.seal();
        }
    }

    /// Makes the log a block, joined with those behind it that are not much longer.
    fn seal(&mut self) {
        let mut rows = std::mem::take(&mut self.recent);
        rows.reverse();
        while let Some(block) = self.blocks.take() {
            let joined = rows.len() + block.rows.len();
            if block.rows.len() > 2 * rows.len() || joined > BLOCK_ROWS_MAX {
                self.blocks = Some(block);
                break;
            }
            rows.extend_from_slice(&block.rows);
            self.blocks = block.next.clone();
        }
        // Stable, and newest comes first already.
        rows.sort_by_key(|row| row.tag());
        self.blocks = Some(Block::new(rows, self.blocks.take()));
    }

    /// Calls `visit` with a key's rows that are not above a main revision, newest first.
    pub(super) fn visit<B>(
        &self,
        tag: u32,
        at: i64,
        mut visit: impl FnMut(Row) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for &row in self.recent.iter().rev() {
            if row.tag() == tag && row.main() <= at {
                visit(row)?;
            }
        }
        for block in self.blocks() {
            for row in block.rows_of(tag, at) {
                visit(row)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// A key's newest row that is not above a main revision.
    pub(super) fn find(&self, tag: u32, at: i64) -> Option<Row> {
        self.visit(tag, at, ControlFlow::Break).break_value()
    }

    /// Cuts the rows of some tags (in ascending order) off. The chain is shared.
    pub(super) fn split_off(&mut self, tags: &[u32]) -> Self {
        let mut recent = Vec::new();
        self.recent.retain(|row| {
            let moves = tags.binary_search(&row.tag()).is_ok();
            if moves {
                recent.push(*row);
            }
            !moves
        });
        Self {
            recent,
            blocks: self.blocks.clone(),
        }
    }

    /// All rows of some tags (in ascending order), in order of history; `None` when there are more than `rows_max`.
    pub(super) fn log(&self, tags: &[u32], rows_max: usize) -> Option<Vec<Row>> {
        let mut rows = Vec::new();
        let all = self.blocks().flat_map(|block| block.rows.iter());
        for row in self.recent.iter().chain(all) {
            if tags.binary_search(&row.tag()).is_ok() {
                rows.push(*row);
            }
            if rows.len() > rows_max {
                return None;
            }
        }
        rows.sort_by_key(|row| row.revision());
        Some(rows)
    }

    /// Filters the rows that may have to go, those not above `revision`. Newer blocks stay as they are.
    pub(super) fn filter(&self, revision: i64, mut keep: impl FnMut(Row) -> bool) -> Self {
        let mut recent: Vec<Row> = self.recent.iter().rev().copied().collect();
        recent.retain(|&row| keep(row));
        recent.reverse();
        let (mut newer, mut kept) = (Vec::new(), Vec::new());
        for block in self.blocks() {
            if block.oldest_main > revision {
                newer.push(block);
            } else {
                kept.extend(block.rows.iter().copied().filter(|&row| keep(row)));
            }
        }
        kept.sort_by_key(|row| row.tag());
        let mut blocks = (!kept.is_empty()).then(|| Block::new(kept, None));
        for block in newer.into_iter().rev() {
            blocks = Some(Arc::new(Block {
                rows: Arc::clone(&block.rows),
                oldest_main: block.oldest_main,
                next: blocks,
            }));
        }
        Self { recent, blocks }
    }

    /// Heap bytes in use, spare ones included; a shared chain counts in full.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        let rows: usize = self.blocks().map(|block| block.rows.len()).sum();
        (self.recent.capacity() + rows) * size_of::<Row>()
    }

    /// Length of the chain.
    #[cfg(test)]
    pub(super) fn block_count(&self) -> usize {
        self.blocks().count()
    }

    fn blocks(&self) -> impl Iterator<Item = &Arc<Block>> {
        std::iter::successors(self.blocks.as_ref(), |block| block.next.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(tag: u32, main: i64) -> Row {
        Row::new(tag, Revision::new(main, 0), false, 7)
    }

    #[test]
    fn a_row_is_small() {
        assert_eq!(size_of::<Row>(), 20);
    }

    #[test]
    fn a_hot_key_keeps_a_short_chain_and_is_found_at_every_revision() {
        let mut history = History::default();
        for main in 0..100_000 {
            history.push(row((main % 3) as u32, main));
        }
        assert!(history.block_count() < 60, "{}", history.block_count());
        for at in (0..100_000).step_by(977) {
            for tag in 0..3u32 {
                let expected = (0..=at).rev().find(|main| main % 3 == i64::from(tag));
                let found = history.find(tag, at).map(Row::main);
                assert_eq!(found, expected, "tag {tag} at {at}");
            }
        }
    }

    #[test]
    fn a_chain_of_a_million_rows_drops_without_recursion() {
        let mut history = History::default();
        for main in 0..1_000_000 {
            history.push(row(0, main));
        }
        let held = history.clone();
        drop(history);
        assert_eq!(held.find(0, i64::MAX).map(Row::main), Some(999_999));
    }

    #[test]
    fn a_filter_sees_each_keys_rows_newest_first() {
        let mut history = History::default();
        for main in 0..1000 {
            history.push(row((main % 5) as u32, main));
        }
        let mut last = [i64::MAX; 5];
        let filtered = history.filter(500, |row| {
            let last = &mut last[row.tag() as usize];
            assert!(row.main() < *last);
            *last = row.main();
            row.main() > 500 || row.main() == 498
        });
        assert_eq!(filtered.find(3, 500).map(Row::main), Some(498));
        assert_eq!(filtered.find(2, 500), None);
        assert_eq!(filtered.find(2, 502).map(Row::main), Some(502));
    }
}
