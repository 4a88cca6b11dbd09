//! What is put into the catalog and what comes out of it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::catalog::{CommandEntry, Erase, ListedParty, Tombstone};
use crate::consent::Decision;
use crate::consent::policy::Scope;
use crate::event::{
    CallEnded, CallStarted, Draft, ErasureStep, GapSpan, PartyLeft, RecordingFailed,
    RecordingSealed, SegmentSealed,
};
use crate::ids::{CallId, Digest, EvidenceId, Leg, PartyRef, RecordingId, StreamId, StreamIndex};
use crate::keys::WrappedKey;
use crate::number::PartyNumber;
use crate::time::Timestamp;

/// One of the things that [`crate::catalog::Catalog::in_order`] stores.
#[derive(Debug)]
pub enum Step {
    /// Changes, and the events that tell of them.
    Facts {
        /// What changes.
        changes: Vec<Change>,
        /// What is told.
        events: Vec<Draft>,
    },
    /// A decision.
    Decision(Box<DecisionEntry>),
}

/// A decision and what becomes durable with it, in one transaction.
#[derive(Debug)]
pub struct DecisionEntry {
    /// The decision. Its evidence record and its `permission` event are made from it.
    pub decision: Decision,
    /// The party's number, stored encrypted; `None` to leave what is known of the party alone.
    pub number: Option<PartyNumber>,
    /// What a decision that permits needs; `None` for every other one.
    pub permitted: Option<Permitted>,
    /// What becomes of what was recorded of the party; nothing, for a decision that permits.
    pub erase: Erase,
    /// Further events, after the `permission` event, in order.
    pub events: Vec<Draft>,
}

/// What a permitted stream needs before it can be written.
#[derive(Debug)]
pub struct Permitted {
    /// The recording, for the first permission in it; ignored for a later one.
    pub recording: NewRecording,
    /// The stream's data key, wrapped.
    pub key: WrappedKey,
    /// Its codecs by payload type, as the manifest writes them (JSON): what was negotiated, or,
    /// for a leg that is not there yet, what it will be offered. Without them a crash before the
    /// first [`Change::StreamOpened`] leaves packets that nobody can name.
    pub codecs: String,
}

/// A recording that is about to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewRecording {
    /// When it began: decides the folder of its files.
    pub began: Timestamp,
    /// Who may be recorded while somebody is not permitted.
    pub scope: Scope,
    /// How long it is kept, from its end.
    pub retention: Duration,
}

/// A change that is not a decision.
#[derive(Clone, Debug)]
pub enum Change {
    /// A call began.
    CallStarted {
        /// What is known of it.
        call: CallStarted,
        /// When.
        at: Timestamp,
    },
    /// A call ended.
    CallEnded {
        /// How.
        call: CallEnded,
        /// When.
        at: Timestamp,
    },
    /// A party came into a call.
    PartyJoined {
        /// The call.
        call: CallId,
        /// On which leg.
        leg: Leg,
        /// Who.
        party_ref: PartyRef,
        /// Their number, stored encrypted.
        number: PartyNumber,
        /// When.
        at: Timestamp,
    },
    /// A party left a call.
    PartyLeft {
        /// Who, and which call.
        party: PartyLeft,
        /// When.
        at: Timestamp,
    },
    /// A party is never to be recorded.
    Listed {
        /// Who, why, and who says so.
        entry: ListedParty,
        /// Their number, stored encrypted.
        number: PartyNumber,
    },
    /// A party may be asked again.
    Unlisted {
        /// Who.
        party: PartyRef,
    },
    /// A writer is open: the recording runs, for the first time or after a pause.
    Capturing {
        /// Which.
        recording: RecordingId,
        /// Since when.
        at: Timestamp,
    },
    /// A stream's writer is open: what it really begins with is known.
    StreamOpened {
        /// Which.
        stream: StreamId,
        /// Its codecs by payload type, as the manifest writes them (JSON).
        codecs: String,
    },
    /// The recording is paused.
    Paused {
        /// Which.
        recording: RecordingId,
    },
    /// Nothing will be added to the recording.
    Sealed(RecordingSealed),
    /// The recording broke. What there is of it is kept for as long as a whole one.
    Failed {
        /// Which, and how.
        recording: RecordingFailed,
        /// When.
        at: Timestamp,
    },
    /// A file is finished, whole or cut short.
    SegmentSealed {
        /// What the file is.
        segment: SegmentSealed,
        /// SHA-256 of its manifest; `None` when there is none.
        manifest: Option<Digest>,
    },
    /// A stretch of a stream without packets.
    Gap {
        /// In which recording.
        recording: RecordingId,
        /// From when to when, and why.
        gap: GapSpan,
    },
    /// Somebody gave a command.
    Commanded(CommandEntry),
    /// A step of an erasure is done. Whatever the recording comes to by it is told too.
    ErasureStep {
        /// Of which stream.
        stream: StreamId,
        /// Which step.
        done: ErasureStep,
        /// When.
        at: Timestamp,
    },
    /// A step of an erasure failed, and is tried again.
    ErasureFailing {
        /// Of which stream.
        stream: StreamId,
        /// Since when.
        at: Timestamp,
    },
    /// A manifest is about to be erased; the manifest after it names its digest.
    ErasedManifest {
        /// Of which stream.
        stream: StreamId,
        /// Its digest.
        digest: Digest,
    },
}

