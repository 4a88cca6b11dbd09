//! A batch of events on its way: in order within a call, side by side across calls.

use std::sync::{Mutex, PoisonError};

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{Error as JetStreamError, ErrorCode};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::bus::link::Link;
use crate::bus::streams::EVENTS;
use crate::bus::trouble::Trouble;
use crate::bus::{OutboxRow, Placed};
use crate::event::Subject;
use crate::ids::EventId;

/// The media type of a CloudEvent in structured JSON.
const CONTENT_TYPE: &str = "application/cloudevents+json";

/// What became of the rows that were tried. Also right when the batch was given up half-way.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) placed: Vec<Placed>,
    pub(super) set_aside: Vec<SetAside>,
}

/// A row that can never be published.
pub(super) struct SetAside {
    pub(super) position: u64,
    pub(super) id: EventId,
    pub(super) reason: String,
}

/// Publishes rows. An event leaves only when the one before it of the same order is acknowledged,
/// so that nothing that happens to one of them can let a later one pass it.
///
/// Ends early when the connection is lost; `outcome` has what was acknowledged until then.
pub(super) async fn publish(
    link: &Link,
    incarnation: &str,
    rows: Vec<OutboxRow>,
    outcome: &mut Outcome,
) -> Result<(), Trouble> {
    let shared = Mutex::new(std::mem::take(outcome));
    let result = {
        let mut chains: FuturesUnordered<_> = chains(rows)
            .into_iter()
            .map(|chain| publish_chain(link, incarnation, chain, &shared))
            .collect();
        let all = async {
            let mut first = Ok(());
            while let Some(result) = chains.next().await {
                first = first.and(result);
            }
            first
        };
        tokio::select! {
            result = all => result,
            () = link.lost() => Err(Trouble::Lost),
        }
    };
    *outcome = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    result
}

/// Rows of equal order together, each chain in the order of the outbox.
fn chains(rows: Vec<OutboxRow>) -> Vec<Vec<OutboxRow>> {
    let mut chains: Vec<Vec<OutboxRow>> = Vec::new();
    let mut place = std::collections::HashMap::new();
    for row in rows {
        let at = *place.entry(row.order).or_insert(chains.len());
        match chains.get_mut(at) {
            Some(chain) => chain.push(row),
            None => chains.push(vec![row]),
        }
    }
    chains
}

async fn publish_chain(
    link: &Link,
    incarnation: &str,
    rows: Vec<OutboxRow>,
    outcome: &Mutex<Outcome>,
) -> Result<(), Trouble> {
    for row in rows {
        let (position, id) = (row.position, row.id);
        let end = publish_one(link, row).await;
        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        match end {
            Ok(sequence) => {
                outcome.placed.push(Placed { position, stream: incarnation.to_owned(), sequence });
            }
            Err(Failure::Never(reason)) => {
                outcome.set_aside.push(SetAside { position, id, reason });
            }
            Err(Failure::NotNow(trouble)) => return Err(trouble),
        }
    }
    Ok(())
}

enum Failure {
    /// The event itself is the reason.
    Never(String),
    /// The server is.
    NotNow(Trouble),
}

async fn publish_one(link: &Link, row: OutboxRow) -> Result<u64, Failure> {
    let Some(subject) = Subject::parse(&row.subject) else {
        return Err(Failure::Never("its subject is not one of the catalogue".to_owned()));
    };
    let size = row.json.len();
    let message = PublishMessage::build()
        .message_id(row.id.to_string())
        .expected_stream(EVENTS)
        .header("Content-Type", CONTENT_TYPE)
        .payload(Bytes::from(row.json));
    let failure = |why: async_nats::jetstream::context::PublishError| -> Failure {
        match why.kind() {
            PublishErrorKind::MaxPayloadExceeded => Failure::Never(format!(
                "it has {size} bytes and the server takes {}; raise max_payload",
                link.client.max_payload()
            )),
            PublishErrorKind::StreamNotFound => {
                Failure::NotNow(Trouble::NotTaken(subject.to_string()))
            }
            PublishErrorKind::TimedOut => Failure::NotNow(link.silent()),
            PublishErrorKind::BrokenPipe => Failure::NotNow(Trouble::Lost),
            _ => refused(size, &why),
        }
    };
    let ack = link.jetstream.send_publish(subject.as_str().to_owned(), message).await;
    let ack = ack.map_err(failure)?.await.map_err(failure)?;
    if ack.stream != EVENTS {
        let got = super::link::printable(&ack.stream);
        return Err(Failure::NotNow(Trouble::WrongStream { wanted: EVENTS, got }));
    }
    Ok(ack.sequence)
}

fn refused(size: usize, why: &(dyn std::error::Error + 'static)) -> Failure {
    let mut cause = Some(why);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<JetStreamError>() {
            return match error.error_code() {
                ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => Failure::Never(format!(
                    "it has {size} bytes and {EVENTS} takes fewer; raise its max_msg_size"
                )),
                _ => Failure::NotNow(Trouble::of("an event", EVENTS, error)),
            };
        }
        cause = error.source();
    }
    Failure::NotNow(Trouble::refused("an event", why))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn events_of_one_call_stay_in_line_and_others_do_not_wait_for_them() {
        let row = |position: u64, order: u128| OutboxRow {
            position,
            id: EventId(Uuid::from_u128(u128::from(position))),
            subject: String::new(),
            order: Uuid::from_u128(order),
            json: String::new(),
        };
        let chains = chains(vec![row(1, 7), row(2, 8), row(3, 7), row(4, 9), row(5, 8)]);
        let places: Vec<Vec<u64>> =
            chains.iter().map(|chain| chain.iter().map(|row| row.position).collect()).collect();
        assert_eq!(places, [vec![1, 3], vec![2, 5], vec![4]]);
    }
}
