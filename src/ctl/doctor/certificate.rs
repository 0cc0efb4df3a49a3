//! What a certificate says of itself.

use std::time::{SystemTime, UNIX_EPOCH};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The parts of a certificate that go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    /// Whom it is for.
    pub subject: String,
    /// Seconds until it ends; negative: since it ended.
    pub seconds_left: i64,
    /// Seconds until it begins; negative or 0: it has begun.
    pub seconds_until_valid: i64,
    /// The host names and addresses it is for.
    pub names: Vec<String>,
}

impl Certificate {
    /// Reads an encoded certificate.
    pub(super) fn parse(encoded: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(encoded).ok()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs() as i64;
        let validity = certificate.validity();
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        let alternatives = alternatives.map(|extension| extension.value.general_names.as_slice());
        let names = alternatives
            .unwrap_or_default()
            .iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                GeneralName::IPAddress(bytes) => address(bytes),
                _ => None,
            });
        Some(Self {
            subject: certificate.subject().to_string(),
            seconds_left: validity.not_after.timestamp() - now,
            seconds_until_valid: validity.not_before.timestamp() - now,
            names: names.collect(),
        })
    }

    /// Reads the first certificate of a PEM file.
    pub(super) fn read(file: &str) -> Option<Self> {
        let pem = std::fs::read(file).ok()?;
        let first = rustls_pemfile::certs(&mut pem.as_slice()).next()?.ok()?;
        Self::parse(&first)
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(bytes).to_string());
    }
    let bytes = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::Ipv6Addr::from(bytes).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_tells_its_names_and_its_end() {
        let names = ["db.example".to_owned(), "10.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
        let certificate = Certificate::parse(made.cert.der()).unwrap();
        assert_eq!(certificate.names, names);
        assert!(certificate.seconds_left > 0 && certificate.seconds_until_valid <= 0);
        assert_eq!(Certificate::parse(b"junk"), None);
    }
}
