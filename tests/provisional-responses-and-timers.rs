//! Session timers (RFC 4028), reliable provisional responses (RFC 3262) and forked calls, against
//! SIPp on both sides.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;

use std::time::Duration;

use support::scenario::pcmu;
use support::sipp::{SippResult, Way, header, messages};
use support::{Agent, AgentBuilder, Scenario, Sipp, wait_for};

const SOON: Duration = Duration::from_secs(10);

/// Nobody is asked, and timers run as fast as they can.
fn standing() -> AgentBuilder {
    Agent::builder()
        .policy("gate", "\"standing\"")
        .policy("ask", "[]")
        .policy("standing", "{ caller = \"contract\", callee = \"agreement\" }")
        .sip("min_se = \"2s\"")
        .sip("session_expires = \"2s\"")
}

/// Both ends and the agent between them, after the call.
struct Done {
    agent: Agent,
    caller: SippResult,
    callee: SippResult,
}

fn call(caller: &Scenario, callee: &Scenario) -> Done {
    let callee = Sipp::plays(callee, None).start();
    let agent = standing().inline(format!("sip:{}", callee.addr())).start();
    let caller = Sipp::plays(caller, Some(agent.udp())).service("200").run();
    let (caller, callee) = (caller.expect_success(), callee.finish().expect_success());
    let calls = || {
        let (_, body) = agent.get("/metrics");
        let states = body.lines().filter(|line| line.starts_with("assent_calls{"));
        states.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
    };
    wait_for(SOON, "the call is over", || calls() == 0.0);
    assert!(!agent.log().contains("panicked"), "{}", agent.log());
    Done { agent, caller, callee }
}

fn heard(result: &SippResult, begins: &str) -> Vec<String> {
    messages(&result.messages, Way::Heard, begins)
}

fn cause(agent: &Agent) -> String {
    let ended = agent.wait_event("call.ended", SOON);
    ended["data"]["cause"].as_str().unwrap_or_default().to_owned()
}

const TIMER: &str = "Supported: timer\nAllow: INVITE, ACK, BYE, UPDATE\n";

#[test]
fn sessions_are_refreshed_on_both_legs_by_whoever_agreed_to() {
    // Towards the caller by re-INVITE, which is all it allows; towards the callee by UPDATE. An
    // answer without an interval is the end of the timer.
    let granted = "Session-Expires: 2;refresher=uac\nRequire: timer\n";
    let caller = Scenario::calls(&pcmu(), "Supported: timer\nSession-Expires: 2;refresher=uas\n");
    let caller = caller.gets_answer().hears_request("INVITE");
    let caller = caller.answers_request_with(200, granted, &pcmu()).hears_request("ACK");
    let caller = caller.hears_request("INVITE").answers_request(200, &pcmu());
    let caller = caller.hears_request("ACK").waits(500).hangs_up();
    let callee = Scenario::is_called().answers_with(200, &format!("{TIMER}{granted}"), &pcmu());
    let callee = callee.hears_request("ACK").hears_request("UPDATE").answers_request(200, "");
    let callee = callee.waits_for_bye();
    let done = call(&caller, &callee);
    let granted = &heard(&done.caller, "SIP/2.0 200")[0];
    assert_eq!(header(granted, "Session-Expires"), ["2;refresher=uas"]);
    let invites = heard(&done.caller, "INVITE");
    assert_eq!(header(&invites[0], "Session-Expires"), ["2;refresher=uac"]);
    let body = |message: &str| message.split_once("v=0").expect("a body").1.trim().to_owned();
    assert_eq!(body(&invites[0]), body(granted), "the session is as it was");
    assert_eq!(body(&invites[0]), body(&invites[1]));
    let proposed = &heard(&done.callee, "INVITE")[0];
    assert_eq!(header(proposed, "Session-Expires"), ["2"]);
    assert_eq!(header(proposed, "Min-SE"), ["2"]);
    assert_eq!(cause(&done.agent), "hung-up");
}

#[test]
fn a_session_that_the_caller_stops_refreshing_ends_on_both_legs() {
    let caller = Scenario::calls(&pcmu(), &format!("{TIMER}Session-Expires: 5\n"));
    let refreshes = |scenario: Scenario| {
        scenario.waits(800).requests_with("UPDATE", &format!("{TIMER}Session-Expires: 5\n"), "")
    };
    let caller = refreshes(caller.gets_answer()).hears(200, &[]);
    let caller = refreshes(caller).hears(200, &[]).waits_for_bye();
    let callee = Scenario::is_called().picks_up(&pcmu()).waits_for_bye();
    let done = call(&caller, &callee);
    for bye in [&heard(&done.caller, "BYE")[0], &heard(&done.callee, "BYE")[0]] {
        assert!(header(bye, "Reason")[0].contains("cause=408"), "{bye}");
    }
    let granted = heard(&done.caller, "SIP/2.0 200");
    assert_eq!(granted.len(), 3, "the INVITE and two UPDATEs: {granted:?}");
    assert_eq!(cause(&done.agent), "expired");
}

