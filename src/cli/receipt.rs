//! An evidence record as a receipt that a person can read.

use serde_json::Value;

use crate::cli::when;
use crate::consent::evidence::Record;
use crate::time::Timestamp;

/// The lines of a receipt.
pub(super) fn lines(record: &Record) -> Vec<String> {
    let facts = record.facts();
    let text = |name: &str| text_of(facts, name);
    let mut lines = vec![format!("Receipt {}", record.id())];
    let mut say = |name: &str, value: String| lines.push(format!("  {name:<12}{value}"));
    say("Outcome", format!("{} on {} UTC", text("outcome"), time_of(facts, "time")));
    say("Party", format!("{}, reference {}", text("leg"), text("party_ref")));
    say("Recording", format!("{} of call {}", text("recording"), text("call")));
    say("Basis", text("basis").replace('_', " "));
    say("Purposes", list_of(facts, "purposes"));
    say("Controller", text("controller"));
    say("Policy", format!("{}, SHA-256 {}", text("policy"), text("policy_digest")));
    say("Gate", text("gate"));
    say("Transport", text("transport"));
    for notice in facts.get("notices").and_then(Value::as_array).into_iter().flatten() {
        say("Notice", notice_text(notice));
        say("", format!("SHA-256 {}", text_of(notice, "sha256")));
    }
    if let Some(answer) = facts.get("answer") {
        say("Answer", answer_text(answer));
    }
    if let Some(permission) = facts.get("ends").and_then(Value::as_str) {
        say("Takes back", format!("the permission with SHA-256 {permission}"));
    }
    let head = record.head();
    say(
        "Record",
        format!("{} of agent {}, SHA-256 {}", head.sequence, record.agent(), head.digest),
    );
    say("Signed by", format!("key {}", record.signing_key()));
    lines
}

fn notice_text(notice: &Value) -> String {
    let number = |name: &str| notice.get(name).and_then(Value::as_u64).unwrap_or_default();
    let seconds = |name: &str| format!("{}.{} s", number(name) / 1000, number(name) % 1000 / 100);
    let end = match notice.get("completed").and_then(Value::as_bool) {
        Some(true) => "to its end",
        _ => "cut short",
    };
    let held = match notice.get("held").and_then(Value::as_bool) {
        Some(true) => ", while the party was on hold",
        _ => "",
    };
    let loss = match notice.get("loss_percent").and_then(Value::as_u64) {
        Some(percent) => format!(", the party's side lost {percent} %"),
        None => String::new(),
    };
    format!(
        "{} in {}, {} of {} ({end}), {} packets, from {} UTC{held}{loss}",
        text_of(notice, "prompt"),
        text_of(notice, "locale"),
        seconds("played_ms"),
        seconds("total_ms"),
        number("packets"),
        time_of(notice, "started"),
    )
}

fn answer_text(answer: &Value) -> String {
    match text_of(answer, "method").as_str() {
        name @ ("key" | "keys") => {
            let at = answer.get("rtp_timestamp").and_then(Value::as_u64);
            let at = at.map(|at| format!(", RTP timestamp {at}")).unwrap_or_default();
            format!("pressed {} ({}{at})", text_of(answer, name), text_of(answer, "via"))
        }
        "window" => format!(
            "no key between {} and {} UTC",
            time_of(answer, "start"),
            time_of(answer, "end")
        ),
        "not-heard" => "the notice did not reach the party".to_owned(),
        "standing" => format!("agreement on file: {}", text_of(answer, "agreement")),
        "hung-up" => "hung up before an answer".to_owned(),
        "command" => format!("command {}", text_of(answer, "id")),
        other => other.to_owned(),
    }
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

    #[test]
    fn an_answer_reads_as_a_sentence() {
        let key =
            json!({"method": "key", "key": "1", "via": "telephone-event", "rtp_timestamp": 9});
        assert_eq!(answer_text(&key), "pressed 1 (telephone-event, RTP timestamp 9)");
        let info = json!({"method": "key", "key": "1", "via": "info", "rtp_timestamp": null});
        assert_eq!(answer_text(&info), "pressed 1 (info)");
        let keys = json!({"method": "keys", "keys": "*9", "via": "info", "rtp_timestamp": null});
        assert_eq!(answer_text(&keys), "pressed *9 (info)");
        let window = json!({
            "method": "window",
            "start": "2026-11-21T22:00:00.000000Z",
            "end": "2026-11-21T22:00:05.000000Z",
        });
        assert_eq!(
            answer_text(&window),
            "no key between 2026-11-21 22:00:00.000 and 2026-11-21 22:00:05.000 UTC"
        );
    }

    #[test]
    fn a_notice_says_how_much_of_it_was_played() {
        let notice = json!({
            "prompt": "notice-opt-in", "locale": "de-DE", "played_ms": 7900, "total_ms": 8000,
            "packets": 395, "started": "2026-11-21T22:00:00.000000Z", "held": true,
            "loss_percent": 3, "completed": false,
        });
        let said = notice_text(&notice);
        assert!(said.starts_with("notice-opt-in in de-DE, 7.9 s of 8.0 s (cut short)"), "{said}");
        assert!(said.ends_with("while the party was on hold, the party's side lost 3 %"), "{said}");
    }
}
