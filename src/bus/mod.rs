//! NATS: the outbox publisher and the command consumer.
//!
//! The publisher never decides what is true: the outbox does. An event counts as sent only when
//! `ASSENT_EVENTS` has acknowledged it, and at every connection the stream is compared with what
//! it acknowledged before anything new goes out.

mod commands;
mod link;
mod outbox;
mod publish;
mod reconcile;
mod settings;
mod status;
mod streams;
mod task;
mod trouble;

#[cfg(any(test, fuzzing))]
pub(crate) use commands::read as read_command;
pub use commands::{Command, Commands, Reply, Unsupported};
pub use outbox::{Acknowledged, Backlog, Outbox, OutboxError, OutboxRow, Placed};
pub use settings::{BadServers, BusConfig, BusTls, Credentials, Servers};
pub use status::{BusStatus, LinkStatus};
pub use task::Bus;
