//! What an offer and an answer agreed on for one leg: enough to send and to check what arrives.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Security;

/// A codec that Assent negotiates. It relays all of them without decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Codec {
    /// G.711 µ-law (RFC 3551, 4.5.14).
    Pcmu,
    /// G.711 A-law (RFC 3551, 4.5.14).
    Pcma,
    /// G.722 at 64 kbit/s (RFC 3551, 4.5.2).
    G722,
    /// Opus (RFC 7587).
    Opus,
}

impl Codec {
    /// All of them, in the order in which we would offer them.
    pub const ALL: [Codec; 4] = [Codec::Opus, Codec::G722, Codec::Pcmu, Codec::Pcma];

    /// The encoding name as SDP writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
            Codec::G722 => "G722",
            Codec::Opus => "opus",
        }
    }

    /// The rate of the RTP timestamp in Hz. 8000 for G.722, by the historical error that RFC
    /// 3551, 4.5.2 keeps.
    #[must_use]
    pub fn clock_rate(self) -> u32 {
        match self {
            Codec::Pcmu | Codec::Pcma | Codec::G722 => 8000,
            Codec::Opus => 48000,
        }
    }

    /// The rate of the audio in Hz.
    #[must_use]
    pub fn sample_rate(self) -> u32 {
        match self {
            Codec::Pcmu | Codec::Pcma => 8000,
            Codec::G722 => 16000,
            Codec::Opus => 48000,
        }
    }

    /// The static payload type (RFC 3551, table 4), or the one we offer for a dynamic one.
    #[must_use]
    pub fn default_payload_type(self) -> u8 {
        match self {
            Codec::Pcmu => 0,
            Codec::Pcma => 8,
            Codec::G722 => 9,
            Codec::Opus => 111,
        }
    }
}

/// A payload type as each side numbers it. They are the same unless a peer's answer renumbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PayloadType {
    /// What we put into packets to the peer: the number in the peer's description.
    pub send: u8,
    /// What the peer puts into packets to us: the number in our description.
    pub receive: u8,
}

/// `telephone-event` (RFC 4733) as negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TelephoneEvent {
    /// Its payload type.
    pub payload_type: PayloadType,
    /// The rate of its timestamps in Hz: that of the audio it goes with.
    pub clock_rate: u32,
}

/// The direction of a stream, from our side (RFC 3264, 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    /// Whether we may send.
    #[must_use]
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whether the peer may send.
    #[must_use]
    pub fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }

    /// The same stream seen from the other side.
    #[must_use]
    pub fn reversed(self) -> Direction {
        match self {
            Direction::SendOnly => Direction::RecvOnly,
            Direction::RecvOnly => Direction::SendOnly,
            same => same,
        }
    }

    /// The SDP attribute.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }
}

/// The audio stream of one leg as negotiated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegMedia {
    /// Where the peer receives RTP, and so where its packets come from.
    pub remote_rtp: SocketAddr,
    /// Where the peer receives RTCP (RFC 3605, or the next port).
    pub remote_rtcp: SocketAddr,
    /// The one audio codec of the leg.
    pub codec: Codec,
    /// Its payload type.
    pub payload_type: PayloadType,
    /// Keys, when negotiated.
    pub telephone_event: Option<TelephoneEvent>,
    /// Who may send. A peer on hold by `c=0.0.0.0` is `SendOnly` or `Inactive` here too.
    pub direction: Direction,
    /// Milliseconds of audio in a packet that the peer asks for (`a=ptime`); 20 by default.
    pub ptime: u8,
    /// How packets are protected, both ways.
    pub security: Security,
}
