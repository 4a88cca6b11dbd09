//! `access`: somebody listened to a recording or took a copy.

use serde::Serialize;

use crate::event::Word;
use crate::ids::{RecordingId, StreamIndex};

/// `access.played`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccessPlayed {
    /// The recording.
    pub recording: RecordingId,
    /// Who, as the system that let them in names them.
    pub actor: Word,
    /// Why, in their words.
    pub reason: Word,
    /// From which millisecond of the recording.
    pub from_ms: u64,
    /// To which; `null` for its end.
    pub to_ms: Option<u64>,
}

/// `access.exported`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccessExported {
    /// The recording.
    pub recording: RecordingId,
    /// Who, as the system that let them in names them.
    pub actor: Word,
    /// Why, in their words.
    pub reason: Word,
    /// As what.
    pub format: ExportFormat,
    /// The one stream that was taken; `null` for all.
    pub stream: Option<StreamIndex>,
    /// From which millisecond of the recording.
    pub from_ms: u64,
    /// To which; `null` for its end.
    pub to_ms: Option<u64>,
}

/// What a copy was made as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum ExportFormat {
    Wav,
    Opus,
    Rtpdump,
    Pcap,
    Vcon,
    /// The data keys, for a service that decrypts by itself.
    Keys,
}
