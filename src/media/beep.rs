//! The tone that tells both parties now and then that they are recorded.
//!
//! Into G.711 it is mixed, packet by packet and only for as long as it lasts. What cannot be mixed
//! without decoding a whole stream hears the tone in place of the other party, for its fifth of a
//! second. No recording holds it: it is written as received.

use std::time::{Duration, Instant};

use super::io::LONGEST;
use crate::codec::Law;
use crate::rtp::Codec;

/// However often it is asked for, it leaves room for what is said.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(500);

/// A party who has not been heard for this long has nothing that a tone could be mixed into.
pub(super) const FLOWING: Duration = Duration::from_millis(250);

/// What is left of a tone by then is not worth hearing any more.
const STALE: Duration = Duration::from_millis(600);

/// When the tone is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beeps {
    every: Duration,
    due: Instant,
}

impl Beeps {
    /// The first one comes after the interval: at the beginning there is a prompt.
    pub(super) fn new(every: Duration, now: Instant) -> Self {
        let every = every.max(SHORTEST_INTERVAL);
        Self { every, due: now + every }
    }

    pub(super) fn every(&self) -> Duration {
        self.every
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Whether it is time, and if so, when the next time is.
    pub(super) fn ring(&mut self, now: Instant) -> bool {
        let ring = self.due <= now;
        if ring {
            self.due = now + self.every;
        }
        ring
    }
}

/// A tone on its way into the packets that a leg hears.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mixing {
    law: Law,
    /// Samples that have been mixed.
    done: usize,
    until: Instant,
}

impl Mixing {
    /// `None` where the codec's packets cannot be mixed into.
    pub(super) fn new(codec: Codec, now: Instant) -> Option<Self> {
        let law = match codec {
            Codec::Pcmu => Law::Mu,
            Codec::Pcma => Law::A,
            Codec::G722 | Codec::Opus => return None,
        };
        Some(Self { law, done: 0, until: now + STALE })
    }

    /// The payload with the next part of the tone in it; `None` when the tone is over.
    pub(super) fn mix<'a>(
        &mut self,
        payload: &[u8],
        tone: &[i16],
        space: &'a mut [u8; LONGEST],
        now: Instant,
    ) -> Option<&'a [u8]> {
        let rest = tone.get(self.done..).filter(|rest| !rest.is_empty() && now <= self.until)?;
        let space = space.get_mut(..payload.len())?;
        self.law.mix(payload, rest, space);
        self.done += payload.len();
        Some(space)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tone_is_mixed_in_once_from_its_first_sample_to_its_last() {
        let now = Instant::now();
        let tone: Vec<i16> = (1..=400).map(|n| n * 40).collect();
        let mut mixing = Mixing::new(Codec::Pcmu, now).unwrap();
        let mut space = [0; LONGEST];
        let mut heard = Vec::new();
        while let Some(mixed) = mixing.mix(&[0xff; 160], &tone, &mut space, now) {
            heard.extend(mixed.iter().map(|byte| Law::Mu.decode(*byte)));
        }
        assert_eq!(heard.len(), 480);
        for (heard, tone) in heard.iter().zip(tone.iter().chain([0; 80].iter())) {
            assert!((heard - tone).abs() <= tone / 16 + 8, "{heard} for {tone}");
        }
    }

    #[test]
    fn what_comes_too_late_or_is_no_g711_is_left_alone() {
        let now = Instant::now();
        let mut mixing = Mixing::new(Codec::Pcma, now).unwrap();
        let late = now + STALE + Duration::from_millis(1);
        assert!(mixing.mix(&[0xd5; 160], &[1000; 1600], &mut [0; LONGEST], late).is_none());
        assert!(mixing.mix(&[0xd5; LONGEST + 1], &[1000], &mut [0; LONGEST], now).is_none());
        assert!(Mixing::new(Codec::Opus, now).is_none() && Mixing::new(Codec::G722, now).is_none());
    }

    #[test]
    fn it_is_due_once_an_interval_however_late_anybody_looks() {
        let now = Instant::now();
        let mut beeps = Beeps::new(Duration::from_secs(15), now);
        assert!(!beeps.ring(now) && !beeps.ring(now + Duration::from_secs(14)));
        let late = now + Duration::from_secs(40);
        assert!(beeps.ring(late) && !beeps.ring(late));
        assert_eq!(beeps.due(), late + Duration::from_secs(15));
        assert!(Beeps::new(Duration::ZERO, now).every() >= Duration::from_millis(500));
    }
}
