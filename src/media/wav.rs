//! From a WAV file to frames that are ready to send.

use std::io::Read;

use crate::codec::{self, CodecError, Encoder, frame_samples};
use crate::rtp::Codec;

/// The payloads of one sound in one codec, one for each 20 ms, in one piece of memory.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Frames {
    /// The payload of the frame at `index`.
    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.bytes.get(start..end)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Encodes mono samples at `rate` Hz; the last frame is filled up with silence.
    pub(super) fn encode(samples: &[i16], rate: u32, codec: Codec) -> Result<Self, CodecError> {
        let samples = codec::resample(samples, rate, codec.sample_rate())?;
        let mut encoder = Encoder::new(codec)?;
        let length = frame_samples(codec);
        let mut frames = Self::default();
        let mut last = vec![0; length];
        for frame in samples.chunks(length) {
            if frame.len() == length {
                encoder.encode(frame, &mut frames.bytes)?;
            } else {
                // A chunk is never longer than a frame.
                last.iter_mut().zip(frame).for_each(|(to, from)| *to = *from);
                encoder.encode(&last, &mut frames.bytes)?;
            }
            frames.ends.push(frames.bytes.len());
        }
        frames.bytes.shrink_to_fit();
        Ok(frames)
    }
}

/// The shape of a WAV file, from its header alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Length {
    /// Samples of one channel.
    pub(super) samples: u64,
    /// Hz.
    pub(super) rate: u32,
}

impl Length {
    /// In milliseconds, rounded to the nearest.
    pub(super) fn millis(self) -> u64 {
        let rate = u64::from(self.rate.max(1));
        (self.samples * 1000 + rate / 2) / rate
    }

    /// In frames of 20 ms, rounded up, which resampling does not change.
    pub(super) fn frames(self) -> usize {
        let frames = (self.samples * 50).div_ceil(u64::from(self.rate.max(1)));
        usize::try_from(frames).unwrap_or(usize::MAX)
    }
}

/// Reads the header.
pub(super) fn length(file: &[u8]) -> Result<Length, hound::Error> {
    let reader = hound::WavReader::new(file)?;
    let spec = reader.spec();
    if spec.channels == 0 || !(1000..=384_000).contains(&spec.sample_rate) {
        return Err(hound::Error::Unsupported);
    }
    Ok(Length { samples: u64::from(reader.duration()), rate: spec.sample_rate })
}

/// Decodes a whole file to mono: any rate, any number of channels, 8 to 32 bits or float.
pub(super) fn mono(file: &[u8]) -> Result<(Vec<i16>, u32), hound::Error> {
    let reader = hound::WavReader::new(file)?;
    let spec = reader.spec();
    let channels = usize::from(spec.channels.max(1));
    let scaled = match spec.sample_format {
        hound::SampleFormat::Float => interleaved::<f32, _>(reader, |sample| sample)?,
        hound::SampleFormat::Int => {
            let full_scale = (1u64 << (spec.bits_per_sample.clamp(1, 32) - 1)) as f32;
            interleaved::<i32, _>(reader, |sample| sample as f32 / full_scale)?
        }
    };
    let mixed = scaled.chunks_exact(channels).map(|frame| {
        let mean = frame.iter().sum::<f32>() / channels as f32;
        (mean * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16
    });
    Ok((mixed.collect(), spec.sample_rate))
}

fn interleaved<S: hound::Sample, R: Read>(
    reader: hound::WavReader<R>,
    scale: impl Fn(S) -> f32,
) -> Result<Vec<f32>, hound::Error> {
    reader.into_samples::<S>().map(|sample| sample.map(&scale)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hound::{SampleFormat, WavSpec, WavWriter};

    fn file<S: hound::Sample + Copy>(spec: WavSpec, samples: &[S]) -> Vec<u8> {
        let mut out = std::io::Cursor::new(Vec::new());
        let mut writer = WavWriter::new(&mut out, spec).unwrap();
        samples.iter().for_each(|s| writer.write_sample(*s).unwrap());
        writer.finalize().unwrap();
        out.into_inner()
    }

    fn spec(channels: u16, bits: u16, format: SampleFormat) -> WavSpec {
        WavSpec { channels, sample_rate: 16_000, bits_per_sample: bits, sample_format: format }
    }

    #[test]
    fn every_depth_and_number_of_channels_comes_out_at_the_same_level() {
        let half = 16_384;
        let int = SampleFormat::Int;
        let files = [
            file(spec(1, 8, int), &[64i8; 4]),
            file(spec(1, 16, int), &[half as i16; 4]),
            file(spec(1, 24, int), &[1i32 << 22; 4]),
            file(spec(1, 32, int), &[1i32 << 30; 4]),
            file(spec(1, 32, SampleFormat::Float), &[0.5f32; 4]),
            file(spec(2, 16, int), &[half as i16; 8]),
            file(spec(2, 32, SampleFormat::Float), &[1.0f32, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0]),
        ];
        for file in files {
            assert_eq!(mono(&file).unwrap(), (vec![half as i16; 4], 16_000));
            assert_eq!(length(&file).unwrap(), Length { samples: 4, rate: 16_000 });
        }
    }

    #[test]
    fn what_is_louder_than_full_scale_is_cut_and_not_wrapped() {
        let file = file(spec(1, 32, SampleFormat::Float), &[2.0f32, -2.0, f32::NAN]);
        assert_eq!(mono(&file).unwrap().0, [32_767, -32_768, 0]);
    }

    #[test]
    fn what_is_no_wav_file_is_an_error() {
        assert!(length(b"RIFF").is_err());
        assert!(mono(&[0; 100]).is_err());
    }

    #[test]
    fn a_frame_is_twenty_milliseconds_and_the_last_one_is_filled_up() {
        for codec in Codec::ALL {
            let frames = Frames::encode(&[1000; 16_000 / 50 * 3 + 1], 16_000, codec).unwrap();
            assert_eq!(frames.len(), 4, "{codec:?}");
            assert!((0..4).all(|at| frames.get(at).is_some_and(|f| !f.is_empty())));
            assert_eq!(frames.get(4), None);
        }
        let ulaw = Frames::encode(&[0; 161], 8000, Codec::Pcmu).unwrap();
        assert_eq!(ulaw.get(1), Some(&[0xff; 160][..]));
    }
}
