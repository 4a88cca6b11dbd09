//! Calls in progress and orders for them, as the control socket tells of them.

use serde::{Deserialize, Serialize};

use crate::call::order::Recorded;
use crate::event::CallMode;
use crate::ids::{CallId, Leg, RecordingId};
use crate::time::Timestamp;

/// The calls in progress, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallList {
    /// Each of them, up to a limit.
    pub calls: Vec<CallInProgress>,
    /// How many more there are.
    pub left_out: u64,
}

/// A call in progress. Names nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallInProgress {
    /// Its identifier.
    pub call: CallId,
    /// When it arrived.
    pub since: Timestamp,
    /// How it stands with the recording.
    pub state: Recorded,
    /// The recording that somebody is permitted to be in now.
    pub recording: Option<RecordingId>,
    /// How the PBX uses Assent for it.
    pub mode: CallMode,
    /// The policy's name.
    pub policy: String,
}

/// An order that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderDone {
    /// In which call.
    pub call: CallId,
    /// The recording that it was about, where there was one.
    pub recording: Option<RecordingId>,
    /// Whose permission it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub party: Option<Leg>,
    /// How it stands with the call's recording now.
    pub state: Recorded,
    /// Whether it was otherwise before.
    pub changed: bool,
}
