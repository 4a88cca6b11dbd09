//! Keys from telephone-event packets (RFC 4733): each once, however often its packets come.

use super::RtpPacket;
use super::sequence::timestamp_distance;

/// How many past events are remembered, so that a late or repeated packet is known as theirs.
const REMEMBERED: usize = 8;

/// A key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPress {
    /// `0`-`9`, `*`, `#`, `A`-`D`.
    pub key: char,
    /// The RTP timestamp at which the key went down.
    pub rtp_timestamp: u32,
}

/// Finds the keys in the telephone-events of one SSRC. The caller has checked source, SSRC and
/// payload type, and has [`Reception`](super::Reception) weed out what is replayed.
///
/// An event is known by its RTP timestamp, which all its packets share (2.2.1). It counts when
/// its end is seen; or, should all the packets that say so be lost, as soon as two packets of it
/// show that it has lasted the 40 ms that ITU-T Q.24 asks of a key. A single packet without an
/// end never counts.
#[derive(Clone, Debug)]
pub struct KeyDetector {
    shortest: u16,
    joins_within: i32,
    /// Newest last.
    events: [Option<Event>; REMEMBERED],
}

#[derive(Clone, Copy, Debug)]
struct Event {
    code: u8,
    /// Of the first segment: what is reported.
    pressed_at: u32,
    /// Of the segment that is under way.
    timestamp: u32,
    longest: u16,
    last_sequence: u16,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Seen, not yet reported.
    Down,
    /// Reported, still held.
    Held,
    /// Its end has been seen.
    Up,
}

/// The four bytes of an event (2.3).
struct Payload {
    code: u8,
    end: bool,
    duration: u16,
}

impl KeyDetector {
    /// For events whose timestamps have this clock rate, in Hz.
    #[must_use]
    pub fn new(clock_rate: u32) -> Self {
        Self {
            shortest: u16::try_from(clock_rate / 25).unwrap_or(u16::MAX),
            joins_within: i32::try_from(clock_rate / 5).unwrap_or(i32::MAX),
            events: [None; REMEMBERED],
        }
    }

    /// Takes one telephone-event packet; `Some` when it makes a key count.
    pub fn observe(&mut self, packet: &RtpPacket<'_>) -> Option<KeyPress> {
        let payload = Payload::parse(packet.payload())?;
        let timestamp = packet.timestamp();
        let shortest = self.shortest;
        if let Some(event) = self.events.iter_mut().flatten().find(|e| e.timestamp == timestamp) {
            return event.update(&payload, packet.sequence(), shortest);
        }
        let newest = self.events.last().copied().flatten();
        if let Some(newest) = newest
            && self.is_continued_by(&newest, &payload, packet)
        {
            let event = self.events.last_mut()?.as_mut()?;
            event.timestamp = timestamp;
            event.longest = 0;
            return event.update(&payload, packet.sequence(), shortest);
        }
        let mut event = Event {
            code: payload.code,
            pressed_at: timestamp,
            timestamp,
            longest: payload.duration,
            last_sequence: packet.sequence(),
            state: State::Down,
        };
        let press = if payload.end { event.end() } else { None };
        self.events.rotate_left(1);
        *self.events.last_mut()? = Some(event);
        press
    }

    /// A key that is held longer than the duration field can tell goes on in a new segment, with
    /// a new timestamp where the last one stopped and no marker (2.5.1.3). Senders that move the
    /// timestamp with each packet look the same.
    fn is_continued_by(&self, event: &Event, payload: &Payload, packet: &RtpPacket<'_>) -> bool {
        let stopped = event.timestamp.wrapping_add(u32::from(event.longest));
        let silence = timestamp_distance(stopped, packet.timestamp());
        event.code == payload.code
            && event.state != State::Up
            && !packet.marker()
            && silence.abs() <= self.joins_within
    }
}

impl Event {
    fn update(&mut self, payload: &Payload, sequence: u16, shortest: u16) -> Option<KeyPress> {
        if payload.code != self.code {
            return None;
        }
        let another = std::mem::replace(&mut self.last_sequence, sequence) != sequence;
        let longer = payload.duration > self.longest;
        self.longest = self.longest.max(payload.duration);
        if payload.end {
            return self.end();
        }
        let lasted = another && longer && self.longest >= shortest;
        if self.state == State::Down && lasted {
            self.state = State::Held;
            return self.press();
        }
        None
    }

    fn end(&mut self) -> Option<KeyPress> {
        match std::mem::replace(&mut self.state, State::Up) {
            State::Down => self.press(),
            State::Held | State::Up => None,
        }
    }

