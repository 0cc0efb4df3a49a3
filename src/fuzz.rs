//! Every decoder of bytes from outside as a function of bytes, for the fuzzers in `fuzz/`. Nothing may panic.
//!
//! `make test` replays the corpus in `fuzz/corpus/`, which has a seed or two of each kind and whatever once broke.
//! The inputs are not pure: where a decoder is one of several, or in a state, the first bytes say which.

use std::path::Path;

use bytes::Bytes;
use prost::Message;
use prost::encoding::encode_varint;

use crate::bbolt;
use crate::config::{self, Sources};
use crate::mvcc::{check_delete, check_put, check_range, check_range_stream, check_txn};
use crate::pb::etcdserverpb as pb;
use crate::pb::text::Redacted;
use crate::raft::eraftpb::{ConfChange, ConfState, Entry, EntryType, HardState};
use crate::raft::{Config, Core, Restored};
use crate::rpc::read_messages;
use crate::wal;

/// A fuzz target and its name, which is that of its corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("wal", wal_segment),
    ("raft", raft_messages),
    ("bbolt", bbolt_file),
    ("grpc", grpc_requests),
    ("config", configuration),
];

/// A segment of the log. After a zero byte it comes as it is, and is read up to the first bad checksum. After any
/// other come records, a byte each for kind and length in front of the payload, and get their checksums here.
pub fn wal_segment(input: &[u8]) {
    let segment = match input {
        [] => Vec::new(),
        [0, raw @ ..] => raw.to_vec(),
        [_, records @ ..] => sealed(records),
    };
    let _ = wal::decode_segment(&segment).map_err(|error| error.to_string());
}

fn sealed(mut records: &[u8]) -> Vec<u8> {
    let (mut segment, mut crc) = (Vec::new(), 0);
    while let Some((&[kind, length], behind)) = records.split_first_chunk::<2>() {
        let (payload, behind) = behind.split_at(behind.len().min(length.into()));
        records = behind;
        crc = crc32c::crc32c_append(crc, payload);
        let mut record = vec![0x08, kind & 0x7f, 0x10];
        encode_varint(crc.into(), &mut record);
        if !payload.is_empty() {
            record.push(0x1a);
            encode_varint(payload.len() as u64, &mut record);
            record.extend_from_slice(payload);
        }
        let bytes = record.len();
        let padding = bytes.wrapping_neg() % 8;
        let flag = if padding == 0 {
            0
        } else {
            0x80 | padding as u64
        };
        segment.extend_from_slice(&(bytes as u64 | flag << 56).to_le_bytes());
        segment.extend_from_slice(&record);
        segment.resize(segment.len() + padding, 0);
    }
    segment
}

/// A database or snapshot file.
pub fn bbolt_file(input: &[u8]) {
    let walk = || {
        let file = bbolt::File::from_bytes("input", Bytes::copy_from_slice(input))?;
        let _ = file.verify_sha256();
        let _ = file.pages_in_use();
        for (_, bucket) in file.buckets()? {
            let mut rows = file.rows(&bucket);
            while rows.next()?.is_some() {}
        }
        Ok::<(), bbolt::BboltError>(())
    };
    let _ = walk().map_err(|error| error.to_string());
}

/// Messages of peers to a member, through the gate in front of `raft`. The first byte is the member's situation;
/// then come messages, each with two bytes in front: its length, and what the member does meanwhile.
pub fn raft_messages(input: &[u8]) {
    let Some((&situation, mut rest)) = input.split_first() else {
        return;
    };
    let Some(mut core) = core(situation) else {
        return;
    };
    while let Some((&[length, meanwhile], behind)) = rest.split_first_chunk::<2>() {
        let (message, behind) = behind.split_at(behind.len().min(length.into()));
        rest = behind;
        if let Ok(message) = Message::decode(message) {
            let _ = core.step(message).map_err(|error| error.to_string());
        }
        for _ in 0..meanwhile & 15 {
            core.tick();
        }
        if meanwhile & 16 != 0 {
            drive(&mut core);
        }
        if meanwhile & 32 != 0 {
            core.read_index(1);
        }
        if meanwhile & 64 != 0 {
            let _ = core.propose(vec![Bytes::from_static(b"x")]);
        }
    }
    drive(&mut core);
}

/// A follower or a leader of three, or a member on its own.
fn core(situation: u8) -> Option<Core> {
    let entry = |index| Entry {
        index,
        term: 1,
        ..Entry::default()
    };
    let restored = Restored {
        hard_state: HardState {
            term: 1,
            vote: 0,
            commit: 6,
        },
        conf_state: ConfState {
            voters: match situation % 4 {
                0 => vec![1],
                1 => vec![2, 3],
                _ => vec![1, 2, 3],
            },
            learners: vec![4],
            ..ConfState::default()
        },
        applied: 5,
        snapshot: (4, 1),
        entries: (5..=8).map(entry).collect(),
    };
    let config = Config {
        pre_vote: situation & 4 != 0,
        ..Config::new(1, 1)
    };
    let mut core = Core::new(config, restored).ok()?;
    drive(&mut core);
    if situation & 8 != 0 {
        for _ in 0..25 {
            core.tick();
            drive(&mut core);
        }
    }
    Some(core)
}

