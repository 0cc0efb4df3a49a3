//! `etcdctl doctor`: a fault is made, and the finding must name it, say how urgent it is and what to do, in JSON and in
//! text, with the exit code that goes with it; and nothing else may be found.
//!
//! What a real member can be brought to is asked of one; for the rest there are stubs (`stub.rs`). How fast this machine
//! is shows in latencies, so those findings count only where they are made.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use etcd::pb::etcdserverpb as pb;
use futures_util::{StreamExt, TryStreamExt, stream};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tokio_rustls::TlsAcceptor;

use crate::member::{Member, free_port};
use crate::stub::Stub;
use crate::{Options, ensure, words};

/// Findings that a slow machine has, too.
const OF_THE_MACHINE: [&str; 4] = ["slow-read", "slow-fsync", "slow-commit", "slow-peers"];
/// What there is to say about a member that is alone.
const ALONE: &str = "single-member";
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Waits for servers that are silent.
const PATIENCE: &str = "--command-timeout=2s";
/// Faults of a kind that are looked at together.
const AT_ONCE: usize = 4;
/// Fewer faults would mean that the list below is not what it was.
const FAULTS_MIN: usize = 35;

/// What is expected: the finding, its severity, part of its fix, and the other findings there.
struct Expected {
    code: &'static str,
    severity: &'static str,
    fix: &'static str,
    others: &'static [&'static str],
}

const fn expect(code: &'static str, severity: &'static str, fix: &'static str) -> Expected {
    Expected {
        code,
        severity,
        fix,
        others: &[],
    }
}

impl Expected {
    const fn and(self, others: &'static [&'static str]) -> Self {
        Self { others, ..self }
    }
}

/// Makes every fault and looks at what is found.
pub fn prove(options: &Options) -> Result<String, String> {
    let runtime = tokio::runtime::Runtime::new().map_err(words)?;
    let trial = Trial {
        etcdctl: &options.etcdctl,
        directory: tempfile::tempdir().map_err(words)?,
        server: &options.server,
        authority: Authority::new("trusted")?,
    };
    runtime.block_on(async {
        let (clusters, certificates, members, access) = tokio::join!(
            trial.clusters(),
            trial.certificates(),
            trial.members(),
            trial.access()
        );
        let found: Vec<&str> = [clusters?, certificates?, members?, access?].concat();
        ensure(found.len() >= FAULTS_MIN, || {
            format!("only {} faults were made", found.len())
        })?;
        let mut codes = found.clone();
        codes.sort_unstable();
        codes.dedup();
        Ok(format!(
            "{} faults, {} findings, each with its fix; no false alarm",
            found.len(),
            codes.len()
        ))
    })
}

struct Trial<'a> {
    etcdctl: &'a Path,
    server: &'a Path,
    directory: tempfile::TempDir,
    authority: Authority,
}

