//! Signalling against SIPp on both sides: what goes in on one leg comes out on the other, whatever
//! is lost, crossed, refused or cancelled on the way.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::time::Duration;

use support::scenario::{pcmu, sdp};
use support::sipp::{SippResult, Way, header, messages};
use support::{Agent, AgentBuilder, Proxy, Scenario, Sipp, Toward, Verdict, wait_for};

const SOON: Duration = Duration::from_secs(10);

/// Both agreements are on file: nobody is asked, and the INVITE goes on as it comes.
fn standing() -> AgentBuilder {
    Agent::builder()
        .policy("gate", "\"standing\"")
        .policy("ask", "[]")
        .policy("standing", "{ caller = \"contract\", callee = \"agreement\" }")
}

/// The caller is asked, and may answer by SIP INFO.
fn asked() -> AgentBuilder {
    Agent::builder().sip("info_keys = true")
}

/// Both ends and the agent between them, after the call.
struct Done {
    agent: Agent,
    caller: SippResult,
    callee: SippResult,
}

fn call(builder: AgentBuilder, caller: &Scenario, callee: &Scenario) -> Done {
    let callee = Sipp::plays(callee, None).start();
    let agent = builder.inline(format!("sip:{}", callee.addr())).start();
    let caller = Sipp::plays(caller, Some(agent.udp())).service("200").run();
    let (caller, callee) = (caller.expect_success(), callee.finish().expect_success());
    over(&agent);
    Done { agent, caller, callee }
}

