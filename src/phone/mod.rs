//! A small telephone: a SIP user agent with a voice and ears, for `assent call` and `assent demo`.
//!
//! One [`Phone`] is one UDP socket and makes or takes one call. It says a tone or a WAV file,
//! presses keys (RFC 4733), writes down what it hears, and tells what happens as it happens. It
//! shares nothing with the agent's own signalling, so that a call between the two proves both.

mod call;
mod dialog;
mod keys;
mod live;
mod packets;
mod ring;
mod sound;
mod target;
mod voice;
mod wire;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;

use crate::rtp::Codec;

pub use call::{Call, Phone};
pub use keys::{BadPress, Press, span_from_text};
pub use sound::{BadSound, Sound, Then};
pub use target::{BadTarget, Target};

/// Who a phone is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The user part of its address, such as a number.
    pub user: String,
    /// The address to bind; a port of 0 takes a free one.
    pub bind: SocketAddr,
    /// The codecs that it offers or takes, best first.
    pub codecs: Vec<Codec>,
}

impl Identity {
    /// A user on loopback with every codec.
    #[must_use]
    pub fn local(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            codecs: Codec::ALL.to_vec(),
        }
    }
}

/// What a phone does in a call.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it says once the call is answered.
    pub says: Sound,
    /// The keys it presses, by the time since the answer.
    pub presses: Vec<Press>,
    /// It hangs up this long after the answer; without one the other side does.
    pub lasts: Option<Duration>,
    /// Where it writes what it hears: a mono WAV file.
    pub hears: Option<PathBuf>,
    /// A caller gives up when nobody has answered by then. A callee rings for this long, then
    /// answers.
    pub rings: Duration,
}

impl Default for Plan {
    /// Silence until the other side hangs up; a minute of ringing.
    fn default() -> Self {
        Self {
            says: Sound::Silence,
            presses: Vec::new(),
            lasts: None,
            hears: None,
            rings: Duration::from_secs(60),
        }
    }
}

/// An order to a phone in a call.
#[derive(Clone, Debug)]
pub enum Order {
    /// Press a key now.
    Press(char),
    /// Say this from now on.
    Say(Sound),
    /// Hang up, or cancel while it rings.
    HangUp,
}

/// Which side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// This phone.
    Us,
    /// The other one.
    Peer,
}

/// Something that happened in a call.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Happening {
    /// An INVITE was sent.
    Dialled,
    /// An INVITE came.
    Invited {
        /// The user part of its `From`, without control characters.
        from: String,
    },
    /// A provisional answer, sent or received.
    Progress {
        /// 101 to 199.
        status: u16,
        /// As the peer wrote it, without control characters.
        reason: String,
    },
    /// The call is answered and media flows.
    Answered {
        /// The codec that was agreed.
        codec: Codec,
        /// Where the voice goes.
        media: SocketAddr,
    },
    /// Media was negotiated anew.
    Renegotiated {
        /// The codec from now on.
        codec: Codec,
        /// Whether the peer put us on hold.
        held: bool,
    },
    /// Something can be heard.
    Sound,
    /// Nothing can be heard any more, for more than a second.
    Quiet {
        /// How long there was sound before.
        #[serde(serialize_with = "seconds")]
        after: Duration,
    },
    /// We pressed a key.
    Pressed {
        /// The key.
        key: char,
    },
    /// The peer pressed a key.
    HeardKey {
        /// The key.
        key: char,
    },
    /// The call was turned down, by whom it concerns.
    Refused {
        /// 300 to 699.
        status: u16,
        /// As the peer wrote it, without control characters.
        reason: String,
    },
    /// The call is over.
    HungUp {
        /// Who ended it.
        by: Side,
    },
}

/// When something happened, and what.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhoneEvent {
    /// Since the call began with its INVITE.
    #[serde(serialize_with = "seconds")]
    pub at: Duration,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Outcome {
    /// It was answered and hung up.
    Completed {
        /// By whom.
        by: Side,
    },
    /// It was turned down.
    Refused {
        /// The status code.
        status: u16,
        /// The reason phrase.
        reason: String,
    },
    /// We gave up before anybody answered.
    Cancelled,
    /// The far end does not react at all.
    Unreachable,
}

/// What a call was.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// From the answer to the end.
    #[serde(serialize_with = "seconds")]
    pub talked: Duration,
    /// How much of what came was sound, not silence.
    #[serde(serialize_with = "seconds")]
    pub heard: Duration,
    /// RTP packets sent.
    pub sent: u64,
    /// RTP packets received.
    pub received: u64,
    /// RTP packets that the peer sent and we never saw, by their sequence numbers.
    pub lost: u64,
    /// The codec, if the call was answered.
    pub codec: Option<Codec>,
}

/// Why a phone could not do its part. Nothing that a peer does ends in one of these.
#[derive(Debug, thiserror::Error)]
pub enum PhoneError {
    /// A socket could not be bound or used.
    #[error("cannot use {address}: {source}")]
    Socket {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The file for what is heard could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Hears {
        /// Which.
        path: PathBuf,
        /// Why.
        source: hound::Error,
    },
    /// A codec's library failed.
    #[error(transparent)]
    Codec(#[from] crate::codec::CodecError),
    /// A message could not be put together from what was configured.
    #[error("cannot build a SIP message: {0}")]
    Build(String),
}

/// Where a phone tells what happens. Nobody has to listen.
#[derive(Clone, Debug)]
pub struct Teller(mpsc::UnboundedSender<PhoneEvent>);

impl Teller {
    /// A teller and the ear for it. The number of events of a call is small and bounded by its
    /// signalling and the keys pressed.
    #[must_use]
    pub fn new() -> (Self, mpsc::UnboundedReceiver<PhoneEvent>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    fn tell(&self, at: Duration, what: Happening) {
        // Nobody listens any more: that is their choice.
        let _ = self.0.send(PhoneEvent { at, what });
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Us => "us",
            Side::Peer => "the other side",
        })
    }
}

fn seconds<S: serde::Serializer>(span: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64((span.as_secs_f64() * 1000.0).round() / 1000.0)
}
