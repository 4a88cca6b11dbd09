//! Promise: evidence that was changed, dropped, swapped or cut off is found, by Assent and by a
//! short program that is not Assent.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use assent::consent::evidence::{ChainError, Head, Place, Record, Unsigned, verify_chain};
use assent::consent::policy::{Basis, Gate};
use assent::consent::{Answer, DecisionFacts, KeyVia, MediaTransport, NoticePlayed, Outcome};
use assent::ids::{CallId, Digest, EvidenceId, Leg, PartyRef, RecordingId};
use assent::keys::SigningKey;
use assent::time::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

const AGENT: &str = "node-1";
/// `{"evidence":`, before the body.
const BODY: usize = 12;

fn facts(n: u64) -> DecisionFacts {
    let time = Timestamp::from_micros(1_795_298_400_000_000).plus(Duration::from_secs(n));
    let (answer, outcome) = match n % 4 {
        0 => (
            Answer::Key { key: '1', via: KeyVia::TelephoneEvent, rtp_timestamp: Some(u32::MAX) },
            Outcome::Granted,
        ),
        1 => (Answer::HungUp, Outcome::Refused),
        2 => (Answer::Window { start: time, end: time }, Outcome::Granted),
        _ => (Answer::Standing { agreement: "employee-2026".into() }, Outcome::Granted),
    };
    DecisionFacts {
        call: CallId(Uuid::from_u128(u128::from(n))),
        recording: RecordingId(Uuid::from_u128(u128::from(n) + 1000)),
        leg: Leg::Caller,
        party_ref: PartyRef([u8::try_from(n % 251).unwrap(); 32]),
        transport: MediaTransport::Srtp,
        policy: "défaut \"quoted\" \u{1F4DE}\u{7f}".into(),
        policy_digest: Digest::of(b"policy"),
        basis: Basis::LegitimateInterests,
        gate: Gate::OptIn,
        purposes: vec!["quality".into(), "training\n".into()],
        controller: "Beispiel GmbH".into(),
        notices: vec![NoticePlayed {
            prompt: "notice-opt-in".into(),
            locale: "en-US".into(),
            sha256: Digest::of(b"prompt"),
            played_ms: 4000,
            total_ms: 4000,
            packets: 200,
            received: 9,
            started: time,
            ended: time,
            held: false,
            loss_percent: None,
            completed: true,
        }],
        answer,
        outcome,
        ends: None,
        time,
    }
}

fn key() -> SigningKey {
    SigningKey::from_seed(&[7; 32])
}

fn append(chain: &mut Vec<String>, at: Head, facts: &DecisionFacts, key: &SigningKey) -> Head {
    let signing_key = key.key_id().to_string();
    let id = EvidenceId(Uuid::from_u128(u128::from(at.sequence) + 5000));
    let place = Place { agent: AGENT, id, after: at, signing_key: &signing_key };
    let unsigned = Unsigned::decision(facts, place).unwrap();
    let head = unsigned.head();
    let signature = key.sign(unsigned.bytes());
    chain.push(unsigned.signed(&signature));
    head
}

fn chain(length: u64) -> (Vec<String>, Head) {
    let mut chain = Vec::new();
    let head = (0..length).fold(Head::START, |at, n| append(&mut chain, at, &facts(n), &key()));
    (chain, head)
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("malformed")]
struct Unreadable;

fn check(chain: &[String], to: Option<Head>) -> Result<Head, ChainError<Unreadable>> {
    let records = chain.iter().map(|text| Record::parse(text).map_err(|_| Unreadable));
    let (id, public) = (key().key_id().to_string(), key().public().to_bytes());
    verify_chain(records, AGENT, Head::START, to, |wanted| {
        (wanted == id).then(|| ed25519_dalek::VerifyingKey::from_bytes(&public).unwrap())
    })
}