impl Trial<'_> {
    /// Runs the program in one format.
    async fn run(&self, arguments: &[String], format: &str) -> Result<(i32, String), String> {
        let output = tokio::process::Command::new(self.etcdctl)
            .args(arguments)
            .args([PATIENCE, "-w", format, "doctor"])
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(words)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr);
        ensure(said.is_empty(), || format!("doctor complains: {said}"))?;
        Ok((output.status.code().unwrap_or(-1), text))
    }

    /// Looks, and expects this and nothing else; nothing at all without an expectation.
    async fn look(
        &self,
        arguments: &[String],
        expected: Option<&Expected>,
        always: &[&str],
    ) -> Result<(), String> {
        let (code, json) = self.run(arguments, "json").await?;
        let (text_code, text) = self.run(arguments, "simple").await?;
        let wrong = |what: String| {
            let looked_for = expected.map_or("nothing", |expected| expected.code);
            format!("looking for {looked_for}: {what}\n{json}{text}")
        };
        let report: Value = serde_json::from_str(&json).map_err(|error| wrong(words(error)))?;
        let findings = report["findings"].as_array().cloned().unwrap_or_default();
        let of =
            |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        let urgent = findings
            .iter()
            .any(|finding| of(finding, "severity") != "notice");
        ensure(code == i32::from(urgent), || {
            wrong(format!("exit code {code}"))
        })?;
        ensure(report["healthy"] == !urgent, || {
            wrong("healthy or not".to_owned())
        })?;
        let urgent = text
            .lines()
            .any(|line| line.starts_with("critical ") || line.starts_with("warning "));
        ensure(text_code == i32::from(urgent), || {
            wrong(format!("exit code {text_code} of the text"))
        })?;
        for finding in &findings {
            let code = of(finding, "code");
            let known =
                expected.is_some_and(|e| e.code == code || e.others.contains(&code.as_str()));
            let beside = OF_THE_MACHINE.contains(&code.as_str()) || always.contains(&code.as_str());
            ensure(known || beside, || {
                wrong(format!("{code} is a false alarm"))
            })?;
        }
        let Some(expected) = expected else {
            return Ok(());
        };
        for code in [expected.code].iter().chain(expected.others) {
            let named = findings.iter().find(|finding| of(finding, "code") == *code);
            let finding = named.ok_or_else(|| wrong(format!("{code} is missing")))?;
            let [severity, subject, fix] =
                ["severity", "subject", "fix"].map(|name| of(finding, name));
            if *code == expected.code {
                ensure(severity == expected.severity, || {
                    wrong(format!("{code} is {severity}"))
                })?;
                ensure(fix.contains(expected.fix), || {
                    wrong(format!("the fix of {code} is {fix}"))
                })?;
            }
            let head = format!("{severity} {subject}: ");
            let tail = format!("    fix: {fix} [{code}]");
            let lines: Vec<&str> = text.lines().collect();
            let shown = lines
                .windows(2)
                .any(|pair| pair[0].starts_with(&head) && pair[1] == tail);
            ensure(shown, || wrong(format!("{code} is not in the text")))?;
        }
        Ok(())
    }

    /// Looks for each with its arguments, beside what a member that is alone has.
    async fn look_for(
        &self,
        faults: impl IntoIterator<Item = (Expected, Vec<String>)>,
    ) -> Result<Vec<&'static str>, String> {
        let looks = faults.into_iter().map(async |(expected, arguments)| {
            self.look(&arguments, Some(&expected), &[ALONE]).await?;
            Ok::<_, String>(expected.code)
        });
        stream::iter(looks).buffered(AT_ONCE).try_collect().await
    }

    /// Faults of three stubs that are a cluster.
    async fn clusters(&self) -> Result<Vec<&'static str>, String> {
        let healthy = Cluster::start().await?;
        self.look(&healthy.arguments(), None, &[]).await?;
        let faults = FAULTS.iter().map(async |(expected, fault)| {
            let mut cluster = Cluster::start().await?;
            fault(&mut cluster);
            self.look(&cluster.arguments(), Some(expected), &[]).await?;
            Ok::<_, String>(expected.code)
        });
        stream::iter(faults).buffered(AT_ONCE).try_collect().await
    }

    /// Faults of one TLS server's certificate.
    async fn certificates(&self) -> Result<Vec<&'static str>, String> {
        let ca = self.write("ca.crt", &self.authority.pem)?;
        let good = || self.authority.server("127.0.0.1", 0, 400);
        let stranger = Authority::new("stranger")?;
        let faults = [
            (None, good()?),
            (
                Some(expect(
                    "certificate-expired",
                    "critical",
                    "renew the server's certificate",
                )),
                self.authority.server("127.0.0.1", -20, -3)?,
            ),
            (
                Some(expect(
                    "certificate-not-yet-valid",
                    "critical",
                    "correct the clock",
                )),
                self.authority.server("127.0.0.1", 3, 400)?,
            ),
            (
                Some(
                    expect(
                        "certificate-expires-soon",
                        "warning",
                        "renew the server's certificate",
                    )
                    .and(&[ALONE]),
                ),
                self.authority.server("127.0.0.1", -20, 10)?,
            ),
            (
                Some(expect(
                    "certificate-name",
                    "critical",
                    "add 127.0.0.1 to its subject alternative names",
                )),
                self.authority.server("etcd.example", 0, 400)?,
            ),
            (
                Some(expect("certificate-untrusted", "critical", "--cacert")),
                stranger.server("127.0.0.1", 0, 400)?,
            ),
        ];
        let faults = faults.into_iter().map(async |(expected, certificate)| {
            let stub = Stub::start(Some(certificate.acceptor()?)).await?;
            let url = format!("https://{}", stub.address);
            *stub.answers() = answers(1, 1);
            stub.answers().members = vec![member_at(1, &url)];
            let arguments = ["--endpoints", &url, "--cacert", &ca].map(str::to_owned);
            self.look(&arguments, expected.as_ref(), &[ALONE]).await?;
            Ok::<_, String>(expected.map(|expected| expected.code))
        });
        let made: Vec<_> = stream::iter(faults).buffered(AT_ONCE).try_collect().await?;
        Ok(made.into_iter().flatten().collect())
    }

    /// Faults of real members, without TLS.
    async fn members(&self) -> Result<Vec<&'static str>, String> {
        let member = self.member(&[]);
        let at = |endpoints: &str| vec!["--endpoints".to_owned(), endpoints.to_owned()];
        let here = at(&member.endpoint);
        self.look(&here, None, &[ALONE]).await?;
        let refused = format!("127.0.0.1:{}", free_port());
        let backlog = Backlog::full()?;
        let deaf = Deaf::start().await?;
        let other = self.member(&["--initial-cluster-token=other"]);
        let endpoints = [
            (
                expect("endpoint-refused", "critical", "start etcd"),
                format!("{},{refused}", member.endpoint),
            ),
            (
                expect("endpoint-timeout", "critical", "firewalls"),
                format!("{},{}", member.endpoint, backlog.address),
            ),
            (
                expect("not-etcd", "critical", "correct the port").and(&["no-answer"]),
                format!("{},{}", member.endpoint, deaf.address),
            ),
            (
                expect("wrong-scheme", "critical", "write http://"),
                format!("https://{}", member.endpoint),
            ),
            (
                expect("different-clusters", "critical", "one cluster only"),
                format!("{},{}", member.endpoint, other.endpoint),
            ),
            (
                expect("same-member", "notice", "each member once"),
                format!("{0},http://{0}", member.endpoint),
            ),
        ];
        let faults = endpoints.map(|(expected, endpoints)| (expected, at(&endpoints)));
        let mut made = self.look_for(faults).await?;
        for (alarm, expected) in [
            (
                pb::AlarmType::Nospace,
                expect("alarm-nospace", "critical", "etcdctl alarm disarm"),
            ),
            (
                pb::AlarmType::Corrupt,
                expect("alarm-corrupt", "critical", "delete its data directory"),
            ),
        ] {
            set_alarm(
                &member.endpoint,
                pb::alarm_request::AlarmAction::Activate,
                alarm,
            )
            .await?;
            self.look(&here, Some(&expected), &[ALONE]).await?;
            set_alarm(
                &member.endpoint,
                pb::alarm_request::AlarmAction::Deactivate,
                alarm,
            )
            .await?;
            made.push(expected.code);
        }
        Ok(made)
    }

    /// Faults of access: users, and client certificates.
    async fn access(&self) -> Result<Vec<&'static str>, String> {
        let guarded = Stub::start(None).await?;
        *guarded.answers() = answers(1, 1);
        guarded.answers().password = Some("secret");
        guarded.answers().members = vec![member_at(1, &format!("http://{}", guarded.address))];
        let at = |more: &[&str]| {
            let words = ["--endpoints", guarded.address.as_str()];
            let words = words.iter().chain(more).map(|word| (*word).to_owned());
            words.collect::<Vec<_>>()
        };
        self.look(&at(&["--user=root:secret"]), None, &[ALONE])
            .await?;
        // That a user may not read everything is no fault.
        self.look(&at(&["--user=guest:secret"]), None, &[ALONE])
            .await?;
        let rejected = expect(
            "credentials-rejected",
            "critical",
            "check --user and its password",
        );
        let needed = expect("credentials-needed", "critical", "pass --user");
        let mut faults = vec![(rejected, at(&["--user=root:wrong"])), (needed, at(&[]))];

        let ca = self.write("access-ca.crt", &self.authority.pem)?;
        let identity = |name: &str, made: Certificate| {
            let cert = self.write(&format!("{name}.crt"), &made.pem)?;
            Ok::<_, String>((cert, self.write(&format!("{name}.key"), &made.key)?))
        };
        let (cert, key) = identity("server", self.authority.server("127.0.0.1", 0, 400)?)?;
        let url = format!("https://127.0.0.1:{}", free_port());
        let secured = self.member(&[
            &format!("--listen-client-urls={url}"),
            &format!("--advertise-client-urls={url}"),
            &format!("--cert-file={cert}"),
            &format!("--key-file={key}"),
            &format!("--trusted-ca-file={ca}"),
            "--client-cert-auth",
        ]);
        let with = |identity: Option<&(String, String)>| {
            let mut words = vec![
                "--endpoints".to_owned(),
                url.clone(),
                "--cacert".to_owned(),
                ca.clone(),
            ];
            if let Some((cert, key)) = identity {
                words.extend([
                    "--cert".to_owned(),
                    cert.clone(),
                    "--key".to_owned(),
                    key.clone(),
                ]);
            }
            words
        };
        let good = identity("client", self.authority.server("client", 0, 400)?)?;
        self.look(&with(Some(&good)), None, &[ALONE]).await?;
        let stranger = Authority::new("stranger")?;
        let bad = identity("stranger", stranger.server("client", 0, 400)?)?;
        let old = identity("old", self.authority.server("client", -20, -3)?)?;
        let plain = vec!["--endpoints".to_owned(), url.replace("https", "http")];
        faults.extend([
            (
                expect(
                    "client-certificate-missing",
                    "critical",
                    "pass --cert and --key",
                ),
                with(None),
            ),
            (
                expect(
                    "client-certificate-rejected",
                    "critical",
                    "--trusted-ca-file",
                ),
                with(Some(&bad)),
            ),
            (
                expect(
                    "certificate-expired",
                    "critical",
                    "get a new client certificate",
                )
                .and(&["client-certificate-rejected"]),
                with(Some(&old)),
            ),
            (expect("wrong-scheme", "critical", "write https://"), plain),
        ]);
        let made = self.look_for(faults).await;
        drop(secured);
        made
    }

    fn member(&self, flags: &[&str]) -> Member {
        tokio::task::block_in_place(|| Member::start_binary(self.server, flags))
    }

    fn write(&self, name: &str, text: &str) -> Result<String, String> {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).map_err(words)?;
        Ok(path.display().to_string())
    }
}

