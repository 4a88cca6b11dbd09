//! Whole calls through the machine, without a socket or a clock.

mod another;
mod asking;
mod forks;
mod indicating;
mod orders;
mod passing;
mod protecting;
mod reliable;
mod rig;
mod session_timers;
mod transfers;

use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::call::machine::{Cause, Input, Output, Phase};
use crate::call::media::{MediaCommand, MediaEvent};
use crate::call::message::{ClientTxn, Headers, Method, ServerTxn, Unanswered};
use crate::call::setup::{InfoKeys, Plan, Recorder, Setup};
use crate::consent::machine::Denial;
use crate::consent::policy::{Ask, OnRefusal, OnUnavailable, Policy, Scope};
use crate::consent::{Answer, Outcome, Stops};
use crate::ids::{CallId, Leg};
use crate::rtp::Codec;

use rig::*;

#[test]
fn nothing_is_asked_before_the_ack_and_the_notice_comes_first() {
    let mut rig = Rig::inline(opt_in());
    assert_eq!(rig.statuses(), [200]);
    assert!(rig.prompts().is_empty());
    let answer = String::from_utf8_lossy(&rig.responses()[0].body).into_owned();
    assert!(answer.contains("m=audio 6000 RTP/AVP 8 101"), "one codec, theirs first: {answer}");
    assert_eq!(rig.ack().prompts(), ["notice-opt-in"]);
    // A repeated ACK asks nothing twice.
    assert!(rig.ack().prompts().is_empty());
}

#[test]
fn a_key_during_the_notice_cuts_it_and_is_decided_with_what_was_played() {
    let mut rig = announced(opt_in());
    rig.key('1');
    assert!(rig.has(|o| matches!(o, Output::Media(MediaCommand::Silence { .. }))));
    assert!(rig.decision().is_none(), "the evidence needs the notice's end");
    rig.played(1, false);
    let facts = rig.decision().expect("a decision").facts();
    assert_eq!(facts.outcome, Outcome::Granted);
    assert_eq!(facts.notices.len(), 1);
    assert!(!facts.notices[0].completed);
    assert_eq!(
        rig.out.iter().filter(|o| matches!(o, Output::Commit(_))).count(),
        2,
        "both parties in one go"
    );
}

#[test]
fn silence_after_the_last_prompt_is_a_refusal_where_consent_is_asked() {
    let mut rig = announced(opt_in());
    rig.played(1, true).wait(Duration::from_secs(8));
    assert_eq!(rig.prompts(), ["reprompt"]);
    rig.played(2, true).wait(Duration::from_secs(8));
    let facts = rig.decision().expect("a decision").facts();
    assert_eq!(facts.outcome, Outcome::Refused);
    assert!(matches!(facts.answer, Answer::Window { .. }));
    assert_eq!(facts.notices.len(), 2);
    rig.not_durable(Leg::Caller);
    assert_eq!(rig.blocked(), Some(Denial::Refused), "a no stands even when not written down");
    assert_eq!(rig.prompts(), ["declined"]);
    assert!(rig.sent(&Method::Invite).is_some(), "the call goes on");
}

#[test]
fn silence_is_no_objection_once_the_notice_was_heard() {
    let mut rig = announced(no_objection());
    rig.played(1, true).wait(Duration::from_secs(8));
    let facts = rig.decision().expect("a decision").facts();
    assert_eq!(facts.outcome, Outcome::Granted);
}

#[test]
fn a_notice_that_was_not_heard_is_repeated_once_and_then_permits_nothing() {
    let mut rig = announced(no_objection());
    assert_eq!(rig.played(1, false).prompts(), ["notice-opt-in"]);
    rig.played(2, false);
    let facts = rig.decision().expect("a decision").facts();
    assert_eq!((facts.outcome, &facts.answer), (Outcome::Refused, &Answer::NotHeard));
}

