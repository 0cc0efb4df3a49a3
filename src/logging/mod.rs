//! Log lines.

mod fields;
mod level;
mod line;
mod options;

pub use fields::{GoDuration, HumanBytes, List};
pub use level::Level;
pub use line::{FieldValue, Line};
pub use options::{Format, Options, Output, Rotation};

/// An operating system's error in Go's words: `no such file or directory`.
pub fn os_error_text(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => {
            let text = nix::errno::Errno::from_raw(number).desc();
            let mut letters = text.chars();
            let first = letters.next().map(|c| c.to_lowercase().to_string());
            first.unwrap_or_default() + letters.as_str()
        }
        None => error.to_string(),
    }
}
