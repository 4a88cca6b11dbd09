//! What a lease may do to its grant, by itself: pauses, suspensions, the end.

use super::*;
use crate::consent::evidence::sample;
use crate::consent::grant::{Lease, issue};
use crate::consent::{DecisionFacts, Outcome};

/// How many suspensions a grant counts.
const MOST: u32 = 0xffff;

fn decided(facts: DecisionFacts) -> Receipt<Decision> {
    Receipt::assumed(sample::decision(facts), Digest::of(b"evidence"))
}

fn permitted() -> (Lease, Grant) {
    issue(decided(sample::facts(1, PartyRef([1; 32])))).unwrap()
}

#[test]
fn only_a_decision_that_permits_makes_a_grant() {
    for outcome in [Outcome::Refused, Outcome::Objected, Outcome::Withdrawn] {
        let facts = DecisionFacts { outcome, ..sample::facts(1, PartyRef([1; 32])) };
        assert!(issue(decided(facts)).is_none(), "{outcome:?}");
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
fn every_suspension_waits_for_its_own_answer_pause_or_not() {
    let (lease, grant) = permitted();
    lease.note();
    assert!(grant.is_live(), "there was nothing to note");
    grant.suspend();
    grant.suspend();
    lease.note();
    assert_eq!(grant.standing(), Standing::Paused, "one of two");
    lease.pause();
    lease.note();
    assert_eq!(grant.standing(), Standing::Paused, "the pause is left");
    lease.resume();
    assert!(grant.is_live());
    lease.pause();
    grant.suspend();
    lease.resume();
    assert_eq!(grant.standing(), Standing::Paused, "the suspension is left");
    lease.note();
    assert!(grant.is_live());
}

#[test]
fn suspensions_beyond_what_is_counted_never_free_a_stream() {
    let (lease, grant) = permitted();
    for _ in 0..MOST + 10 {
        grant.suspend();
    }
    for _ in 1..MOST {
        lease.note();
        assert_eq!(grant.standing(), Standing::Paused);
    }
    lease.note();
    assert!(grant.is_live());
}

#[test]
fn nothing_brings_a_grant_back_once_its_lease_is_gone() {
    for before in [
        |_: &Lease, _: &Grant| {},
        |l: &Lease, _: &Grant| l.pause(),
        |_: &Lease, g: &Grant| g.suspend(),
    ] {
        let (lease, grant) = permitted();
        before(&lease, &grant);
        drop(lease);
        assert_eq!(grant.standing(), Standing::Ended);
        grant.suspend();
        assert_eq!(grant.standing(), Standing::Ended);
        assert!(!grant.is_live());
    }
}
