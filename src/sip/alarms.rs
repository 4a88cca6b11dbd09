//! The one timer queue of the edge: what is due, in order, with cancellation.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::time::Instant;

use sipx_sip::Timer;

/// What a transaction waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    /// A timer of RFC 3261, section 17.
    Sip(Timer),
    /// The end of an INVITE that was cancelled and never answered (RFC 3261, 9.1).
    GiveUp,
    /// The end of patience with a target that says nothing while others wait.
    Silent,
    /// The end of patience with a request that the call machine says nothing about.
    Forgotten,
}

/// Alarms by the serial number of their transaction. Each transaction has at most one of a kind.
///
/// A cancelled alarm stays in the heap until it is due or until the dead outnumber the living,
/// so the size is bounded by the transactions in flight.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    heap: BinaryHeap<Entry>,
    live: HashMap<u64, Vec<(Alarm, u64)>>,
    live_count: usize,
    order: u64,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    order: u64,
    serial: u64,
    alarm: Alarm,
}

impl Alarms {
    /// Sets an alarm; one of the same kind that was set before is replaced.
    pub(super) fn set(&mut self, serial: u64, alarm: Alarm, at: Instant) {
        self.order += 1;
        let order = self.order;
        let alarms = self.live.entry(serial).or_default();
        match alarms.iter_mut().find(|(kind, _)| *kind == alarm) {
            Some(slot) => slot.1 = order,
            None => {
                alarms.push((alarm, order));
                self.live_count += 1;
            }
        }
        self.heap.push(Entry { at, order, serial, alarm });
        self.compact();
    }

    /// Cancels one alarm of a transaction.
    pub(super) fn clear(&mut self, serial: u64, alarm: Alarm) {
        if let Some(alarms) = self.live.get_mut(&serial)
            && let Some(at) = alarms.iter().position(|(kind, _)| *kind == alarm)
        {
            alarms.swap_remove(at);
            self.live_count -= 1;
        }
    }

    /// Cancels every alarm of a transaction.
    pub(super) fn forget(&mut self, serial: u64) {
        self.live_count -= self.live.remove(&serial).map_or(0, |alarms| alarms.len());
    }

    /// When the next alarm is due.
    pub(super) fn next_at(&mut self) -> Option<Instant> {
        while let Some(entry) = self.heap.peek() {
            if is_live(&self.live, entry) {
                return Some(entry.at);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes the next alarm that is due at `now`.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(u64, Alarm)> {
        if self.next_at()? > now {
            return None;
        }
        let entry = self.heap.pop()?;
        self.clear(entry.serial, entry.alarm);
        Some((entry.serial, entry.alarm))
    }

    fn compact(&mut self) {
        if self.heap.len() > 2 * self.live_count + 64 {
            let live = &self.live;
            self.heap.retain(|entry| is_live(live, entry));
        }
    }
}

fn is_live(live: &HashMap<u64, Vec<(Alarm, u64)>>, entry: &Entry) -> bool {
    live.get(&entry.serial).is_some_and(|alarms| alarms.contains(&(entry.alarm, entry.order)))
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    // The earliest is the greatest, because the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn epoch() -> Instant {
        crate::clock::now()
    }

    #[test]
    fn alarms_go_off_in_order_once_and_not_when_cleared() {
        let start = epoch();
        let at = |ms| start + Duration::from_millis(ms);
        let mut alarms = Alarms::default();
        alarms.set(1, Alarm::Sip(Timer::A), at(30));
        alarms.set(2, Alarm::GiveUp, at(10));
        alarms.set(3, Alarm::Forgotten, at(20));
        alarms.set(3, Alarm::Sip(Timer::J), at(5));
        alarms.clear(3, Alarm::Sip(Timer::J));
        assert_eq!(alarms.next_at(), Some(at(10)));
        assert_eq!(alarms.pop_due(at(9)), None);
        assert_eq!(alarms.pop_due(at(40)), Some((2, Alarm::GiveUp)));
        alarms.forget(3);
        assert_eq!(alarms.pop_due(at(40)), Some((1, Alarm::Sip(Timer::A))));
        assert_eq!(alarms.pop_due(at(40)), None);
        assert_eq!(alarms.next_at(), None);
    }

    #[test]
    fn an_alarm_that_is_set_again_goes_off_at_the_new_time_only() {
        let start = epoch();
        let mut alarms = Alarms::default();
        alarms.set(1, Alarm::Sip(Timer::A), start);
        alarms.set(1, Alarm::Sip(Timer::A), start + Duration::from_secs(9));
        assert_eq!(alarms.pop_due(start + Duration::from_secs(1)), None);
        assert!(alarms.pop_due(start + Duration::from_secs(9)).is_some());
        assert!(alarms.pop_due(start + Duration::from_secs(99)).is_none());
    }

    #[test]
    fn cancelled_alarms_do_not_pile_up() {
        let start = epoch();
        let mut alarms = Alarms::default();
        for serial in 0..10_000 {
            alarms.set(serial, Alarm::Sip(Timer::B), start + Duration::from_secs(32));
            alarms.set(serial, Alarm::Sip(Timer::A), start + Duration::from_secs(1));
            alarms.forget(serial);
        }
        assert!(alarms.heap.len() <= 66, "{}", alarms.heap.len());
        assert!(alarms.live.is_empty());
        assert_eq!(alarms.live_count, 0);
    }
}
