//! What the machine says of itself when the call asks.

use super::*;
use crate::consent::machine::{Denial, Meaning, Order, Sequence};

fn paused(rig: &mut Rig<'_>, order: Order) {
    rig.feed(Input::Command { order, id: "c".into() });
}

#[test]
fn a_recording_is_one_from_the_grant_to_its_end_and_written_but_for_pauses() {
    let scratch = Scratch::new();
    let mut rig = Rig::new(&scratch, policy());
    let seen = |rig: &Rig<'_>| (rig.machine.is_recording(), rig.machine.is_writing());
    let standing = |rig: &Rig<'_>| rig.machine.standing(Leg::Caller);
    rig.present(Leg::Caller);
    assert!(rig.machine.is_asking(Leg::Caller) && !rig.machine.is_asking(Leg::Callee));
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '1');
    assert_eq!((seen(&rig), standing(&rig)), ((false, false), Standing::Ended));
    assert_eq!(rig.machine.settled(), None);
    rig.commit();
    assert_eq!((seen(&rig), standing(&rig)), ((true, true), Standing::Live));
    assert_eq!(rig.machine.settled(), Some(Verdict::Recorded));
    assert!(!rig.machine.is_asking(Leg::Caller));
    paused(&mut rig, Order::Pause);
    assert_eq!((seen(&rig), standing(&rig)), ((true, false), Standing::Paused));
    paused(&mut rig, Order::Resume);
    assert_eq!(seen(&rig), (true, true));
    assert_eq!(rig.machine.denial(Leg::Caller), None);
    rig.keys(Leg::Caller, "*9");
    rig.commit();
    assert_eq!((seen(&rig), standing(&rig)), ((false, false), Standing::Ended));
    assert_eq!(rig.machine.denial(Leg::Caller), Some(Denial::Withdrawn));
}

#[test]
fn who_is_covered_who_is_asked_and_whether_a_recording_is_possible() {
    let scratch = Scratch::new();
    let on_call = || Ask::OnCall;
    let cases = [
        // Caller, callee, scope: covers, possible, asks the caller, asks the callee.
        (on_call(), on_call(), Scope::All, [true, true, true, true]),
        (on_call(), Ask::Nobody, Scope::All, [false, false, false, false]),
        (on_call(), Ask::Nobody, Scope::PerParty, [true, true, true, false]),
        (Ask::Nobody, Ask::Nobody, Scope::PerParty, [false, false, false, false]),
    ];
    for (caller, callee, scope, expected) in cases {
        let text = format!("{caller:?} {callee:?} {scope:?}");
        let rig = Rig::new(&scratch, Policy { caller, callee, scope, ..policy() });
        let machine = &rig.machine;
        let asks = Leg::BOTH.map(|leg| machine.asks(leg));
        assert_eq!([machine.covers(), machine.possible(), asks[0], asks[1]], expected, "{text}");
    }
    let listed = [Prior::Listed, Prior::Nothing];
    let rig = Rig::knowing(&scratch, Policy { scope: Scope::PerParty, ..policy() }, listed);
    assert!(rig.machine.possible() && rig.machine.covers(), "the callee may be recorded");
    let listed = [Prior::Listed, Prior::Nothing];
    let rig = Rig::knowing(&scratch, policy(), listed);
    assert!(!rig.machine.possible() && rig.machine.covers());
}

#[test]
fn keys_mean_something_to_whom_the_policy_says() {
    let scratch = Scratch::new();
    let rig = Rig::new(&scratch, policy());
    let sequence = |keys: &str, meaning| Sequence { keys: keys.to_owned(), meaning };
    let withdraw = || sequence("*9", Meaning::Withdraw);
    assert_eq!(rig.machine.sequences(Leg::Caller), [withdraw()]);
    let both = [withdraw(), sequence("*7", Meaning::Pause)];
    assert_eq!(rig.machine.sequences(Leg::Callee), both);
    let uncovered = Policy { callee: Ask::Nobody, scope: Scope::PerParty, ..policy() };
    let rig = Rig::new(&scratch, uncovered);
    assert_eq!(rig.machine.sequences(Leg::Callee), [sequence("*7", Meaning::Pause)]);
}

#[test]
fn a_withdrawal_stops_its_party_or_everybody_and_a_pause_everybody() {
    let scratch = Scratch::new();
    for (scope, meaning, stopped) in [
        (Scope::All, Meaning::Withdraw, Leg::BOTH.to_vec()),
        (Scope::All, Meaning::Pause, Leg::BOTH.to_vec()),
        (Scope::PerParty, Meaning::Withdraw, vec![Leg::Callee]),
        (Scope::PerParty, Meaning::Pause, Leg::BOTH.to_vec()),
    ] {
        let rig = Rig::new(&scratch, Policy { scope, ..policy() });
        assert_eq!(rig.machine.stopped_by(Leg::Callee, meaning), stopped, "{scope:?} {meaning:?}");
    }
}

#[test]
fn the_machine_waits_for_the_nearest_of_its_deadlines() {
    let scratch = Scratch::new();
    let per_party = Policy { scope: Scope::PerParty, callee: Ask::OnCall, ..policy() };
    let mut rig = Rig::new(&scratch, per_party);
    assert_eq!(rig.machine.deadline(), None);
    rig.present(Leg::Caller);
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '1');
    rig.commit();
    paused(&mut rig, Order::Pause);
    let limit = rig.at.instant + Duration::from_secs(300);
    assert_eq!(rig.machine.deadline(), Some(limit));
    rig.present(Leg::Callee);
    rig.played(Leg::Callee, |_| {});
    assert_eq!(rig.machine.deadline(), Some(rig.at.instant + Duration::from_secs(8)));
    rig.feed(Input::Tick);
    assert!(rig.machine.is_asking(Leg::Callee) && !rig.machine.is_writing(), "nothing is due yet");
}
