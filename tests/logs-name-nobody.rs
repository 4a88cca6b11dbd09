//! Nobody is named where names do not belong: not in logs, however much is logged, nor in events,
//! subjects, metrics, names of files, or in clear in the catalog. And nothing that a peer sends
//! reaches a terminal as a control character.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;
mod torture;

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use support::talker::{Callee, Caller, Invitation, Rings};
use support::wire_phone::WirePhone;
use support::{Agent, wait_for, wait_until};
use torture::{OverTcp, OverUdp};

const SOON: Duration = Duration::from_secs(20);

/// What only people know of each other; parts of what the calls below are made of.
const SECRETS: [&str; 14] = [
    "30777000",
    "Sonderbar",
    "Geheim",
    "Vertraulich",
    "pbx-of-muster",
    "47726574654f776e",
    "kunde-4711",
    "RedPhone",
    "Signal=C",
    "'C'",
    "\"C\"",
    "=C ",
    "Frau Muster",
    "sip:+49",
];

fn invitation() -> Invitation {
    let headers = [
        "P-Asserted-Identity: \"Nora Geheim\" <sip:+4930777000333@pbx-of-muster.example>",
        "Diversion: <sip:+4930777000444@pbx-of-muster.example>;reason=no-answer",
        "User-to-User: 47726574654f776e;encoding=hex",
        "Subject: Vertraulich",
        "User-Agent: RedPhone \u{1b}[31m1.0\u{7}",
        "X-Customer: kunde-4711 \u{1b}[2J\u{9b}31m",
    ];
    Invitation {
        from: "+4930777000111".to_owned(),
        name: "Grete Sonderbar".to_owned(),
        to: "+4930777000222".to_owned(),
        headers: headers.map(str::to_owned).to_vec(),
    }
}

#[test]
fn a_recorded_call_names_nobody() {
    let callee = Callee::start(Rings::For(Duration::from_millis(300)));
    let agent =
        Agent::builder().inline(callee.uri()).sip("info_keys = true").env("ASSENT_LOG", "trace");
    let mut agent = agent.start();
    let mut caller = Caller::invite(agent.udp(), invitation());
    caller.answered();
    logged(&agent, "notice ended");
    caller.press('C');
    caller.press_by_info('C');
    caller.press('1');
    logged(&agent, "bridged");
    let invite = callee.invited().expect("the callee is called");
    for passed in ["Nora Geheim", "30777000111", "Grete Sonderbar", "30777000222"] {
        assert!(invite.contains(passed), "{passed} is passed on, so it was there:\n{invite}");
    }
    caller.press('C');
    std::thread::sleep(Duration::from_millis(300));
    names_nobody(&agent);
    caller.hang_up();
    logged(&agent, "recording sealed");
    names_nobody(&agent);
    agent.stop();
    names_nobody(&agent);
}

#[test]
fn a_refused_call_names_nobody() {
    let callee = Callee::start(Rings::Busy("Frau Muster \u{1b}[31mist nicht da"));
    let agent = Agent::builder().inline(callee.uri()).env("ASSENT_LOG", "trace");
    let agent = agent.no_objection("1s").start();
    let mut caller = Caller::invite(agent.udp(), invitation());
    caller.answered();
    logged(&agent, "call ended");
    names_nobody(&agent);
    agent.signal("KILL");
}

#[test]
fn a_call_that_no_route_takes_names_nobody() {
    let route = "[[route]]\nmatch = { to = \"911\" }\nmode = \"endpoint\"\npolicy = \"default\"\n";
    let agent = Agent::builder().routes(route).env("ASSENT_LOG", "trace").start();
    let mut caller = Caller::invite(agent.udp(), invitation());
    caller.response(|status| status >= 300);
    names_nobody(&agent);
}

