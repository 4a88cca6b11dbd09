//! Promise: whoever may give commands pauses, resumes and withdraws from outside the call, by the
//! control socket or over NATS. Each command is carried out once, by the agent that has the call,
//! answered truthfully, and written down, refused or not.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use async_nats::{Client, Subscriber};
use futures_util::StreamExt;
use serde_json::{Value, json};
use support::ledger::{self, kind};
use support::{Agent, Nats, Talker, wait_for, wait_until};
use tokio::runtime::Runtime;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(20);

/// A caller who has agreed, and is recorded.
fn recorded(agent: &Agent, user: &str) -> (Talker, String, String) {
    let talker = Talker::call(agent.udp(), user, "100").unwrap();
    talker.accept();
    let row = wait_until(SOON, "the call is recorded", || {
        let row = ledger::recordings_of(agent, user).pop()?;
        (row["state"] == "capturing").then_some(row)
    });
    let text = |name: &str| row[name].as_str().unwrap().to_owned();
    (talker, text("call"), text("id"))
}

/// What a command printed on stdout, and its exit code.
fn run(agent: &Agent, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let output = agent.command(&[arguments, &["--json"]].concat());
    let value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), value, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn events(agent: &Agent, what: &str) -> Vec<Value> {
    agent.events().into_iter().filter(|event| kind(event) == what).collect()
}

fn written(agent: &Agent) -> f64 {
    agent.metric("assent_rtp_packets_total{what=\"recorded\"}").unwrap()
}

/// Lets the caller say a few packets more.
fn talks_on(talker: &Talker) {
    let said = talker.numbered();
    wait_for(SOON, "the caller goes on", || talker.numbered() > said + 15);
}

/// What is written down of the commands: verb, way, outcome, code.
fn audit(agent: &Agent) -> Vec<[String; 4]> {
    let db = rusqlite::Connection::open(agent.data().join("catalog.db")).unwrap();
    let mut rows = db
        .prepare("SELECT verb, way, outcome, coalesce(code, '-') FROM command ORDER BY sequence")
        .unwrap();
    let rows =
        rows.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?])).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn wait_audit(agent: &Agent, wanted: &[&str; 4]) {
    wait_for(SOON, &format!("{wanted:?} is written down"), || {
        audit(agent).iter().any(|row| row == wanted)
    });
}

