//! Decode, align, mix, encode: from recorded packets to audio that people listen to.
//!
//! ```text
//!   records ─ parse ─ timeline ─ decode ─ resample ─┐ left
//!                                                   ├─ WAV
//!   records ─ parse ─ timeline ─ decode ─ resample ─┘ right
//! ```
//!
//! It streams: whatever the length of a recording, two seconds of packets a track are held.

mod segments;
mod track;
mod wav;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub use segments::{SegmentRecords, SegmentSource, UnreadableSegment};
pub use wav::write_wav;

use crate::rtp::Codec;
use crate::time::Timestamp;

/// What an export is made as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// PCM in a WAV file: stereo, the caller left and the callee right, or one party in mono.
    #[default]
    Wav,
}

impl Format {
    /// All that is available.
    pub const ALL: [Format; 1] = [Format::Wav];

    /// As the command line writes it, and the file's extension.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Wav => "wav",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A format that exports are not made in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{asked}\" is not a format that recordings are exported in; available: {}", available())]
pub struct UnknownFormat {
    asked: String,
}

fn available() -> String {
    Format::ALL.map(Format::as_str).join(", ")
}

impl FromStr for Format {
    type Err = UnknownFormat;
    fn from_str(s: &str) -> Result<Self, UnknownFormat> {
        let fits = |format: &Format| s.eq_ignore_ascii_case(format.as_str());
        Format::ALL.into_iter().find(fits).ok_or_else(|| UnknownFormat { asked: s.to_owned() })
    }
}

/// One recorded packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRecord {
    /// When it arrived.
    pub arrival: Timestamp,
    /// What its payload type meant when it was recorded; `None` for what is no audio, such as
    /// keys and comfort noise. A number may mean another codec in another segment.
    pub codec: Option<Codec>,
    /// The RTP packet as received.
    pub packet: Vec<u8>,
}

/// Why a record could not be read: the error of whatever reads them.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SourceError(#[from] pub Box<dyn std::error::Error + Send + Sync>);

/// The clock that all tracks of an export are placed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where the export begins: the start of the recording.
    pub start: Timestamp,
    /// Where the recording ended, when that is known: the export is at least as long.
    pub end: Option<Timestamp>,
}

/// The sample rate of an export in Hz: the highest of its codecs, so that none loses anything;
/// 8000 without any.
#[must_use]
pub fn sample_rate(codecs: impl IntoIterator<Item = Codec>) -> u32 {
    codecs.into_iter().map(Codec::sample_rate).max().unwrap_or(8000)
}

/// What an export came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Samples a second.
    pub sample_rate: u32,
    /// How long it plays.
    pub duration: Duration,
    /// Each track, in the order of the channels.
    pub tracks: Vec<TrackSummary>,
}

/// What a track came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackSummary {
    /// Packets of audio that were placed and decoded.
    pub packets: u64,
    /// Copies, and packets that came after their place had been passed.
    pub dropped: u64,
    /// Packets that are no RTP, or that their codec could not decode: silence in the export.
    pub damaged: u64,
    /// How much of the track is audio and not silence.
    pub audio: Duration,
}

/// Why an export was not finished.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A record could not be read.
    #[error("the recording cannot be read: {0}")]
    Source(#[from] SourceError),
    /// The audio could not be written.
    #[error("the export cannot be written: {0}")]
    Write(#[from] std::io::Error),
    /// More audio than the format can hold: 4 GiB in a WAV file, which is over six hours of
    /// stereo at 48 kHz.
    #[error("the recording is too long for one WAV file; export one party at a time")]
    TooLong,
    /// A codec could not be set up, or failed on good input.
    #[error(transparent)]
    Codec(#[from] crate::codec::CodecError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_format_names_those_that_are_available() {
        assert_eq!("WAV".parse(), Ok(Format::Wav));
        let error = "mp3".parse::<Format>().unwrap_err().to_string();
        assert_eq!(
            error,
            "\"mp3\" is not a format that recordings are exported in; available: wav"
        );
    }

    #[test]
    fn the_highest_rate_of_the_recording_is_taken() {
        assert_eq!(sample_rate([]), 8000);
        assert_eq!(sample_rate([Codec::Pcma, Codec::Pcmu]), 8000);
        assert_eq!(sample_rate([Codec::Pcmu, Codec::G722]), 16_000);
        assert_eq!(sample_rate([Codec::Opus, Codec::G722]), 48_000);
    }
}
