//! Records by revision: changes that no checkpoint has yet, a bounded cache, then the database.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashTable};
use parking_lot::{Mutex, RwLock};

use super::{Change, RevisionRow, StoreError};
use crate::types::Revision;

/// Cache shards; readers of different revisions rarely meet on one.
const SHARDS: usize = 16;
/// What a cached record costs besides its bytes: queue slot, its place, allocation header.
const CACHED_RECORD_OVERHEAD_BYTES: usize = 96;
/// Records looked up under one lock: bounds how long a reader of many can hold up a push.
const LOOKUP_RECORDS: usize = 128;
/// Bytes copied under one lock, but for the last record.
const LOOKUP_BYTES: usize = 256 * 1024;
/// Records read from the source at once while many are shown: bounds the memory besides what they are shown to.
const READ_RECORDS: usize = 256;
/// The part of the cache that one reader of many may fill: what does not fit would only displace what others read.
const KEPT_PART: usize = 4;

/// Where records that left memory are read.
pub trait RevisionSource: Send + Sync {
    /// The record of a revision; `None` when compaction removed it.
    fn record(&self, revision: Revision) -> Result<Option<Bytes>, StoreError>;
    /// The records of many revisions, one result each in the order given.
    fn records(&self, revisions: &[Revision]) -> Result<Vec<Option<Bytes>>, StoreError> {
        revisions.iter().map(|&one| self.record(one)).collect()
    }
    /// Rows with `from <= revision.main < to` in order, at most `limit_rows` but never part of a main revision's
    /// rows: the last main revision is whole, or cut off entirely unless it is the first.
    fn rows(&self, from: i64, to: i64, limit_rows: usize) -> Result<Vec<RevisionRow>, StoreError>;
}

/// Every record that exists, wherever it is.
///
/// The apply thread pushes, the checkpoint thread moves the durable mark, anyone reads.
pub struct Values {
    recent: RwLock<Recent>,
    shards: [Mutex<Shard>; SHARDS],
    source: Option<Arc<dyn RevisionSource>>,
    shard_bytes_max: usize,
    /// Compaction may have removed rows at or below this main revision.
    pruned_revision: AtomicI64,
}

/// Changes newer than the last durable checkpoint: one batch a main revision, without gaps.
#[derive(Default)]
struct Recent {
    /// Main revision of the first batch.
    base: i64,
    batches: VecDeque<Arc<[Change]>>,
}

/// Records lie in the queue itself, and the table has no more than their places: a table is half empty, and one with
/// records in it would be larger than the queue.
#[derive(Default)]
struct Shard {
    /// Eviction order; a record that was read since it was queued gets a second round.
    queue: VecDeque<Cached>,
    /// Place of the first in the queue. Places wrap around.
    first_place: u32,
    places: HashTable<u32>,
    hash_builder: DefaultHashBuilder,
    bytes: usize,
}

struct Cached {
    revision: Revision,
    /// Empty once it is forgotten.
    record: Bytes,
    read: AtomicBool,
}

/// What a record takes of the cache.
fn cost_bytes(record: &Bytes) -> usize {
    record.len() + CACHED_RECORD_OVERHEAD_BYTES
}

