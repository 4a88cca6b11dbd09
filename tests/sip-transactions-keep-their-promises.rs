//! A request is seen once, an answer arrives, and every transaction ends: RFC 3261, section 17,
//! over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "sip/wire.rs"]
mod wire;

use std::time::Duration;

use assent::call::message::{
    Answered, ClientTxn, Headers, Hop, Method, Request, Response, Transport, Unanswered,
};
use assent::sip::{BindError, Endpoint, SipConfig, SipEvent};
use tokio::net::TcpListener;
use wire::{Edge, Heard, Phone, follow, invite, options};

fn final_answer(status: u16) -> Response {
    let mut response = Response::new(status, Some("ours".to_owned()));
    response.headers.push("Contact", "<sip:assent@127.0.0.1>");
    response
}

fn request_to(phone: &Phone, method: Method) -> Request {
    request_by(phone.hop(), method)
}

fn request_by(hop: Hop, method: Method) -> Request {
    Request {
        uri: format!("sip:phone@{}", hop.addr),
        headers: Headers::new()
            .with("From", "<sip:assent>;tag=a")
            .with("To", "<sip:phone>")
            .with("Call-ID", "ours")
            .with("CSeq", format!("1 {method}"))
            .with("Contact", "<sip:assent@127.0.0.1>")
            .with("Route", "<sip:127.0.0.1;lr>"),
        method,
        body: bytes::Bytes::new(),
        hop,
    }
}

async fn response(edge: &mut Edge) -> (ClientTxn, Answered) {
    match edge.event().await {
        SipEvent::Response { txn, response } => (txn, response),
        other => panic!("expected a response: {other:?}"),
    }
}

async fn next(phone: &mut Phone, method: &str) -> Heard {
    loop {
        let heard = phone.hear().await;
        if heard.method() == method {
            return heard;
        }
    }
}

#[tokio::test]
async fn an_invite_is_seen_once_and_its_2xx_is_repeated_until_the_ack() {
    for listener in 0..4 {
        let mut edge = Edge::start();
        let mut phone = Phone::to(edge.at(listener)).await;
        phone.say(&invite("a")).await;
        assert_eq!(phone.hear().await.status(), 100);
        let (txn, request) = edge.request().await;
        assert_eq!(request.source, phone.hop());
        assert_eq!(request.body.as_ref(), b"v=0\r\n");
        assert_eq!(request.content_type().as_deref(), Some("application/sdp"));
        phone.say(&invite("a")).await;
        assert_eq!(phone.hear().await.status(), 100, "the retransmission gets the last response");
        edge.sip.respond(txn, Response::new(180, Some("ours".to_owned())));
        let ringing = phone.hear().await;
        assert_eq!((ringing.status(), ringing.to_tag()), (180, "ours"));
        edge.sip.respond(txn, final_answer(200));
        assert_eq!(phone.hear().await.status(), 200);
        phone.say(&invite("a")).await;
        phone.hears_nothing_more("absorbed").await;
        edge.sip.respond(txn, final_answer(200));
        let again = phone.hear().await;
        assert_eq!((again.status(), again.to_tag()), (200, "ours"));
        assert_eq!(again.header("Contact"), "<sip:assent@127.0.0.1>");
        let ack = follow("a", "ACK", "ours").replace("z9hG4bK-a", "z9hG4bK-ack");
        phone.say(&ack).await;
        match edge.event().await {
            SipEvent::Ack { request } => {
                assert_eq!((request.method, request.cseq), (Method::Ack, 1));
                assert_eq!(request.to.tag.as_deref(), Some("ours"));
            }
            other => panic!("{other:?}"),
        }
        edge.no_event();
    }
}

#[tokio::test]
async fn a_refusal_is_repeated_until_its_ack_and_reported_when_none_comes() {
    let mut edge = Edge::start();
    let mut phone = Phone::to(edge.at(0)).await;
    for mark in ["acked", "silent"] {
        phone.say(&invite(mark)).await;
        assert_eq!(phone.hear().await.status(), 100);
        let (txn, _) = edge.request().await;
        edge.sip.respond(txn, final_answer(486));
        let first = phone.hear().await;
        assert_eq!(phone.hear().await, first, "over UDP it is sent again");
        if mark == "acked" {
            phone.say(&follow(mark, "ACK", "ours")).await;
            continue;
        }
        match edge.event().await {
            SipEvent::NoAck { txn: unacknowledged } => assert_eq!(unacknowledged, txn),
            other => panic!("{other:?}"),
        }
    }
    while edge.sip.counters().transactions.load() > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    edge.no_event();
}