/// What three stubs are brought to.
const FAULTS: &[(&Expected, fn(&mut Cluster))] = &[
    (&expect("clock-skew", "warning", "timedatectl"), |cluster| {
        cluster.at(0, |answers| answers.clock_ahead_seconds = -30);
    }),
    (&expect("slow-fsync", "warning", "fast disk"), |cluster| {
        cluster.slow("etcd_disk_wal_fsync_duration_seconds");
    }),
    (&expect("slow-commit", "warning", "fast disk"), |cluster| {
        cluster.slow("etcd_disk_backend_commit_duration_seconds");
    }),
    (
        &expect("slow-peers", "warning", "--heartbeat-interval"),
        |cluster| {
            cluster.slow("etcd_network_peer_round_trip_time_seconds");
        },
    ),
    (&expect("slow-read", "warning", "the network"), |cluster| {
        cluster.at(0, |answers| answers.read_time = Duration::from_millis(300));
    }),
    (
        &expect("quota-high", "warning", "etcdctl compaction"),
        |cluster| {
            cluster.at(0, |answers| {
                answers.status.db_size = 1_800_000_000;
                answers.status.db_size_in_use = 1_700_000_000;
            });
        },
    ),
    (
        &expect("quota-forecast", "warning", "--auto-compaction-retention"),
        |cluster| {
            cluster.at(0, |answers| {
                answers.status.db_size = 1_000_000_000;
                answers.status.db_size_in_use = 1_000_000_000;
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                let started = now.unwrap_or_default() - 2 * DAY;
                answers.metrics = format!("process_start_time_seconds {}\n", started.as_secs());
            });
        },
    ),
    (
        &expect("fragmented", "notice", "etcdctl defrag"),
        |cluster| {
            cluster.at(0, |answers| answers.status.db_size = 1_000_000_000);
        },
    ),
    (&expect("no-leader", "critical", "majority"), |cluster| {
        (0..3).for_each(|index| cluster.at(index, |answers| answers.status.leader = 0));
    }),
    (
        &expect("leader-disagreement", "warning", "the network between"),
        |cluster| {
            cluster.at(2, |answers| answers.status.leader = 2);
        },
    ),
    (
        &expect("read-failed", "critical", "a majority"),
        |cluster| {
            cluster.at(0, |answers| {
                answers.read_error = Some((14, "etcdserver: request timed out"))
            });
        },
    ),
    (
        &expect("version-skew", "warning", "finish the upgrade"),
        |cluster| {
            cluster.at(2, |answers| answers.status.version = "3.6.0".to_owned());
        },
    ),
    (
        &expect("downgrade-active", "notice", "downgrade cancel"),
        |cluster| {
            cluster.at(0, |answers| {
                answers.status.downgrade_info = Some(pb::DowngradeInfo {
                    enabled: true,
                    target_version: "3.6.0".to_owned(),
                });
            });
        },
    ),
    (&expect("apply-lag", "warning", "overloaded"), |cluster| {
        cluster.at(0, |answers| answers.status.raft_applied_index = 3000);
    }),
    (
        &expect("member-behind", "warning", "its disk and its network"),
        |cluster| {
            cluster.at(0, |answers| {
                answers.status.raft_index = 3000;
                answers.status.raft_applied_index = 3000;
            });
        },
    ),
    (&expect("learner", "notice", "member promote"), |cluster| {
        cluster.members(|members| {
            members.push(pb::Member {
                is_learner: true,
                client_ur_ls: Vec::new(),
                ..member_at(4, "")
            });
        });
    }),
    (
        &expect("member-unstarted", "warning", "member remove")
            .and(&["quorum-at-risk", "even-members"]),
        |cluster| {
            cluster.members(|members| {
                members.push(pb::Member {
                    name: String::new(),
                    client_ur_ls: Vec::new(),
                    ..member_at(4, "")
                });
            });
        },
    ),
    (
        &expect("member-down", "critical", "start etcd").and(&["quorum-at-risk"]),
        |cluster| {
            cluster.lose(2);
        },
    ),
    (
        &expect("quorum-lost", "critical", "restore a snapshot").and(&["member-down"]),
        |cluster| {
            cluster.lose(2);
            cluster.lose(1);
        },
    ),
    (
        &expect("no-answer", "critical", "journalctl -u etcd").and(&["quorum-at-risk"]),
        |cluster| {
            cluster.at(2, |answers| answers.silent = true);
        },
    ),
    (
        &expect("advertised-elsewhere", "warning", "--advertise-client-urls"),
        |cluster| {
            cluster.members(|members| {
                let first = members[0].client_ur_ls.clone();
                members[0].client_ur_ls = members[1].client_ur_ls.clone();
                members[1].client_ur_ls = first;
            });
        },
    ),
    (
        &expect(
            "advertised-unreachable",
            "warning",
            "--advertise-client-urls",
        ),
        |cluster| {
            let nobody = format!("http://127.0.0.1:{}", free_port());
            cluster.members(|members| members[0].client_ur_ls = vec![nobody.clone()]);
        },
    ),
    (
        &expect("advertised-loopback", "warning", "--advertise-client-urls")
            .and(&["advertised-unreachable"]),
        |cluster| {
            // An address of this machine that is not its loopback, and where nothing listens.
            let elsewhere = format!("http://0.0.0.0:{}", free_port());
            cluster.members(|members| members[2].client_ur_ls = vec![elsewhere.clone()]);
        },
    ),
];

