//! The one mapping of errors to gRPC codes and texts. Clients match on both, so they are etcd's to the letter.

use tonic::{Code, Status};

use crate::lease::LeaseError;
use crate::machine::{ApplyError, KeySpaceError};
use crate::membership::MembershipError;
use crate::mvcc::{MvccError, RequestError};
use crate::node::NodeError;

/// Texts that arise in this module.
macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $code:ident $text:literal;)+) => {$(
        $(#[$doc])*
        pub(super) fn $name() -> Status {
            Status::new(Code::$code, $text)
        }
    )+};
}

statuses! {
    empty_key = InvalidArgument "etcdserver: key is not provided";
    key_not_found = InvalidArgument "etcdserver: key not found";
    lease_not_found = NotFound "etcdserver: requested lease not found";
    compacted = OutOfRange "etcdserver: mvcc: required revision has been compacted";
    future_revision = OutOfRange "etcdserver: mvcc: required revision is a future revision";
    no_space = ResourceExhausted "etcdserver: mvcc: database space exceeded";
    invalid_client_api_version = InvalidArgument "etcdserver: invalid client api version";
    no_leader = Unavailable "etcdserver: no leader";
    not_leader = FailedPrecondition "etcdserver: not leader";
    stopped = Unavailable "etcdserver: server stopped";
    unsupported_for_learner = FailedPrecondition "etcdserver: rpc not supported for learner";
    bad_leader_transferee = FailedPrecondition "etcdserver: bad leader transferee";
    member_not_found = NotFound "etcdserver: member not found";
    member_not_learner = FailedPrecondition "etcdserver: can only promote a learner member";
    peer_urls_exist = FailedPrecondition "etcdserver: Peer URLs already exists";
    invalid_member_urls = InvalidArgument "etcdserver: given member URLs are invalid";
    unknown_downgrade_action = Unknown "etcdserver: unknown method";
    downgrade_version_format = InvalidArgument "etcdserver: wrong downgrade target version format";
    downgrade_target = InvalidArgument "etcdserver: invalid downgrade target version";
    downgrade_in_progress = FailedPrecondition "etcdserver: cluster has a downgrade job in progress";
    no_cluster_version =
        FailedPrecondition "etcdserver: cluster version not found during downgrade";
    auth_not_enabled = FailedPrecondition "etcdserver: authentication is not enabled";
    root_user_not_found = FailedPrecondition "etcdserver: root user does not exist";
    user_empty = InvalidArgument "etcdserver: user name is empty";
    user_not_found = FailedPrecondition "etcdserver: user name not found";
    role_empty = InvalidArgument "etcdserver: role name is empty";
    role_not_found = FailedPrecondition "etcdserver: role name not found";
    permission_not_given = InvalidArgument "etcdserver: permission not given";
    invalid_auth_management = InvalidArgument "etcdserver: invalid auth management";
    watch_canceled = Cancelled "etcdserver: watch canceled";
    unknown_health_service = NotFound "unknown service";
}

/// What this release knows of and does not do yet.
pub(super) fn not_served(what: &str) -> Status {
    Status::unimplemented(format!("etcdserver: {what} is not served yet"))
}

/// An alarm action etcd has no number for (it crashes).
pub(super) fn unknown_alarm_action(action: i32) -> Status {
    Status::invalid_argument(format!("etcdserver: unknown alarm action {action}"))
}

/// An answer of the machine that does not belong to the request.
pub(super) fn unexpected_answer() -> Status {
    Status::internal("etcdserver: unexpected answer to a request")
}

/// A failure below any request: the text is ours.
pub(super) fn failed(error: &dyn std::fmt::Display) -> Status {
    Status::unknown(format!("etcdserver: {error}"))
}

