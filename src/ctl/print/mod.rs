//! Output: the five formats, and what each response looks like in them.
//!
//! A response type says what it prints in the formats it supports ([`Printable`]); the rest is one error, raised
//! after the request was made, as etcd does. Everything is written to standard output in one go per response.

mod alarm;
mod auth;
mod endpoint;
pub(crate) mod fields;
pub(crate) mod json;
mod kv;
mod lease;
mod member;
pub(crate) mod table;
mod txn;
mod watch;

pub(super) use auth::{Done, RoleGet, RoleRevoked, UserGet};
pub(super) use endpoint::{EndpointHash, EndpointHealth, EndpointStatus, MovedLeader};
pub(super) use json::push_text;
pub(super) use lease::{Remaining, Revoked};
pub(super) use member::MemberChange;
pub(super) use watch::event_type;

use super::exit::{Failure, code};
use crate::pb::etcdserverpb::ResponseHeader;
use std::io::{BufWriter, Write};

/// How responses are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people and line-based scripts.
    Simple,
    /// A line `"Name" : value` per field.
    Fields,
    /// One line, Go's JSON of the response.
    Json,
    /// The encoded response.
    Protobuf,
    /// A box.
    Table,
}

impl Format {
    /// The format of this name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "simple" => Self::Simple,
            "fields" => Self::Fields,
            "json" => Self::Json,
            "protobuf" => Self::Protobuf,
            "table" => Self::Table,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Fields => "fields",
            Self::Json => "json",
            Self::Protobuf => "protobuf",
            Self::Table => "table",
        }
    }
}

/// How this call prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Display {
    /// The format.
    pub format: Format,
    /// Bytes as `\x61`, ids in hexadecimal.
    pub hex: bool,
    /// No key lines.
    pub value_only: bool,
}

/// Why a response was not printed.
pub enum Trouble {
    /// This response has no such format.
    Unsupported,
    /// Standard output is gone.
    Output(std::io::Error),
    /// The server's answer makes no sense.
    Malformed(prost::DecodeError),
}

impl From<prost::DecodeError> for Trouble {
    fn from(error: prost::DecodeError) -> Self {
        Self::Malformed(error)
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

/// What printing a response comes to.
pub(crate) type Printed = Result<(), Trouble>;

/// Where it is printed to.
pub(crate) type Out<'a> = &'a mut dyn Write;

/// A response that can be printed. A format without a method of its own is not supported.
pub trait Printable {
    /// [`Format::Simple`].
    fn simple(&self, out: Out<'_>, display: &Display) -> Printed;

    /// [`Format::Json`], without the line end.
    fn json(&self, _out: &mut String, _hex: bool) -> Printed {
        Err(Trouble::Unsupported)
    }

    /// [`Format::Fields`].
    fn fields(&self, _out: Out<'_>, _hex: bool) -> Printed {
        Err(Trouble::Unsupported)
    }

    /// [`Format::Table`].
    fn table(&self, _out: Out<'_>) -> Printed {
        Err(Trouble::Unsupported)
    }

    /// [`Format::Protobuf`].
    fn protobuf(&self) -> Option<Vec<u8>> {
        None
    }
}

impl Display {
    /// Prints a response.
    pub fn show(&self, response: &impl Printable) -> Result<(), Failure> {
        let mut out = BufWriter::with_capacity(64 * 1024, std::io::stdout().lock());
        let printed = match self.format {
            Format::Simple => response.simple(&mut out, self),
            Format::Fields => response.fields(&mut out, self.hex),
            Format::Table => response.table(&mut out),
            Format::Json => {
                let mut line = String::new();
                response.json(&mut line, self.hex).and_then(|()| {
                    line.push('\n');
                    Ok(out.write_all(line.as_bytes())?)
                })
            }
            Format::Protobuf => match response.protobuf() {
                Some(bytes) => out.write_all(&bytes).map_err(Trouble::from),
                None => Err(Trouble::Unsupported),
            },
        };
        let flushed = out.flush();
        match printed {
            Ok(()) => Ok(flushed?),
            Err(Trouble::Output(error)) => Err(error.into()),
            Err(Trouble::Malformed(error)) => Err(Failure::new(code::ERROR, error)),
            Err(Trouble::Unsupported) => {
                let message = format!("{} not supported as output format", self.format.name());
                Err(Failure::new(code::BAD_FEATURE, message))
            }
        }
    }
}

/// A line of text on standard output, whatever the format.
pub(crate) fn say(line: impl std::fmt::Display) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

/// Text on standard output, whatever the format.
pub(crate) fn emit(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// A line of text on standard error. Nowhere is left to report a closed one to.
pub(crate) fn complain(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn header_of(header: Option<ResponseHeader>) -> ResponseHeader {
    header.unwrap_or_default()
}
