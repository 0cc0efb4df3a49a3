//! Judging what was found out. Each rule looks at one thing; thresholds are etcd's recommendations.

use super::certificate::Certificate;
use super::facts::{EndpointFacts, Facts};
use super::{Finding, Severity};
use crate::client::Endpoint;
use crate::ctl::go::bytes::human;
use crate::pb::etcdserverpb as pb;
use Severity::{Critical, Notice, Warning};

const DAY_SECONDS: i64 = 24 * 3600;

/// Certificates are to be renewed before so many days are left.
const CERTIFICATE_DAYS_MIN: i64 = 30;

/// Clocks may differ by so much before leases and certificates suffer. Dates are read to the second.
const CLOCK_SKEW_SECONDS_MAX: f64 = 2.0;

/// Share of the quota that is worth a warning, and that is nearly too much.
const QUOTA_SHARE_WARNING: f64 = 0.8;
const QUOTA_SHARE_CRITICAL: f64 = 0.95;

/// A database that is full sooner than this at its present growth.
const QUOTA_DAYS_MIN: f64 = 14.0;

/// Space not in use that is worth a defragmentation.
const FREE_SHARE_MAX: f64 = 0.5;
const FREE_BYTES_MIN: i64 = 100 * 1000 * 1000;

/// 99 % of the disk's syncs, the backend's commits, and the peers' round trips stay below these.
const FSYNC_SECONDS_MAX: f64 = 0.010;
const COMMIT_SECONDS_MAX: f64 = 0.025;
const ROUND_TRIP_SECONDS_MAX: f64 = 0.050;

/// A linearizable read of one key.
const READ_SECONDS_MAX: f64 = 0.100;

/// Entries a member may be behind.
const LAG_ENTRIES_MAX: u64 = 1000;

/// All findings, the worst first.
pub(super) fn diagnose(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, endpoint) in facts.endpoints.iter().enumerate() {
        connection(facts, endpoint, &mut findings);
        if let Some(id) = endpoint.member_id() {
            let earlier = &facts.endpoints[..index];
            if let Some(first) = earlier.iter().find(|first| first.member_id() == Some(id)) {
                // What there is to say about the member has been said.
                same_member(first, endpoint, &mut findings);
                continue;
            }
        }
        if let Some(status) = &endpoint.status {
            member(endpoint, status, &mut findings);
            space(endpoint, status, &mut findings);
        }
        latency(endpoint, &mut findings);
        clock(endpoint, &mut findings);
    }
    if let Some((file, certificate)) = &facts.client_certificate {
        let fix = "get a new client certificate and pass it with --cert and --key";
        validity(
            certificate,
            file,
            "the client certificate",
            fix,
            &mut findings,
        );
    }
    alarms(facts, &mut findings);
    cluster(facts, &mut findings);
    findings.sort_by_key(|finding| finding.severity);
    findings
}

fn found(
    severity: Severity,
    code: &'static str,
    subject: &str,
    problem: impl Into<String>,
    fix: impl Into<String>,
) -> Finding {
    let (subject, problem, fix) = (subject.to_owned(), problem.into(), fix.into());
    Finding {
        severity,
        code,
        subject,
        problem,
        fix,
    }
}

fn connection(all: &Facts, facts: &EndpointFacts, findings: &mut Vec<Finding>) {
    let subject = facts.endpoint.as_str();
    let host = Endpoint::parse(subject).server_name().to_owned();
    if let Some(why) = &facts.probe.unreachable {
        findings.push(unreachable(all, facts, why));
        return;
    }
    match facts.probe.speaks_tls {
        Some(true) if !facts.uses_tls => {
            findings.push(found(
                Critical,
                "wrong-scheme",
                subject,
                "the server speaks TLS, but is spoken to without",
                format!(
                    "write https://{}, and pass --cacert",
                    Endpoint::parse(subject).authority
                ),
            ));
            return;
        }
        Some(false) if facts.uses_tls => {
            findings.push(found(
                Critical,
                "wrong-scheme",
                subject,
                "the server does not speak TLS, but is spoken to with it",
                format!(
                    "write http://{} and leave --cacert, --cert and --key out, or give the server \
                     certificates",
                    Endpoint::parse(subject).authority
                ),
            ));
            return;
        }
        None => findings.push(found(
            Critical,
            "not-etcd",
            subject,
            "something listens there that speaks neither TLS nor HTTP",
            "correct the port: clients use 2379, members among themselves 2380",
        )),
        _ => {}
    }
    certificate(facts, &host, findings);
    answer(all, facts, findings);
    advertised_elsewhere(all, facts, findings);
}

