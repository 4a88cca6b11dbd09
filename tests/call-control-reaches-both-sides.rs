//! Whatever two telephones could say to each other during a call without Assent, they can say
//! through it: holds, codecs, messages, reasons, transfers. SIPp on every side, and each side is
//! looked at.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use support::scenario::{pcmu, sdp};
use support::sipp::{SippResult, Way, header, messages};
use support::{Agent, AgentBuilder, Proxy, Scenario, Sipp, Toward, Verdict, wait_for};

const SOON: Duration = Duration::from_secs(10);

/// Both agreements are on file: nobody is asked.
fn standing() -> AgentBuilder {
    Agent::builder()
        .policy("gate", "\"standing\"")
        .policy("ask", "[]")
        .policy("standing", "{ caller = \"contract\", callee = \"agreement\" }")
}

/// Both ends and the agent between them, after the call.
struct Done {
    caller: SippResult,
    callee: SippResult,
}

fn call(builder: AgentBuilder, caller: &Scenario, callee: &Scenario) -> Done {
    let callee = Sipp::plays(callee, None).start();
    let agent = builder.inline(format!("sip:{}", callee.addr())).start();
    let caller = Sipp::plays(caller, Some(agent.udp())).service("200").run();
    let (caller, callee) = (caller.expect_success(), callee.finish().expect_success());
    over(&agent);
    Done { caller, callee }
}

/// Nothing is left of any call, and nothing went wrong inside.
fn over(agent: &Agent) {
    let calls = || {
        let (_, body) = agent.get("/metrics");
        let states = body.lines().filter(|line| line.starts_with("assent_calls{"));
        states.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
    };
    wait_for(SOON, "every call is over", || calls() == 0.0);
    assert!(!agent.log().contains("panicked"), "{}", agent.log());
}

fn heard(result: &SippResult, begins: &str) -> Vec<String> {
    messages(&result.messages, Way::Heard, begins)
}

/// A caller who does something once the callee is certainly there.
fn caller() -> Scenario {
    answered().waits(400)
}

/// A caller who waits for what the other side does.
fn answered() -> Scenario {
    Scenario::calls(&pcmu(), "").gets_answer()
}

fn callee() -> Scenario {
    Scenario::is_called().picks_up(&pcmu())
}

/// What the first message that begins so and answers this method has in its `a=` line of direction.
fn direction(message: &str) -> &'static str {
    let directions = ["a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"];
    directions.into_iter().find(|line| message.lines().any(|l| l.trim() == *line)).unwrap_or("")
}

/// A peer's re-INVITE, answered.
trait Reoffered {
    fn takes_offer(self, answer: &str) -> Self;
}

impl Reoffered for Scenario {
    fn takes_offer(self, answer: &str) -> Self {
        self.hears_request("INVITE").answers_request(200, answer).hears_request("ACK")
    }
}

#[test]
fn a_hold_and_its_end_reach_the_other_side_whoever_holds() {
    let holds = |this: Scenario| {
        this.offers_again(&sdp(2, "0", "sendonly"))
            .waits(400)
            .offers_again(&sdp(3, "0", "sendrecv"))
            .waits(400)
    };
    let is_held = |this: Scenario| {
        this.takes_offer(&sdp(2, "0", "recvonly")).takes_offer(&sdp(3, "0", "sendrecv"))
    };
    let by_caller =
        call(standing(), &holds(caller()).hangs_up(), &is_held(callee()).waits_for_bye());
    let by_callee = call(
        standing(),
        &is_held(answered()).waits_for_bye(),
        &holds(callee().waits(500)).hangs_up(),
    );
    let answers = |result: &SippResult| -> Vec<&'static str> {
        let answers = heard(result, "SIP/2.0 200").into_iter();
        let answers = answers.filter(|message| header(message, "CSeq")[0].ends_with("INVITE"));
        answers.map(|message| direction(&message)).collect()
    };
    let offers = |result: &SippResult| -> Vec<&'static str> {
        heard(result, "INVITE").iter().map(|message| direction(message)).collect()
    };
    assert_eq!(answers(&by_caller.caller), ["a=sendrecv", "a=recvonly", "a=sendrecv"]);
    assert_eq!(offers(&by_caller.callee), ["a=sendrecv", "a=sendonly", "a=sendrecv"]);
    assert_eq!(answers(&by_callee.callee), ["a=recvonly", "a=sendrecv"]);
    assert_eq!(offers(&by_callee.caller), ["a=sendonly", "a=sendrecv"]);
}

#[test]
fn another_codec_is_agreed_by_both_sides_or_by_neither() {
    let pcma = sdp(2, "8", "sendrecv");
    let agreed = call(
        standing(),
        &caller().offers_again(&pcma).waits(300).hangs_up(),
        &callee().takes_offer(&pcma).waits_for_bye(),
    );
    let answer = heard(&agreed.caller, "SIP/2.0 200").into_iter().nth(1).unwrap();
    assert!(answer.contains("RTP/AVP 8"), "{answer}");
    let refuses = callee().hears_request("INVITE").answers_request(488, "").hears_request("ACK");
    let refused = caller().requests("INVITE", "", &pcma).hears(488, &[100]);
    let refused = refused.with_ack_of_refusal().waits(300).hangs_up();
    call(standing(), &refused, &refuses.waits_for_bye());
}

