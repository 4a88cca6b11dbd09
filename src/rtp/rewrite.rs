//! The stream that a leg hears: one SSRC, and sequence numbers and timestamps that go on
//! unbroken, whether a prompt, ringback or the other party is in it.
//!
//! What is relayed keeps its own spacing: a packet lost or late before us is lost or late behind
//! us too, so that the listener's jitter buffer can do its work. Only where the source changes are
//! the numbers joined, by the time that has passed between the two.

use std::time::{Duration, Instant};

use super::packet::{FIXED_HEADER, RtpPacket};
use super::sequence::{sequence_distance, timestamp_distance};

/// A jump ahead by more than this is a new start of the sender (RFC 3550, A.1).
const MAX_DROPOUT: i16 = 3000;

/// A packet later than this many others is no reordering (RFC 3550, A.1).
const MAX_MISORDER: i16 = 100;

/// How far a sender's timestamps may part from the time that passes before they count as a new
/// start.
const MAX_TIME_JUMP: Duration = Duration::from_secs(10);

/// The outgoing stream of one leg.
#[derive(Clone, Debug)]
pub struct Outgoing {
    ssrc: u32,
    clock_rate: u32,
    /// The newest packet sent, or where to begin.
    sequence: u16,
    timestamp: u32,
    sent_at: Option<Instant>,
    /// The length of the last packet in timestamp units.
    step: u32,
    source: Source,
}

/// A fixed RTP header, ready to send in front of a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    bytes: [u8; FIXED_HEADER],
}

/// What a relayed packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Audio: a marker is the beginning of a talkspurt, and ours to set where sources change.
    Audio,
    /// A telephone-event: a marker is the beginning of an event, and the sender's alone.
    Event,
}

/// Where the numbers of the outgoing stream come from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// From nowhere: whatever comes next is joined to what was last.
    Silent,
    Local,
    Relayed(Relayed),
}

#[derive(Clone, Copy, Debug)]
struct Relayed {
    ssrc: u32,
    /// The first packet after the join; what is older belongs before it. `None` once all such are
    /// out of reach.
    first: Option<u16>,
    newest: u16,
    newest_timestamp: u32,
    newest_at: Instant,
    sequence_offset: u16,
    timestamp_offset: u32,
}

impl Outgoing {
    /// A stream whose first packet will have the number after `sequence` and `timestamp`, which
    /// are to be random (RFC 3550, 5.1). The clock rate is in Hz.
    #[must_use]
    pub fn new(ssrc: u32, sequence: u16, timestamp: u32, clock_rate: u32) -> Self {
        let step = clock_rate / 50;
        Self { ssrc, clock_rate, sequence, timestamp, sent_at: None, step, source: Source::Silent }
    }

    /// Its SSRC.
    #[must_use]
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The codec has changed: timestamps go on at another rate (RFC 3551, 4.1).
    pub fn set_clock_rate(&mut self, clock_rate: u32) {
        if clock_rate != self.clock_rate {
            self.clock_rate = clock_rate;
            self.step = clock_rate / 50;
            self.source = Source::Silent;
        }
    }

    /// What was sent so far has ended, or pauses. The next packet begins a talkspurt.
    pub fn interrupt(&mut self) {
        self.source = Source::Silent;
    }

    /// The timestamp that a packet made at `now` would have: for sender reports.
    #[must_use]
    pub fn timestamp_at(&self, now: Instant) -> u32 {
        self.timestamp.wrapping_add(self.ticks_since(self.sent_at, now))
    }