/// Why no connection can be made tells who can help.
fn unreachable(all: &Facts, facts: &EndpointFacts, why: &str) -> Finding {
    let subject = facts.endpoint.as_str();
    let (code, fix) = if why.contains("connection refused") {
        (
            "endpoint-refused",
            "nothing listens there: start etcd (`systemctl status etcd`), or correct the port",
        )
    } else if why.contains("no answer") {
        (
            "endpoint-timeout",
            "the machine is silent: correct the address, start the machine, or open the port in \
             the firewalls between",
        )
    } else if why.contains("lookup") {
        (
            "endpoint-unknown-host",
            "correct the host name, or what DNS says of it",
        )
    } else {
        (
            "endpoint-unreachable",
            "correct the address, or what is between this machine and that one",
        )
    };
    if facts.given {
        let problem = format!("the endpoint cannot be reached: {why}");
        return found(Critical, code, subject, problem, fix);
    }
    let answers_elsewhere = |id| all.endpoints.iter().any(|e| e.member_id() == Some(id));
    match facts.advertised_by.filter(|id| answers_elsewhere(*id)) {
        Some(id) => found(
            Warning,
            "advertised-unreachable",
            subject,
            format!(
                "{} advertises this address, which cannot be reached from here: {why}",
                member_name(all, id)
            ),
            "set its --advertise-client-urls to an address clients can reach",
        ),
        None => found(
            Critical,
            "member-down",
            subject,
            format!("the member cannot be reached: {why}"),
            fix,
        ),
    }
}

/// Clients that take their endpoints from the member list end up with somebody else.
fn advertised_elsewhere(all: &Facts, facts: &EndpointFacts, findings: &mut Vec<Finding>) {
    let (Some(expected), Some(actual)) = (facts.advertised_by, facts.member_id()) else {
        return;
    };
    if expected != actual {
        findings.push(found(
            Warning,
            "advertised-elsewhere",
            &facts.endpoint,
            format!(
                "{} advertises this address, but {} answers there",
                member_name(all, expected),
                member_name(all, actual)
            ),
            "correct --advertise-client-urls of the one that does not listen there, and restart it",
        ));
    }
}

/// An endpoint more that is no member more.
fn same_member(first: &EndpointFacts, second: &EndpointFacts, findings: &mut Vec<Finding>) {
    if first.given && second.given {
        findings.push(found(
            Notice,
            "same-member",
            &second.endpoint,
            format!(
                "the member that answers there is that of {}",
                first.endpoint
            ),
            "name each member once, or there is no other to turn to when this one fails",
        ));
    }
}

fn certificate(facts: &EndpointFacts, host: &str, findings: &mut Vec<Finding>) {
    let subject = facts.endpoint.as_str();
    let before = findings.len();
    if let Some(certificate) = &facts.certificate {
        let fix =
            "renew the server's certificate (--cert-file); etcd takes it up without a restart";
        validity(
            certificate,
            subject,
            "the server's certificate",
            fix,
            findings,
        );
    }
    let Some(why) = facts
        .probe
        .distrust
        .as_deref()
        .filter(|_| findings.len() == before)
    else {
        return;
    };
    if why.contains("NotValidForName") || why.contains("not valid for name") {
        let names = facts
            .certificate
            .as_ref()
            .map(|c| c.names.join(", "))
            .unwrap_or_default();
        findings.push(found(
            Critical,
            "certificate-name",
            subject,
            format!("the server's certificate is not for {host}, but for {names}"),
            format!("add {host} to its subject alternative names, or use one of those it has"),
        ));
    } else {
        findings.push(found(
            Critical,
            "certificate-untrusted",
            subject,
            format!("the server's certificate is not accepted: {why}"),
            "pass the CA that signed it with --cacert",
        ));
    }
}

