//! Promise: who takes permission back is recorded no further, and what there was of them is gone:
//! its files, its key, its rows, whatever the agent is killed at. The other party's stream stays,
//! is proven and exported. With `on_withdrawal = "keep"` everything stays.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use support::ledger::{self, kind};
use support::{Agent, Answerer, Talker, rounds, wait_for, wait_until};

const SOON: Duration = Duration::from_secs(10);

/// The files of one party's stream, of all recordings.
fn files(agent: &Agent, stream: u8) -> Vec<PathBuf> {
    let start = format!("{stream}-");
    let of_stream = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start))
            && path.components().any(|part| part.as_os_str() == "recordings")
    };
    agent.files().into_iter().filter(of_stream).collect()
}

/// The wrapped keys of one party's streams.
fn keys(agent: &Agent, stream: u8) -> Vec<Option<String>> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let db = rusqlite::Connection::open_with_flags(agent.data().join("catalog.db"), flags).unwrap();
    let mut rows = db.prepare("SELECT key FROM stream WHERE stream = ?1").unwrap();
    rows.query_map([stream], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn count(events: &[Value], what: &str) -> usize {
    events.iter().filter(|event| kind(event) == what).count()
}

fn take_back(talker: &Talker) {
    talker.press('*');
    talker.press('9');
}

/// A call that is recorded, and in which both have talked for a while.
fn recorded(agent: &Agent, callee: &Answerer, user: &str) -> Talker {
    let talker = Talker::call(agent.udp(), user, "200").unwrap();
    talker.accept();
    wait_for(SOON, "both talk", || callee.numbered("200") > 40 && talker.numbered() > 60);
    talker
}

fn only(agent: &Agent, user: &str) -> Value {
    let recordings = ledger::recordings_of(agent, user);
    assert_eq!(recordings.len(), 1, "{recordings:?}");
    recordings.into_iter().next().unwrap()
}

#[test]
fn the_partys_own_stream_is_gone_and_the_others_stays() {
    let callee = Answerer::start();
    let agent = Agent::builder().inline(callee.uri()).start();
    let mut talker = recorded(&agent, &callee, "+49301");
    wait_for(SOON, "both are written", || [0, 1].iter().all(|n| !files(&agent, *n).is_empty()));
    let wrapped = keys(&agent, 0)[0].clone().unwrap();

    take_back(&talker);
    let completed = agent.wait_event("erasure.completed", SOON);
    assert_eq!(completed["data"]["stream"], 0);
    assert_eq!(completed["data"]["steps"].as_array().unwrap().len(), 4);
    assert!(files(&agent, 0).is_empty());
    assert_eq!(keys(&agent, 0), [None]);
    for name in ["catalog.db", "catalog.db-wal"] {
        let bytes = std::fs::read(agent.data().join(name)).unwrap_or_default();
        let held = bytes.windows(wrapped.len()).any(|part| part == wrapped.as_bytes());
        assert!(!held, "{name} holds the wrapped key");
    }

    // The call goes on, and nobody is recorded in it any more.
    let heard = talker.heard();
    wait_for(SOON, "the call goes on", || talker.heard() > heard + 20);
    assert!(files(&agent, 0).is_empty());
    let sealed = agent.wait_event("recording.sealed", SOON);
    assert_eq!(sealed["data"]["result"], "withdrawn");
    let streams = sealed["data"]["streams"].as_array().unwrap();
    assert!(streams[0]["party_ref"].is_null() && streams[0]["packets"] == 0, "{sealed}");
    assert!(streams[1]["party_ref"].is_string() && streams[1]["packets"] != 0, "{sealed}");
    talker.hang_up();
    agent.wait_event("call.ended", SOON);

    let events = agent.events();
    ledger::in_order(&events);
    ledger::balanced(&events);
    let of = |what: &str| events.iter().find(|event| kind(event) == what).unwrap();
    let (withdrawn, requested) = (of("permission.withdrawn"), of("erasure.requested"));
    assert_eq!(requested["causationid"], withdrawn["id"]);
    assert_eq!(completed["causationid"], requested["id"]);
    assert_eq!(completed["data"]["evidence"], withdrawn["data"]["evidence"]);
    assert_eq!(count(&events, "recording.erased"), 0, "half of it is there");
    assert!(events.iter().all(|e| kind(e) != "segment.sealed" || e["data"]["stream"] == 1));

    let id = only(&agent, "+49301")["id"].as_str().unwrap().to_owned();
    let show = &agent.json(&["show", &id])[0];
    assert_eq!(show["streams"][0]["erased"]["done"], "verified");
    assert_eq!(show["streams"][0]["erased"]["evidence"], withdrawn["data"]["evidence"]);
    assert!(show["streams"][1]["erased"].is_null());
    ledger::proven(&agent);
    let said = agent.command(&["verify", &id]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("erased on") && said.contains("whole"), "{said}");
    let [caller, other] = ledger::export(&agent, &id);
    assert!(caller.numbers.is_empty() && !caller.before && caller.foreign == 0, "{caller:?}");
    assert!(other.numbers.len() > 20, "{other:?}");
    let caller = agent.command(&["export", &id, "--party", "caller", "--reason", "test"]);
    assert_eq!(caller.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&caller.stderr).contains("erased on"));
    assert!(agent.command(&["evidence", &id, "--verify"]).status.success());
}

