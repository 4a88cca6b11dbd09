//! A leg's session: our description, what was agreed, and how it is agreed again.

use std::fmt;

use bytes::Bytes;

use crate::call::setup::Side;
use crate::ids::CallId;
use crate::rtp::{Codec, Direction, LegMedia};
use crate::sdp::{self, LocalDescription, LocalOffer, Offer, RecordState, SdpError, SrtpUse};

/// One leg's session.
#[derive(Clone)]
pub struct Session {
    local: LocalDescription,
    description: Bytes,
    state: Agreed,
}

#[derive(Clone, Debug)]
enum Agreed {
    /// Our offer waits for its answer.
    Offered(LocalOffer),
    /// Both sides have spoken.
    Settled(LegMedia),
}

/// What a description of ours says of the stream, besides its codecs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// What we want to do with it.
    pub direction: Direction,
    /// What becomes of the peer's stream, for a peer that wants to be told (RFC 7866).
    pub record: Option<RecordState>,
}

/// What a peer wants with a new offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The codecs that we have too, in the peer's order.
    pub codecs: Vec<Codec>,
    /// What it lets us do with the stream.
    pub direction: Direction,
}

/// Why nothing was agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal(SdpError);

impl Refusal {
    /// The SIP status that says so.
    #[must_use]
    pub fn status(self) -> u16 {
        self.0.status()
    }
}

impl From<SdpError> for Refusal {
    fn from(error: SdpError) -> Self {
        Self(error)
    }
}

impl fmt::Debug for Session {
    /// Without the description, which may hold a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Session {
    /// Our description as it was last sent.
    #[must_use]
    pub fn description(&self) -> Bytes {
        self.description.clone()
    }

    /// The first codec of our own description.
    #[must_use]
    pub fn codec(&self) -> Option<Codec> {
        self.local.codecs.first().copied()
    }

    /// Whether and when the leg uses SRTP.
    #[must_use]
    pub fn srtp(&self) -> SrtpUse {
        self.local.keying.wanted()
    }

    /// What was agreed; `None` while our offer has no answer.
    #[must_use]
    pub fn media(&self) -> Option<&LegMedia> {
        match &self.state {
            Agreed::Settled(media) => Some(media),
            Agreed::Offered(_) => None,
        }
    }
}

/// The codecs of an offer that we have too, in the offer's order.
///
/// # Errors
/// When there is none, or the offer is of no use.
pub fn offered(offer: &[u8], srtp: SrtpUse, codecs: &[Codec]) -> Result<Vec<Codec>, Refusal> {
    let offer = Offer::parse(offer, srtp)?;
    let mut common: Vec<Codec> = offer.codecs().filter(|codec| codecs.contains(codec)).collect();
    common.dedup();
    if common.is_empty() { Err(Refusal(SdpError::NoCommonCodec)) } else { Ok(common) }
}

/// What an offer within a session wants.
///
/// # Errors
/// When there is no codec in common, or the offer is of no use.
pub fn proposed(offer: &[u8], srtp: SrtpUse, codecs: &[Codec]) -> Result<Proposal, Refusal> {
    let codecs = offered(offer, srtp, codecs)?;
    Ok(Proposal { codecs, direction: Offer::parse(offer, srtp)?.direction() })
}

/// Answers an offer with one codec of it.
///
/// # Errors
/// When there is none in common, or the offer is of no use.
pub fn answer(
    offer: &[u8],
    side: &Side,
    codecs: &[Codec],
    call: CallId,
) -> Result<Session, Refusal> {
    let local = local(side, codecs.to_vec(), call);
    let answer = sdp::answer(&Offer::parse(offer, local.keying.wanted())?, &local)?;
    Ok(settled(local, answer))
}

