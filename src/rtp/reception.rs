//! What is received from one SSRC: which packets count, how many are lost, how much they jitter
//! (RFC 3550, A.1, A.3, A.8).

use std::time::Duration;

use super::sequence::ExtendedSequence;

/// A jump ahead by more than this is no loss but a new start (A.1).
const MAX_DROPOUT: u64 = 3000;

/// A packet later than this many others is no reordering (A.1).
const MAX_MISORDER: u64 = 100;

/// Reception from one SSRC.
#[derive(Clone, Debug)]
pub struct Reception {
    ssrc: u32,
    clock_rate: u32,
    sequence: ExtendedSequence,
    base: u64,
    received: u64,
    /// Packets received and lost before a restart of the sequence.
    earlier: (u64, u64),
    /// Bit n is set when the packet n before the highest has come.
    seen: u128,
    /// The number that would confirm a restart (`bad_seq` of A.1).
    restart: Option<u16>,
    expected_prior: u64,
    received_prior: u64,
    /// The transit time of the last packet, and jitter times 16, in timestamp units.
    transit: Option<u32>,
    jitter: u32,
}

/// Whether a packet counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The newest so far.
    Next,
    /// Late, but within reach of a jitter buffer.
    Late,
    /// Seen before.
    Duplicate,
    /// Out of all order: the first of a restarted sequence, or a stray.
    Stray,
}

/// What a report block says of a source (6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceptionReport {
    /// The source.
    pub ssrc: u32,
    /// Lost since the report before, in 1/256.
    pub fraction_lost: u8,
    /// Lost in all, in 24 bits.
    pub cumulative_lost: u32,
    /// The highest sequence number and how often it has wrapped.
    pub extended_highest: u32,
    /// In timestamp units.
    pub jitter: u32,
}

impl Reception {
    /// Starts with a source's first packet, which still has to be [`received`](Self::receive).
    #[must_use]
    pub fn new(ssrc: u32, first: u16, clock_rate: u32) -> Self {
        let sequence = ExtendedSequence::starting_at(first);
        Self {
            ssrc,
            clock_rate,
            base: sequence.highest(),
            sequence,
            received: 0,
            earlier: (0, 0),
            seen: 0,
            restart: None,
            expected_prior: 0,
            received_prior: 0,
            transit: None,
            jitter: 0,
        }
    }

    /// The source.
    #[must_use]
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Takes note of a packet of audio. Two in a row that are out of all order begin a new count.
    pub fn receive(&mut self, sequence: u16) -> Arrival {
        let arrival = self.place(sequence);
        if arrival == Arrival::Stray
            && self.restart.replace(sequence.wrapping_add(1)) == Some(sequence)
        {
            self.begin_again(sequence);
            return Arrival::Next;
        }
        arrival
    }

    /// Takes note of a telephone-event. It never begins a new count, so that an old one that is
    /// sent again stays a stray.
    pub fn receive_event(&mut self, sequence: u16) -> Arrival {
        self.place(sequence)
    }

    fn place(&mut self, sequence: u16) -> Arrival {
        let full = self.sequence.peek(sequence);
        let highest = self.sequence.highest();
        if full > highest && full - highest < MAX_DROPOUT {
            let step = full - highest;
            self.seen = if step < 128 { self.seen << step } else { 0 } | 1;
            self.sequence.extend(sequence);
            self.restart = None;
            self.received += 1;
            return Arrival::Next;
        }
        if full <= highest && highest - full < MAX_MISORDER {
            let bit = 1u128 << (highest - full);
            if self.seen & bit != 0 {
                return Arrival::Duplicate;
            }
            self.seen |= bit;
            self.received += 1;
            // What came before the first packet was expected too.
            self.base = self.base.min(full);
            return if self.received == 1 { Arrival::Next } else { Arrival::Late };
        }
        Arrival::Stray
    }

    /// Takes note of when a packet of audio came: its timestamp, and the time since any fixed
    /// moment.
    pub fn time(&mut self, timestamp: u32, arrived: Duration) {
        let ticks = arrived.as_nanos() * u128::from(self.clock_rate) / 1_000_000_000;
        let transit = (ticks as u32).wrapping_sub(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let change = transit.wrapping_sub(before).cast_signed().unsigned_abs();
            // A jump of more than ten seconds is a new start of the sender's clock.
            if u64::from(change) < u64::from(self.clock_rate) * 10 {
                self.jitter = (self.jitter + change).saturating_sub((self.jitter + 8) >> 4);
            }
        }
    }

