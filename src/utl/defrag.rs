//! `defrag`: gives the unused space of a stopped member's database back.

use std::path::Path;
use std::time::Instant;

use crate::bbolt::File;
use crate::ctl::cli::{Command, Flag, Invocation};
use crate::ctl::exit::Failure;
use crate::ctl::go::{bytes, duration};
use crate::ctl::progress;
use crate::disk::RealDisk;
use crate::logging::Line;
use crate::store::{Size, Store};

use super::edited::{Edited, write_file};
use super::source::{self, GoFile, Source};
use super::{blocking, failed, log, require_flags};

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "defrag",
    short: "Gives the unused space of a stopped member's database back",
    flags: &[Flag::text(
        "data-dir",
        "required: data directory of a member that is not running",
    )],
    run: blocking!(run),
    ..Command::NEW
};

fn run(invocation: &Invocation) -> Result<(), Failure> {
    require_flags(invocation, &["data-dir"])?;
    let data_dir = invocation.flags.text("data-dir");
    let in_words = |reason: String| {
        failed(format!(
            "Failed to defragment etcd data[{data_dir}] ({reason})"
        ))
    };
    let path = source::database_of(&data_dir);
    source::require_file(&path).map_err(in_words)?;
    let defragmented = match source::open(invocation, &path, false)? {
        Source::Go(go) => {
            let before = go_size(&go.file);
            before.and_then(|before| timed(&path, before, || defragment_go(go, &path)))
        }
        Source::Native(native) => {
            let mut store = native.0;
            let before = store.size().map_err(|error| error.to_string());
            before.and_then(|before| timed(&path, before, || defragment_native(&mut store)))
        }
    };
    defragmented.map_err(in_words)
}

fn defragment_go(go: GoFile, path: &Path) -> Result<Size, String> {
    let edited = Edited::new(&go.file).map_err(|error| error.to_string())?;
    write_file(&edited, path)?;
    go_size(&File::open(&RealDisk, path).map_err(|error| error.to_string())?)
}

fn go_size(file: &File) -> Result<Size, String> {
    let pages = file.pages_in_use().map_err(|error| error.to_string())?;
    Ok(Size {
        // Without the unused end, which etcd does not count either.
        allocated_bytes: file.high_water_pages() * file.page_bytes(),
        in_use_bytes: pages * file.page_bytes(),
    })
}

fn defragment_native(store: &mut Store) -> Result<Size, String> {
    let defragmented = store.defragment().and_then(|()| store.size());
    defragmented.map_err(|error| error.to_string())
}

fn timed(
    path: &Path,
    before: Size,
    defragment: impl FnOnce() -> Result<Size, String>,
) -> Result<(), String> {
    let path = path.display().to_string();
    let (size, in_use) = (before.allocated_bytes, before.in_use_bytes);
    log(Line::info("defragmenting")
        .with("path", path.as_str())
        .with("current-db-size-bytes", size)
        .with("current-db-size", bytes::human(size))
        .with("current-db-size-in-use-bytes", in_use)
        .with("current-db-size-in-use", bytes::human(in_use)));
    let start = Instant::now();
    let shown = progress::spinner(format!("rewriting {path}"));
    let after = defragment()?;
    drop(shown);
    let took = i64::try_from(start.elapsed().as_nanos()).unwrap_or(i64::MAX);
    let (new_size, new_in_use) = (after.allocated_bytes, after.in_use_bytes);
    log(Line::info("finished defragmenting directory")
        .with("path", path.as_str())
        .with("current-db-size-bytes-diff", new_size as i64 - size as i64)
        .with("current-db-size-bytes", new_size)
        .with("current-db-size", bytes::human(new_size))
        .with(
            "current-db-size-in-use-bytes-diff",
            new_in_use as i64 - in_use as i64,
        )
        .with("current-db-size-in-use-bytes", new_in_use)
        .with("current-db-size-in-use", bytes::human(new_in_use))
        .with("took", duration::print(took)));
    Ok(())
}
