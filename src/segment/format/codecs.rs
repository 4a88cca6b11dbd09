//! Which payload types a stream's packets may have, and what they mean.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::rtp::{Codec, LegMedia};

/// What a payload type means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodecUse {
    /// The encoding name as SDP writes it: `PCMU`, `opus`, `telephone-event`.
    pub name: String,
    /// The rate of the RTP timestamp, in Hz.
    pub clock_rate: u32,
}

impl CodecUse {
    /// The audio codec that this is; `None` for telephone-event and whatever is not audio.
    #[must_use]
    pub fn audio(&self) -> Option<Codec> {
        Codec::ALL.into_iter().find(|codec| codec.name() == self.name)
    }
}

/// A stream's codecs by payload type, as the party sends them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Codecs(BTreeMap<u8, CodecUse>);

impl Codecs {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was negotiated for a leg, by the payload types that its party sends.
    #[must_use]
    pub fn of(media: &LegMedia) -> Self {
        let audio = Self::new().with(
            media.payload_type.receive,
            media.codec.name(),
            media.codec.clock_rate(),
        );
        match media.telephone_event {
            Some(keys) => audio.with(keys.payload_type.receive, "telephone-event", keys.clock_rate),
            None => audio,
        }
    }

    /// What a leg that we call is offered, by the payload types of our offers: it sends one of
    /// these (RFC 3264, 6.1).
    #[must_use]
    pub fn offered() -> Self {
        let all = Codec::ALL.into_iter().fold(Self::new(), |all, codec| {
            all.with(codec.default_payload_type(), codec.name(), codec.clock_rate())
        });
        all.with(101, "telephone-event", 8000).with(110, "telephone-event", 48_000)
    }

    /// The same and one more. Payload types are 0 to 127; another one is left out.
    #[must_use]
    pub fn with(mut self, payload_type: u8, name: &str, clock_rate: u32) -> Self {
        if payload_type < 128 {
            self.0.insert(payload_type, CodecUse { name: name.to_owned(), clock_rate });
        }
        self
    }

    /// What a payload type means.
    #[must_use]
    pub fn get(&self, payload_type: u8) -> Option<&CodecUse> {
        self.0.get(&payload_type)
    }

    /// All of them, by payload type.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &CodecUse)> {
        self.0.iter().map(|(&payload_type, codec)| (payload_type, codec))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::{Direction, PayloadType, Security, TelephoneEvent};

    #[test]
    fn what_is_offered_is_what_our_offers_say() {
        let local = crate::sdp::LocalDescription {
            rtp: "127.0.0.1:4000".parse().unwrap(),
            rtcp_port: 4001,
            session: 1,
            version: 1,
            codecs: Codec::ALL.to_vec(),
            direction: Direction::SendRecv,
            record: None,
            keying: crate::sdp::Keying::off(),
        };
        let offer = crate::sdp::LocalOffer::new(local, true).to_sdp();
        let offered = Codecs::offered();
        let maps: Vec<&str> = offer.lines().filter_map(|l| l.strip_prefix("a=rtpmap:")).collect();
        for map in &maps {
            let (number, codec) = map.split_once(' ').unwrap();
            let used = offered.get(number.parse().unwrap()).unwrap();
            let rate = if used.name == "G722" { 8000 } else { used.clock_rate };
            assert!(
                codec.to_lowercase().starts_with(&format!("{}/{rate}", used.name).to_lowercase()),
                "{map}"
            );
        }
        assert_eq!(maps.len(), offered.iter().count());
    }

    #[test]
    fn the_partys_own_payload_types_count() {
        let media = LegMedia {
            remote_rtp: "127.0.0.1:4000".parse().unwrap(),
            remote_rtcp: "127.0.0.1:4001".parse().unwrap(),
            codec: Codec::Opus,
            payload_type: PayloadType { send: 96, receive: 111 },
            telephone_event: Some(TelephoneEvent {
                payload_type: PayloadType { send: 97, receive: 101 },
                clock_rate: 48000,
            }),
            direction: Direction::SendRecv,
            ptime: 20,
            security: Security::Plain,
        };
        let codecs = Codecs::of(&media);
        assert_eq!(
            serde_jcs::to_string(&codecs).unwrap(),
            r#"{"101":{"clock_rate":48000,"name":"telephone-event"},"111":{"clock_rate":48000,"name":"opus"}}"#
        );
        assert_eq!(codecs.get(111).and_then(CodecUse::audio), Some(Codec::Opus));
        assert_eq!(codecs.get(101).and_then(CodecUse::audio), None);
        let text = serde_json::to_string(&codecs).unwrap();
        assert_eq!(serde_json::from_str::<Codecs>(&text).unwrap(), codecs);
    }
}
