//! The do-not-record list.

use std::collections::HashSet;

use super::*;
use crate::catalog::{Change, ListedParty};
use crate::time::Timestamp;

fn entry(n: u64, reason: &str, at: i64) -> ListedParty {
    ListedParty {
        party_ref: party(n),
        reason: reason.to_owned(),
        actor: "officer".to_owned(),
        since: Timestamp::from_micros(at),
    }
}

fn listed(n: u64, reason: &str, at: i64) -> Change {
    Change::Listed { entry: entry(n, reason, at), number: number(n) }
}

#[test]
fn a_party_is_listed_until_taken_off_and_survives_a_restart() {
    let scratch = Scratch::new();
    let changes = vec![listed(1, "first", 1), listed(2, "other", 2)];
    wait(scratch.catalog.record(changes, Vec::new())).unwrap();
    // Listed again: the day stays, the reason is the new one.
    wait(scratch.catalog.record(vec![listed(1, "second", 9)], Vec::new())).unwrap();
    let scratch = scratch.reopened();
    let reader = scratch.reader();
    assert_eq!(reader.do_not_record().unwrap(), [entry(2, "other", 2), entry(1, "second", 1)]);
    assert_eq!(reader.listed().unwrap(), HashSet::from([party(1), party(2)]));
    assert_eq!(reader.is_listed(party(1)).unwrap(), Some(entry(1, "second", 1)));
    assert_eq!(reader.is_listed(party(3)).unwrap(), None);
    let clear = reader.listed_number(party(1), &reference()).unwrap().unwrap();
    assert_eq!(clear.expose(), number(1).expose());
    let change = Change::Unlisted { party: party(1) };
    wait(scratch.catalog.record(vec![change.clone(), change], Vec::new())).unwrap();
    assert_eq!(scratch.reader().listed().unwrap(), HashSet::from([party(2)]));
}

#[tokio::test]
async fn no_number_is_kept_in_clear_or_under_another_name() {
    let scratch = Scratch::new();
    scratch.catalog.record(vec![listed(1, "x", 1)], Vec::new()).await.unwrap();
    let wrong = Change::Listed { entry: entry(1, "x", 1), number: number(2) };
    assert!(scratch.catalog.record(vec![wrong], Vec::new()).await.is_err());
    let path = scratch.catalog.path().to_owned();
    scratch.catalog.close().await.unwrap();
    let bytes = std::fs::read(path).unwrap();
    let clear = number(1).expose().as_bytes().to_vec();
    assert!(!bytes.windows(clear.len()).any(|window| window == clear));
}
