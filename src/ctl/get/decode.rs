//! `get --decode`: values for people. JSON is laid out; what Kubernetes stores as protobuf is shown with its kind,
//! its metadata and its fields by number; other bytes are quoted.

use crate::ctl::go::quote::quote;
use crate::pb::KeyValue;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use std::fmt::Write as _;

/// What every protobuf value of Kubernetes begins with.
const KUBERNETES: &[u8] = b"k8s\0";

/// Levels of nested messages that are looked into.
const DEPTH_MAX: usize = 16;

/// `runtime.Unknown`: the envelope.
#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(message, optional, tag = "1")]
    type_meta: Option<TypeMeta>,
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeMeta {
    #[prost(string, tag = "1")]
    api_version: String,
    #[prost(string, tag = "2")]
    kind: String,
}

/// The head every object has.
#[derive(Clone, PartialEq, Message)]
struct Object {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(string, tag = "5")]
    uid: String,
    #[prost(map = "string, string", tag = "11")]
    labels: std::collections::HashMap<String, String>,
}

/// Key line and what the value holds, for each pair.
pub(super) fn show(pairs: &[KeyValue]) -> String {
    let mut out = String::new();
    for pair in pairs {
        let pair = pair.fields();
        let _ = writeln!(out, "{}", pair.key.escape_ascii());
        out.push_str(&value(&pair.value));
    }
    out
}

fn value(bytes: &[u8]) -> String {
    if let Some(object) = bytes.strip_prefix(KUBERNETES).and_then(kubernetes) {
        return object;
    }
    match serde_json::from_slice::<serde_json::Value>(bytes) {
        Ok(json) if json.is_object() || json.is_array() => format!("{json:#}\n"),
        _ => format!("{}\n", plain(bytes)),
    }
}

/// Text as it is, other bytes quoted.
fn plain(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(|c: char| c.is_control() && c != '\n' && c != '\t') => {
            text.to_owned()
        }
        _ => quote(bytes),
    }
}

fn kubernetes(bytes: &[u8]) -> Option<String> {
    let envelope = Envelope::decode(bytes).ok()?;
    let kind = envelope.type_meta.unwrap_or_default();
    let mut out = format!("apiVersion: {}\nkind: {}\n", kind.api_version, kind.kind);
    if let Ok(Object {
        metadata: Some(metadata),
    }) = Object::decode(envelope.raw.as_slice())
    {
        let head = [
            ("name", &metadata.name),
            ("namespace", &metadata.namespace),
            ("uid", &metadata.uid),
        ];
        for (name, text) in head.into_iter().filter(|(_, text)| !text.is_empty()) {
            let _ = writeln!(out, "{name}: {text}");
        }
        let mut labels: Vec<_> = metadata.labels.into_iter().collect();
        labels.sort();
        for (name, text) in labels {
            let _ = writeln!(out, "label {name}: {text}");
        }
    }
    out.push_str(&fields(&envelope.raw, 0)?);
    Some(out)
}

/// The fields of a message nobody described: number and value. `None`: it is no message.
fn fields(mut bytes: &[u8], depth: usize) -> Option<String> {
    if depth > DEPTH_MAX {
        return None;
    }
    let mut out = String::new();
    let indent = "  ".repeat(depth);
    while !bytes.is_empty() {
        let (tag, kind) = decode_key(&mut bytes).ok()?;
        let shown = match kind {
            WireType::Varint => decode_varint(&mut bytes).ok()?.to_string(),
            WireType::ThirtyTwoBit => {
                let (number, rest) = bytes.split_first_chunk::<4>()?;
                bytes = rest;
                u32::from_le_bytes(*number).to_string()
            }
            WireType::SixtyFourBit => {
                let (number, rest) = bytes.split_first_chunk::<8>()?;
                bytes = rest;
                u64::from_le_bytes(*number).to_string()
            }
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
                let (inner, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                match fields(inner, depth + 1).filter(|_| !is_text(inner)) {
                    Some(nested) => format!("{{\n{nested}{indent}}}"),
                    None => quote(inner),
                }
            }
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        let _ = writeln!(out, "{indent}{tag}: {shown}");
    }
    Some(out)
}

/// Printable text is more likely text than a message that happens to parse.
fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| !text.contains(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_laid_out_and_text_is_left() {
        assert_eq!(value(br#"{"a":[1]}"#), "{\n  \"a\": [\n    1\n  ]\n}\n");
        assert_eq!(value(b"7"), "7\n");
        assert_eq!(value(b"\x01\xff"), "\"\\x01\\xff\"\n");
    }

    #[test]
    fn kubernetes_objects_show_kind_name_and_fields() {
        let metadata = Metadata {
            name: "web".to_owned(),
            namespace: "default".to_owned(),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            ..Default::default()
        };
        let raw = Object {
            metadata: Some(metadata),
        }
        .encode_to_vec();
        let type_meta = TypeMeta {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
        };
        let envelope = Envelope {
            type_meta: Some(type_meta),
            raw,
        }
        .encode_to_vec();
        let shown = value(&[KUBERNETES, envelope.as_slice()].concat());
        let head = "apiVersion: v1\nkind: Pod\nname: web\nnamespace: default\nlabel app: web\n";
        assert!(shown.starts_with(head), "{shown}");
        assert!(
            shown.contains("1: {\n  1: \"web\"\n  3: \"default\"\n"),
            "{shown}"
        );
    }

    #[test]
    fn broken_messages_are_bytes() {
        assert_eq!(fields(b"\x0a\x05ab", 0), None);
        assert_eq!(value(b"k8s\0\x0a\x05"), "\"k8s\\x00\\n\\x05\"\n");
    }
}
