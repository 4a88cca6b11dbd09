//! Session timers (RFC 4028) on both legs, as refresher and refreshed.

use super::rig::*;
use super::*;
use crate::call::message::{Request, Response};
use crate::call::session_timer::Terms;

const SECOND: Duration = Duration::from_secs(1);

fn text(headers: &Headers, name: &str) -> Option<String> {
    headers.first(name).map(|value| String::from_utf8_lossy(value).into_owned())
}

fn calls_with(lines: &[(&'static str, &'static str)]) -> Rig {
    let mut setup = setup(standing(), true);
    for (name, value) in lines {
        setup.invite.headers.push(*name, *value);
    }
    Rig::start(setup)
}

fn answer_with(lines: &[(&'static str, &'static str)], body: &'static str) -> Input {
    let mut response = answered(200, body);
    for (name, value) in lines {
        response.headers.push(*name, *value);
    }
    Input::Response { txn: ClientTxn(65_536), response }
}

/// Both legs talk, the callee's without a timer.
fn talking(lines: &[(&'static str, &'static str)]) -> Rig {
    let mut rig = calls_with(lines);
    rig.callee_says(200, ANSWER);
    rig.ack();
    rig
}

/// Both legs talk, the caller's without a timer.
fn answered_with(lines: &[(&'static str, &'static str)]) -> Rig {
    let mut rig = calls_with(&[]);
    rig.feed(answer_with(lines, ANSWER));
    rig.ack();
    rig
}

fn ours(rig: &Rig) -> (ClientTxn, Request) {
    let sent = rig.out.iter().find_map(|output| match output {
        Output::Send { txn, request } => Some((*txn, request.clone())),
        _ => None,
    });
    sent.expect("a request of ours")
}

fn says(rig: &mut Rig, leg: Leg, txn: ClientTxn, status: u16, timer: Option<&'static str>) {
    let (contact, body) = match leg {
        Leg::Caller => ("sip:100@127.0.0.1:5070", OFFER),
        Leg::Callee => ("sip:200@127.0.0.1:5090", ANSWER),
    };
    let mut response = answered(status, if status == 200 { body } else { "" });
    response.contact = Some(contact.into());
    if let Some(timer) = timer {
        response.headers.push("Session-Expires", timer);
    }
    rig.feed(Input::Response { txn, response });
}

fn in_dialog(rig: &mut Rig, method: Method, cseq: u32, lines: &[(&'static str, &'static str)]) {
    let mut request = incoming(method, cseq);
    request.to.tag = Some("caller-side".into());
    for (name, value) in lines {
        request.headers.push(*name, *value);
    }
    let txn = ServerTxn(u64::from(cseq));
    rig.feed(Input::Request { leg: Leg::Caller, txn, request });
}

#[test]
fn the_callee_is_offered_a_timer_and_a_caller_with_one_is_granted_it() {
    let mut rig = calls_with(&[("Supported", "timer"), ("Session-Expires", "600")]);
    let invite = rig.sent(&Method::Invite).expect("an INVITE").headers.clone();
    assert_eq!(text(&invite, "Supported").as_deref(), Some("100rel, replaces, timer"));
    assert_eq!(text(&invite, "Session-Expires").as_deref(), Some("1800"));
    assert_eq!(text(&invite, "Min-SE").as_deref(), Some("90"));
    rig.callee_says(200, ANSWER);
    let answer: &Response = rig.responses()[0];
    assert_eq!(text(&answer.headers, "Session-Expires").as_deref(), Some("600;refresher=uac"));
    assert_eq!(text(&answer.headers, "Require").as_deref(), Some("timer"));
}

#[test]
fn whoever_knows_no_timer_gets_none_and_the_call_has_no_deadline() {
    let rig = talking(&[]);
    assert_eq!(rig.call.deadline(), None);
    let mut setup = setup(standing(), true);
    setup.timers = Terms { expires: None, ..setup.timers };
    let rig = Rig::start(setup);
    let invite = rig.sent(&Method::Invite).expect("an INVITE");
    assert_eq!(text(&invite.headers, "Session-Expires"), None);
}

