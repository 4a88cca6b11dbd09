//! An evidence record as a receipt that a person can read, without a word of this program's own.

use serde_json::Value;

use crate::cli::spoken::{Found, Spoken};
use crate::cli::when;
use crate::consent::evidence::Record;
use crate::time::Timestamp;

/// The lines of a receipt.
pub(super) fn lines(record: &Record, spoken: &Spoken) -> Vec<String> {
    let facts = record.facts();
    let text = |name: &str| text_of(facts, name);
    let mut lines = vec![format!("Receipt {}", record.id())];
    let mut say = |name: &str, value: String| lines.push(format!("  {name:<12}{value}"));
    say("Outcome", outcome_text(facts));
    if facts.get("ends").is_some() {
        let ends = text("ends");
        say("", format!("it takes back the permission of the record with SHA-256 {ends}"));
    }
    say("Party", format!("the {}, reference {}", text("leg"), text("party_ref")));
    say("Recording", format!("{} of call {}", text("recording"), text("call")));
    say("Controller", text("controller"));
    say("Purposes", list_of(facts, "purposes"));
    say("Basis", basis_text(&text("basis")));
    say("Policy", format!("{}, SHA-256 {}", text("policy"), text("policy_digest")));
    say("Gate", gate_text(&text("gate")));
    say("Transport", transport_text(&text("transport")));
    for notice in notices(record) {
        say("Notice", notice_text(notice));
        say("", reception_text(notice));
        say("", format!("SHA-256 {}", text_of(notice, "sha256")));
        say(
            "",
            match spoken.find(notice) {
                Found::Words(words) => format!("\"{words}\""),
                Found::Own => "the file is still in the prompts' folder".to_owned(),
                Found::Gone => "the file is no longer here as it was played".to_owned(),
            },
        );
    }
    if notices(record).next().is_none() {
        say("Notice", "none was played".to_owned());
    }
    say("Answer", answer_text(facts));
    let head = record.head();
    say(
        "Record",
        format!("{} of agent {}, SHA-256 {}", head.sequence, record.agent(), head.digest),
    );
    say("Signed by", format!("key {}", record.signing_key()));
    lines
}

/// Every playing of a notice, in order.
pub(super) fn notices(record: &Record) -> impl Iterator<Item = &Value> {
    record.facts().get("notices").and_then(Value::as_array).into_iter().flatten()
}

/// What was decided, when, and what follows from it.
fn outcome_text(facts: &Value) -> String {
    let (leg, outcome) = (text_of(facts, "leg"), text_of(facts, "outcome"));
    let before = facts.get("ends").is_some();
    let follows = match outcome.as_str() {
        "granted" => format!("the {leg} may be recorded from then on"),
        "refused" | "objected" if !before => format!("the {leg} is not recorded"),
        "withdrawn" | "refused" | "objected" => {
            format!("the {leg} is not recorded any more from then on")
        }
        _ => "this program does not know what follows".to_owned(),
    };
    format!("{outcome} on {} UTC: {follows}", time_of(facts, "time"))
}

/// GDPR Art. 6(1).
fn basis_text(basis: &str) -> String {
    let letter = match basis {
        "consent" => 'a',
        "contract" => 'b',
        "legal_obligation" => 'c',
        "vital_interests" => 'd',
        "public_task" => 'e',
        "legitimate_interests" => 'f',
        other => return other.to_owned(),
    };
    format!("{}, GDPR Art. 6(1)({letter})", basis.replace('_', " "))
}

fn transport_text(transport: &str) -> String {
    match transport {
        "UNDECIDED" => "decided before the party's leg was answered: RTP or SRTP".to_owned(),
        known => format!("the party's voice travels as {known}"),
    }
}

fn gate_text(gate: &str) -> String {
    let means = match gate {
        "opt-in" => "asked on the call; the accept key permits, silence is a refusal",
        "no-objection" => "told on the call; a key objects, silence after the notice permits",
        "standing" => "not asked on the call; an agreement on file permits",
        "token" => "not asked by this program; the telephone system states the answer, signed",
        _ => return gate.to_owned(),
    };
    format!("{gate}: {means}")
}

