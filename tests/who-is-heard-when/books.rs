//! What an agent wrote of one call: its events, and the packets in its segments.

use std::fs::File;

use assent::catalog::Reader;
use assent::ids::{Leg, RecordingId, StreamId};
use assent::keys::{FileKeyStore, KeyStore};
use assent::segment::SegmentReader;
use assent::segment::format::SegmentName;
use serde_json::Value;

use crate::support::Agent;
use crate::support::audio::Audio;
use crate::support::ledger::kind;

/// Everything that an agent wrote.
pub struct Books<'a> {
    agent: &'a Agent,
    events: Vec<Value>,
}

/// What it wrote of one call.
pub struct Account {
    pub events: Vec<Value>,
    /// In the order in which they began.
    pub recordings: Vec<Recording>,
}

/// One recording of a call.
pub struct Recording {
    pub id: String,
    /// When its export begins, in microseconds since 1970.
    pub started: i64,
    /// The caller's packets and the callee's.
    pub written: [Vec<Written>; 2],
    /// Where its voices may be from and to, as the events say.
    pub permitted: [Vec<(i64, i64)>; 2],
    pub export: Audio,
}

/// A packet in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    pub sequence: u16,
    /// In microseconds since 1970; whole milliseconds since the segment's start.
    pub arrival: i64,
}

impl<'a> Books<'a> {
    /// Reads the events, once nothing more will come.
    pub fn of(agent: &'a Agent) -> Self {
        Self { agent, events: agent.events() }
    }

    /// The call under this policy, of which there is one.
    #[track_caller]
    pub fn account(&self, policy: &str) -> Account {
        let named = |e: &&Value| kind(e) == "call.started" && e["data"]["policy"] == policy;
        let calls: Vec<_> = self.events.iter().filter(named).collect();
        assert_eq!(calls.len(), 1, "one call under {policy}");
        let id = calls[0]["subject"].as_str().expect("an id").to_owned();
        self.account_of(&id)
    }

    /// The caller's packets in a recording, the first of them first.
    pub fn of_caller(&self, recording: &str) -> Vec<Written> {
        self.written(recording.parse().expect("an id"), Leg::Caller)
    }

    fn account_of(&self, call: &str) -> Account {
        let of_call = |e: &&Value| e["correlationid"] == call || e["subject"] == call;
        let events: Vec<Value> = self.events.iter().filter(of_call).cloned().collect();
        let mut ids: Vec<&str> = Vec::new();
        // One that failed has no packets.
        for event in events.iter().filter(|e| kind(e) == "recording.sealed") {
            ids.push(event["data"]["recording"].as_str().expect("an id"));
        }
        let mut recordings: Vec<_> = ids.iter().map(|id| self.recording(id, &events)).collect();
        recordings.sort_by_key(|recording| recording.started);
        Account { events, recordings }
    }

    fn recording(&self, id: &str, events: &[Value]) -> Recording {
        let recording: RecordingId = id.parse().expect("an id");
        let sealed = |e: &&Value| kind(e) == "recording.sealed" && e["data"]["recording"] == id;
        let sealed = events.iter().find(sealed).unwrap_or_else(|| panic!("{id} is not sealed"));
        let out = self.agent.folder().join(format!("{id}.wav")).display().to_string();
        self.agent.json(&["export", id, "--reason", "test", "--out", &out]);
        Recording {
            id: id.to_owned(),
            started: micros(&sealed["data"]["started"]),
            written: Leg::BOTH.map(|leg| self.written(recording, leg)),
            permitted: Leg::BOTH.map(|leg| permitted(events, id, leg)),
            export: Audio::read(out.as_ref()),
        }
    }