    /// The header of a packet of our own that lasts for `length` timestamp units.
    pub fn local(&mut self, payload_type: u8, length: u32, now: Instant) -> Header {
        let marker = !matches!(self.source, Source::Local);
        if marker {
            self.timestamp = self.joined_timestamp(now);
            self.source = Source::Local;
        } else {
            self.timestamp = self.timestamp.wrapping_add(self.step);
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.step = length;
        self.sent_at = Some(now);
        self.header(payload_type, marker, self.sequence, self.timestamp)
    }

    /// The header under which a packet of the other party goes out; `None` for one that is too
    /// late for its place, which is before the join.
    pub fn relay(
        &mut self,
        packet: &RtpPacket<'_>,
        payload_type: u8,
        content: Content,
        now: Instant,
    ) -> Option<Header> {
        let known = match self.source {
            Source::Relayed(relayed) if self.goes_on(&relayed, packet, now) => Some(relayed),
            _ => None,
        };
        let joins = known.is_none();
        let mut relayed = known.unwrap_or_else(|| self.join(packet, now));
        if relayed.first.is_some_and(|first| sequence_distance(first, packet.sequence()) < 0) {
            return None;
        }
        let sequence = packet.sequence().wrapping_add(relayed.sequence_offset);
        let timestamp = packet.timestamp().wrapping_add(relayed.timestamp_offset);
        let ahead = sequence_distance(relayed.newest, packet.sequence());
        if joins || ahead > 0 {
            let length = packet.timestamp().wrapping_sub(relayed.newest_timestamp);
            // 120 ms is the longest packet of any codec here (RFC 7587, 4.2).
            if ahead == 1 && (1..=self.clock_rate * 3 / 25).contains(&length) {
                self.step = length;
            }
            relayed.newest = packet.sequence();
            relayed.newest_timestamp = packet.timestamp();
            relayed.newest_at = now;
            if relayed.first.is_some_and(|f| sequence_distance(f, relayed.newest) > MAX_MISORDER) {
                relayed.first = None;
            }
            self.sequence = sequence;
            self.timestamp = timestamp;
            self.sent_at = Some(now);
        }
        self.source = Source::Relayed(relayed);
        let marker = packet.marker() || (joins && content == Content::Audio);
        Some(self.header(payload_type, marker, sequence, timestamp))
    }

    /// Whether a packet belongs to the run that is being relayed.
    fn goes_on(&self, relayed: &Relayed, packet: &RtpPacket<'_>, now: Instant) -> bool {
        let ahead = sequence_distance(relayed.newest, packet.sequence());
        let moved = timestamp_distance(relayed.newest_timestamp, packet.timestamp());
        let passed = ticks(now.saturating_duration_since(relayed.newest_at), self.clock_rate);
        let jump = i64::from(moved) - i64::try_from(passed).unwrap_or(i64::MAX);
        relayed.ssrc == packet.ssrc()
            && (-MAX_MISORDER..=MAX_DROPOUT).contains(&ahead)
            && jump.unsigned_abs() <= ticks(MAX_TIME_JUMP, self.clock_rate)
    }

    fn join(&self, packet: &RtpPacket<'_>, now: Instant) -> Relayed {
        let sequence = self.sequence.wrapping_add(1);
        let timestamp = self.joined_timestamp(now);
        Relayed {
            ssrc: packet.ssrc(),
            first: Some(packet.sequence()),
            newest: packet.sequence(),
            newest_timestamp: packet.timestamp(),
            newest_at: now,
            sequence_offset: sequence.wrapping_sub(packet.sequence()),
            timestamp_offset: timestamp.wrapping_sub(packet.timestamp()),
        }
    }

    /// Where the next packet belongs when it comes from another source than the last: as much
    /// later as time has passed, and never within the last one.
    fn joined_timestamp(&self, now: Instant) -> u32 {
        match self.sent_at {
            None => self.timestamp,
            Some(_) => {
                let passed = self.ticks_since(self.sent_at, now).max(self.step);
                self.timestamp.wrapping_add(passed)
            }
        }
    }

    fn ticks_since(&self, then: Option<Instant>, now: Instant) -> u32 {
        let passed = then.map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        // After a silence of a day and more at 48 kHz the number has wrapped, as it should.
        ticks(passed, self.clock_rate) as u32
    }

    fn header(&self, payload_type: u8, marker: bool, sequence: u16, timestamp: u32) -> Header {
        let mut bytes = [0; FIXED_HEADER];
        let (fixed, rest) = bytes.split_at_mut(2);
        fixed.copy_from_slice(&[0x80, payload_type & 0x7f | u8::from(marker) << 7]);
        let (at_sequence, rest) = rest.split_at_mut(2);
        at_sequence.copy_from_slice(&sequence.to_be_bytes());
        let (at_timestamp, at_ssrc) = rest.split_at_mut(4);
        at_timestamp.copy_from_slice(&timestamp.to_be_bytes());
        at_ssrc.copy_from_slice(&self.ssrc.to_be_bytes());
        Header { bytes }
    }
}

impl Header {
    /// Its bytes on the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; FIXED_HEADER] {
        &self.bytes
    }
}

