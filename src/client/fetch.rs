//! One HTTP GET from an endpoint, for metrics and versions: what gRPC does not tell.

use super::connection::dial;
use super::endpoint::{Address, Endpoint};
use super::tls::Tls;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest answer.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// An answer with status 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    head: String,
    /// What came behind the headers.
    pub body: String,
}

impl HttpAnswer {
    /// A header's value; `name` in lower-case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(':'));
        headers
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }
}

/// Asks. The error is worded as Go's client words it, without the URL.
pub async fn http_get(
    endpoint: &Endpoint,
    path: &str,
    tls: Option<&Tls>,
) -> Result<HttpAnswer, String> {
    let (stream, _, _) = dial(&endpoint.address).await?;
    match tls {
        None => exchange(stream, endpoint, path).await,
        Some(tls) => {
            let stream = tls.http1().connect(endpoint.server_name(), stream).await?;
            exchange(stream, endpoint, path).await
        }
    }
}

/// HTTP/1.0 has the server close the connection behind its answer, which is then all there is to read.
async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    endpoint: &Endpoint,
    path: &str,
) -> Result<HttpAnswer, String> {
    let host = match &endpoint.address {
        Address::Tcp { .. } => endpoint.authority.as_str(),
        _ => "localhost",
    };
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let broken = |error: std::io::Error| super::os_error_text(&error);
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut answer = Vec::new();
    let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await;
    // A TLS peer that closes without a word has still said all it had to say.
    if let Err(error) = read
        && error.kind() != std::io::ErrorKind::UnexpectedEof
    {
        return Err(broken(error));
    }
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or("EOF")?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(HttpAnswer {
            head: head.to_owned(),
            body: body.to_owned(),
        }),
        Some(status) => Err(format!("unexpected status {status}")),
        None => Err(format!("malformed HTTP response {head:?}")),
    }
}
