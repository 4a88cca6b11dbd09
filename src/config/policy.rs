//! Reads `[[policy]]`, and refuses what is unlawful on its face with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::config::document::{Field, Section, span_within};
use crate::config::problem::Wrong;
use crate::consent::policy::{
    AcceptAgain, Ask, Basis, Gate, OnRefusal, OnUnavailable, OnWithdrawal, Policy, Scope,
};
use crate::ids::Leg;

/// The controller of the built-in policy: fine for a try-out, wrong for anything else.
pub const EXAMPLE_CONTROLLER: &str = "Example GmbH";

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const RETENTION: Duration = Duration::from_secs(90 * 86_400);

/// What was read, those with problems included, so that a route that names one is not blamed.
pub(super) struct Policies {
    pub(super) by_name: BTreeMap<String, Arc<Policy>>,
    pub(super) refused: BTreeSet<String>,
}

pub(super) fn read_all(top: &mut Section<'_>) -> Policies {
    let mut policies = Policies { by_name: BTreeMap::new(), refused: BTreeSet::new() };
    let Some(sections) = top.sections("policy") else {
        let policy = built_in();
        policies.by_name.insert(policy.name.clone(), Arc::new(policy));
        return policies;
    };
    for section in sections {
        let before = top.problem_count();
        let policy = read(section, &policies.by_name);
        if top.problem_count() > before {
            policies.refused.insert(policy.name.clone());
        }
        policies.by_name.entry(policy.name.clone()).or_insert_with(|| Arc::new(policy));
    }
    policies
}

/// The policy of a file without one.
fn built_in() -> Policy {
    Policy {
        name: "default".to_owned(),
        basis: Basis::Consent,
        purposes: vec!["quality".to_owned(), "training".to_owned()],
        controller: EXAMPLE_CONTROLLER.to_owned(),
        gate: Gate::OptIn,
        fallback: Gate::OptIn,
        caller: Ask::OnCall,
        callee: Ask::Standing("employee-agreement-2026".to_owned()),
        scope: Scope::All,
        notice: "notice-opt-in".to_owned(),
        locale: BTreeMap::from([("*".to_owned(), "en-US".to_owned())]),
        accept: '1',
        refuse: '2',
        withdraw: "*9".to_owned(),
        pause: "*7".to_owned(),
        pause_by: vec![Leg::Callee],
        pause_limit: 300 * SECOND,
        accept_again: AcceptAgain::Never,
        loss_limit: 20,
        attempts: 2,
        answer_within: 8 * SECOND,
        on_refusal: OnRefusal::Continue,
        on_withdrawal: OnWithdrawal::Erase,
        on_unavailable: OnUnavailable::Proceed,
        beep: None,
        retention: RETENTION,
    }
}

fn read(mut section: Section<'_>, others: &BTreeMap<String, Arc<Policy>>) -> Policy {
    let name = name(&mut section, others);
    let defaults = built_in();
    let basis = section.field("basis").word(defaults.basis, &BASES);
    let gate = gate(&section.field("gate"));
    let on_refusal = section.field("on_refusal");
    let refusal = on_refusal.word(
        defaults.on_refusal,
        &[("continue", OnRefusal::Continue), ("hang-up", OnRefusal::HangUp)],
    );
    refuse_unlawful(&mut section, basis, gate, refusal);
    let (caller, callee) = parties(&mut section, gate);
    let legs = [("caller", Leg::Caller), ("callee", Leg::Callee)];
    let policy = Policy {
        basis,
        purposes: purposes(&section.field("purposes")),
        controller: controller(&section.field("controller")),
        gate,
        fallback: defaults.fallback,
        caller,
        callee,
        scope: section
            .field("scope")
            .word(defaults.scope, &[("all", Scope::All), ("per-party", Scope::PerParty)]),
        notice: section.field("notice").read(default_notice(gate).to_owned(), file_name),
        locale: locale(&section.field("locale")),
        accept: section.field("accept").read(defaults.accept, key),
        refuse: section.field("refuse").read(defaults.refuse, key),
        withdraw: section.field("withdraw").read(defaults.withdraw, keys),
        pause: section.field("pause").read(defaults.pause, keys),
        pause_by: section
            .field("pause_by")
            .each(|text| super::document::one_of(text, &legs))
            .unwrap_or(defaults.pause_by),
        pause_limit: defaults.pause_limit,
        accept_again: defaults.accept_again,
        loss_limit: defaults.loss_limit,
        attempts: u8::try_from(section.field("attempts").integer(2, 1..=5)).unwrap_or(2),
        answer_within: section.field("answer_within").span(
            defaults.answer_within,
            SECOND,
            120 * SECOND,
        ),
        on_refusal: refusal,
        on_withdrawal: section.field("on_withdrawal").word(
            defaults.on_withdrawal,
            &[("erase", OnWithdrawal::Erase), ("keep", OnWithdrawal::Keep)],
        ),
        on_unavailable: section.field("on_unavailable").word(
            defaults.on_unavailable,
            &[("proceed", OnUnavailable::Proceed), ("refuse", OnUnavailable::Refuse)],
        ),
        beep: section.field("beep").read(None, |text| match text {
            "off" => Ok(None),
            _ => Err(Wrong::new(
                "a beep is not available in this version",
                "write beep = \"off\"; the notice and its prompts say that a call is recorded",
            )),
        }),
        retention: retention(&section.field("retention")),
        name,
    };
    refuse_ambiguous_keys(&section, &policy);
    section.finish();
    policy
}