fn validity(
    certificate: &Certificate,
    subject: &str,
    what: &str,
    fix: &str,
    findings: &mut Vec<Finding>,
) {
    let days = certificate.seconds_left.div_euclid(DAY_SECONDS);
    let name = &certificate.subject;
    if certificate.seconds_left < 0 {
        let problem = format!("{what} ({name}) expired {} days ago", -days);
        findings.push(found(
            Critical,
            "certificate-expired",
            subject,
            problem,
            fix,
        ));
    } else if certificate.seconds_until_valid > 0 {
        let problem = format!(
            "{what} ({name}) is valid only in {} seconds",
            certificate.seconds_until_valid
        );
        let fix = "wait, or correct the clock of this machine or of the one that made it";
        findings.push(found(
            Critical,
            "certificate-not-yet-valid",
            subject,
            problem,
            fix,
        ));
    } else if days < CERTIFICATE_DAYS_MIN {
        let problem = format!("{what} ({name}) expires in {days} days");
        findings.push(found(
            Warning,
            "certificate-expires-soon",
            subject,
            problem,
            fix,
        ));
    }
}

/// What the server says to calls.
fn answer(all: &Facts, facts: &EndpointFacts, findings: &mut Vec<Finding>) {
    let subject = facts.endpoint.as_str();
    let error = facts.error.as_deref().unwrap_or_default();
    let connection = facts.connection_error.as_deref().unwrap_or_default();
    let rejected = [
        "CertificateRequired",
        "BadCertificate",
        "CertificateExpired",
        "CertificateUnknown",
        "UnknownCA",
        "AccessDenied",
    ];
    if rejected.iter().any(|alert| connection.contains(alert)) {
        let (code, problem) = match &all.client_certificate {
            None => (
                "client-certificate-missing",
                "the server asks for a client certificate, and none is given".to_owned(),
            ),
            Some((file, _)) => (
                "client-certificate-rejected",
                format!("the server does not accept the certificate in {file}: {connection}"),
            ),
        };
        findings.push(found(
            Critical,
            code,
            subject,
            problem,
            "pass --cert and --key of a certificate signed by the CA in the server's \
             --trusted-ca-file",
        ));
    } else if let Some(refusal) = refusal(facts) {
        findings.push(found(
            Critical,
            "credentials-rejected",
            subject,
            format!("the server refuses this user: {refusal}"),
            "check --user and its password, and its roles with `etcdctl user get NAME --detail`",
        ));
    } else if needs_user(error) || facts.read_error.as_deref().is_some_and(needs_user) {
        findings.push(found(
            Critical,
            "credentials-needed",
            subject,
            "authentication is on, and no user is given",
            "pass --user name[:password]",
        ));
    } else if !error.is_empty() && facts.probe.distrust.is_none() {
        findings.push(found(
            Critical,
            "no-answer",
            subject,
            format!("the server accepts connections but does not answer: {error} {connection}"),
            "look at its log (`journalctl -u etcd`); a disk that hangs stops all answers",
        ));
    }
}

/// The server's words when it knows the user and says no. That a user may not read some key is no fault.
fn refusal(facts: &EndpointFacts) -> Option<&str> {
    let about_login = |e: &&str| e.starts_with("etcdserver: ") && e.contains("auth");
    let error = facts.error.as_deref();
    let error = error.filter(|e| about_login(e) || e.contains("permission denied"));
    let read_error = facts.read_error.as_deref().filter(about_login);
    facts.login_error.as_deref().or(error).or(read_error)
}

fn needs_user(error: &str) -> bool {
    error.contains("user name is empty")
}

/// Errors of a read that say nothing about the cluster.
fn is_about_the_user(facts: &EndpointFacts, error: &str) -> bool {
    needs_user(error) || error.contains("permission denied") || refusal(facts).is_some()
}

