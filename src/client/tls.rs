//! TLS for client connections: what the flags say, turned into a rustls configuration.
//!
//! Files are read when the configuration is made, so a wrong path is reported before any request. Nothing of
//! this runs for plain connections.

use super::error::{Error, os_error_text};
use crate::tls::{AnyServer, is_trusted_itself};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What a user says about TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Client certificate file.
    pub cert: String,
    /// Its key file.
    pub key: String,
    /// CA bundle to check servers with; the system's without.
    pub cacert: String,
    /// Name to check server certificates for instead of the endpoint's host.
    pub server_name: String,
    /// Plain connections unless an endpoint or a file says otherwise.
    pub insecure_transport: bool,
    /// Accept any server certificate.
    pub insecure_skip_verify: bool,
}

/// A ready configuration.
#[derive(Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    verifier: Arc<dyn ServerCertVerifier>,
    server_name: String,
}

impl TlsOptions {
    /// The configuration these options ask for; `None`: plain connections.
    pub fn load(&self) -> Result<Option<Arc<Tls>>, Error> {
        let files = [&self.cert, &self.key, &self.cacert, &self.server_name];
        let wanted = files.iter().any(|text| !text.is_empty());
        if !wanted && self.insecure_transport && !self.insecure_skip_verify {
            return Ok(None);
        }
        self.build().map(|tls| Some(Arc::new(tls)))
    }

    /// The configuration for endpoints that insist on TLS when none was asked for.
    pub fn system() -> Result<Arc<Tls>, Error> {
        Self::default().build().map(Arc::new)
    }

    fn build(&self) -> Result<Tls, Error> {
        let identity = self.identity()?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(local)?;
        let anchors = self.anchors()?;
        let verifier: Arc<dyn ServerCertVerifier> = match self.insecure_skip_verify {
            true => Arc::new(AnyServer(provider)),
            false => Arc::new(Verifier::new(anchors, provider)?),
        };
        let builder = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier));
        let mut config = match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(local)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Tls {
            config: Arc::new(config),
            verifier,
            server_name: self.server_name.clone(),
        })
    }

    fn identity(
        &self,
    ) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, Error> {
        if self.cert.is_empty() && self.key.is_empty() {
            return Ok(None);
        }
        if self.cert.is_empty() || self.key.is_empty() {
            return Err(Error::Local(format!(
                "KeyFile and CertFile must both be present[key: {}, cert: {}]",
                self.key, self.cert
            )));
        }
        let (cert, key) = (read(&self.cert)?, read(&self.key)?);
        let chain = certificates(&cert, &self.cert)?;
        if chain.is_empty() {
            let none = "tls: failed to find any PEM data in certificate input";
            return Err(Error::Local(none.to_owned()));
        }
        let key = rustls_pemfile::private_key(&mut key.as_slice())
            .ok()
            .flatten()
            .ok_or_else(|| {
                Error::Local("tls: failed to find any PEM data in key input".to_owned())
            })?;
        Ok(Some((chain, key)))
    }

    /// The certificates servers are checked against.
    fn anchors(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        if self.insecure_skip_verify && self.cacert.is_empty() {
            return Ok(Vec::new());
        }
        match self.cacert.as_str() {
            "" => Ok(system_anchors()),
            file => certificates(&read(file)?, file),
        }
    }
}

impl Tls {
    /// A configuration that accepts any server; for looking at its certificate only.
    pub(super) fn accepting_any() -> Option<Self> {
        let options = TlsOptions {
            insecure_skip_verify: true,
            ..TlsOptions::default()
        };
        options.build().ok()
    }

    /// Checks a server's certificate as a handshake would.
    pub(super) fn check(
        &self,
        server_name: &str,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), String> {
        let name = match self.server_name.is_empty() {
            true => server_name,
            false => &self.server_name,
        };
        let name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
        let now = UnixTime::now();
        let verified =
            self.verifier
                .verify_server_cert(certificate, intermediates, &name, &[], now);
        verified.map(drop).map_err(|error| error.to_string())
    }

    /// The same for HTTP/1.
    pub fn http1(&self) -> Self {
        let mut config = (*self.config).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self {
            config: Arc::new(config),
            verifier: Arc::clone(&self.verifier),
            server_name: self.server_name.clone(),
        }
    }

    /// Does the handshake for a server of this name.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        server_name: &str,
        stream: S,
    ) -> Result<TlsStream<S>, String> {
        let name = match self.server_name.is_empty() {
            true => server_name,
            false => &self.server_name,
        };
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| format!("tls: {name:?} is not a name a certificate can have"))?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        connector
            .connect(name, stream)
            .await
            .map_err(|error| format!("tls: {error}"))
    }
}

fn local(error: rustls::Error) -> Error {
    Error::Local(format!("tls: {error}"))
}

fn read(file: &str) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|e| Error::Local(format!("open {file}: {}", os_error_text(&e))))
}

fn certificates(pem: &[u8], file: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    rustls_pemfile::certs(&mut &pem[..])
        .collect::<Result<_, _>>()
        .map_err(|error| Error::Local(format!("{file}: {error}")))
}

/// The system's CA certificates, from the files and directories Go looks at.
fn system_anchors() -> Vec<CertificateDer<'static>> {
    const BUNDLES: [&str; 6] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/pki/tls/cacert.pem",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ];
    let given = std::env::var("SSL_CERT_FILE")
        .ok()
        .filter(|file| !file.is_empty());
    let bundle = match &given {
        Some(file) => std::fs::read(file).ok(),
        None => BUNDLES.iter().find_map(|file| std::fs::read(file).ok()),
    };
    let parse = |pem: Vec<u8>| {
        rustls_pemfile::certs(&mut pem.as_slice())
            .flatten()
            .collect()
    };
    let mut anchors: Vec<CertificateDer<'static>> = bundle.map(parse).unwrap_or_default();
    for directory in std::env::var("SSL_CERT_DIR").unwrap_or_default().split(':') {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            anchors.extend(std::fs::read(entry.path()).map(parse).unwrap_or_default());
        }
    }
    anchors
}

/// The usual check, and one exception Go makes too: a certificate that is itself in the bundle is trusted.
#[derive(Debug)]
struct Verifier {
    chain: Option<Arc<WebPkiServerVerifier>>,
    anchors: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(
        anchors: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(anchors.iter().cloned());
        // Without any root the builder refuses; then no server certificate is good.
        let chain =
            WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
                .build()
                .ok();
        Ok(Self {
            chain,
            anchors,
            provider,
        })
    }

    fn is_pinned(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> bool {
        let named = || {
            let parsed = ParsedCertificate::try_from(certificate).ok()?;
            rustls::client::verify_server_name(&parsed, name).ok()
        };
        is_trusted_itself(&self.anchors, certificate, |usages| usages.server_auth, now)
            && named().is_some()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = self
            .chain
            .as_ref()
            .ok_or(rustls::CertificateError::UnknownIssuer)?;
        let verified =
            chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            Err(_) if self.is_pinned(end_entity, server_name, now) => {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
