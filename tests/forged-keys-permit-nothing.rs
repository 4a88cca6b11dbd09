//! Promise: 10,000 forged telephone-events and 1,000 forged INFOs permit nothing, and the one key
//! that the party presses does.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::Value;
use support::wire_phone::EventPacket;
use support::{Agent, AgentBuilder, WirePhone, wait_for};

const SOON: Duration = Duration::from_secs(20);
/// Forged packets at a time: no more than any socket buffers.
const AT_ONCE: u32 = 50;
const ACCEPT: u8 = 1;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Opt-in with so much time to answer that every forgery comes while an answer would count.
fn patient() -> AgentBuilder {
    Agent::builder().policy("attempts", "1").policy("answer_within", "\"60s\"")
}

fn decided(agent: &Agent) -> Vec<Value> {
    let all = agent.events();
    all.into_iter().filter(|e| e["type"].as_str().unwrap().contains(".permission.")).collect()
}

/// What was not taken, for this reason.
fn dropped(agent: &Agent, reason: &str) -> f64 {
    let name = format!("assent_rtp_packets_dropped_total{{reason=\"{reason}\"}}");
    agent.metric(&name).unwrap_or_default()
}

/// The one genuine key permits, and nothing else was decided.
#[track_caller]
fn permitted_by_the_genuine_key(agent: &Agent, phone: &mut WirePhone, via: &str) -> Value {
    wait_for(SOON, "the genuine key permits", || {
        phone.talk(ms(100));
        !decided(agent).is_empty()
    });
    phone.hang_up();
    agent.wait_event("recording.sealed", SOON);
    let decided = decided(agent);
    assert_eq!(decided.len(), 1, "{decided:?}");
    assert_eq!(decided[0]["type"], "io.assent.permission.granted.v1");
    let evidence = agent.json(&["evidence", "last"]);
    let facts = evidence[0]["evidence"]["facts"].clone();
    assert_eq!(
        (&facts["answer"]["key"], &facts["answer"]["via"]),
        (&"1".into(), &via.into()),
        "{facts}"
    );
    facts
}

/// A whole press of the accept key: three packets, then its end three times.
fn press(
    ssrc: u32,
    payload_type: u8,
    (sequence, timestamp): (u16, u32),
) -> impl Iterator<Item = Vec<u8>> {
    (1..=6u16).map(move |n| {
        let packet = EventPacket {
            payload_type,
            ssrc,
            sequence: sequence.wrapping_add(n),
            timestamp,
            code: ACCEPT,
            end: n > 3,
            duration: n.min(3) * 160,
        };
        packet.bytes()
    })
}

#[test]
fn ten_thousand_forged_telephone_events_permit_nothing() {
    let agent = patient().start();
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let elsewhere = UdpSocket::bind("127.0.0.2:0").expect("a port");

    // Before the notice: the call is answered, but there was no ACK, so that nobody was asked yet.
    let mut phone = WirePhone::dial(agent.udp(), "1");
    phone.talk(ms(100));
    let mut old = Vec::new();
    for _ in 0..2_000_u32.div_ceil(6 * 9) {
        for _ in 0..9 {
            let at = (phone.stream().sequence, phone.stream().timestamp);
            let packets: Vec<_> = press(phone.stream().ssrc, 101, at).collect();
            for packet in packets {
                phone.next();
                phone.send_media(&packet);
                old.push(packet);
            }
        }
        phone.talk(ms(20));
    }
    let mut sent = old.len();
    assert!(sent >= 2_000, "{sent}");
    phone.acknowledge();
    phone.talk_until_heard(10);

    let mut forge = |phone: &mut WirePhone, forged: &mut dyn FnMut(&mut WirePhone, u32)| {
        for n in 0..2_000 {
            forged(phone, n);
            sent += 1;
            if n % AT_ONCE == 0 {
                phone.talk(ms(20));
            }
        }
        assert_eq!(decided(&agent), Vec::<Value>::new());
    };
    let nth = |bytes: &mut dyn Iterator<Item = Vec<u8>>, n: u32| bytes.nth(n as usize % 6).unwrap();
    // From elsewhere, with everything else right: another port, another address.
    forge(&mut phone, &mut |phone, n| {
        let stream = phone.stream();
        let packet = nth(&mut press(stream.ssrc, 101, (stream.sequence, stream.timestamp)), n);
        let from = if n % 2 == 0 { &stranger } else { &elsewhere };
        from.send_to(&packet, phone.media()).expect("sent");
    });
    // From the right place, of another source, or of a payload type that was not agreed on.
    forge(&mut phone, &mut |phone, n| {
        let stream = phone.stream();
        let at = (stream.sequence, stream.timestamp);
        let packet = match n / 6 % 2 {
            0 => nth(&mut press(stream.ssrc ^ (1 + n), 101, at), n),
            _ => {
                let other = [96, 97, 98, 99, 100, 102, 110, 127][n as usize / 12 % 8];
                nth(&mut press(stream.ssrc, other, at), n)
            }
        };
        phone.send_media(&packet);
    });
    // Replayed: what came before the notice, byte for byte and in order.
    forge(&mut phone, &mut |phone, n| {
        phone.send_media(&old[n as usize % old.len()]);
    });
    // One packet that never ends, of everything that is right, again and again. RFC 4733, 2.5.1.2:
    // an event is held until its end is seen; here, until two packets say that it lasts.
    forge(&mut phone, &mut |phone, n| {
        let next = phone.next();
        let packet = EventPacket {
            payload_type: 101,
            ssrc: next.ssrc,
            sequence: next.sequence,
            timestamp: next.timestamp.wrapping_add(n * 4_000),
            code: ACCEPT,
            end: false,
            duration: 1_600,
        };
        phone.send_media(&packet.bytes());
    });
    assert!(sent >= 10_000, "{sent}");
    // They did arrive: a good part of each kind is counted as what it is.
    for (reason, least) in [("address", 1_500.0), ("ssrc", 500.0), ("payload-type", 500.0)] {
        wait_for(SOON, reason, || dropped(&agent, reason) >= least);
    }

    let pressed = phone.stream().timestamp;
    phone.press(ACCEPT, 3);
    let facts = permitted_by_the_genuine_key(&agent, &mut phone, "telephone-event");
    assert_eq!(facts["answer"]["rtp_timestamp"], pressed, "{facts}");
    support::ledger::proven(&agent);
}

