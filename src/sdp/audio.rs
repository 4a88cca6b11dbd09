//! One audio line of a peer's description, with what the session says for all lines.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use sdp_types::{Attribute, Media, Session};

use super::SdpError;
use super::crypto::{self, Crypto};
use super::dtls::Identified;
use super::keying::{Proposed, SrtpUse};
use crate::rtp::{Codec, Direction};

/// How media travels: the `proto` of a media line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// `RTP/AVP` (RFC 3551).
    Avp,
    /// `RTP/AVPF` (RFC 4585); its feedback is not used.
    Avpf,
    /// `RTP/SAVP` (RFC 3711): SRTP with keys in the description (RFC 4568).
    Savp,
    /// `RTP/SAVPF` (RFC 5124): the same, with feedback that is not used.
    Savpf,
    /// `UDP/TLS/RTP/SAVP`: DTLS-SRTP (RFC 5764).
    DtlsSavp,
    /// `UDP/TLS/RTP/SAVPF`: the same, with feedback that is not used.
    DtlsSavpf,
    /// Anything else.
    Other,
}

impl Profile {
    fn parse(proto: &str) -> Self {
        match proto.to_ascii_uppercase().as_str() {
            "RTP/AVP" => Profile::Avp,
            "RTP/AVPF" => Profile::Avpf,
            "RTP/SAVP" => Profile::Savp,
            "RTP/SAVPF" => Profile::Savpf,
            "UDP/TLS/RTP/SAVP" => Profile::DtlsSavp,
            "UDP/TLS/RTP/SAVPF" => Profile::DtlsSavpf,
            _ => Profile::Other,
        }
    }

    /// Whether an answer of this profile fits an offer of that one. Who is offered SRTP beside
    /// RTP (RFC 8643) may answer as if it had been offered alone, and many do.
    pub(super) fn answers(self, offered: Profile) -> bool {
        use Profile::{Avp, Avpf, Savp, Savpf};
        self == offered
            || matches!((offered, self), (Avp, Avpf | Savp) | (Avpf, Avp | Savpf) | (Savp, Savpf))
            || matches!((offered, self), (Savpf, Savp))
    }

    /// As a media line writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Profile::Avp => "RTP/AVP",
            Profile::Avpf => "RTP/AVPF",
            Profile::Savp => "RTP/SAVP",
            Profile::Savpf => "RTP/SAVPF",
            Profile::DtlsSavp => "UDP/TLS/RTP/SAVP",
            Profile::DtlsSavpf => "UDP/TLS/RTP/SAVPF",
            Profile::Other => "an unknown profile",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a payload type of the peer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Audio(Codec),
    TelephoneEvent { clock_rate: u32 },
    Other,
}

/// A payload type of the peer, in the peer's order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) payload_type: u8,
    pub(super) meaning: Meaning,
}

/// An audio stream as a peer describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AudioLine {
    pub(super) profile: Profile,
    pub(super) proposed: Proposed,
    /// Unspecified (`0.0.0.0`, `::`) when the peer holds in the old way.
    pub(super) rtp: SocketAddr,
    pub(super) rtcp: SocketAddr,
    pub(super) formats: Vec<Format>,
    /// From the peer's side.
    pub(super) direction: Direction,
    pub(super) ptime: u8,
}

impl AudioLine {
    /// Whether a media line is live audio: not refused, whatever its profile.
    pub(super) fn profile_of(media: &Media) -> Option<Profile> {
        let live = media.media.eq_ignore_ascii_case("audio") && media.port != 0;
        live.then(|| Profile::parse(&media.proto))
    }

    /// How a media line's packets would be protected; `None` when it cannot be taken so.
    pub(super) fn proposed_by(
        session: &Session,
        media: &Media,
        wanted: SrtpUse,
    ) -> Option<Proposed> {
        match Profile::parse(&media.proto) {
            Profile::DtlsSavp | Profile::DtlsSavpf if wanted != SrtpUse::Off => {
                Self::identified_by(session, media).map(Proposed::Dtls)
            }
            profile => Proposed::of(profile, values(&media.attributes, "crypto"), wanted),
        }
    }

    /// Who the peer of a media line says it is.
    pub(super) fn identified_by(session: &Session, media: &Media) -> Option<Identified> {
        let (own, shared) = (&media.attributes, &session.attributes);
        let fingerprints = values(own, "fingerprint").chain(values(shared, "fingerprint"));
        Identified::of(fingerprints, value(own, "setup").or_else(|| value(shared, "setup")))
    }

    /// The `a=crypto` lines of a media line that can be taken.
    pub(super) fn crypto_of(media: &Media) -> Vec<Crypto> {
        crypto::acceptable(values(&media.attributes, "crypto"))
    }

    /// Reads a live audio line.
    pub(super) fn parse(
        session: &Session,
        media: &Media,
        proposed: Proposed,
    ) -> Result<Self, SdpError> {
        let connection = media.connections.first().or(session.connection.as_ref());
        let address = unicast(&connection.ok_or(SdpError::NoAddress)?.connection_address)?;
        let rtp = SocketAddr::new(address, media.port);
        Ok(Self {
            profile: Profile::parse(&media.proto),
            proposed,
            rtp,
            rtcp: rtcp(&media.attributes, rtp)?,
            formats: formats(media),
            direction: direction(&media.attributes)
                .or_else(|| direction(&session.attributes))
                .unwrap_or(Direction::SendRecv),
            ptime: ptime(&media.attributes),
        })
    }

    /// The direction from our side, as far as `ours` allows it. To a peer that names no address
    /// (RFC 3264, 8.4: hold as RFC 2543 had it) we do not send.
    pub(super) fn our_direction(&self, ours: Direction) -> Direction {
        let theirs = self.direction.reversed();
        let sends = theirs.sends() && ours.sends() && !self.rtp.ip().is_unspecified();
        match (sends, theirs.receives() && ours.receives()) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }

