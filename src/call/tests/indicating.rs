//! Peers that ask for it are told what becomes of their stream, and say what they would like
//! (RFC 7866).

use super::rig::*;
use super::*;
use crate::consent::machine::Order;

fn aware(policy: Policy) -> Rig {
    let mut setup = setup(policy, true);
    setup.invite.headers.push("Supported", "timer, record-aware");
    Rig::start(setup)
}

fn body(of: &[u8]) -> String {
    String::from_utf8_lossy(of).into_owned()
}

/// To the point where both are recorded and talk.
fn recorded(mut rig: Rig) -> Rig {
    rig.ack().played(1, true).key('1');
    rig.durable();
    rig
}

fn agrees(rig: &mut Rig) {
    let txn = rig.out.iter().find_map(|output| match output {
        Output::Send { txn, request } if told_in(request) => Some(*txn),
        _ => None,
    });
    let txn = txn.expect("a re-INVITE");
    rig.feed(Input::Response { txn, response: answered(200, ANSWER) });
}

fn told(rig: &Rig) -> Option<String> {
    rig.out.iter().find_map(|output| match output {
        Output::Send { request, .. } => body(&request.body)
            .lines()
            .find_map(|line| line.strip_prefix("a=record:"))
            .map(str::to_owned),
        _ => None,
    })
}

#[test]
fn who_is_not_aware_is_told_nothing() {
    let mut rig = Rig::inline(opt_in());
    assert!(!body(&rig.responses()[0].body).contains("a=record"));
    rig = recorded(rig);
    assert_eq!(told(&rig), None);
}

#[test]
fn an_aware_caller_is_told_when_recording_begins_pauses_and_ends() {
    let mut rig = aware(opt_in());
    assert!(body(&rig.responses()[0].body).contains("a=record:off"));
    rig = recorded(rig);
    assert_eq!(told(&rig).as_deref(), Some("on"));
    agrees(&mut rig);
    let command = |order| Input::Command { order, id: "c".into() };
    rig.feed(command(Order::Pause));
    assert_eq!(told(&rig).as_deref(), Some("paused"));
    // Both at once: what is last is told once the first is answered.
    let first = std::mem::take(&mut rig.out);
    rig.feed(command(Order::Withdraw(Leg::Caller)));
    assert_eq!(told(&rig), None);
    rig.out = first;
    agrees(&mut rig);
    assert_eq!(told(&rig).as_deref(), Some("off"));
}

#[test]
fn a_peer_that_refuses_to_be_told_goes_on_with_the_call() {
    let mut rig = recorded(aware(opt_in()));
    let txn = rig.out.iter().find_map(|output| match output {
        Output::Send { txn, request } if told_in(request) => Some(*txn),
        _ => None,
    });
    let txn = txn.expect("a re-INVITE");
    rig.feed(Input::Response { txn, response: answered(488, "") });
    assert_eq!(rig.ended(), None);
    rig.callee_says(200, ANSWER);
    assert_eq!(rig.relays(), 2);
}

fn told_in(request: &crate::call::message::Request) -> bool {
    body(&request.body).contains("a=record:")
}

#[test]
fn a_telephone_that_prefers_no_recording_objects_for_its_party() {
    let mut setup = setup(opt_in(), true);
    let offer = format!("{OFFER}a=recordpref:off\r\n");
    setup.invite.body = Bytes::from(offer);
    let mut rig = Rig::start(setup);
    let facts = rig.decision().expect("a decision").facts().clone();
    assert_eq!((facts.outcome, facts.answer), (Outcome::Refused, Answer::Preference));
    rig.durable();
    assert!(rig.sent(&Method::Invite).is_some(), "the call goes on, unasked");
    assert!(rig.ack().prompts().is_empty());
}

#[test]
fn a_telephone_that_prefers_a_recording_permits_nothing() {
    let mut setup = setup(opt_in(), true);
    setup.invite.body = Bytes::from(format!("{OFFER}a=recordpref:on\r\n"));
    let mut rig = Rig::start(setup);
    assert!(rig.decision().is_none());
    assert_eq!(rig.ack().prompts(), ["notice-opt-in"]);
}
