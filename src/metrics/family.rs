//! A gathered family in Prometheus' data model, and its text and protobuf forms.
//!
//! The structs are the wire messages of `io.prometheus.client`, so the protobuf form is prost's own work;
//! the text form (version 0.0.4) is written here in the number format of Go's `%g`.

use prost::Message;

/// Label name and value.
#[derive(Clone, PartialEq, Message)]
pub struct LabelPair {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

/// The value of a gauge or a counter.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Sample {
    #[prost(double, optional, tag = "1")]
    pub value: Option<f64>,
}

/// A quantile of a summary.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Quantile {
    #[prost(double, optional, tag = "1")]
    pub quantile: Option<f64>,
    #[prost(double, optional, tag = "2")]
    pub value: Option<f64>,
}

/// A summary.
#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    #[prost(uint64, optional, tag = "1")]
    pub sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    pub quantile: Vec<Quantile>,
}

/// A bucket of a histogram: observations at or below the bound. The last one, `+Inf`, is implied.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    pub cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub upper_bound: Option<f64>,
}

/// A histogram.
#[derive(Clone, PartialEq, Message)]
pub struct Buckets {
    #[prost(uint64, optional, tag = "1")]
    pub sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    pub bucket: Vec<Bucket>,
}

/// One series; exactly one of the values is set, as the family's kind says.
#[derive(Clone, PartialEq, Message)]
pub struct Series {
    #[prost(message, repeated, tag = "1")]
    pub label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    pub gauge: Option<Sample>,
    #[prost(message, optional, tag = "3")]
    pub counter: Option<Sample>,
    #[prost(message, optional, tag = "4")]
    pub summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    pub histogram: Option<Buckets>,
}

/// What a family counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Kind {
    Counter = 0,
    Gauge = 1,
    Summary = 2,
    Histogram = 4,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Summary => "summary",
            Kind::Histogram => "histogram",
        }
    }
}

/// A name with its series.
#[derive(Clone, PartialEq, Message)]
pub struct Family {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub help: Option<String>,
    #[prost(enumeration = "Kind", optional, tag = "3")]
    pub kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    pub series: Vec<Series>,
}

impl Family {
    /// A family without series.
    pub(super) fn new(name: &str, help: &str, kind: Kind) -> Self {
        Self {
            name: Some(name.to_owned()),
            help: Some(help.to_owned()),
            kind: Some(kind as i32),
            series: Vec::new(),
        }
    }
}

impl Series {
    /// A series of `kind` (gauge or counter) with one number.
    pub(super) fn number(kind: Kind, label: Vec<LabelPair>, value: f64) -> Self {
        let sample = Some(Sample { value: Some(value) });
        match kind {
            Kind::Counter => Series {
                label,
                counter: sample,
                ..Series::default()
            },
            _ => Series {
                label,
                gauge: sample,
                ..Series::default()
            },
        }
    }
}

/// Pairs names with values; `names` must be in byte order, as every reader expects.
pub(super) fn labels<'a>(
    names: &[&str],
    values: impl IntoIterator<Item = &'a str>,
) -> Vec<LabelPair> {
    debug_assert!(names.is_sorted());
    let pair = |(name, value): (&&str, &str)| LabelPair {
        name: Some((*name).to_owned()),
        value: Some(value.to_owned()),
    };
    names.iter().zip(values).map(pair).collect()
}

/// Appends the text exposition of `families` to `out`.
pub fn encode_text(families: &[Family], out: &mut String) {
    for family in families {
        let kind = family.kind();
        out.push_str("# HELP ");
        out.push_str(family.name());
        out.push(' ');
        push_escaped(out, family.help(), false);
        out.push_str("\n# TYPE ");
        out.push_str(family.name());
        out.push(' ');
        out.push_str(kind.name());
        out.push('\n');
        for series in &family.series {
            push_series(out, family.name(), kind, series);
        }
    }
}

/// The protobuf exposition: each family with its length before it.
pub fn encode_delimited(families: &[Family]) -> Vec<u8> {
    families
        .iter()
        .flat_map(Message::encode_length_delimited_to_vec)
        .collect()
}

fn push_series(out: &mut String, name: &str, kind: Kind, series: &Series) {
    let labels = &series.label;
    match kind {
        Kind::Counter | Kind::Gauge => {
            let sample = if kind == Kind::Counter {
                series.counter
            } else {
                series.gauge
            };
            push_line(
                out,
                name,
                "",
                labels,
                None,
                sample.unwrap_or_default().value(),
            );
        }
        Kind::Histogram => {
            let Some(value) = &series.histogram else {
                return;
            };
            for bucket in &value.bucket {
                let le = Some(("le", bucket.upper_bound()));
                push_line(
                    out,
                    name,
                    "_bucket",
                    labels,
                    le,
                    bucket.cumulative_count() as f64,
                );
            }
            let count = value.sample_count() as f64;
            push_line(
                out,
                name,
                "_bucket",
                labels,
                Some(("le", f64::INFINITY)),
                count,
            );
            push_line(out, name, "_sum", labels, None, value.sample_sum());
            push_line(out, name, "_count", labels, None, count);
        }
        Kind::Summary => {
            let Some(value) = &series.summary else { return };
            for quantile in &value.quantile {
                let at = Some(("quantile", quantile.quantile()));
                push_line(out, name, "", labels, at, quantile.value());
            }
            push_line(out, name, "_sum", labels, None, value.sample_sum());
            push_line(
                out,
                name,
                "_count",
                labels,
                None,
                value.sample_count() as f64,
            );
        }
    }
}

