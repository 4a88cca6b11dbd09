//! Whatever arrives, the edge answers what can be answered, ignores what cannot, and serves the
//! next good request.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "sip/wire.rs"]
mod wire;

use std::time::Duration;

use assent::call::message::{ClientTxn, Headers, Method, Request, Response};
use assent::sip::{Peers, SipEvent};
use wire::{Edge, Phone, follow, invite, options};

/// A fault and the status that answers it.
fn faults() -> Vec<(u16, &'static str, String)> {
    let good = invite("MARK");
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    vec![
        (400, "space in the Request-URI", with("sip:assent@test SIP", "sip:assent@te st SIP")),
        (400, "brackets around the Request-URI", with("sip:assent@test S", "<sip:assent@test> S")),
        (400, "a header without a colon", with("Max-Forwards: 70", "Max-Forwards 70")),
        (400, "a header without a name", with("Max-Forwards: 70", ": 70")),
        (400, "no From tag's value", with(";tag=p", ";tag")),
        (400, "an unterminated quote", with("From: <", "From: \"phone <")),
        (400, "a CSeq of another method", with("CSeq: 1 INVITE", "CSeq: 1 OPTIONS")),
        (400, "a CSeq out of range", with("CSeq: 1 INVITE", "CSeq: 4294967296 INVITE")),
        (400, "two To headers", with("Call-ID:", "To: <sip:other@test>\nCall-ID:")),
        (400, "no Contact", with("Contact: {contact}\n", "")),
        (400, "a Max-Forwards out of range", with("Max-Forwards: 70", "Max-Forwards: 300")),
        (400, "a body without a type", with("Content-Type: application/sdp\n", "")),
        (400, "headers in the Request-URI", with("sip:assent@test S", "sip:assent@test?a=b S")),
        (505, "a later version", with("test SIP/2.0", "test SIP/3.0")),
        (501, "an unknown method", good.replace("INVITE", "DANCE")),
        (405, "a method that is not served", good.replace("INVITE", "REGISTER")),
        (405, "another one", good.replace("INVITE", "SUBSCRIBE")),
        (481, "a BYE that belongs to no dialog", good.replace("INVITE", "BYE")),
        (416, "an unknown scheme", with("sip:assent@test S", "soap.beep://assent S")),
        (420, "an extension", with("Call-ID:", "Require: 100rel, nonsense\nCall-ID:")),
        (483, "no hops left", with("Max-Forwards: 70", "Max-Forwards: 0")),
        (415, "a body that nobody reads", with("application/sdp", "text/plain")),
        (415, "an encoding", with("Call-ID:", "Content-Encoding: gzip\nCall-ID:")),
    ]
}

#[tokio::test]
async fn each_fault_gets_its_answer_over_every_transport_and_the_next_request_is_served() {
    let mut edge = Edge::start();
    for listener in 0..4 {
        let mut phone = Phone::to(edge.at(listener)).await;
        for (n, (status, what, text)) in faults().into_iter().enumerate() {
            let mark = format!("{listener}-{n}");
            phone.say(&text.replace("MARK", &mark)).await;
            let answer = phone.hear().await;
            assert_eq!(answer.status(), status, "{what}: {answer:?}");
            assert_eq!(answer.header("Call-ID"), mark, "{what}");
            assert!(!answer.to_tag().is_empty());
            assert!(answer.header("Via").contains("rport="), "{answer:?}");
            match status {
                405 | 501 => assert!(answer.header("Allow").contains("INVITE")),
                420 => assert_eq!(answer.header("Unsupported"), "nonsense"),
                _ => {}
            }
            phone.hears_nothing_more(&mark).await;
        }
    }
    edge.no_event();
    assert!(edge.sip.counters().parse_errors.load() >= 4 * 4);
    assert_eq!(edge.sip.counters().transactions.load(), 0, "a refusal leaves nothing behind");
}

#[tokio::test]
async fn what_cannot_be_answered_gets_no_answer() {
    let mut edge = Edge::start();
    let unanswerable = [
        "nonsense".to_owned(),
        "\n\n".to_owned(),
        "\0\0\0\0".to_owned(),
        "SIP/2.0 999 What\n\n".to_owned(),
        "INVITE sip:a SIP/2.0\n\n".to_owned(),
        invite("a").replace("Via:", "X-Via:"),
        invite("b").replace("From:", "X-From:").replace("sip:assent@test SIP", "a b SIP"),
        follow("c", "ACK", ""),
        follow("d", "ACK", "x").replace("CSeq: 1 ACK", "CSeq: 1 INVITE"),
        follow("e", "ACK", "x").replace("sip:assent@test SIP", "sip:a b SIP"),
        "SIP/2.0 200 OK\nVia: {via};branch=z9hG4bK1\nFrom: <sip:a>;tag=1\nTo: <sip:b>;tag=2\n\
         Call-ID: x\nCSeq: 1 INVITE\nContent-Length: 0\n\n"
            .to_owned(),
    ];
    for listener in 0..2 {
        let mut phone = Phone::to(edge.at(listener)).await;
        for (n, text) in unanswerable.iter().enumerate() {
            phone.say(text).await;
            phone.hears_nothing_more(&format!("{listener}-{n}")).await;
        }
    }
    edge.no_event();
}

