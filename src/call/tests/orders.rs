//! Orders from outside are carried out, or say why not.

use super::rig::*;
use super::*;
use crate::call::order::{Carried, Declined, Ordered, Recorded};
use crate::consent::machine::Order;
use crate::ids::RecordingId;

fn order(rig: &mut Rig, order: Order) -> Ordered {
    rig.call.order(rig.at, order, "id".to_owned())
}

#[test]
fn who_is_still_asked_refuses_with_a_withdrawal() {
    let mut rig = announced(opt_in());
    assert_eq!(rig.call.recorded(), Recorded::Asking);
    assert_eq!(order(&mut rig, Order::Pause).carried, Err(Declined::NotRecorded));
    let ordered = order(&mut rig, Order::Withdraw(Leg::Caller));
    assert_eq!((ordered.carried, ordered.recording), (Ok(Carried::Changed), None));
    assert_eq!(ordered.decision, None, "the evidence needs the notice's end");
    rig.played(1, false);
    let facts = rig.decision().expect("a decision").facts();
    assert_eq!(facts.answer, Answer::Command { id: "id".to_owned() });
    assert_eq!(facts.outcome, Outcome::Refused);
}

#[test]
fn a_withdrawal_names_the_decision_that_makes_it_durable() {
    let mut rig = announced(opt_in());
    rig.played(1, true);
    let ordered = order(&mut rig, Order::Withdraw(Leg::Caller));
    let commits = |o: &Output| match o {
        Output::Commit(decision) => Some(decision.number()),
        _ => None,
    };
    assert_eq!(ordered.decision, ordered.outputs.iter().find_map(commits));
    assert!(ordered.decision.is_some());
}

#[test]
fn who_gave_no_permission_has_none_to_take_back() {
    let mut rig = dialling();
    assert_eq!(rig.call.recorded(), Recorded::Unrecorded);
    let ordered = order(&mut rig, Order::Withdraw(Leg::Caller));
    assert_eq!((ordered.carried, ordered.outputs.len()), (Err(Declined::NotRecorded), 0));
    for wanted in [Order::Pause, Order::Resume] {
        assert_eq!(order(&mut rig, wanted).carried, Err(Declined::NotRecorded));
    }
}

#[test]
fn a_call_without_a_recorder_asks_nobody() {
    let broken = Setup { recorder: Recorder::OutOfOrder, ..setup(opt_in(), true) };
    let mut rig = Rig::start(broken);
    assert_eq!(rig.call.recorded(), Recorded::Unrecorded);
    assert_eq!(order(&mut rig, Order::Pause).carried, Err(Declined::NotRecorded));
}

#[test]
fn an_endpoint_call_has_no_callee_and_one_that_ends_takes_no_orders() {
    let mut rig = Rig::start(setup(opt_in(), false));
    let ordered = order(&mut rig, Order::Withdraw(Leg::Callee));
    assert_eq!(ordered.carried, Err(Declined::NoSuchParty));
    rig.feed(Input::HangUp);
    let ordered = order(&mut rig, Order::Withdraw(Leg::Caller));
    assert_eq!((ordered.carried, ordered.outputs.len()), (Err(Declined::Ended), 0));
    assert_eq!(rig.call.recorded(), Recorded::Unrecorded);
}

#[test]
fn a_call_knows_its_own_recordings() {
    let made = setup(opt_in(), true);
    let own = made.recording;
    let rig = Rig::start(made);
    assert!(rig.call.owns(own));
    assert!(!rig.call.owns(own.successor()), "not before there is one");
    assert!(!rig.call.owns(RecordingId(Uuid::from_u128(own.0.as_u128().wrapping_sub(1)))));
}
