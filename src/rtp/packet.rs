//! A borrowed view of one RTP packet (RFC 3550, 5.1). There is no owned form.

use std::fmt;

/// One RTP packet, valid for as long as the buffer it was received into.
///
/// Neither `Clone` nor `Copy`, and everything it lends is tied to the view itself: whoever wants
/// to keep a payload must copy it byte by byte, and only a segment writer has a reason to.
pub struct RtpPacket<'a> {
    bytes: &'a [u8],
    payload_start: usize,
    payload_end: usize,
}

/// The length of the fixed header in bytes.
pub const FIXED_HEADER: usize = 12;

/// Why bytes are not an RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRtp {
    /// Shorter than its header, its extension or its padding says.
    #[error("{length} bytes are too few for this RTP packet")]
    Truncated {
        /// How many there are.
        length: usize,
    },
    /// Not version 2.
    #[error("RTP version {0} is not 2")]
    Version(u8),
    /// The padding's length byte is zero.
    #[error("padding of no length")]
    Padding,
}

impl<'a> RtpPacket<'a> {
    /// Looks at a datagram as RTP; copies nothing.
    ///
    /// # Errors
    ///
    /// [`NotRtp`] when the bytes are not one whole RTP packet of version 2.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NotRtp> {
        use rtp_types::RtpParseError;
        let view = rtp_types::RtpPacket::parse(bytes).map_err(|error| match error {
            RtpParseError::UnsupportedVersion(version) => NotRtp::Version(version),
            RtpParseError::Truncated { .. } => NotRtp::Truncated { length: bytes.len() },
            RtpParseError::PaddingInvalid(_) => NotRtp::Padding,
        })?;
        let payload_start = view.payload_offset();
        let payload_end = payload_start + view.payload_len();
        Ok(Self { bytes, payload_start, payload_end })
    }

    /// The payload type, 0 to 127.
    #[must_use]
    pub fn payload_type(&self) -> u8 {
        self.byte(1) & 0x7f
    }

    /// The marker bit: for audio, the first packet after a silence (RFC 3551, 4.1).
    #[must_use]
    pub fn marker(&self) -> bool {
        self.byte(1) & 0x80 != 0
    }

    /// The sequence number.
    #[must_use]
    pub fn sequence(&self) -> u16 {
        u16::from_be_bytes([self.byte(2), self.byte(3)])
    }

    /// The timestamp, in units of the codec's clock rate.
    #[must_use]
    pub fn timestamp(&self) -> u32 {
        u32::from_be_bytes([self.byte(4), self.byte(5), self.byte(6), self.byte(7)])
    }

    /// The synchronisation source.
    #[must_use]
    pub fn ssrc(&self) -> u32 {
        u32::from_be_bytes([self.byte(8), self.byte(9), self.byte(10), self.byte(11)])
    }

    /// What the packet carries, without header, extension and padding.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(self.payload_start..self.payload_end).unwrap_or_default()
    }

    /// Where the payload lies in [`bytes`](Self::bytes).
    #[must_use]
    pub fn payload_range(&self) -> std::ops::Range<usize> {
        self.payload_start..self.payload_end
    }

    /// The packet as received, header included.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }

    fn byte(&self, at: usize) -> u8 {
        // `parse` has seen at least the fixed header's 12 bytes.
        self.bytes.get(at).copied().unwrap_or_default()
    }
}

impl fmt::Debug for RtpPacket<'_> {
    /// The header alone: a payload is somebody's voice.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RtpPacket")
            .field("payload_type", &self.payload_type())
            .field("sequence", &self.sequence())
            .field("timestamp", &self.timestamp())
            .field("payload_len", &self.payload().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_fixed_header() {
        let bytes =
            [0x80, 0xe0, 0x12, 0x34, 0x01, 0x02, 0x03, 0x04, 0xaa, 0xbb, 0xcc, 0xdd, 9, 8, 7];
        let packet = RtpPacket::parse(&bytes).unwrap();
        assert_eq!(packet.payload_type(), 96);
        assert!(packet.marker());
        assert_eq!(packet.sequence(), 0x1234);
        assert_eq!(packet.timestamp(), 0x0102_0304);
        assert_eq!(packet.ssrc(), 0xaabb_ccdd);
        assert_eq!(packet.payload(), [9, 8, 7]);
        assert_eq!(packet.bytes(), bytes);
    }

    #[test]
    fn skips_sources_extension_and_padding() {
        let mut bytes = vec![0xb1, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        bytes.extend([0, 0, 0, 4]);
        bytes.extend([0xbe, 0xde, 0, 1, 1, 2, 3, 4]);
        bytes.extend([0x55, 0x66, 0, 2]);
        assert_eq!(RtpPacket::parse(&bytes).unwrap().payload(), [0x55, 0x66]);
    }

    #[test]
    fn refuses_what_is_no_packet() {
        assert_eq!(RtpPacket::parse(&[]).unwrap_err(), NotRtp::Truncated { length: 0 });
        assert_eq!(RtpPacket::parse(&[0; 12]).unwrap_err(), NotRtp::Version(0));
        let mut padded = [0u8; 13];
        padded[0] = 0xa0;
        assert_eq!(RtpPacket::parse(&padded).unwrap_err(), NotRtp::Padding);
    }

    #[test]
    fn a_payload_never_prints() {
        let bytes = [0x80, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0xc3, 0xc3];
        let shown = format!("{:?}", RtpPacket::parse(&bytes).unwrap());
        assert!(!shown.contains("195") && !shown.contains("c3"), "{shown}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(packet) = RtpPacket::parse(&bytes) {
                prop_assert!(packet.payload().len() + FIXED_HEADER <= bytes.len());
                prop_assert_eq!(&bytes[packet.payload_range()], packet.payload());
                let _ = (packet.sequence(), packet.timestamp(), packet.ssrc(), packet.marker());
            }
        }
    }
}
