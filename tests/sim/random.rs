//! The run's only source of chance.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Microseconds of virtual time.
pub(crate) type Micros = u64;
pub(crate) const MILLISECOND: Micros = 1_000;
pub(crate) const SECOND: Micros = 1_000_000;

pub(crate) struct Random(StdRng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// Within `low..high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        if low >= high {
            low
        } else {
            self.0.random_range(low..high)
        }
    }

    /// True once in `n` times; never for 0.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        n > 0 && self.0.random_range(0..n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> Option<T> {
        if choices.is_empty() {
            return None;
        }
        Some(choices[self.0.random_range(0..choices.len())])
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0.random()
    }
}
