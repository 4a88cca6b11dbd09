//! From one sample rate to another, without moving the audio in time.

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Resampler as _};

use super::CodecError;

/// Rates that are resampled, Hz. The upper one bounds what a hostile file can make us allocate.
const RATES: std::ops::RangeInclusive<u32> = 1000..=384_000;

/// Input samples in a block of the filter: sharp enough to keep speech up to 95 % of Nyquist.
const BLOCK: usize = 512;

/// The whole of `samples`, at another rate. Nothing is cut off or delayed: the result is as long
/// as the input, rounded up to a sample.
///
/// # Errors
/// [`CodecError::Rate`] for a rate below 1 kHz or above 384 kHz.
pub fn resample(samples: &[i16], from_hz: u32, to_hz: u32) -> Result<Vec<i16>, CodecError> {
    let mut out = Vec::new();
    let mut resampler = Resampler::new(from_hz, to_hz)?;
    resampler.push(samples, &mut out)?;
    resampler.finish(&mut out)?;
    Ok(out)
}

/// Resamples one unbroken run of audio that comes in pieces of any length.
pub struct Resampler {
    from_hz: u32,
    to_hz: u32,
    filter: Option<Filter>,
}

struct Filter {
    fft: Fft<f32>,
    /// Input that does not fill a block yet.
    waiting: Vec<f32>,
    /// A block of output.
    block: Vec<f32>,
    /// How much of the filter's delay is still to be dropped, in output samples.
    trim: usize,
    /// Samples taken since the start of the run.
    taken: u64,
    /// Samples given since the start of the run.
    given: u64,
}

impl Resampler {
    /// A resampler at the start of a run.
    ///
    /// # Errors
    /// [`CodecError::Rate`] for a rate below 1 kHz or above 384 kHz.
    pub fn new(from_hz: u32, to_hz: u32) -> Result<Self, CodecError> {
        let unsupported = CodecError::Rate { from: from_hz, to: to_hz };
        if !RATES.contains(&from_hz) || !RATES.contains(&to_hz) {
            return Err(unsupported);
        }
        let filter = if from_hz == to_hz {
            None
        } else {
            Some(Filter::new(from_hz, to_hz).map_err(|_| unsupported)?)
        };
        Ok(Self { from_hz, to_hz, filter })
    }

    /// Takes the next samples of the run and appends to `out` what they complete. Output may lag
    /// behind by a few blocks, but its first sample is that of the first input sample.
    ///
    /// # Errors
    /// [`CodecError::Failed`] when the library does.
    pub fn push(&mut self, samples: &[i16], out: &mut Vec<i16>) -> Result<(), CodecError> {
        let Some(filter) = &mut self.filter else {
            out.extend_from_slice(samples);
            return Ok(());
        };
        filter.taken += samples.len() as u64;
        filter.waiting.extend(samples.iter().map(|s| f32::from(*s)));
        let size = filter.fft.input_frames_next();
        let mut used = 0;
        while let Some(block) = filter.waiting.get(used..used + size) {
            let block = block.to_vec();
            filter.run(&block, u64::MAX, out)?;
            used += size;
        }
        filter.waiting.drain(..used);
        Ok(())
    }

    /// Ends the run: appends to `out` what is still inside, so that output is as long as input,
    /// and is ready for another run.
    ///
    /// # Errors
    /// [`CodecError::Failed`] when the library does.
    pub fn finish(&mut self, out: &mut Vec<i16>) -> Result<(), CodecError> {
        let Some(filter) = &mut self.filter else { return Ok(()) };
        let total = (filter.taken * u64::from(self.to_hz)).div_ceil(u64::from(self.from_hz));
        let mut block = std::mem::take(&mut filter.waiting);
        block.resize(filter.fft.input_frames_next(), 0.0);
        while filter.given < total {
            filter.run(&block, total, out)?;
            block.fill(0.0);
        }
        filter.restart();
        Ok(())
    }
}

