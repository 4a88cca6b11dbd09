//! A track's records out of its encrypted segments.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use super::{SourceError, SourceRecord};
use crate::keys::DataKey;
use crate::rtp::Codec;
use crate::segment::format::{AssociatedData, CodecUse, Codecs};
use crate::segment::{ReadError, SegmentReader};

/// One segment of a track: all that it takes to read it.
#[derive(Clone, Debug)]
pub struct SegmentSource {
    /// The file.
    pub path: PathBuf,
    /// What its encryption is bound to.
    pub associated: AssociatedData,
    /// What its payload types mean, as its manifest says.
    pub codecs: Codecs,
}

impl SegmentSource {
    /// The audio codecs in it, for [`super::sample_rate`].
    pub fn audio(&self) -> impl Iterator<Item = Codec> + '_ {
        self.codecs.iter().filter_map(|(_, codec)| codec.audio())
    }
}

/// A segment that is not as it was written, or cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct UnreadableSegment {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: ReadError,
}

/// The records of one party's segments, one after another, with one file open at a time.
///
/// What a crash cut off reads as far as it goes. Anything else that is not as it was written ends
/// the records with an error: an export never passes off what it cannot prove.
pub struct SegmentRecords<'a> {
    key: &'a DataKey,
    segments: VecDeque<SegmentSource>,
    open: Option<(SegmentSource, SegmentReader<BufReader<File>>)>,
}

impl<'a> SegmentRecords<'a> {
    /// The records of these segments, in their order, under the party's data key.
    #[must_use]
    pub fn new(segments: impl IntoIterator<Item = SegmentSource>, key: &'a DataKey) -> Self {
        Self { key, segments: segments.into_iter().collect(), open: None }
    }

    fn next_record(&mut self) -> Result<Option<SourceRecord>, UnreadableSegment> {
        loop {
            if let Some((source, reader)) = &mut self.open {
                let start = reader.preamble().start;
                match reader.next_record() {
                    Ok(Some(record)) => {
                        return Ok(Some(SourceRecord {
                            arrival: start.plus(record.offset),
                            codec: audio_of(&source.codecs, record.rtp),
                            packet: record.rtp.to_vec(),
                        }));
                    }
                    Ok(None) | Err(ReadError::Truncated { .. }) => {}
                    Err(why) => return Err(UnreadableSegment { path: source.path.clone(), why }),
                }
            }
            let Some(source) = self.segments.pop_front() else { return Ok(None) };
            self.open = match self.begin(&source) {
                Ok(reader) => Some((source, reader)),
                // A crash before the first whole chunk leaves nothing to read.
                Err(ReadError::Truncated { .. }) => None,
                Err(why) => return Err(UnreadableSegment { path: source.path, why }),
            };
        }
    }

    fn begin(&self, source: &SegmentSource) -> Result<SegmentReader<BufReader<File>>, ReadError> {
        let file = BufReader::new(File::open(&source.path)?);
        SegmentReader::open(file, self.key, &source.associated)
    }
}

impl Iterator for SegmentRecords<'_> {
    type Item = Result<SourceRecord, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_record();
        if next.is_err() {
            // Nothing comes after an error.
            self.segments.clear();
            self.open = None;
        }
        next.map_err(|error| SourceError(error.into())).transpose()
    }
}