#[test]
fn an_interval_that_is_too_short_is_refused_with_the_one_that_is_not() {
    let caller = Scenario::calls(&pcmu(), "Supported: timer\nSession-Expires: 1\n");
    let callee = Scenario::is_called().picks_up(&pcmu()).waits_for_bye();
    let callee = Sipp::plays(&callee, None).start();
    let agent = standing().inline(format!("sip:{}", callee.addr())).start();
    let caller = caller.hears(422, &[100]).acknowledges_refusal();
    let refused = Sipp::plays(&caller, Some(agent.udp())).service("200").run().expect_success();
    assert_eq!(header(&heard(&refused, "SIP/2.0 422")[0], "Min-SE"), ["2"]);
    let caller = Scenario::calls(&pcmu(), "").gets_answer().hangs_up();
    Sipp::plays(&caller, Some(agent.udp())).service("200").run().expect_success();
    callee.finish().expect_success();
}

const RELIABLE: &str = "Require: 100rel\nRSeq: 71\n";

#[test]
fn early_media_is_acknowledged_on_both_legs_and_described_once() {
    let caller = Scenario::calls(&pcmu(), "Supported: 100rel\n").hears_reliably(183, "");
    let caller = caller.hears(200, &[]).acknowledges_number(1).waits(200).hangs_up();
    let callee = Scenario::is_called().answers_with(183, RELIABLE, &pcmu());
    let callee = callee.hears_request("PRACK").answers_request(200, "").waits(300);
    let callee = callee.answers(200, "").hears_request("ACK").waits_for_bye();
    let done = call(&caller, &callee);
    let prack = &heard(&done.callee, "PRACK")[0];
    assert_eq!(header(prack, "RAck"), ["71 1 INVITE"]);
    let early = &heard(&done.caller, "SIP/2.0 183")[0];
    assert_eq!(header(early, "Require"), ["100rel"]);
    assert_ne!(header(early, "RSeq"), ["71"], "each leg counts for itself");
    assert!(early.contains("m=audio"));
    let answers = heard(&done.caller, "SIP/2.0 200");
    let of = |method: &str| {
        let mut with = answers.iter().filter(|m| header(m, "CSeq")[0].ends_with(method));
        with.next().expect("an answer").clone()
    };
    assert!(of("PRACK").find("m=audio").is_none() && of("INVITE").find("m=audio").is_none());
    assert_eq!(cause(&done.agent), "hung-up");
}

#[test]
fn a_caller_without_an_offer_who_insists_gets_ours_with_the_ringing() {
    let caller = Scenario::calls("", "Require: 100rel\n").hears_reliably(180, &pcmu());
    let caller = caller.hears(200, &[]).acknowledges_number(1).waits(300).hangs_up();
    let done = call(&caller, &Scenario::is_called().picks_up(&pcmu()).waits_for_bye());
    assert!(heard(&done.caller, "SIP/2.0 180")[0].contains("m=audio"));
    let answer = heard(&done.caller, "SIP/2.0 200").pop().expect("an answer");
    assert_eq!(header(&answer, "Content-Length"), ["0"], "{answer}");
    assert!(done.agent.log().contains("bridged"), "{}", done.agent.log());
}

#[test]
fn of_several_telephones_each_is_acknowledged_and_one_is_talked_to() {
    let (first, second) = (";tag=first", ";tag=second");
    let callee = Scenario::is_called().answers_as(first, 183, RELIABLE, &pcmu());
    let callee = callee.hears_request("PRACK").answers_request(200, "");
    let callee = callee.answers_as(second, 183, RELIABLE, &pcmu());
    let callee = callee.hears_request("PRACK").answers_request(200, "").waits(100);
    let callee = callee.answers_as(second, 200, "", "").hears_request("ACK").waits_for_bye();
    let caller = Scenario::calls(&pcmu(), "").hears(183, &[100]).hears(200, &[183]).acknowledges();
    let done = call(&caller.waits(200).hangs_up(), &callee);
    let to = |message: &String| header(message, "To").concat();
    let pracks = heard(&done.callee, "PRACK");
    assert!(to(&pracks[0]).ends_with(first) && to(&pracks[1]).ends_with(second), "{pracks:?}");
    for method in ["ACK", "BYE"] {
        assert!(to(&heard(&done.callee, method)[0]).ends_with(second));
    }
}
