//! A packet on its way through, and a key that is pressed.

use std::hint::black_box;
use std::time::{Duration, Instant};

use assent::codec::{Law, dtmf};
use assent::rtp::{Content, KeyDetector, Outgoing, RtpPacket};
use criterion::{Criterion, Throughput};

/// A packet of 20 ms of G.711.
pub(crate) fn audio(sequence: u16) -> [u8; 172] {
    let mut packet = [0xd5; 172];
    packet[..2].copy_from_slice(&[0x80, 0]);
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet[4..8].copy_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
    packet[8..12].copy_from_slice(&[1, 2, 3, 4]);
    packet
}

/// Reads a packet and makes the header under which it goes on.
pub(crate) fn relay(criterion: &mut Criterion) {
    let mut outgoing = Outgoing::new(7, 0, 0, 8000);
    let (mut packet, mut sequence, mut now) = (audio(0), 0u16, Instant::now());
    let mut group = criterion.benchmark_group("packet");
    group.throughput(Throughput::Elements(1));
    group.bench_function("parse and rewrite", |b| {
        b.iter(|| {
            sequence = sequence.wrapping_add(1);
            now += Duration::from_millis(20);
            packet[2..4].copy_from_slice(&sequence.to_be_bytes());
            let read = RtpPacket::parse(black_box(&packet)).unwrap();
            black_box(outgoing.relay(&read, 0, Content::Audio, now))
        });
    });
    group.finish();
}

/// One key: five packets while it is held, and its end three times.
pub(crate) fn keys(criterion: &mut Criterion) {
    let mut detector = KeyDetector::new(8000);
    let mut timestamp = 0u32;
    criterion.bench_function("telephone-event/one key of 8 packets", |b| {
        b.iter(|| {
            timestamp = timestamp.wrapping_add(8000);
            let mut pressed = 0;
            for n in 0..8u16 {
                let mut packet = [0; 16];
                packet[..4].copy_from_slice(&[0x80, 101, 0, n as u8]);
                packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
                let end = if n >= 5 { 0x8a } else { 0x0a };
                packet[12..14].copy_from_slice(&[1, end]);
                packet[14..].copy_from_slice(&(160 * (n.min(5) + 1)).to_be_bytes());
                let packet = RtpPacket::parse(black_box(&packet)).unwrap();
                pressed += u32::from(detector.observe(&packet).is_some());
            }
            assert_eq!(pressed, 1);
        });
    });
}

/// Looks for a key's tone in 20 ms of G.711: where nobody speaks, in noise, and where there is one.
pub(crate) fn tones(criterion: &mut Criterion) {
    let wave = |hz: f64, n: usize| (std::f64::consts::TAU * hz * n as f64 / 8000.0).sin() * 5000.0;
    let payload = |of: &dyn Fn(usize) -> f64| -> Vec<u8> {
        (0..160).map(|n| Law::Mu.encode(of(n) as i16)).collect()
    };
    let mut group = criterion.benchmark_group("key tone");
    group.throughput(Throughput::Elements(1));
    for (name, of) in [
        ("silence", &(|_| 0.0) as &dyn Fn(usize) -> f64),
        ("noise", &|n| ((n * 7919 + n * n * 31) % 8001) as f64 - 4000.0),
        ("a key", &|n| wave(770.0, n) + wave(1336.0, n)),
    ] {
        let payload = payload(of);
        group.bench_function(name, |b| {
            b.iter(|| assert_eq!(dtmf::is_key_tone(Law::Mu, black_box(&payload)), name == "a key"));
        });
    }
    group.finish();
}
