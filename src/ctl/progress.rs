//! Progress bars on stderr.
//!
//! On a terminal they are indicatif's. Elsewhere only `check` shows one, as etcd's does: frames one behind the
//! other on a line that never ends.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A bar for work of known length.
pub(super) struct Bar {
    terminal: Option<ProgressBar>,
    frames: bool,
    total: u64,
    done: AtomicU64,
    shown: AtomicU64,
    start: Instant,
}

impl Bar {
    /// A bar that is shown even where stderr is no terminal.
    pub(super) fn always(total: u64) -> Self {
        let bar = Self::new(total, true);
        bar.frame();
        bar
    }

    /// A bar on terminals only.
    pub(super) fn for_people(total: u64) -> Self {
        Self::new(total, false)
    }

    fn new(total: u64, frames: bool) -> Self {
        let terminal = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(
                "{wide_bar} {pos}/{len} ({percent}%) {elapsed} + {eta}",
            );
            let bar = ProgressBar::new(total);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self {
            frames: frames && terminal.is_none(),
            terminal,
            total,
            done: AtomicU64::new(0),
            shown: AtomicU64::new(u64::MAX),
            start: Instant::now(),
        }
    }

    /// So much more is done.
    pub(super) fn add(&self, count: u64) {
        self.done.fetch_add(count, Ordering::Relaxed);
        if let Some(bar) = &self.terminal {
            bar.inc(count);
        }
        self.frame();
    }

    /// No more is to come.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.terminal {
            bar.finish_and_clear();
        }
    }

    /// A frame per percent.
    fn frame(&self) {
        const WIDTH: u64 = 10;
        let done = self.done.load(Ordering::Relaxed);
        let part = |whole: u64| {
            done.saturating_mul(whole)
                .checked_div(self.total)
                .unwrap_or(whole)
        };
        if !self.frames || self.shown.swap(part(100), Ordering::Relaxed) == part(100) {
            return;
        }
        let full = part(WIDTH).min(WIDTH) as usize;
        let bar = format!("{:_<width$}", "-".repeat(full), width = WIDTH as usize);
        let percent = part(10_000) as f64 / 100.0;
        let speed = done as f64 / self.start.elapsed().as_secs_f64().max(f64::EPSILON);
        let line = format!(
            "{done} / {} [{bar}] {percent:.2}% {speed:.0} p/s",
            self.total
        );
        // A closed stderr stops the bar, not the work.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}
