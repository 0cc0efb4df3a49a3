//! Standard input, line by line.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;

/// Lines of standard input, read ahead into a buffer of its own: a `put` inside a transaction that asks for its
/// value on standard input finds what is behind this buffer, usually nothing.
pub(super) struct Lines {
    input: BufReader<File>,
}

impl Lines {
    /// Opens standard input.
    pub(super) fn open() -> std::io::Result<Self> {
        let input = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
        Ok(Self {
            input: BufReader::with_capacity(4096, input),
        })
    }

    /// The next line without its end; `None` at the end of input, even behind an unfinished line.
    pub(super) fn next(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        self.input.read_until(b'\n', &mut line)?;
        Ok(line.strip_suffix(b"\n").map(<[u8]>::to_vec))
    }
}
