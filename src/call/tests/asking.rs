//! Whoever is asked is asked on their own leg, before the two are joined.

use super::rig::*;
use super::*;
use crate::call::media::PlaybackId;
use crate::consent::Stops;

fn callee_alone() -> Policy {
    Policy { caller: Ask::Standing("contract".into()), callee: Ask::OnCall, ..opt_in() }
}

fn both() -> Policy {
    Policy { callee: Ask::OnCall, ..opt_in() }
}

fn callee_key(rig: &mut Rig, key: char) {
    let at = rig.at.instant;
    rig.feed(Input::Media(MediaEvent::Key {
        leg: Leg::Callee,
        at,
        key,
        rtp_timestamp: 9,
        stops: Stops::NONE,
    }));
}

fn callee_played(rig: &mut Rig, playback: u32) {
    let (notice, playback) = (rig.notice(1000), PlaybackId(playback));
    rig.feed(Input::Media(MediaEvent::Played { leg: Leg::Callee, playback, notice }));
}

fn silenced(rig: &Rig, leg: Leg) -> bool {
    rig.has(|o| matches!(o, Output::Media(MediaCommand::Silence { leg: l }) if *l == leg))
}

#[test]
fn a_callee_is_asked_after_the_answer_while_the_caller_still_hears_it_ring() {
    let mut rig = Rig::inline(callee_alone());
    assert!(rig.statuses().is_empty() && rig.sent(&Method::Invite).is_some());
    assert_eq!(rig.callee_says(180, "").statuses(), [180]);
    rig.callee_says(200, ANSWER);
    assert_eq!(rig.prompts(), ["notice-opt-in"]);
    assert_eq!((rig.statuses().len(), rig.relays()), (0, 0), "the caller waits");
    callee_played(&mut rig, 1);
    callee_key(&mut rig, '2');
    assert_eq!(rig.decision().expect("a decision").facts().leg, Leg::Callee);
    rig.not_durable(Leg::Callee);
    assert_eq!(rig.prompts(), ["declined"]);
    assert_eq!(rig.relays(), 0, "not before the callee has heard it");
    callee_played(&mut rig, 2);
    assert_eq!((rig.statuses(), rig.relays()), (vec![200], 2));
}

#[test]
fn a_callee_who_hangs_up_during_the_notice_ends_the_call_cleanly() {
    let mut rig = Rig::inline(callee_alone());
    assert_eq!(rig.callee_says(200, ANSWER).statuses(), [180], "the caller hears it ring");
    let mut bye = incoming(Method::Bye, 1);
    bye.call_id = "other-leg".into();
    bye.from.tag = Some("callee-tag".into());
    bye.to.tag = Some("callee-side".into());
    rig.feed(Input::Request { leg: Leg::Callee, txn: ServerTxn(50), request: bye });
    assert_eq!(rig.statuses(), [200, 480]);
    assert_eq!(rig.ended(), Some(Cause::HungUp(Leg::Callee)));
    callee_played(&mut rig, 1);
    assert_eq!(rig.decision().expect("a decision").facts().answer, Answer::HungUp);
    assert!(rig.is_over());
}

#[test]
fn a_caller_who_gives_up_while_the_callee_is_asked_ends_it_too() {
    let mut rig = Rig::inline(callee_alone());
    rig.callee_says(200, ANSWER);
    rig.feed(Input::Cancelled { txn: INVITE, headers: Headers::new() });
    assert_eq!(rig.statuses(), [487]);
    assert!(rig.sent(&Method::Bye).is_some());
}

#[test]
fn two_are_asked_side_by_side_and_one_no_ends_both_questions() {
    let mut rig = Rig::inline(both());
    assert_eq!(rig.statuses(), [200]);
    assert!(rig.sent(&Method::Invite).is_some(), "the callee is dialled meanwhile");
    assert_eq!(rig.ack().prompts(), ["notice-opt-in"]);
    rig.callee_says(180, "");
    assert!(rig.prompts().is_empty(), "the notice is not cut by ringback");
    assert_eq!(rig.callee_says(200, ANSWER).prompts(), ["notice-opt-in"]);
    assert_eq!(rig.relays(), 0);
    rig.played(1, true).key('2');
    rig.not_durable(Leg::Caller);
    assert!(silenced(&rig, Leg::Callee), "the callee has nothing to answer any more");
    assert_eq!(rig.prompts(), ["declined"; 2]);
    callee_played(&mut rig, 4);
    assert_eq!(rig.relays(), 0, "the caller is still being told");
    rig.played(3, true);
    assert_eq!(rig.relays(), 2);
    assert_eq!(rig.call.phase(), Phase::Talking);
}

#[test]
fn a_callee_who_never_answers_ends_the_question_of_the_caller() {
    let mut rig = Rig::inline(both());
    rig.ack().callee_says(486, "");
    assert_eq!(rig.ended(), Some(Cause::Rejected(486)));
}

#[test]
fn a_listed_caller_is_connected_unasked_once_that_is_written_down() {
    let mut setup = setup(opt_in(), true);
    setup.caller_party.prior = crate::consent::Prior::Listed;
    let mut rig = Rig::start(setup);
    assert!(rig.statuses().is_empty() && rig.sent(&Method::Invite).is_none());
    assert_eq!(rig.decision().expect("a decision").facts().answer, Answer::Listed);
    rig.not_durable(Leg::Caller);
    assert_eq!(rig.blocked(), Some(Denial::Objected));
    assert!(rig.sent(&Method::Invite).is_some());
    rig.callee_says(200, ANSWER);
    assert_eq!((rig.statuses(), rig.relays()), (vec![200], 2));
    assert!(rig.prompts().is_empty());
}

#[test]
fn a_listed_caller_hears_why_where_a_refusal_ends_the_call() {
    let policy = Policy { on_refusal: OnRefusal::HangUp, ..no_objection() };
    let mut setup = setup(policy, true);
    setup.caller_party.prior = crate::consent::Prior::Listed;
    let mut rig = Rig::start(setup);
    rig.not_durable(Leg::Caller);
    assert_eq!((rig.statuses(), rig.prompts()), (vec![200], vec!["refused-goodbye"]));
    rig.ack().played(1, true);
    assert_eq!(rig.ended(), Some(Cause::RefusalEndsCall));
}