#[tokio::test]
async fn a_request_that_nobody_answers_is_ended_by_the_edge() {
    let mut edge = Edge::with(|config| config.limits.unanswered = Duration::from_millis(200));
    let mut phone = Phone::to(edge.at(2)).await;
    for text in [invite("quiet"), follow("quiet", "INFO", "x")] {
        phone.say(&text).await;
        edge.request().await;
    }
    let statuses = [phone.hear().await.status(), phone.hear().await.status()];
    assert_eq!((statuses, phone.hear().await.status()), ([100, 500], 500));
}

#[tokio::test]
async fn a_cancel_is_answered_and_reported_once_and_only_while_it_matters() {
    let mut edge = Edge::start();
    let mut phone = Phone::to(edge.at(1)).await;
    phone.say(&invite("c")).await;
    assert_eq!(phone.hear().await.status(), 100);
    let (txn, _) = edge.request().await;
    for _ in 0..2 {
        phone.say(&follow("c", "CANCEL", "").replace("Max", "Reason: SIP;cause=200\nMax")).await;
        let answer = phone.hear().await;
        assert_eq!((answer.status(), answer.header("CSeq")), (200, "1 CANCEL"));
    }
    match edge.event().await {
        SipEvent::Cancelled { txn: cancelled, headers } => {
            assert_eq!(cancelled, txn);
            assert_eq!(headers.first("Reason").unwrap().as_ref(), b"SIP;cause=200");
        }
        other => panic!("{other:?}"),
    }
    edge.sip.respond(txn, final_answer(487));
    let terminated = phone.hear().await;
    assert_eq!((terminated.status(), terminated.header("CSeq")), (487, "1 INVITE"));
    phone.say(&follow("c", "ACK", "ours")).await;

    phone.say(&follow("nothing", "CANCEL", "")).await;
    assert_eq!(phone.hear().await.status(), 481);

    phone.say(&invite("late")).await;
    assert_eq!(phone.hear().await.status(), 100);
    let (txn, _) = edge.request().await;
    edge.sip.respond(txn, final_answer(200));
    assert_eq!(phone.hear().await.status(), 200);
    phone.say(&follow("late", "CANCEL", "")).await;
    let answer = phone.hear().await;
    assert_eq!((answer.status(), answer.to_tag()), (200, "ours"));
    edge.no_event();
}

#[tokio::test]
async fn a_request_of_ours_is_repeated_until_it_is_answered_and_heard_once() {
    let mut edge = Edge::start();
    for listener in 0..2 {
        let mut phone = Phone::to(edge.at(listener)).await;
        edge.sip.request(ClientTxn(7), request_to(&phone, Method::Bye));
        let bye = phone.hear().await;
        assert_eq!(phone.hear().await, bye);
        assert_eq!(bye.method(), "BYE");
        assert_eq!(bye.header("Max-Forwards"), "70");
        assert_eq!(bye.header("Content-Length"), "0");
        assert!(bye.header("Via").contains(";rport;"), "{bye:?}");
        assert_eq!(bye.branch().len(), "z9hG4bKa0123456789abcdef-".len() + 32);
        for _ in 0..3 {
            phone.say(&bye.answer("200 OK", "")).await;
        }
        let (txn, answer) = response(&mut edge).await;
        assert_eq!((txn, answer.status, answer.reason.as_str()), (ClientTxn(7), 200, "OK"));
        while edge.sip.counters().transactions.load() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        edge.no_event();
    }
}

