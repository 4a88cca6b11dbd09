//! The agent: wires the tasks together, takes calls until it is told to stop, drains, shuts down.
//!
//! ```text
//!              SIP edge ──events──▶ core (one task, every call's machine) ◀──reports── media threads
//!                 ▲ ◀──commands──────┘   │ facts, decisions       └──commands──▶     │ packets
//!                 │                      ▼                                           ▼
//!               peers                 scribe ─▶ catalog ─▶ outbox ─▶ NATS      segment writers ─▶ store
//! ```

mod admit;
mod answers;
mod bus;
mod chain;
mod clerk;
mod command;
mod core;
mod counters;
mod fault;
mod health;
mod keeper;
mod keeping;
mod next_hop;
mod observe;
mod outbox;
mod prior;
mod probe;
mod ready;
mod recovery;
mod reload;
mod resolve;
mod scribe;
mod start;
mod stop;
mod targets;
mod tell;
mod transfer;

#[cfg(any(test, fuzzing))]
pub(crate) use command::reads as order_reads;

pub use bus::BusError;
pub use fault::Fault;
pub use recovery::RecoveryError;
pub use start::{Agent, Blame, StartError};
pub use stop::{RunError, run};
