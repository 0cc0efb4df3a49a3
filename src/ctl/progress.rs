//! Progress bars on stderr.
//!
//! On a terminal they are indicatif's. Elsewhere only `check` shows one, as etcd's does: frames one behind the
//! other on a line that never ends. Whoever prints to the terminal lets go of its [`Shown`] before.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A bar for work of known length.
pub(super) struct Bar {
    terminal: Option<ProgressBar>,
    total: u64,
    done: AtomicU64,
    shown: AtomicU64,
    start: Instant,
}

impl Bar {
    /// A bar that is shown even where stderr is no terminal. `unit`: what is counted.
    pub(super) fn always(total: u64, unit: &str) -> Self {
        let bar = Self {
            terminal: on_terminal(|| counting(total, unit)),
            total,
            done: AtomicU64::new(0),
            shown: AtomicU64::new(u64::MAX),
            start: Instant::now(),
        };
        bar.frame();
        bar
    }

    /// So much more is done.
    pub(super) fn add(&self, count: u64) {
        self.done.fetch_add(count, Ordering::Relaxed);
        match &self.terminal {
            Some(bar) => bar.inc(count),
            None => self.frame(),
        }
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
        let stale = self.shown.swap(part(100), Ordering::Relaxed) != part(100);
        if self.terminal.is_some() || !stale {
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

/// Something on a terminal, or nothing elsewhere; it goes when this does.
pub(crate) struct Shown(Option<ProgressBar>);

impl Shown {
    /// So much more is done.
    pub(crate) fn add(&self, count: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(count);
        }
    }

    /// Says what is going on now.
    pub(crate) fn say(&self, message: impl FnOnce() -> String) {
        if let Some(bar) = &self.0 {
            bar.set_message(message());
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// A bar of bytes, on terminals only.
pub(crate) fn bytes(total: u64) -> Shown {
    Shown(on_terminal(|| {
        let template = "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        ProgressBar::new(total).with_style(style(template))
    }))
}

/// A line that moves while something of unknown length goes on, on terminals only.
pub(crate) fn spinner(message: impl Into<String>) -> Shown {
    Shown(on_terminal(|| {
        let bar = ProgressBar::new_spinner().with_style(style("{spinner} {msg} {elapsed}"));
        bar.set_message(message.into());
        // Work that is done before the first tick is shown, too.
        bar.tick();
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }))
}

fn counting(total: u64, unit: &str) -> ProgressBar {
    let template = format!("{{wide_bar}} {{pos}}/{{len}} {unit} {{elapsed}} + {{eta}}");
    ProgressBar::new(total).with_style(style(&template))
}

fn on_terminal(make: impl FnOnce() -> ProgressBar) -> Option<ProgressBar> {
    std::io::stderr().is_terminal().then(make)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
