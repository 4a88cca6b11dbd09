//! The event catalogue: types, subjects, the CloudEvents envelope.
//!
//! Pure. A [`Draft`] says what happened; [`finish`] gives it identity, time and place in its
//! entity's order, and makes the text that goes to the outbox and over NATS. What an event is
//! about (its uuid, the call it belongs to) is read from the data it carries, so the two cannot
//! differ. No type here takes a phone number: people are [`crate::ids::PartyRef`], words from the
//! configuration are [`Word`].

mod access;
mod agent;
mod call;
mod envelope;
mod erasure;
mod kind;
mod notice;
mod permission;
mod recording;
mod segment;
mod word;

pub use access::{AccessExported, AccessPlayed, ExportFormat};
pub use agent::{AgentChain, AgentDegraded, AgentDraining, AgentReady, AgentStopped};
pub use call::{
    CallDirection, CallEnded, CallMode, CallParty, CallStarted, EndCause, JoinReason, LeaveReason,
    PartyJoined, PartyLeft,
};
pub use envelope::{Body, Draft, FinishedEvent, Origin, Subject, finish};
pub use erasure::{
    Erasure, ErasureCompleted, ErasureFailed, ErasureReason, ErasureRequested, ErasureScope,
    ErasureStep, RecordingErased,
};
pub use kind::{Entity, Kind};
pub use notice::{CutReason, NoticeEnded, NoticeStarted};
pub use permission::{Method, PermissionDecided};
pub use recording::{
    BlockReason, FailReason, GapReason, GapSpan, PausedBy, RecordedStream, RecordingBlocked,
    RecordingFailed, RecordingPaused, RecordingResumed, RecordingSealed, RecordingStarted,
    SealResult, SealedStream,
};
pub use segment::{SegmentEnd, SegmentLocation, SegmentSealed};
pub use word::Word;
