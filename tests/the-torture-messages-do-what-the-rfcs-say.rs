//! Each message of RFC 4475 and RFC 5118 has the outcome that tests/vectors/sip-torture/README.md
//! writes beside it, over UDP and over TCP, and after each the agent serves an ordinary call.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;
mod torture;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use support::talker::{Callee, Rings};
use support::{Agent, WirePhone, wait_for};
use torture::{Expected, Heard, Outcome, OverTcp, OverUdp, Vector, vectors};

/// An agent that sends every call on to the callee, who is busy: so that an INVITE that is
/// accepted is seen to arrive, and no media flows to the addresses of the messages. Calls to 100
/// end at the agent.
fn agent(callee: &str, listen: &str) -> Agent {
    let routes = format!(
        "[[route]]\nmatch = {{ to = \"100\" }}\nmode = \"endpoint\"\npolicy = \"default\"\n\
         [[route]]\nmatch = {{ to = \"*\" }}\nmode = \"inline\"\nnext_hop = \"{callee}\"\n\
         policy = \"default\"\n"
    );
    Agent::builder()
        .policy("gate", "\"standing\"")
        .policy("ask", "[]")
        .policy("standing", "{ caller = \"c\", callee = \"a\" }")
        .sip(&format!("listen = [\"udp:127.0.0.1:0\", \"tcp:{listen}:0\"]"))
        .routes(&routes)
        .start()
}

/// A call is answered, heard, and hung up.
fn serves_a_call(agent: &Agent, after: &Vector) {
    assert!(!agent.log().contains("panicked"), "{}: {}", after.name, agent.log());
    let mut phone = WirePhone::call(agent.udp(), "100");
    phone.hang_up();
}

/// What the callee was called with since.
struct Calls {
    callee: Callee,
    last: Option<String>,
}

impl Calls {
    fn of(callee: Callee) -> Self {
        Self { callee, last: None }
    }

    fn since(&mut self) -> Option<String> {
        let now = self.callee.invited();
        if now == self.last {
            return None;
        }
        self.last.clone_from(&now);
        now
    }
}

fn compare(vector: &Vector, transport: &str, expected: &Expected, heard: &Heard) -> Option<String> {
    let outcome = &heard.outcomes;
    (outcome != &expected.0).then(|| {
        let shown: Vec<String> = outcome.iter().map(Outcome::to_string).collect();
        format!(
            "{} over {transport}: {}, not {}; heard {:#?}",
            vector.name,
            if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") },
            expected,
            heard.messages
        )
    })
}

