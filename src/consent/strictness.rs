//! Which of two policies is the stricter: a total order.
//!
//! Where several policies fit a call, the strictest of them governs it: one whole policy, never a
//! mixture of two, so that what a party was told is what one of them says.
//!
//! The criteria are asked in the order of [`Criterion::ALL`]; the first that tells the policies
//! apart decides. `docs/configuration.md` shows the same table.

use std::cmp::{Ordering, Reverse};

use crate::consent::policy::{Ask, Gate, OnRefusal, OnWithdrawal, Policy, Scope};
use crate::ids::Leg;

/// What tells two policies apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Criterion {
    /// `opt-in`, then `token`, then `no-objection`, then `standing`.
    Gate,
    /// The same of the gate that follows where no valid token came.
    Fallback,
    /// `all`, then `per-party`.
    Scope,
    /// Who asks more parties.
    Asked,
    /// Who covers fewer by an agreement on file.
    OnFile,
    /// `continue`, then `hang-up`.
    Refusal,
    /// `erase`, then `keep`.
    Withdrawal,
    /// Who keeps for less long.
    Retention,
    /// The name that comes first, byte by byte: two policies of one configuration never share one.
    Name,
}

impl Criterion {
    /// Every criterion, in the order in which they are asked.
    pub const ALL: [Criterion; 9] = [
        Criterion::Gate,
        Criterion::Fallback,
        Criterion::Scope,
        Criterion::Asked,
        Criterion::OnFile,
        Criterion::Refusal,
        Criterion::Withdrawal,
        Criterion::Retention,
        Criterion::Name,
    ];

    /// The key of the configuration that it is about.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Criterion::Gate => "gate",
            Criterion::Fallback => "fallback",
            Criterion::Scope => "scope",
            Criterion::Asked => "ask",
            Criterion::OnFile => "standing",
            Criterion::Refusal => "on_refusal",
            Criterion::Withdrawal => "on_withdrawal",
            Criterion::Retention => "retention",
            Criterion::Name => "name",
        }
    }

    /// How the policies compare by this alone: `Greater` when `one` is the stricter.
    fn compare(self, one: &Policy, other: &Policy) -> Ordering {
        let by = |rank: fn(&Policy) -> usize| rank(one).cmp(&rank(other));
        match self {
            Criterion::Gate => by(|policy| strictness_of(policy.gate)),
            // Only a token that does not come leads to the fallback.
            Criterion::Fallback => by(|policy| match policy.gate {
                Gate::Token => strictness_of(policy.fallback),
                _ => 0,
            }),
            Criterion::Scope => by(|policy| match policy.scope {
                Scope::All => 1,
                Scope::PerParty => 0,
            }),
            Criterion::Asked => by(|policy| count(policy, |ask| *ask == Ask::OnCall)),
            Criterion::OnFile => by(|policy| count(policy, |ask| !matches!(ask, Ask::Standing(_)))),
            Criterion::Refusal => by(|policy| match policy.on_refusal {
                OnRefusal::Continue => 1,
                OnRefusal::HangUp => 0,
            }),
            Criterion::Withdrawal => by(|policy| match policy.on_withdrawal {
                OnWithdrawal::Erase => 1,
                OnWithdrawal::Keep => 0,
            }),
            Criterion::Retention => Reverse(one.retention).cmp(&Reverse(other.retention)),
            Criterion::Name => Reverse(&one.name).cmp(&Reverse(&other.name)),
        }
    }
}

fn strictness_of(gate: Gate) -> usize {
    match gate {
        Gate::OptIn => 3,
        Gate::Token => 2,
        Gate::NoObjection => 1,
        Gate::Standing => 0,
    }
}

fn count(policy: &Policy, which: fn(&Ask) -> bool) -> usize {
    Leg::BOTH.iter().filter(|leg| which(policy.ask(**leg))).count()
}

