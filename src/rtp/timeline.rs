//! Where each packet of a stream belongs on the recording's clock.
//!
//! Two things place a packet. Its timestamp says exactly where it lies among its neighbours, but
//! not when; its arrival says when, but late by what the network held it up. So packets are kept
//! for a moment, put in order, and a *span* of them (an unbroken run of one SSRC's timestamps) is
//! anchored by the packet that was held up least. An anchor is moved only where nobody hears it,
//! in a pause between words, or when it is plainly wrong.
//!
//! ```text
//!   arrivals    | 1  2     3 5 4  6   |          a packet's lateness = arrival − timestamp
//!   timestamps  |1  2  3  4  5  6     |          the anchor          = the least lateness
//! ```
//!
//! The anchor is also the seam for the drift of the sender's clock: whatever knows its true rate
//! (RTCP sender reports) corrects it in [`Timeline::pop`].

use std::collections::BTreeMap;

use crate::time::Timestamp;

/// The unit of positions: all clock rates and sample rates that are used divide it.
pub const TICKS_PER_SECOND: i64 = 48_000;

/// How long a packet waits for those before it, and how far ahead an anchor is looked for.
const WINDOW: i64 = 2 * TICKS_PER_SECOND;

/// The most packets that wait. A window has 800 at the shortest packet time in use, 2.5 ms.
const CAPACITY: usize = 1024;

/// A packet this much earlier than its timestamp says cannot be of the same span: networks only
/// delay.
const EARLY: i64 = TICKS_PER_SECOND / 10;

/// A packet later than this is not held up: its sender paused and went on counting from there.
const LATE: i64 = 2 * TICKS_PER_SECOND;

/// How wrong an anchor may be before it moves in the middle of a word, and between words.
const TOLERANCE: i64 = TICKS_PER_SECOND * 60 / 1000;
const TOLERANCE_IN_PAUSE: i64 = TICKS_PER_SECOND * 10 / 1000;

/// How much later fewer than [`EVIDENCE`] packets must be to move an anchor: the last ones before
/// a silence may just have been held up.
const TOLERANCE_OF_FEW: i64 = TICKS_PER_SECOND / 2;
const EVIDENCE: usize = 10;

/// A gap in the timestamps that is a pause between words.
const PAUSE: i64 = TICKS_PER_SECOND / 10;

/// A sequence number further ahead or behind than this is a new beginning (RFC 3550, A.1).
const MAX_DROPOUT: i64 = 3000;
const MAX_MISORDER: i64 = 1000;

/// As many late packets one after another are no copies: their sender has begun anew.
const RESTART: u32 = 5;

/// What is read of a packet to place it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When it arrived, on the clock that the timeline's start is read from.
    pub arrival: Timestamp,
    /// Whose packet it is.
    pub ssrc: u32,
    /// Its sequence number.
    pub sequence: u16,
    /// Its RTP timestamp.
    pub timestamp: u32,
    /// The rate of that timestamp in Hz.
    pub clock_rate: u32,
    /// Whether it is marked as the first after a silence.
    pub marker: bool,
}

/// What became of a packet that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It waits for its turn.
    Kept,
    /// It waits already; this copy is dropped.
    Duplicate,
    /// Its place has been passed by later ones, or is another packet's; it is dropped.
    Late,
}

/// A packet in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed<T> {
    /// Where it begins, in ticks after the timeline's start; negative before it. Not always past
    /// the end of the packet before: where a span begins, the clock is believed and not the
    /// sender.
    pub position: i64,
    /// What was pushed with it.
    pub item: T,
}

/// Orders and places the packets of one stream. It holds two seconds of them, 1024 at most.
pub struct Timeline<T> {
    start: Timestamp,
    /// By order: the source's turn, then the sequence number counted on.
    waiting: BTreeMap<(u64, i64), Waiting<T>>,
    /// The newest arrival, in ticks.
    now: i64,
    source: Option<Source>,
    spans: u64,
    placing: Option<Placing>,
    /// The order of the packet that was popped last.
    passed: Option<(u64, i64)>,
}

struct Waiting<T> {
    arrival: i64,
    timestamp: u32,
    /// The timestamp counted on within its span, in ticks.
    media: i64,
    span: u64,
    marker: bool,
    item: T,
}

impl<T> Waiting<T> {
    fn lateness(&self) -> i64 {
        self.arrival - self.media
    }
}

