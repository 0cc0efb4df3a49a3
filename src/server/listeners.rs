//! Sockets of a member: bound first, served as far as the member is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::config::{COMPATIBLE_VERSION, Config, Scheme, Tls, Url};
use crate::http::client::{Endpoints, Traffic, serve_clients, serve_metrics};
use crate::http::peer::{PeerEndpoints, serve_peers};
use crate::http::{self, Access, Address, Bound, Http2Settings, SocketOptions};
use crate::node::NodeHandle;
use crate::{rpc, systemd, tls};

/// Name of client sockets the service manager hands over.
const CLIENT_SOCKET_NAME: &str = "client";

/// A socket and how it is to be served.
struct Port {
    bound: Bound,
    plain: bool,
    secure: bool,
    traffic: Traffic,
}

/// Everything that is listened on, not served yet.
pub(super) struct Listeners {
    client: Vec<Port>,
    peer: Vec<(Bound, bool)>,
    metrics: Vec<(Bound, bool)>,
    client_tls: Option<Arc<tls::Server>>,
    peer_tls: Option<Arc<tls::Server>>,
}

/// Listeners being served.
pub(super) struct Serving {
    serving: http::Serving,
    client: Mutex<Vec<Port>>,
    peer_addresses: Vec<String>,
    client_tls: Option<Arc<tls::Server>>,
    peer_tls: Option<Arc<tls::Server>>,
}

impl Listeners {
    /// Binds every socket. The error is etcd's text.
    pub(super) fn bind(config: &Config) -> Result<Self, String> {
        let listen = &config.listen;
        let options = SocketOptions {
            reuse_port: listen.reuse_port,
            reuse_address: listen.reuse_address,
        };
        tracing::info!(
            "listen-peer-urls" = %crate::logging::List(&super::settings::texts(&listen.peer_urls)),
            "configuring peer listeners"
        );
        let peer_tls = load_tls("peer", &config.peer_tls, &listen.peer_urls, config)?;
        let peer = bind_all(&listen.peer_urls, options)?;
        tracing::info!(
            "listen-client-urls" =
                %crate::logging::List(&super::settings::texts(&listen.client_urls)),
            "configuring client listeners"
        );
        let secured: Vec<Url> = [
            &listen.client_urls,
            &listen.client_http_urls,
            &listen.metrics_urls,
        ]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
        let client_tls = load_tls("client", &config.client_tls, &secured, config)?;
        let client = client_ports(config, options)?;
        let metrics = bind_all(&listen.metrics_urls, options)?;
        Ok(Self {
            client,
            peer,
            metrics,
            client_tls,
            peer_tls,
        })
    }

    /// Serves peers and metrics, which need no ready member.
    pub(super) fn serve_before_ready(self, config: &Config, node: &NodeHandle) -> Serving {
        let serving = http::Serving::new(connections_max());
        let endpoints = Arc::new(PeerEndpoints {
            member: node.clone(),
            server_version: COMPATIBLE_VERSION,
        });
        let peer_addresses = self
            .peer
            .iter()
            .map(|(bound, _)| bound.local().to_owned())
            .collect();
        for (bound, secure) in self.peer {
            let tls = self.peer_tls.clone().filter(|_| secure);
            serve_peers(bound, &serving, tls, endpoints.clone());
        }
        for (bound, secure) in self.metrics {
            let tls = self.client_tls.clone().filter(|_| secure);
            serve_metrics(bound, &serving, tls, node.clone());
        }
        for tls in [&self.client_tls, &self.peer_tls].into_iter().flatten() {
            tokio::spawn(tls.clone().follow());
        }
        let listen = &config.listen;
        tracing::info!(
            "local-member-id" = %node.identity().member_id,
            "initial-advertise-peer-urls" = %crate::logging::List(
                &super::settings::texts(&config.cluster.advertise_peer_urls)
            ),
            "listen-peer-urls" = %crate::logging::List(&super::settings::texts(&listen.peer_urls)),
            "advertise-client-urls" = %crate::logging::List(
                &super::settings::texts(&config.cluster.advertise_client_urls)
            ),
            "listen-client-urls" =
                %crate::logging::List(&super::settings::texts(&listen.client_urls)),
            "listen-metrics-urls" =
                %crate::logging::List(&super::settings::texts(&listen.metrics_urls)),
            "now serving peer/client/metrics"
        );
        Serving {
            serving,
            client: Mutex::new(self.client),
            peer_addresses,
            client_tls: self.client_tls,
            peer_tls: self.peer_tls,
        }
    }
}

