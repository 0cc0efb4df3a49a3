//! The end of the last segment: where the log ends, and what a power cut has torn there.
//!
//! The last segment is zeros behind its last record. A write that a power cut has interrupted leaves, for each
//! sector it touched, the old content or the new one; the old content past the last synced record is zeros.
//! From that follows what can be told apart when a record cannot be read:
//!
//! - What no tear can leave is damage, and refused: a broken record that lacks no sector, a length that
//!   contradicts the record it stands before, a length that is gone while its record is still there.
//! - What a tear leaves, and a single damaged bit leaves as well, is kept when the checksum proves what the
//!   record was: a zero length at the very end of a sector whose next sector has the record it belongs to,
//!   and a missing sector that had one bit set. The bytes are mended.
//! - Everything else that lacks a whole sector, or reaches beyond the file, was never synced: the log ends
//!   before it.
//! - A stray bit in the zeros is neither; the log ends before it, too.
//!
//! This is stricter than etcd, which takes every unreadable record with a run of zeros for a torn one, and
//! every zero length for the end, and so can drop acknowledged entries over one damaged bit.

use std::io;
use std::ops::Range;

use bytes::Bytes;

use super::record::{FRAME_BYTES, Header, Length, Record};
use super::source::Source;
use crate::disk::SECTOR_BYTES;

/// The Castagnoli polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Bytes that must be written to a segment so that others can read what was read here.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mend {
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
}

/// What stands where no record can be read.
#[derive(Debug, PartialEq)]
pub(super) enum Tail {
    /// Nothing: the log ends here.
    End,
    /// A record that was never wholly written: the log ends here.
    Torn,
    /// This record, in a frame of this length, once mended.
    Kept(Record, Length, Mend),
    /// Damage.
    Damaged,
}

/// Judges the unreadable frame at `at` of a last segment; `crc` is the chain's value before it.
pub(super) fn judge(source: &mut Source<'_>, at: u64, crc: u32) -> io::Result<Tail> {
    let head = at + FRAME_BYTES;
    let Some(field) = source.length_field(at)? else {
        let rest = source.bytes(at, head)?;
        return Ok(if is_zero(&rest) {
            Tail::End
        } else {
            Tail::Torn
        });
    };
    // The part of the frame's own sector that is behind the length. It was written with the length or not at all.
    let beside = source.bytes(head, sector_after(at))?;
    match field {
        0 if beside.is_empty() => lost_length(source, at, crc),
        0 if bits(&beside) <= 1 => Ok(Tail::End),
        0 => Ok(Tail::Damaged),
        _ if !beside.is_empty() && is_zero(&beside) => Ok(Tail::End),
        _ => broken_record(source, at, field, crc),
    }
}

/// A zero length that ends its sector: kept when the next sector begins with the record it must have had.
fn lost_length(source: &mut Source<'_>, at: u64, crc: u32) -> io::Result<Tail> {
    let head = at + FRAME_BYTES;
    let Ok(header) = Header::parse(&source.bytes(head, head + Header::BYTES_MAX)?) else {
        return Ok(Tail::End);
    };
    let length = Length::of(header.record());
    if header.record() > source.size() - head {
        return Ok(Tail::End);
    }
    let bytes = source.bytes(head, head + length.record)?;
    Ok(
        match Record::decode(&bytes).filter(|record| record.continues(crc)) {
            Some(record) => {
                let mend = Mend {
                    offset: at,
                    bytes: length.field().to_le_bytes().to_vec(),
                };
                Tail::Kept(record, length, mend)
            }
            None => Tail::End,
        },
    )
}

