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

mod alarms;
mod arrival;
mod check;
mod command;
mod config;
mod core;
mod counters;
mod decode;
mod encode;
mod endpoint;
mod framer;
mod links;
mod names;
mod outbox;
mod peers;
mod receive;
mod refuse;
mod secret;
mod table;
mod tcp;
mod text;
mod udp;
mod via;

pub use config::{Advertise, BadAdvertise, BadListen, Limits, Listen, SipConfig, Timing};
pub use counters::{Count, Counters, MethodCount};
pub use endpoint::{BindError, Endpoint, Sip, SipEvent};
pub use peers::{BadNetwork, Network, Peers};
