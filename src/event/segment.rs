//! `segment`: one file of one stream, finished.

use serde::Serialize;

use crate::ids::{CallId, Digest, RecordingId, StreamIndex, Token};
use crate::time::Timestamp;

/// `segment.sealed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SegmentSealed {
    /// The call.
    pub call: CallId,
    /// The recording.
    pub recording: RecordingId,
    /// Which stream of it.
    pub stream: StreamIndex,
    /// Which segment of the stream, from 0.
    pub index: u32,
    /// The first packet's arrival.
    pub start: Timestamp,
    /// The last packet's arrival.
    pub end: Timestamp,
    /// The file's size.
    pub bytes: u64,
    /// The file's SHA-256.
    pub sha256: Digest,
    /// The data key's identifier.
    pub key: Token,
    /// Where the file is.
    pub location: SegmentLocation,
    /// Whether its last chunk is there.
    pub result: SegmentEnd,
}

/// Whether a segment has its last chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SegmentEnd {
    /// It has.
    Complete,
    /// It has not; all whole chunks still read.
    Truncated,
}

/// A segment's path below the recordings' folder or bucket:
/// `<yyyy>/<mm>/<dd>/<recording uuid>/<stream index>-<segment index>.seg`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SegmentLocation(String);

impl SegmentLocation {
    /// Takes a path of that form, and no other.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let mut parts = path.split('/');
        let mut digits = |length: usize| {
            parts.next().filter(|p| p.len() == length && p.bytes().all(|b| b.is_ascii_digit()))
        };
        let (_, _, _) = (digits(4)?, digits(2)?, digits(2)?);
        parts.next()?.parse::<RecordingId>().ok()?;
        let (stream, index) = parts.next()?.strip_suffix(".seg")?.split_once('-')?;
        let (_, _) = (stream.parse::<u8>().ok()?, index.parse::<u32>().ok()?);
        parts.next().is_none().then(|| Self(path.to_owned()))
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
