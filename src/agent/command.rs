//! A command as it comes from outside, by the control socket or by NATS: read, and what is wrong
//! with it.

use std::time::Duration;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::call::order::Declined;
use crate::consent::machine::Order;
use crate::event::Word;
use crate::ids::{CallId, Leg, RecordingId};
use crate::time::Timestamp;

/// How long a command is worth anything.
const LIFE: Duration = Duration::from_secs(60);

/// An order for one call.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CallOrder {
    /// Its own identifier: the same one is the same command.
    pub(super) id: Uuid,
    pub(super) order: Order,
    pub(super) about: About,
}

/// Which call an order is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Call(CallId),
    /// The call that this recording is of.
    Recording(RecordingId),
    /// Whichever of the two has this identifier.
    Either(Uuid),
}

impl About {
    pub(super) fn call(self) -> Option<CallId> {
        match self {
            About::Call(call) => Some(call),
            About::Recording(_) | About::Either(_) => None,
        }
    }

    pub(super) fn recording(self) -> Option<RecordingId> {
        match self {
            About::Recording(recording) => Some(recording),
            About::Call(_) | About::Either(_) => None,
        }
    }
}

/// Who gives an order and why, as far as they say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stated {
    pub(super) id: Option<Uuid>,
    pub(super) actor: Option<Word>,
    pub(super) reason: Option<Word>,
}

impl Stated {
    pub(super) fn of(body: &Map<String, Value>) -> Self {
        let word = |name: &str| body.get(name).and_then(Value::as_str).map(Word::new);
        let id = body.get("id").and_then(Value::as_str).and_then(|id| id.parse().ok());
        Self { id, actor: word("actor"), reason: word("reason") }
    }
}

/// Why a command is not carried out. Each message tells the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{0}")]
    Malformed(String),
    #[error(
        "this agent does not carry out \"{0}\"; it does \"pause\", \"resume\" and \"withdraw\""
    )]
    Unsupported(String),
    #[error(
        "the command was issued more than 60 s ago: send it again, with a new id; and where that \
         does not help, set the clocks"
    )]
    Expired,
    #[error(
        "no call in progress here has this identifier, nor has one a recording that has it: it \
         may have ended; `assent status --calls` lists those there are"
    )]
    NotFound,
    #[error(
        "nothing is recorded in this call now, so there is nothing to pause or resume; `assent \
         status --calls` says how it stands"
    )]
    NothingRecorded,
    #[error(
        "the {0} is not recorded and has no permission to take back: the party refused, was not \
         asked, or the notice did not reach them"
    )]
    NoPermission(Leg),
    #[error("this call has no {0}: name the party that is on the line")]
    NoSuchParty(Leg),
    #[error("this call is ending: nothing of it is recorded any more")]
    Ended,
    #[error(
        "nothing more of the party is written, but the withdrawal could not be stored in time: see \
         the agent's log, and look with `assent evidence` whether it is there"
    )]
    NotStored,
    #[error("the agent is stopping")]
    Stopping,
}

impl Refusal {
    /// The word for programs.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Refusal::Malformed(_) => "malformed",
            Refusal::Unsupported(_) => "unsupported",
            Refusal::Expired => "expired",
            Refusal::NotFound => "not-found",
            Refusal::NothingRecorded | Refusal::NoPermission(_) => "not-recorded",
            Refusal::NoSuchParty(_) => "no-such-party",
            Refusal::Ended => "ended",
            Refusal::NotStored => "not-stored",
            Refusal::Stopping => "stopping",
        }
    }

    /// Why a call did not carry out an order.
    pub(super) fn of(order: Order, declined: Declined) -> Self {
        match (declined, order) {
            (Declined::Ended, _) => Refusal::Ended,
            (Declined::NotRecorded, Order::Withdraw(leg)) => Refusal::NoPermission(leg),
            (Declined::NoSuchParty, Order::Withdraw(leg)) => Refusal::NoSuchParty(leg),
            (Declined::NotRecorded | Declined::NoSuchParty, _) => Refusal::NothingRecorded,
        }
    }
}

impl CallOrder {
    /// Reads a command that was received at `now`.
    pub(super) fn read(
        verb: &str,
        body: &Map<String, Value>,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        let order = match verb {
            "pause" => Order::Pause,
            "resume" => Order::Resume,
            "withdraw" => Order::Withdraw(party(body)?),
            other => return Err(Refusal::Unsupported(Word::new(other).to_string())),
        };
        let id = uuid(body, "id")?;
        let id =
            id.ok_or_else(|| malformed("a command has an \"id\": a UUID, best of version 7"))?;
        let about = about(body)?;
        text(body, "actor")?;
        text(body, "reason")?;
        if let Some(issued) = issued(body)? {
            if now.since(issued) > LIFE {
                return Err(Refusal::Expired);
            }
            if issued.since(now) > LIFE {
                return Err(malformed("\"issued\" is in the future: set the clocks"));
            }
        }
        Ok(Self { id, order, about })
    }

    pub(super) fn verb(&self) -> &'static str {
        match self.order {
            Order::Pause => "pause",
            Order::Resume => "resume",
            Order::Withdraw(_) => "withdraw",
        }
    }

    /// Whose permission it is about.
    pub(super) fn party(&self) -> Option<Leg> {
        match self.order {
            Order::Withdraw(leg) => Some(leg),
            Order::Pause | Order::Resume => None,
        }
    }
}

