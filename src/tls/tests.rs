//! Handshakes against certificates made here, with the files swapped underneath.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber,
};
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::*;

/// A certificate authority that writes PEM files into a directory.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    fn write_ca(&self, path: &Path) {
        fs::write(path, &self.pem).unwrap();
    }

    /// A certificate for `names` with this common name and serial number.
    fn write(&self, dir: &Path, file: &str, common_name: &str, names: &[&str], serial: u8) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.serial_number = Some(SerialNumber::from(vec![serial]));
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(dir.join(format!("{file}.crt")), cert.pem()).unwrap();
        fs::write(dir.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }

    fn write_crl(&self, path: &Path, serials: &[u8], as_pem: bool) {
        let day = std::time::Duration::from_secs(86400);
        let now = std::time::SystemTime::now();
        let revoked = |serial: &u8| RevokedCertParams {
            serial_number: SerialNumber::from(vec![*serial]),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + day).into(),
            crl_number: SerialNumber::from(vec![1]),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let crl = params.signed_by(&self.issuer).unwrap();
        match as_pem {
            true => fs::write(path, crl.pem().unwrap()).unwrap(),
            false => fs::write(path, crl.der()).unwrap(),
        }
    }
}

/// A directory with a CA, a server's and a client's certificate.
struct Files {
    dir: TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let files = Self {
            dir: tempfile::tempdir().unwrap(),
            authority: Authority::new("one"),
        };
        files.authority.write_ca(&files.path("ca.crt"));
        files
            .authority
            .write(files.dir.path(), "server", "server", &["localhost"], 10);
        files
            .authority
            .write(files.dir.path(), "client", "alice", &["alice.example"], 20);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn options(&self) -> ServerOptions {
        ServerOptions {
            usage: "client",
            cert_file: self.path("server.crt"),
            key_file: self.path("server.key"),
            ..ServerOptions::default()
        }
    }

    fn mutual(&self) -> ServerOptions {
        let trusted_ca_file = Some(self.path("ca.crt"));
        ServerOptions {
            trusted_ca_file,
            client_cert_auth: true,
            ..self.options()
        }
    }

    fn client(&self, certificate: Option<&str>) -> Arc<rustls::ClientConfig> {
        let file = |name: &str, suffix: &str| self.path(&format!("{name}.{suffix}"));
        client_config(&ClientOptions {
            trusted_ca_file: Some(self.path("ca.crt")),
            certificate: certificate.map(|name| (file(name, "crt"), file(name, "key"))),
            ..ClientOptions::default()
        })
        .unwrap()
    }
}

type Pair = (
    client::TlsStream<DuplexStream>,
    server::TlsStream<DuplexStream>,
);

/// Both sides' results of one handshake and a byte each way.
async fn connect(
    server: &Server,
    client: Arc<rustls::ClientConfig>,
) -> Result<Pair, (String, io::Error)> {
    let (near, far) = duplex(64 * 1024);
    let acceptor = TlsAcceptor::from(server.config());
    let name = ServerName::try_from("localhost").unwrap();
    let connecting = async {
        let mut stream = TlsConnector::from(client).connect(name, near).await?;
        stream.write_all(b"?").await?;
        // With TLS 1.3 a client learns only now that it was refused.
        stream.read_exact(&mut [0]).await?;
        Ok::<_, io::Error>(stream)
    };
    let accepting = async {
        let mut stream = acceptor.accept(far).await?;
        stream.read_exact(&mut [0]).await?;
        stream.write_all(b"!").await?;
        stream.flush().await?;
        Ok::<_, io::Error>(stream)
    };
    match tokio::join!(connecting, accepting) {
        (Ok(client), Ok(server)) => Ok((client, server)),
        (client, Err(error)) => Err((client.map_or_else(|e| e.to_string(), |_| "".into()), error)),
        (Err(error), Ok(_)) => Err((String::new(), error)),
    }
}

async fn still_open((client, server): &mut Pair) {
    client.write_all(b"x").await.unwrap();
    client.flush().await.unwrap();
    server.read_exact(&mut [0]).await.unwrap();
}