#[test]
fn an_objection_counts_during_the_notice_and_after_it() {
    for during in [true, false] {
        let mut rig = announced(no_objection());
        if during {
            rig.key('2').played(1, false);
        } else {
            rig.played(1, true).key('2');
        }
        assert_eq!(rig.decision().expect("a decision").facts().outcome, Outcome::Objected);
    }
}

#[test]
fn a_refusal_ends_the_call_after_a_goodbye_where_the_policy_says_so() {
    let policy = Policy { on_refusal: OnRefusal::HangUp, ..no_objection() };
    let mut rig = announced(policy);
    rig.played(1, true).key('2');
    rig.not_durable(Leg::Caller);
    assert_eq!(rig.prompts(), ["refused-goodbye"]);
    assert!(rig.sent(&Method::Invite).is_none());
    rig.played(2, true);
    assert_eq!(rig.ended(), Some(Cause::RefusalEndsCall));
    assert!(rig.sent(&Method::Bye).is_some());
}

#[test]
fn keys_that_mean_nothing_and_keys_of_the_callee_decide_nothing() {
    let mut rig = announced(opt_in());
    for key in ['3', '#', '*', 'A'] {
        assert!(rig.key(key).out.is_empty());
    }
    let at = rig.at.instant;
    let pressed =
        MediaEvent::Key { leg: Leg::Callee, at, key: '1', rtp_timestamp: 1, stops: Stops::NONE };
    rig.feed(Input::Media(pressed));
    assert!(rig.out.is_empty());
}

#[test]
fn info_keys_count_only_where_configured() {
    for (info_keys, cut) in [(InfoKeys::Counted, true), (InfoKeys::Ignored, false)] {
        let mut rig = Rig::start(Setup { info_keys, ..setup(opt_in(), true) });
        rig.ack();
        let mut request = incoming(Method::Info, 2);
        request.to.tag = Some("caller-side".into());
        request.headers = Headers::new().with("Content-Type", "application/dtmf-relay");
        request.body = Bytes::from_static(b"Signal=1\r\nDuration=100\r\n");
        rig.feed(Input::Request { leg: Leg::Caller, txn: ServerTxn(9), request });
        assert_eq!(rig.statuses(), [200]);
        let silenced = rig.has(|o| matches!(o, Output::Media(MediaCommand::Silence { .. })));
        assert_eq!(silenced, cut);
    }
}

#[test]
fn hanging_up_during_the_notice_leaves_evidence_and_ends_cleanly() {
    let mut rig = announced(opt_in());
    rig.by_caller(Method::Bye);
    assert_eq!(rig.statuses(), [200]);
    assert!(rig.has(|o| matches!(o, Output::CloseMedia)));
    assert!(!rig.is_over(), "the evidence needs the notice's end");
    rig.played(1, false);
    let facts = rig.decision().expect("a decision").facts();
    assert_eq!((facts.outcome, &facts.answer), (Outcome::Refused, &Answer::HungUp));
    assert_eq!(facts.notices.len(), 1);
    assert!(rig.is_over());
}

#[test]
fn the_other_leg_is_dialled_with_the_identity_unchanged_and_one_hop_less() {
    let rig = dialling();
    let invite = rig.sent(&Method::Invite).expect("an INVITE");
    let first = |name| invite.headers.first(name).map(|v| String::from_utf8_lossy(v).into_owned());
    assert_eq!(first("Max-Forwards").as_deref(), Some("69"));
    assert_eq!(first("X-Kept").as_deref(), Some("yes"));
    assert_eq!(first("From").as_deref(), Some("<sip:100@127.0.0.1>;tag=callee-side"));
    assert_eq!(first("X-Assent-Call"), Some(CallId(Uuid::from_u128(1)).to_string()));
    assert_eq!(invite.uri, "sip:200@127.0.0.1:5080");
}

#[test]
fn the_caller_hears_ringback_after_the_prompt_and_the_callee_once_answered() {
    let mut rig = dialling();
    assert_eq!(rig.prompts(), ["unavailable"]);
    rig.callee_says(180, "");
    assert!(rig.prompts().is_empty(), "the prompt is not cut by ringing");
    assert_eq!(rig.played(2, true).prompts(), ["ringback"]);
    rig.callee_says(200, ANSWER);
    assert!(rig.has(|o| matches!(o, Output::Ack(_))));
    assert_eq!(rig.relays(), 2);
    assert_eq!(rig.call.phase(), Phase::Talking);
}