/// Three stubs.
struct Cluster {
    stubs: Vec<Stub>,
    /// Those that are given as endpoints.
    given: Vec<String>,
}

impl Cluster {
    async fn start() -> Result<Self, String> {
        let mut stubs = Vec::new();
        for _ in 0..3 {
            stubs.push(Stub::start(None).await?);
        }
        let urls: Vec<String> = stubs
            .iter()
            .map(|stub| format!("http://{}", stub.address))
            .collect();
        for (id, stub) in (1..).zip(&stubs) {
            *stub.answers() = answers(id, 1);
            stub.answers().members = (1..)
                .zip(&urls)
                .map(|(id, url)| member_at(id, url))
                .collect();
        }
        Ok(Self { stubs, given: urls })
    }

    fn arguments(&self) -> Vec<String> {
        vec!["--endpoints".to_owned(), self.given.join(",")]
    }

    fn at(&mut self, index: usize, change: impl FnOnce(&mut crate::stub::Answers)) {
        change(&mut self.stubs[index].answers());
    }

    /// Changes the member list that all tell.
    fn members(&mut self, change: impl Fn(&mut Vec<pb::Member>)) {
        self.stubs
            .iter()
            .for_each(|stub| change(&mut stub.answers().members));
    }

    /// Ends a member that nobody names as an endpoint; another port is nobody's.
    fn lose(&mut self, index: usize) {
        self.given.remove(index);
        let nobody = format!("http://127.0.0.1:{}", free_port());
        self.members(|members| members[index].client_ur_ls = vec![nobody.clone()]);
    }

