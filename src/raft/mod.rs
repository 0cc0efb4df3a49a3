//! Consensus: the only module that names the `raft` crate.
//!
//! [`Core`] is one member of a raft group as a plain value. Inputs are method calls (a tick, a peer's
//! message, proposals, "this write is on disk", "this entry is applied"); everything the outside has
//! to do comes back from [`Core::take_output`]. It reads no clock, draws no random number, opens no
//! file and takes no lock that another thread could hold, so a seed replays a run exactly.
//!
//! # The driver's duties
//!
//! 1. Call [`Core::tick`] every heartbeat interval, however slow the disk is.
//! 2. After feeding inputs, call [`Core::take_output`] until [`Core::has_output`] is false.
//! 3. Send [`Output::messages`] at once. For an [`Output::write`]: append it to the log, sync, then send
//!    its `messages_after`, then call [`Core::persisted`]. Writes are numbered; keep their order. One
//!    sync may cover several of them, reported by the last number.
//! 4. Apply [`Output::committed`] in order. A configuration change goes through
//!    [`Core::apply_conf_change`] when (and only if) the state machine accepted it. Then report
//!    [`Core::applied`]; a report may arrive before the matching [`Core::persisted`].
//! 5. For each member in [`Output::snapshots_wanted`] answer once with [`Core::offer_snapshot`]; when the
//!    body has been sent or lost, [`Core::report_snapshot`].
//! 6. A [`Write::snapshot`] replaces the state machine: install it (after everything committed that was
//!    handed out before), make it durable, then report `persisted` and `applied`.
//!    A checkpoint's configuration is the one of its applied index: what `apply_conf_change` returned
//!    last, or the installed snapshot's. [`Core::conf_state`] may be ahead of it.
//! 7. Call [`Core::compact`] with what the durable checkpoint no longer needs.
//!
//! # Invariants
//!
//! * Nothing a peer sends can panic the process: [`validate`] stands in front of `raft`'s own checks,
//!   which are panics. [`Rejected`] says why a message was refused.
//! * No vote, no acknowledgement and no message of a new leadership leaves before the write it rests on
//!   is synced. Heartbeat answers and forwarded requests do not wait for the disk.
//! * No campaign starts while a write is in flight: the crate would panic on winning, and a member
//!   whose disk hangs has no business leading.
//! * The HardState's commit index rides along with the next write that must happen anyway; alone it
//!   causes one only when it covers a change of members.
//!
//! # Deliberately absent
//!
//! Joint consensus (etcd never uses it and its entries are refused), clock leases, priorities,
//! `request_snapshot`, asynchronous reads of old log entries: what has left the in-memory [`log`] window
//! is sent as a snapshot.

mod conf_change;
mod config;
mod core;
mod lines;
mod log;
mod output;
mod reads;
mod restore;
mod validate;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod scripts;
pub use conf_change::ConfChangeRefused;
pub use config::Config;
pub use core::{Core, ProposalRefused};
pub use lines::{LineKind, LineLevel, LogLine};
pub use output::{
    MemberProgress, Output, ReadReady, ReplicationState, Role, SoftState, Status, Write,
};
pub use raft_proto::eraftpb;
pub use restore::{CoreError, Restored};
pub use validate::Rejected;
