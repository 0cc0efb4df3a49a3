//! Protocol versions and cipher suites by the names etcd's flags use.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

use super::TlsError;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Limits of a handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protocol {
    /// Names of TLS 1.2 suites in order of preference; none: the library's choice. TLS 1.3 has its own.
    pub cipher_suites: Vec<String>,
    /// The lowest version.
    pub version_min: Version,
    /// The highest version, if limited.
    pub version_max: Option<Version>,
}

impl Protocol {
    /// The versions from lowest to highest.
    pub(super) fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let all = [
            (Version::Tls12, &rustls::version::TLS12),
            (Version::Tls13, &rustls::version::TLS13),
        ];
        let max = self.version_max.unwrap_or(Version::Tls13);
        all.into_iter()
            .filter(|(v, _)| (self.version_min..=max).contains(v))
            .map(|(_, v)| v)
            .collect()
    }

    /// The cryptography with the chosen suites.
    pub(super) fn provider(&self) -> Result<Arc<CryptoProvider>, TlsError> {
        let mut provider = aws_lc_rs::default_provider();
        if self.cipher_suites.is_empty() {
            return Ok(Arc::new(provider));
        }
        let mut suites: Vec<SupportedCipherSuite> = provider.cipher_suites.clone();
        suites.retain(|suite| suite.tls13().is_some());
        let mut chosen: Vec<SupportedCipherSuite> = Vec::new();
        for name in &self.cipher_suites {
            check_cipher_suite(name)?;
            chosen.extend(
                provider
                    .cipher_suites
                    .iter()
                    .filter(|suite| is_named(suite, name)),
            );
        }
        if chosen.is_empty() {
            return Err(TlsError::NoUsableCipherSuite(self.cipher_suites.join(",")));
        }
        suites.extend(chosen.into_iter().filter(|suite| suite.tls13().is_none()));
        provider.cipher_suites = suites;
        Ok(Arc::new(provider))
    }
}

/// Whether a suite of the library goes by this name in etcd.
fn is_named(suite: &SupportedCipherSuite, name: &str) -> bool {
    let Some(ours) = suite.suite().as_str() else {
        return false;
    };
    let ours = ours.replacen("TLS13_", "TLS_", 1);
    ours == name || ours.strip_suffix("_SHA256") == Some(name) && name.ends_with("_POLY1305")
}

/// Names that etcd accepts and that nobody should use: without forward secrecy or authentication of data.
/// They are valid in a list, and never negotiated.
const OBSOLETE: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
];

/// Whether etcd knows a cipher suite of this name (names are case-sensitive).
pub fn check_cipher_suite(name: &str) -> Result<(), TlsError> {
    let known = aws_lc_rs::DEFAULT_CIPHER_SUITES
        .iter()
        .any(|suite| is_named(suite, name));
    if known || OBSOLETE.contains(&name) {
        return Ok(());
    }
    Err(TlsError::UnknownCipherSuite(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suites(names: &[&str]) -> Vec<String> {
        let cipher_suites = names.iter().map(|name| (*name).to_owned()).collect();
        let protocol = Protocol {
            cipher_suites,
            ..Protocol::default()
        };
        let provider = protocol.provider().unwrap();
        let names = provider
            .cipher_suites
            .iter()
            .map(|suite| suite.suite().as_str().unwrap());
        names
            .filter(|name| !name.starts_with("TLS13"))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn suites_are_chosen_by_etcds_names_in_their_order() {
        let chosen = suites(&[
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            "TLS_RSA_WITH_AES_128_CBC_SHA",
            "TLS_AES_128_GCM_SHA256",
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        ]);
        assert_eq!(
            chosen,
            [
                "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            ]
        );
    }

    #[test]
    fn unknown_and_unusable_lists_are_refused() {
        let error = check_cipher_suite("tls_aes_128_gcm_sha256").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unexpected TLS cipher suite \"tls_aes_128_gcm_sha256\""
        );
        let cipher_suites = vec!["TLS_RSA_WITH_RC4_128_SHA".to_owned()];
        let error = Protocol {
            cipher_suites,
            ..Protocol::default()
        }
        .provider()
        .unwrap_err();
        assert!(
            error.to_string().contains("TLS_RSA_WITH_RC4_128_SHA"),
            "{error}"
        );
    }

    #[test]
    fn versions_are_a_range() {
        let count = |version_min, version_max| {
            Protocol {
                version_min,
                version_max,
                ..Protocol::default()
            }
            .versions()
            .len()
        };
        assert_eq!(count(Version::Tls12, None), 2);
        assert_eq!(count(Version::Tls13, None), 1);
        assert_eq!(count(Version::Tls12, Some(Version::Tls12)), 1);
    }
}