#[test]
fn an_administrator_pauses_resumes_and_withdraws() {
    let mut agent = Agent::builder().policy("accept_again", "true").start();
    let (mut talker, call, first) = recorded(&agent, "+49301");

    let listed = agent.json(&["status", "--calls"]).pop().unwrap();
    assert_eq!(
        (listed["call"].as_str(), listed["state"].as_str()),
        (Some(&*call), Some("recording"))
    );
    assert_eq!(listed["recording"], json!(first));
    assert!(listed["since"].is_string() && !listed.to_string().contains("49301"), "{listed}");

    let (code, done, _) = run(&agent, &["pause", "last", "--reason", "card number 4930123456"]);
    let paused = json!({
        "ok": true, "call": call, "recording": first, "state": "paused", "changed": true
    });
    assert_eq!((code, &done), (Some(0), &paused));
    // Nothing is written that was said after the answer came.
    talks_on(&talker);
    let before = written(&agent);
    talks_on(&talker);
    assert_eq!(written(&agent), before, "nothing is written during a pause");
    assert_eq!(agent.json(&["status", "--calls"])[0]["state"], "paused");
    let (code, done, _) = run(&agent, &["pause", &call]);
    assert_eq!(
        (code, &done["changed"], &done["state"]),
        (Some(0), &json!(false), &json!("paused"))
    );
    wait_until(SOON, "the event", || events(&agent, "recording.paused").pop());

    let (code, done, _) = run(&agent, &["resume", &first]);
    assert_eq!((code, &done["state"]), (Some(0), &json!("recording")));
    wait_for(SOON, "it goes on", || written(&agent) > before + 5.0);
    let (code, done, _) = run(&agent, &["resume", &first]);
    assert_eq!((code, &done["changed"]), (Some(0), &json!(false)));

    let (code, refused, said) = run(&agent, &["withdraw", &call, "--party", "callee"]);
    assert_eq!((code, &refused["code"]), (Some(1), &json!("no-such-party")));
    assert!(said.contains("no callee"), "{said}");
    let (code, done, _) = run(&agent, &["withdraw", &call, "--party", "caller"]);
    assert_eq!((code, &done["recording"]), (Some(0), &json!(first)), "{done}");
    assert_eq!((&done["party"], &done["state"]), (&json!("caller"), &json!("unrecorded")));
    // The answer comes when the evidence is on the disk.
    let withdrawn = events(&agent, "permission.withdrawn").pop().unwrap();
    assert_eq!(withdrawn["data"]["method"], "command", "{withdrawn}");
    let (code, refused, _) = run(&agent, &["pause", &call]);
    assert_eq!((code, &refused["code"]), (Some(1), &json!("not-recorded")));
    let (code, done, _) = run(&agent, &["withdraw", &call, "--party", "caller"]);
    assert_eq!((code, &done["changed"]), (Some(0), &json!(false)));

    // Permission is given again: another recording, found by the name of the first one too.
    talker.press('1');
    wait_until(SOON, "it is recorded again", || {
        let calls = agent.json(&["status", "--calls"]);
        (calls[0]["state"] == "recording").then_some(())
    });
    let (code, done, _) = run(&agent, &["pause", &first]);
    assert_eq!((code, &done["call"], &done["state"]), (Some(0), &json!(call), &json!("paused")));
    assert_ne!(done["recording"], json!(first));

    talker.hang_up();
    wait_for(SOON, "the call is over", || agent.json(&["status", "--calls"]).is_empty());
    let (code, refused, said) = run(&agent, &["resume", &call]);
    assert_eq!((code, &refused["code"]), (Some(1), &json!("not-found")));
    assert!(said.contains("status --calls"), "{said}");
    assert_eq!(run(&agent, &["resume", "last"]).0, Some(1));
    assert_eq!(run(&agent, &["pause", "yesterday"]).0, Some(64));
    assert_eq!(run(&agent, &["withdraw", &call]).0, Some(64));

    let by = |what: &str| -> Vec<Value> {
        events(&agent, what).into_iter().map(|event| event["data"]["by"].clone()).collect()
    };
    assert_eq!(by("recording.paused"), ["command", "command"]);
    assert_eq!(by("recording.resumed"), ["command"]);
    wait_audit(&agent, &["resume", "socket", "refused", "not-found"]);
    let done: Vec<String> = audit(&agent).iter().map(|row| row[1..].join(" ")).collect();
    assert_eq!(
        done,
        [
            "socket done -",
            "socket unchanged -",
            "socket done -",
            "socket unchanged -",
            "socket refused no-such-party",
            "socket done -",
            "socket refused not-recorded",
            "socket unchanged -",
            "socket done -",
            "socket refused not-found",
        ]
    );
    let reasons = std::fs::read(agent.data().join("catalog.db")).unwrap();
    let log = std::fs::read(agent.data().join("catalog.db-wal")).unwrap_or_default();
    for text in [&reasons[..], &log, agent.log().as_bytes()] {
        assert!(!text.windows(10).any(|part| part == b"4930123456"), "a number is kept");
    }
    assert!(agent.stop().success());
    assert_eq!(run(&agent, &["pause", &call]).0, Some(69));
    ledger::proven(&agent);
}

#[test]
fn a_withdrawal_that_is_not_on_the_disk_is_not_said_to_be_done() {
    let agent = Agent::builder().start();
    let (talker, call, _) = recorded(&agent, "+49301");
    let db = rusqlite::Connection::open(agent.data().join("catalog.db")).unwrap();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (code, refused, said) = run(&agent, &["withdraw", &call, "--party", "caller"]);
    assert_eq!((code, &refused["code"]), (Some(1), &json!("not-stored")));
    assert!(said.contains("nothing more of the party is written"), "{said}");
    assert_eq!(agent.json(&["status", "--calls"])[0]["state"], "unrecorded");
    let before = written(&agent);
    talks_on(&talker);
    assert_eq!(written(&agent), before, "which is true");
    db.execute_batch("ROLLBACK").unwrap();
    wait_audit(&agent, &["withdraw", "socket", "refused", "not-stored"]);
    wait_until(SOON, "it is stored once it can be", || {
        events(&agent, "permission.withdrawn").pop()
    });
}

/// Who gives commands over NATS.
struct Desk {
    runtime: Runtime,
    client: Client,
}

