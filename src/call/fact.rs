//! What happened to a call, for events, logs and the catalog.

use crate::call::media::PlaybackId;
use crate::call::message::reason_phrase;
use crate::consent::NoticePlayed;
use crate::consent::machine::{Denial, PausedBy};
use crate::ids::{Leg, RecordingId};
use crate::rtp::Codec;
use crate::time::Timestamp;

/// Something that happened, for events, logs and the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A party is on the line.
    Joined {
        /// On which leg.
        leg: Leg,
    },
    /// A party has left.
    Left {
        /// From which leg.
        leg: Leg,
        /// Why.
        reason: Cause,
    },
    /// A notice or re-prompt starts.
    NoticeStarted {
        /// Into which leg.
        leg: Leg,
        /// Which playing.
        playback: PlaybackId,
        /// The prompt's name.
        prompt: String,
        /// The locale that was asked for.
        locale: String,
    },
    /// A notice or re-prompt has ended.
    NoticeEnded {
        /// Into which leg.
        leg: Leg,
        /// Which playing.
        playback: PlaybackId,
        /// How much of it was sent, and how.
        notice: NoticePlayed,
        /// Why it was cut, if it was.
        cut: Option<Cut>,
    },
    /// Nothing is written until the recording is resumed.
    Paused {
        /// Which recording.
        recording: RecordingId,
        /// Who wanted it.
        by: PausedBy,
    },
    /// The recording goes on.
    Resumed {
        /// Which recording.
        recording: RecordingId,
        /// Who wanted it.
        by: PausedBy,
        /// Since when.
        at: Timestamp,
    },
    /// The call is not recorded.
    Blocked {
        /// Why.
        why: Denial,
    },
    /// Both parties hear each other.
    Bridged {
        /// The codec of both legs.
        codec: Codec,
    },
    /// The call has ended.
    Ended {
        /// When it began.
        started: Timestamp,
        /// Why it ended.
        cause: Cause,
    },
}

/// Why a notice did not play to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// A key.
    Key,
    /// The party was on hold.
    Held,
    /// The party hung up.
    HungUp,
    /// Something else: there was nothing to play, or no way to send it.
    Stopped,
}

/// Why a call or a leg ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A party hung up.
    HungUp(Leg),
    /// The caller cancelled before an answer.
    Cancelled,
    /// The callee's side answered with this final status.
    Rejected(u16),
    /// The callee's side did not answer: unreachable, or nobody there.
    Unreachable(u16),
    /// A refusal ends the call, as the policy says.
    RefusalEndsCall,
    /// The caller's side never acknowledged the answer.
    NoAck,
    /// The agent ended it.
    Agent,
    /// A session timer ran out: nobody refreshed, or a refresh was not answered (RFC 4028).
    Expired,
    /// No offer or answer that both sides understand.
    NoCommonCodec,
    /// The recorder is out of order, under a policy that refuses then.
    Unavailable,
    /// Nothing was heard of any party for the configured time.
    Dead,
    /// The call's media failed inside the agent.
    MediaLost,
    /// Another party has taken the place of this one. A leg's alone: the call goes on.
    Transferred,
}

impl Cause {
    /// A word for events and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::HungUp(Leg::Caller) => "caller-hung-up",
            Cause::HungUp(Leg::Callee) => "callee-hung-up",
            Cause::Cancelled => "cancelled",
            Cause::Rejected(_) => "rejected",
            Cause::Unreachable(_) => "unreachable",
            Cause::RefusalEndsCall => "refusal",
            Cause::NoAck => "no-ack",
            Cause::Agent => "agent",
            Cause::Expired => "expired",
            Cause::NoCommonCodec => "no-common-codec",
            Cause::Unavailable => "unavailable",
            Cause::Dead => "dead",
            Cause::MediaLost => "media-lost",
            Cause::Transferred => "transferred",
        }
    }

    /// The SIP status that goes with it, where there is one.
    #[must_use]
    pub fn status(self) -> Option<u16> {
        match self {
            Cause::Rejected(status) | Cause::Unreachable(status) => Some(status),
            Cause::NoCommonCodec => Some(488),
            Cause::Unavailable => Some(603),
            Cause::Cancelled => Some(487),
            _ => None,
        }
    }

    /// What a BYE says of it in its Reason (RFC 3326): a status and its text.
    #[must_use]
    pub fn reason(self) -> Option<(u16, &'static str)> {
        match self {
            Cause::Expired => Some((408, "Session Timer Expired")),
            other => other.status().map(|status| (status, reason_phrase(status))),
        }
    }
}
