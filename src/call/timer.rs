//! Retransmission intervals (RFC 3261, 17.1.1.1).

use std::time::{Duration, Instant};

/// Round-trip estimate.
pub const T1: Duration = Duration::from_millis(500);

/// The longest interval between retransmissions.
pub const T2: Duration = Duration::from_secs(4);

/// 64·T1: how long anything waits for its answer.
pub const PATIENCE: Duration = Duration::from_secs(32);

/// Doubles from T1, to T2 where it is told so, until 64·T1 have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    next: Instant,
    interval: Duration,
    longest: Duration,
    end: Instant,
}

/// What a [`Backoff`] says at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    NotYet,
    /// Send again.
    Again,
    /// Give up.
    GiveUp,
}

impl Backoff {
    /// Starts when the first one is sent.
    #[must_use]
    pub fn starting(at: Instant) -> Self {
        Self { next: at + T1, interval: T1, longest: T2, end: at + PATIENCE }
    }

    /// The same, without an end to the doubling (RFC 3262, 3).
    #[must_use]
    pub fn doubling(at: Instant) -> Self {
        Self { longest: PATIENCE, ..Self::starting(at) }
    }

    /// When [`Backoff::due`] is to be asked.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.next.min(self.end)
    }

    /// What is due, taking note of it.
    pub fn due(&mut self, at: Instant) -> Due {
        if at >= self.end {
            return Due::GiveUp;
        }
        if at < self.next {
            return Due::NotYet;
        }
        self.interval = (self.interval * 2).min(self.longest);
        self.next = at + self.interval;
        Due::Again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_t2_and_gives_up_after_64_t1() {
        let start = Instant::now();
        let mut backoff = Backoff::starting(start);
        let mut sent = Vec::new();
        loop {
            let at = backoff.deadline();
            match backoff.due(at) {
                Due::Again => sent.push((at - start).as_millis()),
                Due::GiveUp => break,
                Due::NotYet => unreachable!("asked at its own deadline"),
            }
        }
        assert_eq!(&sent[..5], [500, 1500, 3500, 7500, 11500]);
        assert!(sent.iter().all(|at| *at < 32_000));
    }
}