#[test]
fn a_caller_who_stops_refreshing_is_hung_up_on_and_so_is_the_callee() {
    let mut rig = talking(&[("Supported", "timer"), ("Session-Expires", "600")]);
    rig.wait(567 * SECOND);
    assert_eq!(rig.ended(), None);
    in_dialog(&mut rig, Method::Update, 2, &[("Supported", "timer"), ("Session-Expires", "600")]);
    assert_eq!(rig.statuses(), [200], "refreshed by an UPDATE without an offer");
    let granted = text(&rig.responses()[0].headers, "Session-Expires");
    assert_eq!(granted.as_deref(), Some("600;refresher=uac"));
    rig.wait(567 * SECOND);
    assert_eq!(rig.ended(), None);
    rig.wait(SECOND);
    assert_eq!(rig.ended(), Some(Cause::Expired));
    let byes: Vec<&Request> = rig
        .out
        .iter()
        .filter_map(|output| match output {
            Output::Send { request, .. } if request.method == Method::Bye => Some(request),
            _ => None,
        })
        .collect();
    assert_eq!(byes.len(), 2);
    for bye in byes {
        let reason = text(&bye.headers, "Reason");
        assert_eq!(reason.as_deref(), Some("SIP;cause=408;text=\"Session Timer Expired\""));
    }
}

#[test]
fn too_short_an_interval_within_the_call_is_422_and_changes_nothing() {
    let mut rig = talking(&[("Supported", "timer"), ("Session-Expires", "600")]);
    let before = rig.call.deadline();
    in_dialog(&mut rig, Method::Update, 2, &[("Supported", "timer"), ("Session-Expires", "30")]);
    assert_eq!(rig.statuses(), [422]);
    assert_eq!(text(&rig.responses()[0].headers, "Min-SE").as_deref(), Some("90"));
    assert_eq!(rig.call.deadline(), before);
}

#[test]
fn we_refresh_the_caller_by_re_invite_with_the_session_unchanged() {
    let asks = [("Supported", "timer"), ("Session-Expires", "600;refresher=uas")];
    let mut rig = talking(&asks);
    let body = |body: &Bytes| String::from_utf8_lossy(body).into_owned();
    rig.wait(400 * SECOND);
    let (txn, refresh) = ours(&rig);
    assert_eq!(refresh.method, Method::Invite);
    assert_eq!(text(&refresh.headers, "Session-Expires").as_deref(), Some("600;refresher=uac"));
    assert!(body(&refresh.body).contains(" 1 IN IP4"), "the same version: nothing is new");
    says(&mut rig, Leg::Caller, txn, 200, Some("600;refresher=uac"));
    assert!(rig.has(|o| matches!(o, Output::Ack(_))));
    assert_eq!(rig.ended(), None);
    assert!(!rig.has(|o| matches!(o, Output::Media(_))), "nothing has changed");
    rig.wait(400 * SECOND);
    let (txn, _) = ours(&rig);
    rig.feed(Input::Unanswered { txn, why: Unanswered::Timeout });
    assert_eq!(rig.ended(), Some(Cause::Expired));
}

#[test]
fn we_refresh_a_callee_that_allows_it_by_update() {
    let timer = [("Session-Expires", "600;refresher=uac"), ("Allow", "INVITE, UPDATE")];
    let mut rig = answered_with(&timer);
    rig.wait(400 * SECOND);
    let (txn, refresh) = ours(&rig);
    assert_eq!(
        (&refresh.method, refresh.uri.as_str()),
        (&Method::Update, "sip:200@127.0.0.1:5090")
    );
    assert!(refresh.body.is_empty());
    // Its answer moves the next one; who turns the timer off is not refreshed any more.
    says(&mut rig, Leg::Callee, txn, 200, Some("600;refresher=uac"));
    rig.wait(300 * SECOND);
    let (txn, refresh) = ours(&rig);
    assert_eq!(refresh.method, Method::Update);
    says(&mut rig, Leg::Callee, txn, 405, None);
    rig.wait(Duration::ZERO);
    let (txn, refresh) = ours(&rig);
    assert_eq!(refresh.method, Method::Invite, "it does not speak UPDATE after all");
    says(&mut rig, Leg::Callee, txn, 200, None);
    assert_eq!((rig.ended(), rig.call.deadline()), (None, None));
}

