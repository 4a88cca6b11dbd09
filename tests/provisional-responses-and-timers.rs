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
    // Towards the caller by re-INVITE, which is all it allows; towards the callee by UPDATE.
    let caller = Scenario::calls(&pcmu(), "Supported: timer\nSession-Expires: 2;refresher=uas\n");
    let caller = caller.gets_answer().hears_request("INVITE");
    let caller = caller.answers_request_with(
        200,
        "Session-Expires: 2;refresher=uac\nRequire: timer\n",
        &pcmu(),
    );
    let caller = caller.hears_request("ACK").hears_request("INVITE");
    let caller = caller.answers_request_with(200, "Session-Expires: 2;refresher=uac\n", &pcmu());
    let caller = caller.hears_request("ACK").hangs_up();
    let granted = format!("{TIMER}Session-Expires: 2;refresher=uac\nRequire: timer\n");
    let callee = Scenario::is_called().answers_with(200, &granted, &pcmu()).hears_request("ACK");
    let refreshed = "Session-Expires: 2;refresher=uac\nRequire: timer\n";
    let callee = callee.hears_request("UPDATE").answers_request_with(200, refreshed, "");
    let callee = callee.waits_for_refreshes_and_bye(refreshed);
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
