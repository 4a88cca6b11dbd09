//! Promise: whatever happens to NATS, every event of the outbox is in `ASSENT_EVENTS` afterwards,
//! once for whoever drops ids that he has seen, in order for one call and one recording; and no
//! call waits for any of it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use assent::event::Subject;
use async_nats::jetstream;
use serde_json::Value;
use support::ledger::{self, kind};
use support::{Agent, Answerer, Nats, Talker, wait_for, wait_until};

const SOON: Duration = Duration::from_secs(20);
const STREAM: &str = "ASSENT_EVENTS";

/// A message as a downstream service gets it.
struct Message {
    subject: String,
    id: String,
    content_type: String,
    event: Value,
}

fn messages(nats: &Nats) -> Vec<Message> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = async_nats::connect(nats.url()).await.unwrap();
        let mut stream = jetstream::new(client).get_stream(STREAM).await.unwrap();
        let state = stream.info().await.unwrap().state.clone();
        let mut found = Vec::new();
        for sequence in state.first_sequence..=state.last_sequence {
            let message = stream.get_raw_message(sequence).await.unwrap();
            let header = |name: &str| message.headers.get(name).unwrap().to_string();
            found.push(Message {
                subject: message.subject.to_string(),
                id: header("Nats-Msg-Id"),
                content_type: header("Content-Type"),
                event: serde_json::from_slice(&message.payload).unwrap(),
            });
        }
        found
    })
}

fn delete_stream(nats: &Nats) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = async_nats::connect(nats.url()).await.unwrap();
        jetstream::new(client).delete_stream(STREAM).await.unwrap();
    });
}

struct Schemas(BTreeMap<String, jsonschema::Validator>);

impl Schemas {
    fn load() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/events");
        let read = |path: &Path| -> Value {
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
        };
        let registry = jsonschema::Registry::new()
            .add("file:///docs/events/envelope.json", read(&folder.join("envelope.json")))
            .unwrap()
            .prepare()
            .unwrap();
        let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let validators = files.filter(|path| !path.ends_with("envelope.json")).map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let validator = jsonschema::options()
                .with_base_uri(format!("file:///docs/events/{name}.json"))
                .with_registry(&registry)
                .build(&read(&path))
                .unwrap();
            (name, validator)
        });
        Self(validators.collect())
    }

    #[track_caller]
    fn check(&self, event: &Value) {
        let schema = &self.0[kind(event)];
        let wrong: Vec<String> =
            schema.iter_errors(event).map(|e| format!("{} {e}", e.instance_path())).collect();
        assert!(wrong.is_empty(), "{event}: {wrong:?}");
    }
}

/// The promise, once nothing waits any more. Says how many events there are.
#[track_caller]
fn check(agent: &Agent, nats: &Nats) -> usize {
    wait_for(Duration::from_secs(60), "nothing waits in the outbox", || {
        agent.json(&["events", "--unsent"]).is_empty()
    });
    let outbox = agent.events();
    ledger::in_order(&outbox);
    let schemas = Schemas::load();
    let mut seen = HashSet::new();
    let mut arrived: Vec<Value> = Vec::new();
    for message in messages(nats) {
        assert_eq!(message.id, message.event["id"].as_str().unwrap());
        assert_eq!(message.content_type, "application/cloudevents+json");
        let subject = Subject::parse(&message.subject).expect("a subject of the catalogue");
        let about = message.event["subject"].as_str().unwrap();
        assert!(subject.as_str().ends_with(about), "{subject} is not about {about}");
        schemas.check(&message.event);
        if seen.insert(message.id) {
            arrived.push(message.event);
        }
    }
    assert_eq!(arrived.len(), outbox.len(), "every event, and no other");
    let by_call = |events: &[Value]| {
        let mut calls: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for event in events {
            let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            calls.entry(text("correlationid")).or_default().push(text("id"));
        }
        calls
    };
    let (sent, got) = (by_call(&outbox), by_call(&arrived));
    for (call, events) in &sent {
        if !call.is_empty() {
            assert_eq!(got.get(call), Some(events), "the order of call {call}");
        }
    }
    outbox.len()
}

