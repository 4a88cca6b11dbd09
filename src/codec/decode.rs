//! From payloads to samples. A payload comes from a peer: any bytes at all.

use audio_codec::g722::G722Decoder;
use audio_codec::pcma::PcmaDecoder;
use audio_codec::pcmu::PcmuDecoder;

use super::CodecError;
use crate::rtp::Codec;

/// The longest Opus packet is 120 ms (RFC 6716, 3.2.5), at 48 kHz.
const OPUS_MAX_SAMPLES: usize = 5760;

/// Decodes one stream, packet by packet in order. It has state: one decoder a stream.
pub struct Decoder {
    codec: Codec,
    inner: Inner,
}

enum Inner {
    Pcmu(PcmuDecoder),
    Pcma(PcmaDecoder),
    G722(Box<G722Decoder>),
    Opus(opus::Decoder),
}

impl Decoder {
    /// A decoder at the start of a stream.
    ///
    /// # Errors
    /// [`CodecError::Unavailable`] when libopus cannot be set up; the others always can.
    pub fn new(codec: Codec) -> Result<Self, CodecError> {
        let inner = match codec {
            Codec::Pcmu => Inner::Pcmu(PcmuDecoder::new()),
            Codec::Pcma => Inner::Pcma(PcmaDecoder::new()),
            Codec::G722 => Inner::G722(Box::new(G722Decoder::new())),
            // A mono decoder mixes stereo packets down by itself (RFC 7587, 4.2).
            Codec::Opus => Inner::Opus(
                opus::Decoder::new(codec.sample_rate(), opus::Channels::Mono)
                    .map_err(|_| CodecError::Unavailable(codec))?,
            ),
        };
        Ok(Self { codec, inner })
    }

    /// The codec that this decodes.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Appends to `out` the samples of one packet: mono, at [`Codec::sample_rate`]. An empty
    /// payload has no samples.
    ///
    /// # Errors
    /// [`CodecError::Damaged`] for a payload that cannot be decoded, which only Opus has. `out`
    /// is then as it was, and the next payload may be decoded.
    pub fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), CodecError> {
        // To libopus an empty packet means a lost one, which it would invent audio for.
        if payload.is_empty() {
            return Ok(());
        }
        match &mut self.inner {
            Inner::Pcmu(decoder) => append(decoder, payload, out),
            Inner::Pcma(decoder) => append(decoder, payload, out),
            Inner::G722(decoder) => append(decoder.as_mut(), payload, out),
            Inner::Opus(decoder) => {
                let start = out.len();
                out.resize(start + OPUS_MAX_SAMPLES, 0);
                let space = out.get_mut(start..).unwrap_or_default();
                let written =
                    decoder.decode(payload, space, false).map_err(|_| CodecError::Damaged);
                out.truncate(start + written.unwrap_or(0));
                written.map(|_| ())
            }
        }
    }
}

