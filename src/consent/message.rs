//! What goes into the permission machine and what comes out of it.

use std::time::Instant;

use crate::catalog::Receipt;
use crate::consent::decision::DecisionNumber;
use crate::consent::policy::OnRefusal;
use crate::consent::{
    Decision, Grant, KeyVia, MediaTransport, NoticePlayed, Outcome, Prior, Stops,
};
use crate::ids::{Leg, PartyRef, RecordingId};

/// A party of the call, as the permission machine needs to know them.
#[derive(Clone, Debug)]
pub struct PartyFacts {
    /// Which leg they are on.
    pub leg: Leg,
    /// Who they are.
    pub party_ref: PartyRef,
    /// The locale in which they are asked.
    pub locale: String,
    /// Over which transport their media travels.
    pub transport: MediaTransport,
    /// What is known of them before anybody asks.
    pub prior: Prior,
}

/// What happens to the machine.
#[derive(Debug)]
pub enum Input {
    /// The call is taken on. Comes first, and once.
    Begin,
    /// A party is on the line: their leg is answered and a sound would reach them.
    Present {
        /// Which.
        leg: Leg,
    },
    /// A prompt that this machine asked for has ended, by itself or cut.
    Played {
        /// Into which leg it was played.
        leg: Leg,
        /// How much of it, and how.
        notice: NoticePlayed,
    },
    /// A key was pressed.
    Key {
        /// On which leg.
        leg: Leg,
        /// When it arrived.
        pressed: Instant,
        /// Which.
        key: char,
        /// How it came.
        via: KeyVia,
        /// The RTP timestamp of the telephone-event.
        rtp_timestamp: Option<u32>,
        /// Whose writing stopped with its packet.
        stops: Stops,
    },
    /// A command from outside the call.
    Command {
        /// What is wanted.
        order: Order,
        /// The command's identifier, for the evidence.
        id: String,
    },
    /// The party's telephone says that it does not want to be recorded (RFC 7866).
    Preferred {
        /// On which leg.
        leg: Leg,
    },
    /// The party's media is on hold, or no longer.
    Held {
        /// Which party.
        leg: Leg,
    },
    /// Somebody else speaks on this leg from now on.
    Replaced {
        /// Who.
        party: PartyFacts,
    },
    /// A decision is committed.
    Durable(Receipt<Decision>),
    /// A decision could not be committed in time.
    NotDurable {
        /// Whose.
        leg: Leg,
        /// Which.
        number: DecisionNumber,
    },
    /// A party has left the call.
    Left {
        /// Which.
        leg: Leg,
    },
    /// The time that [`super::machine::Permission::deadline`] named has come.
    Tick,
}

/// What a command wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// The party takes the permission back.
    Withdraw(Leg),
    /// Nothing is written until somebody resumes.
    Pause,
    /// The recording goes on.
    Resume,
}

/// What the machine wants done.
#[derive(Debug)]
pub enum Output {
    /// Play a prompt; answer with [`Input::Played`].
    Play {
        /// Into which leg.
        leg: Leg,
        /// The prompt's name.
        prompt: String,
        /// The locale that is wanted.
        locale: String,
    },
    /// Cut the prompt that is playing; answer with [`Input::Played`].
    Silence {
        /// Into which leg it plays.
        leg: Leg,
    },
    /// Tell a party with a prompt; nothing waits for its end.
    Say {
        /// Into which leg.
        leg: Leg,
        /// The prompt's name.
        prompt: &'static str,
    },
    /// Make this decision durable, then answer with [`Input::Durable`] or
    /// [`Input::NotDurable`].
    Commit(Decision),
    /// The stream may be written from now on.
    Grant(Grant),
    /// The lease of this leg's stream is gone: what is written of it ends now.
    Release {
        /// Which leg.
        leg: Leg,
    },
    /// Nothing will be written to this recording any more, although the call goes on.
    Over {
        /// Which.
        recording: RecordingId,
    },
    /// Nothing is written until [`Output::Resumed`].
    Paused {
        /// Which recording.
        recording: RecordingId,
        /// Who wanted it.
        by: PausedBy,
    },
    /// What is permitted is written again.
    Resumed {
        /// Which recording.
        recording: RecordingId,
        /// Who wanted it.
        by: PausedBy,
    },
    /// A party who came later refused, and the policy ends the call for that.
    Farewell,
    /// Every question is answered; the call may go on. Said once.
    Settled(Verdict),
}

/// Who paused a recording, or resumed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PausedBy {
    /// A party, by keys.
    Keys(Leg),
    /// A command.
    Command,
    /// The policy's limit for a pause.
    Limit,
}

/// How the questions of a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// At least one stream may be recorded.
    Recorded,
    /// Nothing is recorded.
    Unrecorded {
        /// Why.
        why: Denial,
        /// What the policy wants done with the call.
        then: OnRefusal,
    },
}

/// Why a party is not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denial {
    /// They said no, or said nothing where silence is a refusal.
    Refused,
    /// They objected.
    Objected,
    /// They took their permission back.
    Withdrawn,
    /// The notice did not reach them.
    NotHeard,
    /// They left before an answer.
    Left,
    /// The policy neither asks them nor names an agreement.
    NotCovered,
    /// Their decision could not be made durable.
    Unavailable,
}

impl From<Outcome> for Denial {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Objected => Denial::Objected,
            Outcome::Withdrawn => Denial::Withdrawn,
            Outcome::Granted | Outcome::Refused => Denial::Refused,
        }
    }
}

/// Keys that mean something at any time of the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The keys, in order.
    pub keys: String,
    /// What they mean.
    pub meaning: Meaning,
}

/// What a sequence of keys means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The party takes the permission back, or refuses.
    Withdraw,
    /// The recording pauses, or goes on.
    Pause,
}
