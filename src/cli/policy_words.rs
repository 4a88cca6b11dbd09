//! What a policy does with a call, in words.

use crate::cli::check;
use crate::config::{Mode, Order, Route, Streams, TokenSource, span_text};
use crate::consent::policy::{
    AcceptAgain, Ask, Gate, OnRefusal, OnUnavailable, OnWithdrawal, Policy, Scope,
};
use crate::ids::Leg;

/// What is told about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tale<'a> {
    pub(super) route: &'a Route,
    /// The policy that governs the call.
    pub(super) policy: &'a Policy,
    /// Whose tokens count, where its gate is `token`.
    pub(super) tokens: Option<&'a TokenSource>,
    /// The called number.
    pub(super) to: &'a str,
    /// The locale that each party hears, caller first.
    pub(super) locales: [&'a str; 2],
    /// Who is on the do-not-record list, caller first.
    pub(super) listed: [bool; 2],
}

/// What will happen to the call.
pub(super) fn story(tale: &Tale<'_>) -> Vec<String> {
    let Tale { route, policy, .. } = *tale;
    let mut story = vec![arrival(tale)];
    for leg in present(route) {
        story.push(party(tale, *leg));
    }
    story.push(recording(tale));
    if asks(policy) {
        story.push(refusal(policy));
    }
    story.extend(later(policy));
    story.push(format!(
        "The recording is for {}, on the basis of {}, in the name of {}, and is erased after {}.",
        policy.purposes.join(" and "),
        basis(policy),
        policy.controller,
        span_text(policy.retention),
    ));
    story.push(match policy.on_unavailable {
        OnUnavailable::Proceed => {
            "If it cannot be recorded, the call goes on unrecorded.".to_owned()
        }
        OnUnavailable::Refuse => "If it cannot be recorded, the call is refused (603).".to_owned(),
    });
    story
}

/// Whose legs Assent has.
pub(super) fn present(route: &Route) -> &'static [Leg] {
    match route.mode {
        Mode::Inline { .. } => &Leg::BOTH,
        Mode::Endpoint => &[Leg::Caller],
    }
}

fn of(both: [&str; 2], leg: Leg) -> &str {
    let [caller, callee] = both;
    match leg {
        Leg::Caller => caller,
        Leg::Callee => callee,
    }
}

fn is_listed(tale: &Tale<'_>, leg: Leg) -> bool {
    let [caller, callee] = tale.listed;
    match leg {
        Leg::Caller => caller,
        Leg::Callee => callee,
    }
}

fn arrival(tale: &Tale<'_>) -> String {
    let asks = |leg| *tale.policy.ask(leg) == Ask::OnCall;
    match &tale.route.mode {
        Mode::Inline { next_hops } => {
            let uris: Vec<String> = next_hops.each.iter().map(|hop| hop.uri(tale.to)).collect();
            let uri = match (uris.len(), &next_hops.order) {
                (0 | 1, _) => uris.join(""),
                (_, Order::AsWritten) => format!("the first that takes it of {}", uris.join(", ")),
                (_, Order::ByWeight(_)) => format!("one of {}, by weight", uris.join(", ")),
            };
            match (asks(Leg::Caller), asks(Leg::Callee)) {
                (false, false) => format!("Assent answers the call and dials {uri}."),
                (true, false) => format!("Assent answers the call, asks and dials {uri}."),
                (false, true) => {
                    format!("Assent dials {uri}, asks who answers there, and then joins the two.")
                }
                (true, true) => format!(
                    "Assent answers the call, dials {uri}, asks both, and then joins the two."
                ),
            }
        }
        Mode::Endpoint => "Assent answers the call and is its far end.".to_owned(),
    }
}