/// Answers a new offer in a session that is agreed already, with one of these codecs.
///
/// # Errors
/// When the new offer has none of them, or is of no use.
pub fn answer_again(
    session: &Session,
    offer: &[u8],
    codecs: &[Codec],
    stream: Stream,
) -> Result<Session, Refusal> {
    let Stream { direction, record } = stream;
    let codecs = codecs.to_vec();
    let mut local = LocalDescription { codecs, direction, record, ..session.local.clone() };
    let previous = std::str::from_utf8(&session.description).unwrap_or_default();
    let offer = Offer::parse(offer, local.keying.wanted())?;
    let answer = sdp::reanswer(&offer, &mut local, previous)?;
    Ok(settled(local, answer))
}

/// An offer of ours.
#[must_use]
pub fn offer(side: &Side, codecs: &[Codec], call: CallId) -> Session {
    let local = local(side, codecs.to_vec(), call);
    let offer = LocalOffer::new(local.clone(), true);
    Session { local, description: offer.to_sdp().into(), state: Agreed::Offered(offer) }
}

/// A new offer of ours within a session that is agreed already, of these codecs alone.
#[must_use]
pub fn offer_again(session: &Session, codecs: &[Codec], stream: Stream) -> Session {
    let version = session.local.version.wrapping_add(1);
    let Stream { direction, record } = stream;
    let codecs = codecs.to_vec();
    let local = LocalDescription { codecs, version, direction, record, ..session.local.clone() };
    let offer = LocalOffer::new(local.clone(), true);
    Session { local, description: offer.to_sdp().into(), state: Agreed::Offered(offer) }
}

/// The session that is agreed already, offered once more as it is: its refresh.
#[must_use]
pub fn offer_same(session: &Session, record: Option<RecordState>) -> Session {
    let Some(media) = session.media() else { return session.clone() };
    let codecs = vec![media.codec];
    let direction = said(&session.description);
    let same = LocalDescription { codecs, record, direction, ..session.local.clone() };
    let offer = LocalOffer::new(same.clone(), true);
    if session.description == offer.to_sdp() {
        let state = Agreed::Offered(offer);
        return Session { local: same, description: session.description.clone(), state };
    }
    // The numbers or lines of the peer's offer, which ours does not repeat.
    let next = LocalDescription { version: same.version.wrapping_add(1), ..same };
    let offer = LocalOffer::new(next.clone(), true);
    Session { local: next, description: offer.to_sdp().into(), state: Agreed::Offered(offer) }
}

/// Takes the answer to our offer.
///
/// # Errors
/// When it does not fit the offer.
pub fn accept(session: &Session, answer: &[u8]) -> Result<Session, Refusal> {
    let Agreed::Offered(offer) = &session.state else { return Ok(session.clone()) };
    let sdp::Accepted { media, keying } = offer.accept(answer)?;
    let local = LocalDescription { keying, ..session.local.clone() };
    Ok(Session { local, state: Agreed::Settled(media), ..session.clone() })
}

/// The direction of a description of ours.
fn said(description: &[u8]) -> Direction {
    let says = |line: &[u8]| description.split(|b| *b == b'\n').any(|l| l.trim_ascii() == line);
    match () {
        () if says(b"a=inactive") => Direction::Inactive,
        () if says(b"a=recvonly") => Direction::RecvOnly,
        () if says(b"a=sendonly") => Direction::SendOnly,
        () => Direction::SendRecv,
    }
}

fn settled(local: LocalDescription, answer: sdp::Answer) -> Session {
    let local = LocalDescription { keying: answer.keying, ..local };
    Session { local, description: answer.sdp.into(), state: Agreed::Settled(answer.media) }
}

fn local(side: &Side, codecs: Vec<Codec>, call: CallId) -> LocalDescription {
    let (high, low) = call.0.as_u64_pair();
    LocalDescription {
        rtp: side.rtp,
        rtcp_port: side.rtcp.port(),
        // 63 bits: some parsers take a session identifier for a signed number.
        session: (high ^ low) >> 1,
        version: 1,
        codecs,
        direction: Direction::SendRecv,
        record: side.record,
        keying: side.keying.clone(),
    }
}
