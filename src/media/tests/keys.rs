//! Keys that stop captures: with their packet, before anybody else knows of them.

use super::*;
use crate::call::media::Watched;
use crate::catalog::{Catalog, DecisionEntry, Erase, NewRecording, Permitted, QUEUE, Settings};
use crate::config::Config;
use crate::consent::machine::{Input, Output, PartyFacts, Permission};
use crate::consent::policy::{Ask, Basis, Gate, Policy};
use crate::consent::{Grant, KeyVia, MediaTransport, Prior, Stops};
use crate::event::Origin;
use crate::ids::{PartyRef, StreamId};
use crate::keys::{DataKey, Epoch, ReferenceKey, SigningKey, WrappedKey};
use crate::segment::format::{Codecs, Gap, Manifest, SegmentName};
use crate::segment::{
    SegmentReader, SegmentStore, SegmentWriter, StoreOptions, StoreReport, StreamStart,
};

impl Rig {
    fn watch(&self, leg: Leg, sequences: &[(&str, &[Leg])]) {
        let watched = |(keys, suspends): &(&str, &[Leg])| Watched {
            keys: (*keys).to_owned(),
            suspends: suspends.to_vec(),
        };
        self.order(MediaCommand::Watch { leg, sequences: sequences.iter().map(watched).collect() });
    }

    fn pressed(&self) -> (Leg, char) {
        let (leg, key, _) = self.pressed_and_stopped();
        (leg, key)
    }

    fn pressed_and_stopped(&self) -> (Leg, char, Stops) {
        match self.report() {
            MediaReport::Event(MediaEvent::Key { leg, key, stops, .. }) => (leg, key, stops),
            other => panic!("{other:?}"),
        }
    }
}

/// A key's first packet: it counts at once, and says no more than that.
fn key(code: u8, sequence: u16) -> Vec<u8> {
    let mut event = packet(101, 0xabcd, sequence, &[code, 0x8a, 3, 0x20]);
    event[1] |= 0x80;
    event
}

