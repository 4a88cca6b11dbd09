//! When a media thread lets packets gather.
//!
//! To wake a thread costs more than to relay a packet, for us and for whoever hears us. So while
//! packets come closer together than the tick, the thread sleeps out the tick and takes all that
//! came at once; when they come apart, each is relayed the moment it comes.

use std::time::{Duration, Instant};

/// Decides whether a thread sleeps before it looks at its sockets again.
#[derive(Debug)]
pub(super) struct Pace {
    tick: Duration,
    woke: Instant,
    /// From the wake-up before the last one to the last one.
    apart: Duration,
}

impl Pace {
    /// `tick` is the longest that a packet is held up; zero never holds one up.
    pub(super) fn new(tick: Duration, now: Instant) -> Self {
        Self { tick, woke: now, apart: Duration::MAX }
    }

    /// The thread has been woken.
    pub(super) fn woken(&mut self, now: Instant) {
        self.apart = now.saturating_duration_since(self.woke);
        self.woke = now;
    }

    /// How long to sleep before the next look at the sockets.
    pub(super) fn rest(&self, now: Instant) -> Option<Duration> {
        // Woken within the second tick: had it slept out the first, it would have had company.
        let busy = self.apart < self.tick * 2;
        let left = self.tick.saturating_sub(now.saturating_duration_since(self.woke));
        (busy && !left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_micros(500);

    #[test]
    fn packets_that_come_apart_are_never_held_up() {
        let start = Instant::now();
        let mut pace = Pace::new(TICK, start);
        assert_eq!(pace.rest(start), None);
        for n in 1..10 {
            let now = start + TICK * 2 * n;
            pace.woken(now);
            assert_eq!(pace.rest(now + TICK / 5), None);
        }
    }

    #[test]
    fn packets_that_come_close_together_are_taken_once_a_tick() {
        let start = Instant::now();
        let mut pace = Pace::new(TICK, start);
        pace.woken(start);
        pace.woken(start + TICK);
        assert_eq!(pace.rest(start + TICK), Some(TICK));
        assert_eq!(pace.rest(start + TICK * 5 / 4), Some(TICK * 3 / 4));
        assert_eq!(pace.rest(start + TICK * 2), None, "the work has taken the whole tick");
    }

    #[test]
    fn without_a_tick_nothing_is_held_up() {
        let start = Instant::now();
        let mut pace = Pace::new(Duration::ZERO, start);
        pace.woken(start);
        assert_eq!(pace.rest(start), None);
    }
}
