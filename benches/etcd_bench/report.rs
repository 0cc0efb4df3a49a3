//! Figures of a run, and how they are shown.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// What a run measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Requests answered (or events received) while measuring.
    pub(crate) count: u64,
    /// Seconds measured.
    pub(crate) seconds: f64,
    /// `count / seconds`.
    pub(crate) per_second: f64,
    /// Median latency.
    pub p50_microseconds: u64,
    /// 99 of 100 were faster.
    pub p99_microseconds: u64,
    /// 999 of 1000 were faster.
    pub p999_microseconds: u64,
    /// The slowest.
    pub(crate) max_microseconds: u64,
}

impl Figures {
    /// From a count, a span and the latencies in it.
    pub(crate) fn new(count: u64, took: Duration, latencies: &Histogram<u64>) -> Self {
        let seconds = took.as_secs_f64();
        Self {
            count,
            seconds,
            per_second: count as f64 / seconds.max(f64::MIN_POSITIVE),
            p50_microseconds: latencies.value_at_quantile(0.5),
            p99_microseconds: latencies.value_at_quantile(0.99),
            p999_microseconds: latencies.value_at_quantile(0.999),
            max_microseconds: latencies.max(),
        }
    }
}

/// For people.
pub(crate) fn text(figures: &Figures) -> String {
    let mut text = String::new();
    let milliseconds = |microseconds: u64| microseconds as f64 / 1000.0;
    let _ = writeln!(text, "requests    {}", figures.count);
    let _ = writeln!(text, "per second  {:.0}", figures.per_second);
    for (name, value) in [
        ("p50", figures.p50_microseconds),
        ("p99", figures.p99_microseconds),
        ("p99.9", figures.p999_microseconds),
        ("max", figures.max_microseconds),
    ] {
        let _ = writeln!(text, "{name:<11} {:.2} ms", milliseconds(value));
    }
    text
}
