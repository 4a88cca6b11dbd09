//! SRTP over real sockets: each leg by itself, hostile packets, a new key, a hold.

use super::*;
use crate::media::io::{LONGEST, Outbound};
use crate::media::srtp::{Guard, Srtp};
use crate::rtp::{MasterKey, Outgoing, SrtpKeys, Suite};

fn keys(suite: Suite, seed: u8) -> SrtpKeys {
    let length = suite.key_length() + suite.salt_length();
    let key = |seed: u8| MasterKey::new(suite, vec![seed; length].into()).unwrap();
    SrtpKeys { suite, send: key(seed), receive: key(seed + 1) }
}

/// The peer's end of the same keys.
fn theirs(keys: &SrtpKeys) -> Box<Srtp> {
    let SrtpKeys { suite, send, receive } = keys.clone();
    let turned = SrtpKeys { suite, send: receive, receive: send };
    match Guard::new(&Security::Srtp(Box::new(turned)), None, Instant::now()) {
        Guard::Srtp(srtp) => srtp,
        _ => panic!("no SRTP"),
    }
}

/// A peer that protects what it says.
struct Protected<'a> {
    peer: &'a Peer,
    srtp: Box<Srtp>,
    stream: Outgoing,
}

impl<'a> Protected<'a> {
    fn new(peer: &'a Peer, keys: &SrtpKeys) -> Self {
        Self { peer, srtp: theirs(keys), stream: Outgoing::new(0xabcd, 0, 0, 8000) }
    }

    fn packet(&mut self, payload: &[u8]) -> Vec<u8> {
        let header = self.stream.local(0, 160, Instant::now());
        let mut datagram = Vec::new();
        let one = Outbound { header, payload };
        let sent = self.srtp.protect(&[one], |batch| {
            datagram = [&batch[0].header.as_bytes()[..], batch[0].payload].concat();
            batch.len()
        });
        assert_eq!(sent, 1);
        datagram
    }

    fn say(&mut self, n: u8) {
        let packet = self.packet(&[n; 160]);
        self.peer.send(&packet);
    }

    fn hear(&mut self) -> Vec<u8> {
        let mut buffer = [0; 2000];
        let (length, _) = self.peer.rtp.recv_from(&mut buffer).unwrap();
        let mut space = [0; LONGEST];
        let clear = self.srtp.open(&buffer[..length], &mut space).unwrap();
        RtpPacket::parse(clear).unwrap().payload().to_vec()
    }
}

/// The caller's leg is protected, the callee's is plain.
fn half_protected(io: IoPath, keys: &SrtpKeys) -> Rig {
    let rig = Rig::bridged(config(io));
    rig.order(MediaCommand::Connect { leg: Leg::Caller, media: protected(&rig.caller, keys) });
    rig
}

fn protected(peer: &Peer, keys: &SrtpKeys) -> LegMedia {
    LegMedia { security: Security::Srtp(Box::new(keys.clone())), ..peer.media() }
}

#[test]
fn each_leg_is_protected_by_itself_and_the_recording_holds_what_was_said() {
    for (io, suite) in PATHS.into_iter().zip([Suite::Aes128CmHmacSha1_80, Suite::AeadAes256Gcm]) {
        let keys = keys(suite, 1);
        let rig = half_protected(io, &keys);
        let tape = Tape::default();
        rig.record(Leg::Caller, tape.clone());
        let mut caller = Protected::new(&rig.caller, &keys);
        for n in 0..20 {
            caller.say(n);
            assert_eq!(rig.callee.hear().payload, [n; 160]);
            rig.callee.say(u16::from(n));
            assert_eq!(caller.hear(), [n; 160]);
        }
        // Reports are protected as well.
        rig.order(MediaCommand::Play {
            leg: Leg::Caller,
            playback: PlaybackId(1),
            sound: Sound::Prompt { name: "short".into(), locale: "en-US".into() },
        });
        assert_eq!(caller.hear().len(), 160);
        rig.close();
        let report = caller.srtp.open_report(&rig.caller.hear_report()).unwrap();
        assert!(rtcp::parse(&report).is_ok());
        let kept = tape.packets.lock().unwrap().clone();
        let said: Vec<_> = kept.iter().map(|p| RtpPacket::parse(p).unwrap().payload()[0]).collect();
        assert_eq!(said, (0..20).collect::<Vec<u8>>());
    }
}

