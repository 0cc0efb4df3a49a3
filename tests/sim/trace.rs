//! What happened: a running hash to compare runs by, and lines when somebody reads along.

use std::fmt::Arguments;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::random::Micros;

pub(crate) struct Trace {
    hasher: DefaultHasher,
    is_verbose: bool,
}

impl Trace {
    pub(crate) fn new(is_verbose: bool) -> Self {
        // Fixed keys: the same in every process.
        Self {
            hasher: DefaultHasher::new(),
            is_verbose,
        }
    }

    /// One step: `what` tells the kind, `facts` whatever must be equal when the run is repeated.
    pub(crate) fn note(&mut self, now: Micros, what: &str, facts: &[u64], text: Arguments<'_>) {
        (now, what, facts).hash(&mut self.hasher);
        if self.is_verbose {
            println!("{:>12.6} {what:<10} {text}", now as f64 / 1e6);
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}
