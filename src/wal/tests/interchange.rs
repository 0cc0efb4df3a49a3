//! A log that etcd 3.7.1 wrote (`testdata/etcd-3.7.1.wal`, one member, snapshot count 10, without the zeros
//! behind the last record): read as etcd reads it, and written again byte for byte.

use bytes::Bytes;

use crate::wal::decoder::Decoder;
use crate::wal::record::{self, Encoder, Kind, Record};
use crate::wal::source::Source;
use crate::wal::tests::*;

const RECORDED: &[u8] = include_bytes!("../testdata/etcd-3.7.1.wal");

fn records() -> Vec<Record> {
    let source = Source::of_bytes(Bytes::from_static(RECORDED));
    let mut decoder = Decoder::new(source, PathBuf::new(), None, true);
    let mut records = Vec::new();
    while let Some((_, record)) = decoder.next().unwrap() {
        records.push(record);
    }
    records
}

#[test]
fn etcds_log_is_read() {
    let disk = disk();
    let mut segment = RECORDED.to_vec();
    segment.resize(64_000, 0);
    disk.put(
        &dir().join("0000000000000000-0000000000000000.wal"),
        &segment,
    )
    .unwrap();
    let (mut wal, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.metadata.node_id.to_string(), "bdae9bbc11dd390d");
    assert_eq!(
        recovered.metadata.cluster_id.to_string(),
        "d1cfaf999eb97a2a"
    );
    let HardState { term, vote, commit } = recovered.hard_state;
    assert_eq!(
        (term, vote, commit),
        (2, 0xbdae_9bbc_11dd_390d, recovered.entries.len() as u64)
    );
    assert_eq!(recovered.repair, None);
    let change = &recovered.entries[0];
    assert_eq!((change.entry_type, change.term, change.index), (1, 1, 1));
    assert!(
        recovered.entries[1].data.is_empty(),
        "the leader's empty entry"
    );
    let values = |n: usize| format!("k{n}v{n}");
    for n in 1..=25 {
        let data = &recovered.entries[n + 3].data;
        let text = data
            .iter()
            .filter(|byte| byte.is_ascii_alphanumeric())
            .map(|&byte| byte as char);
        assert!(
            text.collect::<String>().starts_with(&values(n)),
            "entry {}",
            n + 4
        );
    }
    let voters = vec![0xbdae_9bbc_11dd_390d];
    let marks = recovered.snapshots.iter().map(|mark| {
        let voters = mark
            .conf_state
            .as_ref()
            .map(|conf_state| conf_state.voters.clone());
        (mark.index, mark.term, voters)
    });
    let marks = marks.collect::<Vec<_>>();
    assert_eq!(
        marks,
        [
            (0, 0, None),
            (11, 2, Some(voters.clone())),
            (22, 2, Some(voters))
        ]
    );
    wal.append(None, &[entry(2, commit + 1, "ours")]).unwrap();
    wal.sync().unwrap();
}

#[test]
fn frames_are_etcds_byte_for_byte() {
    let mut encoder = Encoder::new(0);
    encoder.crc();
    for record in records() {
        encoder.payload(record.kind, &record.data);
    }
    assert!(encoder.bytes() == RECORDED);
}

#[test]
fn payloads_are_etcds_byte_for_byte_but_for_the_type_of_a_normal_entry() {
    let mut differing = 0;
    let mut before_the_first = 0;
    for Record { kind, data, .. } in records() {
        let mut encoder = Encoder::new(0);
        match kind {
            Kind::Metadata => {
                let metadata = record::decode_metadata(data.clone()).unwrap();
                encoder.metadata(&record::encode_metadata(metadata));
            }
            Kind::Entry => encoder.entry(&record::decode_entry(data.clone()).unwrap()),
            Kind::State => encoder.state(&record::decode_state(data.clone()).unwrap()),
            Kind::Snapshot => {
                let WalSnapshot {
                    index,
                    term,
                    conf_state,
                } = record::decode_snapshot(data.clone()).unwrap();
                encoder.snapshot(index, term, conf_state.as_ref());
            }
            Kind::Crc => panic!("the decoder keeps those"),
        }
        let ours = Bytes::copy_from_slice(encoder.bytes());
        let length = u64::from_le_bytes(ours[..8].try_into().unwrap());
        let length = record::Length::from_field(length).unwrap().record as usize;
        let ours = Record::decode(&ours.slice(8..8 + length)).unwrap().data;
        if ours != data {
            assert_eq!(kind, Kind::Entry);
            assert_eq!(ours, [&[0x08, 0], &data[..]].concat());
            differing += 1;
        } else if differing == 0 {
            before_the_first += 1;
        }
    }
    assert!(
        before_the_first >= 4 && differing > 20,
        "{before_the_first} {differing}"
    );
}
