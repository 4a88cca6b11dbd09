//! Every gate and every answer to it, from a foreign telephone to the evidence: who is recorded,
//! what is written down, and what never counts as an answer.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::Value;
use support::agent::{NOTICE_HZ, PROMPT_HZ};
use support::baresip::{Answers, Baresip, BaresipConfig};
use support::scenario::pcmu;
use support::wire_phone::EventPacket;
use support::{Agent, AgentBuilder, Scenario, Sipp, WirePhone, wait_for};

const SOON: Duration = Duration::from_secs(15);
const CALLER_HZ: f64 = 440.0;
const CALLEE_HZ: f64 = 1_000.0;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn sleep(milliseconds: u64) {
    std::thread::sleep(ms(milliseconds));
}

/// Endpoint mode, opt-in, one attempt, a second to answer.
fn quick() -> AgentBuilder {
    Agent::builder().policy("attempts", "1").policy("answer_within", "\"1s\"")
}

/// A baresip on the line with the agent.
fn on_the_line(agent: &Agent, config: BaresipConfig) -> Baresip {
    let mut caller = config.start();
    caller.dial(&agent.uri("callee"));
    caller.wait_event("CALL_ESTABLISHED", SOON);
    caller
}

fn tone_caller() -> BaresipConfig {
    BaresipConfig::new("caller", 440)
}

/// What the commands say of the one call that there was.
struct Story {
    /// The types of its events without `io.assent.` and `.v1`, in order.
    events: Vec<String>,
    /// The facts of its evidence.
    evidence: Vec<Value>,
    /// Its row in `list`, if it has one.
    listed: Option<Value>,
}

impl Story {
    /// Once the call has ended, and its recording, if there is one, is sealed.
    #[track_caller]
    fn of(agent: &Agent) -> Self {
        agent.wait_event("call.ended", SOON);
        let granted = |agent: &Agent| {
            agent.events().iter().any(|e| e["type"] == "io.assent.recording.started.v1")
        };
        if granted(agent) {
            agent.wait_event("recording.sealed", SOON);
        }
        let events = agent.events();
        let recording = events.iter().find_map(|e| e["data"]["recording"].as_str());
        let recording = recording.expect("an event names the recording").to_owned();
        let verified = agent.command(&["evidence", &recording, "--verify"]);
        assert!(verified.status.success(), "{verified:?}");
        let evidence = agent.json(&["evidence", &recording]);
        let evidence = evidence.into_iter().map(|e| e["evidence"]["facts"].clone()).collect();
        let mut listed = agent.json(&["list"]);
        assert!(listed.len() <= 1, "{listed:?}");
        assert!(!agent.log().contains("panicked"), "{}", agent.log());
        let short = |e: &Value| {
            let text = e["type"].as_str().expect("a type").to_owned();
            text.trim_start_matches("io.assent.").trim_end_matches(".v1").to_owned()
        };
        let events = events.iter().map(short).collect();
        Self { events, evidence, listed: listed.pop() }
    }

    fn has(&self, event: &str) -> usize {
        self.events.iter().filter(|e| *e == event).count()
    }

    #[track_caller]
    fn is_refused(&self, agent: &Agent, outcome: &str, method: &str) {
        assert_eq!(self.evidence.len(), 1, "{:?}", self.evidence);
        let facts = &self.evidence[0];
        assert_eq!(facts["outcome"], outcome, "{facts}");
        assert_eq!(facts["answer"]["method"], method, "{facts}");
        assert_eq!(self.has(&format!("permission.{outcome}")), 1, "{:?}", self.events);
        assert_eq!(self.has("permission.granted"), 0, "{:?}", self.events);
        assert_eq!(self.has("recording.blocked"), 1, "{:?}", self.events);
        assert_eq!(self.has("recording.started"), 0, "{:?}", self.events);
        assert!(self.listed.is_none(), "{:?}", self.listed);
        let recorded = |path: &std::path::PathBuf| {
            path.extension().is_some_and(|e| e == "seg") || path.ends_with("0-0.json")
        };
        let files: Vec<_> = agent.files().into_iter().filter(recorded).collect();
        assert!(files.is_empty(), "{files:?}");
    }

