//! No event is lost, none changes its place, and what is sent stays until its window has passed.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::catalog::{Acknowledged, OutboxStatus, Sent};
use crate::event::PausedBy;
use crate::event::{AgentReady, Draft, RecordingPaused, RecordingResumed, Word};
use crate::time::Timestamp;

fn paused(n: u64) -> Draft {
    let (call, recording, at) = (call(n), recording(n), facts(n).time);
    Draft::new(RecordingPaused { call, recording, at, by: PausedBy::Caller })
}

fn resumed(n: u64) -> Draft {
    let (call, recording, at) = (call(n), recording(n), facts(n).time);
    Draft::new(RecordingResumed { call, recording, at, by: PausedBy::Caller })
}

fn sent(sequence: u64, at: i64) -> Sent {
    let (stream, at) = ("ASSENT_EVENTS".to_owned(), Timestamp::from_micros(at));
    Sent { sequence, acknowledged: Acknowledged { stream, sequence: sequence + 1000, at } }
}

#[tokio::test]
async fn events_about_one_thing_are_numbered_without_a_gap_even_after_a_restart() {
    let scratch = Scratch::new();
    let drafts = vec![paused(1), paused(2), resumed(1)];
    let ids = scratch.catalog.record(Vec::new(), drafts).await.unwrap();
    let scratch = tokio::task::spawn_blocking(|| scratch.reopened()).await.unwrap();
    scratch.catalog.record(Vec::new(), vec![paused(1)]).await.unwrap();
    let rows = scratch.reader().outbox_after(0, 100).unwrap();
    assert_eq!(rows[..3].iter().map(|row| row.id).collect::<Vec<_>>(), ids);
    let numbers: Vec<_> = rows
        .iter()
        .map(|row| {
            let json: serde_json::Value = serde_json::from_str(&row.json).unwrap();
            assert_eq!(json["id"], row.id.to_string());
            (row.recording.unwrap(), json["sequence"].as_str().unwrap().parse::<u64>().unwrap())
        })
        .collect();
    assert_eq!(
        numbers,
        [(recording(1), 1), (recording(2), 1), (recording(1), 2), (recording(1), 3)]
    );
}

#[tokio::test]
async fn whoever_publishes_is_woken_after_the_commit() {
    let scratch = Scratch::new();
    let mut head = scratch.catalog.outbox();
    assert_eq!(*head.borrow_and_update(), 0);
    scratch.keep(granted(1)).await;
    head.changed().await.unwrap();
    let last = *head.borrow_and_update();
    assert_eq!(scratch.reader().unsent(0, 10).unwrap().last().unwrap().sequence, last);
    // What brings no event wakes nobody.
    scratch.catalog.mark_sent(vec![sent(last, 5)]).await.unwrap();
    assert!(!head.has_changed().unwrap());
    let scratch = tokio::task::spawn_blocking(|| scratch.reopened()).await.unwrap();
    assert_eq!(*scratch.catalog.outbox().borrow(), last);
}

