//! A call that may go to several places goes to one that takes it, whatever the others do, and
//! nothing of it is left with those that it passed by.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;
#[path = "sip/wire.rs"]
mod wire;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use assent::call::message::{ClientTxn, Headers, Hop, Method, Request, Transport, Unanswered};
use assent::sip::{Failing, SipEvent, Target};
use support::dns::{Dns, Record};
use support::{Agent, AgentBuilder, Answerer, Talker, wait_for};
use wire::{Edge, Heard, Phone};

const SOON: Duration = Duration::from_secs(15);

fn target(hop: Hop) -> Target {
    Target {
        hop,
        uri: format!("sip:bob@{}", hop.addr),
        contact: format!("sip:assent@127.0.0.1:{}", hop.addr.port()),
        name: None,
    }
}

fn dial(edge: &Edge, txn: u64, hops: &[Hop], patience: Duration) {
    let request = Request {
        method: Method::Invite,
        uri: "sip:unused".to_owned(),
        headers: Headers::new()
            .with("From", "<sip:assent>;tag=a")
            .with("To", "<sip:bob>")
            .with("Call-ID", format!("call-{txn}"))
            .with("CSeq", "1 INVITE")
            .with("Contact", "<sip:unused>"),
        body: bytes::Bytes::new(),
        hop: hops[0],
    };
    let targets = hops.iter().copied().map(target).collect();
    edge.sip.request_any(ClientTxn(txn), request, targets, patience);
}

async fn passed_by(edge: &mut Edge) -> (Hop, Failing) {
    match edge.event().await {
        SipEvent::PassedBy { hop, why } => (hop, why),
        other => panic!("expected a target to be passed by: {other:?}"),
    }
}

