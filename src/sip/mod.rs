//! The SIP edge: transports, transactions, and the way between the wire and `call`.
//!
//! [`Endpoint::bind`] opens the sockets and starts the tasks; [`Sip`] takes commands and never
//! blocks; [`SipEvent`] is what the call machine hears. Bytes become neutral types in `decode`
//! and bytes again in `encode`, so that no type of the SIP library leaves this folder. Dialogs,
//! routing and calls are not here: this edge carries messages and keeps transactions.
//!
//! ```text
//!  udp, tcp readers ── Arrival ──> core (transactions, timers) ── SipEvent ──> call machine
//!  sockets, writers <── bytes ──────┘  ^────────── Command ── Sip <──────────────────┘
//! ```

mod config;
mod counters;
mod endpoint;
mod peers;

pub use config::{Advertise, BadAdvertise, BadListen, Limits, Listen, SipConfig, Timing};
pub use counters::{Count, Counters, MethodCount};
pub use endpoint::{BindError, Endpoint, Sip, SipEvent};
pub use peers::{BadNetwork, Network, Peers};
