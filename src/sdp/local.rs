//! What we say about ourselves: the description behind our answers, and our own offers.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use sdp_types::{Media, Session};

use super::audio::{AudioLine, Meaning, Profile};
use super::crypto::{self, Crypto};
use super::keying::{Keying, Proposed, SrtpUse};
use super::{RecordState, SdpError, text};
use crate::rtp::{
    Codec, Direction, DtlsPeer, LegMedia, PayloadType, Security, SrtpKeys, TelephoneEvent,
};

/// Our side of one leg's session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalDescription {
    /// Where we receive RTP, as the peer reaches it.
    pub rtp: SocketAddr,
    /// The port on which we receive RTCP, at the same address.
    pub rtcp_port: u16,
    /// The session's identifier: one a leg, for as long as it lasts.
    pub session: u64,
    /// The description's version: one more for each description that differs from the one before.
    pub version: u64,
    /// The codecs that this leg may use, in our order of preference. To keep a codec at a
    /// re-INVITE, name it alone.
    pub codecs: Vec<Codec>,
    /// What we want to do with the stream.
    pub direction: Direction,
    /// What becomes of the peer's stream, for a peer that wants to be told (RFC 7866).
    pub record: Option<RecordState>,
    /// How the stream is to be protected, and where our keys come from.
    pub keying: Keying,
}

/// A payload type that we put into a description of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mapped {
    Audio(Codec, u8),
    TelephoneEvent(u8, u32),
}

impl LocalDescription {
    /// The lines before the first media line.
    pub(super) fn session_lines(&self) -> String {
        let family = match self.rtp.ip() {
            IpAddr::V4(_) => "IP4",
            IpAddr::V6(_) => "IP6",
        };
        let (session, version, address) = (self.session, self.version, self.rtp.ip());
        format!(
            "v=0\r\no=assent {session} {version} IN {family} {address}\r\ns=-\r\n\
             c=IN {family} {address}\r\nt=0 0\r\n"
        )
    }

    /// An audio line with its attributes.
    pub(super) fn audio_lines(
        &self,
        proto: &str,
        formats: &[Mapped],
        direction: Direction,
    ) -> String {
        let mut lines = format!("m=audio {} {proto}", self.rtp.port());
        for format in formats {
            let (Mapped::Audio(_, number) | Mapped::TelephoneEvent(number, _)) = format;
            // Writing to a String cannot fail.
            let _ = write!(lines, " {number}");
        }
        lines.push_str("\r\n");
        for format in formats {
            let _ = match format {
                Mapped::Audio(Codec::Opus, n) => {
                    write!(lines, "a=rtpmap:{n} opus/48000/2\r\na=fmtp:{n} useinbandfec=1\r\n")
                }
                Mapped::Audio(codec, n) => {
                    write!(lines, "a=rtpmap:{n} {}/{}\r\n", codec.name(), codec.clock_rate())
                }
                Mapped::TelephoneEvent(n, rate) => {
                    write!(lines, "a=rtpmap:{n} telephone-event/{rate}\r\na=fmtp:{n} 0-15\r\n")
                }
            };
        }
        let _ = write!(lines, "a=ptime:20\r\na={}\r\n", direction.as_str());
        if Some(self.rtcp_port) != self.rtp.port().checked_add(1) {
            let _ = write!(lines, "a=rtcp:{}\r\n", self.rtcp_port);
        }
        if let Some(record) = self.record {
            let _ = write!(lines, "a=record:{}\r\n", record.as_str());
        }
        lines
    }
}

/// An offer of ours, kept until its answer is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalOffer {
    local: LocalDescription,
    formats: Vec<Mapped>,
}

/// What an offer of ours and its answer have come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// What the leg is from now on.
    pub media: LegMedia,
    /// What the leg's next descriptions are made from.
    pub keying: Keying,
}

impl LocalOffer {
    /// An offer of one audio stream with the description's codecs in its order and, if wanted, a
    /// telephone-event for each of their clock rates.
    #[must_use]
    pub fn new(local: LocalDescription, telephone_event: bool) -> Self {
        let mut formats: Vec<Mapped> = Vec::new();
        for codec in &local.codecs {
            let mapped = Mapped::Audio(*codec, codec.default_payload_type());
            if !formats.contains(&mapped) {
                formats.push(mapped);
            }
        }
        for codec in local.codecs.iter().filter(|_| telephone_event) {
            let number = if codec.clock_rate() == 8000 { 101 } else { 110 };
            let mapped = Mapped::TelephoneEvent(number, codec.clock_rate());
            if !formats.contains(&mapped) {
                formats.push(mapped);
            }
        }
        Self { local, formats }
    }

    /// The offer as it is sent.
    #[must_use]
    pub fn to_sdp(&self) -> String {
        let profile = self.local.keying.profile();
        let audio = self.local.audio_lines(profile.as_str(), &self.formats, self.local.direction);
        let mut sdp = self.local.session_lines() + &audio;
        for Crypto { tag, name, key, .. } in self.local.keying.offered() {
            sdp.push_str(&crypto::line(tag, name, &key));
        }
        sdp.push_str(&self.local.keying.dtls_lines().unwrap_or_default());
        sdp
    }