    /// The packets of a voice, read back from the disk.
    fn written(&self, recording: RecordingId, leg: Leg) -> Vec<Written> {
        let data = self.agent.data();
        let reader = Reader::open(&data).expect("a catalog");
        let keys = FileKeyStore::open(&data.join("keys")).expect("keys");
        let detail = reader.recording(recording).expect("a catalog").expect("a recording");
        let index = leg.stream();
        let Some(row) = detail.streams.iter().find(|row| row.stream == index) else {
            return Vec::new();
        };
        let stream = StreamId { recording, index };
        let wrapped = reader.wrapped_key(stream).expect("a catalog").expect("a key");
        let key = keys.unwrap(&wrapped).expect("the key");
        let mut written = Vec::new();
        for segment in detail.segments.iter().filter(|segment| segment.stream == index) {
            let name = SegmentName { stream, segment: segment.index };
            let file = File::open(data.join("recordings").join(name.path())).expect("a segment");
            let associated = name.associated_data(row.evidence_digest);
            let mut segment = SegmentReader::open(file, &key, &associated).expect("it opens");
            let start = segment.preamble().start;
            while let Some(record) = segment.next_record().expect("whole records") {
                let sequence = u16::from_be_bytes([record.rtp[2], record.rtp[3]]);
                let arrival = start.plus(record.offset).as_micros();
                written.push(Written { sequence, arrival });
            }
        }
        written
    }
}

impl Account {
    /// The words of its events, in order.
    pub fn story(&self) -> Vec<&str> {
        self.events.iter().map(kind).collect()
    }

    /// Whether the party on this leg was ever on the line.
    pub fn joined(&self, leg: Leg) -> bool {
        let joined = |e: &&Value| kind(e) == "party.joined";
        self.events.iter().filter(joined).any(|e| e["data"]["role"] == leg.as_str())
    }

    /// Whether a party hung up.
    pub fn was_hung_up(&self) -> bool {
        self.events.iter().any(|e| kind(e) == "call.ended" && e["data"]["cause"] == "hung-up")
    }

    /// The decisions about a party, in order: the last word of each event, its recording and time.
    pub fn decisions(&self, leg: Leg) -> Vec<(&str, i64)> {
        decisions(&self.events)
            .filter(|e| e["data"]["role"] == leg.as_str())
            .map(|e| (kind(e).trim_start_matches("permission."), micros(&e["time"])))
            .collect()
    }
}

fn decisions(events: &[Value]) -> impl Iterator<Item = &Value> {
    events.iter().filter(|e| kind(e).starts_with("permission."))
}

/// From when to when a voice may be in a recording: from the party's grant to whoever's "no" ends
/// it, to a pause, or to the end of the call.
fn permitted(events: &[Value], recording: &str, leg: Leg) -> Vec<(i64, i64)> {
    let about = |e: &&Value| e["data"]["recording"] == recording;
    let granted = |e: &&Value| about(e) && kind(e) == "permission.granted";
    let own = |e: &&Value| granted(e) && e["data"]["role"] == leg.as_str();
    let Some(grant) = events.iter().find(own) else { return Vec::new() };
    let end = events.iter().find(|e| kind(e) == "call.ended").expect("the call has ended");
    let end = micros(&end["time"]);
    // Under `all` anybody's "no" is everybody's; what ends this recording names it.
    let all = !events.iter().any(|e| kind(e) == "call.started" && is_per_party(e));
    let no = |e: &&Value| {
        kind(e).starts_with("permission.")
            && kind(e) != "permission.granted"
            && about(e)
            && (all || e["data"]["role"] == leg.as_str())
    };
    let end = events.iter().find(no).map_or(end, |e| micros(&e["time"]));
    let from = match all {
        true => events.iter().filter(granted).map(|e| micros(&e["time"])).max(),
        false => Some(micros(&grant["time"])),
    };
    let mut spans = Vec::new();
    let mut open = from;
    for event in events.iter().filter(about) {
        match (kind(event), open) {
            ("recording.paused", Some(from)) => {
                spans.push((from, micros(&event["data"]["at"])));
                open = None;
            }
            ("recording.resumed", None) => open = Some(micros(&event["data"]["at"])),
            _ => {}
        }
    }
    spans.extend(open.map(|from| (from, end)));
    spans.into_iter().map(|(from, to)| (from, to.min(end))).filter(|(from, to)| from < to).collect()
}

/// Test policies of this scope say so in their names.
fn is_per_party(started: &Value) -> bool {
    started["data"]["policy"].as_str().is_some_and(|name| name.contains("per-party"))
}

pub fn micros(time: &Value) -> i64 {
    let text = time.as_str().expect("a time");
    text.parse::<jiff::Timestamp>().expect("RFC 3339").as_microsecond()
}