#[test]
fn nothing_after_the_keys_own_packet_is_written_of_either_party() {
    for io in PATHS {
        let rig = Rig::bridged(MediaConfig { threads: 1, ..config(io) });
        let tapes = [Tape::default(), Tape::default()];
        rig.caller.say(1);
        rig.until("before_permission", 1);
        rig.record(Leg::Caller, tapes[0].clone());
        rig.record(Leg::Callee, tapes[1].clone());
        rig.watch(Leg::Caller, &[("*9", &Leg::BOTH)]);
        rig.callee.say(1);
        rig.caller.say(2);
        rig.until("recorded", 2);
        // The thread is busy while these come, so that it finds them together.
        let (release, blocked) = mpsc::channel::<()>();
        let (busy, is_busy) = mpsc::channel();
        let blocker = rig.media.reserve(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        let other = Peer::new((blocker.rtp(), blocker.rtcp()));
        let call = clock::mint();
        rig.media.open(call, blocker, None);
        rig.media.command(call, MediaCommand::Connect { leg: Leg::Caller, media: other.media() });
        let blocked = Mutex::new(blocked);
        let capture = With(move || {
            let _ = busy.send(());
            let _ = blocked.lock().unwrap().recv_timeout(PATIENCE);
        });
        rig.media.order(call, Order::Record { leg: Leg::Caller, capture: Box::new(capture) });
        rig.settle();
        other.say(1);
        is_busy.recv_timeout(PATIENCE).unwrap();
        rig.caller.send(&key(10, 3));
        rig.caller.say(4);
        rig.caller.send(&key(9, 5));
        rig.caller.say(6);
        rig.callee.say(7);
        release.send(()).unwrap();
        assert_eq!(rig.pressed(), (Leg::Caller, '*'));
        assert_eq!(rig.pressed(), (Leg::Caller, '9'));
        assert_eq!(rig.callee.hear().payload, [1; 160]);
        rig.until("paused", 2);
        for n in 8..20 {
            rig.caller.say(n);
            rig.callee.say(n);
        }
        rig.until("paused", 26);
        rig.media.close(rig.call);
        for (tape, kept) in tapes.iter().zip([&[2u8, 4][..], &[1]]) {
            let payloads: Vec<u8> =
                tape.packets.lock().unwrap().iter().map(|packet| packet[12]).collect();
            assert_eq!(payloads, kept, "{io:?}");
            assert_eq!(tape.suspended.lock().unwrap().len(), 1);
        }
        // It was relayed all the same.
        for n in [2, 4, 6, 8] {
            loop {
                let heard = rig.callee.hear();
                if heard.payload_type == 77 {
                    assert_eq!(heard.payload, [n; 160]);
                    break;
                }
            }
        }
    }
}

#[test]
fn a_key_stops_only_whom_it_names_and_only_as_long_as_it_is_watched_for() {
    let rig = Rig::bridged(config(IoPath::Batched));
    let tapes = [Tape::default(), Tape::default()];
    rig.record(Leg::Caller, tapes[0].clone());
    rig.record(Leg::Callee, tapes[1].clone());
    rig.watch(Leg::Callee, &[("#", &[Leg::Caller])]);
    rig.watch(Leg::Caller, &[("#", &Leg::BOTH)]);
    rig.watch(Leg::Caller, &[]);
    rig.caller.say(1);
    rig.caller.send(&key(11, 2));
    assert_eq!(rig.pressed(), (Leg::Caller, '#'));
    assert!(tapes.iter().all(|tape| tape.suspended.lock().unwrap().is_empty()));
    rig.callee.say(1);
    rig.callee.send(&key(11, 2));
    assert_eq!(rig.pressed(), (Leg::Callee, '#'));
    rig.caller.say(3);
    rig.callee.say(3);
    rig.until("recorded", 3);
    rig.until("paused", 1);
    assert_eq!(tapes.each_ref().map(|tape| tape.packets.lock().unwrap().len()), [1, 2]);
}

/// Grants of both parties from the real permission machine, which keeps them alive.
fn granted() -> (Permission, Vec<Grant>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(Settings {
        data: folder.path().to_owned(),
        origin: Origin { tenant: "default".parse().unwrap(), node: "node-1".parse().unwrap() },
        signing: SigningKey::from_seed(&[3; 32]),
        reference: ReferenceKey::from_bytes(&[4; 32]),
        queue: QUEUE,
    });
    let (catalog, now) = (catalog.unwrap(), clock::moment());
    let agreed = || Ask::Standing("agreement-2026".to_owned());
    let default = Config::default().policies.into_values().next().unwrap();
    let policy = Policy {
        basis: Basis::Contract,
        gate: Gate::Standing,
        caller: agreed(),
        callee: agreed(),
        ..Policy::clone(&default)
    };
    let parties = Leg::BOTH.map(|leg| PartyFacts {
        leg,
        party_ref: PartyRef([leg.stream().0; 32]),
        locale: "en-US".to_owned(),
        transport: MediaTransport::Rtp,
        prior: Prior::Nothing,
    });
    let policy = Arc::new(policy);
    let scope = policy.scope;
    let (digest, call, recording) = (policy.digest(), clock::mint(), clock::mint());
    let mut machine = Permission::new(policy, digest, call, recording, parties.to_vec());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut grants = Vec::new();
    let mut inputs = std::collections::VecDeque::from([Input::Begin]);
    inputs.extend(Leg::BOTH.map(|leg| Input::Present { leg }));
    while let Some(input) = inputs.pop_front() {
        for output in machine.handle(now, input) {
            match output {
                Output::Commit(decision) => {
                    let retention = Duration::from_secs(3600);
                    let recording = NewRecording { began: now.wall, scope, retention };
                    let key = WrappedKey { epoch: Epoch(1), bytes: [1; WrappedKey::LENGTH] };
                    let codecs = "{}".to_owned();
                    let permitted =
                        decision.permits().map(|_| Permitted { recording, key, codecs });
                    let entry = DecisionEntry {
                        decision,
                        number: None,
                        permitted,
                        erase: Erase::Nothing,
                        events: Vec::new(),
                    };
                    inputs.push_back(Input::Durable(
                        runtime.block_on(catalog.decide(entry)).unwrap(),
                    ));
                }
                Output::Grant(grant) => grants.push(grant),
                _ => {}
            }
        }
    }
    (machine, grants, folder)
}

/// The packets of a stream's first segment.
fn read(folder: &Path, stream: StreamId, evidence: crate::ids::Digest) -> Vec<Vec<u8>> {
    let name = SegmentName { stream, segment: 0 };
    let file = std::fs::File::open(folder.join(name.path())).unwrap();
    let key = DataKey::from_bytes(&[9; 32]);
    let mut reader = SegmentReader::open(file, &key, &name.associated_data(evidence)).unwrap();
    let mut packets = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        packets.push(record.rtp.to_vec());
    }
    packets
}