/// Whether a command reads, for the fuzz targets.
#[cfg(any(test, fuzzing))]
pub(crate) fn reads(verb: &str, body: &Map<String, Value>, now: Timestamp) -> bool {
    CallOrder::read(verb, body, now).is_ok()
}

fn about(body: &Map<String, Value>) -> Result<About, Refusal> {
    let named = [
        uuid(body, "call")?.map(|id| About::Call(CallId(id))),
        uuid(body, "recording")?.map(|id| About::Recording(RecordingId(id))),
        uuid(body, "about")?.map(About::Either),
    ];
    let mut named = named.into_iter().flatten();
    match (named.next(), named.next()) {
        (Some(about), None) => Ok(about),
        _ => Err(malformed(
            "name one of \"call\", \"recording\" and \"about\" (either of the two): a UUID",
        )),
    }
}

fn party(body: &Map<String, Value>) -> Result<Leg, Refusal> {
    match text(body, "party")? {
        Some("caller") => Ok(Leg::Caller),
        Some("callee") => Ok(Leg::Callee),
        _ => Err(malformed("a withdrawal names its \"party\": \"caller\" or \"callee\"")),
    }
}

fn issued(body: &Map<String, Value>) -> Result<Option<Timestamp>, Refusal> {
    let wrong = || malformed("\"issued\" is a time such as 2026-11-21T22:00:04Z (RFC 3339)");
    text(body, "issued")?.map(|text| text.parse().map_err(|_| wrong())).transpose()
}

fn uuid(body: &Map<String, Value>, name: &str) -> Result<Option<Uuid>, Refusal> {
    let wrong = || malformed(&format!("\"{name}\" is a UUID, in full"));
    text(body, name)?.map(|text| text.parse().map_err(|_| wrong())).transpose()
}

/// A member that is a string; `None` where it is not there, or `null`.
fn text<'a>(body: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Refusal> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(malformed(&format!("\"{name}\" is a string"))),
    }
}

fn malformed(why: &str) -> Refusal {
    Refusal::Malformed(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn read(verb: &str, body: Value) -> Result<CallOrder, Refusal> {
        let now = "2026-11-21T22:01:00Z".parse().unwrap();
        CallOrder::read(verb, body.as_object().unwrap(), now)
    }

    #[test]
    fn a_command_names_what_is_wanted_and_of_which_call() {
        let id: Uuid = ID.parse().unwrap();
        let (order, about) = (Order::Pause, About::Call(CallId(id)));
        let body = json!({ "id": ID, "call": ID, "recording": null, "more": [1] });
        assert_eq!(read("pause", body), Ok(CallOrder { id, order, about }));
        let (order, about) = (Order::Resume, About::Recording(RecordingId(id)));
        let body = json!({ "id": ID, "recording": ID });
        assert_eq!(read("resume", body), Ok(CallOrder { id, order, about }));
        let (order, about) = (Order::Withdraw(Leg::Callee), About::Either(id));
        let body = json!({ "id": ID, "about": ID, "party": "callee" });
        assert_eq!(read("withdraw", body), Ok(CallOrder { id, order, about }));
    }

    #[test]
    fn one_that_does_not_read_says_what_to_write() {
        for (verb, body, says) in [
            ("pause", json!({ "call": ID }), "\"id\""),
            ("pause", json!({ "id": 7, "call": ID }), "\"id\" is a string"),
            ("pause", json!({ "id": "x", "call": ID }), "UUID"),
            ("pause", json!({ "id": ID }), "\"recording\""),
            ("pause", json!({ "id": ID, "call": ID, "recording": ID }), "one of"),
            ("pause", json!({ "id": ID, "call": "last" }), "\"call\" is a UUID"),
            ("withdraw", json!({ "id": ID, "call": ID }), "party"),
            ("withdraw", json!({ "id": ID, "call": ID, "party": "both" }), "callee"),
            ("pause", json!({ "id": ID, "call": ID, "issued": "now" }), "RFC 3339"),
            ("pause", json!({ "id": ID, "call": ID, "actor": {} }), "\"actor\" is a string"),
        ] {
            let refusal = read(verb, body.clone()).unwrap_err();
            assert_eq!(refusal.code(), "malformed", "{body}");
            assert!(refusal.to_string().contains(says), "{body}: {refusal}");
        }
        let refusal = read("erase", json!({ "id": ID, "recording": ID })).unwrap_err();
        assert_eq!(refusal.code(), "unsupported");
    }

    #[test]
    fn one_is_worth_a_minute_from_when_it_was_issued() {
        let issued = |at: &str| read("pause", json!({ "id": ID, "call": ID, "issued": at }));
        assert!(issued("2026-11-21T22:00:00Z").is_ok());
        assert!(issued("2026-11-21T23:01:30+01:00").is_ok(), "clocks differ a little");
        assert_eq!(issued("2026-11-21T21:59:59.999Z"), Err(Refusal::Expired));
        assert_eq!(issued("2026-11-21T22:02:01Z").unwrap_err().code(), "malformed");
        assert_eq!(issued("-009999-01-02T01:59:59Z"), Err(Refusal::Expired));
    }

    #[test]
    fn what_is_kept_of_a_command_holds_no_number() {
        let body = json!({ "actor": "desk +4930123456", "reason": "x\n", "id": [] });
        let stated = Stated::of(body.as_object().unwrap());
        assert_eq!(stated.actor.unwrap().as_str(), "desk +…");
        assert_eq!((stated.reason.unwrap().as_str(), stated.id), ("x…", None));
    }
}
