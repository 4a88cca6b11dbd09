//! Whether a packet that came to a leg's port counts: from the right place, of a payload type
//! that was negotiated, and from the source that the leg listens to.

use std::net::SocketAddr;
use std::time::Duration;

use crate::rtp::{Arrival, KeyDetector, KeyPress, LegMedia, Reception, RtpPacket};

/// Comfort noise (RFC 3389), which is never negotiated by itself here.
const COMFORT_NOISE: u8 = 13;

/// What a leg receives.
pub(super) struct Inbound {
    rtp: Origin,
    rtcp: Origin,
    source: Option<Source>,
    /// The SSRC and sequence number that would confirm a change of source.
    candidate: Option<(u32, u16)>,
    /// Received and lost by sources before this one.
    earlier: (u64, u64),
    jitter: Duration,
}

struct Source {
    reception: Reception,
    keys: Option<KeyDetector>,
}

/// Where packets may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// From this address alone.
    Fixed(SocketAddr),
    /// From wherever the first good packet comes; until then we send to the negotiated address.
    Learning(SocketAddr),
}

/// Whether addresses are learnt from the first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Latch {
    Off,
    On,
}

/// A packet that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    Audio,
    ComfortNoise,
    /// A packet of a telephone-event; the key, if this packet makes it count.
    Event(Option<KeyPress>),
}

/// Why a packet does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    WrongPayloadType,
    WrongSsrc,
    Stale,
}

impl Inbound {
    /// A leg whose stream was just negotiated.
    pub(super) fn new(media: &LegMedia, latch: Latch) -> Self {
        Self {
            rtp: Origin::new(media.remote_rtp, latch),
            rtcp: Origin::new(media.remote_rtcp, latch),
            source: None,
            candidate: None,
            earlier: (0, 0),
            jitter: Duration::ZERO,
        }
    }

    /// The stream was negotiated anew.
    pub(super) fn renegotiate(&mut self, old: &LegMedia, new: &LegMedia, latch: Latch) {
        if old.remote_rtp != new.remote_rtp {
            self.rtp = Origin::new(new.remote_rtp, latch);
        }
        if old.remote_rtcp != new.remote_rtcp {
            self.rtcp = Origin::new(new.remote_rtcp, latch);
        }
        if old.codec != new.codec || old.telephone_event != new.telephone_event {
            self.leave_source();
        }
    }

    /// Where the leg's packets go: to where its own come from.
    pub(super) fn remote_rtp(&self) -> SocketAddr {
        self.rtp.address()
    }

    /// Where the leg's reports go.
    pub(super) fn remote_rtcp(&self) -> SocketAddr {
        self.rtcp.address()
    }

    /// Whether a datagram may come from there.
    pub(super) fn is_from_peer(&self, from: SocketAddr) -> bool {
        self.rtp.allows(from)
    }

    /// Whether a report may come from there.
    pub(super) fn is_report_from_peer(&self, from: SocketAddr) -> bool {
        match (self.rtcp, self.rtp) {
            // The port may be learnt; the host is that of the audio once it is known.
            (Origin::Learning(_), Origin::Fixed(rtp)) => rtp.ip() == from.ip(),
            (Origin::Learning(_), Origin::Learning(_)) => false,
            (Origin::Fixed(_), _) => self.rtcp.allows(from),
        }
    }

    /// A report that was found good came from there.
    pub(super) fn learn_report_origin(&mut self, from: SocketAddr) {
        self.rtcp = Origin::Fixed(from);
    }

    /// Whether a datagram that is still protected has a payload type that can count: header and
    /// payload type of SRTP are in clear.
    pub(super) fn takes(media: &LegMedia, datagram: &[u8]) -> bool {
        let events = media.telephone_event.map(|event| event.payload_type.receive);
        datagram.get(1).map(|byte| byte & 0x7f).is_some_and(|number| {
            number == media.payload_type.receive
                || Some(number) == events
                || number == COMFORT_NOISE
        })
    }

