//! RTP on its way out and in: sequence, timestamps, and where a packet stands in what is heard.

use rtp_types::RtpPacket;

/// The stream that a phone sends.
#[derive(Debug)]
pub(super) struct Outgoing {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    begins: bool,
    sent: u64,
}

impl Outgoing {
    /// A stream with random beginnings (RFC 3550, 5.1).
    pub(super) fn new() -> Self {
        let mut bytes = [0; 10];
        // Without randomness the beginnings are zero, which is allowed if not wise.
        let _ = getrandom::fill(&mut bytes);
        let [a, b, c, d, e, f, g, h, i, j] = bytes;
        Self {
            ssrc: u32::from_be_bytes([a, b, c, d]),
            sequence: u16::from_be_bytes([e, f]) & 0x7fff,
            timestamp: u32::from_be_bytes([g, h, i, j]),
            begins: true,
            sent: 0,
        }
    }

    /// A packet of the current time.
    pub(super) fn packet(&mut self, payload_type: u8, marker: bool, payload: &[u8]) -> Vec<u8> {
        let marker = marker || std::mem::take(&mut self.begins);
        let mut packet = Vec::with_capacity(12 + payload.len());
        packet.push(0x80);
        packet.push(payload_type & 0x7f | if marker { 0x80 } else { 0 });
        packet.extend_from_slice(&self.sequence.to_be_bytes());
        packet.extend_from_slice(&self.timestamp.to_be_bytes());
        packet.extend_from_slice(&self.ssrc.to_be_bytes());
        packet.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.sent += 1;
        packet
    }

    /// Time goes on by so many timestamp units.
    pub(super) fn advance(&mut self, units: u32) {
        self.timestamp = self.timestamp.wrapping_add(units);
    }

    /// The current time, for a key that begins now and keeps this timestamp until its end.
    pub(super) fn timestamp(&self) -> u32 {
        self.timestamp
    }

    /// A packet of a time that may have passed.
    pub(super) fn packet_at(
        &mut self,
        timestamp: u32,
        payload_type: u8,
        marker: bool,
        payload: &[u8],
    ) -> Vec<u8> {
        let now = std::mem::replace(&mut self.timestamp, timestamp);
        let packet = self.packet(payload_type, marker, payload);
        self.timestamp = now;
        packet
    }

    /// How many packets so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }
}

/// The stream that a phone hears.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    stream: Option<Stream>,
    received: u64,
    lost: u64,
    last_key: Option<u32>,
}

#[derive(Debug)]
struct Stream {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
}

/// What a packet is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrived<'a> {
    /// Audio; before it, so many timestamp units are missing.
    Audio { gap: u32, payload: &'a [u8] },
    /// Audio of a stream that begins, or begins anew: its time says nothing yet.
    Begins { payload: &'a [u8] },
    /// A key, told once.
    Key(u8),
    /// Nothing to hear: late, doubled, or of no known kind.
    Nothing,
}

/// A jump of more than this many timestamp units is a new beginning, not a gap.
const LONGEST_GAP: u32 = 48_000 * 10;

impl Incoming {
    /// Takes a packet. `units` is how long one packet of audio is, in timestamp units.
    pub(super) fn take<'a>(
        &mut self,
        bytes: &'a [u8],
        audio: u8,
        keys: Option<u8>,
        units: u32,
    ) -> Arrived<'a> {
        let Ok(packet) = RtpPacket::parse(bytes) else { return Arrived::Nothing };
        // Borrowed from `bytes`, not from `packet`.
        let start = packet.payload_offset();
        let payload = bytes.get(start..start + packet.payload_len()).unwrap_or_default();
        let (sequence, timestamp) = (packet.sequence_number(), packet.timestamp());
        let kind = packet.payload_type();
        if kind != audio && Some(kind) != keys {
            return Arrived::Nothing;
        }
        let known = self.stream.as_mut().filter(|s| s.ssrc == packet.ssrc());
        let Some(stream) = known else {
            self.received += 1;
            self.stream = Some(Stream { ssrc: packet.ssrc(), sequence, timestamp });
            return match kind == audio {
                true => Arrived::Begins { payload },
                false => self.key(payload, timestamp),
            };
        };
        let step = sequence.wrapping_sub(stream.sequence);
        if step == 0 || step >= 0x8000 {
            return Arrived::Nothing;
        }
        self.received += 1;
        self.lost += u64::from(step - 1);
        stream.sequence = sequence;
        if kind != audio {
            return self.key(payload, timestamp);
        }
        let ahead = timestamp.wrapping_sub(stream.timestamp);
        stream.timestamp = timestamp;
        if ahead > LONGEST_GAP {
            return Arrived::Begins { payload };
        }
        Arrived::Audio { gap: ahead.saturating_sub(units), payload }
    }

    fn key(&mut self, payload: &[u8], timestamp: u32) -> Arrived<'static> {
        match payload.first() {
            Some(code) if self.last_key != Some(timestamp) => {
                self.last_key = Some(timestamp);
                Arrived::Key(*code)
            }
            _ => Arrived::Nothing,
        }
    }

    /// Packets received, and those missing between them.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.received, self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(outgoing: &mut Outgoing) -> Vec<u8> {
        let packet = outgoing.packet(0, false, &[0xff; 160]);
        outgoing.advance(160);
        packet
    }

    #[test]
    fn what_one_sends_the_other_hears() {
        let (mut out, mut ear) = (Outgoing::new(), Incoming::default());
        let first = from(&mut out);
        assert!(first[1] & 0x80 != 0, "the first packet carries the marker");
        assert!(matches!(ear.take(&first, 0, None, 160), Arrived::Begins { .. }));
        assert!(matches!(ear.take(&first, 0, None, 160), Arrived::Nothing), "doubled");
        let second = from(&mut out);
        assert_eq!(
            ear.take(&second, 0, None, 160),
            Arrived::Audio { gap: 0, payload: &[0xff; 160] }
        );
        from(&mut out);
        let fourth = from(&mut out);
        assert!(matches!(ear.take(&fourth, 0, None, 160), Arrived::Audio { gap: 160, .. }));
        assert_eq!(ear.counts(), (3, 1));
    }

    #[test]
    fn a_key_is_heard_once_and_only_by_its_number() {
        let (mut out, mut ear) = (Outgoing::new(), Incoming::default());
        let at = out.timestamp();
        let packet = out.packet_at(at, 101, true, &[1, 10, 0, 160]);
        assert_eq!(ear.take(&packet, 0, Some(101), 160), Arrived::Key(1));
        let packet = out.packet_at(at, 101, false, &[1, 0x8a, 3, 192]);
        assert_eq!(ear.take(&packet, 0, Some(101), 160), Arrived::Nothing);
        let packet = out.packet_at(at + 1, 96, false, &[2, 10, 0, 160]);
        assert_eq!(ear.take(&packet, 0, Some(101), 160), Arrived::Nothing);
    }

    #[test]
    fn rubbish_is_nothing() {
        let mut ear = Incoming::default();
        for bytes in [&b""[..], b"x", &[0x80; 11], &[0xff; 40]] {
            assert_eq!(ear.take(bytes, 0, Some(101), 160), Arrived::Nothing);
        }
    }
}
