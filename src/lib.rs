//! etcd for systemd hosts. See ARCHITECTURE.md for the map.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod pb;
pub mod raft;
pub mod types;
