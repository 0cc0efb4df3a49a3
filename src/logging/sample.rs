//! zap's sampling: of equal messages within a second the first 100 pass, then each 100th.
//!
//! Equal is decided by level and a hash of the message, so that counting costs no memory per
//! message; two messages that share a slot share its count, as in zap.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::level::Level;

/// Lines per second and message that all pass.
const FIRST: u64 = 100;
/// Beyond them, one of this many passes.
const THEREAFTER: u64 = 100;
/// Length of a count, in nanoseconds.
const TICK_NANOS: u64 = 1_000_000_000;
/// Counters per level.
const SLOTS: usize = 1024;

#[derive(Default)]
struct Counter {
    ends_at: AtomicU64,
    count: AtomicU64,
}

/// The counts of the current second.
pub(super) struct Sampler {
    counters: Box<[Counter]>,
}

impl Sampler {
    pub(super) fn new() -> Self {
        let count = SLOTS * Level::ALL.len();
        Self {
            counters: std::iter::repeat_with(Counter::default)
                .take(count)
                .collect(),
        }
    }

    /// Whether this line passes. `time` is the line's own.
    pub(super) fn passes(&self, level: Level, message: &str, time: SystemTime) -> bool {
        let mut hasher = DefaultHasher::new();
        message.hash(&mut hasher);
        let slot = level as usize * SLOTS + hasher.finish() as usize % SLOTS;
        let Some(counter) = self.counters.get(slot) else {
            return true;
        };
        let since = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let now = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let count = counter.next(now);
        count <= FIRST || (count - FIRST).is_multiple_of(THEREAFTER)
    }
}

impl Counter {
    fn next(&self, now: u64) -> u64 {
        let ends_at = self.ends_at.load(Ordering::Relaxed);
        if ends_at > now {
            return self.count.fetch_add(1, Ordering::Relaxed) + 1;
        }
        self.count.store(1, Ordering::Relaxed);
        let next = now.saturating_add(TICK_NANOS);
        let swapped =
            self.ends_at
                .compare_exchange(ends_at, next, Ordering::Relaxed, Ordering::Relaxed);
        match swapped {
            Ok(_) => 1,
            Err(_) => self.count.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn first_hundred_then_each_hundredth() {
        let sampler = Sampler::new();
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let passed = |level, n, time| (0..n).filter(|_| sampler.passes(level, "m", time)).count();
        assert_eq!(passed(Level::Info, 350, start), 102);
        assert_eq!(
            passed(Level::Warn, 50, start),
            50,
            "levels count for themselves"
        );
        let later = start + Duration::from_secs(1);
        assert_eq!(
            passed(Level::Info, 100, later),
            100,
            "a new second begins anew"
        );
    }
}
