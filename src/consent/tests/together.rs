//! Two parties who are asked side by side, or known beforehand: what one does to the other.

use super::*;
use crate::consent::machine::Denial;
use crate::consent::{Answer, Outcome};

/// Both are asked, and hear the notice.
fn both_asked(scratch: &Scratch, scope: Scope) -> Rig<'_> {
    let mut rig = Rig::new(scratch, Policy { callee: Ask::OnCall, scope, ..policy() });
    for leg in Leg::BOTH {
        rig.present(leg);
    }
    assert_eq!(rig.playing.len(), 2);
    rig
}

/// The caller says no, and that is written down.
fn caller_refuses(rig: &mut Rig<'_>) {
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '2');
    rig.commit();
    assert_eq!(rig.machine.denial(Leg::Caller), Some(Denial::Refused));
}

/// Whose decisions wait to be written down.
fn decided(rig: &Rig<'_>) -> Vec<(Leg, Outcome)> {
    let facts = rig.pending.iter().map(Decision::facts);
    facts.map(|facts| (facts.leg, facts.outcome)).collect()
}

#[test]
fn one_refusal_ends_the_others_question() {
    let scratch = Scratch::new();
    let mut rig = both_asked(&scratch, Scope::All);
    caller_refuses(&mut rig);
    assert!(!rig.machine.is_asking(Leg::Callee));
    assert_eq!(rig.machine.denial(Leg::Callee), Some(Denial::Refused));
    let mut rig = both_asked(&scratch, Scope::PerParty);
    caller_refuses(&mut rig);
    assert!(rig.machine.is_asking(Leg::Callee), "per party each answers alone");
}

#[test]
fn who_is_asked_when_the_other_hangs_up_still_has_their_own_answer_written_down() {
    let scratch = Scratch::new();
    let mut rig = both_asked(&scratch, Scope::All);
    rig.feed(Input::Left { leg: Leg::Caller });
    assert!(rig.machine.is_asking(Leg::Callee));
    rig.feed(Input::Left { leg: Leg::Callee });
    for leg in Leg::BOTH {
        rig.played(leg, |_| {});
    }
    assert_eq!(decided(&rig), Leg::BOTH.map(|leg| (leg, Outcome::Refused)));
}

#[test]
fn a_yes_that_is_not_evidenced_falls_with_the_others_refusal_and_a_no_does_not() {
    let scratch = Scratch::new();
    for (key, still_asked) in [('1', false), ('2', true)] {
        let mut rig = both_asked(&scratch, Scope::All);
        rig.key(Leg::Callee, key);
        caller_refuses(&mut rig);
        assert_eq!(rig.machine.is_asking(Leg::Callee), still_asked, "{key}");
        rig.played(Leg::Callee, |_| {});
        let expected: &[_] = if still_asked { &[(Leg::Callee, Outcome::Refused)] } else { &[] };
        assert_eq!(decided(&rig), expected, "{key}");
    }
}

#[test]
fn a_decision_is_owed_only_while_the_player_has_still_to_say_what_was_heard() {
    let scratch = Scratch::new();
    let mut rig = both_asked(&scratch, Scope::All);
    assert!(!rig.machine.owes_decision());
    rig.feed(Input::Left { leg: Leg::Caller });
    assert!(rig.machine.owes_decision());
    rig.played(Leg::Caller, |_| {});
    assert!(!rig.machine.owes_decision());
}

#[test]
fn who_hangs_up_during_the_notice_has_left_whatever_they_pressed() {
    let scratch = Scratch::new();
    for pressed in ["", "1"] {
        let mut rig = both_asked(&scratch, Scope::All);
        rig.keys(Leg::Caller, pressed);
        rig.feed(Input::Left { leg: Leg::Caller });
        rig.played(Leg::Caller, |_| {});
        rig.commit();
        assert_eq!(rig.machine.denial(Leg::Caller), Some(Denial::Left), "{pressed}");
    }
    let mut rig = both_asked(&scratch, Scope::All);
    rig.key(Leg::Caller, '2');
    rig.feed(Input::Left { leg: Leg::Caller });
    rig.played(Leg::Caller, |_| {});
    rig.commit();
    assert_eq!(rig.machine.denial(Leg::Caller), Some(Denial::Refused), "a refusal stays one");
}

#[test]
fn a_no_takes_the_place_of_a_yes_that_is_not_evidenced_yet_and_not_of_another_no() {
    let scratch = Scratch::new();
    let answers = [('1', "*9".to_owned()), ('2', String::new())];
    for (first, keys) in answers {
        let mut rig = both_asked(&scratch, Scope::All);
        rig.key(Leg::Caller, first);
        rig.keys(Leg::Caller, "*9");
        rig.played(Leg::Caller, |_| {});
        let facts = rig.pending[0].facts();
        assert_eq!((facts.leg, facts.outcome), (Leg::Caller, Outcome::Refused));
        match &facts.answer {
            Answer::Keys { keys: pressed, .. } => assert_eq!(*pressed, keys),
            Answer::Key { key, .. } => assert_eq!((*key, keys.as_str()), (first, "")),
            other => panic!("{other:?}"),
        }
        rig.commit();
        assert_eq!(rig.machine.denial(Leg::Caller), Some(Denial::Refused));
    }
}