/// Where a recording is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordingState {
    /// A permission is durable; no packet is written yet.
    Permitted,
    /// Packets are written.
    Capturing,
    /// Packets are not written, and may be again.
    Paused,
    /// Complete.
    Sealed,
    /// Broken off by a fault.
    Failed,
    /// Erased because its time had passed.
    Expired,
    /// Erased because somebody asked.
    Erased,
}

impl RecordingState {
    /// All of them, in the order of a recording's life.
    pub const ALL: [RecordingState; 7] = [
        RecordingState::Permitted,
        RecordingState::Capturing,
        RecordingState::Paused,
        RecordingState::Sealed,
        RecordingState::Failed,
        RecordingState::Expired,
        RecordingState::Erased,
    ];

    /// As the catalog and the command line write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RecordingState::Permitted => "permitted",
            RecordingState::Capturing => "capturing",
            RecordingState::Paused => "paused",
            RecordingState::Sealed => "sealed",
            RecordingState::Failed => "failed",
            RecordingState::Expired => "expired",
            RecordingState::Erased => "erased",
        }
    }
}

impl fmt::Display for RecordingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not a state of a recording.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a state of a recording: permitted, capturing, paused, sealed, failed, \
     expired or erased"
)]
pub struct UnknownState(pub String);

impl FromStr for RecordingState {
    type Err = UnknownState;
    fn from_str(s: &str) -> Result<Self, UnknownState> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == s)
            .ok_or_else(|| UnknownState(s.to_owned()))
    }
}

/// Whether a recording or a segment has its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Integrity {
    /// It ends where it was ended.
    Whole,
    /// It was cut off, by a crash.
    Truncated,
}

/// One recording, in a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordingRow {
    /// Its identifier.
    pub id: RecordingId,
    /// The call.
    pub call: CallId,
    /// Where it is in its life.
    pub state: RecordingState,
    /// Whether it has its end.
    pub integrity: Integrity,
    /// The policy's name.
    pub policy: String,
    /// SHA-256 of the policy's canonical JSON.
    pub policy_digest: Digest,
    /// The lawful basis.
    pub basis: String,
    /// What it is for.
    pub purposes: Vec<String>,
    /// Who is responsible.
    pub controller: String,
    /// `all` or `per-party`.
    pub scope: String,
    /// When it began, at its first permission: decides the folder of its files.
    pub began: Timestamp,
    /// When the first writer was open.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// When its time has passed.
    pub expires: Option<Timestamp>,
    /// How it ended: a result of `recording.sealed` or a reason of `recording.failed`.
    pub result: Option<String>,
    /// Who was on the call.
    pub parties: Vec<ParticipantRow>,
}

/// A party of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ParticipantRow {
    /// On which leg.
    pub leg: Leg,
    /// Who.
    pub party_ref: PartyRef,
    /// Since when.
    pub joined: Timestamp,
    /// Until when.
    pub left: Option<Timestamp>,
}

