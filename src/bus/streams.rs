//! The two JetStream streams: made when missing, looked at when there, never changed.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{
    CreateStreamErrorKind, GetStreamErrorKind, RequestError, RequestErrorKind,
};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, RetentionPolicy, StorageType, Stream,
};

use crate::bus::link::Link;
use crate::bus::settings::{BusConfig, DUPLICATE_WINDOW};
use crate::bus::trouble::Trouble;
use crate::event::Entity;
use crate::time::Timestamp;

/// The stream of the events.
pub(super) const EVENTS: &str = "ASSENT_EVENTS";
/// The stream of the commands.
pub(super) const COMMANDS: &str = "ASSENT_COMMANDS";

/// How long a command is worth anything.
pub(super) const COMMAND_LIFE: Duration = Duration::from_secs(60);

const LARGEST_EVENT: i32 = 512 * 1024;
const LARGEST_COMMAND: i32 = 64 * 1024;
const MOST_COMMANDS: i64 = 100_000;

/// Events are kept until somebody else decides: a downstream service may rebuild itself from
/// them. Where the server's disk has no room, it refuses, and they wait in the outbox.
fn events(config: &BusConfig) -> Config {
    Config {
        name: EVENTS.to_owned(),
        description: Some("Assent: what happened to calls, permissions and recordings".to_owned()),
        // Two streams may not have a subject in common, so `assent.v1.*.>` cannot stand here.
        subjects: Entity::ALL.iter().map(|entity| format!("assent.v1.*.{entity}.>")).collect(),
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        num_replicas: config.replicas,
        max_message_size: LARGEST_EVENT,
        duplicate_window: config.duplicate_window.max(DUPLICATE_WINDOW),
        allow_direct: true,
        ..Config::default()
    }
}

/// No acknowledgement from JetStream: it would be the first answer to a command, in place of ours.
fn commands(config: &BusConfig) -> Config {
    Config {
        name: COMMANDS.to_owned(),
        description: Some("Assent: commands to agents, each worth a minute".to_owned()),
        subjects: vec!["assent.v1.*.cmd.*".to_owned()],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas: config.replicas,
        max_age: COMMAND_LIFE,
        max_messages: MOST_COMMANDS,
        max_message_size: LARGEST_COMMAND,
        duplicate_window: COMMAND_LIFE,
        no_ack: true,
        ..Config::default()
    }
}

/// The streams as they are, and what an administrator should know.
pub(super) struct Streams {
    pub(super) events: Stream,
    /// Not there when it could not be made; events do not depend on it.
    pub(super) commands: Option<Stream>,
    pub(super) warnings: Vec<String>,
}

/// Makes the streams that are missing.
pub(super) async fn ensure(link: &Link, config: &BusConfig) -> Result<Streams, Trouble> {
    let mut warnings = Vec::new();
    if !link.client.is_server_compatible(2, 10, 23) {
        let version = super::link::printable(&link.client.server_info().version);
        warnings.push(format!(
            "the NATS server is {version}; 2.10.23 or later is needed so that sync_interval: \
             always keeps what it acknowledges"
        ));
    }
    let wanted = events(config);
    let events = ensure_one(link, EVENTS, wanted.clone()).await?;
    warnings.extend(differences(&wanted, &events.cached_info().config));
    let commands = match ensure_one(link, COMMANDS, commands(config)).await {
        Ok(stream) => Some(stream),
        Err(trouble) => {
            warnings.push(format!("no commands over NATS: {trouble}"));
            None
        }
    };
    if commands.as_ref().is_some_and(|stream| !stream.cached_info().config.no_ack) {
        warnings.push(format!(
            "{COMMANDS} acknowledges commands, and who sends one gets JetStream's \
             acknowledgement in place of the agent's answer; set no_ack"
        ));
    }
    Ok(Streams { events, commands, warnings })
}

async fn ensure_one(link: &Link, name: &'static str, wanted: Config) -> Result<Stream, Trouble> {
    let what = format!("to look at {name}");
    match link.jetstream.get_stream(name).await {
        Ok(stream) => return Ok(stream),
        Err(why) => match why.kind() {
            GetStreamErrorKind::JetStream(error)
                if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
            GetStreamErrorKind::JetStream(error) => return Err(Trouble::of(&what, name, &error)),
            GetStreamErrorKind::Request => return Err(request_failed(link, &why)),
            _ => return Err(Trouble::refused(&what, why)),
        },
    }
    let what = format!("to create {name}");
    match link.jetstream.create_stream(wanted).await {
        Ok(stream) => {
            tracing::info!(stream = name, "created the JetStream stream");
            Ok(stream)
        }
        Err(why) => match why.kind() {
            // Another agent was faster, with other settings.
            CreateStreamErrorKind::JetStream(error)
                if error.error_code() == ErrorCode::STREAM_NAME_EXIST =>
            {
                link.jetstream.get_stream(name).await.map_err(|why| Trouble::refused(&what, why))
            }
            CreateStreamErrorKind::JetStream(error) => Err(Trouble::of(&what, name, &error)),
            CreateStreamErrorKind::JetStreamUnavailable => Err(Trouble::NoJetStream),
            CreateStreamErrorKind::TimedOut => Err(link.silent()),
            _ => Err(Trouble::refused(&what, why)),
        },
    }
}

