//! The keys that stop captures with their own packet, before anybody has decided what they mean.

use std::time::Instant;

use crate::call::media::Watched;
use crate::consent::Keypad;
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
    pub(super) fn is_empty(self) -> bool {
        self.legs().next().is_none()
    }

    pub(super) fn legs(self) -> impl Iterator<Item = Leg> {
        self.0.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_stops_whom_it_names_with_its_last_key_also_when_it_was_named_in_between() {
        let (mut watch, now) = (Watch::default(), Instant::now());
        let watched =
            |keys: &str, suspends: &[Leg]| Watched { keys: keys.into(), suspends: suspends.into() };
        assert!(watch.press(now, '*').is_empty());
        watch.replace(vec![watched("*9", &Leg::BOTH), watched("*7", &[Leg::Callee])]);
        assert_eq!(watch.press(now, '9').legs().collect::<Vec<_>>(), Leg::BOTH);
        assert!(watch.press(now, '9').is_empty());
        assert!(watch.press(now, '*').is_empty());
        assert_eq!(watch.press(now, '7').legs().collect::<Vec<_>>(), [Leg::Callee]);
        watch.replace(Vec::new());
        assert!(watch.press(now, '*').is_empty() && watch.press(now, '9').is_empty());
    }
}
