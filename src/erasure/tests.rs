//! Erasure as the agent uses it.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::catalog::{
    Catalog, Change, DecisionEntry, Erase, FILE, NewRecording, Permitted, QUEUE, Settings,
};
use crate::consent::evidence::sample;
use crate::consent::policy::Scope;
use crate::consent::{Answer, DecisionFacts, Outcome};
use crate::event::{ErasureStep, Origin, RecordingSealed, SealResult};
use crate::ids::{Leg, PartyRef, StreamId};
use crate::keys::{Epoch, ReferenceKey, SigningKey, WrappedKey};
use crate::segment::format::SegmentName;

/// A catalog with a recording of both parties, and their files.
struct Scratch {
    dir: tempfile::TempDir,
    catalog: Catalog,
}

fn facts(leg: Leg) -> DecisionFacts {
    let party_ref = PartyRef([1 + leg.stream().0; 32]);
    DecisionFacts { leg, ..sample::facts(1, party_ref) }
}

fn stream(leg: Leg) -> StreamId {
    StreamId { recording: facts(leg).recording, index: leg.stream() }
}

fn key(leg: Leg) -> WrappedKey {
    WrappedKey { epoch: Epoch(1), bytes: [0xa0 + leg.stream().0; WrappedKey::LENGTH] }
}

fn granted(leg: Leg) -> DecisionEntry {
    permission(facts(leg), key(leg))
}

fn permission(facts: DecisionFacts, key: WrappedKey) -> DecisionEntry {
    let recording =
        NewRecording { began: facts.time, scope: Scope::All, retention: Duration::from_secs(3600) };
    DecisionEntry {
        decision: sample::decision(facts),
        number: None,
        permitted: Some(Permitted { recording, key, codecs: "{}".to_owned() }),
        erase: Erase::Nothing,
        events: Vec::new(),
    }
}

fn withdrawn(leg: Leg) -> DecisionEntry {
    let answer = Answer::Command { id: "1".into() };
    let facts = DecisionFacts { outcome: Outcome::Withdrawn, answer, ..facts(leg) };
    DecisionEntry {
        decision: sample::decision(facts),
        number: None,
        permitted: None,
        erase: Erase::Party,
        events: Vec::new(),
    }
}

fn sealed() -> Change {
    let facts = facts(Leg::Caller);
    Change::Sealed(RecordingSealed {
        call: facts.call,
        recording: facts.recording,
        started: facts.time,
        ended: facts.time,
        duration_ms: 0,
        result: SealResult::Withdrawn,
        streams: Vec::new(),
        gaps: Vec::new(),
        gap_count: 0,
        expires_at: None,
    })
}

impl Scratch {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(Settings {
            data: dir.path().to_owned(),
            origin: Origin { tenant: "t".parse().unwrap(), node: "n".parse().unwrap() },
            signing: SigningKey::from_seed(&[3; 32]),
            reference: ReferenceKey::from_bytes(&[4; 32]),
            queue: QUEUE,
        })
        .unwrap();
        let this = Self { dir, catalog };
        for leg in Leg::BOTH {
            drop(this.catalog.decide(granted(leg)).await.unwrap());
        }
        this.write_files();
        this
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("recordings")
    }

    fn folder(&self) -> PathBuf {
        self.root().join(SegmentName::folder(stream(Leg::Caller).recording))
    }

    fn write_files(&self) {
        std::fs::create_dir_all(self.folder()).unwrap();
        for name in ["0-0.seg", "0-0.json", "0-1.seg", "1-0.seg", "1-0.json"] {
            std::fs::write(self.folder().join(name), b"noise").unwrap();
        }
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    async fn withdraw(&self, leg: Leg) {
        drop(self.catalog.decide(withdrawn(leg)).await.unwrap());
    }

    /// Events whose type ends so.
    async fn told(&self, what: &'static str) -> usize {
        let rows = self.catalog.read(|reader| reader.outbox_after(0, 1000)).await.unwrap();
        rows.iter().filter(|row| row.subject.contains(what)).count()
    }

    async fn state(&self) -> (crate::catalog::RecordingState, Vec<Option<ErasureStep>>) {
        let recording = stream(Leg::Caller).recording;
        let detail =
            self.catalog.read(move |reader| reader.recording(recording)).await.unwrap().unwrap();
        let steps = detail.streams.iter().map(|row| row.erased.as_ref().map(|it| it.done));
        (detail.recording.state, steps.collect())
    }

    fn holds(&self, leg: Leg) -> bool {
        let text = key(leg).to_string();
        let mut found = false;
        for name in [FILE.to_owned(), format!("{FILE}-wal")] {
            let bytes = std::fs::read(self.dir.path().join(name)).unwrap_or_default();
            found |= bytes.windows(text.len()).any(|part| part == text.as_bytes());
        }
        found
    }
}

