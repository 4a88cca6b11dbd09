//! Reads whom a policy asks (`ask`) and whom it covers by an agreement on file (`standing`).

use std::collections::BTreeMap;

use crate::config::document::Section;
use crate::config::problem::Wrong;
use crate::consent::policy::{Ask, ByLeg, Gate};
use crate::ids::Leg;

/// What holds for each party.
pub(super) struct Parties {
    pub(super) caller: Ask,
    pub(super) callee: Ask,
    /// The agreements of those who are asked, where `fallback` is `standing`.
    pub(super) on_file: ByLeg,
}

/// What holds for each party, from `ask` and `standing`.
pub(super) fn read(section: &mut Section<'_>, gate: Gate, fallback: Gate) -> Parties {
    let ask = section.field("ask");
    let asked = ask.each(|text| match text {
        "caller" => Ok(Leg::Caller),
        "callee" => Ok(Leg::Callee),
        _ => Err(Wrong::new(
            format!("{text:?} is not a party"),
            "write ask = [\"caller\"], [\"callee\"] or [\"caller\", \"callee\"]",
        )),
    });
    let asked = asked.unwrap_or_else(|| match gate {
        Gate::Standing => Vec::new(),
        _ => vec![Leg::Caller],
    });
    let standing = section.field("standing");
    let mut agreements: BTreeMap<&str, String> = BTreeMap::new();
    for (party, agreement, _) in standing.table().unwrap_or_default() {
        if !["caller", "callee"].contains(&party) {
            standing.report(Wrong::new(
                format!("{party:?} is not a party"),
                "write standing = { callee = \"AGREEMENT\" }",
            ));
        } else if agreement.trim().is_empty() || agreement.len() > 200 {
            standing.report(Wrong::new(
                format!("names no agreement for the {party}"),
                "name the agreement on file as receipts shall show it",
            ));
        } else {
            agreements.insert(party, agreement.to_owned());
        }
    }
    let mut on_file = ByLeg::default();
    let by_fallback = gate == Gate::Token && fallback == Gate::Standing;
    let mut party = |leg: Leg| match (asked.contains(&leg), agreements.remove(leg.as_str())) {
        (true, Some(agreement)) if by_fallback => {
            let place = match leg {
                Leg::Caller => &mut on_file.caller,
                Leg::Callee => &mut on_file.callee,
            };
            *place = Some(agreement);
            Ask::OnCall
        }
        (true, None) if by_fallback => {
            standing.report(Wrong::new(
                format!(
                    "names no agreement for the {leg}, who has fallback = \"standing\" where no \
                     token comes"
                ),
                format!("write standing = {{ {leg} = \"AGREEMENT\" }}, or another fallback"),
            ));
            Ask::OnCall
        }
        (true, None) => Ask::OnCall,
        (false, Some(agreement)) => Ask::Standing(agreement),
        (false, None) => Ask::Nobody,
        (true, Some(_)) => {
            standing.report(Wrong::new(
                format!("covers the {leg}, who is asked as well"),
                "take the party out of ask or out of standing",
            ));
            Ask::OnCall
        }
    };
    let (caller, callee) = (party(Leg::Caller), party(Leg::Callee));
    match gate {
        Gate::Standing if !asked.is_empty() => ask.report(Wrong::new(
            "names somebody, and gate = \"standing\" asks nobody",
            "write ask = [] and name the agreements in standing, or write gate = \"opt-in\"",
        )),
        Gate::Standing if caller == Ask::Nobody && callee == Ask::Nobody => {
            standing.report(Wrong::new(
                "names no agreement, so nobody would ever be recorded",
                "write standing = { caller = \"AGREEMENT\", callee = \"AGREEMENT\" }",
            ));
        }
        Gate::OptIn | Gate::NoObjection | Gate::Token
            if asked.is_empty() && ask.texts().is_some_and(|t| t.is_empty()) =>
        {
            ask.report(Wrong::new(
                "names nobody, so the gate would never open",
                "write ask = [\"caller\"], or gate = \"standing\"",
            ));
        }
        _ => {}
    }
    Parties { caller, callee, on_file }
}
