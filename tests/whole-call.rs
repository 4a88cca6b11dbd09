//! A whole call between two foreign telephones: announced, permitted, bridged, recorded, exported.

#![allow(clippy::expect_used)]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use support::agent::NOTICE_HZ;
use support::audio::Audio;
use support::baresip::{Answers, Baresip, BaresipConfig};
use support::{Agent, wait_for};

const SOON: Duration = Duration::from_secs(15);
const CALLER_HZ: f64 = 440.0;
const CALLEE_HZ: f64 = 1_000.0;

fn phones(codec: &str) -> (Baresip, Baresip) {
    let callee = BaresipConfig::new("callee", 1_000).codecs(&[codec]).answers(Answers::WhenTold);
    (BaresipConfig::new("caller", 440).codecs(&[codec]).start(), callee.start())
}

fn export(agent: &Agent, recording: &Value) -> Audio {
    let id = recording["id"].as_str().expect("an id");
    let file: PathBuf = agent.folder().join(format!("{id}.wav"));
    let out = file.display().to_string();
    agent.json(&["export", id, "--out", &out, "--reason", "test"]);
    Audio::read(&file)
}

#[test]
fn each_voice_is_on_its_channel_from_its_permission_to_the_end() {
    for codec in ["pcmu", "pcma", "g722", "opus"] {
        let (mut caller, mut callee) = phones(codec);
        let mut agent = Agent::builder().inline(callee.uri()).start();
        caller.dial(&agent.uri("callee"));
        caller.wait_event("CALL_ESTABLISHED", SOON);
        // The notice lasts 0.6 s; until the key the caller says its tone to nobody.
        std::thread::sleep(Duration::from_millis(1_200));
        caller.press('1');
        callee.wait_event("CALL_INCOMING", SOON);
        std::thread::sleep(Duration::from_millis(500));
        callee.answer();
        callee.wait_event("CALL_ESTABLISHED", SOON);
        std::thread::sleep(Duration::from_secs(3));
        caller.hang_up();
        callee.wait_event("CALL_CLOSED", SOON);

        // The caller heard the notice, then the callee; the callee heard the caller.
        let heard = caller.heard();
        assert!(!heard.present(0, NOTICE_HZ).is_empty(), "{codec}: the notice was not heard");
        assert!(!heard.present(0, CALLEE_HZ).is_empty(), "{codec}: the callee was not heard");
        assert!(!callee.heard().present(0, CALLER_HZ).is_empty(), "{codec}");

        let recording = agent.wait_recording("sealed", SOON);
        let wav = export(&agent, &recording);
        assert_eq!(wav.channels.len(), 2);
        let seconds = wav.seconds();
        assert!((3.0..6.0).contains(&seconds), "{codec}: {seconds} s");
        // From the key on, that is while the callee still rings, the caller is on the left; the
        // callee is on the right from its answer on; neither is on the other's channel.
        assert!(wav.level(0, 0.1, seconds - 0.3, CALLER_HZ) > 0.1, "{codec}");
        assert!(wav.level(1, seconds - 2.5, seconds - 0.3, CALLEE_HZ) > 0.1, "{codec}");
        assert!(wav.level(0, 0.0, seconds, CALLEE_HZ) < 0.01, "{codec}");
        assert!(wav.level(1, 0.0, seconds, CALLER_HZ) < 0.01, "{codec}");
        assert!(wav.level(0, 0.0, seconds, NOTICE_HZ) < 0.01, "{codec}");
        let id = recording["id"].as_str().expect("an id");
        assert!(agent.command(&["verify", id]).status.success());
        assert!(agent.command(&["evidence", id, "--verify"]).status.success());
        assert!(agent.stop().success());
    }
}

#[test]
fn a_caller_who_refuses_is_connected_and_not_recorded() {
    let (mut caller, mut callee) = phones("pcmu");
    let agent = Agent::builder().inline(callee.uri()).start();
    caller.dial(&agent.uri("callee"));
    caller.wait_event("CALL_ESTABLISHED", SOON);
    std::thread::sleep(Duration::from_millis(900));
    caller.press('2');
    callee.wait_event("CALL_INCOMING", SOON);
    callee.answer();
    callee.wait_event("CALL_ESTABLISHED", SOON);
    std::thread::sleep(Duration::from_secs(2));
    callee.hang_up();
    caller.wait_event("CALL_CLOSED", SOON);
    assert!(!caller.heard().present(0, CALLEE_HZ).is_empty());
    assert!(!callee.heard().present(0, CALLER_HZ).is_empty());
    agent.wait_event("permission.refused", SOON);
    agent.wait_event("call.ended", SOON);
    assert!(agent.json(&["list"]).is_empty());
    let segments: Vec<_> =
        agent.files().into_iter().filter(|f| f.extension().is_some_and(|e| e == "seg")).collect();
    assert!(segments.is_empty(), "{segments:?}");
}

#[test]
fn an_endpoint_records_whoever_does_not_object() {
    let mut caller = BaresipConfig::new("caller", 440).start();
    let agent = Agent::builder().no_objection("1s").start();
    wait_for(SOON, "the agent is live", || agent.get("/livez").0 == 200);
    caller.dial(&agent.uri("statement"));
    caller.wait_event("CALL_ESTABLISHED", SOON);
    agent.wait_event("recording.started", SOON);
    std::thread::sleep(Duration::from_secs(2));
    caller.hang_up();
    let recording = agent.wait_recording("sealed", SOON);
    let wav = export(&agent, &recording);
    assert!(wav.level(0, 0.2, 1.5, CALLER_HZ) > 0.1);
    assert!(wav.seconds() < 3.5, "{} s", wav.seconds());
}