fn notice_text(notice: &Value) -> String {
    let seconds = |name: &str| {
        let ms = number_of(notice, name);
        format!("{}.{} s", ms / 1000, ms % 1000 / 100)
    };
    let end = match notice.get("completed").and_then(Value::as_bool) {
        Some(true) => "to its end",
        _ => "cut short",
    };
    let locale = text_of(notice, "locale");
    let language = match locale.split(['-', '_']).next() {
        Some("de") => "German, ",
        Some("en") => "English, ",
        Some("es") => "Spanish, ",
        Some("fr") => "French, ",
        Some("it") => "Italian, ",
        _ => "",
    };
    format!(
        "\"{}\" ({language}{locale}) was played from {} to {} UTC: {} of {}, {end}",
        text_of(notice, "prompt"),
        time_of(notice, "started"),
        time_of(notice, "ended"),
        seconds("played_ms"),
        seconds("total_ms"),
    )
}

/// What is known of whether the notice arrived.
fn reception_text(notice: &Value) -> String {
    let held = match notice.get("held").and_then(Value::as_bool) {
        Some(true) => ", while the party was on hold",
        _ => "",
    };
    let loss = match notice.get("loss_percent").and_then(Value::as_u64) {
        Some(percent) => format!("the party's side reported {percent} % lost"),
        None => "the party's side reported no loss".to_owned(),
    };
    let came = match notice.get("received") {
        Some(_) => format!(", {} came from the party meanwhile", number_of(notice, "received")),
        None => String::new(),
    };
    format!("{} packets were sent{came}; {loss}{held}", number_of(notice, "packets"))
}

fn answer_text(facts: &Value) -> String {
    let Some(answer) = facts.get("answer") else { return "-".to_owned() };
    let text = |name: &str| text_of(answer, name);
    match text("method").as_str() {
        "key" => format!("the party pressed {} ({})", text("key"), via_text(answer)),
        "keys" => format!("the party pressed {} ({})", text("keys"), via_text(answer)),
        "window" => format!(
            "no key between {} and {} UTC: silence {}",
            time_of(answer, "start"),
            time_of(answer, "end"),
            match text_of(facts, "outcome").as_str() {
                "granted" => "permits under this gate",
                _ => "is a refusal under this gate",
            }
        ),
        "not-heard" => {
            "none: the notice did not reach the party, so that nothing is permitted".to_owned()
        }
        "standing" => format!("not asked, agreement on file: {}", text("agreement")),
        "token" => format!(
            "not asked: a token signed with the key \"{}\" states \"{}\" (SHA-256 of the token {})",
            text("key"),
            text("stated"),
            text("digest")
        ),
        "listed" => "not asked: the party is on the do-not-record list".to_owned(),
        "preference" => "not asked: the party's telephone says that it does not want to be \
                         recorded (RFC 7866)"
            .to_owned(),
        "earlier" => format!(
            "not asked again: the party permitted it earlier in this call (record with SHA-256 {})",
            text("evidence")
        ),
        "command" => format!("a command was given for the party, number {}", text("id")),
        "hung-up" => "none: the call ended before an answer".to_owned(),
        other => other.to_owned(),
    }
}

fn via_text(answer: &Value) -> String {
    let via = match text_of(answer, "via").as_str() {
        "telephone-event" => "as RTP telephone-event".to_owned(),
        "info" => "by SIP INFO".to_owned(),
        other => other.to_owned(),
    };
    match answer.get("rtp_timestamp").and_then(Value::as_u64) {
        Some(at) => format!("{via}, RTP timestamp {at}"),
        None => via,
    }
}

fn number_of(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_default()
}

fn text_of(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or("-").to_owned()
}

fn list_of(value: &Value, name: &str) -> String {
    let items = value.get(name).and_then(Value::as_array);
    let texts: Vec<&str> = items.into_iter().flatten().filter_map(Value::as_str).collect();
    texts.join(", ")
}

