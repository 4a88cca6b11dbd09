//! Permission is taken back at any time, and given again as a new one.

use super::*;
use crate::consent::machine::{Denial, Order};
use crate::consent::{Answer, Outcome};

/// A call in which both parties are recorded.
fn recorded<'a>(scratch: &'a Scratch, policy: Policy) -> Rig<'a> {
    let mut rig = Rig::new(scratch, policy);
    rig.present(Leg::Caller);
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '1');
    rig.commit();
    rig.present(Leg::Callee);
    rig.commit();
    assert_eq!(rig.live(), Leg::BOTH);
    rig
}

fn again() -> Policy {
    Policy { accept_again: AcceptAgain::ByKey, ..policy() }
}

/// Somebody else on the caller's leg.
fn another() -> PartyFacts {
    PartyFacts {
        leg: Leg::Caller,
        party_ref: PartyRef([77; 32]),
        locale: "de-DE".to_owned(),
        transport: MediaTransport::Rtp,
        prior: Prior::Nothing,
    }
}

#[test]
fn the_keys_end_the_lease_before_the_withdrawal_is_written_down() {
    let scratch = Scratch::new();
    for leg in Leg::BOTH {
        let mut rig = recorded(&scratch, policy());
        let permitted: Vec<Digest> = rig.grants.iter().map(Grant::evidence).collect();
        rig.keys(leg, "*9");
        assert_eq!(rig.live(), [], "under the scope all, everybody's stream stops");
        assert_eq!(rig.released.len(), 2);
        assert_eq!(rig.over, [rig.grants[0].stream().recording]);
        let [withdrawn] = <[Decision; 1]>::try_from(std::mem::take(&mut rig.pending)).unwrap();
        let facts = withdrawn.facts();
        assert_eq!((facts.leg, facts.outcome), (leg, Outcome::Withdrawn));
        assert_eq!(facts.recording, rig.grants[0].stream().recording);
        assert_eq!(facts.ends, Some(permitted[usize::from(leg.stream().0)]));
        assert!(matches!(&facts.answer, Answer::Keys { keys, .. } if keys == "*9"));
        let receipt = scratch.commit(withdrawn);
        rig.feed(Input::Durable(receipt));
        assert!(rig.said.contains(&(leg, "withdrawn")), "{:?}", rig.said);
        assert!(rig.said.contains(&(leg.other(), "stopped")), "{:?}", rig.said);
    }
}

#[test]
fn per_party_the_other_goes_on() {
    let scratch = Scratch::new();
    let mut rig = recorded(&scratch, Policy { scope: Scope::PerParty, ..policy() });
    rig.keys(Leg::Caller, "*9");
    rig.commit();
    assert_eq!(rig.live(), [Leg::Callee]);
    assert_eq!(rig.released, [Leg::Caller]);
    assert_eq!(rig.over, [], "the callee's stream is still written");
    assert_eq!(rig.said, [(Leg::Caller, "withdrawn")]);
    rig.keys(Leg::Callee, "*9");
    assert_eq!(rig.over.len(), 1);
}

#[test]
fn a_withdrawal_stands_even_where_it_cannot_be_written_down() {
    let scratch = Scratch::new();
    let mut rig = recorded(&scratch, again());
    rig.keys(Leg::Caller, "*9");
    rig.fail();
    assert_eq!(rig.live(), []);
    assert!(rig.said.contains(&(Leg::Caller, "withdrawn")));
}

#[test]
fn a_command_withdraws_like_keys() {
    let scratch = Scratch::new();
    let mut rig = recorded(&scratch, policy());
    rig.feed(Input::Command { order: Order::Withdraw(Leg::Caller), id: "c-1".into() });
    assert_eq!(rig.live(), []);
    let facts = rig.pending[0].facts();
    assert_eq!(facts.answer, Answer::Command { id: "c-1".into() });
    assert_eq!(facts.outcome, Outcome::Withdrawn);
}

