//! What the publisher needs of whoever keeps the events: plain data, no NATS.

use std::future::Future;

use uuid::Uuid;

use crate::ids::EventId;
use crate::time::Timestamp;

/// An event that waits to be published, as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// The event's identifier: its `Nats-Msg-Id`.
    pub id: EventId,
    /// The subject as [`crate::event::Subject`] wrote it. Checked again before it is used.
    pub subject: String,
    /// Events of equal order are published strictly one after the other: the call where there is
    /// one, else what the event is about.
    pub order: Uuid,
    /// The CloudEvents text, published byte for byte.
    pub json: String,
}

/// Where JetStream put an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The event.
    pub id: EventId,
    /// The JetStream stream with the time of its creation, `ASSENT_EVENTS@2026-11-21T…Z`: a
    /// stream that was lost and created again counts from 1 again, and is another one.
    pub stream: String,
    /// The sequence that the acknowledgement named.
    pub sequence: u64,
}

/// An event that was acknowledged earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The event.
    pub id: EventId,
    /// The sequence that the acknowledgement named.
    pub sequence: u64,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Events that wait to be published, those set aside not counted.
    pub unsent: u64,
    /// When the oldest of them happened.
    pub oldest: Option<Timestamp>,
}

/// The outbox could not be read or written. The publisher waits and tries again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the outbox cannot be used: {0}")]
pub struct OutboxError(pub String);

/// A durable, ordered outbox. Every method that changes something is durable when it returns.
///
/// A row is *unsent* until [`Outbox::placed`] names it, and again after [`Outbox::unsend`]; it
/// stays, acknowledged, for the reconcile window. A row set aside by [`Outbox::set_aside`] is
/// neither.
pub trait Outbox: Send + Sync + 'static {
    /// The oldest unsent rows in the order they were committed, at most `limit`.
    fn unsent(
        &self,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<OutboxRow>, OutboxError>> + Send;

    /// Marks rows as acknowledged.
    fn placed(&self, rows: Vec<Placed>) -> impl Future<Output = Result<(), OutboxError>> + Send;

    /// Marks a row that can never be published, with the reason.
    fn set_aside(
        &self,
        id: EventId,
        reason: String,
    ) -> impl Future<Output = Result<(), OutboxError>> + Send;

    /// Rows acknowledged by this stream with a sequence below `below`, highest sequence first, at
    /// most `limit`.
    fn acknowledged(
        &self,
        stream: &str,
        below: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Acknowledged>, OutboxError>> + Send;

    /// Makes acknowledged rows unsent again, in their old place.
    fn unsend(&self, ids: Vec<EventId>) -> impl Future<Output = Result<(), OutboxError>> + Send;

    /// Makes every row unsent again that another stream than this one acknowledged, and says how
    /// many there were.
    fn unsend_elsewhere(
        &self,
        stream: &str,
    ) -> impl Future<Output = Result<u64, OutboxError>> + Send;

    /// How much waits.
    fn backlog(&self) -> impl Future<Output = Result<Backlog, OutboxError>> + Send;

    /// Returns when there may be unsent rows. May return too often, and must not miss a row that
    /// was committed after the last call of [`Outbox::unsent`] began.
    fn changed(&self) -> impl Future<Output = ()> + Send;
}
