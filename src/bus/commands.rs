//! Commands over NATS: heard at once and answered, and kept for a minute in `ASSENT_COMMANDS` for
//! an agent that was away.
//!
//! Every agent of a fleet hears every command, and one answers: the one that has what it is about.
//! What is wrong whoever it is about is answered by one of them, which the server chooses (a queue
//! group). A command comes both ways, and perhaps twice: its `id` tells that it is the same.

use std::future::Future;
use std::time::Duration;

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
/// The agents of a fleet, of which the server chooses one.
const FLEET: &str = "assent";
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

/// Who carries commands out, and audits them. Asked again for a command that comes again: the same
/// `id` is the same command.
pub trait Commands: Send + Sync + 'static {
    /// Carries out a command, or says why not; `None` where it is not about anything of this agent,
    /// or wrong in itself.
    fn run(&self, command: Command) -> impl Future<Output = Option<Reply>> + Send;

    /// What is wrong with a command whoever it is about, if anything. One agent of the fleet is
    /// asked, and it never carries the command out.
    fn refuse(&self, command: Command) -> impl Future<Output = Option<Reply>> + Send;
}

/// Refuses every command.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unsupported;

impl Commands for Unsupported {
    async fn run(&self, _: Command) -> Option<Reply> {
        None
    }

    async fn refuse(&self, command: Command) -> Option<Reply> {
        let verb = command.verb;
        let message = format!("this agent does not carry out \"{verb}\"");
        Some(Reply::refused("unsupported", &message))
    }
}

/// Serves commands until the connection fails.
pub(super) async fn serve(
    link: &Link,
    stream: &Stream,
    origin: &Origin,
    commands: &impl Commands,
) -> Result<(), Trouble> {
    let subject = format!("assent.v1.{}.cmd.*", origin.tenant);
    let what = "to listen for commands";
    let mut direct =
        link.client.subscribe(subject.clone()).await.map_err(|why| Trouble::refused(what, why))?;
    let mut fleet = link
        .client
        .queue_subscribe(subject.clone(), FLEET.to_owned())
        .await
        .map_err(|why| Trouble::refused(what, why))?;
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
                // What does not read is answered below.
                if let Ok(command) = read(&message.subject, &message.payload) {
                    answer(link, message.reply, commands.run(command).await).await?;
                }
            }
            message = fleet.next() => {
                let Some(message) = message else { return Err(Trouble::Lost) };
                let reply = match read(&message.subject, &message.payload) {
                    Ok(command) => commands.refuse(command).await,
                    Err(refused) => Some(refused),
                };
                answer(link, message.reply, reply).await?;
            }
            message = kept.next() => {
                let Some(message) = message else { return Err(Trouble::Lost) };
                let message = message.map_err(|why| Trouble::refused(what, why))?;
                let sent = message.info().map(|info| info.published.unix_timestamp_nanos()).ok();
                let now = i128::from(clock::wall().as_micros()).saturating_mul(1_000);
                let life = i128::try_from(COMMAND_LIFE.as_nanos()).unwrap_or(i128::MAX);
                let end = if sent.is_some_and(|sent| now.saturating_sub(sent) <= life) {
                    if let Ok(command) = read(&message.subject, &message.payload) {
                        commands.run(command).await;
                    }
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
    link: &Link,
    to: Option<async_nats::Subject>,
    reply: Option<Reply>,
) -> Result<(), Trouble> {
    let Some((to, reply)) = to.zip(reply) else { return Ok(()) };
    let sent = link.client.publish(to, reply.to_bytes()).await;
    sent.map_err(|why| Trouble::refused("an answer", why))
}

pub(crate) fn read(subject: &str, payload: &[u8]) -> Result<Command, Reply> {
    let bad = |message: &str| Reply::refused("malformed", message);
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
            assert_eq!(reply["code"], "malformed", "{payload}");
        }
        assert!(read("assent.v1.t.cmd.pause", &vec![b' '; LARGEST + 1]).is_err());
    }
}
