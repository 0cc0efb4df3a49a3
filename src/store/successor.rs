//! A database that is built beside the current one and takes its place: the first one, a defragmented copy, an import.
//!
//! It grows under another name in transactions that a crash makes worthless, ends with one that is durable, and is
//! then renamed. So there is always one whole database, or none before the first.

use super::StoreError;
use super::checkpoint::{Appender, Transaction};
use super::database::Database;
use super::place::Place;
use super::revisions::Revisions;
use super::schema::{BUCKETS, RevisionKey, revision_key};
use crate::types::Revision;

/// Content copied in one step of a defragmentation, in bytes: some 12 ms of work and one sync that others may have to
/// wait for. Tests want several steps.
const STEP_BYTES: u64 = if cfg!(test) { 2_000 } else { 2 << 20 };

/// A database under construction.
pub(super) struct Successor {
    database: Database,
    place: Place,
    content_bytes: u64,
}

impl Successor {
    /// Begins one without rows.
    pub(super) fn begin(place: &Place, cache_bytes: usize) -> Result<Self, StoreError> {
        let file = place.create_new()?;
        Ok(Self {
            database: Database::create(file, place.path(), cache_bytes)?,
            place: place.clone(),
            content_bytes: 0,
        })
    }

    /// Goes on with what `with` does.
    pub(super) fn step<R>(
        &mut self,
        with: impl FnOnce(&mut Transaction<'_>) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let mut transaction = Transaction::begin_draft(&self.database, self.content_bytes)?;
        let done = with(&mut transaction)?;
        self.content_bytes = transaction.commit()?;
        Ok(done)
    }

    /// Ends with what `with` does, and takes the place of the current database. Answers with it and the size of its content.
    pub(super) fn finish(
        self,
        with: impl FnOnce(&mut Transaction<'_>) -> Result<(), StoreError>,
    ) -> Result<(Database, u64), StoreError> {
        let mut transaction = Transaction::begin(&self.database, self.content_bytes)?;
        with(&mut transaction)?;
        let content_bytes = transaction.commit()?;
        self.place.install_new()?;
        Ok((self.database, content_bytes))
    }
}

/// A defragmentation under way.
pub(super) struct Defragmentation {
    successor: Successor,
    /// The first revision that is not copied yet.
    next: RevisionKey,
    /// What was removed since the last step.
    removed: Vec<Revision>,
}

impl Defragmentation {
    pub(super) fn begin(place: &Place, cache_bytes: usize) -> Result<Self, StoreError> {
        Ok(Self {
            successor: Successor::begin(place, cache_bytes)?,
            next: revision_key(Revision::default()),
            removed: Vec::new(),
        })
    }

    /// Takes note of what a checkpoint removed. What it added will be found at the end.
    pub(super) fn note_removed(&mut self, removed: &[Revision]) {
        let copied = removed
            .iter()
            .filter(|revision| revision_key(**revision) < self.next);
        self.removed.extend(copied);
    }

    /// Copies a little more of `current`; true when nothing is left.
    pub(super) fn step(&mut self, current: &Database) -> Result<bool, StoreError> {
        let mut removed = std::mem::take(&mut self.removed);
        removed.sort_unstable();
        let from = self.next;
        let next = self.successor.step(|transaction| {
            transaction.remove(&removed)?;
            transaction.append(|appender| copy_revisions(current, from, appender))
        })?;
        self.next = next.unwrap_or(self.next);
        Ok(next.is_none())
    }

    /// Copies the small rest and takes the current database's place.
    pub(super) fn finish(self, current: &Database) -> Result<(Database, u64), StoreError> {
        let txn = current.begin_read()?;
        let rows = current.check(|| Ok(txn.open_table(BUCKETS)?))?;
        self.successor.finish(|transaction| {
            let mut writes = Vec::new();
            for entry in current.check(|| Ok(rows.range::<&[u8]>(..)?))? {
                let (key, value) = current.check(|| Ok(entry?))?;
                writes.push((key.value().to_vec(), value.value().to_vec()));
            }
            let writes = writes.iter();
            transaction.write_buckets(
                writes
                    .map(|(key, value)| (key.clone(), Some(value.as_slice())))
                    .collect(),
            )
        })
    }
}

/// Copies a step's worth of revisions; answers where to go on, or nothing at the end.
fn copy_revisions(
    current: &Database,
    from: RevisionKey,
    appender: &mut Appender<'_>,
) -> Result<Option<RevisionKey>, StoreError> {
    let mut next = None;
    let revisions = Revisions::open(current, &current.begin_read()?)?;
    revisions.scan(current, from, &mut |stored| {
        if appender.appended_bytes() >= STEP_BYTES {
            next = Some(stored.key);
            return Ok(false);
        }
        appender.push(stored.key, stored.row, stored.stored_record)?;
        Ok(true)
    })?;
    Ok(next)
}
