//! Every event that the program can make validates against the schema in `docs/events/`, and the
//! schemas name neither more nor less than the program writes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use assent::call::media::PlaybackId;
use assent::consent::chain_head::SignedHead;
use assent::consent::evidence::Head;
use assent::consent::policy::{Basis, Gate};
use assent::consent::{
    Answer, DecisionFacts, KeyVia, MediaTransport, NoticePlayed, Outcome, Stated, TokenStated,
};
use assent::event::*;
use assent::ids::{
    CallId, Digest, EventId, EvidenceId, Leg, PartyRef, RecordingId, StreamId, StreamIndex,
};
use assent::keys::SigningKey;
use assent::time::Timestamp;
use serde_json::Value;
use uuid::Uuid;

const CALL: CallId = CallId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));
const RECORDING: RecordingId =
    RecordingId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0002));
const PARTY: PartyRef = PartyRef([7; 32]);
const AT: Timestamp = Timestamp::from_micros(1_795_298_400_000_000);

fn origin() -> Origin {
    Origin { tenant: "default".parse().unwrap(), node: "node-1".parse().unwrap() }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/events")
}

fn schema(name: &str) -> Value {
    let path = folder().join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{path:?}: {why}"));
    serde_json::from_str(&text).unwrap()
}

fn call_events() -> Vec<Draft> {
    let started = CallStarted {
        call: CALL,
        mode: CallMode::Inline,
        direction: CallDirection::Inbound,
        legs: Leg::BOTH.map(|role| CallParty { role, party_ref: PARTY }).to_vec(),
        route: 1,
        policy: "default".into(),
        policy_digest: Digest::of(b"policy"),
    };
    let mut drafts = Vec::new();
    for mode in [CallMode::Inline, CallMode::Endpoint, CallMode::Siprec] {
        drafts.push(Draft::new(CallStarted { mode, ..started.clone() }));
    }
    for direction in [CallDirection::Outbound, CallDirection::Unknown] {
        drafts.push(Draft::new(CallStarted { direction, ..started.clone() }));
    }
    for cause in [
        EndCause::HungUp,
        EndCause::Cancelled,
        EndCause::Busy,
        EndCause::NoAnswer,
        EndCause::Rejected,
        EndCause::Unreachable,
        EndCause::Refused,
        EndCause::Unavailable,
        EndCause::Dead,
        EndCause::Expired,
        EndCause::Drained,
        EndCause::Crashed,
        EndCause::Failed,
    ] {
        for (by, status) in [(Some(Leg::Caller), Some(486)), (None, None)] {
            drafts.push(Draft::new(CallEnded { call: CALL, duration_ms: 1, cause, by, status }));
        }
    }
    let (call, role, party_ref) = (CALL, Leg::Callee, PARTY);
    for reason in [JoinReason::Called, JoinReason::Answered, JoinReason::Transferred] {
        drafts.push(Draft::new(PartyJoined { call, role, party_ref, reason }));
    }
    for reason in
        [LeaveReason::HungUp, LeaveReason::Released, LeaveReason::Transferred, LeaveReason::Lost]
    {
        drafts.push(Draft::new(PartyLeft { call, role, party_ref, reason }));
    }
    drafts
}

fn played(completed: bool, reason: Option<CutReason>) -> Draft {
    let played = NoticePlayed {
        prompt: "notice-opt-in".into(),
        locale: "en-US".into(),
        sha256: Digest::of(b"wav"),
        played_ms: 3_200,
        total_ms: 6_100,
        packets: 160,
        received: 9,
        started: AT,
        ended: AT,
        held: false,
        loss_percent: Some(3),
        completed,
    };
    Draft::new(NoticeEnded::of(CALL, Leg::Callee, PARTY, PlaybackId(2), &played, reason))
}

fn notice_events() -> Vec<Draft> {
    let mut drafts = vec![played(true, Some(CutReason::Key)), played(false, None)];
    for sha256 in [None, Some(Digest::of(b"wav"))] {
        drafts.push(Draft::new(NoticeStarted {
            call: CALL,
            role: Leg::Callee,
            party_ref: PARTY,
            playback: 2,
            prompt: "notice-opt-in".into(),
            sha256,
            locale: "en-US".into(),
        }));
    }
    for reason in [CutReason::Key, CutReason::HungUp, CutReason::Held, CutReason::Stopped] {
        drafts.push(played(false, Some(reason)));
    }
    drafts
}

