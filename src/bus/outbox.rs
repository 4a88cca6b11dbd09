//! What the publisher needs of whoever keeps the events: plain data, no NATS.

use std::future::Future;

use uuid::Uuid;

use crate::ids::EventId;
use crate::time::Timestamp;

/// An event that waits to be published, as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its place in the outbox: grows in the order of the commits, from 1.
    pub position: u64,
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
    /// The event's place in the outbox.
    pub position: u64,
    /// The JetStream stream with the time of its creation, `ASSENT_EVENTS@2026-11-21T…Z`: a
    /// stream that was lost and created again counts from 1 again, and is another one.
    pub stream: String,
    /// The sequence that the acknowledgement named, from 1.
    pub sequence: u64,
}

/// An event that was acknowledged earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Its place in the outbox.
    pub position: u64,
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
    /// The last event's place in the outbox, sent or not; 0 when there has been none.
    pub last: u64,
}

/// The outbox could not be read or written. The publisher waits and tries again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the outbox cannot be used: {0}")]
pub struct OutboxError(pub String);

/// A durable, ordered outbox. Every method that changes something is durable when it returns.
///
/// A row is *unsent* until [`Outbox::placed`] names it, and again after [`Outbox::unsend`]; it
/// stays, acknowledged, for the reconcile window. A row that was set aside is neither.
pub trait Outbox: Send + Sync + 'static {
    /// The oldest unsent rows by position, at most `limit`.
    fn unsent(
        &self,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<OutboxRow>, OutboxError>> + Send;

    /// Marks rows as acknowledged.
    fn placed(&self, rows: Vec<Placed>) -> impl Future<Output = Result<(), OutboxError>> + Send;

    /// Marks a row that can never be published, with the reason.
    fn set_aside(
        &self,
        position: u64,
        reason: String,
    ) -> impl Future<Output = Result<(), OutboxError>> + Send;

    /// Rows that this stream acknowledged with a sequence below `below`, highest sequence first,
    /// at most `limit`.
    fn acknowledged(
        &self,
        stream: &str,
        below: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Acknowledged>, OutboxError>> + Send;

    /// Rows that any other stream than this one acknowledged, at most `limit`, in any order.
    fn acknowledged_elsewhere(
        &self,
        stream: &str,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Acknowledged>, OutboxError>> + Send;

    /// Makes acknowledged rows unsent again, in their old place.
    fn unsend(&self, positions: Vec<u64>) -> impl Future<Output = Result<(), OutboxError>> + Send;

    /// How much waits.
    fn backlog(&self) -> impl Future<Output = Result<Backlog, OutboxError>> + Send;

    /// Returns when there is a row at a place after `last`.
    fn beyond(&self, last: u64) -> impl Future<Output = ()> + Send;
}
