//! A leaf of the index: some keys in order, each with its newest revision, and their older revisions.
//!
//! Everything in it copies as bytes, see [`super::keys`] and [`super::history`]: a key costs 44 bytes, its
//! place in the key buffer 4, its own part of the key, and 20 bytes an older revision.

use std::ops::ControlFlow;

use super::history::{History, Row};
use super::keys::{KeyRef, Keys};
use crate::types::Revision;

/// Keys in a leaf. More make look-ups and counts cheaper, fewer make a copy cheaper.
pub(super) const LEAF_KEYS_MAX: usize = if cfg!(test) { 8 } else { 48 };
/// Spare entries a leaf gets when it has to grow.
const GROWTH_ENTRIES: usize = 4;
/// Tags a leaf gives out before it starts over. Few in tests, so that they see it happen.
const TAGS_MAX: u32 = if cfg!(test) { 500 } else { 1 << 30 };
/// Older rows two leaves may have together to be joined.
const JOINED_ROWS_MAX: usize = 256;

/// The newest revision of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) revision: Revision,
    /// 0 in a tombstone, as are the next two.
    pub(super) create_revision: i64,
    pub(super) version: i64,
    pub(super) lease: i64,
    pub(super) record_bytes: u32,
}

impl Head {
    pub(super) fn tombstone(revision: Revision, record_bytes: u32) -> Self {
        Self {
            revision,
            create_revision: 0,
            version: 0,
            lease: 0,
            record_bytes,
        }
    }

    pub(super) fn is_tombstone(&self) -> bool {
        self.version == 0
    }
}

/// [`Head`] as it is kept.
#[derive(Clone, Copy)]
#[repr(C, packed(4))]
struct Entry {
    main: i64,
    create_revision: i64,
    version: i64,
    lease: i64,
    sub: u32,
    /// The key's tag in the history; the top bit says that there may be rows of it.
    tag: u32,
    record_bytes: u32,
}

const HAS_OLDER: u32 = 1 << 31;

impl Entry {
    fn new(head: &Head, tag: u32) -> Self {
        Self {
            main: head.revision.main,
            create_revision: head.create_revision,
            version: head.version,
            lease: head.lease,
            // Checked where revisions enter, see `Row::new`.
            sub: head.revision.sub as u32,
            tag,
            record_bytes: head.record_bytes,
        }
    }

    fn head(&self) -> Head {
        Head {
            revision: Revision::new(self.main, self.sub.into()),
            create_revision: self.create_revision,
            version: self.version,
            lease: self.lease,
            record_bytes: self.record_bytes,
        }
    }

    fn tag(&self) -> u32 {
        self.tag & !HAS_OLDER
    }

    fn has_older(&self) -> bool {
        self.tag & HAS_OLDER != 0
    }

    fn is_tombstone(&self) -> bool {
        self.version == 0
    }

    fn is_prunable(&self) -> bool {
        self.has_older() || self.is_tombstone()
    }
}

/// What a subtree holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// Keys that are alive.
    pub(super) live: u64,
    /// Keys that compaction may have work with: deleted ones and ones with older revisions.
    pub(super) prunable: u64,
    /// No revision in it is above this main revision.
    pub(super) newest: i64,
}

impl Summary {
    pub(super) fn add(&mut self, other: Self) {
        self.live += other.live;
        self.prunable += other.prunable;
        self.newest = self.newest.max(other.newest);
    }
}

/// A key as it was at some revision.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) key: KeyRef<'a>,
    pub(super) revision: Revision,
    /// The rest of it; an older revision's is in its record only.
    pub(super) head: Option<Head>,
}

/// See the head of this file.
#[derive(Clone, Default)]
pub(super) struct Leaf {
    keys: Keys,
    entries: Vec<Entry>,
    history: History,
    tag_next: u32,
}