#[test]
fn permission_is_given_again_as_a_new_recording_with_new_evidence() {
    let scratch = Scratch::new();
    for leg in Leg::BOTH {
        let mut rig = recorded(&scratch, again());
        rig.keys(leg, "*9");
        rig.key(leg, '1');
        assert_eq!(rig.pending.len(), 1, "not before the withdrawal is decided");
        rig.commit();
        rig.key(leg, '1');
        assert_eq!(rig.pending.len(), 2, "the other's permission is evidenced anew");
        let answers: Vec<_> = rig.pending.iter().map(|d| d.facts().answer.clone()).collect();
        assert!(answers.iter().any(|a| matches!(a, Answer::Earlier { .. })), "{answers:?}");
        rig.commit();
        assert_eq!(rig.live(), Leg::BOTH);
        assert_eq!(rig.grants.len(), 4);
        let [old, new] = [0, 2].map(|at: usize| rig.grants[at].stream().recording);
        assert_eq!(new, old.successor());
        assert!(rig.grants[2..].iter().all(|grant| grant.stream().recording == new));
        assert!(rig.said.contains(&(leg, "accepted")));
    }
}

#[test]
fn both_may_withdraw_and_both_have_to_agree_again() {
    let scratch = Scratch::new();
    let mut rig = recorded(&scratch, again());
    rig.keys(Leg::Caller, "*9");
    rig.commit();
    rig.keys(Leg::Callee, "*9");
    rig.commit();
    rig.key(Leg::Caller, '1');
    rig.commit();
    assert_eq!(rig.live(), [], "the callee has not agreed again");
    rig.key(Leg::Callee, '1');
    rig.commit();
    assert_eq!(rig.live(), Leg::BOTH);
}

#[test]
fn per_party_who_agrees_again_gets_a_recording_of_their_own() {
    let scratch = Scratch::new();
    let mut rig = recorded(&scratch, Policy { scope: Scope::PerParty, ..again() });
    rig.keys(Leg::Caller, "*9");
    rig.commit();
    rig.key(Leg::Caller, '1');
    rig.commit();
    assert_eq!(rig.live(), [Leg::Callee, Leg::Caller]);
    assert_ne!(rig.grants[2].stream().recording, rig.grants[1].stream().recording);
    assert_eq!(rig.over, []);
}

#[test]
fn without_accept_again_the_key_means_nothing_and_a_refusal_is_never_undone() {
    let scratch = Scratch::new();
    let mut rig = recorded(&scratch, policy());
    rig.keys(Leg::Caller, "*9");
    rig.commit();
    rig.key(Leg::Caller, '1');
    assert!(rig.pending.is_empty());

    let mut rig = Rig::new(&scratch, again());
    rig.present(Leg::Caller);
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '2');
    rig.commit();
    rig.key(Leg::Caller, '1');
    assert!(rig.pending.is_empty(), "a digit for somebody's menu is no permission");
}

#[test]
fn the_keys_refuse_before_there_is_a_permission() {
    let scratch = Scratch::new();
    let objectable = Policy {
        gate: Gate::NoObjection,
        basis: Basis::LegitimateInterests,
        notice: "notice-no-objection".into(),
        ..policy()
    };
    for (policy, outcome) in [(policy(), Outcome::Refused), (objectable, Outcome::Objected)] {
        for during in [true, false] {
            let mut rig = Rig::new(&scratch, policy.clone());
            rig.present(Leg::Caller);
            if during {
                rig.keys(Leg::Caller, "*9");
                rig.played(Leg::Caller, |notice| notice.completed = false);
            } else {
                rig.played(Leg::Caller, |_| {});
                rig.keys(Leg::Caller, "*9");
            }
            assert_eq!(rig.pending[0].facts().outcome, outcome);
            rig.commit();
            assert!(matches!(rig.verdict, Some(Verdict::Unrecorded { .. })));
        }
    }
}

