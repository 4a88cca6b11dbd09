//! What a disk that somebody else wrote to may hold.

use crate::ids::{Digest, StreamId, StreamIndex};
use crate::keys::DataKey;
use crate::segment::format::rtpdump::RecordParser;
use crate::segment::format::{SegmentName, SignedManifest};
use crate::segment::{ReadError, SegmentReader};

/// A segment file, under the key of the published example (docs/segment-format.md).
pub fn segment_file(bytes: &[u8]) {
    let recording = "019aa8a6-2c00-7abc-8def-0123456789ab".parse().expect("an id");
    let stream = StreamId { recording, index: StreamIndex(0) };
    let associated = SegmentName { stream, segment: 0 }.associated_data(Digest([0xe5; 32]));
    let key = DataKey::from_bytes(&[0x42; 32]);
    let mut records = 0;
    let end = SegmentReader::open(bytes, &key, &associated).and_then(|mut reader| {
        while let Some(record) = reader.next_record()? {
            assert!(!record.rtp.is_empty());
            records += 1;
        }
        Ok(())
    });
    assert!(records <= bytes.len());
    match end {
        Ok(()) | Err(ReadError::Io(_)) => {}
        Err(ReadError::Truncated { whole }) => assert!(whole <= bytes.len() as u64),
        Err(ReadError::Damaged { range }) => assert!(range.start <= range.end),
    }
}

/// The plaintext of a segment, in the pieces that the first byte says.
pub fn segment_records(bytes: &[u8]) {
    let Some((step, text)) = bytes.split_first() else { return };
    let whole = records(text, text.len().max(1));
    assert_eq!(whole, records(text, usize::from(*step) + 1));
}

/// The lengths of the records, and where a malformed one begins.
fn records(text: &[u8], step: usize) -> (Vec<usize>, Option<u64>) {
    let mut parser = RecordParser::new();
    let (mut found, mut begun) = (Vec::new(), false);
    for piece in text.chunks(step) {
        parser.feed(piece);
        if !begun {
            match parser.preamble() {
                Ok(Some(_)) => begun = true,
                Ok(None) => continue,
                Err(malformed) => return (found, Some(malformed.at)),
            }
        }
        loop {
            match parser.record() {
                Ok(Some(record)) => found.push(record.rtp.len()),
                Ok(None) => break,
                Err(malformed) => return (found, Some(malformed.at)),
            }
        }
    }
    (found, None)
}

/// A manifest. One that reads is written as it was read.
pub fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = SignedManifest::parse(bytes) {
        assert_eq!(manifest.to_bytes(), bytes);
        assert!(!manifest.manifest.signed_text().is_empty());
    }
}
