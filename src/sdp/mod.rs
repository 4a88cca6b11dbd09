//! Offer and answer (RFC 3264) over a parsed SDP (RFC 8866): one audio stream, one codec.
//!
//! [`Offer::parse`] and [`answer()`] serve the leg that calls us, [`LocalOffer`] the leg that we
//! call. What comes out of either is [`crate::rtp::LegMedia`], all that the media threads need.

mod answer;
mod audio;
mod base64;
mod crypto;
mod dtls;
mod keying;
mod local;
mod offer;
mod record;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod srtp_samples;
mod text;

pub use answer::{Answer, answer, reanswer};
pub use audio::Profile;
pub use keying::{Keying, SrtpUse};
pub use local::{Accepted, LocalDescription, LocalOffer};
pub use offer::Offer;
pub use record::{RecordPreference, RecordState, record_preference};

/// The largest description that is read, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;

/// The most media lines a description may have.
pub const MAX_MEDIA: usize = 32;

/// Why a description is of no use. None of them shows text of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// More than [`MAX_BYTES`] or [`MAX_MEDIA`].
    #[error("the session description is too large")]
    TooLarge,
    /// It breaks the grammar of RFC 8866.
    #[error("line {0} of the session description does not parse")]
    Syntax(usize),
    /// It has no audio line with a port.
    #[error("the session description offers no audio")]
    NoAudio,
    /// Its audio is on a profile that cannot be taken: SRTP where that is off, without a key that
    /// we know what to do with, or something else.
    #[error("audio over {0} cannot be taken")]
    Unsupported(Profile),
    /// Its audio is plain RTP, and `media.srtp` is `require`.
    #[error("plain RTP is refused: media.srtp is \"require\"")]
    Unprotected,
    /// The audio line has no `c=`, nor has the session.
    #[error("the session description has no connection address")]
    NoAddress,
    /// The connection address is not a literal IPv4 or IPv6 address.
    #[error("the connection address is not a literal IP address")]
    HostName,
    /// The connection address is a multicast group: media is never sent there.
    #[error("the connection address is a multicast address")]
    Multicast,
    /// The connection address is the broadcast address: media is never sent there.
    #[error("the connection address is a broadcast address")]
    Broadcast,
    /// The peer names a loopback address, and we are not on loopback: that would be ourselves.
    #[error("the connection address is a loopback address")]
    Loopback,
    /// No audio codec that both sides speak: 488 (RFC 3261, 21.4.26).
    #[error("no audio codec in common")]
    NoCommonCodec,
    /// The answer does not fit the offer (RFC 3264, 6): other lines, another profile or a codec
    /// that was not offered.
    #[error("the answer does not fit the offer")]
    Inconsistent,
    /// The answer refuses the audio stream by port 0.
    #[error("the answer refuses the audio stream")]
    Refused,
}

impl SdpError {
    /// The status that refuses a request with this description: 400 for what does not parse, 413
    /// for what is too large, 488 for what cannot be served (RFC 3261, 21.4).
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            SdpError::TooLarge => 413,
            SdpError::Syntax(_) => 400,
            _ => 488,
        }
    }
}