/// The sender whose packets arrive now.
struct Source {
    ssrc: u32,
    turn: u64,
    clock_rate: u32,
    highest: i64,
    /// The late packet that would follow the last late one, and how many have followed so.
    late: (u16, u32),
    span: u64,
    last_timestamp: u32,
    /// The last timestamp counted on, in units of the clock rate.
    counted: i64,
    least_lateness: i64,
}

/// The span whose packets are popped now.
struct Placing {
    span: u64,
    anchor: i64,
    last_media: i64,
}

impl<T> Timeline<T> {
    /// A timeline whose position 0 is at `start`.
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        Self {
            start,
            waiting: BTreeMap::new(),
            now: i64::MIN,
            source: None,
            spans: 0,
            placing: None,
            passed: None,
        }
    }

    /// Takes a packet, in the order of arrival.
    pub fn push(&mut self, stamp: Stamp, item: T) -> Pushed {
        let arrival = self.ticks_at(stamp.arrival);
        let (mut order, mut media, mut span) = self.follow(stamp, arrival);
        if let Some(taken) = self.taken(order, stamp.timestamp) {
            if taken == Pushed::Duplicate
                || !self.source.as_mut().is_some_and(|source| source.restarts(stamp.sequence))
            {
                return taken;
            }
            (order, media, span) = self.begin(stamp, arrival);
        }
        self.now = self.now.max(arrival);
        let Stamp { timestamp, marker, .. } = stamp;
        self.waiting.insert(order, Waiting { arrival, timestamp, media, span, marker, item });
        Pushed::Kept
    }

    /// The next packet in order, once it has waited long enough. Call until there is none after
    /// each push, so that no more than a window waits.
    pub fn pop(&mut self) -> Option<Placed<T>> {
        let (_, first) = self.waiting.first_key_value()?;
        let due = self.now.saturating_sub(first.arrival) >= WINDOW;
        if due || self.waiting.len() > CAPACITY { self.place_first() } else { None }
    }

    /// The next packet in order, whether it has waited or not: for the end of the stream.
    pub fn drain(&mut self) -> Option<Placed<T>> {
        self.place_first()
    }

    /// Why there is no place for a packet: it has been passed, or another packet has it.
    fn taken(&self, order: (u64, i64), timestamp: u32) -> Option<Pushed> {
        if self.passed.is_some_and(|passed| order <= passed) {
            return Some(Pushed::Late);
        }
        let waiting = self.waiting.get(&order)?;
        Some(if waiting.timestamp == timestamp { Pushed::Duplicate } else { Pushed::Late })
    }

    fn ticks_at(&self, at: Timestamp) -> i64 {
        // Within a year of the start this is far from overflow; beyond it is no recording.
        let year = 366 * 86_400 * 1_000_000;
        let micros = at.as_micros().saturating_sub(self.start.as_micros()).clamp(-year, year);
        micros * (TICKS_PER_SECOND / 1000) / 1000
    }

    /// Counts sequence number and timestamp on from the packet that arrived before, or begins
    /// anew: the packet's order, its timestamp in ticks, and its span.
    fn follow(&mut self, stamp: Stamp, arrival: i64) -> ((u64, i64), i64, u64) {
        if let Some(source) = &mut self.source
            && source.ssrc == stamp.ssrc
            && source.clock_rate == clock_rate(stamp)
            && let Some(sequence) = source.count_sequence(stamp.sequence)
        {
            let (media, same_span) = source.count_timestamp(stamp.timestamp, arrival);
            if !same_span {
                self.spans += 1;
                source.span = self.spans;
            }
            return ((source.turn, sequence), media, source.span);
        }
        self.begin(stamp, arrival)
    }

    /// Another sender, or the same one with nothing to count on from.
    fn begin(&mut self, stamp: Stamp, arrival: i64) -> ((u64, i64), i64, u64) {
        self.spans += 1;
        let turn = self.source.as_ref().map_or(0, |source| source.turn + 1);
        let sequence = i64::from(stamp.sequence);
        let counted = i64::from(stamp.timestamp);
        let media = ticks(counted, clock_rate(stamp));
        self.source = Some(Source {
            ssrc: stamp.ssrc,
            turn,
            clock_rate: clock_rate(stamp),
            highest: sequence,
            late: (stamp.sequence, 0),
            span: self.spans,
            last_timestamp: stamp.timestamp,
            counted,
            least_lateness: arrival - media,
        });
        ((turn, sequence), media, self.spans)
    }

    fn place_first(&mut self) -> Option<Placed<T>> {
        let (order, packet) = self.waiting.pop_first()?;
        self.passed = Some(order);
        let ahead = || self.waiting.values().filter(|later| later.span == packet.span);
        let least = ahead().map(Waiting::lateness).fold(packet.lateness(), i64::min);
        let anchor = match &self.placing {
            Some(placing) if placing.span == packet.span => {
                let pause = packet.marker || packet.media - placing.last_media > PAUSE;
                let tolerance = if pause { TOLERANCE_IN_PAUSE } else { TOLERANCE };
                let shift = least - placing.anchor;
                let early = shift < -tolerance;
                let late = shift > TOLERANCE_OF_FEW
                    || (shift > tolerance && ahead().nth(EVIDENCE - 1).is_some());
                if early || late { least } else { placing.anchor }
            }
            _ => least,
        };
        self.placing = Some(Placing { span: packet.span, anchor, last_media: packet.media });
        Some(Placed { position: packet.media + anchor, item: packet.item })
    }
}

