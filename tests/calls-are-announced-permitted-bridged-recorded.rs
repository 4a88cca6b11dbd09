//! A whole call between two foreign telephones: announced, permitted, bridged, recorded, exported.

#![allow(clippy::expect_used)]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use support::agent::{NOTICE_HZ, PROMPT_HZ};
use support::audio::Audio;
use support::baresip::{Answers, Baresip, BaresipConfig};
use support::{Agent, Talker, wait_for};

const SOON: Duration = Duration::from_secs(15);
const CALLER_HZ: f64 = 440.0;
const CALLEE_HZ: f64 = 1_000.0;
/// One of the two tones of North American ringback, and none of anybody's else.
const RINGBACK_HZ: f64 = 480.0;

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

/// Where a frequency is heard first, and where last, in seconds. Where a tone begins or ends,
/// every frequency is there for a moment: that is not it.
fn span(audio: &Audio, channel: usize, hz: f64) -> Option<(f64, f64)> {
    let found = audio.present(channel, hz);
    let found: Vec<_> = found.into_iter().filter(|(from, to)| to - from > 0.09).collect();
    Some((found.first()?.0, found.last()?.1))
}

/// The caller agrees 0.6 s or more after the notice has ended, the callee rings for a second,
/// both talk for two.
fn inline(codec: &str) {
    let (mut caller, mut callee) = phones(codec);
    let mut agent = Agent::builder().inline(callee.uri()).start();
    caller.dial(&agent.uri("callee"));
    caller.wait_event("CALL_ESTABLISHED", SOON);
    agent.wait_event("notice.completed", SOON);
    // Until the key the caller says its tone to nobody.
    std::thread::sleep(Duration::from_millis(600));
    caller.press('1');
    callee.wait_event("CALL_INCOMING", SOON);
    std::thread::sleep(Duration::from_millis(1_000));
    callee.answer();
    callee.wait_event("CALL_ESTABLISHED", SOON);
    std::thread::sleep(Duration::from_millis(2_000));
    caller.hang_up();
    callee.wait_event("CALL_CLOSED", SOON);

    // The caller heard the notice, that it was accepted, ringback, then the callee.
    let heard = caller.heard();
    let notice = span(&heard, 0, NOTICE_HZ).expect("the notice");
    let accepted = span(&heard, 0, PROMPT_HZ).expect("that it was accepted");
    let ringback = span(&heard, 0, RINGBACK_HZ).expect("ringback");
    let answer = span(&heard, 0, CALLEE_HZ).expect("the callee");
    assert!(notice.1 <= accepted.0 + 0.02, "{codec}: {notice:?} {accepted:?}");
    assert!(notice.1 - notice.0 > 0.5, "{codec}: the whole notice: {notice:?}");
    // The courtesy ends before ringback begins, and that before the callee is there.
    let overlap = 0.06;
    assert!(accepted.0 < ringback.0 + overlap, "{codec}: {accepted:?} {ringback:?}");
    assert!(ringback.1 <= answer.0 + overlap, "{codec}: {ringback:?} {answer:?}");
    assert!(span(&callee.heard(), 0, CALLER_HZ).is_some(), "{codec}");
    for prompt in [NOTICE_HZ, PROMPT_HZ] {
        assert!(span(&callee.heard(), 0, prompt).is_none(), "{codec}: prompts are the caller's");
    }

    let recording = agent.wait_recording("sealed", SOON);
    let wav = export(&agent, &recording);
    assert_eq!(wav.channels.len(), 2);
    let seconds = wav.seconds();
    // Nothing of before the key: ringing and talking last a little over three seconds.
    assert!((2.8..4.5).contains(&seconds), "{codec}: {seconds} s");
    // From the key on, that is while the callee still rings, the caller is on the left; the
    // callee is on the right from its answer on; neither is on the other's channel.
    assert!(wav.level(0, 0.1, seconds - 0.3, CALLER_HZ) > 0.1, "{codec}");
    assert!(wav.level(1, seconds - 1.6, seconds - 0.3, CALLEE_HZ) > 0.1, "{codec}");
    let from = span(&wav, 1, CALLEE_HZ).expect("the callee").0;
    assert!(from > 0.7, "{codec}: silence while the callee rings: {from}");
    assert!(wav.level(0, 0.0, seconds, CALLEE_HZ) < 0.01, "{codec}");
    assert!(wav.level(1, 0.0, seconds, CALLER_HZ) < 0.01, "{codec}");
    for prompt in [NOTICE_HZ, PROMPT_HZ] {
        assert!(wav.level(0, 0.0, seconds, prompt) < 0.01, "{codec}: prompts are nobody's voice");
    }
    verified(&agent, &recording);
    assert!(agent.stop().success());
}