    /// The telephone-event that goes with a codec: at its rate, else the first at any.
    pub(super) fn telephone_event(&self, codec: Codec) -> Option<(u8, u32)> {
        let events = || {
            self.formats.iter().filter_map(|format| match format.meaning {
                Meaning::TelephoneEvent { clock_rate } => Some((format.payload_type, clock_rate)),
                _ => None,
            })
        };
        events().find(|(_, rate)| *rate == codec.clock_rate()).or_else(|| events().next())
    }

    /// Refuses a peer that names a loopback address unless we are on loopback ourselves.
    pub(super) fn check_reachable_from(&self, local: IpAddr) -> Result<(), SdpError> {
        let loopback = self.rtp.ip().is_loopback() || self.rtcp.ip().is_loopback();
        if loopback && !local.is_loopback() { Err(SdpError::Loopback) } else { Ok(()) }
    }
}

/// A connection address that media may be sent to, or the unspecified one.
fn unicast(text: &str) -> Result<IpAddr, SdpError> {
    // A TTL or a count of groups follows a multicast address.
    let literal = text.split('/').next().unwrap_or(text);
    let address: IpAddr = literal.parse().map_err(|_| SdpError::HostName)?;
    // An IPv4-mapped IPv6 address must not slip past the checks of IPv4.
    let address = address.to_canonical();
    match address {
        IpAddr::V4(v4) if v4.is_broadcast() => Err(SdpError::Broadcast),
        _ if address.is_multicast() => Err(SdpError::Multicast),
        _ => Ok(address),
    }
}

/// `a=rtcp:<port> [IN IP4 <address>]` (RFC 3605), else the port after that of RTP.
fn rtcp(attributes: &[Attribute], rtp: SocketAddr) -> Result<SocketAddr, SdpError> {
    let next = SocketAddr::new(rtp.ip(), rtp.port().saturating_add(1));
    let Some(value) = value(attributes, "rtcp") else { return Ok(next) };
    let mut words = value.split_ascii_whitespace();
    let port = words.next().and_then(|port| port.parse().ok()).filter(|port| *port != 0);
    let address = match words.nth(2) {
        Some(text) => unicast(text)?,
        None => rtp.ip(),
    };
    // Without an address of its own, RTCP follows RTP.
    let address = if address.is_unspecified() { rtp.ip() } else { address };
    Ok(SocketAddr::new(address, port.unwrap_or(next.port())))
}

fn formats(media: &Media) -> Vec<Format> {
    let mut formats: Vec<Format> = Vec::new();
    for word in media.fmt.split_ascii_whitespace() {
        let Some(payload_type) = word.parse::<u8>().ok().filter(|n| *n < 128) else { continue };
        if !formats.iter().any(|known| known.payload_type == payload_type) {
            formats.push(Format { payload_type, meaning: meaning(media, payload_type) });
        }
    }
    formats
}

fn meaning(media: &Media, payload_type: u8) -> Meaning {
    let mapped = values(&media.attributes, "rtpmap").find_map(|value| {
        let (number, encoding) = value.trim().split_once(char::is_whitespace)?;
        (number.parse() == Ok(payload_type)).then_some(encoding.trim())
    });
    let Some(encoding) = mapped else {
        let fixed = [Codec::Pcmu, Codec::Pcma, Codec::G722]
            .into_iter()
            .find(|codec| codec.default_payload_type() == payload_type);
        return fixed.map_or(Meaning::Other, Meaning::Audio);
    };
    let mut parts = encoding.split('/');
    let name = parts.next().unwrap_or_default();
    let rate: u32 = parts.next().and_then(|rate| rate.trim().parse().ok()).unwrap_or(8000);
    let channels: u8 = parts.next().and_then(|count| count.trim().parse().ok()).unwrap_or(1);
    if name.eq_ignore_ascii_case("telephone-event") && (1000..=192_000).contains(&rate) {
        return Meaning::TelephoneEvent { clock_rate: rate };
    }
    // Opus always says two channels (RFC 7587, 7), the others one.
    Codec::ALL
        .into_iter()
        .find(|codec| {
            name.eq_ignore_ascii_case(codec.name())
                && rate == codec.clock_rate()
                && (channels == 1 || *codec == Codec::Opus)
        })
        .map_or(Meaning::Other, Meaning::Audio)
}

fn direction(attributes: &[Attribute]) -> Option<Direction> {
    use Direction::{Inactive, RecvOnly, SendOnly, SendRecv};
    attributes.iter().find_map(|attribute| {
        [SendRecv, SendOnly, RecvOnly, Inactive]
            .into_iter()
            .find(|direction| attribute.attribute.eq_ignore_ascii_case(direction.as_str()))
    })
}

fn ptime(attributes: &[Attribute]) -> u8 {
    let number = |name| {
        let text = value(attributes, name)?.trim();
        // Some write a fraction.
        let whole = text.split('.').next().unwrap_or(text);
        whole.parse::<u8>().ok().filter(|ms| (1..=200).contains(ms))
    };
    let ptime = number("ptime").unwrap_or(20);
    number("maxptime").map_or(ptime, |most| ptime.min(most))
}

fn values<'a>(attributes: &'a [Attribute], name: &'a str) -> impl Iterator<Item = &'a str> {
    attributes
        .iter()
        .filter(move |attribute| attribute.attribute.eq_ignore_ascii_case(name))
        .filter_map(|attribute| attribute.value.as_deref())
}

fn value<'a>(attributes: &'a [Attribute], name: &'a str) -> Option<&'a str> {
    values(attributes, name).next()
}
