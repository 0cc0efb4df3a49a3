//! The Maintenance service, but for snapshots.

use std::sync::Arc;
use std::time::Instant;

use tonic::Status;

use super::server::Server;
use super::status;
use super::wire::Context;
use crate::machine::Response;
use crate::membership::Downgrade;
use crate::metrics;
use crate::node::Role;
use crate::pb::etcdserverpb::alarm_request::AlarmAction;
use crate::pb::etcdserverpb::downgrade_request::DowngradeAction;
use crate::pb::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse,
    DowngradeInfo, DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest,
    HashResponse, InternalRaftRequest, MoveLeaderRequest, MoveLeaderResponse, StatusRequest,
    StatusResponse,
};
use crate::pb::membershippb::DowngradeInfoSetRequest;
use crate::types::MemberId;

/// What Status tells as the quota where there is none.
const NO_QUOTA: i64 = -1;

impl Server {
    pub(super) async fn alarm(
        &self,
        context: &Context,
        request: AlarmRequest,
    ) -> Result<AlarmResponse, Status> {
        self.admit(context)?;
        if AlarmAction::try_from(request.action).is_err() {
            return Err(status::unknown_alarm_action(request.action));
        }
        let request = InternalRaftRequest {
            alarm: Some(request.into()),
            ..Default::default()
        };
        let answer = self.node.propose(request).await.map_err(status::node)?;
        let Response::Alarm(mut response) = answer else {
            return Err(status::unexpected_answer());
        };
        response.header = self.complete(response.header);
        Ok(response)
    }

    pub(super) async fn status(
        &self,
        context: &Context,
        _: StatusRequest,
    ) -> Result<StatusResponse, Status> {
        self.admit_learner(context)?;
        let (view, status) = (self.node.view(), self.node.status());
        let mut errors = Vec::new();
        if status.leader == 0 {
            errors.push("etcdserver: no leader".to_owned());
        }
        errors.extend(
            view.alarms
                .list(AlarmType::None as i32)
                .iter()
                .map(alarm_text),
        );
        let downgrade = view.membership.downgrade();
        Ok(StatusResponse {
            header: self.header(),
            version: self.limits.server_version.to_owned(),
            db_size: view.sizes.file_bytes,
            leader: status.leader,
            raft_index: status.commit_index,
            raft_term: status.term,
            raft_applied_index: status.applied_index,
            errors,
            db_size_in_use: view.sizes.in_use_bytes,
            is_learner: status.role == Role::Learner,
            storage_version: self.storage_version(),
            db_size_quota: self.limits.quota_bytes.unwrap_or(NO_QUOTA),
            downgrade_info: Some(DowngradeInfo {
                enabled: downgrade.enabled,
                target_version: downgrade.target_version.clone(),
            }),
        })
    }

    /// The version of the stored format, which follows the cluster's; empty before that is decided.
    pub(super) fn storage_version(&self) -> String {
        self.node
            .view()
            .membership
            .version()
            .unwrap_or_default()
            .to_owned()
    }

    pub(super) async fn defragment(
        &self,
        context: &Context,
        _: DefragmentRequest,
    ) -> Result<DefragmentResponse, Status> {
        self.admit(context)?;
        tracing::info!("starting defragment");
        if self.limits.stop_serving_on_defragment {
            self.health.set_serving(false);
        }
        let result = self.node.defragment().await;
        self.health.set_serving(true);
        match result {
            Ok(()) => {
                tracing::info!("finished defragment");
                Ok(DefragmentResponse { header: None })
            }
            Err(error) => {
                tracing::warn!(%error, "failed to defragment");
                Err(status::node(error))
            }
        }
    }

    pub(super) async fn hash(
        &self,
        context: &Context,
        _: HashRequest,
    ) -> Result<HashResponse, Status> {
        self.admit(context)?;
        let began = Instant::now();
        let frozen = self.node.freeze().await.map_err(status::node)?;
        let header = self.header();
        let hash = tokio::task::spawn_blocking(move || {
            metrics::global().open_read_transactions.add(1);
            let hash = frozen.hash();
            metrics::global().open_read_transactions.add(-1);
            hash
        });
        let hash = hash.await;
        metrics::global().hash.observe_duration(began.elapsed());
        let hash = hash.map_err(|error| status::failed(&error))?;
        Ok(HashResponse {
            header,
            hash: hash.map_err(|error| status::failed(&error))?,
        })
    }