/// Why the member did not do something.
pub(super) fn node(error: NodeError) -> Status {
    let (code, text) = match error {
        NodeError::Apply(error) => return apply(error),
        NodeError::Read(error) => return read(error),
        NodeError::LeaseNotFound => return lease_not_found(),
        NodeError::NoLeader => return no_leader(),
        NodeError::NotLeader => return not_leader(),
        NodeError::BadTransferee => return bad_leader_transferee(),
        NodeError::Stopped => return stopped(),
        NodeError::Timeout => (Code::Unavailable, "etcdserver: request timed out"),
        NodeError::DeadlineExceeded => (Code::DeadlineExceeded, "context deadline exceeded"),
        NodeError::LeaderChanged => (Code::Unavailable, "etcdserver: leader changed"),
        // The codes of these two are etcd's, not its intention.
        NodeError::TooManyRequests => (Code::Unknown, "etcdserver: too many requests"),
        NodeError::TransferTimeout => (
            Code::Unknown,
            "etcdserver: request timed out, leader transfer took too long",
        ),
        NodeError::RequestTooLarge => (Code::InvalidArgument, "etcdserver: request is too large"),
        NodeError::Store(error) => return failed(&error),
    };
    Status::new(code, text)
}

fn apply(error: ApplyError) -> Status {
    match error {
        ApplyError::Corrupt => Status::data_loss("etcdserver: corrupt cluster"),
        ApplyError::NoSpace => no_space(),
        ApplyError::Mvcc(KeySpaceError::Compacted) => compacted(),
        ApplyError::Mvcc(KeySpaceError::FutureRevision) => future_revision(),
        ApplyError::Mvcc(KeySpaceError::KeyNotFound) => key_not_found(),
        ApplyError::Mvcc(KeySpaceError::LeaseNotFound) => lease_not_found(),
        ApplyError::Lease(LeaseError::NotFound) => lease_not_found(),
        ApplyError::Lease(LeaseError::Exists) => {
            Status::failed_precondition("etcdserver: lease already exists")
        }
        ApplyError::Lease(LeaseError::TtlTooLarge) => {
            Status::out_of_range("etcdserver: too large lease TTL")
        }
        ApplyError::Membership(error) => membership(error),
        ApplyError::UnknownAlarmAction(action) => unknown_alarm_action(action),
        ApplyError::NotServed => not_served("this request"),
    }
}

fn membership(error: MembershipError) -> Status {
    match error {
        MembershipError::IdRemoved | MembershipError::IdNotFound => member_not_found(),
        MembershipError::IdExists => {
            Status::failed_precondition("etcdserver: member ID already exist")
        }
        MembershipError::PeerUrlExists => peer_urls_exist(),
        MembershipError::NotLearner => member_not_learner(),
        MembershipError::TooManyLearners => {
            Status::failed_precondition("etcdserver: too many learner members in cluster")
        }
        error @ MembershipError::Malformed(_) => failed(&error),
    }
}

/// Why a read was refused.
pub(super) fn read(error: MvccError) -> Status {
    match error {
        MvccError::Compacted => compacted(),
        MvccError::FutureRevision => future_revision(),
        MvccError::KeyNotFound => key_not_found(),
        MvccError::LeaseNotFound => lease_not_found(),
        other => failed(&other),
    }
}

/// What is wrong with a request.
pub(super) fn request(error: RequestError) -> Status {
    let (code, text) = match error {
        RequestError::EmptyKey => return empty_key(),
        // etcd's answer to an operation that is none.
        RequestError::EmptyOp => return key_not_found(),
        RequestError::ValueProvided => (Code::InvalidArgument, "etcdserver: value is provided"),
        RequestError::LeaseProvided => (Code::InvalidArgument, "etcdserver: lease is provided"),
        RequestError::InvalidSortOption => {
            (Code::InvalidArgument, "etcdserver: invalid sort option")
        }
        RequestError::TooManyOps => (
            Code::InvalidArgument,
            "etcdserver: too many operations in txn request",
        ),
        RequestError::DuplicateKey => (
            Code::InvalidArgument,
            "etcdserver: duplicate key given in txn request",
        ),
        RequestError::StreamSorted => (
            Code::Unimplemented,
            "RangeStream does not support custom sort orders",
        ),
        RequestError::StreamFiltered => (
            Code::Unimplemented,
            "RangeStream does not support revision filters",
        ),
    };
    Status::new(code, text)
}
