//! The ways to write a server's address: `host:port`, `http://`, `https://`, `unix:`, `unixs:`.
//!
//! An endpoint that cannot be dialled is not refused here: like an unreachable one it shows when a call runs
//! into its deadline, since the other endpoints of the list may do.

use std::path::PathBuf;

/// One server address as it was given, and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The text given.
    pub text: String,
    /// Where to connect to.
    pub address: Address,
    /// The `:authority` of calls, and the host of it the name certificates are checked for.
    pub authority: String,
    /// What its scheme says about TLS.
    pub security: Security,
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host name or address, without brackets, and port.
    Tcp {
        /// Name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// A socket file.
    Unix(PathBuf),
    /// Not dialable; why.
    Bad(String),
}

/// What an endpoint's scheme says about TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// `https`, `unixs`: always.
    Tls,
    /// `http`: never, whatever certificates are given.
    Plain,
    /// No scheme, or `unix`: when certificates or TLS were asked for.
    Optional,
}

impl Endpoint {
    /// Reads an endpoint.
    pub fn parse(text: &str) -> Self {
        for (scheme, security) in [("unix:", Security::Optional), ("unixs:", Security::Tls)] {
            if let Some(rest) = text.strip_prefix(scheme) {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                let base = path
                    .trim_end_matches('/')
                    .rsplit('/')
                    .next()
                    .unwrap_or_default();
                return Self {
                    text: text.to_owned(),
                    address: Address::Unix(PathBuf::from(path)),
                    authority: base.to_owned(),
                    security,
                };
            }
        }
        let (security, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Security::Plain, rest),
            Some(("https", rest)) => (Security::Tls, rest),
            _ => (Security::Optional, text),
        };
        let authority = match security {
            Security::Optional => rest,
            _ => rest.split(['/', '?', '#']).next().unwrap_or_default(),
        };
        Self {
            text: text.to_owned(),
            address: host_and_port(authority),
            authority: authority.to_owned(),
            security,
        }
    }

    /// The host part of the authority, brackets removed: the name a certificate must have.
    pub fn server_name(&self) -> &str {
        match &self.address {
            Address::Tcp { host, .. } => host,
            _ => match self.authority.rsplit_once(':') {
                Some((host, _)) => host,
                None => &self.authority,
            },
        }
    }

    /// The text without its scheme.
    pub fn without_scheme(&self) -> &str {
        let text = self.text.as_str();
        if let Some((_, rest)) = text.split_once("://") {
            return rest;
        }
        text.strip_prefix("unix:")
            .or_else(|| text.strip_prefix("unixs:"))
            .unwrap_or(text)
    }
}

fn host_and_port(text: &str) -> Address {
    let bad = |why: &str| Address::Bad(format!("dial tcp: address {text}: {why}"));
    let Some((host, port)) = text.rsplit_once(':') else {
        return bad("missing port in address");
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    if bare.is_none() && host.contains(':') {
        return bad("too many colons in address");
    }
    match port.parse() {
        Ok(port) => Address::Tcp {
            host: bare.unwrap_or(host).to_owned(),
            port,
        },
        Err(_) => Address::Bad(format!("dial tcp: lookup tcp/{port}: unknown port")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn every_form_of_endpoint() {
        let unix = |path: &str| Address::Unix(PathBuf::from(path));
        for (text, address, authority, security) in [
            (
                "127.0.0.1:2379",
                tcp("127.0.0.1", 2379),
                "127.0.0.1:2379",
                Security::Optional,
            ),
            ("http://h:1/x", tcp("h", 1), "h:1", Security::Plain),
            (
                "https://[::1]:2379",
                tcp("::1", 2379),
                "[::1]:2379",
                Security::Tls,
            ),
            (
                "unix:localhost:20000",
                unix("localhost:20000"),
                "localhost:20000",
                Security::Optional,
            ),
            (
                "unix:///run/etcd.sock",
                unix("/run/etcd.sock"),
                "etcd.sock",
                Security::Optional,
            ),
            (
                "unixs://localhost:20000",
                unix("localhost:20000"),
                "localhost:20000",
                Security::Tls,
            ),
        ] {
            let endpoint = Endpoint::parse(text);
            assert_eq!(
                (
                    endpoint.address,
                    endpoint.authority.as_str(),
                    endpoint.security
                ),
                (address, authority, security),
                "{text}"
            );
        }
    }

    #[test]
    fn undialable_endpoints_say_why() {
        let bad = |text: &str| match Endpoint::parse(text).address {
            Address::Bad(why) => why,
            other => panic!("{text} is {other:?}"),
        };
        assert_eq!(
            bad("http://h"),
            "dial tcp: address h: missing port in address"
        );
        assert_eq!(
            bad("::1:2379"),
            "dial tcp: address ::1:2379: too many colons in address"
        );
        assert_eq!(bad("h:port"), "dial tcp: lookup tcp/port: unknown port");
    }

    #[test]
    fn certificates_are_checked_for_the_host() {
        assert_eq!(Endpoint::parse("https://[::1]:2379").server_name(), "::1");
        assert_eq!(
            Endpoint::parse("unixs:localhost:20000").server_name(),
            "localhost"
        );
    }
}
