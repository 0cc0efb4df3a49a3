//! Which method a request is for.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use http::{Request, Response};
use http_body::Body;
use tonic::Status;

use super::server::{Limits, Server};
use super::slow::{self, Slow};
use super::wire::{
    Call, Context, FromStream, Method, ReplyBody, refuse, server_stream, stream, unary,
};
use crate::metrics;
use crate::node::NodeHandle;

/// A call on its way.
type Running = Pin<Box<dyn Future<Output = Response<ReplyBody>> + Send>>;

/// Every service. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    server: Arc<Server>,
    routes: Arc<Routes>,
}

struct Routes {
    methods: HashMap<&'static str, (Rpc, Method)>,
    services: HashSet<&'static str>,
}

macro_rules! rpcs {
    ($($service:literal: $($rpc:ident $name:literal)+;)+) => {
        #[derive(Clone, Copy)]
        enum Rpc { $($($rpc,)+)+ }

        const RPCS: &[(&str, &str, Rpc)] =
            &[$($(($service, concat!("/", $service, "/", $name), Rpc::$rpc),)+)+];
    };
}

rpcs! {
    "etcdserverpb.KV":
        Range "Range" RangeStream "RangeStream" Put "Put" DeleteRange "DeleteRange" Txn "Txn"
        Compact "Compact";
    "etcdserverpb.Watch": Watch "Watch";
    "etcdserverpb.Lease":
        LeaseGrant "LeaseGrant" LeaseRevoke "LeaseRevoke" LeaseKeepAlive "LeaseKeepAlive"
        LeaseTimeToLive "LeaseTimeToLive" LeaseLeases "LeaseLeases";
    "etcdserverpb.Cluster":
        MemberAdd "MemberAdd" MemberRemove "MemberRemove" MemberUpdate "MemberUpdate"
        MemberList "MemberList" MemberPromote "MemberPromote";
    "etcdserverpb.Maintenance":
        Alarm "Alarm" Status "Status" Defragment "Defragment" Hash "Hash" HashKv "HashKV"
        Snapshot "Snapshot" MoveLeader "MoveLeader" Downgrade "Downgrade";
    "etcdserverpb.Auth":
        AuthEnable "AuthEnable" AuthDisable "AuthDisable" AuthStatus "AuthStatus"
        Authenticate "Authenticate" UserAdd "UserAdd" UserGet "UserGet" UserList "UserList"
        UserDelete "UserDelete" UserChangePassword "UserChangePassword"
        UserGrantRole "UserGrantRole" UserRevokeRole "UserRevokeRole" RoleAdd "RoleAdd"
        RoleGet "RoleGet" RoleList "RoleList" RoleDelete "RoleDelete"
        RoleGrantPermission "RoleGrantPermission" RoleRevokePermission "RoleRevokePermission";
    "grpc.health.v1.Health": HealthCheck "Check" HealthList "List" HealthWatch "Watch";
}

impl Services {
    /// The services of a member.
    pub fn new(node: NodeHandle, limits: Limits) -> Self {
        let receive_bytes_max = limits.message_bytes_max();
        let counters = &metrics::global().grpc;
        let methods = RPCS.iter().filter_map(|(_, path, rpc)| {
            let method = Method {
                path,
                counters: counters.method(path)?,
                receive_bytes_max,
            };
            Some((*path, (*rpc, method)))
        });
        let services = RPCS.iter().map(|(service, ..)| *service).collect();
        let routes = Routes {
            methods: methods.collect(),
            services,
        };
        Self {
            server: Arc::new(Server::new(node, limits)),
            routes: Arc::new(routes),
        }
    }

    /// Answers a request that came over HTTP/2 from `remote` (`None` for a unix socket).
    pub fn call<B>(&self, remote: Option<SocketAddr>, request: Request<B>) -> Running
    where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
    {
        match self.routes.methods.get(request.uri().path()).copied() {
            Some((rpc, method)) => match Call::begin(request, remote, method) {
                Ok(call) => self.run(rpc, call),
                Err(reply) => Box::pin(std::future::ready(reply)),
            },
            None => Box::pin(std::future::ready(self.unknown(request))),
        }
    }