const BASES: [(&str, Basis); 6] = [
    ("consent", Basis::Consent),
    ("contract", Basis::Contract),
    ("legal_obligation", Basis::LegalObligation),
    ("vital_interests", Basis::VitalInterests),
    ("public_task", Basis::PublicTask),
    ("legitimate_interests", Basis::LegitimateInterests),
];

fn name(section: &mut Section<'_>, others: &BTreeMap<String, Arc<Policy>>) -> String {
    let field = section.field("name");
    let fallback = section.path().to_owned();
    if !field.is_set() {
        field.report(Wrong::new("is missing", "name the policy, so that a route can name it"));
        return fallback;
    }
    let Some(name) = field.optional(|text| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if text.is_empty() || text.len() > 64 || !text.bytes().all(fits) {
            return Err(Wrong::new(
                format!("{text:?} is not a name"),
                "write up to 64 letters, digits, - and _",
            ));
        }
        Ok(text.to_owned())
    }) else {
        return fallback;
    };
    if others.contains_key(&name) {
        field.report(Wrong::new(
            format!("{name:?} is the name of an earlier policy"),
            "give each policy a name of its own",
        ));
    }
    section.rename(format!("policy.{name}"));
    name
}

fn gate(field: &Field<'_>) -> Gate {
    field.read(Gate::OptIn, |text| match text {
        "token" => Err(Wrong::new(
            "the gate \"token\" is not available in this version",
            "write \"opt-in\", \"no-objection\" or \"standing\"",
        )),
        _ => super::document::one_of(
            text,
            &[
                ("opt-in", Gate::OptIn),
                ("no-objection", Gate::NoObjection),
                ("standing", Gate::Standing),
            ],
        ),
    })
}

fn refuse_unlawful(section: &mut Section<'_>, basis: Basis, gate: Gate, refusal: OnRefusal) {
    match (basis, gate) {
        (Basis::Consent, Gate::NoObjection) => section.report(
            "gate",
            Wrong::new(
                "silence is not consent (GDPR Art. 4(11)): basis = \"consent\" cannot go with \
                 gate = \"no-objection\"",
                "write gate = \"opt-in\", or a basis that people may object to, such as \
                 \"legitimate_interests\"",
            ),
        ),
        (Basis::VitalInterests, Gate::NoObjection) => section.report(
            "gate",
            Wrong::new(
                "whoever acts in vital interests does not wait for an objection: basis = \
                 \"vital_interests\" cannot go with gate = \"no-objection\"",
                "write gate = \"opt-in\" or \"standing\", or another basis",
            ),
        ),
        _ => {}
    }
    if basis == Basis::Consent && refusal == OnRefusal::HangUp {
        section.report(
            "on_refusal",
            Wrong::new(
                "a choice that ends the call is not free (GDPR Art. 7(4)): basis = \"consent\" \
                 cannot go with on_refusal = \"hang-up\"",
                "write on_refusal = \"continue\", or another basis",
            ),
        );
    }
}

