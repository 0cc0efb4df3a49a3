//! One segment's records in order, each checked against the checksum chain.

use std::path::PathBuf;

use super::error::{WalError, io_error};
use super::record::{FRAME_BYTES, Kind, Length, Record};
use super::source::Source;
use super::tail::{self, Mend, Tail};

/// Reads one segment.
pub(super) struct Decoder<'a> {
    source: Source<'a>,
    path: PathBuf,
    /// Whether it is the log's last: only there a record may be torn.
    last: bool,
    at: u64,
    records: u64,
    /// The chain's value; `None` until the first segment read has told it.
    crc: Option<u32>,
    torn: bool,
    mends: Vec<Mend>,
}

/// What is known of a segment that was read to its end.
#[derive(Debug)]
pub(super) struct Ending {
    /// Behind the last record, in bytes.
    pub(super) offset: u64,
    /// The chain's value there.
    pub(super) crc: u32,
    /// Whether a record that was never wholly written follows.
    pub(super) torn: bool,
    /// What must be written before anyone else can read the segment.
    pub(super) mends: Vec<Mend>,
}

impl<'a> Decoder<'a> {
    /// Reads on in the next segment of a log, whose chain ended with `crc`.
    pub(super) fn new(source: Source<'a>, path: PathBuf, crc: Option<u32>, last: bool) -> Self {
        Self {
            source,
            path,
            last,
            at: 0,
            records: 0,
            crc,
            torn: false,
            mends: Vec::new(),
        }
    }

    /// The next record and where it stands, or `None` at the end. Checksum records are dealt with here.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Record)>, WalError> {
        loop {
            let at = self.at;
            let Some((record, length)) = self.read()? else {
                return Ok(None);
            };
            let expected = match self.records {
                0 => Kind::Crc,
                1 => Kind::Metadata,
                _ => record.kind,
            };
            if record.kind != expected {
                return Err(self.corrupt(at, "a segment begins with a checksum and the metadata"));
            }
            self.at += FRAME_BYTES + length.body();
            self.records += 1;
            self.crc = Some(record.crc);
            if record.kind != Kind::Crc {
                return Ok(Some((at, record)));
            }
        }
    }

    /// What was found at the end. Call it when [`Decoder::next`] has answered `None`.
    pub(super) fn ending(self) -> Result<Ending, WalError> {
        match self.crc {
            Some(crc) if self.records > 1 => Ok(Ending {
                offset: self.at,
                crc,
                torn: self.torn,
                mends: self.mends,
            }),
            _ => Err(self.corrupt(self.at, "the segment ends before its metadata")),
        }
    }

    /// That something is wrong with the record at `offset`.
    pub(super) fn corrupt(&self, offset: u64, what: impl Into<String>) -> WalError {
        WalError::Corrupt {
            path: self.path.clone(),
            offset,
            what: what.into(),
        }
    }

    fn read(&mut self) -> Result<Option<(Record, Length)>, WalError> {
        let at = self.at;
        if at >= self.source.size() {
            return Ok(None);
        }
        let what = match self.frame(at).map_err(io_error("read", &self.path))? {
            Frame::Record(record, length) => return Ok(Some((record, length))),
            Frame::Zero if !self.last => return Ok(None),
            Frame::Zero => "a record without its length".to_owned(),
            Frame::Broken(what) if !self.last => return Err(self.corrupt(at, what)),
            Frame::Broken(what) => what,
        };
        let crc = self.crc.unwrap_or_default();
        match tail::judge(&mut self.source, at, crc).map_err(io_error("read", &self.path))? {
            Tail::End => Ok(None),
            Tail::Torn => {
                self.torn = true;
                Ok(None)
            }
            Tail::Kept(record, length, mend) => {
                self.mends.push(mend);
                Ok(Some((record, length)))
            }
            Tail::Damaged => Err(self.corrupt(at, what)),
        }
    }

    fn frame(&mut self, at: u64) -> std::io::Result<Frame> {
        let Some(field) = self.source.length_field(at)? else {
            return Ok(Frame::Broken("the segment ends inside a length".into()));
        };
        if field == 0 {
            return Ok(Frame::Zero);
        }
        let head = at + FRAME_BYTES;
        let Some(length) = Length::from_field(field) else {
            return Ok(Frame::Broken(format!(
                "{field:#018x} is no length of a record"
            )));
        };
        if length.body() > self.source.size() - head {
            let what = format!(
                "a record of {} bytes reaches beyond the segment",
                length.record
            );
            return Ok(Frame::Broken(what));
        }
        let bytes = self.source.bytes(head, head + length.record)?;
        let Some(record) = Record::decode(&bytes) else {
            return Ok(Frame::Broken("this is no record".into()));
        };
        let computed = match (record.kind, self.crc) {
            (Kind::Crc, None) => record.crc,
            (_, previous) => crc32c::crc32c_append(previous.unwrap_or_default(), &record.data),
        };
        Ok(match computed == record.crc {
            true => Frame::Record(record, length),
            // etcd's words, so that what operators know to search for is found.
            false => Frame::Broken(format!(
                "walpb: crc mismatch: expected: {:x} computed: {computed:x}",
                record.crc
            )),
        })
    }
}

enum Frame {
    Record(Record, Length),
    Zero,
    Broken(String),
}
