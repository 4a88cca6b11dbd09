//! `erasure`: what was recorded is destroyed, step by step, and nobody is told sooner than it is.

use serde::Serialize;

use crate::event::Word;
use crate::ids::{CallId, Digest, EvidenceId, RecordingId, StreamIndex};
use crate::time::Timestamp;

/// `erasure.requested`: the tombstone is durable. From here on nothing brings the stream back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErasureRequested {
    /// What is erased, and why.
    #[serde(flatten)]
    pub erasure: Erasure,
}

/// `erasure.completed`: no file, row or key of it remains, and that was read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErasureCompleted {
    /// What was erased, and why.
    #[serde(flatten)]
    pub erasure: Erasure,
    /// The steps that are done, in order: all of them.
    pub steps: Vec<ErasureStep>,
    /// When it was asked for.
    pub requested: Timestamp,
    /// When nothing of it was found any more.
    pub completed: Timestamp,
}

/// `erasure.failed`: a step could not be done. It is tried again until it can; told once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErasureFailed {
    /// What is erased, and why.
    #[serde(flatten)]
    pub erasure: Erasure,
    /// The steps that are done, in order.
    pub steps: Vec<ErasureStep>,
    /// The step that failed.
    pub failed: ErasureStep,
    /// What went wrong.
    pub error: Word,
}

/// What is erased, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Erasure {
    /// The call.
    pub call: CallId,
    /// The recording.
    pub recording: RecordingId,
    /// How much of it.
    pub scope: ErasureScope,
    /// Which stream of it.
    pub stream: StreamIndex,
    /// Why.
    pub reason: ErasureReason,
    /// The evidence record of the decision that asks for it.
    pub evidence: EvidenceId,
    /// Its digest, as stored and chained.
    pub evidence_digest: Digest,
}

/// How much is erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErasureScope {
    /// One party's stream.
    Stream,
}

/// Why something is erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErasureReason {
    /// The party took the permission back, or objected.
    Withdrawal,
}

/// The steps of an erasure, in order. Each can be repeated without harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErasureStep {
    /// It is written down that the stream is to be erased, and its wrapped key is taken out.
    Tombstoned,
    /// The bytes of the wrapped key are in no file of the catalog any more.
    KeyDestroyed,
    /// The files are unlinked, and so are the catalog's rows about them.
    FilesRemoved,
    /// Everything was looked for again, and not found.
    Verified,
}

impl ErasureStep {
    /// All of them, in order.
    pub const ALL: [ErasureStep; 4] = [
        ErasureStep::Tombstoned,
        ErasureStep::KeyDestroyed,
        ErasureStep::FilesRemoved,
        ErasureStep::Verified,
    ];

    /// As the catalog and events write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ErasureStep::Tombstoned => "tombstoned",
            ErasureStep::KeyDestroyed => "key-destroyed",
            ErasureStep::FilesRemoved => "files-removed",
            ErasureStep::Verified => "verified",
        }
    }

    /// This step and those before it, in order.
    #[must_use]
    pub fn and_before(self) -> Vec<ErasureStep> {
        Self::ALL.into_iter().filter(|step| *step <= self).collect()
    }
}

/// `recording.erased`: it has ended, and nothing of it is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordingErased {
    /// The call.
    pub call: CallId,
    /// The recording.
    pub recording: RecordingId,
    /// Since when nothing of it is left.
    pub at: Timestamp,
    /// Why.
    pub reason: ErasureReason,
    /// Which of its streams were erased; the others never held anything.
    pub streams: Vec<StreamIndex>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_written_as_they_are_stored() {
        for step in ErasureStep::ALL {
            assert_eq!(serde_json::to_value(step).unwrap(), step.as_str());
        }
        assert_eq!(
            ErasureStep::KeyDestroyed.and_before(),
            [ErasureStep::Tombstoned, ErasureStep::KeyDestroyed]
        );
    }
}
