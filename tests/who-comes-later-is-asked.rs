//! Permission belongs to who gave it: whoever comes into a call by a transfer or in the place of
//! somebody is asked, and until they have answered nobody is recorded who must not be.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{Agent, AgentBuilder, Answerer, WirePhone, ledger, wait_for};

const SOON: Duration = Duration::from_secs(20);

/// The caller's side is asked with a notice of 0.6 s; the callee's agreement is on file.
fn asking(answerer: &Answerer) -> AgentBuilder {
    Agent::builder().inline(answerer.uri())
}

fn of<'e>(events: &'e [Value], kind: &str) -> Vec<&'e Value> {
    events.iter().filter(|event| ledger::kind(event) == kind).collect()
}

/// Waits for so many events of a kind, talking meanwhile.
fn talk_until(phone: &mut WirePhone, agent: &Agent, kind: &str, count: usize) {
    wait_for(SOON, kind, || {
        phone.talk(Duration::from_millis(100));
        of(&agent.events(), kind).len() >= count
    });
}

/// A caller who has agreed and is recorded.
fn recorded(agent: &Agent) -> WirePhone {
    let mut caller = WirePhone::call(agent.udp(), "200");
    talk_until(&mut caller, agent, "notice.completed", 1);
    caller.press(1, 3);
    talk_until(&mut caller, agent, "recording.started", 1);
    caller.talk(Duration::from_millis(400));
    caller
}

/// The second party on the leg is another one than the first, and was asked; the recording of the
/// first was over before.
fn two_people_two_permissions(agent: &Agent) {
    let events = agent.events();
    let granted: Vec<&Value> = of(&events, "permission.granted")
        .into_iter()
        .filter(|event| event["data"]["role"] == "caller")
        .collect();
    let [first, second] = granted[..] else { panic!("{granted:#?}") };
    assert_ne!(first["data"]["party_ref"], second["data"]["party_ref"]);
    let recordings: Vec<Value> = agent.json(&["list"]);
    assert_eq!(recordings.len(), 2, "{recordings:#?}");
    let place = |kind: &str, nth: usize| {
        let mut places = events.iter().enumerate().filter(|(_, e)| ledger::kind(e) == kind);
        places.nth(nth).map(|(place, _)| place).expect("it happened")
    };
    assert!(place("party.left", 0) < place("party.joined", 2));
    assert!(place("party.joined", 2) < place("notice.started", 1));
    ledger::proven(agent);
}

#[test]
fn an_invite_that_replaces_a_party_is_a_new_party_who_is_asked() {
    let answerer = Answerer::start();
    let agent = asking(&answerer).start();
    let before = recorded(&agent);
    let [call_id, theirs, ours] = before.dialog();
    let replaces = format!(
        "Replaces: {call_id};to-tag={ours};from-tag={theirs}\r\nRequire: replaces\r\n\
         P-Asserted-Identity: <sip:+4930555001@pbx.example>\r\n"
    );
    let mut after = WirePhone::dial_with(agent.udp(), "200", |_| replaces);
    after.acknowledge();
    assert_eq!(of(&agent.events(), "call.started").len(), 1, "it is the same call");
    talk_until(&mut after, &agent, "notice.completed", 2);
    let unasked = agent.events();
    assert_eq!(of(&unasked, "permission.granted").len(), 2, "one of each party so far");
    after.press(1, 3);
    talk_until(&mut after, &agent, "recording.started", 2);
    after.talk(Duration::from_millis(400));
    after.hang_up();
    agent.wait_event("call.ended", SOON);
    wait_for(SOON, "both are sealed", || of(&agent.events(), "recording.sealed").len() == 2);
    two_people_two_permissions(&agent);
}

#[test]
fn whoever_a_party_is_handed_over_to_is_asked() {
    let answerer = Answerer::start();
    // Nobody is there to press a key on the new party's telephone.
    let agent = asking(&answerer).no_objection("1s");
    let mut agent = agent.further("[shutdown]\ndrain_within = \"0s\"").start();
    let mut caller = WirePhone::call(agent.udp(), "200");
    talk_until(&mut caller, &agent, "recording.started", 1);
    caller.talk(Duration::from_millis(400));
    let refer = caller.in_dialog("REFER", "Refer-To: <sip:+4930555002@elsewhere.example>\r\n", "");
    caller.send_signal(refer.as_bytes());
    wait_for(SOON, "the new party is in the call", || {
        caller.talk(Duration::from_millis(50));
        of(&agent.events(), "party.joined").len() == 3
    });
    caller.hang_up();
    wait_for(SOON, "the new party's window has passed", || {
        of(&agent.events(), "recording.started").len() == 2
    });
    assert!(answerer.numbered("+4930555002") > 0);
    std::thread::sleep(Duration::from_millis(500));
    assert!(of(&agent.events(), "call.ended").is_empty(), "the call goes on without who asked");
    assert!(agent.stop().success());
    assert_eq!(of(&agent.events(), "recording.sealed").len(), 2);
    two_people_two_permissions(&agent);
}

#[test]
fn a_dialog_that_somebody_guesses_is_not_replaced() {
    let answerer = Answerer::start();
    let agent = asking(&answerer).start();
    let mut caller = recorded(&agent);
    let [call_id, theirs, ours] = caller.dialog();
    for (named, status) in [
        (format!("{call_id};to-tag={ours};from-tag=guessed"), "481"),
        (format!("{call_id};to-tag={ours};from-tag={theirs};early-only"), "486"),
        (format!("{call_id};to-tag={ours}"), "400"),
    ] {
        assert_eq!(refused(&agent, &named), status, "{named}");
    }
    caller.talk(Duration::from_millis(200));
    caller.hang_up();
    agent.wait_event("call.ended", SOON);
    assert_eq!(of(&agent.events(), "party.joined").len(), 2);
}

/// The status of an INVITE with this `Replaces`.
fn refused(agent: &Agent, replaces: &str) -> String {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(SOON)).expect("a time-out");
    let here = socket.local_addr().expect("bound");
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
        m=audio 9 RTP/AVP 0\r\n";
    let id = replaces.len();
    let invite = format!(
        "INVITE sip:200@{agent} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK{id}x\r\n\
         From: <sip:x@{here}>;tag=x\r\nTo: <sip:200@{agent}>\r\nCall-ID: guess-{id}\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:x@{here}>\r\nMax-Forwards: 70\r\n\
         Replaces: {replaces}\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len(),
        agent = agent.udp(),
    );
    socket.send_to(invite.as_bytes(), agent.udp()).expect("sent");
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).expect("an answer");
        let status = String::from_utf8_lossy(&buffer[8..length])[..3].to_owned();
        if !status.starts_with('1') {
            return status;
        }
    }
}
