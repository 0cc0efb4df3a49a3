//! etcd for systemd hosts. See ARCHITECTURE.md for the map.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod alarm;
pub mod lease;
pub mod membership;
pub mod mvcc;
pub mod pb;
pub mod store;
pub mod types;
