//! A peer's offer.

use std::net::SocketAddr;

use super::audio::{AudioLine, Meaning};
use super::{Profile, SdpError, text};
use crate::rtp::{Codec, Direction};

/// An offer with audio that we can take. Every media line is kept, since an answer has a line
/// for each (RFC 3264, 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The line of the audio stream among [`Offer::lines`].
    pub(super) chosen: usize,
    pub(super) audio: AudioLine,
    pub(super) lines: Vec<Line>,
}

/// A media line as offered, for a refusal in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) media: String,
    pub(super) proto: String,
    pub(super) fmt: String,
}

impl Offer {
    /// Reads an offer and chooses the first audio line with a port and a profile that is
    /// supported.
    ///
    /// # Errors
    /// [`SdpError`]: of grammar, of size, without audio that we can take, or with an address that
    /// nothing may be sent to.
    pub fn parse(bytes: &[u8]) -> Result<Self, SdpError> {
        let session = text::parse(bytes)?;
        let live = || {
            let profiles = session.medias.iter().map(AudioLine::profile_of);
            profiles.enumerate().filter_map(|(index, profile)| Some((index, profile?)))
        };
        let (chosen, _) = live().find(|(_, profile)| profile.is_supported()).ok_or_else(|| {
            live().next().map_or(SdpError::NoAudio, |(_, p)| SdpError::Unsupported(p))
        })?;
        let media = session.medias.get(chosen).ok_or(SdpError::NoAudio)?;
        let audio = AudioLine::parse(&session, media)?;
        let lines = session.medias.iter().map(Line::of).collect();
        Ok(Self { chosen, audio, lines })
    }

    /// The audio codecs that are offered and known, in the peer's order.
    pub fn codecs(&self) -> impl Iterator<Item = Codec> + '_ {
        self.audio.formats.iter().filter_map(|format| match format.meaning {
            Meaning::Audio(codec) => Some(codec),
            _ => None,
        })
    }

    /// Whether keys can be sent as telephone-events.
    #[must_use]
    pub fn has_telephone_event(&self) -> bool {
        let is_event = |meaning| matches!(meaning, Meaning::TelephoneEvent { .. });
        self.audio.formats.iter().any(|format| is_event(format.meaning))
    }

    /// The direction that is offered, from our side; without sending when the peer's address is
    /// unspecified.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.audio.our_direction(Direction::SendRecv)
    }

    /// Where the peer receives RTP; the unspecified address when it holds in the old way.
    #[must_use]
    pub fn remote_rtp(&self) -> SocketAddr {
        self.audio.rtp
    }

    /// The profile of the audio line.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.audio.profile
    }
}

impl Line {
    fn of(media: &sdp_types::Media) -> Self {
        Self {
            media: token(&media.media, "application"),
            proto: token(&media.proto, "RTP/AVP"),
            fmt: token(media.fmt.split_ascii_whitespace().next().unwrap_or_default(), "0"),
        }
    }
}

/// A word of the peer's that goes back to it, if it is one.
fn token(word: &str, otherwise: &str) -> String {
    let fits = !word.is_empty() && word.len() <= 64 && word.bytes().all(|b| b.is_ascii_graphic());
    if fits { word.to_owned() } else { otherwise.to_owned() }
}
