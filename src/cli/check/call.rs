//! `assent check --call`: the policy that a call gets, and why.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::call::message::Headers;
use crate::catalog::{ListedParty, Reader};
use crate::cli::check::values::{self, VALUES};
use crate::cli::context;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::policy_words::{self, Tale};
use crate::cli::when;
use crate::config::{Candidate, Chosen, Fits, Loaded, Offered, Origin, Route, Streams, select};
use crate::consent::locale::{Because, Hints};
use crate::consent::policy::Policy;
use crate::ids::{Leg, Pii};
use crate::media::PromptBook;
use crate::number::PartyNumber;

pub(super) fn run(text: &str, loaded: &Loaded, output: &mut Output) -> Result<(), Failure> {
    let call = Call::parse(text)?;
    let offered = Offered {
        from: call.from.expose(),
        to: call.to.expose(),
        peer: call.peer,
        headers: &call.headers,
    };
    let config = &loaded.config;
    let Some(route) = select(&config.routes, &offered) else {
        return Err(Failure::Found(
            "no route takes this call: it is answered 404; add a [[route]] that matches it, such \
             as match = { to = \"*\" }"
                .to_owned(),
        ));
    };
    let chosen = config.choose(route, &offered);
    let policy = &*chosen.policy;
    let tokens = config.tokens.get(&policy.name);
    let book = PromptBook::load(config.prompts.as_deref(), &[]).ok();
    let spoken = Leg::BOTH.map(|leg| Spoken::of(leg, &call, route, policy, book.as_ref()));
    let [caller, callee] = &spoken;
    let lists = DoNotRecord::of(&call, loaded);
    let listed = Leg::BOTH.map(|leg| lists.of_leg(leg).is_some());
    let locales = [&*caller.heard, &*callee.heard];
    let to = call.to.expose();
    let story = policy_words::story(&Tale { route, policy, tokens, to, locales, listed });
    let admitted = config.sip.admits(call.peer);
    if output.is_json() {
        let value = json!({
            "route": route.number,
            "mode": route.mode.as_str(),
            "mixed": route.streams == Streams::Mixed,
            "policy": policy,
            "policy_digest": policy.digest(),
            "candidates": chosen.candidates.iter().map(candidate_value).collect::<Vec<_>>(),
            "origins": values::origins(policy, route, loaded),
            "token": tokens.map(values::token_value),
            "locales": { "caller": caller.value(), "callee": callee.value() },
            "do_not_record": lists.value(),
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
    candidates(&chosen, route, loaded, output)?;
    output.line("")?;
    let mut rows: Vec<[String; 3]> = VALUES
        .iter()
        .map(|(key, value)| {
            [(*key).to_owned(), value(policy), values::origin(policy, key, route, loaded)]
        })
        .collect();
    rows.extend(
        tokens.map(|source| values::token_rows(source, policy, route, loaded)).unwrap_or_default(),
    );
    output.table(["KEY", "VALUE", "FROM"], &rows)?;
    output.line("")?;
    for leg in policy_words::present(route) {
        let spoken = if *leg == Leg::Caller { caller } else { callee };
        output.line(spoken.words(*leg))?;
        if let Some(entry) = lists.of_leg(*leg) {
            let since = when::short(entry.since);
            output.line(format!(
                "The {leg} is on the do-not-record list since {since} UTC, by {}: {}",
                entry.actor, entry.reason
            ))?;
        }
    }
    if let DoNotRecord::Unreadable(why) = &lists {
        output.line(format!("Whether anybody is on the do-not-record list is unknown: {why}"))?;
    }
    output.line("")?;
    for line in story {
        output.line(line)?;
    }
    Ok(())
}

fn why(route: &Route, loaded: &Loaded) -> String {
    format!(
        "Route {} ({}) is the first that matches: {}, policy \"{}\".",
        route.number,
        place(&format!("route[{}].policy", route.number), loaded),
        route.mode.as_str(),
        route.policy.name
    )
}

fn place(key: &str, loaded: &Loaded) -> String {
    match loaded.origins.of(key) {
        Origin::File { line } => format!("{}, line {line}", loaded.source),
        Origin::Default => "default".to_owned(),
    }
}

/// Every policy that fits, and which of them governs.
fn candidates(
    chosen: &Chosen,
    route: &Route,
    loaded: &Loaded,
    output: &mut Output,
) -> Result<(), Failure> {
    let several = chosen.candidates.len() > 1;
    let rows: Vec<[String; 3]> = chosen
        .candidates
        .iter()
        .map(|candidate| {
            let name = candidate.policy.name.clone();
            let fits = match candidate.fits {
                Fits::Route => format!("route {} names it", route.number),
                Fits::Match => {
                    format!("its match ({})", place(&format!("policy.{name}.match"), loaded))
                }
            };
            let verdict = match candidate.looser_by {
                None if several => "governs: it is the strictest".to_owned(),
                None => "governs: no other fits".to_owned(),
                Some(criterion) => format!(
                    "less strict by {}: {}",
                    criterion.as_str(),
                    values::value(&candidate.policy, criterion.as_str())
                ),
            };
            [name, fits, verdict]
        })
        .collect();
    Ok(output.table(["POLICY", "FITS BECAUSE", "VERDICT"], &rows)?)
}

fn candidate_value(candidate: &Candidate) -> Value {
    json!({
        "policy": candidate.policy.name,
        "fits": match candidate.fits {
            Fits::Route => "route",
            Fits::Match => "match",
        },
        "governs": candidate.looser_by.is_none(),
        "looser_by": candidate.looser_by.map(|criterion| criterion.as_str()),
    })
}

/// The locale that a party is spoken to in.
struct Spoken {
    wanted: String,
    because: Because,
    /// What is played: where there is nothing in the locale, something near.
    heard: String,
}

impl Spoken {
    fn of(
        leg: Leg,
        call: &Call,
        route: &Route,
        policy: &Policy,
        book: Option<&PromptBook>,
    ) -> Self {
        let header = policy.locale_header(leg).and_then(|name| call.headers.first(name));
        let hints = Hints { header: header.map(|value| &value[..]), route: route.locale.of(leg) };
        // As a call does it: by the normalised number.
        let number = call.number(leg).map(|number| number.expose().to_owned());
        let (wanted, because) = policy.locale_of(&number.unwrap_or_default(), hints);
        let heard = book.and_then(|book| {
            let locale = book.settle(&policy.notice, wanted.clone(), policy.locale_for("*"));
            book.find(&policy.notice, &locale).ok().map(|facts| facts.locale)
        });
        Self { heard: heard.unwrap_or_else(|| wanted.clone()), wanted, because }
    }

    fn because(&self) -> &'static str {
        match self.because {
            Because::Header => "header",
            Because::Route => "route",
            Because::Number => "number",
        }
    }

    fn words(&self, leg: Leg) -> String {
        let heard = match self.heard == self.wanted {
            true => String::new(),
            false => format!("; there is no prompt for it, so {} is played", self.heard),
        };
        format!("The locale of the {leg} is {}, by the {}{heard}.", self.wanted, self.because())
    }

    fn value(&self) -> Value {
        json!({ "locale": self.wanted, "because": self.because(), "heard": self.heard })
    }
}

/// Who of the call is on the do-not-record list.
enum DoNotRecord {
    Known {
        caller: Option<ListedParty>,
        callee: Option<ListedParty>,
    },
    /// The catalog cannot be read, and why.
    Unreadable(String),
}

impl DoNotRecord {
    fn of(call: &Call, loaded: &Loaded) -> Self {
        let look = || -> Result<Self, Failure> {
            let key = context::reference_key(&loaded.config)?;
            let reader = Reader::open(&loaded.config.data)?;
            let find = |leg| -> Result<Option<ListedParty>, Failure> {
                match call.number(leg) {
                    Some(number) => Ok(reader.is_listed(key.party_ref(number.expose()))?),
                    None => Ok(None),
                }
            };
            Ok(DoNotRecord::Known { caller: find(Leg::Caller)?, callee: find(Leg::Callee)? })
        };
        look().unwrap_or_else(|why| DoNotRecord::Unreadable(why.to_string()))
    }

    fn of_leg(&self, leg: Leg) -> Option<&ListedParty> {
        match (self, leg) {
            (DoNotRecord::Known { caller, .. }, Leg::Caller) => caller.as_ref(),
            (DoNotRecord::Known { callee, .. }, Leg::Callee) => callee.as_ref(),
            (DoNotRecord::Unreadable(_), _) => None,
        }
    }

    fn value(&self) -> Value {
        match self {
            DoNotRecord::Known { caller, callee } => json!({ "caller": caller, "callee": callee }),
            DoNotRecord::Unreadable(_) => Value::Null,
        }
    }
}

struct Call {
    from: Pii<String>,
    to: Pii<String>,
    peer: IpAddr,
    headers: Headers,
}

impl Call {
    fn parse(text: &str) -> Result<Self, Failure> {
        let mut call = Call {
            from: Pii::new(String::new()),
            to: Pii::new(String::new()),
            peer: IpAddr::from([127, 0, 0, 1]),
            headers: Headers::new(),
        };
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(|| wrong(part))?;
            match name.trim() {
                "from" => call.from = Pii::new(value.to_owned()),
                "to" => call.to = Pii::new(value.to_owned()),
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

    /// Who is on a leg, as a call names them.
    fn number(&self, leg: Leg) -> Option<PartyNumber> {
        PartyNumber::parse(match leg {
            Leg::Caller => self.from.expose(),
            Leg::Callee => self.to.expose(),
        })
    }
}

fn wrong(part: &str) -> Failure {
    Failure::Usage(format!(
        "--call: {part:?} says nothing about a call; write \
         from=NUMBER,to=NUMBER,peer=ADDRESS,direction=inbound,header.NAME=VALUE"
    ))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::config::{Source, load};

    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

    impl Write for Said {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    const TEXT: &str = "[[route]]\nnext_hop = \"sip:10.0.0.9\"\npolicy = \"loose\"\nmixed = true\n\
        [[policy]]\nname = \"loose\"\nbasis = \"contract\"\ngate = \"no-objection\"\n\
        ask = [\"caller\", \"callee\"]\nscope = \"per-party\"\npurposes = [\"q\"]\n\
        controller = \"A\"\nretention = \"2d\"\n\
        [[policy]]\nname = \"strict\"\nmatch = { from = \"+49*\" }\npurposes = [\"q\"]\n\
        controller = \"A\"\nretention = \"1d\"\nstanding = { callee = \"a\" }\n\
        locale = { \"+49\" = \"de-AT\", \"*\" = \"en-US\" }\n";

    fn said(call: &str, json: bool) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        let data = folder.path().join("data");
        std::fs::write(&path, format!("data = \"{}\"\n{TEXT}", data.display())).unwrap();
        let said = Said::default();
        let mut output = Output::into(Box::new(said.clone()), json);
        run(call, &load(Source::File(path)).unwrap(), &mut output).unwrap();
        output.finish().unwrap();
        let bytes = said.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn every_policy_that_fits_is_named_with_the_reason() {
        let said = said("from=+4930,to=200", false);
        for part in [
            "a.toml, line 4) is the first that matches: inline, policy \"loose\".",
            "governs: it is the strictest",
            "a.toml, line 17)",
            "less strict by gate: no-objection",
            "The locale of the caller is de-AT, by the number; there is no prompt for it, so \
             de-DE is played.",
            "The caller hears \"notice-opt-in\" in de-DE",
            "Whether anybody is on the do-not-record list is unknown",
        ] {
            assert!(said.contains(part), "{part} is not in\n{said}");
        }
    }

    #[test]
    fn a_value_that_the_route_forces_says_so() {
        let words = said("from=+33,to=200", false);
        let scope = words.lines().find(|line| line.starts_with("scope")).unwrap();
        assert!(scope.contains("all") && scope.ends_with("mixed = true of route 1"), "{words}");
        assert!(words.contains("governs: no other fits"), "{words}");
        let value: Value = serde_json::from_str(&said("from=+33,to=200", true)).unwrap();
        assert_eq!(value["origins"]["scope"], "mixed = true of route 1");
        assert_eq!(value["candidates"].as_array().unwrap().len(), 1);
        assert_eq!(value["do_not_record"], Value::Null);
        assert!(value["story"].as_array().unwrap().len() > 5);
    }
}
