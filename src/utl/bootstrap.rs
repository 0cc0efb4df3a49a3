//! The members of the cluster that a snapshot is restored for, checked as a server checks its own at first start.

use std::net::ToSocketAddrs;
use std::time::{Duration, Instant};

use crate::client::os_error_text;
use crate::config::{Url, parse_initial_cluster, url};
use crate::ctl::go::quote::quote;
use crate::logging::Line;
use crate::membership::{Member, cluster_id, member_id};
use crate::types::{ClusterId, MemberId};

use super::log;

/// How long names are tried to resolve, and how often.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(30);
const RESOLVE_INTERVAL: Duration = Duration::from_secs(1);

/// A cluster that is about to be founded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Founding {
    /// Its id.
    pub(super) cluster_id: ClusterId,
    /// Which member this is.
    pub(super) own: MemberId,
    /// All members, by id.
    pub(super) members: Vec<Member>,
}

/// Reads and checks what the flags say about the cluster.
pub(super) fn found(
    name: &str,
    initial_cluster: &str,
    token: &str,
    advertised: &str,
) -> Result<Founding, String> {
    let advertised = url::parse_list(advertised)?;
    let members = parse_initial_cluster(initial_cluster)?;
    let own = members.iter().find(|(other, _)| other == name);
    let Some((_, own_urls)) = own else {
        let name = quote(name.as_bytes());
        return Err(format!(
            "couldn't find local name {name} in the initial cluster configuration"
        ));
    };
    if let Err(reason) = compare(&advertised, own_urls) {
        return Err(explain(name, &advertised, own_urls, &reason));
    }
    refuse_shared_urls(&members)?;
    let mut founding = Founding {
        cluster_id: ClusterId(0),
        own: MemberId(0),
        members: Vec::new(),
    };
    for (other, urls) in &members {
        let peer_urls: Vec<_> = urls.iter().map(Url::to_string).collect();
        let id = member_id(&peer_urls, token);
        if founding.members.iter().any(|member| member.id == id.0) {
            return Err(format!("member exists with identical ID {id}"));
        }
        if other == name {
            founding.own = id;
        }
        founding.members.push(Member {
            id: id.0,
            peer_urls,
            name: other.clone(),
            ..Member::default()
        });
    }
    founding.members.sort_by_key(|member| member.id);
    founding.cluster_id = cluster_id(founding.members.iter().map(|member| MemberId(member.id)));
    Ok(founding)
}

fn refuse_shared_urls(members: &[(String, Vec<Url>)]) -> Result<(), String> {
    let mut urls: Vec<_> = members
        .iter()
        .flat_map(|(_, urls)| urls)
        .map(Url::to_string)
        .collect();
    let count = urls.len();
    urls.sort_unstable();
    urls.dedup();
    if urls.len() == count {
        return Ok(());
    }
    let pairs = members
        .iter()
        .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")));
    let pairs: Vec<_> = pairs.collect();
    Err(format!(
        "initial cluster {} has duplicate url",
        pairs.join(",")
    ))
}

/// Compares two sorted lists as they are written, and by address where they differ.
fn compare(advertised: &[Url], configured: &[Url]) -> Result<(), String> {
    if advertised.len() != configured.len() {
        return Err(format!(
            "len({}) != len({})",
            quoted(advertised),
            quoted(configured)
        ));
    }
    let different = |(a, b): &(String, String)| !a.eq_ignore_ascii_case(b);
    let texts = |urls: &[Url]| urls.iter().map(Url::to_string).collect::<Vec<_>>();
    let pairs = |a: Vec<String>, b: Vec<String>| a.into_iter().zip(b);
    if !pairs(texts(advertised), texts(configured)).any(|pair| different(&pair)) {
        return Ok(());
    }
    let deadline = Instant::now() + RESOLVE_TIMEOUT;
    let (a, b) = (
        resolve_all(advertised, deadline)?,
        resolve_all(configured, deadline)?,
    );
    match pairs(a, b).find(different) {
        None => Ok(()),
        Some((a, b)) => Err(format!("resolved urls: {a:?} != {b:?}")),
    }
}

fn quoted(urls: &[Url]) -> String {
    let texts: Vec<_> = urls
        .iter()
        .map(|url| quote(url.to_string().as_bytes()))
        .collect();
    format!("[{}]", texts.join(" "))
}

fn resolve_all(urls: &[Url], deadline: Instant) -> Result<Vec<String>, String> {
    let mut resolved = urls
        .iter()
        .map(|url| resolve(url, deadline))
        .collect::<Result<Vec<_>, _>>()?;
    resolved.sort_unstable();
    Ok(resolved)
}

fn resolve(url: &Url, deadline: Instant) -> Result<String, String> {
    if url.is_unix() || url.host() == "localhost" {
        return Ok(url.to_string());
    }
    let host = url.address();
    loop {
        let line = |message| {
            Line::info(message)
                .display("url", url)
                .with("host", host.as_str())
        };
        let reason = match host.to_socket_addrs().map(|mut addresses| addresses.next()) {
            Ok(Some(address)) => {
                log(line("resolved URL Host").with("resolved-addr", address.to_string()));
                return Ok(format!("{}://{address}", url.scheme()));
            }
            Ok(None) => "no such host".to_owned(),
            Err(error) => os_error_text(&error),
        };
        log(Line::warn("failed to resolve URL Host")
            .display("url", url)
            .with("host", host.as_str())
            .with("retry-interval", "1s")
            .with("error", reason.as_str()));
        if Instant::now() + RESOLVE_INTERVAL >= deadline {
            return Err(format!(
                "failed to resolve {:?} ({reason})",
                url.to_string()
            ));
        }
        std::thread::sleep(RESOLVE_INTERVAL);
    }
}

/// Which of the two lists lacks what.
fn explain(name: &str, advertised: &[Url], configured: &[Url], reason: &str) -> String {
    let lacking = |these: &[Url], those: &[Url]| {
        let lacking = these.iter().filter(|url| !those.contains(url));
        lacking.map(Url::to_string).collect::<Vec<_>>()
    };
    let named = |urls: &[String]| {
        let pairs: Vec<_> = urls.iter().map(|url| format!("{name}={url}")).collect();
        pairs.join(",")
    };
    let all = url::join(advertised);
    let all_named = named(&advertised.iter().map(Url::to_string).collect::<Vec<_>>());
    let missing = lacking(configured, advertised);
    if !missing.is_empty() {
        let missing = named(&missing);
        return format!(
            "--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={all} ({reason})"
        );
    }
    let missing = lacking(advertised, configured);
    if !missing.is_empty() {
        let missing = missing.join(",");
        return format!(
            "--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={all_named}"
        );
    }
    format!("failed to resolve {all} to match --initial-cluster={all_named} ({reason})")
}
