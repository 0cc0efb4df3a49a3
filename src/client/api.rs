//! Every unary call of the API, by name, with etcd's rule for repeating it.

use super::call::{Method, Repeat};
use super::{Client, Deadline, Error};
use crate::pb::EncodedRangeResponse;
use crate::pb::etcdserverpb as pb;
use tonic::{Status, Streaming};

macro_rules! calls {
    ($($name:ident $repeat:ident $path:literal $request:ident => $response:ident;)+) => {
        impl Client {
            $(
                #[doc = concat!("`", $path, "`.")]
                pub async fn $name(
                    &self,
                    request: pb::$request,
                    deadline: Deadline,
                ) -> Result<pb::$response, Error> {
                    let method = Method {
                        path: concat!("/etcdserverpb.", $path),
                        repeat: Repeat::$repeat,
                    };
                    self.unary(method, request, deadline).await
                }
            )+
        }
    };
}

calls! {
    range Safe "KV/Range" RangeRequest => RangeResponse;
    put Unsent "KV/Put" PutRequest => PutResponse;
    delete_range Unsent "KV/DeleteRange" DeleteRangeRequest => DeleteRangeResponse;
    txn Unsent "KV/Txn" TxnRequest => TxnResponse;
    compact Unsent "KV/Compact" CompactionRequest => CompactionResponse;

    lease_grant Safe "Lease/LeaseGrant" LeaseGrantRequest => LeaseGrantResponse;
    lease_revoke Safe "Lease/LeaseRevoke" LeaseRevokeRequest => LeaseRevokeResponse;
    lease_time_to_live Safe "Lease/LeaseTimeToLive"
        LeaseTimeToLiveRequest => LeaseTimeToLiveResponse;
    lease_leases Safe "Lease/LeaseLeases" LeaseLeasesRequest => LeaseLeasesResponse;

    member_list Safe "Cluster/MemberList" MemberListRequest => MemberListResponse;
    member_add Unsent "Cluster/MemberAdd" MemberAddRequest => MemberAddResponse;
    member_remove Unsent "Cluster/MemberRemove" MemberRemoveRequest => MemberRemoveResponse;
    member_update Unsent "Cluster/MemberUpdate" MemberUpdateRequest => MemberUpdateResponse;
    member_promote Unsent "Cluster/MemberPromote" MemberPromoteRequest => MemberPromoteResponse;

    alarm Safe "Maintenance/Alarm" AlarmRequest => AlarmResponse;
    status Safe "Maintenance/Status" StatusRequest => StatusResponse;
    hash_kv Safe "Maintenance/HashKV" HashKvRequest => HashKvResponse;
    move_leader Safe "Maintenance/MoveLeader" MoveLeaderRequest => MoveLeaderResponse;
    defragment Unsent "Maintenance/Defragment" DefragmentRequest => DefragmentResponse;
    downgrade Unsent "Maintenance/Downgrade" DowngradeRequest => DowngradeResponse;

    auth_enable Unsent "Auth/AuthEnable" AuthEnableRequest => AuthEnableResponse;
    auth_disable Unsent "Auth/AuthDisable" AuthDisableRequest => AuthDisableResponse;
    auth_status Unsent "Auth/AuthStatus" AuthStatusRequest => AuthStatusResponse;
    authenticate Unsent "Auth/Authenticate" AuthenticateRequest => AuthenticateResponse;
    user_add Unsent "Auth/UserAdd" AuthUserAddRequest => AuthUserAddResponse;
    user_get Safe "Auth/UserGet" AuthUserGetRequest => AuthUserGetResponse;
    user_list Safe "Auth/UserList" AuthUserListRequest => AuthUserListResponse;
    user_delete Unsent "Auth/UserDelete" AuthUserDeleteRequest => AuthUserDeleteResponse;
    user_change_password Unsent "Auth/UserChangePassword"
        AuthUserChangePasswordRequest => AuthUserChangePasswordResponse;
    user_grant_role Unsent "Auth/UserGrantRole"
        AuthUserGrantRoleRequest => AuthUserGrantRoleResponse;
    user_revoke_role Unsent "Auth/UserRevokeRole"
        AuthUserRevokeRoleRequest => AuthUserRevokeRoleResponse;
    role_add Unsent "Auth/RoleAdd" AuthRoleAddRequest => AuthRoleAddResponse;
    role_get Safe "Auth/RoleGet" AuthRoleGetRequest => AuthRoleGetResponse;
    role_list Safe "Auth/RoleList" AuthRoleListRequest => AuthRoleListResponse;
    role_delete Unsent "Auth/RoleDelete" AuthRoleDeleteRequest => AuthRoleDeleteResponse;
    role_grant_permission Unsent "Auth/RoleGrantPermission"
        AuthRoleGrantPermissionRequest => AuthRoleGrantPermissionResponse;
    role_revoke_permission Unsent "Auth/RoleRevokePermission"
        AuthRoleRevokePermissionRequest => AuthRoleRevokePermissionResponse;
}

impl Client {
    /// `KV/Range`, its answer as it came: for long ranges.
    pub async fn range_encoded(
        &self,
        request: pb::RangeRequest,
        deadline: Deadline,
    ) -> Result<EncodedRangeResponse, Error> {
        let method = Method {
            path: "/etcdserverpb.KV/Range",
            repeat: Repeat::Safe,
        };
        self.unary(method, request, deadline).await
    }

    /// `KV/RangeStream`, its chunks put together.
    pub async fn range_stream(
        &self,
        request: pb::RangeRequest,
        deadline: Deadline,
    ) -> Result<pb::RangeResponse, Error> {
        let method = Method {
            path: "/etcdserverpb.KV/RangeStream",
            repeat: Repeat::Unsent,
        };
        let chunks = async {
            let mut stream: Streaming<pb::RangeStreamResponse> =
                self.server_stream(method, request, deadline).await?;
            let mut whole = pb::RangeResponse::default();
            while let Some(chunk) = stream.message().await.map_err(super::call::reworded)? {
                let Some(mut chunk) = chunk.range_response else {
                    continue;
                };
                whole.kvs.append(&mut chunk.kvs);
                whole.header = chunk.header.or(whole.header);
                whole.more |= chunk.more;
                whole.count = whole.count.max(chunk.count);
            }
            Ok(whole)
        };
        let result: Result<_, Status> = match deadline {
            None => chunks.await,
            Some(at) => match tokio::time::timeout_at(at, chunks).await {
                Ok(result) => result,
                Err(_) => return Err(Error::DeadlineExceeded),
            },
        };
        let expired = deadline.is_some_and(|at| at <= tokio::time::Instant::now());
        result.map_err(|status| Error::from_status(&status, expired))
    }

    /// `Maintenance/Snapshot`: the database of one member, in chunks.
    pub async fn snapshot(
        &self,
        deadline: Deadline,
    ) -> Result<Streaming<pb::SnapshotResponse>, Status> {
        let method = Method {
            path: "/etcdserverpb.Maintenance/Snapshot",
            repeat: Repeat::Safe,
        };
        self.server_stream(method, pb::SnapshotRequest {}, deadline)
            .await
    }
}
