//! What a grant needs, and what ends it.

use std::sync::mpsc;

use super::*;
use crate::consent::machine::Denial;
use crate::ids::StreamId;
use crate::keys::DataKey;
use crate::rtp::RtpPacket;
use crate::segment::format::{Codecs, SegmentName};
use crate::segment::{
    Appended, SegmentReader, SegmentStore, SegmentWriter, StoreOptions, StoreReport, StreamStart,
};

/// A caller who has pressed the key that accepts; nothing is durable yet.
fn accepted<'a>(scratch: &'a Scratch, policy: Policy) -> Rig<'a> {
    let mut rig = Rig::new(scratch, policy);
    rig.present(Leg::Caller);
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '1');
    rig
}

#[test]
fn there_is_no_grant_before_the_evidence_is_durable() {
    let scratch = Scratch::new();
    let mut rig = accepted(&scratch, policy());
    assert_eq!((rig.pending.len(), rig.grants.len()), (2, 0));
    let [caller, callee] = <[Decision; 2]>::try_from(std::mem::take(&mut rig.pending)).unwrap();
    let receipt = scratch.commit(caller);
    rig.feed(Input::Durable(receipt));
    assert_eq!(rig.grants.len(), 0, "under the scope all, one yes is not enough");
    let receipt = scratch.commit(callee);
    rig.feed(Input::Durable(receipt));
    assert_eq!(rig.live(), Leg::BOTH);
    assert_eq!(rig.verdict, Some(Verdict::Recorded));
}

#[test]
fn evidence_that_is_not_durable_permits_nobody() {
    let scratch = Scratch::new();
    for failing in Leg::BOTH {
        let mut rig = accepted(&scratch, policy());
        for decision in std::mem::take(&mut rig.pending) {
            let (leg, number) = (decision.facts().leg, decision.number());
            if leg == failing {
                rig.feed(Input::NotDurable { leg, number });
            } else {
                let receipt = scratch.commit(decision);
                rig.feed(Input::Durable(receipt));
            }
        }
        assert_eq!(rig.grants.len(), 0);
        let why = match rig.verdict {
            Some(Verdict::Unrecorded { why, .. }) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(why, Denial::Unavailable);
    }
}

#[test]
fn a_receipt_that_comes_too_late_is_worth_nothing() {
    let scratch = Scratch::new();
    let late: [fn(&mut Rig<'_>); 2] = [
        |rig| {
            let number = rig.pending[0].number();
            rig.feed(Input::NotDurable { leg: Leg::Caller, number });
        },
        |rig| rig.feed(Input::Left { leg: Leg::Caller }),
    ];
    for before in late {
        let mut rig = accepted(&scratch, policy());
        before(&mut rig);
        rig.commit();
        rig.commit();
        assert_eq!(rig.grants.len(), 0);
        assert!(matches!(rig.verdict, Some(Verdict::Unrecorded { .. })));
    }
}

#[test]
fn one_no_is_everybodys_under_the_scope_all() {
    let scratch = Scratch::new();
    let both = Policy { callee: Ask::OnCall, ..policy() };
    let mut rig = accepted(&scratch, both);
    rig.commit();
    rig.present(Leg::Callee);
    rig.played(Leg::Callee, |_| {});
    assert_eq!(rig.grants.len(), 0, "the callee has not answered yet");
    rig.key(Leg::Callee, '2');
    rig.commit();
    assert_eq!(rig.grants.len(), 0);
    assert!(matches!(rig.verdict, Some(Verdict::Unrecorded { why: Denial::Refused, .. })));
}

#[test]
fn whoever_leaves_takes_everybodys_permission_along_under_the_scope_all() {
    let scratch = Scratch::new();
    for leaver in Leg::BOTH {
        let mut rig = accepted(&scratch, policy());
        rig.commit();
        assert_eq!(rig.live(), Leg::BOTH);
        rig.feed(Input::Left { leg: leaver });
        assert_eq!(rig.live(), []);
    }
}

#[test]
fn per_party_permits_who_said_yes_and_nobody_else() {
    let scratch = Scratch::new();
    let per_party = || Policy { scope: Scope::PerParty, ..policy() };
    let mut rig = Rig::new(&scratch, per_party());
    rig.present(Leg::Caller);
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '2');
    rig.commit();
    rig.present(Leg::Callee);
    rig.commit();
    assert_eq!(rig.live(), [Leg::Callee]);

    let mut rig = accepted(&scratch, per_party());
    rig.commit();
    rig.present(Leg::Callee);
    rig.commit();
    assert_eq!(rig.live(), Leg::BOTH);
    rig.feed(Input::Left { leg: Leg::Callee });
    assert_eq!(rig.live(), [Leg::Caller]);
}

#[test]
fn per_party_permits_who_is_asked_beside_one_who_is_not_covered() {
    let scratch = Scratch::new();
    let alone = || Policy { scope: Scope::PerParty, callee: Ask::Nobody, ..policy() };
    let mut rig = accepted(&scratch, alone());
    rig.commit();
    assert_eq!(rig.live(), [Leg::Caller]);
    assert_eq!(rig.verdict, Some(Verdict::Recorded));

    let mut rig = Rig::new(&scratch, alone());
    rig.present(Leg::Caller);
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '2');
    rig.commit();
    assert_eq!(rig.live(), []);
    assert!(matches!(rig.verdict, Some(Verdict::Unrecorded { why: Denial::Refused, .. })));
}

#[test]
fn a_machine_that_is_gone_leaves_no_permission_behind() {
    let scratch = Scratch::new();
    let mut rig = accepted(&scratch, policy());
    rig.commit();
    let Rig { machine, grants, .. } = rig;
    assert!(grants.iter().all(Grant::is_live));
    drop(machine);
    assert!(!grants.iter().any(Grant::is_live));
}

#[test]
fn a_panic_ends_the_permission() {
    let scratch = Scratch::new();
    let mut rig = accepted(&scratch, policy());
    rig.commit();
    let Rig { machine, grants, .. } = rig;
    let unwound = std::thread::spawn(move || {
        let _machine = machine;
        panic!("somewhere in the agent");
    });
    assert!(unwound.join().is_err());
    assert!(!grants.iter().any(Grant::is_live));
}

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