fn member(facts: &EndpointFacts, status: &pb::StatusResponse, findings: &mut Vec<Finding>) {
    let subject = facts.endpoint.as_str();
    if status.leader == 0 {
        findings.push(found(
            Critical,
            "no-leader",
            subject,
            "the member knows no leader: writes and linearizable reads do not work",
            "start members until a majority is up, and check that they reach each other's peer URLs",
        ));
    } else if let Some(error) = &facts.read_error
        && !is_about_the_user(facts, error)
    {
        findings.push(found(
            Critical,
            "read-failed",
            subject,
            format!("a linearizable read failed: {error}"),
            "check that a majority of the members is up, and the network between them",
        ));
    }
    let behind = status.raft_index.saturating_sub(status.raft_applied_index);
    if behind > LAG_ENTRIES_MAX {
        findings.push(found(
            Warning,
            "apply-lag",
            subject,
            format!("{behind} committed entries are not applied yet"),
            "the member is overloaded: look for slow disks and expensive requests",
        ));
    }
    let downgrade = status.downgrade_info.clone().unwrap_or_default();
    if downgrade.enabled {
        findings.push(found(
            Notice,
            "downgrade-active",
            subject,
            format!("a downgrade to {} is under way", downgrade.target_version),
            "finish it by starting all members with that version, or `etcdctl downgrade cancel`",
        ));
    }
}

fn space(facts: &EndpointFacts, status: &pb::StatusResponse, findings: &mut Vec<Finding>) {
    let subject = facts.endpoint.as_str();
    let (size, used, quota) = (status.db_size, status.db_size_in_use, status.db_size_quota);
    if quota > 0 {
        let share = size as f64 / quota as f64;
        let severity = if share >= QUOTA_SHARE_CRITICAL {
            Critical
        } else {
            Warning
        };
        if share >= QUOTA_SHARE_WARNING {
            findings.push(found(
                severity,
                "quota-high",
                subject,
                format!(
                    "the database has {} of {} ({:.0} %); at 100 % writes are refused",
                    human(size as u64),
                    human(quota as u64),
                    share * 100.0
                ),
                "`etcdctl compaction REVISION` and `etcdctl defrag`, delete what is not needed, or raise \
                 --quota-backend-bytes",
            ));
        } else if let Some(days) = days_until_full(facts, size, quota)
            && days < QUOTA_DAYS_MIN
        {
            findings.push(found(
                Warning,
                "quota-forecast",
                subject,
                format!("at its growth since the start the database is full in {days:.1} days"),
                "set --auto-compaction-retention, or raise --quota-backend-bytes",
            ));
        }
    }
    let free = size - used;
    if free > FREE_BYTES_MIN && free as f64 > size as f64 * FREE_SHARE_MAX {
        findings.push(found(
            Notice,
            "fragmented",
            subject,
            format!(
                "{} of {} on disk are free",
                human(free as u64),
                human(size as u64)
            ),
            "`etcdctl defrag` gives them back, one member at a time",
        ));
    }
}

/// Growth is the present size over the time since the server started, if it has run for a while.
fn days_until_full(facts: &EndpointFacts, size: i64, quota: i64) -> Option<f64> {
    let metrics = facts.metrics.as_ref()?;
    let started = metrics.value("process_start_time_seconds")?;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()?;
    let days = (now.as_secs_f64() - started) / DAY_SECONDS as f64;
    let growth = size as f64 / days;
    (days > 1.0 && growth > 0.0).then(|| (quota - size) as f64 / growth)
}