#[test]
fn over_udp() {
    let mut calls = Calls::of(Callee::start(Rings::Busy("Busy Here")));
    let agent = agent(&calls.callee.uri(), "127.0.0.1");
    let mut peer = OverUdp::at_its_own_address(agent.udp());
    let mut wrong = Vec::new();
    for vector in vectors() {
        let heard = peer.send(&vector, || calls.since());
        wrong.extend(compare(&vector, "UDP", &vector.udp, &heard));
        serves_a_call(&agent, &vector);
        calls.since();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn over_tcp(listen: &str) {
    let mut calls = Calls::of(Callee::start(Rings::Busy("Busy Here")));
    let agent = agent(&calls.callee.uri(), listen);
    let at: SocketAddr = agent.tcp();
    let mut wrong = Vec::new();
    for vector in vectors() {
        let heard = OverTcp::connect(at).send(&vector, || calls.since());
        wrong.extend(compare(&vector, "TCP", &vector.tcp, &heard));
        serves_a_call(&agent, &vector);
        calls.since();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let connections = || agent.metric("assent_sip_connections").unwrap_or(0.0);
    wait_for(Duration::from_secs(20), "every connection is closed", || connections() == 0.0);
}

#[test]
fn over_tcp_by_ipv4() {
    over_tcp("127.0.0.1");
}

#[test]
fn over_tcp_by_ipv6() {
    over_tcp("[::1]");
}

#[test]
fn the_table_and_the_messages_belong_together() {
    let written: BTreeSet<String> = vectors().into_iter().map(|vector| vector.name).collect();
    let files = std::fs::read_dir(torture::folder()).unwrap().map(|entry| entry.unwrap().path());
    let stored: BTreeSet<String> = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "sip"))
        .map(|file| file.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(written, stored);
    // 49 of RFC 4475, 12 of RFC 5118, one of ours.
    assert_eq!(stored.len(), 62);
}

/// A peer that says what it is told, and reads what comes back.
struct Wire(UdpSocket, SocketAddr);

impl Wire {
    fn to(agent: &Agent) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self(socket, agent.udp())
    }

    fn say(&self, bytes: &[u8]) {
        self.0.send_to(bytes, self.1).unwrap();
    }

    fn hear(&self) -> String {
        let mut buffer = vec![0; 65_535];
        let (length, _) = self.0.recv_from(&mut buffer).expect("something comes");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    fn invite(&self, mark: &str) -> String {
        let local = self.0.local_addr().unwrap();
        let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
            m=audio 4000 RTP/AVP 0\r\n";
        format!(
            "INVITE sip:200@127.0.0.1 SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bK-{mark};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:a@{local}>;tag=f\r\nTo: <sip:200@127.0.0.1>\r\nCall-ID: {mark}\r\n\
             CSeq: 1 INVITE\r\nContact: <sip:a@{local}>\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        )
    }
}

/// The message with the start line of another, and the ids of the request that it answers.
fn as_an_answer(vector: &str, request: &str) -> Vec<u8> {
    let bytes = std::fs::read(torture::folder().join(vector).with_extension("sip")).unwrap();
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let mut lines = bytes[..head].split(|b| *b == b'\n').map(<[u8]>::trim_ascii_end);
    let mut answer = [lines.next().unwrap(), b" \r\n"].concat();
    for line in lines {
        let name = String::from_utf8_lossy(line).split(':').next().unwrap().to_owned();
        // Their own where that is what is wrong with them.
        let theirs = match name.as_str() {
            "CSeq" => vector == "scalarlg",
            "Via" => vector == "bcast" && line.windows(3).any(|window| window == b"255"),
            "From" | "To" | "Call-ID" | "Content-Length" | "Content-Type" => false,
            _ => true,
        };
        let ours = request.split("\r\n").find(|l| l.starts_with(&format!("{name}:")));
        let tag = if name == "To" { ";tag=t" } else { "" };
        match ours {
            _ if theirs => answer.extend(line),
            Some(ours) if !name.starts_with("Content") => {
                answer.extend(ours.bytes().chain(tag.bytes()));
            }
            _ => continue,
        }
        answer.extend(b"\r\n");
    }
    answer.extend(b"Content-Length: 0\r\n\r\n");
    answer
}

fn status_of(text: &str) -> u16 {
    text.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0)
}

/// The responses of RFC 4475 again, this time to a request that is the agent's own: those that
/// are valid are understood, and the others are as good as lost.
#[test]
fn responses_are_read_as_the_rfcs_say() {
    let callee = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    callee.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let agent = agent(&format!("sip:{}", callee.local_addr().unwrap()), "127.0.0.1");
    for vector in ["noreason", "scalarlg", "bigcode", "bcast", "unreason"] {
        let caller = Wire::to(&agent);
        caller.say(caller.invite(vector).as_bytes());
        let mut buffer = vec![0; 65_535];
        let (request, from) = loop {
            let (length, from) = callee.recv_from(&mut buffer).expect("the callee is called");
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.starts_with("INVITE") {
                break (text, from);
            }
        };
        let mut answer = as_an_answer(vector, &request);
        if vector == "unreason" {
            // Its 200 would want a description; its phrase is what matters.
            let busy = [b"SIP/2.0 486".as_slice(), answer.strip_prefix(b"SIP/2.0 200").unwrap()];
            answer = busy.concat();
        }
        callee.send_to(&answer, from).unwrap();
        // What counts, if the one before did not.
        let last = String::from_utf8_lossy(&as_an_answer("noreason", &request)).into_owned();
        let last = last.replacen("SIP/2.0 100 ", "SIP/2.0 603 ", 1);
        callee.send_to(last.as_bytes(), from).unwrap();
        let status = loop {
            let status = status_of(&caller.hear());
            if status >= 200 {
                break status;
            }
        };
        assert_eq!(status, if vector == "unreason" { 486 } else { 603 }, "{vector}");
        let mut phone = WirePhone::call(agent.udp(), "100");
        phone.hang_up();
    }
}

/// What the answers say beside their status, and what the next hop is told.
#[test]
fn nothing_of_a_message_is_lost_or_believed_on_the_way() {
    let callee = Callee::start(Rings::Busy("Busy Here"));
    let agent = agent(&callee.uri(), "127.0.0.1");
    let mut peer = OverUdp::at_its_own_address(agent.udp());
    let all = vectors();
    let mut answer = |name: &str| {
        let vector = all.iter().find(|vector| vector.name == name).unwrap();
        peer.send(vector, || None).messages.remove(0)
    };
    assert!(
        answer("bext01")
            .contains("\r\nUnsupported: nothingSupportsThis, nothingSupportsThisEither\r\n")
    );
    assert!(answer("invut").contains("\r\nAccept: application/sdp"));
    assert!(answer("regaut01").contains("\r\nAllow: INVITE"));
    assert!(answer("badinv01").contains("\r\nVia: SIP/2.0/UDP 192.0.2.15;;,;,,\r\n"));
    let intmeth = answer("intmeth");
    assert!(intmeth.contains("\"BEL:\\\u{7} NUL:\\\0 DEL:\\\u{7f}\""), "{intmeth:?}");
    assert_eq!(answer("transports").matches("\r\nVia: ").count(), 5);
    let received = answer("via-received-param-with-delim");
    assert!(!received.contains("[2001:db8::9:255]"), "{received}");
    answer("esc01");
    let called = callee.invited().unwrap();
    assert!(called.starts_with("INVITE sip:sips%3Auser%40example.com@127.0.0.1:"), "{called}");
    answer("longreq");
    let called = callee.invited().unwrap();
    assert!(called.contains(&format!("I have a user name of {}", "extreme".repeat(10))));
    assert_eq!(called.matches("\r\nVia: ").count(), 1, "{called}");
    answer("sdp01");
    let called = callee.invited().unwrap();
    assert!(!called.contains("\r\nRoute:"), "{called}");
}
