//! The same with other people's telephones: baresip and SIPp.

use std::time::Duration;

use assent::ids::Leg;

use crate::books::Books;
use crate::measure::index;
use crate::support::agent::{NOTICE_HZ, PROMPT_HZ};
use crate::support::audio::{loudness, tone};
use crate::support::baresip::BaresipConfig;
use crate::support::scenario::pcmu;
use crate::support::wire_phone::ulaw;
use crate::support::{Agent, AgentBuilder, Scenario, Sipp, wait_until};

const SOON: Duration = Duration::from_secs(20);
const CALLER_HZ: f64 = 500.0;
const CALLEE_HZ: f64 = 800.0;

fn policy() -> AgentBuilder {
    Agent::builder()
        .policy("on_withdrawal", "\"keep\"")
        .policy("accept_again", "true")
        .policy("answer_within", "\"5s\"")
}

fn asking(legs: &[Leg]) -> AgentBuilder {
    let asked: Vec<String> = legs.iter().map(|leg| format!("\"{leg}\"")).collect();
    let others: Vec<String> = Leg::BOTH
        .iter()
        .filter(|leg| !legs.contains(leg))
        .map(|leg| format!("{leg} = \"agreement\""))
        .collect();
    policy()
        .policy("ask", &format!("[{}]", asked.join(", ")))
        .policy("standing", &format!("{{ {} }}", others.join(", ")))
}

/// One of two baresips is asked, agrees, takes it back two seconds later; both talk on.
fn two_baresips(asked: Leg) {
    let mut callee = BaresipConfig::new("callee", 800).start();
    let mut caller = BaresipConfig::new("caller", 500).start();
    let agent = asking(&[asked]).inline(callee.uri()).start();
    caller.dial(&agent.uri("callee"));
    agent.wait_event("notice.completed", SOON);
    std::thread::sleep(Duration::from_millis(500));
    match asked {
        Leg::Caller => caller.press('1'),
        Leg::Callee => callee.press('1'),
    }
    agent.wait_event("permission.granted", SOON);
    callee.wait_event("CALL_ESTABLISHED", SOON);
    caller.wait_event("CALL_ESTABLISHED", SOON);
    std::thread::sleep(Duration::from_secs(2));
    let phone = if asked == Leg::Caller { &mut caller } else { &mut callee };
    phone.press('*');
    std::thread::sleep(Duration::from_millis(300));
    phone.press('9');
    agent.wait_event("permission.withdrawn", SOON);
    std::thread::sleep(Duration::from_secs(1));
    caller.hang_up();
    callee.wait_event("CALL_CLOSED", SOON);
    agent.wait_event("call.ended", SOON);
    let account = Books::of(&agent).account("default");
    let [recording] = account.recordings.as_slice() else { panic!("{:?}", account.story()) };
    let export = &recording.export;
    let seconds = export.seconds();
    assert!((1.5..4.5).contains(&seconds), "{asked}: it ended with the keys: {seconds} s");
    for (leg, hz, other) in
        [(Leg::Caller, CALLER_HZ, CALLEE_HZ), (Leg::Callee, CALLEE_HZ, CALLER_HZ)]
    {
        let found = export.present(index(leg), hz);
        let (from, to) = (found.first().expect("a tone").0, found.last().expect("a tone").1);
        assert!(to - from > 1.0, "{asked}: {leg} from {from} to {to}");
        let before = export.part(index(leg), 0.0, from - 0.1);
        let after = export.part(index(leg), to + 0.1, seconds);
        assert!(loudness(before) < 0.001 && loudness(after) < 0.001, "{asked}: {leg}");
        for foreign in [other, NOTICE_HZ, PROMPT_HZ] {
            let found = export.level(index(leg), from, to, foreign);
            assert!(found < 0.003, "{asked}: {foreign} Hz in the {leg}'s channel: {found}");
        }
        for packet in &recording.written[index(leg)] {
            let inside =
                |(from, to): &(i64, i64)| packet.arrival + 1_000 >= *from && packet.arrival <= *to;
            assert!(recording.permitted[index(leg)].iter().any(inside), "{asked}: {packet:?}");
        }
    }
    // Only who is asked hears the notice.
    let heard = [caller.heard(), callee.heard()];
    for leg in Leg::BOTH {
        let notice = heard[index(leg)].present(0, NOTICE_HZ);
        let notice = notice.iter().any(|(from, to)| to - from > 0.3);
        assert_eq!(notice, leg == asked, "{asked}: {leg}");
    }
    assert!(agent.command(&["verify", "--all"]).status.success());
}

#[test]
fn a_baresip_that_calls_is_asked_agrees_and_takes_it_back() {
    two_baresips(Leg::Caller);
}

#[test]
fn a_baresip_that_is_called_is_asked_agrees_and_takes_it_back() {
    two_baresips(Leg::Callee);
}

/// A SIPp says a tone from its answer on, from a port of its own.
fn tone_step(folder: &std::path::Path, hz: f64) -> String {
    let file = folder.join(format!("{hz}.ulaw"));
    let octets: Vec<u8> = tone(8_000, hz, 10.0).into_iter().map(ulaw).collect();
    std::fs::write(&file, octets).expect("a tone");
    format!("<nop><action><exec rtp_stream=\"{},-1,0\"/></action></nop>\n", file.display())
}

#[test]
fn two_sipps_are_asked_side_by_side_and_both_agree() {
    let folder = tempfile::tempdir().expect("a folder");
    let sdp = pcmu().replace("[media_port]", "[rtpstream_audio_port]");
    let callee = Scenario::is_called()
        .picks_up(&sdp)
        .raw(&tone_step(folder.path(), CALLEE_HZ))
        .waits(1_200)
        .presses('1')
        .waits_for_bye();
    let callee = Sipp::plays(&callee, None).start();
    let agent =
        asking(&Leg::BOTH).sip("info_keys = true").inline(format!("sip:{}", callee.addr())).start();
    let caller = Scenario::calls(&sdp, "")
        .gets_answer()
        .raw(&tone_step(folder.path(), CALLER_HZ))
        .waits(1_500)
        .presses('1')
        .waits(3_000)
        .hangs_up();
    let caller = Sipp::plays(&caller, Some(agent.udp())).service("1");
    caller.run().expect_success();
    callee.finish().expect_success();
    agent.wait_event("recording.sealed", SOON);
    let account = wait_until(SOON, "the end of the call", || {
        let ended = agent.events().iter().any(|e| e["type"] == "io.assent.call.ended.v1");
        ended.then(|| Books::of(&agent).account("default"))
    });
    for leg in Leg::BOTH {
        let decided = account.decisions(leg);
        assert_eq!(decided.iter().map(|d| d.0).collect::<Vec<_>>(), ["granted"], "{leg}");
    }
    let [recording] = account.recordings.as_slice() else { panic!("{:?}", account.story()) };
    let export = &recording.export;
    let seconds = export.seconds();
    for (leg, hz, other) in
        [(Leg::Caller, CALLER_HZ, CALLEE_HZ), (Leg::Callee, CALLEE_HZ, CALLER_HZ)]
    {
        assert!(export.level(index(leg), 1.0, seconds - 0.5, hz) > 0.3, "{leg}");
        assert!(export.level(index(leg), 1.0, seconds - 0.5, other) < 0.003, "{leg}");
    }
}