/// Does at once what an output asks for.
fn drive(core: &mut Core) {
    while core.has_output() {
        let output = core.take_output();
        if let Some(write) = output.write {
            if let Some(snapshot) = &write.snapshot {
                core.applied(snapshot.get_metadata().index);
            }
            core.persisted(write.number);
        }
        for entry in output.committed {
            if entry.entry_type == EntryType::EntryConfChange as i32
                && let Ok(change) = ConfChange::decode(entry.data)
            {
                let _ = core.apply_conf_change(&change);
            }
            core.applied(entry.index);
        }
        for to in output.snapshots_wanted {
            core.offer_snapshot(to, None);
        }
    }
}

/// The body of a call: framed messages, checked and shown as a handler and the log do. The first byte is the
/// method, the second how the body is cut, with its top bit for compression.
pub fn grpc_requests(input: &[u8]) {
    let Some((&[method, cut], body)) = input.split_first_chunk::<2>() else {
        return;
    };
    let body = Bytes::copy_from_slice(body);
    let is_compressed = cut & 128 != 0;
    let piece = match usize::from(cut & 127) {
        0 => body.len().max(1),
        bytes => bytes,
    };
    /// Reads all messages of the kind; what else can be done with one.
    macro_rules! requests {
        ($($number:literal $request:ident $(|$one:ident| $check:expr)?;)+) => {
            match method {
                $($number => for one in read_messages::<pb::$request>(&body, piece, is_compressed) {
                    let Ok(one) = one else { continue };
                    let _ = format!("{one:?}");
                    let _ = pb::$request::decode(one.encode_to_vec().as_slice());
                    $(let $one = &one; let _ = $check;)?
                })+
                _ => {}
            }
        };
    }
    requests! {
        0 RangeRequest |one| (check_range(one), check_range_stream(one), Redacted(one).to_string());
        1 PutRequest |one| (check_put(one), Redacted(one).to_string());
        2 DeleteRangeRequest |one| (check_delete(one), Redacted(one).to_string());
        3 TxnRequest |one| (check_txn(one, 128), Redacted(one).to_string());
        4 CompactionRequest;
        5 WatchRequest;
        6 LeaseGrantRequest;
        7 LeaseTimeToLiveRequest;
        8 MemberAddRequest;
        9 MemberUpdateRequest;
        10 AlarmRequest;
        11 HashKvRequest;
        12 DowngradeRequest;
        13 AuthenticateRequest;
        14 AuthUserAddRequest;
        15 AuthRoleGrantPermissionRequest;
        16 InternalRaftRequest |one| Redacted(one).to_string();
        17 RangeResponse;
        18 WatchResponse;
        19 TxnResponse;
    }
}

/// A configuration: the first byte says from which source.
pub fn configuration(input: &[u8]) {
    let Some((&source, text)) = input.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(text).into_owned();
    let lines = || text.lines().map(str::to_owned);
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let mut sources = Sources {
        words: words(&["etcd"]),
        variables: Vec::new(),
        read_file: &|_: &Path| Ok(text.clone()),
        host_name: &|| "host".to_owned(),
        default_host: &|| Err("none".to_owned()),
    };
    match source {
        0 => sources.words = words(&["etcd", "--config-file=file"]),
        1 => sources.words.extend(lines()),
        2 => {
            let variables = text.lines().filter_map(|line| line.split_once('='));
            sources.variables = variables
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
        }
        3 => {
            sources.words = words(&["etcd", "config", "show", "--origin", "--env-file", "file"]);
        }
        4 => sources.words = words(&["etcd", "config", "check", "--config-file=file"]),
        5 => {
            sources.words = words(&["etcd", "config", "check", "--"]);
            sources.words.extend(lines());
        }
        _ => return,
    }
    let _ = format!("{:?}", config::start(&sources));
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rand::rngs::SmallRng;
    use rand::seq::IndexedMutRandom;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// Of each input; a fuzzer makes millions.
    const VARIANTS: usize = 300;

    fn corpus(name: &str) -> Vec<Vec<u8>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        let files = fs::read_dir(root.join(name)).expect("a corpus per target");
        let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
        paths.sort();
        assert!(paths.len() > 1, "{name} has no corpus");
        let inputs = paths.iter().map(|path| fs::read(path).expect("an input"));
        inputs.collect()
    }

    #[test]
    fn the_corpus_breaks_nothing() {
        for (name, target) in TARGETS {
            for input in corpus(name) {
                target(&input);
            }
        }
    }

    #[test]
    fn nothing_like_the_corpus_breaks_anything() {
        let mut random = SmallRng::seed_from_u64(1);
        for (name, target) in TARGETS {
            for input in corpus(name) {
                for variant in 0..VARIANTS {
                    println!("{name}: input of {} bytes, variant {variant}", input.len());
                    target(&changed(&input, &mut random));
                }
            }
        }
    }

    /// Some bytes are different, and an end may be missing.
    fn changed(input: &[u8], random: &mut SmallRng) -> Vec<u8> {
        let mut changed = input.to_vec();
        if random.random_ratio(1, 4) {
            changed.truncate(random.random_range(0..input.len()));
        }
        for _ in 0..random.random_range(0..5) {
            if let Some(byte) = changed.choose_mut(random) {
                *byte = match random.random_range(0..4) {
                    0 => 0,
                    1 => u8::MAX,
                    2 => byte.wrapping_add(1),
                    _ => random.random(),
                };
            }
        }
        changed
    }

    #[test]
    fn nothing_short_breaks_anything() {
        for (_, target) in TARGETS {
            target(&[]);
            for first in 0..=u8::MAX {
                target(&[first]);
                target(&[first, first.wrapping_mul(31)]);
            }
        }
    }
}
