//! Whatever happens in whatever order: every question ends, and no grant comes from nothing.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::ids::StreamId;

/// Something that happens to a call.
#[derive(Clone, Copy, Debug)]
enum Act {
    Present(Leg),
    /// The prompt that plays ends by itself.
    Played(Leg),
    /// It ends, and was not heard.
    Unheard(Leg),
    Key(Leg, char),
    Held(Leg),
    /// So much time passes.
    Pass(u16),
    /// The next deadline comes.
    Wait,
    /// The oldest decision that waits becomes durable.
    Durable,
    /// It does not.
    NotDurable,
    /// It does, after everybody has given up on it.
    Late,
    Left(Leg),
}

fn leg() -> impl Strategy<Value = Leg> {
    prop_oneof![2 => Just(Leg::Caller), 1 => Just(Leg::Callee)]
}

fn act() -> impl Strategy<Value = Act> {
    let key = prop::sample::select(vec!['1', '1', '1', '2', '7', '9', '*', '*']);
    prop_oneof![
        4 => leg().prop_map(Act::Present),
        4 => leg().prop_map(Act::Played),
        1 => leg().prop_map(Act::Unheard),
        5 => (leg(), key).prop_map(|(leg, key)| Act::Key(leg, key)),
        1 => leg().prop_map(Act::Held),
        2 => any::<u16>().prop_map(Act::Pass),
        2 => Just(Act::Wait),
        6 => Just(Act::Durable),
        1 => Just(Act::NotDurable),
        1 => Just(Act::Late),
        1 => leg().prop_map(Act::Left),
    ]
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let ask = |standing: &'static str| {
        prop_oneof![
            4 => Just(Ask::OnCall),
            3 => Just(Ask::Standing(standing.to_owned())),
            1 => Just(Ask::Nobody),
        ]
    };
    let gate = prop::sample::select(vec![Gate::OptIn, Gate::NoObjection]);
    let scope = prop::sample::select(vec![Scope::All, Scope::PerParty]);
    (gate, scope, ask("a"), ask("b"), 1_u8..4).prop_map(
        |(gate, scope, caller, callee, attempts)| Policy {
            gate,
            scope,
            caller,
            callee,
            attempts,
            ..policy()
        },
    )
}

/// A rig, and what it must be held against.
struct Watch<'a> {
    rig: Rig<'a>,
    scope: Scope,
    /// Permissions whose receipts the machine was given.
    proven: HashSet<(StreamId, Digest)>,
    granted: HashSet<StreamId>,
    gone: HashSet<Leg>,
}

impl Watch<'_> {
    fn act(&mut self, act: Act) {
        let rig = &mut self.rig;
        match act {
            Act::Present(leg) => rig.present(leg),
            Act::Played(leg) => rig.played(leg, |_| {}),
            Act::Unheard(leg) => rig.played(leg, |notice| notice.completed = false),
            Act::Key(leg, key) => rig.key(leg, key),
            Act::Held(leg) => rig.feed(Input::Held { leg }),
            Act::Pass(millis) => {
                rig.at = rig.at.plus(Duration::from_millis(u64::from(millis)));
                rig.feed(Input::Tick);
            }
            Act::Wait => drop(rig.wait()),
            Act::Durable | Act::Late if !rig.pending.is_empty() => {
                let decision = rig.pending.remove(0);
                if matches!(act, Act::Late) {
                    let (leg, number) = (decision.facts().leg, decision.number());
                    rig.feed(Input::NotDurable { leg, number });
                }
                let receipt = rig.scratch.commit(decision);
                if let Some(stream) = receipt.value().permits()
                    && !matches!(act, Act::Late)
                {
                    self.proven.insert((stream, receipt.evidence()));
                }
                rig.feed(Input::Durable(receipt));
            }
            Act::NotDurable if !rig.pending.is_empty() => {
                let decision = rig.pending.remove(0);
                let (leg, number) = (decision.facts().leg, decision.number());
                rig.feed(Input::NotDurable { leg, number });
            }
            Act::Durable | Act::Late | Act::NotDurable => {}
            Act::Left(leg) => {
                rig.feed(Input::Left { leg });
                self.gone.insert(leg);
            }
        }
        self.look();
    }

    fn look(&mut self) {
        let known = self.granted.len();
        for grant in self.rig.grants.iter().skip(known) {
            let of = (grant.stream(), grant.evidence());
            assert!(self.proven.contains(&of), "a grant without a receipt that permits");
            assert!(self.granted.insert(grant.stream()), "two grants for one stream");
            assert_ne!(grant.standing(), Standing::Ended, "a grant that is dead when it is given");
        }
        let live = self.rig.live();
        assert!(live.iter().all(|leg| !self.gone.contains(leg)), "who has left is permitted");
        if self.scope == Scope::All {
            let all = live.is_empty() || live.len() == Leg::BOTH.len();
            assert!(all, "some are permitted and some are not: {live:?}");
            if matches!(self.rig.verdict, Some(Verdict::Unrecorded { .. })) {
                assert_eq!(live, [], "nobody is to be recorded");
            }
        }
    }

    /// Everybody is there who has not left, and then only time passes.
    fn end(&mut self, durable: bool) {
        for leg in Leg::BOTH.into_iter().filter(|leg| !self.gone.contains(leg)).collect::<Vec<_>>()
        {
            self.act(Act::Present(leg));
        }
        for _ in 0..64 {
            while !self.rig.pending.is_empty() {
                self.act(if durable { Act::Durable } else { Act::NotDurable });
            }
            if self.rig.machine.deadline().is_none() {
                return;
            }
            self.act(Act::Wait);
        }
        panic!("deadlines without end");
    }
}

#[test]
fn every_question_ends_and_no_grant_comes_from_nothing() {
    let scratch = Scratch::new();
    let script = (any_policy(), prop::collection::vec(act(), 0..40), any::<bool>());
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let mut recorded = 0;
    let shared = std::cell::Cell::new(0);
    let run = runner.run(&script, |(policy, acts, durable)| {
        let scope = policy.scope;
        let mut watch = Watch {
            rig: Rig::new(&scratch, policy),
            scope,
            proven: HashSet::new(),
            granted: HashSet::new(),
            gone: HashSet::new(),
        };
        for act in acts {
            watch.act(act);
        }
        watch.end(durable);
        prop_assert!(watch.rig.verdict.is_some(), "a question that does not end");
        let (recorded, granted) =
            (watch.rig.verdict == Some(Verdict::Recorded), !watch.granted.is_empty());
        prop_assert!(granted || !recorded, "it is said, and nobody may be recorded");
        // Under per-party, what is said is about those who are asked; an agreement may follow.
        prop_assert!(recorded || !granted || scope == Scope::PerParty, "it is done, and not said");
        shared.set(shared.get() + u32::from(!watch.granted.is_empty()));
        for leg in Leg::BOTH {
            watch.act(Act::Left(leg));
        }
        prop_assert_eq!(watch.rig.live(), []);
        Ok(())
    });
    recorded += shared.get();
    if let Err(why) = run {
        panic!("{why}");
    }
    assert!(recorded > 40, "the scripts reach a permission: {recorded}");
}