    /// The description that the offer was made from.
    #[must_use]
    pub fn local(&self) -> &LocalDescription {
        &self.local
    }

    /// Reads the answer. The leg's codec is the first of the answer; the peer may give it, and
    /// the telephone-event, numbers of its own (RFC 3264, 6.1).
    ///
    /// # Errors
    /// [`SdpError::Inconsistent`] when it does not fit the offer, [`SdpError::Refused`] when it
    /// refuses the stream, [`SdpError::Unprotected`] when it would leave the stream plain that has
    /// to be protected, and as for [`super::Offer::parse`].
    pub fn accept(&self, answer: &[u8]) -> Result<Accepted, SdpError> {
        let session = text::parse(answer)?;
        let [media] = session.medias.as_slice() else { return Err(SdpError::Inconsistent) };
        if !media.media.eq_ignore_ascii_case("audio") {
            return Err(SdpError::Inconsistent);
        }
        if media.port == 0 {
            return Err(SdpError::Refused);
        }
        let (proposed, security) = self.security_of(&session, media)?;
        let audio = AudioLine::parse(&session, media, proposed)?;
        audio.check_reachable_from(self.local.rtp.ip())?;
        let (codec, payload_type) = self.codec_of(&audio)?;
        let mut keying = self.local.keying.clone();
        keying.agree(keying.profile(), security.clone());
        let media = LegMedia {
            remote_rtp: audio.rtp,
            remote_rtcp: audio.rtcp,
            codec,
            payload_type,
            telephone_event: self.telephone_event_of(&audio, codec),
            direction: audio.our_direction(self.local.direction),
            ptime: audio.ptime,
            security,
        };
        Ok(Accepted { media, keying })
    }

    /// How the answer wants the stream protected: by one of the keys that were offered (RFC 4568,
    /// 5.1.3), or not at all where that was offered too.
    fn security_of(
        &self,
        session: &Session,
        media: &Media,
    ) -> Result<(Proposed, Security), SdpError> {
        let keying = &self.local.keying;
        let profile = AudioLine::profile_of(media).unwrap_or(Profile::Other);
        if !profile.answers(keying.profile()) {
            return Err(SdpError::Inconsistent);
        }
        if let Some(before) = keying.dtls() {
            let identified = AudioLine::identified_by(session, media);
            let identified = identified.ok_or(SdpError::Inconsistent)?;
            // Our offer said what we are.
            let peer = DtlsPeer { role: before.role, ..identified.peer(Some(before)) };
            return Ok((Proposed::Dtls(identified), Security::Dtls(peer)));
        }
        let offered = keying.offered();
        let chosen = AudioLine::crypto_of(media).into_iter().find_map(|theirs| {
            let ours = offered.iter().find(|o| o.tag == theirs.tag && o.suite == theirs.suite)?;
            Some((ours.clone(), theirs))
        });
        let plain = matches!(profile, Profile::Avp | Profile::Avpf);
        match chosen {
            // A peer that gives us back our own key would have both directions share one stream
            // of key bits.
            Some((ours, theirs)) if ours.key == theirs.key => Err(SdpError::Inconsistent),
            Some((ours, theirs)) => {
                let (send, receive) = (ours.key, theirs.key.clone());
                let keys = SrtpKeys { suite: ours.suite, send, receive };
                Ok((Proposed::Sdes(theirs), Security::Srtp(Box::new(keys))))
            }
            None if !plain => Err(SdpError::Inconsistent),
            None if keying.wanted() == SrtpUse::Require => Err(SdpError::Unprotected),
            None => Ok((Proposed::Plain, Security::Plain)),
        }
    }

    fn codec_of(&self, audio: &AudioLine) -> Result<(Codec, PayloadType), SdpError> {
        let answered = audio.formats.iter().find_map(|format| match format.meaning {
            Meaning::Audio(codec) => Some((codec, format.payload_type)),
            _ => None,
        });
        let (codec, send) = answered.ok_or(SdpError::NoCommonCodec)?;
        let offered = self.formats.iter().find_map(|format| match format {
            Mapped::Audio(known, number) if *known == codec => Some(*number),
            _ => None,
        });
        let receive = offered.ok_or(SdpError::Inconsistent)?;
        Ok((codec, PayloadType { send, receive }))
    }

    /// The telephone-event of the answer that was offered too, at the codec's rate if there is
    /// one.
    fn telephone_event_of(&self, audio: &AudioLine, codec: Codec) -> Option<TelephoneEvent> {
        let (send, clock_rate) = audio.telephone_event(codec)?;
        let receive = self.formats.iter().find_map(|format| match format {
            Mapped::TelephoneEvent(number, rate) if *rate == clock_rate => Some(*number),
            _ => None,
        })?;
        Some(TelephoneEvent { payload_type: PayloadType { send, receive }, clock_rate })
    }
}