#[test]
fn a_hang_up_of_either_side_ends_both() {
    let mut rig = dialling();
    rig.callee_says(200, ANSWER);
    rig.by_caller(Method::Bye);
    let bye = rig.sent(&Method::Bye).expect("a BYE to the callee");
    assert_eq!(bye.uri, "sip:200@127.0.0.1:5090");
    assert_eq!(bye.headers.first("CSeq"), Some(&Bytes::from_static(b"2 BYE")));
    assert!(!rig.is_over(), "the BYE still waits for its answer");
    let txn = ClientTxn(65_537);
    rig.feed(Input::Response { txn, response: answered(200, "") });
    assert!(rig.is_over());

    let mut rig = dialling();
    rig.callee_says(200, ANSWER);
    let mut request = incoming(Method::Bye, 1);
    request.call_id = "other-leg".into();
    request.to.tag = Some("callee-side".into());
    request.from.tag = Some("callee-tag".into());
    rig.feed(Input::Request { leg: Leg::Callee, txn: ServerTxn(5), request });
    assert_eq!(rig.ended(), Some(Cause::HungUp(Leg::Callee)));
    assert!(rig.sent(&Method::Bye).is_some());
    rig.feed(Input::Unanswered { txn: ClientTxn(65_537), why: Unanswered::Timeout });
    assert!(rig.is_over(), "a BYE without an answer ends all the same");
}

#[test]
fn a_busy_callee_is_named_to_a_caller_who_is_answered_already() {
    let mut rig = dialling();
    rig.callee_says(486, "");
    let bye = rig.sent(&Method::Bye).expect("a BYE");
    let reason = bye.headers.first("Reason").expect("a Reason");
    assert_eq!(&reason[..], b"SIP;cause=486;text=\"Busy Here\"");
    assert_eq!(rig.ended(), Some(Cause::Rejected(486)));
}

#[test]
fn where_nobody_is_asked_the_call_passes_as_through_a_wire() {
    let mut rig = Rig::inline(standing());
    assert!(rig.statuses().is_empty(), "not answered before the callee is");
    assert!(rig.sent(&Method::Invite).is_some());
    assert_eq!(rig.callee_says(180, "").statuses(), [180]);
    assert_eq!(rig.callee_says(183, ANSWER).statuses(), [183]);
    assert_eq!(rig.relays(), 1, "early media reaches the caller");
    assert_eq!(rig.callee_says(200, ANSWER).statuses(), [200]);
    assert_eq!(rig.relays(), 2);
    rig.ack();
    let commits = rig.out.iter().filter(|o| matches!(o, Output::Commit(_))).count();
    assert_eq!(commits, 2, "both agreements, once both are on the line");
}

#[test]
fn failures_pass_back_as_they_are() {
    for (theirs, ours) in [(486, 486), (404, 404), (603, 603), (302, 480), (407, 502)] {
        let mut rig = Rig::inline(standing());
        rig.callee_says(theirs, "");
        assert_eq!(rig.statuses(), [ours]);
        assert!(rig.is_over());
    }
    for (why, ours) in [(Unanswered::Timeout, 408), (Unanswered::Transport, 503)] {
        let mut rig = Rig::inline(standing());
        let txn = rig.dialled();
        assert_eq!(rig.feed(Input::Unanswered { txn, why }).statuses(), [ours]);
    }
}