#[tokio::test]
async fn nobody_else_can_answer_a_request_of_ours() {
    let mut edge = Edge::start();
    let mut phone = Phone::to(edge.at(0)).await;
    edge.sip.request(ClientTxn(1), request_to(&phone, Method::Bye));
    let bye = phone.hear().await;
    let guessed = "0".repeat(32);
    let forged = bye.0.replace(&bye.branch()[bye.branch().len() - 32..], &guessed);
    let good = bye.answer("200 OK", "");
    for bad in [
        Heard(forged).answer("200 OK", ""),
        good.replace("CSeq: 1 BYE", "CSeq: 1 INVITE"),
        good.replace("From:", "Via: SIP/2.0/UDP behind;branch=z9hG4bK1\nFrom:"),
        good.replace("To: <sip:phone>", "To: <sip:phone"),
        good.replace("Call-ID: ours\n", ""),
    ] {
        phone.say(&bad).await;
    }
    match edge.event().await {
        SipEvent::Unanswered { txn: ClientTxn(1), why: Unanswered::Timeout } => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_2xx_is_heard_and_every_refusal_is_acknowledged() {
    let mut edge = Edge::start();
    let mut phone = Phone::to(edge.at(0)).await;
    edge.sip.request(ClientTxn(1), request_to(&phone, Method::Invite));
    let invite = phone.hear().await;
    phone.say(&invite.answer("100 Trying", "")).await;
    assert_eq!(response(&mut edge).await.1.status, 100);
    let ok = invite
        .answer("200 OK", "Contact: <sip:p@127.0.0.1:9>\nRecord-Route: <sip:a;lr>, <sip:b;lr>\n");
    for _ in 0..2 {
        phone.say(&ok).await;
        let (_, answer) = response(&mut edge).await;
        assert_eq!((answer.status, answer.to_tag.as_deref()), (200, Some("phone")));
        assert_eq!(answer.contact.as_deref(), Some("sip:p@127.0.0.1:9"));
        assert_eq!(answer.record_route, ["<sip:a;lr>", "<sip:b;lr>"]);
        edge.sip.ack(request_to(&phone, Method::Ack));
        let ack = next(&mut phone, "ACK").await;
        assert_ne!(ack.branch(), invite.branch());
        assert_eq!(ack.header("CSeq"), "1 ACK");
    }

    edge.sip.request(ClientTxn(2), request_to(&phone, Method::Invite));
    let invite = next(&mut phone, "INVITE").await;
    for _ in 0..2 {
        phone.say(&invite.answer("486 Busy Here", "")).await;
        let ack = next(&mut phone, "ACK").await;
        assert_eq!(ack.branch(), invite.branch());
        assert_eq!(ack.to_tag(), "phone");
        assert_eq!(ack.header("Route"), "<sip:127.0.0.1;lr>");
    }
    assert_eq!(response(&mut edge).await.1.status, 486);
    edge.no_event();
}

#[tokio::test]
async fn a_cancel_of_ours_waits_for_a_provisional_response_and_then_gives_up_in_time() {
    let mut edge = Edge::start();
    let mut phone = Phone::to(edge.at(0)).await;
    edge.sip.request(ClientTxn(1), request_to(&phone, Method::Invite));
    edge.sip.cancel(ClientTxn(1), Headers::new());
    let invite = phone.hear().await;
    assert_eq!(phone.hear().await, invite, "no CANCEL before a provisional response");
    phone.say(&invite.answer("180 Ringing", "")).await;
    let cancel = next(&mut phone, "CANCEL").await;
    assert_eq!(cancel.header("Via"), invite.header("Via"));
    assert_eq!(cancel.header("CSeq"), "1 CANCEL");
    assert_eq!(cancel.header("Route"), "<sip:127.0.0.1;lr>");
    phone.say(&cancel.answer("200 OK", "")).await;
    assert_eq!(response(&mut edge).await.1.status, 180);
    // The phone never ends the INVITE.
    match edge.event().await {
        SipEvent::Unanswered { txn: ClientTxn(1), why: Unanswered::Timeout } => {}
        other => panic!("{other:?}"),
    }

    edge.sip.request(ClientTxn(2), request_to(&phone, Method::Invite));
    let invite = next(&mut phone, "INVITE").await;
    phone.say(&invite.answer("180 Ringing", "")).await;
    assert_eq!(response(&mut edge).await.1.status, 180);
    edge.sip.cancel(ClientTxn(2), Headers::new());
    edge.sip.cancel(ClientTxn(2), Headers::new());
    let cancel = next(&mut phone, "CANCEL").await;
    phone.say(&cancel.answer("200 OK", "")).await;
    phone.say(&invite.answer("487 Request Terminated", "")).await;
    assert_eq!(response(&mut edge).await.1.status, 487);
    edge.no_event();
}

#[tokio::test]
async fn what_could_smuggle_a_header_is_not_sent_and_not_fatal() {
    let mut edge = Edge::start();
    let mut phone = Phone::to(edge.at(0)).await;
    let mut bad = request_to(&phone, Method::Bye);
    bad.headers.push("User-to-User", "a\r\nX-Evil: 1");
    edge.sip.request(ClientTxn(1), bad);
    match edge.event().await {
        SipEvent::Unanswered { txn: ClientTxn(1), why: Unanswered::Transport } => {}
        other => panic!("{other:?}"),
    }
    phone.say(&invite("inject")).await;
    assert_eq!(phone.hear().await.status(), 100);
    let (txn, _) = edge.request().await;
    let mut bad = final_answer(200);
    bad.headers.push("X-A", "a\r\nX-Evil: 1");
    edge.sip.respond(txn, bad);
    let answer = phone.hear().await;
    assert_eq!(answer.status(), 500);
    assert!(!answer.0.contains("Evil"));
}

#[tokio::test]
async fn tcp_connections_are_opened_once_used_both_ways_and_missed_when_they_close() {
    let mut edge = Edge::start();
    let server = TcpListener::bind("[::1]:0").await.unwrap();
    let hop = Hop { transport: Transport::Tcp, addr: server.local_addr().unwrap() };
    edge.sip.request(ClientTxn(1), request_by(hop, Method::Options));
    let mut phone = Phone::from_stream(server.accept().await.unwrap().0);
    let first = phone.hear().await;
    assert!(first.header("Via").starts_with("SIP/2.0/TCP [::1]:"), "{first:?}");
    edge.sip.request(ClientTxn(2), request_by(hop, Method::Options));
    let second = phone.hear().await;
    assert_ne!(first.branch(), second.branch());
    phone.say(&second.answer("200 OK", "")).await;
    assert_eq!(response(&mut edge).await.0, ClientTxn(2));
    phone.hears_nothing_more("back").await;
    drop(phone);
    match edge.event().await {
        SipEvent::Unanswered { txn: ClientTxn(1), why: Unanswered::Transport } => {}
        other => panic!("{other:?}"),
    }
    edge.sip.request(ClientTxn(3), request_by(hop, Method::Options));
    let mut again = Phone::from_stream(server.accept().await.unwrap().0);
    assert_eq!(again.hear().await.method(), "OPTIONS");
}

#[tokio::test]
async fn a_hop_that_cannot_be_reached_is_told_at_once() {
    let mut edge = Edge::with(|config| config.listen.truncate(1));
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let hops = [
        Hop { transport: Transport::Tcp, addr: gone },
        Hop { transport: Transport::Tls, addr: gone },
        Hop { transport: Transport::Udp, addr: "[::1]:9".parse().unwrap() },
    ];
    for (n, hop) in (1..).zip(hops) {
        edge.sip.request(ClientTxn(n), request_by(hop, Method::Options));
        match edge.event().await {
            SipEvent::Unanswered { txn, why: Unanswered::Transport } => {
                assert_eq!(txn, ClientTxn(n))
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_request_finds_a_peer_whose_connection_closed_and_no_other_machine() {
    let mut edge = Edge::start();
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let mut phone = Phone::to(edge.at(2)).await;
    phone.hears_nothing_more("connected").await;
    let hop = phone.hop();
    drop(phone);
    while edge.sip.counters().connections.load() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let request_for = |contact: std::net::SocketAddr| {
        let mut headers = Headers::new();
        let request = request_by(hop, Method::Options);
        for (name, value) in request.headers.iter().filter(|(name, _)| *name != "Route") {
            headers.push(name, value.clone());
        }
        Request { uri: format!("sip:phone@{contact};transport=tcp"), headers, ..request }
    };
    edge.sip.request(ClientTxn(1), request_for(elsewhere.local_addr().unwrap()));
    match edge.event().await {
        SipEvent::Unanswered { txn: ClientTxn(1), why: Unanswered::Transport } => {}
        other => panic!("{other:?}"),
    }
    edge.sip.request(ClientTxn(2), request_for(server.local_addr().unwrap()));
    let mut again = Phone::from_stream(server.accept().await.unwrap().0);
    assert_eq!(again.hear().await.method(), "OPTIONS");
}

#[tokio::test]
async fn a_response_finds_a_peer_whose_connection_closed() {
    let mut edge = Edge::start();
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut phone = Phone::to(edge.at(2)).await;
    let via = format!("SIP/2.0/TCP {}", server.local_addr().unwrap());
    phone.say(&invite("moved").replace("{via}", &via)).await;
    assert_eq!(phone.hear().await.status(), 100);
    let (txn, _) = edge.request().await;
    drop(phone);
    while edge.sip.counters().connections.load() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    edge.sip.respond(txn, final_answer(486));
    let mut again = Phone::from_stream(server.accept().await.unwrap().0);
    assert_eq!(again.hear().await.status(), 486);
}

#[tokio::test]
async fn responses_over_udp_go_where_rport_or_the_via_says() {
    let edge = Edge::start();
    let mut asker = Phone::to(edge.at(0)).await;
    let mut other = Phone::to(edge.at(0)).await;
    let elsewhere = format!("SIP/2.0/UDP 192.0.2.77:{}", other.local().port());
    let ping = options("via").replace("{via}", &elsewhere);
    asker.say(&ping).await;
    let answer = asker.hear().await;
    assert!(answer.header("Via").contains("received=127.0.0.1"), "{answer:?}");
    assert!(answer.header("Via").contains(&format!("rport={}", asker.local().port())));
    asker.say(&ping.replace(";rport", "")).await;
    assert!(other.hear().await.header("Via").contains("received=127.0.0.1"));
}

#[tokio::test]
async fn options_say_what_we_can_do_and_whether_we_take_calls() {
    let mut edge = Edge::start();
    let mut phone = Phone::to(edge.at(0)).await;
    phone.say(&options("can")).await;
    let can = phone.hear().await;
    assert_eq!(can.status(), 200);
    assert_eq!(can.header("Allow"), assent::call::message::ALLOW);
    assert!(can.header("Accept").contains("application/sdp"));
    assert_eq!(can.header("Supported"), "100rel, replaces, timer");
    edge.sip.set_draining(Some(Duration::from_secs(30)));
    for text in [options("drain"), invite("drain")] {
        phone.say(&text).await;
        let refused = phone.hear().await;
        assert_eq!((refused.status(), refused.header("Retry-After")), (503, "30"));
    }
    phone.say(&invite("dialog").replace("To: <sip:assent@test>", "To: <sip:a>;tag=x")).await;
    assert_eq!(phone.hear().await.status(), 100, "calls in progress go on");
    edge.request().await;
    edge.sip.set_draining(None);
    phone.hears_nothing_more("back").await;
}

#[tokio::test]
async fn a_socket_that_cannot_be_had_says_which_and_what_to_do() {
    let edge = Edge::start();
    for taken in [edge.at(0), edge.at(3)] {
        let error = Endpoint::bind(SipConfig { listen: vec![taken], ..SipConfig::default() });
        let text = error.unwrap_err().to_string();
        assert!(text.contains(&taken.to_string()) && text.contains("another port"), "{text}");
    }
    let bind = |listen: &str| {
        let listen = vec![listen.parse().unwrap()];
        Endpoint::bind(SipConfig { listen, ..SipConfig::default() }).unwrap_err()
    };
    assert!(bind("udp:192.0.2.1:0").to_string().contains("does not have this address"));
    assert!(matches!(bind("tls:127.0.0.1:0"), BindError::NoCertificate(_)));
}

#[tokio::test]
async fn everything_ends_with_the_last_handle() {
    let mut edge = Edge::start();
    let mut phone = Phone::to(edge.at(2)).await;
    phone.hears_nothing_more("before").await;
    let listen = edge.sip.listeners().to_vec();
    edge.no_event();
    drop(edge);
    assert!(phone.hears_the_end().await);
    loop {
        let config = SipConfig { listen: listen.clone(), ..SipConfig::default() };
        if Endpoint::bind(config).is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
