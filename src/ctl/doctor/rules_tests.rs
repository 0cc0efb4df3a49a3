//! One seeded fault per rule: it is named, it has a fix, and nothing else is said.

use super::*;
use crate::client::Probe;
use crate::ctl::prometheus::Metrics;

fn healthy(endpoint: &str, member_id: u64) -> EndpointFacts {
    let header = pb::ResponseHeader {
        cluster_id: 1,
        member_id,
        ..Default::default()
    };
    let status = pb::StatusResponse {
        header: Some(header),
        version: "3.7.1".to_owned(),
        leader: 1,
        raft_index: 5000,
        raft_applied_index: 5000,
        raft_term: 2,
        db_size: 1_000_000,
        db_size_in_use: 900_000,
        db_size_quota: 2_000_000_000,
        ..Default::default()
    };
    EndpointFacts {
        endpoint: endpoint.to_owned(),
        given: true,
        probe: Probe {
            speaks_tls: Some(false),
            ..Probe::default()
        },
        status: Some(status),
        read_seconds: Some(0.001),
        clock_ahead_seconds: Some(0.3),
        metrics: Some(Metrics::new(String::new())),
        ..EndpointFacts::default()
    }
}

fn member_of(id: u64) -> pb::Member {
    pb::Member {
        id,
        name: format!("m{id}"),
        client_ur_ls: vec![format!("http://10.0.0.{id}:2379")],
        peer_ur_ls: vec![format!("http://10.0.0.{id}:2380")],
        is_learner: false,
    }
}

fn cluster_of_three() -> Facts {
    let endpoints = (1..=3)
        .map(|id| healthy(&format!("http://10.0.0.{id}:2379"), id))
        .collect();
    Facts {
        endpoints,
        members: (1..=3).map(member_of).collect(),
        ..Facts::default()
    }
}

fn certificate(seconds_left: i64) -> Certificate {
    Certificate {
        subject: "CN=etcd".to_owned(),
        seconds_left,
        seconds_until_valid: -1,
        names: vec!["etcd.example".to_owned()],
    }
}

/// The second endpoint as it is with TLS, and its certificate.
fn with_certificate(facts: &mut Facts, certificate: Certificate) -> &mut EndpointFacts {
    let endpoint = &mut facts.endpoints[1];
    endpoint.endpoint = "https://10.0.0.2:2379".to_owned();
    endpoint.uses_tls = true;
    endpoint.probe.speaks_tls = Some(true);
    endpoint.certificate = Some(certificate);
    endpoint
}

fn status(facts: &mut Facts, index: usize) -> &mut pb::StatusResponse {
    facts.endpoints[index].status.as_mut().unwrap()
}

fn down(facts: &mut Facts, index: usize, why: &str) {
    let endpoint = &mut facts.endpoints[index];
    endpoint.status = None;
    endpoint.probe = Probe {
        unreachable: Some(why.to_owned()),
        ..Probe::default()
    };
}

#[test]
fn a_healthy_cluster_has_no_findings() {
    assert_eq!(diagnose(&cluster_of_three()), []);
}

/// Breaks a healthy cluster and expects exactly these findings.
fn seeded(codes: &[&str], fault: impl FnOnce(&mut Facts)) {
    let mut facts = cluster_of_three();
    fault(&mut facts);
    let findings = diagnose(&facts);
    let found: Vec<_> = findings.iter().map(|finding| finding.code).collect();
    assert_eq!(found, codes, "{findings:#?}");
    assert!(findings.iter().all(|finding| !finding.fix.is_empty()));
}

