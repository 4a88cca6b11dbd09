//! What others may know of a call's permissions, beside what the machine wants done.

use crate::consent::machine::Permission;
use crate::consent::party::State;
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

    /// Whether a permission of the party on this leg may come of what is under way: they are asked,
    /// or their "yes" is on its way to the disk.
    #[must_use]
    pub fn is_open(&self, leg: Leg) -> bool {
        let open = |state: &State| match state {
            State::Deciding(_) => state.said_yes(),
            state => state.is_asking(),
        };
        self.parties.get(&leg).is_some_and(|party| open(&party.state))
    }

    /// Whether there is a party on this leg, or will be.
    #[must_use]
    pub fn has(&self, leg: Leg) -> bool {
        self.parties.contains_key(&leg)
    }
}