fn append(
    decoder: &mut impl audio_codec::Decoder,
    payload: &[u8],
    out: &mut Vec<i16>,
) -> Result<(), CodecError> {
    let start = out.len();
    out.resize(start + decoder.max_decode_samples(payload.len()), 0);
    let space = out.get_mut(start..).unwrap_or_default();
    let written = decoder.decode_into(payload, space).map_err(|_| CodecError::Damaged);
    out.truncate(start + written.unwrap_or(0));
    written.map(|_| ())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::{Encoder, frame_samples};

    fn tone(rate: u32, hz: f64, amplitude: f64, samples: usize) -> Vec<i16> {
        let step = std::f64::consts::TAU * hz / f64::from(rate);
        (0..samples).map(|n| ((step * n as f64).sin() * amplitude) as i16).collect()
    }

    fn round_trip(codec: Codec, input: &[i16]) -> Vec<i16> {
        let (mut encoder, mut decoder) =
            (Encoder::new(codec).unwrap(), Decoder::new(codec).unwrap());
        let mut output = Vec::new();
        for frame in input.chunks_exact(frame_samples(codec)) {
            let mut payload = Vec::new();
            encoder.encode(frame, &mut payload).unwrap();
            decoder.decode(&payload, &mut output).unwrap();
        }
        output
    }

    /// The best signal-to-noise ratio in dB over the codec's possible delays, past its start.
    fn snr(input: &[i16], output: &[i16], longest_delay: usize) -> (usize, f64) {
        let settled = input.len() / 4;
        let mut best = (0, f64::MIN);
        for delay in 0..=longest_delay {
            let pairs = input[settled..].iter().zip(&output[settled + delay..]);
            let (mut signal, mut noise) = (0.0, 0.0);
            for (a, b) in pairs {
                signal += f64::from(*a).powi(2);
                noise += (f64::from(*a) - f64::from(*b)).powi(2);
            }
            let ratio = 10.0 * (signal / noise).log10();
            if ratio > best.1 {
                best = (delay, ratio);
            }
        }
        best
    }

    #[test]
    fn a_tone_comes_back_as_clean_as_its_codec_can() {
        for (codec, hz, at_least) in [
            (Codec::Pcmu, 1000.0, 33.0),
            (Codec::Pcma, 1000.0, 33.0),
            (Codec::G722, 440.0, 40.0),
            (Codec::G722, 1000.0, 40.0),
            (Codec::G722, 5500.0, 12.0),
            (Codec::Opus, 1000.0, 15.0),
        ] {
            let input = tone(codec.sample_rate(), hz, 10_000.0, frame_samples(codec) * 50);
            let output = round_trip(codec, &input);
            assert_eq!(output.len(), input.len(), "{codec:?}");
            let (delay, ratio) = snr(&input, &output, 400);
            println!("{codec:?} {hz} Hz: {ratio:.1} dB at a delay of {delay}");
            assert!(ratio > at_least, "{codec:?} at {hz} Hz: {ratio:.1} dB, delay {delay}");
        }
    }

    #[test]
    fn a_stereo_opus_packet_comes_out_as_mono() {
        let rate = Codec::Opus.sample_rate();
        let mut encoder =
            opus::Encoder::new(rate, opus::Channels::Stereo, opus::Application::Audio).unwrap();
        let mut decoder = Decoder::new(Codec::Opus).unwrap();
        let mut output = Vec::new();
        let mono = tone(rate, 700.0, 8000.0, 960 * 10);
        for frame in mono.chunks_exact(960) {
            let both: Vec<i16> = frame.iter().flat_map(|s| [*s, *s]).collect();
            let payload = encoder.encode_vec(&both, 1275).unwrap();
            decoder.decode(&payload, &mut output).unwrap();
        }
        assert_eq!(output.len(), mono.len());
        assert!(snr(&mono[..960 * 8], &output, 400).1 > 15.0);
    }

    #[test]
    fn every_code_of_g711_decodes_to_what_encodes_to_it() {
        for codec in [Codec::Pcmu, Codec::Pcma] {
            let codes: Vec<u8> = (0..=255).collect();
            let mut samples = Vec::new();
            Decoder::new(codec).unwrap().decode(&codes, &mut samples).unwrap();
            samples.resize(320, 0);
            let mut again = Vec::new();
            let mut encoder = Encoder::new(codec).unwrap();
            for frame in samples.chunks_exact(160) {
                encoder.encode(frame, &mut again).unwrap();
            }
            let differing = (0..256).filter(|n| again[*n] != codes[*n]).count();
            // µ-law has two codes for zero.
            assert!(differing <= 1, "{codec:?}: {differing}");
        }
    }

    #[test]
    fn an_empty_payload_is_no_audio() {
        for codec in Codec::ALL {
            let mut out = vec![5];
            Decoder::new(codec).unwrap().decode(&[], &mut out).unwrap();
            assert_eq!(out, [5]);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_to_bounded_audio_or_leave_the_output_alone(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1500), 1..4),
        ) {
            for codec in Codec::ALL {
                let mut decoder = Decoder::new(codec).unwrap();
                for payload in &payloads {
                    let mut out = vec![1];
                    match decoder.decode(payload, &mut out) {
                        Ok(()) => prop_assert!(out.len() <= 1 + OPUS_MAX_SAMPLES),
                        Err(_) => prop_assert_eq!(&out, &[1]),
                    }
                }
            }
        }
    }
}
