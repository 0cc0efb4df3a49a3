//! The running member: threads around the pure engines, and the handle everything else talks through.
//!
//! | thread | owns | waits for |
//! |---|---|---|
//! | `raft` | `raft::Core`, proposals in flight | its inbox, or the next tick |
//! | `wal` | the log files | writes from `raft`; one fsync covers all that queued up meanwhile |
//! | `apply` | `machine::Machine` | committed entries from `raft`, or its timer |
//! | `watch` | `watch::Hub` | changes from `apply`, requests from streams |
//! | `checkpoint` | `store::Store` | checkpoints from `apply` |
//!
//! Work goes down through bounded channels; what comes back up is a oneshot answer or an atomic mark, so no
//! cycle of waits can form. `raft` never waits for anyone: what the next thread has no room for stays with it,
//! and new proposals are refused meanwhile.
//!
//! A thread that cannot go on (an I/O error, state that contradicts the log) hands a [`Failure`] to the
//! process, which stops: nothing is retried after an unknown outcome.

mod apply_loop;
mod apply_meter;
mod checkpoint_loop;
mod compaction;
mod defragmentation;
mod error;
mod handle;
mod lease_clock;
mod lines;
mod open;
mod pending;
mod proposal_meter;
mod queue;
mod raft_loop;
mod read_waiters;
mod request_id;
mod shared;
mod start;
mod tasks;
#[cfg(test)]
mod tests;
mod wal_loop;
mod watch;
mod watch_stream;

pub use error::{Failure, NodeError};
pub use handle::{NodeHandle, Progress};
pub use shared::{Role, Status};
pub use start::{AutoCompaction, Identity, Running, Settings, start};
pub use watch::Watches;
pub use watch_stream::WatchStream;
