//! From samples to payloads.

use audio_codec::g722::G722Encoder;
use audio_codec::pcma::PcmaEncoder;
use audio_codec::pcmu::PcmuEncoder;

use super::{CodecError, frame_samples};
use crate::rtp::Codec;

/// The largest Opus packet for one frame (RFC 6716, 3.2.1).
const OPUS_MAX_BYTES: usize = 1275;

/// Full-band speech that a prompt loses nothing in.
const OPUS_BITRATE: i32 = 40_000;

/// Encodes one stream, frame by frame. It has state: one encoder a stream.
pub struct Encoder {
    codec: Codec,
    inner: Inner,
}

enum Inner {
    Pcmu(PcmuEncoder),
    Pcma(PcmaEncoder),
    G722(Box<G722Encoder>),
    Opus(opus::Encoder),
}

impl Encoder {
    /// An encoder at the start of a stream.
    ///
    /// # Errors
    /// [`CodecError::Unavailable`] when libopus cannot be set up; the others always can.
    pub fn new(codec: Codec) -> Result<Self, CodecError> {
        let inner = match codec {
            Codec::Pcmu => Inner::Pcmu(PcmuEncoder::new()),
            Codec::Pcma => Inner::Pcma(PcmaEncoder::new()),
            Codec::G722 => Inner::G722(Box::new(G722Encoder::new())),
            Codec::Opus => Inner::Opus(opus_encoder().map_err(|_| CodecError::Unavailable(codec))?),
        };
        Ok(Self { codec, inner })
    }

    /// The codec that this encodes to.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Appends to `out` the payload of one packet: one frame of [`super::FRAME_MS`], mono, at
    /// [`Codec::sample_rate`].
    ///
    /// # Errors
    /// [`CodecError::FrameLength`] unless there are [`frame_samples`] samples;
    /// [`CodecError::Failed`] when the library does. `out` is then as it was.
    pub fn encode(&mut self, samples: &[i16], out: &mut Vec<u8>) -> Result<(), CodecError> {
        let expected = frame_samples(self.codec);
        if samples.len() != expected {
            return Err(CodecError::FrameLength { expected, found: samples.len() });
        }
        match &mut self.inner {
            Inner::Pcmu(encoder) => append(encoder, samples, out),
            Inner::Pcma(encoder) => append(encoder, samples, out),
            Inner::G722(encoder) => append(encoder.as_mut(), samples, out),
            Inner::Opus(encoder) => {
                let start = out.len();
                out.resize(start + OPUS_MAX_BYTES, 0);
                let space = out.get_mut(start..).unwrap_or_default();
                let written = encoder.encode(samples, space).map_err(|_| CodecError::Failed);
                out.truncate(start + written.unwrap_or(0));
                written.map(|_| ())
            }
        }
    }
}

fn opus_encoder() -> Result<opus::Encoder, opus::Error> {
    let rate = Codec::Opus.sample_rate();
    let mut encoder = opus::Encoder::new(rate, opus::Channels::Mono, opus::Application::Voip)?;
    encoder.set_bitrate(opus::Bitrate::Bits(OPUS_BITRATE))?;
    encoder.set_inband_fec(true)?;
    Ok(encoder)
}

fn append(
    encoder: &mut impl audio_codec::Encoder,
    samples: &[i16],
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let start = out.len();
    out.resize(start + encoder.max_encode_bytes(samples.len()), 0);
    let space = out.get_mut(start..).unwrap_or_default();
    let written = encoder.encode_into(samples, space).map_err(|_| CodecError::Failed);
    out.truncate(start + written.unwrap_or(0));
    written.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_each_codec_has_the_size_its_rfc_says() {
        for (codec, bytes) in [(Codec::Pcmu, 160), (Codec::Pcma, 160), (Codec::G722, 160)] {
            let mut out = Vec::new();
            let mut encoder = Encoder::new(codec).unwrap();
            encoder.encode(&vec![0; frame_samples(codec)], &mut out).unwrap();
            assert_eq!(out.len(), bytes, "{codec:?}");
        }
        let mut out = vec![7];
        let mut encoder = Encoder::new(Codec::Opus).unwrap();
        encoder.encode(&[0; 960], &mut out).unwrap();
        assert!(out.len() > 1 && out.len() <= 1 + OPUS_MAX_BYTES && out[0] == 7);
    }

    #[test]
    fn a_frame_of_another_length_is_refused() {
        for codec in Codec::ALL {
            let mut out = Vec::new();
            let mut encoder = Encoder::new(codec).unwrap();
            let wrong = encoder.encode(&[0; 100], &mut out);
            assert!(matches!(wrong, Err(CodecError::FrameLength { found: 100, .. })));
            assert!(out.is_empty());
        }
    }

    #[test]
    fn g711_silence_is_the_silence_of_the_recommendation() {
        for (codec, silence) in [(Codec::Pcmu, 0xff), (Codec::Pcma, 0xd5)] {
            let mut out = Vec::new();
            Encoder::new(codec).unwrap().encode(&[0; 160], &mut out).unwrap();
            assert!(out.iter().all(|b| *b == silence), "{codec:?}");
        }
    }
}
