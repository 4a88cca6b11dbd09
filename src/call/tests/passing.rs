//! What one party's side says within the call reaches the other's.

use super::rig::*;
use super::*;
use crate::call::message::Answered;

fn line(body: &Bytes, of: &[&str]) -> String {
    let text = String::from_utf8_lossy(body).into_owned();
    let found = text.lines().find(|line| of.contains(line)).unwrap_or_default();
    found.to_owned()
}

fn direction(body: &Bytes) -> String {
    line(body, &["a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"])
}

fn described(port: u16, payload_types: &str, direction: &str) -> String {
    format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP {payload_types} 101\r\na=rtpmap:101 telephone-event/8000\r\n\
         a={direction}\r\n"
    )
}

fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

#[test]
fn what_is_not_for_us_reaches_the_other_party_and_the_answer_comes_back() {
    for leg in Leg::BOTH {
        for method in [Method::Message, Method::Notify, Method::Info, Method::Other("HELLO".into())]
        {
            let mut rig = talking();
            let headers = Headers::new()
                .with("Content-Type", "text/plain")
                .with("Event", "presence")
                .with("Authorization", "Digest secret")
                .with("X-Kept", "yes");
            rig.asks(leg, method.clone(), headers, "hello");
            let (txn, request) = rig.passed(&method).expect("a request to the other side");
            assert_eq!(request.body, "hello");
            let header = |name: &str| request.headers.first(name).cloned();
            assert_eq!(header("X-Kept").as_deref(), Some(&b"yes"[..]));
            assert_eq!(header("Content-Type").as_deref(), Some(&b"text/plain"[..]));
            assert_eq!(header("Max-Forwards").as_deref(), Some(&b"69"[..]));
            assert_eq!(header("Authorization"), None);
            assert!(rig.statuses().is_empty(), "it is the other side that answers");
            let mut response = answered(202, "done");
            response.headers = Headers::new().with("X-Back", "1").with("Content-Type", "a/b");
            rig.answers(txn, response);
            let [back] = rig.responses()[..] else { panic!("{:?}", rig.out) };
            assert_eq!((back.status, &back.body[..]), (202, &b"done"[..]));
            assert_eq!(back.headers.first("X-Back").map(|v| &v[..]), Some(&b"1"[..]));
        }
    }
}

#[test]
fn an_answer_that_never_comes_and_a_party_who_is_not_there_have_their_answers_too() {
    let mut rig = talking();
    rig.asks(Leg::Caller, Method::Message, Headers::new(), "");
    let (txn, _) = rig.passed(&Method::Message).expect("it goes on");
    rig.feed(Input::Unanswered { txn, why: Unanswered::Timeout });
    assert_eq!(rig.statuses(), [408]);
    rig.asks(Leg::Caller, Method::Message, Headers::new(), "");
    rig.asks(Leg::Callee, Method::Bye, Headers::new(), "");
    assert_eq!(rig.statuses(), [200, 487]);
    let mut rig = announced(opt_in());
    rig.asks(Leg::Caller, Method::Message, Headers::new(), "");
    assert_eq!(rig.statuses(), [480]);
    rig.asks(Leg::Caller, Method::Info, Headers::new(), "");
    assert_eq!(rig.statuses(), [200]);
}

#[test]
fn no_more_wait_for_the_other_side_than_it_may_be_asked_at_once() {
    let mut rig = talking();
    let mut refused = 0;
    for _ in 0..40 {
        rig.asks(Leg::Callee, Method::Message, Headers::new(), "");
        refused += rig.statuses().len();
    }
    assert_eq!(refused, 24);
}

#[test]
fn why_somebody_leaves_reaches_the_other_side() {
    let why = || Headers::new().with("Reason", "Q.850;cause=16").with("User-to-User", "00ff");
    for leg in Leg::BOTH {
        let mut rig = talking();
        rig.asks(leg, Method::Bye, why(), "");
        let (_, bye) = rig.passed(&Method::Bye).expect("a BYE");
        assert_eq!(bye.headers.first("Reason").map(|v| &v[..]), Some(&b"Q.850;cause=16"[..]));
        assert_eq!(bye.headers.first("User-to-User").map(|v| &v[..]), Some(&b"00ff"[..]));
    }
    let mut rig = Rig::inline(standing());
    rig.callee_says(180, "");
    rig.feed(Input::Cancelled { txn: INVITE, headers: why() });
    let reason = rig.out.iter().find_map(|output| match output {
        Output::Cancel { headers, .. } => headers.first("Reason").cloned(),
        _ => None,
    });
    assert_eq!(reason.as_deref(), Some(&b"Q.850;cause=16"[..]));
    let mut rig = Rig::inline(standing());
    let txn = rig.dialled();
    let response = Answered { headers: why(), ..answered(486, "") };
    rig.answers(txn, response);
    let [busy] = rig.responses()[..] else { panic!("{:?}", rig.out) };
    assert_eq!(busy.status, 486);
    assert_eq!(busy.headers.first("Reason").map(|v| &v[..]), Some(&b"Q.850;cause=16"[..]));
}