#[test]
fn a_cancel_reaches_the_callee_and_a_crossing_answer_is_ended() {
    let mut rig = Rig::inline(standing());
    rig.callee_says(180, "");
    rig.feed(Input::Cancelled { txn: INVITE, headers: Headers::new() });
    assert_eq!(rig.statuses(), [487]);
    assert!(rig.has(|o| matches!(o, Output::Cancel { .. })));
    assert!(!rig.is_over());
    let mut crossed = Rig { out: Vec::new(), ..rig };
    crossed.callee_says(200, ANSWER);
    assert!(crossed.has(|o| matches!(o, Output::Ack(_))));
    assert!(crossed.sent(&Method::Bye).is_some());

    let mut rig = Rig::inline(standing());
    rig.feed(Input::Cancelled { txn: INVITE, headers: Headers::new() });
    rig.callee_says(487, "");
    assert!(rig.is_over());
}

#[test]
fn a_callee_who_never_answers_is_cancelled() {
    let mut rig = Rig::inline(standing());
    rig.callee_says(180, "").wait(Duration::from_secs(180));
    assert_eq!(rig.statuses(), [480]);
    assert!(rig.has(|o| matches!(o, Output::Cancel { .. })));
    rig.wait(Duration::from_secs(32));
    assert!(rig.is_over(), "even where the CANCEL is ignored");
}

#[test]
fn an_answer_without_ack_is_repeated_and_then_given_up() {
    let mut rig = Rig::inline(opt_in());
    let mut repeated = 0;
    while rig.ended().is_none() {
        rig.wait(Duration::from_secs(40));
        repeated += rig.statuses().iter().filter(|status| **status == 200).count();
    }
    assert_eq!(rig.ended(), Some(Cause::NoAck));
    assert!((8..=11).contains(&repeated), "{repeated}");
    assert!(rig.sent(&Method::Bye).is_some());
}

#[test]
fn a_second_fork_that_answers_is_acknowledged_and_ended() {
    let mut rig = dialling();
    rig.callee_says(200, ANSWER);
    rig.callee_says(200, ANSWER);
    assert!(rig.has(|o| matches!(o, Output::Ack(_))), "a retransmitted answer is acknowledged");
    assert!(rig.sent(&Method::Bye).is_none());
    let mut response = answered(200, ANSWER);
    response.to_tag = Some("another-fork".into());
    let txn = rig.dialled();
    rig.feed(Input::Response { txn, response });
    assert!(rig.sent(&Method::Bye).is_some());
    assert_eq!(rig.call.phase(), Phase::Talking);
}

#[test]
fn requests_of_another_dialog_or_out_of_order_are_refused() {
    let mut rig = announced(opt_in());
    let mut request = incoming(Method::Bye, 5);
    request.to.tag = Some("caller-side".into());
    request.from.tag = Some("somebody-else".into());
    rig.feed(Input::Request { leg: Leg::Caller, txn: ServerTxn(7), request });
    assert_eq!(rig.statuses(), [481]);
    let mut request = incoming(Method::Bye, 1);
    request.to.tag = Some("caller-side".into());
    rig.feed(Input::Request { leg: Leg::Caller, txn: ServerTxn(8), request });
    assert_eq!(rig.statuses(), [500]);
    assert_eq!(rig.call.phase(), Phase::Asking);
}

#[test]
fn an_offer_without_a_common_codec_is_488_in_every_mode() {
    let offer = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
        m=audio 4000 RTP/AVP 18\r\na=rtpmap:18 G729/8000\r\n";
    for policy in [opt_in(), standing()] {
        let mut setup = setup(policy, true);
        setup.invite.body = Bytes::from_static(offer.as_bytes());
        let rig = Rig::start(setup);
        assert_eq!(rig.statuses(), [488]);
        assert!(rig.is_over());
    }
}

#[test]
fn a_broken_recorder_lets_the_call_through_or_not_as_the_policy_says() {
    let out_of_order = |policy| Setup { recorder: Recorder::OutOfOrder, ..setup(policy, true) };
    let mut rig = Rig::start(out_of_order(opt_in()));
    assert!(rig.sent(&Method::Invite).is_some());
    assert_eq!(rig.callee_says(200, ANSWER).statuses(), [200]);
    assert!(rig.ack().decision().is_none());

    let policy = Policy { on_unavailable: OnUnavailable::Refuse, ..opt_in() };
    let rig = Rig::start(out_of_order(policy));
    assert_eq!(rig.statuses(), [603]);
    assert!(rig.sent(&Method::Invite).is_none());
}

