//! `user add`, `delete`, `get`, `list`, `passwd`, `grant-role` and `revoke-role`. None has a time limit.

use super::cli::{Command, Flag, Invocation};
use super::exit::Failure;
use super::print::{Done, RoleGet, UserGet, say};
use super::prompt;
use crate::pb::authpb::UserAddOptions;
use crate::pb::etcdserverpb as pb;

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "user",
    usage: "<subcommand>",
    group: super::commands::AUTHENTICATION,
    short: "Manages users. `etcdctl user --help` lists the subcommands",
    long: "Manages users",
    children: &[
        &ADD,
        &DELETE,
        &GET,
        &LIST,
        &PASSWD,
        &GRANT_ROLE,
        &REVOKE_ROLE,
    ],
    ..Command::NEW
};

/// Twice in the tables, so the text is here.
const INTERACTIVE: Flag = Flag::bool(
    "interactive",
    "ask for the password (false: read it from stdin)",
)
.or("true");

static ADD: Command = Command {
    name: "add",
    usage: "<user name or user:password> [options]",
    short: "Adds a user",
    flags: &[
        INTERACTIVE,
        Flag::text("new-user-password", "the password"),
        Flag::bool(
            "no-password",
            "no password: the user is named by client certificates",
        ),
    ],
    run: Some(|invocation| Box::pin(add(invocation))),
    ..Command::NEW
};

static DELETE: Command = Command {
    name: "delete",
    usage: "<user name>",
    short: "Deletes a user",
    run: Some(|invocation| Box::pin(delete(invocation))),
    ..Command::NEW
};

static GET: Command = Command {
    name: "get",
    usage: "<user name> [options]",
    short: "Shows a user's roles",
    flags: &[Flag::bool("detail", "and what the roles permit")],
    run: Some(|invocation| Box::pin(get(invocation))),
    ..Command::NEW
};

static LIST: Command = Command {
    name: "list",
    short: "Lists all users",
    run: Some(|invocation| Box::pin(list(invocation))),
    ..Command::NEW
};

static PASSWD: Command = Command {
    name: "passwd",
    usage: "<user name> [options]",
    short: "Changes a user's password",
    flags: &[INTERACTIVE],
    run: Some(|invocation| Box::pin(passwd(invocation))),
    ..Command::NEW
};

static GRANT_ROLE: Command = Command {
    name: "grant-role",
    usage: "<user name> <role name>",
    short: "Gives a user a role",
    run: Some(|invocation| Box::pin(grant_role(invocation))),
    ..Command::NEW
};

static REVOKE_ROLE: Command = Command {
    name: "revoke-role",
    usage: "<user name> <role name>",
    short: "Takes a role from a user",
    run: Some(|invocation| Box::pin(revoke_role(invocation))),
    ..Command::NEW
};

async fn add(mut invocation: Invocation) -> Result<(), Failure> {
    let given = one_name(&invocation)?;
    let no_password = invocation.flags.bool("no-password");
    let password = invocation.flags.text("new-user-password");
    let (name, password) = match given.split_once(':') {
        _ if no_password => (given, String::new()),
        _ if !password.is_empty() => (given, password),
        Some(("", _)) => return Err(Failure::args("empty user name is not allowed")),
        Some((name, password)) => (name.to_owned(), password.to_owned()),
        None => {
            let password = new_password(&invocation, &given)?;
            (given, password)
        }
    };
    let (client, display) = invocation.connect().await?;
    let request = pb::AuthUserAddRequest {
        name: name.clone(),
        password,
        options: Some(UserAddOptions { no_password }),
        hashed_password: String::new(),
    };
    let response = client.user_add(request, None).await?;
    display.show(&Done {
        sentence: format!("User {name} created"),
        response,
    })
}

async fn delete(mut invocation: Invocation) -> Result<(), Failure> {
    let name = one_name(&invocation)?;
    let (client, display) = invocation.connect().await?;
    let request = pb::AuthUserDeleteRequest { name: name.clone() };
    let response = client.user_delete(request, None).await?;
    display.show(&Done {
        sentence: format!("User {name} deleted"),
        response,
    })
}

async fn get(mut invocation: Invocation) -> Result<(), Failure> {
    let name = one_name(&invocation)?;
    let (client, display) = invocation.connect().await?;
    let request = pb::AuthUserGetRequest { name: name.clone() };
    let response = client.user_get(request, None).await?;
    if !invocation.flags.bool("detail") {
        return display.show(&UserGet { name, response });
    }
    say(format_args!("User: {name}"))?;
    for role in response.roles {
        say("")?;
        let request = pb::AuthRoleGetRequest { role: role.clone() };
        let response = client.role_get(request, None).await?;
        display.show(&RoleGet {
            name: role,
            response,
        })?;
    }
    Ok(())
}

async fn list(mut invocation: Invocation) -> Result<(), Failure> {
    if !invocation.args.is_empty() {
        return Err(Failure::args("user list command requires no arguments"));
    }
    let (client, display) = invocation.connect().await?;
    display.show(&client.user_list(pb::AuthUserListRequest {}, None).await?)
}

async fn passwd(mut invocation: Invocation) -> Result<(), Failure> {
    let name = one_name(&invocation)?;
    let password = new_password(&invocation, &name)?;
    let (client, display) = invocation.connect().await?;
    let request = pb::AuthUserChangePasswordRequest {
        name,
        password,
        hashed_password: String::new(),
    };
    let response = client.user_change_password(request, None).await?;
    display.show(&Done {
        sentence: "Password updated".to_owned(),
        response,
    })
}

async fn grant_role(mut invocation: Invocation) -> Result<(), Failure> {
    if invocation.args.len() != 2 {
        return Err(Failure::args(
            "user grant command requires user name and role name as its argument",
        ));
    }
    let (user, role) = (
        invocation.text(0).into_owned(),
        invocation.text(1).into_owned(),
    );
    let (client, display) = invocation.connect().await?;
    let sentence = format!("Role {role} is granted to user {user}");
    let request = pb::AuthUserGrantRoleRequest { user, role };
    let response = client.user_grant_role(request, None).await?;
    display.show(&Done { sentence, response })
}

async fn revoke_role(mut invocation: Invocation) -> Result<(), Failure> {
    if invocation.args.len() != 2 {
        return Err(Failure::args(
            "user revoke-role requires user name and role name as its argument",
        ));
    }
    let (name, role) = (
        invocation.text(0).into_owned(),
        invocation.text(1).into_owned(),
    );
    let (client, display) = invocation.connect().await?;
    let sentence = format!("Role {role} is revoked from user {name}");
    let request = pb::AuthUserRevokeRoleRequest { name, role };
    let response = client.user_revoke_role(request, None).await?;
    display.show(&Done { sentence, response })
}

fn one_name(invocation: &Invocation) -> Result<String, Failure> {
    if invocation.args.len() == 1 {
        return Ok(invocation.text(0).into_owned());
    }
    let name = invocation.path.command().name;
    Err(Failure::args(format!(
        "user {name} command requires user name as its argument"
    )))
}

/// A password asked for twice, or the first word of standard input.
fn new_password(invocation: &Invocation, user: &str) -> Result<String, Failure> {
    if !invocation.flags.bool("interactive") {
        let line = prompt::read_line()?;
        return Ok(line
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned());
    }
    let first = prompt::password(&format!("Password of {user}: "))?;
    if first.is_empty() {
        return Err(Failure::args("empty password"));
    }
    let again = format!("Type password of {user} again for confirmation: ");
    if prompt::password(&again)? != first {
        return Err(Failure::args("given passwords are different"));
    }
    Ok(first)
}