#[tokio::test]
async fn client_certificates_are_asked_for_and_verified() {
    let files = Files::new();
    let server = Server::load(files.mutual()).unwrap();
    connect(&server, files.client(Some("client")))
        .await
        .unwrap();

    let (client, error) = connect(&server, files.client(None)).await.unwrap_err();
    assert_eq!(
        handshake_error_text(&error),
        "tls: client didn't provide a certificate"
    );
    assert!(client.contains("CertificateRequired"), "{client}");

    let other = Authority::new("two");
    other.write(files.dir.path(), "stranger", "mallory", &[], 30);
    let (client, error) = connect(&server, files.client(Some("stranger")))
        .await
        .unwrap_err();
    assert_eq!(
        handshake_error_text(&error),
        "tls: failed to verify certificate: x509: certificate signed by unknown authority"
    );
    assert!(client.contains("UnknownCA"), "{client}");
    assert!(rejected_names(&error).is_none());
}

#[tokio::test]
async fn a_trusted_certificate_is_good_by_itself_even_if_it_is_a_cas() {
    let files = Files::new();
    let selfmade = |use_of_key, start_year| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.extended_key_usages.extend(use_of_key);
        params.not_before = rcgen::date_time_ymd(start_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        fs::write(files.path("self.crt"), &pem).unwrap();
        fs::write(files.path("self.key"), key.serialize_pem()).unwrap();
        pem
    };
    let mut options = files.mutual();
    options.trusted_ca_file = Some(files.path("trusted.crt"));
    let attempt = async |trusted: String| {
        fs::write(files.path("trusted.crt"), trusted).unwrap();
        let server = Server::load(options.clone()).unwrap();
        let attempt = connect(&server, files.client(Some("self"))).await;
        attempt.map(drop).map_err(|(client, _)| client)
    };
    attempt(selfmade(None, 2020)).await.unwrap();
    attempt(selfmade(Some(ExtendedKeyUsagePurpose::ClientAuth), 2020))
        .await
        .unwrap();
    let of_server = selfmade(Some(ExtendedKeyUsagePurpose::ServerAuth), 2020);
    attempt(of_server).await.unwrap_err();
    attempt(selfmade(None, 4000)).await.unwrap_err();
    // One more certificate of this kind, which nobody trusts.
    selfmade(None, 2020);
    attempt(files.authority.pem.clone()).await.unwrap_err();
}

#[tokio::test]
async fn a_client_that_refuses_us_is_quoted_in_gos_words() {
    let files = Files::new();
    let server = Server::load(files.options()).unwrap();
    Authority::new("two").write_ca(&files.path("ca.crt"));
    let (_, error) = connect(&server, files.client(None)).await.unwrap_err();
    assert_eq!(
        handshake_error_text(&error),
        "remote error: tls: unknown certificate authority"
    );
    assert!(!is_end_of_stream(&error));
    assert!(is_end_of_stream(&io::ErrorKind::UnexpectedEof.into()));
}

#[tokio::test]
async fn allow_lists_refuse_with_bad_certificate_and_name_the_client() {
    let files = Files::new();
    for (cns, hostnames, welcome) in [
        (vec!["bob", "alice"], vec![], true),
        (vec!["bob"], vec![], false),
        (vec![], vec!["alice.example"], true),
        (vec![], vec!["bob.example", "not a name"], false),
    ] {
        let owned = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect();
        let server = Server::load(ServerOptions {
            allowed_common_names: owned(cns.clone()),
            allowed_host_names: owned(hostnames.clone()),
            ..files.mutual()
        })
        .unwrap();
        match connect(&server, files.client(Some("client"))).await {
            Ok((_, stream)) => {
                assert!(welcome, "{cns:?} {hostnames:?}");
                let certificates = stream.get_ref().1.peer_certificates().unwrap();
                assert_eq!(common_name(&certificates[0]).as_deref(), Some("alice"));
            }
            Err((client, error)) => {
                assert!(!welcome, "{cns:?} {hostnames:?}: {error}");
                assert!(client.contains("BadCertificate"), "{client}");
                assert_eq!(
                    handshake_error_text(&error),
                    "client certificate authentication failed"
                );
                assert_eq!(
                    rejected_names(&error),
                    Some((vec![], vec!["alice.example"]))
                );
            }
        }
    }
    let both = ServerOptions {
        allowed_common_names: vec!["a".into()],
        allowed_host_names: vec!["b".into()],
        ..files.mutual()
    };
    let error = Server::load(both).err().unwrap().to_string();
    assert!(
        error.starts_with("AllowedCNs and AllowedHostnames are mutually exclusive"),
        "{error}"
    );
}

