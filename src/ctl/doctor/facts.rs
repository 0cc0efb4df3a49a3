//! Asking the cluster. Whatever cannot be found out is left out; the rules see that it is missing.

use super::certificate::Certificate;
use crate::client::{Client, Credentials, Deadline, Endpoint, Error, Probe, Tls, http_get, probe};
use crate::ctl::exit::Failure;
use crate::ctl::global::Spec;
use crate::ctl::prometheus::Metrics;
use crate::pb::etcdserverpb as pb;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;

/// Time for the questions to one endpoint.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything that was found out.
#[derive(Default)]
pub(super) struct Facts {
    /// The endpoints given, then those of members nobody named.
    pub endpoints: Vec<EndpointFacts>,
    /// The members, if anybody told.
    pub members: Vec<pb::Member>,
    /// The alarms that are up.
    pub alarms: Vec<pb::AlarmMember>,
    /// The client certificate in use, and its file.
    pub client_certificate: Option<(String, Certificate)>,
}

/// What was found out about one endpoint.
#[derive(Clone, Default)]
pub(super) struct EndpointFacts {
    /// As it was given, or as its member advertises it.
    pub endpoint: String,
    /// Whether the user named it.
    pub given: bool,
    /// The member whose client URL it is.
    pub advertised_by: Option<u64>,
    /// Whether this side speaks TLS to it.
    pub uses_tls: bool,
    /// The look from outside.
    pub probe: Probe,
    /// Its certificate.
    pub certificate: Option<Certificate>,
    /// What it says of itself.
    pub status: Option<pb::StatusResponse>,
    /// Why it does not say.
    pub error: Option<String>,
    /// Why it does not let the user in.
    pub login_error: Option<String>,
    /// Why no connection came up.
    pub connection_error: Option<String>,
    /// What a linearizable read took.
    pub read_seconds: Option<f64>,
    /// Why it could not be made.
    pub read_error: Option<String>,
    /// How far its clock is ahead of ours.
    pub clock_ahead_seconds: Option<f64>,
    /// Its metrics.
    pub metrics: Option<Metrics>,
}

impl EndpointFacts {
    /// The member that answers there.
    pub(super) fn member_id(&self) -> Option<u64> {
        Some(self.status.as_ref()?.header?.member_id)
    }
}

/// Asks the endpoints of a client, and those of all members they name.
pub(super) async fn gather(spec: &Spec, timeout: Duration) -> Result<Facts, Failure> {
    let timeout = timeout.min(ENDPOINT_TIMEOUT);
    let tls = spec.config()?.tls;
    let given = spec
        .endpoints
        .iter()
        .map(|endpoint| (endpoint.clone(), true))
        .collect();
    let mut facts = Facts {
        endpoints: ask_all(spec, given, timeout).await,
        ..Facts::default()
    };
    if !spec.tls.cert.is_empty() {
        let file = spec.tls.cert.clone();
        facts.client_certificate = Certificate::read(&file).map(|certificate| (file, certificate));
    }
    let answering = facts
        .endpoints
        .iter()
        .find(|endpoint| endpoint.status.is_some());
    if let Some(answering) = answering
        && let Some((client, _)) = quiet_client(&spec.at(&answering.endpoint), tls, timeout).await
    {
        let deadline = || Some(tokio::time::Instant::now() + timeout);
        let request = pb::MemberListRequest {
            linearizable: false,
        };
        if let Ok(answer) = client.member_list(request, deadline()).await {
            facts.members = answer.members;
        }
        if let Ok(answer) = client.alarm(pb::AlarmRequest::default(), deadline()).await {
            facts.alarms = answer.alarms;
        }
    }
    let unnamed = unnamed(&facts);
    facts
        .endpoints
        .extend(ask_all(spec, unnamed, timeout).await);
    let advertised: Vec<(u64, String)> = facts
        .members
        .iter()
        .flat_map(|member| member.client_ur_ls.iter().map(|url| (member.id, url)))
        .map(|(id, url)| (id, authority(url)))
        .collect();
    for endpoint in &mut facts.endpoints {
        let authority = authority(&endpoint.endpoint);
        let found = advertised.iter().find(|(_, url)| *url == authority);
        endpoint.advertised_by = found.map(|(id, _)| *id);
    }
    Ok(facts)
}

fn authority(text: &str) -> String {
    Endpoint::parse(text).authority
}

