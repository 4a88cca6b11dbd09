//! What is known of the places that calls are sent to: which of them have failed, and until when
//! they are tried last.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::agent::next_hop::Place;
use crate::call::message::Hop;
use crate::clock;
use crate::config::NextHopCare;
use crate::sip::Failing;

/// How many places are known at most.
const KNOWN: usize = 256;

/// What is known of each place. Shared by who dials, who probes and who tells.
#[derive(Debug)]
pub(super) struct TargetBook {
    care: NextHopCare,
    known: Mutex<VecDeque<Known>>,
}

#[derive(Debug)]
struct Known {
    hop: Hop,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody has asked it anything yet.
    Unknown,
    Up,
    /// It failed a call: tried last until then.
    AvoidedUntil(Instant),
    /// It does not answer probes: tried last until it does.
    Down,
}

/// How a place is, for those who look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Unknown,
    Up,
    Avoided,
    Down,
}

impl Condition {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Condition::Unknown => "unknown",
            Condition::Up => "up",
            Condition::Avoided => "avoided",
            Condition::Down => "down",
        }
    }

    /// Whether it is tried before others that are not.
    pub(super) fn is_good(self) -> bool {
        matches!(self, Condition::Unknown | Condition::Up)
    }
}

impl TargetBook {
    pub(super) fn new(care: NextHopCare) -> Self {
        Self { care, known: Mutex::default() }
    }

    pub(super) fn care(&self) -> NextHopCare {
        self.care
    }

    /// Calls may be sent there.
    pub(super) fn note(&self, hop: Hop) {
        self.with(hop, |_| {});
    }

    /// It failed a call, or a probe could not be sent.
    pub(super) fn failed(&self, hop: Hop, why: Failing) {
        let (word, avoid_for) = match why {
            Failing::Silent => ("says nothing", Some(self.care.avoid_for)),
            Failing::Unreachable => ("cannot be reached", Some(self.care.avoid_for)),
            // One call may be one too many for it, without a word on the next.
            Failing::Unavailable(None) => ("says 503", None),
            Failing::Unavailable(Some(span)) => {
                ("says 503 for a while", Some(span.min(self.care.avoid_for)))
            }
        };
        let now = clock::now();
        self.with(hop, |known| {
            let (next_hop, news) = (hop_text(hop), known.condition(now).is_good());
            match news {
                true => tracing::warn!(next_hop, "a next hop is passed by: it {word}"),
                false => tracing::debug!(next_hop, "a next hop is passed by again: it {word}"),
            }
            if let Some(avoid_for) = avoid_for.filter(|span| !span.is_zero())
                && known.state != State::Down
            {
                known.state = State::AvoidedUntil(now + avoid_for);
            }
        });
    }

    /// It answered.
    pub(super) fn answered(&self, hop: Hop) {
        self.with(hop, |known| {
            if matches!(known.state, State::Down | State::AvoidedUntil(_)) {
                tracing::info!(next_hop = %hop_text(hop), "a next hop answers again");
            }
            known.state = State::Up;
        });
    }

    /// It did not answer a probe.
    pub(super) fn missed_probe(&self, hop: Hop) {
        self.with(hop, |known| {
            if known.state != State::Down {
                tracing::warn!(
                    next_hop = %hop_text(hop),
                    "a next hop does not answer OPTIONS: it is tried last until it does"
                );
            }
            known.state = State::Down;
        });
    }

    /// Puts those that have failed behind those that have not, and keeps the order otherwise.
    pub(super) fn sort(&self, places: &mut [Place]) {
        let now = clock::now();
        let known = self.lock();
        places.sort_by_key(|place| {
            let known = known.iter().find(|known| known.hop == place.hop);
            !known.is_none_or(|known| known.condition(now).is_good())
        });
    }

    /// Every place, in the order of their addresses.
    pub(super) fn conditions(&self) -> Vec<(Hop, Condition)> {
        let now = clock::now();
        let known = self.lock();
        let mut all: Vec<_> = known.iter().map(|known| (known.hop, known.condition(now))).collect();
        all.sort_by_key(|(hop, _)| (hop.addr, hop.transport.as_str()));
        all
    }

    /// Forgets all of them: the routes have changed.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn with(&self, hop: Hop, change: impl FnOnce(&mut Known)) {
        let mut all = self.lock();
        if !all.iter().any(|known| known.hop == hop) {
            all.push_back(Known { hop, state: State::Unknown });
            if all.len() > KNOWN {
                all.pop_front();
            }
        }
        if let Some(known) = all.iter_mut().find(|known| known.hop == hop) {
            change(known);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn condition(&self, now: Instant) -> Condition {
        match self.state {
            State::Up => Condition::Up,
            State::Down => Condition::Down,
            State::AvoidedUntil(until) if until > now => Condition::Avoided,
            State::Unknown | State::AvoidedUntil(_) => Condition::Unknown,
        }
    }
}

/// A place as it is told of: `udp:10.0.0.10:5060`.
pub(super) fn hop_text(hop: Hop) -> String {
    format!("{}:{}", hop.transport.as_str().to_ascii_lowercase(), hop.addr)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::call::message::Transport;

    fn book(avoid_for: Duration) -> TargetBook {
        TargetBook::new(NextHopCare {
            answer_within: Duration::from_secs(4),
            avoid_for,
            probe: None,
        })
    }

    fn place(port: u16) -> Place {
        let hop = Hop { transport: Transport::Udp, addr: ([192, 0, 2, 1], port).into() };
        Place { next: "sip:192.0.2.1".parse().unwrap(), hop }
    }

    fn order(book: &TargetBook) -> Vec<u16> {
        let mut places: Vec<_> = (1..=3).map(place).collect();
        book.sort(&mut places);
        places.iter().map(|place| place.hop.addr.port()).collect()
    }

    #[test]
    fn who_has_failed_is_tried_last_until_it_answers() {
        let book = book(Duration::from_secs(30));
        assert_eq!(order(&book), [1, 2, 3]);
        book.failed(place(1).hop, Failing::Silent);
        assert_eq!(order(&book), [2, 3, 1]);
        book.failed(place(2).hop, Failing::Unavailable(None));
        assert_eq!(order(&book), [2, 3, 1], "503 says nothing of the next call");
        book.missed_probe(place(3).hop);
        assert_eq!(order(&book), [2, 1, 3]);
        book.answered(place(1).hop);
        book.answered(place(3).hop);
        assert_eq!(order(&book), [1, 2, 3]);
    }

    #[test]
    fn who_has_failed_is_tried_again_in_its_place_when_its_time_is_over() {
        let book = book(Duration::from_millis(1));
        book.failed(place(1).hop, Failing::Unreachable);
        let over = clock::now() + Duration::from_millis(1);
        while clock::now() <= over {}
        assert_eq!(order(&book), [1, 2, 3]);
    }

    #[test]
    fn what_is_known_is_bounded() {
        let book = book(Duration::ZERO);
        (1..1000).for_each(|port| book.note(place(port).hop));
        assert_eq!(book.conditions().len(), KNOWN);
    }
}