/// How two policies compare, and what decided it; `Greater` when `one` is the stricter. `Equal`,
/// and no criterion, for two of one name that nothing tells apart.
#[must_use]
pub fn compare(one: &Policy, other: &Policy) -> (Ordering, Option<Criterion>) {
    let decided = Criterion::ALL
        .into_iter()
        .map(|criterion| (criterion.compare(one, other), criterion))
        .find(|(order, _)| order.is_ne());
    decided.map_or((Ordering::Equal, None), |(order, criterion)| (order, Some(criterion)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::consent::tests::policy;

    fn any_policy() -> impl Strategy<Value = Policy> {
        let gate = || {
            prop_oneof![
                Just(Gate::OptIn),
                Just(Gate::Token),
                Just(Gate::NoObjection),
                Just(Gate::Standing)
            ]
        };
        let ask = || {
            prop_oneof![Just(Ask::OnCall), Just(Ask::Nobody), Just(Ask::Standing("a".to_owned()))]
        };
        let scope = prop_oneof![Just(Scope::All), Just(Scope::PerParty)];
        let refusal = prop_oneof![Just(OnRefusal::Continue), Just(OnRefusal::HangUp)];
        let withdrawal = prop_oneof![Just(OnWithdrawal::Erase), Just(OnWithdrawal::Keep)];
        let rest = (refusal, withdrawal, 1u64..4, "[ab]{1,2}");
        (gate(), gate(), scope, ask(), ask(), rest).prop_map(
            |(gate, fallback, scope, caller, callee, (on_refusal, on_withdrawal, days, name))| {
                let retention = Duration::from_secs(days * 86_400);
                Policy {
                    gate,
                    fallback,
                    scope,
                    caller,
                    callee,
                    on_refusal,
                    on_withdrawal,
                    retention,
                    name,
                    ..policy()
                }
            },
        )
    }

    fn order(one: &Policy, other: &Policy) -> Ordering {
        compare(one, other).0
    }

    #[test]
    fn each_criterion_goes_before_the_next() {
        let loosest = Policy {
            gate: Gate::Token,
            fallback: Gate::Standing,
            scope: Scope::PerParty,
            caller: Ask::Standing("a".to_owned()),
            callee: Ask::Standing("a".to_owned()),
            on_refusal: OnRefusal::HangUp,
            on_withdrawal: OnWithdrawal::Keep,
            retention: Duration::from_secs(2),
            name: "b".to_owned(),
            ..policy()
        };
        let base = || loosest.clone();
        // Each is stricter in one respect, and comes before all that follow.
        let stricter = [
            (Criterion::Gate, Policy { gate: Gate::OptIn, ..base() }),
            (Criterion::Fallback, Policy { fallback: Gate::NoObjection, ..base() }),
            (Criterion::Scope, Policy { scope: Scope::All, ..base() }),
            (Criterion::Asked, Policy { caller: Ask::OnCall, ..base() }),
            (Criterion::OnFile, Policy { caller: Ask::Nobody, ..base() }),
            (Criterion::Refusal, Policy { on_refusal: OnRefusal::Continue, ..base() }),
            (Criterion::Withdrawal, Policy { on_withdrawal: OnWithdrawal::Erase, ..base() }),
            (Criterion::Retention, Policy { retention: Duration::from_secs(1), ..base() }),
            (Criterion::Name, Policy { name: "a".to_owned(), ..base() }),
        ];
        for (index, (criterion, policy)) in stricter.iter().enumerate() {
            assert_eq!(Criterion::ALL[index], *criterion);
            assert_eq!(compare(policy, &loosest), (Ordering::Greater, Some(*criterion)));
            for (_, later) in &stricter[index + 1..] {
                assert_eq!(compare(policy, later).0, Ordering::Greater, "{criterion:?}");
            }
        }
        assert_eq!(compare(&loosest, &loosest), (Ordering::Equal, None));
    }

    #[test]
    fn the_gates_stand_in_their_order() {
        let gates = [Gate::OptIn, Gate::Token, Gate::NoObjection, Gate::Standing];
        let policies = gates.map(|gate| Policy { gate, ..policy() });
        for pair in policies.windows(2) {
            assert_eq!(compare(&pair[0], &pair[1]), (Ordering::Greater, Some(Criterion::Gate)));
        }
    }

    proptest! {
        #[test]
        fn of_two_policies_one_is_the_stricter(a in any_policy(), b in any_policy()) {
            prop_assert_eq!(order(&a, &b), order(&b, &a).reverse());
            if a.name != b.name {
                prop_assert_ne!(order(&a, &b), Ordering::Equal);
            }
        }

        #[test]
        fn the_strictest_is_the_same_in_every_order(
            a in any_policy(), b in any_policy(), c in any_policy()
        ) {
            if order(&a, &b).is_ge() && order(&b, &c).is_ge() {
                prop_assert!(order(&a, &c).is_ge());
            }
            if order(&a, &b).is_eq() && order(&b, &c).is_eq() {
                prop_assert!(order(&a, &c).is_eq());
            }
        }
    }
}
