//! `permission`: what was decided about a party, tied to the evidence that is already written.

use serde::Serialize;

use crate::consent::policy::{Basis, Gate};
use crate::consent::{Answer, DecisionFacts, Outcome};
use crate::event::{Kind, Word};
use crate::ids::{CallId, Digest, EvidenceId, Leg, PartyRef, RecordingId};

/// `permission.granted`, `.refused`, `.objected` or `.withdrawn`.
///
/// Made from the decision's facts and its evidence record together, inside the transaction that
/// stores both: there is no permission event without evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PermissionDecided {
    /// The call.
    pub call: CallId,
    /// The recording that the permission is for.
    pub recording: RecordingId,
    /// On which leg the party is.
    pub role: Leg,
    /// Who.
    pub party_ref: PartyRef,
    /// The policy's name.
    pub policy: Word,
    /// SHA-256 of the policy's canonical JSON.
    pub policy_digest: Digest,
    /// The lawful basis.
    pub basis: Basis,
    /// How the permission comes about.
    pub gate: Gate,
    /// What the recording is for.
    pub purposes: Vec<Word>,
    /// What the decision was read from.
    pub method: Method,
    /// The evidence record.
    pub evidence: EvidenceId,
    /// Its digest, as stored and chained.
    pub evidence_digest: Digest,
    #[serde(skip)]
    outcome: Outcome,
}

impl PermissionDecided {
    /// From a decision and the evidence record that was written for it.
    #[must_use]
    pub fn of(facts: &DecisionFacts, evidence: EvidenceId, digest: Digest) -> Self {
        Self {
            call: facts.call,
            recording: facts.recording,
            role: facts.leg,
            party_ref: facts.party_ref,
            policy: Word::new(&facts.policy),
            policy_digest: facts.policy_digest,
            basis: facts.basis,
            gate: facts.gate,
            purposes: facts.purposes.iter().map(|purpose| Word::new(purpose)).collect(),
            method: Method::of(&facts.answer),
            evidence,
            evidence_digest: digest,
            outcome: facts.outcome,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self.outcome {
            Outcome::Granted => Kind::PermissionGranted,
            Outcome::Refused => Kind::PermissionRefused,
            Outcome::Objected => Kind::PermissionObjected,
            Outcome::Withdrawn => Kind::PermissionWithdrawn,
        }
    }
}

/// What a decision was read from. Which key it was is in the evidence, not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// A key that was pressed.
    Key,
    /// A window that passed without one.
    Window,
    /// An agreement on file.
    Standing,
    /// A statement of the PBX.
    Token,
    /// A command.
    Command,
    /// The do-not-record list.
    Listed,
    /// What the party's telephone prefers (RFC 7866).
    Preference,
    /// A permission given earlier in the call.
    Earlier,
    /// The notice did not reach the party.
    NotHeard,
    /// The party was gone before an answer.
    HungUp,
}

impl Method {
    fn of(answer: &Answer) -> Self {
        match answer {
            Answer::Key { .. } => Method::Key,
            Answer::Window { .. } => Method::Window,
            Answer::NotHeard => Method::NotHeard,
            Answer::Standing { .. } => Method::Standing,
            Answer::HungUp => Method::HungUp,
            Answer::Token(_) => Method::Token,
            Answer::Listed => Method::Listed,
            Answer::Preference => Method::Preference,
            Answer::Earlier { .. } => Method::Earlier,
            Answer::Keys { .. } => Method::Key,
            Answer::Command { .. } => Method::Command,
        }
    }
}
