//! systemd's journal in its own protocol: one datagram of fields per line.
//!
//! `journalctl -u etcd` shows `MESSAGE`, so the fields are in it too, in `key=value` form; each is
//! also a field of its own, `ETCD_LOCAL_MEMBER_ID` for `local-member-id`, lists as several values.
//!
//! Not tracing-journald: its socket blocks, and a stalled journald stops whoever logs (ADR 15).
//! Here the socket never blocks, and it is the log thread that waits, for a bounded time.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;

use super::line::{FieldValue, Line};
use super::os_error_text;

/// The journal's socket.
const SOCKET_PATH: &str = "/run/systemd/journal/socket";
/// Longest wait for room in the socket, per line; then the line is lost.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Bytes of a value that are kept when a line is too large for the socket.
const LARGE_VALUE_BYTES_MAX: usize = 4096;
/// The journal refuses longer field names.
const NAME_BYTES_MAX: usize = 64;
/// Before the name of every field of a line.
const PREFIX: &str = "ETCD_";

/// Whether standard error is a stream of the journal, which then prefers fields.
pub(super) fn reads_stderr() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    is_stream(&stream, io::stderr())
}

/// Whether a descriptor is the stream that `$JOURNAL_STREAM` names by device and inode. A shell
/// below the unit that redirects its output inherits the variable, but not the stream.
fn is_stream(stream: &str, descriptor: impl AsFd) -> bool {
    fstat(descriptor).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// A connection to the journal.
pub(super) struct Journal {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Journal {
    /// Connects. The error is etcd's text.
    pub(super) fn connect() -> Result<Self, String> {
        let path = Path::new(SOCKET_PATH);
        Self::connect_to(path).map_err(|error| {
            let reason = os_error_text(&error);
            format!("can't find journal (dial unixgram {SOCKET_PATH}: connect: {reason})")
        })
    }

    pub(super) fn connect_to(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            path: path.to_owned(),
            socket,
        })
    }

    /// Sends a line. An error means that it is lost.
    pub(super) fn send(&mut self, line: &Line) -> io::Result<()> {
        let datagram = datagram(line, usize::MAX);
        match self.send_datagram(&datagram) {
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                let smaller = self::datagram(line, LARGE_VALUE_BYTES_MAX);
                self.send_datagram(&smaller)
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                *self = Self::connect_to(&self.path)?; // the journal was restarted
                self.send_datagram(&datagram)
            }
            result => result,
        }
    }

    fn send_datagram(&self, datagram: &[u8]) -> io::Result<()> {
        match self.socket.send(datagram) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut socket = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
                let wait = PollTimeout::try_from(WAIT_MAX).unwrap_or(PollTimeout::ZERO);
                poll(&mut socket, wait)?;
                self.socket.send(datagram).map(|_| ())
            }
            result => result.map(|_| ()),
        }
    }
}

/// The fields of a line; values are cut after `value_bytes_max`.
fn datagram(line: &Line, value_bytes_max: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let mut field = |name: &str, value: &str| push_field(&mut out, name, value, value_bytes_max);
    field("MESSAGE", &line.to_string());
    field("PRIORITY", &line.level.priority().to_string());
    field("SYSLOG_IDENTIFIER", "etcd");
    field("CODE_FILE", &line.file);
    field("CODE_LINE", &line.file_line.to_string());
    if let Some(id) = &line.message_id {
        field("MESSAGE_ID", id);
    }
    if let Some(logger) = &line.logger {
        field("ETCD_LOGGER", logger);
    }
    for (name, value) in &line.fields {
        let name = field_name(name);
        match value {
            FieldValue::List(texts) => texts.iter().for_each(|text| field(&name, text)),
            other => field(&name, &other.to_string()),
        }
    }
    out
}

fn field_name(name: &str) -> String {
    let upper = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    let letters = NAME_BYTES_MAX - PREFIX.len();
    PREFIX
        .chars()
        .chain(name.chars().map(upper).take(letters))
        .collect()
}

/// A value with a line break goes with its length in front.
fn push_field(out: &mut Vec<u8>, name: &str, value: &str, value_bytes_max: usize) {
    let mut end = value.len().min(value_bytes_max);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    let value = &value[..end];
    out.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver() -> (tempfile::TempDir, UnixDatagram, Journal) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::connect_to(&path).unwrap();
        (dir, receiver, journal)
    }

    #[test]
    fn fields_of_a_line() {
        let (_dir, receiver, mut journal) = receiver();
        let line = Line::warn("slow fdatasync")
            .at("src/wal/sync.rs", 9)
            .with("local-member-id", "8e9e05c52164694d")
            .with("took", "1.5 s")
            .list("urls", &["a", "b"])
            .with("text", "x\ny")
            .message_id("0123456789abcdef0123456789abcdef");
        journal.send(&line).unwrap();
        let mut buffer = [0; 4096];
        let length = receiver.recv(&mut buffer).unwrap();
        let expected: &[&[u8]] = &[
            b"MESSAGE=slow fdatasync local-member-id=8e9e05c52164694d took=\"1.5 s\" urls=a,b \
              text=\"x\\ny\"\n",
            b"PRIORITY=4\nSYSLOG_IDENTIFIER=etcd\nCODE_FILE=src/wal/sync.rs\nCODE_LINE=9\n",
            b"MESSAGE_ID=0123456789abcdef0123456789abcdef\n",
            b"ETCD_LOCAL_MEMBER_ID=8e9e05c52164694d\nETCD_TOOK=1.5 s\nETCD_URLS=a\nETCD_URLS=b\n",
            b"ETCD_TEXT\n\x03\0\0\0\0\0\0\0x\ny\n",
        ];
        assert_eq!(
            String::from_utf8_lossy(&buffer[..length]),
            String::from_utf8_lossy(&expected.concat())
        );
    }

    #[test]
    fn streams_are_told_by_device_and_inode() {
        let (file, other) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let stat = fstat(&file).unwrap();
        let stream = format!("{}:{}", stat.st_dev, stat.st_ino);
        assert!(is_stream(&stream, &file) && !is_stream(&stream, &other));
        assert!(!is_stream("", &file));
    }

    #[test]
    fn too_large_lines_are_cut() {
        let (_dir, receiver, mut journal) = receiver();
        journal
            .send(&Line::info("large").with("key", "é".repeat(4 << 20)))
            .unwrap();
        let mut buffer = vec![0; 1 << 16];
        let length = receiver.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        assert!(text.starts_with("MESSAGE=large key=éé") && length < 3 * LARGE_VALUE_BYTES_MAX);
    }
}