/// What holds for each party, from `ask` and `standing`.
fn parties(section: &mut Section<'_>, gate: Gate) -> (Ask, Ask) {
    let ask = section.field("ask");
    let asked = ask.each(|text| match text {
        "caller" => Ok(Leg::Caller),
        "callee" => Err(Wrong::new(
            "asking the callee is not available in this version",
            "ask the caller, and cover the callee by standing = { callee = \"AGREEMENT\" }",
        )),
        _ => Err(Wrong::new(format!("{text:?} is not a party"), "write ask = [\"caller\"]")),
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
    let mut party = |leg: Leg| match (asked.contains(&leg), agreements.remove(leg.as_str())) {
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
        Gate::OptIn | Gate::NoObjection
            if asked.is_empty() && ask.texts().is_some_and(|t| t.is_empty()) =>
        {
            ask.report(Wrong::new(
                "names nobody, so the gate would never open",
                "write ask = [\"caller\"], or gate = \"standing\"",
            ));
        }
        _ => {}
    }
    (caller, callee)
}

fn purposes(field: &Field<'_>) -> Vec<String> {
    let purposes = field.each(|text| match text.trim() {
        "" => Err(Wrong::new("holds an empty purpose", "name what the recording is for")),
        text => Ok(text.to_owned()),
    });
    if !field.is_set() || field.texts().is_some_and(|texts| texts.is_empty()) {
        field.report(Wrong::new(
            "names no purpose, and nothing may be recorded without one (GDPR Art. 5(1)(b))",
            "write purposes = [\"quality\"], or whatever the recording is for",
        ));
    }
    purposes.unwrap_or_default()
}

fn controller(field: &Field<'_>) -> String {
    let controller = field.text().unwrap_or_default().trim();
    if controller.is_empty() && (!field.is_set() || field.text().is_some()) {
        field.report(Wrong::new(
            "names nobody, and a receipt has to say who is responsible (GDPR Art. 13(1)(a))",
            "write controller = \"the name of your organisation\"",
        ));
    }
    controller.to_owned()
}

fn retention(field: &Field<'_>) -> Duration {
    field.read(RETENTION, |text| {
        let endless = ["forever", "never", "unlimited", "infinite", "none", "off", ""];
        if endless.contains(&text) {
            return Err(Wrong::new(
                format!(
                    "{text:?} has no end, and nothing may be kept without one (GDPR Art. 5(1)(e))"
                ),
                "write how long the purpose needs it, such as \"90d\"",
            ));
        }
        span_within(text, Duration::from_secs(60), 36_500 * DAY)
    })
}

fn default_notice(gate: Gate) -> &'static str {
    match gate {
        Gate::NoObjection => "notice-no-objection",
        Gate::OptIn | Gate::Standing | Gate::Token => "notice-opt-in",
    }
}

fn file_name(text: &str) -> Result<String, Wrong> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if text.is_empty() || text.len() > 64 || !text.bytes().all(fits) {
        return Err(Wrong::new(
            format!("{text:?} is not the name of a prompt"),
            "write the name of a file in prompts/<locale>/ without \".wav\"",
        ));
    }
    Ok(text.to_owned())
}

fn locale(field: &Field<'_>) -> BTreeMap<String, String> {
    let default = || BTreeMap::from([("*".to_owned(), "en-US".to_owned())]);
    if !field.is_table() {
        let Some(locale) = field.optional(locale_name) else { return default() };
        return BTreeMap::from([("*".to_owned(), locale)]);
    }
    let mut locales = BTreeMap::new();
    for (prefix, locale, _) in field.table().unwrap_or_default() {
        let number = prefix.strip_prefix('+').unwrap_or(prefix);
        if prefix != "*" && (number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit())) {
            field.report(Wrong::new(
                format!("{prefix:?} is not the beginning of a number"),
                "write { \"+49\" = \"de-DE\", \"*\" = \"en-US\" }",
            ));
            continue;
        }
        match locale_name(locale) {
            Ok(locale) => {
                locales.insert(prefix.to_owned(), locale);
            }
            Err(wrong) => field.report(wrong),
        }
    }
    if !locales.contains_key("*") {
        field.report(Wrong::new(
            "says nothing about the other numbers",
            "add \"*\" = \"en-US\", or another locale",
        ));
    }
    locales
}

fn locale_name(text: &str) -> Result<String, Wrong> {
    let (language, region) = text.split_once('-').unwrap_or((text, "US"));
    let fits = (2..=3).contains(&language.len())
        && language.bytes().all(|b| b.is_ascii_lowercase())
        && region.len() == 2
        && region.bytes().all(|b| b.is_ascii_uppercase());
    if fits {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new(
            format!("{text:?} is not a locale"),
            "write \"en-US\", \"de-DE\" or the like",
        ))
    }
}

fn is_key(key: char) -> bool {
    matches!(key, '0'..='9' | '*' | '#' | 'A'..='D')
}

fn key(text: &str) -> Result<char, Wrong> {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(key), None) if is_key(key) => Ok(key),
        _ => Err(Wrong::new(
            format!("{text:?} is not one key"),
            "write one of 0 to 9, *, # and A to D",
        )),
    }
}

fn keys(text: &str) -> Result<String, Wrong> {
    if (1..=8).contains(&text.len()) && text.chars().all(is_key) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("{text:?} is not a sequence of keys"),
        "write one to eight of 0 to 9, *, # and A to D, such as \"*9\"",
    ))
}

