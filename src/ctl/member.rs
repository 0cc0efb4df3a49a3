//! `member add`, `remove`, `update`, `promote` and `list`.

use super::cli::{Command, Flag, Invocation};
use super::exit::{Failure, code};
use super::get::is_serializable;
use super::go::number;
use super::go::quote::quote;
use super::print::{Format, MemberChange, say};
use crate::pb::etcdserverpb as pb;

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "member",
    usage: "<subcommand>",
    group: super::commands::MAINTENANCE,
    short: "Adds, removes and lists members. `etcdctl member --help` lists the subcommands",
    long: "Adds, removes and lists members",
    children: &[&ADD, &REMOVE, &UPDATE, &LIST, &PROMOTE],
    ..Command::NEW
};

static ADD: Command = Command {
    name: "add",
    usage: "<memberName> [options]",
    short: "Adds a member",
    flags: &[
        Flag::text(
            "peer-urls",
            "peer URLs of the new member, separated by commas",
        ),
        Flag::bool("learner", "as a learner, which does not vote"),
    ],
    run: Some(|invocation| Box::pin(add(invocation))),
    ..Command::NEW
};

static REMOVE: Command = Command {
    name: "remove",
    usage: "<memberID>",
    short: "Removes a member",
    run: Some(|invocation| Box::pin(remove(invocation))),
    ..Command::NEW
};

static UPDATE: Command = Command {
    name: "update",
    usage: "<memberID> [options]",
    short: "Changes a member's peer URLs",
    flags: &[Flag::text(
        "peer-urls",
        "new peer URLs, separated by commas",
    )],
    run: Some(|invocation| Box::pin(update(invocation))),
    ..Command::NEW
};

static LIST: Command = Command {
    name: "list",
    short: "Lists all members",
    long: "Lists all members. In the simple format a line has, separated by commas:
id, status, name, peer URLs, client URLs, whether it is a learner.",
    flags: &[Flag::text("consistency", "l: linearizable, s: serializable").or("l")],
    run: Some(|invocation| Box::pin(list(invocation))),
    ..Command::NEW
};

static PROMOTE: Command = Command {
    name: "promote",
    usage: "<memberID>",
    short: "Makes a learner a voting member",
    run: Some(|invocation| Box::pin(promote(invocation))),
    ..Command::NEW
};

async fn add(mut invocation: Invocation) -> Result<(), Failure> {
    if invocation.args.is_empty() {
        return Err(Failure::args("member name not provided"));
    }
    if invocation.args.len() > 1 {
        let texts = (0..invocation.args.len()).map(|index| invocation.text(index));
        let urls = texts.filter(|text| text.to_lowercase().starts_with("http"));
        let hints: String = urls
            .map(|url| format!(", did you mean --peer-urls={url}"))
            .collect();
        return Err(Failure::args(format!("too many arguments{hints}")));
    }
    let name = invocation.text(0).into_owned();
    let given = invocation.flags.text("peer-urls");
    let urls = peer_urls(&given)?;
    let deadline = invocation.deadline();
    let (client, display) = invocation.connect().await?;
    check_urls(&urls)?;
    let is_learner = invocation.flags.bool("learner");
    let request = pb::MemberAddRequest {
        peer_ur_ls: urls,
        is_learner,
    };
    let response = client.member_add(request, deadline).await?;
    display.show(&response)?;
    if display.format != Format::Simple {
        return Ok(());
    }
    let added = response.member.unwrap_or_default().id;
    let members = response.members.iter().flat_map(|member| {
        let name = if member.id == added {
            &name
        } else {
            &member.name
        };
        member
            .peer_ur_ls
            .iter()
            .map(move |url| format!("{name}={url}"))
    });
    let cluster = members.collect::<Vec<_>>().join(",");
    let [name, cluster, given] = [&name, &cluster, &given].map(|text| quote(text.as_bytes()));
    say(format_args!(
        "\nETCD_NAME={name}\nETCD_INITIAL_CLUSTER={cluster}\n\
         ETCD_INITIAL_ADVERTISE_PEER_URLS={given}\nETCD_INITIAL_CLUSTER_STATE=\"existing\""
    ))
}