impl Values {
    /// Records on top of `source`, whose last main revision is `durable_revision`.
    /// Without a source everything stays in memory, as tests and simulations want it.
    pub fn new(
        source: Option<Arc<dyn RevisionSource>>,
        durable_revision: i64,
        cache_bytes_max: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            recent: RwLock::new(Recent {
                base: durable_revision + 1,
                batches: VecDeque::new(),
            }),
            shards: Default::default(),
            source,
            shard_bytes_max: cache_bytes_max / SHARDS,
            pruned_revision: AtomicI64::new(-1),
        })
    }

    /// Takes the changes of the next main revision. Revisions come without gaps.
    pub fn push(&self, batch: Arc<[Change]>) {
        let mut recent = self.recent.write();
        debug_assert_eq!(
            batch.first().map(|change| change.row.revision.main),
            Some(recent.base + recent.batches.len() as i64)
        );
        recent.batches.push_back(batch);
    }

    /// Everything up to this main revision can be read from the source now: memory of it becomes cache.
    pub fn durable(&self, revision: i64) {
        if self.source.is_none() {
            return;
        }
        let batches: Vec<_> = {
            let mut recent = self.recent.write();
            let count = (revision + 1 - recent.base).clamp(0, recent.batches.len() as i64);
            recent.base += count;
            recent.batches.drain(..count as usize).collect()
        };
        for change in batches.iter().flat_map(|batch| batch.iter()) {
            if !change.row.tombstone {
                self.cache(change.row.revision, &change.record);
            }
        }
    }

    /// The record of a revision; `None` when it never existed or compaction removed it.
    pub fn record(&self, revision: Revision) -> Result<Option<Bytes>, StoreError> {
        if let Some(record) = self.recent.read().get(revision) {
            return Ok(Some(record.clone()));
        }
        if let Some(record) = self.cached(revision) {
            return Ok(Some(record));
        }
        let Some(source) = &self.source else {
            return Ok(None);
        };
        let record = source.record(revision)?;
        if let Some(record) = &record {
            self.cache(revision, record);
        }
        Ok(record)
    }

    /// The records of many revisions, one result each in the order given. `keep` lets some of those that had to be
    /// read from the source displace others in the cache: right for a client's range, wrong for a scan of everything.
    pub fn records(
        &self,
        revisions: &[Revision],
        keep: bool,
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        let mut kept_bytes_left = if keep { self.kept_bytes_max() } else { 0 };
        self.records_kept(revisions, &mut kept_bytes_left)
    }

    fn records_kept(
        &self,
        revisions: &[Revision],
        kept_bytes_left: &mut usize,
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        let mut records = Vec::with_capacity(revisions.len());
        let mut missing = Vec::new();
        for some in revisions.chunks(LOOKUP_RECORDS) {
            let recent = self.recent.read();
            records.extend(some.iter().map(|&one| recent.get(one).cloned()));
        }
        for (at, record) in records.iter_mut().enumerate() {
            if record.is_none() {
                *record = self.cached(revisions[at]);
                if record.is_none() {
                    missing.push(at);
                }
            }
        }
        let Some(source) = self.source.as_ref().filter(|_| !missing.is_empty()) else {
            return Ok(records);
        };
        let wanted: Vec<_> = missing.iter().map(|&at| revisions[at]).collect();
        for (&at, record) in missing.iter().zip(source.records(&wanted)?) {
            if let Some(record) = record.as_ref().filter(|_| *kept_bytes_left > 0) {
                *kept_bytes_left = kept_bytes_left.saturating_sub(cost_bytes(record));
                self.cache(revisions[at], record);
            }
            records[at] = record;
        }
        Ok(records)
    }

    /// Shows the records of many revisions in the order given; answers the first revision that has none, at which it
    /// stops. What is in memory is shown where it is; some of what must be read from the source displaces others in the
    /// cache.
    pub fn visit(
        &self,
        revisions: &[Revision],
        mut show: impl FnMut(&[u8]),
    ) -> Result<Option<Revision>, StoreError> {
        let mut rest = revisions;
        let mut kept_bytes_left = self.kept_bytes_max();
        while !rest.is_empty() {
            let seen = self.visit_in_memory(rest, &mut show);
            if seen > 0 {
                rest = &rest[seen..];
                continue;
            }
            let (some, later) = rest.split_at(rest.len().min(READ_RECORDS));
            let records = self.records_kept(some, &mut kept_bytes_left)?;
            for (record, &revision) in records.iter().zip(some) {
                match record {
                    Some(record) => show(record),
                    None => return Ok(Some(revision)),
                }
            }
            rest = later;
        }
        Ok(None)
    }

    /// Shows some of the first records; answers how many: none if the very first is not in memory.
    fn visit_in_memory(&self, revisions: &[Revision], show: &mut impl FnMut(&[u8])) -> usize {
        let recent = self.recent.read();
        let shards = self.shards.each_ref().map(|shard| shard.lock());
        // All are looked up before the first is shown: look-ups wait for memory, and so wait together.
        let mut found: [&[u8]; LOOKUP_RECORDS] = [&[]; LOOKUP_RECORDS];
        let (mut count, mut bytes) = (0, 0);
        for (slot, &revision) in found.iter_mut().zip(revisions) {
            let cached = || shards[shard_of(revision)].get(revision);
            let Some(record) = recent.get(revision).or_else(cached) else {
                break;
            };
            *slot = record;
            count += 1;
            bytes += record.len();
            if bytes >= LOOKUP_BYTES {
                break;
            }
        }
        found[..count].iter().for_each(|record| show(record));
        count
    }

    /// Compaction up to `revision` begins to remove rows and records.
    pub fn prune(&self, revision: i64) {
        self.pruned_revision.fetch_max(revision, Ordering::AcqRel);
    }

    /// Rows above this main revision are all there. Asked after a scan it tells whether the scan can be trusted.
    pub fn pruned_revision(&self) -> i64 {
        self.pruned_revision.load(Ordering::Acquire)
    }

    /// Rows of the main revisions `from..to` in order, at least one main revision where there is one, and
    /// no further once `limit_rows` are reached.
    pub fn rows(
        &self,
        from: i64,
        to: i64,
        limit_rows: usize,
    ) -> Result<Vec<RevisionRow>, StoreError> {
        // Memory first: what leaves it meanwhile is already in the source.
        let (base, recent) = self.recent.read().rows(from, to, limit_rows);
        let mut rows: Vec<RevisionRow> = Vec::new();
        let mut next = from;
        while let Some(source) = self.source.as_ref().filter(|_| next < base) {
            if rows.len() >= limit_rows {
                return Ok(rows);
            }
            // Fewer than asked for may mean that the next main revision did not fit.
            let some = source.rows(next, to.min(base), limit_rows - rows.len())?;
            next = some.last().map_or(base, |row| row.revision.main + 1);
            rows.extend(some);
        }
        if rows.len() < limit_rows {
            rows.extend(recent);
        }
        Ok(rows)
    }

    /// Drops removed revisions from the cache; the source forgets them with the next checkpoint.
    pub fn forget(&self, removed: &[Revision]) {
        for revision in removed {
            self.shard(*revision).lock().forget(*revision);
        }
    }

    fn kept_bytes_max(&self) -> usize {
        self.shard_bytes_max * SHARDS / KEPT_PART
    }

    fn shard(&self, revision: Revision) -> &Mutex<Shard> {
        &self.shards[shard_of(revision)]
    }

    fn cached(&self, revision: Revision) -> Option<Bytes> {
        self.shard(revision).lock().get(revision).cloned()
    }

    fn cache(&self, revision: Revision, record: &Bytes) {
        self.shard(revision)
            .lock()
            .insert(revision, record.clone(), self.shard_bytes_max);
    }
}

