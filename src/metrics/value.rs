//! Counters, gauges and histograms on relaxed atomics, and sets of them by label values.
//!
//! Relaxed is enough: a scrape wants numbers that are each right, not a moment in time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use parking_lot::RwLock;

use super::family::{Bucket, Buckets, Family, Kind, LabelPair, Series, labels};

/// A number that only grows.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Counts `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Takes over a count that somebody else keeps.
    pub fn advance_to(&self, count: u64) {
        self.0.fetch_max(count, Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes both ways.
#[derive(Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    pub(super) const fn new() -> Self {
        Self(AtomicI64::new(0))
    }

    /// Replaces the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// Adds `n`, which may be negative.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// The most bounds a histogram has (`etcd_debugging_lease_ttl_total`).
const BOUNDS_MAX: usize = 24;

/// Counts of observations by size.
pub struct Histogram {
    bounds: &'static [f64],
    /// Observations per bucket; the last used one is above every bound.
    counts: [AtomicU64; BOUNDS_MAX + 1],
    /// Bits of the sum of all observations.
    sum: AtomicU64,
}

impl Histogram {
    /// An empty histogram over `bounds`, which ascend.
    pub(super) const fn new(bounds: &'static [f64]) -> Self {
        assert!(bounds.len() <= BOUNDS_MAX);
        Self {
            bounds,
            counts: [const { AtomicU64::new(0) }; BOUNDS_MAX + 1],
            sum: AtomicU64::new(0),
        }
    }

    /// Counts one observation, in the unit of the family's name.
    pub fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Relaxed);
        let add = |sum| Some((f64::from_bits(sum) + value).to_bits());
        let _ = self.sum.fetch_update(Relaxed, Relaxed, add);
    }

    /// Counts a duration in seconds.
    pub fn observe_duration(&self, duration: std::time::Duration) {
        self.observe(duration.as_secs_f64());
    }

    /// How many observations there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// The sum of all observations.
    pub fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Relaxed))
    }

    /// Observations per bucket as of now, and the bounds: what a quantile over an interval is made from.
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            bounds: self.bounds,
            counts: std::array::from_fn(|i| self.counts[i].load(Relaxed)),
        }
    }

    pub(super) fn buckets(&self) -> Buckets {
        let mut total = 0;
        let mut bucket = Vec::with_capacity(self.bounds.len());
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            total += count.load(Relaxed);
            bucket.push(Bucket {
                cumulative_count: Some(total),
                upper_bound: Some(*bound),
            });
        }
        total += self.counts[self.bounds.len()].load(Relaxed);
        Buckets {
            sample_count: Some(total),
            sample_sum: Some(self.sum()),
            bucket,
        }
    }
}

/// A histogram's counts at one moment.
#[derive(Clone)]
pub struct HistogramSnapshot {
    bounds: &'static [f64],
    counts: [u64; BOUNDS_MAX + 1],
}

impl HistogramSnapshot {
    /// The bound that `quantile` (0 to 1) of the observations since `earlier` stay at or below; None if
    /// there were none. Observations above every bound answer with the highest bound.
    pub fn quantile_since(&self, earlier: &Self, quantile: f64) -> Option<f64> {
        let since = |i: usize| self.counts[i].saturating_sub(earlier.counts[i]);
        let total: u64 = (0..self.counts.len()).map(since).sum();
        if total == 0 {
            return None;
        }
        let wanted = (total as f64 * quantile).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (i, bound) in self.bounds.iter().enumerate() {
            seen += since(i);
            if seen >= wanted {
                return Some(*bound);
            }
        }
        self.bounds.last().copied()
    }
}

/// What one series of a labelled family holds.
pub trait Value: Send + Sync {
    /// The kind of its family.
    const KIND: Kind;
    /// Its series with these labels.
    fn series(&self, label: Vec<LabelPair>) -> Series;
}

impl Value for Counter {
    const KIND: Kind = Kind::Counter;
    fn series(&self, label: Vec<LabelPair>) -> Series {
        Series::number(Kind::Counter, label, self.get() as f64)
    }
}

impl Value for Gauge {
    const KIND: Kind = Kind::Gauge;
    fn series(&self, label: Vec<LabelPair>) -> Series {
        Series::number(Kind::Gauge, label, self.get() as f64)
    }
}

impl Value for Histogram {
    const KIND: Kind = Kind::Histogram;
    fn series(&self, label: Vec<LabelPair>) -> Series {
        Series {
            label,
            histogram: Some(self.buckets()),
            ..Series::default()
        }
    }
}

/// The most series a labelled family may hold. Further label values share the last series, whose values
/// all read `other`: a client must not be able to grow this process by inventing label values.
const SERIES_MAX: usize = 1000;

/// The series of a family whose label values are known only at run time, such as a peer's id.
pub struct Labelled<T> {
    names: &'static [&'static str],
    make: fn() -> T,
    series: RwLock<BTreeMap<Vec<String>, Arc<T>>>,
}

