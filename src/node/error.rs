//! Why a request was not answered, and why the process stops.

use super::queue::Refused;
use crate::machine::ApplyError;
use crate::mvcc::MvccError;
use crate::store::StoreError;

/// Why a request failed. `rpc::status` gives each its gRPC code and etcd's text.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// It was applied and refused.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A read was refused.
    #[error(transparent)]
    Read(#[from] MvccError),
    /// Not answered in time; it may have been applied.
    #[error("etcdserver: request timed out")]
    Timeout,
    /// Not answered in time, and no leader was known when it was made.
    #[error("context deadline exceeded")]
    DeadlineExceeded,
    /// No leader to ask.
    #[error("etcdserver: no leader")]
    NoLeader,
    /// The leader changed while the request waited.
    #[error("etcdserver: leader changed")]
    LeaderChanged,
    /// The member is behind with its work: too much is committed but not applied, or a queue is full.
    #[error("etcdserver: too many requests")]
    TooManyRequests,
    /// Larger than the request limit.
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    /// This member does not lead.
    #[error("etcdserver: not leader")]
    NotLeader,
    /// Leadership cannot go to that member.
    #[error("etcdserver: bad leader transferee")]
    BadTransferee,
    /// Leadership did not move in time.
    #[error("etcdserver: request timed out, leader transfer took too long")]
    TransferTimeout,
    /// The lease is not known.
    #[error("lease not found")]
    LeaseNotFound,
    /// The member is stopping.
    #[error("etcdserver: server stopped")]
    Stopped,
    /// Stored state could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<T> From<Refused<T>> for NodeError {
    fn from(refused: Refused<T>) -> Self {
        match refused {
            Refused::Full(_) => Self::TooManyRequests,
            Refused::Ended => Self::Stopped,
        }
    }
}

/// Why the process must stop. The text says what happened and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{thread}: {reason}")]
pub struct Failure {
    /// The thread that could not go on.
    pub thread: &'static str,
    /// What happened, and what to do.
    pub reason: String,
}