fn ticks(span: Duration, clock_rate: u32) -> u64 {
    let ticks = span.as_micros() * u128::from(clock_rate) / 1_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Seen {
        marker: bool,
        sequence: u16,
        timestamp: u32,
    }

    fn see(header: Header) -> Seen {
        let packet = RtpPacket::parse(header.as_bytes()).unwrap();
        assert_eq!(packet.ssrc(), 99);
        Seen { marker: packet.marker(), sequence: packet.sequence(), timestamp: packet.timestamp() }
    }

    fn relay(
        out: &mut Outgoing,
        (ssrc, sequence, timestamp): (u32, u16, u32),
        now: Instant,
    ) -> Option<Seen> {
        let mut bytes = vec![0x80, 0];
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend(ssrc.to_be_bytes());
        let packet = RtpPacket::parse(&bytes).unwrap();
        out.relay(&packet, 0, Content::Audio, now).map(see)
    }

    const FRAME: Duration = Duration::from_millis(20);

    #[test]
    fn a_prompt_begins_with_a_marker_and_goes_on_without() {
        let mut out = Outgoing::new(99, u16::MAX, u32::MAX - 10, 8000);
        let now = Instant::now();
        let seen: Vec<_> = (0..3).map(|n| see(out.local(0, 160, now + FRAME * n))).collect();
        assert_eq!(seen.iter().map(|s| s.marker).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(seen.iter().map(|s| s.sequence).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(seen[0].timestamp, u32::MAX - 10);
        assert_eq!(seen[2].timestamp, 309);
    }

    #[test]
    fn silence_between_two_sources_moves_the_timestamp_and_not_the_sequence() {
        let mut out = Outgoing::new(99, 0, 1000, 8000);
        let now = Instant::now();
        see(out.local(0, 160, now));
        let next = relay(&mut out, (5, 40_000, 7), now + Duration::from_secs(2)).unwrap();
        assert_eq!((next.sequence, next.timestamp, next.marker), (2, 1000 + 16_000, true));
        out.interrupt();
        let last = see(out.local(0, 160, now + Duration::from_secs(2) + FRAME / 4));
        assert_eq!((last.sequence, last.timestamp, last.marker), (3, 17_160, true));
    }

    #[test]
    fn loss_and_disorder_are_passed_on_as_they_are() {
        let mut out = Outgoing::new(99, 9, 0, 8000);
        let now = Instant::now();
        let mut send = |n: u16| {
            let seen = relay(&mut out, (5, 65_530 + n, u32::from(n) * 160), now + FRAME * n.into());
            seen.map(|s| (s.sequence, s.timestamp))
        };
        assert_eq!(send(1), Some((10, 0)));
        assert_eq!(send(4), Some((13, 480)));
        assert_eq!(send(3), Some((12, 320)));
        assert_eq!(send(0), None, "its place is taken by what was heard before");
        assert_eq!(send(5), Some((14, 640)));
    }

    #[test]
    fn a_sender_that_starts_again_is_joined() {
        let mut out = Outgoing::new(99, 0, 0, 8000);
        let now = Instant::now();
        relay(&mut out, (5, 100, 0), now).unwrap();
        for (n, start) in
            [(5, 30_000, 160), (5, 101, 3_000_000_000), (6, 101, 0)].into_iter().enumerate()
        {
            let n = u16::try_from(n).unwrap();
            let seen = relay(&mut out, start, now + FRAME * u32::from(n + 1)).unwrap();
            assert_eq!(seen.sequence, 2 + n);
            assert_eq!(seen.timestamp, 160 * u32::from(n + 1));
            assert!(seen.marker);
        }
    }

    #[test]
    fn another_clock_rate_goes_on_from_where_the_last_one_was() {
        let mut out = Outgoing::new(99, 0, 5000, 8000);
        let now = Instant::now();
        see(out.local(0, 160, now));
        out.set_clock_rate(48_000);
        let seen = see(out.local(111, 960, now + FRAME));
        assert_eq!((seen.sequence, seen.timestamp, seen.marker), (2, 5960, true));
        assert_eq!(out.timestamp_at(now + FRAME * 2), 5960 + 960);
    }

    /// One stretch of one source: which one, how many packets, the silence before it.
    fn stretches() -> impl Strategy<Value = Vec<(u8, u8, u64)>> {
        proptest::collection::vec((0u8..4, 1u8..30, 0u64..3000), 1..20)
    }

    proptest! {
        #[test]
        fn whatever_the_sources_the_listener_hears_one_unbroken_stream(
            stretches in stretches(),
            first in any::<u16>(),
            begin in any::<u32>(),
            theirs in any::<(u16, u32)>(),
            rate in prop_oneof![Just(8000u32), Just(48_000)],
        ) {
            let step = rate / 50;
            let mut out = Outgoing::new(99, first, begin, rate);
            let mut now = Instant::now();
            let (mut expected, mut last) = (first, None);
            let mut sources = [theirs; 4];
            for (source, packets, silence) in stretches {
                now += Duration::from_millis(silence);
                if source == 3 {
                    out.interrupt();
                }
                for _ in 0..packets {
                    now += FRAME;
                    let seen = if source == 0 {
                        see(out.local(0, step, now))
                    } else {
                        let (sequence, timestamp) = &mut sources[usize::from(source)];
                        *sequence = sequence.wrapping_add(1);
                        *timestamp = timestamp.wrapping_add(step);
                        let packet = (u32::from(source), *sequence, *timestamp);
                        relay(&mut out, packet, now).unwrap()
                    };
                    expected = expected.wrapping_add(1);
                    prop_assert_eq!(seen.sequence, expected);
                    if let Some(last) = last {
                        prop_assert!(timestamp_distance(last, seen.timestamp) >= step as i32);
                    }
                    last = Some(seen.timestamp);
                }
            }
        }

        #[test]
        fn no_packets_panic(
            packets in proptest::collection::vec(
                (0u32..3, any::<u16>(), any::<u32>(), 0u64..100_000, any::<bool>()), 1..200),
        ) {
            let mut out = Outgoing::new(99, 0, 0, 48_000);
            let mut now = Instant::now();
            for (ssrc, sequence, timestamp, later, own) in packets {
                now += Duration::from_millis(later);
                if own {
                    see(out.local(0, 960, now));
                } else {
                    relay(&mut out, (ssrc, sequence, timestamp), now);
                }
            }
        }
    }
}
