//! Finds a voice in bytes: as it is, and in the forms that a careless program might give it.

use std::collections::HashSet;

use crate::support::talker::Voice;

/// Bytes of a window that is looked for as it is.
const RAW: usize = 8;
/// Characters of a window of text: enough that no digest looks like it by chance.
const TEXT: usize = 16;

/// Every form of everything that some voices say.
#[derive(Default)]
pub(crate) struct Needles {
    raw: HashSet<[u8; RAW]>,
    /// Differences from byte to byte, which no constant that is added or XORed changes.
    xored: HashSet<[u8; RAW]>,
    added: HashSet<[u8; RAW]>,
    text: HashSet<[u8; TEXT]>,
}

impl Needles {
    /// The first `packets` packets of each voice.
    pub(crate) fn of(voices: &[(Voice, u32)]) -> Self {
        let mut needles = Self::default();
        for (voice, packets) in voices {
            for n in 0..*packets {
                needles.add(&voice.payload(n));
            }
        }
        needles
    }

    fn add(&mut self, plain: &[u8]) {
        let backwards: Vec<u8> = plain.iter().rev().copied().collect();
        for whole in [plain, &backwards] {
            insert(&mut self.xored, &differences(whole, |a, b| a ^ b));
            insert(&mut self.added, &differences(whole, u8::wrapping_sub));
        }
        let alaw: Vec<u8> = plain.iter().map(|b| to_alaw(from_mulaw(*b))).collect();
        let linear = |bytes: fn(i16) -> [u8; 2]| -> Vec<u8> {
            plain.iter().flat_map(|b| bytes(from_mulaw(*b))).collect()
        };
        insert(&mut self.raw, plain);
        insert(&mut self.raw, &alaw);
        insert(&mut self.raw, &linear(i16::to_le_bytes));
        insert(&mut self.raw, &linear(i16::to_be_bytes));
        insert(&mut self.raw, &plain.iter().map(|b| b.reverse_bits()).collect::<Vec<_>>());
        insert(&mut self.raw, &plain.iter().map(|b| b.rotate_left(4)).collect::<Vec<_>>());
        insert(&mut self.text, hex::encode(plain).as_bytes());
        insert(&mut self.text, hex::encode_upper(plain).as_bytes());
        for skip in 0..3 {
            insert(&mut self.text, &base64(&plain[skip..]));
        }
    }

    /// The place of the first thing in `bytes` that one of the voices said.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<usize> {
        fn at<const N: usize>(set: &HashSet<[u8; N]>, bytes: &[u8]) -> Option<usize> {
            bytes.windows(N).position(|w| set.contains::<[u8; N]>(w.try_into().expect("N bytes")))
        }
        at(&self.raw, bytes)
            .or_else(|| at(&self.xored, &differences(bytes, |a, b| a ^ b)))
            .or_else(|| at(&self.added, &differences(bytes, u8::wrapping_sub)))
            .or_else(|| at(&self.text, bytes))
    }
}

/// Windows side by side: whoever writes twice as many bytes in a row writes one of them.
fn insert<const N: usize>(set: &mut HashSet<[u8; N]>, form: &[u8]) {
    set.extend(form.chunks_exact(N).map(|w| <[u8; N]>::try_from(w).expect("N bytes")));
}

fn differences(bytes: &[u8], of: impl Fn(u8, u8) -> u8) -> Vec<u8> {
    bytes.windows(2).map(|pair| of(pair[0], pair[1])).collect()
}

/// ITU-T G.711, µ-law to 16 bits.
fn from_mulaw(byte: u8) -> i16 {
    let byte = !byte;
    let magnitude = ((i16::from(byte & 0x0f) << 3) + 0x84) << ((byte & 0x70) >> 4);
    if byte & 0x80 != 0 { 0x84 - magnitude } else { magnitude - 0x84 }
}

/// ITU-T G.711, 16 bits to A-law.
fn to_alaw(sample: i16) -> u8 {
    let (sign, magnitude) =
        if sample >= 0 { (0xd5, i32::from(sample) >> 3) } else { (0x55, !i32::from(sample) >> 3) };
    let segment = [0x1f, 0x3f, 0x7f, 0xff, 0x1ff, 0x3ff, 0x7ff, 0xfff]
        .iter()
        .position(|end| magnitude <= *end)
        .unwrap_or(7);
    let shift = if segment < 2 { 1 } else { segment };
    let coded = ((segment as i32) << 4) | ((magnitude >> shift) & 0x0f);
    (coded as u8) ^ sign
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |three: &[u8]| {
        let all = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
        [18, 12, 6, 0].map(|shift| DIGITS[(all >> shift) as usize & 63])
    };
    bytes.chunks_exact(3).flat_map(digits).collect()
}

#[test]
fn a_voice_is_found_in_every_form_and_nothing_else_is() {
    let voice = Voice::new();
    let needles = Needles::of(&[(voice, 50)]);
    let said = voice.payload(33);
    let codec = |b: &u8| to_alaw(from_mulaw(*b));
    let forms: Vec<(&str, Vec<u8>)> = vec![
        ("plain", said.to_vec()),
        ("a part", said[50..70].to_vec()),
        ("inverted", said.iter().map(|b| !b).collect()),
        ("with a mask", said.iter().map(|b| b ^ 0x55).collect()),
        ("shifted", said.iter().map(|b| b.wrapping_add(77)).collect()),
        ("backwards", said.iter().rev().copied().collect()),
        ("A-law", said.iter().map(codec).collect()),
        ("WAV", said.iter().flat_map(|b| from_mulaw(*b).to_le_bytes()).collect()),
        ("hex", hex::encode(said).into_bytes()),
        ("base64", base64(&said)),
        ("base64, unaligned", base64(&[&b"x"[..], &said].concat())),
    ];
    for (name, form) in forms {
        let hidden = [&[7; 1000][..], &form, &[9; 1000]].concat();
        let at = needles.find(&hidden);
        assert!(at.is_some_and(|at| (990..1000 + form.len()).contains(&at)), "{name}: {at:?}");
    }
    let stranger = Voice::new();
    for n in 0..2000 {
        let other = stranger.payload(n);
        assert_eq!(needles.find(&other), None);
        assert_eq!(needles.find(&base64(&other)), None);
        assert_eq!(needles.find(hex::encode(other).as_bytes()), None);
    }
}