#[test]
fn a_hold_is_answered_at_once_and_the_other_party_is_told_of_it_and_of_its_end() {
    for leg in Leg::BOTH {
        for (hold, theirs) in [("sendonly", "a=sendonly"), ("inactive", "a=inactive")] {
            let mut rig = talking();
            rig.asks(leg, Method::Invite, Headers::new(), &described(4000, "8", hold));
            let [response] = rig.responses()[..] else { panic!("{:?}", rig.out) };
            let answer = if hold == "sendonly" { "a=recvonly" } else { "a=inactive" };
            assert_eq!((response.status, direction(&response.body)), (200, answer.to_owned()));
            let (txn, offer) = rig.passed(&Method::Invite).expect("a re-INVITE");
            assert_eq!(direction(&offer.body), theirs);
            rig.acks(leg);
            let other = if hold == "sendonly" { "recvonly" } else { "inactive" };
            rig.answers(txn, answered(200, leaked(described(5000, "8", other))));
            assert!(rig.passed(&Method::Invite).is_none(), "a hold is told once");
            // A refresh of the party on hold takes nothing back.
            let held = leg.other();
            rig.asks(held, Method::Invite, Headers::new(), &described(5000, "8", "sendrecv"));
            assert_eq!(direction(&rig.responses()[0].body), theirs);
            rig.acks(held);
            rig.asks(leg, Method::Update, Headers::new(), &described(4000, "8", "sendrecv"));
            assert_eq!(direction(&rig.responses()[0].body), "a=sendrecv");
            let (_, offer) = rig.passed(&Method::Invite).expect("a re-INVITE");
            assert_eq!(direction(&offer.body), "a=sendrecv");
        }
    }
}

#[test]
fn an_old_hold_by_the_unspecified_address_is_a_hold() {
    let mut rig = talking();
    let hold = described(4000, "8", "sendrecv").replace("c=IN IP4 127.0.0.1", "c=IN IP4 0.0.0.0");
    rig.asks(Leg::Caller, Method::Invite, Headers::new(), &hold);
    assert_eq!(rig.statuses(), [200]);
    let (_, offer) = rig.passed(&Method::Invite).expect("a re-INVITE");
    assert_eq!(direction(&offer.body), "a=sendonly");
}

#[test]
fn another_codec_is_agreed_with_the_other_party_first() {
    let mut rig = talking();
    rig.asks(Leg::Caller, Method::Invite, Headers::new(), &described(4000, "9 0", "sendrecv"));
    assert!(rig.statuses().is_empty(), "the callee is asked");
    let (txn, offer) = rig.passed(&Method::Invite).expect("a re-INVITE");
    assert!(String::from_utf8_lossy(&offer.body).contains("m=audio 6002 RTP/AVP 9 0 101"));
    // Meanwhile nobody else may offer.
    rig.asks(Leg::Callee, Method::Invite, Headers::new(), &described(5000, "8", "sendonly"));
    assert_eq!(rig.statuses(), [491]);
    rig.answers(txn, answered(200, leaked(described(5000, "0", "sendrecv"))));
    let [response] = rig.responses()[..] else { panic!("{:?}", rig.out) };
    assert_eq!(response.status, 200);
    assert!(String::from_utf8_lossy(&response.body).contains("m=audio 6000 RTP/AVP 0 101"));
    for leg in Leg::BOTH {
        assert_eq!(rig.call.media(leg).map(|media| media.codec), Some(Codec::Pcmu));
    }
}

#[test]
fn a_codec_that_the_other_party_refuses_leaves_both_sessions_as_they_were() {
    for (status, passed) in [(488, 488), (491, 491), (500, 500)] {
        let mut rig = talking();
        rig.asks(Leg::Callee, Method::Update, Headers::new(), &described(5000, "9", "sendrecv"));
        let (txn, _) = rig.passed(&Method::Invite).expect("a re-INVITE");
        rig.answers(txn, answered(status, ""));
        assert_eq!(rig.statuses(), [passed]);
        assert_eq!(rig.ended(), None);
        for leg in Leg::BOTH {
            assert_eq!(rig.call.media(leg).map(|media| media.codec), Some(Codec::Pcma));
        }
    }
}

#[test]
fn transactions_of_a_long_call_never_run_into_those_of_the_next() {
    let mut rig = talking();
    for _ in 0..70_000 {
        rig.asks(Leg::Caller, Method::Message, Headers::new(), "");
        let (txn, _) = rig.passed(&Method::Message).expect("it goes on");
        assert!((65_537..131_072).contains(&txn.0), "{txn:?}");
        rig.answers(txn, answered(200, ""));
    }
}