impl Source {
    /// The sequence number counted on over its wraps, unless it is a new beginning.
    fn count_sequence(&mut self, sequence: u16) -> Option<i64> {
        // The low 16 bits of the highest; the difference is the shorter way around.
        let ahead = sequence.wrapping_sub(self.highest as u16).cast_signed();
        let counted = self.highest + i64::from(ahead);
        if !(-MAX_MISORDER..=MAX_DROPOUT).contains(&i64::from(ahead)) {
            return None;
        }
        self.highest = self.highest.max(counted);
        Some(counted)
    }

    /// Whether a late packet, after those before it, shows that the sender has begun anew.
    fn restarts(&mut self, sequence: u16) -> bool {
        let (next, count) = self.late;
        let count = if sequence == next { count + 1 } else { 1 };
        self.late = (sequence.wrapping_add(1), count);
        count >= RESTART
    }

    /// The timestamp counted on over its wraps, in ticks, and whether it goes on in the span.
    fn count_timestamp(&mut self, timestamp: u32, arrival: i64) -> (i64, bool) {
        let ahead = timestamp.wrapping_sub(self.last_timestamp).cast_signed();
        self.counted += i64::from(ahead);
        self.last_timestamp = timestamp;
        let media = ticks(self.counted, self.clock_rate);
        let lateness = arrival - media;
        let same = (-EARLY..=LATE).contains(&(lateness - self.least_lateness));
        self.least_lateness = if same { self.least_lateness.min(lateness) } else { lateness };
        (media, same)
    }
}

fn clock_rate(stamp: Stamp) -> u32 {
    stamp.clock_rate.max(1)
}

