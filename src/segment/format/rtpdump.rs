//! rtpdump, the binary format of rtptools, which Wireshark opens.
//!
//! ```text
//! #!rtpplay1.0 <address>/<port>\n
//! start seconds, u32 │ start microseconds, u32 │ IPv4 address or 0, u32 │ port, u16 │ 0, u16
//! then, for each packet:
//! length with these 8 bytes, u16 │ length of the packet, u16 │ milliseconds since start, u32 │ packet
//! ```
//!
//! All numbers are big-endian.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::time::Timestamp;

/// The size of the binary header after the text line, in bytes.
pub const FILE_HEADER: usize = 16;
/// The size of the header before each packet, in bytes.
pub const RECORD_HEADER: usize = 8;

const MAGIC: &[u8] = b"#!rtpplay1.0 ";
/// Longer than any address and port.
const MAX_LINE: usize = 96;
const MICROS: i64 = 1_000_000;

/// What a file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// When the segment begins; record offsets count from here. Whole microseconds, from 1970 to
    /// 2106.
    pub start: Timestamp,
    /// Where the packets came from.
    pub source: SocketAddr,
}

impl Preamble {
    /// The text line and the binary header.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let (ip, port) = (self.source.ip(), self.source.port());
        bytes.extend_from_slice(format!("{ip}/{port}\n").as_bytes());
        let micros = self.start.as_micros().max(0);
        let seconds = u32::try_from(micros / MICROS).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&seconds.to_be_bytes());
        // A remainder of 10⁶ fits.
        bytes.extend_from_slice(&((micros % MICROS) as u32).to_be_bytes());
        let address = match ip {
            IpAddr::V4(v4) => v4.octets(),
            IpAddr::V6(_) => [0; 4],
        };
        bytes.extend_from_slice(&address);
        bytes.extend_from_slice(&port.to_be_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes
    }

    fn parse(line: &[u8], header: &[u8; FILE_HEADER]) -> Option<Self> {
        let line = std::str::from_utf8(line.strip_prefix(MAGIC)?).ok()?;
        let (ip, port) = line.split_once('/')?;
        let source = SocketAddr::new(ip.parse().ok()?, port.parse().ok()?);
        let seconds = u32::from_be_bytes(*header.first_chunk()?);
        let micros = u32::from_be_bytes(*header.get(4..)?.first_chunk()?);
        let start = Timestamp::from_micros(i64::from(seconds) * MICROS + i64::from(micros));
        Some(Self { start, source })
    }
}

/// The header of a packet's record; `None` when the packet is too long for the format.
#[must_use]
pub fn record_header(packet: usize, offset: Duration) -> Option<[u8; RECORD_HEADER]> {
    let length = u16::try_from(packet.checked_add(RECORD_HEADER)?).ok()?;
    let plen = length - RECORD_HEADER as u16;
    let millis = u32::try_from(offset.as_millis()).unwrap_or(u32::MAX);
    let ([a, b], [c, d], [e, f, g, h]) =
        (length.to_be_bytes(), plen.to_be_bytes(), millis.to_be_bytes());
    Some([a, b, c, d, e, f, g, h])
}

/// One packet as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it arrived, since the segment's start; whole milliseconds.
    pub offset: Duration,
    /// The RTP packet.
    pub rtp: &'a [u8],
}

/// Text that is not rtpdump, at this byte of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not rtpdump at byte {at} of the text")]
pub struct Malformed {
    /// Where the line, header or record begins that is wrong, in bytes of the plaintext.
    pub at: u64,
}

/// Takes rtpdump apart as it comes, in pieces of any size. Holds no more than one record and the
/// last piece.
#[derive(Default)]
pub struct RecordParser {
    text: Vec<u8>,
    /// How much of `text` is done with.
    done: usize,
    /// How much was done with and thrown away before `text`.
    before: u64,
}

impl RecordParser {
    /// At the start of a file.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next piece.
    pub fn feed(&mut self, piece: &[u8]) {
        self.text.drain(..self.done);
        self.before += self.done as u64;
        self.done = 0;
        self.text.extend_from_slice(piece);
    }