/// A whole recorded call; `meanwhile` happens in its middle.
fn call(agent: &Agent, callee: &Answerer, user: &str, meanwhile: impl FnOnce()) {
    let mut talker = Talker::call(agent.udp(), user, "200").unwrap();
    talker.accept();
    wait_for(SOON, "the callee is talked to", || callee.numbered("200") > 5);
    meanwhile();
    let sent = talker.numbered();
    wait_for(SOON, "the call goes on", || talker.numbered() > sent + 10);
    assert!(!talker.was_ended());
    talker.hang_up();
    wait_until(SOON, "it is sealed", || {
        let row = ledger::recordings_of(agent, user).pop()?;
        (row["state"] == "sealed").then_some(row)
    });
    callee.forget();
}

#[test]
fn away_crashed_and_without_its_store() {
    let callee = Answerer::start();
    let mut nats = Nats::start();
    nats.kill();
    let agent = Agent::builder().inline(callee.uri()).nats(&nats.url()).start();
    call(&agent, &callee, "+49301", || {});
    let (status, body) = agent.get("/readyz");
    assert_eq!(status, 200, "calls are taken without NATS: {body}");
    assert!(body.contains("nats") && body.contains("outbox"), "{body}");
    assert_eq!(agent.metric("assent_nats_connected"), Some(0.0));
    let waiting = agent.json(&["events", "--unsent"]).len();
    assert!(waiting > 8, "{waiting}");
    wait_for(SOON, "status says so", || agent.json(&["status"])[0]["outbox"].as_u64() > Some(8));

    nats.restart();
    let first = check(&agent, &nats);
    wait_for(SOON, "ready says so", || agent.metric("assent_nats_connected") == Some(1.0));
    wait_for(SOON, "nothing waits", || agent.metric("assent_outbox_events") == Some(0.0));

    call(&agent, &callee, "+49302", || nats.kill());
    call(&agent, &callee, "+49303", || nats.restart());
    let second = check(&agent, &nats);
    assert!(second > first);

    // The disk of the server is lost, with all that it had acknowledged.
    call(&agent, &callee, "+49304", || nats.lose_store());
    nats.restart();
    let third = check(&agent, &nats);
    assert!(third > second);

    // Somebody deletes the JetStream stream under a live connection.
    delete_stream(&nats);
    call(&agent, &callee, "+49305", || {});
    assert!(check(&agent, &nats) > third);
}

#[test]
fn a_server_that_hangs_holds_up_no_call() {
    let callee = Answerer::start();
    let nats = Nats::start();
    let mut agent = Agent::builder().inline(callee.uri()).nats(&nats.url()).start();
    call(&agent, &callee, "+49301", || {});
    check(&agent, &nats);
    nats.freeze();
    for user in ["+49302", "+49303", "+49304"] {
        call(&agent, &callee, user, || {});
    }
    assert!(agent.json(&["events", "--unsent"]).len() > 20);
    nats.wake();
    check(&agent, &nats);
    // Nor does a stop wait for it.
    nats.freeze();
    assert!(agent.stop().success());
    nats.wake();
    agent.restart();
    check(&agent, &nats);
}

#[test]
fn a_damaged_event_keeps_no_other_from_arriving() {
    let callee = Answerer::start();
    let mut nats = Nats::start();
    nats.kill();
    let mut agent = Agent::builder().inline(callee.uri()).nats(&nats.url()).start();
    call(&agent, &callee, "+49301", || {});
    agent.stop();
    let outbox = agent.events().len();
    let db = rusqlite::Connection::open(agent.data().join("catalog.db")).unwrap();
    db.execute("UPDATE outbox SET subject = 'assent.v1..x' WHERE sequence = 3", []).unwrap();
    drop(db);
    nats.restart();
    agent.restart();
    wait_for(SOON, "nothing waits in the outbox", || {
        agent.json(&["events", "--unsent"]).is_empty()
    });
    wait_for(SOON, "all but one arrive", || messages(&nats).len() >= outbox);
    assert!(agent.log().contains("is set aside"));
    // The agent that restarted has said that it is ready; one of them all cannot be published.
    assert_eq!(messages(&nats).len(), agent.events().len() - 1);
}