fn ticks(units: i64, rate: u32) -> i64 {
    // Far beyond any recording, and far enough from the limits to add and subtract.
    const FAR: i128 = 1 << 60;
    let ticks = i128::from(units) * i128::from(TICKS_PER_SECOND) / i128::from(rate);
    i64::try_from(ticks.clamp(-FAR, FAR)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: i64 = TICKS_PER_SECOND / 1000;

    /// Packet `n` of a G.711 sender with 20 ms packets whose first arrives `from` ms after the
    /// start, held up by `delay` ms.
    fn sent(n: u32, from: i64, delay: i64) -> Stamp {
        Stamp {
            arrival: Timestamp::from_micros((from + i64::from(n) * 20 + delay) * 1000),
            ssrc: 7,
            sequence: 65_500_u16.wrapping_add(n as u16),
            timestamp: (u32::MAX - 20_000).wrapping_add(n * 160),
            clock_rate: 8000,
            marker: n == 0,
        }
    }

    /// Positions in ms of what comes out, with the index of what was pushed.
    fn placed(stamps: &[Stamp]) -> Vec<(usize, i64)> {
        let mut timeline = Timeline::new(Timestamp::EPOCH);
        let mut out = Vec::new();
        for (index, stamp) in stamps.iter().enumerate() {
            timeline.push(*stamp, index);
            out.extend(std::iter::from_fn(|| timeline.pop()));
            assert!(timeline.waiting.len() <= CAPACITY);
        }
        out.extend(std::iter::from_fn(|| timeline.drain()));
        out.into_iter().map(|placed| (placed.item, placed.position / MS)).collect()
    }

    #[test]
    fn a_steady_stream_lies_where_it_arrived_over_every_wrap() {
        let stamps: Vec<_> = (0..500).map(|n| sent(n, 1000, 0)).collect();
        let expected: Vec<_> = (0..500).map(|n| (n, 1000 + 20 * n as i64)).collect();
        assert_eq!(placed(&stamps), expected);
    }

    #[test]
    fn reordered_packets_go_back_to_their_places() {
        let delay = |n: u32| if n % 7 == 3 { 70 } else { 0 };
        let mut stamps: Vec<_> = (0..200).map(|n| sent(n, 0, delay(n))).collect();
        stamps.sort_by_key(|stamp| stamp.arrival.as_micros());
        let positions: Vec<_> = placed(&stamps).iter().map(|(_, position)| *position).collect();
        assert_eq!(positions, (0..200).map(|n| 20 * n).collect::<Vec<_>>());
    }

    #[test]
    fn a_duplicate_is_dropped_whenever_it_comes() {
        let mut timeline = Timeline::new(Timestamp::EPOCH);
        assert_eq!(timeline.push(sent(0, 0, 0), ()), Pushed::Kept);
        assert_eq!(timeline.push(sent(0, 0, 3), ()), Pushed::Duplicate);
        for n in 1..130 {
            timeline.push(sent(n, 0, 0), ());
            while timeline.pop().is_some() {}
        }
        assert_eq!(timeline.push(sent(0, 0, 2700), ()), Pushed::Late);
        assert_eq!(timeline.push(sent(129, 0, 2700), ()), Pushed::Duplicate);
    }

    #[test]
    fn a_sender_that_begins_anew_a_little_back_is_believed_after_a_few_packets() {
        let again = |n: u32| Stamp { timestamp: n * 160 + 99, ..sent(n - 200, 4000, 0) };
        let stamps: Vec<_> = (0..200).map(|n| sent(n, 0, 0)).chain((200..400).map(again)).collect();
        let out = placed(&stamps);
        assert_eq!(out.len(), 400 - (RESTART as usize - 1));
        assert!(out.iter().all(|(index, position)| *position == 20 * *index as i64));
    }

    #[test]
    fn loss_moves_nothing() {
        let kept = |n: &u32| n % 10 != 3 && !(100..140).contains(n);
        let stamps: Vec<_> = (0..300).filter(kept).map(|n| sent(n, 0, 0)).collect();
        let expected: Vec<_> = (0..300).filter(kept).map(|n| 20 * i64::from(n)).collect();
        let positions: Vec<_> = placed(&stamps).iter().map(|(_, position)| *position).collect();
        assert_eq!(positions, expected);
    }

    #[test]
    fn a_first_packet_that_was_held_up_does_not_shift_the_stream() {
        let delay = |n| if n < 10 { 80 } else { i64::from(n * 13 % 30) };
        let stamps: Vec<_> = (0..300).map(|n| sent(n, 500, delay(n))).collect();
        for (index, position) in placed(&stamps) {
            assert_eq!(position, 500 + 20 * index as i64);
        }
    }

    #[test]
    fn a_burst_after_a_stall_of_the_network_stays_where_it_was_spoken() {
        // Packets 100 to 174 all arrive with 175.
        let delay = |n: u32| if (100..175).contains(&n) { i64::from(175 - n) * 20 } else { 0 };
        let stamps: Vec<_> = (0..300).map(|n| sent(n, 0, delay(n))).collect();
        for (index, position) in placed(&stamps) {
            assert_eq!(position, 20 * index as i64);
        }
    }

    #[test]
    fn a_silence_that_is_not_sent_stays_as_long_as_it_was() {
        let stamps: Vec<_> = (0..50)
            .chain(800..850)
            .map(|n| Stamp {
                // Discontinuous transmission counts packets, not silence.
                sequence: if n < 50 { n as u16 } else { (n - 750) as u16 },
                marker: n == 800,
                ..sent(n, 0, 0)
            })
            .collect();
        let positions: Vec<_> = placed(&stamps).iter().map(|(_, position)| *position).collect();
        let expected: Vec<_> = (0..50).chain(800..850).map(|n| 20 * n).collect();
        assert_eq!(positions, expected);
    }

    #[test]
    fn a_sender_that_paused_and_counts_on_is_placed_by_its_arrival() {
        for pause in [300, 1500, 45_000] {
            let delay = |n| if n < 100 { 0 } else { pause };
            let stamps: Vec<_> = (0..200).map(|n| sent(n, 0, delay(n))).collect();
            for (index, position) in placed(&stamps) {
                assert_eq!(
                    position,
                    20 * index as i64 + delay(index as u32),
                    "pause of {pause} ms"
                );
            }
        }
    }

    #[test]
    fn another_source_is_placed_by_its_own_arrival() {
        let other = |n| Stamp { ssrc: 9, sequence: n as u16, timestamp: n * 160, ..sent(n, 0, 7) };
        let stamps: Vec<_> = (0..100).map(|n| sent(n, 0, 0)).chain((100..200).map(other)).collect();
        for (index, position) in placed(&stamps) {
            assert_eq!(position, 20 * index as i64 + if index < 100 { 0 } else { 7 });
        }
    }

    #[test]
    fn one_wild_timestamp_moves_only_its_own_packet() {
        for wild in [1_u32 << 31, 80_000, 0_u32.wrapping_sub(80_000), 12_345_678] {
            let mut stamps: Vec<_> = (0..200).map(|n| sent(n, 0, 0)).collect();
            stamps[120].timestamp = stamps[120].timestamp.wrapping_add(wild);
            for (index, position) in placed(&stamps) {
                assert_eq!(position, 20 * index as i64, "{wild}");
            }
        }
    }

    #[test]
    fn another_clock_rate_begins_anew() {
        let opus = |n| Stamp { clock_rate: 48_000, timestamp: n * 960, ..sent(n, 0, 0) };
        let stamps: Vec<_> = (0..100).map(|n| sent(n, 0, 0)).chain((100..200).map(opus)).collect();
        for (index, position) in placed(&stamps) {
            assert_eq!(position, 20 * index as i64);
        }
    }

    #[test]
    fn a_clock_that_is_off_is_corrected_between_words_before_it_is_heard() {
        // 500 parts in a million fast; a word of 2 s and a pause of 1 s, for ten minutes.
        let stamps: Vec<_> = (0..30_000_u32)
            .filter(|n| n % 150 < 100)
            .map(|n| {
                let micros = i64::from(n) * 19_990;
                Stamp { arrival: Timestamp::from_micros(micros), marker: false, ..sent(n, 0, 0) }
            })
            .collect();
        for (index, position) in placed(&stamps) {
            let arrival = stamps[index].arrival.as_micros() / 1000;
            assert!((position - arrival).abs() <= 15, "{index}: {position} for {arrival}");
        }
    }

    proptest! {
        #[test]
        fn any_packets_come_out_once_and_never_later_than_they_arrived(
            packets in prop::collection::vec(
                (0..3_u32, any::<u16>(), any::<u32>(), -50_000..2_000_000_i64, any::<bool>()),
                0..800,
            ),
        ) {
            let mut arrival = 0;
            let stamps: Vec<_> = packets
                .into_iter()
                .map(|(ssrc, sequence, timestamp, step, near)| {
                    arrival += step;
                    Stamp {
                        arrival: Timestamp::from_micros(arrival),
                        ssrc,
                        sequence: if near { sequence % 50 } else { sequence },
                        timestamp: if near { timestamp % 16_000 } else { timestamp },
                        clock_rate: if ssrc == 2 { 48_000 } else { 8000 },
                        marker: near,
                    }
                })
                .collect();
            let mut seen = std::collections::HashSet::new();
            for (index, position) in placed(&stamps) {
                prop_assert!(seen.insert(index));
                let arrived = stamps[index].arrival.as_micros() / 1000;
                prop_assert!(position <= arrived + TOLERANCE / MS + 1);
            }
        }

        #[test]
        fn loss_jitter_and_duplicates_leave_a_stream_within_its_least_delay(
            fates in prop::collection::vec((0..60_i64, 0..10_u8), 100..400),
        ) {
            let mut stamps = Vec::new();
            for (n, (jitter, fate)) in fates.iter().enumerate() {
                let stamp = sent(n as u32, 0, *jitter);
                stamps.extend(std::iter::repeat_n((n, stamp), match fate { 0 => 0, 1 => 2, _ => 1 }));
            }
            stamps.sort_by_key(|(_, stamp)| stamp.arrival.as_micros());
            let plain: Vec<_> = stamps.iter().map(|(_, stamp)| *stamp).collect();
            let out = placed(&plain);
            prop_assert!(out.is_sorted_by_key(|(index, _)| stamps[*index].0));
            for (index, position) in out {
                let true_position = 20 * stamps[index].0 as i64;
                prop_assert!((0..60).contains(&(position - true_position)));
            }
        }
    }
}