fn audio_of(codecs: &Codecs, packet: &[u8]) -> Option<Codec> {
    let payload_type = packet.get(1)? & 0x7f;
    codecs.get(payload_type).and_then(CodecUse::audio)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::export::{Span, sample_rate, write_wav};
    use crate::ids::{Digest, StreamId, StreamIndex};
    use crate::segment::format::SegmentName;
    use crate::segment::format::aead::{
        CHUNK, FIRST_PLAINTEXT, PLAINTEXT, Place, Seed, SegmentCipher,
    };
    use crate::segment::format::rtpdump::{Preamble, record_header};
    use crate::time::Timestamp;

    const START: Timestamp = Timestamp::from_micros(1_795_298_400_000_000);

    fn key() -> DataKey {
        DataKey::from_bytes(&[7; 32])
    }

    /// Half a second of A-law, all of one value, with a key press in between.
    fn segment(folder: &Path, number: u32, value: u8) -> SegmentSource {
        let recording = "019aa8a6-2c00-7abc-8def-0123456789ab".parse().unwrap();
        let name =
            SegmentName { stream: StreamId { recording, index: StreamIndex(0) }, segment: number };
        let associated = name.associated_data(Digest::of(b"evidence"));
        let start = START.plus(Duration::from_millis(500 * u64::from(number)));
        let source = "127.0.0.1:4000".parse().unwrap();
        let mut text = Preamble { start, source }.encode();
        for n in 0..26_u32 {
            let (payload_type, n) = if n == 25 { (101, 24) } else { (8, n) };
            let count = number * 25 + n;
            let mut packet = vec![0x80, payload_type];
            packet.extend((count as u16).to_be_bytes());
            packet.extend((count * 160).to_be_bytes());
            packet.extend([0, 0, 0, 1]);
            packet.extend([value; 160]);
            let offset = Duration::from_millis(u64::from(n) * 20);
            text.extend(record_header(packet.len(), offset).unwrap());
            text.extend(packet);
        }
        let path = folder.join(format!("0-{number}.seg"));
        std::fs::write(&path, sealed(&text, &associated)).unwrap();
        let codecs = Codecs::new().with(8, "PCMA", 8000).with(101, "telephone-event", 8000);
        SegmentSource { path, associated, codecs }
    }

    fn sealed(text: &[u8], associated: &AssociatedData) -> Vec<u8> {
        let seed = Seed { salt: [1; 32], nonce_prefix: [2; 7] };
        let cipher = SegmentCipher::new(key().expose(), &seed, associated);
        let mut file = seed.header().to_vec();
        let (first, rest) = text.split_at(text.len().min(FIRST_PLAINTEXT));
        let mut pieces = vec![first];
        pieces.extend(rest.chunks(PLAINTEXT));
        let last = pieces.len() - 1;
        for (n, piece) in pieces.into_iter().enumerate() {
            let place = if n == last { Place::Last } else { Place::Inner };
            let mut piece = piece.to_vec();
            let tag = cipher.seal(n as u32, place, &mut piece).unwrap();
            file.extend(piece);
            file.extend(tag);
        }
        file
    }

    #[test]
    fn segments_become_one_unbroken_track_and_keys_are_not_audio() {
        let folder = tempfile::tempdir().unwrap();
        let segments: Vec<_> = (0..4).map(|n| segment(folder.path(), n, 0x80)).collect();
        assert_eq!(sample_rate(segments.iter().flat_map(SegmentSource::audio)), 8000);
        let key = key();
        let mut file = Cursor::new(Vec::new());
        let span = Span { start: START, end: None };
        let summary =
            write_wav(&mut file, span, 8000, vec![SegmentRecords::new(segments, &key)]).unwrap();
        assert_eq!(summary.duration, Duration::from_secs(2));
        assert_eq!(summary.tracks[0].packets, 100);
        file.set_position(0);
        let mut wav = hound::WavReader::new(file).unwrap();
        assert!(wav.samples::<i16>().all(|sample| sample.unwrap() == 5504));
    }

    #[test]
    fn what_a_crash_cut_off_is_read_as_far_as_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let segments: Vec<_> = (0..3).map(|n| segment(folder.path(), n, 0x80)).collect();
        for (cut, length) in [(0, CHUNK + 99), (1, 10)] {
            let path = &segments[cut].path;
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, &bytes[..length]).unwrap();
        }
        let key = key();
        let records: Vec<_> =
            SegmentRecords::new(segments, &key).collect::<Result<_, _>>().unwrap();
        assert_eq!(records.len(), (FIRST_PLAINTEXT - 45) / 180 + 26);
    }

    #[test]
    fn damage_ends_the_track_and_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let segments: Vec<_> = (0..3).map(|n| segment(folder.path(), n, 0x80)).collect();
        let path = &segments[1].path;
        let mut bytes = std::fs::read(path).unwrap();
        bytes[3000] ^= 1;
        std::fs::write(path, bytes).unwrap();
        let key = key();
        let mut records = SegmentRecords::new(segments, &key);
        let error = records.by_ref().find_map(Result::err).unwrap().to_string();
        assert!(error.contains("0-1.seg") && error.contains("damaged"), "{error}");
        assert!(records.next().is_none());
    }
}
