//! The parts all responses share in the `fields` format: header, key-value block, lease ids.

use super::{Out, Printed};
use crate::ctl::go::quote::quote;
use crate::pb::KeyValueFields;
use crate::pb::etcdserverpb::ResponseHeader;

pub(crate) fn header(out: Out<'_>, header: Option<ResponseHeader>, hex: bool) -> Printed {
    let header = super::header_of(header);
    if hex {
        writeln!(out, "\"ClusterID\" : {:x}", header.cluster_id)?;
        writeln!(out, "\"MemberID\" : {:x}", header.member_id)?;
    } else {
        writeln!(out, "\"ClusterID\" : {}", header.cluster_id)?;
        writeln!(out, "\"MemberID\" : {}", header.member_id)?;
    }
    if header.revision > 0 {
        writeln!(out, "\"Revision\" : {}", header.revision)?;
    }
    Ok(writeln!(out, "\"RaftTerm\" : {}", header.raft_term)?)
}

/// A pair; `prefix` is `Prev` for one that is no more.
pub(crate) fn pair(out: Out<'_>, prefix: &str, pair: &KeyValueFields, hex: bool) -> Printed {
    writeln!(out, "\"{prefix}Key\" : {}", quote(&pair.key))?;
    writeln!(out, "\"{prefix}CreateRevision\" : {}", pair.create_revision)?;
    writeln!(out, "\"{prefix}ModRevision\" : {}", pair.mod_revision)?;
    writeln!(out, "\"{prefix}Version\" : {}", pair.version)?;
    writeln!(out, "\"{prefix}Value\" : {}", quote(&pair.value))?;
    lease(out, &format!("{prefix}Lease"), pair.lease, hex)
}

pub(crate) fn lease(out: Out<'_>, name: &str, id: i64, hex: bool) -> Printed {
    match hex {
        true => writeln!(out, "\"{name}\" : {id:016x}")?,
        false => writeln!(out, "\"{name}\" : {id}")?,
    }
    Ok(())
}

/// A member id.
pub(crate) fn id(out: Out<'_>, name: &str, id: u64, hex: bool) -> Printed {
    match hex {
        true => writeln!(out, "\"{name}\" : {id:x}")?,
        false => writeln!(out, "\"{name}\" : {id}")?,
    }
    Ok(())
}

pub(crate) fn quoted(out: Out<'_>, name: &str, text: &str) -> Printed {
    Ok(writeln!(out, "\"{name}\" : {}", quote(text.as_bytes()))?)
}

pub(crate) fn plain(out: Out<'_>, name: &str, value: impl std::fmt::Display) -> Printed {
    Ok(writeln!(out, "\"{name}\" : {value}")?)
}
