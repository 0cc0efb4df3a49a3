//! Certificates for `--auto-tls`: made once, kept in the data directory.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P521_SHA512,
};

use super::TlsError;

/// Paths of a self-signed certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfSigned {
    /// The certificate, PEM.
    pub cert_file: PathBuf,
    /// The key, PEM, for its owner only.
    pub key_file: PathBuf,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Returns the certificate in `directory` (such as `<data-dir>/fixtures/client`), made now if there is
/// none, for these hosts (without ports) and `validity_years` times 365 days. `for_clients` makes it good
/// for the client's side too.
///
/// Unlike etcd's it is not marked as a CA: Go trusts a certificate that is itself in the trust file
/// either way, while webpki and others refuse a CA as a server's own certificate.
pub fn self_signed(
    directory: &Path,
    hosts: &[String],
    validity_years: u32,
    for_clients: bool,
) -> Result<SelfSigned, TlsError> {
    if validity_years == 0 {
        let text = "selfSignedCertValidity is invalid,it should be greater than 0";
        tracing::warn!(error = text, "cannot generate cert");
        return Err(TlsError::SelfSigned(text.to_owned()));
    }
    let made = SelfSigned {
        cert_file: directory.join("cert.pem"),
        key_file: directory.join("key.pem"),
    };
    if made.cert_file.exists() && made.key_file.exists() {
        return Ok(made);
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| TlsError::open(directory, &error))?;
    let (cert, key) = generate(hosts, validity_years, for_clients).map_err(|error| {
        TlsError::SelfSigned(format!("cannot generate x509 certificate: {error}"))
    })?;
    write(&made.key_file, &key, 0o600)?;
    write(&made.cert_file, &cert, 0o644)?;
    tracing::info!(path = %made.cert_file.display(), "created cert file");
    tracing::info!(path = %made.key_file.display(), "created key file");
    Ok(made)
}

fn generate(
    hosts: &[String],
    validity_years: u32,
    for_clients: bool,
) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "etcd");
    params.not_before = std::time::SystemTime::now().into();
    params.not_after = params.not_before + DAY * 365 * validity_years;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::DigitalSignature,
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    if for_clients {
        params
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    tracing::warn!(
        "certificate-validity-bound-not-after" = %params.not_after,
        "automatically generate certificates"
    );
    let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512)?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let mut options = fs::OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| TlsError::open(path, &error))
}
