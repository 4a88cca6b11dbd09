//! What a media thread has to do at which time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Which timer of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// The next frame of what is played.
    Frame,
    /// RTCP, and a look at whether the peer still sends.
    Report,
    /// A handshake that is to be looked after.
    Handshake,
    /// The tone of a recording: for both legs, set with the caller's.
    Beep,
}

/// A timer that has gone off. Whether the leg that it was set for is still there is for its
/// receiver to see: timers are never taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timer {
    pub(super) at: Instant,
    pub(super) slot: usize,
    /// The leg's number, never used twice.
    pub(super) leg: u64,
    pub(super) due: Due,
}

/// A heap of timers. A leg sets one of each kind at a time, so it stays as small as the legs are
/// few.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Timer>>,
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer) {
        self.heap.push(Reverse(timer));
    }

    /// The next timer that has gone off by `now`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Timer> {
        let Reverse(next) = self.heap.peek()?;
        if next.at > now {
            return None;
        }
        self.heap.pop().map(|Reverse(timer)| timer)
    }

    /// How long to sleep at most.
    pub(super) fn until_next(&self, now: Instant) -> Option<Duration> {
        self.heap.peek().map(|Reverse(next)| next.at.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_go_off_in_order_and_not_before_their_time() {
        let start = Instant::now();
        let mut timers = Timers::default();
        for after in [30, 10, 20] {
            let at = start + Duration::from_millis(after);
            timers.set(Timer { at, slot: 0, leg: after, due: Due::Frame });
        }
        assert_eq!(timers.until_next(start), Some(Duration::from_millis(10)));
        assert_eq!(timers.pop(start), None);
        let late = start + Duration::from_millis(25);
        let legs: Vec<_> = std::iter::from_fn(|| timers.pop(late)).map(|t| t.leg).collect();
        assert_eq!(legs, [10, 20]);
        assert_eq!(timers.until_next(late), Some(Duration::from_millis(5)));
    }
}