#[test]
fn a_recording_of_which_nothing_is_left_is_erased() {
    let agent = Agent::builder().start();
    let mut talker = Talker::call(agent.udp(), "+49302", "200").unwrap();
    talker.accept();
    wait_for(SOON, "it is written", || !files(&agent, 0).is_empty());
    take_back(&talker);
    let erased = agent.wait_event("recording.erased", SOON);
    assert_eq!(erased["data"]["streams"], serde_json::json!([0]));
    talker.hang_up();
    agent.wait_event("call.ended", SOON);
    assert!(files(&agent, 0).is_empty());
    let row = only(&agent, "+49302");
    assert_eq!(row["state"], "erased");
    assert!(row["expires"].is_null());
    ledger::proven(&agent);
    ledger::balanced(&agent.events());
    let export = agent.command(&["export", row["id"].as_str().unwrap(), "--reason", "test"]);
    assert_eq!(export.status.code(), Some(1));
}

#[test]
fn with_keep_everything_stays() {
    let callee = Answerer::start();
    let agent = Agent::builder().inline(callee.uri()).policy("on_withdrawal", "\"keep\"").start();
    let mut talker = recorded(&agent, &callee, "+49303");
    take_back(&talker);
    let sealed = agent.wait_event("recording.sealed", SOON);
    assert_eq!(sealed["data"]["result"], "withdrawn");
    talker.hang_up();
    agent.wait_event("call.ended", SOON);
    assert!([0, 1].iter().all(|n| files(&agent, *n).len() == 2));
    let events = agent.events();
    assert!(events.iter().all(|event| !kind(event).starts_with("erasure.")));
    ledger::proven(&agent);
    let [caller, other] = ledger::export(&agent, only(&agent, "+49303")["id"].as_str().unwrap());
    assert!(caller.numbers.len() > 20 && other.numbers.len() > 20);
}

#[test]
fn what_cannot_be_erased_now_is_said_and_erased_later() {
    let agent = Agent::builder().start();
    let mut talker = Talker::call(agent.udp(), "+49304", "200").unwrap();
    talker.accept();
    let file = wait_until(SOON, "it is written", || files(&agent, 0).pop());
    // Something in the way that cannot be unlinked, whoever runs this.
    let obstacle = file.with_file_name("0-9.seg");
    std::fs::create_dir_all(obstacle.join("within")).unwrap();
    take_back(&talker);
    let failed = agent.wait_event("erasure.failed", SOON);
    assert_eq!(failed["data"]["failed"], "files-removed");
    wait_for(SOON, "ready says so", || agent.get("/readyz").1.contains("erased"));
    assert_eq!(agent.get("/readyz").0, 200, "calls are still taken");
    assert_eq!(count(&agent.events(), "erasure.completed"), 0);
    std::fs::remove_dir_all(obstacle).unwrap();
    agent.wait_event("erasure.completed", SOON * 2);
    assert!(files(&agent, 0).is_empty());
    wait_for(SOON, "ready says so", || !agent.get("/readyz").1.contains("erased"));
    assert_eq!(count(&agent.events(), "erasure.failed"), 1);
    talker.hang_up();
}

