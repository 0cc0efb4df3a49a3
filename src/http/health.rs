//! `/health`, `/livez` and `/readyz`: is the cluster fine, is this process, may it get traffic.

use http::{Method, Request, StatusCode};

use super::member::Member;
use super::reply::{self, Reply, checked, error, method_not_allowed, query_values};
use crate::metrics;
use crate::pb::etcdserverpb::{AlarmMember, AlarmType};

/// A reply of `/health`; the keys are etcd's, "health" being a text.
#[derive(serde::Serialize)]
struct Health {
    health: &'static str,
    reason: String,
}

/// Answers `/health`: alarms, then a leader, then a read.
pub(super) async fn health<B>(member: &impl Member, request: &Request<B>) -> Reply {
    if request.method() != Method::GET {
        tracing::warn!("status-code" = 405, "/health error");
        return method_not_allowed(Some("GET"));
    }
    let result = health_of(member, request.uri()).await;
    let health = match &result {
        Ok(()) => Health {
            health: "true",
            reason: String::new(),
        },
        Err(reason) => Health {
            health: "false",
            reason: reason.clone(),
        },
    };
    let output = serde_json::to_string(&health).unwrap_or_default();
    match result {
        Ok(()) => {
            metrics::global().health_success.inc();
            tracing::debug!("status-code" = 200, "/health OK");
            reply::ok(reply::PLAIN_TEXT, output)
        }
        Err(_) => {
            metrics::global().health_failures.inc();
            tracing::warn!(output, "status-code" = 503, "/health error");
            error(StatusCode::SERVICE_UNAVAILABLE, output)
        }
    }
}

async fn health_of(member: &impl Member, uri: &http::Uri) -> Result<(), String> {
    let excluded = query_values(uri, "exclude");
    let serializable = query_values(uri, "serializable")
        .first()
        .is_some_and(|v| v == "true");
    for alarm in member.alarms() {
        let kind = alarm.alarm();
        if excluded
            .iter()
            .any(|excluded| excluded == kind.as_str_name())
        {
            continue;
        }
        tracing::warn!(
            alarm = AlarmText(alarm).to_string(),
            "serving /health false due to an alarm"
        );
        return Err(match kind {
            AlarmType::Nospace | AlarmType::Corrupt => format!("ALARM {}", kind.as_str_name()),
            AlarmType::None => "ALARM UNKNOWN".to_owned(),
        });
    }
    if serializable {
        // Reads of this member's own state need nobody.
        return Ok(());
    }
    if !member.has_leader() {
        tracing::warn!("serving /health false; no leader");
        return Err("RAFT NO LEADER".to_owned());
    }
    member.linearizable_read().await.map_err(|error| {
        tracing::warn!(error, "serving /health false; Range fails");
        format!("RANGE ERROR:{error}")
    })
}

/// An alarm in protobuf's text form.
struct AlarmText(AlarmMember);

impl std::fmt::Display for AlarmText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.0.alarm().as_str_name();
        write!(f, "memberID:{} alarm:{kind} ", self.0.member_id)
    }
}

/// A single check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

/// A group of checks under one path.
struct Group {
    name: &'static str,
    checks: &'static [Check],
}

const GROUPS: [Group; 2] = [
    Group {
        name: "livez",
        checks: &[Check::SerializableRead],
    },
    Group {
        name: "readyz",
        checks: &[
            Check::DataCorruption,
            Check::SerializableRead,
            Check::LinearizableRead,
            Check::NonLearner,
        ],
    },
];

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    async fn run(self, member: &impl Member) -> Result<(), String> {
        match self {
            Check::DataCorruption => {
                let corrupt = |alarm: &AlarmMember| alarm.alarm() == AlarmType::Corrupt;
                match member.alarms().iter().any(corrupt) {
                    true => Err("alarm activated: CORRUPT".to_owned()),
                    false => Ok(()),
                }
            }
            // The member's own state is in memory and readable whenever the process answers at all.
            Check::SerializableRead => Ok(()),
            Check::LinearizableRead => member.linearizable_read().await,
            Check::NonLearner => match member.is_learner() {
                true => Err("not supported for learner".to_owned()),
                false => Ok(()),
            },
        }
    }
}

/// Answers `/livez`, `/readyz` and their single checks; None for other paths.
pub(super) async fn checks<B>(member: &impl Member, request: &Request<B>) -> Option<Reply> {
    let path = request.uri().path();
    let mut parts = path.strip_prefix('/')?.splitn(2, '/');
    let (first, single) = (parts.next()?, parts.next());
    let group = GROUPS.iter().find(|group| group.name == first)?;
    let wanted: Vec<Check> = match single {
        Some(single) => vec![*group.checks.iter().find(|check| check.name() == single)?],
        None => group.checks.to_vec(),
    };
    if request.method() != Method::GET {
        tracing::warn!(path, "status-code" = 405, "Health request error");
        return Some(method_not_allowed(Some("GET")));
    }
    let wanted = match single {
        Some(_) => wanted,
        None => without_excluded(wanted, request.uri()),
    };
    let (healthy, report) = run(member, group, &wanted).await;
    if !healthy {
        tracing::error!(
            path,
            reason = report,
            "status-code" = 503,
            "Health check error"
        );
        return Some(error(StatusCode::SERVICE_UNAVAILABLE, report));
    }
    tracing::debug!(
        path,
        reason = report,
        "status-code" = 200,
        "Health check OK"
    );
    let verbose = !query_values(request.uri(), "verbose").is_empty();
    Some(checked(if verbose {
        report + "ok\n"
    } else {
        "ok\n".to_owned()
    }))
}

fn without_excluded(mut checks: Vec<Check>, uri: &http::Uri) -> Vec<Check> {
    let mut excluded = query_values(uri, "exclude");
    excluded.retain(|name| !name.is_empty());
    checks.retain(|check| !excluded.iter().any(|name| name == check.name()));
    let known = |name: &String| GROUPS[1].checks.iter().any(|check| check.name() == name);
    excluded.retain(|name| !known(name));
    if !excluded.is_empty() {
        let missing: Vec<String> = excluded.iter().map(|name| format!("{name:?}")).collect();
        let missing = missing.join(",");
        tracing::warn!(
            "missing-health-checks" = missing,
            "some health checks cannot be excluded"
        );
    }
    checks
}

/// Runs checks; whether all passed, and a line for each.
async fn run(member: &impl Member, group: &Group, checks: &[Check]) -> (bool, String) {
    let mut healthy = true;
    let mut report = String::new();
    for check in checks {
        let name = check.name();
        let status = match check.run(member).await {
            Ok(()) => {
                report += &format!("[+]{name} ok\n");
                "success"
            }
            Err(error) => {
                healthy = false;
                report += &format!("[-]{name} failed: {error}\n");
                "error"
            }
        };
        let success = i64::from(status == "success");
        metrics::global()
            .healthcheck
            .with(&[name, group.name])
            .set(success);
        metrics::global()
            .healthchecks
            .with(&[name, status, group.name])
            .inc();
    }
    (healthy, report)
}