fn decided(answer: Answer, outcome: Outcome, gate: Gate, basis: Basis) -> Draft {
    let facts = DecisionFacts {
        call: CALL,
        recording: RECORDING,
        leg: Leg::Caller,
        party_ref: PARTY,
        transport: MediaTransport::Rtp,
        policy: "default".into(),
        policy_digest: Digest::of(b"policy"),
        basis,
        gate,
        purposes: vec!["quality".into(), "training".into()],
        controller: "Example GmbH".into(),
        notices: vec![],
        answer,
        outcome,
        ends: None,
        time: AT,
    };
    let evidence = EvidenceId(Uuid::from_u128(3));
    Draft::new(PermissionDecided::of(&facts, evidence, Digest::of(b"evidence")))
}

fn permission_events() -> Vec<Draft> {
    let key = Answer::Key { key: '1', via: KeyVia::TelephoneEvent, rtp_timestamp: Some(1) };
    let window = Answer::Window { start: AT, end: AT };
    let standing = Answer::Standing { agreement: "2026".into() };
    let earlier = Answer::Earlier { evidence: Digest::of(b"before") };
    let (digest, stated) = (Digest::of(b"token"), Stated::Granted);
    let token = TokenStated { digest, key: "k1".into(), stated };
    let command = Answer::Command { id: "1".into() };
    vec![
        decided(key.clone(), Outcome::Granted, Gate::OptIn, Basis::Consent),
        decided(window, Outcome::Granted, Gate::NoObjection, Basis::LegitimateInterests),
        decided(standing, Outcome::Granted, Gate::Standing, Basis::Contract),
        decided(Answer::NotHeard, Outcome::Refused, Gate::OptIn, Basis::LegalObligation),
        decided(Answer::HungUp, Outcome::Refused, Gate::Token, Basis::PublicTask),
        decided(key, Outcome::Objected, Gate::NoObjection, Basis::VitalInterests),
        decided(command, Outcome::Withdrawn, Gate::OptIn, Basis::Consent),
        decided(Answer::Listed, Outcome::Objected, Gate::OptIn, Basis::Consent),
        decided(Answer::Preference, Outcome::Refused, Gate::OptIn, Basis::Consent),
        decided(earlier, Outcome::Granted, Gate::OptIn, Basis::Consent),
        decided(Answer::Token(token), Outcome::Granted, Gate::Token, Basis::Consent),
    ]
}

fn gap(reason: GapReason) -> GapSpan {
    GapSpan { stream: StreamIndex(1), start: AT, end: AT, reason }
}

fn sealed(result: SealResult) -> RecordingSealed {
    RecordingSealed {
        call: CALL,
        recording: RECORDING,
        started: AT,
        ended: AT,
        duration_ms: 61_000,
        result,
        streams: vec![SealedStream {
            stream: StreamIndex(0),
            party_ref: None,
            codecs: vec!["PCMU".into()],
            segments: 2,
            packets: 3_050,
            bytes: 540_000,
        }],
        gaps: vec![],
        gap_count: 0,
        expires_at: Some(AT),
    }
    .with_gaps([GapReason::Paused, GapReason::Held, GapReason::Lost, GapReason::Dropped].map(gap))
}

