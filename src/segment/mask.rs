//! No keys in a recording: packets of G.711 that hold the tone of one are written with silence in
//! place of it.
//!
//! A tone shows itself by a packet that it fills for 10 ms. The packet before may hold its first
//! few milliseconds, and the one after its last: both are masked with it. The one before is written
//! already, but as a rule in the chunk in the making, where it can still be changed. What of it is
//! in a finished chunk stays: behind one key in a hundred, the first few milliseconds of its tone,
//! less than the 8 that would have shown it by themselves.

use std::ops::Range;

use super::format::SegmentEncoder;
use super::sink::SegmentSink;
use super::stream::{Appended, StreamWriter};
use crate::codec::{Law, dtmf};
use crate::rtp::RtpPacket;
use crate::time::Timestamp;

/// What is written of the tones of keys.
#[derive(Debug)]
pub(super) enum Keys {
    /// Nothing.
    Masked(Mask),
    /// What was received.
    Kept,
}

/// What one packet has to know of the one before.
#[derive(Debug, Default)]
pub(super) struct Mask {
    last: Last,
}

/// The packet before.
#[derive(Debug, Default)]
enum Last {
    /// Not written, or not of G.711.
    #[default]
    Unknown,
    /// Written as received. Its payload, and how many bytes are behind that.
    Plain { length: usize, behind: usize },
    /// Masked because it held a tone.
    Tone,
    /// Masked beside one that did.
    Beside,
}

impl Keys {
    /// Writes a packet, or what may be kept of it.
    pub(super) fn append<S: SegmentSink>(
        &mut self,
        stream: &mut StreamWriter<S>,
        packet: &RtpPacket<'_>,
        arrival: Timestamp,
    ) -> Appended {
        let (bytes, payload_type) = (packet.bytes(), packet.payload_type());
        let (Keys::Masked(mask), Some(law)) = (&mut *self, stream.law(payload_type)) else {
            self.forget();
            return stream.append(bytes, payload_type, arrival);
        };
        let range = packet.payload_range();
        let found = dtmf::is_key_tone(law, packet.payload());
        let hide = found || matches!(mask.last, Last::Tone);
        if found && let Last::Plain { length, behind } = mask.last {
            stream.silence_last(length, behind, law.silence());
        }
        let appended = if hide {
            masked(stream, bytes, range.clone(), law, payload_type, arrival)
        } else {
            stream.append(bytes, payload_type, arrival)
        };
        mask.last = match appended {
            Appended::Written => {
                Last::Plain { length: range.len(), behind: bytes.len().saturating_sub(range.end) }
            }
            Appended::Masked if found => Last::Tone,
            Appended::Masked => Last::Beside,
            // A tone that was not written for another reason may go on in the next packet.
            _ if found => Last::Tone,
            _ => Last::Unknown,
        };
        appended
    }

    /// What comes next has nothing to do with what came before.
    pub(super) fn forget(&mut self) {
        if let Keys::Masked(mask) = self {
            mask.last = Last::Unknown;
        }
    }
}

impl Default for Keys {
    fn default() -> Self {
        Keys::Masked(Mask::default())
    }
}