    /// Decides on a packet that came from `from`, where [`is_from_peer`](Self::is_from_peer) held.
    /// `arrived` is the time since the leg was opened.
    pub(super) fn admit(
        &mut self,
        media: &LegMedia,
        packet: &RtpPacket<'_>,
        from: SocketAddr,
        arrived: Duration,
    ) -> Result<Admitted, Refused> {
        let events = media.telephone_event.map(|event| event.payload_type.receive);
        match packet.payload_type() {
            audio if audio == media.payload_type.receive => {
                self.admit_audio(media, packet)?;
                if let Some(source) = &mut self.source {
                    source.reception.time(packet.timestamp(), arrived);
                }
                self.rtp = Origin::Fixed(from);
                Ok(Admitted::Audio)
            }
            event if Some(event) == events => {
                let source = self.source.as_mut().ok_or(Refused::WrongSsrc)?;
                if source.reception.ssrc() != packet.ssrc() {
                    return Err(Refused::WrongSsrc);
                }
                counts(source.reception.receive_event(packet.sequence()))?;
                Ok(Admitted::Event(source.keys.as_mut().and_then(|keys| keys.observe(packet))))
            }
            COMFORT_NOISE => {
                self.admit_audio(media, packet)?;
                self.rtp = Origin::Fixed(from);
                Ok(Admitted::ComfortNoise)
            }
            _ => Err(Refused::WrongPayloadType),
        }
    }

    /// The first source is taken at once. Another has to send two packets in a row (RFC 3550,
    /// A.1): one stray packet of audio takes nobody's place.
    fn admit_audio(&mut self, media: &LegMedia, packet: &RtpPacket<'_>) -> Result<(), Refused> {
        let (ssrc, sequence) = (packet.ssrc(), packet.sequence());
        match &mut self.source {
            Some(source) if source.reception.ssrc() == ssrc => {
                self.candidate = None;
                return counts(source.reception.receive(sequence));
            }
            Some(_) if self.candidate != Some((ssrc, sequence)) => {
                self.candidate = Some((ssrc, sequence.wrapping_add(1)));
                return Err(Refused::WrongSsrc);
            }
            _ => {}
        }
        self.leave_source();
        let mut reception = Reception::new(ssrc, sequence, media.codec.clock_rate());
        reception.receive(sequence);
        let keys = media.telephone_event.map(|event| KeyDetector::new(event.clock_rate));
        self.source = Some(Source { reception, keys });
        Ok(())
    }

    /// The reception of the source that is listened to.
    pub(super) fn reception(&mut self) -> Option<&mut Reception> {
        self.source.as_mut().map(|source| &mut source.reception)
    }

    /// Packets received and lost in all, and the jitter of the last source.
    pub(super) fn totals(&self) -> (u64, u64, Duration) {
        let (received, lost) = self.earlier;
        self.source.as_ref().map_or(
            (received, lost, self.jitter),
            |Source { reception, .. }| {
                (received + reception.received(), lost + reception.lost(), reception.jitter())
            },
        )
    }

    fn leave_source(&mut self) {
        let (received, lost, jitter) = self.totals();
        self.earlier = (received, lost);
        self.jitter = jitter;
        self.source = None;
        self.candidate = None;
    }
}

impl Origin {
    fn new(negotiated: SocketAddr, latch: Latch) -> Self {
        match latch {
            Latch::Off => Origin::Fixed(negotiated),
            Latch::On => Origin::Learning(negotiated),
        }
    }

    fn address(self) -> SocketAddr {
        match self {
            Origin::Fixed(address) | Origin::Learning(address) => address,
        }
    }

    fn allows(self, from: SocketAddr) -> bool {
        match self {
            // Neither flow label nor scope says who somebody is.
            Origin::Fixed(address) => address.ip() == from.ip() && address.port() == from.port(),
            Origin::Learning(_) => true,
        }
    }
}