#[test]
fn a_callee_without_an_agreement_means_nobody_is_asked_and_nothing_recorded() {
    let rig = Rig::inline(Policy { callee: Ask::Nobody, ..opt_in() });
    assert_eq!(rig.blocked(), Some(Denial::NotCovered));
    assert!(rig.sent(&Method::Invite).is_some());
}

#[test]
fn a_hold_is_answered_on_its_leg() {
    let mut rig = dialling();
    rig.callee_says(200, ANSWER);
    let held = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
        m=audio 4000 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendonly\r\n";
    let mut request = incoming(Method::Invite, 2);
    request.to.tag = Some("caller-side".into());
    request.body = Bytes::from_static(held.as_bytes());
    rig.feed(Input::Request { leg: Leg::Caller, txn: ServerTxn(11), request });
    assert_eq!(rig.statuses(), [200]);
    let answer = String::from_utf8_lossy(&rig.responses()[0].body).into_owned();
    assert!(answer.contains("a=recvonly"), "{answer}");
    assert!(rig.has(|o| matches!(o, Output::Media(MediaCommand::Connect { .. }))));
}

#[test]
fn a_callee_with_another_codec_is_heard_after_a_new_offer_to_the_caller() {
    let pcmu = "v=0\r\no=- 2 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
        m=audio 5000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";
    let mut rig = dialling();
    rig.callee_says(200, pcmu);
    assert_eq!(rig.relays(), 0, "the caller would not understand it");
    let offer = rig.sent(&Method::Invite).expect("a re-INVITE to the caller");
    assert_eq!(offer.uri, "sip:100@127.0.0.1:5070");
    let body = String::from_utf8_lossy(&offer.body).into_owned();
    assert!(body.contains("m=audio 6000 RTP/AVP 0 101"), "{body}");
    assert!(body.contains("o=assent") && body.contains(" 2 IN IP4"), "the next version: {body}");

    let txn = ClientTxn(65_537);
    rig.feed(Input::Response { txn, response: answered(200, pcmu) });
    assert!(rig.has(|o| matches!(o, Output::Ack(_))));
    assert_eq!(rig.relays(), 2);
    rig.feed(Input::Response { txn, response: answered(200, pcmu) });
    assert!(rig.has(|o| matches!(o, Output::Ack(_))), "a repeated answer is acknowledged again");
    assert_eq!(rig.relays(), 0);

    let mut refused = dialling();
    refused.callee_says(200, pcmu);
    refused.feed(Input::Response { txn, response: answered(488, "") });
    assert_eq!(refused.ended(), Some(Cause::NoCommonCodec));
    assert!(refused.sent(&Method::Bye).is_some());
}