/// The ACK of a refusal within the dialog has the transaction's own branch.
trait RefusedWithin {
    fn with_ack_of_refusal(self) -> Self;
}

impl RefusedWithin for Scenario {
    fn with_ack_of_refusal(self) -> Self {
        self.raw(
            "<send><![CDATA[\nACK [next_url] SIP/2.0\n[last_Via:]\n[last_From:]\n[last_To:]\n\
             [last_Call-ID:]\nCSeq: 2 ACK\nMax-Forwards: 70\nContent-Length: 0\n\n]]></send>\n",
        )
    }
}

#[test]
fn messages_notifications_and_methods_of_their_own_pass_both_ways_with_their_answers() {
    let says = |this: Scenario| {
        let headers = "Content-Type: text/plain\nX-Mark: kept\n";
        this.requests_with("MESSAGE", headers, "good morning\n")
            .hears(202, &[])
            .requests_with("NOTIFY", "Event: talk\nSubscription-State: terminated\n", "")
            .hears(200, &[])
            .requests_with("INFO", "Content-Type: application/media_control+xml\n", "<x/>\n")
            .hears(415, &[])
    };
    let hears = |this: Scenario| {
        this.hears_request("MESSAGE")
            .answers_request(202, "")
            .hears_request("NOTIFY")
            .answers_request(200, "")
            .hears_request("INFO")
            .answers_request(415, "")
    };
    let down = call(standing(), &says(caller()).hangs_up(), &hears(callee()).waits_for_bye());
    let up =
        call(standing(), &hears(answered()).waits_for_bye(), &says(callee().waits(500)).hangs_up());
    for result in [&down.callee, &up.caller] {
        let [message] = &heard(result, "MESSAGE")[..] else { panic!() };
        assert!(message.contains("good morning"), "{message}");
        assert_eq!(header(message, "X-Mark"), ["kept"]);
        assert_eq!(header(message, "Max-Forwards"), ["69"]);
        assert_eq!(header(&heard(result, "NOTIFY")[0], "Event"), ["talk"]);
        assert!(heard(result, "INFO")[0].contains("<x/>"));
    }
}

#[test]
fn the_reason_of_a_goodbye_reaches_the_other_side() {
    let reason = "Reason: Q.850;cause=16;text=\"Normal call clearing\"\n";
    let leaves = |this: Scenario| this.requests_with("BYE", reason, "").hears(200, &[]);
    let down = call(standing(), &leaves(caller()), &callee().waits_for_bye());
    let up = call(standing(), &answered().waits_for_bye(), &leaves(callee().waits(500)));
    for result in [&down.callee, &up.caller] {
        let bye = &heard(result, "BYE")[0];
        assert_eq!(header(bye, "Reason"), ["Q.850;cause=16;text=\"Normal call clearing\""]);
    }
}

#[test]
fn a_call_that_is_answered_elsewhere_says_so_in_its_cancel() {
    let elsewhere = "Reason: SIP;cause=200;text=\"Call completed elsewhere\"\n";
    let cancels = Scenario::calls(&pcmu(), "").hears(180, &[100]).cancels();
    let cancels = cancels
        .with("CSeq: 1 CANCEL\n", &format!("CSeq: 1 CANCEL\n{elsewhere}"))
        .hears(200, &[])
        .hears(487, &[])
        .acknowledges_refusal();
    let is_cancelled = Scenario::is_called()
        .answers(180, "")
        .hears_request("CANCEL")
        .answers_request(200, "")
        .answers(487, "")
        .hears_request("ACK");
    let done = call(standing(), &cancels, &is_cancelled);
    let cancel = &heard(&done.callee, "CANCEL")[0];
    assert_eq!(header(cancel, "Reason"), ["SIP;cause=200;text=\"Call completed elsewhere\""]);
}

/// A next hop that sends calls for 300 to somebody else. SIPp takes up what arrives together in an
/// order of its own: it hears a NOTIFY a little later.
fn two_places(callee: SocketAddr, other: SocketAddr) -> Proxy {
    Proxy::start(callee, move |toward, bytes| {
        let line = String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_owned();
        match toward {
            Toward::Target if line.contains("sip:300@") => Verdict::To(other),
            Toward::Target if line.starts_with("NOTIFY") => {
                Verdict::After(Duration::from_millis(200))
            }
            _ => Verdict::Pass,
        }
    })
}

