//! Records: their five kinds, their payloads, and the frames around them.
//!
//! A frame is a little-endian length (low 56 bits; the top byte is 0x80 plus the padding when there is any),
//! a protobuf `Record`, and zeros up to a multiple of eight. The record's checksum is CRC32-Castagnoli over
//! the payloads of all records so far, across segments.
//!
//! The checksum covers neither the kind nor the length. Both are therefore checked in other ways: a record
//! must be encoded exactly as etcd encodes it, and a payload must be a plausible one of its kind. So a
//! damaged byte is refused and never taken for something else.
//!
//! Zero scalars are written, as etcd up to 3.6 did (3.7 leaves out an entry's type): 3.7's `etcd-dump-logs`
//! crashes on an entry whose type is absent.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

use super::{Metadata, WalSnapshot};
use crate::pb::raftpb::{ConfState, Entry, EntryType, HardState};
use crate::types::{ClusterId, MemberId};

/// Bytes of a frame's length field; also its alignment.
pub(super) const FRAME_BYTES: u64 = 8;
/// The bits of a length field that hold the record's length.
const LENGTH_BITS: u64 = (1 << 56) - 1;
/// Marks a length field that says how much padding follows.
const PADDED: u8 = 0x80;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Metadata = 1,
    Entry = 2,
    State = 3,
    Crc = 4,
    Snapshot = 5,
}

impl Kind {
    fn from_number(number: u64) -> Option<Self> {
        let kinds = [
            Self::Metadata,
            Self::Entry,
            Self::State,
            Self::Crc,
            Self::Snapshot,
        ];
        kinds.into_iter().find(|kind| *kind as u64 == number)
    }
}

/// A record as read; its payload is unchecked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) crc: u32,
    pub(super) data: Bytes,
}

/// A frame's length field, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Length {
    /// The record, in bytes.
    pub(super) record: u64,
    /// The zeros after it, in bytes.
    pub(super) padding: u64,
}

impl Length {
    /// Of a record of this many bytes.
    pub(super) fn of(record: u64) -> Self {
        Self {
            record,
            padding: record.wrapping_neg() % FRAME_BYTES,
        }
    }

    /// Reads a field; `None` when no writer would have written it.
    pub(super) fn from_field(field: u64) -> Option<Self> {
        let length = Self::of(field & LENGTH_BITS);
        (length.field() == field && length.record > 0).then_some(length)
    }

    pub(super) fn field(self) -> u64 {
        match self.padding {
            0 => self.record,
            padding => self.record | u64::from(PADDED | padding as u8) << 56,
        }
    }

    /// Record and padding.
    pub(super) fn body(self) -> u64 {
        self.record + self.padding
    }
}

/// The fields of a record before its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) crc: u32,
    /// Bytes before the payload.
    pub(super) bytes: u64,
    /// Bytes of the payload; a checksum record has none.
    pub(super) payload: u64,
}

impl Header {
    /// A header is never longer, in bytes.
    pub(super) const BYTES_MAX: u64 = 1 + 1 + 1 + 5 + 1 + 10;

    /// Reads the header at the start of `bytes`; the error is the position of the first byte that no writer
    /// would have put there.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, u64> {
        let mut at = 0;
        let kind = Kind::from_number(field(bytes, &mut at, 0x08)?).ok_or(1_u64)?;
        let crc = field(bytes, &mut at, 0x10)?;
        let crc = u32::try_from(crc).map_err(|_| at as u64 - 1)?;
        let payload = match kind {
            Kind::Crc => 0,
            _ => field(bytes, &mut at, 0x1a)?,
        };
        Ok(Self {
            kind,
            crc,
            bytes: at as u64,
            payload,
        })
    }

    /// Bytes of the whole record; saturates, since the payload's length is whatever the disk says.
    pub(super) fn record(&self) -> u64 {
        self.bytes.saturating_add(self.payload)
    }
}

/// Reads a one-byte tag and a varint in its shortest form.
fn field(bytes: &[u8], at: &mut usize, tag: u8) -> Result<u64, u64> {
    let start = *at + 1;
    if bytes.get(*at) != Some(&tag) {
        return Err(*at as u64);
    }
    let mut rest = bytes.get(start..).unwrap_or_default();
    let before = rest.len();
    let value = prost::encoding::decode_varint(&mut rest).map_err(|_| bytes.len() as u64)?;
    let used = before - rest.len();
    *at = start + used;
    match used == encoded_len_varint(value) {
        true => Ok(value),
        false => Err(*at as u64 - 1),
    }
}

