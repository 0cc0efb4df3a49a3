//! The configuration of listeners, swapped when its files change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::files::{self, Stamp, stamps};
use super::verify::{Allowed, Verifier};
use super::{Protocol, TlsError};
use crate::logging::message_id;
use crate::metrics;

/// Files and rules of one kind of listener.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// `client` or `peer`: names the listeners in logs and metrics.
    pub usage: &'static str,
    /// Certificate chain, PEM.
    pub cert_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
    /// CAs of clients. Naming them makes client certificates mandatory.
    pub trusted_ca_file: Option<PathBuf>,
    /// Whether client certificates are mandatory.
    pub client_cert_auth: bool,
    /// Revoked certificates, DER or PEM.
    pub crl_file: Option<PathBuf>,
    /// Common names that may come; none: all.
    pub allowed_common_names: Vec<String>,
    /// Names a client's certificate must be valid for; none: all.
    pub allowed_host_names: Vec<String>,
    /// Versions and cipher suites.
    pub protocol: Protocol,
}

/// What is known about a certificate in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFact {
    /// The file it came from.
    pub file: PathBuf,
    /// Whom it names.
    pub subject: String,
    /// Unix time of its end, in seconds.
    pub not_after: i64,
}

/// A TLS configuration that follows its files.
pub struct Server {
    options: ServerOptions,
    paths: Vec<PathBuf>,
    current: ArcSwap<Loaded>,
    /// Stamps as of the last attempt to load.
    seen: Mutex<Vec<Option<Stamp>>>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    certificates: Vec<CertificateFact>,
}

/// How often files are looked at when nobody connects.
const POLL: Duration = Duration::from_secs(1);
/// How long before its end a certificate is warned about, and how often, in polls.
const EXPIRY_WARNING: Duration = Duration::from_secs(14 * 24 * 3600);
const EXPIRY_CHECK_POLLS: u64 = 24 * 3600;

impl Server {
    /// Reads the files; fails as the start of a listener would.
    pub fn load(options: ServerOptions) -> Result<Arc<Self>, TlsError> {
        let mut paths = vec![options.cert_file.clone(), options.key_file.clone()];
        paths.extend(options.trusted_ca_file.clone());
        paths.extend(options.crl_file.clone());
        let seen = stamps(&paths);
        let loaded = Loaded::read(&options)?;
        let server = Self {
            options,
            paths,
            current: ArcSwap::from_pointee(loaded),
            seen: Mutex::new(seen),
        };
        server.publish_expiry(&[]);
        Ok(Arc::new(server))
    }

    /// The configuration for the next handshake, of the files as they are now.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.check();
        self.current.load().config.clone()
    }

    /// Re-reads the files if one changed since the last attempt.
    pub fn check(&self) {
        // Whoever holds the lock is reading them already.
        let Some(mut seen) = self.seen.try_lock() else {
            return;
        };
        let now = stamps(&self.paths);
        if *seen != now {
            *seen = now;
            let _ = self.read_again();
        }
    }

    /// Re-reads the files whether they changed or not. On failure the former ones stay.
    pub fn reload(&self) -> Result<(), TlsError> {
        let mut seen = self.seen.lock();
        *seen = stamps(&self.paths);
        self.read_again()
    }

    fn read_again(&self) -> Result<(), TlsError> {
        let usage = self.options.usage;
        let count = |result| metrics::global().tls_reloads.with(&[result, usage]).inc();
        match Loaded::read(&self.options) {
            Ok(loaded) => {
                let former = self.current.swap(Arc::new(loaded));
                self.publish_expiry(&former.certificates);
                self.warn_of_expiry(jiff::Timestamp::now().as_second());
                count("success");
                tracing::info!(
                    message_id = message_id::CERTIFICATES_RELOADED,
                    usage,
                    "cert-file" = %self.options.cert_file.display(), "reloaded TLS files");
                Ok(())
            }
            Err(error) => {
                count("failure");
                tracing::error!(
                    message_id = message_id::CERTIFICATES_KEPT,
                    usage,
                    %error,
                    "failed to reload TLS files; the previous ones stay in use");
                Err(error)
            }
        }
    }

    /// Every certificate in force: the server's own chain and the CAs of clients.
    pub fn certificates(&self) -> Vec<CertificateFact> {
        self.current.load().certificates.clone()
    }

    /// Follows the files and warns about certificates near their end, for as long as it is polled.
    pub async fn follow(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for poll in 0_u64.. {
            ticks.tick().await;
            self.check();
            if poll % EXPIRY_CHECK_POLLS == 0 {
                self.warn_of_expiry(jiff::Timestamp::now().as_second());
            }
        }
    }

    fn warn_of_expiry(&self, now: i64) {
        for fact in self.certificates() {
            let seconds = fact.not_after - now;
            if seconds < EXPIRY_WARNING.as_secs() as i64 {
                tracing::warn!(
                    message_id = message_id::CERTIFICATE_EXPIRES,
                    usage = self.options.usage,
                    file = %fact.file.display(),
                    subject = fact.subject,
                    "not-after" = fact.not_after,
                    "days-left" = seconds.div_euclid(24 * 3600),
                    "certificate expires soon or has expired"
                );
            }
        }
    }

    fn publish_expiry(&self, former: &[CertificateFact]) {
        let family = &metrics::global().certificate_expiry;
        let usage = self.options.usage;
        for fact in former {
            family.remove(&[&fact.file.to_string_lossy(), &fact.subject, usage]);
        }
        for fact in self.certificates() {
            family
                .with(&[&fact.file.to_string_lossy(), &fact.subject, usage])
                .set(fact.not_after);
        }
    }
}

