//! What is asked over the control socket, and what is answered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::control::calls::{CallList, OrderDone};
use crate::event::{AccessExported, Draft, ExportFormat};
use crate::ids::{CallId, EventId, PartyRef, Pii, RecordingId, StreamIndex};
use crate::time::Timestamp;

/// A request: `{"command":"status"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// How the agent is.
    Status {},
    /// Take no new calls, let those in progress end, then stop: as SIGTERM does.
    Drain {},
    /// Somebody is about to export a recording: store the event before they do.
    NoteExport(ExportNote),
    /// Which calls are in progress.
    Calls {},
    /// Carry out what could come over NATS too.
    CarryOut {
        /// `pause`, `resume`, `withdraw`.
        verb: String,
        /// What docs/commands.md says.
        body: Map<String, Value>,
    },
    /// Change the do-not-record list.
    DoNotRecord(ListChange),
}

/// A change to the do-not-record list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListChange {
    /// Who makes it.
    pub actor: String,
    /// What becomes of whom.
    #[serde(flatten)]
    pub step: ListStep,
}

/// What becomes of a party on the do-not-record list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum ListStep {
    /// They are on it from now on.
    Add {
        /// Their number in clear: the catalog keeps it encrypted.
        #[serde(with = "exposed")]
        number: Pii<String>,
        /// Why.
        reason: String,
    },
    /// They are on it no longer.
    Remove {
        /// Who.
        party: PartyRef,
    },
}

/// A number on its way over the socket, which is its owner's alone.
mod exposed {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::ids::Pii;

    pub(super) fn serialize<S: Serializer>(text: &Pii<String>, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(text.expose())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Pii<String>, D::Error> {
        String::deserialize(d).map(Pii::new)
    }
}

/// An export that is about to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportNote {
    /// Of which recording.
    pub recording: RecordingId,
    /// Of which call.
    pub call: CallId,
    /// Who exports it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// The one stream that is exported; `null` for all.
    pub stream: Option<StreamIndex>,
}

impl ExportNote {
    /// The event: store it, then answer [`Reply::Noted`] with its identifier.
    pub fn draft(&self) -> Draft {
        Draft::new(AccessExported {
            recording: self.recording,
            actor: self.actor.as_str().into(),
            reason: self.reason.as_str().into(),
            format: ExportFormat::Wav,
            stream: self.stream,
            from_ms: 0,
            to_ms: None,
        })
        .within(self.call)
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// How the agent is.
    Status(Box<Status>),
    /// The agent drains, from now on or already.
    Draining(Draining),
    /// What was to be noted is durable.
    Noted {
        /// As this event.
        event: EventId,
    },
    /// The do-not-record list is as it was asked for.
    Listed(ListReply),
    /// Calls in progress.
    Calls(CallList),
    /// An order was carried out.
    Done(OrderDone),
    /// It does not do what was asked.
    Refused {
        /// For programs.
        code: String,
        /// For people, with the remedy.
        message: String,
    },
}

/// How an agent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub node: String,
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// `ready`, `degraded` or `draining`.
    pub state: String,
    /// Since when it runs.
    pub started: Timestamp,
    /// Where it takes SIP: `udp:127.0.0.1:5060`.
    pub sip: Vec<String>,
    /// Where it takes HTTP.
    pub http: Option<String>,
    /// Where calls are sent, and whether they get there.
    #[serde(default)]
    pub next_hops: Vec<StatusNextHop>,
    /// Calls in progress, by state.
    pub calls: BTreeMap<String, u64>,
    /// Recordings in progress.
    pub recordings: u64,
    /// Events that wait in the outbox.
    pub outbox: u64,
    /// Seconds that the oldest of them has waited.
    pub outbox_age_seconds: u64,
    /// Whether NATS is connected; `null` when none is configured.
    pub nats_connected: Option<bool>,
    /// What is missing or away.
    pub needs: Vec<StatusNeed>,
}

/// A place that calls are sent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusNextHop {
    /// `udp:10.0.0.10:5060`.
    pub next_hop: String,
    /// `unknown` before the first call or probe, `up`, `avoided` after a call that it failed, or
    /// `down` while it does not answer probes.
    pub state: String,
}

/// One thing that an agent misses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusNeed {
    /// What.
    pub name: String,
    /// Whether new calls cannot be taken without it.
    pub required: bool,
    /// What is wrong and what to do about it.
    pub missing: String,
}

/// What became of the do-not-record list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListReply {
    /// Who it is about.
    pub party_ref: PartyRef,
    /// Whether they are on the list now.
    pub listed: bool,
    /// Whether they were before.
    pub was_listed: bool,
}

