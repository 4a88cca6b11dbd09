//! Whatever arrives, the running agent answers what can be answered, ignores what cannot, keeps
//! its memory, and takes the next good call.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use support::{Agent, Ports, WirePhone, wait_for};

const SOON: Duration = Duration::from_secs(15);

/// Calls to `1…` are taken; there is no route for others.
fn agent() -> Agent {
    Agent::builder()
        .many_ports()
        .policy("attempts", "1")
        .policy("answer_within", "\"1s\"")
        .routes("[[route]]\nmatch = { to = \"1*\" }\nmode = \"endpoint\"\npolicy = \"default\"\n")
        .start()
}

/// The agent is unharmed: a good call is announced, permitted, recorded and verified.
#[track_caller]
fn takes_a_good_call(agent: &Agent) {
    let sealed = || agent.json(&["list", "--state", "sealed"]).len();
    let before = sealed();
    let mut phone = WirePhone::call(agent.udp(), "100");
    phone.talk_until_heard(15);
    phone.press(1, 3);
    phone.talk(Duration::from_millis(700));
    phone.hang_up();
    wait_for(SOON, "the good call is recorded", || sealed() == before + 1);
    assert!(agent.command(&["verify", "--all"]).status.success());
    assert!(!agent.log().contains("panicked"), "{}", agent.log());
}

fn calls(agent: &Agent) -> f64 {
    let (_, page) = agent.get("/metrics");
    let states = page.lines().filter(|line| line.starts_with("assent_calls{"));
    states.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Resident memory in KiB.
fn memory(agent: &Agent) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
}

/// One end of a conversation over either transport.
enum Peer {
    Udp(UdpSocket, SocketAddr),
    Tcp(TcpStream),
}

impl Peer {
    fn udp(agent: SocketAddr) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
        Peer::Udp(socket, agent)
    }

    fn tcp(agent: SocketAddr) -> Self {
        let stream = TcpStream::connect(agent).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
        Peer::Tcp(stream)
    }

    fn local(&self) -> SocketAddr {
        match self {
            Peer::Udp(socket, _) => socket.local_addr(),
            Peer::Tcp(stream) => stream.local_addr(),
        }
        .expect("bound")
    }

    fn transport(&self) -> &'static str {
        match self {
            Peer::Udp(..) => "UDP",
            Peer::Tcp(_) => "TCP",
        }
    }

    /// A request with this mark in its Call-ID and branch; lines end in `\n` alone.
    fn request(&self, method: &str, user: &str, mark: &str, body: &str) -> String {
        let (local, transport) = (self.local(), self.transport());
        let typed = if body.is_empty() { "" } else { "Content-Type: application/sdp\n" };
        format!(
            "{method} sip:{user}@127.0.0.1 SIP/2.0\n\
             Via: SIP/2.0/{transport} {local};branch=z9hG4bK-{mark};rport\nMax-Forwards: 70\n\
             From: <sip:bad@{local}>;tag=f{mark}\nTo: <sip:{user}@127.0.0.1>\nCall-ID: {mark}\n\
             CSeq: 1 {method}\nContact: <sip:bad@{local};transport={transport}>\n{typed}\
             Content-Length: {}\n\n{body}",
            body.replace('\n', "\r\n").len()
        )
    }

    fn say(&mut self, text: &str) {
        self.send(text.replace('\n', "\r\n").as_bytes());
    }

    fn send(&mut self, bytes: &[u8]) {
        // A peer that is hung up on finds out here; the test asks for the answer.
        let _ = match self {
            Peer::Udp(socket, agent) => socket.send_to(bytes, *agent),
            Peer::Tcp(stream) => stream.write(bytes),
        };
    }

    /// What comes within the time-out; empty when nothing does.
    fn hear(&mut self) -> String {
        let mut buffer = vec![0; 65_535];
        let length = match self {
            Peer::Udp(socket, _) => socket.recv(&mut buffer),
            Peer::Tcp(stream) => stream.read(&mut buffer),
        };
        String::from_utf8_lossy(&buffer[..length.unwrap_or(0)]).into_owned()
    }

    /// The status of the final answer to a Call-ID.
    fn status(&mut self, call_id: &str) -> u16 {
        for _ in 0..20 {
            let heard = self.hear();
            for message in heard.split("SIP/2.0 ").skip(1) {
                if message.contains(&format!("Call-ID: {call_id}\r\n")) && !message.starts_with('1')
                {
                    return message[..3].parse().expect("a status");
                }
            }
            if heard.is_empty() {
                break;
            }
        }
        0
    }

    /// Waits until everything sent so far was looked at; gives what was heard meanwhile.
    fn catches_up(&mut self, mark: &str) -> Vec<String> {
        let ping = format!("ping-{mark}");
        self.say(&self.request("OPTIONS", "1", &ping, ""));
        let mut heard = Vec::new();
        loop {
            let text = self.hear();
            assert!(!text.is_empty(), "no answer to a ping after {mark}");
            let done = text.contains(&format!("Call-ID: {ping}\r\n"));
            heard.push(text);
            if done {
                return heard;
            }
        }
    }
}