    #[track_caller]
    fn is_granted(&self, method: &str) {
        let facts = &self.evidence[0];
        assert_eq!(facts["outcome"], "granted", "{facts}");
        assert_eq!(facts["answer"]["method"], method, "{facts}");
        assert_eq!(self.has("permission.granted"), self.evidence.len(), "{:?}", self.events);
        assert_eq!(self.has("recording.started"), 1, "{:?}", self.events);
        assert_eq!(self.has("recording.sealed"), 1, "{:?}", self.events);
        let at = |event: &str| self.events.iter().position(|e| e == event);
        assert!(at("permission.granted") < at("recording.started"), "{:?}", self.events);
        assert_eq!(self.listed.as_ref().expect("a row")["state"], "sealed");
    }
}

#[test]
fn opt_in_by_a_key_after_the_notice() {
    let agent = quick().start();
    let mut caller = on_the_line(&agent, tone_caller());
    agent.wait_event("notice.completed", SOON);
    caller.press('1');
    agent.wait_event("recording.started", SOON);
    sleep(700);
    caller.hang_up();
    let story = Story::of(&agent);
    story.is_granted("key");
    let facts = &story.evidence[0];
    assert_eq!(
        (&facts["answer"]["key"], &facts["answer"]["via"]),
        (&"1".into(), &"telephone-event".into())
    );
    assert_eq!(facts["notices"][0]["completed"], true, "{facts}");
    assert_eq!((story.has("notice.completed"), story.has("notice.interrupted")), (1, 0));
}

#[test]
fn opt_in_by_a_key_during_the_notice_cuts_it() {
    let agent = quick().real_prompts().start();
    let mut caller = WirePhone::call(agent.udp(), "1");
    // More than the second that is taken for understanding what is asked.
    caller.talk_until_heard(65);
    caller.press(1, 3);
    caller.talk(ms(500));
    caller.hang_up();
    let story = Story::of(&agent);
    story.is_granted("key");
    let notice = &story.evidence[0]["notices"][0];
    assert_eq!(notice["completed"], false, "{notice}");
    assert!(notice["played_ms"].as_u64() < notice["total_ms"].as_u64(), "{notice}");
    assert_eq!((story.has("notice.completed"), story.has("notice.interrupted")), (0, 1));
}

#[test]
fn opt_in_refused_by_a_key() {
    let agent = quick().start();
    let mut caller = on_the_line(&agent, tone_caller());
    agent.wait_event("notice.completed", SOON);
    caller.press('2');
    agent.wait_event("permission.refused", SOON);
    // The call goes on: an endpoint keeps the line open, unrecorded.
    sleep(700);
    caller.hang_up();
    Story::of(&agent).is_refused(&agent, "refused", "key");
}