#[test]
fn killed_at_any_system_call_it_is_erased_at_the_next_start() {
    // What an erasure does to the disk. Each thread counts its own calls: that which erases unlinks
    // two files, and nothing else uses that call; that which keeps the catalog writes and syncs at
    // each commit, and empties its log.
    let points = |round: usize| match round % 6 {
        0 => ("unlinkat", 1),
        1 => ("unlinkat", 2),
        2 => ("fsync", 10 + random(5)),
        3 => ("fsync", 15 + random(4)),
        4 => ("pwrite64", 180 + random(60)),
        _ => ("pwrite64", 240 + random(80)),
    };
    let callee = Answerer::start();
    let mut agent = Agent::builder().inline(callee.uri()).start();
    agent.stop();
    let (mut died, mut erased) = (0, 0);
    for round in 0..rounds(6, 300) {
        let (call, nth) = points(round);
        agent.set_wrapper([
            "strace",
            "-f",
            "-o",
            "/dev/null",
            "-e",
            &format!("trace={call}"),
            "-e",
            &format!("inject={call}:signal=KILL:when={nth}"),
        ]);
        let user = format!("+4970{round:06}");
        if agent.try_restart()
            && let Ok(mut talker) = Talker::call(agent.udp(), &user, "200")
        {
            wait_for(SOON, "the notice", || talker.heard() >= 14 || !agent.is_running());
            talker.press('1');
            let written = |agent: &Agent| files(agent, 0).iter().any(|it| it.ends_with("0-0.seg"));
            wait_for(SOON, "it is written", || {
                !agent.is_running() || talker.numbered() > 25 && written(&agent)
            });
            take_back(&talker);
            // Time enough to erase, and then to be killed by the call's end at the latest.
            for _ in 0..75 {
                if !agent.is_running() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            talker.hang_up();
            std::thread::sleep(Duration::from_millis(100));
        }
        died += usize::from(!agent.is_running());
        let lived = if agent.is_running() { "lived" } else { "died" };
        agent.kill();
        agent.set_wrapper::<&str>([]);
        agent.restart();
        let recordings = ledger::recordings_of(&agent, &user);
        let events = agent.events();
        ledger::in_order(&events);
        ledger::balanced(&events);
        ledger::proven(&agent);
        for recording in &recordings {
            let id = recording["id"].as_str().unwrap();
            let about = |what: &str| {
                let of = |e: &&Value| kind(e) == what && e["data"]["recording"] == id;
                events.iter().filter(of).count()
            };
            // Not stored, so it never was: the agent was killed before the key was heard.
            if about("permission.withdrawn") == 0 {
                continue;
            }
            erased += 1;
            assert_eq!((about("erasure.requested"), about("erasure.completed")), (1, 1), "{id}");
            let show = &agent.json(&["show", id])[0];
            assert_eq!(show["streams"][0]["erased"]["done"], "verified", "{show}");
            let segments = show["segments"].as_array().unwrap();
            assert!(segments.iter().all(|segment| segment["stream"] == 1), "{show}");
            let left = files(&agent, 0);
            assert!(!left.iter().any(|path| path.display().to_string().contains(id)), "{left:?}");
        }
        eprintln!("{call} {nth}: {lived}, {erased} erased so far");
        assert_eq!(keys(&agent, 0).iter().filter(|key| key.is_none()).count(), erased);
        callee.forget();
        agent.kill();
    }
    assert!(died * 2 >= rounds(6, 300), "it was killed {died} times only");
    assert!(erased * 3 >= rounds(6, 300), "only {erased} withdrawals were stored");
}

fn random(below: u16) -> u16 {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).unwrap();
    u16::from_le_bytes(bytes) % below
}
