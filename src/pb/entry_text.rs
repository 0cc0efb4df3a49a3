//! A log entry's request on one line. Values and passwords are never shown.
//!
//! etcd prints some requests by hand (`name:<…>`) and the others in protobuf's text form (`name:{…}`).

use std::fmt::{self, Display, Formatter};

use super::etcdserverpb::{InternalRaftRequest, RequestHeader};
use super::membershippb::Attributes;
use super::text::{Fields, Redacted};

impl Display for Redacted<'_, InternalRaftRequest> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let request = self.0;
        let header = Header(request.header.as_ref());
        if let Some(put) = &request.put {
            write!(f, "header:<{header}> put:<{}>", Redacted(put))
        } else if let Some(txn) = &request.txn {
            write!(f, "header:<{header}> txn:<{}>", Redacted(txn.as_ref()))
        } else if let Some(grant) = &request.lease_grant {
            let (ttl, id) = (grant.ttl, grant.id);
            write!(
                f,
                "header:<{header}> lease_grant:<ttl:{ttl}-second id:{id:016x}>"
            )
        } else if let Some(revoke) = &request.lease_revoke {
            write!(f, "header:<{header}> lease_revoke:<id:{:016x}>", revoke.id)
        } else if let Some(login) = &request.authenticate {
            // etcd shows the token, too. It is as good as the password.
            write!(f, "header:<{header}> authenticate:<name:{}>", login.name)
        } else if let Some(user) = &request.auth_user_add {
            write!(f, "header:<{header}> auth_user_add:<name:{}>", user.name)
        } else if let Some(user) = &request.auth_user_change_password {
            let name = &user.name;
            write!(
                f,
                "header:<{header}> auth_user_change_password:<name:{name}>"
            )
        } else {
            write!(f, "header:{{{header}}} ")?;
            plain(f, request)
        }
    }
}

struct Header<'a>(Option<&'a RequestHeader>);

impl Display for Header<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(header) = self.0 else { return Ok(()) };
        let mut fields = Fields::new(f, "");
        fields.unsigned("ID", header.id)?;
        fields.bytes("username", header.username.as_bytes())?;
        fields.unsigned("auth_revision", header.auth_revision)
    }
}

struct MemberAttributes<'a>(&'a Attributes);

impl Display for MemberAttributes<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        let mut fields = Fields::new(f, "");
        fields.bytes("name", self.0.name.as_bytes())?;
        for url in &self.0.client_urls {
            fields.bytes("client_urls", url.as_bytes())?;
        }
        f.write_str("}")
    }
}