/// `name suffix {labels, extra} value`; the extra label (`le`, `quantile`) comes last.
fn push_line(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: &[LabelPair],
    extra: Option<(&str, f64)>,
    value: f64,
) {
    out.push_str(name);
    out.push_str(suffix);
    let mut separator = '{';
    for label in labels {
        out.push(separator);
        separator = ',';
        out.push_str(label.name());
        out.push_str("=\"");
        push_escaped(out, label.value(), true);
        out.push('"');
    }
    if let Some((name, bound)) = extra {
        out.push(separator);
        separator = ',';
        out.push_str(name);
        out.push_str("=\"");
        push_number(out, bound);
        out.push('"');
    }
    if separator == ',' {
        out.push('}');
    }
    out.push(' ');
    push_number(out, value);
    out.push('\n');
}

fn push_escaped(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

/// The largest exponent and the smallest that Go's shortest `%g` writes without an exponent.
const PLAIN_EXPONENTS: std::ops::RangeInclusive<i32> = -4..=5;

/// A number as Go's `strconv.FormatFloat(value, 'g', -1, 64)` writes it: the shortest digits that read
/// back, plain for exponents from -4 to 5, else `d.ddde+XX`.
fn push_number(out: &mut String, value: f64) {
    use std::fmt::Write;
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let _ = if PLAIN_EXPONENTS.contains(&exponent) {
        write!(out, "{value}")
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{digits}e{sign}{:02}", exponent.abs())
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: f64) -> String {
        let mut out = String::new();
        push_number(&mut out, value);
        out
    }

    #[test]
    fn numbers_are_gos() {
        for (value, text) in [
            (0.0, "0"),
            (-1.0, "-1"),
            (20000.0, "20000"),
            (819200.0, "819200"),
            (999999.0, "999999"),
            (1000000.0, "1e+06"),
            (1048576.0, "1.048576e+06"),
            (2147483648.0, "2.147483648e+09"),
            (9223372036854775807.0, "9.223372036854776e+18"),
            (18446744073709551615.0, "1.8446744073709552e+19"),
            (0.001, "0.001"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (5.940000000000001e-06, "5.940000000000001e-06"),
            (0.013553603000000001, "0.013553603000000001"),
            (52.4288, "52.4288"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn text_of_each_kind() {
        let mut gauge = Family::new("g", "a \\ b\nc", Kind::Gauge);
        gauge.series.push(Series::number(
            Kind::Gauge,
            labels(&["a", "b"], ["x\"y", "z\\"]),
            2.5,
        ));
        let mut histogram = Family::new("h", "help", Kind::Histogram);
        histogram.series.push(Series {
            label: labels(&["op"], ["Put"]),
            histogram: Some(Buckets {
                sample_count: Some(3),
                sample_sum: Some(7.0),
                bucket: vec![Bucket {
                    cumulative_count: Some(1),
                    upper_bound: Some(0.5),
                }],
            }),
            ..Series::default()
        });
        let mut summary = Family::new("s", "help", Kind::Summary);
        summary.series.push(Series {
            summary: Some(Summary {
                sample_count: Some(1),
                sample_sum: Some(2.0),
                quantile: vec![Quantile {
                    quantile: Some(0.25),
                    value: Some(2.0),
                }],
            }),
            ..Series::default()
        });
        let mut text = String::new();
        encode_text(&[gauge, histogram, summary], &mut text);
        assert_eq!(
            text,
            "# HELP g a \\\\ b\\nc\n# TYPE g gauge\ng{a=\"x\\\"y\",b=\"z\\\\\"} 2.5\n\
             # HELP h help\n# TYPE h histogram\nh_bucket{op=\"Put\",le=\"0.5\"} 1\n\
             h_bucket{op=\"Put\",le=\"+Inf\"} 3\nh_sum{op=\"Put\"} 7\nh_count{op=\"Put\"} 3\n\
             # HELP s help\n# TYPE s summary\ns{quantile=\"0.25\"} 2\ns_sum 2\ns_count 1\n"
        );
    }

    #[test]
    fn protobuf_is_length_delimited_and_keeps_zeroes() {
        let mut family = Family::new("g", "h", Kind::Counter);
        family
            .series
            .push(Series::number(Kind::Counter, Vec::new(), 0.0));
        let bytes = encode_delimited(&[family.clone(), family.clone()]);
        let mut rest = bytes.as_slice();
        for _ in 0..2 {
            assert_eq!(
                Family::decode_length_delimited(&mut rest),
                Ok(family.clone())
            );
        }
        assert!(rest.is_empty());
        // name, help, type COUNTER written although 0, and a counter with a written 0.
        let body = b"\x0a\x01g\x12\x01h\x18\x00\x22\x0b\x1a\x09\x09\0\0\0\0\0\0\0\0";
        assert_eq!(&bytes[1..=body.len()], body);
    }
}