fn party(tale: &Tale<'_>, leg: Leg) -> String {
    if is_listed(tale, leg) {
        return format!(
            "The {leg} is on the do-not-record list: not asked, counts as having objected."
        );
    }
    let policy = tale.policy;
    match policy.ask(leg) {
        Ask::Standing(agreement) => {
            format!("The {leg} is not asked: the agreement \"{agreement}\" is on file.")
        }
        Ask::Nobody => {
            format!("The {leg} is neither asked nor covered by an agreement: never recorded.")
        }
        Ask::OnCall if policy.gate == Gate::Token => {
            format!("{} Without one: {}", token(tale, leg), asked(tale, leg, policy.fallback))
        }
        Ask::OnCall => asked(tale, leg, policy.gate),
    }
}

fn token(tale: &Tale<'_>, leg: Leg) -> String {
    let Some(source) = tale.tokens else {
        return format!("A token states what the {leg} answered.");
    };
    let peers: Vec<String> = source.peers.iter().map(check::peer).collect();
    format!(
        "A token in {} from {}, not older than {}, states what the {leg} answered; nobody asks \
         then.",
        source.header,
        peers.join(" or "),
        span_text(source.max_age)
    )
}

fn asked(tale: &Tale<'_>, leg: Leg, gate: Gate) -> String {
    let policy = tale.policy;
    let locale = of(tale.locales, leg);
    let notice = &policy.notice;
    let within = span_text(policy.answer_within);
    match gate {
        Gate::OptIn => format!(
            "The {leg} hears \"{notice}\" in {locale} and has {within} to press {} (yes) or {} \
             (no); {} Silence is a refusal.",
            policy.accept,
            policy.refuse,
            match policy.attempts {
                0 | 1 => "the question is put once.".to_owned(),
                n => format!("the question is put {n} times at most."),
            }
        ),
        Gate::NoObjection => format!(
            "The {leg} hears \"{notice}\" in {locale} to its end and has {within} to object with \
             {}. A notice that is cut or not heard permits nothing.",
            policy.refuse
        ),
        Gate::Standing => match policy.on_file.of(leg) {
            Some(agreement) => {
                format!("The {leg} is not asked: the agreement \"{agreement}\" is on file.")
            }
            None => format!("The {leg} is not asked on the call."),
        },
        Gate::Token => format!("The {leg} is not asked on the call."),
    }
}

fn recording(tale: &Tale<'_>) -> String {
    let objected = |leg: &Leg| is_listed(tale, *leg);
    let some_objected = present(tale.route).iter().any(objected);
    match (&tale.route.mode, tale.policy.scope) {
        (_, Scope::All) if some_objected => "So nobody on this call is recorded.".to_owned(),
        (Mode::Endpoint, _) => "The caller's voice is recorded from the permission on.".to_owned(),
        (Mode::Inline { .. }, Scope::All) if tale.route.streams == Streams::Mixed => {
            "Nobody is recorded until everybody on the call is permitted: the route's streams are \
             mixed."
                .to_owned()
        }
        (Mode::Inline { .. }, Scope::All) => {
            "Nobody is recorded until everybody on the call is permitted.".to_owned()
        }
        (Mode::Inline { .. }, Scope::PerParty) => {
            "Who is permitted is recorded; the other's voice never is.".to_owned()
        }
    }
}

fn refusal(policy: &Policy) -> String {
    match policy.on_refusal {
        OnRefusal::Continue => "After a refusal the call goes on, unrecorded.".to_owned(),
        OnRefusal::HangUp if policy.acknowledge.is_some() => "After a refusal the call ends with \
             a goodbye; the controller states that there is no other service."
            .to_owned(),
        OnRefusal::HangUp => "After a refusal the call ends with a goodbye.".to_owned(),
    }
}

/// What may happen at any time.
fn later(policy: &Policy) -> Vec<String> {
    let fate = match policy.on_withdrawal {
        OnWithdrawal::Erase => "erased",
        OnWithdrawal::Keep => "kept",
    };
    let again = match policy.accept_again {
        AcceptAgain::Never => String::new(),
        AcceptAgain::ByKey => format!(" {} permits it again, as a new recording.", policy.accept),
    };
    let mut later = vec![format!(
        "{} withdraws a permission at any time: what was recorded of that party is {fate}.{again}",
        policy.withdraw
    )];
    let who: Vec<&str> = policy.pause_by.iter().map(|leg| leg.as_str()).collect();
    if !who.is_empty() {
        later.push(format!(
            "The {} pauses and resumes with {}; a pause ends by itself after {}.",
            who.join(" or the "),
            policy.pause,
            span_text(policy.pause_limit)
        ));
    }
    if let Some(every) = policy.beep {
        later.push(format!("A beep every {} says that the call is recorded.", span_text(every)));
    }
    later
}

