//! etcd for systemd hosts. See ARCHITECTURE.md for the map.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod metrics;
pub mod pb;
pub mod store;
pub mod tls;
pub mod types;