#[test]
fn of_ten_thousand_hostile_packets_none_passes_and_the_call_goes_on() {
    let keys = keys(Suite::Aes128CmHmacSha1_80, 1);
    let rig = half_protected(IoPath::Batched, &keys);
    let tape = Tape::default();
    rig.record(Leg::Caller, tape.clone());
    let mut caller = Protected::new(&rig.caller, &keys);
    // What comes before anything genuine must not spoil it.
    rig.caller.send(&packet(0, 0xabcd, 40_000, &[9; 170]));
    let genuine: Vec<Vec<u8>> = (0..20).map(|n| caller.packet(&[n; 160])).collect();
    for packet in &genuine[..10] {
        rig.caller.send(packet);
        rig.callee.hear();
    }
    for n in 0..10_000_u32 {
        let mut hostile = genuine[(n % 20) as usize].clone();
        match n % 4 {
            // A replay.
            0 => hostile.clone_from(&genuine[(n % 10) as usize]),
            // One bit of payload or tag.
            1 => hostile[12 + (n as usize % 170)] ^= 1 << (n % 8),
            2 => hostile[8..12].copy_from_slice(&n.to_be_bytes()),
            // Plain RTP.
            _ => hostile = packet(0, 0xabcd, n as u16, &[1; 160]),
        }
        rig.caller.send(&hostile);
        if n % 200 == 199 {
            // No faster than the socket is read, so that all of them count.
            rig.until("unauthentic", u64::from(n) + 2);
        }
    }
    assert_eq!(rig.count("unauthentic"), 10_001);
    rig.callee.hears_nothing_now();
    for packet in &genuine[10..] {
        rig.caller.send(packet);
        assert_eq!(rig.callee.hear().payload, packet_payload(packet, &keys));
    }
    rig.close();
    assert_eq!(tape.packets.lock().unwrap().len(), 20);
}

fn packet_payload(packet: &[u8], keys: &SrtpKeys) -> Vec<u8> {
    let SrtpKeys { suite, send, receive } = keys.clone();
    let ours = SrtpKeys { suite, send, receive };
    let Guard::Srtp(mut srtp) = Guard::new(&Security::Srtp(Box::new(ours)), None, Instant::now())
    else {
        panic!()
    };
    let mut space = [0; LONGEST];
    srtp.open(packet, &mut space).unwrap()[12..].to_vec()
}

#[test]
fn a_hold_keeps_the_count_and_a_new_key_takes_over() {
    let (first, second) = (keys(Suite::AeadAes128Gcm, 1), keys(Suite::AeadAes256Gcm, 7));
    let rig = half_protected(IoPath::Portable, &first);
    let mut caller = Protected::new(&rig.caller, &first);
    let connect = |media| rig.order(MediaCommand::Connect { leg: Leg::Caller, media });
    caller.say(1);
    assert_eq!(rig.callee.hear().payload, [1; 160]);
    // A peer that sends on while it is held: nobody hears it, and its count goes on.
    connect(LegMedia { direction: Direction::Inactive, ..protected(&rig.caller, &first) });
    rig.settle();
    for _ in 0..70 {
        for _ in 0..999 {
            let _ = caller.packet(&[2; 160]);
        }
        let before = rig.count("not_negotiated");
        caller.say(2);
        rig.until("not_negotiated", before + 1);
    }
    rig.callee.hears_nothing_now();
    connect(protected(&rig.caller, &first));
    // So many numbers on, the first is a stray as it is in RTP, and the second begins anew.
    caller.say(3);
    caller.say(3);
    assert_eq!(rig.callee.hear().payload, [3; 160]);
    rig.callee.say(4);
    assert_eq!(caller.hear(), [4; 160]);

    connect(protected(&rig.caller, &second));
    rig.settle();
    caller.say(5);
    assert_eq!(rig.callee.hear().payload, [5; 160], "still on its way under the old key");
    caller.srtp = theirs(&second);
    caller.say(6);
    assert_eq!(rig.callee.hear().payload, [6; 160]);
    rig.callee.say(7);
    assert_eq!(caller.hear(), [7; 160]);
    assert_eq!(rig.count("unauthentic"), 0);
    rig.close();
}
