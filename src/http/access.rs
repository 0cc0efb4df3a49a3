//! Who may ask over HTTP, and what browsers are told: host whitelist and CORS.

use std::collections::HashSet;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, ORIGIN,
};
use http::{Method, Request, StatusCode};

use super::connection::Peer;
use super::reply::{Body, Reply, error};

/// Lists of `--host-whitelist` and `--cors`; an empty list or one with `*` allows all.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Host names that plain requests may be addressed to. None: any.
    hosts: Option<HashSet<String>>,
    /// Origins that are told they may ask. None: any.
    origins: Option<HashSet<String>>,
}

fn list(entries: &[String]) -> Option<HashSet<String>> {
    let all = entries.is_empty() || entries.iter().any(|entry| entry == "*");
    (!all).then(|| entries.iter().cloned().collect())
}

/// What becomes of a request before any endpoint sees it.
pub(super) enum Admission {
    /// Answered here.
    Answered(Reply),
    /// Goes on; its reply gets these headers.
    Admitted(CorsHeaders),
}

/// The origin to name in a reply, if any.
pub(super) struct CorsHeaders(Option<HeaderValue>);

impl Access {
    /// From the entries of both options.
    pub fn new(host_whitelist: &[String], cors: &[String]) -> Self {
        Self {
            hosts: list(host_whitelist),
            origins: list(cors),
        }
    }

    /// Host check, CORS, and the answer to OPTIONS, in this order.
    pub(super) fn admit<B>(&self, request: &Request<B>, peer: &Peer) -> Admission {
        if request.method() == Method::OPTIONS && request.uri().path() == "*" {
            return Admission::Answered(empty());
        }
        if let Some(hosts) = &self.hosts
            && !peer.secure
        {
            let host = host(request);
            if !hosts.contains(host) {
                tracing::warn!(
                    host,
                    "rejecting HTTP request to prevent DNS rebinding attacks"
                );
                let reply = error(StatusCode::MISDIRECTED_REQUEST, MisdirectedHost(host));
                return Admission::Answered(reply);
            }
        }
        let cors = self.cors(request.headers());
        if request.method() == Method::OPTIONS {
            let mut reply = empty();
            cors.apply(reply.headers_mut());
            return Admission::Answered(reply);
        }
        Admission::Admitted(cors)
    }

    fn cors(&self, headers: &HeaderMap) -> CorsHeaders {
        let Some(origins) = &self.origins else {
            return CorsHeaders(Some(HeaderValue::from_static("*")));
        };
        let origin = headers.get(ORIGIN);
        let known = |origin: &&HeaderValue| origin.to_str().is_ok_and(|o| origins.contains(o));
        CorsHeaders(origin.filter(known).cloned())
    }
}

impl CorsHeaders {
    /// Adds the headers to a reply.
    pub(super) fn apply(self, headers: &mut HeaderMap) {
        let Some(origin) = self.0 else { return };
        let methods = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let names = HeaderValue::from_static("accept, content-type, authorization");
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
}

fn empty() -> Reply {
    let mut reply = Reply::new(Body::default());
    reply
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    reply
}

/// The host a request is addressed to, without its port.
fn host<B>(request: &Request<B>) -> &str {
    let header = request
        .headers()
        .get(HOST)
        .and_then(|value| value.to_str().ok());
    let host = request
        .uri()
        .authority()
        .map(|authority| authority.as_str())
        .or(header);
    let host = host.unwrap_or_default();
    let without_port = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None if host.matches(':').count() == 1 => host.split(':').next(),
        None => Some(host),
    };
    without_port.unwrap_or(host)
}

/// The text for a host that is not on the list.
struct MisdirectedHost<'a>(&'a str);

impl std::fmt::Display for MisdirectedHost<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "\netcd received your request, but the Host header was unrecognized.\n\n\
             To fix this, choose one of the following options:\n\
             - Enable TLS, then any HTTPS request will be allowed.\n\
             - Add the hostname you want to use to the whitelist in settings.\n  \
             - e.g. etcd --host-whitelist {:?}\n\n\
             This requirement has been added to help prevent \"DNS Rebinding\" attacks (CVE-2018-5702).\n",
            self.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|entry| (*entry).to_owned()).collect()
    }

    fn request(method: &str, host: &str, origin: Option<&str>) -> Request<()> {
        let mut request = Request::builder()
            .method(method)
            .uri("/health")
            .header(HOST, host);
        if let Some(origin) = origin {
            request = request.header(ORIGIN, origin);
        }
        request.body(()).unwrap()
    }

    /// The reply's status, or 0 for a request that goes on, and the origin told.
    fn outcome(access: &Access, request: &Request<()>, secure: bool) -> (u16, Option<String>) {
        let peer = Peer {
            secure,
            ..Peer::default()
        };
        let told = |headers: &HeaderMap| {
            let origin = headers.get(ACCESS_CONTROL_ALLOW_ORIGIN);
            origin.map(|origin| origin.to_str().unwrap().to_owned())
        };
        match access.admit(request, &peer) {
            Admission::Answered(reply) => (reply.status().as_u16(), told(reply.headers())),
            Admission::Admitted(cors) => {
                let mut headers = HeaderMap::new();
                cors.apply(&mut headers);
                (0, told(&headers))
            }
        }
    }

    #[test]
    fn hosts_are_checked_on_plain_connections_only() {
        let access = Access::new(&owned(&["good.example", "::1"]), &[]);
        let any = Some("*".to_owned());
        for (host, allowed) in [
            ("good.example", true),
            ("good.example:2379", true),
            ("[::1]:2379", true),
            ("GOOD.example", false),
            ("localhost", false),
            ("", false),
        ] {
            let request = request("GET", host, None);
            let wanted = if allowed {
                (0, any.clone())
            } else {
                (421, None)
            };
            assert_eq!(outcome(&access, &request, false), wanted, "{host}");
            assert_eq!(outcome(&access, &request, true), (0, any.clone()), "{host}");
        }
        for open in [Access::new(&[], &[]), Access::new(&owned(&["x", "*"]), &[])] {
            assert_eq!(outcome(&open, &request("GET", "evil", None), false).0, 0);
        }
        let text = error(StatusCode::MISDIRECTED_REQUEST, MisdirectedHost("evil.com"));
        let text = text.body().text();
        assert_eq!(text.len(), 370);
        assert!(text.starts_with("\netcd received") && text.ends_with("(CVE-2018-5702).\n\n"));
        assert!(text.contains("etcd --host-whitelist \"evil.com\"\n"));
    }

    #[test]
    fn origins_are_told_as_listed() {
        let access = Access::new(&[], &owned(&["http://a.example:80", "http://b.example:80"]));
        let with = |origin| outcome(&access, &request("GET", "h", origin), false);
        assert_eq!(
            with(Some("http://a.example:80")),
            (0, Some("http://a.example:80".into()))
        );
        assert_eq!(with(Some("http://c.example:80")), (0, None));
        assert_eq!(with(None), (0, None));
        let options = |origin| outcome(&access, &request("OPTIONS", "h", origin), false);
        assert_eq!(
            options(Some("http://b.example:80")),
            (200, Some("http://b.example:80".into()))
        );
        assert_eq!(options(Some("http://c.example:80")), (200, None));
        let all = Access::new(&[], &owned(&["*"]));
        assert_eq!(
            outcome(&all, &request("OPTIONS", "h", None), false),
            (200, Some("*".into()))
        );
    }
}
