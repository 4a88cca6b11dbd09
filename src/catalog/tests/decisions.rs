//! A receipt means: evidence, recording, key and event are durable, together.

use rusqlite::params;

use super::*;
use crate::catalog::{RecordingState, SCHEMA_VERSION};
use crate::ids::{StreamId, StreamIndex};

#[tokio::test]
async fn a_receipt_names_what_is_stored() {
    let scratch = Scratch::new();
    let receipt = scratch.catalog.decide(granted(1)).await.unwrap();
    assert_eq!(receipt.value().facts(), &facts(1));

    let reader = scratch.reader();
    let record = reader.evidence_record(receipt.id()).unwrap().unwrap();
    assert_eq!(record.digest(), receipt.evidence());
    assert_eq!(record.facts(), &serde_json::to_value(facts(1)).unwrap());
    assert_eq!(reader.evidence_of(recording(1)).unwrap(), [record]);

    let detail = reader.recording(recording(1)).unwrap().unwrap();
    assert_eq!(detail.recording.state, RecordingState::Permitted);
    assert_eq!(detail.recording.call, call(1));
    assert_eq!(detail.recording.purposes, ["quality", "training"]);
    assert_eq!(
        (detail.recording.basis.as_str(), detail.recording.scope.as_str()),
        ("consent", "all")
    );
    assert_eq!(detail.streams.len(), 1);
    assert_eq!(detail.streams[0].evidence_digest, receipt.evidence());
    assert_eq!(detail.permissions.len(), 1);
    assert_eq!(detail.permissions[0].evidence, receipt.id());

    let stream = StreamId { recording: recording(1), index: StreamIndex(0) };
    assert_eq!(reader.wrapped_key(stream).unwrap(), Some(wrapped(0)));
    let clear = reader.number(party(1), &reference()).unwrap().unwrap();
    assert_eq!(clear.expose(), number(1).expose());
    let stranger = ReferenceKey::from_bytes(&[5; 32]);
    assert!(matches!(reader.number(party(1), &stranger), Err(QueryError::Number)));

    let events = reader.outbox_after(0, 10).unwrap();
    assert_eq!(events.len(), 1);
    assert!(events[0].subject.starts_with("assent.v1.default.permission.granted."));
    let json: serde_json::Value = serde_json::from_str(&events[0].json).unwrap();
    assert_eq!(json["data"]["evidence_digest"], receipt.evidence().to_string());
}

#[tokio::test]
async fn a_refusal_leaves_its_evidence_and_no_recording() {
    let scratch = Scratch::new();
    scratch.keep(refused(1)).await;
    let reader = scratch.reader();
    assert_eq!(reader.evidence_of(recording(1)).unwrap().len(), 1);
    assert_eq!(reader.recording(recording(1)).unwrap(), None);
    let events = reader.outbox_after(0, 10).unwrap();
    assert!(events[0].subject.starts_with("assent.v1.default.permission.refused."));
}

#[tokio::test]
async fn both_parties_share_a_recording_and_a_withdrawal_ends_one_permission() {
    let scratch = Scratch::new();
    let catalog = &scratch.catalog;
    let caller = catalog.decide(granted(1)).await.unwrap();
    let callee = catalog.decide(granted_callee(1)).await.unwrap();
    scratch.keep(withdrawn(1)).await;
    let detail = scratch.reader().recording(recording(1)).unwrap().unwrap();
    let digests: Vec<_> = detail.streams.iter().map(|s| s.evidence_digest).collect();
    assert_eq!(digests, [caller.evidence(), callee.evidence()]);
    assert_eq!(detail.streams[0].withdrawn, Some(withdrawn(1).decision.facts().time));
    assert_eq!(detail.streams[1].withdrawn, None);
    assert_eq!(detail.permissions.len(), 3);
}

#[tokio::test]
async fn a_contradiction_is_refused_alone() {
    let scratch = Scratch::new();
    scratch.keep(granted(1)).await;
    let entries = vec![
        granted(2),
        // The same stream a second time.
        granted(1),
        // A permission without a recording.
        DecisionEntry { permitted: None, ..granted(3) },
        // A recording without a permission.
        DecisionEntry { permitted: granted(4).permitted, ..refused(4) },
        // A number that is somebody else's.
        DecisionEntry { number: Some(number(6)), ..granted(5) },
        // A stream in the recording of another call.
        entry(DecisionFacts { call: call(9), ..granted_callee(1).decision.facts().clone() }),
        granted(7),
    ];
    let held = scratch.busy_writer();
    let answers = tokio::spawn({
        let catalog = scratch.catalog.clone();
        async move { decide_all(&catalog, entries).await }
    });
    tokio::task::yield_now().await;
    drop(held);
    let answers = answers.await.unwrap();
    let refused: Vec<_> =
        answers.iter().map(|a| matches!(a, Err(CommitError::Conflict(_)))).collect();
    assert_eq!(refused, [false, true, true, true, true, true, false]);

    let reader = scratch.reader();
    assert_eq!(chain(&reader).unwrap().sequence, 3);
    assert_eq!(reader.outbox_after(0, 100).unwrap().len(), 3);
    for n in [3, 4, 5] {
        assert_eq!(reader.recording(recording(n)).unwrap(), None);
        assert_eq!(reader.evidence_of(recording(n)).unwrap(), []);
    }
}

