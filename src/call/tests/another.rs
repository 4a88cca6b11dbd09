//! Somebody else on the line: permission belongs to who gave it.

use super::rig::*;
use super::*;
use crate::consent::machine::PartyFacts;
use crate::ids::PartyRef;

/// A re-INVITE of the caller's side that names who speaks now.
fn named(rig: &mut Rig, who: &str) {
    let mut request = incoming(Method::Invite, 2);
    request.to.tag = Some("caller-side".into());
    request.headers = Headers::new().with("P-Asserted-Identity", format!("<sip:{who}@127.0.0.1>"));
    rig.feed(Input::Request { leg: Leg::Caller, txn: ServerTxn(60), request });
}

fn talking() -> Rig {
    let mut rig = announced(opt_in());
    rig.played(1, true).key('1');
    rig.durable();
    rig.callee_says(200, ANSWER);
    assert_eq!(rig.relays(), 2);
    rig
}

fn identified(rig: &Rig) -> bool {
    rig.has(|o| matches!(o, Output::Identify { leg: Leg::Caller, .. }))
}

fn replace(rig: &mut Rig) {
    let party = PartyFacts { party_ref: PartyRef([99; 32]), ..party(Leg::Caller) };
    rig.feed(Input::Replaced { party });
}

#[test]
fn a_new_identity_ends_what_was_permitted_and_is_asked() {
    let mut rig = talking();
    named(&mut rig, "+49555");
    assert!(identified(&rig));
    replace(&mut rig);
    let released = rig.out.iter().filter(|o| matches!(o, Output::Release { .. })).count();
    assert_eq!(released, 2, "under the scope all, nobody is recorded meanwhile");
    assert_eq!(rig.prompts(), ["notice-opt-in", "stopped"]);
    rig.played(3, true).key('1');
    assert_eq!(rig.decision().expect("a decision").facts().party_ref, PartyRef([99; 32]));
    rig.durable();
    let captured = rig.out.iter().filter(|o| matches!(o, Output::Capture { .. })).count();
    assert_eq!((captured, rig.prompts()), (2, vec!["accepted"; 2]));
}

#[test]
fn a_new_party_who_refuses_talks_on_unrecorded_or_not_at_all() {
    for (then, prompts) in
        [(OnRefusal::Continue, vec!["declined"]), (OnRefusal::HangUp, vec!["refused-goodbye"; 2])]
    {
        let mut rig = announced(Policy { on_refusal: then, ..no_objection() });
        rig.played(1, true).wait(Duration::from_secs(8));
        rig.durable();
        rig.callee_says(200, ANSWER);
        replace(&mut rig);
        rig.played(3, true).key('2');
        rig.durable();
        assert_eq!(rig.prompts(), prompts);
    }
}

#[test]
fn the_same_party_by_the_same_name_is_nobody_new() {
    let mut rig = talking();
    named(&mut rig, "+49555");
    assert!(identified(&rig));
    named(&mut rig, "+49555");
    assert!(!identified(&rig));
}
