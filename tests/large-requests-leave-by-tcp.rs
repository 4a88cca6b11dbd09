//! A request that does not fit into a datagram leaves by TCP (RFC 3261, 18.1.1), where the other
//! end takes it, and by UDP where it does not.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "sip/wire.rs"]
mod wire;

use std::net::SocketAddr;
use std::time::Duration;

use assent::call::message::{ClientTxn, Headers, Hop, Method, Request, Transport, Unanswered};
use assent::sip::{LargeRequests, SipEvent};
use tokio::net::{TcpListener, UdpSocket};
use wire::{Edge, Phone};

/// A UDP port and a TCP port of the same number.
async fn both() -> (UdpSocket, TcpListener, SocketAddr) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = udp.local_addr().unwrap();
        if let Ok(tcp) = TcpListener::bind(addr).await {
            return (udp, tcp, addr);
        }
    }
}

fn request(addr: SocketAddr, size: usize, uri_more: &str) -> Request {
    Request {
        method: Method::Options,
        uri: format!("sip:phone@{addr}{uri_more}"),
        headers: Headers::new()
            .with("From", "<sip:assent>;tag=a")
            .with("To", "<sip:phone>")
            .with("Call-ID", "ours")
            .with("CSeq", "1 OPTIONS")
            .with("X-Padding", "x".repeat(size)),
        body: bytes::Bytes::new(),
        hop: Hop { transport: Transport::Udp, addr },
    }
}

fn phone(socket: UdpSocket, edge: &Edge) -> Phone {
    Phone::Udp { socket, edge: edge.at(0).addr }
}

async fn status(edge: &mut Edge) -> u16 {
    match edge.event().await {
        SipEvent::Response { response, .. } => response.status,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_large_request_takes_tcp_and_a_small_one_does_not() {
    let mut edge = Edge::start();
    let (udp, tcp, addr) = both().await;
    edge.sip.request(ClientTxn(1), request(addr, 1300, ""));
    let (stream, _) = tcp.accept().await.unwrap();
    let mut over_tcp = Phone::from_stream(stream);
    let heard = over_tcp.hear().await;
    assert!(heard.header("Via").starts_with("SIP/2.0/TCP "), "{heard:?}");
    over_tcp.say(&heard.answer("200 OK", "")).await;
    assert_eq!(status(&mut edge).await, 200);
    let mut over_udp = phone(udp, &edge);
    edge.sip.request(ClientTxn(2), request(addr, 800, ""));
    let heard = over_udp.hear().await;
    assert!(heard.header("Via").starts_with("SIP/2.0/UDP "), "{heard:?}");
    over_udp.say(&heard.answer("200 OK", "")).await;
    assert_eq!(status(&mut edge).await, 200);
}

#[tokio::test]
async fn where_nobody_takes_tcp_it_goes_by_udp_and_the_next_one_does_at_once() {
    let mut edge = Edge::start();
    let (udp, tcp, addr) = both().await;
    drop(tcp);
    let mut over_udp = phone(udp, &edge);
    for txn in [1, 2] {
        edge.sip.request(ClientTxn(txn), request(addr, 1300, ""));
        let heard = over_udp.hear().await;
        assert!(heard.header("Via").starts_with("SIP/2.0/UDP "), "{heard:?}");
        over_udp.say(&heard.answer("200 OK", "")).await;
        assert_eq!(status(&mut edge).await, 200);
    }
    let overs = edge.sip.counters().connections.load();
    assert_eq!(overs, 0, "the second did not try");
}

#[tokio::test]
async fn it_stays_on_udp_where_the_uri_the_configuration_or_the_listeners_say_so() {
    for case in ["uri", "configuration", "listeners"] {
        let mut edge = Edge::with(|config| match case {
            "configuration" => config.large_requests = LargeRequests::OverUdp,
            "listeners" => config.listen.truncate(2),
            _ => {}
        });
        let (udp, _tcp, addr) = both().await;
        let more = if case == "uri" { ";transport=udp" } else { "" };
        edge.sip.request(ClientTxn(1), request(addr, 1300, more));
        let mut over_udp = phone(udp, &edge);
        let heard = over_udp.hear().await;
        over_udp.say(&heard.answer("200 OK", "")).await;
        assert_eq!(status(&mut edge).await, 200, "{case}");
    }
}

#[tokio::test]
async fn a_request_over_tcp_alone_does_not_fall_back() {
    let mut edge = Edge::start();
    let (_udp, tcp, addr) = both().await;
    drop(tcp);
    let mut request = request(addr, 1300, ";transport=tcp");
    request.hop.transport = Transport::Tcp;
    edge.sip.request(ClientTxn(1), request);
    let event = tokio::time::timeout(Duration::from_secs(10), edge.event()).await.unwrap();
    let SipEvent::Unanswered { why, .. } = event else { panic!("{event:?}") };
    assert_eq!(why, Unanswered::Transport);
}
