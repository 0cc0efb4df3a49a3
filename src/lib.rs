//! etcd for systemd hosts. See ARCHITECTURE.md for the map.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod alarm;
pub mod client;
pub mod config;
pub mod disk;
pub mod lease;
pub mod logging;
pub mod membership;
pub mod metrics;
pub mod mvcc;
pub mod pb;
pub mod rpc;
pub mod store;
pub mod raft;
pub mod tls;
pub mod types;
pub mod watch;
pub mod wal;
