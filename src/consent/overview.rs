//! What others may know of a call's permissions, beside what the machine wants done.

use crate::consent::machine::Permission;
use crate::ids::{Leg, RecordingId};

impl Permission {
    /// The newest recording that a permission of this call was or can be for.
    #[must_use]
    pub fn newest_recording(&self) -> RecordingId {
        self.newest
    }

    /// The recording that the party on this leg is permitted to be in now.
    #[must_use]
    pub fn recording_of(&self, leg: Leg) -> Option<RecordingId> {
        let lease = self.parties.get(&leg)?.state.lease()?;
        Some(lease.stream().recording)
    }

    /// Whether there is a party on this leg, or will be.
    #[must_use]
    pub fn has(&self, leg: Leg) -> bool {
        self.parties.contains_key(&leg)
    }
}
