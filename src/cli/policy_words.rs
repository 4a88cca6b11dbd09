//! What a policy does with a call, in words.

use crate::config::{Mode, Route, span_text};
use crate::consent::policy::{Ask, Gate, OnRefusal, OnUnavailable, Policy, Scope};
use crate::ids::Leg;

/// What will happen to a call on this route, from the number `from` to the number `to`.
pub(super) fn story(route: &Route, from: &str, to: &str) -> Vec<String> {
    let policy = &*route.policy;
    let mut story = vec![arrival(route, to)];
    for leg in present(route) {
        story.push(party(policy, *leg, if *leg == Leg::Caller { from } else { to }));
    }
    story.push(recording(route));
    if asks(policy) {
        story.push(refusal(policy));
    }
    story.push(later(&route.policy));
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
        OnUnavailable::Refuse => "If it cannot be recorded, the call is refused (503).".to_owned(),
    });
    story
}

/// Whose legs Assent has.
fn present(route: &Route) -> &'static [Leg] {
    match route.mode {
        Mode::Inline { .. } => &Leg::BOTH,
        Mode::Endpoint => &[Leg::Caller],
    }
}

fn arrival(route: &Route, to: &str) -> String {
    match &route.mode {
        Mode::Inline { next_hop } => format!(
            "Assent answers the call{} and dials {}.",
            if asks(&route.policy) { ", asks" } else { "" },
            next_hop.uri(to)
        ),
        Mode::Endpoint => "Assent answers the call and is its far end.".to_owned(),
    }
}

fn party(policy: &Policy, leg: Leg, number: &str) -> String {
    match policy.ask(leg) {
        Ask::Standing(agreement) => {
            format!("The {leg} is not asked: the agreement \"{agreement}\" is on file.")
        }
        Ask::Nobody => {
            format!("The {leg} is neither asked nor covered by an agreement: never recorded.")
        }
        Ask::OnCall => {
            let locale = policy.locale_for(number);
            let notice = &policy.notice;
            let within = span_text(policy.answer_within);
            match policy.gate {
                Gate::OptIn => format!(
                    "The {leg} hears \"{notice}\" in {locale} and has {within} to press {} \
                     (yes) or {} (no); {} Silence is a refusal.",
                    policy.accept,
                    policy.refuse,
                    match policy.attempts {
                        0 | 1 => "the question is put once.".to_owned(),
                        n => format!("the question is put {n} times at most."),
                    }
                ),
                Gate::NoObjection => format!(
                    "The {leg} hears \"{notice}\" in {locale} to its end and has {within} to \
                     object with {}. A notice that is cut or not heard permits nothing.",
                    policy.refuse
                ),
                Gate::Standing | Gate::Token => format!("The {leg} is not asked on the call."),
            }
        }
    }
}

fn recording(route: &Route) -> String {
    let policy = &*route.policy;
    match (&route.mode, policy.scope) {
        (Mode::Endpoint, _) => "The caller's voice is recorded from the permission on.".to_owned(),
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
        OnRefusal::HangUp => "After a refusal the call ends with a goodbye.".to_owned(),
    }
}

fn later(policy: &Policy) -> String {
    format!(
        "The keys {} (withdraw) and {} (pause) do nothing in this version.",
        policy.withdraw, policy.pause
    )
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
    use crate::config::Config;

    #[test]
    fn the_default_policy_reads_as_a_story() {
        let config = Config::default();
        let said = super::story(&config.routes[0], "+4930", "200");
        assert_eq!(said[0], "Assent answers the call, asks and dials sip:200@127.0.0.1:5080.");
        assert!(
            said[1]
                .starts_with("The caller hears \"notice-opt-in\" in en-US and has 8s to press 1")
        );
        assert!(said[1].ends_with("Silence is a refusal."));
        assert!(said[2].contains("\"employee-agreement-2026\" is on file"));
        assert!(said.iter().any(|line| line.contains("erased after 90d")));
    }

    #[test]
    fn an_objection_reads_as_one() {
        let text = "[[policy]]\nname = \"default\"\nbasis = \"legitimate_interests\"\n\
                    gate = \"no-objection\"\npurposes = [\"proof\"]\ncontroller = \"A\"\n\
                    [[route]]\nmode = \"endpoint\"\n";
        let (config, _) = crate::config::parse(text, "t").unwrap();
        let said = super::story(&config.routes[0], "", "").join("\n");
        assert!(
            said.contains("to object with 2") && said.contains("legitimate interests"),
            "{said}"
        );
        assert!(!said.contains("callee"), "{said}");
    }
}