fn recording_events() -> Vec<Draft> {
    let (call, recording) = (CALL, RECORDING);
    let mut drafts = Vec::new();
    let stream = |index, party_ref| RecordedStream {
        stream: StreamIndex(index),
        party_ref,
        codecs: vec!["opus".into()],
    };
    for expires_at in [None, Some(AT)] {
        let streams = vec![stream(0, Some(PARTY)), stream(1, None)];
        drafts.push(Draft::new(RecordingStarted {
            call,
            recording,
            started: AT,
            streams,
            expires_at,
        }));
    }
    for by in [PausedBy::Caller, PausedBy::Callee, PausedBy::Command, PausedBy::Limit] {
        drafts.push(Draft::new(RecordingPaused { call, recording, at: AT, by }));
        drafts.push(Draft::new(RecordingResumed { call, recording, at: AT, by }));
    }
    for result in [SealResult::Complete, SealResult::Withdrawn, SealResult::Truncated] {
        drafts.push(Draft::new(sealed(result)));
    }
    for reason in [
        BlockReason::Refused,
        BlockReason::Objected,
        BlockReason::NotHeard,
        BlockReason::Withdrawn,
        BlockReason::NotAsked,
        BlockReason::EvidenceNotStored,
        BlockReason::CallEnded,
    ] {
        drafts.push(Draft::new(RecordingBlocked { call, recording, reason }));
    }
    for reason in [
        FailReason::Key,
        FailReason::DiskFull,
        FailReason::Storage,
        FailReason::TooSlow,
        FailReason::Catalog,
        FailReason::Crashed,
        FailReason::Unused,
    ] {
        for stream in [None, Some(StreamIndex(0))] {
            drafts.push(Draft::new(RecordingFailed { call, recording, stream, reason }));
        }
    }
    for result in [SegmentEnd::Complete, SegmentEnd::Truncated] {
        let stream = StreamId { recording, index: StreamIndex(0) };
        drafts.push(Draft::new(SegmentSealed {
            call,
            recording,
            stream: stream.index,
            index: 3,
            start: AT,
            end: AT,
            bytes: 480_000,
            sha256: Digest::of(b"file"),
            key: "key-1".parse().unwrap(),
            location: SegmentLocation::parse(&format!(
                "2026/11/21/{}/{}-3.seg",
                stream.recording, stream.index
            ))
            .unwrap(),
            result,
        }));
    }
    drafts
}

fn head() -> SignedHead {
    let key = SigningKey::from_seed(&[5; 32]);
    let at = Head { sequence: 7, digest: Digest::of(b"record") };
    let id = key.key_id().to_string();
    SignedHead::sign("node-1", at, AT, &id, |bytes| key.sign(bytes)).unwrap()
}

fn other_events() -> Vec<Draft> {
    let played = AccessPlayed {
        recording: RECORDING,
        actor: "officer".into(),
        reason: "complaint".into(),
        from_ms: 0,
        to_ms: Some(9),
    };
    let mut drafts = vec![
        Draft::new(played).within(CALL),
        Draft::new(AgentReady { version: "0.1.0".into() }),
        Draft::new(AgentDegraded { component: "nats".into(), effect: "events wait".into() }),
        Draft::new(AgentDraining { calls: 2, limit_ms: 30_000 }),
        Draft::new(AgentStopped { calls_ended: 0 }),
        Draft::new(AgentChain { head: head() }),
    ];
    for format in [
        ExportFormat::Wav,
        ExportFormat::Opus,
        ExportFormat::Rtpdump,
        ExportFormat::Pcap,
        ExportFormat::Vcon,
        ExportFormat::Keys,
    ] {
        let exported = AccessExported {
            recording: RECORDING,
            actor: "officer".into(),
            reason: "complaint of +4930123456".into(),
            format,
            stream: None,
            from_ms: 0,
            to_ms: None,
        };
        drafts.push(Draft::new(exported).caused_by(EventId(Uuid::from_u128(9))));
    }
    drafts
}

fn erasure_events() -> Vec<Draft> {
    let erasure = Erasure {
        call: CALL,
        recording: RECORDING,
        scope: ErasureScope::Stream,
        stream: StreamIndex(0),
        reason: ErasureReason::Withdrawal,
        evidence: EvidenceId(Uuid::from_u128(3)),
        evidence_digest: Digest::of(b"evidence"),
    };
    let mut drafts = vec![
        Draft::new(ErasureRequested { erasure }),
        Draft::new(ErasureCompleted {
            erasure,
            steps: ErasureStep::Verified.and_before(),
            requested: AT,
            completed: AT,
        }),
        Draft::new(RecordingErased {
            call: CALL,
            recording: RECORDING,
            at: AT,
            reason: ErasureReason::Withdrawal,
            streams: vec![StreamIndex(0), StreamIndex(1)],
        }),
    ];
    for failed in ErasureStep::ALL {
        let (steps, error) = (failed.and_before(), "permission denied".into());
        drafts.push(Draft::new(ErasureFailed { erasure, steps, failed, error }));
    }
    drafts
}

/// At least one of each kind, and each value of each enumeration.
fn finished() -> Vec<FinishedEvent> {
    let drafts = [
        call_events(),
        notice_events(),
        permission_events(),
        recording_events(),
        erasure_events(),
        other_events(),
    ];
    let id = |nth: u128| EventId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + nth));
    (1..)
        .zip(drafts.into_iter().flatten())
        .map(|(nth, draft)| finish(draft, id(nth), AT, 1, &origin()).unwrap())
        .collect()
}