fn time_of(value: &Value, name: &str) -> String {
    let text = text_of(value, name);
    text.parse::<Timestamp>().map_or(text, when::precise)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::consent::{Answer, KeyVia, Stated, TokenStated};
    use crate::ids::Digest;

    fn said(answer: &Answer, outcome: &str) -> String {
        answer_text(&json!({ "answer": answer, "outcome": outcome }))
    }

    #[test]
    fn every_answer_reads_as_a_sentence() {
        let at: Timestamp = "2026-11-21T22:00:00.000000Z".parse().unwrap();
        let (digest, via) = (Digest([0xab; 32]), KeyVia::TelephoneEvent);
        let window = Answer::Window { start: at, end: at };
        let hex = digest.to_string();
        let token = TokenStated { digest, key: "pbx-1".into(), stated: Stated::Granted };
        for (answer, outcome, expected) in [
            (
                Answer::Key { key: '1', via, rtp_timestamp: Some(9) },
                "granted",
                "the party pressed 1 (as RTP telephone-event, RTP timestamp 9)",
            ),
            (
                Answer::Keys { keys: "*9".into(), via: KeyVia::Info, rtp_timestamp: None },
                "withdrawn",
                "the party pressed *9 (by SIP INFO)",
            ),
            (
                window.clone(),
                "granted",
                "no key between 2026-11-21 22:00:00.000 and 2026-11-21 22:00:00.000 UTC: silence \
                 permits under this gate",
            ),
            (
                window,
                "refused",
                "no key between 2026-11-21 22:00:00.000 and 2026-11-21 22:00:00.000 UTC: silence \
                 is a refusal under this gate",
            ),
            (
                Answer::NotHeard,
                "refused",
                "none: the notice did not reach the party, so that nothing is permitted",
            ),
            (
                Answer::Standing { agreement: "contract-7".into() },
                "granted",
                "not asked, agreement on file: contract-7",
            ),
            (Answer::HungUp, "refused", "none: the call ended before an answer"),
            (Answer::Listed, "objected", "not asked: the party is on the do-not-record list"),
            (
                Answer::Preference,
                "objected",
                "not asked: the party's telephone says that it does not want to be recorded (RFC \
                 7866)",
            ),
            (
                Answer::Command { id: "c1".into() },
                "withdrawn",
                "a command was given for the party, number c1",
            ),
            (
                Answer::Token(token),
                "granted",
                &format!(
                    "not asked: a token signed with the key \"pbx-1\" states \"granted\" (SHA-256 \
                     of the token {hex})"
                ),
            ),
            (
                Answer::Earlier { evidence: digest },
                "granted",
                &format!(
                    "not asked again: the party permitted it earlier in this call (record with \
                     SHA-256 {hex})"
                ),
            ),
        ] {
            assert_eq!(said(&answer, outcome), expected);
        }
    }

    #[test]
    fn a_notice_says_how_much_of_it_was_played_and_how_it_arrived() {
        let mut notice = json!({
            "prompt": "notice-opt-in", "locale": "de-DE", "played_ms": 7900, "total_ms": 8000,
            "packets": 395, "received": 12, "started": "2026-11-21T22:00:00.000000Z",
            "ended": "2026-11-21T22:00:07.900000Z", "held": true, "loss_percent": 3,
            "completed": false,
        });
        assert_eq!(
            notice_text(&notice),
            "\"notice-opt-in\" (German, de-DE) was played from 2026-11-21 22:00:00.000 to \
             2026-11-21 22:00:07.900 UTC: 7.9 s of 8.0 s, cut short"
        );
        assert_eq!(
            reception_text(&notice),
            "395 packets were sent, 12 came from the party meanwhile; the party's side reported 3 \
             % lost, while the party was on hold"
        );
        notice["loss_percent"] = Value::Null;
        notice["held"] = json!(false);
        assert!(reception_text(&notice).ends_with("the party's side reported no loss"));
    }

    #[test]
    fn an_outcome_says_what_follows() {
        let facts = |outcome: &str, ends: bool| {
            let mut facts = json!({
                "outcome": outcome, "leg": "callee", "time": "2026-11-21T22:00:00.000000Z",
            });
            if ends {
                facts["ends"] = json!("00");
            }
            outcome_text(&facts)
        };
        let at = "on 2026-11-21 22:00:00.000 UTC: the callee";
        assert_eq!(facts("granted", false), format!("granted {at} may be recorded from then on"));
        assert_eq!(facts("refused", false), format!("refused {at} is not recorded"));
        assert_eq!(
            facts("objected", true),
            format!("objected {at} is not recorded any more from then on")
        );
        assert_eq!(
            facts("withdrawn", true),
            format!("withdrawn {at} is not recorded any more from then on")
        );
    }

    #[test]
    fn every_basis_names_its_letter() {
        assert_eq!(basis_text("legitimate_interests"), "legitimate interests, GDPR Art. 6(1)(f)");
        assert_eq!(basis_text("consent"), "consent, GDPR Art. 6(1)(a)");
    }
}