#[tokio::test]
async fn the_chain_goes_on_after_a_restart() {
    let scratch = Scratch::new();
    for answer in decide_all(&scratch.catalog, (0..600).map(granted).collect()).await {
        drop(answer.unwrap());
    }
    let scratch = tokio::task::spawn_blocking(|| scratch.reopened()).await.unwrap();
    scratch.keep(refused(700)).await;
    let head = chain(&scratch.reader()).unwrap();
    assert_eq!(head.sequence, 601);
    assert!(scratch.reader().integrity().unwrap().is_empty());
}

#[tokio::test]
async fn a_record_that_is_tampered_with_in_the_database_is_found() {
    let tamper = [
        "UPDATE evidence SET record = replace(record, 'granted', 'refused') WHERE sequence = 3",
        "DELETE FROM evidence WHERE sequence = 3",
        "UPDATE evidence SET sequence = CASE sequence WHEN 3 THEN -4 ELSE -3 END
             WHERE sequence IN (3, 4);
         UPDATE evidence SET sequence = -sequence WHERE sequence < 0",
        "DELETE FROM evidence WHERE sequence > 3",
        "DELETE FROM evidence",
        "UPDATE evidence SET record = (SELECT record FROM evidence WHERE sequence = 2)
             WHERE sequence = 3",
    ];
    for sql in tamper {
        let scratch = Scratch::new();
        for answer in decide_all(&scratch.catalog, (0..5).map(granted).collect()).await {
            drop(answer.unwrap());
        }
        assert!(chain(&scratch.reader()).is_ok());
        scratch.on_writer(move |db| db.execute_batch(sql).unwrap()).await;
        assert!(chain(&scratch.reader()).is_err(), "{sql}");
    }
}

#[tokio::test]
async fn an_agent_does_not_go_on_from_a_chain_that_lost_its_end() {
    let scratch = Scratch::new();
    scratch.keep(granted(1)).await;
    scratch.keep(granted(2)).await;
    scratch
        .on_writer(|db| {
            db.execute("DELETE FROM evidence WHERE sequence = 2", []).unwrap();
        })
        .await;
    scratch.catalog.close().await.unwrap();
    let why = open(scratch.dir.path()).unwrap_err();
    assert!(matches!(why, OpenError::Chain { .. }), "{why:?}");
}

#[tokio::test]
async fn no_number_and_no_key_is_in_clear_in_any_file() {
    let scratch = Scratch::new();
    scratch.keep(granted(1)).await;
    let mut seen = 0;
    for file in std::fs::read_dir(scratch.dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        seen += bytes.len();
        assert!(!bytes.windows(8).any(|window| window == b"49301234"));
    }
    assert!(seen > 0);
}

#[tokio::test]
async fn only_its_owner_may_read_the_catalog() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new();
    scratch.keep(granted(1)).await;
    for file in std::fs::read_dir(scratch.dir.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", file.file_name());
    }
}

#[tokio::test]
async fn a_second_agent_is_told_that_the_catalog_is_in_use() {
    let scratch = Scratch::new();
    let why = open(scratch.dir.path()).unwrap_err();
    assert!(matches!(why, OpenError::InUse { .. }), "{why:?}");
    scratch.keep(granted(1)).await;
}

#[tokio::test]
async fn a_full_queue_refuses_and_never_waits() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(Settings { queue: 1, ..settings(dir.path()) }).unwrap();
    let scratch = Scratch { dir, catalog };
    let held = scratch.busy_writer();
    let first = tokio::spawn({
        let catalog = scratch.catalog.clone();
        async move { catalog.decide(granted(1)).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(scratch.catalog.decide(granted(2)).await.unwrap_err(), CommitError::Busy);
    drop(held);
    drop(first.await.unwrap().unwrap());
    scratch.keep(granted(2)).await;
}

#[tokio::test]
async fn a_closed_catalog_refuses() {
    let scratch = Scratch::new();
    scratch.catalog.close().await.unwrap();
    assert_eq!(scratch.catalog.decide(granted(1)).await.unwrap_err(), CommitError::Closed);
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_nothing_with_it() {
    let scratch = Scratch::new();
    let held = scratch.busy_writer();
    let gone = tokio::spawn({
        let catalog = scratch.catalog.clone();
        async move { catalog.decide(granted(1)).await.map(drop) }
    });
    tokio::task::yield_now().await;
    gone.abort();
    drop(held);
    scratch.keep(granted(2)).await;
    assert_eq!(chain(&scratch.reader()).unwrap().sequence, 2);
}

#[test]
fn every_schema_version_since_the_first_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let db = rusqlite::Connection::open(dir.path().join(super::super::FILE)).unwrap();
    db.execute_batch(include_str!("../schema/v1.sql")).unwrap();
    db.pragma_update(None, "application_id", 0x4153_5354).unwrap();
    db.pragma_update(None, "user_version", 1).unwrap();
    db.execute(
        "INSERT INTO party (party_ref, number, first_seen, last_seen) VALUES (?1, NULL, 1, 1)",
        params![[1_u8; 32]],
    )
    .unwrap();
    drop(db);
    drop(open(dir.path()).unwrap());
    let db = rusqlite::Connection::open(dir.path().join(super::super::FILE)).unwrap();
    let version: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, SCHEMA_VERSION);
    let parties: u32 = db.query_row("SELECT count(*) FROM party", [], |row| row.get(0)).unwrap();
    assert_eq!(parties, 1);
}
