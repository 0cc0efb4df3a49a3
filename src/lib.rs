//! etcd for systemd hosts. See ARCHITECTURE.md for the map.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod alarm;
pub mod disk;
pub mod lease;
pub mod membership;
pub mod metrics;
pub mod bbolt;
pub mod config;
pub mod logging;
pub mod client;
pub mod pb;
pub mod store;
pub mod types;
pub mod watch;
