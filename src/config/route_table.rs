//! Reads `[[route]]`.

use std::sync::Arc;

use crate::config::document::{Field, Section, nearest};
use crate::config::language;
use crate::config::matching;
use crate::config::next_hop::{NextHop, NextHops, Order};
use crate::config::policy::Policies;
use crate::config::problem::Wrong;
use crate::config::route::{Match, Mode, Pattern, PolicyMatch, Route, Streams};
use crate::consent::policy::{Ask, ByLeg, Policy, Scope};

pub(super) fn read_all(top: &mut Section<'_>, policies: &Policies) -> Vec<Route> {
    let Some(sections) = top.sections("route") else {
        return built_in(top, policies);
    };
    if sections.is_empty() {
        top.report("route", Wrong::new("names no route", "write at least one [[route]]"));
    }
    let routes: Vec<Route> = sections
        .into_iter()
        .enumerate()
        .filter_map(|(index, section)| read(section, index + 1, policies))
        .collect();
    // Where there is an endpoint, the policy may be meant for it.
    if routes.iter().all(|route| matches!(route.mode, Mode::Inline { .. })) {
        for PolicyMatch { policy, .. } in &policies.matching {
            let key = format!("policy.{}", policy.name);
            refuse_in_vain(top, &key, policy, Streams::Separate, policies);
        }
    }
    routes
}

/// The route of a file without one: every call, to a PBX on loopback.
fn built_in(top: &mut Section<'_>, policies: &Policies) -> Vec<Route> {
    let Some(policy) = policies.by_name.get("default") else {
        let wrong = Wrong::new(
            "is missing, and no policy is named \"default\" for the built-in route",
            "write a [[route]] that names one of the policies",
        );
        top.report("route", wrong);
        return Vec::new();
    };
    refuse_in_vain(top, "", policy, Streams::Separate, policies);
    let Ok(next_hop) = "sip:127.0.0.1:5080".parse() else { return Vec::new() };
    vec![Route {
        number: 1,
        matches: Match { to: vec![Pattern::new("*")], ..Match::default() },
        mode: Mode::Inline { next_hops: NextHops::one(next_hop) },
        policy: Arc::clone(policy),
        streams: Streams::Separate,
        locale: ByLeg::default(),
    }]
}

fn read(mut section: Section<'_>, number: usize, policies: &Policies) -> Option<Route> {
    let matches = matching::read(section.section("match"));
    let mode = read_mode(&mut section);
    let policy = read_policy(&mut section, policies);
    let streams = match section.field("mixed").boolean(false) {
        true => Streams::Mixed,
        false => Streams::Separate,
    };
    let locale = language::by_party(&section.field("locale"));
    if let (Some(Mode::Inline { .. }), Some(policy)) = (&mode, &policy) {
        refuse_in_vain(&section, "policy", policy, streams, policies);
    }
    section.finish();
    Some(Route { number, matches, mode: mode?, policy: policy?, streams, locale })
}

fn read_mode(section: &mut Section<'_>) -> Option<Mode> {
    let next_hop = section.field("next_hop");
    let mode = section.field("mode");
    match mode.text() {
        None | Some("inline") => {
            if !next_hop.is_set() {
                next_hop.report(Wrong::new(
                    "is missing, and an inline route has to dial somewhere",
                    "set next_hop = \"sip:HOST:PORT\", or mode = \"endpoint\"",
                ));
            }
            Some(Mode::Inline { next_hops: read_next_hops(&next_hop)? })
        }
        Some("endpoint") => {
            if next_hop.is_set() {
                next_hop.report(Wrong::new(
                    "has no meaning: an endpoint is the far end of the call",
                    "remove next_hop, or set mode = \"inline\"",
                ));
            }
            Some(Mode::Endpoint)
        }
        Some("siprec") => {
            mode.report(Wrong::new(
                "SIPREC is not available in this version",
                "write mode = \"inline\" or \"endpoint\"",
            ));
            None
        }
        Some(other) => {
            mode.report(Wrong::new(
                format!("{other:?} is not a mode"),
                "write mode = \"inline\" or \"endpoint\"",
            ));
            None
        }
    }
}

/// How many next hops a route may have.
const NEXT_HOPS: usize = 16;

