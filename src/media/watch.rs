//! The keys that stop captures with their own packet, before anybody has decided what they mean,
//! and how often each leg's were stopped.

use std::time::Instant;

use crate::call::media::Watched;
use crate::consent::{Keypad, Stop, Stops};
use crate::ids::Leg;

/// What is watched for on one leg.
#[derive(Debug, Default)]
pub(super) struct Watch {
    keypad: Keypad,
    sequences: Vec<Watched>,
}

impl Watch {
    /// Watches for these instead. Keys that were pressed before still count: what is watched for
    /// may change while somebody is at it.
    pub(super) fn replace(&mut self, sequences: Vec<Watched>) {
        self.sequences = sequences;
    }

    /// Whose captures stop with this key; empty, as a rule.
    pub(super) fn press(&mut self, at: Instant, key: char) -> Suspends {
        let sequences = self.sequences.iter().map(|watched| watched.keys.as_str());
        let complete = self.keypad.press(at, key, sequences);
        let complete = complete.and_then(|index| self.sequences.get(index));
        Suspends(Leg::BOTH.map(|leg| {
            complete.is_some_and(|watched| watched.suspends.contains(&leg)).then_some(leg)
        }))
    }
}

/// Legs whose captures stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suspends([Option<Leg>; 2]);

impl Suspends {
    fn legs(self) -> impl Iterator<Item = Leg> {
        self.0.into_iter().flatten()
    }
}

/// The last stop of each leg's captures, whether there was one to stop or not.
#[derive(Debug, Default)]
pub(super) struct LastStops([Stop; 2]);

impl LastStops {
    /// Of this leg.
    pub(super) fn of(&self, leg: Leg) -> Stop {
        let [caller, callee] = self.0;
        match leg {
            Leg::Caller => caller,
            Leg::Callee => callee,
        }
    }

    /// Counts one more of each of these legs.
    pub(super) fn count(&mut self, suspends: Suspends) -> Stops {
        let [caller, callee] = &mut self.0;
        suspends.legs().fold(Stops::NONE, |stops, leg| {
            let last = match leg {
                Leg::Caller => &mut *caller,
                Leg::Callee => &mut *callee,
            };
            *last = last.next();
            stops.with(leg, *last)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Suspends = Suspends([None; 2]);

    #[test]
    fn a_sequence_stops_whom_it_names_with_its_last_key_also_when_it_was_named_in_between() {
        let (mut watch, now) = (Watch::default(), Instant::now());
        let watched =
            |keys: &str, suspends: &[Leg]| Watched { keys: keys.into(), suspends: suspends.into() };
        assert_eq!(watch.press(now, '*'), NOBODY);
        watch.replace(vec![watched("*9", &Leg::BOTH), watched("*7", &[Leg::Callee])]);
        assert_eq!(watch.press(now, '9').legs().collect::<Vec<_>>(), Leg::BOTH);
        assert_eq!(watch.press(now, '9'), NOBODY);
        assert_eq!(watch.press(now, '*'), NOBODY);
        assert_eq!(watch.press(now, '7').legs().collect::<Vec<_>>(), [Leg::Callee]);
        watch.replace(Vec::new());
        assert_eq!(watch.press(now, '*'), NOBODY);
        assert_eq!(watch.press(now, '9'), NOBODY);
    }

    #[test]
    fn each_legs_stops_are_counted_by_themselves() {
        let mut last = LastStops::default();
        let first = Stop::default().next();
        let both = last.count(Suspends([Some(Leg::Caller), Some(Leg::Callee)]));
        assert_eq!(both.iter().collect::<Vec<_>>(), Leg::BOTH.map(|leg| (leg, first)));
        let callee = last.count(Suspends([None, Some(Leg::Callee)]));
        assert_eq!(callee, Stops::NONE.with(Leg::Callee, first.next()));
        assert_eq!(last.count(NOBODY), Stops::NONE);
        assert_eq!(Leg::BOTH.map(|leg| last.of(leg)), [first, first.next()]);
    }
}
