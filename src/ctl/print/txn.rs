//! Answers to transactions.

use super::json::Object;
use super::{Display, Out, Printable, Printed, fields};
use crate::pb::etcdserverpb::TxnResponse;
use crate::pb::etcdserverpb::response_op::Response;
use prost::Message;

impl Printable for TxnResponse {
    fn simple(&self, out: Out<'_>, display: &Display) -> Printed {
        writeln!(
            out,
            "{}",
            if self.succeeded { "SUCCESS" } else { "FAILURE" }
        )?;
        for response in &self.responses {
            writeln!(out)?;
            match &response.response {
                Some(Response::ResponseRange(range)) => range.simple(out, display)?,
                Some(Response::ResponsePut(put)) => put.simple(out, display)?,
                Some(Response::ResponseDeleteRange(delete)) => delete.simple(out, display)?,
                Some(Response::ResponseTxn(txn)) => txn.simple(out, display)?,
                None => {}
            }
        }
        Ok(())
    }

    fn json(&self, out: &mut String, hex: bool) -> Printed {
        let mut printed = Ok(());
        Object::write(out, |object| {
            object.header("header", self.header);
            object.flag("succeeded", self.succeeded);
            object.list("responses", &self.responses, |out, response| {
                Object::write(out, |object| {
                    Object::write(object.value("Response"), |object| {
                        let written = match &response.response {
                            Some(Response::ResponseRange(range)) => {
                                range.json(object.value("response_range"), hex)
                            }
                            Some(Response::ResponsePut(put)) => {
                                put.json(object.value("response_put"), hex)
                            }
                            Some(Response::ResponseDeleteRange(delete)) => {
                                delete.json(object.value("response_delete_range"), hex)
                            }
                            Some(Response::ResponseTxn(txn)) => {
                                txn.json(object.value("response_txn"), hex)
                            }
                            None => Ok(()),
                        };
                        if written.is_err() {
                            printed = written;
                        }
                    });
                });
            });
        });
        printed
    }

    fn fields(&self, out: Out<'_>, hex: bool) -> Printed {
        fields::header(out, self.header, hex)?;
        fields::plain(out, "Succeeded", self.succeeded)?;
        for response in &self.responses {
            match &response.response {
                Some(Response::ResponseRange(range)) => range.fields(out, hex)?,
                Some(Response::ResponsePut(put)) => put.fields(out, hex)?,
                Some(Response::ResponseDeleteRange(delete)) => delete.fields(out, hex)?,
                Some(Response::ResponseTxn(txn)) => txn.fields(out, hex)?,
                None => {}
            }
        }
        Ok(())
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}
