//! What a phone says: nothing, a tone, a little melody, or a WAV file.

use std::f32::consts::TAU;
use std::path::Path;
use std::sync::Arc;

use crate::codec::{CodecError, resample};

/// Something to say. It is said once from its start, then there is silence; a tone goes on.
#[derive(Clone, Debug, PartialEq)]
pub enum Sound {
    /// Silence, sent as audio.
    Silence,
    /// A sine at a quarter of the full scale, without end.
    Tone {
        /// Its frequency, Hz.
        hz: f32,
    },
    /// Samples, mono.
    Samples {
        /// Samples a second.
        rate: u32,
        /// The samples.
        samples: Arc<[i16]>,
        /// What follows the last one.
        then: Then,
    },
}

/// What follows the last sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Silence.
    Silence,
    /// The first one.
    Again,
}

/// Why a file cannot be said.
#[derive(Debug, thiserror::Error)]
pub enum BadSound {
    /// It cannot be read, or is no WAV file.
    #[error("cannot read {file}: {source}; a WAV file of any rate is wanted")]
    Read {
        /// Which file.
        file: String,
        /// Why.
        source: hound::Error,
    },
    /// There is nothing in it, or too much.
    #[error("{0} is empty or longer than an hour")]
    Length(String),
    /// Its rate is out of the ordinary.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// The longest file, in seconds.
const LONGEST: u32 = 3600;

impl Sound {
    /// Reads a WAV file of any usual rate and width; more channels than one are mixed.
    ///
    /// # Errors
    /// [`BadSound`].
    pub fn from_wav(path: &Path) -> Result<Self, BadSound> {
        let file = path.display().to_string();
        let read = |source| BadSound::Read { file: file.clone(), source };
        let mut wav = hound::WavReader::open(path).map_err(read)?;
        let spec = wav.spec();
        if wav.duration() == 0 || wav.duration() / spec.sample_rate.max(1) >= LONGEST {
            return Err(BadSound::Length(file));
        }
        let samples: Vec<f32> = match spec.sample_format {
            hound::SampleFormat::Float => wav.samples::<f32>().collect::<Result<_, _>>(),
            hound::SampleFormat::Int => {
                let full = (1i64 << spec.bits_per_sample.clamp(1, 32).saturating_sub(1)) as f32;
                wav.samples::<i32>().map(|s| s.map(|s| s as f32 / full)).collect()
            }
        }
        .map_err(read)?;
        let channels = usize::from(spec.channels.max(1));
        let mono = samples.chunks(channels).map(|frame| {
            let mean = frame.iter().sum::<f32>() / channels as f32;
            (mean * 32_767.0).clamp(-32_768.0, 32_767.0) as i16
        });
        // Found out now, not in the middle of a call.
        resample(&[0; 64], spec.sample_rate, 8000)?;
        Ok(Self::Samples { rate: spec.sample_rate, samples: mono.collect(), then: Then::Silence })
    }

    /// Notes of these frequencies (0: a rest) and lengths in milliseconds, again and again.
    #[must_use]
    pub fn melody(notes: &[(f32, u32)]) -> Self {
        const RATE: u32 = 16_000;
        let mut samples = Vec::new();
        for (hz, ms) in notes {
            let count = RATE / 1000 * ms;
            for n in 0..count {
                // Struck and fading, like a bell: it sounds like a call, not like a test.
                let rise = (n as f32 / 160.0).min(1.0);
                let fade = 1.0 - n as f32 / count as f32;
                let phase = TAU * hz * n as f32 / RATE as f32;
                let wave = phase.sin() + 0.3 * (2.0 * phase).sin();
                samples.push((wave * rise * fade * 7_000.0) as i16);
            }
        }
        Self::Samples { rate: RATE, samples: samples.into(), then: Then::Again }
    }
}

/// A sound on its way out, frame by frame, at one rate.
#[derive(Debug)]
pub(super) struct Source {
    rate: u32,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Silence,
    Tone { step: f32, phase: f32 },
    Samples { samples: Vec<i16>, next: usize, then: Then },
}

impl Source {
    /// Prepares a sound for a codec's rate.
    pub(super) fn new(sound: &Sound, rate: u32) -> Result<Self, CodecError> {
        let kind = match sound {
            Sound::Silence => Kind::Silence,
            Sound::Tone { hz } => Kind::Tone { step: TAU * hz / rate as f32, phase: 0.0 },
            Sound::Samples { rate: from, samples, then } => {
                let samples = resample(samples, *from, rate)?;
                Kind::Samples { samples, next: 0, then: *then }
            }
        };
        Ok(Self { rate, kind })
    }

    /// The next 20 ms.
    pub(super) fn frame(&mut self) -> Vec<i16> {
        let count = (self.rate / 50) as usize;
        (0..count).map(|_| self.sample()).collect()
    }

    fn sample(&mut self) -> i16 {
        match &mut self.kind {
            Kind::Silence => 0,
            Kind::Tone { step, phase } => {
                *phase = (*phase + *step) % TAU;
                (phase.sin() * 8_192.0) as i16
            }
            Kind::Samples { samples, next, then } => {
                if *then == Then::Again && *next >= samples.len() {
                    *next = 0;
                }
                let sample = samples.get(*next).copied().unwrap_or(0);
                *next = next.saturating_add(1);
                sample
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wav_file_of_any_kind_is_said() {
        let folder = tempfile::tempdir().unwrap();
        for (bits, format) in [
            (8, hound::SampleFormat::Int),
            (16, hound::SampleFormat::Int),
            (24, hound::SampleFormat::Int),
            (32, hound::SampleFormat::Float),
        ] {
            let path = folder.path().join("said.wav");
            let spec = hound::WavSpec {
                channels: 2,
                sample_rate: 44_100,
                bits_per_sample: bits,
                sample_format: format,
            };
            let mut wav = hound::WavWriter::create(&path, spec).unwrap();
            for _ in 0..4_410 {
                if format == hound::SampleFormat::Float {
                    wav.write_sample(0.5f32).unwrap();
                    wav.write_sample(0.0f32).unwrap();
                } else {
                    wav.write_sample(1i32 << (bits - 2)).unwrap();
                    wav.write_sample(0i32).unwrap();
                }
            }
            wav.finalize().unwrap();
            let Sound::Samples { rate, samples, .. } = Sound::from_wav(&path).unwrap() else {
                panic!("samples")
            };
            assert_eq!((rate, samples.len()), (44_100, 4_410), "{bits}");
            assert!((samples[100] - 8_192).abs() < 200, "{bits}: {}", samples[100]);
        }
    }

    #[test]
    fn what_is_no_wav_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("no.wav");
        std::fs::write(&path, "RIFFnothing").unwrap();
        let problem = Sound::from_wav(&path).unwrap_err().to_string();
        assert!(problem.contains("no.wav"), "{problem}");
    }

    #[test]
    fn samples_end_in_silence_and_a_melody_goes_on() {
        let said = Sound::Samples { rate: 8000, samples: vec![5; 100].into(), then: Then::Silence };
        let mut source = Source::new(&said, 8000).unwrap();
        let frame = source.frame();
        assert_eq!((frame.len(), frame[99], frame[100]), (160, 5, 0));
        assert!(source.frame().iter().all(|s| *s == 0));
        let mut melody = Source::new(&Sound::melody(&[(440.0, 100)]), 8000).unwrap();
        for _ in 0..20 {
            assert!(melody.frame().iter().any(|s| *s != 0));
        }
    }
}
