//! Our answer to an offer (RFC 3264, 6).

use std::fmt;

use super::SdpError;
use super::audio::Meaning;
use super::keying::Keying;
use super::local::{LocalDescription, Mapped};
use super::offer::Offer;
use crate::rtp::{Codec, LegMedia, PayloadType, TelephoneEvent};

/// An answer, and what it agrees on.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The description to send.
    pub sdp: String,
    /// What the leg is from now on.
    pub media: LegMedia,
    /// What the leg's next descriptions are made from.
    pub keying: Keying,
}

impl fmt::Debug for Answer {
    /// Without the description, which may hold a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("media", &self.media).finish_non_exhaustive()
    }
}

/// Answers an offer: the first codec of the peer's order that we have too, its telephone-event,
/// the peer's payload type numbers, the direction mirrored, every other line refused in place.
///
/// # Errors
/// [`SdpError::NoCommonCodec`]; [`SdpError::Loopback`] when the peer names a loopback address and
/// we have none; [`SdpError::Unsupported`] when there is no key to be had.
pub fn answer(offer: &Offer, local: &LocalDescription) -> Result<Answer, SdpError> {
    let audio = &offer.audio;
    audio.check_reachable_from(local.rtp.ip())?;
    let (codec, number) = first_common(offer, local).ok_or(SdpError::NoCommonCodec)?;
    let event = audio.telephone_event(codec);
    let direction = audio.our_direction(local.direction);

    let mut formats = vec![Mapped::Audio(codec, number)];
    formats.extend(event.map(|(number, rate)| Mapped::TelephoneEvent(number, rate)));
    let mut keying = local.keying.clone();
    let (crypto, security) =
        keying.answer(&audio.proposed).ok_or(SdpError::Unsupported(audio.profile))?;
    keying.agree(audio.profile, security.clone());
    let mut sdp = local.session_lines();
    for (index, line) in offer.lines.iter().enumerate() {
        if index == offer.chosen {
            sdp.push_str(&local.audio_lines(audio.profile.as_str(), &formats, direction));
            sdp.push_str(&crypto);
        } else {
            sdp.push_str(&format!("m={} 0 {} {}\r\n", line.media, line.proto, line.fmt));
        }
    }

    let both_ways = |number| PayloadType { send: number, receive: number };
    let media = LegMedia {
        remote_rtp: audio.rtp,
        remote_rtcp: audio.rtcp,
        codec,
        payload_type: both_ways(number),
        telephone_event: event.map(|(number, clock_rate)| TelephoneEvent {
            payload_type: both_ways(number),
            clock_rate,
        }),
        direction,
        ptime: audio.ptime,
        security,
    };
    Ok(Answer { sdp, media, keying })
}

/// Answers an offer within a session, such as that of a re-INVITE: with the description's version
/// when the answer says what `previous` said, else with the next one, which `local` then has.
///
/// # Errors
/// As [`answer`]; `local` is then as it was, and the session goes on as it was.
pub fn reanswer(
    offer: &Offer,
    local: &mut LocalDescription,
    previous: &str,
) -> Result<Answer, SdpError> {
    let same = answer(offer, local)?;
    if same.sdp == previous {
        return Ok(same);
    }
    let next = LocalDescription { version: local.version.wrapping_add(1), ..local.clone() };
    let changed = answer(offer, &next)?;
    *local = next;
    Ok(changed)
}

fn first_common(offer: &Offer, local: &LocalDescription) -> Option<(Codec, u8)> {
    offer.audio.formats.iter().find_map(|format| match format.meaning {
        Meaning::Audio(codec) if local.codecs.contains(&codec) => {
            Some((codec, format.payload_type))
        }
        _ => None,
    })
}
