//! Compiles `proto/` without a protoc.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rustc-env=COMPILER={}", compiler());
    let root = Path::new("proto");
    let files = [
        "mvccpb/kv.proto",
        "authpb/auth.proto",
        "membershippb/membership.proto",
        "etcdserverpb/rpc.proto",
        "etcdserverpb/raft_internal.proto",
        "leasepb/lease.proto",
        "v3lockpb/lock.proto",
        "v3electionpb/election.proto",
        "grpc/health/v1/health.proto",
    ];
    let descriptors = protox::compile(files.map(|file| root.join(file)), [root])?;
    let mut prost = prost_build::Config::new();
    prost.bytes(["."]);
    // One of these fields is set in a log entry; unboxed, the struct would take two kilobytes.
    for field in RARE_REQUESTS {
        prost.boxed(format!(".etcdserverpb.InternalRaftRequest.{field}"));
    }
    tonic_prost_build::configure()
        // Served and watched as their encoded bytes: see src/pb/encoded.rs.
        .extern_path(".mvccpb.KeyValue", "crate::pb::KeyValue")
        .extern_path(".mvccpb.Event", "crate::pb::Event")
        .build_transport(true)
        .compile_fds_with_config(descriptors, prost)?;
    Ok(())
}

/// The compiler's name and version, such as `rustc 1.90.0`: etcd's metrics tell theirs.
fn compiler() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = std::process::Command::new(rustc).arg("--version").output();
    let text = output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    );
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    match words.as_slice() {
        [] => "rustc".to_owned(),
        words => words.join(" "),
    }
}

/// Fields of `InternalRaftRequest` that no hot path reads.
const RARE_REQUESTS: [&str; 27] = [
    "txn",
    "compaction",
    "lease_grant",
    "lease_revoke",
    "alarm",
    "lease_checkpoint",
    "auth_enable",
    "auth_disable",
    "authenticate",
    "auth_status",
    "auth_user_add",
    "auth_user_delete",
    "auth_user_get",
    "auth_user_change_password",
    "auth_user_grant_role",
    "auth_user_revoke_role",
    "auth_user_list",
    "auth_role_list",
    "auth_role_add",
    "auth_role_delete",
    "auth_role_get",
    "auth_role_grant_permission",
    "auth_role_revoke_permission",
    "cluster_version_set",
    "cluster_member_attr_set",
    "downgrade_info_set",
    "downgrade_version_test",
];
