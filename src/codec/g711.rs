//! G.711 sample by sample, by table: for whoever looks into single packets, or mixes into them.

/// Which of the two laws of G.711.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// µ-law, PCMU.
    Mu,
    /// A-law, PCMA.
    A,
}

static MU_DECODED: [i16; 256] = decoded(Law::Mu);
static A_DECODED: [i16; 256] = decoded(Law::A);

impl Law {
    /// The byte that stands for no sound.
    #[must_use]
    pub fn silence(self) -> u8 {
        match self {
            Law::Mu => 0xff,
            Law::A => 0xd5,
        }
    }

    /// The sample, 16-bit linear, that a byte stands for.
    #[must_use]
    pub fn decode(self, byte: u8) -> i16 {
        let table = match self {
            Law::Mu => &MU_DECODED,
            Law::A => &A_DECODED,
        };
        // A byte is always within 256 places.
        table.get(usize::from(byte)).copied().unwrap_or_default()
    }

    /// The byte that comes nearest to a sample.
    #[must_use]
    pub fn encode(self, sample: i16) -> u8 {
        match self {
            Law::Mu => mu_encoded(sample),
            Law::A => a_encoded(sample),
        }
    }

    /// Adds samples to as many of a payload's as there are. What is too loud is clipped.
    pub fn mix(self, payload: &[u8], added: &[i16], out: &mut [u8]) {
        let added = added.iter().copied().chain(std::iter::repeat(0));
        for ((to, byte), add) in out.iter_mut().zip(payload).zip(added) {
            *to = match add {
                0 => *byte,
                _ => self.encode(self.decode(*byte).saturating_add(add)),
            };
        }
    }
}

const fn decoded(law: Law) -> [i16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match law {
            Law::Mu => mu_decoded(byte as u8),
            Law::A => a_decoded(byte as u8),
        };
        byte += 1;
    }
    table
}

/// 14 bits, in the upper bits of 16 (G.711, table 2).
const fn mu_decoded(byte: u8) -> i16 {
    let code = !byte;
    let magnitude = ((((code & 0x0f) as i32) << 3) + 0x84) << ((code & 0x70) >> 4);
    let magnitude = (magnitude - 0x84) as i16;
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

/// 13 bits, in the upper bits of 16 (G.711, table 1).
const fn a_decoded(byte: u8) -> i16 {
    let code = byte ^ 0x55;
    let (segment, step) = ((code & 0x70) >> 4, ((code & 0x0f) as i16) << 4);
    let magnitude = match segment {
        0 => step + 8,
        _ => (step + 0x108) << (segment - 1),
    };
    if code & 0x80 == 0 { -magnitude } else { magnitude }
}

fn mu_encoded(sample: i16) -> u8 {
    let magnitude = i32::from(sample).abs().min(32_635) + 0x84;
    // 0x84 at least, 0x7fff at most: the highest bit is 7 to 14.
    let segment = magnitude.ilog2().saturating_sub(7);
    let sign = if sample < 0 { 0x80 } else { 0 };
    let code = segment << 4 | (magnitude >> (segment + 3)) as u32 & 0x0f;
    !(sign | code as u8)
}

fn a_encoded(sample: i16) -> u8 {
    // Below zero the first step is at -1, not at 0.
    let (sign, magnitude) =
        if sample < 0 { (0, -(i32::from(sample) + 1)) } else { (0x80, i32::from(sample)) };
    let magnitude = magnitude >> 4;
    let code = if magnitude < 32 {
        magnitude
    } else {
        // 11 bits at most: segment 2 to 7.
        let segment = magnitude.ilog2() as i32 - 3;
        segment << 4 | (magnitude >> (segment - 1)) & 0x0f
    };
    (sign | code as u8) ^ 0x55
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Decoder, Encoder};
    use crate::rtp::Codec;

    const BOTH: [(Law, Codec); 2] = [(Law::Mu, Codec::Pcmu), (Law::A, Codec::Pcma)];

    #[test]
    fn every_byte_is_what_the_codec_decodes_and_comes_back() {
        for (law, codec) in BOTH {
            let bytes: Vec<u8> = (0..=255).collect();
            let mut decoded = Vec::new();
            Decoder::new(codec).unwrap().decode(&bytes, &mut decoded).unwrap();
            for (byte, sample) in bytes.into_iter().zip(decoded) {
                assert_eq!(law.decode(byte), sample, "{law:?} {byte:#x}");
                // µ-law has two zeros.
                if (law, byte) != (Law::Mu, 0x7f) {
                    assert_eq!(law.encode(sample), byte, "{law:?} {sample}");
                }
            }
        }
    }

    #[test]
    fn every_sample_comes_back_as_near_as_from_the_codec() {
        for (law, codec) in BOTH {
            let mut encoder = Encoder::new(codec).unwrap();
            let samples: Vec<i16> = (i16::MIN..=i16::MAX).collect();
            for frame in samples.chunks(160).filter(|frame| frame.len() == 160) {
                let mut theirs = Vec::new();
                encoder.encode(frame, &mut theirs).unwrap();
                for (sample, theirs) in frame.iter().zip(theirs) {
                    let off = |byte| i32::from(law.decode(byte)).abs_diff(i32::from(*sample));
                    let (ours, theirs) = (off(law.encode(*sample)), off(theirs));
                    let step = u32::from(sample.unsigned_abs()) / 16 + 16;
                    assert!(ours <= theirs.max(step / 2), "{law:?} {sample}: {ours}, {theirs}");
                }
            }
        }
    }

    #[test]
    fn what_is_mixed_is_the_sum_and_what_is_not_stays_bit_for_bit() {
        for (law, _) in BOTH {
            let payload: Vec<u8> = (0..=255).collect();
            let mut out = [0; 256];
            law.mix(&payload, &[1000; 100], &mut out);
            assert_eq!(out[100..], payload[100..]);
            for (mixed, byte) in out.iter().zip(&payload).take(100) {
                let sum = law.decode(*byte).saturating_add(1000);
                assert_eq!(*mixed, law.encode(sum));
            }
            assert_eq!(law.decode(law.silence()).abs() / 16, 0);
        }
    }
}
