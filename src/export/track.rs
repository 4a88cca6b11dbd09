//! One party's audio: packets in, samples on the export's clock out.

use std::collections::VecDeque;
use std::time::Duration;

use super::{ExportError, SourceError, SourceRecord, TrackSummary};
use crate::codec::{CodecError, Decoder, Resampler};
use crate::rtp::timeline::{Pushed, Stamp, TICKS_PER_SECOND, Timeline};
use crate::rtp::{Codec, RtpPacket};
use crate::time::Timestamp;

/// Reads a track's records only as far as the samples that are asked for.
pub(super) struct Track<I> {
    records: I,
    timeline: Timeline<(Codec, Vec<u8>)>,
    rate: u32,
    decoder: Option<Decoder>,
    run: Option<Run>,
    /// What is decoded and not given yet: a packet's worth, two where one run follows another.
    pieces: VecDeque<Piece>,
    /// Scratch space for one packet.
    decoded: Vec<i16>,
    /// The first sample that has not been given.
    cursor: i64,
    given: u64,
    ended: bool,
    summary: TrackSummary,
}

/// Audio, and where it begins in samples after the start.
struct Piece {
    at: i64,
    samples: Vec<i16>,
}

/// Packets whose audio joins without a seam, on its way through one resampler.
struct Run {
    codec: Codec,
    resampler: Resampler,
    start: i64,
    /// Samples given to the resampler, at the codec's rate.
    fed: i64,
    /// Samples taken from it, at the export's.
    made: i64,
}

/// What a stretch of a track holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filled {
    /// Samples up to the end of the last audio in it.
    pub(super) used: usize,
    /// Whether there is audio after it.
    pub(super) more: bool,
}