/// A drain in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draining {
    /// Calls that are still in progress.
    pub calls: u64,
    /// When those that are left are ended.
    pub until: Timestamp,
}

/// [`Reply`] as it stands on the wire: `{"ok":true,…}` or `{"ok":false,"code":…,"message":…}`.
#[derive(Default, Serialize, Deserialize)]
struct Line {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Box<Status>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    draining: Option<Draining>,
    #[serde(skip_serializing_if = "Option::is_none")]
    noted: Option<EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    list: Option<ListReply>,
    #[serde(skip_serializing_if = "Option::is_none")]
    calls: Option<CallList>,
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<OrderDone>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl Serialize for Reply {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut line = Line { ok: true, ..Line::default() };
        match self.clone() {
            Reply::Status(status) => line.status = Some(status),
            Reply::Draining(draining) => line.draining = Some(draining),
            Reply::Noted { event } => line.noted = Some(event),
            Reply::Listed(list) => line.list = Some(list),
            Reply::Calls(calls) => line.calls = Some(calls),
            Reply::Done(done) => line.done = Some(done),
            Reply::Refused { code, message } => {
                line.ok = false;
                line.code = Some(code);
                line.message = Some(message);
            }
        }
        line.serialize(s)
    }
}

impl<'de> Deserialize<'de> for Reply {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let line = Line::deserialize(d)?;
        if !line.ok {
            let (code, message) = (line.code.unwrap_or_default(), line.message.unwrap_or_default());
            return Ok(Reply::Refused { code, message });
        }
        let answers = [
            line.status.map(Reply::Status),
            line.draining.map(Reply::Draining),
            line.noted.map(|event| Reply::Noted { event }),
            line.list.map(Reply::Listed),
            line.calls.map(Reply::Calls),
            line.done.map(Reply::Done),
        ];
        let mut answers = answers.into_iter().flatten();
        match (answers.next(), answers.next()) {
            (Some(answer), None) => Ok(answer),
            _ => Err(serde::de::Error::custom("neither an answer nor a refusal")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_object_with_a_command() {
        let text = serde_json::to_string(&Command::Drain {}).unwrap();
        assert_eq!(text, r#"{"command":"drain"}"#);
        assert_eq!(serde_json::from_str::<Command>(&text).unwrap(), Command::Drain {});
        for bad in [r#"{"command":"erase"}"#, r#"{"command":"drain","x":1}"#, "[]", "\"drain\""] {
            assert!(serde_json::from_str::<Command>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_number_crosses_the_socket_and_does_not_print() {
        let step =
            ListStep::Add { number: Pii::new("+4930".to_owned()), reason: "asked".to_owned() };
        let command = Command::DoNotRecord(ListChange { actor: "a".to_owned(), step });
        let text = serde_json::to_string(&command).unwrap();
        assert_eq!(
            text,
            r#"{"command":"do-not-record","actor":"a","step":"add","number":"+4930","reason":"asked"}"#
        );
        assert_eq!(serde_json::from_str::<Command>(&text).unwrap(), command);
        assert!(!format!("{command:?}").contains("4930"));
        let list = ListReply { party_ref: PartyRef([1; 32]), listed: true, was_listed: false };
        let reply = Reply::Listed(list);
        let text = serde_json::to_string(&reply).unwrap();
        assert_eq!(serde_json::from_str::<Reply>(&text).unwrap(), reply);
    }

    #[test]
    fn an_answer_says_whether_it_is_one() {
        let reply = Reply::Draining(Draining { calls: 2, until: Timestamp::EPOCH });
        let text = serde_json::to_string(&reply).unwrap();
        assert!(text.starts_with(r#"{"ok":true,"draining":{"calls":2"#), "{text}");
        assert_eq!(serde_json::from_str::<Reply>(&text).unwrap(), reply);
        let done = OrderDone {
            call: CallId(uuid::Uuid::nil()),
            recording: None,
            party: None,
            state: crate::call::order::Recorded::Paused,
            changed: true,
        };
        let reply = Reply::Done(done);
        let text = serde_json::to_string(&reply).unwrap();
        assert!(text.ends_with(r#""recording":null,"state":"paused","changed":true}}"#), "{text}");
        assert_eq!(serde_json::from_str::<Reply>(&text).unwrap(), reply);
        let reply = Reply::Refused { code: "busy".into(), message: "wait".into() };
        let text = serde_json::to_string(&reply).unwrap();
        assert_eq!(text, r#"{"ok":false,"code":"busy","message":"wait"}"#);
        assert_eq!(serde_json::from_str::<Reply>(&text).unwrap(), reply);
    }
}
