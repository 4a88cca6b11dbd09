//! Tones to say, and ears to find them again.

use std::f64::consts::TAU;
use std::path::Path;

/// A sine of half the full scale.
pub fn tone(rate: u32, hz: f64, seconds: f64) -> Vec<i16> {
    let count = (f64::from(rate) * seconds) as usize;
    (0..count).map(|n| ((TAU * hz * n as f64 / f64::from(rate)).sin() * 16_384.0) as i16).collect()
}

/// Writes a WAV file of 16-bit samples, interleaved where there is more than one channel.
pub fn write_wav(path: &Path, rate: u32, channels: u16, samples: &[i16]) {
    let spec = hound::WavSpec {
        channels,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = hound::WavWriter::create(path, spec).expect("a WAV file");
    for sample in samples {
        wav.write_sample(*sample).expect("a sample");
    }
    wav.finalize().expect("the end of a WAV file");
}

/// A WAV file, one vector a channel.
#[derive(Debug)]
pub struct Audio {
    pub rate: u32,
    pub channels: Vec<Vec<i16>>,
}

impl Audio {
    /// Reads a 16-bit WAV file. One that a killed program left without its final length is read
    /// up to its end.
    pub fn read(path: &Path) -> Self {
        let mut wav = hound::WavReader::open(path)
            .unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
        let spec = wav.spec();
        let mut channels = vec![Vec::new(); usize::from(spec.channels)];
        for (n, sample) in wav.samples::<i16>().enumerate() {
            let Ok(sample) = sample else { break };
            channels[n % usize::from(spec.channels)].push(sample);
        }
        Self { rate: spec.sample_rate, channels }
    }

    /// How long it is, in seconds.
    pub fn seconds(&self) -> f64 {
        self.channels.first().map_or(0.0, |c| c.len() as f64 / f64::from(self.rate))
    }

    /// A part of a channel, in seconds from the start.
    pub fn part(&self, channel: usize, from: f64, to: f64) -> &[i16] {
        let all = &self.channels[channel];
        let at = |s: f64| ((s * f64::from(self.rate)) as usize).min(all.len());
        &all[at(from)..at(to)]
    }

    /// The level of one frequency in a part of a channel: see [`level`].
    pub fn level(&self, channel: usize, from: f64, to: f64, hz: f64) -> f64 {
        level(self.part(channel, from, to), self.rate, hz)
    }

    /// When a frequency is there: (start, end) of each stretch, in seconds, found in windows of
    /// 20 ms at more than a twentieth of the full scale.
    pub fn present(&self, channel: usize, hz: f64) -> Vec<(f64, f64)> {
        let window = self.rate as usize / 50;
        let mut found: Vec<(f64, f64)> = Vec::new();
        for (n, samples) in self.channels[channel].chunks_exact(window).enumerate() {
            if level(samples, self.rate, hz) < 0.05 {
                continue;
            }
            let (start, end) = (n as f64 * 0.02, (n + 1) as f64 * 0.02);
            match found.last_mut() {
                Some(last) if start - last.1 < 0.001 => last.1 = end,
                _ => found.push((start, end)),
            }
        }
        found
    }
}

/// The amplitude of one frequency (Goertzel), as a part of the full scale: a sine of half the
/// full scale gives 0.5.
pub fn level(samples: &[i16], rate: u32, hz: f64) -> f64 {
    if samples.is_empty() {
        return 0.0;
    }
    let step = TAU * hz / f64::from(rate);
    let (mut re, mut im) = (0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let angle = step * n as f64;
        re += f64::from(*sample) * angle.cos();
        im += f64::from(*sample) * angle.sin();
    }
    2.0 * re.hypot(im) / samples.len() as f64 / 32_768.0
}

/// The root mean square, as a part of the full scale.
pub fn loudness(samples: &[i16]) -> f64 {
    if samples.is_empty() {
        return 0.0;
    }
    let power: f64 = samples.iter().map(|s| f64::from(*s).powi(2)).sum();
    (power / samples.len() as f64).sqrt() / 32_768.0
}
