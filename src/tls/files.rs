//! Reading certificates, keys, CAs and revocation lists, and noticing that a file changed.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::TlsError;

/// What tells that a file is another one than before, or written to. The change time is in it because a
/// copy may keep the modification time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Stamps of files, None for those that are not there.
pub(super) fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| {
        let meta = fs::metadata(path).ok()?;
        Some(Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    };
    paths.iter().map(stamp).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::open(path, &error))
}

fn has_pem(bytes: &[u8]) -> bool {
    bytes.windows(11).any(|window| window == b"-----BEGIN ")
}

/// All certificates of a PEM file.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|error| TlsError::malformed(path, error))?;
    if !all.is_empty() {
        return Ok(all);
    }
    let (what, path) = ("certificate", path.to_owned());
    Err(match has_pem(&bytes) {
        true => TlsError::WrongPem {
            wanted: "\"CERTIFICATE\"",
            what,
            path,
        },
        false => TlsError::NoPem { what, path },
    })
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        pem::Error::NoItemsFound if has_pem(&bytes) => TlsError::WrongPem {
            wanted: "an unencrypted \"PRIVATE KEY\"",
            what: "key",
            path: path.to_owned(),
        },
        pem::Error::NoItemsFound => TlsError::NoPem {
            what: "key",
            path: path.to_owned(),
        },
        other => TlsError::malformed(path, other),
    })
}

/// A certificate chain with its key, checked to belong together.
pub(super) fn certified_key(
    cert: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(cert)?;
    let private = private_key(key)?;
    CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError::KeyMismatch {
            cert: cert.to_owned(),
            key: key.to_owned(),
        },
        other => TlsError::malformed(key, other),
    })
}

/// Every certificate of a file as a root of trust.
pub(super) fn roots(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store
            .add(certificate)
            .map_err(|error| TlsError::malformed(path, error))?;
    }
    Ok(Arc::new(store))
}

/// Serial numbers that a revocation list names. Both PEM and DER are taken.
pub(super) fn revoked_serials(path: &Path) -> Result<HashSet<Vec<u8>>, TlsError> {
    let bytes = read(path)?;
    let lists: Vec<Vec<u8>> = if has_pem(&bytes) {
        let all = rustls::pki_types::CertificateRevocationListDer::pem_slice_iter(&bytes);
        let all: Result<Vec<_>, _> = all.map(|list| list.map(|list| list.to_vec())).collect();
        all.map_err(|error| TlsError::malformed(path, error))?
    } else {
        vec![bytes]
    };
    let mut serials = HashSet::new();
    for list in &lists {
        let (_, list) = CertificateRevocationList::from_der(list)
            .map_err(|_| TlsError::malformed(path, "not a certificate revocation list"))?;
        let revoked = list.iter_revoked_certificates();
        serials.extend(revoked.map(|one| serial_bytes(one.raw_serial())));
    }
    Ok(serials)
}

/// A serial number without the zero bytes that only keep it positive.
pub(super) fn serial_bytes(serial: &[u8]) -> Vec<u8> {
    let start = serial
        .iter()
        .position(|byte| *byte != 0)
        .unwrap_or(serial.len());
    serial[start..].to_vec()
}