/// A call that never reaches the other leg.
fn refused(agent: &Agent, caller: &Scenario, user: &str) -> SippResult {
    let result = Sipp::plays(caller, Some(agent.udp())).service(user).run().expect_success();
    over(agent);
    result
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

fn caller() -> Scenario {
    Scenario::calls(&pcmu(), "")
}

fn callee() -> Scenario {
    Scenario::is_called()
}

/// When the notice of 0.6 s has been heard, and the time to answer has begun.
const AGREES_AFTER: u32 = 1_300;

/// Answered, agreed, and on the line.
fn agreeing_caller() -> Scenario {
    caller().gets_answer().waits(AGREES_AFTER).presses('1')
}

#[test]
fn the_other_leg_gets_the_identity_unchanged_one_hop_less_and_the_calls_name() {
    let identity = [
        ("P-Asserted-Identity", "\"A. Example\" <sip:+4930123456@pbx.example;user=phone>"),
        ("Diversion", "<sip:300@pbx.example>;reason=no-answer;counter=1"),
        ("User-to-User", "56a390f3d2b7310023a2;encoding=hex;content=isdn-interface"),
        ("Session-ID", "ab30317f1a784dc48ff824d0d3715d86;remote=00000000000000000000000000000000"),
        ("X-Customer", "kept, whatever it is"),
    ];
    let lines: String = identity.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    let caller = Scenario::calls(&pcmu(), &format!("{lines}Max-Forwards: 21\n"));
    let caller = caller.gets_answer().waits(100).hangs_up();
    let done = call(standing(), &caller, &callee().picks_up(&pcmu()).waits_for_bye());
    let invite = &heard(&done.callee, "INVITE")[0];
    for (name, value) in identity {
        assert_eq!(header(invite, name), [value], "{invite}");
    }
    assert_eq!(header(invite, "Max-Forwards"), ["20"]);
    let said = &messages(&done.caller.messages, Way::Said, "INVITE")[0];
    let name = |message: &str| header(message, "From")[0].split(";tag=").next().unwrap().to_owned();
    assert_eq!(name(invite), name(said));
    assert_ne!(header(invite, "Call-ID"), header(said, "Call-ID"), "the dialogs are two");
    let call = &done.agent.wait_event("call.ended", SOON);
    assert_eq!(header(invite, "X-Assent-Call"), [call["subject"].as_str().unwrap()]);
    assert_eq!(header(&heard(&done.callee, "BYE")[0], "Reason").len(), 0);
}

#[test]
fn a_request_that_comes_twice_is_served_once() {
    let callee = Sipp::plays(&callee().picks_up(&pcmu()).waits_for_bye(), None).start();
    let agent = standing().inline(format!("sip:{}", callee.addr())).start();
    let doubling = Proxy::start(agent.udp(), |_, _| Verdict::Twice);
    let caller = caller().gets_answer().waits(300).hangs_up();
    let caller = Sipp::plays(&caller, Some(doubling.addr())).service("200");
    caller.run().expect_success();
    let callee = callee.finish().expect_success();
    over(&agent);
    assert_eq!(heard(&callee, "INVITE").len(), 1);
    let events = agent.events();
    let started = events.iter().filter(|e| e["type"] == "io.assent.call.started.v1");
    assert_eq!(started.count(), 1);
}

#[test]
fn a_call_survives_the_loss_of_each_message_on_each_leg() {
    // The first of each kind is lost: INVITE, 180, 200, ACK, BYE and their answers.
    let lose_first_of_each = || {
        let mut seen = HashSet::new();
        move |toward: Toward, bytes: &[u8]| {
            let line = String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_owned();
            let kind: String = match line.strip_prefix("SIP/2.0 ") {
                Some(status) => {
                    let text = String::from_utf8_lossy(bytes).into_owned();
                    format!("{} {:?}", &status[..3], header(&text, "CSeq"))
                }
                None => line.split(' ').next().unwrap_or_default().to_owned(),
            };
            // Nobody repeats a provisional response that was lost.
            let repeated = !kind.starts_with('1');
            let first = seen.insert((toward == Toward::Target, kind));
            if first && repeated { Verdict::Drop } else { Verdict::Pass }
        }
    };
    for policy in [standing(), asked().no_objection("1s")] {
        let answers = callee().reached_by_proxy().picks_up(&pcmu()).waits_for_bye();
        // It is still there when its last answer is asked for again.
        let answers = answers.waits(3_000);
        let callee = Sipp::plays(&answers, None);
        let behind = Proxy::start(callee.addr(), lose_first_of_each());
        let callee = callee.key("contact", &behind.addr().to_string()).start();
        let agent = policy.inline(format!("sip:{}", behind.addr())).start();
        let before = Proxy::start(agent.udp(), lose_first_of_each());
        let caller = caller().gets_answer().waits(4_500).hangs_up();
        let caller = Sipp::plays(&caller, Some(before.addr())).service("200");
        caller.run().expect_success();
        callee.finish().expect_success();
        over(&agent);
        let ended = agent.wait_event("call.ended", SOON);
        assert_eq!(ended["data"]["cause"], "hung-up", "{ended}");
    }
}

#[test]
fn a_cancel_reaches_the_callee_before_during_and_after_ringing() {
    let cancelled =
        |caller: Scenario| caller.cancels().hears(200, &[]).hears(487, &[]).acknowledges_refusal();
    let stopped =
        |callee: Scenario| callee.answers_request(200, "").answers(487, "").hears_request("ACK");
    // The callee has said nothing at all when the caller cancels: RFC 3261, 9.1 wants us to wait.
    let early = cancelled(caller().hears(100, &[]));
    let late = stopped(callee().waits(500).answers(180, "").hears_request("CANCEL"));
    let ringing = cancelled(caller().hears(180, &[100]));
    let rings = stopped(callee().answers(180, "").hears_request("CANCEL"));
    let trying = stopped(callee().answers(100, "").hears_request("CANCEL"));
    // The answer crosses the CANCEL: the call is taken and ended at once.
    let crossing = callee().answers(180, "").hears_request("CANCEL").answers_request(200, "");
    let crossing = crossing.answers(200, &pcmu()).hears_request("ACK").waits_for_bye();
    for (caller, callee) in
        [(early.clone(), late), (early, trying), (ringing.clone(), rings), (ringing, crossing)]
    {
        let done = call(standing(), &caller, &callee);
        let ended = done.agent.wait_event("call.ended", SOON);
        assert_eq!(ended["data"]["cause"], "cancelled", "{ended}");
        assert!(done.agent.json(&["list"]).is_empty());
    }
}

#[test]
fn a_cancel_after_the_answer_changes_nothing() {
    let caller = caller().hears(200, &[100]).cancels().hears(200, &[]).acknowledges();
    let agent = asked().inline("sip:127.0.0.1:9").start();
    let caller = caller.waits(200).hangs_up();
    let result = Sipp::plays(&caller, Some(agent.udp())).service("200").run();
    // SIPp's ACK is to the CANCEL's answer; what counts is that the dialog is there for the BYE.
    assert!(!heard(&result, "SIP/2.0 487").iter().any(|m| m.contains("INVITE")), "{result:?}");
}

#[test]
fn a_hang_up_during_the_notice_dials_nobody_and_leaves_evidence() {
    let agent = asked().inline("sip:127.0.0.1:9").start();
    refused(&agent, &caller().gets_answer().waits(200).hangs_up(), "200");
    let refusal = agent.wait_event("permission.refused", SOON);
    assert_eq!(refusal["data"]["method"], "hung-up", "{refusal}");
    let ended = agent.wait_event("call.ended", SOON);
    assert_eq!(
        (&ended["data"]["cause"], &ended["data"]["by"]),
        (&"hung-up".into(), &"caller".into())
    );
    assert!(agent.json(&["list"]).is_empty());
    assert!(!agent.log().contains("sending INVITE"));
}

#[test]
fn the_callees_refusal_reaches_a_caller_who_is_not_answered() {
    for (theirs, ours) in
        [(486, 486), (404, 404), (603, 603), (480, 480), (302, 480), (401, 502), (407, 502)]
    {
        let headers = match theirs {
            302 => "Contact: <sip:elsewhere@127.0.0.1:9>\n",
            401 => "WWW-Authenticate: Digest realm=\"a\", nonce=\"b\"\n",
            407 => "Proxy-Authenticate: Digest realm=\"a\", nonce=\"b\"\n",
            _ => "",
        };
        let caller = caller().hears(ours, &[100, 180]).acknowledges_refusal();
        let callee = callee().answers_with(theirs, headers, "").hears_request("ACK");
        let done = call(standing(), &caller, &callee);
        assert_eq!(heard(&done.callee, "INVITE").len(), 1, "{theirs}: no second try");
        let ended = done.agent.wait_event("call.ended", SOON);
        assert_eq!(ended["data"]["status"], ours, "{ended}");
    }
}

#[test]
fn the_callees_refusal_reaches_an_answered_caller_as_the_reason_of_a_bye() {
    for status in [486, 404, 603] {
        let caller = agreeing_caller().waits_for_bye();
        let callee = callee().answers(180, "").answers(status, "").hears_request("ACK");
        let done = call(asked(), &caller, &callee);
        let reason = header(&heard(&done.caller, "BYE")[0], "Reason");
        assert!(reason[0].starts_with(&format!("SIP;cause={status};text=")), "{reason:?}");
        assert!(done.agent.json(&["list"]).iter().all(|r| r["state"] != "sealed"));
    }
}

#[test]
fn a_callee_who_does_not_answer_is_cancelled_and_the_caller_told() {
    let rings = || {
        let rings = callee().answers(180, "").hears_request("CANCEL");
        rings.answers_request(200, "").answers(487, "").hears_request("ACK")
    };
    let limit = "ring_within = \"1s\"";
    let caller = caller().hears(480, &[100, 180]).acknowledges_refusal();
    call(standing().sip(limit), &caller, &rings());
    let done = call(asked().sip(limit), &agreeing_caller().waits_for_bye(), &rings());
    let reason = header(&heard(&done.caller, "BYE")[0], "Reason");
    assert!(reason[0].starts_with("SIP;cause=480"), "{reason:?}");
}

#[test]
fn a_next_hop_where_nobody_listens_is_told_at_once_over_tcp() {
    // Taken and let go: nobody else is given it at once.
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let hop = format!("sip:{nobody};transport=tcp");
    let agent = standing().inline(&hop).start();
    refused(&agent, &caller().hears(503, &[100]).acknowledges_refusal(), "200");
    let agent = asked().inline(&hop).start();
    let result = refused(&agent, &agreeing_caller().waits_for_bye(), "200");
    let reason = header(&heard(&result, "BYE")[0], "Reason");
    assert!(reason[0].starts_with("SIP;cause=503"), "{reason:?}");
}

#[test]
fn a_next_hop_that_never_says_anything_is_given_up_after_32_seconds() {
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let agent = standing().inline(format!("sip:{}", nobody.local_addr().unwrap())).start();
    let caller = caller().hears(408, &[100]).acknowledges_refusal();
    Sipp::plays(&caller, Some(agent.udp())).service("200").within(45).run().expect_success();
    over(&agent);
}

#[test]
fn either_side_hangs_up_and_the_other_hears_it() {
    let to_callee = caller().gets_answer().waits(200).hangs_up();
    let done = call(standing(), &to_callee, &callee().picks_up(&pcmu()).waits_for_bye());
    assert_eq!(done.agent.wait_event("call.ended", SOON)["data"]["by"], "caller");

    let hangs_up = callee().picks_up(&pcmu()).waits(300).hangs_up();
    let done = call(standing(), &caller().gets_answer().waits_for_bye(), &hangs_up);
    assert_eq!(done.agent.wait_event("call.ended", SOON)["data"]["by"], "callee");
    let done = call(asked(), &agreeing_caller().waits_for_bye(), &hangs_up);
    assert_eq!(done.agent.wait_event("call.ended", SOON)["data"]["by"], "callee");
    done.agent.wait_recording("sealed", SOON);
}

#[test]
fn a_next_hop_that_is_no_peer_may_hang_up() {
    for host in ["127.0.0.1", "localhost"] {
        let hangs_up = callee().picks_up(&pcmu()).waits(300).hangs_up();
        let callee = Sipp::plays(&hangs_up, None).start();
        let agent = standing()
            .sip("peers = [\"127.0.0.2/32\"]")
            .inline(format!("sip:{host}:{}", callee.addr().port()))
            .start();
        let caller = Sipp::plays(&caller().gets_answer().waits_for_bye(), Some(agent.udp()));
        caller.on([127, 0, 0, 2]).service("200").run().expect_success();
        callee.finish().expect_success();
        over(&agent);
    }
}

#[test]
fn byes_that_cross_end_the_call_on_both_sides() {
    // It hears BYE, says BYE itself, and only then answers.
    let crosses = |scenario: Scenario| {
        let scenario = scenario.raw(
            "<recv request=\"BYE\"><action>\
             <ereg regexp=\".*\" search_in=\"hdr\" header=\"Via:\" assign_to=\"bye\"/>\
             <ereg regexp=\".*\" search_in=\"hdr\" header=\"CSeq:\" assign_to=\"number\"/>\
             <ereg regexp=\".*\" search_in=\"hdr\" header=\"From:\" assign_to=\"their\"/>\
             <ereg regexp=\".*\" search_in=\"hdr\" header=\"To:\" assign_to=\"our\"/>\
             </action></recv>\n",
        );
        scenario.requests("BYE", "", "").hears(200, &[]).raw(
            "<send><![CDATA[\nSIP/2.0 200 OK\nVia:[$bye]\nFrom:[$their]\nTo:[$our]\n\
             [last_Call-ID:]\nCSeq:[$number]\nContent-Length: 0\n\n]]></send>\n",
        )
    };
    let caller_first = caller().gets_answer().waits(200).hangs_up();
    call(standing(), &caller_first, &crosses(callee().picks_up(&pcmu())));
    let callee_first = callee().picks_up(&pcmu()).waits(200).hangs_up();
    call(standing(), &crosses(caller().gets_answer()), &callee_first);
}

#[test]
fn a_recording_survives_hold_and_resume_and_each_new_description_has_a_new_version() {
    let hold = sdp(2, "0", "sendonly");
    let resume = sdp(3, "0", "sendrecv");
    let caller_holds = agreeing_caller().waits(700).offers_again(&hold).waits(300);
    let caller_holds = caller_holds.offers_again(&resume).waits(300).hangs_up();
    let told = |this: Scenario| {
        let this = this.hears_request("INVITE").answers_request(200, &sdp(2, "0", "recvonly"));
        let this = this.hears_request("ACK").hears_request("INVITE");
        this.answers_request(200, &sdp(3, "0", "sendrecv")).hears_request("ACK")
    };
    let done = call(asked(), &caller_holds, &told(callee().picks_up(&pcmu())).waits_for_bye());
    let answers = heard(&done.caller, "SIP/2.0 200");
    assert!(answers.iter().any(|m| m.contains("a=recvonly")), "{answers:?}");
    done.agent.wait_recording("sealed", SOON);

    let callee_holds = callee().picks_up(&pcmu()).waits(500).offers_again(&hold).waits(400);
    let callee_holds = callee_holds.offers_again(&resume).waits(400).hangs_up();
    let done = call(standing(), &told(caller().gets_answer()).waits_for_bye(), &callee_holds);
    let answers = heard(&done.callee, "SIP/2.0 200");
    assert!(answers[0].contains("a=recvonly"), "{answers:?}");
    assert!(answers[1].contains("a=sendrecv"), "{answers:?}");
    let versions: HashSet<&str> =
        answers.iter().filter_map(|m| m.lines().find(|line| line.starts_with("o="))).collect();
    assert_eq!(versions.len(), 2, "each new description has a new version: {answers:?}");
}

#[test]
fn a_callee_with_another_codec_costs_the_caller_a_new_offer() {
    let caller = Scenario::calls(&sdp(1, "8 0", "sendrecv"), "").gets_answer();
    let caller = caller.waits(AGREES_AFTER).presses('1').hears_request("INVITE");
    let caller = caller.answers_request(200, &sdp(2, "0", "sendrecv")).hears_request("ACK");
    let caller = caller.waits(300).hangs_up();
    let done = call(asked(), &caller, &callee().picks_up(&pcmu()).waits_for_bye());
    assert!(heard(&done.caller, "SIP/2.0 200")[0].contains("RTP/AVP 8 101"));
    assert!(heard(&done.callee, "INVITE")[0].contains("RTP/AVP 8 0 101"), "the caller's first");
    assert!(heard(&done.caller, "INVITE")[0].contains("RTP/AVP 0 101"));
    // Where nobody is asked there is nothing to take back.
    let caller = Scenario::calls(&sdp(1, "8 0", "sendrecv"), "").gets_answer().waits(300);
    let done = call(standing(), &caller.hangs_up(), &callee().picks_up(&pcmu()).waits_for_bye());
    assert!(heard(&done.caller, "SIP/2.0 200")[0].contains("RTP/AVP 0 101"));
}

#[test]
fn early_media_of_the_callee_is_answered_to_the_caller() {
    let caller = caller().hears(183, &[100]).hears(200, &[]).acknowledges().waits(100).hangs_up();
    let callee = callee().answers(183, &pcmu()).waits(300).answers(200, &pcmu());
    let callee = callee.hears_request("ACK").waits_for_bye();
    let done = call(standing(), &caller, &callee);
    let body = |message: &String| message.split_once("v=0").expect("a body").1.trim().to_owned();
    let (early, last) = (heard(&done.caller, "SIP/2.0 183"), heard(&done.caller, "SIP/2.0 200"));
    assert_eq!(body(&early[0]), body(&last[0]), "one answer, said twice (RFC 6337, 3.1.1)");
}

#[test]
fn each_leg_has_its_own_transport_and_family() {
    let (v4, v6): (IpAddr, IpAddr) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
    let udp_tcp = [(v4, "udp"), (v4, "tcp")];
    let mut pairs: Vec<_> = udp_tcp.into_iter().flat_map(|a| udp_tcp.map(|b| (a, b))).collect();
    pairs.extend([
        ((v6, "udp"), (v6, "udp")),
        ((v6, "tcp"), (v4, "udp")),
        ((v4, "udp"), (v6, "tcp")),
    ]);
    for ((from, caller_on), (to, callee_on)) in pairs {
        let case = format!("{caller_on} {from} to {callee_on} {to}");
        let transport = |name: &str| if name == "udp" { "u1" } else { "t1" };
        let hangs_up = callee().picks_up(&pcmu()).waits(200).hangs_up();
        let callee =
            Sipp::plays(&hangs_up, None).on(to).arg("-t").arg(transport(callee_on)).start();
        let listen = "listen = [\"udp:127.0.0.1:0\", \"tcp:127.0.0.1:0\", \"udp:[::1]:0\", \
                      \"tcp:[::1]:0\"]";
        let agent = standing()
            .sip(listen)
            .sip("advertise = [\"127.0.0.1\", \"::1\"]")
            .inline(format!("sip:{};transport={callee_on}", callee.addr()))
            .start();
        let caller = caller().gets_answer().waits_for_bye();
        let caller = Sipp::plays(&caller, Some(agent.listens_to(caller_on, from))).service("200");
        let caller = caller.arg("-t").arg(transport(caller_on)).run().expect_success();
        let callee = callee.finish().expect_success();
        over(&agent);
        let family = |ip: IpAddr| if ip.is_ipv4() { "c=IN IP4 127.0.0.1" } else { "c=IN IP6 ::1" };
        assert!(heard(&caller, "SIP/2.0 200")[0].contains(family(from)), "{case}");
        let invite = &heard(&callee, "INVITE")[0];
        assert!(invite.contains(family(to)), "{case}");
        let via = &header(invite, "Via")[0];
        assert!(via.contains(&callee_on.to_uppercase()), "{case}: {via}");
    }
}

#[test]
fn a_next_hop_may_be_a_name() {
    let callee = Sipp::plays(&callee().picks_up(&pcmu()).waits_for_bye(), None).start();
    let agent = standing().inline(format!("sip:localhost:{}", callee.addr().port())).start();
    let caller = caller().gets_answer().waits(100).hangs_up();
    refused(&agent, &caller, "200");
    callee.finish().expect_success();
}

#[test]
fn a_call_without_a_route_is_404_and_one_without_a_codec_488() {
    let agent = Agent::builder()
        .routes("[[route]]\nmatch = { to = \"1*\" }\nmode = \"endpoint\"\npolicy = \"default\"\n")
        .start();
    let caller = |offer: &str, status| {
        Scenario::calls(offer, "").hears(status, &[100]).acknowledges_refusal()
    };
    refused(&agent, &caller(&pcmu(), 404), "200");
    refused(&agent, &caller(&sdp(1, "18", "sendrecv"), 488), "100");
    let agent = standing().inline("sip:127.0.0.1:9").start();
    refused(&agent, &caller(&sdp(1, "18", "sendrecv"), 488), "100");
}

#[test]
fn more_calls_than_allowed_get_503_with_a_time_to_try_again() {
    let agent = Agent::builder().sip("max_calls = 1").start();
    let first = Sipp::plays(&caller().gets_answer().waits(2_000).hangs_up(), Some(agent.udp()));
    let first = first.service("100").start();
    agent.wait_event("party.joined", SOON);
    let second = caller().hears(503, &[100]).acknowledges_refusal();
    let second = Sipp::plays(&second, Some(agent.udp())).run().expect_success();
    let wait = header(&heard(&second, "SIP/2.0 503")[0], "Retry-After");
    assert!(wait[0].parse::<u32>().is_ok_and(|seconds| seconds > 0), "{wait:?}");
    first.finish().expect_success();
    refused(&agent, &caller().gets_answer().waits(100).hangs_up(), "100");
}

#[test]
fn an_invite_without_a_description_is_offered_one_in_the_answer() {
    // Where the caller is asked, and where the answer waits for the callee's.
    let caller = || Scenario::calls("", "").hears(200, &[100, 180]).acknowledges_with(&pcmu());
    let answers = callee().picks_up(&pcmu()).waits_for_bye();
    let agreeing = caller().waits(AGREES_AFTER).presses('1').waits(700).hangs_up();
    let done = call(asked(), &agreeing, &answers);
    assert!(heard(&done.caller, "SIP/2.0 200")[0].contains("m=audio"));
    done.agent.wait_recording("sealed", SOON);
    let done = call(standing(), &caller().waits(500).hangs_up(), &answers);
    let offer = &heard(&done.caller, "SIP/2.0 200")[0];
    assert!(offer.contains("RTP/AVP 0 101"), "the codec that the callee chose: {offer}");
    done.agent.wait_recording("sealed", SOON);
}

#[test]
fn whoever_calls_reaches_the_callee_under_the_name_they_gave() {
    let answers = callee().picks_up(&pcmu()).waits_for_bye();
    for name in [
        "\"Anonymous\" <sip:anonymous@anonymous.invalid>",
        "<tel:+49-30-123456>",
        "\"J\u{fc}rgen \u{201e}M\u{fc}ller\u{201c}\" <sip:%2B4930123456@pbx.example;user=phone>",
        "sip:100@pbx.example",
    ] {
        let caller = caller().gets_answer().waits(100).hangs_up();
        let caller = caller.with("\"SIPp\" <sip:sipp@[local_ip]:[local_port]>", name);
        let done = call(standing(), &caller, &answers);
        let from = &header(&heard(&done.callee, "INVITE")[0], "From")[0];
        assert_eq!(from.rsplit_once(";tag=").expect("a tag").0, name);
        assert!(!done.agent.log().contains("30123456"), "no number in the log");
    }
}

#[test]
fn requests_go_by_way_of_the_proxies_that_recorded_their_route() {
    let route = "Record-Route: <sip:[local_ip]:[local_port];lr;hop=1>\n\
                 Record-Route: <sip:192.0.2.7;lr;hop=2>\n";
    let caller = Scenario::calls(&pcmu(), route).gets_answer().waits_for_bye();
    let answer = callee().answers_with(180, "", "").waits(100);
    let answer =
        answer.answers_with(200, "Record-Route: <sip:[local_ip]:[local_port];lr>\n", &pcmu());
    let done = call(standing(), &caller, &answer.hears_request("ACK").waits(200).hangs_up());
    let bye = &heard(&done.caller, "BYE")[0];
    let routes = header(bye, "Route").join(", ");
    assert!(routes.find("hop=1") < routes.find("hop=2") && routes.contains("hop=2"), "{bye}");
    assert_eq!(header(&heard(&done.caller, "SIP/2.0 200")[0], "Record-Route").len(), 2);
    let ack = &heard(&done.callee, "ACK")[0];
    assert_eq!(header(ack, "Route").len(), 1, "{ack}");
}

#[test]
fn a_description_among_other_parts_is_found() {
    let body = format!(
        "--b\nContent-Type: application/sdp\n\n{}\n--b\nContent-Type: application/isup\n\
         Content-Disposition: signal;handling=optional\n\nxyz\n--b--\n",
        pcmu()
    );
    let caller = Scenario::calls(&body, "Content-Type: multipart/mixed;boundary=b\n");
    let caller = caller.gets_answer().waits(100).hangs_up();
    let done = call(standing(), &caller, &callee().picks_up(&pcmu()).waits_for_bye());
    assert!(heard(&done.caller, "SIP/2.0 200")[0].contains("RTP/AVP 0 101"));
}

#[test]
fn a_callee_whose_answer_is_of_no_use_is_hung_up_on_and_the_caller_told() {
    let caller = caller().hears(488, &[100, 180]).acknowledges_refusal();
    for answer in ["", &sdp(1, "18", "sendrecv"), "v=0\nnonsense\n"] {
        call(standing(), &caller, &callee().picks_up(answer).waits_for_bye());
    }
}

#[test]
fn a_caller_who_is_answered_hears_the_callees_early_media_as_a_call_in_progress() {
    let callee = callee().answers(183, &pcmu()).waits(300).answers(200, &pcmu());
    let callee = callee.hears_request("ACK").waits_for_bye();
    let caller = agreeing_caller().waits(900).hangs_up();
    let done = call(asked(), &caller, &callee);
    done.agent.wait_recording("sealed", SOON);
}