/// A call whose callee hands the caller over to 300, who plays `third`.
fn transferred(
    agent: AgentBuilder,
    caller: &Scenario,
    callee: Scenario,
    third: &Scenario,
) -> Transferred {
    let third = Sipp::plays(third, None).start();
    let callee = Sipp::plays(&callee, None);
    let place = two_places(callee.addr(), third.addr());
    let callee = callee.key("contact", &place.addr().to_string()).start();
    let agent = agent.inline(format!("sip:{}", place.addr())).start();
    let caller = Sipp::plays(caller, Some(agent.udp())).service("200").run().expect_success();
    let (callee, third) = (callee.finish().expect_success(), third.finish().expect_success());
    over(&agent);
    Transferred { agent, place: place.addr(), caller, callee, third }
}

struct Transferred {
    agent: Agent,
    place: SocketAddr,
    caller: SippResult,
    callee: SippResult,
    third: SippResult,
}

/// Asks for the transfer, and is told so often how it stands.
fn refers(this: Scenario, headers: &str, told: u32) -> Scenario {
    let this = this.requests_with("REFER", headers, "").hears(202, &[]);
    (0..told).fold(this, |this, _| this.hears_request("NOTIFY").answers_request(200, ""))
}

/// What the NOTIFYs said, each once.
fn told(result: &SippResult) -> Vec<(String, String)> {
    let mut told: Vec<(String, String)> = Vec::new();
    for notify in heard(result, "NOTIFY") {
        let status = notify.lines().map(str::trim).filter(|line| line.starts_with("SIP/2.0 "));
        let status = status.collect::<Vec<_>>().pop().unwrap_or_default().to_owned();
        let state = header(&notify, "Subscription-State")[0].clone();
        let state = state.split(';').next().unwrap_or_default().to_owned();
        if !told.contains(&(status.clone(), state.clone())) {
            told.push((status, state));
        }
    }
    told
}

fn reached_callee() -> Scenario {
    Scenario::is_called().reached_by_proxy().picks_up(&pcmu()).waits(500)
}

#[test]
fn a_blind_transfer_brings_the_new_party_into_the_call_and_lets_the_old_one_go() {
    let third = Scenario::is_called().waits(500).answers(180, "").waits(500).answers(200, &pcmu());
    // Whatever host is named: the new party is dialled where every call goes.
    let to =
        "Refer-To: <sip:300@203.0.113.77:9;transport=tcp>\nReferred-By: <sip:200@pbx.example>\n";
    let done = transferred(
        standing(),
        &caller().waits(3_000).hangs_up(),
        refers(reached_callee(), to, 3).hangs_up(),
        &third.hears_request("ACK").waits_for_bye(),
    );
    let states = [
        ("SIP/2.0 100 Trying", "active"),
        ("SIP/2.0 180 Ringing", "active"),
        ("SIP/2.0 200 OK", "terminated"),
    ];
    assert_eq!(told(&done.callee), states.map(|(a, b)| (a.to_owned(), b.to_owned())));
    let invite = &heard(&done.third, "INVITE")[0];
    assert!(invite.starts_with(&format!("INVITE sip:300@{} ", done.place)), "{invite}");
    assert_eq!(header(invite, "Referred-By"), ["<sip:200@pbx.example>"]);
    assert_eq!(heard(&done.caller, "BYE").len(), 0);
    let events = done.agent.events();
    let reasons = |kind: &str| -> Vec<String> {
        let of = events.iter().filter(|event| event["type"] == kind);
        of.map(|event| event["data"]["reason"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert!(reasons("io.assent.party.left.v1").contains(&"transferred".to_owned()), "{events:#?}");
    assert!(reasons("io.assent.party.joined.v1").contains(&"transferred".to_owned()));
    assert_eq!(reasons("io.assent.call.ended.v1").len(), 1);
}

#[test]
fn a_transfer_to_who_is_busy_is_told_and_the_call_goes_on() {
    let busy = Scenario::is_called().waits(500).answers(486, "").hears_request("ACK");
    let done = transferred(
        standing(),
        &answered().waits_for_bye(),
        refers(reached_callee(), "Refer-To: <sip:300@pbx.example>\n", 2).waits(300).hangs_up(),
        &busy,
    );
    let last = told(&done.callee).pop().unwrap();
    assert_eq!(last, ("SIP/2.0 486 Busy Here".to_owned(), "terminated".to_owned()));
}

#[test]
fn who_hangs_up_as_soon_as_the_transfer_is_accepted_loses_nobody_the_call() {
    let third = Scenario::is_called().waits(800).answers(180, "").waits(500).answers(200, &pcmu());
    let done = transferred(
        standing(),
        &caller().waits(3_000).hangs_up(),
        refers(reached_callee(), "Refer-To: <sip:300@pbx.example>\n", 1).hangs_up(),
        &third.hears_request("ACK").waits_for_bye(),
    );
    assert_eq!(heard(&done.caller, "BYE").len(), 0);
}

#[test]
fn a_refer_is_declined_where_the_configuration_says_so() {
    let callee = callee().waits(500).requests_with("REFER", "Refer-To: <sip:300@x>\n", "");
    let callee = callee.hears(603, &[]).hangs_up();
    call(standing().sip("transfers = \"refuse\""), &answered().waits_for_bye(), &callee);
}