#[tokio::test]
async fn what_jetstream_lost_is_sent_again() {
    let scratch = Scratch::new();
    let drafts = (0..5).map(paused).collect();
    scratch.catalog.record(Vec::new(), drafts).await.unwrap();
    let all = (1..=5).map(|n| sent(n, 10)).collect();
    scratch.catalog.mark_sent(all).await.unwrap();
    let reader = scratch.reader();
    assert_eq!(reader.unsent(0, 10).unwrap(), []);
    let kept = reader.acknowledged("ASSENT_EVENTS", u64::MAX, 3).unwrap();
    assert_eq!(kept.iter().map(|row| row.sequence).collect::<Vec<_>>(), [5, 4, 3]);
    let below = reader.acknowledged("ASSENT_EVENTS", 1003, 10).unwrap();
    assert_eq!(below.iter().map(|row| row.sequence).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(reader.acknowledged("OTHER", u64::MAX, 10).unwrap(), []);
    assert_eq!(reader.acknowledged_elsewhere("ASSENT_EVENTS", 10).unwrap(), []);
    assert_eq!(reader.acknowledged_elsewhere("A", 10).unwrap().len(), 5);
    assert_eq!(reader.acknowledged_elsewhere("B", 2).unwrap().len(), 2);
    scratch.catalog.mark_unsent(vec![4, 5]).await.unwrap();
    let again = scratch.reader().unsent(0, 10).unwrap();
    assert_eq!(again.iter().map(|row| row.sequence).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(again[0].json, kept[1].json, "byte for byte as before");
}

#[tokio::test]
async fn what_can_never_be_published_holds_nothing_up_and_is_kept_for_a_while() {
    let scratch = Scratch::new();
    for n in 1..=3 {
        scratch.keep(granted(n)).await;
    }
    scratch.catalog.set_aside(1, "too large".into()).await.unwrap();
    let reader = scratch.reader();
    let unsent = reader.unsent(0, 10).unwrap();
    assert_eq!(unsent.iter().map(|row| row.sequence).collect::<Vec<_>>(), [2, 3]);
    let status = reader.outbox_status().unwrap();
    assert_eq!((status.unsent, status.oldest), (2, Some(facts(2).time)));
    let kept = reader.outbox_after(0, 1).unwrap();
    assert_eq!(kept[0].set_aside.as_deref(), Some("too large"));
    assert_eq!(scratch.catalog.prune_outbox(facts(1).time).await.unwrap(), 0);
    assert_eq!(scratch.catalog.prune_outbox(facts(3).time).await.unwrap(), 1);
    assert_eq!(reader.outbox_after(0, 10).unwrap().len(), 2);
}

#[tokio::test]
async fn a_damaged_subject_keeps_no_other_event_from_being_read() {
    let scratch = Scratch::new();
    for n in 1..=3 {
        scratch.keep(granted(n)).await;
    }
    scratch
        .on_writer(|db| {
            db.execute("UPDATE outbox SET subject = 'a..b' WHERE sequence = 2", []).unwrap();
        })
        .await;
    let unsent = scratch.reader().unsent(0, 10).unwrap();
    assert_eq!(unsent.len(), 3);
    assert_eq!(unsent[1].subject, "a..b");
}

#[tokio::test]
async fn a_follower_begins_at_a_time() {
    let scratch = Scratch::new();
    scratch.keep(granted(1)).await;
    scratch.keep(granted(5)).await;
    let reader = scratch.reader();
    assert_eq!(reader.outbox_cursor(facts(1).time).unwrap(), 0);
    assert_eq!(reader.outbox_cursor(facts(2).time).unwrap(), 1);
    assert_eq!(reader.outbox_cursor(facts(9).time).unwrap(), 2);
}

#[tokio::test]
async fn pruning_takes_what_is_old_and_sent_and_nothing_else() {
    let scratch = Scratch::new();
    let drafts: Vec<_> = (0..2500).map(paused).collect();
    scratch.catalog.record(Vec::new(), drafts).await.unwrap();
    let old = (1..=2100).map(|n| sent(n, 10)).chain((2101..=2200).map(|n| sent(n, 20)));
    scratch.catalog.mark_sent(old.collect()).await.unwrap();
    assert_eq!(scratch.catalog.prune_outbox(Timestamp::from_micros(20)).await.unwrap(), 2100);
    let left = scratch.reader().outbox_after(0, 5000).unwrap();
    assert_eq!(left.len(), 400);
    let status = scratch.catalog.read(|reader| reader.outbox_status()).await.unwrap();
    assert_eq!((status.unsent, status.last), (300, 2500));
    assert!(status.oldest.is_some());
}

#[derive(Clone, Debug)]
enum Step {
    Record(Vec<u64>),
    Sent(Vec<u64>),
    Unsent(u64),
    Prune(i64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::collection::vec(0..3_u64, 1..5).prop_map(Step::Record),
        3 => proptest::collection::vec(1..20_u64, 1..5).prop_map(Step::Sent),
        1 => (1..20_u64).prop_map(Step::Unsent),
        1 => (0..20_i64).prop_map(Step::Prune),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The outbox is what a plain map would be.
    #[test]
    fn it_holds_what_was_put_in_and_not_pruned(steps in proptest::collection::vec(step(), 1..20)) {
        let mut scratch = Scratch::new();
        // Place → acknowledged when.
        let mut model: BTreeMap<u64, Option<i64>> = BTreeMap::new();
        let mut last = 0;
        for (now, step) in (0..).zip(steps) {
            match step {
                Step::Record(about) => {
                    let drafts = about.iter().map(|n| paused(*n)).collect();
                    wait(scratch.catalog.record(Vec::new(), drafts)).unwrap();
                    for _ in about {
                        last += 1;
                        model.insert(last, None);
                    }
                }
                Step::Sent(rows) => {
                    let marks = rows.iter().map(|row| sent(*row, now)).collect();
                    wait(scratch.catalog.mark_sent(marks)).unwrap();
                    for row in rows {
                        model.entry(row).and_modify(|at| *at = Some(now));
                    }
                }
                Step::Unsent(row) => {
                    wait(scratch.catalog.mark_unsent(vec![row])).unwrap();
                    model.entry(row).and_modify(|at| *at = None);
                }
                Step::Prune(before) => {
                    let pruned = wait(scratch.catalog.prune_outbox(Timestamp::from_micros(before)));
                    let count = model.len();
                    model.retain(|_, at| at.is_none_or(|at| at >= before));
                    prop_assert_eq!(pruned, Ok((count - model.len()) as u64));
                }
                Step::Restart => scratch = scratch.reopened(),
            }
            let reader = scratch.reader();
            let rows: Vec<_> = reader
                .outbox_after(0, 1000)
                .unwrap()
                .iter()
                .map(|row| (row.sequence, row.sent.as_ref().map(|sent| sent.at.as_micros())))
                .collect();
            prop_assert_eq!(rows, model.clone().into_iter().collect::<Vec<_>>());
            let unsent = model.values().filter(|at| at.is_none()).count() as u64;
            let OutboxStatus { unsent: counted, last: end, .. } = reader.outbox_status().unwrap();
            prop_assert_eq!((counted, end), (unsent, last));
        }
    }
}

#[tokio::test]
async fn an_agents_own_events_are_told_apart_by_the_agent() {
    let scratch = Scratch::new();
    let ready = || Draft::new(AgentReady { version: Word::new("1") });
    scratch.catalog.record(Vec::new(), vec![ready(), ready()]).await.unwrap();
    let rows = scratch.reader().outbox_after(0, 10).unwrap();
    assert_eq!(rows[0].about, rows[1].about);
    assert_eq!((rows[0].call, rows[0].recording), (None, None));
}
