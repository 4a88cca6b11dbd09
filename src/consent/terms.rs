//! What is fixed about a party while their permission is decided: the policy, the party, the way.

use std::sync::Arc;
use std::time::Duration;

use crate::consent::machine::PartyFacts;
use crate::consent::policy::{Ask, Gate, Policy};
use crate::consent::{Answer, Decision, DecisionFacts, NoticePlayed, Outcome, Prior, Stated};
use crate::ids::{CallId, Digest, RecordingId};
use crate::time::Moment;

/// So much of a notice has to have reached a party before a key can mean consent to it: a key that
/// was dialled ahead, or is held down, agrees to nothing. A tenth of a shorter notice.
const HEARD_AT_LEAST_MS: u64 = 1000;

/// How a party's permission comes about, or why there is nothing to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// They are asked on the call.
    OnCall(Gate),
    /// It is given without a question: by an agreement on file or by a token.
    Given(Gate, Answer),
    /// It is refused without a question: by the do-not-record list or by a token.
    Denied(Gate, Answer, Outcome),
    /// The policy neither asks them nor names an agreement.
    NotCovered,
}

impl Way {
    fn of(policy: &Policy, party: &PartyFacts) -> Self {
        let ask = policy.ask(party.leg);
        if *ask == Ask::Nobody {
            return Way::NotCovered;
        }
        if party.prior == Prior::Listed {
            let gate = if *ask == Ask::OnCall { policy.gate } else { Gate::Standing };
            return Way::Denied(gate, Answer::Listed, Outcome::Objected);
        }
        match (ask, policy.gate, &party.prior) {
            (Ask::Nobody, ..) => Way::NotCovered,
            (Ask::Standing(agreement), ..) => {
                Way::Given(Gate::Standing, Answer::Standing { agreement: agreement.clone() })
            }
            (Ask::OnCall, Gate::Token, Prior::Token(token)) => {
                let answer = Answer::Token(token.clone());
                match token.stated {
                    Stated::Granted => Way::Given(Gate::Token, answer),
                    Stated::Refused => Way::Denied(Gate::Token, answer, Outcome::Refused),
                }
            }
            (Ask::OnCall, Gate::Token, _) => {
                match (policy.fallback, policy.on_file.of(party.leg)) {
                    (Gate::Standing, Some(agreement)) => {
                        let agreement = agreement.to_owned();
                        Way::Given(Gate::Standing, Answer::Standing { agreement })
                    }
                    (fallback, _) => Way::asked(fallback),
                }
            }
            (Ask::OnCall, gate, _) => Way::asked(gate),
        }
    }

    /// Only two gates can ask. The others have nothing to go by here, and doubt is no permission.
    fn asked(gate: Gate) -> Self {
        match gate {
            Gate::OptIn | Gate::NoObjection => Way::OnCall(gate),
            Gate::Standing | Gate::Token => Way::NotCovered,
        }
    }
}

/// What does not change while a party's permission is decided.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) policy: Arc<Policy>,
    policy_digest: Digest,
    call: CallId,
    /// What a permission given now is for.
    pub(super) recording: RecordingId,
    first: RecordingId,
    pub(super) party: PartyFacts,
    pub(super) way: Way,
}

impl Terms {
    pub(super) fn new(
        policy: Arc<Policy>,
        policy_digest: Digest,
        call: CallId,
        recording: RecordingId,
        party: PartyFacts,
    ) -> Self {
        let way = Way::of(&policy, &party);
        Self { policy, policy_digest, call, recording, first: recording, party, way }
    }

    /// The same for somebody else on the same leg.
    pub(super) fn for_another(&self, party: PartyFacts) -> Self {
        let policy = Arc::clone(&self.policy);
        Self::new(policy, self.policy_digest, self.call, self.recording, party)
    }

    /// Whether a permission given now follows one that ended.
    pub(super) fn was_renewed(&self) -> bool {
        self.recording != self.first
    }

    /// How the permission comes about.
    pub(super) fn gate(&self) -> Gate {
        match &self.way {
            Way::OnCall(gate) | Way::Given(gate, _) | Way::Denied(gate, ..) => *gate,
            Way::NotCovered => self.policy.gate,
        }
    }

    pub(super) fn answer_within(&self) -> Duration {
        self.policy.answer_within
    }

    /// What a "no" of this party is called before there is a permission, and after.
    pub(super) fn refusal(&self, permission: Permitted) -> Outcome {
        match (self.gate(), permission) {
            (Gate::NoObjection, _) => Outcome::Objected,
            (_, Permitted::Before) => Outcome::Refused,
            (_, Permitted::After) => Outcome::Withdrawn,
        }
    }

    /// What a key means as an answer to the notice; `None` for one that means nothing.
    pub(super) fn meaning(&self, key: char) -> Option<Outcome> {
        match self.gate() {
            Gate::OptIn if key == self.policy.accept => Some(Outcome::Granted),
            Gate::OptIn if key == self.policy.refuse => Some(Outcome::Refused),
            Gate::NoObjection if key == self.policy.refuse => Some(Outcome::Objected),
            _ => None,
        }
    }

    /// Whether a notice was heard: to its last sample, into a leg that was not on hold, with
    /// packets that were really sent and, where the peer reports, not lost.
    pub(super) fn was_heard(&self, notice: &NoticePlayed) -> bool {
        notice.completed
            && !notice.held
            && notice.packets > 0
            && notice.received > 0
            && notice.loss_percent.is_none_or(|loss| loss <= self.policy.loss_limit)
    }

    /// Whether enough of the notice itself, and not only of a re-prompt, was sent for a key to be
    /// an answer to it.
    pub(super) fn has_reached(&self, heard: &[NoticePlayed]) -> bool {
        heard.iter().any(|notice| {
            let enough = HEARD_AT_LEAST_MS.min(notice.total_ms / 10);
            notice.prompt == self.policy.notice && notice.packets > 0 && notice.played_ms >= enough
        })
    }

    /// A decision about this party.
    pub(super) fn decide(&self, at: Moment, made: Made) -> Decision {
        let Made { gate, notices, answer, outcome, ends } = made;
        let (recording, ends) = match ends {
            Some(ended) => (ended.recording, Some(ended.evidence)),
            None => (self.recording, None),
        };
        Decision {
            number: Default::default(),
            facts: Box::new(DecisionFacts {
                call: self.call,
                recording,
                leg: self.party.leg,
                party_ref: self.party.party_ref,
                transport: self.party.transport,
                policy: self.policy.name.clone(),
                policy_digest: self.policy_digest,
                basis: self.policy.basis,
                gate,
                purposes: self.policy.purposes.clone(),
                controller: self.policy.controller.clone(),
                notices,
                answer,
                outcome,
                ends,
                time: at.wall,
            }),
        }
    }
}

/// Whether a "no" comes before a permission or takes one back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permitted {
    Before,
    After,
}

/// What a decision is made from, beside the terms.
pub(super) struct Made {
    pub(super) gate: Gate,
    pub(super) notices: Vec<NoticePlayed>,
    pub(super) answer: Answer,
    pub(super) outcome: Outcome,
    /// The permission that it takes back.
    pub(super) ends: Option<Earlier>,
}

/// A permission that was given earlier in the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Earlier {
    pub(super) recording: RecordingId,
    pub(super) evidence: Digest,
}
