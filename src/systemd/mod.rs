//! The service manager: telling it what this process is doing, and taking what it hands over.
//!
//! [`Notifier`] sends state datagrams and is silent where there is no manager. [`Watchdog`] decides, from
//! counters alone, whether the process may claim to be alive; it is a pure function of what it is shown,
//! and [`feed_watchdog`] is the thin loop around it. [`StatusText`] builds the line of `systemctl status`.
//! [`inherited_sockets`] takes the listening sockets of a socket unit.
//!
//! Why not a thread of its own that pings: a watchdog that is fed whatever happens watches nothing. It is
//! fed only while raft, apply and log writes advance.
//!
//! Deliberately absent: the journal (module `logging`); unsetting the environment, which is not safe once
//! threads run; a descriptor store, which would keep the port open for a member that does not come back.

mod credentials;
mod notify;
mod sockets;
mod status;
mod watchdog;

pub use credentials::credential;
pub use notify::{Notifier, ReloadNotice};
pub use sockets::{InheritedListener, InheritedSocket, inherited_sockets, sockets_named};
pub use status::{StatusText, human_bytes};
pub use watchdog::{Progress, Verdict, Watchdog, feed_watchdog};