fn latency(facts: &EndpointFacts, findings: &mut Vec<Finding>) {
    let subject = facts.endpoint.as_str();
    if let Some(seconds) = facts
        .read_seconds
        .filter(|seconds| *seconds > READ_SECONDS_MAX)
    {
        findings.push(found(
            Warning,
            "slow-read",
            subject,
            format!("a linearizable read took {:.0} ms", seconds * 1000.0),
            "check the load and the network to and among the members",
        ));
    }
    let Some(metrics) = &facts.metrics else {
        return;
    };
    let slow = |name: &str, limit: f64| {
        metrics
            .histogram(name)
            .quantile(0.99)
            .filter(|seconds| *seconds > limit)
    };
    let mut report = |code, what: &str, seconds: f64, fix: &str| {
        let problem = format!("1 % of {what} take {:.0} ms or more", seconds * 1000.0);
        findings.push(found(Warning, code, subject, problem, fix));
    };
    let disk = "give etcd a fast disk of its own (SSD), and keep other writers off it";
    if let Some(seconds) = slow("etcd_disk_wal_fsync_duration_seconds", FSYNC_SECONDS_MAX) {
        report("slow-fsync", "the log's disk syncs", seconds, disk);
    }
    if let Some(seconds) = slow(
        "etcd_disk_backend_commit_duration_seconds",
        COMMIT_SECONDS_MAX,
    ) {
        report("slow-commit", "the database's commits", seconds, disk);
    }
    if let Some(seconds) = slow(
        "etcd_network_peer_round_trip_time_seconds",
        ROUND_TRIP_SECONDS_MAX,
    ) {
        let fix = "bring the members closer together, or raise --heartbeat-interval and \
                   --election-timeout";
        report("slow-peers", "the round trips to peers", seconds, fix);
    }
}

fn clock(facts: &EndpointFacts, findings: &mut Vec<Finding>) {
    let Some(ahead) = facts.clock_ahead_seconds else {
        return;
    };
    if ahead.abs() > CLOCK_SKEW_SECONDS_MAX {
        let direction = if ahead > 0.0 { "ahead of" } else { "behind" };
        findings.push(found(
            Warning,
            "clock-skew",
            &facts.endpoint,
            format!(
                "its clock is {:.0} s {direction} this machine's",
                ahead.abs()
            ),
            "run a time service (`timedatectl set-ntp true`) on both",
        ));
    }
}

fn alarms(facts: &Facts, findings: &mut Vec<Finding>) {
    for alarm in &facts.alarms {
        let subject = member_name(facts, alarm.member_id);
        match alarm.alarm() {
            pb::AlarmType::Nospace => findings.push(found(
                Critical,
                "alarm-nospace",
                &subject,
                "the space quota is used up: the cluster refuses writes",
                "`etcdctl compaction REVISION`, `etcdctl defrag --cluster`, then `etcdctl alarm disarm`",
            )),
            pb::AlarmType::Corrupt => findings.push(found(
                Critical,
                "alarm-corrupt",
                &subject,
                "the member's data differs from the others'",
                "remove the member, delete its data directory, and add it again",
            )),
            pb::AlarmType::None => {}
        }
    }
}

fn member_name(facts: &Facts, id: u64) -> String {
    match facts.members.iter().find(|member| member.id == id) {
        Some(member) if !member.name.is_empty() => format!("member {} ({id:x})", member.name),
        _ => format!("member {id:x}"),
    }
}

fn cluster(facts: &Facts, findings: &mut Vec<Finding>) {
    quorum(facts, findings);
    for member in &facts.members {
        let subject = member_name(facts, member.id);
        if member.name.is_empty() {
            findings.push(found(
                Warning,
                "member-unstarted",
                &subject,
                format!(
                    "it was added ({}) but never started",
                    member.peer_ur_ls.join(", ")
                ),
                format!("start it, or `etcdctl member remove {:x}`", member.id),
            ));
        } else if member.is_learner {
            findings.push(found(
                Notice,
                "learner",
                &subject,
                "it is a learner and does not vote",
                format!(
                    "`etcdctl member promote {:x}` once it has caught up",
                    member.id
                ),
            ));
        }
        advertised(facts, member, &subject, findings);
    }
    differences(facts, findings);
}