impl<I> Track<I>
where
    I: Iterator<Item = Result<SourceRecord, SourceError>>,
{
    pub(super) fn new(records: I, start: Timestamp, rate: u32) -> Self {
        Self {
            records,
            timeline: Timeline::new(start),
            rate,
            decoder: None,
            run: None,
            pieces: VecDeque::new(),
            decoded: Vec::new(),
            cursor: 0,
            given: 0,
            ended: false,
            summary: TrackSummary::default(),
        }
    }

    /// Writes the next samples of the track over `out`, which is silent.
    pub(super) fn fill(&mut self, out: &mut [i16]) -> Result<Filled, ExportError> {
        let block = self.cursor;
        let block_end = block + length(out);
        let mut used = 0;
        let more = loop {
            let Some(piece) = self.pieces.front() else {
                if self.ended {
                    break false;
                }
                self.decode_next()?;
                continue;
            };
            let end = piece.at + length(&piece.samples);
            // What lies before the cursor overlaps audio that has been given.
            let (from, to) = (piece.at.max(self.cursor), end.min(block_end));
            if from < to {
                let source = piece.samples.get(range(from - piece.at, to - piece.at));
                let target = out.get_mut(range(from - block, to - block));
                if let (Some(source), Some(target)) = (source, target) {
                    target.copy_from_slice(source);
                }
                used = range(0, to - block).end;
                self.given += (to - from).unsigned_abs();
                self.cursor = to;
            }
            if end > block_end {
                break true;
            }
            self.pieces.pop_front();
        };
        self.cursor = block_end;
        Ok(Filled { used, more })
    }

    pub(super) fn summary(&self) -> TrackSummary {
        let micros = self.given * 1_000_000 / u64::from(self.rate);
        TrackSummary { audio: Duration::from_micros(micros), ..self.summary }
    }

    /// Decodes one packet into the pieces, or ends the track.
    fn decode_next(&mut self) -> Result<(), ExportError> {
        let Some((position, codec, payload)) = self.next_packet()? else {
            self.ended = true;
            return Ok(self.end_run()?);
        };
        self.decoded.clear();
        let decoder = match &mut self.decoder {
            Some(decoder) if decoder.codec() == codec => decoder,
            other => other.insert(Decoder::new(codec)?),
        };
        match decoder.decode(&payload, &mut self.decoded) {
            Err(CodecError::Damaged) => {
                self.summary.damaged += 1;
                return Ok(());
            }
            decoded => decoded?,
        }
        self.summary.packets += 1;
        let joins = self.run.as_ref().is_some_and(|run| run.joins(codec, position, self.rate));
        if !joins {
            self.end_run()?;
            self.begin_run(codec, position)?;
        }
        Ok(self.feed_run()?)
    }

    /// The next packet of audio in order, with its place in samples.
    fn next_packet(&mut self) -> Result<Option<(i64, Codec, Vec<u8>)>, ExportError> {
        let placed = loop {
            if let Some(placed) = self.timeline.pop() {
                break placed;
            }
            match self.records.next() {
                Some(record) => self.push(record?),
                None => match self.timeline.drain() {
                    Some(placed) => break placed,
                    None => return Ok(None),
                },
            }
        };
        let (codec, payload) = placed.item;
        Ok(Some((placed.position * i64::from(self.rate) / TICKS_PER_SECOND, codec, payload)))
    }

    fn push(&mut self, record: SourceRecord) {
        let Some(codec) = record.codec else { return };
        let Ok(packet) = RtpPacket::parse(&record.packet) else {
            self.summary.damaged += 1;
            return;
        };
        let stamp = Stamp {
            arrival: record.arrival,
            ssrc: packet.ssrc(),
            sequence: packet.sequence(),
            timestamp: packet.timestamp(),
            clock_rate: codec.clock_rate(),
            marker: packet.marker(),
        };
        match self.timeline.push(stamp, (codec, packet.payload().to_vec())) {
            Pushed::Kept => {}
            Pushed::Duplicate | Pushed::Late => self.summary.dropped += 1,
        }
    }

    fn begin_run(&mut self, codec: Codec, position: i64) -> Result<(), CodecError> {
        let resampler = match self.run.take() {
            // One that has finished is as good as new, and its filter is set up.
            Some(run) if run.codec == codec => run.resampler,
            _ => Resampler::new(codec.sample_rate(), self.rate)?,
        };
        self.run = Some(Run { codec, resampler, start: position, fed: 0, made: 0 });
        Ok(())
    }

    fn feed_run(&mut self) -> Result<(), CodecError> {
        let Some(run) = &mut self.run else { return Ok(()) };
        let mut samples = Vec::with_capacity(self.decoded.len());
        run.resampler.push(&self.decoded, &mut samples)?;
        run.fed += length(&self.decoded);
        let piece = run.piece(samples);
        self.pieces.push_back(piece);
        Ok(())
    }

    /// Takes out of the resampler what it still holds.
    fn end_run(&mut self) -> Result<(), CodecError> {
        let Some(run) = &mut self.run else { return Ok(()) };
        let mut samples = Vec::new();
        run.resampler.finish(&mut samples)?;
        let piece = run.piece(samples);
        self.pieces.push_back(piece);
        Ok(())
    }
}

impl Run {
    /// Whether a packet begins where the run ends, within a millisecond: some senders count their
    /// timestamps a little off, and a seam would be heard.
    fn joins(&self, codec: Codec, position: i64, rate: u32) -> bool {
        let end = self.start + self.fed * i64::from(rate) / i64::from(codec.sample_rate());
        codec == self.codec && (position - end).abs() < i64::from(rate) / 1000
    }

    fn piece(&mut self, samples: Vec<i16>) -> Piece {
        let at = self.start + self.made;
        self.made += length(&samples);
        Piece { at, samples }
    }
}

fn length(samples: &[i16]) -> i64 {
    // A slice of samples is far shorter than i64::MAX.
    samples.len() as i64
}

/// A range of a slice; what is negative becomes its start.
fn range(from: i64, to: i64) -> std::ops::Range<usize> {
    usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0)
}