    fn slow(&mut self, metric: &str) {
        let text = format!(
            "{metric}_bucket{{le=\"0.008\"}} 10\n{metric}_bucket{{le=\"0.128\"}} 100\n{metric}_bucket{{le=\"+Inf\"}} 100\n"
        );
        self.at(0, |answers| answers.metrics = text);
    }
}

/// What a member says that is well.
fn answers(member_id: u64, cluster_id: u64) -> crate::stub::Answers {
    let header = pb::ResponseHeader {
        cluster_id,
        member_id,
        ..Default::default()
    };
    crate::stub::Answers {
        status: pb::StatusResponse {
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
        },
        ..Default::default()
    }
}

fn member_at(id: u64, url: &str) -> pb::Member {
    pb::Member {
        id,
        name: format!("m{id}"),
        client_ur_ls: vec![url.to_owned()],
        peer_ur_ls: vec![format!("http://10.0.0.{id}:2380")],
        is_learner: false,
    }
}

async fn set_alarm(
    endpoint: &str,
    action: pb::alarm_request::AlarmAction,
    alarm: pb::AlarmType,
) -> Result<(), String> {
    let connected =
        pb::maintenance_client::MaintenanceClient::connect(format!("http://{endpoint}"));
    let mut client = connected.await.map_err(words)?;
    let status = client
        .status(pb::StatusRequest {})
        .await
        .map_err(words)?
        .into_inner();
    let request = pb::AlarmRequest {
        action: action.into(),
        member_id: status.header.unwrap_or_default().member_id,
        alarm: alarm.into(),
    };
    client.alarm(request).await.map(drop).map_err(words)
}

