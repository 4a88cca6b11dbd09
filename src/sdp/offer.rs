//! A peer's offer.

use std::net::SocketAddr;

use super::audio::{AudioLine, Meaning};
use super::keying::SrtpUse;
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
    /// Reads an offer and chooses an audio line with a port: the first that we would encrypt,
    /// else the first that we would take.
    ///
    /// # Errors
    /// [`SdpError`]: of grammar, of size, without audio that we can take, or with an address that
    /// nothing may be sent to.
    pub fn parse(bytes: &[u8], wanted: SrtpUse) -> Result<Self, SdpError> {
        let session = text::parse(bytes)?;
        let live = || {
            let lines = session.medias.iter().enumerate();
            lines.filter_map(|(index, media)| Some((index, media, AudioLine::profile_of(media)?)))
        };
        let usable = || {
            live().filter_map(|(index, media, _)| {
                Some((index, media, AudioLine::proposed_by(&session, media, wanted)?))
            })
        };
        let best = usable().find(|(.., proposed)| proposed.is_srtp()).or_else(|| usable().next());
        let (chosen, media, proposed) = best.ok_or_else(|| match live().next() {
            None => SdpError::NoAudio,
            Some((.., Profile::Avp | Profile::Avpf)) => SdpError::Unprotected,
            Some((.., profile)) => SdpError::Unsupported(profile),
        })?;
        let audio = AudioLine::parse(&session, media, proposed)?;
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

    /// Whether the answer would agree on SRTP.
    #[must_use]
    pub fn is_srtp(&self) -> bool {
        self.audio.proposed.is_srtp()
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