impl Serving {
    /// Serves clients: the member is ready.
    pub(super) fn serve_clients(&self, config: &Config, node: &NodeHandle) {
        let endpoints = Arc::new(Endpoints {
            member: node.clone(),
            access: Access::new(&config.http.host_whitelist, &config.http.cors),
            server_version: COMPATIBLE_VERSION,
            profiles: config.http.pprof,
            http2: Http2Settings {
                concurrent_streams_max: config.rpc.concurrent_streams_max,
                keepalive_interval: Some(config.rpc.keepalive_interval)
                    .filter(|interval| !interval.is_zero()),
                keepalive_timeout: config.rpc.keepalive_timeout,
            },
        });
        let limits = rpc::Limits {
            server_version: COMPATIBLE_VERSION,
            request_bytes_max: usize::try_from(config.rpc.request_bytes_max).unwrap_or(usize::MAX),
            txn_ops_max: usize::try_from(config.rpc.txn_ops_max).unwrap_or(usize::MAX),
            quota_bytes: config
                .storage
                .quota_bytes
                .map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            watch_progress_interval: config.rpc.watch_progress_interval,
            election_timeout: config.raft.election_timeout,
            warning_unary_duration: config.rpc.warning_unary_duration,
            warning_apply_duration: config.rpc.warning_apply_duration,
            stop_serving_on_defragment: config.feature_gates.enabled("StopGRPCServiceOnDefrag"),
        };
        let ports: Vec<Port> = self.client.lock().drain(..).collect();
        for _ in &ports {
            tracing::info!("ready to serve client requests");
        }
        let services = rpc::Services::new(node.clone(), limits);
        for port in ports {
            let services = services.clone();
            serve_clients(
                port.bound,
                &self.serving,
                port.traffic,
                port.plain,
                self.client_tls.clone().filter(|_| port.secure),
                endpoints.clone(),
                move |peer, request| services.call(peer.remote, request),
            );
        }
    }

    /// What listeners show and check certificates with.
    pub(super) fn tls(&self) -> Vec<Arc<tls::Server>> {
        [&self.client_tls, &self.peer_tls]
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    /// Re-reads certificates, keys, CAs and CRLs; what cannot be read leaves the old in force.
    pub(super) fn reload_certificates(&self) {
        for tls in self.tls() {
            // It has logged either outcome.
            let _ = tls.reload();
        }
    }

    /// Stops accepting, and lets open calls end.
    pub(super) async fn finish(&self, grace: Duration) {
        self.client.lock().clear();
        for address in &self.peer_addresses {
            tracing::info!(address, "stopping serving peer traffic");
        }
        self.serving.shutdown.finish(grace).await;
        for address in &self.peer_addresses {
            tracing::info!(address, "stopped serving peer traffic");
        }
    }
}

/// Client URLs that share an address are one port; handed-over sockets stand in for URLs.
fn client_ports(config: &Config, options: SocketOptions) -> Result<Vec<Port>, String> {
    let listen = &config.listen;
    let split = !listen.client_http_urls.is_empty();
    let mut wanted: BTreeMap<String, (Address, bool, bool, Traffic)> = BTreeMap::new();
    let lists = [
        (
            &listen.client_urls,
            Traffic {
                grpc: true,
                http: !split,
            },
        ),
        (
            &listen.client_http_urls,
            Traffic {
                grpc: false,
                http: true,
            },
        ),
    ];
    for (urls, traffic) in lists {
        for url in urls {
            let address = address(url)?;
            let entry = wanted
                .entry(address.to_string())
                .or_insert((address, false, false, traffic));
            entry.1 |= !url.is_tls();
            entry.2 |= url.is_tls();
            entry.3.grpc |= traffic.grpc;
            entry.3.http |= traffic.http;
        }
    }
    let mut inherited: Vec<Bound> =
        systemd::sockets_named(&mut systemd::inherited_sockets(), CLIENT_SOCKET_NAME)
            .into_iter()
            .map(Bound::inherited)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("socket from the service manager: {error}"))?;
    let mut ports = Vec::new();
    for (_, (address, plain, secure, traffic)) in wanted {
        let handed_over = inherited.iter().position(|bound| bound.is_at(&address));
        let bound = match handed_over {
            Some(at) => inherited.swap_remove(at),
            None => http::bind(&address, options).map_err(|error| error.to_string())?,
        };
        ports.push(Port {
            bound,
            plain,
            secure,
            traffic,
        });
    }
    // A socket at an address no URL names is served plainly or with TLS, as the first URL is.
    let secure = listen.client_urls.first().is_some_and(Url::is_tls);
    for bound in inherited {
        let traffic = Traffic {
            grpc: true,
            http: !split,
        };
        ports.push(Port {
            bound,
            plain: !secure,
            secure,
            traffic,
        });
    }
    Ok(ports)
}

