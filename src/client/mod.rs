//! A client of an etcd cluster: one connection layer for every command.
//!
//! ```text
//! Client ── call (deadlines, retries, tokens) ── Balancer (turns, fail-over) ── Connection (HTTP/2, TLS)
//!   ├── api       every unary call, by name
//!   ├── watch     watches that resume after a broken connection without gap or duplicate
//!   ├── lease     keep-alive streams
//!   └── session, queue, mutex, election    locks and elections, done here with leases and transactions
//! ```
//!
//! The rules for repeating a call are etcd's: reads are repeated while the server is unavailable, writes only
//! when they surely were not sent. A call without a deadline waits for as long as no endpoint can be reached.
//!
//! Deliberately absent: a cache, automatic membership discovery, and any notion of output.

mod api;
mod balancer;
mod call;
mod connection;
mod discovery;
mod election;
mod endpoint;
mod error;
mod fetch;
mod lease;
pub mod log;
mod mutex;
mod probe;
mod queue;
mod range;
mod session;
mod tls;
mod watch;

pub use discovery::discover_endpoints;
pub use election::Election;
pub use endpoint::{Endpoint, Security};
pub use error::{Error, code_name, os_error_text, text};
pub use fetch::{HttpAnswer, http_get};
pub use lease::KeepAlive;
pub use mutex::Mutex;
pub use probe::{Probe, probe};
pub use range::{ALL_KEYS, prefix_end};
pub use session::{Session, TTL_SECONDS_DEFAULT};
pub use tls::{Tls, TlsOptions};
pub use watch::{WatchResponse, WatchStream, Watcher};

use balancer::Balancer;
use std::sync::Arc;
use std::time::Duration;

/// When a call gives up; `None`: never.
pub type Deadline = Option<tokio::time::Instant>;

/// What a client is made from.
#[derive(Clone, Debug)]
pub struct Config {
    /// The servers.
    pub endpoints: Vec<String>,
    /// How long the login at the start may take; zero: for ever.
    pub dial_timeout: Duration,
    /// Silence after which open calls' connections are pinged.
    pub keepalive_time: Duration,
    /// Silence after a ping that breaks the connection.
    pub keepalive_timeout: Duration,
    /// Largest request.
    pub request_bytes_max: usize,
    /// Largest response message.
    pub response_bytes_max: usize,
    /// TLS, if any was asked for.
    pub tls: Option<Arc<Tls>>,
    /// Who calls.
    pub credentials: Credentials,
    /// Where log lines go.
    pub logger: log::Logger,
}

impl Config {
    /// Largest request where none is set.
    pub const REQUEST_BYTES_MAX: usize = 2 * 1024 * 1024;
    /// Largest response where none is set.
    pub const RESPONSE_BYTES_MAX: usize = i32::MAX as usize;
}

/// Who calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody, or whom a client certificate names.
    #[default]
    None,
    /// A user; tokens are fetched and renewed as needed.
    Password {
        /// User name.
        user: String,
        /// Password.
        password: String,
    },
    /// A token that is used as it is.
    Token(String),
}

/// A client; clones share its connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    balancer: Arc<Balancer>,
    token: parking_lot::Mutex<Option<String>>,
}

impl Client {
    /// A client of these servers. Connects only to log in, if there is a user to log in.
    pub async fn connect(config: Config) -> Result<Self, Error> {
        if config.response_bytes_max < config.request_bytes_max
            && config.request_bytes_max != Config::REQUEST_BYTES_MAX
        {
            return Err(Error::Local(format!(
                "gRPC message recv limit ({} bytes) must be greater than send limit ({} bytes)",
                config.response_bytes_max, config.request_bytes_max
            )));
        }
        let balancer = balancer_of(&config, &config.endpoints)?;
        let token = match &config.credentials {
            Credentials::Token(token) => Some(token.clone()),
            _ => None,
        };
        let inner = Inner {
            balancer: Arc::new(balancer),
            token: parking_lot::Mutex::new(token),
            config,
        };
        let client = Self {
            inner: Arc::new(inner),
        };
        let deadline = match client.inner.config.dial_timeout {
            Duration::ZERO => None,
            timeout => Some(tokio::time::Instant::now() + timeout),
        };
        client.log_in(deadline).await?;
        Ok(client)
    }

    /// The endpoints as they were given.
    pub fn endpoints(&self) -> &[String] {
        &self.inner.config.endpoints
    }

    /// Where this client's log lines go.
    pub fn logger(&self) -> &log::Logger {
        &self.inner.config.logger
    }

    /// Why the last attempt to connect failed.
    pub fn last_connection_error(&self) -> Option<String> {
        self.inner.balancer.last_error()
    }

    /// The same client, calling one endpoint only.
    pub fn at(&self, endpoint: &str) -> Result<Self, Error> {
        let config = &self.inner.config;
        if matches!(config.endpoints.as_slice(), [only] if only == endpoint) {
            return Ok(self.clone());
        }
        self.at_with(Config {
            endpoints: vec![endpoint.to_owned()],
            ..config.clone()
        })
    }

    /// A client made otherwise, with this one's token.
    pub fn at_with(&self, config: Config) -> Result<Self, Error> {
        let balancer = Arc::new(balancer_of(&config, &config.endpoints)?);
        let token = parking_lot::Mutex::new(self.inner.token.lock().clone());
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                balancer,
                token,
            }),
        })
    }
}

/// A balancer whose first endpoint decides about TLS for all.
fn balancer_of(config: &Config, endpoints: &[String]) -> Result<Balancer, Error> {
    let endpoints: Vec<_> = endpoints.iter().map(|text| Endpoint::parse(text)).collect();
    let first = endpoints.first().ok_or(Error::NoEndpoints)?;
    let tls = match (first.security, &config.tls) {
        (Security::Plain, _) => None,
        (Security::Tls, None) => Some(TlsOptions::system()?),
        (_, tls) => tls.clone(),
    };
    let options = connection::Options {
        tls,
        keepalive_time: config.keepalive_time,
        keepalive_timeout: config.keepalive_timeout,
    };
    Ok(Balancer::new(endpoints, options))
}

#[cfg(test)]
mod tests;
