//! The table of entities and events: every name that a subject or a type may contain.

use std::fmt;

use serde::Serialize;

macro_rules! catalogue {
    ($($entity:ident $entity_name:literal { $($kind:ident $event:literal),+ $(,)? })+) => {
        /// What an event is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)]
        pub enum Entity { $($entity),+ }

        impl Entity {
            /// Every entity.
            pub const ALL: &[Entity] = &[$(Entity::$entity),+];

            /// As subjects and types write it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Entity::$entity => $entity_name),+ }
            }
        }

        /// What happened to what: one row of the catalogue.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)]
        pub enum Kind { $($($kind),+),+ }

        impl Kind {
            /// Every kind of event.
            pub const ALL: &[Kind] = &[$($(Kind::$kind),+),+];

            /// What it is about.
            #[must_use]
            pub fn entity(self) -> Entity {
                match self { $($(Kind::$kind)|+ => Entity::$entity),+ }
            }

            /// What happened, as subjects and types write it.
            #[must_use]
            pub fn event(self) -> &'static str {
                match self { $($(Kind::$kind => $event),+),+ }
            }
        }
    };
}

catalogue! {
    Call "call" { CallStarted "started", CallEnded "ended" }
    Party "party" { PartyJoined "joined", PartyLeft "left" }
    Notice "notice" {
        NoticeStarted "started", NoticeCompleted "completed", NoticeInterrupted "interrupted",
    }
    Permission "permission" {
        PermissionGranted "granted", PermissionRefused "refused",
        PermissionObjected "objected", PermissionWithdrawn "withdrawn",
    }
    Recording "recording" {
        RecordingStarted "started", RecordingPaused "paused", RecordingResumed "resumed",
        RecordingSealed "sealed", RecordingBlocked "blocked", RecordingFailed "failed",
        RecordingExpired "expired", RecordingErased "erased",
    }
    Segment "segment" { SegmentSealed "sealed" }
    Hold "hold" { HoldPlaced "placed", HoldReleased "released" }
    Erasure "erasure" {
        ErasureRequested "requested", ErasureRefused "refused", ErasureCompleted "completed",
        ErasureFinal "final", ErasureFailed "failed",
    }
    Key "key" { KeyRotated "rotated", KeyDestroyed "destroyed" }
    Access "access" { AccessPlayed "played", AccessExported "exported" }
    Agent "agent" {
        AgentReady "ready", AgentDegraded "degraded", AgentDraining "draining",
        AgentStopped "stopped", AgentChain "chain",
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The CloudEvents `type`: `io.assent.<entity>.<event>.v1`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "io.assent.{}.{}.v1", self.entity(), self.event())
    }
}

impl Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Token;

    #[test]
    fn every_name_is_a_token_and_no_type_is_named_twice() {
        let mut types: Vec<String> = Kind::ALL.iter().map(ToString::to_string).collect();
        for kind in Kind::ALL {
            assert!(kind.event().parse::<Token>().is_ok());
            assert!(kind.entity().as_str().parse::<Token>().is_ok());
        }
        types.sort();
        types.dedup();
        assert_eq!(types.len(), Kind::ALL.len());
    }

    #[test]
    fn no_entity_is_called_as_commands_are() {
        assert!(Entity::ALL.iter().all(|entity| entity.as_str() != "cmd"));
    }
}
