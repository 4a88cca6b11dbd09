//! Whether the books are in order after whatever happened to an agent: events, evidence,
//! recordings, segments.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::Agent;
use super::audio::Audio;
use super::peer::{Found, find};

/// The word of an event: `recording.sealed`.
pub fn kind(event: &Value) -> &str {
    let kind = event["type"].as_str().expect("a type");
    kind.strip_prefix("io.assent.").and_then(|k| k.strip_suffix(".v1")).expect(kind)
}

/// What holds of every outbox, also in the middle of things: ids are never used twice, and each
/// entity's events are numbered without a hole.
#[track_caller]
pub fn in_order(events: &[Value]) {
    let mut ids = HashSet::new();
    let mut sequences: BTreeMap<&str, u64> = BTreeMap::new();
    for event in events {
        let id = event["id"].as_str().expect("an id");
        assert!(ids.insert(id), "{id} is there twice");
        let subject = event["subject"].as_str().expect("a subject");
        let sequence: u64 = match &event["sequence"] {
            Value::String(text) => text.parse().expect("a number"),
            number => number.as_u64().expect("a number"),
        };
        let last = sequences.entry(subject).or_default();
        assert_eq!(sequence, *last + 1, "a hole in the events of {subject}: {event}");
        *last = sequence;
    }
}

/// What holds when no call is in progress: whatever began has ended, once.
#[track_caller]
pub fn balanced(events: &[Value]) {
    let count = |what: &str, entity: &Value| {
        events.iter().filter(|e| kind(e) == what && &e["subject"] == entity).count()
    };
    for event in events {
        let entity = &event["subject"];
        match kind(event) {
            "call.started" => {
                assert_eq!(count("call.ended", entity), 1, "the end of call {entity}");
            }
            "recording.started" => {
                let ends = count("recording.sealed", entity) + count("recording.failed", entity);
                assert_eq!(ends, 1, "the end of recording {entity}");
            }
            _ => {}
        }
    }
}

/// `assent verify --all` finds nothing wrong, and no recording is left in the middle.
#[track_caller]
pub fn proven(agent: &Agent) {
    let output = agent.command(&["verify", "--all"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "verify: {}\n{said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The recordings of a call from this user.
pub fn recordings_of(agent: &Agent, user: &str) -> Vec<Value> {
    agent.json(&["list", "--party", user])
}

/// What an export of a recording holds: caller, callee. Reads what there is of one that was cut
/// off.
#[track_caller]
pub fn export(agent: &Agent, id: &str) -> [Found; 2] {
    let out = agent.folder().join(format!("export-{}.wav", random()));
    let path = out.display().to_string();
    let output = agent.command(&["export", id, "--reason", "test", "--out", &path]);
    assert!(
        matches!(output.status.code(), Some(0 | 2)),
        "export: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let audio = Audio::read(&out);
    assert_eq!(audio.rate, 8_000);
    [find(&audio.channels[0]), find(&audio.channels[1])]
}

fn random() -> String {
    let mut bits = [0; 8];
    getrandom::fill(&mut bits).expect("the system has randomness");
    hex::encode(bits)
}