/// A record behind a length that is there.
fn broken_record(source: &mut Source<'_>, at: u64, field: u64, crc: u32) -> io::Result<Tail> {
    let head = at + FRAME_BYTES;
    let parsed = Header::parse(&source.bytes(head, head + Header::BYTES_MAX)?);
    // The first byte that tells the header is broken, or the one behind it.
    let header_end = head + parsed.map_or_else(|wrong| wrong + 1, |header| header.bytes);
    let header_is_torn = !missing(source, head, header_end)?.is_empty();
    let header = match parsed {
        _ if header_is_torn => return Ok(Tail::Torn),
        Err(_) => return Ok(Tail::Damaged),
        Ok(header) => header,
    };
    let length = Length::of(header.record());
    if length.field() != field {
        return Ok(Tail::Damaged);
    }
    let missing = missing(source, head, head + length.body())?;
    if missing.is_empty() {
        return Ok(Tail::Damaged);
    }
    if head + length.body() > source.size() {
        return Ok(Tail::Torn);
    }
    let bytes = source.bytes(head, head + length.record)?;
    Ok(match mended_bit(&bytes, header, crc) {
        None => Tail::Torn,
        Some((position, byte)) => {
            let offset = head + position as u64;
            let mut mended = bytes.to_vec();
            mended[position] = byte;
            match Record::decode(&mended.into()) {
                Some(record) if missing.iter().any(|sector| sector.contains(&offset)) => {
                    Tail::Kept(
                        record,
                        length,
                        Mend {
                            offset,
                            bytes: vec![byte],
                        },
                    )
                }
                _ => Tail::Damaged,
            }
        }
    })
}

/// The sectors after the frame's own that overlap `head..end` and are all zero, and what of it is beyond
/// the file.
fn missing(source: &mut Source<'_>, head: u64, end: u64) -> io::Result<Vec<Range<u64>>> {
    let mut missing = Vec::new();
    let mut at = sector_after(head - 1);
    while at < end.min(source.size()) {
        if is_zero(&source.bytes(at, at + SECTOR_BYTES)?) {
            missing.push(at..at + SECTOR_BYTES);
        }
        at += SECTOR_BYTES;
    }
    if end > source.size() {
        missing.push(source.size()..end);
    }
    Ok(missing)
}

