//! Promise: an agent that is told to stop takes no new calls, lets the others end, seals what is
//! open and exits 0; told twice it ends at once, and the next start puts everything in order; told
//! to read its configuration again, it does so without harm to any call.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use support::ledger::{self, kind};
use support::{Agent, AgentBuilder, Answerer, Talker, wait_for, wait_until};

const SOON: Duration = Duration::from_secs(10);

fn builder(callee: &Answerer) -> AgentBuilder {
    Agent::builder().inline(callee.uri())
}

/// A call that is recorded.
fn recorded(agent: &Agent, user: &str) -> Talker {
    let talker = Talker::call(agent.udp(), user, "200").unwrap();
    talker.accept();
    wait_for(SOON, "it is recorded", || {
        ledger::recordings_of(agent, user).iter().any(|row| row["state"] == "capturing")
    });
    talker
}

/// Everything is sealed, nothing was cut off.
fn all_complete(agent: &Agent) {
    ledger::proven(agent);
    let events = agent.events();
    ledger::in_order(&events);
    ledger::balanced(&events);
    for row in agent.json(&["list"]) {
        assert_eq!(
            (&row["state"], &row["result"]),
            (&"sealed".into(), &"complete".into()),
            "{row}"
        );
    }
    assert_eq!(kind(events.last().unwrap()), "agent.stopped");
}

#[test]
fn sigterm_turns_new_calls_away_and_lets_the_others_end() {
    let callee = Answerer::start();
    let mut agent = builder(&callee).start();
    let mut talker = recorded(&agent, "+49301");
    assert_eq!(agent.get("/readyz").0, 200);
    agent.signal("TERM");
    wait_for(SOON, "it drains", || agent.json(&["status"])[0]["state"] == "draining");
    let away = Talker::call(agent.udp(), "+49302", "200").unwrap_err();
    assert_eq!(away.status, 503);
    assert!(away.retry_after.unwrap().parse::<u32>().unwrap() > 0);
    let (status, body) = agent.get("/readyz");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("draining"), "{body}");
    assert_eq!(agent.get("/livez").0, 200);
    assert_eq!(agent.metric("assent_draining"), Some(1.0));
    let before = talker.numbered();
    wait_for(SOON, "the call goes on", || talker.numbered() > before + 20);
    assert!(!talker.was_ended());
    talker.hang_up();
    assert!(agent.wait(SOON).success());
    all_complete(&agent);
    let id = agent.json(&["list"])[0]["id"].as_str().unwrap().to_owned();
    let [caller, _] = ledger::export(&agent, &id);
    assert!(caller.numbers.last().unwrap() + 2 >= talker.numbered(), "{caller:?}");
}

#[test]
fn when_the_time_has_passed_calls_are_ended_and_sealed() {
    for signal in ["TERM", "INT"] {
        let callee = Answerer::start();
        let mut agent = builder(&callee).further("[shutdown]\ndrain_within = \"1s\"").start();
        let talker = recorded(&agent, "+49301");
        agent.signal(signal);
        assert!(agent.wait(SOON).success());
        assert!(talker.was_ended(), "it is told goodbye");
        all_complete(&agent);
        let ended = agent.events().into_iter().find(|e| kind(e) == "call.ended").unwrap();
        assert_eq!(ended["data"]["cause"], "drained", "{ended}");
        assert_eq!(agent.events().last().unwrap()["data"]["calls_ended"], 1);
    }
}

/// A disk that takes longer to sync than calls may take to end: what is still being written when
/// they have is sealed and told of before the end, not at the next start.
#[test]
fn a_slow_disk_is_waited_for() {
    let callee = Answerer::start();
    let mut agent = builder(&callee).further("[shutdown]\ndrain_within = \"0s\"").prepare();
    agent.set_wrapper([
        "strace",
        "-f",
        "--seccomp-bpf",
        "-o",
        "/dev/null",
        "-e",
        "trace=syncfs",
        "-e",
        "inject=syncfs:delay_enter=6000000",
    ]);
    agent.restart();
    let _first = recorded(&agent, "+49301");
    let _second = recorded(&agent, "+49302");
    agent.signal("TERM");
    assert!(agent.wait(Duration::from_secs(40)).success());
    all_complete(&agent);
    agent.set_wrapper::<&str>([]);
    agent.restart();
    let log = agent.log();
    assert!(!log.contains("the last run ended in the middle"), "{log}");
    let events = agent.events();
    let ready = events.iter().rposition(|event| kind(event) == "agent.ready").unwrap();
    let late = events[ready..].iter().filter(|event| !kind(event).starts_with("agent."));
    assert_eq!(late.count(), 0, "the second start has nothing else to tell: {events:?}");
}

