//! `hashkv`: what the HashKV call would answer for a database or a snapshot.

use std::path::Path;
use std::sync::Arc;

use crate::ctl::cli::{Command, Flag, Invocation};
use crate::ctl::exit::Failure;
use crate::ctl::print::json::Object;
use crate::ctl::print::{Display, Out, Printable, Printed, fields, table};
use crate::ctl::progress;
use crate::mvcc::{CompactMarks, KvHash, Loader, MvccError};
use crate::store::{ForeignRevisions, RevisionSource, Values};

use super::source::{self, Source};
use super::{blocking, display, failed, misused};

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "hashkv",
    usage: "<filename>",
    short: "Prints the hash of a database's keys and values that members share",
    flags: &[Flag::int(
        "rev",
        "revision the hash goes up to, 0 for the newest",
    )],
    run: blocking!(run),
    ..Command::NEW
};

fn run(invocation: &Invocation) -> Result<(), Failure> {
    let [_] = invocation.args.as_slice() else {
        let message = format!("accepts 1 arg(s), received {}", invocation.args.len());
        return Err(misused(invocation, &message));
    };
    let display = display(invocation)?;
    let path = invocation.text(0).into_owned();
    let path = Path::new(&path);
    source::require_file(path).map_err(failed)?;
    let source = source::open(invocation, path, true)?;
    let shown = progress::spinner(format!("hashing {}", path.display()));
    let hash = hash(source, invocation.flags.int("rev"));
    drop(shown);
    let hash = hash.map_err(|error| match error {
        MvccError::Compacted => failed("mvcc: required revision has been compacted"),
        MvccError::FutureRevision => failed("mvcc: required revision is a future revision"),
        other => failed(other),
    })?;
    display.show(&hash)
}

/// The hash of a database up to a revision, 0 for the newest.
pub(super) fn hash(source: Source, revision: i64) -> Result<KvHash, MvccError> {
    let mut loader = Loader::default();
    let (scheduled, finished, last, source): (_, _, _, Arc<dyn RevisionSource>) = match source {
        Source::Go(go) => {
            let revisions = ForeignRevisions::new(go.file)?;
            let (scheduled, finished) = revisions.compact_marks()?;
            let rows = revisions.rows(0, i64::MAX, usize::MAX)?;
            rows.iter().for_each(|row| loader.push(row.into()));
            let last = rows.last().map_or(1, |row| row.revision.main);
            (scheduled, finished, last, Arc::new(revisions))
        }
        Source::Native(native) => {
            let (store, loaded) = *native;
            let reader = store.reader();
            reader.scan_rows(&mut |row| loader.push(row))?;
            let (scheduled, finished) = (loaded.scheduled_compact, loaded.finished_compact);
            let last = loaded.last_revision.map_or(1, |revision| revision.main);
            (scheduled, finished, last, Arc::new(reader))
        }
    };
    let current = last.max(scheduled.max(finished).unwrap_or(0));
    // Everything is read once: nothing is worth keeping.
    let values = Values::new(Some(source), current, 0);
    let marks = CompactMarks {
        scheduled,
        finished,
    };
    loader.finish(marks, values)?.view().hash_kv(revision)
}

impl Printable for KvHash {
    fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
        Ok(writeln!(
            out,
            "{}, {}, {}",
            self.hash, self.revision, self.compact_revision
        )?)
    }

    fn json(&self, out: &mut String, _: bool) -> Printed {
        Object::write(out, |object| {
            object.number_always("hash", self.hash);
            object.number_always("hashRevision", self.revision);
            object.number_always("compactRevision", self.compact_revision);
        });
        Ok(())
    }

    fn fields(&self, out: Out<'_>, _: bool) -> Printed {
        fields::plain(out, "Hash", self.hash)?;
        fields::plain(out, "Hash revision", self.revision)?;
        fields::plain(out, "Compact revision", self.compact_revision)
    }

    fn table(&self, out: Out<'_>) -> Printed {
        let header = ["hash", "hash revision", "compact revision"];
        let row = [
            self.hash.to_string(),
            self.revision.to_string(),
            self.compact_revision.to_string(),
        ];
        table::draw(out, &header, &[row.to_vec()])
    }
}
