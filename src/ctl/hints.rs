//! What to do about an error, for people at a terminal: a line behind etcd's own.

/// The hint for an error message, if there is one.
pub(super) fn hint(message: &str) -> Option<&'static str> {
    HINTS
        .iter()
        .find(|(part, _)| message.contains(part))
        .map(|(_, hint)| *hint)
}

/// Parts of error messages, and what helps.
const HINTS: &[(&str, &str)] = &[
    (
        "context deadline exceeded",
        "no answer in time. `etcdctl doctor` finds out why; --command-timeout allows more",
    ),
    (
        "user name is empty",
        "authentication is on: give --user name[:password]",
    ),
    (
        "authentication failed",
        "check user name and password; the user root can list users with `etcdctl user list`",
    ),
    (
        "permission denied",
        "`etcdctl user get NAME --detail` shows what a user may do; the user root may do everything",
    ),
    (
        "invalid auth token",
        "get a new token, or give --user name[:password] instead",
    ),
    (
        "database space exceeded",
        "make room: `etcdctl compaction REVISION`, `etcdctl defrag --cluster`, then \
         `etcdctl alarm disarm`",
    ),
    (
        "no leader",
        "the members have no majority: `etcdctl endpoint status --cluster -w table` shows who is up",
    ),
    (
        "requested lease not found",
        "it expired or was revoked: `etcdctl lease list` lists the others",
    ),
    (
        "required revision has been compacted",
        "history that old is gone: read or watch without --rev, or from a later revision",
    ),
    (
        "required revision is a future revision",
        "`etcdctl get KEY -w json` shows the present revision",
    ),
    (
        "rpc not supported for learner",
        "this endpoint is a learner: name a voting member",
    ),
    (
        "request is too large",
        "store large values in pieces, or raise the server's --max-request-bytes",
    ),
    (
        "unhealthy cluster",
        "`etcdctl doctor` says what is wrong and what to do",
    ),
    (
        "member not found",
        "`etcdctl member list` lists the members and their ids",
    ),
    (
        "not enough started members",
        "start or remove the members that are down first: `etcdctl member list`",
    ),
    (
        "no available endpoints",
        "give --endpoints, or set ETCDCTL_ENDPOINTS",
    ),
    (
        "KeyFile and CertFile must both be present",
        "--cert and --key go together; for a server's CA alone give --cacert",
    ),
    (
        "corrupt cluster",
        "members disagree: `etcdctl endpoint hashkv --cluster` shows which",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_people_meet_have_a_hint() {
        assert!(hint("failed to grant lease (etcdserver: no leader)").is_some());
        assert_eq!(hint("bad number of arguments"), None);
    }
}
