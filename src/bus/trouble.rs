//! Why a session with NATS ended.

use async_nats::jetstream::{Error as JetStreamError, ErrorCode};

use crate::bus::OutboxError;

/// Ends a session. All of them are answered in the same way: wait, connect anew, compare, go on
/// with the first event that is not acknowledged.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("no NATS server at {servers}: {why}; check nats.url and that the server runs")]
    Unreachable { servers: String, why: String },
    #[error("the credentials file {path} cannot be used: {why}")]
    Credentials { path: String, why: String },
    #[error("the connection to the NATS server was lost")]
    Lost,
    #[error("the NATS server did not answer in time{}", said(.0))]
    Silent(Option<String>),
    #[error(
        "the NATS server has no JetStream for this account; start it with a jetstream section, \
         see config/nats-server.conf"
    )]
    NoJetStream,
    #[error(
        "another JetStream stream takes some of the subjects of {stream}; find it with \
         `nats stream ls --subject 'assent.v1.>'` and take assent.v1 out of its subjects"
    )]
    Overlap { stream: &'static str },
    #[error("no JetStream stream took {0}; it was deleted, or lacks the subject")]
    NotTaken(String),
    #[error("JetStream refused {what}: {why}")]
    Refused { what: String, why: String },
    #[error("an acknowledgement came from {got} where {wanted} was to answer")]
    WrongStream { wanted: &'static str, got: String },
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

fn said(server: &Option<String>) -> String {
    match server {
        Some(text) => format!("; it said: {text}"),
        None => String::new(),
    }
}

impl Trouble {
    /// What JetStream's own errors mean for us.
    pub(super) fn of(what: &str, stream: &'static str, error: &JetStreamError) -> Self {
        match error.error_code() {
            ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
                Trouble::NoJetStream
            }
            ErrorCode::STREAM_SUBJECT_OVERLAP => Trouble::Overlap { stream },
            _ => Trouble::refused(what, error),
        }
    }

    pub(super) fn refused(what: &str, why: impl std::fmt::Display) -> Self {
        Trouble::Refused { what: what.to_owned(), why: why.to_string() }
    }
}