#[test]
fn an_answer_that_crosses_a_bye_is_acknowledged() {
    let pcmu = "v=0\r\no=- 2 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
        m=audio 5000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";
    let offering = || {
        let mut rig = dialling();
        rig.callee_says(200, pcmu);
        assert!(rig.sent(&Method::Invite).is_some(), "a re-INVITE to the caller");
        rig
    };
    let offer = ClientTxn(65_537);
    let to_callee = |rig: &Rig| ClientTxn(rig.dialled().0 + 2);
    // The caller's BYE overtakes their 200.
    let mut rig = offering();
    rig.by_caller(Method::Bye);
    assert_eq!(rig.ended(), Some(Cause::HungUp(Leg::Caller)));
    let bye = to_callee(&rig);
    rig.feed(Input::Response { txn: bye, response: answered(200, "") });
    assert!(!rig.is_over(), "the answer is still to come");
    rig.feed(Input::Response { txn: offer, response: answered(100, "") });
    assert!(!rig.has(|o| matches!(o, Output::Ack(_))));
    rig.feed(Input::Response { txn: offer, response: answered(200, pcmu) });
    assert!(rig.has(|o| matches!(o, Output::Ack(_))));
    assert_eq!(rig.relays(), 0);
    assert!(rig.is_over());
    // Ours does.
    let mut rig = offering();
    rig.feed(Input::HangUp);
    assert!(rig.sent(&Method::Bye).is_some());
    rig.feed(Input::Response { txn: offer, response: answered(200, pcmu) });
    assert!(rig.has(|o| matches!(o, Output::Ack(_))));
    // It is refused, not answered, or waited for no longer.
    for end in [
        Some(Input::Response { txn: offer, response: answered(487, "") }),
        Some(Input::Unanswered { txn: offer, why: Unanswered::Timeout }),
        None,
    ] {
        let mut rig = offering();
        rig.by_caller(Method::Bye);
        let bye = to_callee(&rig);
        rig.feed(Input::Response { txn: bye, response: answered(200, "") });
        match end {
            Some(input) => rig.feed(input),
            None => rig.wait(Duration::from_secs(40)),
        };
        assert!(!rig.has(|o| matches!(o, Output::Ack(_))));
        assert!(rig.is_over());
    }
}

/// An INVITE that leaves the offer to us.
fn without_offer(policy: Policy) -> Rig {
    let mut setup = setup(policy, true);
    setup.invite.body = Bytes::new();
    Rig::start(setup)
}

fn ack_with(rig: &mut Rig, cseq: u32, body: &'static str) {
    let mut request = incoming(Method::Ack, cseq);
    request.to.tag = Some("caller-side".into());
    request.body = Bytes::from_static(body.as_bytes());
    rig.feed(Input::Ack { leg: Leg::Caller, request });
}

fn described(rig: &Rig) -> String {
    rig.responses().last().map(|r| String::from_utf8_lossy(&r.body).into_owned()).expect("one")
}

#[test]
fn an_invite_without_an_offer_gets_ours_and_is_asked_once_it_is_answered() {
    let mut rig = without_offer(opt_in());
    assert_eq!(rig.statuses(), [200]);
    assert!(Codec::ALL.iter().all(|codec| described(&rig).contains(codec.name())));
    assert!(!rig.has(|o| matches!(o, Output::Media(_))), "nothing is known of the caller yet");
    ack_with(&mut rig, 1, OFFER);
    assert!(rig.has(|o| matches!(o, Output::Media(MediaCommand::Connect { .. }))));
    assert_eq!(rig.prompts(), ["notice-opt-in"]);
    assert_eq!(rig.call.media(Leg::Caller).map(|m| m.codec), Some(Codec::Pcma));
    ack_with(&mut rig, 1, OFFER);
    assert!(rig.out.is_empty(), "an ACK that comes again changes nothing");
}

#[test]
fn an_ack_without_the_answer_ends_the_call() {
    for body in ["", "v=0\r\nnonsense"] {
        let mut rig = without_offer(opt_in());
        ack_with(&mut rig, 1, body);
        assert_eq!(rig.ended(), Some(Cause::NoCommonCodec));
        assert!(rig.sent(&Method::Bye).is_some());
        assert!(rig.prompts().is_empty());
    }
}

#[test]
fn where_nobody_is_asked_the_callees_codec_is_what_the_caller_is_offered() {
    let mut rig = without_offer(standing());
    let offer = rig.sent(&Method::Invite).expect("an INVITE").body.clone();
    assert!(Codec::ALL.iter().all(|c| String::from_utf8_lossy(&offer).contains(c.name())));
    assert_eq!(rig.callee_says(183, ANSWER).statuses(), [183]);
    assert!(rig.responses()[0].body.is_empty(), "the offer is in the 200 alone");
    assert_eq!(rig.callee_says(200, ANSWER).statuses(), [200]);
    assert!(described(&rig).contains("RTP/AVP 8 101"));
    assert_eq!(rig.relays(), 0, "the caller has no address yet");
    ack_with(&mut rig, 1, OFFER);
    assert_eq!(rig.relays(), 2);
    assert_eq!(rig.out.iter().filter(|o| matches!(o, Output::Commit(_))).count(), 2);
}