/// Writes a packet with silence for its payload.
fn masked<S: SegmentSink>(
    stream: &mut StreamWriter<S>,
    bytes: &[u8],
    payload: Range<usize>,
    law: Law,
    payload_type: u8,
    arrival: Timestamp,
) -> Appended {
    let mut copy = [0; SegmentEncoder::LONGEST];
    let Some(copy) = copy.get_mut(..bytes.len()) else {
        // Too long to be written: let that be counted as it always is.
        return stream.append(bytes, payload_type, arrival);
    };
    copy.copy_from_slice(bytes);
    copy.get_mut(payload).unwrap_or_default().fill(law.silence());
    match stream.append(copy, payload_type, arrival) {
        Appended::Written => {
            stream.count_masked();
            Appended::Masked
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::testing::{Memory, at, read_all, writer};

    const HEADER: usize = 12;
    const SIZE: usize = 160;

    /// Speech that a tone stands out from: a few hertz and some noise.
    fn babble(n: usize) -> f64 {
        let t = n as f64 / 8000.0;
        let noise = ((n * 7919 + n * n * 31) % 401) as f64 - 200.0;
        (t * 1100.0).sin() * 1500.0 + (t * 2900.0).sin() * 700.0 + noise
    }

    fn tone(key: usize, n: usize) -> f64 {
        let (rows, columns) = ([697.0, 770.0, 852.0, 941.0], [1209.0, 1336.0, 1477.0, 1633.0]);
        let t = n as f64 / 8000.0 * std::f64::consts::TAU;
        ((t * rows[key / 4]).sin() + (t * columns[key % 4]).sin()) * 6000.0
    }

    /// Packets of 20 ms of `samples`; `extension` makes their header longer, and `padding` their
    /// end.
    fn packets(
        law: Law,
        samples: usize,
        of: impl Fn(usize) -> f64,
        shape: (bool, u8),
    ) -> Vec<Vec<u8>> {
        let (extension, padding) = shape;
        (0..samples / SIZE)
            .map(|packet| {
                let first = 0x80 | u8::from(extension) << 4 | u8::from(padding > 0) << 5;
                let payload_type = if law == Law::Mu { 0 } else { 8 };
                let mut bytes = vec![first, payload_type];
                bytes.extend((packet as u16).to_be_bytes());
                bytes.extend(((packet * SIZE) as u32).to_be_bytes());
                bytes.extend(7u32.to_be_bytes());
                if extension {
                    bytes.extend([0xbe, 0xde, 0, 1, 1, 2, 3, 4]);
                }
                let range = packet * SIZE..(packet + 1) * SIZE;
                bytes.extend(range.map(|n| law.encode(of(n) as i16)));
                bytes.extend((0..padding).map(|n| if n + 1 == padding { padding } else { 0 }));
                bytes
            })
            .collect()
    }

    /// Writes packets, and gives what is in the segment then and how many its tail calls masked.
    fn recorded(keys: &mut Keys, packets: &[Vec<u8>]) -> (Vec<Vec<u8>>, u64) {
        let memory = Memory::default();
        let mut stream = writer(memory.clone());
        for (n, bytes) in (0..).zip(packets) {
            let packet = RtpPacket::parse(bytes).unwrap();
            let appended = keys.append(&mut stream, &packet, at(20 * n));
            assert!(matches!(appended, Appended::Written | Appended::Masked));
        }
        assert_eq!(stream.finish(at(100_000)).packets, packets.len() as u64);
        let segment = memory.segment(0);
        let (records, ended) = read_all(&*segment.bytes, segment.head.name);
        ended.unwrap();
        (records.into_iter().map(|(_, rtp)| rtp).collect(), segment.tail.unwrap().masked)
    }

    fn payload(bytes: &[u8]) -> Vec<u8> {
        RtpPacket::parse(bytes).unwrap().payload().to_vec()
    }

    #[test]
    fn no_key_of_forty_milliseconds_or_more_can_be_told_from_a_recording() {
        let (mut tones, mut with_rest, mut longest) = (0, 0, 0);
        for law in [Law::Mu, Law::A] {
            for start in (SIZE..SIZE * 12).step_by(29) {
                let (key, length) = (start % 16, 320 + (start * 37) % 700);
                let of = |n: usize| match (start..start + length).contains(&n) {
                    true => tone(key, n),
                    false => babble(n),
                };
                let sent = packets(law, SIZE * 30, of, (false, 0));
                let (kept, masked) = recorded(&mut Keys::default(), &sent);
                let silent = kept.iter().zip(&sent).filter(|(kept, sent)| kept != sent).count();
                assert_eq!(masked, silent as u64);
                assert!(silent <= length.div_ceil(SIZE) + 3, "{silent} for {length} samples");
                let audio: Vec<u8> = kept.iter().flat_map(|bytes| payload(bytes)).collect();
                // At any place, not where packets happen to begin.
                let heard = (0..audio.len() - 80)
                    .step_by(4)
                    .any(|at| crate::codec::dtmf::is_key_tone(law, &audio[at..at + 80]));
                assert!(!heard, "{law:?}: key {key} from {start} for {length}");
                let rest = (start..start + length).filter(|n| audio[*n] != law.silence()).count();
                tones += 1;
                with_rest += usize::from(rest > 0);
                longest = longest.max(rest);
            }
        }
        assert!(with_rest * 20 <= tones, "{with_rest} of {tones}");
        assert!(longest < 64, "{longest} samples");
    }

    #[test]
    fn a_masked_packet_keeps_its_header_its_extension_and_its_padding() {
        let of =
            |n: usize| if (SIZE * 2 + 100..SIZE * 6).contains(&n) { tone(3, n) } else { babble(n) };
        for shape in [(false, 0), (true, 0), (true, 4), (false, 9)] {
            let sent = packets(Law::A, SIZE * 8, of, shape);
            let (kept, masked) = recorded(&mut Keys::default(), &sent);
            // One before, the one that it begins in, three that it fills, and one after.
            assert_eq!(masked, 6);
            for (n, (kept, sent)) in kept.iter().zip(&sent).enumerate() {
                let packet = RtpPacket::parse(sent).unwrap();
                let mut expected = sent.clone();
                if (1..=6).contains(&n) {
                    expected[packet.payload_range()].fill(0xd5);
                }
                assert_eq!(*kept, expected, "packet {n} of {shape:?}");
            }
        }
    }

    #[test]
    fn keys_are_kept_where_that_is_wanted() {
        let sent = packets(Law::Mu, SIZE * 10, |n| tone(7, n), (false, 0));
        let (kept, masked) = recorded(&mut Keys::Kept, &sent);
        assert_eq!((kept, masked), (sent, 0));
    }

    #[test]
    fn other_codecs_are_written_as_they_come() {
        let mut sent = packets(Law::Mu, SIZE * 4, |n| tone(7, n), (false, 0));
        sent.iter_mut().for_each(|bytes| bytes[1] = 101);
        let (kept, masked) = recorded(&mut Keys::default(), &sent);
        assert_eq!((kept, masked), (sent, 0));
    }

    #[test]
    fn what_reaches_into_a_finished_chunk_is_masked_from_there_on() {
        let of = |n: usize| if n >= SIZE * 12 - 40 { tone(0, n) } else { babble(n) };
        let mut split = 0;
        for padding in (0..=250).step_by(2) {
            let mut sent = packets(Law::Mu, SIZE * 15, of, (false, 0));
            // An earlier packet of another length moves where chunks end.
            sent[0].truncate(SIZE + HEADER - padding / 2);
            let (kept, _) = recorded(&mut Keys::default(), &sent);
            let (kept, sent) = (payload(&kept[11]), payload(&sent[11]));
            let masked = kept.iter().rev().take_while(|byte| **byte == 0xff).count();
            assert_eq!(kept[..SIZE - masked], sent[..SIZE - masked]);
            split += usize::from((1..SIZE).contains(&masked));
        }
        assert!(split > 0, "some packet lies across two chunks");
    }
}
