//! Alarms.

use super::json::Object;
use super::{Display, Out, Printable, Printed, fields};
use crate::pb::etcdserverpb::{AlarmMember, AlarmResponse, AlarmType};
use prost::Message;

fn name(alarm: i32) -> String {
    match AlarmType::try_from(alarm) {
        Ok(alarm) => alarm.as_str_name().to_owned(),
        Err(_) => alarm.to_string(),
    }
}

/// The text form of a protobuf message: fields that are set, a blank between them.
fn describe(alarm: &AlarmMember) -> String {
    let member = (alarm.member_id != 0).then(|| format!("memberID:{}", alarm.member_id));
    let kind = (alarm.alarm != 0).then(|| format!("alarm:{}", name(alarm.alarm)));
    member.into_iter().chain(kind).collect::<Vec<_>>().join(" ")
}

impl Printable for AlarmResponse {
    fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
        Ok(self
            .alarms
            .iter()
            .try_for_each(|alarm| writeln!(out, "{}", describe(alarm)))?)
    }

    fn json(&self, out: &mut String, _hex: bool) -> Printed {
        Object::write(out, |object| {
            object.header("header", self.header);
            object.list("alarms", &self.alarms, |out, alarm| {
                Object::write(out, |object| {
                    object.number("memberID", alarm.member_id);
                    object.number("alarm", alarm.alarm);
                });
            });
        });
        Ok(())
    }

    fn fields(&self, out: Out<'_>, hex: bool) -> Printed {
        fields::header(out, self.header, hex)?;
        for alarm in &self.alarms {
            fields::id(out, "MemberID", alarm.member_id, hex)?;
            fields::plain(out, "AlarmType", name(alarm.alarm))?;
            writeln!(out)?;
        }
        Ok(())
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}