fn value(event: &FinishedEvent) -> Value {
    serde_json::from_str(&event.json).unwrap()
}

fn file_of(kind: Kind) -> String {
    format!("{}.{}.json", kind.entity(), kind.event())
}

#[test]
fn every_event_validates_against_its_schema() {
    let registry = jsonschema::Registry::new()
        .add("file:///docs/events/envelope.json", schema("envelope.json"))
        .unwrap()
        .prepare()
        .unwrap();
    let mut validators = BTreeMap::new();
    for event in finished() {
        let validator = validators.entry(file_of(event.kind)).or_insert_with_key(|file| {
            jsonschema::options()
                .with_base_uri(format!("file:///docs/events/{file}"))
                .with_registry(&registry)
                .build(&schema(file))
                .unwrap()
        });
        let value = value(&event);
        let errors: Vec<String> =
            validator.iter_errors(&value).map(|e| format!("{} {e}", e.instance_path())).collect();
        assert_eq!(errors, Vec::<String>::new(), "{}", event.json);

        // And the schema is not one that takes anything.
        for broken in [
            with(&value, "/type", "io.assent.call.other.v1"),
            with(&value, "/sequence", "1"),
            with(&value, "/source", "somewhere"),
        ] {
            assert!(!validator.is_valid(&broken), "{broken}");
        }
        for member in value["data"].as_object().unwrap().keys() {
            let mut broken = value.clone();
            broken["data"].as_object_mut().unwrap().remove(member);
            assert!(!validator.is_valid(&broken), "{} without {member}", event.kind);
        }
    }
}

fn with(value: &Value, pointer: &str, text: &str) -> Value {
    let mut changed = value.clone();
    *changed.pointer_mut(pointer).unwrap() = text.into();
    changed
}

#[test]
fn every_event_that_can_be_made_has_a_sample_and_a_schema() {
    let made: BTreeSet<String> = finished().iter().map(|event| file_of(event.kind)).collect();
    let there: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "envelope.json")
        .collect();
    assert_eq!(made, there);
}

#[test]
fn schemas_list_exactly_the_members_that_are_written() {
    for event in finished() {
        let schema = schema(&file_of(event.kind));
        in_step(&schema["properties"]["data"], &value(&event)["data"], &event.kind.to_string());
    }
}

/// Compares what a schema lists with what the program wrote, object by object.
fn in_step(schema: &Value, value: &Value, place: &str) {
    if let (Some(properties), Value::Object(members)) = (schema.get("properties"), value) {
        let listed: BTreeSet<&String> = properties.as_object().unwrap().keys().collect();
        let required: BTreeSet<String> =
            serde_json::from_value(schema["required"].clone()).unwrap();
        let written: BTreeSet<&String> = members.keys().collect();
        assert_eq!(listed, written, "{place}");
        assert_eq!(required.iter().collect::<BTreeSet<_>>(), written, "{place}");
        for (name, member) in members {
            in_step(&properties[name], member, &format!("{place}.{name}"));
        }
    }
    if let (Some(items), Value::Array(values)) = (schema.get("items"), value) {
        values.iter().for_each(|value| in_step(items, value, place));
    }
}

#[test]
fn schemas_list_exactly_the_values_that_are_written() {
    let mut written: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for event in finished() {
        // Which gates, bases and methods go with which decision is the permission machine's.
        let any = if event.kind.entity() == Entity::Permission {
            "permission.*".to_owned()
        } else {
            file_of(event.kind)
        };
        for (name, member) in value(&event)["data"].as_object().unwrap() {
            if let Some(text) = member.as_str() {
                let place = (any.clone(), name.clone());
                written.entry(place).or_default().insert(text.to_owned());
            }
        }
    }
    let mut compared = 0;
    for ((file, name), mut values) in written {
        let schema = schema(&file.replace("permission.*", "permission.granted.json"));
        let listed = &schema["properties"]["data"]["properties"][&name]["enum"];
        let Ok(listed) = serde_json::from_value::<BTreeSet<String>>(listed.clone()) else {
            continue;
        };
        if (file.as_str(), name.as_str()) == ("permission.*", "method") {
            // The token gate has a method of its own, which no decision has yet.
            values.insert("token".to_owned());
        }
        assert_eq!(listed, values, "{file}: {name}");
        compared += 1;
    }
    assert!(compared > 10);
}