fn verified(agent: &Agent, recording: &Value) {
    let id = recording["id"].as_str().expect("an id");
    assert!(agent.command(&["verify", id]).status.success());
    assert!(agent.command(&["evidence", id, "--verify"]).status.success());
    // Nobody types an identifier when trying things out.
    assert_eq!(agent.json(&["show", "last"])[0]["id"], id);
    for command in [&["verify", "last"][..], &["evidence", "last", "--verify"]] {
        assert!(agent.command(command).status.success(), "{command:?}");
    }
}

#[test]
fn an_open_recording_is_not_exported_as_if_it_were_whole() {
    let agent = Agent::builder().start();
    let mut caller = Talker::call(agent.udp(), "caller", "statement").expect("an answer");
    caller.accept();
    agent.wait_recording("capturing", SOON);
    let export = ["export", "last", "--reason", "test", "--out", "open.wav"];
    let tried = agent.command(&export);
    assert_eq!(tried.status.code(), Some(1), "{tried:?}");
    assert!(String::from_utf8_lossy(&tried.stderr).contains("still open"), "{tried:?}");
    assert!(!agent.folder().join("open.wav").exists());
    caller.hang_up();
    agent.wait_recording("sealed", SOON);
    let exported = agent.command(&export);
    assert!(exported.status.success(), "{exported:?}");
}

fn endpoint(codec: &str) {
    let mut caller = BaresipConfig::new("caller", 440).codecs(&[codec]).start();
    let agent = Agent::builder().start();
    caller.dial(&agent.uri("statement"));
    caller.wait_event("CALL_ESTABLISHED", SOON);
    agent.wait_event("notice.completed", SOON);
    caller.press('1');
    agent.wait_event("recording.started", SOON);
    std::thread::sleep(Duration::from_millis(1_500));
    caller.hang_up();
    let recording = agent.wait_recording("sealed", SOON);
    let wav = export(&agent, &recording);
    assert!(wav.level(0, 0.1, wav.seconds() - 0.2, CALLER_HZ) > 0.1, "{codec}");
    assert!((1.2..3.0).contains(&wav.seconds()), "{codec}: {} s", wav.seconds());
    let heard = caller.heard();
    assert!(span(&heard, 0, NOTICE_HZ) < span(&heard, 0, PROMPT_HZ), "{codec}");
    verified(&agent, &recording);
}

#[test]
fn each_voice_is_on_its_channel_from_its_permission_to_the_end_in_g711() {
    inline("pcmu");
    inline("pcma");
}

#[test]
fn each_voice_is_on_its_channel_from_its_permission_to_the_end_in_wideband() {
    inline("g722");
    inline("opus");
}

#[test]
fn an_endpoint_records_whoever_agrees_in_every_codec() {
    for codec in ["pcmu", "pcma", "g722", "opus"] {
        endpoint(codec);
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

#[test]
fn a_held_call_is_silent_in_its_recording_and_comes_back() {
    let (mut caller, mut callee) = phones("pcmu");
    let agent = Agent::builder().inline(callee.uri()).start();
    caller.dial(&agent.uri("callee"));
    caller.wait_event("CALL_ESTABLISHED", SOON);
    agent.wait_event("notice.completed", SOON);
    caller.press('1');
    callee.wait_event("CALL_INCOMING", SOON);
    callee.answer();
    callee.wait_event("CALL_ESTABLISHED", SOON);
    std::thread::sleep(Duration::from_millis(1_200));
    caller.hold();
    std::thread::sleep(Duration::from_millis(1_500));
    caller.resume();
    std::thread::sleep(Duration::from_millis(1_500));
    callee.hang_up();
    caller.wait_event("CALL_CLOSED", SOON);
    let recording = agent.wait_recording("sealed", SOON);
    let wav = export(&agent, &recording);
    let stretches = |hz, channel| {
        let found = wav.present(channel, hz).into_iter();
        found.filter(|(from, to)| to - from > 0.5).collect::<Vec<_>>()
    };
    let caller_said = stretches(CALLER_HZ, 0);
    assert!(caller_said.len() >= 2, "{caller_said:?}");
    let pause = caller_said[1].0 - caller_said[0].1;
    assert!((1.0..2.5).contains(&pause), "{caller_said:?}");
    assert!(wav.seconds() > 3.8, "{} s", wav.seconds());
    verified(&agent, &recording);
}
