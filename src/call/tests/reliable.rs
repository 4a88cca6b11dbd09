//! Provisional responses that are acknowledged (RFC 3262), on both legs.

use super::rig::*;
use super::*;
use crate::call::message::{Incoming, Request, Response};

fn text(headers: &Headers, name: &str) -> Option<String> {
    headers.first(name).map(|value| String::from_utf8_lossy(value).into_owned())
}

fn calls(header: &'static str, body: &'static str) -> Rig {
    let mut setup = setup(standing(), true);
    setup.invite.headers.push(header, "100rel");
    setup.invite.body = Bytes::from_static(body.as_bytes());
    Rig::start(setup)
}

fn in_dialog(method: Method, cseq: u32, body: &'static str) -> Incoming {
    let mut request = incoming(method, cseq);
    request.to.tag = Some("caller-side".into());
    request.body = Bytes::from_static(body.as_bytes());
    request
}

fn prack(rig: &mut Rig, cseq: u32, rack: &str, body: &'static str) {
    let mut request = in_dialog(Method::Prack, cseq, body);
    request.headers.push("RAck", rack.to_owned());
    let txn = ServerTxn(u64::from(cseq));
    rig.feed(Input::Request { leg: Leg::Caller, txn, request });
}

fn update(rig: &mut Rig, cseq: u32) {
    let request = in_dialog(Method::Update, cseq, OFFER);
    rig.feed(Input::Request { leg: Leg::Caller, txn: ServerTxn(u64::from(cseq)), request });
}

fn reliable(status: u16, rseq: &'static str, body: &'static str) -> Input {
    let mut response = answered(status, body);
    response.headers.push("Require", "100rel");
    response.headers.push("RSeq", rseq);
    Input::Response { txn: ClientTxn(65_536), response }
}

fn last(rig: &Rig) -> Response {
    (*rig.responses().last().expect("a response")).clone()
}

fn is_described(response: &Response) -> bool {
    String::from_utf8_lossy(&response.body).contains("m=audio")
}

#[test]
fn the_callees_reliable_responses_are_acknowledged_once_and_in_order() {
    let mut rig = Rig::inline(standing());
    let invite = rig.sent(&Method::Invite).expect("an INVITE");
    assert!(text(&invite.headers, "Supported").is_some_and(|value| value.contains("100rel")));
    rig.feed(reliable(180, "17", ""));
    assert_eq!(rig.statuses(), [180]);
    assert_eq!(text(&rig.responses()[0].headers, "RSeq"), None, "the caller did not ask for it");
    let first: &Request = rig.sent(&Method::Prack).expect("a PRACK");
    assert_eq!(text(&first.headers, "RAck").as_deref(), Some("17 1 INVITE"));
    assert_eq!(text(&first.headers, "CSeq").as_deref(), Some("2 PRACK"));
    assert_eq!(first.uri, "sip:200@127.0.0.1:5090");
    assert!(text(&first.headers, "To").is_some_and(|to| to.ends_with(";tag=callee-tag")));
    for again in ["17", "19", "16"] {
        assert!(rig.feed(reliable(183, again, ANSWER)).out.is_empty(), "{again}");
    }
    rig.feed(reliable(183, "18", ANSWER));
    let second = rig.sent(&Method::Prack).expect("a PRACK");
    assert_eq!(text(&second.headers, "RAck").as_deref(), Some("18 1 INVITE"));
    assert_eq!(rig.relays(), 1, "early media is heard");
    // The answer was in it: the 200 needs none, and the dialog goes on counting.
    rig.callee_says(200, "");
    assert_eq!(rig.statuses(), [200]);
    assert_eq!(rig.relays(), 2);
    rig.ack();
    rig.by_caller(Method::Bye);
    let bye = rig.sent(&Method::Bye).expect("a BYE");
    assert_eq!(text(&bye.headers, "CSeq").as_deref(), Some("4 BYE"));
}

#[test]
fn a_description_goes_to_the_caller_reliably_and_the_answer_waits_for_its_acknowledgement() {
    let mut rig = calls("Supported", OFFER);
    rig.callee_says(180, "");
    assert_eq!(text(&last(&rig).headers, "RSeq"), None);
    rig.callee_says(183, ANSWER);
    let early = last(&rig);
    assert_eq!(text(&early.headers, "RSeq").as_deref(), Some("1"));
    assert_eq!(text(&early.headers, "Require").as_deref(), Some("100rel"));
    assert!(is_described(&early));
    rig.wait(Duration::from_millis(500));
    assert_eq!(last(&rig), early, "sent again");
    rig.callee_says(200, ANSWER);
    assert!(rig.statuses().is_empty(), "RFC 3262, 3: not before the PRACK");
    prack(&mut rig, 2, "2 1 INVITE", "");
    assert_eq!(rig.statuses(), [481]);
    prack(&mut rig, 3, "1 1 INVITE", "");
    assert_eq!(rig.statuses(), [200, 200]);
    assert!(last(&rig).body.is_empty(), "the one answer is out already");
    assert_eq!(rig.relays(), 2);
    prack(&mut rig, 4, "1 1 INVITE", "");
    assert_eq!(rig.statuses(), [481]);
    rig.ack();
    assert_eq!(rig.call.phase(), Phase::Talking);
}

