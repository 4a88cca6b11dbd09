//! `assent check --call`: the policy that a call gets, and why.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::call::message::Headers;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::policy_words;
use crate::config::{Loaded, Offered, Origin, Route, select, span_text};
use crate::consent::policy::{Ask, Policy};
use crate::ids::Leg;

pub(super) fn run(text: &str, loaded: &Loaded, output: &mut Output) -> Result<(), Failure> {
    let call = Call::parse(text)?;
    let offered =
        Offered { from: &call.from, to: &call.to, peer: call.peer, headers: &call.headers };
    let Some(route) = select(&loaded.config.routes, &offered) else {
        return Err(Failure::Found(
            "no route takes this call: it is answered 404; add a [[route]] that matches it, such \
             as match = { to = \"*\" }"
                .to_owned(),
        ));
    };
    let story = policy_words::story(route, &call.from, &call.to);
    let admitted = loaded.config.sip.admits(call.peer);
    if output.is_json() {
        let value = json!({
            "route": route.number,
            "mode": route.mode.as_str(),
            "policy": *route.policy,
            "policy_digest": route.policy.digest(),
            "origins": origins(&route.policy, loaded),
            "admitted": admitted,
            "story": story,
        });
        return Ok(output.value(&value)?);
    }
    if !admitted {
        output.line(format!(
            "Attention: {} is not in sip.peers, so its calls get no answer.\n",
            call.peer
        ))?;
    }
    output.line(why(route, loaded))?;
    output.line("")?;
    let rows: Vec<[String; 3]> = VALUES
        .iter()
        .map(|(key, value)| {
            [(*key).to_owned(), value(&route.policy), origin(&route.policy, key, loaded)]
        })
        .collect();
    output.table(["KEY", "VALUE", "FROM"], &rows)?;
    output.line("")?;
    for line in story {
        output.line(line)?;
    }
    Ok(())
}

fn why(route: &Route, loaded: &Loaded) -> String {
    let key = format!("route[{}].policy", route.number);
    let place = match loaded.origins.of(&key) {
        Origin::File { line } => format!("{}, line {line}", loaded.source),
        Origin::Default => "default".to_owned(),
    };
    format!(
        "Route {} ({}) is the first that matches: {}, policy \"{}\".",
        route.number,
        place,
        route.mode.as_str(),
        route.policy.name
    )
}

struct Call {
    from: String,
    to: String,
    peer: IpAddr,
    headers: Headers,
}

impl Call {
    fn parse(text: &str) -> Result<Self, Failure> {
        let mut call = Call {
            from: String::new(),
            to: String::new(),
            peer: IpAddr::from([127, 0, 0, 1]),
            headers: Headers::new(),
        };
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(|| wrong(part))?;
            match name.trim() {
                "from" => value.clone_into(&mut call.from),
                "to" => value.clone_into(&mut call.to),
                "peer" => call.peer = value.parse().map_err(|_| wrong(part))?,
                "direction" => {
                    call.headers.push("X-Assent-Direction", value.to_owned().into_bytes());
                }
                name => match name.strip_prefix("header.") {
                    Some(header) if !header.is_empty() => {
                        call.headers.push(header, value.to_owned().into_bytes());
                    }
                    _ => return Err(wrong(part)),
                },
            }
        }
        Ok(call)
    }
}

fn wrong(part: &str) -> Failure {
    Failure::Usage(format!(
        "--call: {part:?} says nothing about a call; write \
         from=NUMBER,to=NUMBER,peer=ADDRESS,direction=inbound,header.NAME=VALUE"
    ))
}

/// The keys of a policy, and its values as the configuration writes them.
#[allow(clippy::type_complexity)]
const VALUES: [(&str, fn(&Policy) -> String); 21] = [
    ("basis", |p| word(&p.basis)),
    ("purposes", |p| p.purposes.join(", ")),
    ("controller", |p| p.controller.clone()),
    ("gate", |p| word(&p.gate)),
    ("ask", |p| {
        let asked = Leg::BOTH.iter().filter(|leg| *p.ask(**leg) == Ask::OnCall);
        listed(asked.map(ToString::to_string))
    }),
    ("standing", |p| {
        listed(Leg::BOTH.iter().filter_map(|leg| match p.ask(*leg) {
            Ask::Standing(agreement) => Some(format!("{leg} = {agreement}")),
            _ => None,
        }))
    }),
    ("scope", |p| word(&p.scope)),
    ("notice", |p| p.notice.clone()),
    ("locale", |p| listed(p.locale.iter().map(|(prefix, locale)| format!("{prefix} = {locale}")))),
    ("accept", |p| p.accept.to_string()),
    ("refuse", |p| p.refuse.to_string()),
    ("withdraw", |p| p.withdraw.clone()),
    ("pause", |p| p.pause.clone()),
    ("pause_by", |p| listed(p.pause_by.iter().map(ToString::to_string))),
    ("attempts", |p| p.attempts.to_string()),
    ("answer_within", |p| span_text(p.answer_within)),
    ("on_refusal", |p| word(&p.on_refusal)),
    ("on_withdrawal", |p| word(&p.on_withdrawal)),
    ("on_unavailable", |p| word(&p.on_unavailable)),
    ("beep", |p| p.beep.map_or_else(|| "off".to_owned(), span_text)),
    ("retention", |p| span_text(p.retention)),
];

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

fn origin(policy: &Policy, key: &str, loaded: &Loaded) -> String {
    match loaded.origins.of(&format!("policy.{}.{key}", policy.name)) {
        Origin::File { line } => format!("line {line}"),
        Origin::Default => "default".to_owned(),
    }
}

fn origins(policy: &Policy, loaded: &Loaded) -> Value {
    let origins = VALUES.iter().map(|(key, _)| ((*key).to_owned(), origin(policy, key, loaded)));
    Value::Object(origins.map(|(key, origin)| (key, Value::String(origin))).collect())
}