const KEY: &str = "Signal=1\r\nDuration=160\r\n";
const TYPED: &str = "Content-Type: application/dtmf-relay\r\n";

/// The status of the next response, if one comes.
fn response(socket: &UdpSocket) -> Option<u16> {
    let mut buffer = [0; 4_096];
    let length = socket.recv(&mut buffer).ok()?;
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    text.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
}

#[test]
fn a_thousand_forged_infos_permit_nothing() {
    // Keys by INFO count here, from peers on one address.
    let agent = patient().sip("info_keys = true").sip("peers = [\"127.0.0.1/32\"]").start();
    let mut phone = WirePhone::call(agent.udp(), "1");
    phone.talk_until_heard(10);
    let peer = UdpSocket::bind("127.0.0.1:0").expect("a port");
    peer.set_read_timeout(Some(SOON)).expect("a time-out");
    let outsider = UdpSocket::bind("127.0.0.2:0").expect("a port");
    outsider.set_read_timeout(Some(ms(500))).expect("a time-out");
    let [call_id, ours, theirs] = phone.dialog();
    for n in 0..750 {
        let right = phone.in_dialog("INFO", TYPED, KEY);
        // Each is a transaction of its own.
        let right = right.replace("z9hG4bK-", &format!("z9hG4bK-{n}-"));
        let wrong = match n % 5 {
            // Another call; its own tag, ours, both at once; and none.
            0 => right.replace(&format!("Call-ID: {call_id}"), &format!("Call-ID: {call_id}{n}")),
            1 => right.replace(&format!(";tag={ours}"), ";tag=other"),
            2 => right.replace(&format!(";tag={theirs}"), ";tag=other"),
            3 => right
                .replace(&format!(";tag={ours}"), &format!(";tag={theirs}"))
                .replace(&format!("{};tag={theirs}", agent.udp()), &format!("x;tag={ours}")),
            // All of it right, from somebody who may not send requests.
            _ => right,
        };
        if n % 5 == 4 {
            outsider.send_to(wrong.as_bytes(), agent.udp()).expect("sent");
        } else {
            assert_ne!(wrong, phone.in_dialog("INFO", TYPED, KEY));
            peer.send_to(wrong.as_bytes(), agent.udp()).expect("sent");
            let status = response(&peer).expect("an answer");
            assert!((400..500).contains(&status), "{n}: {status}\n{wrong}");
        }
        if n % 25 == 0 {
            phone.talk(ms(20));
        }
    }
    assert_eq!(response(&outsider), None, "a stranger gets no answer");
    assert_eq!(decided(&agent), Vec::<Value>::new());
    assert_eq!(phone.asks("INFO", "application/dtmf-relay", KEY), 200);
    permitted_by_the_genuine_key(&agent, &mut phone, "info");

    // Where keys by INFO do not count, the party's own say nothing either.
    let agent = patient().start();
    let mut phone = WirePhone::call(agent.udp(), "1");
    phone.talk_until_heard(10);
    for n in 0..250 {
        assert_eq!(phone.asks("INFO", "application/dtmf-relay", KEY), 200);
        if n % 25 == 0 {
            phone.talk(ms(20));
        }
    }
    assert_eq!(decided(&agent), Vec::<Value>::new());
    phone.press(ACCEPT, 3);
    permitted_by_the_genuine_key(&agent, &mut phone, "telephone-event");
}
