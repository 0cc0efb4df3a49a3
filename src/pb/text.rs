//! Requests on one line, as etcd's logs show them: protobuf's text form, with sizes in place of values.

use std::fmt::{self, Display, Formatter};

use super::etcdserverpb::compare::TargetUnion;
use super::etcdserverpb::request_op::Request;
use super::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest};
use super::etcdserverpb::{RangeRequest, RequestOp, TxnRequest};

/// Shows a request without its values.
pub struct Redacted<'a, T>(pub &'a T);

impl Display for Redacted<'_, RangeRequest> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let request = self.0;
        let mut fields = Fields::new(f, "");
        fields.bytes("key", &request.key)?;
        fields.bytes("range_end", &request.range_end)?;
        fields.number("limit", request.limit)?;
        fields.number("revision", request.revision)?;
        if request.sort_order != 0 {
            fields.value("sort_order", request.sort_order().as_str_name())?;
        }
        if request.sort_target != 0 {
            fields.value("sort_target", request.sort_target().as_str_name())?;
        }
        fields.flag("serializable", request.serializable)?;
        fields.flag("keys_only", request.keys_only)?;
        fields.flag("count_only", request.count_only)?;
        fields.number("min_mod_revision", request.min_mod_revision)?;
        fields.number("max_mod_revision", request.max_mod_revision)?;
        fields.number("min_create_revision", request.min_create_revision)?;
        fields.number("max_create_revision", request.max_create_revision)
    }
}

impl Display for Redacted<'_, PutRequest> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let request = self.0;
        let mut fields = Fields::new(f, " ");
        fields.bytes("key", &request.key)?;
        fields.number("value_size", request.value.len() as i64)?;
        fields.number("lease", request.lease)?;
        fields.flag("prev_kv", request.prev_kv)?;
        fields.flag("ignore_value", request.ignore_value)?;
        fields.flag("ignore_lease", request.ignore_lease)
    }
}

impl Display for Redacted<'_, DeleteRangeRequest> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut fields = Fields::new(f, "");
        fields.bytes("key", &self.0.key)?;
        fields.bytes("range_end", &self.0.range_end)?;
        fields.flag("prev_kv", self.0.prev_kv)
    }
}

impl Display for Redacted<'_, Compare> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let compare = self.0;
        let redacts = matches!(compare.target_union, Some(TargetUnion::Value(_)));
        let mut fields = Fields::new(f, if redacts { " " } else { "" });
        if compare.result != 0 {
            fields.value("result", compare.result().as_str_name())?;
        }
        if compare.target != 0 {
            fields.value("target", compare.target().as_str_name())?;
        }
        fields.bytes("key", &compare.key)?;
        match &compare.target_union {
            Some(TargetUnion::Version(number)) => fields.value("version", number)?,
            Some(TargetUnion::CreateRevision(number)) => fields.value("create_revision", number)?,
            Some(TargetUnion::ModRevision(number)) => fields.value("mod_revision", number)?,
            Some(TargetUnion::Lease(number)) => fields.value("lease", number)?,
            Some(TargetUnion::Value(value)) => fields.number("value_size", value.len() as i64)?,
            None => {}
        }
        fields.bytes("range_end", &compare.range_end)
    }
}

impl Display for Redacted<'_, RequestOp> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0.request {
            Some(Request::RequestRange(range)) => {
                write!(f, "request_range:{{{}}}", Redacted(range))
            }
            Some(Request::RequestPut(put)) => write!(f, "request_put:<{}>", Redacted(put)),
            Some(Request::RequestDeleteRange(delete)) => {
                write!(f, "request_delete_range:{{{}}}", Redacted(delete))
            }
            Some(Request::RequestTxn(txn)) => write!(f, "request_txn:<{}>", Redacted(txn)),
            None => Ok(()),
        }
    }
}