/// The status that is reported, and which target gave it.
async fn answered(edge: &mut Edge, txn: u64) -> (u16, Option<SocketAddr>) {
    match edge.event().await {
        SipEvent::Response { txn: ClientTxn(n), response } => {
            assert_eq!(n, txn);
            if let Some(reached) = &response.reached {
                assert_eq!(reached.contact, target(reached.hop).contact);
            }
            (response.status, response.reached.map(|reached| reached.hop.addr))
        }
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

/// Where nobody listens.
fn gone() -> Hop {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    Hop { transport: Transport::Tcp, addr: listener.local_addr().unwrap() }
}

const NEVER: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_target_that_says_nothing_is_passed_by_and_told_so_should_it_wake_up() {
    let mut edge = Edge::start();
    for (n, wakes_with) in [(1, "180 Ringing"), (2, "200 OK")] {
        let mut silent = Phone::to(edge.at(0)).await;
        let mut live = Phone::to(edge.at(0)).await;
        dial(&edge, n, &[silent.hop(), live.hop()], Duration::from_millis(120));
        let first = next(&mut silent, "INVITE").await;
        assert!(first.0.starts_with(&format!("INVITE sip:bob@{} ", silent.local())));
        assert_eq!(passed_by(&mut edge).await, (silent.hop(), Failing::Silent));
        let second = live.hear().await;
        assert!(second.0.starts_with(&format!("INVITE sip:bob@{} ", live.local())));
        assert_ne!(first.branch(), second.branch(), "RFC 3263, 4.3");
        assert_eq!(first.header("Call-ID"), second.header("Call-ID"));
        let contact = format!("<sip:assent@127.0.0.1:{}>", live.local().port());
        assert_eq!(second.header("Contact"), contact);
        live.say(&second.answer("200 OK", "Contact: <sip:bob@127.0.0.1>\n")).await;
        assert_eq!(answered(&mut edge, n).await, (200, Some(live.local())));
        silent
            .say(&first.answer(wakes_with, &format!("Contact: <sip:s@{}>\n", silent.local())))
            .await;
        if n == 1 {
            let cancel = next(&mut silent, "CANCEL").await;
            assert_eq!(cancel.branch(), first.branch());
            silent.say(&cancel.answer("200 OK", "")).await;
            silent.say(&first.answer("487 Request Terminated", "")).await;
            next(&mut silent, "ACK").await;
        } else {
            let ack = next(&mut silent, "ACK").await;
            assert_eq!(ack.to_tag(), "phone");
            let bye = next(&mut silent, "BYE").await;
            assert!(bye.0.starts_with(&format!("BYE sip:s@{} ", silent.local())), "{bye:?}");
            silent.say(&bye.answer("200 OK", "")).await;
        }
        silent.hears_nothing_more(&format!("silent-{n}")).await;
        edge.no_event();
    }
}

#[tokio::test]
async fn targets_that_refuse_the_connection_or_say_503_are_passed_by() {
    let mut edge = Edge::start();
    let gone = gone();
    let (mut busy, mut live) = (Phone::to(edge.at(0)).await, Phone::to(edge.at(0)).await);
    dial(&edge, 1, &[gone, busy.hop(), live.hop()], NEVER);
    assert_eq!(passed_by(&mut edge).await, (gone, Failing::Unreachable));
    let invite = busy.hear().await;
    busy.say(&invite.answer("100 Trying", "")).await;
    assert_eq!(answered(&mut edge, 1).await, (100, Some(busy.local())));
    busy.say(&invite.answer("503 Service Unavailable", "Retry-After: 7 (full)\n")).await;
    let why = Failing::Unavailable(Some(Duration::from_secs(7)));
    assert_eq!(passed_by(&mut edge).await, (busy.hop(), why));
    next(&mut busy, "ACK").await;
    let invite = live.hear().await;
    live.say(&invite.answer("486 Busy Here", "")).await;
    assert_eq!(answered(&mut edge, 1).await, (486, Some(live.local())));
    edge.no_event();
}

#[tokio::test]
async fn when_all_have_failed_the_last_answer_is_the_answer() {
    let mut edge = Edge::start();
    let gone = gone();
    let mut busy = Phone::to(edge.at(0)).await;
    dial(&edge, 1, &[gone, busy.hop()], NEVER);
    assert_eq!(passed_by(&mut edge).await.0, gone);
    let invite = busy.hear().await;
    busy.say(&invite.answer("503 Service Unavailable", "")).await;
    assert_eq!(passed_by(&mut edge).await, (busy.hop(), Failing::Unavailable(None)));
    assert_eq!(answered(&mut edge, 1).await, (503, Some(busy.local())));
    dial(&edge, 2, &[gone], NEVER);
    assert_eq!(passed_by(&mut edge).await.0, gone);
    match edge.event().await {
        SipEvent::Unanswered { txn: ClientTxn(2), why: Unanswered::Transport } => {}
        other => panic!("{other:?}"),
    }
    edge.no_event();
}

#[tokio::test]
async fn a_target_that_rings_keeps_the_call_and_gets_its_cancel() {
    let mut edge = Edge::start();
    let gone = gone();
    let (mut rings, mut other) = (Phone::to(edge.at(0)).await, Phone::to(edge.at(0)).await);
    for (n, after) in [(1, "503 Service Unavailable"), (2, "")] {
        dial(&edge, n, &[gone, rings.hop(), other.hop()], Duration::from_millis(150));
        assert_eq!(passed_by(&mut edge).await.0, gone);
        let invite = next(&mut rings, "INVITE").await;
        rings.say(&invite.answer("180 Ringing", "")).await;
        assert_eq!(answered(&mut edge, n).await, (180, Some(rings.local())));
        if after.is_empty() {
            tokio::time::sleep(Duration::from_millis(300)).await;
            edge.sip.cancel(ClientTxn(n), Headers::new());
            let cancel = next(&mut rings, "CANCEL").await;
            assert_eq!(cancel.branch(), invite.branch());
            rings.say(&cancel.answer("200 OK", "")).await;
            rings.say(&invite.answer("487 Request Terminated", "")).await;
            assert_eq!(answered(&mut edge, n).await.0, 487);
        } else {
            rings.say(&invite.answer(after, "")).await;
            assert_eq!(answered(&mut edge, n).await.0, 503);
        }
    }
    other.hears_nothing_more("other").await;
    edge.no_event();
}

#[tokio::test]
async fn a_3xx_leads_to_a_configured_target_and_to_nobody_else() {
    let mut edge = Edge::start();
    let (mut one, mut two) = (Phone::to(edge.at(0)).await, Phone::to(edge.at(0)).await);
    let mut foreign = Phone::to(edge.at(0)).await;
    for (n, to, status) in [(1, two.local(), 200), (2, foreign.local(), 302)] {
        dial(&edge, n, &[one.hop(), two.hop()], NEVER);
        let invite = next(&mut one, "INVITE").await;
        let contact = format!("Contact: <sip:voicemail@{to}?Route=%3Csip:x%3E>\n");
        one.say(&invite.answer("302 Moved Temporarily", &contact)).await;
        if status == 200 {
            let moved = two.hear().await;
            let line = format!("INVITE sip:voicemail@{to} SIP/2.0\r\n");
            assert!(moved.0.starts_with(&line), "{moved:?}");
            assert!(moved.all("Route").is_empty());
            two.say(&moved.answer("200 OK", "Contact: <sip:vm@127.0.0.1>\n")).await;
        }
        assert_eq!(answered(&mut edge, n).await.0, status);
    }
    foreign.hears_nothing_more("foreign").await;
}

/// Counts the INVITEs that it never answers.
struct Mute(UdpSocket);

impl Mute {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }

    fn uri(&self) -> String {
        format!("sip:{}", self.0.local_addr().unwrap())
    }

    fn heard(&self, start: &str) -> usize {
        let (mut buffer, mut calls) = ([0; 65_535], Vec::new());
        while let Ok(length) = self.0.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let call = text.lines().find(|line| line.starts_with("Call-ID:")).map(str::to_owned);
            if text.starts_with(start) && !calls.contains(&call) {
                calls.push(call);
            }
        }
        calls.len()
    }
}

