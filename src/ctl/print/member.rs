//! Answers about members.

use super::json::Object;
use super::{Display, Out, Printable, Printed, fields, header_of, table};
use crate::pb::etcdserverpb::{
    Member, MemberAddResponse, MemberListResponse, MemberPromoteResponse, MemberRemoveResponse,
    MemberUpdateResponse, ResponseHeader,
};
use prost::Message;

const COLUMNS: [&str; 6] = [
    "ID",
    "Status",
    "Name",
    "Peer Addrs",
    "Client Addrs",
    "Is Learner",
];

fn row(member: &Member) -> Vec<String> {
    vec![
        format!("{:x}", member.id),
        if member.name.is_empty() {
            "unstarted"
        } else {
            "started"
        }
        .to_owned(),
        member.name.clone(),
        member.peer_ur_ls.join(","),
        member.client_ur_ls.join(","),
        member.is_learner.to_string(),
    ]
}

/// The object of a member response; `hex` makes ids strings.
fn write_json(
    out: &mut String,
    header: Option<ResponseHeader>,
    member: Option<&Member>,
    members: &[Member],
    hex: bool,
) {
    Object::write(out, |object| {
        match (header, hex) {
            (Some(header), true) => Object::write(object.value("header"), |object| {
                object.text_always("cluster_id", &format!("{:x}", header.cluster_id));
                object.text_always("member_id", &format!("{:x}", header.member_id));
                object.number("revision", header.revision);
                object.number("raft_term", header.raft_term);
            }),
            _ => object.header("header", header),
        }
        if let Some(member) = member {
            write_member(object.value("member"), member, hex);
        }
        object.list("members", members, |out, member| {
            write_member(out, member, hex)
        });
    });
}

fn write_member(out: &mut String, member: &Member, hex: bool) {
    Object::write(out, |object| {
        match hex {
            true => object.text_always("ID", &format!("{:x}", member.id)),
            false => object.number("ID", member.id),
        }
        object.text("name", &member.name);
        object.texts("peerURLs", &member.peer_ur_ls);
        object.texts("clientURLs", &member.client_ur_ls);
        object.flag("isLearner", member.is_learner);
    });
}

impl Printable for MemberListResponse {
    fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
        Ok(self
            .members
            .iter()
            .try_for_each(|m| writeln!(out, "{}", row(m).join(", ")))?)
    }

    fn json(&self, out: &mut String, hex: bool) -> Printed {
        write_json(out, self.header, None, &self.members, hex);
        Ok(())
    }

    fn fields(&self, out: Out<'_>, hex: bool) -> Printed {
        fields::header(out, self.header, hex)?;
        for member in &self.members {
            fields::id(out, "ID", member.id, hex)?;
            fields::quoted(out, "Name", &member.name)?;
            for url in &member.peer_ur_ls {
                fields::quoted(out, "PeerURL", url)?;
            }
            for url in &member.client_ur_ls {
                fields::quoted(out, "ClientURL", url)?;
            }
            fields::plain(out, "IsLearner", member.is_learner)?;
            writeln!(out)?;
        }
        Ok(())
    }

    fn table(&self, out: Out<'_>) -> Printed {
        let rows: Vec<_> = self.members.iter().map(row).collect();
        table::draw(out, &COLUMNS, &rows)
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

impl Printable for MemberAddResponse {
    fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
        let member = self.member.clone().unwrap_or_default();
        let role = if member.is_learner { " as learner" } else { "" };
        let cluster = header_of(self.header).cluster_id;
        Ok(writeln!(
            out,
            "Member {:16x} added{role} to cluster {cluster:16x}",
            member.id
        )?)
    }

    fn json(&self, out: &mut String, hex: bool) -> Printed {
        write_json(out, self.header, self.member.as_ref(), &self.members, hex);
        Ok(())
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

/// An answer to a change of an existing member, which does not say which.
pub(crate) struct MemberChange<R> {
    /// The member.
    pub id: u64,
    /// The answer.
    pub response: R,
}

macro_rules! changes {
    ($($response:ident $done:literal;)+) => {$(
        impl Printable for MemberChange<$response> {
            fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
                let cluster = header_of(self.response.header).cluster_id;
                Ok(writeln!(out, concat!("Member {:16x} ", $done, " cluster {:16x}"), self.id, cluster)?)
            }

            fn json(&self, out: &mut String, hex: bool) -> Printed {
                write_json(out, self.response.header, None, &self.response.members, hex);
                Ok(())
            }

            fn protobuf(&self) -> Option<Vec<u8>> {
                Some(self.response.encode_to_vec())
            }
        }
    )+};
}

changes! {
    MemberRemoveResponse "removed from";
    MemberUpdateResponse "updated in";
    MemberPromoteResponse "promoted in";
}
