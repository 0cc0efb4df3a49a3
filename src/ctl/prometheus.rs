//! A server's metrics as it publishes them: values, and quantiles of histograms.

use std::collections::BTreeMap;

/// One reading of a server's metrics.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics {
    text: String,
}

/// How often values up to a bound were seen. Bounds are in the metric's unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Histogram {
    /// Counts of values up to a bound, by the bound's bits, which order as positive numbers do.
    cumulative: BTreeMap<u64, f64>,
}

impl Metrics {
    /// Metrics in the text format.
    pub(super) fn new(text: String) -> Self {
        Self { text }
    }

    /// A metric's value, summed over its labels.
    pub(super) fn value(&self, name: &str) -> Option<f64> {
        self.samples(name)
            .map(|(_, value)| value)
            .reduce(|sum, value| sum + value)
    }

    /// A histogram, summed over its other labels.
    pub(super) fn histogram(&self, name: &str) -> Histogram {
        let mut cumulative = BTreeMap::new();
        for (labels, count) in self.samples(&format!("{name}_bucket")) {
            let bound = labels
                .split("le=\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next());
            let bound = match bound {
                Some("+Inf") => f64::INFINITY,
                Some(text) => text.parse().unwrap_or(f64::INFINITY),
                None => continue,
            };
            *cumulative.entry(bound.max(0.0).to_bits()).or_insert(0.0) += count;
        }
        Histogram { cumulative }
    }

    fn samples<'a>(&'a self, name: &str) -> impl Iterator<Item = (&'a str, f64)> {
        let lines = self.text.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.split_once('}')?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels, value.split_whitespace().next()?.parse().ok()?))
        });
        lines.collect::<Vec<_>>().into_iter()
    }
}

impl Histogram {
    /// What was seen since an earlier reading.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let before = |bound| earlier.cumulative.get(bound).copied().unwrap_or_default();
        let cumulative = self
            .cumulative
            .iter()
            .map(|(bound, count)| (*bound, count - before(bound)));
        Self {
            cumulative: cumulative.collect(),
        }
    }

    /// The bound below which this part of the values is; `None`: there are none.
    pub(super) fn quantile(&self, part: f64) -> Option<f64> {
        let total = *self.cumulative.values().last()?;
        let reached = |(_, count): &(&u64, &f64)| **count >= total * part;
        let bound = self
            .cumulative
            .iter()
            .find(reached)
            .map(|(bound, _)| f64::from_bits(*bound));
        bound.filter(|_| total > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE a counter\na 3\nab 4\nl{x=\"1\"} 2\nl{x=\"2\"} 5\n\
        h_bucket{le=\"0.001\"} 90\nh_bucket{le=\"0.01\"} 99\nh_bucket{le=\"+Inf\"} 100\nh_count 100\n";

    #[test]
    fn values_are_summed_over_labels() {
        let metrics = Metrics::new(TEXT.to_owned());
        assert_eq!(metrics.value("a"), Some(3.0));
        assert_eq!(metrics.value("l"), Some(7.0));
        assert_eq!(metrics.value("missing"), None);
    }

    #[test]
    fn quantiles_are_bounds_of_buckets() {
        let histogram = Metrics::new(TEXT.to_owned()).histogram("h");
        assert_eq!(histogram.quantile(0.5), Some(0.001));
        assert_eq!(histogram.quantile(0.99), Some(0.01));
        assert_eq!(histogram.quantile(0.999), Some(f64::INFINITY));
        assert_eq!(histogram.since(&histogram).quantile(0.5), None);
    }
}