/// A key that could mean two things would be a permission by accident.
fn refuse_ambiguous_keys(section: &Section<'_>, policy: &Policy) {
    let Policy { accept, refuse, withdraw, pause, .. } = policy;
    let clash = |key: &str, what: String| {
        section.report(key, Wrong::new(what, "give each meaning keys of its own"));
    };
    if accept == refuse {
        clash("refuse", format!("the key {refuse} accepts and refuses"));
    }
    if withdraw.starts_with(pause.as_str()) || pause.starts_with(withdraw.as_str()) {
        clash("pause", format!("{pause:?} and the keys that withdraw, {withdraw:?}, begin alike"));
    }
    for (name, keys) in [("withdraw", withdraw), ("pause", pause)] {
        if keys.starts_with(*accept) {
            clash(name, format!("{keys:?} begins with {accept}, the key that accepts"));
        }
    }
    if pause.starts_with(*refuse) {
        clash("pause", format!("{pause:?} begins with {refuse}, the key that refuses"));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, parse};
    use crate::consent::policy::{Ask, Gate};

    const GOOD: &str = "name = \"default\"\npurposes = [\"quality\"]\ncontroller = \"A\"\n\
                        standing = { callee = \"agreement\" }\n";

    fn policy(more: &str) -> Result<Config, String> {
        parse(&format!("[[policy]]\n{GOOD}{more}\n"), "t")
            .map(|(c, _)| c)
            .map_err(|p| p.to_string())
    }

    fn refused(more: &str) -> String {
        let said = policy(more).unwrap_err();
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    }

    #[test]
    fn silence_is_not_consent() {
        let said = refused("basis = \"consent\"\ngate = \"no-objection\"");
        assert!(said.contains("policy.default.gate: silence is not consent"), "{said}");
        let config = policy("basis = \"legitimate_interests\"\ngate = \"no-objection\"").unwrap();
        let policy = &config.policies["default"];
        assert_eq!(policy.gate, Gate::NoObjection);
        assert_eq!(policy.notice, "notice-no-objection");
    }

    #[test]
    fn a_choice_that_ends_the_call_is_not_consent() {
        assert!(refused("on_refusal = \"hang-up\"").contains("is not free"));
        assert!(policy("basis = \"contract\"\non_refusal = \"hang-up\"").is_ok());
    }

    #[test]
    fn nothing_is_kept_without_an_end_a_purpose_or_a_controller() {
        assert!(refused("retention = \"forever\"").contains("has no end"));
        assert!(refused("retention = \"0s\"").contains("out of range"));
        let said = parse("[[policy]]\nname = \"default\"\n", "t").unwrap_err().to_string();
        assert!(said.contains("policy.default.purposes: names no purpose"), "{said}");
        assert!(said.contains("policy.default.controller: names nobody"), "{said}");
        assert_eq!(said.lines().count(), 2, "{said}");
    }

    #[test]
    fn what_a_later_version_brings_is_refused_and_never_ignored() {
        assert!(refused("gate = \"token\"").contains("not available in this version"));
        assert!(
            refused("ask = [\"caller\", \"callee\"]").contains("not available in this version")
        );
    }

    #[test]
    fn a_party_is_asked_or_covered_or_neither() {
        let config = policy("").unwrap();
        assert_eq!(config.policies["default"].caller, Ask::OnCall);
        assert_eq!(config.policies["default"].callee, Ask::Standing("agreement".to_owned()));
        assert!(refused("gate = \"standing\"").contains("caller"));
        assert!(refused("ask = []").contains("names nobody"));
    }

    #[test]
    fn a_policy_under_which_nobody_would_ever_be_recorded_is_refused() {
        let text = "[[policy]]\nname = \"default\"\npurposes = [\"q\"]\ncontroller = \"A\"\n";
        let said = parse(text, "t").unwrap_err().to_string();
        assert!(said.contains("callee is neither asked nor covered"), "{said}");
        assert!(parse(&format!("{text}scope = \"per-party\"\n"), "t").is_ok());
        let endpoint = format!("{text}[[route]]\nmode = \"endpoint\"\n");
        assert!(parse(&endpoint, "t").is_ok());
    }

    #[test]
    fn a_key_means_one_thing() {
        assert!(refused("refuse = \"1\"").contains("accepts and refuses"));
        assert!(refused("pause = \"*9\"").contains("begin alike"));
        assert!(refused("withdraw = \"19\"").contains("begins with 1"));
        assert!(refused("accept = \"12\"").contains("is not one key"));
        assert!(refused("withdraw = \"x\"").contains("not a sequence of keys"));
    }

    #[test]
    fn a_locale_is_never_a_path() {
        assert!(refused("locale = \"../etc\"").contains("not a locale"));
        assert!(refused("notice = \"../../etc/passwd\"").contains("not the name of a prompt"));
        assert!(refused("locale = { \"+49\" = \"de-DE\" }").contains("other numbers"));
        let config = policy("locale = { \"+49\" = \"de-DE\", \"*\" = \"fr-FR\" }").unwrap();
        assert_eq!(config.policies["default"].locale_for("+4930"), "de-DE");
        assert_eq!(config.policies["default"].locale_for("+33"), "fr-FR");
    }
}
