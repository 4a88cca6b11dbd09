//! Reads `[[policy]]`. What is unlawful on its face is refused with the reason: see
//! [`crate::config::lawful`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::config::dialled;
use crate::config::document::{Field, Section, span_within};
use crate::config::language;
use crate::config::lawful;
use crate::config::matching;
use crate::config::parties::{self, Parties};
use crate::config::problem::Wrong;
use crate::config::route::{Match, PolicyMatch};
use crate::config::token::{self, TokenSource};
use crate::consent::policy::{
    AcceptAgain, Ask, Basis, ByLeg, Gate, OnRefusal, OnUnavailable, OnWithdrawal, Policy, Scope,
};
use crate::ids::Leg;

/// The controller of the built-in policy: fine for a try-out, wrong for anything else.
pub const EXAMPLE_CONTROLLER: &str = "Example GmbH";

const SECOND: Duration = Duration::from_secs(1);

/// What was read, those with problems included, so that a route that names one is not blamed.
#[derive(Default)]
pub(super) struct Policies {
    pub(super) by_name: BTreeMap<String, Arc<Policy>>,
    /// Those that say which calls they fit, in the order of the file.
    pub(super) matching: Vec<PolicyMatch>,
    /// Whose tokens count, by the policy's name.
    pub(super) tokens: BTreeMap<String, TokenSource>,
    pub(super) refused: BTreeSet<String>,
}

struct ReadPolicy {
    policy: Policy,
    matches: Option<Match>,
    token: Option<TokenSource>,
}

pub(super) fn read_all(top: &mut Section<'_>) -> Policies {
    let mut policies = Policies::default();
    let Some(sections) = top.sections("policy") else {
        let policy = built_in();
        policies.by_name.insert(policy.name.clone(), Arc::new(policy));
        return policies;
    };
    for section in sections {
        let before = top.problem_count();
        let ReadPolicy { policy, matches, token } = read(section, &policies);
        if top.problem_count() > before {
            policies.refused.insert(policy.name.clone());
        }
        let policy = Arc::new(policy);
        if let Some(matches) = matches {
            policies.matching.push(PolicyMatch { matches, policy: Arc::clone(&policy) });
        }
        if let Some(token) = token {
            policies.tokens.insert(policy.name.clone(), token);
        }
        policies.by_name.entry(policy.name.clone()).or_insert(policy);
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
        on_file: ByLeg::default(),
        caller: Ask::OnCall,
        callee: Ask::Standing("employee-agreement-2026".to_owned()),
        scope: Scope::All,
        notice: "notice-opt-in".to_owned(),
        locale: BTreeMap::from([("*".to_owned(), "en-US".to_owned())]),
        locale_header: ByLeg::default(),
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
        acknowledge: None,
        on_withdrawal: OnWithdrawal::Erase,
        on_unavailable: OnUnavailable::Proceed,
        beep: None,
        retention: Duration::from_secs(90 * 86_400),
    }
}

fn read(mut section: Section<'_>, others: &Policies) -> ReadPolicy {
    let name = name(&mut section, &others.by_name);
    let defaults = built_in();
    // So that it is known where it stands.
    section.field("match");
    let matches = section.has("match").then(|| matching::read(section.section("match")));
    let basis = section.field("basis").word(defaults.basis, &BASES);
    let gate = section.field("gate").word(Gate::OptIn, &GATES);
    let fallback = fallback(&section.field("fallback"), gate);
    lawful::gate(&section, "gate", basis, gate);
    lawful::gate(&section, "fallback", basis, fallback);
    let on_refusal = section.field("on_refusal").word(
        defaults.on_refusal,
        &[("continue", OnRefusal::Continue), ("hang-up", OnRefusal::HangUp)],
    );
    let acknowledge = lawful::acknowledgement(&mut section, basis, on_refusal);
    let Parties { caller, callee, on_file } = parties::read(&mut section, gate, fallback);
    let token = token::read(section.section("token"), gate);
    let legs = [("caller", Leg::Caller), ("callee", Leg::Callee)];
    let notice = default_notice(if gate == Gate::Token { fallback } else { gate });
    let policy = Policy {
        basis,
        purposes: lawful::purposes(&section.field("purposes")),
        controller: lawful::controller(&section.field("controller")),
        gate,
        fallback,
        on_file,
        caller,
        callee,
        scope: section
            .field("scope")
            .word(defaults.scope, &[("all", Scope::All), ("per-party", Scope::PerParty)]),
        notice: section.field("notice").read(notice.to_owned(), file_name),
        locale: language::by_number(&section.field("locale")),
        locale_header: language::header(&section.field("locale_header")),
        accept: section.field("accept").read(defaults.accept, dialled::key),
        refuse: section.field("refuse").read(defaults.refuse, dialled::key),
        withdraw: section.field("withdraw").read(defaults.withdraw, dialled::keys),
        pause: section.field("pause").read(defaults.pause, dialled::keys),
        pause_by: section
            .field("pause_by")
            .each(|text| super::document::one_of(text, &legs))
            .unwrap_or(defaults.pause_by),
        pause_limit: section.field("pause_limit").span(
            defaults.pause_limit,
            10 * SECOND,
            12 * 3600 * SECOND,
        ),
        accept_again: match section.field("accept_again").boolean(false) {
            true => AcceptAgain::ByKey,
            false => AcceptAgain::Never,
        },
        loss_limit: u8::try_from(section.field("notice_loss").integer(20, 0..=50)).unwrap_or(20),
        attempts: u8::try_from(section.field("attempts").integer(2, 1..=5)).unwrap_or(2),
        answer_within: section.field("answer_within").span(
            defaults.answer_within,
            SECOND,
            120 * SECOND,
        ),
        on_refusal,
        acknowledge,
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
            _ => span_within(text, 5 * SECOND, 120 * SECOND).map(Some),
        }),
        retention: lawful::retention(&section.field("retention")),
        name,
    };
    dialled::refuse_ambiguous(&section, &policy);
    section.finish();
    ReadPolicy { policy, matches, token }
}