async fn remove(mut invocation: Invocation) -> Result<(), Failure> {
    let id = member_id(&invocation)?;
    let deadline = invocation.deadline();
    let (client, display) = invocation.connect().await?;
    let response = client
        .member_remove(pb::MemberRemoveRequest { id }, deadline)
        .await?;
    display.show(&MemberChange { id, response })
}

async fn update(mut invocation: Invocation) -> Result<(), Failure> {
    let id = member_id(&invocation)?;
    let peer_ur_ls = peer_urls(&invocation.flags.text("peer-urls"))?;
    let deadline = invocation.deadline();
    let (client, display) = invocation.connect().await?;
    check_urls(&peer_ur_ls)?;
    let request = pb::MemberUpdateRequest { id, peer_ur_ls };
    let response = client.member_update(request, deadline).await?;
    display.show(&MemberChange { id, response })
}

async fn promote(mut invocation: Invocation) -> Result<(), Failure> {
    let id = member_id(&invocation)?;
    let deadline = invocation.deadline();
    let (client, display) = invocation.connect().await?;
    let response = client
        .member_promote(pb::MemberPromoteRequest { id }, deadline)
        .await?;
    display.show(&MemberChange { id, response })
}

async fn list(mut invocation: Invocation) -> Result<(), Failure> {
    // The error quotes the default of `get`, whatever was given here: so does etcd's.
    let serializable = is_serializable(&invocation.flags.text("consistency"), "l")?;
    let deadline = invocation.deadline();
    let (client, display) = invocation.connect().await?;
    let request = pb::MemberListRequest {
        linearizable: !serializable,
    };
    display.show(&client.member_list(request, deadline).await?)
}

fn member_id(invocation: &Invocation) -> Result<u64, Failure> {
    if invocation.args.len() != 1 {
        return Err(Failure::args("member ID is not provided"));
    }
    number::parse_uint(&invocation.text(0), 16)
        .map_err(|why| Failure::args(format!("bad member ID arg ({why}), expecting ID in Hex")))
}

fn peer_urls(given: &str) -> Result<Vec<String>, Failure> {
    if given.is_empty() {
        return Err(Failure::args("member peer urls not provided"));
    }
    Ok(given.split(',').map(str::to_owned).collect())
}

/// Refuses what a server would not accept as peer URLs.
fn check_urls(urls: &[String]) -> Result<(), Failure> {
    urls.iter().try_for_each(|url| {
        check_url(url.trim()).map_err(|message| Failure::new(code::ERROR, message))
    })
}

fn check_url(url: &str) -> Result<(), String> {
    let unparsable = |why: &str| format!("parse {}: {why}", quote(url.as_bytes()));
    let segment = url.split('/').next().unwrap_or_default();
    let scheme = match segment.split_once(':') {
        Some(("", _)) => return Err(unparsable("missing protocol scheme")),
        Some((scheme, _)) if scheme.starts_with(|c: char| c.is_ascii_alphabetic()) => scheme,
        Some(_) => return Err(unparsable("first path segment in URL cannot contain colon")),
        None => "",
    };
    if !matches!(scheme, "http" | "https" | "unix" | "unixs") {
        return Err(format!(
            "URL scheme must be http, https, unix, or unixs: {url}"
        ));
    }
    if scheme.starts_with("unix") {
        return Ok(());
    }
    let rest = url
        .split_once("://")
        .map(|(_, rest)| rest)
        .unwrap_or_default();
    let (host, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let has_port = host.rsplit_once(':').is_some_and(|(host, _)| {
        !host.contains(':') || (host.starts_with('[') && host.ends_with(']'))
    });
    if !has_port {
        return Err(format!(
            "URL address does not have the form \"host:port\": {url}"
        ));
    }
    if !path.is_empty() {
        return Err(format!("URL must not contain a path: {url}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_urls_are_checked_as_etcd_does() {
        for (url, error) in [
            ("http://127.0.0.1:2380", ""),
            ("https://[::1]:2380", ""),
            ("unix://sock:1", ""),
            (
                "127.0.0.1:1",
                "parse \"127.0.0.1:1\": first path segment in URL cannot contain colon",
            ),
            (
                "http://a",
                "URL address does not have the form \"host:port\": http://a",
            ),
            ("http://a:1/x", "URL must not contain a path: http://a:1/x"),
            ("bad", "URL scheme must be http, https, unix, or unixs: bad"),
        ] {
            assert_eq!(check_url(url).err().unwrap_or_default(), error);
        }
    }
}