#[test]
fn faults_of_connections() {
    for (why, code) in [
        (
            "dial tcp 10.0.0.3:2379: connect: connection refused",
            "endpoint-refused",
        ),
        ("no answer to the connection attempt", "endpoint-timeout"),
        ("dial tcp: lookup m3: no such host", "endpoint-unknown-host"),
        (
            "dial tcp: connect: no route to host",
            "endpoint-unreachable",
        ),
    ] {
        seeded(&[code, "quorum-at-risk"], |facts| down(facts, 2, why));
    }
    seeded(&["member-down", "quorum-at-risk"], |facts| {
        down(facts, 2, "connection refused");
        facts.endpoints[2].given = false;
    });
    seeded(&["wrong-scheme", "quorum-at-risk"], |facts| {
        facts.endpoints[1].probe.speaks_tls = Some(true);
        facts.endpoints[1].status = None;
    });
    seeded(&["wrong-scheme", "quorum-at-risk"], |facts| {
        facts.endpoints[1].uses_tls = true;
        facts.endpoints[1].status = None;
    });
    seeded(&["not-etcd", "quorum-at-risk"], |facts| {
        facts.endpoints[1].probe.speaks_tls = None;
        facts.endpoints[1].status = None;
    });
    seeded(&["no-answer", "quorum-at-risk"], |facts| {
        facts.endpoints[1].status = None;
        facts.endpoints[1].error = Some("context deadline exceeded".to_owned());
    });
    seeded(&["credentials-needed", "quorum-at-risk"], |facts| {
        facts.endpoints[1].status = None;
        facts.endpoints[1].error = Some("etcdserver: user name is empty".to_owned());
    });
    seeded(&["credentials-needed"], |facts| {
        facts.endpoints[1].read_error = Some("etcdserver: user name is empty".to_owned());
    });
    seeded(&["credentials-rejected"], |facts| {
        facts.endpoints[1].login_error =
            Some("etcdserver: authentication failed, invalid user ID or password".to_owned());
        facts.endpoints[1].read_error = Some("etcdserver: user name is empty".to_owned());
    });
    // A user that may not read the key is let in.
    seeded(&[], |facts| {
        facts.endpoints[1].read_error = Some("etcdserver: permission denied".to_owned());
    });
}

#[test]
fn faults_of_certificates() {
    seeded(&["certificate-expired"], |facts| {
        with_certificate(facts, certificate(-3 * DAY_SECONDS));
    });
    seeded(&["certificate-not-yet-valid"], |facts| {
        let early = Certificate {
            seconds_until_valid: 60,
            ..certificate(400 * DAY_SECONDS)
        };
        with_certificate(facts, early);
    });
    seeded(&["certificate-expires-soon"], |facts| {
        with_certificate(facts, certificate(10 * DAY_SECONDS));
    });
    seeded(&["certificate-name"], |facts| {
        let endpoint = with_certificate(facts, certificate(400 * DAY_SECONDS));
        endpoint.probe.distrust =
            Some("invalid peer certificate: certificate not valid for name \"10.0.0.2\"".into());
    });
    seeded(&["certificate-untrusted"], |facts| {
        let endpoint = with_certificate(facts, certificate(400 * DAY_SECONDS));
        endpoint.probe.distrust = Some("invalid peer certificate: UnknownIssuer".to_owned());
    });
    let alerted = |facts: &mut Facts| {
        let endpoint = with_certificate(facts, certificate(400 * DAY_SECONDS));
        endpoint.status = None;
        endpoint.error = Some("context deadline exceeded".to_owned());
        endpoint.connection_error = Some("received fatal alert: CertificateRequired".to_owned());
    };
    seeded(&["client-certificate-missing", "quorum-at-risk"], alerted);
    seeded(
        &["client-certificate-rejected", "quorum-at-risk"],
        |facts| {
            alerted(facts);
            let own = certificate(400 * DAY_SECONDS);
            facts.client_certificate = Some(("client.crt".to_owned(), own));
        },
    );
    seeded(&["certificate-expired"], |facts| {
        facts.client_certificate = Some(("client.crt".to_owned(), certificate(-DAY_SECONDS)));
    });
}