#[tokio::test]
async fn a_stream_is_erased_and_the_other_partys_is_not() {
    let scratch = Scratch::new().await;
    assert!(scratch.holds(Leg::Caller));
    scratch.withdraw(Leg::Caller).await;
    let (_, steps) = scratch.state().await;
    assert_eq!(steps, [Some(ErasureStep::Tombstoned), None]);
    assert_eq!(scratch.told("erasure.completed").await, 0, "not before it is so");
    finish_all(&scratch.catalog, &scratch.root()).await;
    assert_eq!(scratch.files(), ["1-0.json", "1-0.seg"]);
    assert!(!scratch.holds(Leg::Caller), "the wrapped key is in a file of the catalog");
    assert!(scratch.holds(Leg::Callee));
    let (_, steps) = scratch.state().await;
    assert_eq!(steps, [Some(ErasureStep::Verified), None]);
    let told = [scratch.told("erasure.requested").await, scratch.told("erasure.completed").await];
    assert_eq!(told, [1, 1]);
}

#[tokio::test]
async fn every_step_can_be_repeated() {
    let scratch = Scratch::new().await;
    scratch.withdraw(Leg::Caller).await;
    let back = rusqlite::Connection::open(scratch.dir.path().join(FILE)).unwrap();
    for (round, step) in ErasureStep::ALL.into_iter().enumerate() {
        for files in [true, false] {
            if files && step <= ErasureStep::KeyDestroyed {
                scratch.write_files();
            }
            finish_all(&scratch.catalog, &scratch.root()).await;
            assert_eq!(scratch.files(), ["1-0.json", "1-0.seg"], "from {step:?}");
            assert_eq!(scratch.state().await.1[0], Some(ErasureStep::Verified), "{round}");
            // As a crash leaves it that came after a step and before the note of it.
            let again = "UPDATE tombstone SET done = ?1, verified = NULL";
            back.execute(again, [step.as_str()]).unwrap();
        }
    }
}

#[tokio::test]
async fn a_step_that_fails_is_told_once_and_done_in_the_end() {
    let scratch = Scratch::new().await;
    scratch.withdraw(Leg::Caller).await;
    let obstacle = scratch.folder().join("0-9.seg");
    std::fs::create_dir_all(obstacle.join("within")).unwrap();
    for _ in 0..3 {
        finish_all(&scratch.catalog, &scratch.root()).await;
    }
    assert_eq!(scratch.told("erasure.failed").await, 1);
    assert_eq!(scratch.told("erasure.completed").await, 0);
    assert_eq!(scratch.state().await.1[0], Some(ErasureStep::KeyDestroyed));
    std::fs::remove_dir_all(obstacle).unwrap();
    finish_all(&scratch.catalog, &scratch.root()).await;
    assert_eq!(scratch.told("erasure.completed").await, 1);
    assert_eq!(scratch.told("erasure.failed").await, 1);
}