/// One, a list of them in the order to try them, or a table of them with their weights.
fn read_next_hops(field: &Field<'_>) -> Option<NextHops> {
    let (each, order) = if field.is_table() {
        let weighed = field.weights()?;
        let mut weights = Vec::new();
        let mut each = Vec::new();
        for (text, weight) in weighed {
            match text.parse::<NextHop>() {
                Ok(next_hop) => each.push(next_hop),
                Err(wrong) => {
                    field.report(wrong);
                    return None;
                }
            }
            weights.push(weight);
        }
        if !weights.is_empty() && weights.iter().all(|weight| *weight == 0) {
            field.report(Wrong::new("gives no next hop any weight", "write at least one above 0"));
        }
        (each, Order::ByWeight(weights))
    } else {
        let texts = field.texts()?.len();
        let each = field.each(str::parse::<NextHop>)?;
        if each.len() != texts {
            return None;
        }
        (each, Order::AsWritten)
    };
    if each.is_empty() || each.len() > NEXT_HOPS {
        field.report(Wrong::new(
            format!("names {} next hops", each.len()),
            format!("write from one to {NEXT_HOPS}"),
        ));
        return None;
    }
    Some(NextHops { each, order })
}

fn read_policy(section: &mut Section<'_>, policies: &Policies) -> Option<Arc<Policy>> {
    let field = section.field("policy");
    let name = match field.text() {
        Some(name) => name,
        None if field.is_set() => return None,
        None => "default",
    };
    if let Some(policy) = policies.by_name.get(name) {
        return Some(Arc::clone(policy));
    }
    let known: Vec<&str> = policies.by_name.keys().map(String::as_str).collect();
    let remedy = match nearest(name, &known) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("the policies are: {}", known.join(", ")),
    };
    field.report(Wrong::new(format!("no [[policy]] is named {name:?}"), remedy));
    None
}

/// With the scope `all`, one party who can never be permitted keeps everybody from being
/// recorded: that is a mistake, not a wish.
fn refuse_in_vain(
    section: &Section<'_>,
    key: &str,
    policy: &Policy,
    streams: Streams,
    policies: &Policies,
) {
    let scope = match streams {
        Streams::Separate => policy.scope,
        Streams::Mixed => Scope::All,
    };
    // A policy that was refused has been reported already.
    if scope != Scope::All || policies.refused.contains(&policy.name) {
        return;
    }
    let (why, remedy) = match streams {
        Streams::Separate => ("scope = \"all\"", "scope = \"per-party\""),
        Streams::Mixed => ("mixed = true", "mixed = false"),
    };
    let parties = [("caller", &policy.caller), ("callee", &policy.callee)];
    for (party, ask) in parties {
        if *ask == Ask::Nobody {
            section.report(
                key,
                Wrong::new(
                    format!(
                        "under {:?} the {party} is neither asked nor covered by an agreement, so \
                         with {why} nobody would ever be recorded",
                        policy.name
                    ),
                    format!(
                        "ask the {party}, add standing = {{ {party} = \"AGREEMENT\" }} to the \
                         policy, or write {remedy}"
                    ),
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn next_hops(toml: &str) -> Result<NextHops, String> {
        let text = format!("[[route]]\nnext_hop = {toml}\n");
        let (config, _) = parse(&text, "t").map_err(|problems| problems.to_string())?;
        match config.routes.into_iter().next().map(|route| route.mode) {
            Some(Mode::Inline { next_hops }) => Ok(next_hops),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn a_route_has_one_next_hop_or_several_in_order_or_by_weight() {
        let one = next_hops("\"sip:a\"").unwrap();
        assert_eq!((one.to_string().as_str(), one.order), ("sip:a", Order::AsWritten));
        let two = next_hops("[\"sip:b\", \"sips:a:5071\"]").unwrap();
        assert_eq!((two.to_string().as_str(), two.order), ("sip:b, sips:a:5071", Order::AsWritten));
        let weighed = next_hops("{ \"sip:a\" = 3, \"sip:b\" = 0 }").unwrap();
        assert_eq!(weighed.order, Order::ByWeight(vec![3, 0]));
        for bad in [
            "[\"sip:a\", \"nowhere\"]",
            "{ \"sip:a\" = -1 }",
            "{ \"sip:a\" = \"1\" }",
            "{ \"nowhere\" = 1 }",
            "{}",
            "7",
        ] {
            assert!(next_hops(bad).is_err(), "{bad}");
        }
        let many = vec!["\"sip:a\""; NEXT_HOPS + 1].join(", ");
        assert!(next_hops(&format!("[{many}]")).is_err());
    }
}