/// A listener whose queue is full: the system drops every further attempt to connect, as a firewall does.
struct Backlog {
    address: String,
    _listener: std::os::fd::OwnedFd,
    _queued: Vec<std::net::TcpStream>,
}

impl Backlog {
    fn full() -> Result<Self, String> {
        use nix::sys::socket::{
            AddressFamily, Backlog as Length, SockFlag, SockType, SockaddrIn, bind, getsockname,
            listen, socket,
        };
        use std::os::fd::AsRawFd;
        let listener = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        );
        let listener = listener.map_err(words)?;
        bind(listener.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).map_err(words)?;
        listen(&listener, Length::new(0).map_err(words)?).map_err(words)?;
        let name: SockaddrIn = getsockname(listener.as_raw_fd()).map_err(words)?;
        let address = std::net::SocketAddr::from(std::net::SocketAddrV4::from(name));
        let mut queued = Vec::new();
        // A queue of length 0 takes one.
        while let Ok(stream) =
            std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200))
        {
            queued.push(stream);
            ensure(queued.len() < 16, || "the queue does not fill".to_owned())?;
        }
        Ok(Self {
            address: address.to_string(),
            _listener: listener,
            _queued: queued,
        })
    }
}

/// Something that speaks neither TLS nor HTTP.
struct Deaf {
    address: String,
    serving: tokio::task::JoinHandle<()>,
}

impl Deaf {
    async fn start() -> Result<Self, String> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .map_err(words)?;
        let address = listener.local_addr().map_err(words)?.to_string();
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    use tokio::io::AsyncWriteExt;
                    let _ = stream.write_all(b"SSH-2.0-example\r\n").await;
                });
            }
        });
        Ok(Self { address, serving })
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Who signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, as PEM.
struct Certificate {
    pem: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Result<Self, String> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().map_err(words)?;
        let pem = params.self_signed(&key).map_err(words)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
        })
    }

    /// A certificate for a name, for servers and clients, valid between these days from now.
    fn server(&self, name: &str, from: i64, until: i64) -> Result<Certificate, String> {
        let day = |days: i64| match days {
            0.. => SystemTime::now() + DAY * days.unsigned_abs() as u32,
            _ => SystemTime::now() - DAY * days.unsigned_abs() as u32,
        };
        let mut params = CertificateParams::new([name.to_owned()]).map_err(words)?;
        params.not_before = day(from).into();
        params.not_after = day(until).into();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().map_err(words)?;
        let pem = params.signed_by(&key, &self.issuer).map_err(words)?.pem();
        Ok(Certificate {
            pem,
            key: key.serialize_pem(),
        })
    }
}

impl Certificate {
    fn acceptor(&self) -> Result<TlsAcceptor, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = rustls_pemfile::certs(&mut self.pem.as_bytes()).collect::<Result<_, _>>();
        let key = rustls_pemfile::private_key(&mut self.key.as_bytes()).map_err(words)?;
        let key = key.ok_or("no key")?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(words)?
            .with_no_client_auth()
            .with_single_cert(chain.map_err(words)?, key)
            .map_err(words)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
