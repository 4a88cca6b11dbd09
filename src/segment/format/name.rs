//! Where a segment belongs: its name, its path, and the associated data that binds it there.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::ids::{Digest, RecordingId, StreamId, StreamIndex};
use crate::time::Timestamp;

/// One segment of one media stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentName {
    /// The media stream.
    pub stream: StreamId,
    /// Its number in the stream, from 0.
    pub segment: u32,
}

/// A path is not that of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a segment's path ends in <recording uuid>/<stream>-<segment>.seg")]
pub struct BadSegmentName;

impl SegmentName {
    /// The folder of a recording below the recordings folder: `<yyyy>/<mm>/<dd>/<recording>`.
    ///
    /// The date is that in the UUIDv7 itself, in UTC: the day the recording's identifier was
    /// minted. So everything of a recording lies in one folder, which its identifier alone names.
    /// An identifier of another version, which no agent mints, goes below `1970/01/01`.
    #[must_use]
    pub fn folder(recording: RecordingId) -> PathBuf {
        let (year, month, day) = minted(recording).date();
        PathBuf::from(format!("{year:04}/{month:02}/{day:02}/{recording}"))
    }

    /// The segment file's path below the recordings folder.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Self::folder(self.stream.recording).join(format!("{self}.seg"))
    }

    /// The manifest's path below the recordings folder.
    #[must_use]
    pub fn manifest_path(&self) -> PathBuf {
        Self::folder(self.stream.recording).join(format!("{self}.json"))
    }

    /// The name of the segment at a path, by the last two parts of it.
    ///
    /// # Errors
    ///
    /// [`BadSegmentName`] when they are not what [`path`](Self::path) writes.
    pub fn of_path(path: &Path) -> Result<Self, BadSegmentName> {
        let text = |part: Option<&std::ffi::OsStr>| part?.to_str().map(str::to_owned);
        let recording = text(path.parent().and_then(Path::file_name)).ok_or(BadSegmentName)?;
        let file = text(path.file_name()).ok_or(BadSegmentName)?;
        let (stream, segment) = file
            .strip_suffix(".seg")
            .and_then(|stem| stem.split_once('-'))
            .ok_or(BadSegmentName)?;
        let name = Self {
            stream: StreamId {
                recording: recording.parse().map_err(|_| BadSegmentName)?,
                index: StreamIndex(stream.parse().map_err(|_| BadSegmentName)?),
            },
            segment: segment.parse().map_err(|_| BadSegmentName)?,
        };
        // Only the one way of writing it: no `+1`, no leading zero.
        if format!("{name}.seg") == file { Ok(name) } else { Err(BadSegmentName) }
    }

    /// What the segment's encryption is bound to.
    #[must_use]
    pub fn associated_data(&self, evidence: Digest) -> AssociatedData {
        let StreamId { recording, index } = self.stream;
        let segment = self.segment;
        AssociatedData(format!("assent-seg-v1|{recording}|{index}|{segment}|{evidence}"))
    }
}

impl fmt::Display for SegmentName {
    /// The file's name without its extension: `<stream>-<segment>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.stream.index, self.segment)
    }
}

/// A segment's associated data:
/// `assent-seg-v1|<recording>|<stream>|<segment>|<evidence digest, hex>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssociatedData(String);

impl AssociatedData {
    /// As the cipher takes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn minted(recording: RecordingId) -> Timestamp {
    let at = recording.0.get_timestamp().filter(|_| recording.0.get_version_num() == 7);
    let (seconds, nanos) = at.map_or((0, 0), |at| at.to_unix());
    Timestamp::EPOCH
        .plus(std::time::Duration::from_secs(seconds))
        .plus(std::time::Duration::from_nanos(u64::from(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> SegmentName {
        let recording = "019aa8a6-2c00-7abc-8def-0123456789ab".parse().unwrap();
        SegmentName { stream: StreamId { recording, index: StreamIndex(1) }, segment: 12 }
    }

    #[test]
    fn a_segment_lies_where_its_recording_says() {
        assert_eq!(
            name().path().to_str(),
            Some("2025/11/21/019aa8a6-2c00-7abc-8def-0123456789ab/1-12.seg")
        );
        assert_eq!(name().manifest_path(), name().path().with_extension("json"));
        assert_eq!(SegmentName::of_path(&Path::new("/x").join(name().path())), Ok(name()));
    }

    #[test]
    fn the_associated_data_is_the_contracts() {
        assert_eq!(
            name().associated_data(Digest::of(b"abc")).as_str(),
            "assent-seg-v1|019aa8a6-2c00-7abc-8def-0123456789ab|1|12|\
             ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn other_paths_name_no_segment() {
        let folder = SegmentName::folder(name().stream.recording);
        for file in ["1-12.json", "1-012.seg", "+1-12.seg", "1.seg", "300-1.seg", "1-12.seg.tmp"] {
            assert_eq!(SegmentName::of_path(&folder.join(file)), Err(BadSegmentName), "{file}");
        }
        assert_eq!(SegmentName::of_path(Path::new("1-12.seg")), Err(BadSegmentName));
        assert_eq!(SegmentName::of_path(Path::new("/")), Err(BadSegmentName));
    }
}