/// Nobody answers for JetStream: it is off, which is not the same as an answer that is late.
fn request_failed(link: &Link, why: &(dyn std::error::Error + 'static)) -> Trouble {
    let mut cause = Some(why);
    while let Some(error) = cause {
        let request = error.downcast_ref::<RequestError>();
        if request.is_some_and(|error| error.kind() == RequestErrorKind::NoResponders) {
            return Trouble::NoJetStream;
        }
        cause = error.source();
    }
    link.silent()
}

/// What differs so that events get lost. Anything else is the administrator's own business.
fn differences(wanted: &Config, found: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |text: String| warnings.push(format!("{EVENTS} {text}"));
    let missing: Vec<&str> = wanted
        .subjects
        .iter()
        .map(String::as_str)
        .filter(|subject| !found.subjects.iter().any(|have| covers(have, subject)))
        .collect();
    if !missing.is_empty() {
        warn(format!("does not take {}; add the subjects", missing.join(", ")));
    }
    if found.storage == StorageType::Memory {
        warn("is kept in memory and lost when the server ends; create it anew in files".into());
    }
    if found.retention != RetentionPolicy::Limits {
        warn("drops events that have been consumed, or that nobody consumes; use limits".into());
    }
    if found.no_ack {
        warn("does not acknowledge, so no event ever counts as sent; unset no_ack".into());
    }
    if found.sealed {
        warn("is sealed and takes no event; create a new one".into());
    }
    if found.discard == DiscardPolicy::Old
        && (found.max_messages > 0 || found.max_bytes > 0 || found.max_messages_per_subject > 0)
    {
        warn("throws away old events when it is full; use discard: new, or no limit".into());
    }
    if found.duplicate_window < DUPLICATE_WINDOW {
        let seconds = found.duplicate_window.as_secs();
        warn(format!("remembers ids for {seconds} s only; use a duplicate window of 2m"));
    }
    if found.max_message_size > 0 && found.max_message_size < 64 * 1024 {
        warn(format!("refuses events over {} bytes; allow 512 KiB", found.max_message_size));
    }
    warnings
}

/// Whether every subject of one pattern is a subject of the other.
fn covers(have: &str, wanted: &str) -> bool {
    let (mut have, mut wanted) = (have.split('.'), wanted.split('.'));
    loop {
        match (have.next(), wanted.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(part)) if part != ">" => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// A stream's name with the time of its creation.
pub(super) fn incarnation(info: &Info) -> String {
    let micros = info.created.unix_timestamp_nanos() / 1_000;
    let created = Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX));
    format!("{}@{created}", info.config.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Config {
        let origin = crate::event::Origin {
            tenant: "default".parse().unwrap(),
            node: "node".parse().unwrap(),
        };
        events(&BusConfig::new("localhost".parse().unwrap(), origin))
    }

    #[test]
    fn the_streams_we_create_raise_no_warning() {
        assert_eq!(differences(&wanted(), &wanted()), Vec::<String>::new());
    }

    #[test]
    fn settings_that_lose_events_are_named_with_their_remedy() {
        let found = Config {
            subjects: vec!["assent.v1.*.call.>".into()],
            storage: StorageType::Memory,
            retention: RetentionPolicy::Interest,
            discard: DiscardPolicy::Old,
            max_bytes: 1 << 20,
            duplicate_window: Duration::from_secs(5),
            no_ack: true,
            ..Config::default()
        };
        let warnings = differences(&wanted(), &found).join("\n");
        for word in ["assent.v1.*.party.>", "memory", "limits", "discard: new", "5 s", "no_ack"] {
            assert!(warnings.contains(word), "{word} in {warnings}");
        }
        assert!(!warnings.contains("assent.v1.*.call.>"));
    }

    #[test]
    fn a_wider_subject_is_as_good() {
        assert!(covers("assent.v1.*.>", "assent.v1.*.call.>"));
        assert!(covers("assent.>", "assent.v1.*.call.>"));
        assert!(!covers("assent.v1.*.call.*", "assent.v1.*.call.>"));
        assert!(!covers("assent.v1.t.call.>", "assent.v1.*.call.>"));
    }
}
