//! The configuration of connections this program opens itself, to peers or to a server.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::{Protocol, TlsError, files};

/// Files and rules of outgoing connections.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// CAs of servers.
    pub trusted_ca_file: Option<PathBuf>,
    /// Own certificate and key, if the server asks.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Takes any server certificate.
    pub insecure_skip_verify: bool,
    /// Versions and cipher suites.
    pub protocol: Protocol,
    /// Protocols offered, such as `h2`.
    pub application_protocols: Vec<Vec<u8>>,
}

/// Reads the files into a configuration. Without a CA no server is trusted, unless all are.
pub fn client_config(options: &ClientOptions) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = options.protocol.provider()?;
    let versions = options.protocol.versions();
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&versions)?;
    let builder = if options.insecure_skip_verify {
        let any = Arc::new(AnyServer(provider.clone()));
        builder.dangerous().with_custom_certificate_verifier(any)
    } else {
        let roots = match &options.trusted_ca_file {
            Some(path) => files::roots(path)?,
            None => Arc::new(RootCertStore::empty()),
        };
        builder.with_root_certificates(roots)
    };
    let mut config = match &options.certificate {
        Some((cert, key)) => {
            let key = files::certified_key(cert, key, &provider)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = options.application_protocols.clone();
    Ok(Arc::new(config))
}

/// Takes any certificate, but still has the server prove that it has the key.
#[derive(Debug)]
pub struct AnyServer(pub Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