fn agent(next_hop: &str, care: &str) -> AgentBuilder {
    Agent::builder()
        .policy("gate", "\"standing\"")
        .policy("ask", "[]")
        .policy("standing", "{ caller = \"a\", callee = \"b\" }")
        .routes(&format!(
            "[[route]]\nmode = \"inline\"\nnext_hop = {next_hop}\npolicy = \"default\"\n"
        ))
        .further(&format!("[sip.next_hop]\n{care}"))
}

fn call(agent: &Agent, callee: &Answerer, user: &str) {
    let mut talker = Talker::call(agent.udp(), user, "200").expect("it is answered");
    wait_for(SOON, "the callee hears the caller", || talker.heard() > 5);
    talker.hang_up();
    callee.forget();
    wait_for(SOON, "the call is over", || {
        agent.json(&["status"])[0]["calls"].as_object().unwrap().values().all(|n| *n == 0)
    });
}

#[test]
fn calls_go_to_the_next_that_answers_and_from_then_on_there_at_once() {
    let (mute, callee) = (Mute::start(), Answerer::start());
    let next_hop = format!("[\"{}\", \"{}\"]", mute.uri(), callee.uri());
    let agent = agent(&next_hop, "answer_within = \"500ms\"").start();
    call(&agent, &callee, "first");
    assert_eq!(mute.heard("INVITE"), 1);
    call(&agent, &callee, "second");
    assert_eq!(mute.heard("INVITE"), 0, "it is avoided");
    let text = |uri: String| format!("udp:{}", uri.trim_start_matches("sip:"));
    let up =
        |uri: String| agent.metric(&format!("assent_next_hop_up{{next_hop=\"{}\"}}", text(uri)));
    assert_eq!((up(mute.uri()), up(callee.uri())), (Some(0.0), Some(1.0)));
    let status = agent.json(&["status"]);
    let hops = status[0]["next_hops"].as_array().unwrap();
    let state = |uri: String| hops.iter().find(|hop| hop["next_hop"] == text(uri.clone())).unwrap();
    assert_eq!(state(mute.uri())["state"], "avoided");
    assert_eq!(state(callee.uri())["state"], "up");
    assert!(agent.log().contains("a next hop is passed by"), "{}", agent.log());
}