#[test]
fn subjects_are_made_of_tokens_and_read_back() {
    for event in finished() {
        let text = event.subject.as_str();
        assert_eq!(Subject::parse(text).as_ref(), Some(&event.subject));
        let about = event.about.to_string();
        let (entity, happened) = (event.kind.entity().as_str(), event.kind.event());
        let parts: Vec<&str> = text.split('.').collect();
        assert_eq!(parts, ["assent", "v1", "default", entity, happened, about.as_str()]);
    }
    let id = CALL.to_string();
    for bad in [
        "assent.v1.default.call.started.".to_owned(),
        format!("assent.v1..call.started.{id}"),
        format!("assent.v1.*.call.started.{id}"),
        format!("assent.v1.default.call.>.{id}"),
        format!("assent.v1.default.cmd.pause.{id}"),
        format!("assent.v1.default.call.sealed.{id}"),
        format!("assent.v1.default.call.started.{}", CALL.0.simple()),
        format!("assent.v1.default.call.started.{id}.x"),
        format!("assent.v1.default.call.started.{id} "),
        format!("assent.v2.default.call.started.{id}"),
    ] {
        assert_eq!(Subject::parse(&bad), None, "{bad}");
    }
}

#[test]
fn events_about_the_same_thing_name_the_same_uuid_and_others_do_not() {
    let about = |kind: Kind| -> Uuid {
        let all: BTreeSet<Uuid> =
            finished().iter().filter(|event| event.kind == kind).map(|event| event.about).collect();
        assert_eq!(all.len(), 1, "{kind}");
        all.into_iter().next().unwrap()
    };
    assert_eq!(about(Kind::CallStarted), CALL.0);
    assert_eq!(about(Kind::CallEnded), CALL.0);
    assert_eq!(about(Kind::RecordingSealed), RECORDING.0);
    assert_eq!(about(Kind::PartyJoined), about(Kind::PartyLeft));
    assert_eq!(about(Kind::NoticeStarted), about(Kind::NoticeInterrupted));
    assert_eq!(about(Kind::PermissionGranted), about(Kind::PermissionWithdrawn));
    assert_eq!(about(Kind::ErasureRequested), about(Kind::ErasureCompleted));
    assert_eq!(about(Kind::RecordingErased), RECORDING.0);
    assert_eq!(about(Kind::AgentReady), about(Kind::AgentStopped));
    let different: BTreeSet<Uuid> = [
        Kind::CallStarted,
        Kind::PartyJoined,
        Kind::NoticeStarted,
        Kind::PermissionGranted,
        Kind::RecordingStarted,
        Kind::SegmentSealed,
        Kind::AgentReady,
    ]
    .map(about)
    .into();
    assert_eq!(different.len(), 7);
}

#[test]
fn a_number_that_slips_into_a_reason_is_masked() {
    assert!(finished().iter().all(|event| !event.json.contains("4930123456")));
}

#[test]
fn a_recording_with_a_thousand_gaps_still_fits_into_a_message() {
    let gaps = (0..1_000).map(|_| gap(GapReason::Lost));
    let draft = Draft::new(sealed(SealResult::Complete).with_gaps(gaps));
    let event = finish(draft, EventId(Uuid::from_u128(1)), AT, 1, &origin()).unwrap();
    assert_eq!(value(&event)["data"]["gap_count"], 1_000);
    assert_eq!(value(&event)["data"]["gaps"].as_array().unwrap().len(), 64);
    assert!(event.json.len() < 64 * 1024);
}

#[test]
fn an_envelope_has_the_extensions_of_the_contract() {
    let draft = call_events().swap_remove(0).caused_by(EventId(Uuid::from_u128(6)));
    let event = finish(draft, EventId(Uuid::from_u128(5)), AT, 42, &origin()).unwrap();
    let value = value(&event);
    assert_eq!(value["specversion"], "1.0");
    assert_eq!(value["source"], "/assent/node-1");
    assert_eq!(value["type"], "io.assent.call.started.v1");
    assert_eq!(value["time"], "2026-11-21T22:00:00.000000Z");
    assert_eq!(value["correlationid"], CALL.to_string());
    assert_eq!(value["causationid"], Uuid::from_u128(6).to_string());
    assert_eq!(value["sequence"], "0000000042");
    let trace = "00-01900000000070008000000000000001-0000000000000005-00";
    assert_eq!(value["traceparent"], trace);
}
