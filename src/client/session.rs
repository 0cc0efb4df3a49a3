//! A lease that is kept alive while this process lives: what locks and elections hang their keys on.

use super::log::{Level, Value};
use super::{Client, Error};
use crate::pb::etcdserverpb::LeaseGrantRequest;
use tokio_util::sync::CancellationToken;

/// Time to live of a session's lease where none is given.
pub const TTL_SECONDS_DEFAULT: i64 = 60;

/// A lease with someone keeping it alive.
pub struct Session {
    client: Client,
    lease: i64,
    lost: CancellationToken,
}

impl Session {
    /// Grants a lease and keeps it alive.
    pub async fn start(client: &Client, ttl_seconds: i64) -> Result<Self, Error> {
        let ttl = match ttl_seconds {
            1.. => ttl_seconds,
            _ => {
                let fields = [("current-session-ttl", Value::from(TTL_SECONDS_DEFAULT))];
                let message = "WithTTL(): TTL should be > 0, preserving current TTL";
                client.logger().log(Level::Warn, message, &fields);
                TTL_SECONDS_DEFAULT
            }
        };
        let granted = client
            .lease_grant(LeaseGrantRequest { ttl, id: 0 }, None)
            .await?;
        let mut answers = client.keep_alive(granted.id);
        let lost = CancellationToken::new();
        let report = lost.clone();
        tokio::spawn(async move {
            while answers.recv().await.is_some() {}
            report.cancel();
        });
        Ok(Self {
            client: client.clone(),
            lease: granted.id,
            lost,
        })
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The lease.
    pub fn lease(&self) -> i64 {
        self.lease
    }

    /// Completes when the lease is gone or could not be kept.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }
}