    /// Packets that came, each once.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.earlier.0 + self.received
    }

    /// Packets that did not come.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.earlier.1 + self.expected().saturating_sub(self.received)
    }

    /// The interarrival jitter.
    #[must_use]
    pub fn jitter(&self) -> Duration {
        let nanos = u64::from(self.jitter >> 4) * 1_000_000_000;
        Duration::from_nanos(nanos / u64::from(self.clock_rate.max(1)))
    }

    /// What to report; the fraction is that since the report before.
    pub fn report(&mut self) -> ReceptionReport {
        let expected = self.expected();
        let expected_since = expected.saturating_sub(self.expected_prior);
        let received_since = self.received.saturating_sub(self.received_prior);
        self.expected_prior = expected;
        self.received_prior = self.received;
        let lost_since = expected_since.saturating_sub(received_since);
        let fraction = (lost_since * 256).checked_div(expected_since).unwrap_or(0);
        ReceptionReport {
            ssrc: self.ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            cumulative_lost: u32::try_from(self.lost()).unwrap_or(u32::MAX).min(0x7f_ffff),
            // One turn ahead, as numbers are here.
            extended_highest: self.sequence.highest().saturating_sub(1 << 16) as u32,
            jitter: self.jitter >> 4,
        }
    }

    fn expected(&self) -> u64 {
        if self.received == 0 { 0 } else { self.sequence.highest() - self.base + 1 }
    }

    fn begin_again(&mut self, sequence: u16) {
        self.earlier = (self.received(), self.lost());
        self.sequence = ExtendedSequence::starting_at(sequence);
        self.base = self.sequence.highest();
        (self.received, self.seen, self.restart) = (1, 1, None);
        (self.expected_prior, self.received_prior) = (0, 0);
        self.transit = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reception(numbers: &[u16]) -> (Reception, Vec<Arrival>) {
        let mut reception = Reception::new(7, numbers[0], 8000);
        let arrivals = numbers.iter().map(|n| reception.receive(*n)).collect();
        (reception, arrivals)
    }

    #[test]
    fn losses_are_counted_and_late_packets_are_no_losses() {
        use Arrival::*;
        let (mut reception, arrivals) = reception(&[65534, 65535, 2, 1, 1, 5]);
        assert_eq!(arrivals, [Next, Next, Next, Late, Duplicate, Next]);
        assert_eq!((reception.received(), reception.lost()), (5, 3));
        let report = reception.report();
        assert_eq!(report.cumulative_lost, 3);
        assert_eq!(report.fraction_lost, (3u32 * 256 / 8) as u8);
        assert_eq!(report.extended_highest, 0x1_0005);
        (6..16).for_each(|n| assert_eq!(reception.receive(n), Next));
        assert_eq!(reception.report().fraction_lost, 0, "only since the last report");
    }

    #[test]
    fn a_stray_changes_nothing_and_two_in_a_row_are_a_restart() {
        let (mut reception, _) = reception(&[10, 11, 12]);
        assert_eq!(reception.receive(40_000), Arrival::Stray);
        assert_eq!(reception.receive(13), Arrival::Next);
        assert_eq!(reception.receive(40_001), Arrival::Stray, "the row was broken");
        assert_eq!(reception.receive(40_002), Arrival::Next);
        assert_eq!((reception.received(), reception.lost()), (5, 0));
    }

    #[test]
    fn packets_before_the_first_are_expected_too() {
        let (reception, _) = reception(&[0, 65534]);
        assert_eq!((reception.received(), reception.lost()), (2, 1));
    }

    #[test]
    fn a_steady_stream_has_no_jitter_and_an_uneven_one_does() {
        let steady = |uneven_ms: u64| {
            let mut reception = Reception::new(1, 0, 8000);
            for n in 0..200u32 {
                let late = if n % 2 == 0 { 0 } else { uneven_ms };
                let at = Duration::from_millis(u64::from(n) * 20 + late);
                reception.time((n * 160).wrapping_sub(5000), at);
            }
            reception.jitter().as_millis()
        };
        assert_eq!(steady(0), 0);
        assert!((8..=10).contains(&steady(10)), "{}", steady(10));
    }

    proptest! {
        #[test]
        fn any_numbers_keep_the_books_in_order(
            numbers in proptest::collection::vec(any::<u16>(), 1..300),
            times in proptest::collection::vec((any::<u32>(), 0u64..1 << 40), 1..50),
        ) {
            let (mut reception, arrivals) = reception(&numbers);
            let counted =
                arrivals.iter().filter(|a| matches!(a, Arrival::Next | Arrival::Late)).count();
            prop_assert_eq!(reception.received(), counted as u64);
            times.iter().for_each(|(ts, at)| reception.time(*ts, Duration::from_nanos(*at)));
            let _ = (reception.lost(), reception.report(), reception.jitter());
        }

        #[test]
        fn what_is_dropped_is_what_is_lost(
            first in any::<u16>(),
            kept in proptest::collection::vec(any::<bool>(), 1..2000),
        ) {
            let mut kept = kept;
            kept[0] = true;
            *kept.last_mut().unwrap() = true;
            let numbers: Vec<u16> = kept.iter().enumerate()
                .filter(|(_, kept)| **kept)
                .map(|(n, _)| first.wrapping_add(n as u16))
                .collect();
            let (reception, _) = reception(&numbers);
            prop_assert_eq!(reception.lost(), kept.iter().filter(|k| !**k).count() as u64);
        }
    }
}