#[test]
fn a_reinvite_without_an_offer_gets_one_that_takes_a_held_call_back() {
    let mut rig = dialling();
    rig.callee_says(200, ANSWER);
    let reinvite = |cseq, body| {
        let mut request = incoming(Method::Invite, cseq);
        request.to.tag = Some("caller-side".into());
        request.body = Bytes::from_static(body);
        Input::Request { leg: Leg::Caller, txn: ServerTxn(u64::from(cseq)), request }
    };
    let held = b"v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
        m=audio 4000 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendonly\r\n";
    rig.feed(reinvite(2, held));
    ack_with(&mut rig, 2, "");
    rig.feed(reinvite(3, b""));
    assert!(described(&rig).contains("a=sendrecv"), "{}", described(&rig));
    assert!(rig.call.media(Leg::Caller).is_some_and(|m| !m.direction.sends()), "not agreed yet");
    ack_with(&mut rig, 3, OFFER);
    assert!(rig.call.media(Leg::Caller).is_some_and(|m| m.direction.sends()));
    assert_eq!(rig.relays(), 0, "the bridge is as it was");
    // An ACK without an answer leaves the session as it was.
    rig.feed(reinvite(4, b""));
    ack_with(&mut rig, 4, "");
    assert_eq!(rig.ended(), None);
    assert!(rig.call.media(Leg::Caller).is_some_and(|m| m.direction.sends()));
}

#[test]
fn a_key_that_came_before_the_notice_was_heard_agrees_to_nothing() {
    let mut rig = announced(opt_in());
    rig.key('1');
    rig.played_so_much(1, 20);
    assert!(rig.decision().is_none());
    assert_eq!(rig.prompts(), ["notice-opt-in"], "the notice starts again");
    rig.key('1');
    rig.played_so_much(2, 20);
    let facts = rig.decision().expect("a decision").facts();
    assert_eq!((facts.outcome, &facts.answer), (Outcome::Refused, &Answer::NotHeard));

    let mut rig = announced(opt_in());
    rig.key('2');
    rig.played_so_much(1, 0);
    assert_eq!(rig.decision().expect("a no counts at once").facts().outcome, Outcome::Refused);
}

#[test]
fn a_dead_line_objects_to_nothing_and_permits_nothing() {
    let mut rig = announced(no_objection());
    for playback in [1, 2] {
        let mut notice = rig.notice(1000);
        notice.completed = true;
        notice.received = 0;
        rig.end_of(playback, notice);
    }
    let facts = rig.decision().expect("a decision").facts();
    assert_eq!((facts.outcome, &facts.answer), (Outcome::Refused, &Answer::NotHeard));
}

#[test]
fn a_call_in_which_nothing_is_heard_of_anybody_ends() {
    let silent = |leg| Input::Media(MediaEvent::Silent { leg });
    let mut rig = dialling();
    rig.callee_says(200, ANSWER);
    rig.feed(silent(Leg::Caller));
    assert_eq!(rig.ended(), None, "the callee may be talking");
    rig.feed(Input::Media(MediaEvent::Heard { leg: Leg::Caller }));
    rig.feed(silent(Leg::Callee));
    assert_eq!(rig.ended(), None);
    rig.feed(silent(Leg::Caller));
    assert_eq!(rig.ended(), Some(Cause::Dead));
}

#[test]
fn a_call_on_hold_may_be_silent_on_both_sides() {
    let silent = |leg| Input::Media(MediaEvent::Silent { leg });
    let mut rig = dialling();
    rig.callee_says(200, ANSWER);
    rig.feed(silent(Leg::Caller));
    let mut reinvite = |direction: &str| {
        let mut request = incoming(Method::Invite, if direction == "sendonly" { 2 } else { 3 });
        request.to.tag = Some("caller-side".into());
        let body = format!(
            "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio 4000 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\na={direction}\r\n"
        );
        request.body = Bytes::from(body);
        let cseq = request.cseq;
        rig.feed(Input::Request { leg: Leg::Caller, txn: ServerTxn(cseq.into()), request });
        ack_with(&mut rig, cseq, "");
        rig.feed(silent(Leg::Callee));
        rig.ended()
    };
    assert_eq!(reinvite("sendonly"), None, "who holds need not play music");
    assert_eq!(reinvite("sendrecv"), Some(Cause::Dead));
}

