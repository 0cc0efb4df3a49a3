//! Leases: the replicated table ([`Table`]) and, apart from it, when they run out ([`Expiry`]).
//!
//! The table changes only by log entries and is the same on every member. Deadlines are the leader's
//! alone: they live in memory, come from the leader's clock (passed in as an argument), and move with
//! every keep-alive without touching the log.

mod expiry;
mod table;

pub use expiry::{Deadline, Expiry};
pub use table::{Lease, LeaseError, TTL_SECONDS_MAX, Table};
