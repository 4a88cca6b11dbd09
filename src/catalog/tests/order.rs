//! What is stored in order, in one go.

use std::sync::atomic::Ordering;

use super::*;
use crate::catalog::{Change, NotStored, Step};
use crate::event::{AgentReady, Draft, Word};

fn facts_of_an_agent() -> Step {
    let ready = AgentReady { version: Word::new("1") };
    Step::Facts { changes: Vec::new(), events: vec![Draft::new(ready)] }
}

fn decision(entry: DecisionEntry) -> Step {
    Step::Decision(Box::new(entry))
}

/// A recording that nobody knows cannot begin.
fn impossible() -> Step {
    let change = Change::Capturing { recording: recording(77), at: facts(77).time };
    Step::Facts { changes: vec![change], events: Vec::new() }
}

fn why(answer: Result<Option<crate::catalog::Receipt<Decision>>, NotStored>) -> CommitError {
    answer.unwrap_err().why
}

#[tokio::test]
async fn facts_and_the_decisions_after_them_share_one_sync() {
    let scratch = Scratch::new();
    let before = scratch.catalog.counters().commits.load(Ordering::Relaxed);
    let steps =
        vec![facts_of_an_agent(), decision(granted(1)), facts_of_an_agent(), decision(granted(2))];
    let answers = scratch.catalog.in_order(steps).await;
    let receipts: Vec<bool> = answers.into_iter().map(|a| a.unwrap().is_some()).collect();
    assert_eq!(receipts, [false, true, false, true]);
    assert_eq!(scratch.catalog.counters().commits.load(Ordering::Relaxed), before + 1);
    let events = scratch.reader().outbox_after(0, 10).unwrap();
    let kinds: Vec<&str> =
        events.iter().map(|row| row.subject.split('.').nth(3).unwrap()).collect();
    assert_eq!(kinds, ["agent", "permission", "agent", "permission"]);
    assert_eq!(chain(&scratch.reader()).unwrap().sequence, 2);
}

#[tokio::test]
async fn nothing_is_stored_after_what_could_not_be() {
    let scratch = Scratch::new();
    let steps = vec![decision(granted(1)), impossible(), decision(granted(2)), facts_of_an_agent()];
    let mut answers = scratch.catalog.in_order(steps).await.into_iter();
    assert!(answers.next().unwrap().unwrap().is_some(), "what comes before is stored");
    assert!(matches!(why(answers.next().unwrap()), CommitError::Conflict(_)));
    let NotStored { why: behind, entry } = answers.next().unwrap().unwrap_err();
    assert_eq!(behind, CommitError::Behind);
    assert_eq!(entry.unwrap().decision.facts(), &facts(2), "and can be tried again");
    assert_eq!(why(answers.next().unwrap()), CommitError::Behind);
    assert_eq!(chain(&scratch.reader()).unwrap().sequence, 1);
    assert_eq!(scratch.reader().outbox_after(0, 10).unwrap().len(), 1);
}

#[tokio::test]
async fn a_full_queue_gives_every_decision_back() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(Settings { queue: 1, ..settings(dir.path()) }).unwrap();
    let scratch = Scratch { dir, catalog };
    let held = scratch.busy_writer();
    let first = scratch.catalog.in_order(vec![facts_of_an_agent()]);
    let answers = scratch.catalog.in_order(vec![facts_of_an_agent(), decision(granted(1))]).await;
    let given_back: Vec<bool> =
        answers.into_iter().map(|answer| answer.unwrap_err().entry.is_some()).collect();
    assert_eq!(given_back, [false, true]);
    drop(held);
    assert!(first.await.into_iter().all(|answer| answer.is_ok()));
}

#[tokio::test]
async fn what_a_failed_transaction_held_is_given_back() {
    let scratch = Scratch::new();
    scratch
        .on_writer(|db| {
            let pages: u32 = db.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
            db.pragma_update(None, "max_page_count", pages).unwrap();
        })
        .await;
    let steps = (1..200).map(|n| decision(granted(n))).collect();
    let answers = scratch.catalog.in_order(steps).await;
    let stored = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!(stored < answers.len(), "there is room for {stored}");
    let back = answers.into_iter().filter_map(Result::err).filter(|not| not.entry.is_some());
    assert_eq!(back.count(), 199 - stored, "whoever is not permitted can try again");
    assert_eq!(chain(&scratch.reader()).unwrap().sequence, stored as u64);
}
