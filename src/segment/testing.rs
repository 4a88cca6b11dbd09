//! What the tests of this folder share: a sink in memory, packets, and segments made of them.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::ids::{Digest, PartyRef, StreamId, StreamIndex};
use crate::keys::DataKey;
use crate::segment::format::{Chunk, Codecs, SegmentName};
use crate::segment::reader::{ReadError, SegmentReader};
use crate::segment::sink::{NotTaken, SegmentHead, SegmentSink, SegmentTail};
use crate::segment::stream::{StreamStart, StreamWriter};
use crate::time::Timestamp;

pub(super) const EVIDENCE: Digest = Digest([0xe5; 32]);

pub(super) fn key() -> DataKey {
    DataKey::from_bytes(&[0x42; 32])
}

pub(super) fn stream() -> StreamId {
    let recording = "019aa8a6-2c00-7abc-8def-0123456789ab".parse().unwrap();
    StreamId { recording, index: StreamIndex(0) }
}

pub(super) fn at(millis: u64) -> Timestamp {
    let start: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
    start.plus(Duration::from_millis(millis))
}

pub(super) fn start() -> StreamStart {
    StreamStart {
        party_ref: Some(PartyRef([0x70; 32])),
        source: "192.0.2.7:4000".parse().unwrap(),
        codecs: Codecs::new().with(0, "PCMU", 8000).with(8, "PCMA", 8000).with(
            101,
            "telephone-event",
            8000,
        ),
        segment: Duration::from_secs(60),
        first_segment: 0,
    }
}

pub(super) fn writer<S: SegmentSink>(sink: S) -> StreamWriter<S> {
    StreamWriter::new(stream(), EVIDENCE, key(), start(), sink)
}

/// An RTP packet of so many bytes.
pub(super) fn packet(payload_type: u8, sequence: u16, length: usize) -> Vec<u8> {
    let mut bytes = vec![0x80, payload_type];
    bytes.extend(sequence.to_be_bytes());
    bytes.extend((u32::from(sequence) * 160).to_be_bytes());
    bytes.extend(0xdead_beef_u32.to_be_bytes());
    bytes.extend((0..length.saturating_sub(12)).map(|i| (i as u8) ^ (sequence as u8)));
    bytes.truncate(length.max(1));
    bytes
}

/// Offsets and packets.
type Records = Vec<(Duration, Vec<u8>)>;

/// Every record of a segment, and how it ended.
pub(super) fn read_all<R: Read>(source: R, name: SegmentName) -> (Records, Result<(), ReadError>) {
    let mut records = Records::new();
    let mut reader = match SegmentReader::open(source, &key(), &name.associated_data(EVIDENCE)) {
        Ok(reader) => reader,
        Err(error) => return (records, Err(error)),
    };
    loop {
        match reader.next_record() {
            Ok(Some(record)) => records.push((record.offset, record.rtp.to_vec())),
            Ok(None) => return (records, Ok(())),
            Err(error) => return (records, Err(error)),
        }
    }
}

/// A sink that keeps everything in memory.
#[derive(Clone, Default)]
pub(super) struct Memory(Arc<Mutex<Contents>>);

#[derive(Default)]
pub(super) struct Contents {
    pub(super) segments: BTreeMap<u32, Segment>,
    /// Chunks refused before one is taken.
    pub(super) full_for: u32,
    pub(super) closed: bool,
    pub(super) dropped: u64,
}

#[derive(Clone)]
pub(super) struct Segment {
    pub(super) head: SegmentHead,
    pub(super) bytes: Vec<u8>,
    pub(super) tail: Option<Tail>,
}

#[derive(Clone, Debug)]
pub(super) struct Tail {
    pub(super) whole: bool,
    pub(super) end: Timestamp,
    pub(super) packets: u64,
    pub(super) masked: u64,
    pub(super) gaps: Vec<crate::segment::format::Gap>,
}

impl Memory {
    pub(super) fn with<T>(&self, what: impl FnOnce(&mut Contents) -> T) -> T {
        what(&mut self.0.lock().unwrap())
    }

    pub(super) fn segment(&self, number: u32) -> Segment {
        self.with(|contents| contents.segments[&number].clone())
    }

    pub(super) fn count(&self) -> usize {
        self.with(|contents| contents.segments.len())
    }
}

impl Contents {
    fn segment(&mut self, head: &SegmentHead) -> &mut Segment {
        let new = || Segment { head: head.clone(), bytes: Vec::new(), tail: None };
        self.segments.entry(head.name.segment).or_insert_with(new)
    }
}

impl SegmentSink for Memory {
    fn chunk(&mut self, head: &SegmentHead, chunk: Chunk) -> Result<(), NotTaken> {
        self.with(|contents| {
            if contents.closed {
                return Err(NotTaken::Closed);
            }
            if contents.full_for > 0 {
                contents.full_for -= 1;
                return Err(NotTaken::Full(chunk));
            }
            contents.segment(head).bytes.extend_from_slice(chunk.bytes());
            Ok(())
        })
    }

    fn end(&mut self, head: &SegmentHead, tail: SegmentTail) {
        self.with(|contents| {
            let segment = contents.segment(head);
            let SegmentTail { kept, last, end, packets, masked, gaps } = tail;
            let whole = last.is_some();
            segment.tail = Some(Tail { whole, end, packets, masked, gaps });
            for chunk in kept.into_iter().chain(last) {
                segment.bytes.extend_from_slice(chunk.bytes());
            }
        });
    }

    fn dropped(&mut self, packets: u64) {
        self.with(|contents| contents.dropped += packets);
    }
}
