//! Tones for people: the one that says that a call is recorded, and the one for who waits.

use super::*;
use crate::codec::Law;

/// How strong a frequency is in G.711 µ-law: the peak of its sine.
fn peak(payload: &[u8], hertz: f64) -> f64 {
    let (mut cosine, mut sine) = (0.0, 0.0);
    for (n, byte) in payload.iter().enumerate() {
        let turn = std::f64::consts::TAU * hertz * n as f64 / 8000.0;
        let sample = f64::from(Law::Mu.decode(*byte));
        cosine += sample * turn.cos();
        sine += sample * turn.sin();
    }
    2.0 * (cosine * cosine + sine * sine).sqrt() / payload.len() as f64
}

/// A tone of 500 Hz, which is whole in a packet.
fn voice(n: u16) -> Vec<u8> {
    let wave = |n: u16| (f64::from(n) * std::f64::consts::TAU / 16.0).sin() * 4000.0;
    let payload: Vec<u8> = (0..160).map(|n| Law::Mu.encode(wave(n) as i16)).collect();
    packet(0, 0xabcd, n, &payload)
}

#[test]
fn both_parties_hear_the_beep_over_the_other_and_no_recording_has_it() {
    let rig = Rig::bridged(config(IoPath::Batched));
    let tape = Tape::default();
    rig.record(Leg::Caller, tape.clone());
    rig.order(MediaCommand::Beep { every: Some(Duration::from_millis(500)) });
    let (mut sent, mut beeps) = (0, [0, 0]);
    let deadline = Instant::now() + PATIENCE;
    while beeps.iter().any(|beeps| *beeps < 5) {
        sent += 1;
        rig.caller.send(&voice(sent));
        rig.callee.send(&voice(sent));
        for (heard, beeps) in [rig.caller.hear(), rig.callee.hear()].iter().zip(&mut beeps) {
            let both =
                peak(&heard.payload, 500.0) > 3500.0 && peak(&heard.payload, 1400.0) > 1500.0;
            *beeps += u32::from(both);
        }
        assert!(Instant::now() < deadline, "{beeps:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    rig.order(MediaCommand::Beep { every: None });
    rig.close();
    let kept = tape.packets.lock().unwrap().clone();
    assert_eq!(kept, (1..=sent).map(voice).collect::<Vec<_>>());
}

#[test]
fn a_party_who_hears_nobody_hears_the_beep_alone_and_a_prompt_is_not_beeped_over() {
    let rig = Rig::bridged(config(IoPath::Batched));
    rig.play_prompt("long", Leg::Caller, 1);
    rig.caller.hear();
    rig.order(MediaCommand::Beep { every: Some(Duration::from_millis(500)) });
    let beep: Vec<_> = (0..10).map(|_| rig.callee.hear()).collect();
    assert!(beep[0].marker);
    assert!(beep[1..9].iter().all(|heard| peak(&heard.payload, 1400.0) > 2000.0));
    rig.order(MediaCommand::Silence { leg: Leg::Caller });
    let (id, notice) = rig.played();
    assert_eq!(id, PlaybackId(1));
    assert!(notice.packets > 20, "it went on all the time");
    assert!(matches!(rig.close(), MediaReport::Closed { .. }), "a beep is not told of");
}

#[test]
fn a_codec_that_cannot_be_mixed_into_has_the_beep_in_place_of_the_voice() {
    let rig = Rig::bridged(config(IoPath::Batched));
    for (leg, peer) in [(Leg::Caller, &rig.caller), (Leg::Callee, &rig.callee)] {
        let nine = PayloadType { send: 9, receive: 9 };
        let media = LegMedia { codec: Codec::G722, payload_type: nine, ..peer.media() };
        rig.order(MediaCommand::Connect { leg, media });
    }
    rig.order(MediaCommand::Beep { every: Some(Duration::from_millis(500)) });
    let (mut n, mut beeped) = (0, 0);
    let deadline = Instant::now() + PATIENCE;
    while beeped < 10 {
        n += 1;
        rig.caller.send(&packet(9, 0xabcd, n, &[n as u8; 160]));
        rig.callee.rtp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut buffer = [0; 2000];
        if let Ok((length, _)) = rig.callee.rtp.recv_from(&mut buffer) {
            let heard = &buffer[12..length];
            beeped += u32::from(heard != [heard[0]; 160]);
        }
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn who_waits_hears_a_soft_tone_now_and_then() {
    let rig = Rig::new(config(IoPath::Batched));
    rig.connect_both();
    let sound = Sound::Waiting;
    rig.order(MediaCommand::Play { leg: Leg::Callee, playback: PlaybackId(1), sound });
    let heard: Vec<_> = (0..20).map(|_| rig.callee.hear()).collect();
    let level = |n: usize| peak(&heard[n].payload, 425.0);
    assert!((400.0..700.0).contains(&level(5)), "{}", level(5));
    assert!(level(0) < level(1) && level(1) < level(4), "it comes softly");
    assert!((10..20).all(|n| heard[n].payload.iter().all(|byte| *byte == 0xff)));
    rig.play(Leg::Callee, 2);
    assert_eq!(rig.played().0, PlaybackId(2), "it reports nothing itself");
}
