//! What the SIP edge is told: where to listen, what to call itself, whom to hear, and its limits.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use crate::call::message::Transport;
use crate::sip::{Peers, Tls};

/// Everything [`crate::sip::Endpoint::bind`] needs.
#[derive(Clone, Debug)]
pub struct SipConfig {
    /// The sockets to open. The first that fits a hop is the one that sends to it.
    pub listen: Vec<Listen>,
    /// What `Contact` and `Via` say instead of the bound address.
    pub advertise: Option<Advertise>,
    /// Who may send requests. Others get no answer.
    pub peers: Peers,
    /// The name in `Server`; none where it is empty.
    pub product: String,
    /// The timers that all others derive from.
    pub timing: Timing,
    /// What the edge holds at most.
    pub limits: Limits,
    /// How requests leave that are too large for one datagram.
    pub large_requests: LargeRequests,
    /// Certificates. Without them there is no TLS, neither to us nor from us.
    pub tls: Option<Tls>,
}

impl Default for SipConfig {
    /// UDP and TCP on loopback, for peers on loopback.
    fn default() -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 1], 5060));
        Self {
            listen: vec![
                Listen { transport: Transport::Udp, addr },
                Listen { transport: Transport::Tcp, addr },
            ],
            advertise: None,
            peers: Peers::loopback(),
            product: "Assent".to_owned(),
            timing: Timing::default(),
            limits: Limits::default(),
            large_requests: LargeRequests::OverTcp,
            tls: None,
        }
    }
}

/// How requests of more than 1,300 bytes leave for a hop that takes UDP (RFC 3261, 18.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LargeRequests {
    /// Over TCP where we listen on it and the URI does not insist on UDP; over UDP where that
    /// fails.
    OverTcp,
    /// Over UDP, in fragments.
    OverUdp,
}

/// One socket to open, written `udp:127.0.0.1:5060` or `tcp:[::1]:5060`. Port 0 lets the
/// operating system choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Listen {
    /// How.
    pub transport: Transport,
    /// Where.
    pub addr: SocketAddr,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport.as_str().to_ascii_lowercase(), self.addr)
    }
}

/// Why a text is not a [`Listen`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a listen address; write udp:, tcp: or tls:, then address:port, such as udp:127.0.0.1:5060 or tcp:[::1]:5060"
)]
pub struct BadListen(pub String);

impl FromStr for Listen {
    type Err = BadListen;
    fn from_str(s: &str) -> Result<Self, BadListen> {
        let bad = || BadListen(s.to_owned());
        let (scheme, addr) = s.split_once(':').ok_or_else(bad)?;
        let transport = match scheme {
            "udp" => Transport::Udp,
            "tcp" => Transport::Tcp,
            "tls" => Transport::Tls,
            _ => return Err(bad()),
        };
        Ok(Self { transport, addr: addr.parse().map_err(|_| bad())? })
    }
}

/// The host that peers are told to reach us at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advertise {
    /// An address. Said only to peers of its own family.
    Address(IpAddr),
    /// A host name. Said to everybody.
    Name(String),
}

/// Why a text is not an [`Advertise`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is neither an IP address nor a host name; write one of them without a port")]
pub struct BadAdvertise(pub String);

impl FromStr for Advertise {
    type Err = BadAdvertise;
    fn from_str(s: &str) -> Result<Self, BadAdvertise> {
        let bare = s.strip_prefix('[').and_then(|s| s.strip_suffix(']')).unwrap_or(s);
        if let Ok(addr) = bare.parse() {
            return Ok(Self::Address(addr));
        }
        let label = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        // The last label of a host name starts with a letter (RFC 3261, 25.1): 1.2.3 is a typo.
        let last = s.rsplit('.').next().unwrap_or_default();
        if s.len() <= 253
            && s.split('.').all(label)
            && last.starts_with(|c: char| c.is_ascii_alphabetic())
        {
            Ok(Self::Name(s.to_owned()))
        } else {
            Err(BadAdvertise(s.to_owned()))
        }
    }
}

/// The base timers of RFC 3261, table 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The estimate of a round trip; 64 of them end a transaction.
    pub t1: Duration,
    /// The longest interval between retransmissions.
    pub t2: Duration,
    /// The longest time a message stays in the network.
    pub t4: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
        }
    }
}

/// What the edge holds at most. Beyond a limit it refuses; it never waits and never grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Transactions in flight. A new INVITE beyond it gets 503; other requests have twice the
    /// room, so that the calls in progress can end.
    pub transactions: usize,
    /// Events that wait for the call machine.
    pub events: usize,
    /// Bytes of a message's body; 413 beyond.
    pub body: usize,
    /// Bytes of a message's start line and headers; 513 beyond.
    pub head: usize,
    /// Connections that peers opened. We open as many ourselves.
    pub connections: usize,
    /// How long a connection without any traffic stays open.
    pub idle: Duration,
    /// How long a message may take to arrive, from its first byte to its last, and a connection
    /// to take one of ours.
    pub message_within: Duration,
    /// How long opening a connection may take.
    pub connect_within: Duration,
    /// How long a TLS handshake may take.
    pub handshake_within: Duration,
    /// How long an INVITE may wait for its answer or the news that somebody rings. Beyond it, the
    /// call machine is taken to have forgotten it.
    pub unanswered: Duration,
    /// What `Retry-After` says when a limit was reached. Whole seconds.
    pub retry_after: Duration,
    /// Bytes asked of the operating system for a UDP socket's receive buffer.
    pub receive_buffer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            transactions: 131_072,
            events: 4096,
            body: 65_535,
            head: 32_768,
            connections: 1024,
            idle: Duration::from_secs(900),
            message_within: Duration::from_secs(10),
            connect_within: Duration::from_secs(4),
            handshake_within: Duration::from_secs(5),
            unanswered: Duration::from_secs(3700),
            retry_after: Duration::from_secs(5),
            receive_buffer: 4 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listen_entry_reads_as_it_is_written() {
        for text in ["udp:127.0.0.1:5060", "tcp:[::1]:0", "tls:0.0.0.0:5061"] {
            assert_eq!(text.parse::<Listen>().map(|l| l.to_string()), Ok(text.to_owned()));
        }
        for bad in ["127.0.0.1:5060", "udp:localhost:5060", "sctp:127.0.0.1:1", "udp", ""] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
    }

    #[test]
    fn advertise_takes_an_address_or_a_name_and_nothing_that_could_break_a_header() {
        assert_eq!("::1".parse(), "[::1]".parse::<Advertise>());
        assert_eq!("pbx.example.com".parse(), Ok(Advertise::Name("pbx.example.com".into())));
        for bad in ["", "a b", "a\r\nVia: x", "host:5060", "1.2.3", "-a.de", "a..b"] {
            assert!(bad.parse::<Advertise>().is_err(), "{bad:?}");
        }
    }
}
