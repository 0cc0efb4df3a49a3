//! A log file that begins anew when it is full, with the names and rules of etcd's rotation.
//!
//! Old files are `name-2006-01-02T15-04-05.000.ext`, with `.gz` when compressed. Compression and
//! deletion run on the log thread: they are rare, and the queue holds the lines meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::options::Rotation;

const MIB: u64 = 1 << 20;
/// Size of a file when none is asked for.
const SIZE_MAX_MIB_DEFAULT: u64 = 100;
/// The time in the name of an old file.
const NAME_TIME_FORMAT: &str = "%Y-%m-%dT%H-%M-%S%.3f";

/// The file lines go to.
pub(super) struct RotatingFile {
    path: PathBuf,
    rotation: Rotation,
    size_max_bytes: u64,
    file: File,
    size_bytes: u64,
    clock: fn() -> SystemTime,
}

impl RotatingFile {
    /// Goes on with the file at `path`, or makes it and its directory.
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        Self::open_at(path, rotation, SystemTime::now)
    }

    fn open_at(path: &Path, rotation: Rotation, clock: fn() -> SystemTime) -> io::Result<Self> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        if let Some(dir) = dir {
            fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let size_bytes = file.metadata()?.len();
        let size_max_mib = match rotation.size_max_mib {
            0 => SIZE_MAX_MIB_DEFAULT,
            mib => mib,
        };
        let size_max_bytes = size_max_mib.saturating_mul(MIB);
        let this = Self {
            path: path.to_owned(),
            rotation,
            size_max_bytes,
            file,
            size_bytes,
            clock,
        };
        this.tidy();
        Ok(this)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mode = self.file.metadata()?.permissions().mode();
        let old = self.old_name();
        fs::rename(&self.path, &old)?;
        self.file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(mode)
            .open(&self.path)?;
        self.size_bytes = 0;
        self.tidy();
        Ok(())
    }

    fn old_name(&self) -> PathBuf {
        let zone = if self.rotation.localtime {
            TimeZone::system()
        } else {
            TimeZone::UTC
        };
        let now = jiff::Timestamp::try_from((self.clock)())
            .unwrap_or_default()
            .to_zoned(zone);
        let (stem, extension) = self.name_parts();
        let time = now.strftime(NAME_TIME_FORMAT);
        self.path
            .with_file_name(format!("{stem}-{time}{extension}"))
    }

    /// The name without its extension, and the extension with its dot.
    fn name_parts(&self) -> (String, String) {
        let name = self
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        match name.rfind('.') {
            Some(dot) => (name[..dot].to_owned(), name[dot..].to_owned()),
            None => (name, String::new()),
        }
    }

    /// Deletes and compresses old files as asked. What fails is left for the next time: there is
    /// nowhere to log it.
    fn tidy(&self) {
        let keep = &self.rotation;
        if keep.backups_max == 0 && keep.age_max_days == 0 && !keep.compress {
            return;
        }
        let mut old = self.old_files();
        old.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
        let oldest = (self.clock)()
            .checked_sub(Duration::from_secs(
                keep.age_max_days.saturating_mul(86_400),
            ))
            .and_then(|time| jiff::Timestamp::try_from(time).ok())
            .map(|time| TimeZone::UTC.to_datetime(time));
        for (at, (time, path)) in old.iter().enumerate() {
            let too_many = keep.backups_max > 0 && at >= keep.backups_max;
            let too_old = keep.age_max_days > 0 && oldest.is_some_and(|oldest| *time < oldest);
            if too_many || too_old {
                let _ = fs::remove_file(path);
            } else if keep.compress && path.extension().is_none_or(|end| end != "gz") {
                let _ = compress(path);
            }
        }
    }

    /// Old files of this log with the time in their names.
    fn old_files(&self) -> Vec<(DateTime, PathBuf)> {
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let Ok(entries) = fs::read_dir(dir.unwrap_or(Path::new("."))) else {
            return Vec::new();
        };
        let (stem, extension) = self.name_parts();
        let time_in = |name: &str| {
            let rest = name.strip_prefix(&stem)?.strip_prefix('-')?;
            let rest = rest.strip_suffix(".gz").unwrap_or(rest);
            DateTime::strptime(NAME_TIME_FORMAT, rest.strip_suffix(&extension)?).ok()
        };
        let dated =
            |entry: fs::DirEntry| Some((time_in(entry.file_name().to_str()?)?, entry.path()));
        entries.flatten().filter_map(dated).collect()
    }
}

impl Write for RotatingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size_bytes > 0 && self.size_bytes + bytes.len() as u64 > self.size_max_bytes {
            self.rotate()?;
        }
        let written = self.file.write(bytes)?;
        self.size_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn compress(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    let mode = fs::metadata(path)?.permissions().mode();
    let out = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&name)?;
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    static SECONDS: AtomicU64 = AtomicU64::new(1_700_000_000);

    /// Each look at the clock is a second later.
    fn clock() -> SystemTime {
        let seconds = SECONDS.fetch_add(1, Ordering::Relaxed);
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn full_files_are_moved_compressed_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/etcd.log");
        let rotation = Rotation {
            size_max_mib: 1,
            backups_max: 2,
            compress: true,
            ..Rotation::default()
        };
        let mut file = RotatingFile::open_at(&path, rotation, clock).unwrap();
        fs::write(dir.path().join("made/etcd-other.log"), "kept").unwrap();
        for number in 0..5u8 {
            file.write_all(&vec![b'0' + number; 700 << 10]).unwrap();
        }
        let names = names(path.parent().unwrap());
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(names[0].starts_with("etcd-2023-11-14T22-13-") && names[0].ends_with(".log.gz"));
        assert_eq!(names[2..], ["etcd-other.log", "etcd.log"]);
        let mut text = String::new();
        let old = File::open(path.with_file_name(&names[1])).unwrap();
        flate2::read::GzDecoder::new(old)
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "3".repeat(700 << 10));
    }

    #[test]
    fn an_existing_file_is_continued() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "old\n").unwrap();
        let mut file = RotatingFile::open_at(&path, Rotation::default(), clock).unwrap();
        file.write_all(b"new\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old\nnew\n");
    }
}