#[test]
fn faults_of_members() {
    seeded(&["no-leader", "no-leader", "quorum-lost"], |facts| {
        down(facts, 2, "connection refused");
        facts.endpoints.pop();
        facts.members.extend([member_of(4), member_of(5)]);
        for index in 0..2 {
            status(facts, index).leader = 0;
        }
    });
    seeded(&["read-failed"], |facts| {
        facts.endpoints[0].read_error = Some("etcdserver: request timed out".to_owned());
    });
    seeded(&["apply-lag"], |facts| {
        status(facts, 0).raft_applied_index = 3000
    });
    seeded(&["member-behind"], |facts| {
        status(facts, 0).raft_index = 3000;
        status(facts, 0).raft_applied_index = 3000;
    });
    seeded(&["version-skew"], |facts| {
        status(facts, 2).version = "3.6.0".to_owned()
    });
    seeded(&["leader-disagreement"], |facts| {
        status(facts, 2).leader = 2
    });
    seeded(&["different-clusters"], |facts| {
        let header = status(facts, 2).header.as_mut().unwrap();
        header.cluster_id = 7;
    });
    seeded(&["downgrade-active"], |facts| {
        status(facts, 0).downgrade_info = Some(pb::DowngradeInfo {
            enabled: true,
            target_version: "3.6.0".to_owned(),
        });
    });
    seeded(
        &["quorum-at-risk", "member-unstarted", "even-members"],
        |facts| {
            facts.members.push(pb::Member {
                name: String::new(),
                ..member_of(4)
            });
        },
    );
    seeded(&["learner"], |facts| {
        facts.members.push(pb::Member {
            is_learner: true,
            ..member_of(4)
        });
    });
    seeded(&["advertised-elsewhere"], |facts| {
        facts.endpoints[1].advertised_by = Some(3);
    });
    seeded(&["advertised-unreachable"], |facts| {
        let other = facts.endpoints[0].clone();
        facts.endpoints.push(EndpointFacts {
            endpoint: "http://192.0.2.1:2379".to_owned(),
            given: false,
            advertised_by: Some(1),
            ..other
        });
        down(facts, 3, "no answer to the connection attempt");
    });
    seeded(&["same-member"], |facts| {
        let again = facts.endpoints[0].clone();
        facts.endpoints.push(again);
    });
    seeded(&["advertised-loopback"], |facts| {
        facts.members[1].client_ur_ls = vec!["http://localhost:2379".to_owned()];
    });
    seeded(&["single-member"], |facts| {
        facts.members.truncate(1);
        facts.endpoints.truncate(1);
    });
}

#[test]
fn faults_of_space_and_alarms() {
    seeded(&["quota-high"], |facts| {
        status(facts, 0).db_size = 1_800_000_000;
        status(facts, 0).db_size_in_use = 1_700_000_000;
    });
    seeded(&["quota-forecast"], |facts| {
        status(facts, 0).db_size = 1_000_000_000;
        status(facts, 0).db_size_in_use = 1_000_000_000;
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let start = now.as_secs() - 2 * DAY_SECONDS as u64;
        let metrics = format!("process_start_time_seconds {start}\n");
        facts.endpoints[0].metrics = Some(Metrics::new(metrics));
    });
    seeded(&["fragmented"], |facts| {
        status(facts, 0).db_size = 1_000_000_000
    });
    for (alarm, code) in [
        (pb::AlarmType::Nospace, "alarm-nospace"),
        (pb::AlarmType::Corrupt, "alarm-corrupt"),
    ] {
        seeded(&[code], |facts| {
            facts.alarms.push(pb::AlarmMember {
                member_id: 2,
                alarm: alarm as i32,
            });
        });
    }
}

#[test]
fn faults_of_time() {
    seeded(&["clock-skew"], |facts| {
        facts.endpoints[0].clock_ahead_seconds = Some(-30.0)
    });
    seeded(&["slow-read"], |facts| {
        facts.endpoints[0].read_seconds = Some(0.5)
    });
    for (metric, code) in [
        ("etcd_disk_wal_fsync_duration_seconds", "slow-fsync"),
        ("etcd_disk_backend_commit_duration_seconds", "slow-commit"),
        ("etcd_network_peer_round_trip_time_seconds", "slow-peers"),
    ] {
        seeded(&[code], |facts| {
            let text = format!(
                "{metric}_bucket{{le=\"0.008\"}} 10\n{metric}_bucket{{le=\"0.128\"}} 100\n\
                 {metric}_bucket{{le=\"+Inf\"}} 100\n"
            );
            facts.endpoints[0].metrics = Some(Metrics::new(text));
        });
    }
}
