//! The SIP edge: transports, transactions, and the way between the wire and `call`.
//!
//! [`Endpoint::bind`] opens the sockets and starts the tasks; [`Sip`] takes commands and never
//! blocks; [`SipEvent`] is what the call machine hears. Bytes become neutral types in `decode`
//! and bytes again in `encode`, so that no type of the SIP library leaves this folder. Dialogs,
//! routing and calls are not here: this edge carries messages and keeps transactions.
//!
//! ```text
//!  udp, tcp, tls ────── Arrival ──> core (transactions, timers) ── SipEvent ──> call machine
//!  sockets, writers <── bytes ──────┘  ^────────── Command ── Sip <──────────────────┘
//! ```

mod alarms;
mod arrival;
mod attempts;
mod check;
mod command;
mod config;
mod core;
mod counters;
mod decode;
mod encode;
mod endpoint;
mod framer;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod links;
mod multipart;
mod names;
mod outbox;
mod peers;
mod plan;
mod receive;
mod refuse;
mod secret;
mod stream;
mod table;
mod tcp;
mod text;
mod tls;
mod udp;
mod uri;
mod via;

pub use config::{
    Advertise, BadAdvertise, BadListen, LargeRequests, Limits, Listen, SipConfig, Timing,
};
pub use counters::{Count, Counters, MethodCount};
pub use endpoint::{BindError, Endpoint, Sip, SipEvent};
pub use peers::Peers;
pub use plan::{Failing, Target};
pub use tls::{Tls, TlsError, TlsFiles};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::fuzz::message as read;

    const INVITE: &str = "INVITE sip:bob@b:5060;x=y SIP/2.0\r\nVia: SIP/2.0/UDP a:1;rport;branch=z9hG4bK1, \
        SIP/2.0/TCP [::1];branch=z9hG4bK2\r\nFrom: \"A\\\"\" <sip:alice%40@a>;tag=1\r\n\
        t: <tel:+4930;ext=1>\r\nCall-ID: id@h\r\nCSeq: 7 INVITE\r\nMax-Forwards: 7\r\n\
        m: <sip:alice@a;lr>, <sip:b>\r\nRecord-Route: <sip:p;lr>,\r\n <sip:q;lr>\r\n\
        Require: timer\r\nContent-Type: multipart/mixed;boundary=\"x\"\r\nl: 3\r\n\r\nv=0";

    proptest! {
        #[test]
        fn no_bytes_make_the_edge_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            read(&bytes);
        }

        #[test]
        fn no_change_to_a_message_makes_the_edge_panic(
            changes in prop::collection::vec((0..INVITE.len(), 0..4usize, any::<u8>()), 1..6),
            response: bool,
        ) {
            let mut bytes = INVITE.as_bytes().to_vec();
            if response {
                bytes.splice(..INVITE.find('\r').unwrap_or(0), *b"SIP/2.0 200 OK");
            }
            for (at, how, byte) in changes {
                let at = at.min(bytes.len().saturating_sub(1));
                match how {
                    _ if bytes.is_empty() => bytes.push(byte),
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, b";,<>\"\\:@ \r\n="[usize::from(byte) % 12]),
                    2 => drop(bytes.remove(at)),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            read(&bytes);
        }
    }
}
