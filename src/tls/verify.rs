//! Which certificates are good: of clients by chain, revocation and who may come, and those trusted by themselves.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use super::files::serial_bytes;

/// Clients that may come, beyond having a certificate of the CA.
#[derive(Clone, Debug)]
pub(super) enum Allowed {
    /// All.
    Any,
    /// Those whose subject has one of these common names.
    CommonNames(Vec<String>),
    /// Those whose certificate is valid for one of these names or addresses.
    HostNames(Vec<ServerName<'static>>),
}

/// The library's verification of chains, then the list of revoked serials, then the allow-list.
pub(super) struct Verifier {
    /// The certificates `chain` ends in.
    pub(super) trusted: Vec<CertificateDer<'static>>,
    pub(super) chain: Arc<dyn ClientCertVerifier>,
    pub(super) revoked: HashSet<Vec<u8>>,
    pub(super) allowed: Allowed,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("allowed", &self.allowed)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    fn is_revoked(&self, certificate: &CertificateDer<'_>) -> bool {
        let parsed = X509Certificate::from_der(certificate);
        parsed.is_ok_and(|(_, parsed)| self.revoked.contains(&serial_bytes(parsed.raw_serial())))
    }

    fn is_allowed(&self, certificate: &CertificateDer<'_>) -> bool {
        match &self.allowed {
            Allowed::Any => true,
            Allowed::CommonNames(names) => {
                names.contains(&common_name(certificate).unwrap_or_default())
            }
            Allowed::HostNames(names) => {
                ParsedCertificate::try_from(certificate).is_ok_and(|parsed| {
                    names
                        .iter()
                        .any(|name| verify_server_name(&parsed, name).is_ok())
                })
            }
        }
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let by_chain = self
            .chain
            .verify_client_cert(end_entity, intermediates, now);
        let is_for_clients = |usages: &ExtendedKeyUsage<'_>| usages.client_auth;
        let verified = match by_chain {
            Err(_) if is_trusted_itself(&self.trusted, end_entity, is_for_clients, now) => {
                ClientCertVerified::assertion()
            }
            other => other?,
        };
        // As in etcd, any certificate that was sent counts, whoever issued it.
        if std::iter::once(end_entity)
            .chain(intermediates)
            .any(|one| self.is_revoked(one))
        {
            return Err(CertificateError::Revoked.into());
        }
        if !self.is_allowed(end_entity) {
            // This error makes a Go client print "bad certificate", and carries the names to the log.
            return Err(Error::InvalidCertificate(
                CertificateError::NotValidForNameContext {
                    expected: expected(&self.allowed),
                    presented: alternative_names(end_entity),
                },
            ));
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Whether a certificate is one of the trusted ones, in force, and for this use unless it names none.
///
/// Go takes such a certificate even when it says it is a CA, as self-signed ones made by hand mostly do. The library
/// does not.
pub fn is_trusted_itself(
    trusted: &[CertificateDer<'_>],
    certificate: &CertificateDer<'_>,
    is_for: fn(&ExtendedKeyUsage<'_>) -> bool,
    now: UnixTime,
) -> bool {
    let is_good = || {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let now = ASN1Time::from_timestamp(i64::try_from(now.as_secs()).ok()?).ok()?;
        let usages = parsed.extended_key_usage().ok()?;
        let fits = usages.is_none_or(|usages| usages.value.any || is_for(usages.value));
        Some(fits && parsed.validity().is_valid_at(now))
    };
    trusted.iter().any(|one| one == certificate) && is_good() == Some(true)
}

fn expected(allowed: &Allowed) -> ServerName<'static> {
    match allowed {
        Allowed::HostNames(names) if !names.is_empty() => names[0].clone(),
        _ => ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into()),
    }
}

/// The last common name of a certificate's subject.
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let last = parsed.subject().iter_common_name().last()?;
    Some(last.as_str().ok()?.to_owned())
}

fn alternative_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let Ok(Some(names)) = parsed.subject_alternative_name() else {
        return Vec::new();
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|v4| std::net::IpAddr::from(v4).to_string()),
            _ => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|v6| std::net::IpAddr::from(v6).to_string()),
        },
        _ => None,
    };
    names.value.general_names.iter().filter_map(name).collect()
}