/// Both parties of a bridged call recorded: from the socket to the disk, with permission as it is
/// really earned and lost.
struct Recorded {
    rig: Rig,
    /// Whoever holds it may record.
    machine: Option<Permission>,
    store: SegmentStore,
    stored: Mutex<mpsc::Receiver<StoreReport>>,
    streams: [(StreamId, crate::ids::Digest); 2],
    folder: tempfile::TempDir,
    _catalog: tempfile::TempDir,
}

impl Recorded {
    fn new() -> Self {
        Self::after(|_| {})
    }

    /// The writers come when the call has seen this.
    fn after(happened: impl FnOnce(&Rig)) -> Self {
        let (machine, grants, catalog) = granted();
        let [caller, callee] = <[Grant; 2]>::try_from(grants).unwrap();
        let streams = [&caller, &callee].map(|grant| (grant.stream(), grant.evidence()));
        let folder = tempfile::tempdir().unwrap();
        let (reports, stored) = mpsc::channel();
        let signing = Arc::new(SigningKey::from_seed(&[5; 32]));
        let report = move |report: StoreReport| drop(reports.send(report));
        let store =
            SegmentStore::start(folder.path(), signing, StoreOptions::default(), report).unwrap();
        let rig = Rig::bridged(config(IoPath::Batched));
        happened(&rig);
        for (leg, grant) in [(Leg::Caller, caller), (Leg::Callee, callee)] {
            let start = StreamStart {
                party_ref: None,
                source: "192.0.2.1:4000".parse().unwrap(),
                codecs: Codecs::new().with(0, "PCMU", 8000),
                segment: Duration::from_secs(60),
                first_segment: 0,
            };
            let sink = store.sink(grant.stream());
            let writer = SegmentWriter::open(grant, DataKey::from_bytes(&[9; 32]), start, sink);
            rig.record(leg, writer);
        }
        let stored = Mutex::new(stored);
        let machine = Some(machine);
        Self { rig, machine, store, stored, streams, folder, _catalog: catalog }
    }

    /// Both say these, and each is dealt with before the next.
    fn say(&self, numbers: std::ops::RangeInclusive<u16>, counter: &str) {
        for n in numbers {
            let before = self.rig.count(counter);
            self.rig.caller.say(n);
            self.rig.callee.say(n);
            self.rig.until(counter, before + 2);
        }
    }

    /// The callee types two keys, and the permission machine hears of them.
    fn types(&mut self, keys: [(u8, char); 2], sequence: u16) {
        for ((code, key), sequence) in keys.into_iter().zip(sequence..) {
            self.rig.callee.send(&self::key(code, sequence));
            let (leg, reported, stops) = self.rig.pressed_and_stopped();
            assert_eq!((leg, reported), (Leg::Callee, key));
            let (via, pressed) = (KeyVia::TelephoneEvent, clock::now());
            let input = Input::Key { leg, pressed, key, via, rtp_timestamp: Some(1), stops };
            self.machine.as_mut().unwrap().handle(clock::moment(), input);
        }
    }

    /// The manifests of all segments, and the packets of each party's first one.
    fn ended(self) -> (Vec<Manifest>, [Vec<Vec<u8>>; 2]) {
        self.rig.close();
        self.store.close();
        let stored = self.stored.into_inner().unwrap();
        let sealed = stored.iter().filter_map(|report| match report {
            StoreReport::Sealed(sealed) => Some(sealed.manifest.manifest),
            _ => None,
        });
        let sealed = sealed.collect();
        (sealed, self.streams.map(|(stream, by)| read(self.folder.path(), stream, by)))
    }
}

fn said(numbers: impl IntoIterator<Item = u16>) -> Vec<Vec<u8>> {
    numbers.into_iter().map(|n| packet(0, 0xabcd, n, &[n as u8; 160])).collect()
}

