//! URLs as etcd's options mean them: `scheme://host:port`, or a socket path for `unix` and `unixs`.
//!
//! The `url` crate follows the web's rules: it drops port 80, adds a path and folds hosts, and two
//! members that compare such URLs as texts would disagree with etcd. So the text is kept as written
//! and only checked, with the checks and error texts of Go's `net/url` as far as operators meet them.

use std::fmt;

use super::value::quote;

/// How to speak on a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain TCP.
    Http,
    /// TLS over TCP.
    Https,
    /// A plain unix socket.
    Unix,
    /// TLS over a unix socket.
    Unixs,
}

/// A checked URL. Equal when written the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    text: String,
    scheme: Scheme,
    authority: String,
    path: String,
}

impl Url {
    /// Checks one URL; blanks around it are dropped. The error is the text Go and etcd have for it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (scheme, authority, path) =
            split(text).map_err(|reason| format!("parse {}: {reason}", quote(text)))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => {
                return Err(format!(
                    "URL scheme must be http, https, unix, or unixs: {text}"
                ));
            }
        };
        let url = Self {
            text: format!("{scheme}{}", &text[scheme.to_string().len()..]),
            scheme,
            authority: authority.to_owned(),
            path: path.to_owned(),
        };
        if !url.is_unix() {
            if url.host_port().is_none() {
                return Err(format!(
                    "URL address does not have the form \"host:port\": {text}"
                ));
            }
            if !path.is_empty() {
                return Err(format!("URL must not contain a path: {text}"));
            }
        }
        Ok(url)
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether the scheme asks for TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.scheme, Scheme::Https | Scheme::Unixs)
    }

    /// Whether this names a unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self.scheme, Scheme::Unix | Scheme::Unixs)
    }

    /// What to bind or dial: `host:port`, or the socket's path (host and path joined, as etcd does).
    pub fn address(&self) -> String {
        if self.is_unix() {
            format!("{}{}", self.authority, self.path)
        } else {
            self.authority.clone()
        }
    }

    /// The host without brackets, and the port's text; `None` for a unix socket without them.
    pub fn host_port(&self) -> Option<(&str, &str)> {
        split_host_port(&self.authority)
    }

    /// The host without brackets; empty when there is none.
    pub fn host(&self) -> &str {
        self.host_port()
            .map_or(self.authority.as_str(), |(host, _)| host)
    }

    /// This URL with another host and port.
    pub fn with_host(&self, host: &str, port: &str) -> Self {
        let authority = format!("{host}:{port}");
        let text = format!("{}://{authority}", self.scheme);
        Self {
            text,
            scheme: self.scheme,
            authority,
            path: String::new(),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Unix => "unix",
            Self::Unixs => "unixs",
        })
    }
}

/// Comma-separated URLs, sorted by their text; repetitions stay.
pub fn parse_list(text: &str) -> Result<Vec<Url>, String> {
    let mut urls = text
        .split(',')
        .map(Url::parse)
        .collect::<Result<Vec<_>, _>>()?;
    urls.sort_by(|a, b| a.text.cmp(&b.text));
    Ok(urls)
}

/// Comma-separated URLs, sorted by their text, each once.
pub fn parse_unique_list(text: &str) -> Result<Vec<Url>, String> {
    let mut urls = parse_list(text)?;
    urls.dedup();
    Ok(urls)
}