#[tokio::test]
async fn who_cannot_say_where_they_are_is_answered_where_they_spoke() {
    let mut edge = Edge::start();
    for listener in 0..4 {
        let mut phone = Phone::to(edge.at(listener)).await;
        phone.say(&invite("a").replace("Via: {via}", "Via: SIP/2.0 nowhere")).await;
        assert_eq!(phone.hear().await.status(), 400);
        phone.hears_nothing_more("nowhere").await;
    }
    edge.no_event();
}

#[tokio::test]
async fn a_body_above_the_limit_is_413() {
    let edge = Edge::with(|config| config.limits.body = 1000);
    let big = invite("big").replace("Content-Length: 5\n\nv=0\n", "Content-Length: 1001\n\n");
    for listener in 0..4 {
        let mut phone = Phone::to(edge.at(listener)).await;
        phone.say(&format!("{big}{}", "x".repeat(1001))).await;
        assert_eq!(phone.hear().await.status(), 413);
        if listener < 2 {
            phone.hears_nothing_more("after").await;
        } else {
            assert!(phone.hears_the_end().await, "a stream cannot go on behind a body not read");
            Phone::to(edge.at(listener)).await.hears_nothing_more("after").await;
        }
    }
}

#[tokio::test]
async fn a_stream_whose_messages_have_no_end_is_answered_and_closed() {
    let edge = Edge::with(|config| config.limits.head = 2000);
    for (status, text) in [
        (400, invite("no-length").replace("Content-Length: 5\n", "")),
        (400, invite("negative").replace("Content-Length: 5\n", "Content-Length: -5\n")),
        (513, invite("endless").replace("Contact", &format!("X: {}\nContact", "x".repeat(2000)))),
    ] {
        let mut phone = Phone::to(edge.at(3)).await;
        phone.say(&text).await;
        assert_eq!(phone.hear().await.status(), status, "{text}");
        assert!(phone.hears_the_end().await);
    }
}

#[tokio::test]
async fn a_stranger_hears_nothing_at_all() {
    let mut edge = Edge::with(|config| {
        config.peers = ["192.0.2.0/24".parse().unwrap()].into_iter().collect::<Peers>();
    });
    let mut udp = Phone::to(edge.at(0)).await;
    udp.say(&invite("a")).await;
    udp.say("nonsense").await;
    udp.say(&options("a")).await;
    let mut tcp = Phone::to(edge.at(2)).await;
    assert!(tcp.hears_the_end().await);
    // A request of ours is the first thing that arrives, so nothing came before it.
    while edge.sip.counters().foreign.load() < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    edge.sip.request(ClientTxn(1), ping_to(&udp));
    let request = udp.hear().await;
    assert_eq!(request.method(), "OPTIONS");
    // And whoever we asked may answer.
    udp.say(&request.answer("200 OK", "")).await;
    assert!(
        matches!(edge.event().await, SipEvent::Response { response, .. } if response.status == 200)
    );
    edge.no_event();
}

#[tokio::test]
async fn a_next_hop_is_heard_within_calls_and_places_none() {
    let mut edge = Edge::with(|config| {
        let peers: Peers = ["192.0.2.0/24".parse().unwrap()].into_iter().collect();
        config.peers = peers.and_next_hops(["127.0.0.0/8".parse().unwrap()]);
    });
    for at in [0, 2] {
        let mut phone = Phone::to(edge.at(at)).await;
        phone.say(&invite("a")).await;
        phone.say(&options("a")).await;
        assert_eq!(phone.hear().await.status(), 200, "the answer to OPTIONS comes first");
        phone.say(&follow(&format!("b{at}"), "BYE", "ours")).await;
        let SipEvent::Request { request, .. } = edge.event().await else { panic!("no BYE") };
        assert_eq!(request.method, Method::Bye);
    }
    assert_eq!(edge.sip.counters().foreign.load(), 2);
    edge.no_event();
}

fn ping_to(phone: &Phone) -> Request {
    Request {
        method: Method::Options,
        uri: format!("sip:{}", phone.local()),
        headers: Headers::new()
            .with("From", "<sip:assent>;tag=a")
            .with("To", "<sip:phone>")
            .with("Call-ID", "ours")
            .with("CSeq", "1 OPTIONS"),
        body: bytes::Bytes::new(),
        hop: phone.hop(),
    }
}