#[test]
fn opt_in_met_with_silence_is_asked_again_and_then_refused() {
    let mut callee = BaresipConfig::new("callee", 1_000).start();
    let agent = quick().policy("attempts", "2").inline(callee.uri()).start();
    let mut caller = on_the_line(&agent, tone_caller());
    callee.wait_event("CALL_ESTABLISHED", SOON);
    sleep(1_000);
    caller.hang_up();
    callee.wait_event("CALL_CLOSED", SOON);
    let story = Story::of(&agent);
    story.is_refused(&agent, "refused", "window");
    let notices = story.evidence[0]["notices"].as_array().expect("notices").clone();
    let names: Vec<_> = notices.iter().map(|n| n["prompt"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ["notice-opt-in", "reprompt"]);
    // Bridged all the same, both ways.
    assert!(!caller.heard().present(0, CALLEE_HZ).is_empty());
    assert!(!callee.heard().present(0, CALLER_HZ).is_empty());
}

#[test]
fn no_objection_is_accepted_by_the_window_alone() {
    let agent = quick().no_objection("1s").start();
    let mut caller = on_the_line(&agent, tone_caller());
    agent.wait_event("recording.started", SOON);
    sleep(500);
    caller.hang_up();
    let story = Story::of(&agent);
    story.is_granted("window");
    let facts = &story.evidence[0];
    assert_eq!(facts["basis"], "legitimate_interests");
    assert_eq!(facts["gate"], "no-objection");
    assert!(facts["answer"]["start"].as_str() < facts["answer"]["end"].as_str(), "{facts}");
}

#[test]
fn an_objection_counts_during_the_notice_and_after_it() {
    for real in [true, false] {
        let mut callee = BaresipConfig::new("callee", 1_000).start();
        let builder = quick().no_objection("2s").inline(callee.uri());
        let agent = if real { builder.real_prompts().start() } else { builder.start() };
        let mut caller = on_the_line(&agent, tone_caller());
        if real {
            sleep(700);
        } else {
            agent.wait_event("notice.completed", SOON);
        }
        caller.press('2');
        callee.wait_event("CALL_ESTABLISHED", SOON);
        sleep(500);
        callee.hang_up();
        caller.wait_event("CALL_CLOSED", SOON);
        let story = Story::of(&agent);
        story.is_refused(&agent, "objected", "key");
        assert_eq!(story.evidence[0]["notices"][0]["completed"], !real);
        assert!(!caller.heard().present(0, CALLEE_HZ).is_empty(), "the call goes on");
    }
}

#[test]
fn a_refusal_may_end_the_call_after_a_goodbye() {
    let mut callee = BaresipConfig::new("callee", 1_000).answers(Answers::WhenTold).start();
    let agent =
        quick().no_objection("2s").policy("on_refusal", "\"hang-up\"").inline(callee.uri()).start();
    let mut caller = on_the_line(&agent, tone_caller());
    agent.wait_event("notice.completed", SOON);
    caller.press('2');
    caller.wait_event("CALL_CLOSED", SOON);
    let story = Story::of(&agent);
    story.is_refused(&agent, "objected", "key");
    let heard = caller.heard();
    assert!(!heard.present(0, NOTICE_HZ).is_empty(), "the notice");
    assert!(!heard.present(0, PROMPT_HZ).is_empty(), "the goodbye");
    assert!(!callee.output().contains("incoming call"), "nobody was dialled");
    let ended = agent.wait_event("call.ended", SOON);
    assert_eq!(ended["data"]["cause"], "refused", "{ended}");
    callee.hang_up();
}

#[test]
fn standing_for_both_asks_nobody_and_writes_both_agreements_down() {
    let mut callee = BaresipConfig::new("callee", 1_000).start();
    let agent = Agent::builder()
        .policy("gate", "\"standing\"")
        .policy("ask", "[]")
        .policy("standing", "{ caller = \"contract-7\", callee = \"agreement-9\" }")
        .inline(callee.uri())
        .start();
    let mut caller = on_the_line(&agent, tone_caller());
    agent.wait_event("recording.started", SOON);
    sleep(800);
    caller.hang_up();
    callee.wait_event("CALL_CLOSED", SOON);
    let story = Story::of(&agent);
    story.is_granted("standing");
    let agreement = |leg: &str| {
        let facts = story.evidence.iter().find(|f| f["leg"] == leg).expect("evidence of the leg");
        assert_eq!((&facts["outcome"], &facts["gate"]), (&"granted".into(), &"standing".into()));
        facts["answer"]["agreement"].clone()
    };
    assert_eq!(
        (agreement("caller"), agreement("callee")),
        ("contract-7".into(), "agreement-9".into())
    );
    assert_eq!(story.has("notice.started"), 0);
    assert!(caller.heard().present(0, NOTICE_HZ).is_empty());
}

#[test]
fn keys_by_info_count_where_they_are_configured_and_nowhere_else() {
    let presses = Scenario::calls(&pcmu(), "").gets_answer().waits(1_300).presses('1');
    let presses = presses.waits(4_000).hangs_up();
    let call = |agent: &Agent| {
        let caller = Sipp::plays(&presses, Some(agent.udp())).service("1").run();
        caller.expect_success();
        Story::of(agent)
    };
    let quick = || quick().policy("answer_within", "\"2s\"");
    let agent = quick().sip("info_keys = true").start();
    let story = call(&agent);
    story.is_granted("key");
    assert_eq!(story.evidence[0]["answer"]["via"], "info");
    let agent = quick().start();
    call(&agent).is_refused(&agent, "refused", "window");
}

#[test]
fn the_other_kind_of_info_counts_too() {
    for (content_type, body) in
        [("application/dtmf", "2\n"), ("application/dtmf-relay", "Signal= 2\n")]
    {
        let agent = quick().sip("info_keys = true").start();
        let caller = Scenario::calls(&pcmu(), "").gets_answer().waits(300);
        let caller = caller.requests("INFO", content_type, body).hears(200, &[]);
        let caller = caller.waits(300).hangs_up();
        Sipp::plays(&caller, Some(agent.udp())).service("1").run().expect_success();
        let story = Story::of(&agent);
        story.is_refused(&agent, "refused", "key");
        assert_eq!(story.evidence[0]["answer"]["via"], "info");
    }
}

#[test]
fn a_key_counts_once_however_often_its_end_comes() {
    let agent = quick().start();
    let mut phone = WirePhone::call(agent.udp(), "1");
    phone.talk_until_heard(15);
    phone.press(1, 40);
    phone.talk(ms(500));
    phone.hang_up();
    let story = Story::of(&agent);
    story.is_granted("key");
    assert_eq!((story.evidence.len(), story.has("permission.granted")), (1, 1));
}

#[test]
fn events_of_foreign_address_ssrc_or_payload_type_never_count() {
    let agent = quick().policy("answer_within", "\"2s\"").start();
    let mut phone = WirePhone::dial(agent.udp(), "1");
    // Before the ACK, and so before the notice: nobody was asked yet.
    phone.press(1, 3);
    phone.acknowledge();
    phone.talk(ms(800));
    let stream = phone.stream();
    let forged = |ssrc, payload_type, n: u16| EventPacket {
        payload_type,
        ssrc,
        sequence: stream.sequence.wrapping_add(n),
        timestamp: stream.timestamp.wrapping_add(160),
        code: 1,
        end: n > 3,
        duration: 160 * n,
    };
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a port");
    for n in 1..8 {
        // The same SSRC and numbers from another port of the same host.
        stranger.send_to(&forged(stream.ssrc, 101, n).bytes(), phone.media()).expect("sent");
        // From the right place, but of another source.
        phone.send_media(&forged(stream.ssrc ^ 1, 101, n).bytes());
        // And of payload types that nobody agreed on.
        for payload_type in [96, 97, 100, 102, 127] {
            phone.send_media(&forged(stream.ssrc, payload_type, n).bytes());
        }
        phone.talk(ms(20));
    }
    agent.wait_event("permission.refused", SOON);
    // Too late: the question is answered.
    phone.talk(ms(100));
    phone.press(1, 3);
    phone.talk(ms(300));
    phone.hang_up();
    Story::of(&agent).is_refused(&agent, "refused", "window");
    let discarded = |why: &str| {
        let (_, page) = agent.get("/metrics");
        let name = format!("assent_rtp_packets_dropped_total{{reason=\"{why}\"}}");
        let line = page.lines().find(|l| l.starts_with(&name));
        line.and_then(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or_default()
    };
    wait_for(SOON, "what was discarded is counted", || {
        discarded("address") >= 7.0 && discarded("ssrc") >= 7.0 && discarded("payload-type") >= 35.0
    });
}

#[test]
fn keys_that_were_not_asked_for_decide_nothing() {
    let agent = quick().start();
    let mut phone = WirePhone::call(agent.udp(), "1");
    phone.talk(ms(300));
    for code in [3, 9, 10, 11, 15, 16, 255] {
        phone.press(code, 3);
        phone.talk(ms(40));
    }
    agent.wait_event("permission.refused", SOON);
    phone.hang_up();
    let story = Story::of(&agent);
    story.is_refused(&agent, "refused", "window");
    assert_eq!(story.evidence[0]["notices"][0]["completed"], true, "not even cut");
}