/// Writes what is in protobuf's text form.
fn plain(f: &mut Formatter<'_>, request: &InternalRaftRequest) -> fmt::Result {
    macro_rules! field {
        ($name:ident, |$message:ident, $fields:ident| $body:block) => {
            if let Some($message) = &request.$name {
                f.write_str(concat!(stringify!($name), ":{"))?;
                {
                    #[allow(unused_mut, unused_variables)]
                    let mut $fields = Fields::new(f, "");
                    $body
                }
                return f.write_str("}");
            }
        };
    }
    field!(range, |range, fields| {
        fields.raw(Redacted(range))?;
    });
    field!(delete_range, |delete, fields| {
        fields.raw(Redacted(delete))?;
    });
    field!(compaction, |compaction, fields| {
        fields.number("revision", compaction.revision)?;
        fields.flag("physical", compaction.physical)?;
    });
    field!(alarm, |alarm, fields| {
        if alarm.action != 0 {
            fields.value("action", alarm.action().as_str_name())?;
        }
        fields.unsigned("memberID", alarm.member_id)?;
        if alarm.alarm != 0 {
            fields.value("alarm", alarm.alarm().as_str_name())?;
        }
    });
    field!(lease_checkpoint, |request, fields| {
        for lease in &request.checkpoints {
            let (id, left) = (lease.id, lease.remaining_ttl);
            fields.value(
                "checkpoints",
                format_args!("{{ID:{id} remaining_TTL:{left}}}"),
            )?;
        }
    });
    field!(auth_enable, |_request, fields| {});
    field!(auth_disable, |_request, fields| {});
    field!(auth_status, |_request, fields| {});
    field!(auth_user_list, |_request, fields| {});
    field!(auth_role_list, |_request, fields| {});
    field!(auth_user_delete, |user, fields| {
        fields.bytes("name", user.name.as_bytes())?;
    });
    field!(auth_user_get, |user, fields| {
        fields.bytes("name", user.name.as_bytes())?;
    });
    field!(auth_user_grant_role, |grant, fields| {
        fields.bytes("user", grant.user.as_bytes())?;
        fields.bytes("role", grant.role.as_bytes())?;
    });
    field!(auth_user_revoke_role, |revoke, fields| {
        fields.bytes("name", revoke.name.as_bytes())?;
        fields.bytes("role", revoke.role.as_bytes())?;
    });
    field!(auth_role_add, |role, fields| {
        fields.bytes("name", role.name.as_bytes())?;
    });
    field!(auth_role_delete, |role, fields| {
        fields.bytes("role", role.role.as_bytes())?;
    });
    field!(auth_role_get, |role, fields| {
        fields.bytes("role", role.role.as_bytes())?;
    });
    field!(auth_role_grant_permission, |grant, fields| {
        fields.bytes("name", grant.name.as_bytes())?;
    });
    field!(auth_role_revoke_permission, |revoke, fields| {
        fields.bytes("role", revoke.role.as_bytes())?;
        fields.bytes("key", &revoke.key)?;
        fields.bytes("range_end", &revoke.range_end)?;
    });
    field!(cluster_version_set, |set, fields| {
        fields.bytes("ver", set.ver.as_bytes())?;
    });
    field!(cluster_member_attr_set, |set, fields| {
        fields.unsigned("member_ID", set.member_id)?;
        if let Some(attributes) = &set.member_attributes {
            fields.value("member_attributes", MemberAttributes(attributes))?;
        }
    });
    field!(downgrade_info_set, |set, fields| {
        fields.flag("enabled", set.enabled)?;
        fields.bytes("ver", set.ver.as_bytes())?;
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::etcdserverpb::*;
    use super::*;

    fn text(request: InternalRaftRequest) -> String {
        let header = Some(RequestHeader {
            id: 14024950376791761155,
            ..Default::default()
        });
        Redacted(&InternalRaftRequest { header, ..request }).to_string()
    }

    #[test]
    fn entries_read_like_etcds() {
        let none = InternalRaftRequest::default;
        let put = Some(PutRequest {
            key: "q".into(),
            value: "secret".into(),
            lease: 77,
            ..Default::default()
        });
        assert_eq!(
            text(InternalRaftRequest { put, ..none() }),
            r#"header:<ID:14024950376791761155> put:<key:"q" value_size:6 lease:77 >"#
        );
        let lease_grant = Some(LeaseGrantRequest { ttl: 60, id: 5 }.into());
        assert_eq!(
            text(InternalRaftRequest {
                lease_grant,
                ..none()
            }),
            "header:<ID:14024950376791761155> \
             lease_grant:<ttl:60-second id:0000000000000005>"
        );
        let delete_range = Some(DeleteRangeRequest {
            key: "nope".into(),
            ..Default::default()
        });
        assert_eq!(
            text(InternalRaftRequest {
                delete_range,
                ..none()
            }),
            r#"header:{ID:14024950376791761155} delete_range:{key:"nope"}"#
        );
        let compaction = Some(
            CompactionRequest {
                revision: 2,
                physical: false,
            }
            .into(),
        );
        assert_eq!(
            text(InternalRaftRequest {
                compaction,
                ..none()
            }),
            "header:{ID:14024950376791761155} compaction:{revision:2}"
        );
        let auth_status = Some(AuthStatusRequest {}.into());
        assert_eq!(
            text(InternalRaftRequest {
                auth_status,
                ..none()
            }),
            "header:{ID:14024950376791761155} auth_status:{}"
        );
    }

    #[test]
    fn passwords_are_not_shown_and_users_are() {
        let request = InternalRaftRequest {
            header: Some(RequestHeader {
                id: 1,
                username: "bob".into(),
                auth_revision: 3,
            }),
            auth_user_add: Some(
                AuthUserAddRequest {
                    name: "u".into(),
                    password: "hidden".into(),
                    ..Default::default()
                }
                .into(),
            ),
            ..Default::default()
        };
        assert_eq!(
            Redacted(&request).to_string(),
            r#"header:<ID:1 username:"bob" auth_revision:3> auth_user_add:<name:u>"#
        );
    }
}