const SDP: &str = "v=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\n\
    m=audio 4000 RTP/AVP 0 101\na=rtpmap:101 telephone-event/8000\na=fmtp:101 0-15\na=sendrecv\n";

#[test]
fn each_fault_has_its_answer_over_udp_and_tcp() {
    let agent = agent();
    let g729 = SDP.replace("RTP/AVP 0 101", "RTP/AVP 18").replace("101 telephone", "18 G729");
    for mut peer in [Peer::udp(agent.udp()), Peer::tcp(agent.tcp())] {
        let transport = peer.transport();
        let invite = peer.request("INVITE", "100", "MARK", SDP);
        let with = |from: &str, to: &str| {
            assert!(invite.contains(from), "{from}");
            invite.replacen(from, to, 1)
        };
        let faults = [
            (400, "a space in the Request-URI", with("@127.0.0.1 SIP", "@127 .0.0.1 SIP")),
            (400, "no CSeq to speak of", with("CSeq: 1 INVITE", "CSeq: x INVITE")),
            (400, "a description that is none", with("v=0", "v=x")),
            (405, "a method that is not served", invite.replace("INVITE", "REGISTER")),
            (501, "an unknown method", invite.replace("INVITE", "DANCE")),
            (481, "a BYE to no call", invite.replace("INVITE", "BYE")),
            (416, "an unknown scheme", with("sip:100@127.0.0.1 SIP", "gopher://100 SIP")),
            (420, "an extension", with("Call-ID:", "Require: gruu\nCall-ID:")),
            (415, "an unknown body", with("application/sdp", "text/plain")),
            (483, "no hops left", with("Max-Forwards: 70", "Max-Forwards: 0")),
            (505, "another version", with("SIP/2.0\n", "SIP/7.0\n")),
            (404, "no route", invite.replace("sip:100@", "sip:999@")),
            (488, "no codec in common", peer.request("INVITE", "100", "MARK", &g729)),
            (
                488,
                "no audio",
                peer.request("INVITE", "100", "MARK", &SDP.replace("m=audio", "m=video")),
            ),
        ];
        for (n, (status, what, text)) in faults.into_iter().enumerate() {
            let mark = format!("{transport}-{n}");
            peer.say(&text.replace("MARK", &mark));
            assert_eq!(peer.status(&mark), status, "{what} over {transport}");
        }
        takes_a_good_call(&agent);
    }
    wait_for(SOON, "no call is left", || calls(&agent) == 0.0);
}

#[test]
fn too_large_a_body_is_413_and_a_large_one_is_read() {
    let agent = agent();
    let line = "a=x:yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\n";
    let large = format!("{SDP}{}", line.repeat(600));
    let medias = format!("{SDP}{}", "m=audio 4000 RTP/AVP 18\n".repeat(2_000));
    let too_large = format!("{SDP}{}", line.repeat(1_200));
    let mut peer = Peer::tcp(agent.tcp());
    for (status, mark, body) in [(404, "large", &large), (413, "too-large", &too_large)] {
        peer.say(&peer.request("INVITE", "9", mark, body));
        assert_eq!(peer.status(mark), status, "{mark}");
    }
    let mut peer = Peer::udp(agent.udp());
    peer.say(&peer.request("INVITE", "1", "medias", &medias));
    assert_eq!(peer.status("medias"), 413);
    takes_a_good_call(&agent);
}

#[test]
fn an_invite_that_comes_back_to_us_is_a_loop() {
    let mut ports = Ports::claim();
    let port = ports.pair();
    let agent = Agent::builder()
        .policy("gate", "\"standing\"")
        .policy("ask", "[]")
        .policy("standing", "{ caller = \"c\", callee = \"a\" }")
        .sip(&format!("listen = [\"udp:127.0.0.1:{port}\", \"tcp:127.0.0.1:{port}\"]"))
        .inline(format!("sip:127.0.0.1:{port}"))
        .start();
    for mut peer in [Peer::udp(agent.udp()), Peer::tcp(agent.tcp())] {
        let mark = format!("loop-{}", peer.transport());
        peer.say(&peer.request("INVITE", "1", &mark, SDP));
        assert_eq!(peer.status(&mark), 482);
    }
    wait_for(SOON, "no call is left", || calls(&agent) == 0.0);
}