/// Where the sector with this byte ends.
fn sector_after(at: u64) -> u64 {
    at - at % SECTOR_BYTES + SECTOR_BYTES
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

fn bits(bytes: &[u8]) -> u32 {
    bytes.iter().map(|byte| byte.count_ones()).sum()
}

/// The one byte of a record's payload in which a single bit must be turned to make the checksum right, and
/// what it is then. A checksum's own damaged bit counts as its last byte's, unchanged.
fn mended_bit(record: &Bytes, header: Header, crc: u32) -> Option<(usize, u8)> {
    let payload = record.get(header.bytes as usize..)?;
    let difference = crc32c::crc32c_append(crc, payload) ^ header.crc;
    if difference.count_ones() == 1 {
        let position = header.bytes as usize - 1;
        return Some((position, *record.get(position)?));
    }
    let from_end = turned_bit(difference, payload.len())?;
    let position = record.len() - 1 - from_end / 8;
    Some((position, record.get(position)? ^ 0x80 >> (from_end % 8)))
}

/// Which bit, counted from the last one, changes the checksum of `bytes` bytes by `difference`.
fn turned_bit(difference: u32, bytes: usize) -> Option<usize> {
    let mut change = POLYNOMIAL;
    (0..bytes * 8).find(|_| {
        let found = change == difference;
        change = change >> 1 ^ if change & 1 == 1 { POLYNOMIAL } else { 0 };
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::raftpb::Entry;
    use crate::wal::record::Encoder;

    const PREVIOUS: u32 = 77;

    /// A segment with zeros up to `at`, one record of `data`, and zeros to `size`.
    fn segment(at: usize, data: &[u8], size: usize) -> Vec<u8> {
        let mut encoder = Encoder::new(PREVIOUS);
        let data = Bytes::copy_from_slice(data);
        encoder.entry(&Entry {
            term: 1,
            index: 1,
            data,
            ..Entry::default()
        });
        let mut segment = vec![0; at];
        segment.extend_from_slice(encoder.bytes());
        segment.resize(segment.len().max(size), 0);
        segment
    }

    fn verdict(segment: &[u8], at: usize) -> Tail {
        judge(
            &mut Source::of_bytes(Bytes::copy_from_slice(segment)),
            at as u64,
            PREVIOUS,
        )
        .unwrap()
    }

    #[test]
    fn a_missing_sector_is_a_tear() {
        let mut torn = segment(400, &[7; 1500], 4096);
        torn[1024..1536].fill(0);
        assert_eq!(verdict(&torn, 400), Tail::Torn);
        torn[512..1024].fill(0);
        assert_eq!(
            verdict(&torn, 400),
            Tail::Torn,
            "with the end of the header"
        );
        let whole = segment(504, &[7; 1500], 4096);
        assert_eq!(
            verdict(&[&whole[..512], &[0; 3584]].concat(), 504),
            Tail::Torn
        );
        for cut in [513, 600, 1000, 1999] {
            assert_eq!(
                verdict(&whole[..cut], 504),
                Tail::Torn,
                "the file ends at {cut}"
            );
        }
    }

    #[test]
    fn zeros_that_are_not_a_whole_sector_are_damage() {
        let mut damaged = segment(400, &[7; 1500], 4096);
        damaged[1030..1500].fill(0);
        assert_eq!(verdict(&damaged, 400), Tail::Damaged);
        let mut damaged = segment(400, &[7; 50], 4096);
        damaged[430..512].fill(0);
        assert_eq!(
            verdict(&damaged, 400),
            Tail::Damaged,
            "the frame's own sector"
        );
    }

    #[test]
    fn zeros_of_the_payload_do_not_hide_damage() {
        let whole = segment(400, &[0; 1500], 4096);
        for (byte, bit) in [
            (400, 4),
            (407, 2),
            (408, 1),
            (410, 0),
            (412, 6),
            (418, 3),
            (430, 0),
            (1700, 7),
        ] {
            let mut damaged = whole.clone();
            damaged[byte] ^= 1 << bit;
            assert_eq!(
                verdict(&damaged, 400),
                Tail::Damaged,
                "bit {bit} of byte {byte}"
            );
        }
    }

    #[test]
    fn a_stray_bit_in_the_zeros_is_the_end() {
        for at in [400, 496, 504] {
            for (byte, bit) in [
                (at, 0),
                (at + 1, 3),
                (at + 7, 7),
                (at + 9, 2),
                (at + 700, 1),
            ] {
                let mut zeros = vec![0; 4096];
                zeros[byte] = 1 << bit;
                let verdict = verdict(&zeros, at);
                assert!(
                    matches!(verdict, Tail::End | Tail::Torn),
                    "bit {bit} of byte {byte}: {verdict:?}"
                );
            }
        }
    }

    #[test]
    fn a_length_that_is_gone_is_damage_or_mended() {
        let mut damaged = segment(400, &[7; 300], 4096);
        damaged[400..408].fill(0);
        assert_eq!(verdict(&damaged, 400), Tail::Damaged);

        let whole = segment(504, &[7; 300], 4096);
        let mut lost = whole.clone();
        lost[504..512].fill(0);
        let Tail::Kept(record, length, mend) = verdict(&lost, 504) else {
            panic!("not kept")
        };
        lost[mend.offset as usize..][..mend.bytes.len()].copy_from_slice(&mend.bytes);
        assert_eq!(lost, whole);
        assert!(record.continues(PREVIOUS));
        assert_eq!(length.field().to_le_bytes(), whole[504..512]);
        lost[504..512].fill(0);
        lost[600] ^= 1;
        assert_eq!(verdict(&lost, 504), Tail::End);
    }

    #[test]
    fn a_sector_that_had_one_bit_is_mended() {
        // The record ends 32 bytes into a sector.
        let overhead = segment(400, &[7; 800], 0).len() - 400 - 800;
        let mut data = vec![7; 512 * 3 + 32 - 400 - overhead];
        let unpadded = data.len() - 32..;
        data[unpadded].fill(0);
        data[512 * 3 + 5 - 400 - overhead] = 4;
        let mut torn = segment(400, &data, 4096);
        let byte = torn.iter().rposition(|&byte| byte != 0).unwrap();
        assert_eq!(torn[byte], 4);
        torn[byte] = 0;
        let Tail::Kept(record, _, mend) = verdict(&torn, 400) else {
            panic!("not kept")
        };
        assert_eq!(
            mend,
            Mend {
                offset: byte as u64,
                bytes: vec![4]
            }
        );
        assert!(record.continues(PREVIOUS));
    }

    #[test]
    fn the_checksum_tells_which_bit_was_turned() {
        let bytes = (0..200).map(|i| (i * 37) as u8).collect::<Vec<_>>();
        let right = crc32c::crc32c_append(9, &bytes);
        for bit in (0..bytes.len() * 8).step_by(7) {
            let mut turned = bytes.clone();
            turned[bit / 8] ^= 1 << (bit % 8);
            let difference = crc32c::crc32c_append(9, &turned) ^ right;
            let found = turned_bit(difference, bytes.len()).unwrap();
            assert_eq!(bytes.len() * 8 - 1 - found, bit);
        }
    }
}
