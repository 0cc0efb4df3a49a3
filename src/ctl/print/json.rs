//! JSON as Go's `encoding/json` writes etcd's messages: field names of the protocol, numbers as numbers, bytes as
//! base64, zero values left out.

use crate::pb::KeyValueFields;
use crate::pb::etcdserverpb::ResponseHeader;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write as _;

/// A string in quotes, with the characters escaped that could end a script element.
pub(in crate::ctl) fn push_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '<' | '>' | '&' | '\0'..'\x20' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// Writes one object. The plain methods leave zero values out, those in `_always` do not.
pub(crate) struct Object<'a> {
    out: &'a mut String,
    empty: bool,
}

impl<'a> Object<'a> {
    /// Writes an object by writing its fields.
    pub(crate) fn write(out: &'a mut String, fields: impl FnOnce(&mut Object<'_>)) {
        out.push('{');
        fields(&mut Object { out, empty: true });
        out.push('}');
    }

    /// The place for a value of any kind.
    pub(crate) fn value(&mut self, key: &str) -> &mut String {
        if !self.empty {
            self.out.push(',');
        }
        self.empty = false;
        self.out.push('"');
        self.out.push_str(key);
        self.out.push_str("\":");
        self.out
    }

    pub(crate) fn number_always(&mut self, key: &str, number: impl std::fmt::Display) {
        let out = self.value(key);
        let _ = write!(out, "{number}");
    }

    pub(crate) fn number(&mut self, key: &str, number: impl Into<i128>) {
        let number = number.into();
        if number != 0 {
            self.number_always(key, number);
        }
    }

    pub(crate) fn text_always(&mut self, key: &str, text: &str) {
        push_text(self.value(key), text);
    }

    pub(crate) fn text(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.text_always(key, text);
        }
    }

    pub(crate) fn flag(&mut self, key: &str, flag: bool) {
        if flag {
            self.value(key).push_str("true");
        }
    }

    pub(crate) fn bytes(&mut self, key: &str, bytes: &[u8]) {
        if !bytes.is_empty() {
            push_bytes(self.value(key), bytes);
        }
    }

    pub(crate) fn header(&mut self, key: &str, header: Option<ResponseHeader>) {
        if let Some(header) = header {
            Object::write(self.value(key), |object| object.header_fields(header));
        }
    }

    pub(crate) fn header_fields(&mut self, header: ResponseHeader) {
        self.number("cluster_id", header.cluster_id);
        self.number("member_id", header.member_id);
        self.number("revision", header.revision);
        self.number("raft_term", header.raft_term);
    }

    /// A list; an empty one is left out.
    pub(crate) fn list<T>(
        &mut self,
        key: &str,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut String, T),
    ) {
        let mut items = items.into_iter();
        let Some(first) = items.next() else {
            return;
        };
        let out = self.value(key);
        out.push('[');
        write(out, first);
        for item in items {
            out.push(',');
            write(out, item);
        }
        out.push(']');
    }

    pub(crate) fn texts(&mut self, key: &str, texts: &[String]) {
        self.list(key, texts, |out, text| push_text(out, text));
    }
}

pub(crate) fn push_bytes(out: &mut String, bytes: &[u8]) {
    out.push('"');
    STANDARD.encode_string(bytes, out);
    out.push('"');
}

pub(crate) fn push_pair(out: &mut String, pair: &KeyValueFields) {
    Object::write(out, |object| {
        object.bytes("key", &pair.key);
        object.number("create_revision", pair.create_revision);
        object.number("mod_revision", pair.mod_revision);
        object.number("version", pair.version);
        object.bytes("value", &pair.value);
        object.number("lease", pair.lease);
    });
}

/// An object with a header and nothing else.
pub(crate) fn push_header_only(out: &mut String, header: Option<ResponseHeader>) {
    Object::write(out, |object| object.header("header", header));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_values_are_left_out_and_text_is_escaped_as_in_go() {
        let mut out = String::new();
        Object::write(&mut out, |object| {
            object.number("zero", 0);
            object.number("id", u64::MAX);
            object.text("text", "<a>&\"\u{2028}\u{7f}");
            object.texts("none", &[]);
            object.bytes("bytes", b"foo");
            object.header(
                "header",
                Some(ResponseHeader {
                    revision: 3,
                    ..Default::default()
                }),
            );
        });
        assert_eq!(
            out,
            "{\"id\":18446744073709551615,\"text\":\"\\u003ca\\u003e\\u0026\\\"\\u2028\u{7f}\",\
             \"bytes\":\"Zm9v\",\"header\":{\"revision\":3}}"
        );
    }
}
