//! Promise: when the disk fills up, the recording ends as failed and says so, calls go on (or are
//! refused, if the policy says that), and when there is room again calls are recorded again.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use support::ledger::{self, kind};
use support::{Agent, Answerer, Disk, Talker, wait_for, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// More than the reserve that an agent keeps free.
const MIB: u32 = 96;

fn state(agent: &Agent, user: &str, state: &str) -> String {
    wait_until(SOON, state, || {
        let row = ledger::recordings_of(agent, user).pop()?;
        (row["state"] == state).then(|| row["id"].as_str().unwrap().to_owned())
    })
}

#[test]
fn the_call_goes_on_and_later_ones_are_recorded_again() {
    let callee = Answerer::start();
    let mut agent = Agent::builder().inline(callee.uri()).prepare();
    let Some(disk) = Disk::tmpfs(&agent.data(), MIB) else { return };
    agent.restart();
    let mut first = Talker::call(agent.udp(), "+49301", "201").unwrap();
    first.accept();
    state(&agent, "+49301", "capturing");
    wait_for(SOON, "it talks", || first.numbered() > 50);
    let ballast = disk.fill();
    wait_for(SOON, "the failure is logged", || agent.log().contains("a recording has failed"));
    wait_for(SOON, "ready says so", || agent.get("/readyz").1.contains("space"));
    assert_eq!(agent.get("/readyz").0, 200, "calls are still taken");

    let heard = first.heard();
    wait_for(SOON, "the call goes on", || first.heard() > heard + 20);
    let second = Talker::call(agent.udp(), "+49302", "202").unwrap();
    wait_for(SOON, "the second call goes through", || callee.numbered("202") > 10);
    wait_for(SOON, "and both hear each other", || second.heard() > 10);
    assert!(!first.was_ended());
    assert!(agent.metric("assent_writer_dropped_packets_total") > Some(0.0));

    let sent = first.numbered();
    first.hang_up();
    std::fs::remove_file(ballast).unwrap();
    let id = state(&agent, "+49301", "failed");
    wait_for(SOON, "ready says so", || !agent.get("/readyz").1.contains("space"));
    drop(second);
    let mut third = Talker::call(agent.udp(), "+49303", "203").unwrap();
    third.accept();
    wait_for(SOON, "it talks", || third.numbered() > 30);
    third.hang_up();
    state(&agent, "+49303", "sealed");
    assert!(ledger::recordings_of(&agent, "+49302").iter().all(|row| row["state"] != "sealed"));
    let events = agent.events();
    ledger::in_order(&events);
    let failed = events.iter().find(|e| kind(e) == "recording.failed").unwrap();
    assert_eq!(failed["data"]["reason"], "disk-full", "{failed}");
    let gaps = agent.json(&["show", &id])[0]["gaps"].as_array().unwrap().len();
    assert!(gaps >= 1, "the gap is marked");
    assert_eq!(agent.metric("assent_recordings_ended_total{result=\"failed\"}"), Some(1.0));

    // What had been written by then is sealed at the next start, and reads.
    agent.kill();
    agent.restart();
    ledger::proven(&agent);
    ledger::balanced(&agent.events());
    let [caller, _] = ledger::export(&agent, &id);
    assert!(caller.numbers.len() > 20 && caller.numbers.len() < sent as usize, "{caller:?}");
}

#[test]
fn a_policy_may_refuse_the_call_instead() {
    let callee = Answerer::start();
    let builder = Agent::builder().inline(callee.uri());
    let mut agent = builder.policy("on_unavailable", "\"refuse\"").prepare();
    let Some(disk) = Disk::tmpfs(&agent.data(), MIB) else { return };
    agent.restart();
    let ballast = disk.fill();
    wait_for(SOON, "ready says so", || agent.get("/readyz").1.contains("space"));
    let away = Talker::call(agent.udp(), "+49301", "201").unwrap_err();
    assert_eq!(away.status, 603, "not what sends a PBX around the recorder: {away:?}");
    std::fs::remove_file(ballast).unwrap();
    wait_for(SOON, "ready says so", || !agent.get("/readyz").1.contains("space"));
    let mut talker = Talker::call(agent.udp(), "+49302", "202").unwrap();
    talker.accept();
    wait_for(SOON, "it talks", || talker.numbered() > 30);
    talker.hang_up();
    state(&agent, "+49302", "sealed");
}
