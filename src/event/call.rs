//! `call` and `party`: who talked to whom, as references.

use serde::Serialize;

use crate::event::Word;
use crate::ids::{CallId, Digest, Leg, PartyRef};

/// `call.started`: an INVITE was accepted for processing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CallStarted {
    /// The call.
    pub call: CallId,
    /// How the PBX uses Assent.
    pub mode: CallMode,
    /// Seen from the organisation that records.
    pub direction: CallDirection,
    /// The parties as far as they are known: one in endpoint mode, two inline.
    pub legs: Vec<CallParty>,
    /// The place of the matching route in the configuration, from 1.
    pub route: u32,
    /// The policy's name.
    pub policy: Word,
    /// SHA-256 of the policy's canonical JSON.
    pub policy_digest: Digest,
}

/// How the PBX uses Assent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum CallMode {
    Inline,
    Endpoint,
    Siprec,
}

/// Seen from the organisation that records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallDirection {
    /// Somebody outside calls.
    Inbound,
    /// Somebody inside calls out.
    Outbound,
    /// The configuration does not say.
    Unknown,
}

/// One party of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CallParty {
    /// On which leg.
    pub role: Leg,
    /// Who.
    pub party_ref: PartyRef,
}

/// `call.ended`: the last leg is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CallEnded {
    /// The call.
    pub call: CallId,
    /// From the INVITE to the end, in milliseconds.
    pub duration_ms: u64,
    /// Why it ended.
    pub cause: EndCause,
    /// Who ended it; `null` when the agent did.
    pub by: Option<Leg>,
    /// The SIP status that ended the INVITE, where one did.
    pub status: Option<u16>,
}

/// Why a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndCause {
    /// A BYE.
    HungUp,
    /// A CANCEL before the answer.
    Cancelled,
    /// The other side was busy.
    Busy,
    /// The other side rang and nobody answered.
    NoAnswer,
    /// The other side said no with another status.
    Rejected,
    /// The other side could not be reached.
    Unreachable,
    /// A refusal, under a policy that hangs up then.
    Refused,
    /// The recorder could not work, under a policy that refuses then.
    Unavailable,
    /// Neither media nor signalling came any more.
    Dead,
    /// A session timer ran out: nobody refreshed the session (RFC 4028).
    Expired,
    /// The agent was told to stop and the time for calls to end had passed.
    Drained,
    /// The agent ended without ending the call itself; written at its next start.
    Crashed,
    /// Something else failed inside the agent.
    Failed,
}

/// `party.joined`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PartyJoined {
    /// The call.
    pub call: CallId,
    /// On which leg.
    pub role: Leg,
    /// Who.
    pub party_ref: PartyRef,
    /// How the party came in.
    pub reason: JoinReason,
}

/// How a party came into a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum JoinReason {
    /// The party called.
    Called,
    /// The party answered.
    Answered,
    /// A transfer.
    Transferred,
}

/// `party.left`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PartyLeft {
    /// The call.
    pub call: CallId,
    /// On which leg.
    pub role: Leg,
    /// Who.
    pub party_ref: PartyRef,
    /// How the party left.
    pub reason: LeaveReason,
}

/// How a party left a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaveReason {
    /// The party hung up or cancelled.
    HungUp,
    /// The agent or the other party ended the call.
    Released,
    /// A transfer.
    Transferred,
    /// The party's side fell silent or could not be reached any more.
    Lost,
}