#[tokio::test]
async fn a_file_that_comes_back_is_never_called_erased() {
    let scratch = Scratch::new().await;
    scratch.withdraw(Leg::Caller).await;
    finish_all(&scratch.catalog, &scratch.root()).await;
    let back = rusqlite::Connection::open(scratch.dir.path().join(FILE)).unwrap();
    back.execute("UPDATE tombstone SET done = 'files-removed', verified = NULL", []).unwrap();
    scratch.write_files();
    finish_all(&scratch.catalog, &scratch.root()).await;
    assert_eq!(scratch.told("erasure.completed").await, 1, "the first one only");
    assert_eq!(scratch.told("erasure.failed").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_erased_while_it_is_written() {
    let scratch = Scratch::new().await;
    let eraser = Eraser::start(scratch.catalog.clone(), &scratch.root()).unwrap();
    eraser.opened(stream(Leg::Caller));
    scratch.withdraw(Leg::Caller).await;
    eraser.look();
    eraser.rest().await;
    assert_eq!(scratch.files().len(), 5);
    eraser.closed(stream(Leg::Caller));
    eraser.rest().await;
    assert_eq!(scratch.files(), ["1-0.json", "1-0.seg"]);
    assert_eq!(eraser.condition(), Condition::Good);
}

#[tokio::test]
async fn a_recording_is_erased_once_it_has_ended_and_nothing_is_left() {
    for ends_first in [true, false] {
        let scratch = Scratch::new().await;
        let end = async || scratch.catalog.record(vec![sealed()], Vec::new()).await.unwrap();
        for leg in Leg::BOTH {
            scratch.withdraw(leg).await;
        }
        if ends_first {
            end().await;
        }
        finish_all(&scratch.catalog, &scratch.root()).await;
        if !ends_first {
            assert_eq!(scratch.told("recording.erased").await, 0, "it has not ended");
            end().await;
        }
        assert_eq!(scratch.told("recording.erased").await, 1);
        assert_eq!(scratch.state().await.0, crate::catalog::RecordingState::Erased);
    }
}

#[tokio::test]
async fn what_comes_late_about_an_erased_stream_is_passed_over() {
    let scratch = Scratch::new().await;
    scratch.withdraw(Leg::Caller).await;
    finish_all(&scratch.catalog, &scratch.root()).await;
    let facts = facts(Leg::Caller);
    let gap = crate::event::GapSpan {
        stream: Leg::Caller.stream(),
        start: facts.time,
        end: facts.time,
        reason: crate::event::GapReason::Held,
    };
    let late = Change::Gap { recording: facts.recording, gap };
    scratch.catalog.record(vec![late], Vec::new()).await.unwrap();
    let id = stream(Leg::Caller);
    let remains = scratch.catalog.read(move |reader| reader.remains_of(id)).await.unwrap();
    assert_eq!(remains, crate::catalog::Remains::NONE);
}

#[tokio::test]
async fn every_recording_of_the_party_in_the_call_is_erased_and_none_of_another_call() {
    let scratch = Scratch::new().await;
    let first = facts(Leg::Caller);
    let later = DecisionFacts { recording: first.recording.successor(), ..first.clone() };
    let elsewhere = sample::facts(70, first.party_ref);
    for facts in [later.clone(), elsewhere.clone()] {
        drop(scratch.catalog.decide(permission(facts, key(Leg::Caller))).await.unwrap());
    }
    scratch.withdraw(Leg::Caller).await;
    let mut open = scratch.catalog.read(|reader| reader.open_erasures()).await.unwrap();
    open.sort_by_key(|tombstone| tombstone.stream);
    let recordings: Vec<_> = open.iter().map(|tombstone| tombstone.stream.recording).collect();
    assert_eq!(recordings, [first.recording, later.recording]);
    assert_eq!(scratch.told("erasure.requested").await, 2);
    let other = StreamId { recording: elsewhere.recording, index: Leg::Caller.stream() };
    let kept = scratch.catalog.read(move |reader| reader.wrapped_key(other)).await.unwrap();
    assert_eq!(kept, Some(key(Leg::Caller)));
}

#[tokio::test]
async fn an_objection_before_there_is_anything_erases_nothing() {
    let scratch = Scratch::new().await;
    let answer = Answer::Command { id: "1".into() };
    let before = sample::facts(3, PartyRef([9; 32]));
    let facts = DecisionFacts { outcome: Outcome::Objected, answer, ..before };
    let entry = DecisionEntry {
        decision: sample::decision(facts),
        number: None,
        permitted: None,
        erase: Erase::Party,
        events: Vec::new(),
    };
    drop(scratch.catalog.decide(entry).await.unwrap());
    assert!(scratch.catalog.read(|reader| reader.open_erasures()).await.unwrap().is_empty());
    assert_eq!(scratch.told("erasure").await, 0);
}