impl Record {
    /// Reads a record that fills `bytes` exactly.
    pub(super) fn decode(bytes: &Bytes) -> Option<Self> {
        let header = Header::parse(bytes).ok()?;
        (header.record() == bytes.len() as u64).then(|| Self {
            kind: header.kind,
            crc: header.crc,
            data: bytes.slice(header.bytes as usize..),
        })
    }

    /// Whether the stored checksum follows `previous`; a checksum record repeats it.
    pub(super) fn continues(&self, previous: u32) -> bool {
        crc32c::crc32c_append(previous, &self.data) == self.crc
    }
}

/// Encodes records one after another into one buffer, keeping the checksum chain.
#[derive(Debug)]
pub(super) struct Encoder {
    buffer: Vec<u8>,
    crc: u32,
}

/// A buffer grown beyond this is not kept for the next write.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

impl Encoder {
    /// Continues the chain from `crc`.
    pub(super) fn new(crc: u32) -> Self {
        Self {
            buffer: Vec::new(),
            crc,
        }
    }

    /// What was encoded since the last [`Encoder::clear`].
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Forgets what was encoded, but not the chain.
    pub(super) fn clear(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
    }

    /// The start of every segment: repeats the chain's value.
    pub(super) fn crc(&mut self) {
        self.record(Kind::Crc, &[], &[]);
    }

    pub(super) fn metadata(&mut self, encoded: &[u8]) {
        self.record(Kind::Metadata, &[], encoded);
    }

    /// A record whose payload is encoded already.
    #[cfg(test)]
    pub(super) fn payload(&mut self, kind: Kind, encoded: &[u8]) {
        self.record(kind, &[], encoded);
    }

    pub(super) fn state(&mut self, state: &HardState) {
        let fields = Fields::new().varint(1, state.term).varint(2, state.vote);
        self.record(Kind::State, fields.varint(3, state.commit).bytes(), &[]);
    }

    pub(super) fn snapshot(&mut self, index: u64, term: u64, conf_state: Option<&ConfState>) {
        let conf_state = conf_state.cloned().map(StoredConfState::from);
        let stored = StoredSnapshot {
            index: Some(index),
            term: Some(term),
            conf_state,
        };
        self.record(Kind::Snapshot, &[], &stored.encode_to_vec());
    }

    pub(super) fn entry(&mut self, entry: &Entry) {
        debug_assert!(
            entry.context.is_empty() && !entry.sync_log,
            "not in etcd's entries"
        );
        // A negative type cannot be read back, and the raft crate makes none.
        let entry_type = u64::try_from(entry.entry_type).unwrap_or_default();
        let mut fields = Fields::new()
            .varint(1, entry_type)
            .varint(2, entry.term)
            .varint(3, entry.index);
        if !entry.data.is_empty() {
            fields = fields.prefix(4, entry.data.len());
        }
        self.record(Kind::Entry, fields.bytes(), &entry.data);
    }

    /// One frame whose payload is `head` and `data`.
    fn record(&mut self, kind: Kind, head: &[u8], data: &[u8]) {
        self.crc = crc32c::crc32c_append(crc32c::crc32c_append(self.crc, head), data);
        let mut fields = Fields::new()
            .varint(1, kind as u64)
            .varint(2, u64::from(self.crc));
        let payload = head.len() + data.len();
        if kind != Kind::Crc {
            fields = fields.prefix(3, payload);
        }
        let length = Length::of((fields.bytes().len() + payload) as u64);
        self.buffer.reserve((FRAME_BYTES + length.body()) as usize);
        self.buffer.extend_from_slice(&length.field().to_le_bytes());
        self.buffer.extend_from_slice(fields.bytes());
        self.buffer.extend_from_slice(head);
        self.buffer.extend_from_slice(data);
        self.buffer
            .resize(self.buffer.len() + length.padding as usize, 0);
    }
}

/// A few protobuf fields on the stack: encoding an entry allocates nothing.
struct Fields {
    bytes: [u8; Self::BYTES_MAX],
    used: usize,
}

impl Fields {
    /// Three varints with their tags and a length with its.
    const BYTES_MAX: usize = 4 * 11;

