//! Commands are written down as they were given.

use uuid::Uuid;

use super::*;
use crate::catalog::{Change, CommandEntry, CommandOutcome, CommandWay};
use crate::event::Word;
use crate::time::Timestamp;

#[test]
fn a_command_is_read_back_as_it_was_written() {
    let scratch = Scratch::new();
    let bare = CommandEntry {
        id: None,
        verb: Word::new("erase"),
        way: CommandWay::Nats,
        actor: None,
        reason: None,
        call: None,
        recording: None,
        party: None,
        at: Timestamp::from_micros(1),
        outcome: CommandOutcome::Refused,
        code: Some("unsupported"),
    };
    let full = CommandEntry {
        id: Some(Uuid::from_u128(7)),
        verb: Word::new("withdraw"),
        way: CommandWay::Socket,
        actor: Some(Word::new("anna (uid 7)")),
        reason: Some(Word::new("said so")),
        call: Some(call(1)),
        recording: Some(recording(1)),
        party: Some(Leg::Callee),
        at: Timestamp::from_micros(2),
        outcome: CommandOutcome::Done,
        code: None,
    };
    let changes = [bare.clone(), full.clone()].map(Change::Commanded).to_vec();
    wait(scratch.catalog.record(changes, Vec::new())).unwrap();
    let rows = scratch.reader().commands(10).unwrap();
    let json = serde_json::to_value(&rows).unwrap();
    assert_eq!((rows.len(), rows[0].id, rows[0].call), (2, full.id, full.call));
    assert_eq!((rows[0].recording, rows[0].at), (full.recording, full.at));
    assert_eq!(json[0]["party"], "callee");
    assert_eq!((&json[0]["way"], &json[0]["outcome"]), (&"socket".into(), &"done".into()));
    assert_eq!((&json[1]["code"], &json[1]["id"]), (&"unsupported".into(), &().into()));
    assert_eq!(scratch.reader().commands(1).unwrap().len(), 1);
}
