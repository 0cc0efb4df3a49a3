//! Segment files: their names, and which of them a reader needs.

use std::io;
use std::path::{Path, PathBuf};

use super::error::{WalError, io_error};
use crate::disk::Disk;

/// A segment's name: its place in the sequence, and the lowest index of the entries that may follow in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) sequence: u64,
    pub(super) first_index: u64,
}

impl Name {
    /// Reads a file name; `None` when it is none of ours.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (sequence, first_index) = name.strip_suffix(".wal")?.split_once('-')?;
        let number = |digits: &str| {
            let hexadecimal = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            hexadecimal
                .then(|| u64::from_str_radix(digits, 16).ok())
                .flatten()
        };
        Some(Self {
            sequence: number(sequence)?,
            first_index: number(first_index)?,
        })
    }

    /// The file.
    pub(super) fn path(self, dir: &Path) -> PathBuf {
        dir.join(self.to_string())
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}-{:016x}.wal", self.sequence, self.first_index)
    }
}

/// The segments in a directory, in sequence. Other files are passed over.
pub(super) fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<Name>, WalError> {
    let names = match disk.names(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names.map_err(io_error("list", dir))?,
    };
    let mut segments = names
        .iter()
        .filter_map(|name| Name::parse(name))
        .collect::<Vec<_>>();
    segments.sort_unstable();
    Ok(segments)
}

/// The segments needed to read on from the snapshot at `index`: from the newest that may hold the entry
/// behind it, to the last, without a gap.
pub(super) fn needed(dir: &Path, segments: &[Name], index: u64) -> Result<Vec<Name>, WalError> {
    let missing = |missing| WalError::MissingSegment {
        dir: dir.to_owned(),
        missing,
    };
    let Some(first) = segments.first() else {
        return Err(WalError::NotFound {
            dir: dir.to_owned(),
        });
    };
    let Some(start) = segments.iter().rposition(|name| name.first_index <= index) else {
        return Err(missing(format!(
            "that holds entry {index}, before {first},"
        )));
    };
    let needed = segments.get(start..).unwrap_or_default();
    match gap(needed) {
        None => Ok(needed.to_vec()),
        Some(after) => Err(missing(format!(
            "{:016x}-*.wal",
            after.sequence.wrapping_add(1)
        ))),
    }
}

/// The segments after the last gap: older ones were on their way out when the process ended.
pub(super) fn contiguous(segments: &[Name]) -> &[Name] {
    let mut contiguous = segments;
    while let Some(after) = gap(contiguous) {
        let start = contiguous
            .iter()
            .position(|name| *name == after)
            .map_or(1, |at| at + 1);
        contiguous = contiguous.get(start..).unwrap_or_default();
    }
    contiguous
}

/// The first segment whose successor is not there.
fn gap(segments: &[Name]) -> Option<Name> {
    let neighbours = segments.iter().zip(segments.iter().skip(1));
    let mut gaps = neighbours.filter(|(a, b)| a.sequence.checked_add(1) != Some(b.sequence));
    gaps.next().map(|(before, _)| *before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[(u64, u64)]) -> Vec<Name> {
        names
            .iter()
            .map(|&(sequence, first_index)| Name {
                sequence,
                first_index,
            })
            .collect()
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        let name = Name {
            sequence: 0x1f,
            first_index: 1 << 60,
        };
        assert_eq!(name.to_string(), "000000000000001f-1000000000000000.wal");
        assert_eq!(Name::parse(&name.to_string()), Some(name));
        for other in [
            "0.tmp",
            "1-2.wal",
            "000000000000001f-1000000000000000.wal.broken",
            ".wal",
        ] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
        assert_eq!(Name::parse("+00000000000001f-1000000000000000.wal"), None);
    }

    #[test]
    fn a_reader_gets_what_it_needs_or_learns_what_is_missing() {
        let dir = Path::new("/w");
        let all = names(&[(3, 10), (4, 20), (5, 30), (7, 40)]);
        let needs = |index| needed(dir, &all[..3], index).map_err(|error| error.to_string());
        assert_eq!(needs(19), Ok(names(&[(3, 10), (4, 20), (5, 30)])));
        assert_eq!(needs(20), Ok(names(&[(4, 20), (5, 30)])));
        assert_eq!(needs(99), Ok(names(&[(5, 30)])));
        assert!(
            needs(9)
                .unwrap_err()
                .contains("holds entry 9, before 0000000000000003-")
        );
        let gap = needed(dir, &all, 35).unwrap_err().to_string();
        assert!(
            gap.contains("segment 0000000000000006-*.wal is missing"),
            "{gap}"
        );
        assert_eq!(needed(dir, &all, 40).unwrap(), names(&[(7, 40)]));
        assert_eq!(contiguous(&all), names(&[(7, 40)]));
        assert_eq!(contiguous(&all[..3]), &all[..3]);
        assert!(contiguous(&[]).is_empty());
    }
}
