//! The values of a policy as the configuration writes them, and where each comes from.

use serde_json::{Value, json};

use crate::config::{Loaded, Origin, Route, TokenSource, span_text};
use crate::consent::policy::{AcceptAgain, Ask, Gate, Policy};
use crate::ids::Leg;
use crate::network::Network;

/// The keys of a policy, and its values as the configuration writes them.
#[allow(clippy::type_complexity)]
pub(super) const VALUES: [(&str, fn(&Policy) -> String); 27] = [
    ("basis", |p| word(&p.basis)),
    ("purposes", |p| p.purposes.join(", ")),
    ("controller", |p| p.controller.clone()),
    ("gate", |p| word(&p.gate)),
    ("fallback", |p| if p.gate == Gate::Token { word(&p.fallback) } else { "-".to_owned() }),
    ("ask", |p| {
        let asked = Leg::BOTH.iter().filter(|leg| *p.ask(**leg) == Ask::OnCall);
        listed(asked.map(ToString::to_string))
    }),
    ("standing", |p| {
        listed(Leg::BOTH.iter().filter_map(|leg| match p.ask(*leg) {
            Ask::Standing(agreement) => Some(format!("{leg} = {agreement}")),
            _ => p.on_file.of(*leg).map(|agreement| format!("{leg} = {agreement}")),
        }))
    }),
    ("scope", |p| word(&p.scope)),
    ("notice", |p| p.notice.clone()),
    ("locale", |p| listed(p.locale.iter().map(|(prefix, locale)| format!("{prefix} = {locale}")))),
    ("locale_header", |p| {
        listed(
            Leg::BOTH.iter().filter_map(|leg| {
                p.locale_header.of(*leg).map(|header| format!("{leg} = {header}"))
            }),
        )
    }),
    ("accept", |p| p.accept.to_string()),
    ("refuse", |p| p.refuse.to_string()),
    ("withdraw", |p| p.withdraw.clone()),
    ("pause", |p| p.pause.clone()),
    ("pause_by", |p| listed(p.pause_by.iter().map(ToString::to_string))),
    ("pause_limit", |p| span_text(p.pause_limit)),
    ("accept_again", |p| (p.accept_again == AcceptAgain::ByKey).to_string()),
    ("notice_loss", |p| p.loss_limit.to_string()),
    ("attempts", |p| p.attempts.to_string()),
    ("answer_within", |p| span_text(p.answer_within)),
    ("on_refusal", |p| word(&p.on_refusal)),
    ("acknowledge", |p| p.acknowledge.as_ref().map_or_else(|| "-".to_owned(), word)),
    ("on_withdrawal", |p| word(&p.on_withdrawal)),
    ("on_unavailable", |p| word(&p.on_unavailable)),
    ("beep", |p| p.beep.map_or_else(|| "off".to_owned(), span_text)),
    ("retention", |p| span_text(p.retention)),
];

/// The value of a key as the configuration writes it.
pub(super) fn value(policy: &Policy, key: &str) -> String {
    VALUES
        .iter()
        .find(|(known, _)| *known == key)
        .map_or_else(|| policy.name.clone(), |(_, value)| value(policy))
}

fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        other => other.map(|value| value.to_string()).unwrap_or_default(),
    }
}

fn listed(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() { "-".to_owned() } else { items.join(", ") }
}

/// Where the value of a key comes from.
pub(super) fn origin(policy: &Policy, key: &str, route: &Route, loaded: &Loaded) -> String {
    let says = loaded.config.policies.get(&policy.name);
    if key == "scope" && says.is_some_and(|says| says.scope != policy.scope) {
        return format!("mixed = true of route {}", route.number);
    }
    match loaded.origins.of(&format!("policy.{}.{key}", policy.name)) {
        Origin::File { line } => format!("line {line}"),
        Origin::Default => "default".to_owned(),
    }
}

/// The same for every key.
pub(super) fn origins(policy: &Policy, route: &Route, loaded: &Loaded) -> Value {
    let origins =
        VALUES.iter().map(|(key, _)| ((*key).to_owned(), origin(policy, key, route, loaded)));
    Value::Object(origins.map(|(key, origin)| (key, Value::String(origin))).collect())
}

/// `[policy.token]`: everything but the keys themselves.
pub(super) fn token_rows(
    source: &TokenSource,
    policy: &Policy,
    route: &Route,
    loaded: &Loaded,
) -> Vec<[String; 3]> {
    [
        ("token.header", source.header.clone()),
        ("token.peers", listed(source.peers.iter().map(peer))),
        ("token.max_age", span_text(source.max_age)),
        ("token.keys", listed(source.keys.keys().cloned())),
    ]
    .map(|(key, value)| {
        let from = match key {
            "token.keys" => origin(policy, "token.keys[1].id", route, loaded),
            _ => origin(policy, key, route, loaded),
        };
        [key.to_owned(), value, from]
    })
    .to_vec()
}

/// The same for programs.
pub(super) fn token_value(source: &TokenSource) -> Value {
    json!({
        "header": source.header,
        "peers": source.peers.iter().map(peer).collect::<Vec<_>>(),
        "max_age": span_text(source.max_age),
        "keys": source.keys.keys().collect::<Vec<_>>(),
    })
}

/// A network as people write it: an address alone where it is one.
pub(in crate::cli) fn peer(network: &Network) -> String {
    let text = network.to_string();
    let whole = if text.contains(':') { "/128" } else { "/32" };
    text.strip_suffix(whole).unwrap_or(&text).to_owned()
}