#[test]
fn a_call_whose_media_failed_ends() {
    let mut rig = dialling();
    rig.callee_says(200, ANSWER);
    assert_eq!(rig.feed(Input::MediaLost).ended(), Some(Cause::MediaLost));
}

#[test]
fn a_goodbye_that_is_never_played_ends_the_call_all_the_same() {
    let policy = Policy { on_refusal: OnRefusal::HangUp, ..no_objection() };
    let mut rig = announced(policy);
    rig.played(1, true).key('2');
    rig.not_durable(Leg::Caller);
    assert_eq!(rig.call.phase(), Phase::Farewell);
    while rig.ended().is_none() {
        rig.wait(Duration::from_secs(100));
    }
    assert_eq!(rig.ended(), Some(Cause::RefusalEndsCall));
}

#[test]
fn under_per_party_a_refusal_is_answered_as_one_and_the_others_agreement_stands() {
    let mut rig = announced(Policy { scope: Scope::PerParty, ..opt_in() });
    rig.played(1, true).key('2');
    assert_eq!(rig.out.iter().filter(|o| matches!(o, Output::Commit(_))).count(), 1);
    rig.not_durable(Leg::Caller);
    assert_eq!(rig.prompts(), ["declined"]);
    assert_eq!(rig.blocked(), None, "the callee may still be recorded");
    rig.callee_says(200, ANSWER);
    let facts = rig.decision().expect("the callee's agreement").facts();
    assert_eq!((facts.leg, facts.outcome), (Leg::Callee, Outcome::Granted));
}

#[test]
fn an_offer_that_meets_the_callers_own_is_made_again() {
    let pcmu = "v=0\r\no=- 2 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
        m=audio 5000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";
    let mut rig = dialling();
    rig.callee_says(200, pcmu);
    assert!(rig.sent(&Method::Invite).is_some());
    rig.feed(Input::Response { txn: ClientTxn(65_537), response: answered(491, "") });
    assert_eq!(rig.ended(), None);
    rig.wait(Duration::from_secs(1));
    assert!(rig.sent(&Method::Invite).is_some(), "after a pause");
}

#[test]
fn the_end_of_another_fork_is_not_taken_for_its_beginning() {
    let mut rig = dialling();
    rig.callee_says(200, ANSWER);
    let mut response = answered(200, ANSWER);
    response.to_tag = Some("another-fork".into());
    let txn = rig.dialled();
    rig.feed(Input::Response { txn, response });
    let bye = rig.sent(&Method::Bye).expect("a BYE to the other fork");
    let to = String::from_utf8_lossy(bye.headers.first("To").expect("To")).into_owned();
    assert_eq!(to.matches(";tag=").count(), 1, "{to}");
    // The BYE's own answer, which also has the fork's tag.
    let mut response = answered(200, "");
    response.to_tag = Some("another-fork".into());
    rig.feed(Input::Response { txn: ClientTxn(65_537), response });
    assert!(rig.out.is_empty(), "{:?}", rig.out);
}

#[test]
fn a_caller_may_end_an_early_dialog_with_a_bye() {
    let mut rig = Rig::inline(standing());
    rig.callee_says(180, "").by_caller(Method::Bye);
    assert_eq!(rig.statuses(), [200, 487]);
    assert!(rig.has(|o| matches!(o, Output::Cancel { .. })));
    let mut rig = Rig::inline(standing());
    rig.callee_says(180, "").by_caller(Method::Update);
    assert_eq!(rig.statuses(), [200], "a refresh while it rings ends nothing");
}