/// What the independent program says: the head, or that the chain does not hold.
fn check_in_python(chain: &[String], to: Option<Head>) -> Result<String, String> {
    let mut command = Command::new("python3");
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/verify_evidence.py"))
        .arg(key().public().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(Head { sequence, digest }) = to {
        command.args(["--head", &format!("{sequence}:{digest}")]);
    }
    let mut child = command.spawn().expect("python3 with `cryptography`: make test installs it");
    let text = chain.join("\n");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
    match output.status.code() {
        Some(0) => Ok(said(output.stdout)),
        Some(2) => Err(said(output.stderr)),
        other => panic!("the verifier ended with {other:?}: {}", said(output.stderr)),
    }
}

#[test]
fn a_whole_chain_holds_and_says_what_was_decided() {
    let (chain, head) = chain(6);
    assert_eq!(check(&chain, Some(head)), Ok(head));
    let record = Record::parse(&chain[2]).unwrap();
    assert_eq!(record.facts(), &serde_json::to_value(facts(2)).unwrap());
    assert_eq!((record.kind(), record.agent(), record.head().sequence), ("decision", AGENT, 3));
    assert!(!chain.iter().any(|text| text.contains('\n')), "one record, one line");
}

#[test]
fn an_independent_program_agrees() {
    let (whole, head) = chain(6);
    let said = format!("{}:{}", head.sequence, head.digest);
    assert_eq!(check_in_python(&whole, Some(head)), Ok(said));
    assert!(check_in_python(&whole[..5], Some(head)).is_err(), "cut off");
    let mut swapped = whole.clone();
    swapped.swap(2, 3);
    assert!(check_in_python(&swapped, None).is_err(), "swapped");
    let mut dropped = whole.clone();
    dropped.remove(1);
    assert!(check_in_python(&dropped, None).is_err(), "dropped");
    let mut changed = whole.clone();
    changed[1] = changed[1].replace("refused", "granted");
    assert!(check_in_python(&changed, None).is_err(), "changed");
}

#[test]
fn a_changed_record_is_found() {
    let (mut chain, head) = chain(4);
    chain[1] = chain[1].replace("\"refused\"", "\"granted\"");
    let id = Record::parse(&chain[1]).unwrap().id();
    assert_eq!(check(&chain, Some(head)), Err(ChainError::Changed { sequence: 2, id }));
}

#[test]
fn a_record_that_was_rewritten_with_the_agents_own_key_is_found() {
    let (mut whole, head) = chain(4);
    let after = Record::parse(&whole[0]).unwrap().head();
    let mut forged = Vec::new();
    append(&mut forged, after, &facts(2), &key());
    whole[1] = forged.remove(0);
    let id = Record::parse(&whole[2]).unwrap().id();
    assert_eq!(check(&whole, Some(head)), Err(ChainError::Unlinked { sequence: 3, id }));
    // The last record has no next one; the head tells.
    assert!(matches!(check(&whole[..2], Some(after)), Err(ChainError::OtherHead { .. })));
}

#[test]
fn a_record_signed_by_somebody_else_is_found() {
    let (mut whole, head) = chain(2);
    let mut forged = Vec::new();
    append(&mut forged, head, &facts(0), &SigningKey::from_seed(&[8; 32]));
    whole.append(&mut forged);
    assert!(matches!(check(&whole, None), Err(ChainError::UnknownKey { sequence: 3, .. })));
    // Naming the right key does not help.
    let named = key().key_id().to_string();
    let other = SigningKey::from_seed(&[8; 32]).key_id().to_string();
    whole[2] = whole[2].replace(&other, &named);
    assert!(matches!(check(&whole, None), Err(ChainError::Changed { sequence: 3, .. })));
}

#[test]
fn dropped_repeated_and_swapped_records_are_found() {
    let (whole, head) = chain(5);
    for at in 0..4 {
        let mut dropped = whole.clone();
        dropped.remove(at);
        let expected = at as u64 + 1;
        assert_eq!(
            check(&dropped, Some(head)),
            Err(ChainError::OutOfOrder { expected, found: expected + 1 })
        );
        let mut swapped = whole.clone();
        swapped.swap(at, at + 1);
        assert_eq!(
            check(&swapped, Some(head)),
            Err(ChainError::OutOfOrder { expected, found: expected + 1 })
        );
        let mut repeated = whole.clone();
        repeated.insert(at, whole[at].clone());
        assert_eq!(
            check(&repeated, Some(head)),
            Err(ChainError::OutOfOrder { expected: expected + 1, found: expected })
        );
    }
}

#[test]
fn a_chain_that_lost_its_end_is_found() {
    let (whole, head) = chain(5);
    for kept in 0..5 {
        assert_eq!(
            check(&whole[..kept], Some(head)),
            Err(ChainError::CutShort { last: kept as u64, expected: 5 })
        );
    }
}

#[test]
fn a_record_has_one_form_only() {
    let (chain, _) = chain(1);
    let record = &chain[0];
    for other in [
        format!("{record} "),
        format!(" {record}"),
        record.replacen(":", ": ", 1),
        record.replacen("{\"evidence\":{", "{\"evidence\":{\"version\":1,", 1),
        record.replacen("\"agent\":\"node-1\"", "\"agent\":\"\\u006eode-1\"", 1),
        record.replacen(",\"version\":1", ",\"version\":2", 1),
        record.replacen(",\"version\":1", ",\"version\":1,\"w\":1", 1),
        record.to_uppercase(),
        record[..record.len() - 1].to_owned(),
        String::new(),
        "null".into(),
    ] {
        assert!(Record::parse(&other).is_err(), "{other}");
    }
}

proptest! {
    #[test]
    fn no_changed_byte_goes_unnoticed(at in BODY..800_usize, to in any::<u8>()) {
        let (mut whole, head) = chain(3);
        let mut bytes = whole[1].clone().into_bytes();
        let at = at.min(bytes.len() - 1);
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        whole[1] = text;
        prop_assert!(check(&whole, Some(head)).is_err());
    }

    #[test]
    fn nothing_that_is_read_panics(text in "\\PC{0,200}") {
        let _ = Record::parse(&text);
        let nested = format!("{{\"evidence\":{text},\"signature\":\"00\"}}");
        let _ = Record::parse(&nested);
    }
}
