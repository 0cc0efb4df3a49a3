//! Watch responses.

use super::json::{Object, push_pair};
use super::{Display, Out, Printable, Printed, fields, kv};
use crate::client::WatchResponse;
use crate::pb::EventType;
use crate::pb::etcdserverpb as pb;
use prost::Message;

/// The name of an event's type.
pub(in crate::ctl) fn event_type(kind: i32) -> String {
    match EventType::try_from(kind) {
        Ok(EventType::Put) => "PUT".to_owned(),
        Ok(EventType::Delete) => "DELETE".to_owned(),
        Err(_) => kind.to_string(),
    }
}

impl Printable for WatchResponse {
    fn simple(&self, out: Out<'_>, display: &Display) -> Printed {
        for event in &self.events {
            let event = event.fields();
            writeln!(out, "{}", event_type(event.r#type))?;
            if let Some(previous) = event.prev_kv {
                kv::pair(out, &previous.into_fields(), display)?;
            }
            kv::pair(out, &event.kv.unwrap_or_default().into_fields(), display)?;
        }
        Ok(())
    }

    fn json(&self, out: &mut String, _hex: bool) -> Printed {
        Object::write(out, |object| {
            Object::write(object.value("Header"), |object| {
                object.header_fields(self.header.unwrap_or_default());
            });
            if self.events.is_empty() {
                object.value("Events").push_str("null");
            }
            object.list("Events", &self.events, |out, event| {
                let event = event.fields();
                Object::write(out, |object| {
                    object.number("type", event.r#type);
                    if let Some(pair) = event.kv {
                        push_pair(object.value("kv"), &pair.into_fields());
                    }
                    if let Some(pair) = event.prev_kv {
                        push_pair(object.value("prev_kv"), &pair.into_fields());
                    }
                });
            });
            object.number_always("CompactRevision", self.compact_revision);
            object.number_always("Canceled", self.canceled);
            object.number_always("Created", false);
            // etcd's client keeps the reason in a field it does not print.
            object.text_always("CancelReason", "");
        });
        Ok(())
    }

    fn fields(&self, out: Out<'_>, hex: bool) -> Printed {
        fields::header(out, self.header, hex)?;
        for event in &self.events {
            let event = event.fields();
            fields::plain(out, "Type", event_type(event.r#type))?;
            if let Some(previous) = event.prev_kv {
                fields::pair(out, "Prev", &previous.into_fields(), hex)?;
            }
            fields::pair(out, "", &event.kv.unwrap_or_default().into_fields(), hex)?;
        }
        Ok(())
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        let response = pb::WatchResponse {
            header: self.header,
            events: self.events.clone(),
            compact_revision: self.compact_revision,
            canceled: self.canceled,
            ..Default::default()
        };
        Some(response.encode_to_vec())
    }
}