fn asks(policy: &Policy) -> bool {
    Leg::BOTH.iter().any(|leg| *policy.ask(*leg) == Ask::OnCall)
}

fn basis(policy: &Policy) -> String {
    match serde_json::to_value(policy.basis) {
        Ok(serde_json::Value::String(word)) => word.replace('_', " "),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, parse};

    fn told(config: &Config, listed: [bool; 2]) -> Vec<String> {
        let route = &config.routes[0];
        let (policy, tokens) = (&*route.policy, config.tokens.get(&route.policy.name));
        let locales = ["en-US", "de-DE"];
        story(&Tale { route, policy, tokens, to: "200", locales, listed })
    }

    fn config(more: &str) -> Config {
        let text = format!(
            "[[route]]\nnext_hop = \"sip:127.0.0.1:5080\"\n[[policy]]\nname = \"default\"\n\
             purposes = [\"proof\"]\ncontroller = \"A\"\nretention = \"1d\"\n{more}"
        );
        parse(&text, "t").unwrap().0
    }

    #[test]
    fn the_default_policy_reads_as_a_story() {
        let said = told(&Config::default(), [false; 2]);
        assert_eq!(said[0], "Assent answers the call, asks and dials sip:200@127.0.0.1:5080.");
        assert!(
            said[1]
                .starts_with("The caller hears \"notice-opt-in\" in en-US and has 8s to press 1")
        );
        assert!(said[1].ends_with("Silence is a refusal."));
        assert!(said[2].contains("\"employee-agreement-2026\" is on file"));
        assert!(said.iter().any(|line| line.contains("erased after 90d")));
        assert!(said.iter().any(|line| line.contains("*9 withdraws a permission at any time")));
        assert!(said.iter().any(|line| line.contains("The callee pauses and resumes with *7")));
    }

    #[test]
    fn both_are_asked_each_in_their_own_language() {
        let said = told(&config("ask = [\"caller\", \"callee\"]\n"), [false; 2]).join("\n");
        assert!(said.contains("asks both, and then joins the two"), "{said}");
        assert!(said.contains("The caller hears \"notice-opt-in\" in en-US"), "{said}");
        assert!(said.contains("The callee hears \"notice-opt-in\" in de-DE"), "{said}");
    }

    #[test]
    fn an_objection_reads_as_one() {
        let text = "basis = \"legitimate_interests\"\ngate = \"no-objection\"\n\
                    standing = { callee = \"a\" }\n";
        let said = told(&config(text), [false; 2]).join("\n");
        assert!(
            said.contains("to object with 2") && said.contains("legitimate interests"),
            "{said}"
        );
    }

    #[test]
    fn who_is_listed_is_not_asked() {
        let said = told(&Config::default(), [true, false]).join("\n");
        assert!(said.contains("The caller is on the do-not-record list: not asked"), "{said}");
        assert!(said.contains("nobody on this call is recorded"), "{said}");
        assert!(!said.contains("hears"), "{said}");
    }

    #[test]
    fn a_token_and_what_follows_without_one() {
        let text = "gate = \"token\"\nstanding = { callee = \"a\" }\n[policy.token]\n\
                    peers = [\"10.0.0.5\"]\nkeys = [{ id = \"k\", hmac_file = \"k\" }]\n";
        let said = told(&config(text), [false; 2]).join("\n");
        assert!(
            said.contains("A token in User-to-User from 10.0.0.5, not older than 5m"),
            "{said}"
        );
        assert!(said.contains("Without one: The caller hears \"notice-opt-in\""), "{said}");
    }
}