impl Desk {
    fn at(nats: &Nats) -> Self {
        let runtime = Runtime::new().unwrap();
        let client = runtime.block_on(async_nats::connect(nats.url())).unwrap();
        Self { runtime, client }
    }

    /// Sends a command; whoever answers is heard at the subscription.
    fn send(&self, verb: &str, body: &Value) -> Subscriber {
        let inbox = self.client.new_inbox();
        self.runtime.block_on(async {
            let answers = self.client.subscribe(inbox.clone()).await.unwrap();
            let subject = format!("assent.v1.default.cmd.{verb}");
            let body = body.to_string().into();
            self.client.publish_with_reply(subject, inbox, body).await.unwrap();
            self.client.flush().await.unwrap();
            answers
        })
    }

    fn answer(&self, answers: &mut Subscriber) -> Value {
        self.runtime.block_on(async {
            let answer = tokio::time::timeout(SOON, answers.next()).await.expect("an answer");
            serde_json::from_slice(&answer.unwrap().payload).unwrap()
        })
    }

    /// Whether another answer has come by now.
    fn has_more(&self, answers: &mut Subscriber) -> bool {
        self.runtime.block_on(async {
            // What was sent before this round trip is here after it.
            self.client.flush().await.unwrap();
            tokio::time::timeout(Duration::from_millis(50), answers.next()).await.is_ok()
        })
    }

    /// The number of the last command that the server has stored.
    fn last_kept(&self) -> u64 {
        self.runtime.block_on(async {
            let jetstream = async_nats::jetstream::new(self.client.clone());
            let mut stream = jetstream.get_stream("ASSENT_COMMANDS").await.unwrap();
            stream.info().await.unwrap().state.last_sequence
        })
    }

    fn ask(&self, verb: &str, body: &Value) -> Value {
        let mut answers = self.send(verb, body);
        self.answer(&mut answers)
    }
}

/// Waits until an agent listens for commands.
fn listens(agent: &Agent, desk: &Desk) {
    wait_for(SOON, "the agent listens for commands", || {
        let body = json!({ "id": Uuid::now_v7(), "call": Uuid::now_v7() });
        drop(desk.send("pause", &body));
        audit(agent).iter().any(|row| row[3] == "not-found")
    });
}

