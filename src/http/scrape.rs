//! `/metrics`.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue,
};
use http::{Method, Request};

use super::reply::{Body, Reply};
use crate::metrics;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
const DELIMITED: &str = "application/vnd.google.protobuf; \
     proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores";

/// Answers with every family in the format the client prefers: text, or protobuf with lengths.
pub(super) fn metrics<B>(request: &Request<B>) -> Reply {
    let all = metrics::global();
    all.scrapes_in_flight.add(1);
    let families = all.gather();
    let delimited = wants_delimited(request.headers());
    let mut body = match delimited {
        true => metrics::encode_delimited(&families),
        false => {
            let mut text = String::with_capacity(256 * 1024);
            metrics::encode_text(&families, &mut text);
            text.into_bytes()
        }
    };
    let gzip = accepts_gzip(request.headers());
    if gzip {
        body = compressed(&body);
    }
    if request.method() == Method::HEAD {
        body.clear();
    }
    all.scrapes_in_flight.add(-1);
    all.scraped("200");

    let mut reply = Reply::new(Body::chunked(body));
    let content_type = if delimited { DELIMITED } else { TEXT };
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if gzip {
        reply
            .headers_mut()
            .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    reply
}

fn compressed(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
    // Writing to memory does not fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}

/// Items of a header's lists with their weight, those with weight 0 left out.
fn weighted(headers: &HeaderMap, name: http::HeaderName) -> impl Iterator<Item = (&str, f32)> {
    let lists = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).filter_map(|item| {
        let weight = item
            .split(';')
            .find_map(|part| part.trim().strip_prefix("q="));
        let weight: f32 = weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
        (weight > 0.0).then(|| (item.trim(), weight))
    })
}

fn wants_delimited(headers: &HeaderMap) -> bool {
    let mut best = (false, 0.0);
    for (item, weight) in weighted(headers, ACCEPT) {
        let mut parts = item.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let parameter = |wanted: &str| item.split(';').any(|part| part.trim() == wanted);
        let delimited = kind == "application/vnd.google.protobuf"
            && parameter("proto=io.prometheus.client.MetricFamily")
            && parameter("encoding=delimited");
        if (delimited || kind == "text/plain") && weight > best.1 {
            best = (delimited, weight);
        }
    }
    best.0
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    weighted(headers, ACCEPT_ENCODING).any(|(item, _)| item.split(';').next() == Some("gzip"))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn ask(name: http::HeaderName, value: &str) -> Reply {
        metrics(&Request::builder().header(name, value).body(()).unwrap())
    }

    #[test]
    fn the_format_is_the_preferred_one() {
        let proto = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily";
        for (accept, delimited) in [
            (String::new(), false),
            ("application/openmetrics-text".into(), false),
            (format!("{proto};encoding=delimited"), true),
            (
                format!("{proto}; encoding=delimited; q=0.5, text/plain;version=0.0.4;q=0.3"),
                true,
            ),
            (
                format!("text/plain, {proto}; encoding=delimited; q=0.5"),
                false,
            ),
            (format!("{proto};encoding=text"), false),
        ] {
            let reply = ask(ACCEPT, &accept);
            let wanted = if delimited { DELIMITED } else { TEXT };
            assert_eq!(reply.headers()[CONTENT_TYPE], wanted, "{accept}");
        }
    }

    #[test]
    fn compression_only_when_accepted() {
        for (accept, gzip) in [("gzip", true), ("gzip;q=0, br", false), ("br", false)] {
            let reply = ask(ACCEPT_ENCODING, accept);
            assert_eq!(
                reply.headers().contains_key(CONTENT_ENCODING),
                gzip,
                "{accept}"
            );
        }
        let mut text = String::new();
        let packed = compressed(b"etcd");
        flate2::read::GzDecoder::new(packed.as_slice())
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "etcd");
    }
}