#[test]
fn a_withdrawal_overtakes_a_permission_that_is_being_written_down() {
    let scratch = Scratch::new();
    let mut rig = Rig::new(&scratch, policy());
    rig.present(Leg::Caller);
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '1');
    rig.keys(Leg::Caller, "*9");
    rig.commit();
    assert_eq!(rig.grants.len(), 0);
    let why = rig.verdict;
    assert!(matches!(why, Some(Verdict::Unrecorded { why: Denial::Withdrawn, .. })), "{why:?}");
}

#[test]
fn who_took_back_what_was_being_written_down_agrees_again_to_another_recording() {
    let scratch = Scratch::new();
    for scope in [Scope::All, Scope::PerParty] {
        let mut rig = Rig::new(&scratch, Policy { scope, ..again() });
        rig.present(Leg::Caller);
        rig.present(Leg::Callee);
        rig.played(Leg::Caller, |_| {});
        rig.key(Leg::Caller, '1');
        rig.keys(Leg::Caller, "*9");
        rig.commit();
        rig.key(Leg::Caller, '1');
        rig.commit();
        rig.commit();
        let live = rig.live();
        assert!(live.contains(&Leg::Caller) && live.contains(&Leg::Callee), "{scope:?}: {live:?}");
    }
}

#[test]
fn an_objection_is_what_a_withdrawal_is_called_where_nobody_consented() {
    let scratch = Scratch::new();
    let objectable = Policy {
        gate: Gate::NoObjection,
        basis: Basis::LegitimateInterests,
        notice: "notice-no-objection".into(),
        ..policy()
    };
    let mut rig = Rig::new(&scratch, objectable);
    rig.present(Leg::Caller);
    rig.played(Leg::Caller, |_| {});
    rig.wait();
    rig.commit();
    assert_eq!(rig.live(), Leg::BOTH);
    rig.keys(Leg::Caller, "*9");
    let facts = rig.pending[0].facts();
    assert_eq!(facts.outcome, Outcome::Objected);
    assert!(facts.ends.is_some());
}

#[test]
fn somebody_else_on_the_line_is_asked_before_anything_more_is_written() {
    let scratch = Scratch::new();
    let mut rig = recorded(&scratch, policy());
    let first = rig.grants[0].stream().recording;
    rig.feed(Input::Replaced { party: another() });
    assert_eq!(rig.live(), []);
    assert_eq!(rig.over, [first]);
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '1');
    rig.commit();
    assert_eq!(rig.live(), Leg::BOTH);
    assert_eq!(rig.grants[2].stream().recording, first.successor());
}

#[test]
fn who_comes_later_hears_what_came_of_their_answer() {
    let scratch = Scratch::new();
    for (on_refusal, farewells) in [(OnRefusal::Continue, 0), (OnRefusal::HangUp, 1)] {
        let refusable = || Policy { on_refusal, ..policy() };
        let mut first = Rig::new(&scratch, refusable());
        first.present(Leg::Caller);
        first.played(Leg::Caller, |_| {});
        first.key(Leg::Caller, '2');
        first.commit();
        // The verdict says all that there is to say.
        assert_eq!((&first.said[..], first.farewells), (&[][..], 0));
        assert!(first.verdict.is_some());

        let mut rig = recorded(&scratch, refusable());
        rig.feed(Input::Replaced { party: another() });
        rig.played(Leg::Caller, |_| {});
        rig.key(Leg::Caller, '2');
        rig.commit();
        assert!(rig.said.contains(&(Leg::Caller, "declined")), "{:?}", rig.said);
        assert_eq!(rig.farewells, farewells);
    }
}

#[test]
fn who_comes_later_hears_that_their_yes_could_not_be_kept() {
    let scratch = Scratch::new();
    let mut first = Rig::new(&scratch, policy());
    first.present(Leg::Caller);
    first.played(Leg::Caller, |_| {});
    first.key(Leg::Caller, '1');
    first.fail();
    assert_eq!(first.said, [], "the verdict says it");

    let mut rig = recorded(&scratch, policy());
    rig.feed(Input::Replaced { party: another() });
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '1');
    rig.fail();
    assert!(rig.said.contains(&(Leg::Caller, "unavailable")), "{:?}", rig.said);
    assert_eq!(rig.live(), []);
}