fn bind_all(urls: &[Url], options: SocketOptions) -> Result<Vec<(Bound, bool)>, String> {
    urls.iter()
        .map(|url| {
            let bound = http::bind(&address(url)?, options).map_err(|error| error.to_string())?;
            Ok((bound, url.is_tls()))
        })
        .collect()
}

fn address(url: &Url) -> Result<Address, String> {
    match url.scheme() {
        Scheme::Unix | Scheme::Unixs => Ok(Address::Unix(url.address().into())),
        Scheme::Http | Scheme::Https => {
            let (host, port) = url
                .host_port()
                .ok_or_else(|| format!("{url} has no port"))?;
            let port = port
                .parse()
                .map_err(|_| format!("{url}: port {port} is no number"))?;
            Ok(Address::Tcp(host.trim_matches(['[', ']']).to_owned(), port))
        }
    }
}

fn load_tls(
    usage: &'static str,
    options: &Tls,
    urls: &[Url],
    config: &Config,
) -> Result<Option<Arc<tls::Server>>, String> {
    let Some(secured) = urls.iter().find(|url| url.is_tls()) else {
        return Ok(None);
    };
    let (cert_file, key_file) = match (&options.cert_file, &options.key_file) {
        (Some(cert), Some(key)) => (cert.clone(), key.clone()),
        _ if options.auto_tls => {
            let hosts: Vec<String> = urls.iter().map(|url| url.host().to_owned()).collect();
            let directory = config.member.data_dir.join("fixtures").join(usage);
            let years = u32::try_from(options.self_signed_years).unwrap_or(u32::MAX);
            let made = tls::self_signed(&directory, &hosts, years, usage == "client")
                .map_err(|error| error.to_string())?;
            (made.cert_file, made.key_file)
        }
        _ => return Err(no_certificate(usage, secured, &config.listen.metrics_urls)),
    };
    let server = tls::Server::load(tls::ServerOptions {
        usage,
        cert_file,
        key_file,
        trusted_ca_file: options.trusted_ca_file.clone(),
        client_cert_auth: options.client_cert_auth,
        crl_file: options.crl_file.clone(),
        allowed_common_names: options.allowed_cns.clone(),
        allowed_host_names: options.allowed_hostnames.clone(),
        protocol: protocol(options),
    })
    .map_err(|error| error.to_string())?;
    Ok(Some(server))
}

/// What is missing to serve a URL with TLS, in etcd's words.
fn no_certificate(usage: &str, url: &Url, metrics: &[Url]) -> String {
    const CLIENT: &str = "TLS key/cert (--cert-file, --key-file) must be provided for";
    if usage == "peer" {
        let address = url.address();
        return format!(
            "cannot listen on TLS for {address}: KeyFile and CertFile are not presented \
             (--peer-cert-file, --peer-key-file)"
        );
    }
    match metrics.contains(url) {
        true => format!("client {CLIENT} metrics secure url"),
        false => format!("{CLIENT} client url {url} with HTTPS scheme"),
    }
}

fn protocol(options: &Tls) -> tls::Protocol {
    tls::Protocol {
        cipher_suites: options.cipher_suites.clone(),
        version_min: if options.tls12 {
            tls::Version::Tls12
        } else {
            tls::Version::Tls13
        },
        version_max: (!options.tls13).then_some(tls::Version::Tls12),
    }
}

/// Connections that fit into the process's file descriptors, with some left for files.
fn connections_max() -> usize {
    const RESERVED_DESCRIPTORS: u64 = 150;
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    let (soft, _) = limit.unwrap_or((1024, 1024));
    usize::try_from(soft.saturating_sub(RESERVED_DESCRIPTORS).max(1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_certificates_are_asked_for_in_etcds_words() {
        let url = Url::parse("https://localhost:2").unwrap();
        assert_eq!(
            no_certificate("client", &url, &[]),
            "TLS key/cert (--cert-file, --key-file) must be provided for client url \
             https://localhost:2 with HTTPS scheme"
        );
        assert_eq!(
            no_certificate("client", &url, std::slice::from_ref(&url)),
            "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url"
        );
        let peer = no_certificate("peer", &url, &[]);
        let etcds = "cannot listen on TLS for localhost:2: KeyFile and CertFile are not presented";
        assert!(peer.starts_with(etcds), "{peer}");
    }
}
