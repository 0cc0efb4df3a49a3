//! Answers about users, roles and authentication.

use super::json::{Object, push_header_only};
use super::{Display, Out, Printable, Printed, fields};
use crate::client::{ALL_KEYS, prefix_end};
use crate::ctl::go::quote::quote;
use crate::pb::authpb::Permission;
use crate::pb::authpb::permission::Type;
use crate::pb::etcdserverpb as pb;
use prost::Message;

impl Printable for pb::AuthStatusResponse {
    fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
        writeln!(out, "Authentication Status: {}", self.enabled)?;
        Ok(writeln!(out, "AuthRevision: {}", self.auth_revision)?)
    }

    fn json(&self, out: &mut String, _hex: bool) -> Printed {
        Object::write(out, |object| {
            object.header("header", self.header);
            object.flag("enabled", self.enabled);
            object.number("authRevision", self.auth_revision);
        });
        Ok(())
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

/// An answer that is only a header, and the sentence that says what was done.
pub(crate) struct Done<R> {
    /// The sentence.
    pub sentence: String,
    /// The answer.
    pub response: R,
}

macro_rules! done {
    ($($response:ident)+) => {$(
        impl Printable for Done<pb::$response> {
            fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
                Ok(writeln!(out, "{}", self.sentence)?)
            }

            fn json(&self, out: &mut String, _hex: bool) -> Printed {
                push_header_only(out, self.response.header);
                Ok(())
            }

            fn fields(&self, out: Out<'_>, hex: bool) -> Printed {
                fields::header(out, self.response.header, hex)
            }

            fn protobuf(&self) -> Option<Vec<u8>> {
                Some(self.response.encode_to_vec())
            }
        }
    )+};
}

done! {
    AuthUserAddResponse AuthUserDeleteResponse AuthUserChangePasswordResponse
    AuthUserGrantRoleResponse AuthUserRevokeRoleResponse
    AuthRoleAddResponse AuthRoleDeleteResponse AuthRoleGrantPermissionResponse
}

/// A user's roles; the answer does not say whose.
pub(crate) struct UserGet {
    /// The user.
    pub name: String,
    /// The answer.
    pub response: pb::AuthUserGetResponse,
}

impl Printable for UserGet {
    fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
        writeln!(out, "User: {}", self.name)?;
        write!(out, "Roles:")?;
        for role in &self.response.roles {
            write!(out, " {role}")?;
        }
        Ok(writeln!(out)?)
    }

    fn json(&self, out: &mut String, _hex: bool) -> Printed {
        Object::write(out, |object| {
            object.header("header", self.response.header);
            object.texts("roles", &self.response.roles);
        });
        Ok(())
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.response.encode_to_vec())
    }
}

impl Printable for pb::AuthUserListResponse {
    fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
        Ok(self
            .users
            .iter()
            .try_for_each(|user| writeln!(out, "{user}"))?)
    }

    fn json(&self, out: &mut String, _hex: bool) -> Printed {
        Object::write(out, |object| {
            object.header("header", self.header);
            object.texts("users", &self.users);
        });
        Ok(())
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

impl Printable for pb::AuthRoleListResponse {
    fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
        Ok(self
            .roles
            .iter()
            .try_for_each(|role| writeln!(out, "{role}"))?)
    }

    fn json(&self, out: &mut String, _hex: bool) -> Printed {
        Object::write(out, |object| {
            object.header("header", self.header);
            object.texts("roles", &self.roles);
        });
        Ok(())
    }

    fn fields(&self, out: Out<'_>, hex: bool) -> Printed {
        fields::header(out, self.header, hex)?;
        write!(out, "\"Roles\" :")?;
        for role in &self.roles {
            write!(out, " {}", quote(role.as_bytes()))?;
        }
        Ok(writeln!(out)?)
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

/// A role's permissions; the answer does not say whose.
pub(crate) struct RoleGet {
    /// The role.
    pub name: String,
    /// The answer.
    pub response: pb::AuthRoleGetResponse,
}

impl RoleGet {
    fn ranges(&self, out: Out<'_>, wanted: [Type; 2]) -> Printed {
        let permitted = self
            .response
            .perm
            .iter()
            .filter(|p| wanted.contains(&p.perm_type()));
        for Permission { key, range_end, .. } in permitted {
            out.write_all(b"\t")?;
            if range_end.is_empty() {
                out.write_all(key)?;
            } else {
                out.write_all(b"[")?;
                out.write_all(key)?;
                out.write_all(b", ")?;
                match &range_end[..] {
                    ALL_KEYS => out.write_all(b"<open ended>")?,
                    end => {
                        out.write_all(end)?;
                        out.write_all(b")")?;
                    }
                }
                if !key.is_empty() && prefix_end(key) == range_end[..] {
                    out.write_all(b" (prefix ")?;
                    out.write_all(key)?;
                    out.write_all(b")")?;
                }
            }
            out.write_all(b"\n")?;
        }
        Ok(())
    }
}

impl Printable for RoleGet {
    fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
        // The role root may do everything without a stored permission.
        let all = self.name == "root" && self.response.perm.is_empty();
        writeln!(out, "Role {}", self.name)?;
        for (title, own) in [("KV Read:", Type::Read), ("KV Write:", Type::Write)] {
            writeln!(out, "{title}")?;
            if all {
                writeln!(out, "\t[, <open ended>")?;
            }
            self.ranges(out, [own, Type::Readwrite])?;
        }
        Ok(())
    }

    fn json(&self, out: &mut String, _hex: bool) -> Printed {
        Object::write(out, |object| {
            object.header("header", self.response.header);
            object.list("perm", &self.response.perm, |out, permission| {
                Object::write(out, |object| {
                    object.number("permType", permission.perm_type);
                    object.bytes("key", &permission.key);
                    object.bytes("range_end", &permission.range_end);
                });
            });
        });
        Ok(())
    }

    fn fields(&self, out: Out<'_>, hex: bool) -> Printed {
        fields::header(out, self.response.header, hex)?;
        for permission in &self.response.perm {
            // Two blanks, as etcd prints them.
            writeln!(
                out,
                "\"PermType\" :  {}",
                permission.perm_type().as_str_name()
            )?;
            fields::plain(out, "Key", quote(&permission.key))?;
            fields::plain(out, "RangeEnd", quote(&permission.range_end))?;
        }
        Ok(())
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.response.encode_to_vec())
    }
}

/// A revoked permission; key and range end are the caller's, and need not be text.
pub(crate) struct RoleRevoked {
    /// The role.
    pub name: String,
    /// As it was typed.
    pub key: Vec<u8>,
    /// As it was sent.
    pub range_end: Vec<u8>,
    /// The answer.
    pub response: pb::AuthRoleRevokePermissionResponse,
}

impl Printable for RoleRevoked {
    fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
        let key = self.key.as_slice();
        let what = match self.range_end.as_slice() {
            b"" => [b"key ", key].concat(),
            ALL_KEYS => [b"range [", key, b", <open ended>"].concat(),
            end => [b"range [", key, b", ", end, b")"].concat(),
        };
        out.write_all(b"Permission of ")?;
        out.write_all(&what)?;
        Ok(writeln!(out, " is revoked from role {}", self.name)?)
    }

    fn json(&self, out: &mut String, _hex: bool) -> Printed {
        push_header_only(out, self.response.header);
        Ok(())
    }

    fn fields(&self, out: Out<'_>, hex: bool) -> Printed {
        fields::header(out, self.response.header, hex)
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.response.encode_to_vec())
    }
}
