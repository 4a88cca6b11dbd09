//! What a key means, when it is an answer, and how long an answer is waited for.

use super::*;
use crate::consent::machine::Denial;
use crate::consent::{Answer, Outcome};

/// A caller who hears the notice.
fn asked(scratch: &Scratch, policy: Policy) -> Rig<'_> {
    let mut rig = Rig::new(scratch, policy);
    rig.present(Leg::Caller);
    rig
}

fn no_objection() -> Policy {
    Policy { gate: Gate::NoObjection, basis: Basis::LegitimateInterests, ..policy() }
}

/// What was decided of the caller, if anything.
fn decided(rig: &Rig<'_>) -> Option<(Outcome, Answer)> {
    let facts = rig.pending.iter().map(Decision::facts).find(|facts| facts.leg == Leg::Caller)?;
    Some((facts.outcome, facts.answer.clone()))
}

/// How long the machine waits from now on.
fn due(rig: &Rig<'_>) -> Duration {
    rig.machine.deadline().unwrap().checked_duration_since(rig.at.instant).expect("in the future")
}

fn pressed(key: char) -> Answer {
    Answer::Key { key, via: KeyVia::TelephoneEvent, rtp_timestamp: Some(7) }
}

#[test]
fn a_key_means_what_the_gate_says_and_others_mean_nothing() {
    let scratch = Scratch::new();
    for (policy, key, outcome) in [
        (policy(), '1', Some(Outcome::Granted)),
        (policy(), '2', Some(Outcome::Refused)),
        (policy(), '3', None),
        (no_objection(), '1', None),
        (no_objection(), '2', Some(Outcome::Objected)),
        (no_objection(), '3', None),
    ] {
        let mut rig = asked(&scratch, policy);
        rig.played(Leg::Caller, |_| {});
        rig.key(Leg::Caller, key);
        assert_eq!(decided(&rig), outcome.map(|outcome| (outcome, pressed(key))), "{key}");
    }
}

#[test]
fn a_yes_counts_once_enough_of_the_notice_was_sent() {
    let scratch = Scratch::new();
    // A tenth of a notice of a second.
    let notice = "notice-opt-in";
    let enough = [
        (99, 50, notice, false),
        (100, 50, notice, true),
        (500, 0, notice, false),
        (500, 50, "reprompt", false),
    ];
    for (n, (played_ms, packets, prompt, counts)) in enough.into_iter().enumerate() {
        let mut rig = asked(&scratch, policy());
        rig.key(Leg::Caller, '1');
        assert_eq!(decided(&rig), None, "not before it is known what was heard");
        rig.played(Leg::Caller, |notice| {
            notice.completed = false;
            (notice.played_ms, notice.packets) = (played_ms, packets);
            notice.prompt = prompt.to_owned();
        });
        assert_eq!(decided(&rig).is_some(), counts, "{n}");
        assert_eq!(rig.playing.len(), usize::from(!counts), "{n}: else it is played once more");
    }
}

#[test]
fn a_no_counts_however_little_was_heard() {
    let scratch = Scratch::new();
    let mut rig = asked(&scratch, policy());
    rig.key(Leg::Caller, '2');
    rig.played(Leg::Caller, |notice| (notice.played_ms, notice.completed) = (0, false));
    assert_eq!(decided(&rig), Some((Outcome::Refused, pressed('2'))));
}

#[test]
fn a_notice_that_is_not_heard_is_played_twice_and_no_more() {
    let scratch = Scratch::new();
    for policy in [policy(), no_objection()] {
        let mut rig = asked(&scratch, policy);
        for _ in 0..2 {
            assert_eq!((rig.playing.len(), decided(&rig)), (1, None));
            rig.played(Leg::Caller, |notice| {
                (notice.packets, notice.received, notice.played_ms) = (0, 0, 0);
                notice.completed = false;
            });
        }
        assert_eq!(rig.playing, []);
        assert_eq!(decided(&rig), Some((Outcome::Refused, Answer::NotHeard)));
        let notices = rig.pending[0].facts().notices.len();
        assert_eq!(notices, 2, "both are evidenced");
        rig.commit();
        assert!(matches!(rig.verdict, Some(Verdict::Unrecorded { why: Denial::NotHeard, .. })));
    }
}

#[test]
fn an_answer_is_waited_for_as_long_as_the_policy_says() {
    let scratch = Scratch::new();
    let mut rig = asked(&scratch, Policy { attempts: 1, ..policy() });
    rig.played(Leg::Caller, |_| {});
    assert_eq!(due(&rig), Duration::from_secs(8));
    rig.feed(Input::Tick);
    assert_eq!(decided(&rig), None, "not a moment less");
    rig.wait();
    let (outcome, answer) = decided(&rig).unwrap();
    assert_eq!(outcome, Outcome::Refused);
    assert!(matches!(answer, Answer::Window { start, end } if start < end), "{answer:?}");
}

