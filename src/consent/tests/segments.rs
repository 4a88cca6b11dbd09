//! A grant in the hands of a writer.

use std::sync::mpsc;

use super::grants::accepted;
use super::*;
use crate::ids::StreamId;
use crate::keys::DataKey;
use crate::rtp::RtpPacket;
use crate::segment::format::{Codecs, SegmentName};
use crate::segment::{
    Appended, SegmentReader, SegmentStore, SegmentWriter, StoreOptions, StoreReport, StreamStart,
};

#[test]
fn a_segment_holds_exactly_what_came_while_the_grant_was_live() {
    let scratch = Scratch::new();
    let mut rig = accepted(&scratch, policy());
    rig.commit();
    let grant = rig.grants.remove(0);
    let (stream, evidence) = (grant.stream(), grant.evidence());
    let folder = tempfile::tempdir().unwrap();
    let key = || DataKey::from_bytes(&[9; 32]);
    let (reports, received) = mpsc::channel();
    let report = move |report: StoreReport| drop(reports.send(report));
    let signing = Arc::new(SigningKey::from_seed(&[5; 32]));
    let store =
        SegmentStore::start(folder.path(), signing, StoreOptions::default(), report).unwrap();
    let start = StreamStart {
        party_ref: None,
        source: "192.0.2.1:4000".parse().unwrap(),
        codecs: Codecs::new().with(0, "PCMU", 8000),
        segment: Duration::from_secs(60),
        first_segment: 0,
    };
    let mut writer = SegmentWriter::open(grant, key(), start, store.sink(stream));
    let mut append = |n: u16| {
        let bytes = packet(n);
        let at = rig.at.wall.plus(Duration::from_millis(20) * u32::from(n));
        writer.append(&RtpPacket::parse(&bytes).unwrap(), at)
    };
    for n in 0..60 {
        assert_eq!(append(n), Appended::Written);
    }
    rig.machine.handle(rig.at, Input::Left { leg: Leg::Callee });
    for n in 60..90 {
        assert_eq!(append(n), Appended::Refused);
    }
    let finished = writer.finish(rig.at.wall.plus(Duration::from_secs(2)));
    assert_eq!(finished.packets, 60);
    store.close();
    assert!(received.iter().any(|report| matches!(report, StoreReport::Sealed(_))));

    let name = SegmentName { stream: StreamId { ..stream }, segment: 0 };
    let file = std::fs::File::open(folder.path().join(name.path())).unwrap();
    let associated = name.associated_data(evidence);
    let mut reader = SegmentReader::open(file, &key(), &associated).unwrap();
    let mut read = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        read.push(record.rtp.to_vec());
    }
    assert_eq!(read, (0..60).map(packet).collect::<Vec<_>>());
}

fn packet(n: u16) -> Vec<u8> {
    let mut bytes = vec![0x80, 0];
    bytes.extend(n.to_be_bytes());
    bytes.extend((u32::from(n) * 160).to_be_bytes());
    bytes.extend([1, 2, 3, 4]);
    bytes.extend([n as u8; 160]);
    bytes
}