    pub(super) async fn hash_kv(
        self: &Arc<Self>,
        context: &Context,
        request: HashKvRequest,
    ) -> Result<HashKvResponse, Status> {
        self.admit(context)?;
        let began = Instant::now();
        let hash = match self.node.compaction_hash(request.revision) {
            Some(hash) => hash,
            None => {
                self.read_long(move |view| view.hash_kv(request.revision))
                    .await?
            }
        };
        metrics::global()
            .hash_revision
            .observe_duration(began.elapsed());
        Ok(HashKvResponse {
            header: self.header(),
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.revision,
        })
    }

    pub(super) async fn move_leader(
        &self,
        context: &Context,
        request: MoveLeaderRequest,
    ) -> Result<MoveLeaderResponse, Status> {
        self.admit(context)?;
        let status = self.node.status();
        if status.role != Role::Leader {
            return Err(status::not_leader());
        }
        let view = self.node.view();
        match view.membership.member(MemberId(request.target_id)) {
            Some(member) if !member.is_learner => {}
            _ => return Err(status::bad_leader_transferee()),
        }
        if request.target_id == status.leader {
            return Ok(MoveLeaderResponse { header: None });
        }
        Err(status::not_served("moving leadership"))
    }

    pub(super) async fn downgrade(
        &self,
        context: &Context,
        request: DowngradeRequest,
    ) -> Result<DowngradeResponse, Status> {
        self.admit(context)?;
        match DowngradeAction::try_from(request.action) {
            Ok(DowngradeAction::Validate) => {
                self.validate_downgrade(&request.version).await?;
            }
            Ok(DowngradeAction::Enable) => {
                let target_version = self.validate_downgrade(&request.version).await?;
                self.set_downgrade(Downgrade {
                    enabled: true,
                    target_version,
                })
                .await?;
            }
            Ok(DowngradeAction::Cancel) => {
                if self.node.view().membership.downgrade().enabled {
                    self.set_downgrade(Downgrade::default()).await?;
                }
            }
            Err(_) => return Err(status::unknown_downgrade_action()),
        }
        let view = self.node.view();
        let version = view
            .membership
            .version()
            .ok_or_else(status::no_cluster_version)?;
        let (major_minor, _) = version.rsplit_once('.').unwrap_or((version, ""));
        Ok(DowngradeResponse {
            header: self.header(),
            version: major_minor.to_owned(),
        })
    }

    /// The version a downgrade may aim at, if that is the one given: the minor before the cluster's.
    async fn validate_downgrade(&self, version: &str) -> Result<String, Status> {
        let target = semver::Version::parse(version)
            .or_else(|_| semver::Version::parse(&format!("{version}.0")))
            .map_err(|_| status::downgrade_version_format())?;
        self.node.read_index().await.map_err(status::node)?;
        let view = self.node.view();
        let cluster = view
            .membership
            .version()
            .and_then(|text| semver::Version::parse(text).ok());
        let cluster = cluster.ok_or_else(status::no_cluster_version)?;
        if target.major != cluster.major || Some(target.minor) != cluster.minor.checked_sub(1) {
            return Err(status::downgrade_target());
        }
        if view.membership.downgrade().enabled {
            return Err(status::downgrade_in_progress());
        }
        Ok(semver::Version::new(target.major, target.minor, 0).to_string())
    }

    async fn set_downgrade(&self, downgrade: Downgrade) -> Result<(), Status> {
        let set = DowngradeInfoSetRequest {
            enabled: downgrade.enabled,
            ver: downgrade.target_version,
        };
        let request = InternalRaftRequest {
            downgrade_info_set: Some(set.into()),
            ..Default::default()
        };
        self.node.propose(request).await.map_err(status::node)?;
        Ok(())
    }
}

/// An alarm as etcd prints it.
fn alarm_text(alarm: &AlarmMember) -> String {
    let kind = AlarmType::try_from(alarm.alarm);
    let kind = kind.map_or_else(
        |number| number.0.to_string(),
        |kind| kind.as_str_name().to_owned(),
    );
    format!("memberID:{} alarm:{kind}", alarm.member_id)
}