#[test]
fn a_stranger_hears_nothing() {
    let agent = Agent::builder().sip("peers = [\"192.0.2.0/24\"]").start();
    for mut peer in [Peer::udp(agent.udp()), Peer::tcp(agent.tcp())] {
        match &peer {
            Peer::Udp(socket, _) => socket.set_read_timeout(Some(Duration::from_secs(1))),
            Peer::Tcp(stream) => stream.set_read_timeout(Some(Duration::from_secs(1))),
        }
        .expect("a time-out");
        peer.say(&peer.request("INVITE", "1", "stranger", SDP));
        assert_eq!(peer.hear(), "", "{}", peer.transport());
    }
    assert_eq!(calls(&agent), 0.0);
    // The administrator reads why.
    let told = |line: &&str| line.contains("sip.peers") && line.contains("ip=127.0.0.1");
    assert_eq!(agent.log().lines().filter(told).count(), 2, "{}", agent.log());
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }

    /// A few bytes changed, removed, doubled or put elsewhere.
    fn mutate(&mut self, bytes: &mut Vec<u8>, from: usize) {
        const ODD: &[&[u8]] = &[
            b"\r\n",
            b"\0",
            b"\xff",
            b";",
            b",",
            b"<",
            b"\"",
            b":",
            b" ",
            b"%00",
            b"\r\n ",
            b"4294967296",
            b"-1",
            b"99999999999999999999",
            b"[::1]",
            b"m=audio 0 RTP/AVP 0\r\n",
            b"a=rtpmap:0 opus/48000/2\r\n",
            b"Via: SIP/2.0/UDP x\r\n",
        ];
        for _ in 0..=self.roll(4) {
            let at = from + self.roll(bytes.len().saturating_sub(from));
            if at >= bytes.len() {
                return;
            }
            match self.roll(6) {
                0 => bytes[at] = self.roll(256) as u8,
                1 => bytes.truncate(at.max(1)),
                2 => {
                    let end = (at + 1 + self.roll(20)).min(bytes.len());
                    bytes.drain(at..end);
                }
                3 => {
                    let end = (at + 1 + self.roll(60)).min(bytes.len());
                    let piece = bytes[at..end].to_vec();
                    let to = from + self.roll(bytes.len() - from);
                    bytes.splice(to..to, piece);
                }
                _ => {
                    let piece = ODD[self.roll(ODD.len())];
                    bytes.splice(at..at, piece.iter().copied());
                }
            }
        }
    }
}

/// The BYE to a 200 that a mutated INVITE got after all.
fn bye_to(peer: &Peer, answer: &str) -> Option<String> {
    let header = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name));
    if !answer.starts_with("SIP/2.0 200") || !header("CSeq: ")?.ends_with("INVITE") {
        return None;
    }
    let (from, to, call_id) = (header("From: ")?, header("To: ")?, header("Call-ID: ")?);
    let (local, transport) = (peer.local(), peer.transport());
    Some(format!(
        "BYE sip:1@127.0.0.1 SIP/2.0\nVia: SIP/2.0/{transport} {local};branch=z9hG4bK-b{call_id};rport\n\
         Max-Forwards: 70\nFrom: {from}\nTo: {to}\nCall-ID: {call_id}\nCSeq: 9 BYE\n\
         Content-Length: 0\n\n"
    ))
}

#[test]
fn ten_thousand_mutations_leave_no_call_no_memory_and_no_panic() {
    let agent = agent();
    let mut dice = Dice(0x5eed_a55e_4711_0001);
    let mut peer = Peer::udp(agent.udp());
    takes_a_good_call(&agent);
    let (mut after_the_first, mut statuses) = (0, BTreeSet::new());
    for batch in 0..100 {
        for n in 0..100 {
            let mark = format!("m{batch}-{n}");
            // Heads of requests that are not routed; bodies of those that are.
            let (method, user, from_body) = match n % 5 {
                0 => ("INVITE", "9", false),
                1 => ("BYE", "9", false),
                2 => ("CANCEL", "9", false),
                3 => ("REGISTER", "9", false),
                _ => ("INVITE", "1", true),
            };
            let text = peer.request(method, user, &mark, SDP).replace('\n', "\r\n");
            let from = if from_body { text.find("v=0").expect("a body") } else { 0 };
            let mut bytes = text.into_bytes();
            dice.mutate(&mut bytes, from);
            if from_body {
                // The length stays right, so that the description is read.
                let head = String::from_utf8_lossy(&bytes[..from]).into_owned();
                let cut = head.find("Content-Length").expect("a length");
                let length = bytes.len() - from;
                let head = format!("{}Content-Length: {length}\r\n\r\n", &head[..cut]);
                bytes.splice(..from, head.into_bytes());
            }
            peer.send(&bytes);
        }
        for answer in peer.catches_up(&format!("after-{batch}")) {
            statuses.insert(answer.get(8..11).unwrap_or_default().to_owned());
            if let Some(bye) = bye_to(&peer, &answer) {
                peer.say(&bye);
            }
        }
        if batch == 20 {
            after_the_first = memory(&agent);
        }
    }
    // Answers that were on their way.
    for answer in peer.catches_up("all") {
        if let Some(bye) = bye_to(&peer, &answer) {
            peer.say(&bye);
        }
    }
    // The mutations went as far as they were meant to: to the checks, the routes and the SDP.
    for status in ["100", "200", "400", "404", "405", "481", "488"] {
        assert!(statuses.contains(status), "{statuses:?}");
    }
    let grown = memory(&agent).saturating_sub(after_the_first);
    assert!(grown < 32 * 1024, "{grown} KiB more");
    takes_a_good_call(&agent);
}