#[tokio::test]
async fn certificate_and_authority_are_swapped_under_open_connections() {
    let files = Files::new();
    let server = Server::load(files.mutual()).unwrap();
    let old_client = files.client(Some("client"));
    let mut open = connect(&server, old_client.clone()).await.unwrap();

    let two = Authority::new("two");
    two.write_ca(&files.path("ca.crt"));
    two.write(files.dir.path(), "server", "server", &["localhost"], 11);
    two.write(files.dir.path(), "client", "alice", &[], 21);
    connect(&server, files.client(Some("client")))
        .await
        .unwrap();
    still_open(&mut open).await;
    // The old client would resume its session, if sessions outlived the swap; its CA is gone.
    connect(&server, old_client).await.unwrap_err();
    let subjects: Vec<_> = server
        .certificates()
        .into_iter()
        .map(|fact| fact.subject)
        .collect();
    assert!(
        subjects.iter().any(|subject| subject.contains("two")),
        "{subjects:?}"
    );
}

#[tokio::test]
async fn files_that_do_not_fit_leave_the_former_ones_in_use() {
    let files = Files::new();
    let server = Server::load(ServerOptions {
        usage: "unfit",
        ..files.options()
    })
    .unwrap();
    let client = files.client(None);
    let other = KeyPair::generate().unwrap().serialize_pem();
    let cert = files.path("server.crt").display().to_string();
    let good_key = fs::read(files.path("server.key")).unwrap();
    for (bad, text) in [
        (other.as_str(), "tls: private key does not match public key"),
        ("", "tls: failed to find any PEM data in key input"),
        (
            "-----BEGIN X-----\nAAAA\n-----END X-----\n",
            "tls: failed to find an unencrypted \"PRIVATE KEY\" PEM block",
        ),
    ] {
        fs::write(files.path("server.key"), bad).unwrap();
        connect(&server, client.clone()).await.unwrap();
        let error = server.reload().unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    fs::remove_file(files.path("server.key")).unwrap();
    let error = server.reload().unwrap_err().to_string();
    let key = files.path("server.key").display().to_string();
    assert_eq!(error, format!("open {key}: no such file or directory"));
    connect(&server, client.clone()).await.unwrap();

    let family = &crate::metrics::global().tls_reloads;
    let failures = family.with(&["failure", "unfit"]).get();
    server.check();
    server.check();
    assert_eq!(
        family.with(&["failure", "unfit"]).get(),
        failures,
        "one attempt per change"
    );
    fs::write(files.path("server.key"), good_key).unwrap();
    server.check();
    assert_eq!(family.with(&["success", "unfit"]).get(), 1);
    assert!(cert.ends_with("server.crt"));
}

#[tokio::test]
async fn revoked_clients_are_refused_from_the_moment_the_list_says_so() {
    let files = Files::new();
    for as_pem in [false, true] {
        files.authority.write_crl(&files.path("crl"), &[99], as_pem);
        let crl_file = Some(files.path("crl"));
        let server = Server::load(ServerOptions {
            crl_file,
            ..files.mutual()
        })
        .unwrap();
        let client = files.client(Some("client"));
        let mut open = connect(&server, client.clone()).await.unwrap();
        files
            .authority
            .write_crl(&files.path("crl"), &[99, 20], as_pem);
        let (alert, error) = connect(&server, client).await.unwrap_err();
        assert_eq!(
            handshake_error_text(&error),
            "transport: certificate revoked"
        );
        assert!(alert.contains("CertificateRevoked"), "{alert}");
        still_open(&mut open).await;
    }
    fs::write(files.path("crl"), "nonsense").unwrap();
    let crl_file = Some(files.path("crl"));
    let error = Server::load(ServerOptions {
        crl_file,
        ..files.mutual()
    })
    .err()
    .unwrap();
    assert!(
        error
            .to_string()
            .contains("not a certificate revocation list"),
        "{error}"
    );
}

#[tokio::test]
async fn versions_and_suites_are_kept_to() {
    let files = Files::new();
    let protocol = Protocol {
        version_max: Some(Version::Tls12),
        cipher_suites: vec!["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305".into()],
        ..Protocol::default()
    };
    let server = Server::load(ServerOptions {
        protocol,
        ..files.options()
    })
    .unwrap();
    let (_, stream) = connect(&server, files.client(None)).await.unwrap();
    let suite = stream
        .get_ref()
        .1
        .negotiated_cipher_suite()
        .unwrap()
        .suite();
    assert_eq!(
        suite,
        rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
    );

    let client = |protocol| {
        let trusted_ca_file = Some(files.path("ca.crt"));
        client_config(&ClientOptions {
            trusted_ca_file,
            protocol,
            ..ClientOptions::default()
        })
        .unwrap()
    };
    let newer = client(Protocol {
        version_min: Version::Tls13,
        ..Protocol::default()
    });
    let (_, error) = connect(&server, newer).await.unwrap_err();
    assert_eq!(
        handshake_error_text(&error),
        "tls: client offered only unsupported versions"
    );
    let cipher_suites = vec!["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256".into()];
    let version_max = Some(Version::Tls12);
    let other = client(Protocol {
        cipher_suites,
        version_max,
        ..Protocol::default()
    });
    let (_, error) = connect(&server, other).await.unwrap_err();
    assert_eq!(
        handshake_error_text(&error),
        "tls: no cipher suite supported by both client and server"
    );
}

#[test]
fn half_a_pair_and_authentication_without_authority_are_refused() {
    let files = Files::new();
    let half = ServerOptions {
        key_file: PathBuf::new(),
        ..files.options()
    };
    let error = Server::load(half).err().unwrap().to_string();
    assert!(
        error.starts_with("KeyFile and CertFile must both be present[key: , cert: "),
        "{error}"
    );
    let error = Server::load(ServerOptions {
        client_cert_auth: true,
        ..files.options()
    });
    assert!(
        error
            .err()
            .unwrap()
            .to_string()
            .contains("--trusted-ca-file")
    );
}

#[tokio::test]
async fn self_signed_certificates_serve_and_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().join("fixtures/client");
    let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = self_signed(&directory, &hosts, 1, false).unwrap();
    let first = fs::read(&made.cert_file).unwrap();
    assert_eq!(self_signed(&directory, &hosts, 1, false).unwrap(), made);
    assert_eq!(fs::read(&made.cert_file).unwrap(), first);
    let mode = std::os::unix::fs::PermissionsExt::mode;
    assert_eq!(
        mode(&fs::metadata(&made.key_file).unwrap().permissions()) & 0o777,
        0o600
    );

    let server = Server::load(ServerOptions {
        usage: "client",
        cert_file: made.cert_file.clone(),
        key_file: made.key_file,
        ..ServerOptions::default()
    })
    .unwrap();
    let trusted_ca_file = Some(made.cert_file);
    let verifying = ClientOptions {
        trusted_ca_file,
        ..ClientOptions::default()
    };
    connect(&server, client_config(&verifying).unwrap())
        .await
        .unwrap();
    let skipping = ClientOptions {
        insecure_skip_verify: true,
        ..ClientOptions::default()
    };
    connect(&server, client_config(&skipping).unwrap())
        .await
        .unwrap();
    connect(&server, client_config(&ClientOptions::default()).unwrap())
        .await
        .unwrap_err();
    let year = 365 * 24 * 3600;
    let left = server.certificates()[0].not_after - jiff::Timestamp::now().as_second();
    assert!((year - 60..=year).contains(&left), "{left}");

    let error = self_signed(&dir.path().join("x"), &hosts, 0, false).unwrap_err();
    assert!(error.to_string().contains("should be greater than 0"));
}
