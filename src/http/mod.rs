//! Health and metrics over HTTP: `/livez`, `/readyz`, `/metrics`.
//!
//! [`bind`] takes the port before anything else starts; [`Bound::serve`] answers from a
//! [`Source`], which the agent supplies.

mod auth;
mod listener;
mod metrics;
mod server;
mod snapshot;

pub use listener::{BindError, Bound, bind};
pub use metrics::encode;
pub use snapshot::{Need, Readiness, SipCounts, Snapshot, Source};