#[test]
fn messages_that_do_not_parse_name_nobody() {
    let agent = Agent::builder().env("ASSENT_LOG", "trace").start();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let me = socket.local_addr().unwrap();
    let good = |n: usize| {
        [
            "INVITE sip:+4930777000222@pbx-of-muster.example SIP/2.0".to_owned(),
            format!("Via: SIP/2.0/UDP {me};branch=z9hG4bK{n}"),
            "Max-Forwards: 70".to_owned(),
            "From: \"Grete Sonderbar\" <sip:+4930777000111@pbx-of-muster.example>;tag=1".to_owned(),
            "To: <sip:+4930777000222@pbx-of-muster.example>".to_owned(),
            format!("Call-ID: kunde-4711-{n}"),
            "CSeq: 1 INVITE".to_owned(),
            format!("Contact: <sip:+4930777000111@{me}>"),
            "Content-Length: 0".to_owned(),
        ]
    };
    let bad = [
        (0, "INVITE sip:+4930777000222@ SIP/2.0"),
        (0, "INVITE tel:+4930777000222 SIP/2.0"),
        (0, "Sonderbar sip:+4930777000222@pbx-of-muster.example SIP/2.0"),
        (0, "INVITE sip:+4930777000222@pbx-of-muster.example SIP/9.0"),
        (1, "Via: SIP/2.0/Sonderbar pbx-of-muster;branch=z9hG4bKGeheim"),
        (2, "Max-Forwards: Sonderbar"),
        (2, "Max-Forwards: 0"),
        (3, "From: Grete Sonderbar sip:+4930777000111"),
        (3, "From: \"Grete Sonderbar <sip:+4930777000111@pbx-of-muster.example>;tag=1"),
        (4, "To: <sip:+4930777000222@[pbx-of-muster]>"),
        (6, "CSeq: Geheim INVITE"),
        (6, "CSeq: 1 Sonderbar"),
        (7, "Contact: <Geheim:+4930777000111>"),
        (7, "Require: Sonderbar"),
        (7, "Content-Type: application/sdp;x=Geheim"),
        (7, "Kunde kunde-4711 \u{1b}[31m"),
        (8, "Content-Length: Sonderbar"),
        (8, "Content-Length: 9999"),
    ];
    for (n, (line, wrong)) in bad.iter().enumerate() {
        let mut lines = good(n);
        lines[*line] = (*wrong).to_owned();
        let text = format!("{}\r\n\r\n", lines.join("\r\n"));
        socket.send_to(text.as_bytes(), agent.udp()).unwrap();
    }
    let sdp = "v=0\r\no=Sonderbar 1 1 IN IP4 pbx-of-muster\r\ns=Vertraulich\r\nt=Geheim\r\n";
    let mut lines = good(99);
    lines[7] = "Content-Type: application/sdp".to_owned();
    lines[8] = format!("Content-Length: {}", sdp.len());
    let text = format!("{}\r\n\r\n{sdp}", lines.join("\r\n"));
    socket.send_to(text.as_bytes(), agent.udp()).unwrap();
    socket.send_to(b"Sonderbar +4930777000111 \x1b[31m\r\n\r\n", agent.udp()).unwrap();
    {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(agent.tcp()).unwrap();
        let junk = "Sonderbar sip:+4930777000222 Geheim\r\nFrom: Sonderbar \u{1b}[2J\r\n\r\n";
        stream.write_all(junk.as_bytes()).unwrap();
    }
    let mut lines = good(100);
    lines[0] = "OPTIONS sip:+4930777000222@pbx-of-muster.example SIP/2.0".to_owned();
    lines[6] = "CSeq: 1 OPTIONS".to_owned();
    let text = format!("{}\r\n\r\n", lines.join("\r\n"));
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.send_to(text.as_bytes(), agent.udp()).unwrap();
    let mut buffer = [0; 4096];
    wait_until(SOON, "the answer to a good message after the bad ones", || {
        let length = socket.recv(&mut buffer).unwrap();
        let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
        answer.contains("CSeq: 1 OPTIONS").then_some(())
    });
    assert!(agent.log().contains("does not parse"), "the log tells of them");
    names_nobody(&agent);
}

/// Who and what is named in the messages of RFC 4475 and RFC 5118.
const TORTURED: [&str; 24] = [
    "19725552222",
    "13035551111",
    "16505552222",
    "jdrosen",
    "Rosenberg",
    "vivekg",
    "Watson",
    "Alexander",
    "amazinglylong",
    "extreme",
    "fluffy",
    "kumiko",
    "UserB",
    "j_user",
    "null-",
    "BEL",
    "mundane",
    "работающий",
    "大停電",
    "spaces",
    "newfangled",
    "Smith",
    "totallyopaque",
    "Live video",
];

#[test]
fn the_torture_messages_name_nobody() {
    let callee = Callee::start(Rings::Busy("Frau Muster \u{1b}[31mist nicht da"));
    let agent = Agent::builder()
        .inline(callee.uri())
        .policy("gate", "\"standing\"")
        .policy("ask", "[]")
        .policy("standing", "{ caller = \"c\", callee = \"a\" }")
        .env("ASSENT_LOG", "trace")
        .start();
    let mut peer = OverUdp::at_its_own_address(agent.udp());
    for vector in torture::vectors() {
        peer.send(&vector, || callee.invited());
        // Those that came as a call over UDP already are the same call.
        if vector.udp.0.iter().all(|outcome| *outcome != torture::Outcome::Called) {
            OverTcp::connect(agent.tcp()).send(&vector, || None);
        }
    }
    let log = agent.log();
    assert!(log.contains("does not parse") && log.contains("call ended"), "they were there");
    for line in log.lines() {
        for name in TORTURED {
            assert!(!line.contains(name), "the log names {name:?}: {line}");
        }
    }
    names_nobody(&agent);
    agent.signal("KILL");
}

