//! What a grant needs, and what ends it.

use super::*;
use crate::consent::machine::Denial;

/// A caller who has pressed the key that accepts; nothing is durable yet.
pub(super) fn accepted<'a>(scratch: &'a Scratch, policy: Policy) -> Rig<'a> {
    let mut rig = Rig::new(scratch, policy);
    rig.present(Leg::Caller);
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '1');
    rig
}

#[test]
fn there_is_no_grant_before_the_evidence_is_durable() {
    let scratch = Scratch::new();
    let mut rig = accepted(&scratch, policy());
    assert_eq!((rig.pending.len(), rig.grants.len()), (2, 0));
    let [caller, callee] = <[Decision; 2]>::try_from(std::mem::take(&mut rig.pending)).unwrap();
    let receipt = scratch.commit(caller);
    rig.feed(Input::Durable(receipt));
    assert_eq!(rig.grants.len(), 0, "under the scope all, one yes is not enough");
    let receipt = scratch.commit(callee);
    rig.feed(Input::Durable(receipt));
    assert_eq!(rig.live(), Leg::BOTH);
    assert_eq!(rig.verdict, Some(Verdict::Recorded));
}

#[test]
fn evidence_that_is_not_durable_permits_nobody() {
    let scratch = Scratch::new();
    for failing in Leg::BOTH {
        let mut rig = accepted(&scratch, policy());
        for decision in std::mem::take(&mut rig.pending) {
            let (leg, number) = (decision.facts().leg, decision.number());
            if leg == failing {
                rig.feed(Input::NotDurable { leg, number });
            } else {
                let receipt = scratch.commit(decision);
                rig.feed(Input::Durable(receipt));
            }
        }
        assert_eq!(rig.grants.len(), 0);
        let why = match rig.verdict {
            Some(Verdict::Unrecorded { why, .. }) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(why, Denial::Unavailable);
    }
}

#[test]
fn a_receipt_that_comes_too_late_is_worth_nothing() {
    let scratch = Scratch::new();
    let late: [fn(&mut Rig<'_>); 2] = [
        |rig| {
            let number = rig.pending[0].number();
            rig.feed(Input::NotDurable { leg: Leg::Caller, number });
        },
        |rig| rig.feed(Input::Left { leg: Leg::Caller }),
    ];
    for before in late {
        let mut rig = accepted(&scratch, policy());
        before(&mut rig);
        rig.commit();
        rig.commit();
        assert_eq!(rig.grants.len(), 0);
        assert!(matches!(rig.verdict, Some(Verdict::Unrecorded { .. })));
    }
}

#[test]
fn one_no_is_everybodys_under_the_scope_all() {
    let scratch = Scratch::new();
    let both = Policy { callee: Ask::OnCall, ..policy() };
    let mut rig = accepted(&scratch, both);
    rig.commit();
    rig.present(Leg::Callee);
    rig.played(Leg::Callee, |_| {});
    assert_eq!(rig.grants.len(), 0, "the callee has not answered yet");
    rig.key(Leg::Callee, '2');
    rig.commit();
    assert_eq!(rig.grants.len(), 0);
    assert!(matches!(rig.verdict, Some(Verdict::Unrecorded { why: Denial::Refused, .. })));
}

#[test]
fn whoever_leaves_takes_everybodys_permission_along_under_the_scope_all() {
    let scratch = Scratch::new();
    for leaver in Leg::BOTH {
        let mut rig = accepted(&scratch, policy());
        rig.commit();
        assert_eq!(rig.live(), Leg::BOTH);
        rig.feed(Input::Left { leg: leaver });
        assert_eq!(rig.live(), []);
    }
}

#[test]
fn per_party_permits_who_said_yes_and_nobody_else() {
    let scratch = Scratch::new();
    let per_party = || Policy { scope: Scope::PerParty, ..policy() };
    let mut rig = Rig::new(&scratch, per_party());
    rig.present(Leg::Caller);
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '2');
    rig.commit();
    rig.present(Leg::Callee);
    rig.commit();
    assert_eq!(rig.live(), [Leg::Callee]);

    let mut rig = accepted(&scratch, per_party());
    rig.commit();
    rig.present(Leg::Callee);
    rig.commit();
    assert_eq!(rig.live(), Leg::BOTH);
    rig.feed(Input::Left { leg: Leg::Callee });
    assert_eq!(rig.live(), [Leg::Caller]);
}

#[test]
fn per_party_permits_who_is_asked_beside_one_who_is_not_covered() {
    let scratch = Scratch::new();
    let alone = || Policy { scope: Scope::PerParty, callee: Ask::Nobody, ..policy() };
    let mut rig = accepted(&scratch, alone());
    rig.commit();
    assert_eq!(rig.live(), [Leg::Caller]);
    assert_eq!(rig.verdict, Some(Verdict::Recorded));

    let mut rig = Rig::new(&scratch, alone());
    rig.present(Leg::Caller);
    rig.played(Leg::Caller, |_| {});
    rig.key(Leg::Caller, '2');
    rig.commit();
    assert_eq!(rig.live(), []);
    assert!(matches!(rig.verdict, Some(Verdict::Unrecorded { why: Denial::Refused, .. })));
}

#[test]
fn a_machine_that_is_gone_leaves_no_permission_behind() {
    let scratch = Scratch::new();
    let mut rig = accepted(&scratch, policy());
    rig.commit();
    let Rig { machine, grants, .. } = rig;
    assert!(grants.iter().all(Grant::is_live));
    drop(machine);
    assert!(!grants.iter().any(Grant::is_live));
}

#[test]
fn a_panic_ends_the_permission() {
    let scratch = Scratch::new();
    let mut rig = accepted(&scratch, policy());
    rig.commit();
    let Rig { machine, grants, .. } = rig;
    let unwound = std::thread::spawn(move || {
        let _machine = machine;
        panic!("somewhere in the agent");
    });
    assert!(unwound.join().is_err());
    assert!(!grants.iter().any(Grant::is_live));
}
