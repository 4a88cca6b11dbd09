//! A pause stops the writing of everybody, and ends.

use super::*;
use crate::consent::Stop;
use crate::consent::machine::Order;

fn recorded(scratch: &Scratch) -> Rig<'_> {
    let mut rig = Rig::new(scratch, policy());
    rig.present(Leg::Caller);
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '1');
    rig.commit();
    rig.present(Leg::Callee);
    rig
}

fn standings(rig: &Rig<'_>) -> Vec<Standing> {
    rig.grants.iter().map(Grant::standing).collect()
}

#[test]
fn the_same_keys_pause_and_resume() {
    let scratch = Scratch::new();
    let mut rig = recorded(&scratch);
    rig.keys(Leg::Callee, "*7");
    assert_eq!(standings(&rig), [Standing::Paused; 2]);
    assert!(!rig.machine.is_writing());
    rig.keys(Leg::Callee, "*7");
    assert_eq!(standings(&rig), [Standing::Live; 2]);
    let by = PausedBy::Keys(Leg::Callee);
    assert_eq!(rig.flow, [("paused", by), ("resumed", by)]);
    assert_eq!(
        rig.said,
        [
            (Leg::Caller, "paused"),
            (Leg::Callee, "paused"),
            (Leg::Caller, "resumed"),
            (Leg::Callee, "resumed")
        ]
    );
}

#[test]
fn who_may_not_pause_does_not() {
    let scratch = Scratch::new();
    let mut rig = recorded(&scratch);
    rig.keys(Leg::Caller, "*7");
    assert_eq!(standings(&rig), [Standing::Live; 2]);
}

#[test]
fn a_forgotten_pause_ends_at_its_limit_and_says_so() {
    let scratch = Scratch::new();
    let mut rig = recorded(&scratch);
    rig.keys(Leg::Callee, "*7");
    assert!(rig.wait());
    assert_eq!(standings(&rig), [Standing::Live; 2]);
    assert_eq!(rig.flow[1], ("resumed", PausedBy::Limit));
    assert!(rig.said.contains(&(Leg::Caller, "resumed")));
    assert_eq!(rig.machine.deadline(), None);
}

#[test]
fn commands_pause_and_resume_and_say_nothing_twice() {
    let scratch = Scratch::new();
    let mut rig = recorded(&scratch);
    for order in [Order::Resume, Order::Pause, Order::Pause, Order::Resume, Order::Resume] {
        rig.feed(Input::Command { order, id: "c".into() });
    }
    assert_eq!(rig.flow, [("paused", PausedBy::Command), ("resumed", PausedBy::Command)]);
}

#[test]
fn without_a_recording_there_is_nothing_to_pause() {
    let scratch = Scratch::new();
    let mut rig = Rig::new(&scratch, policy());
    rig.present(Leg::Caller);
    rig.keys(Leg::Callee, "*7");
    assert_eq!((rig.flow.len(), rig.said.len()), (0, 0));
}

#[test]
fn a_withdrawal_ends_a_pause_for_good() {
    let scratch = Scratch::new();
    let mut rig = recorded(&scratch);
    rig.keys(Leg::Callee, "*7");
    rig.keys(Leg::Caller, "*9");
    assert_eq!(standings(&rig), [Standing::Ended; 2]);
    rig.commit();
    rig.keys(Leg::Callee, "*7");
    assert_eq!(standings(&rig), [Standing::Ended; 2], "what has ended is not resumed");
    assert_eq!(rig.flow.len(), 1);
}

#[test]
fn a_permission_that_comes_during_a_pause_waits_for_its_end() {
    let scratch = Scratch::new();
    let mut rig = Rig::new(&scratch, Policy { scope: Scope::PerParty, ..policy() });
    rig.present(Leg::Caller);
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '1');
    rig.commit();
    rig.feed(Input::Command { order: Order::Pause, id: "c".into() });
    rig.present(Leg::Callee);
    rig.commit();
    assert_eq!(standings(&rig), [Standing::Paused; 2]);
    rig.feed(Input::Command { order: Order::Resume, id: "c".into() });
    assert_eq!(standings(&rig), [Standing::Live; 2]);
}

#[test]
fn a_recording_whose_permission_is_being_written_down_begins_with_the_pause() {
    let scratch = Scratch::new();
    let mut rig = Rig::new(&scratch, policy());
    rig.present(Leg::Caller);
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '1');
    rig.present(Leg::Callee);
    rig.keys(Leg::Callee, "*7");
    assert!(rig.said.contains(&(Leg::Callee, "paused")), "{:?}", rig.said);
    rig.commit();
    assert_eq!(standings(&rig), [Standing::Paused; 2]);
    let by = PausedBy::Keys(Leg::Callee);
    assert_eq!(rig.flow, [("paused", by)], "the recording is told of its pause");
    rig.keys(Leg::Callee, "*7");
    assert_eq!(standings(&rig), [Standing::Live; 2]);
    assert_eq!(rig.flow, [("paused", by), ("resumed", by)]);
}

/// Keys of the callee that have stopped the writing of both with their packet.
fn stopping(rig: &mut Rig<'_>, keys: &str, stop: Stop) {
    for grant in &mut rig.grants {
        grant.suspend(stop);
    }
    for (n, key) in keys.chars().enumerate() {
        let complete = n + 1 == keys.len();
        let stops = Leg::BOTH.into_iter().filter(|_| complete);
        let stops = stops.fold(Stops::NONE, |stops, leg| stops.with(leg, stop));
        let (leg, pressed, via) = (Leg::Callee, rig.at.instant, KeyVia::TelephoneEvent);
        rig.feed(Input::Key { leg, pressed, key, via, rtp_timestamp: None, stops });
    }
}

#[test]
fn what_keys_have_stopped_is_written_again_once_they_turn_out_to_resume() {
    let scratch = Scratch::new();
    let mut rig = recorded(&scratch);
    let first = Stop::default().next();
    stopping(&mut rig, "*7", first);
    assert_eq!(standings(&rig), [Standing::Paused; 2]);
    stopping(&mut rig, "*7", first.next());
    assert_eq!(standings(&rig), [Standing::Live; 2]);
}

#[test]
fn a_writer_that_comes_after_the_keys_knows_of_them() {
    let scratch = Scratch::new();
    let mut rig = Rig::new(&scratch, policy());
    rig.present(Leg::Caller);
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '1');
    rig.present(Leg::Callee);
    let first = Stop::default().next();
    stopping(&mut rig, "*7", first);
    rig.commit();
    for grant in &mut rig.grants {
        grant.suspend(first);
    }
    assert_eq!(standings(&rig), [Standing::Paused; 2]);
    rig.feed(Input::Command { order: Order::Resume, id: "c".into() });
    assert_eq!(standings(&rig), [Standing::Live; 2]);
}
