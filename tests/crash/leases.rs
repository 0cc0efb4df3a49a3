//! Clients that grant leases, hang keys on them and revoke some, and what must be true of those after a kill.

use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd::pb::etcdserverpb as pb;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::Clients;

/// Clients at work on leases.
const WORKERS: usize = 4;
/// Leases each of them grants in a round.
const GRANTS: usize = 6;
/// A lease that outlives the test, in seconds.
const LONG_TTL: i64 = 86_400;
/// A lease that runs out when nobody kills the member for so long, in seconds.
const SHORT_TTL: i64 = 3;
/// How long after its TTL a lease may take to run out, on a busy machine.
const EXPIRY_MAX: Duration = Duration::from_secs(60);

/// What is known of a lease. The outcome of a call that the kill cut off is not known, and nothing is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    /// Granted, and its key was put.
    Held,
    Revoked,
}

/// A lease and the key on it.
#[derive(Clone, Debug)]
pub struct Lease {
    id: i64,
    ttl: i64,
    /// When the grant was sent: it cannot run out sooner than its TTL after.
    granted: Instant,
    known: Known,
}

impl Lease {
    fn key(&self) -> Bytes {
        Bytes::from(format!("leased/{}", self.id))
    }
}

/// All leases of a test.
#[derive(Debug, Default)]
pub struct Leases {
    all: Vec<Lease>,
    /// Those from here on have not been looked at since the kill.
    checked: usize,
    rounds: i64,
}

impl Leases {
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Starts the clients of a round.
    pub fn work(&mut self, clients: &Clients) -> JoinSet<Vec<Lease>> {
        self.rounds += 1;
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            let first = (self.rounds * WORKERS as i64 + worker as i64) * GRANTS as i64;
            let channel = clients.channel(worker);
            workers.spawn(async move {
                let mut leases = Vec::new();
                for id in first..first + GRANTS as i64 {
                    leases.push(live(channel.clone(), id).await);
                }
                leases
            });
        }
        workers
    }

    /// Takes over what the clients know.
    pub fn learn(&mut self, found: Vec<Vec<Lease>>) {
        let known = found.into_iter().flatten();
        self.all
            .extend(known.filter(|lease| lease.known != Known::Nothing));
    }

    /// Compares the leases of the last round with the member's.
    pub async fn check(&mut self, clients: &Clients) -> Result<(), String> {
        for lease in &self.all[self.checked..] {
            check(clients, lease).await?;
        }
        self.checked = self.all.len();
        Ok(())
    }

    /// Compares all of them, and waits until those that should run out have.
    pub async fn check_all(&self, clients: &Clients) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(SHORT_TTL as u64) + EXPIRY_MAX;
        for lease in &self.all {
            check(clients, lease).await?;
            while lease.ttl == SHORT_TTL && Found::of(clients, lease).await? != Found::GONE {
                if Instant::now() > deadline {
                    return Err(format!("{lease:?} does not run out"));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }
}

/// The life of one lease.
async fn live(channel: Channel, id: i64) -> Lease {
    let ttl = match id % 3 {
        0 => SHORT_TTL,
        _ => LONG_TTL,
    };
    let mut lease = Lease {
        id,
        ttl,
        granted: Instant::now(),
        known: Known::Nothing,
    };
    if fill(channel.clone(), &lease).await.is_err() {
        return lease;
    }
    lease.known = Known::Held;
    if id % 3 == 1 {
        let revoke = pb::LeaseRevokeRequest { id };
        lease.known = match LeaseClient::new(channel).lease_revoke(revoke).await {
            Ok(_) => Known::Revoked,
            Err(_) => Known::Nothing,
        };
    }
    lease
}

async fn fill(channel: Channel, lease: &Lease) -> Result<(), tonic::Status> {
    let grant = pb::LeaseGrantRequest {
        id: lease.id,
        ttl: lease.ttl,
    };
    LeaseClient::new(channel.clone()).lease_grant(grant).await?;
    let put = pb::PutRequest {
        key: lease.key(),
        lease: lease.id,
        ..pb::PutRequest::default()
    };
    KvClient::new(channel).put(put).await.map(drop)
}

async fn check(clients: &Clients, lease: &Lease) -> Result<(), String> {
    let found = Found::of(clients, lease).await?;
    let age = lease.granted.elapsed();
    let may_be_gone = age >= Duration::from_secs(lease.ttl as u64);
    let is_right = match lease.known {
        Known::Nothing => true,
        Known::Held if may_be_gone => true,
        Known::Held => found == Found::HELD,
        Known::Revoked => found == Found::GONE,
    };
    match is_right {
        true => Ok(()),
        false => Err(format!("{lease:?} of {age:?} ago is {found:?}")),
    }
}

/// What the member has of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    is_lease: bool,
    has_key: bool,
}

impl Found {
    const HELD: Self = Self {
        is_lease: true,
        has_key: true,
    };
    const GONE: Self = Self {
        is_lease: false,
        has_key: false,
    };

    async fn of(clients: &Clients, lease: &Lease) -> Result<Self, String> {
        let channel = clients.channel(0);
        let asked = pb::LeaseTimeToLiveRequest {
            id: lease.id,
            keys: true,
        };
        let reply = LeaseClient::new(channel).lease_time_to_live(asked).await;
        let reply = reply.map_err(|error| error.to_string())?.into_inner();
        Ok(Self {
            is_lease: reply.ttl >= 0,
            has_key: reply.keys == [lease.key()],
        })
    }
}
