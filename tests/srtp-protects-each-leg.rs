//! SRTP protects each leg by itself, between foreign telephones: what is protected on one side may
//! be plain on the other, what has to be protected is never plain, and the recording holds what was
//! said.

#![allow(clippy::expect_used)]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::Agent;
use support::audio::Audio;
use support::baresip::{Baresip, BaresipConfig, Protects};

const SOON: Duration = Duration::from_secs(15);
const CALLER_HZ: f64 = 440.0;
const CALLEE_HZ: f64 = 1_000.0;

fn phone(user: &str, hz: f64, protects: Protects) -> BaresipConfig {
    BaresipConfig::new(user, hz as u32).protects(protects)
}

/// A call that is permitted, in which both talk for as long as it takes to do `meanwhile`.
fn call(
    [caller, callee]: [Protects; 2],
    srtp: &str,
    meanwhile: impl FnOnce(&mut Baresip),
) -> (Agent, Baresip, Baresip) {
    let callee = phone("callee", CALLEE_HZ, callee).start();
    let mut caller = phone("caller", CALLER_HZ, caller).start();
    let setting = format!("srtp = \"{srtp}\"");
    let agent = Agent::builder().inline(callee.uri()).media(&setting).start();
    caller.dial(&agent.uri("callee"));
    caller.wait_event("CALL_ESTABLISHED", SOON);
    agent.wait_event("notice.completed", SOON);
    caller.press('1');
    agent.wait_event("recording.started", SOON);
    std::thread::sleep(Duration::from_millis(1_500));
    meanwhile(&mut caller);
    caller.hang_up();
    (agent, caller, callee)
}

/// Both heard each other, and each is alone on their channel of the recording.
fn heard_and_recorded(agent: &Agent, caller: &Baresip, mut callee: Baresip) {
    callee.wait_event("CALL_CLOSED", SOON);
    let recording = agent.wait_recording("sealed", SOON);
    assert!(loudest(&caller.heard(), 0, CALLEE_HZ) > 0.1, "the caller hears the callee");
    assert!(loudest(&callee.heard(), 0, CALLER_HZ) > 0.1, "the callee hears the caller");
    let wav = export(agent, &recording);
    for (channel, own, other) in [(0, CALLER_HZ, CALLEE_HZ), (1, CALLEE_HZ, CALLER_HZ)] {
        assert!(loudest(&wav, channel, own) > 0.1, "channel {channel}");
        assert!(wav.level(channel, 0.0, wav.seconds(), other) < 0.01, "channel {channel}");
    }
    let id = recording["id"].as_str().expect("an id");
    assert!(agent.command(&["verify", id]).status.success());
    for reason in ["unauthentic", "unparsable"] {
        let name = format!("assent_rtp_packets_dropped_total{{reason=\"{reason}\"}}");
        assert_eq!(agent.metric(&name), Some(0.0), "{name}");
    }
    assert!(!agent.log().contains("inline:"), "no key is in the log");
}

/// A tone over a whole second: so long lasts no click.
fn loudest(audio: &Audio, channel: usize, hz: f64) -> f64 {
    let starts = (0..).map(|n| f64::from(n) * 0.2).take_while(|at| at + 1.0 <= audio.seconds());
    starts.map(|at| audio.level(channel, at, at + 1.0, hz)).fold(0.0, f64::max)
}

fn export(agent: &Agent, recording: &Value) -> Audio {
    let id = recording["id"].as_str().expect("an id");
    let file = agent.folder().join(format!("{id}.wav"));
    agent.json(&["export", id, "--out", &file.display().to_string(), "--reason", "test"]);
    Audio::read(&file)
}

/// How the evidence says that the caller's voice travelled.
fn callers_transport(agent: &Agent) -> Value {
    let records = agent.json(&["evidence", "last"]);
    let text = serde_json::to_string(&records).expect("JSON");
    let facts = |record: &Value| record["evidence"]["facts"].clone();
    let of_caller = records.iter().map(facts).find(|facts| facts["leg"] == "caller");
    of_caller.unwrap_or_else(|| panic!("{text}"))["transport"].clone()
}