    fn new() -> Self {
        Self {
            bytes: [0; Self::BYTES_MAX],
            used: 0,
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    /// A varint field.
    fn varint(self, tag: u8, value: u64) -> Self {
        self.tagged(tag << 3, value)
    }

    /// The head of a length-delimited field.
    fn prefix(self, tag: u8, length: usize) -> Self {
        self.tagged(tag << 3 | 2, length as u64)
    }

    fn tagged(mut self, key: u8, value: u64) -> Self {
        let mut free = &mut self.bytes[self.used..];
        let before = free.len();
        encode_varint(u64::from(key), &mut free);
        encode_varint(value, &mut free);
        self.used += before - free.len();
        self
    }
}

/// `etcdserverpb.Metadata`.
#[derive(Clone, Copy, PartialEq, Message)]
struct StoredMetadata {
    #[prost(uint64, optional, tag = "1")]
    node_id: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    cluster_id: Option<u64>,
}

/// `walpb.Snapshot`.
#[derive(Clone, PartialEq, Message)]
struct StoredSnapshot {
    #[prost(uint64, optional, tag = "1")]
    index: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    term: Option<u64>,
    #[prost(message, optional, tag = "3")]
    conf_state: Option<StoredConfState>,
}

/// `raftpb.ConfState`, with `auto_leave` written though false as etcd does.
#[derive(Clone, PartialEq, Message)]
struct StoredConfState {
    #[prost(uint64, repeated, packed = "false", tag = "1")]
    voters: Vec<u64>,
    #[prost(uint64, repeated, packed = "false", tag = "2")]
    learners: Vec<u64>,
    #[prost(uint64, repeated, packed = "false", tag = "3")]
    voters_outgoing: Vec<u64>,
    #[prost(uint64, repeated, packed = "false", tag = "4")]
    learners_next: Vec<u64>,
    #[prost(bool, optional, tag = "5")]
    auto_leave: Option<bool>,
}

impl From<ConfState> for StoredConfState {
    fn from(state: ConfState) -> Self {
        Self {
            voters: state.voters,
            learners: state.learners,
            voters_outgoing: state.voters_outgoing,
            learners_next: state.learners_next,
            auto_leave: Some(state.auto_leave),
        }
    }
}

impl From<StoredConfState> for ConfState {
    fn from(state: StoredConfState) -> Self {
        Self {
            auto_leave: state.auto_leave(),
            voters: state.voters,
            learners: state.learners,
            voters_outgoing: state.voters_outgoing,
            learners_next: state.learners_next,
        }
    }
}

/// `raftpb.HardState`.
#[derive(Clone, Copy, PartialEq, Message)]
struct StoredState {
    #[prost(uint64, optional, tag = "1")]
    term: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    vote: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    commit: Option<u64>,
}

/// Metadata as it stands in every segment.
pub(super) fn encode_metadata(metadata: Metadata) -> Bytes {
    let stored = StoredMetadata {
        node_id: Some(metadata.node_id.0),
        cluster_id: Some(metadata.cluster_id.0),
    };
    stored.encode_to_vec().into()
}

pub(super) fn decode_metadata(data: Bytes) -> Option<Metadata> {
    let stored = StoredMetadata::decode(data).ok()?;
    Some(Metadata {
        node_id: MemberId(stored.node_id()),
        cluster_id: ClusterId(stored.cluster_id()),
    })
}

/// Refuses what a record of another kind would decode to: see the module's head.
pub(super) fn decode_entry(data: Bytes) -> Option<Entry> {
    Entry::decode(data).ok().filter(is_entry)
}

/// Whether a log can hold this entry. Configuration changes have a payload, so that no hard state looks
/// like one.
pub(super) fn is_entry(entry: &Entry) -> bool {
    let has_payload = match EntryType::try_from(entry.entry_type) {
        Ok(EntryType::EntryNormal) => true,
        Ok(EntryType::EntryConfChange | EntryType::EntryConfChangeV2) => !entry.data.is_empty(),
        Err(_) => false,
    };
    has_payload && entry.index > 0 && entry.term > 0
}

/// Refuses what a record of another kind would decode to: see the module's head.
pub(super) fn decode_state(data: Bytes) -> Option<HardState> {
    let bytes = data.len();
    let stored = StoredState::decode(data).ok()?;
    let state = HardState {
        term: stored.term(),
        vote: stored.vote(),
        commit: stored.commit(),
    };
    (stored.encoded_len() == bytes && is_state(&state)).then_some(state)
}

/// Whether a log can hold this hard state. It has a term, so that no empty entry looks like one.
pub(super) fn is_state(state: &HardState) -> bool {
    state.term > 0
}

pub(super) fn decode_snapshot(data: Bytes) -> Option<WalSnapshot> {
    let stored = StoredSnapshot::decode(data).ok()?;
    Some(WalSnapshot {
        index: stored.index(),
        term: stored.term(),
        conf_state: stored.conf_state.map(ConfState::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(record: impl FnOnce(&mut Encoder)) -> Vec<u8> {
        let mut encoder = Encoder::new(0);
        record(&mut encoder);
        encoder.buffer
    }

    /// The record in one frame.
    fn record(frame: Vec<u8>) -> Record {
        let bytes = Bytes::from(frame);
        let field = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        let length = Length::from_field(field).unwrap().record as usize;
        Record::decode(&bytes.slice(8..8 + length)).unwrap()
    }

    fn entry(entry_type: EntryType, data: &'static [u8]) -> Entry {
        Entry {
            entry_type: entry_type as i32,
            term: 3,
            index: 9,
            data: Bytes::from_static(data),
            ..Entry::default()
        }
    }

    #[test]
    fn frames_round_trip_at_every_padding() {
        let mut encoder = Encoder::new(7);
        let sizes = (0..40)
            .chain([127, 128, 16_383, 16_384, 70_000])
            .collect::<Vec<_>>();
        let entries = sizes
            .iter()
            .map(|&size| Entry {
                term: 1,
                index: 1 << 40,
                data: vec![5; size].into(),
                ..Entry::default()
            })
            .collect::<Vec<_>>();
        entries.iter().for_each(|entry| encoder.entry(entry));
        let mut bytes = Bytes::from(encoder.buffer);
        let mut crc = 7;
        for entry in &entries {
            let length =
                Length::from_field(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
            let body = bytes.split_to((8 + length.body()) as usize);
            let record = Record::decode(&body.slice(8..8 + length.record as usize)).unwrap();
            assert!(record.kind == Kind::Entry && record.continues(crc));
            assert!(
                body[8 + length.record as usize..]
                    .iter()
                    .all(|&byte| byte == 0)
            );
            crc = record.crc;
            assert_eq!(&decode_entry(record.data).unwrap(), entry);
        }
        assert!(bytes.is_empty());
    }

    #[test]
    fn the_encoded_fields_are_those_prost_writes() {
        let entry = entry(EntryType::EntryConfChange, b"xyz");
        let bytes = encoded(|encoder| encoder.entry(&entry));
        let payload = entry.encode_to_vec();
        assert!(bytes.windows(payload.len()).any(|window| window == payload));
    }

    #[test]
    fn a_payload_is_never_taken_for_one_of_another_kind() {
        let state = encoded(|encoder| {
            encoder.state(&HardState {
                term: 1,
                vote: 5,
                commit: 8,
            })
        });
        let payload = record(state).data;
        assert!(decode_state(payload.clone()).is_some());
        assert_eq!(decode_entry(payload), None, "a state as an entry");
        for entry in [
            entry(EntryType::EntryNormal, b""),
            entry(EntryType::EntryConfChange, b"c"),
        ] {
            let payload = record(encoded(|encoder| encoder.entry(&entry))).data;
            assert_eq!(decode_state(payload), None, "an entry as a state");
        }
    }

    #[test]
    fn only_fields_a_writer_would_write_are_read() {
        assert_eq!(Length::from_field(0), None);
        assert_eq!(Length::from_field(3), None, "padding not declared");
        assert_eq!(
            Length::from_field(0x8500_0000_0000_0003),
            Some(Length {
                record: 3,
                padding: 5
            })
        );
        assert_eq!(Length::from_field(0x8400_0000_0000_0003), None);
        assert_eq!(Length::from_field(0x0500_0000_0000_0003), None);
        assert_eq!(
            Header::parse(&[0x08, 0x06, 0x10, 0]),
            Err(1),
            "no such kind"
        );
        assert_eq!(Header::parse(&[0x08, 0x04, 0x18, 0]), Err(2));
        assert_eq!(
            Header::parse(&[0x08, 0x04, 0x10, 0x80, 0]),
            Err(4),
            "longer than needed"
        );
        assert_eq!(
            Header::parse(&[0x08, 0x02, 0x10, 0x80]),
            Err(4),
            "cut short"
        );
        let data = Header {
            kind: Kind::Entry,
            crc: 5,
            bytes: 6,
            payload: 2,
        };
        assert_eq!(
            Header::parse(&[0x08, 0x02, 0x10, 5, 0x1a, 2, 9, 9]),
            Ok(data)
        );
    }
}