#[test]
fn a_caller_who_never_acknowledges_is_told_504_and_the_callee_let_go() {
    let mut rig = calls("Require", OFFER);
    rig.callee_says(180, "");
    assert_eq!(text(&last(&rig).headers, "RSeq").as_deref(), Some("1"));
    let mut repeated = 0;
    while rig.ended().is_none() {
        rig.wait(Duration::from_secs(40));
        repeated += rig.statuses().iter().filter(|status| **status == 180).count();
    }
    assert_eq!(rig.statuses(), [504]);
    assert_eq!(repeated, 6);
    assert!(rig.has(|o| matches!(o, Output::Cancel { .. })));
}

#[test]
fn only_one_is_open_and_the_newest_follows_it() {
    let mut rig = calls("Require", OFFER);
    rig.callee_says(180, "").callee_says(181, "");
    assert!(rig.statuses().is_empty());
    rig.callee_says(183, ANSWER);
    prack(&mut rig, 2, "1 1 INVITE", "");
    assert_eq!(rig.statuses(), [200, 183]);
    assert_eq!(text(&last(&rig).headers, "RSeq").as_deref(), Some("2"));
    // A final answer without a description before it does not wait.
    let mut rig = calls("Require", OFFER);
    rig.callee_says(180, "").callee_says(200, ANSWER);
    assert_eq!(rig.statuses(), [200]);
    assert!(is_described(&last(&rig)));
    prack(&mut rig, 2, "1 1 INVITE", "");
    assert_eq!(rig.statuses(), [200], "it crossed the answer");
    rig.ack();
    assert_eq!(rig.ended(), None);
}

#[test]
fn a_cancel_while_the_answer_waits_ends_both_sides() {
    let mut rig = calls("Supported", OFFER);
    rig.callee_says(183, ANSWER).callee_says(200, ANSWER);
    rig.feed(Input::Cancelled { txn: INVITE, headers: Headers::new() });
    assert_eq!(rig.statuses(), [487]);
    assert!(rig.sent(&Method::Bye).is_some(), "the callee had answered");
}

#[test]
fn an_offer_of_ours_goes_out_early_and_is_answered_in_the_prack() {
    for (header, status) in [("Supported", 183), ("Require", 180)] {
        let mut rig = calls(header, "");
        rig.callee_says(status, if status == 183 { ANSWER } else { "" });
        assert!(is_described(&last(&rig)), "{header}");
        assert!(
            !rig.has(|o| matches!(
                o,
                Output::Media(MediaCommand::Connect { leg: Leg::Caller, .. })
            ))
        );
        prack(&mut rig, 2, "1 1 INVITE", OFFER);
        assert_eq!(rig.statuses(), [200]);
        assert!(
            rig.has(|o| matches!(o, Output::Media(MediaCommand::Connect { leg: Leg::Caller, .. })))
        );
        rig.callee_says(200, ANSWER);
        assert_eq!(rig.statuses(), [200]);
        assert!(last(&rig).body.is_empty());
        rig.ack();
        assert_eq!((rig.call.phase(), rig.ended()), (Phase::Talking, None));
    }
    for answer in ["", "v=0\r\nnonsense"] {
        let mut rig = calls("Supported", "");
        rig.callee_says(183, ANSWER);
        prack(&mut rig, 2, "1 1 INVITE", answer);
        assert_eq!(rig.statuses(), [200, 488], "{answer}");
    }
}

#[test]
fn the_caller_may_offer_again_once_the_first_answer_is_acknowledged() {
    let mut rig = calls("Supported", OFFER);
    rig.callee_says(183, ANSWER);
    update(&mut rig, 2);
    assert_eq!(rig.statuses(), [500], "not yet");
    assert!(text(&last(&rig).headers, "Retry-After").is_some());
    prack(&mut rig, 3, "1 1 INVITE", "");
    update(&mut rig, 4);
    assert_eq!(rig.statuses(), [200]);
    assert!(is_described(&last(&rig)));
    update(&mut rig, 4);
    assert_eq!(rig.statuses(), [500], "its CSeq is not new");
}
