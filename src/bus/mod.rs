//! NATS: the outbox publisher and the command consumer.

mod outbox;

pub use outbox::{Acknowledged, Backlog, Outbox, OutboxError, OutboxRow, Placed};