#[test]
fn a_player_that_never_says_what_was_heard_is_not_waited_for_for_ever() {
    let scratch = Scratch::new();
    for (key, expected) in [('1', Answer::NotHeard), ('2', pressed('2'))] {
        let mut rig = asked(&scratch, policy());
        rig.key(Leg::Caller, key);
        assert!(due(&rig) > Duration::ZERO);
        rig.feed(Input::Tick);
        assert_eq!(decided(&rig), None, "it has its time");
        assert!(rig.wait());
        assert_eq!(decided(&rig), Some((Outcome::Refused, expected)));
    }
}

#[test]
fn who_hangs_up_after_a_yes_that_is_not_evidenced_has_not_agreed() {
    let scratch = Scratch::new();
    let mut rig = asked(&scratch, policy());
    rig.key(Leg::Caller, '1');
    let whole = due(&rig);
    rig.at = rig.at.plus(whole / 2);
    rig.feed(Input::Left { leg: Leg::Caller });
    assert_eq!(due(&rig), whole, "the player has its time again");
    rig.played(Leg::Caller, |_| {});
    assert_eq!(decided(&rig), Some((Outcome::Refused, Answer::HungUp)));
}

#[test]
fn the_receipt_of_a_decision_that_was_overtaken_decides_nothing() {
    let scratch = Scratch::new();
    let mut rig = asked(&scratch, policy());
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '1');
    rig.keys(Leg::Caller, "*9");
    let decisions = std::mem::take(&mut rig.pending);
    let (mut of_caller, others): (Vec<_>, Vec<_>) =
        decisions.into_iter().partition(|d| d.facts().leg == Leg::Caller);
    rig.pending = others;
    rig.commit();
    assert_eq!(of_caller.len(), 2, "{of_caller:?}");
    let overtaken = scratch.commit(of_caller.remove(0));
    rig.feed(Input::Durable(overtaken));
    assert_eq!((rig.verdict, rig.live()), (None, vec![]), "the last word is not durable yet");
    let last = scratch.commit(of_caller.remove(0));
    rig.feed(Input::Durable(last));
    assert_eq!(rig.live(), []);
    assert!(matches!(rig.verdict, Some(Verdict::Unrecorded { .. })), "{:?}", rig.verdict);
}

#[test]
fn a_notice_into_a_leg_that_was_put_on_hold_was_not_heard() {
    let scratch = Scratch::new();
    let mut rig = asked(&scratch, no_objection());
    rig.feed(Input::Tick);
    rig.feed(Input::Held { leg: Leg::Caller });
    rig.played(Leg::Caller, |_| {});
    assert_eq!((rig.playing.len(), decided(&rig)), (1, None), "it is played again");
}

#[test]
fn a_window_in_which_the_leg_was_on_hold_says_nothing() {
    let scratch = Scratch::new();
    let mut rig = asked(&scratch, no_objection());
    rig.played(Leg::Caller, |_| {});
    rig.feed(Input::Held { leg: Leg::Caller });
    assert!(rig.wait());
    assert_eq!((rig.playing.len(), decided(&rig)), (1, None), "the notice is played again");
    rig.played(Leg::Caller, |_| {});
    assert!(rig.wait());
    assert_eq!(decided(&rig).map(|(outcome, _)| outcome), Some(Outcome::Granted));
}

#[test]
fn silence_is_asked_again_as_often_as_the_policy_says_and_then_is_a_refusal() {
    let scratch = Scratch::new();
    let mut rig = asked(&scratch, Policy { attempts: 3, ..policy() });
    for prompt in ["notice-opt-in", "reprompt", "reprompt"] {
        assert_eq!((rig.playing[0].1.as_str(), decided(&rig)), (prompt, None));
        rig.played(Leg::Caller, |_| {});
        assert!(rig.wait());
    }
    assert_eq!(decided(&rig).map(|(outcome, _)| outcome), Some(Outcome::Refused));
    assert_eq!(rig.playing, []);
}

#[test]
fn the_failure_of_a_decision_that_was_overtaken_decides_nothing() {
    let scratch = Scratch::new();
    let mut rig = asked(&scratch, policy());
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '1');
    let number = rig.pending[0].number();
    rig.keys(Leg::Caller, "*9");
    rig.feed(Input::NotDurable { leg: Leg::Caller, number });
    assert!(rig.machine.is_asking(Leg::Caller), "the withdrawal is still to be written down");
    rig.commit();
    assert_eq!(rig.machine.denial(Leg::Caller), Some(Denial::Withdrawn));
}

#[test]
fn a_notice_of_which_no_packet_was_sent_or_none_came_was_not_heard() {
    let scratch = Scratch::new();
    for (packets, received) in [(0, 50), (50, 0)] {
        let mut rig = asked(&scratch, no_objection());
        rig.played(Leg::Caller, |notice| {
            (notice.packets, notice.received) = (packets, received);
        });
        assert_eq!((rig.playing.len(), decided(&rig)), (1, None), "it is played again");
    }
}