impl<T: Value> Labelled<T> {
    /// A family without series; `names` in byte order.
    pub(super) const fn new(names: &'static [&'static str], make: fn() -> T) -> Self {
        Self {
            names,
            make,
            series: RwLock::new(BTreeMap::new()),
        }
    }

    /// The series with these label values, in the order of the names; made if it is new. Callers on hot
    /// paths keep what they get.
    pub fn with(&self, values: &[&str]) -> Arc<T> {
        debug_assert_eq!(values.len(), self.names.len());
        let key: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        if let Some(series) = self.series.read().get(&key) {
            return series.clone();
        }
        let mut all = self.series.write();
        let key = if all.len() < SERIES_MAX || all.contains_key(&key) {
            key
        } else {
            vec!["other".to_owned(); self.names.len()]
        };
        all.entry(key)
            .or_insert_with(|| Arc::new((self.make)()))
            .clone()
    }

    /// Forgets the series with these label values.
    pub fn remove(&self, values: &[&str]) {
        self.series
            .write()
            .retain(|key, _| key.iter().ne(values.iter()));
    }

    /// Forgets every series.
    pub fn clear(&self) {
        self.series.write().clear();
    }
}

impl Labelled<Gauge> {
    /// Makes this the family's only series, with value 1: families that carry a fact in a label.
    pub fn set_only(&self, values: &[&str]) {
        let key = values.iter().map(|value| (*value).to_owned()).collect();
        let one = Arc::new(Gauge::new());
        one.set(1);
        *self.series.write() = BTreeMap::from([(key, one)]);
    }
}

impl Labelled<Gauge> {
    /// Sets the series with these label values to 1, and every other one to 0.
    pub fn set_ones(&self, ones: impl IntoIterator<Item = Vec<String>>) {
        let ones: BTreeSet<Vec<String>> = ones.into_iter().collect();
        for (values, gauge) in self.series.read().iter() {
            gauge.set(i64::from(ones.contains(values)));
        }
        for values in &ones {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            self.with(&values).set(1);
        }
    }
}

/// A field of the table that can be gathered.
pub(super) trait Collect {
    /// Appends the family, unless it has no series.
    fn collect(&self, name: &str, help: &str, out: &mut Vec<Family>);
}

macro_rules! collect_single {
    ($($kind:ty)+) => { $(
        impl Collect for $kind {
            fn collect(&self, name: &str, help: &str, out: &mut Vec<Family>) {
                let mut family = Family::new(name, help, <$kind>::KIND);
                family.series.push(self.series(Vec::new()));
                out.push(family);
            }
        }
    )+ };
}
collect_single!(Counter Gauge Histogram);

impl<T: Value> Collect for Labelled<T> {
    fn collect(&self, name: &str, help: &str, out: &mut Vec<Family>) {
        let all = self.series.read();
        if all.is_empty() {
            return;
        }
        let mut family = Family::new(name, help, T::KIND);
        for (values, series) in all.iter() {
            let label = labels(self.names, values.iter().map(String::as_str));
            family.series.push(series.series(label));
        }
        out.push(family);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_counts_at_or_below_its_bound() {
        let histogram = Histogram::new(&[1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 2.0, 9.0] {
            histogram.observe(value);
        }
        let buckets = histogram.buckets();
        let counts: Vec<_> = buckets
            .bucket
            .iter()
            .map(Bucket::cumulative_count)
            .collect();
        assert_eq!(
            (counts, buckets.sample_count(), buckets.sample_sum()),
            (vec![2, 4], 5, 14.0)
        );
        assert_eq!(histogram.count(), 5);
    }

    #[test]
    fn quantiles_are_of_the_interval() {
        let histogram = Histogram::new(&[1.0, 2.0, 4.0]);
        for _ in 0..100 {
            histogram.observe(0.5);
        }
        let earlier = histogram.snapshot();
        assert_eq!(earlier.quantile_since(&earlier, 0.99), None);
        for value in [1.5; 98].into_iter().chain([3.0, 9.0]) {
            histogram.observe(value);
        }
        let later = histogram.snapshot();
        assert_eq!(later.quantile_since(&earlier, 0.5), Some(2.0));
        assert_eq!(later.quantile_since(&earlier, 0.99), Some(4.0));
        assert_eq!(later.quantile_since(&earlier, 1.0), Some(4.0));
    }

    #[test]
    fn what_is_no_longer_so_stays_as_a_zero() {
        let family = Labelled::new(&["To"], Gauge::new);
        family.set_ones([vec!["1".to_owned()], vec!["2".to_owned()]]);
        family.set_ones([vec!["2".to_owned()], vec!["3".to_owned()]]);
        let values = ["1", "2", "3"].map(|id| family.with(&[id]).get());
        assert_eq!(values, [0, 1, 1]);
    }

    #[test]
    fn label_values_are_bounded_and_removable() {
        let family = Labelled::new(&["To"], Counter::new);
        for i in 0..SERIES_MAX + 50 {
            family.with(&[&i.to_string()]).inc();
        }
        let mut out = Vec::new();
        family.collect("n", "h", &mut out);
        assert_eq!(out[0].series.len(), SERIES_MAX + 1);
        assert_eq!(family.with(&["other"]).get(), 50);
        assert_eq!(family.with(&["7"]).get(), 1);
        family.remove(&["7"]);
        out.clear();
        family.collect("n", "h", &mut out);
        assert_eq!(out[0].series.len(), SERIES_MAX);
        family.clear();
        assert_eq!(family.with(&["7"]).get(), 0);
        family.clear();
        out.clear();
        family.collect("n", "h", &mut out);
        assert!(out.is_empty());
    }
}
