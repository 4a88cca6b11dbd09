//! A decision about one party: the fact that evidence is made of, and that a grant needs.

use serde::Serialize;

use crate::consent::TokenStated;
use crate::consent::policy::{Basis, Gate};
use crate::ids::{CallId, Digest, Leg, PartyRef, RecordingId, StreamId};
use crate::rtp::Security;
use crate::time::Timestamp;

/// What was decided about one party of one call. Only the permission machine makes one: its
/// constructor is private to `consent`.
#[derive(Debug)]
#[must_use = "a decision that is not committed permits nothing"]
pub struct Decision {
    pub(super) number: DecisionNumber,
    pub(super) facts: Box<DecisionFacts>,
}

/// Which decision of a call it is: tells the answer to one from the answer to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DecisionNumber(u32);

impl DecisionNumber {
    pub(super) fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl Decision {
    /// Which of the call's decisions it is.
    pub fn number(&self) -> DecisionNumber {
        self.number
    }

    /// Everything the decision rests on, for the evidence record and the events.
    pub fn facts(&self) -> &DecisionFacts {
        &self.facts
    }

    /// The stream that may be written once this decision is durable; `None` when it does not
    /// permit.
    #[must_use]
    pub fn permits(&self) -> Option<StreamId> {
        self.facts
            .outcome
            .permits()
            .then_some(StreamId { recording: self.facts.recording, index: self.facts.leg.stream() })
    }
}

/// The body of an evidence record, before the catalog adds its place in the chain. Serialised
/// (RFC 8785) it holds no number in clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DecisionFacts {
    /// The call.
    pub call: CallId,
    /// The recording that a permission is for.
    pub recording: RecordingId,
    /// Which leg the party is on.
    pub leg: Leg,
    /// Who.
    pub party_ref: PartyRef,
    /// Over which transport the party's media travels.
    pub transport: MediaTransport,
    /// The policy's name.
    pub policy: String,
    /// SHA-256 of the policy's canonical JSON.
    pub policy_digest: Digest,
    /// The lawful basis.
    pub basis: Basis,
    /// How the permission came about, or failed to.
    pub gate: Gate,
    /// What the recording is for.
    pub purposes: Vec<String>,
    /// Who is responsible.
    pub controller: String,
    /// Every playing of the notice or of a re-prompt, in order. Empty where nobody was asked.
    pub notices: Vec<NoticePlayed>,
    /// What the party did.
    pub answer: Answer,
    /// What follows from it.
    pub outcome: Outcome,
    /// The digest of the evidence of the permission that it takes back; absent where there was
    /// none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends: Option<Digest>,
    /// When it was decided.
    pub time: Timestamp,
}

/// RTP or SRTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MediaTransport {
    /// RFC 3550.
    Rtp,
    /// RFC 3711.
    Srtp,
    /// Either: the decision came before the party's leg was answered, and it may be both.
    Undecided,
}

impl From<&Security> for MediaTransport {
    fn from(security: &Security) -> Self {
        if security.is_srtp() { MediaTransport::Srtp } else { MediaTransport::Rtp }
    }
}

/// One playing of one prompt into a party's leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NoticePlayed {
    /// The prompt's name.
    pub prompt: String,
    /// The locale it was played in.
    pub locale: String,
    /// SHA-256 of the WAV file it was made from.
    pub sha256: Digest,
    /// How many milliseconds of it were sent.
    pub played_ms: u64,
    /// How many there are.
    pub total_ms: u64,
    /// RTP packets sent for it.
    pub packets: u64,
    /// RTP packets that came from the party meanwhile: none means that nobody can say whether
    /// anybody was there to hear it.
    pub received: u64,
    /// When the first packet left.
    pub started: Timestamp,
    /// When the last packet left, or the playing was cut.
    pub ended: Timestamp,
    /// Whether the peer was on hold at any time while it played.
    pub held: bool,
    /// Packet loss that the peer's receiver reports named while it played, in percent; `null`
    /// when it sent none.
    pub loss_percent: Option<u8>,
    /// Whether it ended by itself, with its last sample sent.
    pub completed: bool,
}

/// What a party did, or what stood in for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "method", rename_all = "kebab-case")]
pub enum Answer {
    /// A key.
    Key {
        /// Which. Only a key that the policy gives a meaning is ever named here.
        key: char,
        /// How it came.
        via: KeyVia,
        /// The RTP timestamp of the telephone-event; `null` for SIP INFO.
        rtp_timestamp: Option<u32>,
    },
    /// The window passed without a key.
    Window {
        /// When it opened: the notice had ended.
        start: Timestamp,
        /// When it closed.
        end: Timestamp,
    },
    /// The notice did not reach the party, however often it was played.
    NotHeard,
    /// An agreement on file.
    Standing {
        /// Its identifier in the policy.
        agreement: String,
    },
    /// The call ended before an answer: somebody hung up.
    HungUp,
    /// A token that was found valid.
    Token(TokenStated),
    /// The do-not-record list.
    Listed,
    /// The party's telephone said that it does not want to be recorded (RFC 7866, `recordpref`).
    Preference,
    /// A permission that the party gave earlier in this call, and never took back.
    Earlier {
        /// The digest of its evidence.
        evidence: Digest,
    },
    /// The keys that withdraw, at any time of the call.
    Keys {
        /// Which. Only keys that the policy gives a meaning are ever named here.
        keys: String,
        /// How they came.
        via: KeyVia,
        /// The RTP timestamp of the last telephone-event.
        rtp_timestamp: Option<u32>,
    },
    /// A command, by NATS or over the control socket.
    Command {
        /// The command's identifier.
        id: String,
    },
}

/// How a key came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyVia {
    /// RFC 4733 telephone-event.
    TelephoneEvent,
    /// SIP INFO, `application/dtmf-relay` or `application/dtmf`.
    Info,
}

/// What follows from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The party may be recorded.
    Granted,
    /// The party said no, or said nothing where silence is a refusal.
    Refused,
    /// The party objected.
    Objected,
    /// The party took a permission back.
    Withdrawn,
}

impl Outcome {
    /// Whether it permits recording.
    #[must_use]
    pub fn permits(self) -> bool {
        matches!(self, Outcome::Granted)
    }
}