#[test]
fn a_peer_that_has_forgotten_the_call_ends_it_and_one_that_is_busy_does_not() {
    let timer = [("Session-Expires", "600;refresher=uac"), ("Allow", "UPDATE")];
    for status in [408, 481] {
        let mut rig = answered_with(&timer);
        rig.wait(300 * SECOND);
        let (txn, _) = ours(&rig);
        says(&mut rig, Leg::Callee, txn, status, None);
        assert_eq!(rig.ended(), Some(Cause::Expired));
    }
    let mut rig = answered_with(&timer);
    rig.wait(300 * SECOND);
    let mut tries = 0;
    while rig.ended().is_none() {
        let (txn, _) = ours(&rig);
        says(&mut rig, Leg::Callee, txn, 500, None);
        tries += 1;
        rig.wait(600 * SECOND);
    }
    assert_eq!(rig.ended(), Some(Cause::Expired), "but not for ever");
    assert!((5..20).contains(&tries), "{tries}");
}

#[test]
fn a_refresh_that_is_too_frequent_for_the_peer_is_made_with_its_interval() {
    let timer = [("Session-Expires", "600;refresher=uac"), ("Allow", "UPDATE")];
    let mut rig = answered_with(&timer);
    rig.wait(300 * SECOND);
    let (txn, _) = ours(&rig);
    let mut response = answered(422, "");
    response.headers.push("Min-SE", "3600");
    rig.feed(Input::Response { txn, response });
    rig.wait(Duration::ZERO);
    let (_, refresh) = ours(&rig);
    assert_eq!(text(&refresh.headers, "Session-Expires").as_deref(), Some("3600;refresher=uac"));
    assert_eq!(text(&refresh.headers, "Min-SE").as_deref(), Some("3600"));
}

#[test]
fn an_invite_that_the_callee_finds_too_frequent_goes_out_again_with_its_interval() {
    let mut rig = calls_with(&[]);
    let mut response = answered(422, "");
    response.headers.push("Min-SE", "7200");
    rig.feed(Input::Response { txn: ClientTxn(65_536), response });
    let (txn, again) = ours(&rig);
    assert_eq!(text(&again.headers, "Session-Expires").as_deref(), Some("7200"));
    assert_eq!(text(&again.headers, "Min-SE").as_deref(), Some("7200"));
    assert_eq!(text(&again.headers, "CSeq").as_deref(), Some("2 INVITE"));
    assert_eq!(text(&again.headers, "X-Kept").as_deref(), Some("yes"));
    assert!(rig.statuses().is_empty(), "the caller hears nothing of it");
    let mut response = answered(200, ANSWER);
    response.cseq = 2;
    rig.feed(Input::Response { txn, response });
    assert_eq!(rig.statuses(), [200]);

    let mut rig = calls_with(&[]);
    rig.callee_says(422, "");
    assert_eq!(rig.statuses(), [422], "without a Min-SE it is a refusal like any other");
}

#[test]
fn a_refresh_takes_nobody_off_hold() {
    let mut rig = talking(&[("Supported", "timer"), ("Session-Expires", "600;refresher=uas")]);
    let mut hold = incoming(Method::Invite, 2);
    hold.to.tag = Some("caller-side".into());
    hold.body = Bytes::from(format!("{OFFER}a=sendonly\r\n"));
    rig.feed(Input::Request { leg: Leg::Caller, txn: ServerTxn(2), request: hold });
    let mut ack = incoming(Method::Ack, 2);
    ack.to.tag = Some("caller-side".into());
    rig.feed(Input::Ack { leg: Leg::Caller, request: ack });
    rig.wait(300 * SECOND);
    let (_, refresh) = ours(&rig);
    let body = String::from_utf8_lossy(&refresh.body).into_owned();
    assert!(body.contains("a=recvonly"), "{body}");
}

#[test]
fn a_new_offer_of_ours_refreshes_as_well() {
    let mut setup = setup(opt_in(), true);
    setup.invite.headers.push("Supported", "timer, record-aware");
    setup.invite.headers.push("Session-Expires", "600;refresher=uas");
    let mut rig = Rig::start(setup);
    rig.ack().wait(5 * SECOND);
    rig.played(1, true).key('1');
    rig.durable();
    let (txn, offer) = rig
        .out
        .iter()
        .find_map(|output| match output {
            Output::Send { txn, request } if request.uri.contains("5070") => {
                Some((*txn, request.clone()))
            }
            _ => None,
        })
        .expect("word of the recording");
    assert_eq!(text(&offer.headers, "Session-Expires").as_deref(), Some("600;refresher=uac"));
    says(&mut rig, Leg::Caller, txn, 200, Some("600;refresher=uac"));
    assert!(rig.has(|o| matches!(o, Output::Ack(_))));
    rig.wait(295 * SECOND);
    assert!(rig.sent(&Method::Invite).is_none(), "the refresh that was due is made already");
}