impl Leaf {
    /// A leaf of keys in order; each with its newest revision and the older ones, newest first.
    pub(super) fn load<'a>(
        keys: impl DoubleEndedIterator<Item = KeyRef<'a>> + Clone,
        heads: impl Iterator<Item = Head>,
        older: Vec<Row>,
    ) -> Self {
        let mut entries: Vec<Entry> = Vec::with_capacity(keys.size_hint().0);
        entries.extend(heads.zip(0..).map(|(head, tag)| Entry::new(&head, tag)));
        for row in &older {
            entries[row.tag() as usize].tag |= HAS_OLDER;
        }
        Self {
            keys: Keys::pack(keys),
            tag_next: entries.len() as u32,
            entries,
            history: History::from_sorted(older),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= LEAF_KEYS_MAX
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(super) fn head(&self, at: usize) -> Head {
        self.entries[at].head()
    }

    pub(super) fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for entry in &self.entries {
            summary.live += u64::from(!entry.is_tombstone());
            summary.prunable += u64::from(entry.is_prunable());
            summary.newest = summary.newest.max(entry.main);
        }
        summary
    }

    /// A key at a main revision, if it was alive.
    pub(super) fn found(&self, at: usize, main: i64) -> Option<Found<'_>> {
        let entry = &self.entries[at];
        let (revision, head) = if entry.main <= main {
            (!entry.is_tombstone()).then(|| (entry.head().revision, Some(entry.head())))?
        } else if entry.has_older() {
            let row = self.history.find(entry.tag(), main)?;
            (!row.is_tombstone()).then(|| (row.revision(), None))?
        } else {
            return None;
        };
        Some(Found {
            key: self.keys.get(at),
            revision,
            head,
        })
    }

    /// Calls `visit` with a key's revisions and whether each is a tombstone, newest first.
    pub(super) fn revisions<B>(
        &self,
        at: usize,
        mut visit: impl FnMut(Revision, bool) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let entry = &self.entries[at];
        visit(entry.head().revision, entry.is_tombstone())?;
        if entry.has_older() {
            let row = |row: Row| visit(row.revision(), row.is_tombstone());
            self.history.visit(entry.tag(), i64::MAX, row)?;
        }
        ControlFlow::Continue(())
    }

    /// Whether a key is deleted or has older revisions.
    pub(super) fn is_prunable(&self, at: usize) -> bool {
        self.entries[at].is_prunable()
    }

    /// Gives a key a newer revision; the one it had becomes history.
    pub(super) fn update(&mut self, at: usize, head: Head) {
        let entry = &mut self.entries[at];
        let tag = entry.tag();
        let old = entry.head();
        *entry = Entry::new(&head, tag | HAS_OLDER);
        let row = Row::new(tag, old.revision, old.is_tombstone(), old.record_bytes);
        self.history.push(row);
    }

    /// Adds a key where [`Keys::search`] said it belongs.
    pub(super) fn insert(&mut self, at: usize, key: &[u8], head: Head) {
        if self.tag_next >= TAGS_MAX {
            self.renumber();
        }
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(GROWTH_ENTRIES);
        }
        self.keys.insert(at, key);
        self.entries.insert(at, Entry::new(&head, self.tag_next));
        self.tag_next += 1;
    }

    /// Cuts the keys from `at` on off.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let keys = self.keys.split_off(at);
        let entries = self.entries[at..].to_vec();
        self.entries.truncate(at);
        self.entries.shrink_to_fit();
        let mut right = Self {
            keys,
            history: self.history.split_off(&tags(&entries)),
            entries,
            tag_next: self.tag_next,
        };
        self.drop_foreign();
        right.drop_foreign();
        right
    }

    /// Appends the keys of the leaf behind, unless both have much history. Tells whether it did.
    pub(super) fn join(&mut self, right: &Self) -> bool {
        if self.len() + right.len() > LEAF_KEYS_MAX * 3 / 4 {
            return false;
        }
        let old = |leaf: &Self| leaf.history.log(&tags(&leaf.entries), JOINED_ROWS_MAX / 2);
        let (Some(mut rows), Some(right_rows)) = (old(self), old(right)) else {
            return false;
        };
        let shift = self.tag_next;
        if shift.saturating_add(right.tag_next) >= HAS_OLDER {
            return false;
        }
        rows.extend(right_rows.iter().map(|row| row.with_tag(row.tag() + shift)));
        rows.sort_by_key(|row| row.revision());
        self.history = History::from_log(rows);
        self.keys = Keys::pack(JoinedKeys(&self.keys, &right.keys).iter());
        self.entries.reserve_exact(right.entries.len());
        self.entries.extend(right.entries.iter().map(|entry| Entry {
            tag: entry.tag + shift,
            ..*entry
        }));
        self.tag_next += right.tag_next;
        true
    }

    /// The leaf after compaction at `revision`, or `None` if there is nothing to remove. Removed revisions go to
    /// `removed`, each with the length of its record and whether it was a tombstone.
    ///
    /// Of every key the newest revision that is not above `revision` stays, unless it is a tombstone below it.
    pub(super) fn pruned(&self, revision: i64, mut removed: impl FnMut(Row)) -> Option<Self> {
        let mut work = Pruning::new(self, revision);
        let history = self.history.filter(revision, |row| {
            let keep = work.keep(row);
            if keep == Keep::Remove {
                removed(row);
            }
            keep == Keep::Yes
        });
        if !work.changed {
            return None;
        }
        for (at, entry) in self.entries.iter().enumerate() {
            if work.gone[at] {
                let head = entry.head();
                removed(Row::new(
                    entry.tag(),
                    head.revision,
                    true,
                    head.record_bytes,
                ));
            }
        }
        let stays = |at: &usize| !work.gone[*at];
        let mut leaf = Self {
            keys: Keys::pack((0..self.len()).filter(stays).map(|at| self.keys.get(at))),
            entries: (0..self.len())
                .filter(stays)
                .map(|at| self.entries[at])
                .collect(),
            history,
            tag_next: self.tag_next,
        };
        leaf.mark_older();
        Some(leaf)
    }

    /// Forgets the history if none of it belongs to a key of this leaf.
    fn drop_foreign(&mut self) {
        if !self.entries.iter().any(Entry::has_older) {
            self.history = History::default();
            self.renumber();
        }
    }

    /// Sets the marks of keys that have older revisions.
    fn mark_older(&mut self) {
        for entry in &mut self.entries {
            let tag = entry.tag();
            if entry.has_older() && self.history.find(tag, i64::MAX).is_none() {
                entry.tag = tag;
            }
        }
        self.drop_foreign();
    }

    /// Gives the keys the tags from 0 on.
    fn renumber(&mut self) {
        if !self.history.is_empty() {
            let old = tags(&self.entries);
            let rows = self.history.log(&old, usize::MAX).unwrap_or_default();
            let mut by_tag: Vec<(u32, u32)> = (0..)
                .zip(&self.entries)
                .map(|(new, entry)| (entry.tag(), new))
                .collect();
            by_tag.sort_unstable();
            let renamed = rows.into_iter().filter_map(|row| {
                let at = by_tag
                    .binary_search_by_key(&row.tag(), |pair| pair.0)
                    .ok()?;
                Some(row.with_tag(by_tag[at].1))
            });
            self.history = History::from_log(renamed.collect());
        }
        for (entry, tag) in self.entries.iter_mut().zip(0..) {
            entry.tag = tag | (entry.tag & HAS_OLDER);
        }
        self.tag_next = self.entries.len() as u32;
    }

    /// Heap bytes in use, spare ones included.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        self.keys.heap_bytes()
            + self.entries.capacity() * size_of::<Entry>()
            + self.history.heap_bytes()
    }
}

