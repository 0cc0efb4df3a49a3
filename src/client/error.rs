//! What can go wrong for a caller of the client, and how it reads.
//!
//! Scripts match these texts, so they are etcd's: an error the server names prints as its bare text, any other
//! status as `rpc error: code = … desc = …`, a passed deadline as Go's context error.

use tonic::{Code, Status};

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The server refused with one of etcd's own errors.
    #[error("{text}")]
    Etcd {
        /// The status code it came with.
        code: Code,
        /// etcd's text.
        text: String,
    },
    /// Any other status: from gRPC itself, a proxy, or a text this client does not know.
    #[error("rpc error: code = {} desc = {text}", code_name(*code))]
    Rpc {
        /// The status code.
        code: Code,
        /// The status message.
        text: String,
    },
    /// The caller's deadline passed.
    #[error("context deadline exceeded")]
    DeadlineExceeded,
    /// The caller gave up.
    #[error("context canceled")]
    Canceled,
    /// The endpoint list is empty.
    #[error("etcdclient: no available endpoints")]
    NoEndpoints,
    /// Something on this side: files, certificates, limits that contradict each other.
    #[error("{0}")]
    Local(String),
}

impl Error {
    /// The error a status means to a caller. `expired`: the caller's own deadline has passed.
    pub fn from_status(status: &Status, expired: bool) -> Self {
        let (code, text) = (status.code(), status.message().to_owned());
        if is_known(&text) {
            return Self::Etcd { code, text };
        }
        match code {
            Code::DeadlineExceeded if expired => Self::DeadlineExceeded,
            _ => Self::Rpc { code, text },
        }
    }

    /// The error a server puts into words, as in a cancelled watch.
    pub fn from_reason(reason: &str) -> Self {
        match is_known(reason) {
            true => Self::Etcd {
                code: Code::Unknown,
                text: reason.to_owned(),
            },
            false => Self::Local(reason.to_owned()),
        }
    }

    /// Whether this is etcd's error with exactly this text.
    pub fn is(&self, etcd_text: &str) -> bool {
        matches!(self, Self::Etcd { text, .. } if text == etcd_text)
    }
}

/// gRPC's name of a code, as Go prints it.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// An operating system error as Go words it: no number, lower-case.
pub fn os_error_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if error.raw_os_error().is_some() => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

fn is_known(text: &str) -> bool {
    text.starts_with("etcdserver: ") && KNOWN.contains(&text)
}

/// Errors the client itself acts on.
pub mod text {
    pub const AUTH_NOT_ENABLED: &str = "etcdserver: authentication is not enabled";
    pub const AUTH_OLD_REVISION: &str = "etcdserver: revision of auth store is old";
    pub const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
    pub const FUTURE_REVISION: &str = "etcdserver: mvcc: required revision is a future revision";
    pub const INVALID_AUTH_TOKEN: &str = "etcdserver: invalid auth token";
    pub const LEASE_NOT_FOUND: &str = "etcdserver: requested lease not found";
    pub const NOT_SUPPORTED_FOR_LEARNER: &str = "etcdserver: rpc not supported for learner";
    pub const NO_LEADER: &str = "etcdserver: no leader";
    pub const PERMISSION_DENIED: &str = "etcdserver: permission denied";
    pub const ROOT_ROLE_NOT_EXIST: &str = "etcdserver: root user does not have root role";
    pub const USER_EMPTY: &str = "etcdserver: user name is empty";
}

/// The texts etcd's client turns into bare errors; all others keep their `rpc error:` head.
const KNOWN: &[&str] = &[
    "etcdserver: key is not provided",
    "etcdserver: key not found",
    "etcdserver: value is provided",
    "etcdserver: lease is provided",
    "etcdserver: too many operations in txn request",
    "etcdserver: duplicate key given in txn request",
    "etcdserver: invalid sort option",
    text::COMPACTED,
    text::FUTURE_REVISION,
    "etcdserver: mvcc: database space exceeded",
    text::LEASE_NOT_FOUND,
    "etcdserver: lease already exists",
    "etcdserver: too large lease TTL",
    "etcdserver: member ID already exist",
    "etcdserver: Peer URLs already exists",
    "etcdserver: re-configuration failed due to not enough started members",
    "etcdserver: given member URLs are invalid",
    "etcdserver: member not found",
    "etcdserver: can only promote a learner member",
    "etcdserver: can only promote a learner member which is in sync with leader",
    "etcdserver: too many learner members in cluster",
    "etcdserver: cluster ID mismatch",
    "etcdserver: request is too large",
    "etcdserver: too many requests",
    "etcdserver: root user does not exist",
    text::ROOT_ROLE_NOT_EXIST,
    "etcdserver: user name already exists",
    text::USER_EMPTY,
    "etcdserver: user name not found",
    "etcdserver: role name already exists",
    "etcdserver: role name not found",
    "etcdserver: role name is empty",
    "etcdserver: authentication failed, invalid user ID or password",
    text::PERMISSION_DENIED,
    "etcdserver: role is not granted to the user",
    "etcdserver: permission is not granted to the role",
    text::AUTH_NOT_ENABLED,
    text::INVALID_AUTH_TOKEN,
    "etcdserver: invalid auth management",
    text::AUTH_OLD_REVISION,
    text::NO_LEADER,
    "etcdserver: not leader",
    "etcdserver: leader changed",
    "etcdserver: not capable",
    "etcdserver: server stopped",
    "etcdserver: request timed out",
    "etcdserver: request timed out, possibly due to previous leader failure",
    "etcdserver: request timed out, possibly due to connection lost",
    "etcdserver: unhealthy cluster",
    "etcdserver: corrupt cluster",
    text::NOT_SUPPORTED_FOR_LEARNER,
    "etcdserver: bad leader transferee",
    "etcdserver: cluster version not found during downgrade",
    "etcdserver: wrong downgrade target version format",
    "etcdserver: invalid downgrade target version",
    "etcdserver: cluster has a downgrade job in progress",
    "etcdserver: no inflight downgrade job",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_texts_print_bare_others_with_their_code() {
        let known = Status::not_found("etcdserver: requested lease not found");
        assert_eq!(
            Error::from_status(&known, false).to_string(),
            text::LEASE_NOT_FOUND
        );
        let unknown = Status::cancelled("etcdserver: unknown method");
        assert_eq!(
            Error::from_status(&unknown, false).to_string(),
            "rpc error: code = Canceled desc = etcdserver: unknown method"
        );
    }

    #[test]
    fn a_deadline_is_the_callers_only_when_it_passed() {
        let status = Status::deadline_exceeded("context deadline exceeded");
        assert_eq!(Error::from_status(&status, true), Error::DeadlineExceeded);
        assert_eq!(
            Error::from_status(&status, false).to_string(),
            "rpc error: code = DeadlineExceeded desc = context deadline exceeded"
        );
    }

    #[test]
    fn os_errors_read_as_in_go() {
        let error = std::io::Error::from_raw_os_error(2);
        assert_eq!(os_error_text(&error), "no such file or directory");
    }
}