#[tokio::test]
async fn a_request_of_ours_that_comes_back_is_a_loop() {
    let edge = Edge::start();
    let mut phone = Phone::to(edge.at(0)).await;
    edge.sip.request(ClientTxn(1), ping_to(&phone));
    let ours = phone.hear().await;
    let looped =
        format!("SIP/2.0/UDP proxy;branch=z9hG4bK-proxy\nVia: {}\nMax", ours.header("Via"));
    let looped = invite("loop").replace("{via};rport;branch=z9hG4bK-loop\nMax", &looped);
    // Without rport, the answer goes to the port of the Via: the default one. So ask for it.
    phone.say(&looped.replace("z9hG4bK-proxy", "z9hG4bK-proxy;rport")).await;
    loop {
        let heard = phone.hear().await;
        if heard.0.starts_with("SIP/2.0") {
            assert_eq!(heard.status(), 482);
            break;
        }
    }
}

#[tokio::test]
async fn a_request_that_comes_by_two_ways_is_served_once() {
    let mut edge = Edge::start();
    let mut phone = Phone::to(edge.at(0)).await;
    phone.say(&invite("fork")).await;
    assert_eq!(phone.hear().await.status(), 100);
    let (txn, _) = edge.request().await;
    phone.say(&invite("fork").replace("branch=z9hG4bK-fork", "branch=z9hG4bK-other")).await;
    let merged = phone.hear().await;
    assert_eq!((merged.status(), merged.branch()), (482, "z9hG4bK-other"));
    edge.no_event();
    edge.sip.respond(txn, Response::new(486, Some("t".to_owned())));
    assert_eq!(phone.hear().await.status(), 486);
}

#[tokio::test]
async fn when_the_call_machine_is_behind_calls_get_503_and_the_edge_lives() {
    let mut edge = Edge::with(|config| config.limits.events = 1);
    let mut phone = Phone::to(edge.at(0)).await;
    phone.say(&invite("first")).await;
    assert_eq!(phone.hear().await.status(), 100);
    phone.say(&invite("second")).await;
    let refused = phone.hear().await;
    assert_eq!((refused.status(), refused.header("Retry-After")), (503, "5"));
    // The ACK of that refusal belongs to nobody.
    phone.say(&follow("second", "ACK", refused.to_tag())).await;
    phone.hears_nothing_more("behind").await;
    let (txn, _) = edge.request().await;
    edge.no_event();
    edge.sip.respond(txn, Response::new(486, Some("t".to_owned())));
    assert_eq!(phone.hear().await.status(), 486);
    phone.say(&follow("first", "ACK", "t")).await;
    phone.say(&invite("third")).await;
    assert_eq!(phone.hear().await.status(), 100);
    edge.request().await;
}

#[tokio::test]
async fn transactions_are_limited_and_calls_in_progress_can_end() {
    let mut edge = Edge::with(|config| config.limits.transactions = 1);
    let mut phone = Phone::to(edge.at(0)).await;
    phone.say(&invite("first")).await;
    assert_eq!(phone.hear().await.status(), 100);
    edge.request().await;
    phone.say(&invite("second")).await;
    assert_eq!(phone.hear().await.status(), 503);
    phone.say(&follow("bye", "BYE", "x")).await;
    let (txn, bye) = edge.request().await;
    assert_eq!(bye.method, Method::Bye);
    edge.sip.respond(txn, Response::new(200, None));
    assert_eq!(phone.hear().await.status(), 200);
}

#[tokio::test]
async fn connections_are_limited_in_number_in_time_and_in_idleness() {
    let edge = Edge::with(|config| {
        config.limits.connections = 1;
        config.limits.message_within = Duration::from_millis(200);
        config.limits.idle = Duration::from_millis(600);
    });
    let mut slow = Phone::to(edge.at(2)).await;
    slow.hears_nothing_more("first").await;
    let mut second = Phone::to(edge.at(2)).await;
    assert!(second.hears_the_end().await, "one connection is the limit");
    slow.raw(b"INVITE sip:a").await;
    assert!(slow.hears_the_end().await, "a message that does not arrive");
    let mut idle = next_connection(&edge).await;
    idle.hears_nothing_more("idle").await;
    assert!(idle.hears_the_end().await, "a connection that nobody uses");
}

/// The room of a connection that closed is free a moment later.
async fn next_connection(edge: &Edge) -> Phone {
    while edge.sip.counters().connections.load() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Phone::to(edge.at(2)).await
}

#[tokio::test]
async fn a_keep_alive_gets_its_pong_and_disturbs_no_message() {
    let mut edge = Edge::start();
    let mut phone = Phone::to(edge.at(3)).await;
    phone.raw(b"\r\n\r\n").await;
    assert_eq!(phone.hear().await.0, "\r\n");
    let text = invite("cut").replace("{via}", "SIP/2.0/TCP [::1]:9").replace('\n', "\r\n");
    let text = text.replace("{contact}", "<sip:[::1]:9;transport=tcp>");
    for byte in text.as_bytes() {
        phone.raw(&[*byte]).await;
    }
    assert_eq!(phone.hear().await.status(), 100);
    assert_eq!(edge.request().await.1.call_id, "cut");
}
