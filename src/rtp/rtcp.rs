//! RTCP (RFC 3550, 6): reading the reports of a peer and writing our own.
//!
//! Reading copies nothing and allocates nothing; a compound packet is checked whole before any of
//! it is believed (A.2).

use super::ReceptionReport;
use crate::time::Timestamp;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;

/// Seconds from the NTP epoch of 1900 to the Unix epoch.
const NTP_OFFSET: u64 = 2_208_988_800;

/// The longest compound packet that [`Compound`] writes, in bytes.
pub const LONGEST: usize = 128;

/// Why bytes are not RTCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no RTCP compound packet")]
pub struct NotRtcp;

/// One packet of a compound packet, as far as it is of use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rtcp<'a> {
    /// A sender report.
    SenderReport {
        /// Who sends.
        ssrc: u32,
        /// When, as an NTP timestamp.
        ntp: u64,
        /// When, as the RTP timestamp of the stream.
        rtp_timestamp: u32,
        /// How the sender receives others.
        reports: Reports<'a>,
    },
    /// A receiver report.
    ReceiverReport {
        /// Who reports.
        ssrc: u32,
        /// How it receives others.
        reports: Reports<'a>,
    },
    /// The sender leaves.
    Goodbye {
        /// The first source that leaves; `None` when none is named.
        ssrc: Option<u32>,
    },
    /// Anything else.
    Other,
}

/// The report blocks of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reports<'a>(&'a [u8]);

/// A compound packet that was found whole.
#[derive(Clone, Copy, Debug)]
pub struct Parsed<'a>(&'a [u8]);

/// Checks a datagram as a compound packet.
///
/// # Errors
///
/// [`NotRtcp`] unless it is made of whole packets of version 2, the first of them a report.
pub fn parse(bytes: &[u8]) -> Result<Parsed<'_>, NotRtcp> {
    match bytes.get(1) {
        Some(&SENDER_REPORT | &RECEIVER_REPORT) => {}
        _ => return Err(NotRtcp),
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        let (packet, after) = split(rest).ok_or(NotRtcp)?;
        read(packet).ok_or(NotRtcp)?;
        rest = after;
    }
    Ok(Parsed(bytes))
}

impl<'a> Parsed<'a> {
    /// Its packets, in order.
    pub fn packets(self) -> impl Iterator<Item = Rtcp<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (packet, after) = split(rest)?;
            rest = after;
            read(packet)
        })
    }
}

impl Reports<'_> {
    /// What is said about one source.
    #[must_use]
    pub fn about(self, ssrc: u32) -> Option<ReceptionReport> {
        self.0.chunks_exact(24).find(|block| word(block, 0) == Some(ssrc)).and_then(|block| {
            let lost = word(block, 4)?;
            Some(ReceptionReport {
                ssrc,
                fraction_lost: (lost >> 24) as u8,
                cumulative_lost: lost & 0xff_ffff,
                extended_highest: word(block, 8)?,
                jitter: word(block, 12)?,
            })
        })
    }
}

/// The first packet, header included, and what follows it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [flags, _, high, low, ..] = *bytes else { return None };
    if flags >> 6 != 2 {
        return None;
    }
    bytes.split_at_checked((usize::from(u16::from_be_bytes([high, low])) + 1) * 4)
}

/// A packet whose length has been checked against its header.
fn read(packet: &[u8]) -> Option<Rtcp<'_>> {
    let [flags, kind, ..] = *packet else { return None };
    let count = usize::from(flags & 0x1f);
    let blocks = |from: usize| packet.get(from..from + count * 24).map(Reports);
    Some(match kind {
        SENDER_REPORT => Rtcp::SenderReport {
            ssrc: word(packet, 4)?,
            ntp: u64::from(word(packet, 8)?) << 32 | u64::from(word(packet, 12)?),
            rtp_timestamp: word(packet, 16)?,
            reports: blocks(28)?,
        },
        RECEIVER_REPORT => Rtcp::ReceiverReport { ssrc: word(packet, 4)?, reports: blocks(8)? },
        GOODBYE => Rtcp::Goodbye { ssrc: if count == 0 { None } else { Some(word(packet, 4)?) } },
        _ => Rtcp::Other,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    word.try_into().ok().map(u32::from_be_bytes)
}

/// The middle 32 bits of an NTP timestamp: what a report block names a sender report by.
#[must_use]
pub fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

/// A wall-clock time as an NTP timestamp (RFC 3550, 4).
#[must_use]
pub fn ntp(at: Timestamp) -> u64 {
    let micros = u64::try_from(at.as_micros()).unwrap_or(0);
    let seconds = micros / 1_000_000 + NTP_OFFSET;
    let fraction = ((micros % 1_000_000) << 32) / 1_000_000;
    seconds << 32 | fraction
}

/// What we sent, for a sender report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// When the report is made, as an NTP timestamp.
    pub ntp: u64,
    /// The same moment as an RTP timestamp of the stream.
    pub rtp_timestamp: u32,
    /// Packets sent since the beginning.
    pub packets: u32,
    /// Payload bytes sent since the beginning.
    pub octets: u32,
}

