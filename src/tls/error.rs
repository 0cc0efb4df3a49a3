//! What can be wrong with files and handshakes, in the words etcd's users search for.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("open {}: {reason}", path.display())]
    Open { path: PathBuf, reason: String },
    /// No PEM at all.
    #[error("tls: failed to find any PEM data in {what} input: {}", path.display())]
    NoPem { what: &'static str, path: PathBuf },
    /// PEM of another sort.
    #[error("tls: failed to find {wanted} PEM block in {what} input: {}", path.display())]
    WrongPem {
        wanted: &'static str,
        what: &'static str,
        path: PathBuf,
    },
    /// The key belongs to another certificate.
    #[error("tls: private key does not match public key: cert-file {}, key-file {}", cert.display(), key.display())]
    KeyMismatch { cert: PathBuf, key: PathBuf },
    /// A certificate, key or list that the library does not take.
    #[error("{}: {reason}", path.display())]
    Malformed { path: PathBuf, reason: String },
    /// Only one of the pair is set.
    #[error("KeyFile and CertFile must both be present[key: {}, cert: {}]", key.display(), cert.display())]
    HalfPair { cert: PathBuf, key: PathBuf },
    /// Two ways of naming clients.
    #[error(
        "AllowedCNs and AllowedHostnames are mutually exclusive (cns={cns:?}, hostnames={hostnames:?})"
    )]
    TwoAllowLists {
        cns: Vec<String>,
        hostnames: Vec<String>,
    },
    /// Clients shall be verified against nothing.
    #[error(
        "client certificates cannot be verified without a CA: set --trusted-ca-file (or its peer form)"
    )]
    NoClientCa,
    /// No such suite.
    #[error("unexpected TLS cipher suite {0:?}")]
    UnknownCipherSuite(String),
    /// Suites that exist, but none this library negotiates.
    #[error(
        "none of the cipher suites {0} is supported: name one with ECDHE and GCM or CHACHA20_POLY1305"
    )]
    NoUsableCipherSuite(String),
    /// Anything else the library says about a configuration.
    #[error("tls: {0}")]
    Library(#[from] rustls::Error),
    /// A self-signed certificate could not be made.
    #[error("{0}")]
    SelfSigned(String),
}

impl TlsError {
    pub(super) fn open(path: &Path, error: &io::Error) -> Self {
        TlsError::Open {
            path: path.to_owned(),
            reason: os_error_text(error),
        }
    }

    pub(super) fn malformed(path: &Path, reason: impl ToString) -> Self {
        TlsError::Malformed {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// An operating system's error as C and Go programs print it, without Rust's capital and number.
fn os_error_text(error: &io::Error) -> String {
    let Some(number) = error.raw_os_error() else {
        return error.to_string();
    };
    let text = Errno::from_raw(number).desc();
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_lowercase);
    first.chain(letters).collect()
}

/// Whether the peer just went away: not worth more than a debug line.
pub fn is_end_of_stream(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    tls_error(error).is_none()
        && matches!(error.kind(), UnexpectedEof | BrokenPipe | ConnectionReset)
}

/// IP addresses and DNS names of a certificate that was refused for its names.
pub fn rejected_names(error: &io::Error) -> Option<(Vec<&str>, Vec<&str>)> {
    match tls_error(error)? {
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            presented,
            ..
        }) => {
            let is_address = |name: &&str| name.parse::<std::net::IpAddr>().is_ok();
            Some(presented.iter().map(String::as_str).partition(is_address))
        }
        _ => None,
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Why a handshake failed, as Go's library would have said it.
pub fn handshake_error_text(error: &io::Error) -> String {
    let Some(cause) = tls_error(error) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
            io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
            _ => os_error_text(error),
        };
    };
    match cause {
        rustls::Error::NoCertificatesPresented => {
            "tls: client didn't provide a certificate".to_owned()
        }
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            NOT_A_HANDSHAKE.to_owned()
        }
        rustls::Error::AlertReceived(alert) => {
            format!("remote error: tls: {}", alert_text(*alert))
        }
        rustls::Error::InvalidCertificate(reason) => certificate_text(reason),
        rustls::Error::PeerIncompatible(reason) => incompatible_text(reason),
        other => format!("tls: {other}"),
    }
}

/// What a first record that is not TLS is called.
const NOT_A_HANDSHAKE: &str = "tls: first record does not look like a TLS handshake";

/// The error of a connection whose first bytes are no TLS record.
pub fn not_a_handshake() -> io::Error {
    let error = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn certificate_text(reason: &CertificateError) -> String {
    let time = |time: &rustls::pki_types::UnixTime| {
        jiff::Timestamp::from_second(time.as_secs() as i64)
            .map_or_else(|_| "?".into(), |t| t.to_string())
    };
    let failed = "tls: failed to verify certificate: x509:";
    let expired = "certificate has expired or is not yet valid";
    match reason {
        CertificateError::NotValidForNameContext { .. } | CertificateError::NotValidForName => {
            "client certificate authentication failed".to_owned()
        }
        CertificateError::Revoked => "transport: certificate revoked".to_owned(),
        CertificateError::UnknownIssuer => {
            format!("{failed} certificate signed by unknown authority")
        }
        CertificateError::ExpiredContext {
            time: now,
            not_after,
        } => {
            format!(
                "{failed} {expired}: current time {} is after {}",
                time(now),
                time(not_after)
            )
        }
        CertificateError::NotValidYetContext {
            time: now,
            not_before,
        } => {
            format!(
                "{failed} {expired}: current time {} is before {}",
                time(now),
                time(not_before)
            )
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            format!("{failed} certificate specifies an incompatible key usage")
        }
        other => format!("{failed} {other}"),
    }
}

fn incompatible_text(reason: &PeerIncompatible) -> String {
    match reason {
        PeerIncompatible::NoCipherSuitesInCommon => {
            "tls: no cipher suite supported by both client and server".to_owned()
        }
        PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::Tls13RequiredForQuic
        | PeerIncompatible::SupportedVersionsExtensionRequired => {
            "tls: client offered only unsupported versions".to_owned()
        }
        other => format!("tls: {other:?}"),
    }
}

/// Alerts by the names Go gives them, for those a peer sends in a handshake.
fn alert_text(alert: AlertDescription) -> String {
    let text = match alert {
        AlertDescription::HandshakeFailure => "handshake failure",
        AlertDescription::BadCertificate => "bad certificate",
        AlertDescription::UnsupportedCertificate => "unsupported certificate",
        AlertDescription::CertificateRevoked => "revoked certificate",
        AlertDescription::CertificateExpired => "expired certificate",
        AlertDescription::CertificateUnknown => "unknown certificate",
        AlertDescription::UnknownCA => "unknown certificate authority",
        AlertDescription::AccessDenied => "access denied",
        AlertDescription::DecodeError => "error decoding message",
        AlertDescription::DecryptError => "error decrypting message",
        AlertDescription::ProtocolVersion => "protocol version not supported",
        AlertDescription::InternalError => "internal error",
        AlertDescription::UserCanceled => "user canceled",
        AlertDescription::UnrecognisedName => "unrecognized name",
        AlertDescription::CertificateRequired => "certificate required",
        AlertDescription::NoApplicationProtocol => "no application protocol",
        other => return format!("alert({})", u8::from(other)),
    };
    text.to_owned()
}