fn shard_of(revision: Revision) -> usize {
    (revision.main as usize).wrapping_add(revision.sub as usize) % SHARDS
}

impl Recent {
    fn get(&self, revision: Revision) -> Option<&Bytes> {
        let main = usize::try_from(revision.main - self.base).ok()?;
        let batch = self.batches.get(main)?;
        let change = batch.get(usize::try_from(revision.sub).ok()?)?;
        Some(&change.record)
    }

    fn rows(&self, from: i64, to: i64, limit_rows: usize) -> (i64, Vec<RevisionRow>) {
        let mut rows = Vec::new();
        let skip = usize::try_from(from - self.base).unwrap_or(0);
        let take = usize::try_from(to - from.max(self.base)).unwrap_or(0);
        for batch in self.batches.iter().skip(skip).take(take) {
            if rows.len() >= limit_rows {
                break;
            }
            rows.extend(batch.iter().map(|change| change.row.clone()));
        }
        (self.base, rows)
    }
}

impl Shard {
    fn get(&self, revision: Revision) -> Option<&Bytes> {
        let cached = &self.queue[self.find(revision)?];
        cached.read.store(true, Ordering::Relaxed);
        Some(&cached.record)
    }

    fn insert(&mut self, revision: Revision, record: Bytes, bytes_max: usize) {
        let cached = Cached {
            revision,
            record,
            read: AtomicBool::new(false),
        };
        if cost_bytes(&cached.record) > bytes_max || self.find(revision).is_some() {
            return;
        }
        self.bytes += cost_bytes(&cached.record);
        self.push(cached);
        while self.bytes > bytes_max {
            let Some(oldest) = self.pop() else {
                break;
            };
            if oldest.read.swap(false, Ordering::Relaxed) {
                self.push(oldest);
            } else {
                self.bytes -= cost_bytes(&oldest.record);
            }
        }
    }

    /// Its slot is left, and counted, until its turn to be evicted.
    fn forget(&mut self, revision: Revision) {
        let Some(at) = self.find(revision) else {
            return;
        };
        let place = self.first_place.wrapping_add(at as u32);
        self.forget_place(revision, place);
        let cached = &mut self.queue[at];
        self.bytes -= cached.record.len();
        cached.record = Bytes::new();
        *cached.read.get_mut() = false;
    }

    /// Where in the queue a revision is.
    fn find(&self, revision: Revision) -> Option<usize> {
        let at = |place: u32| place.wrapping_sub(self.first_place) as usize;
        let hash = self.hash_builder.hash_one(revision);
        let is_it = |&place: &u32| self.queue[at(place)].revision == revision;
        self.places.find(hash, is_it).map(|&place| at(place))
    }

    fn push(&mut self, cached: Cached) {
        let (first, hash_builder) = (self.first_place, &self.hash_builder);
        let place = first.wrapping_add(self.queue.len() as u32);
        let hash = hash_builder.hash_one(cached.revision);
        self.queue.push_back(cached);
        let queue = &self.queue;
        self.places.insert_unique(hash, place, |&place| {
            hash_builder.hash_one(queue[place.wrapping_sub(first) as usize].revision)
        });
    }