impl Loaded {
    fn read(options: &ServerOptions) -> Result<Self, TlsError> {
        let ServerOptions {
            cert_file,
            key_file,
            trusted_ca_file,
            ..
        } = options;
        if cert_file.as_os_str().is_empty() || key_file.as_os_str().is_empty() {
            return Err(TlsError::HalfPair {
                cert: cert_file.clone(),
                key: key_file.clone(),
            });
        }
        let provider = options.protocol.provider()?;
        let key = files::certified_key(cert_file, key_file, &provider)?;
        let mut certificates: Vec<_> = key
            .cert
            .iter()
            .filter_map(|der| fact(cert_file, der))
            .collect();
        let versions = options.protocol.versions();
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)?;
        let builder = match trusted_ca_file {
            Some(ca_file) => {
                let authorities = files::certificates(ca_file)?;
                certificates.extend(authorities.iter().filter_map(|der| fact(ca_file, der)));
                let roots = files::roots(ca_file)?;
                builder.with_client_cert_verifier(verifier(options, authorities, roots, provider)?)
            }
            None if options.client_cert_auth => return Err(TlsError::NoClientCa),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            config: Arc::new(config),
            certificates,
        })
    }
}

fn verifier(
    options: &ServerOptions,
    trusted: Vec<CertificateDer<'static>>,
    roots: Arc<RootCertStore>,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let (cns, hostnames) = (&options.allowed_common_names, &options.allowed_host_names);
    let allowed = match (cns.is_empty(), hostnames.is_empty()) {
        (true, true) => Allowed::Any,
        (false, true) => Allowed::CommonNames(cns.clone()),
        (true, false) => Allowed::HostNames(
            // What is neither a name nor an address matches no certificate.
            hostnames
                .iter()
                .filter_map(|name| ServerName::try_from(name.clone()).ok())
                .collect(),
        ),
        (false, false) => {
            let (cns, hostnames) = (cns.clone(), hostnames.clone());
            return Err(TlsError::TwoAllowLists { cns, hostnames });
        }
    };
    let revoked = match &options.crl_file {
        Some(path) => files::revoked_serials(path)?,
        None => Default::default(),
    };
    let chain = WebPkiClientVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|error| TlsError::Library(rustls::Error::General(error.to_string())))?;
    Ok(Arc::new(Verifier {
        trusted,
        chain,
        revoked,
        allowed,
    }))
}

fn fact(file: &std::path::Path, der: &CertificateDer<'_>) -> Option<CertificateFact> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    Some(CertificateFact {
        file: file.to_owned(),
        subject: parsed.subject().to_string(),
        not_after: parsed.validity().not_after.timestamp(),
    })
}
