//! `auth enable`, `disable` and `status`.

use super::cli::{Command, Invocation};
use super::exit::Failure;
use super::print;
use crate::client::{Client, Deadline, Error, text};
use crate::pb::etcdserverpb as pb;

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "auth",
    usage: "<enable or disable>",
    group: super::commands::AUTHENTICATION,
    short: "Turns authentication on and off. `etcdctl auth --help` lists the subcommands",
    long: "Turns authentication on and off",
    children: &[&ENABLE, &DISABLE, &STATUS],
    ..Command::NEW
};

static ENABLE: Command = Command {
    name: "enable",
    short: "Turns authentication on",
    run: Some(|invocation| Box::pin(enable(invocation))),
    ..Command::NEW
};

static DISABLE: Command = Command {
    name: "disable",
    short: "Turns authentication off",
    run: Some(|invocation| Box::pin(disable(invocation))),
    ..Command::NEW
};

static STATUS: Command = Command {
    name: "status",
    short: "Tells whether authentication is on",
    run: Some(|invocation| Box::pin(status(invocation))),
    ..Command::NEW
};

fn no_arguments(invocation: &Invocation) -> Result<(), Failure> {
    if invocation.args.is_empty() {
        return Ok(());
    }
    let name = invocation.path.command().name;
    Err(Failure::args(format!(
        "auth {name} command does not accept any arguments"
    )))
}

async fn enable(mut invocation: Invocation) -> Result<(), Failure> {
    no_arguments(&invocation)?;
    let deadline = invocation.deadline();
    let (client, _) = invocation.connect().await?;
    loop {
        match client.auth_enable(pb::AuthEnableRequest {}, deadline).await {
            Ok(_) => return print::say("Authentication Enabled"),
            Err(error) if error.is(text::ROOT_ROLE_NOT_EXIST) => {
                make_root(&client, deadline).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Gives the user root the role it must have.
async fn make_root(client: &Client, deadline: Deadline) -> Result<(), Error> {
    let (user, role) = ("root".to_owned(), "root".to_owned());
    client
        .role_add(pb::AuthRoleAddRequest { name: role.clone() }, deadline)
        .await?;
    client
        .user_grant_role(pb::AuthUserGrantRoleRequest { user, role }, deadline)
        .await?;
    Ok(())
}

async fn disable(mut invocation: Invocation) -> Result<(), Failure> {
    no_arguments(&invocation)?;
    let deadline = invocation.deadline();
    let (client, _) = invocation.connect().await?;
    client
        .auth_disable(pb::AuthDisableRequest {}, deadline)
        .await?;
    print::say("Authentication Disabled")
}

async fn status(mut invocation: Invocation) -> Result<(), Failure> {
    no_arguments(&invocation)?;
    let deadline = invocation.deadline();
    let (client, display) = invocation.connect().await?;
    display.show(
        &client
            .auth_status(pb::AuthStatusRequest {}, deadline)
            .await?,
    )
}