#[test]
fn a_next_hop_that_does_not_answer_options_is_tried_last_until_it_does() {
    let (mute, callee) = (Mute::start(), Answerer::start());
    let next_hop = format!("[\"{}\", \"{}\"]", mute.uri(), callee.uri());
    let care = "answer_within = \"500ms\"\nprobe = \"1s\"";
    let agent = agent(&next_hop, care).start();
    let state = || {
        let hops = agent.json(&["status"])[0]["next_hops"].clone();
        let name = format!("udp:{}", mute.uri().trim_start_matches("sip:"));
        let hop = hops.as_array().unwrap().iter().find(|hop| hop["next_hop"] == name.as_str());
        hop.map(|hop| hop["state"].as_str().unwrap().to_owned()).unwrap_or_default()
    };
    wait_for(SOON, "it is known to be down", || state() == "down");
    assert!(mute.heard("OPTIONS") > 0);
    call(&agent, &callee, "caller");
    assert_eq!(mute.heard("INVITE"), 0);
    // From here on it answers.
    let mut buffer = [0; 65_535];
    wait_for(SOON, "it is up again", || {
        while let Ok((length, from)) = mute.0.recv_from(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).replace("\r\n", "\n");
            if text.starts_with("OPTIONS") {
                let answer = Heard(text.replace('\n', "\r\n")).answer("200 OK", "");
                mute.0.send_to(answer.replace('\n', "\r\n").as_bytes(), from).unwrap();
            }
        }
        state() == "up"
    });
}

#[test]
fn a_name_without_a_port_is_found_by_its_services() {
    let (mute, callee) = (Mute::start(), Answerer::start());
    let port = |uri: String| uri.rsplit(':').next().unwrap().parse().unwrap();
    let zone = vec![
        ("_sip._udp.pbx.test", Record::Srv(10, 0, port(mute.uri()), "dead.pbx.test")),
        ("_sip._udp.pbx.test", Record::Srv(20, 0, port(callee.uri()), "live.pbx.test")),
        ("dead.pbx.test", Record::A([127, 0, 0, 1].into())),
        ("live.pbx.test", Record::A([127, 0, 0, 1].into())),
    ];
    let dns = Dns::start(zone, 300);
    let agent = agent("\"sip:pbx.test\"", "answer_within = \"500ms\"")
        .sip(&format!("resolver = \"{}\"", dns.addr()))
        .start();
    call(&agent, &callee, "first");
    assert_eq!(mute.heard("INVITE"), 1, "the better priority is tried first");
    call(&agent, &callee, "second");
    assert_eq!(mute.heard("INVITE"), 0);
    assert_eq!(dns.asked("SRV _sip._udp.pbx.test"), 1, "records are kept for their time");
}

#[test]
fn a_name_with_a_port_is_an_address() {
    let callee = Answerer::start();
    let zone = vec![("pbx.test", Record::A([127, 0, 0, 1].into()))];
    let dns = Dns::start(zone, 0);
    let port = callee.uri().rsplit(':').next().unwrap().to_owned();
    let agent = agent(&format!("\"sip:pbx.test:{port}\""), "")
        .sip(&format!("resolver = [\"{}\"]", dns.addr()))
        .start();
    call(&agent, &callee, "caller");
    assert_eq!(dns.asked("SRV _sip._udp.pbx.test"), 0, "RFC 3263, 4.2");
}
