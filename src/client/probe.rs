//! Looking at an endpoint from outside: can it be reached, does it speak TLS, and with which certificate.

use super::connection::dial;
use super::endpoint::Endpoint;
use super::tls::Tls;
use rustls::pki_types::CertificateDer;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// What a look at an endpoint found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Why no connection can be made to it; `None`: one can.
    pub unreachable: Option<String>,
    /// Whether it speaks TLS; `None`: it speaks neither TLS nor anything else that was understood.
    pub speaks_tls: Option<bool>,
    /// Its certificate, encoded.
    pub certificate: Option<Vec<u8>>,
    /// Why the certificate is not accepted; `None`: it is, or there is none.
    pub distrust: Option<String>,
}

/// Time for each step.
const STEP_TIMEOUT: Duration = Duration::from_secs(2);

/// Looks at an endpoint. `tls`: how this side would check its certificate.
pub async fn probe(endpoint: &Endpoint, tls: Option<&Tls>) -> Probe {
    match timeout(STEP_TIMEOUT, dial(&endpoint.address)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            return Probe {
                unreachable: Some(error),
                ..Probe::default()
            };
        }
        Err(_) => {
            let unreachable = Some("no answer to the connection attempt".to_owned());
            return Probe {
                unreachable,
                ..Probe::default()
            };
        }
    }
    let mut found = Probe::default();
    let chain = certificates_of(endpoint).await;
    if let [certificate, others @ ..] = chain.as_slice() {
        found.speaks_tls = Some(true);
        found.certificate = Some(certificate.to_vec());
        if let Some(tls) = tls {
            found.distrust = tls.check(endpoint.server_name(), certificate, others).err();
        }
    } else if speaks_plain_http(endpoint).await {
        found.speaks_tls = Some(false);
    }
    found
}

/// The certificates an endpoint shows to who accepts any, its own first.
async fn certificates_of(endpoint: &Endpoint) -> Vec<CertificateDer<'static>> {
    let handshake = async {
        let any = Tls::accepting_any()?;
        let (stream, _, _) = dial(&endpoint.address).await.ok()?;
        let stream = any.connect(endpoint.server_name(), stream).await.ok()?;
        let chain = stream.get_ref().1.peer_certificates()?;
        Some(
            chain
                .iter()
                .map(|certificate| certificate.clone().into_owned())
                .collect(),
        )
    };
    timeout(STEP_TIMEOUT, handshake)
        .await
        .ok()
        .flatten()
        .unwrap_or_default()
}

async fn speaks_plain_http(endpoint: &Endpoint) -> bool {
    let exchange = async {
        let (mut stream, _, _) = dial(&endpoint.address).await.ok()?;
        stream
            .write_all(b"GET /version HTTP/1.0\r\nHost: probe\r\n\r\n")
            .await
            .ok()?;
        let mut head = [0; 5];
        stream.read_exact(&mut head).await.ok()?;
        // A TLS server complains in plain HTTP, too, but its handshake has been tried before.
        Some(&head == b"HTTP/")
    };
    timeout(STEP_TIMEOUT, exchange)
        .await
        .ok()
        .flatten()
        .unwrap_or_default()
}