#[test]
fn a_withdrawal_by_key_leaves_segments_that_end_before_it() {
    let mut recorded = Recorded::new();
    recorded.rig.watch(Leg::Callee, &[("*9", &Leg::BOTH)]);
    recorded.say(1..=30, "recorded");
    for (code, sequence, pressed) in [(10, 31, '*'), (9, 32, '9')] {
        recorded.rig.callee.send(&key(code, sequence));
        assert_eq!(recorded.rig.pressed(), (Leg::Callee, pressed));
    }
    // Nobody has decided anything yet.
    recorded.say(33..=50, "paused");
    recorded.machine = None;
    recorded.rig.caller.say(51);
    recorded.rig.callee.say(51);
    for _ in 0..2 {
        let (_, why, packets) = recorded.rig.capture_ended();
        assert_eq!((why, packets), (CaptureEnd::Refused, 30));
    }
    let (manifests, packets) = recorded.ended();
    assert_eq!(manifests.len(), 2);
    for manifest in manifests {
        assert_eq!((manifest.packets, manifest.masked), (30, 0));
        let [Gap { reason, from, to, packets }] = manifest.gaps[..] else {
            panic!("{:?}", manifest.gaps);
        };
        assert_eq!((reason, packets), (GapReason::Paused, 18));
        assert!(from < to && to <= manifest.end && from > manifest.start);
    }
    assert_eq!(packets, [said(1..=30), said(1..=30)]);
}

#[test]
fn a_pause_by_key_is_a_gap_from_its_packet_on_and_nothing_is_lost() {
    let mut recorded = Recorded::new();
    recorded.rig.watch(Leg::Callee, &[("*7", &Leg::BOTH)]);
    recorded.say(1..=20, "recorded");
    let before = clock::now();
    recorded.types([(10, '*'), (7, '7')], 21);
    let pressed = clock::now();
    recorded.say(23..=40, "paused");
    let paused = clock::now() - pressed;
    recorded.types([(10, '*'), (7, '7')], 41);
    recorded.say(43..=60, "recorded");
    let lasted = clock::now() - before;
    let dropped = &recorded.store.counters().packets_dropped;
    assert_eq!(dropped.load(std::sync::atomic::Ordering::Relaxed), 0);
    let (manifests, packets) = recorded.ended();
    for manifest in &manifests {
        assert_eq!(manifest.packets, 38);
        let [Gap { reason, from, to, packets }] = manifest.gaps[..] else {
            panic!("{:?}", manifest.gaps);
        };
        assert_eq!((reason, packets), (GapReason::Paused, 18));
        let gap = to.since(from);
        // Times are in microseconds.
        let (least, most) = (paused.as_micros() - 1, lasted.as_micros() + 1);
        assert!((least..=most).contains(&gap.as_micros()), "{gap:?}");
    }
    assert_eq!(manifests.len(), 2);
    assert_eq!(packets, [said((1..=20).chain(43..=60)), said((1..=20).chain(43..=60))]);
}

#[test]
fn keys_that_overtake_a_grant_on_its_way_to_its_writer_stop_that_writer() {
    let mut stops = Stops::NONE;
    let mut recorded = Recorded::after(|rig| {
        rig.watch(Leg::Callee, &[("*7", &Leg::BOTH)]);
        rig.callee.say(0);
        rig.until("before_permission", 1);
        for (code, sequence) in [(10, 1), (7, 2)] {
            rig.callee.send(&key(code, sequence));
            (_, _, stops) = rig.pressed_and_stopped();
        }
    });
    recorded.say(3..=10, "paused");
    // The machine, which had permitted it before, hears of the keys: a pause begins ...
    let at = clock::moment();
    let machine = recorded.machine.as_mut().unwrap();
    for (key, stops) in [('*', Stops::NONE), ('7', stops)] {
        let (leg, via, pressed) = (Leg::Callee, KeyVia::TelephoneEvent, clock::now());
        machine.handle(at, Input::Key { leg, pressed, key, via, rtp_timestamp: Some(1), stops });
    }
    recorded.say(11..=12, "paused");
    // ... and ends.
    recorded.types([(10, '*'), (7, '7')], 13);
    recorded.say(15..=20, "recorded");
    let (_, packets) = recorded.ended();
    assert_eq!(packets, [said(15..=20), said(15..=20)]);
}