    fn press(&self) -> Option<KeyPress> {
        key(self.code).map(|key| KeyPress { key, rtp_timestamp: self.pressed_at })
    }
}

impl Payload {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let [code, flags, high, low, ..] = *bytes else { return None };
        // Other events (flash, tones, line states) are nobody's answer.
        key(code)?;
        Some(Self { code, end: flags & 0x80 != 0, duration: u16::from_be_bytes([high, low]) })
    }
}

/// The key of an event code (3.2, table 3).
fn key(code: u8) -> Option<char> {
    match code {
        0..=9 => Some(char::from(b'0' + code)),
        10 => Some('*'),
        11 => Some('#'),
        12..=15 => Some(char::from(b'A' + code - 12)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::{Arrival, Reception};
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    struct Sent {
        sequence: u16,
        timestamp: u32,
        code: u8,
        end: bool,
        duration: u16,
        marker: bool,
    }

    fn observe(detector: &mut KeyDetector, sent: Sent) -> Option<KeyPress> {
        let mut bytes = vec![0x80, 101 | if sent.marker { 0x80 } else { 0 }];
        bytes.extend(sent.sequence.to_be_bytes());
        bytes.extend(sent.timestamp.to_be_bytes());
        bytes.extend([1, 2, 3, 4, sent.code, if sent.end { 0x8a } else { 0x0a }]);
        bytes.extend(sent.duration.to_be_bytes());
        detector.observe(&RtpPacket::parse(&bytes).unwrap())
    }

    /// A key held for `packets` of 20 ms at 8 kHz, its end sent three times.
    fn press(code: u8, sequence: u16, timestamp: u32, packets: u16) -> Vec<Sent> {
        (0..packets + 2)
            .map(|n| Sent {
                sequence: sequence.wrapping_add(n),
                timestamp,
                code,
                end: n + 1 >= packets,
                duration: (n + 1).min(packets) * 160,
                marker: n == 0,
            })
            .collect()
    }

    fn keys(sent: impl IntoIterator<Item = Sent>) -> String {
        let mut detector = KeyDetector::new(8000);
        let mut reception: Option<Reception> = None;
        sent.into_iter()
            .filter(|s| {
                let first = || Reception::new(1, s.sequence, 8000);
                let arrival = reception.get_or_insert_with(first).receive_event(s.sequence);
                matches!(arrival, Arrival::Next | Arrival::Late)
            })
            .filter_map(|s| observe(&mut detector, s))
            .map(|p| p.key)
            .collect()
    }

    #[test]
    fn every_code_has_its_key() {
        let sent =
            (0..=20).flat_map(|code| press(code, u16::from(code) * 10, u32::from(code) * 4000, 5));
        assert_eq!(keys(sent), "0123456789*#ABCD");
    }

    #[test]
    fn a_key_counts_once_however_often_its_end_repeats() {
        let mut sent = press(1, 100, 5000, 5);
        let last = *sent.last().unwrap();
        sent.extend([last; 50]);
        assert_eq!(keys(sent), "1");
    }

    #[test]
    fn a_key_counts_when_all_its_ends_are_lost() {
        let sent: Vec<_> = press(1, 100, 5000, 5).into_iter().filter(|s| !s.end).collect();
        assert_eq!(keys(sent), "1");
    }

    #[test]
    fn a_key_counts_when_only_one_end_arrives() {
        let sent = press(1, 100, 5000, 5);
        assert_eq!(keys([*sent.last().unwrap()]), "1");
    }

    #[test]
    fn one_packet_without_an_end_never_counts() {
        let mut sent = press(1, 100, 5000, 50)[20];
        assert_eq!(keys([sent; 100]), "", "the same packet again is no second one");
        sent.duration = u16::MAX;
        assert_eq!(keys([sent]), "");
    }

    #[test]
    fn a_key_counts_as_it_goes_down_and_not_again_as_it_comes_up() {
        let mut detector = KeyDetector::new(8000);
        let sent = press(5, 0, 77, 100);
        let seen: Vec<_> = sent.iter().map(|s| observe(&mut detector, *s)).collect();
        assert_eq!(seen[1], Some(KeyPress { key: '5', rtp_timestamp: 77 }));
        assert_eq!(seen.iter().flatten().count(), 1);
    }

    #[test]
    fn the_same_key_twice_is_two_keys() {
        assert_eq!(keys([press(1, 0, 0, 4), press(1, 20, 3200, 4)].concat()), "11");
    }

    #[test]
    fn a_press_longer_than_the_duration_field_is_one_key() {
        let mut sent = Vec::new();
        let (mut sequence, mut timestamp) = (0, u32::MAX - 1000);
        for segment in 0..3 {
            for n in 1..=51u16 {
                sent.push(Sent {
                    sequence,
                    timestamp,
                    code: 1,
                    end: false,
                    duration: if n == 51 { u16::MAX } else { n * 1280 },
                    marker: segment == 0 && n == 1,
                });
                sequence += 1;
            }
            timestamp = timestamp.wrapping_add(0xffff);
        }
        sent.push(Sent { sequence, timestamp, code: 1, end: true, duration: 800, marker: false });
        assert_eq!(keys(sent), "1");
    }

    #[test]
    fn a_sender_that_moves_the_timestamp_with_each_packet_presses_once() {
        let sent = (0..10u16).map(|n| Sent {
            sequence: n,
            timestamp: u32::from(n) * 160,
            code: 1,
            end: n > 6,
            duration: n.min(7) * 160,
            marker: n == 0,
        });
        // Its repeated ends each look like an event of their own; without the repeats it is one.
        assert_eq!(keys(sent.take(8)), "1");
    }

    #[test]
    fn a_replayed_event_never_counts_again() {
        let old = press(1, 100, 1000, 5);
        let mut sent = old.clone();
        (1..20u16).for_each(|n| sent.extend(press(2, 100 + n * 20, 1000 + u32::from(n) * 4000, 5)));
        sent.extend(old);
        assert_eq!(keys(sent), format!("1{}", "2".repeat(19)));
    }

    #[test]
    fn a_key_counts_however_long_ago_the_last_one_was() {
        let mut detector = KeyDetector::new(8000);
        for n in 0..40u16 {
            let pressed = press(1, n.wrapping_mul(6001), u32::from(n) * 1_000_000, 5);
            let keys = pressed.into_iter().filter_map(|s| observe(&mut detector, s)).count();
            assert_eq!(keys, 1);
        }
    }

    #[test]
    fn a_sender_whose_timestamps_start_again_is_still_heard() {
        assert_eq!(keys([press(1, 100, 4_000_000, 5), press(2, 120, 50, 5)].concat()), "12");
    }

    proptest! {
        #[test]
        fn each_press_counts_once_through_loss_repeats_and_reordering(
            codes in proptest::collection::vec(0u8..16, 1..12),
            start in any::<u16>(),
            begin in any::<u32>(),
            swaps in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
            lost in proptest::collection::vec(any::<u8>(), 300),
            doubled in proptest::collection::vec(any::<bool>(), 300),
        ) {
            let mut sent = Vec::new();
            for (n, code) in codes.iter().enumerate() {
                let n = u16::try_from(n).unwrap();
                let mut packets = press(
                    *code,
                    start.wrapping_add(n * 30),
                    begin.wrapping_add(u32::from(n) * 4800),
                    6,
                );
                // Neighbours within an event change places.
                for swap in &swaps {
                    let at = swap.index(packets.len() - 1);
                    packets.swap(at, at + 1);
                }
                // At most half of the packets are lost, and never every end.
                let keep = packets.iter().rposition(|p| p.end).unwrap();
                let mut budget = packets.len() / 2;
                for (at, packet) in packets.into_iter().enumerate() {
                    if at != keep && lost[usize::from(n) * 8 + at] < 100 && budget > 0 {
                        budget -= 1;
                        continue;
                    }
                    sent.push(packet);
                    if doubled[usize::from(n) * 8 + at] {
                        sent.push(packet);
                    }
                }
            }
            let expected: String = codes.iter().map(|c| key(*c).unwrap()).collect();
            prop_assert_eq!(keys(sent), expected);
        }

        #[test]
        fn no_packets_make_more_keys_than_there_are_timestamps(
            sent in proptest::collection::vec(
                (any::<u16>(), 0u32..5, 0u8..20, any::<bool>(), any::<u16>(), any::<bool>()), 0..100),
        ) {
            let mut timestamps: Vec<_> = sent.iter().map(|s| s.1).collect();
            timestamps.sort_unstable();
            timestamps.dedup();
            let pressed = keys(sent.into_iter().map(|(sequence, ts, code, end, duration, marker)| {
                Sent { sequence, timestamp: ts * 100_000, code, end, duration, marker }
            }));
            prop_assert!(pressed.len() <= timestamps.len());
        }
    }
}
