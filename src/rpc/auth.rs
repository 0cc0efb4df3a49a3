//! The Auth service while there are no users: authentication is off, and what names a user or role is told that
//! there is none. Making the first ones is not served yet.

use tonic::Status;

use super::server::Server;
use super::status;
use super::wire::Context;
use crate::pb::etcdserverpb::*;

/// etcd counts changes of users and roles from here.
const REVISION: u64 = 1;

/// Calls that can only fail as long as there are no users and roles.
macro_rules! refused {
    ($($method:ident($request:ident) -> $response:ident: $status:ident;)+) => {$(
        pub(super) async fn $method(
            &self,
            context: &Context,
            _: $request,
        ) -> Result<$response, Status> {
            self.admit(context)?;
            Err(status::$status())
        }
    )+};
}

impl Server {
    refused! {
        auth_enable(AuthEnableRequest) -> AuthEnableResponse: root_user_not_found;
        authenticate(AuthenticateRequest) -> AuthenticateResponse: auth_not_enabled;
        user_get(AuthUserGetRequest) -> AuthUserGetResponse: user_not_found;
        user_delete(AuthUserDeleteRequest) -> AuthUserDeleteResponse: user_not_found;
        user_change_password(AuthUserChangePasswordRequest) -> AuthUserChangePasswordResponse:
            user_not_found;
        user_grant_role(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse: user_not_found;
        user_revoke_role(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse: user_not_found;
        role_get(AuthRoleGetRequest) -> AuthRoleGetResponse: role_not_found;
        role_delete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse: role_not_found;
        role_revoke_permission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse:
            role_not_found;
    }

    pub(super) async fn auth_status(
        &self,
        context: &Context,
        _: AuthStatusRequest,
    ) -> Result<AuthStatusResponse, Status> {
        self.admit(context)?;
        Ok(AuthStatusResponse {
            header: self.header(),
            enabled: false,
            auth_revision: REVISION,
        })
    }

    pub(super) async fn auth_disable(
        &self,
        context: &Context,
        _: AuthDisableRequest,
    ) -> Result<AuthDisableResponse, Status> {
        self.admit(context)?;
        Ok(AuthDisableResponse {
            header: self.header(),
        })
    }

    pub(super) async fn user_add(
        &self,
        context: &Context,
        request: AuthUserAddRequest,
    ) -> Result<AuthUserAddResponse, Status> {
        self.admit(context)?;
        if request.name.is_empty() {
            return Err(status::user_empty());
        }
        Err(status::not_served("adding users"))
    }

    pub(super) async fn user_list(
        &self,
        context: &Context,
        _: AuthUserListRequest,
    ) -> Result<AuthUserListResponse, Status> {
        self.admit(context)?;
        Ok(AuthUserListResponse {
            header: self.header(),
            users: Vec::new(),
        })
    }

    pub(super) async fn role_add(
        &self,
        context: &Context,
        request: AuthRoleAddRequest,
    ) -> Result<AuthRoleAddResponse, Status> {
        self.admit(context)?;
        if request.name.is_empty() {
            return Err(status::role_empty());
        }
        Err(status::not_served("adding roles"))
    }

    pub(super) async fn role_list(
        &self,
        context: &Context,
        _: AuthRoleListRequest,
    ) -> Result<AuthRoleListResponse, Status> {
        self.admit(context)?;
        Ok(AuthRoleListResponse {
            header: self.header(),
            roles: Vec::new(),
        })
    }

    pub(super) async fn role_grant_permission(
        &self,
        context: &Context,
        request: AuthRoleGrantPermissionRequest,
    ) -> Result<AuthRoleGrantPermissionResponse, Status> {
        self.admit(context)?;
        let Some(permission) = request.perm else {
            return Err(status::permission_not_given());
        };
        let (key, end) = (&permission.key, &permission.range_end);
        if key.is_empty() || !end.is_empty() && end[..] != [0] && end <= key {
            return Err(status::invalid_auth_management());
        }
        Err(status::role_not_found())
    }
}