    /// The answer to a path that names no method.
    fn unknown<B>(&self, request: Request<B>) -> Response<ReplyBody> {
        let path = request.uri().path().to_owned();
        if let Err(reply) = super::wire::check(&request.into_parts().0) {
            return reply;
        }
        let text = match path.strip_prefix('/').unwrap_or(&path).rsplit_once('/') {
            None => format!("malformed method name: {path:?}"),
            Some((service, method)) if self.routes.services.contains(service) => {
                format!("unknown method {method} for service {service}")
            }
            Some((service, _)) => format!("unknown service {service}"),
        };
        refuse(Status::unimplemented(text))
    }

    fn run<B>(&self, rpc: Rpc, call: Call<B>) -> Running
    where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
    {
        let server = self.server.clone();
        let slow = Slow {
            after: server.limits.warning_unary_duration,
            path: call.method.path,
        };
        macro_rules! unary {
            ($handler:ident) => {
                unary!($handler, slow::other)
            };
            ($handler:ident, $sizes:path) => {
                Box::pin(unary(
                    call,
                    async move |context: &Context, request| server.$handler(context, request).await,
                    move |context, took, request, reply| {
                        slow.log(context, took, request, reply, $sizes);
                    },
                ))
            };
        }
        macro_rules! server_stream {
            ($handler:ident) => {{
                let guard = server.leader_guard(&call.context.headers);
                Box::pin(server_stream(
                    call,
                    guard,
                    async move |context: &Context, request| server.$handler(context, request).await,
                ))
            }};
        }
        match rpc {
            Rpc::Range => unary!(range, slow::range),
            Rpc::RangeStream => server_stream!(range_stream),
            Rpc::Put => unary!(put, slow::put),
            Rpc::DeleteRange => unary!(delete_range, slow::delete_range),
            Rpc::Txn => unary!(txn, slow::txn),
            Rpc::Compact => unary!(compact),
            Rpc::Watch => {
                let guard = server.leader_guard(&call.context.headers);
                let reply = stream(call, guard, |context, requests| {
                    server.watch(context, requests)
                });
                Box::pin(std::future::ready(reply))
            }
            Rpc::LeaseGrant => unary!(lease_grant),
            Rpc::LeaseRevoke => unary!(lease_revoke),
            Rpc::LeaseKeepAlive => {
                let guard = server.leader_guard(&call.context.headers);
                let reply = stream(call, guard, |context, requests| {
                    server
                        .lease_keep_alive(context, requests)
                        .map(FromStream::new)
                });
                Box::pin(std::future::ready(reply))
            }
            Rpc::LeaseTimeToLive => unary!(lease_time_to_live),
            Rpc::LeaseLeases => unary!(lease_leases),
            Rpc::MemberAdd => unary!(member_add),
            Rpc::MemberRemove => unary!(member_remove),
            Rpc::MemberUpdate => unary!(member_update),
            Rpc::MemberList => unary!(member_list),
            Rpc::MemberPromote => unary!(member_promote),
            Rpc::Alarm => unary!(alarm),
            Rpc::Status => unary!(status),
            Rpc::Defragment => unary!(defragment),
            Rpc::Hash => unary!(hash),
            Rpc::HashKv => unary!(hash_kv),
            Rpc::Snapshot => server_stream!(snapshot),
            Rpc::MoveLeader => unary!(move_leader),
            Rpc::Downgrade => unary!(downgrade),
            Rpc::AuthEnable => unary!(auth_enable),
            Rpc::AuthDisable => unary!(auth_disable),
            Rpc::AuthStatus => unary!(auth_status),
            Rpc::Authenticate => unary!(authenticate),
            Rpc::UserAdd => unary!(user_add),
            Rpc::UserGet => unary!(user_get),
            Rpc::UserList => unary!(user_list),
            Rpc::UserDelete => unary!(user_delete),
            Rpc::UserChangePassword => unary!(user_change_password),
            Rpc::UserGrantRole => unary!(user_grant_role),
            Rpc::UserRevokeRole => unary!(user_revoke_role),
            Rpc::RoleAdd => unary!(role_add),
            Rpc::RoleGet => unary!(role_get),
            Rpc::RoleList => unary!(role_list),
            Rpc::RoleDelete => unary!(role_delete),
            Rpc::RoleGrantPermission => unary!(role_grant_permission),
            Rpc::RoleRevokePermission => unary!(role_revoke_permission),
            Rpc::HealthCheck => unary!(health_check),
            Rpc::HealthList => unary!(health_list),
            Rpc::HealthWatch => server_stream!(health_watch),
        }
    }
}