impl Filter {
    fn new(from_hz: u32, to_hz: u32) -> Result<Self, rubato::ResamplerConstructionError> {
        let fft = Fft::new(from_hz as usize, to_hz as usize, BLOCK, 1, FixedSync::Both)?;
        let mut filter = Self {
            waiting: Vec::with_capacity(fft.input_frames_max()),
            block: vec![0.0; fft.output_frames_max()],
            fft,
            trim: 0,
            taken: 0,
            given: 0,
        };
        filter.restart();
        Ok(filter)
    }

    fn restart(&mut self) {
        self.fft.reset();
        self.waiting.clear();
        self.trim = self.fft.output_delay();
        self.taken = 0;
        self.given = 0;
    }

    /// Filters one block and gives its output, less the filter's delay, up to `total` samples in
    /// the run.
    fn run(&mut self, input: &[f32], total: u64, out: &mut Vec<i16>) -> Result<(), CodecError> {
        let space = self.block.len();
        let input = SequentialSlice::new(input, 1, input.len()).map_err(|_| CodecError::Failed)?;
        let mut output =
            SequentialSlice::new_mut(&mut self.block, 1, space).map_err(|_| CodecError::Failed)?;
        let (_, made) = self
            .fft
            .process_into_buffer(&input, &mut output, None)
            .map_err(|_| CodecError::Failed)?;
        let skip = self.trim.min(made);
        self.trim -= skip;
        let wanted = usize::try_from(total.saturating_sub(self.given)).unwrap_or(usize::MAX);
        let made = self.block.get(skip..made).unwrap_or_default();
        let made = made.get(..wanted).unwrap_or(made);
        self.given += made.len() as u64;
        // A float cast saturates, so an overshoot of the filter clips instead of wrapping.
        out.extend(made.iter().map(|s| s.round() as i16));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(rate: u32, hz: f64, samples: usize) -> Vec<i16> {
        let step = std::f64::consts::TAU * hz / f64::from(rate);
        (0..samples).map(|n| ((step * n as f64).sin() * 12_000.0) as i16).collect()
    }

    #[test]
    fn a_tone_keeps_its_pitch_its_level_and_its_place() {
        for (from, to) in [
            (8000, 16_000),
            (8000, 48_000),
            (16_000, 48_000),
            (48_000, 8000),
            (44_100, 8000),
            (22_050, 48_000),
        ] {
            let input = tone(from, 440.0, from as usize);
            let output = resample(&input, from, to).unwrap();
            assert_eq!(output.len(), to as usize);
            let expected = tone(to, 440.0, to as usize);
            let edge = to as usize / 20;
            let inner = edge..to as usize - edge;
            let worst = inner.map(|n| (output[n] - expected[n]).abs()).max().unwrap();
            assert!(worst < 40, "{from} to {to}: {worst} of 12000 off");
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_carry_is_taken_out() {
        let output = resample(&tone(48_000, 6000.0, 48_000), 48_000, 8000).unwrap();
        assert!(output[400..7600].iter().all(|s| s.abs() < 40));
    }

    #[test]
    fn pieces_of_any_length_give_what_the_whole_gives() {
        let input = tone(8000, 300.0, 5000);
        let whole = resample(&input, 8000, 48_000).unwrap();
        let mut resampler = Resampler::new(8000, 48_000).unwrap();
        for length in [1, 7, 80, 160, 333, 2000] {
            let mut pieces = Vec::new();
            for piece in input.chunks(length) {
                resampler.push(piece, &mut pieces).unwrap();
            }
            resampler.finish(&mut pieces).unwrap();
            assert!(pieces == whole, "pieces of {length}");
        }
    }

    #[test]
    fn lengths_are_kept_for_the_shortest_input() {
        for length in [0, 1, 2, 159, 511, 512, 513, 1025] {
            let output = resample(&vec![0; length], 8000, 16_000).unwrap();
            assert_eq!(output.len(), length * 2);
        }
        assert_eq!(resample(&[1, 2, 3], 8000, 8000).unwrap(), [1, 2, 3]);
    }

    #[test]
    fn a_rate_that_a_hostile_file_may_claim_is_refused() {
        for (from, to) in [(0, 8000), (8000, 0), (1, 8000), (u32::MAX, 8000)] {
            assert_eq!(resample(&[0], from, to), Err(CodecError::Rate { from, to }));
        }
    }
}