/// The URLs with commas between them.
pub fn join(urls: &[Url]) -> String {
    urls.iter()
        .map(Url::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

/// Scheme, authority and path, or what is wrong, in Go's words.
fn split(text: &str) -> Result<(&str, &str, &str), String> {
    if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    let without_fragment = text.split('#').next().unwrap_or_default();
    let (scheme, rest) = scheme_of(without_fragment)?;
    let rest = rest.split('?').next().unwrap_or_default();
    if !rest.starts_with('/') {
        if !scheme.is_empty() {
            return Ok((scheme, "", "")); // opaque, as in `localhost:2379`
        }
        if rest.split('/').next().unwrap_or_default().contains(':') {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
    }
    let (authority, path) = match rest.strip_prefix("//") {
        Some(after) if !after.starts_with('/') || !scheme.is_empty() => {
            after.split_at(after.find('/').unwrap_or(after.len()))
        }
        _ => ("", rest),
    };
    let authority = authority.rsplit('@').next().unwrap_or_default();
    check_authority(authority)?;
    check_escapes(path)?;
    Ok((scheme, authority, path))
}

fn scheme_of(text: &str) -> Result<(&str, &str), String> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn check_authority(authority: &str) -> Result<(), String> {
    let port = match authority.strip_prefix('[') {
        Some(inner) => match inner.rfind(']') {
            Some(end) => &inner[end + 1..],
            None => return Err("missing ']' in host".to_owned()),
        },
        None => authority.find(':').map_or("", |colon| &authority[colon..]),
    };
    let valid = match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_digit()),
        None => port.is_empty(),
    };
    if !valid {
        return Err(format!("invalid port {} after host", quote(port)));
    }
    check_escapes(authority)?;
    let outside = |c: &char| {
        c.is_ascii() && !c.is_ascii_alphanumeric() && !"-_.~!$&'()*+,;=:[]<>\"%".contains(*c)
    };
    match authority.chars().find(outside) {
        Some(c) => Err(format!(
            "invalid character {} in host name",
            quote(c.encode_utf8(&mut [0; 4]))
        )),
        None => Ok(()),
    }
}

fn check_escapes(text: &str) -> Result<(), String> {
    for (at, _) in text.match_indices('%') {
        let escape: String = text[at..].chars().take(3).collect();
        if escape.len() != 3 || !escape[1..].bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!("invalid URL escape {}", quote(&escape)));
        }
    }
    Ok(())
}

/// Go's `net.SplitHostPort`, `None` for any error.
fn split_host_port(authority: &str) -> Option<(&str, &str)> {
    let (host, port) = authority.rsplit_once(':')?;
    match host.strip_prefix('[') {
        Some(inner) => {
            let inner = inner.strip_suffix(']')?;
            (!inner.contains(['[', ']'])).then_some((inner, port))
        }
        None => (!host.contains([':', '[', ']'])).then_some((host, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept() {
        for text in [
            "http://h:80",
            "https://[::1]:2379",
            "unix:/run/x",
            "unix:///run/x",
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            Url::parse(" HTTP://H:1 ").unwrap().to_string(),
            "http://H:1"
        );
        assert_eq!(Url::parse("unix:///run/x").unwrap().address(), "/run/x");
        assert_eq!(
            Url::parse("unix://localhost:1").unwrap().address(),
            "localhost:1"
        );
        assert_eq!(
            Url::parse("https://[::1]:2379").unwrap().host_port(),
            Some(("::1", "2379"))
        );
    }

    /// Each text was printed by etcd 3.7.1 for the same input.
    #[test]
    fn errors_are_gos() {
        for (text, error) in [
            ("foo", "URL scheme must be http, https, unix, or unixs: foo"),
            (
                "localhost:2379",
                "URL scheme must be http, https, unix, or unixs: localhost:2379",
            ),
            (
                "127.0.0.1:2379",
                "parse \"127.0.0.1:2379\": first path segment in URL cannot contain colon",
            ),
            (
                "http://a b:1",
                "parse \"http://a b:1\": invalid character \" \" in host name",
            ),
            ("://x", "parse \"://x\": missing protocol scheme"),
            ("http://h:1/", "URL must not contain a path: http://h:1/"),
            (
                "http://h",
                "URL address does not have the form \"host:port\": http://h",
            ),
            (
                "http://%zz:1",
                "parse \"http://%zz:1\": invalid URL escape \"%zz\"",
            ),
            (
                "http://h:abc",
                "parse \"http://h:abc\": invalid port \":abc\" after host",
            ),
            (
                "http://[::1:2379",
                "parse \"http://[::1:2379\": missing ']' in host",
            ),
            (
                "http://::1:2379",
                "parse \"http://::1:2379\": invalid port \"::1:2379\" after host",
            ),
        ] {
            assert_eq!(Url::parse(text).unwrap_err(), error);
        }
    }

    #[test]
    fn lists_are_sorted_sets() {
        let urls = parse_unique_list("http://b:1, http://a:1,http://b:1").unwrap();
        assert_eq!(join(&urls), "http://a:1,http://b:1");
        assert_eq!(parse_list("http://b:1,http://b:1").unwrap().len(), 2);
    }
}
