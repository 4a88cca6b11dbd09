//! Stops: writing that keys have ended with their own packet, before anybody has decided anything.
//!
//! Whoever writes counts the stops of each leg from the beginning of the call, whether a writer is
//! there or not, and reports each one with the key that completed it. The permission machine
//! takes note of them. A stream is written only where every stop has been noted: so keys that
//! overtake a grant on its way to the writer stop that writer too.

use crate::ids::Leg;

/// The number of a stop of one leg's writing, counted from 1; the default is none at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stop(u32);

impl Stop {
    /// The one after.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    pub(super) fn number(self) -> u32 {
        self.0
    }
}

/// What one key stopped: of each leg the number of the stop, where there was one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stops([Option<Stop>; 2]);

impl Stops {
    /// The key stopped nothing.
    pub const NONE: Self = Self([None; 2]);

    /// The same, with a stop of this leg.
    #[must_use]
    pub fn with(mut self, leg: Leg, stop: Stop) -> Self {
        let [caller, callee] = &mut self.0;
        match leg {
            Leg::Caller => *caller = Some(stop),
            Leg::Callee => *callee = Some(stop),
        }
        self
    }

    /// Whether the key stopped nothing.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// Each leg that was stopped, with the number of its stop.
    pub fn iter(self) -> impl Iterator<Item = (Leg, Stop)> {
        Leg::BOTH.into_iter().zip(self.0).filter_map(|(leg, stop)| Some((leg, stop?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stops_nobody_or_whom_it_names() {
        let first = Stop::default().next();
        let both = Stops::NONE.with(Leg::Callee, first.next()).with(Leg::Caller, first);
        assert!(Stops::NONE.is_empty() && Stops::NONE.iter().next().is_none());
        assert!(!both.is_empty());
        let named: Vec<_> = both.iter().collect();
        assert_eq!(named, [(Leg::Caller, first), (Leg::Callee, first.next())]);
    }
}
