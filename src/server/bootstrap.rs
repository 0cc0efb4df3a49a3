//! What etcd refuses to start with, and only finds out at the start: a cluster that does not fit the member, and
//! names it does not know. The texts are etcd's.

use std::net::ToSocketAddrs;

use crate::config::{Config, Url};
use crate::tls;

/// The initial cluster. A new member must be in it, with the URLs it advertises.
pub(super) fn initial_members(
    config: &Config,
    is_new: bool,
) -> Result<Vec<(String, Vec<Url>)>, String> {
    let members = config
        .cluster
        .initial_members()
        .map_err(|error| format!("error setting up initial cluster: {error}"))?;
    if is_new {
        let name = &config.member.name;
        let own = members.iter().find(|(known, _)| known == name);
        let (_, urls) = own.ok_or_else(|| {
            format!("couldn't find local name \"{name}\" in the initial cluster configuration")
        })?;
        if !config.cluster.join_existing {
            check_advertised(name, urls, &config.cluster.advertise_peer_urls)?;
        }
    }
    Ok(members)
}

/// Both lists name the same places.
fn check_advertised(name: &str, listed: &[Url], advertised: &[Url]) -> Result<(), String> {
    let (listed, advertised) = (texts(listed), texts(advertised));
    if listed == advertised || places(&listed) == places(&advertised) {
        return Ok(());
    }
    let missing = |of: &[String], from: &[String]| -> Vec<String> {
        let is_missing = |url: &&String| !from.contains(url);
        of.iter().filter(is_missing).cloned().collect()
    };
    let not_advertised = missing(&listed, &advertised);
    if !not_advertised.is_empty() {
        let pairs: Vec<_> = not_advertised
            .iter()
            .map(|url| format!("{name}={url}"))
            .collect();
        let reason = if listed.len() == advertised.len() {
            let differ = places(&advertised)
                .into_iter()
                .zip(places(&listed))
                .find(|(a, b)| a != b)
                .unwrap_or_default();
            format!("resolved urls: {:?} != {:?}", differ.0, differ.1)
        } else {
            format!("len({}) != len({})", go_list(&advertised), go_list(&listed))
        };
        return Err(format!(
            "--initial-cluster has {} but missing from --initial-advertise-peer-urls={} ({reason})",
            pairs.join(","),
            advertised.join(","),
        ));
    }
    let cluster: Vec<_> = advertised
        .iter()
        .map(|url| format!("{name}={url}"))
        .collect();
    Err(format!(
        "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
        missing(&advertised, &listed).join(","),
        cluster.join(","),
    ))
}

fn texts(urls: &[Url]) -> Vec<String> {
    let mut texts: Vec<_> = urls.iter().map(ToString::to_string).collect();
    texts.sort();
    texts
}

/// URLs with addresses for host names, as far as they are known; `localhost` stays.
fn places(urls: &[String]) -> Vec<String> {
    let place = |url: &String| {
        let (scheme, host) = url.split_once("://").unwrap_or(("", url));
        let address = host
            .to_socket_addrs()
            .ok()
            .filter(|_| scheme.starts_with("http") && !host.starts_with("localhost:"))
            .and_then(|mut addresses| addresses.next());
        address.map_or_else(|| url.clone(), |address| format!("{scheme}://{address}"))
    };
    let mut places: Vec<_> = urls.iter().map(place).collect();
    places.sort();
    places
}

/// `["a" "b"]`.
fn go_list(texts: &[String]) -> String {
    let quoted: Vec<_> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

/// Cipher suites, whether or not a URL asks for TLS, and the kind of token.
pub(super) fn check_names(config: &Config) -> Result<(), String> {
    for suite in &config.client_tls.cipher_suites {
        tls::check_cipher_suite(suite).map_err(|error| error.to_string())?;
    }
    let kind = config.auth.token.split(',').next().unwrap_or_default();
    match kind {
        "" | "simple" | "jwt" => Ok(()),
        _ => Err("auth: invalid auth options".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listed: &[&str], advertised: &[&str]) -> Result<(), String> {
        let urls = |texts: &[&str]| -> Vec<Url> {
            texts.iter().map(|text| Url::parse(text).unwrap()).collect()
        };
        check_advertised("m", &urls(listed), &urls(advertised))
    }

    #[test]
    fn what_is_advertised_must_be_in_the_cluster() {
        assert_eq!(
            check(&["http://a:1", "http://b:1"], &["http://b:1", "http://a:1"]),
            Ok(())
        );
        assert_eq!(
            check(&["http://127.0.0.1:1"], &["http://localhost:2380"]),
            Err(
                "--initial-cluster has m=http://127.0.0.1:1 but missing from \
                 --initial-advertise-peer-urls=http://localhost:2380 (resolved urls: \
                 \"http://localhost:2380\" != \"http://127.0.0.1:1\")"
                    .to_owned()
            )
        );
        assert_eq!(
            check(
                &["http://10.0.0.1:1"],
                &["http://10.0.0.1:1", "http://10.0.0.2:1"]
            ),
            Err(
                "--initial-advertise-peer-urls has http://10.0.0.2:1 but missing from \
                 --initial-cluster=m=http://10.0.0.1:1,m=http://10.0.0.2:1"
                    .to_owned()
            )
        );
    }
}