/// Voters that answer, against the majority that is needed.
fn quorum(facts: &Facts, findings: &mut Vec<Finding>) {
    let voters: Vec<_> = facts
        .members
        .iter()
        .filter(|member| !member.is_learner)
        .collect();
    let answers = |id: u64| facts.endpoints.iter().any(|e| e.member_id() == Some(id));
    let up = voters.iter().filter(|member| answers(member.id)).count();
    let (all, majority) = (voters.len(), voters.len() / 2 + 1);
    if all == 0 {
        return;
    }
    if up < majority {
        findings.push(found(
            Critical,
            "quorum-lost",
            "the cluster",
            format!("only {up} of {all} voting members answer; {majority} are needed"),
            "start members; if they are lost for good, restore a snapshot or start one with \
             --force-new-cluster",
        ));
    } else if up == majority && all > 1 && up < all {
        findings.push(found(
            Warning,
            "quorum-at-risk",
            "the cluster",
            format!("{up} of {all} voting members answer: none more may fail"),
            "start the members that are down, or replace them",
        ));
    }
    if all.is_multiple_of(2) {
        findings.push(found(
            Notice,
            "even-members",
            "the cluster",
            format!(
                "{all} voting members stand no more failures than {}",
                all - 1
            ),
            "add a member, or remove one",
        ));
    } else if all == 1 {
        findings.push(found(
            Notice,
            "single-member",
            "the cluster",
            "one member: a failure of its machine is an outage",
            "add two members for a cluster that stands one failure",
        ));
    }
}

/// A loopback address is of no use to clients of a cluster of several machines.
fn advertised(facts: &Facts, member: &pb::Member, subject: &str, findings: &mut Vec<Finding>) {
    let is_loopback = |url: &String| {
        let host = Endpoint::parse(url).server_name().to_owned();
        host == "localhost" || host == "::1" || host.starts_with("127.")
    };
    let everyone = facts.members.iter().flat_map(|member| &member.client_ur_ls);
    let all_local = everyone.clone().all(is_loopback);
    if let Some(url) = member.client_ur_ls.iter().find(|url| is_loopback(url))
        && !all_local
    {
        findings.push(found(
            Warning,
            "advertised-loopback",
            subject,
            format!("it advertises {url}, which means another machine to each client"),
            "set its --advertise-client-urls to an address others can reach",
        ));
    }
}

/// What the members should agree on.
fn differences(facts: &Facts, findings: &mut Vec<Finding>) {
    let statuses: Vec<_> = facts
        .endpoints
        .iter()
        .filter_map(|e| Some((e, e.status.as_ref()?)))
        .collect();
    let distinct = |of: &dyn Fn(&pb::StatusResponse) -> String| {
        let mut values: Vec<_> = statuses.iter().map(|(_, status)| of(status)).collect();
        values.sort();
        values.dedup();
        values
    };
    let clusters =
        distinct(&|status| format!("{:x}", status.header.unwrap_or_default().cluster_id));
    if clusters.len() > 1 {
        findings.push(found(
            Critical,
            "different-clusters",
            "the endpoints",
            format!("they belong to different clusters: {}", clusters.join(", ")),
            "name endpoints of one cluster only",
        ));
        return;
    }
    let versions = distinct(&|status| status.version.clone());
    if versions.len() > 1 {
        findings.push(found(
            Warning,
            "version-skew",
            "the members",
            format!("they run different versions: {}", versions.join(", ")),
            "finish the upgrade: the cluster works as its oldest member does",
        ));
    }
    let leaders = distinct(&|status| format!("{:x} in term {}", status.leader, status.raft_term));
    if leaders.len() > 1 && statuses.iter().all(|(_, status)| status.leader != 0) {
        findings.push(found(
            Warning,
            "leader-disagreement",
            "the members",
            format!("they follow different leaders: {}", leaders.join(", ")),
            "look again in a moment; if it stays, check the network between the members",
        ));
    }
    let ahead = statuses
        .iter()
        .map(|(_, status)| status.raft_index)
        .max()
        .unwrap_or_default();
    for (endpoint, status) in &statuses {
        let behind = ahead.saturating_sub(status.raft_index);
        if behind > LAG_ENTRIES_MAX {
            findings.push(found(
                Warning,
                "member-behind",
                &endpoint.endpoint,
                format!("it is {behind} entries behind"),
                "check its disk and its network; it may be catching up after a start",
            ));
        }
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
