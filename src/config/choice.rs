//! Which policy governs a call: the strictest of those that fit it.
//!
//! The policy that the route names fits every call of the route; beside it fit those whose own
//! `match` takes the call. One whole policy governs, never a mixture: [`strictness`] says which.

use std::sync::Arc;

use crate::config::Config;
use crate::config::route::{Offered, Route, Streams};
use crate::consent::policy::{Policy, Scope};
use crate::consent::strictness::{self, Criterion};

/// The policy that governs a call, and those that would have.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// As it holds for this call.
    pub policy: Arc<Policy>,
    /// All that fit, the strictest first.
    pub candidates: Vec<Candidate>,
}

/// A policy that fits a call.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// As it would hold for this call.
    pub policy: Arc<Policy>,
    /// Why it fits.
    pub fits: Fits,
    /// What makes the strictest one stricter than this; `None` for the strictest itself.
    pub looser_by: Option<Criterion>,
}

/// Why a policy fits a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fits {
    /// The call's route names it.
    Route,
    /// Its own `match` takes the call.
    Match,
}

impl Config {
    /// The policy of a call on this route.
    #[must_use]
    pub fn choose(&self, route: &Route, call: &Offered<'_>) -> Chosen {
        let matching = self.matching.iter().filter(|policy| policy.matches.fits(call));
        let matching = matching.map(|policy| (&policy.policy, Fits::Match));
        let mut candidates: Vec<Candidate> = Vec::new();
        for (policy, fits) in std::iter::once((&route.policy, Fits::Route)).chain(matching) {
            if candidates.iter().all(|known| known.policy.name != policy.name) {
                let policy = on_route(policy, route);
                candidates.push(Candidate { policy, fits, looser_by: None });
            }
        }
        candidates.sort_by(|one, other| strictness::compare(&other.policy, &one.policy).0);
        let policy = match candidates.first() {
            Some(strictest) => Arc::clone(&strictest.policy),
            None => on_route(&route.policy, route),
        };
        for candidate in candidates.iter_mut().skip(1) {
            candidate.looser_by = strictness::compare(&policy, &candidate.policy).1;
        }
        Chosen { policy, candidates }
    }
}

/// The policy as it holds on this route: where streams are mixed, nobody is recorded before
/// everybody is permitted.
fn on_route(policy: &Arc<Policy>, route: &Route) -> Arc<Policy> {
    match (route.streams, policy.scope) {
        (Streams::Mixed, Scope::PerParty) => {
            Arc::new(Policy { scope: Scope::All, ..(**policy).clone() })
        }
        (Streams::Separate, _) | (Streams::Mixed, Scope::All) => Arc::clone(policy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::message::Headers;
    use crate::config::{parse, select};

    const TEXT: &str = r#"
        [[route]]
        match = { to = "9*" }
        next_hop = "sip:127.0.0.1:5080"
        policy = "loose"
        mixed = true
        [[route]]
        next_hop = "sip:127.0.0.1:5080"
        policy = "loose"

        [[policy]]
        name = "loose"
        basis = "legitimate_interests"
        gate = "no-objection"
        scope = "per-party"
        standing = { callee = "a" }
        purposes = ["q"]
        controller = "A"
        retention = "90d"

        [[policy]]
        name = "germany"
        match = { from = "+49*" }
        standing = { callee = "a" }
        purposes = ["q"]
        controller = "A"
        retention = "30d"

        [[policy]]
        name = "short"
        match = { from = ["+49*", "+43*"], header = { "X-Queue" = "*" } }
        standing = { callee = "a" }
        purposes = ["q"]
        controller = "A"
        retention = "7d"
    "#;

    fn chosen(from: &str, to: &str, headers: &Headers) -> Chosen {
        let (config, _) = parse(TEXT, "t").unwrap();
        let call = Offered { from, to, peer: [127, 0, 0, 1].into(), headers };
        config.choose(select(&config.routes, &call).unwrap(), &call)
    }

    fn names(chosen: &Chosen) -> Vec<(&str, Fits, Option<Criterion>)> {
        assert_eq!(chosen.policy, chosen.candidates[0].policy);
        chosen.candidates.iter().map(|c| (&*c.policy.name, c.fits, c.looser_by)).collect()
    }

    #[test]
    fn the_strictest_of_all_that_fit_governs_the_call() {
        let none = Headers::new();
        let queue = Headers::new().with("X-Queue", &b"sales"[..]);
        assert_eq!(names(&chosen("+331", "200", &none)), [("loose", Fits::Route, None)]);
        assert_eq!(
            names(&chosen("+4930", "200", &none)),
            [("germany", Fits::Match, None), ("loose", Fits::Route, Some(Criterion::Gate))]
        );
        assert_eq!(
            names(&chosen("+4930", "200", &queue)),
            [
                ("short", Fits::Match, None),
                ("germany", Fits::Match, Some(Criterion::Retention)),
                ("loose", Fits::Route, Some(Criterion::Gate)),
            ]
        );
    }

    #[test]
    fn a_whole_policy_is_chosen_and_never_a_mixture() {
        let (config, _) = parse(TEXT, "t").unwrap();
        let policy = chosen("+4930", "200", &Headers::new()).policy;
        assert_eq!(policy, config.policies["germany"]);
    }

    #[test]
    fn a_policy_that_fits_and_could_never_record_is_refused() {
        let vain = TEXT.replacen("standing = { callee = \"a\" }\n        purposes = [\"q\"]\n        controller = \"A\"\n        retention = \"30d\"", "purposes = [\"q\"]\n        controller = \"A\"\n        retention = \"30d\"", 1);
        let said = parse(&vain, "t").unwrap_err().to_string();
        assert!(said.contains("policy.germany: under \"germany\" the callee is neither"), "{said}");
        let endpoint = vain.replace("next_hop = \"sip:127.0.0.1:5080\"", "mode = \"endpoint\"");
        assert!(parse(&endpoint, "t").is_ok());
    }

    #[test]
    fn on_a_route_with_mixed_streams_the_scope_is_all() {
        let none = Headers::new();
        let separate = chosen("+331", "200", &none).policy;
        let mixed = chosen("+331", "900", &none).policy;
        assert_eq!((separate.scope, mixed.scope), (Scope::PerParty, Scope::All));
        assert_eq!(mixed.name, separate.name);
        assert_ne!(mixed.digest(), separate.digest());
    }
}
