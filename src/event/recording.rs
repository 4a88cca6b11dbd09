//! `recording`: the life of our artefact, up to its seal.

use serde::Serialize;

use crate::event::Word;
use crate::ids::{CallId, Leg, PartyRef, RecordingId, StreamIndex};
use crate::time::Timestamp;

/// How many gaps an event lists. The manifests have them all; an event has to fit into a message.
const GAPS_LISTED: usize = 64;

/// `recording.started`: the first grant was issued and a writer is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordingStarted {
    /// The call.
    pub call: CallId,
    /// The recording.
    pub recording: RecordingId,
    /// When.
    pub started: Timestamp,
    /// Its streams, those that are not permitted included.
    pub streams: Vec<RecordedStream>,
    /// When its retention ends, as the policy stands now.
    pub expires_at: Option<Timestamp>,
}

/// A stream of a recording when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordedStream {
    /// Its place: 0 is the caller's voice, 1 the callee's.
    pub stream: StreamIndex,
    /// Whose voice; `null` where nobody's is recorded.
    pub party_ref: Option<PartyRef>,
    /// Its codecs.
    pub codecs: Vec<Word>,
}

/// `recording.paused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RecordingPaused {
    /// The call.
    pub call: CallId,
    /// The recording.
    pub recording: RecordingId,
    /// When.
    pub at: Timestamp,
    /// Who paused it.
    pub by: PausedBy,
}

/// `recording.resumed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RecordingResumed {
    /// The call.
    pub call: CallId,
    /// The recording.
    pub recording: RecordingId,
    /// When.
    pub at: Timestamp,
    /// Who resumed it.
    pub by: PausedBy,
}

/// Who paused or resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PausedBy {
    /// The caller, by key.
    Caller,
    /// The callee, by key.
    Callee,
    /// A command.
    Command,
    /// The limit for a pause.
    Limit,
}

impl From<Leg> for PausedBy {
    fn from(leg: Leg) -> Self {
        match leg {
            Leg::Caller => PausedBy::Caller,
            Leg::Callee => PausedBy::Callee,
        }
    }
}

/// `recording.sealed`: every segment is sealed, and nothing will be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordingSealed {
    /// The call.
    pub call: CallId,
    /// The recording.
    pub recording: RecordingId,
    /// The first packet's arrival.
    pub started: Timestamp,
    /// The last packet's arrival.
    pub ended: Timestamp,
    /// From the one to the other, in milliseconds.
    pub duration_ms: u64,
    /// How it ended.
    pub result: SealResult,
    /// Its streams.
    pub streams: Vec<SealedStream>,
    /// The first 64 gaps of all streams; the manifests have the rest.
    pub gaps: Vec<GapSpan>,
    /// How many gaps there are.
    pub gap_count: u64,
    /// When its retention ends.
    pub expires_at: Option<Timestamp>,
}

impl RecordingSealed {
    /// Sets [`Self::gaps`] and [`Self::gap_count`] from all gaps.
    #[must_use]
    pub fn with_gaps(mut self, gaps: impl IntoIterator<Item = GapSpan>) -> Self {
        let mut gaps = gaps.into_iter();
        self.gaps = gaps.by_ref().take(GAPS_LISTED).collect();
        self.gap_count = (self.gaps.len() as u64).saturating_add(gaps.count() as u64);
        self
    }
}

/// A stream of a recording when it is sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SealedStream {
    /// Its place.
    pub stream: StreamIndex,
    /// Whose voice; `null` where nobody's was recorded.
    pub party_ref: Option<PartyRef>,
    /// Its codecs.
    pub codecs: Vec<Word>,
    /// Its segments.
    pub segments: u32,
    /// Its RTP packets.
    pub packets: u64,
    /// Its bytes on disk.
    pub bytes: u64,
}

/// How a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SealResult {
    /// With the call.
    Complete,
    /// A permission was withdrawn, and what there was is kept.
    Withdrawn,
    /// Without a last chunk: the agent ended in the middle.
    Truncated,
}

/// A stretch without packets, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GapSpan {
    /// In which stream.
    pub stream: StreamIndex,
    /// From.
    pub start: Timestamp,
    /// To.
    pub end: Timestamp,
    /// Why.
    pub reason: GapReason,
}

/// Why there is a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapReason {
    /// The recording was paused.
    Paused,
    /// The party was on hold.
    Held,
    /// Packets did not arrive.
    Lost,
    /// Packets arrived and could not be written.
    Dropped,
}

/// `recording.blocked`: the policy asks for a recording, and permission does not allow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RecordingBlocked {
    /// The call.
    pub call: CallId,
    /// The recording that there will not be.
    pub recording: RecordingId,
    /// Why.
    pub reason: BlockReason,
}

/// Why there is no recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockReason {
    /// A party refused, or did not answer where silence is a refusal.
    Refused,
    /// A party objected.
    Objected,
    /// The notice did not reach a party.
    NotHeard,
    /// A party took the permission back before the recording began.
    Withdrawn,
    /// A party is neither asked nor covered by an agreement.
    NotAsked,
    /// The decision could not be stored.
    EvidenceNotStored,
    /// The call ended first.
    CallEnded,
}

/// `recording.failed`: it was permitted, and something broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RecordingFailed {
    /// The call.
    pub call: CallId,
    /// The recording.
    pub recording: RecordingId,
    /// The stream that it happened in; `null` for all of them.
    pub stream: Option<StreamIndex>,
    /// What broke.
    pub reason: FailReason,
}

/// What broke a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailReason {
    /// No key could be made or wrapped.
    Key,
    /// The disk is full, or below its reserve.
    DiskFull,
    /// A file could not be created, written or synced.
    Storage,
    /// The writer could not keep up.
    TooSlow,
    /// The catalog could not be written.
    Catalog,
    /// The agent ended in the middle and nothing readable was left.
    Crashed,
    /// The call ended before anything could be written.
    Unused,
}
