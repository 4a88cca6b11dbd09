//! Tracks to a WAV file, a channel each.

use std::io::{Seek, Write};
use std::time::Duration;

use hound::{SampleFormat, WavSpec, WavWriter};

use super::track::Track;
use super::{ExportError, SourceError, SourceRecord, Span, Summary};

/// Samples of a channel that are mixed at a time.
const BLOCK: usize = 8192;

/// The most bytes of samples: a WAV file counts them, and its header, in 32 bits.
const MAX_BYTES: u64 = u32::MAX as u64 - 64;

/// Writes the tracks side by side, a channel each in the order given: the caller and the callee
/// for stereo, one of them alone for mono. Loss, pauses and a track without any records are
/// silence. `rate` is that of the file in Hz, see [`super::sample_rate`].
///
/// # Errors
/// [`ExportError`], when a record cannot be read or the file not be written. What has been written
/// by then is of no use: the caller removes it.
pub fn write_wav<W, I>(
    out: W,
    span: Span,
    rate: u32,
    tracks: Vec<I>,
) -> Result<Summary, ExportError>
where
    W: Write + Seek,
    I: Iterator<Item = Result<SourceRecord, SourceError>>,
{
    let channels = u16::try_from(tracks.len()).map_err(|_| ExportError::TooLong)?;
    let spec = WavSpec {
        channels: channels.max(1),
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let mut wav = WavWriter::new(out, spec).map_err(writing)?;
    let mut tracks: Vec<_> =
        tracks.into_iter().map(|records| Track::new(records, span.start, rate)).collect();
    let at_least = at_least(span, rate);
    let frame_bytes = u64::from(channels) * 2;
    if at_least.saturating_mul(frame_bytes) > MAX_BYTES {
        return Err(ExportError::TooLong);
    }
    let mut blocks = vec![vec![0; BLOCK]; tracks.len()];
    let mut written: u64 = 0;
    loop {
        let (mut used, mut more) = (0, false);
        for (track, block) in tracks.iter_mut().zip(&mut blocks) {
            block.fill(0);
            let filled = track.fill(block)?;
            used = used.max(filled.used);
            more |= filled.more;
        }
        let missing = usize::try_from(at_least.saturating_sub(written)).unwrap_or(usize::MAX);
        let frames = if more { BLOCK } else { used.max(missing).min(BLOCK) };
        written += frames as u64;
        if written * frame_bytes > MAX_BYTES {
            return Err(ExportError::TooLong);
        }
        interleave(&mut wav, &blocks, frames)?;
        if !more && written >= at_least {
            break;
        }
    }
    wav.finalize().map_err(writing)?;
    Ok(Summary {
        sample_rate: rate,
        duration: Duration::from_micros(written * 1_000_000 / u64::from(rate.max(1))),
        tracks: tracks.iter().map(Track::summary).collect(),
    })
}

/// The samples from the start of the recording to its end, when that is known.
fn at_least(span: Span, rate: u32) -> u64 {
    let micros = span.end.map_or(0, |end| end.since(span.start).as_micros());
    u64::try_from(micros * u128::from(rate) / 1_000_000).unwrap_or(u64::MAX)
}

fn interleave<W: Write + Seek>(
    wav: &mut WavWriter<W>,
    blocks: &[Vec<i16>],
    frames: usize,
) -> Result<(), ExportError> {
    // At most a block a channel, of which there are fewer than 2^16.
    let mut writer = wav.get_i16_writer((frames * blocks.len()) as u32);
    match blocks {
        [left, right] => {
            for (left, right) in left.iter().zip(right).take(frames) {
                writer.write_sample(*left);
                writer.write_sample(*right);
            }
        }
        blocks => {
            for frame in 0..frames {
                for block in blocks {
                    writer.write_sample(block.get(frame).copied().unwrap_or(0));
                }
            }
        }
    }
    writer.flush().map_err(writing)
}

fn writing(error: hound::Error) -> ExportError {
    match error {
        hound::Error::IoError(error) => ExportError::Write(error),
        other => ExportError::Write(std::io::Error::other(other)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::codec::{Encoder, frame_samples};
    use crate::export::sample_rate;
    use crate::rtp::Codec;
    use crate::time::Timestamp;

    const START: Timestamp = Timestamp::from_micros(1_795_298_400_000_000);

    fn after(ms: u64) -> Timestamp {
        START.plus(Duration::from_millis(ms))
    }

    /// A party that says tones: packets of 20 ms from `from` ms on, silence where there is none.
    struct Speaker {
        codec: Codec,
        ssrc: u32,
        first_sequence: u16,
        first_timestamp: u32,
        from: u64,
    }

    impl Speaker {
        fn new(codec: Codec) -> Self {
            // Both numbers wrap within the first second.
            let first_timestamp = u32::MAX - 20 * codec.clock_rate() / 1000;
            Self { codec, ssrc: 0xfeed, first_sequence: 65_520, first_timestamp, from: 0 }
        }

        /// `tones`: frequency, start and end in ms after the start of the recording.
        fn says(&self, until: u64, tones: &[(f64, u64, u64)]) -> Vec<SourceRecord> {
            let rate = self.codec.sample_rate();
            let size = frame_samples(self.codec);
            let mut encoder = Encoder::new(self.codec).unwrap();
            (0..(until - self.from) / 20)
                .map(|n| {
                    let begin = (self.from + n * 20) * u64::from(rate) / 1000;
                    let sample = |k: usize| {
                        let at = (begin + k as u64) as f64 / f64::from(rate);
                        let tone = tones.iter().find(|(_, from, to)| {
                            (*from as f64..*to as f64).contains(&(at * 1000.0))
                        });
                        tone.map_or(0.0, |(hz, ..)| {
                            (at * hz * std::f64::consts::TAU).sin() * 10_000.0
                        }) as i16
                    };
                    let frame: Vec<i16> = (0..size).map(sample).collect();
                    let mut packet = vec![0x80, 96];
                    let sequence = self.first_sequence.wrapping_add(n as u16);
                    let step = self.codec.clock_rate() / 50;
                    let timestamp = self.first_timestamp.wrapping_add(n as u32 * step);
                    packet.extend(sequence.to_be_bytes());
                    packet.extend(timestamp.to_be_bytes());
                    packet.extend(self.ssrc.to_be_bytes());
                    encoder.encode(&frame, &mut packet).unwrap();
                    let arrival = after(self.from + n * 20);
                    SourceRecord { arrival, codec: Some(self.codec), packet }
                })
                .collect()
        }
    }

    fn export(span: Span, tracks: Vec<Vec<SourceRecord>>) -> (u32, Vec<Vec<i16>>, Summary) {
        let rate = sample_rate(tracks.iter().flatten().filter_map(|record| record.codec));
        let mut file = Cursor::new(Vec::new());
        let sources: Vec<_> =
            tracks.into_iter().map(|records| records.into_iter().map(Ok)).collect();
        let channels = sources.len();
        let summary = write_wav(&mut file, span, rate, sources).unwrap();
        file.set_position(0);
        let mut wav = hound::WavReader::new(file).unwrap();
        assert_eq!((wav.spec().channels as usize, wav.spec().sample_rate), (channels, rate));
        let mut out = vec![Vec::new(); channels];
        for (n, sample) in wav.samples::<i16>().enumerate() {
            out[n % channels].push(sample.unwrap());
        }
        (rate, out, summary)
    }

    fn since_start() -> Span {
        Span { start: START, end: None }
    }

    /// The amplitude of one frequency in a stretch of samples (Goertzel).
    fn level(samples: &[i16], rate: u32, hz: f64) -> f64 {
        let coefficient = 2.0 * (std::f64::consts::TAU * hz / f64::from(rate)).cos();
        let (mut before, mut last) = (0.0, 0.0);
        for sample in samples {
            (before, last) = (last, f64::from(*sample) + coefficient * last - before);
        }
        let power = last * last + before * before - coefficient * last * before;
        2.0 * power.max(0.0).sqrt() / samples.len() as f64
    }

    fn between(samples: &[i16], rate: u32, from_ms: u64, to_ms: u64) -> &[i16] {
        let at = |ms: u64| (ms * u64::from(rate) / 1000) as usize;
        &samples[at(from_ms)..at(to_ms)]
    }

    fn loudness(samples: &[i16]) -> f64 {
        (samples.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / samples.len() as f64).sqrt()
    }

    /// When the sound begins, in ms: the first of them that are loud.
    fn onset(samples: &[i16], rate: u32) -> f64 {
        let mut each_ms = samples.chunks(rate as usize / 1000);
        each_ms.position(|ms| loudness(ms) > 2500.0).unwrap() as f64
    }

    #[test]
    fn each_party_is_on_its_channel_at_its_time_and_pitch() {
        for (left, right) in [
            (Codec::Pcmu, Codec::Pcma),
            (Codec::G722, Codec::G722),
            (Codec::Opus, Codec::Opus),
            (Codec::Pcmu, Codec::G722),
            (Codec::Opus, Codec::Pcma),
            (Codec::G722, Codec::Opus),
        ] {
            let caller = Speaker::new(left).says(6000, &[(440.0, 1500, 2500)]);
            let callee = Speaker { from: 800, ..Speaker::new(right) }
                .says(7000, &[(1000.0, 1500, 2000), (600.0, 4000, 5000)]);
            let (rate, channels, summary) = export(since_start(), vec![caller, callee]);
            let [left_channel, right_channel] = channels.as_slice() else { panic!() };
            let names = format!("{left:?} and {right:?}");
            assert_eq!(rate, left.sample_rate().max(right.sample_rate()), "{names}");
            assert_eq!(summary.duration, Duration::from_secs(7), "{names}");
            assert_eq!(left_channel.len(), rate as usize * 7, "{names}");

            let tone = |samples, from, to, hz| level(between(samples, rate, from, to), rate, hz);
            assert!(tone(left_channel, 1600, 2400, 440.0) > 8000.0, "{names}");
            assert!(tone(left_channel, 1600, 1900, 1000.0) < 300.0, "{names}");
            assert!(tone(right_channel, 1600, 1900, 1000.0) > 8000.0, "{names}");
            assert!(tone(right_channel, 4100, 4900, 600.0) > 8000.0, "{names}");
            assert!(tone(right_channel, 1600, 1900, 440.0) < 300.0, "{names}");
            for (samples, from, to) in [
                (left_channel, 0, 1400),
                (left_channel, 2600, 7000),
                (right_channel, 0, 1400),
                (right_channel, 2100, 3900),
                (right_channel, 5100, 7000),
            ] {
                assert!(loudness(between(samples, rate, from, to)) < 100.0, "{names} {from}");
            }
            let (left_onset, right_onset) = (onset(left_channel, rate), onset(right_channel, rate));
            assert!((left_onset - 1500.0).abs() < 20.0, "{names}: {left_onset}");
            assert!((left_onset - right_onset).abs() < 20.0, "{names}: {left_onset} {right_onset}");
        }
    }

    #[test]
    fn loss_and_reordering_leave_everything_in_its_place() {
        for codec in Codec::ALL {
            let mut records = Speaker::new(codec).says(10_000, &[(700.0, 8000, 9000)]);
            let last = records.len();
            // A whole second is lost, single packets are, some come twice or 60 ms late.
            let mut n = 0;
            records.retain(|_| {
                n += 1;
                !(150..200).contains(&n) && (n % 17 != 0 || n > last - 150)
            });
            for n in (5..records.len() - 5).step_by(9) {
                records[n].arrival = records[n].arrival.plus(Duration::from_millis(60));
                if n % 2 == 0 {
                    let again = records[n].clone();
                    records.push(again);
                }
            }
            records.sort_by_key(|record| record.arrival.as_micros());
            let (rate, channels, summary) = export(since_start(), vec![records]);
            assert_eq!(summary.duration, Duration::from_secs(10), "{codec:?}");
            assert!(summary.tracks[0].dropped > 10, "{codec:?}");
            let begins = onset(&channels[0], rate);
            assert!((begins - 8000.0).abs() < 20.0, "{codec:?}: {begins}");
            let tone = level(between(&channels[0], rate, 8100, 8900), rate, 700.0);
            assert!(tone > 8000.0, "{codec:?}: {tone}");
        }
    }

    #[test]
    fn a_lost_second_is_a_second_of_silence() {
        let mut records = Speaker::new(Codec::Pcma).says(5000, &[(700.0, 0, 5000)]);
        records.drain(100..150);
        let (rate, channels, summary) = export(since_start(), vec![records]);
        assert!(between(&channels[0], rate, 2000, 3000).iter().all(|s| *s == 0));
        assert!(loudness(between(&channels[0], rate, 1950, 2000)) > 5000.0);
        assert!(loudness(between(&channels[0], rate, 3000, 3050)) > 5000.0);
        assert_eq!(summary.tracks[0].audio, Duration::from_secs(4));
    }

    #[test]
    fn a_pause_and_another_source_keep_the_clock() {
        let mut records = Speaker::new(Codec::Pcmu).says(2000, &[(500.0, 0, 2000)]);
        let after_pause = Speaker {
            ssrc: 5,
            first_sequence: 9,
            first_timestamp: 77,
            from: 62_000,
            ..Speaker::new(Codec::Pcmu)
        };
        records.extend(after_pause.says(63_000, &[(900.0, 62_000, 63_000)]));
        let (rate, channels, summary) = export(since_start(), vec![records]);
        assert_eq!(summary.duration, Duration::from_secs(63));
        assert!(between(&channels[0], rate, 2000, 62_000).iter().all(|s| *s == 0));
        assert!(level(between(&channels[0], rate, 62_000, 63_000), rate, 900.0) > 8000.0);
    }

    #[test]
    fn a_codec_that_changes_in_mid_call_is_heard_throughout() {
        let mut records = Speaker::new(Codec::Pcmu).says(2000, &[(500.0, 0, 4000)]);
        let second = Speaker {
            from: 2000,
            first_sequence: 65_520_u16.wrapping_add(100),
            ..Speaker::new(Codec::G722)
        };
        records.extend(second.says(4000, &[(500.0, 0, 4000)]));
        let (rate, channels, _) = export(since_start(), vec![records]);
        assert_eq!((rate, channels[0].len()), (16_000, 64_000));
        for from in (100..3800).step_by(100) {
            let tone = level(between(&channels[0], rate, from, from + 100), rate, 500.0);
            assert!(tone > 7000.0, "{from} ms: {tone}");
        }
    }

    #[test]
    fn a_party_without_a_recording_is_a_silent_channel() {
        let caller = Speaker::new(Codec::Pcmu).says(1000, &[(500.0, 0, 1000)]);
        let (_, channels, _) = export(since_start(), vec![caller, Vec::new()]);
        assert_eq!(channels[0].len(), channels[1].len());
        assert!(channels[1].iter().all(|s| *s == 0));
    }

    #[test]
    fn an_export_lasts_until_the_recording_ended() {
        let span = Span { start: START, end: Some(after(12_500)) };
        let caller = Speaker::new(Codec::Pcmu).says(1000, &[]);
        let (_, channels, summary) = export(span, vec![caller, Vec::new()]);
        assert_eq!(summary.duration, Duration::from_millis(12_500));
        assert_eq!(channels[0].len(), 100_000);
    }

    #[test]
    fn keys_and_damage_are_silence_and_damage_is_counted() {
        let mut records = Speaker::new(Codec::Opus).says(1000, &[]);
        records[10].packet = vec![1, 2, 3];
        records[20].packet.truncate(12);
        records[20].packet.extend([0xff; 7]);
        records[30].codec = None;
        let (_, channels, summary) = export(since_start(), vec![records]);
        assert_eq!(summary.tracks[0].damaged, 2);
        assert_eq!(summary.tracks[0].packets, 47);
        assert_eq!(channels[0].len(), 48_000);
    }

    #[test]
    fn what_arrived_before_the_start_is_not_exported() {
        let records = Speaker::new(Codec::Pcmu).says(2000, &[(500.0, 0, 2000)]);
        let span = Span { start: after(1010), end: None };
        let (_, channels, summary) = export(span, vec![records]);
        assert_eq!(summary.duration, Duration::from_millis(990));
        assert_eq!(channels[0].len(), 990 * 8);
    }

    #[test]
    fn a_record_that_cannot_be_read_ends_the_export_with_its_reason() {
        let records = Speaker::new(Codec::Pcmu).says(100, &[]).into_iter().map(Ok);
        let broken = std::iter::once(Err(SourceError("chunk 7 is damaged".into())));
        let source: Vec<Box<dyn Iterator<Item = Result<_, _>>>> =
            vec![Box::new(records.chain(broken))];
        let error = write_wav(Cursor::new(Vec::new()), since_start(), 8000, source).unwrap_err();
        assert!(error.to_string().contains("chunk 7 is damaged"), "{error}");
    }

    #[test]
    fn a_recording_longer_than_a_file_can_be_is_refused() {
        let span = Span { start: START, end: Some(after(40 * 86_400_000)) };
        let none: Vec<std::iter::Empty<_>> = vec![std::iter::empty(), std::iter::empty()];
        let result = write_wav(Cursor::new(Vec::new()), span, 48_000, none);
        assert!(matches!(result, Err(ExportError::TooLong)));
    }
}
