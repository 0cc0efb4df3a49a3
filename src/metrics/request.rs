//! Histograms by kind of request and outcome, on fixed arrays: no lock and no hashing per request.

use super::family::{Buckets, Family, Kind, LabelPair, Series, labels};
use super::value::{Collect, Histogram};
use crate::pb::etcdserverpb::InternalRaftRequest;

macro_rules! requests {
    ($($name:ident)+) => {
        /// The kinds of request that etcd's latency families distinguish.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Request { $($name),+ }

        impl Request {
            /// Every kind.
            pub const ALL: &[Request] = &[$(Request::$name),+];

            /// The label value.
            pub fn name(self) -> &'static str {
                match self { $(Request::$name => stringify!($name)),+ }
            }
        }

        const REQUESTS: usize = [$(stringify!($name)),+].len();
    };
}

requests! {
    Range ReadonlyTxn Put DeleteRange Txn Compaction
    LeaseGrant LeaseRevoke LeaseCheckpoint Alarm
    Authenticate AuthEnable AuthDisable AuthStatus
    AuthUserAdd AuthUserDelete AuthUserChangePassword AuthUserGrantRole AuthUserRevokeRole
    AuthUserGet AuthUserList
    AuthRoleAdd AuthRoleDelete AuthRoleGet AuthRoleList AuthRoleGrantPermission
    AuthRoleRevokePermission
    ClusterVersionSet ClusterMemberAttrSet DowngradeInfoSet DowngradeVersionTest
    Unknown
}

impl Request {
    /// The kind of a request in the log.
    pub fn of(request: &InternalRaftRequest) -> Self {
        macro_rules! first_set {
            ($($field:ident => $kind:ident)+) => {
                match request {
                    $(InternalRaftRequest { $field: Some(_), .. } => Request::$kind,)+
                    _ => Request::Unknown,
                }
            };
        }
        first_set! {
            put => Put
            txn => Txn
            delete_range => DeleteRange
            range => Range
            compaction => Compaction
            lease_grant => LeaseGrant
            lease_revoke => LeaseRevoke
            lease_checkpoint => LeaseCheckpoint
            alarm => Alarm
            authenticate => Authenticate
            auth_enable => AuthEnable
            auth_disable => AuthDisable
            auth_status => AuthStatus
            auth_user_add => AuthUserAdd
            auth_user_delete => AuthUserDelete
            auth_user_change_password => AuthUserChangePassword
            auth_user_grant_role => AuthUserGrantRole
            auth_user_revoke_role => AuthUserRevokeRole
            auth_user_get => AuthUserGet
            auth_user_list => AuthUserList
            auth_role_add => AuthRoleAdd
            auth_role_delete => AuthRoleDelete
            auth_role_get => AuthRoleGet
            auth_role_list => AuthRoleList
            auth_role_grant_permission => AuthRoleGrantPermission
            auth_role_revoke_permission => AuthRoleRevokePermission
            cluster_version_set => ClusterVersionSet
            cluster_member_attr_set => ClusterMemberAttrSet
            downgrade_info_set => DowngradeInfoSet
            downgrade_version_test => DowngradeVersionTest
        }
    }
}

/// One histogram per kind of request and outcome; a series shows from its first observation.
pub struct RequestHistograms {
    /// By request, then failure and success.
    series: [[Histogram; 2]; REQUESTS],
    labels: fn(Request, &str) -> Vec<LabelPair>,
}

impl RequestHistograms {
    pub(super) const fn new(
        bounds: &'static [f64],
        labels: fn(Request, &str) -> Vec<LabelPair>,
    ) -> Self {
        let mut series = [const { [const { Histogram::new(&[]) }; 2] }; REQUESTS];
        let mut i = 0;
        while i < REQUESTS {
            series[i] = [Histogram::new(bounds), Histogram::new(bounds)];
            i += 1;
        }
        Self { series, labels }
    }

    /// Counts a request of this kind that took `seconds`.
    pub fn observe(&self, request: Request, success: bool, seconds: f64) {
        self.series[request as usize][usize::from(success)].observe(seconds);
    }
}

/// `etcd_server_request_duration_seconds`' labels.
pub(super) fn request_labels(request: Request, success: &str) -> Vec<LabelPair> {
    labels(&["success", "type"], [success, request.name()])
}

/// `etcd_server_apply_duration_seconds`' labels; etcd has no name for this one operation there.
pub(super) fn apply_labels(request: Request, success: &str) -> Vec<LabelPair> {
    let op = if request == Request::AuthStatus {
        "unknown"
    } else {
        request.name()
    };
    labels(&["op", "success", "version"], [op, success, "v3"])
}

/// A histogram per outcome.
pub struct SuccessHistograms([Histogram; 2]);

impl SuccessHistograms {
    pub(super) const fn new(bounds: &'static [f64]) -> Self {
        Self([Histogram::new(bounds), Histogram::new(bounds)])
    }

    /// Counts something that took `seconds`.
    pub fn observe(&self, success: bool, seconds: f64) {
        self.0[usize::from(success)].observe(seconds);
    }
}

const OUTCOMES: [&str; 2] = ["false", "true"];

/// Collects the series that have observations.
fn collect_used(
    name: &str,
    help: &str,
    all: impl Iterator<Item = (Buckets, Vec<LabelPair>)>,
    out: &mut Vec<Family>,
) {
    let mut family = Family::new(name, help, Kind::Histogram);
    for (buckets, label) in all {
        if buckets.sample_count() > 0 {
            family.series.push(Series {
                label,
                histogram: Some(buckets),
                ..Series::default()
            });
        }
    }
    if !family.series.is_empty() {
        out.push(family);
    }
}

impl Collect for RequestHistograms {
    fn collect(&self, name: &str, help: &str, out: &mut Vec<Family>) {
        let all = Request::ALL
            .iter()
            .zip(&self.series)
            .flat_map(|(request, pair)| {
                let labelled = |(histogram, outcome): (&Histogram, &str)| {
                    (histogram.buckets(), (self.labels)(*request, outcome))
                };
                pair.iter().zip(OUTCOMES).map(labelled).collect::<Vec<_>>()
            });
        collect_used(name, help, all, out);
    }
}

impl Collect for SuccessHistograms {
    fn collect(&self, name: &str, help: &str, out: &mut Vec<Family>) {
        let all = self.0.iter().zip(OUTCOMES);
        let all = all.map(|(h, outcome)| (h.buckets(), labels(&["success"], [outcome])));
        collect_used(name, help, all, out);
    }
}