impl Display for Redacted<'_, TxnRequest> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let txn = self.0;
        f.write_str("compare:<")?;
        write_list(f, &txn.compare)?;
        f.write_str("> success:<")?;
        write_list(f, &txn.success)?;
        f.write_str("> failure:<")?;
        write_list(f, &txn.failure)?;
        f.write_str(">")
    }
}

fn write_list<'a, T>(f: &mut Formatter<'_>, items: &'a [T]) -> fmt::Result
where
    Redacted<'a, T>: Display,
{
    for (at, item) in items.iter().enumerate() {
        f.write_str(if at == 0 { "" } else { " " })?;
        Redacted(item).fmt(f)?;
    }
    Ok(())
}

/// Fields that are not their default, `name:value` each. Go's older form, in which redacted messages are printed,
/// ends every field with a space; the newer one puts one between fields.
pub(super) struct Fields<'a, 'f> {
    f: &'a mut Formatter<'f>,
    end: &'static str,
    any: bool,
}

impl<'a, 'f> Fields<'a, 'f> {
    pub(super) fn new(f: &'a mut Formatter<'f>, end: &'static str) -> Self {
        Self { f, end, any: false }
    }

    pub(super) fn value(&mut self, name: &str, value: impl Display) -> fmt::Result {
        let between = if self.any && self.end.is_empty() {
            " "
        } else {
            ""
        };
        self.any = true;
        write!(self.f, "{between}{name}:{value}{}", self.end)
    }

    pub(super) fn number(&mut self, name: &str, value: i64) -> fmt::Result {
        if value == 0 {
            Ok(())
        } else {
            self.value(name, value)
        }
    }

    pub(super) fn unsigned(&mut self, name: &str, value: u64) -> fmt::Result {
        if value == 0 {
            Ok(())
        } else {
            self.value(name, value)
        }
    }

    /// A whole message's fields.
    pub(super) fn raw(&mut self, fields: impl Display) -> fmt::Result {
        write!(self.f, "{fields}")
    }

    pub(super) fn flag(&mut self, name: &str, value: bool) -> fmt::Result {
        if value {
            self.value(name, value)
        } else {
            Ok(())
        }
    }

    pub(super) fn bytes(&mut self, name: &str, value: &[u8]) -> fmt::Result {
        if value.is_empty() {
            Ok(())
        } else {
            self.value(name, Quoted(value))
        }
    }
}

struct Quoted<'a>(&'a [u8]);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for &byte in self.0 {
            match byte {
                b'\n' => f.write_str("\\n")?,
                b'\r' => f.write_str("\\r")?,
                b'\t' => f.write_str("\\t")?,
                b'"' | b'\\' => write!(f, "\\{}", char::from(byte))?,
                b' '..=b'~' => write!(f, "{}", char::from(byte))?,
                other => write!(f, "\\x{other:02x}")?,
            }
        }
        f.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_like_etcds() {
        let range = RangeRequest {
            key: "foo".into(),
            range_end: "f\0\"".into(),
            limit: 5,
            serializable: true,
            ..Default::default()
        };
        let text = r#"key:"foo" range_end:"f\x00\"" limit:5 serializable:true"#;
        assert_eq!(Redacted(&range).to_string(), text);
        let put = PutRequest {
            key: "a".into(),
            value: "secret".into(),
            ..Default::default()
        };
        assert_eq!(Redacted(&put).to_string(), r#"key:"a" value_size:6 "#);

        let op = |request| RequestOp {
            request: Some(request),
        };
        let txn = TxnRequest {
            compare: vec![Compare {
                target: 3,
                key: "foo".into(),
                target_union: Some(TargetUnion::Value("v".into())),
                ..Default::default()
            }],
            success: vec![op(Request::RequestPut(put))],
            failure: vec![op(Request::RequestRange(RangeRequest {
                key: "foo".into(),
                ..Default::default()
            }))],
        };
        assert_eq!(
            Redacted(&txn).to_string(),
            "compare:<target:VALUE key:\"foo\" value_size:1 > \
             success:<request_put:<key:\"a\" value_size:6 >> \
             failure:<request_range:{key:\"foo\"}>"
        );
    }
}