/// The tags of some entries in ascending order.
fn tags(entries: &[Entry]) -> Vec<u32> {
    let mut tags: Vec<u32> = entries.iter().map(Entry::tag).collect();
    tags.sort_unstable();
    tags
}

struct JoinedKeys<'a>(&'a Keys, &'a Keys);

impl<'a> JoinedKeys<'a> {
    fn iter(&self) -> impl DoubleEndedIterator<Item = KeyRef<'a>> + Clone + use<'a> {
        self.0.iter().chain(self.1.iter())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    Remove,
    /// A row of a key that went to another leaf with a split; that leaf answers for it.
    Foreign,
}

/// One pass over a leaf's revisions, every key's newest first.
struct Pruning {
    revision: i64,
    /// Tag and index of the keys with history, by tag.
    index: Vec<(u32, usize)>,
    /// Per key: its newest revision not above `revision` was seen.
    settled: Vec<bool>,
    /// Per key: nothing of it stays.
    gone: Vec<bool>,
    changed: bool,
}

impl Pruning {
    fn new(leaf: &Leaf, revision: i64) -> Self {
        let entries = leaf.entries.iter();
        let older = entries
            .clone()
            .enumerate()
            .filter(|(_, entry)| entry.has_older());
        let mut index: Vec<_> = older.map(|(at, entry)| (entry.tag(), at)).collect();
        index.sort_unstable();
        let gone: Vec<bool> = entries
            .clone()
            .map(|entry| entry.is_tombstone() && entry.main < revision)
            .collect();
        Self {
            revision,
            index,
            settled: entries.map(|entry| entry.main <= revision).collect(),
            changed: gone.contains(&true),
            gone,
        }
    }

    fn keep(&mut self, row: Row) -> Keep {
        let at = self.index.binary_search_by_key(&row.tag(), |pair| pair.0);
        let keep = match at.map(|at| self.index[at].1) {
            Err(_) => Keep::Foreign,
            Ok(_) if row.main() > self.revision => Keep::Yes,
            Ok(at) if self.settled[at] => Keep::Remove,
            Ok(at) => {
                self.settled[at] = true;
                match row.is_tombstone() && row.main() < self.revision {
                    true => Keep::Remove,
                    false => Keep::Yes,
                }
            }
        };
        self.changed |= keep != Keep::Yes;
        keep
    }
}
