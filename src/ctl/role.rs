//! `role add`, `delete`, `get`, `list`, `grant-permission` and `revoke-permission`. None has a time limit.

use super::cli::{Arg, Command, Flag, Flags, Invocation};
use super::exit::Failure;
use super::print::{Done, RoleGet, RoleRevoked};
use crate::client::{ALL_KEYS, prefix_end};
use crate::pb::authpb::Permission;
use crate::pb::authpb::permission::Type;
use crate::pb::etcdserverpb as pb;

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "role",
    usage: "<subcommand>",
    group: super::commands::AUTHENTICATION,
    short: "Manages roles. `etcdctl role --help` lists the subcommands",
    long: "Manages roles",
    children: &[&ADD, &DELETE, &GET, &LIST, &GRANT, &REVOKE],
    ..Command::NEW
};

static ADD: Command = Command {
    name: "add",
    usage: "<role name>",
    short: "Adds a role",
    run: Some(|invocation| Box::pin(add(invocation))),
    ..Command::NEW
};

static DELETE: Command = Command {
    name: "delete",
    usage: "<role name>",
    short: "Deletes a role",
    run: Some(|invocation| Box::pin(delete(invocation))),
    ..Command::NEW
};

static GET: Command = Command {
    name: "get",
    usage: "<role name>",
    short: "Shows what a role permits",
    run: Some(|invocation| Box::pin(get(invocation))),
    ..Command::NEW
};

static LIST: Command = Command {
    name: "list",
    short: "Lists all roles",
    run: Some(|invocation| Box::pin(list(invocation))),
    ..Command::NEW
};

static GRANT: Command = Command {
    name: "grant-permission",
    usage: "[options] <role name> <permission type> <key> [endkey]",
    short: "Permits a role to read or write keys",
    flags: &[
        Flag::bool("prefix", "all keys that begin with <key>"),
        Flag::bool("from-key", "all keys from <key> on, in byte order"),
    ],
    run: Some(|invocation| Box::pin(grant_permission(invocation))),
    ..Command::NEW
};

static REVOKE: Command = Command {
    name: "revoke-permission",
    usage: "<role name> <key> [endkey]",
    short: "Takes a permission from a role",
    flags: &[
        Flag::bool("prefix", "all keys that begin with <key>"),
        Flag::bool("from-key", "all keys from <key> on, in byte order"),
    ],
    run: Some(|invocation| Box::pin(revoke_permission(invocation))),
    ..Command::NEW
};

async fn add(mut invocation: Invocation) -> Result<(), Failure> {
    let name = one_name(&invocation)?;
    let (client, display) = invocation.connect().await?;
    let response = client
        .role_add(pb::AuthRoleAddRequest { name: name.clone() }, None)
        .await?;
    display.show(&Done {
        sentence: format!("Role {name} created"),
        response,
    })
}

async fn delete(mut invocation: Invocation) -> Result<(), Failure> {
    let role = one_name(&invocation)?;
    let (client, display) = invocation.connect().await?;
    let sentence = format!("Role {role} deleted");
    let response = client
        .role_delete(pb::AuthRoleDeleteRequest { role }, None)
        .await?;
    display.show(&Done { sentence, response })
}

async fn get(mut invocation: Invocation) -> Result<(), Failure> {
    let name = one_name(&invocation)?;
    let (client, display) = invocation.connect().await?;
    let response = client
        .role_get(pb::AuthRoleGetRequest { role: name.clone() }, None)
        .await?;
    display.show(&RoleGet { name, response })
}

async fn list(mut invocation: Invocation) -> Result<(), Failure> {
    if !invocation.args.is_empty() {
        return Err(Failure::args("role list command requires no arguments"));
    }
    let (client, display) = invocation.connect().await?;
    display.show(&client.role_list(pb::AuthRoleListRequest {}, None).await?)
}

async fn grant_permission(mut invocation: Invocation) -> Result<(), Failure> {
    if invocation.args.len() < 3 {
        return Err(Failure::args(
            "role grant command requires role name, permission type, and key [endkey] as its argument",
        ));
    }
    let kind = invocation.text(1);
    let perm_type = Type::from_str_name(&kind.to_uppercase())
        .ok_or_else(|| Failure::args(format!("invalid permission type: {kind}")))?;
    let (key, range_end) = range(&invocation.args[2..], &invocation.flags)?;
    let name = invocation.text(0).into_owned();
    let (client, display) = invocation.connect().await?;
    let permission = Permission {
        perm_type: perm_type as i32,
        key: key.into(),
        range_end: range_end.into(),
    };
    let request = pb::AuthRoleGrantPermissionRequest {
        name: name.clone(),
        perm: Some(permission),
    };
    let response = client.role_grant_permission(request, None).await?;
    display.show(&Done {
        sentence: format!("Role {name} updated"),
        response,
    })
}

async fn revoke_permission(mut invocation: Invocation) -> Result<(), Failure> {
    if invocation.args.len() < 2 {
        return Err(Failure::args(
            "role revoke-permission command requires role name and key [endkey] as its argument",
        ));
    }
    let (key, range_end) = range(&invocation.args[1..], &invocation.flags)?;
    let (name, typed) = (invocation.text(0).into_owned(), invocation.args[1].clone());
    let (client, display) = invocation.connect().await?;
    let request = pb::AuthRoleRevokePermissionRequest {
        role: name.clone(),
        key: key.into(),
        range_end: range_end.clone().into(),
    };
    let response = client.role_revoke_permission(request, None).await?;
    display.show(&RoleRevoked {
        name,
        key: typed,
        range_end,
        response,
    })
}

fn one_name(invocation: &Invocation) -> Result<String, Failure> {
    if invocation.args.len() == 1 {
        return Ok(invocation.text(0).into_owned());
    }
    let name = invocation.path.command().name;
    Err(Failure::args(format!(
        "role {name} command requires role name as its argument"
    )))
}

/// The keys `<key> [endkey]` and the flags stand for. An empty key is the first there can be, and its end, if it
/// is given one, is not looked at.
fn range(args: &[Arg], flags: &Flags) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let (prefix, from_key) = (flags.bool("prefix"), flags.bool("from-key"));
    let (key, end) = (args[0].as_slice(), args.get(1));
    if prefix && from_key && (key.is_empty() || end.is_none()) {
        return Err(Failure::args(
            "--from-key and --prefix flags are mutually exclusive",
        ));
    }
    if key.is_empty() {
        let end = if prefix || from_key { ALL_KEYS } else { b"" };
        return Ok((b"\0".to_vec(), end.to_vec()));
    }
    let unexpected = |flag| Failure::args(format!("unexpected endkey argument with {flag} flag"));
    let end = match end {
        Some(_) if prefix => return Err(unexpected("--prefix")),
        Some(_) if from_key => return Err(unexpected("--from-key")),
        Some(end) => end.clone(),
        None if prefix => prefix_end(key),
        None if from_key => ALL_KEYS.to_vec(),
        None => Vec::new(),
    };
    Ok((key.to_vec(), end))
}
