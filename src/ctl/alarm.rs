//! `alarm list` and `alarm disarm`.

use super::cli::{Command, Invocation};
use super::exit::Failure;
use crate::client::{Client, Deadline, Error};
use crate::pb::etcdserverpb::alarm_request::AlarmAction;
use crate::pb::etcdserverpb::{AlarmRequest, AlarmResponse};

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "alarm",
    usage: "<subcommand>",
    group: super::commands::MAINTENANCE,
    short: "Shows and disarms alarms. `etcdctl alarm --help` lists the subcommands",
    long: "Shows and disarms alarms",
    children: &[&DISARM, &LIST],
    ..Command::NEW
};

static DISARM: Command = Command {
    name: "disarm",
    short: "Disarms all alarms",
    run: Some(|invocation| Box::pin(disarm(invocation))),
    ..Command::NEW
};

static LIST: Command = Command {
    name: "list",
    short: "Lists all alarms",
    run: Some(|invocation| Box::pin(list(invocation))),
    ..Command::NEW
};

/// All alarms there are.
pub(super) async fn alarms(client: &Client, deadline: Deadline) -> Result<AlarmResponse, Error> {
    client.alarm(AlarmRequest::default(), deadline).await
}

async fn list(mut invocation: Invocation) -> Result<(), Failure> {
    if !invocation.args.is_empty() {
        return Err(Failure::args("alarm list command accepts no arguments"));
    }
    let deadline = invocation.deadline();
    let (client, display) = invocation.connect().await?;
    display.show(&alarms(&client, deadline).await?)
}

async fn disarm(mut invocation: Invocation) -> Result<(), Failure> {
    if !invocation.args.is_empty() {
        return Err(Failure::args("alarm disarm command accepts no arguments"));
    }
    let deadline = invocation.deadline();
    let (client, display) = invocation.connect().await?;
    // What is printed has no header: it is put together from one answer per alarm.
    let mut disarmed = AlarmResponse::default();
    for alarm in alarms(&client, deadline).await?.alarms {
        let request = AlarmRequest {
            action: AlarmAction::Deactivate as i32,
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        };
        disarmed
            .alarms
            .extend(client.alarm(request, deadline).await?.alarms);
    }
    display.show(&disarmed)
}