fn counts(arrival: Arrival) -> Result<(), Refused> {
    match arrival {
        Arrival::Next | Arrival::Late => Ok(()),
        Arrival::Duplicate | Arrival::Stray => Err(Refused::Stale),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::{Codec, Direction, PayloadType, Security, TelephoneEvent};

    fn media() -> LegMedia {
        LegMedia {
            remote_rtp: "192.0.2.1:4000".parse().unwrap(),
            remote_rtcp: "192.0.2.1:4001".parse().unwrap(),
            codec: Codec::Pcmu,
            payload_type: PayloadType { send: 0, receive: 0 },
            telephone_event: Some(TelephoneEvent {
                payload_type: PayloadType { send: 96, receive: 101 },
                clock_rate: 8000,
            }),
            direction: Direction::SendRecv,
            ptime: 20,
            security: Security::Plain,
        }
    }

    fn admit(
        inbound: &mut Inbound,
        (payload_type, ssrc, sequence): (u8, u32, u16),
    ) -> Result<Admitted, Refused> {
        let mut bytes = vec![0x80, payload_type];
        bytes.extend(sequence.to_be_bytes());
        bytes.extend((u32::from(sequence) * 160).to_be_bytes());
        bytes.extend(ssrc.to_be_bytes());
        bytes.extend([1, 0x8a, 3, 0x20]);
        let packet = RtpPacket::parse(&bytes).unwrap();
        inbound.admit(&media(), &packet, media().remote_rtp, Duration::ZERO)
    }

    #[test]
    fn only_negotiated_payload_types_count() {
        let mut inbound = Inbound::new(&media(), Latch::Off);
        assert_eq!(admit(&mut inbound, (0, 7, 1)), Ok(Admitted::Audio));
        assert_eq!(admit(&mut inbound, (13, 7, 2)), Ok(Admitted::ComfortNoise));
        assert!(matches!(admit(&mut inbound, (101, 7, 3)), Ok(Admitted::Event(Some(_)))));
        for other in [8, 9, 96, 111, 72] {
            assert_eq!(admit(&mut inbound, (other, 7, 4)), Err(Refused::WrongPayloadType));
        }
    }

    #[test]
    fn a_key_counts_only_from_the_source_of_the_audio() {
        let mut inbound = Inbound::new(&media(), Latch::Off);
        for n in 0..10 {
            assert_eq!(admit(&mut inbound, (101, 7, n)), Err(Refused::WrongSsrc));
        }
        assert_eq!(admit(&mut inbound, (0, 7, 10)), Ok(Admitted::Audio));
        for n in 11..20 {
            assert_eq!(admit(&mut inbound, (101, 8, n)), Err(Refused::WrongSsrc));
        }
        assert!(matches!(admit(&mut inbound, (101, 7, 11)), Ok(Admitted::Event(Some(_)))));
        assert_eq!(admit(&mut inbound, (101, 7, 11)), Err(Refused::Stale), "a replay");
    }

    #[test]
    fn another_source_has_to_send_two_packets_in_a_row() {
        let mut inbound = Inbound::new(&media(), Latch::Off);
        assert_eq!(admit(&mut inbound, (0, 7, 1)), Ok(Admitted::Audio));
        assert_eq!(admit(&mut inbound, (0, 8, 50)), Err(Refused::WrongSsrc));
        assert_eq!(admit(&mut inbound, (0, 7, 2)), Ok(Admitted::Audio));
        assert_eq!(admit(&mut inbound, (0, 8, 51)), Err(Refused::WrongSsrc), "7 still talks");
        assert_eq!(admit(&mut inbound, (101, 8, 52)), Err(Refused::WrongSsrc));
        assert_eq!(admit(&mut inbound, (0, 8, 52)), Ok(Admitted::Audio));
        assert_eq!(admit(&mut inbound, (101, 7, 3)), Err(Refused::WrongSsrc), "7 is gone");
        assert_eq!(inbound.totals().0, 3);
    }

    #[test]
    fn without_latch_the_negotiated_address_is_the_only_one() {
        let inbound = Inbound::new(&media(), Latch::Off);
        assert!(inbound.is_from_peer("192.0.2.1:4000".parse().unwrap()));
        for other in ["192.0.2.1:4002", "192.0.2.2:4000", "[::1]:4000"] {
            assert!(!inbound.is_from_peer(other.parse().unwrap()));
        }
    }

    #[test]
    fn an_address_is_learnt_from_good_audio_once() {
        let mut inbound = Inbound::new(&media(), Latch::On);
        let (first, second) = ("198.51.100.1:9", "198.51.100.2:9");
        let mut from = |payload_type: u8, from: &str| {
            let bytes = [0x80, payload_type, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 1, 0x8a, 0, 9];
            let from = from.parse().unwrap();
            if inbound.is_from_peer(from) {
                let packet = RtpPacket::parse(&bytes).unwrap();
                let _ = inbound.admit(&media(), &packet, from, Duration::ZERO);
            }
            inbound.remote_rtp().to_string()
        };
        assert_eq!(from(99, second), "192.0.2.1:4000", "nothing is learnt from a stray");
        assert_eq!(from(101, second), "192.0.2.1:4000", "nor from a key");
        assert_eq!(from(0, first), first);
        assert_eq!(from(0, second), first);
        assert!(!inbound.is_report_from_peer("198.51.100.2:10".parse().unwrap()));
        assert!(inbound.is_report_from_peer("198.51.100.1:10".parse().unwrap()));
    }
}