/// An agent without one of its parts would answer calls and never serve them.
#[test]
fn an_agent_that_breaks_ends_and_says_so() {
    let callee = Answerer::start();
    let mut agent = builder(&callee).start();
    let talker = recorded(&agent, "+49301");
    let mut strace = std::process::Command::new(support::tool("strace"))
        .args(["-qq", "-o", "/dev/null", "-e", "trace=epoll_wait"])
        .args(["-e", "inject=epoll_wait:error=EBADF", "-p", &thread(&agent, "media-0")])
        .spawn()
        .unwrap();
    let status = agent.wait(Duration::from_secs(20));
    strace.wait().unwrap();
    assert_eq!(status.code(), Some(1), "a service manager starts it again");
    let log = agent.log();
    let last = log.lines().last().unwrap();
    assert!(last.starts_with("assent: a media thread has ended by itself"), "{last}");
    assert!(talker.was_ended(), "the parties are not left in silence");
    all_complete(&agent);
}

/// The kernel's number of a thread of this name.
fn thread(agent: &Agent, name: &str) -> String {
    std::fs::read_dir(format!("/proc/{}/task", agent.pid()))
        .unwrap()
        .map(|thread| thread.unwrap().path())
        .find(|thread| std::fs::read_to_string(thread.join("comm")).unwrap().trim() == name)
        .map(|thread| thread.file_name().unwrap().to_str().unwrap().to_owned())
        .unwrap()
}

#[test]
fn told_twice_it_ends_at_once_and_the_next_start_puts_it_in_order() {
    let callee = Answerer::start();
    let mut agent = builder(&callee).start();
    let _talker = recorded(&agent, "+49301");
    // A recording without one whole chunk on the disk would be none.
    wait_for(SOON, "chunks are written", || {
        agent.metric("assent_segment_bytes_total") > Some(8192.0)
    });
    agent.signal("TERM");
    wait_for(SOON, "it drains", || agent.json(&["status"])[0]["state"] == "draining");
    agent.signal("TERM");
    agent.wait(Duration::from_secs(5));
    agent.restart();
    ledger::proven(&agent);
    let events = agent.events();
    ledger::in_order(&events);
    ledger::balanced(&events);
    let row = agent.json(&["list"]).pop().unwrap();
    assert_eq!(row["state"], "sealed", "{row}");
}

#[test]
fn assent_drain_waits_for_the_last_call() {
    let callee = Answerer::start();
    let mut agent = builder(&callee).start();
    let mut talker = recorded(&agent, "+49301");
    let first = agent.json(&["drain"]);
    assert_eq!(first[0]["calls"], 1, "{first:?}");
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| agent.command(&["drain", "--wait"]));
        wait_for(SOON, "status says so", || agent.json(&["status"])[0]["state"] == "draining");
        std::thread::sleep(Duration::from_millis(500));
        assert!(!waiting.is_finished(), "it comes back before the agent has stopped");
        talker.hang_up();
        waiting.join().unwrap()
    });
    assert!(waiting.status.success(), "{waiting:?}");
    assert!(agent.wait(SOON).success());
    all_complete(&agent);
    assert_eq!(agent.command(&["status"]).status.code(), Some(69), "nobody is there");
}

#[test]
fn sighup_reads_routes_and_policies_again() {
    let (first, second) = (Answerer::start(), Answerer::start());
    let agent = builder(&first).start();
    let mut staying = recorded(&agent, "+49301");
    let text = std::fs::read_to_string(agent.config()).unwrap();

    // A file that is wrong changes nothing, and says what is wrong.
    std::fs::write(agent.config(), text.replace("gate = \"opt-in\"", "gate = \"opt-out\""))
        .unwrap();
    agent.signal("HUP");
    wait_for(SOON, "the log names the problem", || agent.log().contains("opt-out"));
    wait_for(SOON, "the log says so", || agent.log().contains("stays as it was"));
    let same = Talker::call(agent.udp(), "+49302", "200").unwrap();
    drop(same);

    // A prompt that is not there is a problem too.
    std::fs::write(agent.config(), text.replace("\"notice-opt-in\"", "\"no-such-notice\""))
        .unwrap();
    agent.signal("HUP");
    wait_for(SOON, "the log names it", || agent.log().contains("no-such-notice.wav"));

    let changed = text
        .replace(&first.uri(), &second.uri())
        .replace("controller = \"Test GmbH\"", "controller = \"Other GmbH\"")
        .replace("[sip]\n", "[sip]\nmax_calls = 7\n");
    std::fs::write(agent.config(), changed).unwrap();
    agent.signal("HUP");
    wait_for(SOON, "it is in force", || agent.log().contains("in force"));
    wait_for(SOON, "what is not is named", || agent.log().contains("after a restart: [sip]"));
    let mut moved = Talker::call(agent.udp(), "+49303", "777").unwrap();
    moved.accept();
    wait_for(SOON, "the call takes the new route", || second.numbered("777") > 10);
    assert_eq!(first.numbered("777"), 0);
    assert!(!staying.was_ended());
    for talker in [&mut staying, &mut moved] {
        talker.hang_up();
    }
    let row = wait_until(SOON, "it is sealed", || {
        let row = ledger::recordings_of(&agent, "+49303").pop()?;
        (row["state"] == "sealed").then_some(row)
    });
    let id = row["id"].as_str().unwrap();
    let receipts = agent.command(&["evidence", id, "--json"]);
    assert!(String::from_utf8_lossy(&receipts.stdout).contains("Other GmbH"));
}