/// What we received, for a report block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The reception so far.
    pub report: ReceptionReport,
    /// The [`middle`] of the peer's last sender report; 0 when there was none.
    pub last_sender_report: u32,
    /// How long ago it came, in 1/65536 s.
    pub delay: u32,
}

/// A compound packet of ours: report, CNAME, and a goodbye at the end.
#[derive(Clone, Copy, Debug)]
pub struct Compound<'a> {
    /// Our SSRC.
    pub ssrc: u32,
    /// Our canonical name, of which 48 bytes are sent: random for each call (RFC 7022).
    pub cname: &'a str,
    /// Present when we have sent lately: makes it a sender report.
    pub sent: Option<Sent>,
    /// Present when we receive a source.
    pub received: Option<Received>,
    /// Whether we leave.
    pub goodbye: Leaving,
}

/// Whether a compound packet says goodbye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Leaving {
    No,
    Yes,
}

impl Compound<'_> {
    /// Writes the packet and returns its length.
    pub fn write(&self, buffer: &mut [u8; LONGEST]) -> usize {
        let mut out = Cursor { buffer, at: 0 };
        let count = u8::from(self.received.is_some());
        let kind = if self.sent.is_some() { SENDER_REPORT } else { RECEIVER_REPORT };
        out.packet(kind, count, |out| {
            out.word(self.ssrc);
            if let Some(sent) = self.sent {
                out.word((sent.ntp >> 32) as u32);
                out.word(sent.ntp as u32);
                out.word(sent.rtp_timestamp);
                out.word(sent.packets);
                out.word(sent.octets);
            }
            if let Some(received) = self.received {
                let report = received.report;
                out.word(report.ssrc);
                let lost = report.cumulative_lost & 0xff_ffff;
                out.word(u32::from(report.fraction_lost) << 24 | lost);
                out.word(report.extended_highest);
                out.word(report.jitter);
                out.word(received.last_sender_report);
                out.word(received.delay);
            }
        });
        out.packet(SOURCE_DESCRIPTION, 1, |out| {
            const CNAME: u8 = 1;
            let name = self.cname.as_bytes();
            let name = name.get(..LONGEST_CNAME).unwrap_or(name);
            out.word(self.ssrc);
            out.bytes(&[CNAME, name.len() as u8]);
            out.bytes(name);
            // The item list ends with at least one null byte, at a word's boundary (6.5).
            out.bytes(&[0]);
            while out.at % 4 != 0 {
                out.bytes(&[0]);
            }
        });
        if self.goodbye == Leaving::Yes {
            out.packet(GOODBYE, 1, |out| out.word(self.ssrc));
        }
        out.at
    }
}

/// What of a CNAME is sent: with the largest report (52 bytes), its own frame (at most 14) and a
/// goodbye (8) it fits into [`LONGEST`].
const LONGEST_CNAME: usize = 48;

struct Cursor<'a> {
    buffer: &'a mut [u8; LONGEST],
    at: usize,
}

