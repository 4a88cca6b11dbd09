//! Commands over NATS: heard at once and answered, and kept for a minute in `ASSENT_COMMANDS` for
//! an agent that was away.
//!
//! A command that comes both ways, or twice, is carried out once: its `id` decides.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::time::{Duration, Instant};

use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::Stream;
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::bus::link::Link;
use crate::bus::streams::{COMMAND_LIFE, COMMANDS};
use crate::bus::trouble::Trouble;
use crate::clock;
use crate::event::Origin;
use crate::ids::Token;

/// The largest command that is read.
const LARGEST: usize = 64 * 1024;
/// How many answers are remembered, to repeat them.
const REMEMBERED: usize = 4096;
/// How long; longer than a command lives, so that none is carried out twice.
const MEMORY: Duration = Duration::from_secs(120);
/// A consumer that nobody used for so long belonged to an agent that is gone.
const CONSUMER_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A command that reads, and is new.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The last part of its subject.
    pub verb: Token,
    /// Its own identifier: the same one is the same command.
    pub id: Uuid,
    /// The whole JSON object.
    pub body: Map<String, Value>,
}

/// An answer: `{"ok":true,…}` or `{"ok":false,"code":"…","message":"…"}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reply(Map<String, Value>);

impl Reply {
    /// It was carried out; with what there is to say about it.
    #[must_use]
    pub fn ok(more: Map<String, Value>) -> Self {
        let mut reply = Map::from_iter([("ok".to_owned(), Value::Bool(true))]);
        reply.extend(more.into_iter().filter(|(name, _)| name != "ok"));
        Self(reply)
    }

    /// It was not: a code for programs, a message with the remedy for people.
    #[must_use]
    pub fn refused(code: &str, message: &str) -> Self {
        Self(Map::from_iter([
            ("ok".to_owned(), Value::Bool(false)),
            ("code".to_owned(), Value::from(code)),
            ("message".to_owned(), Value::from(message)),
        ]))
    }

    fn to_bytes(&self) -> Bytes {
        Bytes::from(Value::Object(self.0.clone()).to_string())
    }
}

/// Who carries commands out. Called for each id once, unless the answer is forgotten by then; and
/// audits it.
pub trait Commands: Send + Sync + 'static {
    /// Carries out a command, or says why not.
    fn run(&self, command: Command) -> impl Future<Output = Reply> + Send;
}

/// Refuses every command.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unsupported;

impl Commands for Unsupported {
    async fn run(&self, command: Command) -> Reply {
        let verb = command.verb;
        Reply::refused("unsupported", &format!("this agent does not carry out \"{verb}\""))
    }
}

/// Serves commands until the connection fails.
pub(super) async fn serve(
    link: &Link,
    stream: &Stream,
    origin: &Origin,
    commands: &impl Commands,
    answers: &mut Answers,
) -> Result<(), Trouble> {
    let subject = format!("assent.v1.{}.cmd.*", origin.tenant);
    let what = "to listen for commands";
    let mut direct =
        link.client.subscribe(subject.clone()).await.map_err(|why| Trouble::refused(what, why))?;
    let name = format!("assent-{}-{}", origin.tenant, origin.node);
    let wanted = pull::Config {
        durable_name: Some(name.clone()),
        description: Some("Commands for one Assent agent".to_owned()),
        filter_subject: subject,
        ack_policy: AckPolicy::Explicit,
        ack_wait: Duration::from_secs(10),
        max_deliver: 5,
        inactive_threshold: CONSUMER_LIFE,
        ..pull::Config::default()
    };
    let consumer = stream
        .get_or_create_consumer(&name, wanted)
        .await
        .map_err(|why| Trouble::refused(&format!("a consumer on {COMMANDS}"), why))?;
    let mut kept = consumer.messages().await.map_err(|why| Trouble::refused(what, why))?;

    loop {
        tokio::select! {
            // An answer can only be given to who asks directly, so these come first.
            biased;
            () = link.lost() => return Err(Trouble::Lost),
            message = direct.next() => {
                let Some(message) = message else { return Err(Trouble::Lost) };
                let reply = answer(&message.subject, &message.payload, commands, answers).await;
                if let Some(to) = message.reply {
                    let sent = link.client.publish(to, reply.to_bytes()).await;
                    sent.map_err(|why| Trouble::refused("an answer", why))?;
                }
            }
            message = kept.next() => {
                let Some(message) = message else { return Err(Trouble::Lost) };
                let message = message.map_err(|why| Trouble::refused(what, why))?;
                let sent = message.info().map(|info| info.published.unix_timestamp_nanos()).ok();
                let now = i128::from(clock::wall().as_micros()).saturating_mul(1_000);
                let life = i128::try_from(COMMAND_LIFE.as_nanos()).unwrap_or(i128::MAX);
                let end = if sent.is_some_and(|sent| now.saturating_sub(sent) <= life) {
                    answer(&message.subject, &message.payload, commands, answers).await;
                    AckKind::Ack
                } else {
                    tracing::info!("a command had expired before this agent could read it");
                    AckKind::Term
                };
                message.ack_with(end).await.map_err(|why| Trouble::refused("an ack", why))?;
            }
        }
    }
}

