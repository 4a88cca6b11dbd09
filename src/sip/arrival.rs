//! What the reading tasks hand to the core, and what they need to do so.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use sipx_sip::Message;
use tokio::sync::mpsc;

use crate::call::message::{Hop, Transport};
use crate::sip::peers::Heard;
use crate::sip::secret::Secret;
use crate::sip::tls::{Credentials, Shown};
use crate::sip::{Counters, Limits};

/// A connection, ours or a peer's. Never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ConnectionId(pub(super) u64);

/// The way a message came, and the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    /// By the listener with this place in the configuration.
    Udp(usize),
    /// By this connection.
    Tcp(ConnectionId),
    /// By this connection, which is protected.
    Tls(ConnectionId),
}

impl Channel {
    pub(super) fn transport(self) -> Transport {
        match self {
            Channel::Udp(_) => Transport::Udp,
            Channel::Tcp(_) => Transport::Tcp,
            Channel::Tls(_) => Transport::Tls,
        }
    }

    /// The connection, where it is one.
    pub(super) fn connection(self) -> Option<ConnectionId> {
        match self {
            Channel::Udp(_) => None,
            Channel::Tcp(id) | Channel::Tls(id) => Some(id),
        }
    }
}

/// Where a message came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) channel: Channel,
    pub(super) source: SocketAddr,
}

/// A connection that a peer opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) id: ConnectionId,
    /// How, and the address at its other end.
    pub(super) hop: Hop,
    /// The certificate that the peer had to show.
    pub(super) shown: Option<Shown>,
    pub(super) writer: mpsc::Sender<Bytes>,
}

/// From the readers to the core.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A message that parsed.
    Message(Box<Message>, Origin),
    /// A peer opened a connection.
    Opened(Opened),
    /// A connection ended, or could not be opened.
    Closed(ConnectionId),
}

/// What every reading task holds.
#[derive(Clone, Debug)]
pub(super) struct Intake {
    pub(super) arrivals: mpsc::Sender<Arrival>,
    pub(super) peers: Arc<Heard>,
    pub(super) secret: Arc<Secret>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) counters: Arc<Counters>,
    pub(super) parsing: sipx_sip::Limits,
    pub(super) limits: Limits,
    pub(super) product: Arc<str>,
}

impl Intake {
    /// Counts what somebody outside `peers` has sent. Most often that is a PBX that has been
    /// forgotten there, so it is said; and if it is a flood, ever less often.
    pub(super) fn ignore(&self, source: SocketAddr) {
        let times = self.counters.foreign.count();
        if times.is_power_of_two() {
            tracing::warn!(
                ip = %source.ip(),
                times,
                "not answered: sip.peers does not name this address"
            );
        }
    }

    /// Counts a handshake with us that failed. Said as often as [`Self::ignore`] says its own.
    pub(super) fn handshake_failed(&self, source: SocketAddr, why: &str) {
        let times = self.counters.tls_failures.count();
        if times.is_power_of_two() {
            tracing::warn!(ip = %source.ip(), why, times, "a TLS handshake failed");
        }
    }

    /// The limits in the parser's terms.
    pub(super) fn parsing(limits: &Limits) -> sipx_sip::Limits {
        sipx_sip::Limits {
            max_message_bytes: limits.head.saturating_add(limits.body),
            max_body_bytes: limits.body,
            ..sipx_sip::Limits::stream()
        }
    }
}