/// One recording, with everything in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordingDetail {
    /// The recording.
    #[serde(flatten)]
    pub recording: RecordingRow,
    /// Its streams.
    pub streams: Vec<StreamRow>,
    /// Its segments, by stream and number.
    pub segments: Vec<SegmentRow>,
    /// Its gaps, by time.
    pub gaps: Vec<GapRow>,
    /// Every decision about it, in order, refusals included.
    pub permissions: Vec<PermissionRow>,
}

/// A permitted stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamRow {
    /// Its place.
    pub stream: StreamIndex,
    /// Whose voice.
    pub party_ref: PartyRef,
    /// The evidence record that permits it.
    pub evidence: EvidenceId,
    /// Its digest: part of every segment's associated data.
    pub evidence_digest: Digest,
    /// Since when.
    pub granted: Timestamp,
    /// Until when, if the permission was taken back.
    pub withdrawn: Option<Timestamp>,
    /// Its codecs by payload type as the writer began with them, JSON.
    pub codecs: Option<String>,
    /// When and why it was destroyed, if it was, or is about to be.
    pub erased: Option<Tombstone>,
}

/// A segment's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SegmentRow {
    /// Of which stream.
    pub stream: StreamIndex,
    /// Its number in the stream, from 0.
    pub index: u32,
    /// Whether it has its last chunk.
    pub integrity: Integrity,
    /// The first packet's arrival.
    pub start: Timestamp,
    /// The last packet's arrival.
    pub end: Timestamp,
    /// The file's size.
    pub bytes: u64,
    /// The file's SHA-256.
    pub sha256: Digest,
    /// The data key's identifier.
    pub key: String,
    /// Its path below the recordings' folder or bucket.
    pub location: String,
    /// SHA-256 of its manifest.
    pub manifest: Option<Digest>,
}

/// A stretch without packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GapRow {
    /// In which stream.
    pub stream: StreamIndex,
    /// From.
    pub start: Timestamp,
    /// To.
    pub end: Timestamp,
    /// Why: a reason of `recording.sealed`.
    pub reason: String,
}

/// A decision, in a line. The whole of it is its evidence record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PermissionRow {
    /// The evidence record.
    pub evidence: EvidenceId,
    /// Its digest.
    pub digest: Digest,
    /// The agent in whose chain it is.
    pub agent: String,
    /// Its number there.
    pub sequence: u64,
    /// Which stream it is about.
    pub stream: StreamIndex,
    /// Whose.
    pub party_ref: PartyRef,
    /// The gate.
    pub gate: String,
    /// What was decided.
    pub outcome: String,
    /// When.
    pub at: Timestamp,
}

/// A recording that a crash left open, with what is needed to seal its files.
#[derive(Debug)]
pub struct Unfinished {
    /// The recording.
    pub recording: RecordingRow,
    /// Its permitted streams.
    pub streams: Vec<UnfinishedStream>,
    /// The segments that were sealed before.
    pub segments: Vec<SegmentRow>,
}

/// A stream of a recording that a crash left open.
#[derive(Debug)]
pub struct UnfinishedStream {
    /// Which.
    pub stream: StreamId,
    /// Whose voice, and what permits it.
    pub row: StreamRow,
    /// Its data key; `None` once that is destroyed.
    pub key: Option<WrappedKey>,
}

/// Which recordings are wanted. The default is all of them, the newest 100.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// In which this party took part, recorded or not.
    pub party: Option<PartyRef>,
    /// That began at this time or later.
    pub from: Option<Timestamp>,
    /// That began before this time.
    pub until: Option<Timestamp>,
    /// In this state.
    pub state: Option<RecordingState>,
    /// Under this policy.
    pub policy: Option<String>,
    /// Of this call.
    pub call: Option<CallId>,
    /// How many at most.
    pub limit: u32,
    /// How many to leave out first.
    pub offset: u32,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            party: None,
            from: None,
            until: None,
            state: None,
            policy: None,
            call: None,
            limit: 100,
            offset: 0,
        }
    }
}
