//! Answers about leases. Their JSON and protobuf are those of etcd's client types: the header's fields stand in
//! the object itself, and only the header has a protobuf form.

use super::json::{Object, push_bytes, push_header_only};
use super::{Display, Out, Printable, Printed, fields, header_of};
use crate::ctl::go::quote::quote;
use crate::pb::etcdserverpb::{
    LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse,
    LeaseTimeToLiveResponse, ResponseHeader,
};
use prost::Message;

fn bare_header(header: Option<ResponseHeader>) -> Option<Vec<u8>> {
    Some(header_of(header).encode_to_vec())
}

impl Printable for LeaseGrantResponse {
    fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
        Ok(writeln!(
            out,
            "lease {:016x} granted with TTL({}s)",
            self.id, self.ttl
        )?)
    }

    fn json(&self, out: &mut String, _hex: bool) -> Printed {
        Object::write(out, |object| {
            object.header_fields(header_of(self.header));
            object.number_always("ID", self.id);
            object.number_always("TTL", self.ttl);
            object.text_always("Error", &self.error);
        });
        Ok(())
    }

    fn fields(&self, out: Out<'_>, hex: bool) -> Printed {
        fields::header(out, self.header, hex)?;
        fields::lease(out, "ID", self.id, hex)?;
        fields::plain(out, "TTL", self.ttl)
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        bare_header(self.header)
    }
}

impl Printable for LeaseKeepAliveResponse {
    fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
        Ok(writeln!(
            out,
            "lease {:016x} keepalived with TTL({})",
            self.id, self.ttl
        )?)
    }

    fn json(&self, out: &mut String, _hex: bool) -> Printed {
        Object::write(out, |object| {
            object.header_fields(header_of(self.header));
            object.number_always("ID", self.id);
            object.number_always("TTL", self.ttl);
        });
        Ok(())
    }

    fn fields(&self, out: Out<'_>, hex: bool) -> Printed {
        fields::header(out, self.header, hex)?;
        fields::lease(out, "ID", self.id, hex)?;
        fields::plain(out, "TTL", self.ttl)
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        bare_header(self.header)
    }
}

/// An answer to `lease timetolive`.
pub(crate) struct Remaining {
    /// The answer.
    pub response: LeaseTimeToLiveResponse,
    /// Whether keys were asked for.
    pub keys: bool,
}

impl Printable for Remaining {
    fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
        let response = &self.response;
        if response.granted_ttl == 0 && response.ttl == -1 {
            return Ok(writeln!(out, "lease {:016x} already expired", response.id)?);
        }
        write!(
            out,
            "lease {:016x} granted with TTL({}s), remaining({}s)",
            response.id, response.granted_ttl, response.ttl
        )?;
        if self.keys {
            out.write_all(b", attached keys([")?;
            out.write_all(&response.keys.join(&b' '))?;
            out.write_all(b"])")?;
        }
        Ok(writeln!(out)?)
    }

    fn json(&self, out: &mut String, _hex: bool) -> Printed {
        let response = &self.response;
        Object::write(out, |object| {
            object.header_fields(header_of(response.header));
            object.number_always("id", response.id);
            object.number_always("ttl", response.ttl);
            object.number_always("granted-ttl", response.granted_ttl);
            if response.keys.is_empty() {
                object.value("keys").push_str("null");
            }
            object.list("keys", &response.keys, |out, key| push_bytes(out, key));
        });
        Ok(())
    }

    fn fields(&self, out: Out<'_>, hex: bool) -> Printed {
        fields::header(out, self.response.header, hex)?;
        fields::lease(out, "ID", self.response.id, hex)?;
        fields::plain(out, "TTL", self.response.ttl)?;
        fields::plain(out, "GrantedTTL", self.response.granted_ttl)?;
        self.response
            .keys
            .iter()
            .try_for_each(|key| fields::plain(out, "Key", quote(key)))
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        bare_header(self.response.header)
    }
}

impl Printable for LeaseLeasesResponse {
    fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
        writeln!(out, "found {} leases", self.leases.len())?;
        Ok(self
            .leases
            .iter()
            .try_for_each(|lease| writeln!(out, "{:016x}", lease.id))?)
    }

    fn json(&self, out: &mut String, _hex: bool) -> Printed {
        Object::write(out, |object| {
            object.header_fields(header_of(self.header));
            if self.leases.is_empty() {
                object.value("leases").push_str("[]");
            }
            object.list("leases", &self.leases, |out, lease| {
                Object::write(out, |object| object.number_always("id", lease.id));
            });
        });
        Ok(())
    }

    fn fields(&self, out: Out<'_>, hex: bool) -> Printed {
        fields::header(out, self.header, hex)?;
        self.leases
            .iter()
            .try_for_each(|lease| fields::lease(out, "ID", lease.id, hex))
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        bare_header(self.header)
    }
}

/// An answer to `lease revoke`, which names no lease.
pub(crate) struct Revoked {
    /// The lease.
    pub id: i64,
    /// The answer.
    pub response: LeaseRevokeResponse,
}

impl Printable for Revoked {
    fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
        Ok(writeln!(out, "lease {:016x} revoked", self.id)?)
    }

    fn json(&self, out: &mut String, _hex: bool) -> Printed {
        push_header_only(out, self.response.header);
        Ok(())
    }

    fn fields(&self, out: Out<'_>, hex: bool) -> Printed {
        fields::header(out, self.response.header, hex)
    }
}
