//! What a lease may do to its grant, by itself: pauses, stops, the end.

use super::*;
use crate::consent::evidence::sample;
use crate::consent::grant::{Lease, issue};
use crate::consent::{DecisionFacts, Outcome, Stop};

fn decided(facts: DecisionFacts) -> Receipt<Decision> {
    Receipt::assumed(sample::decision(facts), Digest::of(b"evidence"))
}

fn permitted() -> (Lease, Grant) {
    issue(decided(sample::facts(1, PartyRef([1; 32]))), Stop::default()).unwrap()
}

fn stops() -> [Stop; 3] {
    let first = Stop::default().next();
    [first, first.next(), first.next().next()]
}

#[test]
fn only_a_decision_that_permits_makes_a_grant() {
    for outcome in [Outcome::Refused, Outcome::Objected, Outcome::Withdrawn] {
        let facts = DecisionFacts { outcome, ..sample::facts(1, PartyRef([1; 32])) };
        assert!(issue(decided(facts), Stop::default()).is_none(), "{outcome:?}");
    }
    let (lease, grant) = permitted();
    assert_eq!(grant.standing(), Standing::Live);
    assert_eq!((lease.stream(), lease.evidence()), (grant.stream(), grant.evidence()));
    assert_eq!(grant.evidence(), Digest::of(b"evidence"));
}

#[test]
fn a_pause_is_one_however_often_it_is_asked_for() {
    let (lease, grant) = permitted();
    lease.resume();
    assert!(grant.is_live(), "what is not paused is not resumed into something else");
    lease.pause();
    lease.pause();
    assert_eq!(grant.standing(), Standing::Paused);
    lease.resume();
    assert!(grant.is_live());
}

#[test]
fn a_stop_holds_until_it_is_noted_pause_or_not() {
    let (lease, mut grant) = permitted();
    let [first, second, third] = stops();
    grant.suspend(first);
    grant.suspend(second);
    lease.note(first);
    assert_eq!(grant.standing(), Standing::Paused, "one of two");
    lease.pause();
    lease.note(second);
    assert_eq!(grant.standing(), Standing::Paused, "the pause is left");
    lease.resume();
    assert!(grant.is_live());
    lease.pause();
    grant.suspend(third);
    lease.resume();
    assert_eq!(grant.standing(), Standing::Paused, "the stop is left");
    lease.note(first);
    assert_eq!(grant.standing(), Standing::Paused, "an older one says nothing of it");
    lease.note(third);
    assert!(grant.is_live());
}

#[test]
fn a_stop_that_was_noted_before_its_writer_came_stops_nothing_and_a_later_one_does() {
    let [first, second, third] = stops();
    let facts = sample::facts(1, PartyRef([1; 32]));
    let (lease, mut grant) = issue(decided(facts), first).unwrap();
    grant.suspend(first);
    assert!(grant.is_live(), "known before the grant");
    lease.note(second);
    grant.suspend(second);
    assert!(grant.is_live(), "known since");
    grant.suspend(third);
    assert_eq!(grant.standing(), Standing::Paused);
    grant.suspend(first);
    assert_eq!(grant.standing(), Standing::Paused, "an older one frees nothing");
}

#[test]
fn nothing_brings_a_grant_back_once_its_lease_is_gone() {
    for before in [
        |_: &Lease, _: &mut Grant| {},
        |l: &Lease, _: &mut Grant| l.pause(),
        |_: &Lease, g: &mut Grant| g.suspend(stops()[0]),
    ] {
        let (lease, mut grant) = permitted();
        before(&lease, &mut grant);
        drop(lease);
        assert_eq!(grant.standing(), Standing::Ended);
        grant.suspend(stops()[2]);
        assert_eq!(grant.standing(), Standing::Ended);
        assert!(!grant.is_live());
    }
}