#[test]
fn mutations_within_a_call_harm_no_other_call() {
    let agent = agent();
    let mut dice = Dice(0x5eed_a55e_4711_0004);
    let mut phone = WirePhone::call(agent.udp(), "100");
    phone.talk_until_heard(15);
    phone.press(1, 3);
    for n in 0..1_000 {
        let (method, typed, body) = match n % 4 {
            0 => ("INVITE", "Content-Type: application/sdp\r\n", SDP.replace('\n', "\r\n")),
            1 => ("UPDATE", "Content-Type: application/sdp\r\n", SDP.replace('\n', "\r\n")),
            2 => ("INFO", "Content-Type: application/dtmf-relay\r\n", "Signal=1\r\n".to_owned()),
            _ => ("ACK", "", String::new()),
        };
        let text = phone.in_dialog(method, typed, &body);
        // Mostly the body, so that the dialog is found.
        let from = if n % 3 == 0 { 0 } else { text.find("\r\n\r\n").expect("an end") + 4 };
        let mut bytes = text.into_bytes();
        let from = from.min(bytes.len() - 1);
        dice.mutate(&mut bytes, from);
        phone.send_signal(&bytes);
        if n % 50 == 0 {
            phone.talk(Duration::from_millis(20));
        }
    }
    Peer::udp(agent.udp()).catches_up("dialog");
    takes_a_good_call(&agent);
}

#[test]
fn mutations_over_tcp_end_their_connection_at_most() {
    let agent = agent();
    let mut dice = Dice(0x5eed_a55e_4711_0002);
    for n in 0..500 {
        let mut peer = Peer::tcp(agent.tcp());
        let text = peer.request("INVITE", "9", &format!("t{n}"), SDP).replace('\n', "\r\n");
        let mut bytes = text.into_bytes();
        dice.mutate(&mut bytes, 0);
        peer.send(&bytes);
    }
    Peer::tcp(agent.tcp()).catches_up("tcp");
    takes_a_good_call(&agent);
}

#[test]
fn rubbish_on_the_media_ports_harms_no_call() {
    let agent = agent();
    let mut dice = Dice(0x5eed_a55e_4711_0003);
    let mut phone = WirePhone::call(agent.udp(), "100");
    phone.talk_until_heard(15);
    phone.press(1, 3);
    let rtcp = SocketAddr::new(phone.media().ip(), phone.media().port() + 1);
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let stream = phone.stream();
    let before = memory(&agent);
    for round in 0..40u16 {
        phone.talk(Duration::from_millis(20));
        for _ in 0..50 {
            let mut packet = vec![0x80, 0];
            packet.extend(stream.sequence.wrapping_add(round).to_be_bytes());
            packet.extend(stream.timestamp.to_be_bytes());
            packet.extend(stream.ssrc.to_be_bytes());
            packet.extend([0x55; 160]);
            dice.mutate(&mut packet, 0);
            // Truncated, with extensions that end nowhere, with padding beyond its start…
            if let Some(first) = packet.first_mut() {
                *first = dice.roll(256) as u8;
            }
            phone.send_media(&packet);
            stranger.send_to(&packet, phone.media()).expect("sent");
            stranger.send_to(&packet, rtcp).expect("sent");
            let mut report = vec![0x81, 200 + dice.roll(8) as u8, 0, 12];
            report.extend((0..dice.roll(80)).map(|n| n as u8));
            stranger.send_to(&report, rtcp).expect("sent");
        }
        phone.send_media(&[]);
        stranger.send_to(&[0x80], phone.media()).expect("sent");
    }
    phone.talk(Duration::from_millis(300));
    phone.hang_up();
    agent.wait_recording("sealed", SOON);
    let grown = memory(&agent).saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more");
    takes_a_good_call(&agent);
}