impl Cursor<'_> {
    /// Writes beyond the end are dropped; the constants above see to it that there are none.
    fn bytes(&mut self, bytes: &[u8]) {
        if let Some(space) = self.buffer.get_mut(self.at..self.at + bytes.len()) {
            space.copy_from_slice(bytes);
            self.at += bytes.len();
        }
    }

    fn word(&mut self, word: u32) {
        self.bytes(&word.to_be_bytes());
    }

    fn packet(&mut self, kind: u8, count: u8, body: impl FnOnce(&mut Self)) {
        let start = self.at;
        self.bytes(&[0x80 | count, kind, 0, 0]);
        body(self);
        let words = ((self.at - start) / 4 - 1) as u16;
        if let Some(length) = self.buffer.get_mut(start + 2..start + 4) {
            length.copy_from_slice(&words.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn report() -> ReceptionReport {
        ReceptionReport {
            ssrc: 0xfeed_0001,
            fraction_lost: 64,
            cumulative_lost: 1234,
            extended_highest: 0x2_0001,
            jitter: 17,
        }
    }

    fn full() -> Compound<'static> {
        Compound {
            ssrc: 0xaabb_ccdd,
            cname: "0123456789abcdef",
            sent: Some(Sent { ntp: 1 << 40 | 5, rtp_timestamp: 160, packets: 2, octets: 320 }),
            received: Some(Received { report: report(), last_sender_report: 9, delay: 65_536 }),
            goodbye: Leaving::Yes,
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut buffer = [0; LONGEST];
        let length = full().write(&mut buffer);
        let packets: Vec<_> = parse(&buffer[..length]).unwrap().packets().collect();
        let Rtcp::SenderReport { ssrc, ntp, rtp_timestamp, reports } = packets[0] else {
            panic!("{packets:?}");
        };
        assert_eq!((ssrc, ntp, rtp_timestamp), (0xaabb_ccdd, 1 << 40 | 5, 160));
        assert_eq!(reports.about(0xfeed_0001), Some(report()));
        assert_eq!(reports.about(1), None);
        assert_eq!(packets[1..], [Rtcp::Other, Rtcp::Goodbye { ssrc: Some(0xaabb_ccdd) }]);
    }

    #[test]
    fn without_sending_it_is_a_receiver_report() {
        let mut buffer = [0; LONGEST];
        let ours = Compound { sent: None, goodbye: Leaving::No, ..full() };
        let length = ours.write(&mut buffer);
        let packets: Vec<_> = parse(&buffer[..length]).unwrap().packets().collect();
        assert!(matches!(
            packets[..],
            [Rtcp::ReceiverReport { ssrc: 0xaabb_ccdd, .. }, Rtcp::Other]
        ));
        let bare = Compound { received: None, ..ours };
        let length = bare.write(&mut buffer);
        assert!(parse(&buffer[..length]).is_ok());
    }

    #[test]
    fn the_longest_packet_fits() {
        let mut buffer = [0; LONGEST];
        let name = "x".repeat(200);
        for cut in 0..name.len() {
            let length = Compound { cname: &name[..cut], ..full() }.write(&mut buffer);
            let packets = parse(&buffer[..length]).unwrap().packets().count();
            assert_eq!((packets, length % 4), (3, 0), "{cut}");
        }
    }

    #[test]
    fn what_is_cut_or_no_report_first_is_refused() {
        let mut buffer = [0; LONGEST];
        let length = full().write(&mut buffer);
        for cut in 0..length {
            let whole = cut == 52 || cut == 52 + 28;
            assert_eq!(parse(&buffer[..cut]).is_ok(), whole, "{cut}");
        }
        assert!(parse(&buffer[52..length]).is_err());
        buffer[0] = 0x1f | 0x80;
        assert!(parse(&buffer[..length]).is_err(), "more blocks than bytes");
    }

    #[test]
    fn the_ntp_epoch_is_1900() {
        assert_eq!(ntp(Timestamp::EPOCH) >> 32, NTP_OFFSET);
        let half = ntp(Timestamp::from_micros(500_000));
        assert_eq!(half as u32, 1 << 31);
        assert_eq!(middle(0x1234_5678_9abc_def0), 0x5678_9abc);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            kind in 199u8..205,
        ) {
            let mut bytes = bytes;
            if let [flags, second, high, ..] = &mut bytes[..] {
                (*flags, *second, *high) = (0x80 | *flags & 0x3f, kind, 0);
            }
            if let Ok(parsed) = parse(&bytes) {
                for packet in parsed.packets() {
                    if let Rtcp::ReceiverReport { reports, .. } = packet {
                        let _ = reports.about(0);
                    }
                }
            }
        }
    }
}