#[test]
fn a_protected_caller_reaches_a_plain_callee() {
    let (agent, caller, callee) = call([Protects::Always, Protects::No], "offer", |_| ());
    heard_and_recorded(&agent, &caller, callee);
    assert_eq!(callers_transport(&agent), "SRTP");
}

#[test]
fn a_plain_caller_reaches_a_callee_that_protects_what_it_can() {
    let (agent, caller, callee) = call([Protects::No, Protects::IfItCan], "offer", |_| ());
    assert!(callee.output().contains("SRTP"), "{}", callee.output());
    heard_and_recorded(&agent, &caller, callee);
    assert_eq!(callers_transport(&agent), "RTP");
}

#[test]
fn who_offers_both_is_protected() {
    let (agent, caller, callee) = call([Protects::IfItCan; 2], "offer", |_| ());
    heard_and_recorded(&agent, &caller, callee);
    assert_eq!(callers_transport(&agent), "SRTP");
}

#[test]
fn both_legs_are_protected_where_it_is_required_and_a_hold_changes_no_key() {
    let both = [Protects::AlwaysWithFeedback, Protects::Always];
    let (agent, caller, callee) = call(both, "require", |caller| {
        caller.hold();
        std::thread::sleep(Duration::from_millis(700));
        caller.resume();
        std::thread::sleep(Duration::from_millis(1_500));
    });
    heard_and_recorded(&agent, &caller, callee);
    assert_eq!(callers_transport(&agent), "SRTP");
}

#[test]
fn a_caller_who_shakes_hands_on_the_media_path_is_protected() {
    for srtp in ["offer", "require"] {
        let callee = if srtp == "offer" { Protects::No } else { Protects::Always };
        let (agent, caller, callee) = call([Protects::ByHandshake, callee], srtp, |caller| {
            caller.hold();
            std::thread::sleep(Duration::from_millis(500));
            caller.resume();
            std::thread::sleep(Duration::from_millis(1_500));
        });
        heard_and_recorded(&agent, &caller, callee);
        assert_eq!(callers_transport(&agent), "SRTP");
    }
}

#[test]
fn what_is_required_is_never_plain() {
    let mut callee = phone("callee", CALLEE_HZ, Protects::No).start();
    let setting = "srtp = \"require\"";
    let agent = Agent::builder().inline(callee.uri()).media(setting).start();
    // A caller who offers plain RTP is turned away.
    let mut caller = phone("caller", CALLER_HZ, Protects::No).start();
    caller.dial(&agent.uri("callee"));
    let closed = caller.wait_event("CALL_CLOSED", SOON);
    assert!(closed["param"].as_str().expect("a reason").contains("488"), "{closed}");
    // A callee who takes nothing else cannot be had.
    let mut caller = phone("caller", CALLER_HZ, Protects::Always).start();
    caller.dial(&agent.uri("callee"));
    caller.wait_event("CALL_ESTABLISHED", SOON);
    agent.wait_event("notice.completed", SOON);
    caller.press('1');
    caller.wait_event("CALL_CLOSED", SOON);
    assert!(!callee.output().contains("Call established"), "{}", callee.output());
    callee.hang_up();
}

#[test]
fn where_it_is_off_an_offer_of_nothing_else_is_refused() {
    let agent = Agent::builder().media("srtp = \"off\"").start();
    let mut caller = phone("caller", CALLER_HZ, Protects::Always).start();
    caller.dial(&agent.uri("statement"));
    let closed = caller.wait_event("CALL_CLOSED", SOON);
    assert!(closed["param"].as_str().expect("a reason").contains("488"), "{closed}");
    let mut caller = phone("caller", CALLER_HZ, Protects::IfItCan).start();
    caller.dial(&agent.uri("statement"));
    caller.wait_event("CALL_ESTABLISHED", SOON);
    caller.hang_up();
}
