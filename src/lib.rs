//! etcd for systemd hosts. See ARCHITECTURE.md for the map.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod alarm;
pub mod bbolt;
pub mod client;
pub mod config;
pub mod ctl;
pub mod disk;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod http;
pub mod lease;
pub mod logging;
pub mod machine;
pub mod membership;
pub mod metrics;
pub mod mvcc;
pub mod node;
pub mod pb;
pub mod raft;
pub mod rpc;
pub mod server;
pub mod store;
pub mod systemd;
pub mod tls;
pub mod types;
pub mod utl;
pub mod wal;
pub mod watch;