#[test]
fn agreements_on_file_take_effect_once_everybody_is_there() {
    let scratch = Scratch::new();
    let on_file = Policy { caller: Ask::Standing("agreement-7".to_owned()), ..policy() };
    let mut rig = Rig::new(&scratch, on_file);
    rig.present(Leg::Caller);
    rig.feed(Input::Tick);
    assert_eq!(decided(&rig), [], "the callee has not answered yet");
    rig.present(Leg::Callee);
    assert_eq!(decided(&rig), Leg::BOTH.map(|leg| (leg, Outcome::Granted)));
}

#[test]
fn per_party_an_agreement_takes_effect_when_its_party_is_there_and_who_is_asked_has_answered() {
    let scratch = Scratch::new();
    let per_party = Policy { scope: Scope::PerParty, ..policy() };
    let mut rig = Rig::new(&scratch, per_party.clone());
    for leg in Leg::BOTH {
        rig.present(leg);
    }
    assert_eq!(decided(&rig), [], "the caller may still say no");
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '1');
    assert_eq!(decided(&rig), Leg::BOTH.map(|leg| (leg, Outcome::Granted)));

    let mut rig = Rig::new(&scratch, per_party);
    rig.present(Leg::Caller);
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '1');
    assert_eq!(decided(&rig), [(Leg::Caller, Outcome::Granted)], "the callee is not there");
}

#[test]
fn per_party_a_recording_goes_on_for_who_agreed_to_it_and_is_over_for_who_refused() {
    let scratch = Scratch::new();
    let per_party = Policy { scope: Scope::PerParty, ..policy() };
    let mut rig = Rig::new(&scratch, per_party);
    rig.present(Leg::Caller);
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '1');
    rig.commit();
    rig.present(Leg::Callee);
    rig.keys(Leg::Caller, "*9");
    assert_eq!(rig.over, [], "the callee's permission for it is on its way to the disk");
    rig.commit();
    assert_eq!((rig.live(), rig.over.len()), (vec![Leg::Callee], 0));
    assert_eq!(rig.grants[1].stream().recording, rig.grants[0].stream().recording);

    let mut rig = both_asked(&scratch, Scope::PerParty);
    rig.played(Leg::Callee, |_| {});
    rig.key(Leg::Callee, '2');
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '1');
    rig.commit();
    assert_eq!(rig.live(), [Leg::Caller]);
    rig.keys(Leg::Caller, "*9");
    assert_eq!(rig.over, [rig.grants[0].stream().recording], "nobody else is recorded in it");
}

#[test]
fn somebody_may_be_recorded_until_the_scope_says_that_nobody_will() {
    let scratch = Scratch::new();
    for (scope, may) in [(Scope::All, false), (Scope::PerParty, true)] {
        let mut rig = both_asked(&scratch, scope);
        assert!(rig.machine.may_record());
        caller_refuses(&mut rig);
        assert_eq!(rig.machine.may_record(), may, "{scope:?}");
        rig.feed(Input::Left { leg: Leg::Callee });
        rig.played(Leg::Callee, |_| {});
        rig.commit();
        assert!(!rig.machine.may_record(), "{scope:?}");
    }
}

#[test]
fn what_somebody_did_is_told_before_what_the_policy_leaves_out() {
    let scratch = Scratch::new();
    for (listed, other) in [(Leg::Caller, Leg::Callee), (Leg::Callee, Leg::Caller)] {
        let ask = |leg| match leg == other {
            true => Ask::Nobody,
            false => Ask::Standing("agreement-7".to_owned()),
        };
        let policy = Policy {
            caller: ask(Leg::Caller),
            callee: ask(Leg::Callee),
            scope: Scope::PerParty,
            ..policy()
        };
        let prior = |leg| if leg == listed { Prior::Listed } else { Prior::Nothing };
        let mut rig = Rig::knowing(&scratch, policy, Leg::BOTH.map(prior));
        rig.commit();
        let then = OnRefusal::Continue;
        let expected = Some(Verdict::Unrecorded { why: Denial::Objected, then });
        assert_eq!(rig.verdict, expected, "{listed}");
    }
}

#[test]
fn a_permission_for_a_recording_that_never_came_is_given_anew_for_the_next() {
    let scratch = Scratch::new();
    let again = AcceptAgain::ByKey;
    let asked = Policy { callee: Ask::OnCall, accept_again: again, ..policy() };
    let mut rig = Rig::new(&scratch, asked);
    for leg in Leg::BOTH {
        rig.present(leg);
        rig.played(leg, |_| {});
        rig.key(leg, '1');
    }
    rig.keys(Leg::Callee, "*9");
    rig.commit();
    assert_eq!(rig.grants.len(), 0);
    rig.key(Leg::Callee, '1');
    let earlier = |d: &Decision| matches!(d.facts().answer, Answer::Earlier { .. });
    assert!(rig.pending.iter().any(earlier), "the caller's yes is evidenced for it too");
    rig.commit();
    assert_eq!(rig.live(), Leg::BOTH);
    assert_eq!(rig.grants[0].stream().recording, rig.grants[1].stream().recording);
}