/// The first client URL of every member none of whose URLs was given: other clients will go there.
fn unnamed(facts: &Facts) -> Vec<(String, bool)> {
    let given: Vec<_> = facts
        .endpoints
        .iter()
        .map(|e| authority(&e.endpoint))
        .collect();
    let members = facts.members.iter().filter(|member| {
        !member
            .client_ur_ls
            .iter()
            .any(|url| given.contains(&authority(url)))
    });
    members
        .filter_map(|m| m.client_ur_ls.first())
        .map(|url| (url.clone(), false))
        .collect()
}

async fn ask_all(
    spec: &Spec,
    endpoints: Vec<(String, bool)>,
    timeout: Duration,
) -> Vec<EndpointFacts> {
    let mut asking = JoinSet::new();
    for (index, (endpoint, given)) in endpoints.into_iter().enumerate() {
        let spec = spec.at(&endpoint);
        asking.spawn(async move { (index, ask(spec, endpoint, given, timeout).await) });
    }
    let mut answers = asking.join_all().await;
    answers.sort_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, facts)| facts).collect()
}

async fn ask(spec: Spec, text: String, given: bool, timeout: Duration) -> EndpointFacts {
    let endpoint = Endpoint::parse(&text);
    let tls = tls_for(&spec, &endpoint);
    let probe = probe(&endpoint, tls.as_deref()).await;
    let mut facts = EndpointFacts {
        endpoint: text,
        given,
        uses_tls: tls.is_some(),
        certificate: probe.certificate.as_deref().and_then(Certificate::parse),
        probe,
        ..EndpointFacts::default()
    };
    if facts.probe.unreachable.is_some() || facts.probe.speaks_tls == Some(!facts.uses_tls) {
        return facts;
    }
    if let Some((client, login_error)) = quiet_client(&spec, tls.clone(), timeout).await {
        facts.login_error = login_error;
        ask_client(
            &client,
            &mut facts,
            Some(tokio::time::Instant::now() + timeout),
        )
        .await;
    }
    let fetch = ask_http(&endpoint, tls.as_deref(), &mut facts);
    // Servers that keep metrics on another address do not answer here.
    let _ = tokio::time::timeout(timeout, fetch).await;
    facts
}

fn tls_for(spec: &Spec, endpoint: &Endpoint) -> Option<Arc<Tls>> {
    use crate::client::{Security, TlsOptions};
    let configured = spec.tls.load().ok().flatten();
    match endpoint.security {
        Security::Plain => None,
        Security::Tls => configured.or_else(|| TlsOptions::system().ok()),
        Security::Optional => configured,
    }
}

/// A client that does not log, as its failures are facts; and why the server did not let the user in.
async fn quiet_client(
    spec: &Spec,
    tls: Option<Arc<Tls>>,
    timeout: Duration,
) -> Option<(Client, Option<String>)> {
    let mut config = spec.config().ok()?;
    config.logger = crate::client::log::Logger::silent();
    config.tls = tls;
    config.dial_timeout = timeout;
    match Client::connect(config.clone()).await {
        Ok(client) => Some((client, None)),
        Err(error) => {
            let refused = matches!(error, Error::Etcd { .. }).then(|| error.to_string());
            config.credentials = Credentials::None;
            Some((Client::connect(config).await.ok()?, refused))
        }
    }
}

async fn ask_client(client: &Client, facts: &mut EndpointFacts, deadline: Deadline) {
    match client.status(pb::StatusRequest {}, deadline).await {
        Ok(status) => facts.status = Some(status),
        Err(error) => {
            facts.error = Some(error.to_string());
            facts.connection_error = client.last_connection_error();
            return;
        }
    }
    let start = Instant::now();
    let request = pb::RangeRequest {
        key: "health".into(),
        ..Default::default()
    };
    match client.range(request, deadline).await {
        Ok(_) => facts.read_seconds = Some(start.elapsed().as_secs_f64()),
        Err(error) => facts.read_error = Some(error.to_string()),
    }
}

async fn ask_http(endpoint: &Endpoint, tls: Option<&Tls>, facts: &mut EndpointFacts) {
    let before = seconds_now();
    let Ok(answer) = http_get(endpoint, "/metrics", tls).await else {
        return;
    };
    let after = seconds_now();
    let date = answer.header("date").and_then(|date| {
        jiff::fmt::rfc2822::DateTimeParser::new()
            .parse_timestamp(date)
            .ok()
    });
    // A date tells whole seconds: on average half of one has passed.
    facts.clock_ahead_seconds =
        date.map(|date| date.as_second() as f64 + 0.5 - (before + after) / 2.0);
    facts.metrics = Some(Metrics::new(answer.body));
}

fn seconds_now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}