#[test]
fn of_a_fleet_the_agent_that_has_the_call_answers_alone() {
    let nats = Nats::start();
    let fleet = || Agent::builder().nats(&nats.url());
    let (agent, other) = (fleet().top("node = \"a\"").start(), fleet().top("node = \"b\"").start());
    let desk = Desk::at(&nats);
    listens(&agent, &desk);
    listens(&other, &desk);
    let (mut talker, call, recording) = recorded(&agent, "+49301");
    let body = |more: Value| {
        let mut body = json!({ "id": Uuid::now_v7(), "actor": "desk" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };

    let pause = body(json!({ "call": call }));
    let heard_by_other = audit(&other).len();
    let mut answers = desk.send("pause", &pause);
    let paused = desk.answer(&mut answers);
    assert_eq!(
        paused,
        json!({
            "ok": true, "call": call, "recording": recording, "state": "paused", "changed": true
        })
    );
    wait_for(SOON, "the other agent has heard it too", || audit(&other).len() > heard_by_other);
    assert!(!desk.has_more(&mut answers), "one answer");
    talks_on(&talker);
    let before = written(&agent);
    talks_on(&talker);
    assert_eq!(written(&agent), before);
    assert_eq!(desk.ask("pause", &pause), paused, "the same command has the same answer");
    let again = desk.ask("pause", &body(json!({ "recording": recording })));
    assert_eq!((&again["ok"], &again["changed"]), (&json!(true), &json!(false)));

    let resumed = desk.ask("resume", &body(json!({ "recording": recording })));
    assert_eq!((&resumed["state"], &resumed["changed"]), (&json!("recording"), &json!(true)));
    assert_eq!(desk.ask("pause", &pause), paused, "an old command pauses nothing anew");
    wait_for(SOON, "it goes on", || written(&agent) > before + 5.0);

    // What is wrong in itself, one of them says, and writes down.
    let old = "2026-01-01T00:00:00Z";
    for (verb, wrong, code) in [
        ("pause", json!({ "call": call, "issued": old }), "expired"),
        ("pause", json!({ "call": "last" }), "malformed"),
        ("erase", json!({ "recording": recording }), "unsupported"),
    ] {
        let mut answers = desk.send(verb, &body(wrong));
        let refused = desk.answer(&mut answers);
        assert_eq!((&refused["ok"], &refused["code"]), (&json!(false), &json!(code)));
        assert!(refused["message"].is_string());
        let both = || [audit(&agent), audit(&other)].concat();
        wait_for(SOON, "it is written down", || both().iter().any(|row| row[3] == code));
        assert!(!desk.has_more(&mut answers), "one answer to {verb}");
        assert_eq!(both().iter().filter(|row| row[3] == code).count(), 1);
    }

    // Of a call that nobody has, nobody speaks.
    let heard = (audit(&agent).len(), audit(&other).len());
    let mut answers = desk.send("pause", &body(json!({ "call": Uuid::now_v7() })));
    wait_for(SOON, "both have heard it", || {
        audit(&agent).len() > heard.0 && audit(&other).len() > heard.1
    });
    assert!(!desk.has_more(&mut answers), "silence");

    let withdraw = body(json!({ "recording": recording, "party": "caller", "reason": "letter" }));
    let done = desk.ask("withdraw", &withdraw);
    assert_eq!((&done["ok"], &done["state"]), (&json!(true), &json!("unrecorded")));
    let withdrawn = events(&agent, "permission.withdrawn");
    assert_eq!(withdrawn.len(), 1, "durable when it is answered");
    assert_eq!(withdrawn[0]["data"]["method"], "command");
    assert_eq!(desk.ask("withdraw", &withdraw), done);
    let refused = desk.ask("resume", &body(json!({ "call": call })));
    assert_eq!(refused["code"], "not-recorded");
    talker.hang_up();

    let by = |what: &str| -> Vec<Value> {
        events(&agent, what).into_iter().map(|event| event["data"]["by"].clone()).collect()
    };
    assert_eq!(
        (by("recording.paused"), by("recording.resumed")),
        (vec![json!("command")], vec![json!("command")])
    );
    assert!(audit(&other).iter().all(|row| row[2] == "refused"), "{:?}", audit(&other));
}

#[test]
fn a_command_that_was_kept_is_carried_out_once() {
    let mut nats = Nats::start();
    let agent = Agent::builder().nats(&nats.url()).start();
    listens(&agent, &Desk::at(&nats));
    let (mut talker, call, _) = recorded(&agent, "+49301");
    nats.kill();
    nats.restart();
    // Before the agent is back, or after: it hears of it either way.
    let pause = json!({ "id": Uuid::now_v7(), "call": call });
    let desk = Desk::at(&nats);
    let last = desk.last_kept();
    drop(desk.send("pause", &pause));
    wait_for(SOON, "the server has stored it", || desk.last_kept() > last);
    nats.kill();
    nats.restart();
    wait_audit(&agent, &["pause", "nats", "done", "-"]);
    let resume = json!({ "id": Uuid::now_v7(), "call": call });
    let desk = Desk::at(&nats);
    drop(desk.send("resume", &resume));
    wait_audit(&agent, &["resume", "nats", "done", "-"]);
    nats.kill();
    nats.restart();
    let desk = Desk::at(&nats);
    listens_again(&agent, &desk);
    assert_eq!(desk.ask("pause", &pause)["changed"], true, "it is answered as it was");
    talker.hang_up();
    wait_for(SOON, "it is sealed", || {
        ledger::recordings_of(&agent, "+49301")[0]["state"] == "sealed"
    });
    for what in ["recording.paused", "recording.resumed"] {
        assert_eq!(events(&agent, what).len(), 1, "{what}");
    }
    let id = ledger::recordings_of(&agent, "+49301")[0]["id"].as_str().unwrap().to_owned();
    let shown = agent.json(&["show", &id]).pop().unwrap();
    let gaps = shown["gaps"].as_array().unwrap();
    assert!(gaps.iter().any(|gap| gap["reason"] == "paused"), "{shown}");
    ledger::proven(&agent);
}

/// Waits until an agent listens after it was away.
fn listens_again(agent: &Agent, desk: &Desk) {
    let heard = audit(agent).len();
    wait_for(SOON, "the agent listens again", || {
        let body = json!({ "id": Uuid::now_v7(), "call": Uuid::now_v7() });
        drop(desk.send("pause", &body));
        audit(agent).len() > heard
    });
}