    fn pop(&mut self) -> Option<Cached> {
        let oldest = self.queue.pop_front()?;
        self.forget_place(oldest.revision, self.first_place);
        self.first_place = self.first_place.wrapping_add(1);
        Some(oldest)
    }

    fn forget_place(&mut self, revision: Revision, place: u32) {
        let hash = self.hash_builder.hash_one(revision);
        if let Ok(found) = self.places.find_entry(hash, |&other| other == place) {
            found.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Disk;

    impl RevisionSource for Disk {
        fn record(&self, revision: Revision) -> Result<Option<Bytes>, StoreError> {
            Ok((revision.main <= 4).then(|| Bytes::from(format!("disk {}", revision.main))))
        }
        fn rows(&self, from: i64, to: i64, limit: usize) -> Result<Vec<RevisionRow>, StoreError> {
            // One main revision at a time, as if each came close to the limit.
            let rows = (from..to.min(5)).map(row);
            Ok(rows.take(limit.min(1)).collect())
        }
    }

    fn row(main: i64) -> RevisionRow {
        RevisionRow {
            revision: Revision::new(main, 0),
            tombstone: false,
            key: Bytes::from_static(b"k"),
            create_revision: 2,
            version: main - 1,
            lease: 0,
            record_bytes: 0,
        }
    }

    fn change(main: i64) -> Arc<[Change]> {
        let record = Bytes::from(format!("memory {main}"));
        Arc::new([Change {
            row: row(main),
            record,
            previous: None,
            previous_lease: 0,
        }])
    }

    fn text(values: &Values, main: i64) -> Option<String> {
        let record = values.record(Revision::new(main, 0)).unwrap();
        record.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn records_come_from_memory_until_durable_then_from_cache_or_disk() {
        let values = Values::new(Some(Arc::new(Disk)), 2, 1 << 20);
        for main in 3..=6 {
            values.push(change(main));
        }
        assert_eq!(text(&values, 2).as_deref(), Some("disk 2"));
        assert_eq!(text(&values, 3).as_deref(), Some("memory 3"));
        values.durable(4);
        assert_eq!(text(&values, 3).as_deref(), Some("memory 3"), "cached");
        values.forget(&[Revision::new(3, 0)]);
        assert_eq!(text(&values, 3).as_deref(), Some("disk 3"));
        assert_eq!(text(&values, 6).as_deref(), Some("memory 6"));
        assert_eq!(text(&values, 7), None);
    }

    #[test]
    fn many_records_come_from_everywhere_in_order() {
        let values = Values::new(Some(Arc::new(Disk)), 2, 1 << 20);
        for main in 3..=6 {
            values.push(change(main));
        }
        values.durable(3);
        let wanted = [6, 3, 9, 2].map(|main| Revision::new(main, 0));
        let texts: Vec<_> = values.records(&wanted, true).unwrap();
        let texts: Vec<_> = texts.iter().map(|record| record.as_deref()).collect();
        assert_eq!(
            texts,
            [
                Some(&b"memory 6"[..]),
                Some(b"memory 3"),
                None,
                Some(b"disk 2")
            ]
        );
        assert!(values.cached(wanted[3]).is_some(), "kept");
        values.records(&[Revision::new(1, 0)], false).unwrap();
        assert!(values.cached(Revision::new(1, 0)).is_none(), "not kept");
    }

    #[test]
    fn a_visit_shows_every_record_in_order_and_stops_at_the_first_that_is_missing() {
        let values = Values::new(Some(Arc::new(Disk)), 2, 1 << 20);
        for main in 3..=300 {
            values.push(change(main));
        }
        values.durable(3);
        let visit = |mains: &[i64]| {
            let revisions: Vec<_> = mains.iter().map(|&main| Revision::new(main, 0)).collect();
            let mut texts = Vec::new();
            let missing = values.visit(&revisions, |record| {
                texts.push(String::from_utf8(record.to_vec()).unwrap());
            });
            (texts, missing.unwrap().map(|revision| revision.main))
        };
        let (texts, missing) = visit(&[6, 3, 2, 300, 4]);
        assert_eq!(
            texts,
            ["memory 6", "memory 3", "disk 2", "memory 300", "memory 4"]
        );
        assert_eq!(missing, None);
        let (texts, missing) = visit(&[5, 2, 301, 6]);
        assert_eq!((texts.len(), missing), (2, Some(301)));
        let all: Vec<_> = (4..=300).rev().collect();
        let (texts, missing) = visit(&all);
        assert_eq!(missing, None);
        assert!(
            texts
                .iter()
                .zip(&all)
                .all(|(text, main)| *text == format!("memory {main}"))
        );
        assert_eq!(texts.len(), all.len());
    }

    #[test]
    fn a_long_read_leaves_most_of_the_cache_to_others() {
        struct Sized(usize);
        impl RevisionSource for Sized {
            fn record(&self, _: Revision) -> Result<Option<Bytes>, StoreError> {
                Ok(Some(Bytes::from(vec![0; self.0])))
            }
            fn rows(&self, _: i64, _: i64, _: usize) -> Result<Vec<RevisionRow>, StoreError> {
                Ok(Vec::new())
            }
        }
        let revisions = |mains: std::ops::Range<i64>| -> Vec<_> {
            mains.map(|main| Revision::new(main, 0)).collect()
        };
        // Of small records most of the cost is not their bytes.
        for record_bytes in [10, 1000] {
            let cost = record_bytes + CACHED_RECORD_OVERHEAD_BYTES;
            let values = Values::new(Some(Arc::new(Sized(record_bytes))), 100_000, 1 << 20);
            let cached = |revisions: &[Revision]| {
                let found = revisions
                    .iter()
                    .filter(|&&one| values.cached(one).is_some());
                found.count()
            };
            let few = revisions(0..((1 << 19) / cost) as i64);
            for &revision in &few {
                values.record(revision).unwrap();
            }
            let many = revisions(10_000..20_000);
            let mut shown = 0;
            values.visit(&many, |_| shown += 1).unwrap();
            assert_eq!((shown, cached(&few)), (10_000, few.len()));
            assert_eq!(cached(&many), (1_usize << 20).div_ceil(KEPT_PART * cost));
        }
    }

    #[test]
    fn rows_join_disk_and_memory_without_gap_or_repeat() {
        let values = Values::new(Some(Arc::new(Disk)), 2, 0);
        for main in 3..=6 {
            values.push(change(main));
        }
        values.durable(4);
        let mains = |from, to, limit| -> Vec<i64> {
            let rows = values.rows(from, to, limit).unwrap();
            rows.iter().map(|row| row.revision.main).collect()
        };
        assert_eq!(mains(2, 7, 100), [2, 3, 4, 5, 6]);
        assert_eq!(mains(5, 6, 100), [5]);
        assert_eq!(mains(6, 100, 100), [6]);
        assert_eq!(mains(5, 7, 1), [5]);
    }

    #[test]
    fn the_cache_keeps_within_its_bytes_and_prefers_what_was_read() {
        let mut shard = Shard::default();
        let bytes_max = 3 * (CACHED_RECORD_OVERHEAD_BYTES + 10);
        for main in 0..3 {
            shard.insert(Revision::new(main, 0), Bytes::from(vec![0; 10]), bytes_max);
        }
        assert!(shard.get(Revision::new(0, 0)).is_some());
        shard.insert(Revision::new(3, 0), Bytes::from(vec![0; 10]), bytes_max);
        assert!(shard.bytes <= bytes_max);
        assert!(shard.find(Revision::new(0, 0)).is_some());
        assert!(shard.find(Revision::new(1, 0)).is_none());
    }

    #[test]
    fn what_is_forgotten_is_gone_and_its_slot_is_evicted_in_its_turn() {
        let mut shard = Shard {
            first_place: u32::MAX - 1,
            ..Shard::default()
        };
        let bytes_max = 3 * (CACHED_RECORD_OVERHEAD_BYTES + 10);
        let revision = |main| Revision::new(main, 0);
        let record = |main: i64| Bytes::from(vec![main as u8; 10]);
        for main in 0..3 {
            shard.insert(revision(main), record(main), bytes_max);
        }
        assert!(shard.get(revision(1)).is_some());
        shard.forget(revision(1));
        assert_eq!(shard.get(revision(1)), None);
        // The same revision again, in another slot: evicting the old slot must not take it along.
        shard.insert(revision(1), record(1), bytes_max);
        shard.insert(revision(3), record(3), bytes_max);
        assert_eq!(shard.get(revision(0)), None);
        for main in 1..4 {
            assert_eq!(shard.get(revision(main)), Some(&record(main)), "{main}");
        }
        assert_eq!(shard.queue.len(), shard.places.len());
        for main in 1..4 {
            shard.forget(revision(main));
        }
        for main in 4..40 {
            shard.insert(revision(main), record(main), bytes_max);
        }
        assert_eq!((shard.queue.len(), shard.bytes), (3, bytes_max));
    }
}
