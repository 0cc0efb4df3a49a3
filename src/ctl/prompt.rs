//! Asking for passwords: the question on standard output, the answer from standard input, unseen.
//!
//! Standard input need not be a terminal; etcd reads a line from it then, and says (through `stty`) that it
//! could not switch the echo off.

use super::exit::{Failure, code};
use super::print::complain;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use std::io::{Read, Write};

/// Asks.
pub(super) fn password(question: &str) -> Result<String, Failure> {
    let mut out = std::io::stdout();
    write!(out, "{question}")?;
    out.flush()?;
    let answer = unseen(read_line);
    writeln!(out)?;
    out.flush()?;
    answer.map_err(|error| Failure::new(code::ERROR, error))
}

/// Runs with the terminal's echo off.
fn unseen<T>(read: impl FnOnce() -> T) -> T {
    let input = std::io::stdin();
    let not_a_terminal = || {
        complain(format_args!(
            "stty: 'standard input': Inappropriate ioctl for device"
        ))
    };
    let Ok(before) = tcgetattr(&input) else {
        not_a_terminal();
        let answer = read();
        not_a_terminal();
        return answer;
    };
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    // If it fails, the answer shows; not asking would be worse.
    let _ = tcsetattr(&input, SetArg::TCSANOW, &silent);
    let answer = read();
    let _ = tcsetattr(&input, SetArg::TCSANOW, &before);
    answer
}

/// One line, byte by byte: a second question must find the rest of the input untouched.
pub(super) fn read_line() -> std::io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    let mut input = std::io::stdin().lock();
    while read_byte(&mut input, &mut byte)? && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line)
        .trim_end_matches('\r')
        .to_owned())
}

fn read_byte(input: &mut impl Read, byte: &mut [u8; 1]) -> std::io::Result<bool> {
    loop {
        match input.read(byte) {
            Ok(count) => return Ok(count == 1),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
