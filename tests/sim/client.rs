//! Clients: each does one operation after the other against a member of its choice.

use crate::machine::{Outcome, Seen};
use crate::random::Micros;

/// How long a client waits.
pub(crate) const PATIENCE: Micros = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Put(u64),
    Delete,
    Get,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Wrote(Outcome),
    Read(Seen),
}

/// One operation, as its client saw it.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// Of the request, or the ticket of a read. Unique in a run.
    pub(crate) id: u64,
    pub(crate) kind: Kind,
    pub(crate) key: u64,
    pub(crate) called: Micros,
    /// When and with what it returned; never, if the client gave up.
    pub(crate) returned: Option<(Micros, Answer)>,
}

#[derive(Default)]
pub(crate) struct Client {
    /// Waiting for this operation.
    pub(crate) waits_for: Option<Operation>,
    /// Reads and writes completed since the world healed.
    pub(crate) reads_since_heal: u64,
    pub(crate) writes_since_heal: u64,
}
