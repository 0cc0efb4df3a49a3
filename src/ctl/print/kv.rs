//! Answers to get, put and del.

use super::json::{Object, push_pair};
use super::{Display, Out, Printable, Printed, fields};
use crate::pb::etcdserverpb::{DeleteRangeResponse, PutResponse, RangeResponse};
use crate::pb::{EncodedRangeResponse, KeyValue, KeyValueFields};
use prost::Message;

/// Key line and value line.
pub(super) fn pair(out: Out<'_>, pair: &KeyValueFields, display: &Display) -> Printed {
    lines(out, &pair.key, &pair.value, display)
}

fn lines(out: Out<'_>, key: &[u8], value: &[u8], display: &Display) -> Printed {
    if !display.value_only {
        line(out, key, display.hex)?;
    }
    line(out, value, display.hex)
}

fn line(out: Out<'_>, bytes: &[u8], hex: bool) -> Printed {
    if hex {
        for byte in bytes {
            write!(out, "\\x{byte:02x}")?;
        }
    } else {
        out.write_all(bytes)?;
    }
    Ok(out.write_all(b"\n")?)
}

pub(super) fn pairs_json(object: &mut Object<'_>, key: &str, pairs: &[KeyValue]) {
    object.list(key, pairs, |out, pair| push_pair(out, &pair.fields()));
}

impl Printable for RangeResponse {
    fn simple(&self, out: Out<'_>, display: &Display) -> Printed {
        self.kvs
            .iter()
            .try_for_each(|kv| pair(out, &kv.fields(), display))
    }

    fn json(&self, out: &mut String, _hex: bool) -> Printed {
        Object::write(out, |object| {
            object.header("header", self.header);
            pairs_json(object, "kvs", &self.kvs);
            object.flag("more", self.more);
            object.number("count", self.count);
        });
        Ok(())
    }

    fn fields(&self, out: Out<'_>, hex: bool) -> Printed {
        fields::header(out, self.header, hex)?;
        for kv in &self.kvs {
            fields::pair(out, "", &kv.fields(), hex)?;
        }
        fields::plain(out, "More", self.more)?;
        fields::plain(out, "Count", self.count)
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

impl Printable for EncodedRangeResponse {
    fn simple(&self, out: Out<'_>, display: &Display) -> Printed {
        self.visit(|key, value| lines(out, key, value, display))
    }

    fn json(&self, out: &mut String, hex: bool) -> Printed {
        self.decoded()?.json(out, hex)
    }

    fn fields(&self, out: Out<'_>, hex: bool) -> Printed {
        self.decoded()?.fields(out, hex)
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

impl Printable for PutResponse {
    fn simple(&self, out: Out<'_>, display: &Display) -> Printed {
        writeln!(out, "OK")?;
        self.prev_kv
            .iter()
            .try_for_each(|kv| pair(out, &kv.fields(), display))
    }

    fn json(&self, out: &mut String, _hex: bool) -> Printed {
        Object::write(out, |object| {
            object.header("header", self.header);
            if let Some(kv) = &self.prev_kv {
                push_pair(object.value("prev_kv"), &kv.fields());
            }
        });
        Ok(())
    }

    fn fields(&self, out: Out<'_>, hex: bool) -> Printed {
        fields::header(out, self.header, hex)?;
        self.prev_kv
            .iter()
            .try_for_each(|kv| fields::pair(out, "Prev", &kv.fields(), hex))
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

impl Printable for DeleteRangeResponse {
    fn simple(&self, out: Out<'_>, display: &Display) -> Printed {
        writeln!(out, "{}", self.deleted)?;
        self.prev_kvs
            .iter()
            .try_for_each(|kv| pair(out, &kv.fields(), display))
    }

    fn json(&self, out: &mut String, _hex: bool) -> Printed {
        Object::write(out, |object| {
            object.header("header", self.header);
            object.number("deleted", self.deleted);
            pairs_json(object, "prev_kvs", &self.prev_kvs);
        });
        Ok(())
    }

    fn fields(&self, out: Out<'_>, hex: bool) -> Printed {
        fields::header(out, self.header, hex)?;
        fields::plain(out, "Deleted", self.deleted)?;
        self.prev_kvs
            .iter()
            .try_for_each(|kv| fields::pair(out, "Prev", &kv.fields(), hex))
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}
