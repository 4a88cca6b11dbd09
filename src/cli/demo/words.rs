//! What happens, as a person would tell it.

use serde_json::Value;

use super::screen::Who;
use crate::phone::{Happening, Side};

/// What a phone tells; nothing for what the other side's line already says.
pub(super) fn of_phone(who: Who, what: &Happening) -> Option<String> {
    Some(match (who, what) {
        (_, Happening::Dialled) => "dials the agent".to_owned(),
        (_, Happening::Invited { from }) => format!("the phone rings: {from} calls"),
        (_, Happening::Progress { .. } | Happening::Refused { status: 487, .. }) => return None,
        (Who::Callee, Happening::Answered { codec, .. }) => {
            format!("picks up ({}) and talks: a low melody", codec.name())
        }
        (_, Happening::Answered { codec, .. }) => format!("is connected ({})", codec.name()),
        (Who::Caller, Happening::Sound) => "hears the recorded voice".to_owned(),
        (Who::Caller, Happening::Quiet { after }) => {
            format!("has heard it out, {:.1} s", after.as_secs_f64())
        }
        (_, Happening::Sound | Happening::Quiet { .. }) => return None,
        (_, Happening::Pressed { key }) => format!("presses {key}"),
        (_, Happening::HeardKey { key }) => format!("hears the key {key}"),
        (_, Happening::Renegotiated { .. }) => "changes the media".to_owned(),
        (_, Happening::Refused { status, reason }) => format!("is turned down: {status} {reason}"),
        (_, Happening::HungUp { by: Side::Us }) => "hangs up".to_owned(),
        (_, Happening::HungUp { by: Side::Peer }) => "is hung up on".to_owned(),
    })
}

/// What an event of the agent says.
pub(super) fn of_event(kind: &str, data: &Value) -> String {
    let text = |name: &str| data[name].as_str().unwrap_or("?").to_owned();
    let seconds = |name: &str| data[name].as_u64().unwrap_or(0) as f64 / 1000.0;
    match kind {
        "agent.ready" => "is ready and takes calls".to_owned(),
        "agent.draining" => "takes no more calls".to_owned(),
        "agent.chain" => format!(
            "signs how long its chain of evidence is, {} records: none can go missing unseen",
            data["head"]["sequence"]
        ),
        "agent.stopped" => "has stopped".to_owned(),
        "call.started" => format!(
            "answers under the policy \"{}\", {} route {}",
            text("policy"),
            text("mode"),
            data["route"]
        ),
        "call.ended" => format!("the call is over after {:.1} s", seconds("duration_ms")),
        "party.joined" => format!("the {} is in the call", text("role")),
        "party.left" => format!("the {} has left the call", text("role")),
        "notice.started" => format!("plays \"{}\" to the {}", text("prompt"), text("role")),
        "notice.completed" => format!(
            "\"{}\" was heard to its end: {:.1} s, {} packets",
            text("prompt"),
            seconds("played_ms"),
            data["packets"]
        ),
        "notice.interrupted" => format!(
            "\"{}\" was cut after {:.1} of {:.1} s: {}",
            text("prompt"),
            seconds("played_ms"),
            seconds("total_ms"),
            text("reason")
        ),
        "permission.granted" => format!(
            "the {} permits the recording ({}); the evidence {}… is on disk, signed",
            text("role"),
            method(&text("method")),
            digest(data)
        ),
        "permission.refused" => format!("the {} does not permit the recording", text("role")),
        "permission.objected" => format!("the {} objects to the recording", text("role")),
        "permission.withdrawn" => format!(
            "the {} takes the permission back ({}), and from that packet on nothing is recorded; \
             the evidence {}… is on disk, signed",
            text("role"),
            method(&text("method")),
            digest(data)
        ),
        "recording.started" => "records, from this packet on and not one earlier".to_owned(),
        "recording.sealed" if data["result"] == "withdrawn" => format!(
            "what is left of the recording is sealed: {:.1} s of the {}",
            seconds("duration_ms"),
            left(data).join(" and the ")
        ),
        "recording.sealed" => {
            format!("the recording is sealed: {:.1} s", seconds("duration_ms"))
        }
        "recording.blocked" => format!("does not record: {}", text("reason")),
        "recording.failed" => format!("the recording failed: {}", text("reason")),
        "segment.sealed" => format!(
            "an encrypted segment of the {} is whole: {} bytes",
            whose(&data["stream"]),
            data["bytes"]
        ),
        "erasure.requested" => format!(
            "is to erase what there is of the {}'s voice; the order is on disk, and outlives a crash",
            whose(&data["stream"])
        ),
        "erasure.completed" => format!(
            "the {}'s voice is erased: its key and its files, looked for again and not found",
            whose(&data["stream"])
        ),
        "erasure.failed" => {
            format!("the {}'s voice is not erased yet: {}", whose(&data["stream"]), text("error"))
        }
        "recording.erased" => "nothing is left of the recording".to_owned(),
        "access.exported" => format!("the recording was exported: {}", text("reason")),
        other => other.replace('.', " "),
    }
}

/// Whose voice a stream is.
fn whose(stream: &Value) -> &'static str {
    if *stream == 0 { "caller" } else { "callee" }
}

/// Whose voice is left in a recording.
fn left(data: &Value) -> Vec<&'static str> {
    let streams = data["streams"].as_array().into_iter().flatten();
    streams.filter(|it| !it["party_ref"].is_null()).map(|it| whose(&it["stream"])).collect()
}

fn method(method: &str) -> &str {
    match method {
        "key" => "by a key",
        "standing" => "an agreement on file",
        "window" => "no objection",
        "token" => "a signed token",
        other => other,
    }
}

fn digest(data: &Value) -> String {
    data["evidence_digest"].as_str().unwrap_or("?").chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_reads_as_a_sentence() {
        let data =
            json!({"role": "caller", "method": "key", "evidence_digest": "ba7816bf8f01cfea"});
        assert_eq!(
            of_event("permission.granted", &data),
            "the caller permits the recording (by a key); the evidence ba7816bf8f01… is on disk, \
             signed"
        );
        assert_eq!(of_event("key.rotated", &json!({})), "key rotated");
    }
}