async fn answer(
    subject: &str,
    payload: &[u8],
    commands: &impl Commands,
    answers: &mut Answers,
) -> Reply {
    let command = match read(subject, payload) {
        Ok(command) => command,
        Err(refused) => return refused,
    };
    let id = command.id;
    if let Some(known) = answers.known(id) {
        return known;
    }
    let reply = commands.run(command).await;
    answers.remember(id, reply.clone());
    reply
}

fn read(subject: &str, payload: &[u8]) -> Result<Command, Reply> {
    let bad = |message: &str| Reply::refused("bad-request", message);
    let verb = subject.rsplit('.').next().and_then(|verb| verb.parse().ok());
    let verb = verb.ok_or_else(|| bad("a verb is one word of a-z, 0-9, - and _"))?;
    if payload.len() > LARGEST {
        return Err(bad("a command has at most 64 KiB"));
    }
    let Ok(Value::Object(body)) = serde_json::from_slice(payload) else {
        return Err(bad("a command is a JSON object"));
    };
    let id = body.get("id").and_then(Value::as_str).and_then(|id| id.parse().ok());
    let id = id.ok_or_else(|| bad("a command has an \"id\": a UUID, best of version 7"))?;
    Ok(Command { verb, id, body })
}

/// The answers of the last minutes.
#[derive(Debug, Default)]
pub(super) struct Answers {
    by_id: HashMap<Uuid, Reply>,
    order: VecDeque<(Uuid, Instant)>,
}

impl Answers {
    fn known(&mut self, id: Uuid) -> Option<Reply> {
        let now = clock::now();
        while let Some((oldest, at)) = self.order.front().copied() {
            if now.saturating_duration_since(at) <= MEMORY && self.order.len() <= REMEMBERED {
                break;
            }
            self.order.pop_front();
            self.by_id.remove(&oldest);
        }
        self.by_id.get(&id).cloned()
    }

    fn remember(&mut self, id: Uuid, reply: Reply) {
        if self.by_id.insert(id, reply).is_none() {
            self.order.push_back((id, clock::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_does_not_read_is_refused_with_the_reason() {
        let id = r#"{"id":"01890a5d-ac96-774b-bcce-b302099a8057"}"#;
        assert!(read("assent.v1.t.cmd.pause", id.as_bytes()).is_ok());
        for (subject, payload) in [
            ("assent.v1.t.cmd.PAUSE", id),
            ("assent.v1.t.cmd.pause", "[]"),
            ("assent.v1.t.cmd.pause", "{}"),
            ("assent.v1.t.cmd.pause", r#"{"id":7}"#),
            ("assent.v1.t.cmd.pause", "\u{0}"),
        ] {
            let Reply(reply) = read(subject, payload.as_bytes()).unwrap_err();
            assert_eq!(reply["code"], "bad-request", "{payload}");
        }
        assert!(read("assent.v1.t.cmd.pause", &vec![b' '; LARGEST + 1]).is_err());
    }

    #[test]
    fn answers_are_remembered_up_to_a_limit() {
        let mut answers = Answers::default();
        for nth in 0..(REMEMBERED as u128 + 500) {
            let id = Uuid::from_u128(nth);
            assert_eq!(answers.known(id), None);
            answers.remember(id, Reply::ok(Map::new()));
        }
        assert!(answers.by_id.len() <= REMEMBERED + 1);
        assert_eq!(answers.by_id.len(), answers.order.len());
        assert!(answers.known(Uuid::from_u128(REMEMBERED as u128 + 400)).is_some());
    }
}