#[test]
fn hostile_headers_bodies_and_packets_name_nobody() {
    let escape = "\u{1b}]0;Sonderbar\u{7}\u{1b}[2J\u{8}\u{b}\u{7f}\u{85}\u{9b}31m\u{202e}";
    let names = [
        "Subject",
        "User-Agent",
        "Server",
        "Organization",
        "Reason",
        "Diversion",
        "History-Info",
        "User-to-User",
        "Session-ID",
        "Privacy",
        "Alert-Info",
        "Call-Info",
        "Accept-Language",
        "X-Assent-Direction",
        "X-Assent-Call",
        "P-Asserted-Identity",
        "Remote-Party-ID",
        "Authorization",
        "Proxy-Authorization",
        "Identity",
        "Geolocation",
        "X-Geheim",
    ];
    let lines = |_: &str| -> String {
        let value =
            |name: &&str| format!("{name}: \"{escape}\" <sip:+4930777000333@h>;x={escape}\r\n");
        names.iter().map(value).collect()
    };
    let agent = Agent::builder().sip("info_keys = true").env("ASSENT_LOG", "trace").start();
    let attributes = format!("a=tool:{escape}\r\na=label:Geheim\r\na=fmtp:101 {escape}\r\n");
    let mut phone = WirePhone::dial_offering(agent.udp(), "+4930777000222", lines, &attributes);
    phone.acknowledge();
    phone.talk_until_heard(5);
    for (method, kind, body) in [
        ("INFO", "application/dtmf-relay", format!("Signal=C\r\nDuration=160\r\nX: {escape}\r\n")),
        ("INFO", "application/dtmf-relay", format!("Signal={escape}\r\nDuration=Geheim\r\n")),
        ("INFO", "application/dtmf", format!("C{escape}")),
        ("INFO", "text/plain", format!("Vertraulich {escape}")),
        ("UPDATE", "application/sdp", format!("v=0\r\ns=Vertraulich {escape}\r\n")),
        ("INVITE", "application/sdp", format!("v=0\r\no=Sonderbar {escape}\r\n")),
        ("MESSAGE", "text/plain", format!("Geheim {escape}")),
        ("REFER", "message/sipfrag", format!("Refer-To: <sip:+4930777000444@h>{escape}")),
        ("Sonderbar", "text/plain", escape.to_owned()),
    ] {
        assert_ne!(phone.asks(method, kind, &body), 0);
    }
    let answer = format!(
        "SIP/2.0 200 Sonderbar {escape}\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{escape}\r\n\r\n"
    );
    phone.send_signal(answer.as_bytes());
    phone.press(15, 3);
    phone.send_media(format!("Sonderbar {escape}").as_bytes());
    phone.send_media(&[0x80, 101, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 15]);
    phone.talk(Duration::from_millis(100));
    phone.hang_up();
    logged(&agent, "call ended");
    // In hex, as a log might show bytes.
    let log = agent.log();
    assert!(!log.to_lowercase().contains(&hex::encode("Sonderbar")), "a dump of a message");
    assert!(!log.contains("\\u{1b}") && !log.contains("\\x1b"), "an escape, escaped: {log}");
    names_nobody(&agent);
    agent.signal("KILL");
}

/// Looks everywhere.
#[track_caller]
fn names_nobody(agent: &Agent) {
    let log = agent.log();
    assert!(log.contains("ready"), "the log is there");
    is_clean("the log", &log);
    let events = agent.command(&["events", "--json"]);
    let events = String::from_utf8(events.stdout).unwrap();
    is_clean("the events", &events);
    if agent.is_up() {
        for page in ["/metrics", "/readyz", "/livez"] {
            is_clean(page, &agent.get(page).1);
        }
        let status = agent.command(&["status", "--json"]);
        is_clean("the status", &String::from_utf8(status.stdout).unwrap());
    }
    for file in agent.files() {
        let name = file.strip_prefix(agent.folder()).unwrap().display().to_string();
        is_clean("a file's name", &name);
        let Ok(bytes) = std::fs::read(&file) else { continue };
        for secret in SECRETS.iter().filter(|secret| secret.len() > 6) {
            let wide: Vec<u8> = secret.encode_utf16().flat_map(u16::to_le_bytes).collect();
            for form in [secret.as_bytes(), &wide] {
                let found = bytes.windows(form.len()).any(|window| window == form);
                assert!(!found, "{secret:?} is in {name}");
            }
        }
    }
}

#[track_caller]
fn is_clean(place: &str, text: &str) {
    for line in text.lines() {
        for secret in SECRETS {
            assert!(!line.contains(secret), "{place} names {secret:?}: {line}");
        }
        // Those that turn the direction of a line are as good as control characters.
        let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let control = line.chars().find(|c| (c.is_control() && *c != '\t') || turns(*c));
        assert_eq!(control, None, "{place} has a control character: {line:?}");
    }
}

fn logged(agent: &Agent, line: &str) {
    wait_for(SOON, line, || agent.log().contains(line));
}
