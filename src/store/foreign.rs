//! The revisions of a bbolt file, read where they are: for tools that look at one without importing it.

use bytes::Bytes;

use super::frozen::KEY_BUCKET;
use super::import::row_of;
use super::reader::cut_to_whole_revisions;
use super::schema::{META_FINISHED_COMPACT, META_SCHEDULED_COMPACT};
use super::{Bucket, RevisionRow, RevisionSource, StoreError};
use crate::bbolt;
use crate::types::Revision;

/// The `key` bucket of a bbolt file.
#[derive(Debug)]
pub struct ForeignRevisions {
    file: bbolt::File,
    keys: Option<bbolt::Bucket>,
}

impl ForeignRevisions {
    /// Takes an open file; one without a `key` bucket has no revisions.
    pub fn new(file: bbolt::File) -> Result<Self, StoreError> {
        let keys = file.find_bucket(KEY_BUCKET)?;
        Ok(Self { file, keys })
    }

    /// The revisions that compaction was last asked for, and up to which it is complete.
    pub fn compact_marks(&self) -> Result<(Option<i64>, Option<i64>), StoreError> {
        let (mut scheduled, mut finished) = (None, None);
        let Some(meta) = self.file.find_bucket(Bucket::Meta.name())? else {
            return Ok((None, None));
        };
        let mut rows = self.file.rows(&meta);
        while let Some((key, value)) = rows.next()? {
            let mark = match key {
                META_SCHEDULED_COMPACT => &mut scheduled,
                META_FINISHED_COMPACT => &mut finished,
                _ => continue,
            };
            let (revision, _) = Revision::from_key(value)
                .ok_or_else(|| StoreError::ImportRow(String::from_utf8_lossy(key).into_owned()))?;
            *mark = Some(revision.main);
        }
        Ok((scheduled, finished))
    }

    fn rows_from(&self, revision: Revision) -> Option<bbolt::Rows<'_>> {
        let keys = self.keys.as_ref()?;
        Some(self.file.rows_from(keys, &revision.to_key()))
    }
}

impl RevisionSource for ForeignRevisions {
    fn record(&self, revision: Revision) -> Result<Option<Bytes>, StoreError> {
        let mut records = self.records(&[revision])?;
        Ok(records.pop().flatten())
    }

    /// Cheap where the revisions asked for ascend and are close to each other.
    fn records(&self, revisions: &[Revision]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let mut records = Vec::with_capacity(revisions.len());
        let mut last = None;
        let mut rows = None;
        let mut ahead: Option<(Revision, Bytes)> = None;
        for &revision in revisions {
            if rows.is_none() || last >= Some(revision) {
                rows = self.rows_from(revision);
                ahead = None;
            }
            last = Some(revision);
            while let Some(rows) = &mut rows {
                if ahead.as_ref().is_some_and(|(at, _)| *at >= revision) {
                    break;
                }
                let Some((key, record)) = rows.next()? else {
                    ahead = None;
                    break;
                };
                let (at, _) = Revision::from_key(key)
                    .ok_or_else(|| StoreError::ImportRow(hex::encode(key)))?;
                // Most of what is passed over is not wanted: not worth a copy.
                ahead = (at >= revision).then(|| (at, Bytes::copy_from_slice(record)));
            }
            let found = ahead.as_ref().filter(|(at, _)| *at == revision);
            records.push(found.map(|(_, record)| record.clone()));
        }
        Ok(records)
    }

    fn rows(&self, from: i64, to: i64, limit_rows: usize) -> Result<Vec<RevisionRow>, StoreError> {
        let mut found: Vec<RevisionRow> = Vec::new();
        let Some(mut rows) = self.rows_from(Revision::new(from.max(0), 0)) else {
            return Ok(found);
        };
        while let Some((key, record)) = rows.next()? {
            let row = row_of(key, record).ok_or_else(|| StoreError::ImportRow(hex::encode(key)))?;
            let last = found.last().map(|last| last.revision.main);
            let full = found.len() >= limit_rows && last != Some(row.revision.main);
            if full || row.revision.main >= to {
                break;
            }
            found.push(row);
        }
        cut_to_whole_revisions(&mut found, limit_rows);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn fixture() -> ForeignRevisions {
        let packed: &[u8] = include_bytes!("../bbolt/testdata/snapshot.db.gz");
        let mut content = Vec::new();
        flate2::read::GzDecoder::new(packed)
            .read_to_end(&mut content)
            .unwrap();
        let file = bbolt::File::from_bytes("snapshot.db", content.into()).unwrap();
        ForeignRevisions::new(file).unwrap()
    }

    #[test]
    fn revisions_are_found_in_any_order() {
        let revisions = fixture();
        assert_eq!(revisions.compact_marks().unwrap(), (Some(40), Some(40)));
        let rows = revisions.rows(0, i64::MAX, usize::MAX).unwrap();
        assert_eq!(rows.last().unwrap().revision.main, 98);
        let mut wanted: Vec<_> = rows.iter().map(|row| row.revision).collect();
        let in_order = revisions.records(&wanted).unwrap();
        for (row, record) in rows.iter().zip(&in_order) {
            assert_eq!(record.as_ref().unwrap().len(), row.record_bytes as usize);
        }
        wanted.reverse();
        let mut backwards = revisions.records(&wanted).unwrap();
        backwards.reverse();
        assert_eq!(backwards, in_order);
        assert_eq!(revisions.record(Revision::new(3, 7)).unwrap(), None);
        assert_eq!(revisions.record(Revision::new(99, 0)).unwrap(), None);
    }

    #[test]
    fn rows_are_those_between_and_whole_revisions() {
        let revisions = fixture();
        let all = revisions.rows(0, i64::MAX, usize::MAX).unwrap();
        for (from, to) in [(0, 50), (41, 42), (90, 99), (98, 200), (99, 200)] {
            let some = revisions.rows(from, to, usize::MAX).unwrap();
            let expected = all
                .iter()
                .filter(|row| (from..to).contains(&row.revision.main));
            assert!(some.iter().eq(expected), "{from}..{to}");
        }
        let limited = revisions.rows(0, i64::MAX, 5).unwrap();
        assert_eq!(limited, all[..limited.len()]);
        let next = &all[limited.len()];
        assert_ne!(next.revision.main, limited.last().unwrap().revision.main);
    }
}