const GATES: [(&str, Gate); 4] = [
    ("opt-in", Gate::OptIn),
    ("no-objection", Gate::NoObjection),
    ("standing", Gate::Standing),
    ("token", Gate::Token),
];

/// The gate of a party for whom no valid token came. Any other gate needs none.
fn fallback(field: &Field<'_>, gate: Gate) -> Gate {
    if field.is_set() && gate != Gate::Token {
        field.report(Wrong::new(
            "has a meaning with gate = \"token\" alone",
            "remove it, or write gate = \"token\"",
        ));
    }
    field.word(
        Gate::OptIn,
        &[
            ("opt-in", Gate::OptIn),
            ("no-objection", Gate::NoObjection),
            ("standing", Gate::Standing),
        ],
    )
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

#[cfg(test)]
mod tests {
    use crate::config::{Config, parse};
    use crate::consent::policy::{AcceptAgain, Acknowledgement, Ask, Gate};

    const GOOD: &str = "name = \"default\"\npurposes = [\"quality\"]\ncontroller = \"A\"\n\
                        standing = { callee = \"agreement\" }\nretention = \"90d\"\n";

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
        let said = refused("on_refusal = \"hang-up\"");
        assert!(said.contains("is not free") && said.contains("acknowledge = "), "{said}");
        assert!(policy("basis = \"contract\"\non_refusal = \"hang-up\"").is_ok());
        let acknowledged = "on_refusal = \"hang-up\"\nacknowledge = \"no-alternative-service\"";
        let config = policy(acknowledged).unwrap();
        let policy_of = |config: &Config| config.policies["default"].acknowledge;
        assert_eq!(policy_of(&config), Some(Acknowledgement::NoAlternativeService));
        assert!(refused("on_refusal = \"hang-up\"\nacknowledge = \"yes\"").contains("not one of"));
        let said = refused("acknowledge = \"no-alternative-service\"");
        assert!(said.contains("acknowledges what this policy does not do"), "{said}");
    }

    #[test]
    fn nothing_is_kept_without_an_end_a_purpose_or_a_controller() {
        let keeps = |text: &str| {
            let text = format!(
                "[[policy]]\n{}retention = {text}\n",
                GOOD.replace("retention = \"90d\"\n", "")
            );
            parse(&text, "t").unwrap_err().to_string()
        };
        assert!(keeps("\"forever\"").contains("has no end"));
        assert!(keeps("\"0s\"").contains("out of range"));
        let said = parse("[[policy]]\nname = \"default\"\n", "t").unwrap_err().to_string();
        assert!(said.contains("policy.default.purposes: names no purpose"), "{said}");
        assert!(said.contains("policy.default.controller: names nobody"), "{said}");
        assert_eq!(said.lines().count(), 2, "{said}");
    }

    #[test]
    fn silence_is_no_answer_to_a_missing_token_either() {
        let token =
            "[policy.token]\npeers = [\"10.0.0.5\"]\nkeys = [{ id = \"k\", hmac_file = \"k\" }]\n";
        let said = refused(&format!("gate = \"token\"\nfallback = \"no-objection\"\n{token}"));
        assert!(said.contains("policy.default.fallback: silence is not consent"), "{said}");
        assert!(said.contains("write fallback = \"opt-in\""), "{said}");
        let legitimate = "basis = \"legitimate_interests\"\n";
        let text = format!("{legitimate}gate = \"token\"\nfallback = \"no-objection\"\n{token}");
        let config = policy(&text).unwrap();
        assert_eq!(config.policies["default"].notice, "notice-no-objection");
        let said = refused(&format!("gate = \"token\"\nfallback = \"standing\"\n{token}"));
        assert!(said.contains("names no agreement for the caller"), "{said}");
        let said = refused(&format!("gate = \"token\"\nfallback = \"token\"\n{token}"));
        assert!(said.contains("not one of its values"), "{said}");
    }

    #[test]
    fn an_agreement_may_stand_in_for_a_missing_token() {
        let text = "[[policy]]\nname = \"default\"\npurposes = [\"q\"]\ncontroller = \"A\"\n\
                    retention = \"1d\"\ngate = \"token\"\nfallback = \"standing\"\n\
                    ask = [\"caller\", \"callee\"]\n\
                    standing = { caller = \"a\", callee = \"b\" }\n[policy.token]\n\
                    peers = [\"10.0.0.5\"]\nkeys = [{ id = \"k\", hmac_file = \"k\" }]\n";
        let (config, _) = parse(text, "t").unwrap();
        let policy = &config.policies["default"];
        assert_eq!((&policy.caller, &policy.callee), (&Ask::OnCall, &Ask::OnCall));
        assert_eq!(policy.on_file.callee.as_deref(), Some("b"));
    }

    #[test]
    fn the_times_and_limits_of_a_call_are_read() {
        let config =
            policy("pause_limit = \"90s\"\naccept_again = true\nnotice_loss = 5\nbeep = \"15s\"");
        let policy_of = config.unwrap();
        let read = &policy_of.policies["default"];
        assert_eq!((read.pause_limit.as_secs(), read.loss_limit), (90, 5));
        assert_eq!(read.accept_again, AcceptAgain::ByKey);
        assert_eq!(read.beep.map(|every| every.as_secs()), Some(15));
        for bad in ["beep = \"4s\"", "beep = \"121s\"", "notice_loss = 51", "pause_limit = \"9s\""]
        {
            assert!(refused(bad).contains("out of range"), "{bad}");
        }
    }

    #[test]
    fn a_party_is_asked_or_covered_or_neither() {
        let config = policy("").unwrap();
        assert_eq!(config.policies["default"].caller, Ask::OnCall);
        assert_eq!(config.policies["default"].callee, Ask::Standing("agreement".to_owned()));
        assert!(refused("gate = \"standing\"").contains("caller"));
        assert!(refused("ask = []").contains("names nobody"));
        assert!(refused("ask = [\"caller\", \"callee\"]").contains("who is asked as well"));
        let both = GOOD
            .replace("standing = { callee = \"agreement\" }\n", "ask = [\"caller\", \"callee\"]\n");
        let (config, _) = parse(&format!("[[policy]]\n{both}"), "t").unwrap();
        assert_eq!(config.policies["default"].callee, Ask::OnCall);
    }

    #[test]
    fn a_policy_under_which_nobody_would_ever_be_recorded_is_refused() {
        let text = "[[policy]]\nname = \"default\"\npurposes = [\"q\"]\ncontroller = \"A\"\n\
                    retention = \"1d\"\n";
        let said = parse(text, "t").unwrap_err().to_string();
        assert!(said.contains("callee is neither asked nor covered"), "{said}");
        assert!(parse(&format!("{text}scope = \"per-party\"\n"), "t").is_ok());
        let endpoint = format!("{text}[[route]]\nmode = \"endpoint\"\n");
        assert!(parse(&endpoint, "t").is_ok());
        let mixed =
            format!("{text}scope = \"per-party\"\n[[route]]\nnext_hop = \"sip:h\"\nmixed = true\n");
        let said = parse(&mixed, "t").unwrap_err().to_string();
        assert!(said.contains("with mixed = true nobody would ever be recorded"), "{said}");
        assert!(parse(&mixed.replace("true", "false"), "t").is_ok());
    }

    #[test]
    fn a_key_means_one_thing() {
        assert!(refused("refuse = \"1\"").contains("accepts and refuses"));
        assert!(refused("pause = \"*9\"").contains("is in the other"));
        // A sequence is found wherever it ends.
        assert!(refused("pause = \"#*9\"").contains("is in the other"));
        assert!(refused("pause = \"*97\"").contains("is in the other"));
        assert!(refused("withdraw = \"0*7\"").contains("is in the other"));
        assert!(refused("withdraw = \"19\"").contains("contains 1, the key that accepts"));
        assert!(refused("withdraw = \"*91\"").contains("contains 1, the key that accepts"));
        assert!(refused("pause = \"*1\"").contains("contains 1, the key that accepts"));
        assert!(refused("pause = \"*27\"").contains("contains 2, the key that refuses"));
        assert!(policy("withdraw = \"*2\"").is_ok());
        assert!(refused("withdraw = \"9\"").contains("two to eight"));
        assert!(refused("pause = \"*77777777\"").contains("two to eight"));
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
        assert!(refused("locale = \"de-de\"").contains("not a locale"));
        assert!(refused("locale_header = \"X Language\"").contains("not the name of a header"));
        let config = policy("locale_header = { caller = \"X-Language\" }").unwrap();
        let header = &config.policies["default"].locale_header;
        assert_eq!(
            (header.caller.as_deref(), header.callee.as_deref()),
            (Some("X-Language"), None)
        );
        let routed =
            format!("[[policy]]\n{GOOD}[[route]]\nnext_hop = \"sip:h\"\nlocale = \"de-AT\"\n");
        let (config, _) = parse(&routed, "t").unwrap();
        assert_eq!(config.routes[0].locale.of(crate::ids::Leg::Callee), Some("de-AT"));
        assert!(parse(&routed.replace("de-AT", "../"), "t").is_err());
    }
}
