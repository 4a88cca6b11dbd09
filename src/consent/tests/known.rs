//! What is known of a party before anybody asks them: lists and tokens.

use super::*;
use crate::consent::machine::Denial;
use crate::consent::{Answer, Outcome, Stated, TokenStated};

fn token(stated: Stated) -> Prior {
    Prior::Token(TokenStated { digest: Digest::of(b"token"), key: "k1".into(), stated })
}

fn by_token() -> Policy {
    Policy { gate: Gate::Token, fallback: Gate::OptIn, ..policy() }
}

#[test]
fn a_listed_party_has_objected_before_anybody_is_asked() {
    let scratch = Scratch::new();
    for prior in [[Prior::Listed, Prior::Nothing], [Prior::Nothing, Prior::Listed]] {
        let mut rig = Rig::knowing(&scratch, policy(), prior);
        assert_eq!(rig.pending.len(), 1);
        let facts = rig.pending[0].facts();
        assert_eq!((facts.outcome, &facts.answer), (Outcome::Objected, &Answer::Listed));
        let gate = if facts.leg == Leg::Caller { Gate::OptIn } else { Gate::Standing };
        assert_eq!(facts.gate, gate, "the one that they would have passed");
        assert_eq!(rig.verdict, None, "the evidence comes first");
        for leg in Leg::BOTH {
            assert!(!rig.machine.asks(leg));
            rig.present(leg);
        }
        rig.commit();
        assert!(rig.playing.is_empty(), "nobody is bothered with a question");
        let why = Denial::Objected;
        assert_eq!(rig.verdict, Some(Verdict::Unrecorded { why, then: OnRefusal::Continue }));
    }
}

#[test]
fn per_party_a_listed_caller_leaves_the_callee_to_be_recorded() {
    let scratch = Scratch::new();
    let per_party = Policy { scope: Scope::PerParty, ..policy() };
    let mut rig = Rig::knowing(&scratch, per_party, [Prior::Listed, Prior::Nothing]);
    rig.commit();
    for leg in Leg::BOTH {
        rig.present(leg);
        rig.commit();
    }
    assert_eq!(rig.live(), [Leg::Callee]);
}

#[test]
fn a_token_speaks_for_the_party_under_its_gate_alone() {
    let scratch = Scratch::new();
    let mut rig = Rig::knowing(&scratch, by_token(), [token(Stated::Granted), Prior::Nothing]);
    assert!(!rig.machine.asks(Leg::Caller));
    for leg in Leg::BOTH {
        rig.present(leg);
    }
    assert!(rig.playing.is_empty());
    assert!(rig.pending.iter().any(|d| matches!(d.facts().answer, Answer::Token(_))));
    rig.commit();
    assert_eq!(rig.live(), Leg::BOTH);

    let rig = Rig::knowing(&scratch, policy(), [token(Stated::Granted), Prior::Nothing]);
    assert!(rig.machine.asks(Leg::Caller), "another gate is not opened by a token");
}

#[test]
fn a_token_that_refuses_is_a_refusal() {
    let scratch = Scratch::new();
    let mut rig = Rig::knowing(&scratch, by_token(), [token(Stated::Refused), Prior::Nothing]);
    rig.commit();
    let why = Denial::Refused;
    assert_eq!(rig.verdict, Some(Verdict::Unrecorded { why, then: OnRefusal::Continue }));
}

#[test]
fn without_a_token_the_fallback_asks_and_one_that_cannot_ask_permits_nothing() {
    let scratch = Scratch::new();
    let mut rig = Rig::new(&scratch, by_token());
    assert!(rig.machine.asks(Leg::Caller));
    rig.present(Leg::Caller);
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '1');
    assert_eq!(rig.pending[0].facts().gate, Gate::OptIn);

    for fallback in [Gate::Standing, Gate::Token] {
        let rig = Rig::new(&scratch, Policy { fallback, ..by_token() });
        assert!(!rig.machine.covers());
        let why = Denial::NotCovered;
        assert_eq!(rig.verdict, Some(Verdict::Unrecorded { why, then: OnRefusal::Continue }));
    }
}

#[test]
fn without_a_token_an_agreement_on_file_stands_in_where_the_policy_names_one() {
    let scratch = Scratch::new();
    let on_file = ByLeg { caller: Some("contract-7".to_owned()), callee: None };
    let policy = Policy { fallback: Gate::Standing, on_file, ..by_token() };
    let rig = Rig::new(&scratch, policy.clone());
    assert!(!rig.machine.asks(Leg::Caller));
    let answer = Answer::Standing { agreement: "contract-7".to_owned() };
    let mut rig = Rig::new(&scratch, policy.clone());
    for leg in Leg::BOTH {
        rig.present(leg);
    }
    assert!(rig.pending.iter().any(|d| d.facts().answer == answer));
    rig.commit();
    assert_eq!(rig.live(), Leg::BOTH);

    let mut rig = Rig::knowing(&scratch, policy, [token(Stated::Refused), Prior::Nothing]);
    rig.commit();
    let why = Denial::Refused;
    assert_eq!(rig.verdict, Some(Verdict::Unrecorded { why, then: OnRefusal::Continue }));
}

#[test]
fn the_notice_counts_as_lost_beyond_the_policys_limit() {
    let scratch = Scratch::new();
    let strict = Policy {
        gate: Gate::NoObjection,
        basis: Basis::LegitimateInterests,
        notice: "notice-no-objection".into(),
        loss_limit: 5,
        ..policy()
    };
    for (loss, again) in [(5, false), (6, true)] {
        let mut rig = Rig::new(&scratch, strict.clone());
        rig.present(Leg::Caller);
        rig.played(Leg::Caller, |notice| notice.loss_percent = Some(loss));
        assert_eq!(!rig.playing.is_empty(), again, "{loss} %");
    }
}