    /// Where the line, header or record begins that comes next, in bytes of the plaintext.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.before + self.done as u64
    }

    /// Bytes of something unfinished.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.text.len() - self.done
    }

    /// What the file begins with; `None` when more is needed. Comes first, once.
    ///
    /// # Errors
    ///
    /// [`Malformed`].
    pub fn preamble(&mut self) -> Result<Option<Preamble>, Malformed> {
        let wrong = Malformed { at: self.at() };
        let text = self.rest();
        let Some(line) = text.iter().position(|&byte| byte == b'\n') else {
            return if text.len() > MAX_LINE { Err(wrong) } else { Ok(None) };
        };
        // The same verdict however the text comes in pieces.
        if line > MAX_LINE {
            return Err(wrong);
        }
        let (line, rest) = (text.get(..line).unwrap_or_default(), text.get(line + 1..));
        let Some(header) = rest.and_then(|rest| rest.first_chunk()) else { return Ok(None) };
        let preamble = Preamble::parse(line, header).ok_or(wrong)?;
        self.done += line.len() + 1 + FILE_HEADER;
        Ok(Some(preamble))
    }

    /// The length of the packet that comes next; `None` when more is needed.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when its header is none of a record that a segment writer writes.
    pub fn next_length(&self) -> Result<Option<usize>, Malformed> {
        let Some(&[a, b, c, d, ..]) = self.rest().first_chunk::<RECORD_HEADER>() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([a, b]));
        let plen = usize::from(u16::from_be_bytes([c, d]));
        if plen == 0 || length != plen + RECORD_HEADER {
            return Err(Malformed { at: self.at() });
        }
        Ok((self.unfinished() >= length).then_some(plen))
    }

    /// The next record; `None` when more is needed.
    ///
    /// # Errors
    ///
    /// [`Malformed`], as [`next_length`](Self::next_length).
    pub fn record(&mut self) -> Result<Option<Record<'_>>, Malformed> {
        let Some(plen) = self.next_length()? else { return Ok(None) };
        let from = self.done + RECORD_HEADER;
        self.done = from + plen;
        let [_, _, _, _, e, f, g, h] = self
            .text
            .get(from - RECORD_HEADER..)
            .and_then(|header| header.first_chunk::<RECORD_HEADER>())
            .copied()
            .unwrap_or_default();
        let offset = Duration::from_millis(u64::from(u32::from_be_bytes([e, f, g, h])));
        let rtp = self.text.get(from..self.done).unwrap_or_default();
        Ok(Some(Record { offset, rtp }))
    }

    fn rest(&self) -> &[u8] {
        self.text.get(self.done..).unwrap_or_default()
    }
}

impl Drop for RecordParser {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preamble(source: &str) -> Preamble {
        let start = "2026-11-21T10:00:00.250000Z".parse().unwrap();
        Preamble { start, source: source.parse().unwrap() }
    }

    #[test]
    fn the_preamble_is_that_of_rtptools() {
        let bytes = preamble("192.0.2.7:4000").encode();
        assert_eq!(&bytes[..28], b"#!rtpplay1.0 192.0.2.7/4000\n");
        assert_eq!(bytes.len(), 28 + FILE_HEADER);
        let seconds = preamble("192.0.2.7:4000").start.as_micros() / MICROS;
        assert_eq!(bytes[28..32], (seconds as u32).to_be_bytes());
        assert_eq!(bytes[32..36], 250_000u32.to_be_bytes());
        assert_eq!(bytes[36..], [192, 0, 2, 7, 0x0f, 0xa0, 0, 0]);
    }

    #[test]
    fn preamble_and_records_round_trip_byte_by_byte() {
        for source in ["192.0.2.7:4000", "[2001:db8::1]:65535"] {
            let mut text = preamble(source).encode();
            text.extend(record_header(3, Duration::from_micros(1999)).unwrap());
            text.extend([7, 8, 9]);
            let mut parser = RecordParser::new();
            let (last, before) = text.split_last().unwrap();
            let mut found = None;
            for byte in before {
                parser.feed(&[*byte]);
                if found.is_none() {
                    found = parser.preamble().unwrap();
                } else {
                    assert_eq!(parser.record(), Ok(None));
                }
            }
            parser.feed(&[*last]);
            assert_eq!(found, Some(preamble(source)));
            let record = Record { offset: Duration::from_millis(1), rtp: &[7, 8, 9] };
            assert_eq!(parser.record(), Ok(Some(record)));
            assert_eq!(parser.unfinished(), 0);
        }
    }

    #[test]
    fn what_is_not_rtpdump_is_named_by_its_place() {
        let mut parser = RecordParser::new();
        parser.feed(&[b'x'; 200]);
        assert_eq!(parser.preamble(), Err(Malformed { at: 0 }));

        for header in [[0, 8, 0, 0, 0, 0, 0, 0], [0, 9, 0, 9, 0, 0, 0, 0], [0; 8]] {
            let mut parser = RecordParser::new();
            let text = preamble("192.0.2.7:4000").encode();
            parser.feed(&text);
            parser.feed(&header);
            assert!(parser.preamble().unwrap().is_some());
            assert_eq!(parser.record(), Err(Malformed { at: text.len() as u64 }), "{header:?}");
        }
    }

    #[test]
    fn a_packet_too_long_for_the_format_has_no_header() {
        assert!(record_header(65527, Duration::ZERO).is_some());
        assert!(record_header(65528, Duration::ZERO).is_none());
        assert!(record_header(usize::MAX, Duration::ZERO).is_none());
    }
}
