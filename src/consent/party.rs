//! One party's way to a decision, and from there: a struct a state, consumed by its transition.
//!
//! ```text
//! Waiting ─ present ─▶ Announcing ─ played ─▶ Listening ─ key or window ─▶ Deciding
//!    │                     │ key (barge-in)        │ silence: announce again   │ durable
//!    │                     ▼                       ▼                           ▼
//!    │                  Cutting ─ played ─▶ Deciding                        Cleared
//!    └─ given without a question ─────────▶ Deciding                           │ all agree
//!                                                                              ▼
//!  Denied ◀─ durable ─ Deciding ◀─ withdrawn, at any time ────────────── Permitted
//!    │                                                                         │ somebody's "no"
//!    └─ accept key, where the policy says so ─▶ Deciding ◀─ all agree again ─ Standby
//! ```
//!
//! Every other end is [`Denied`]. Doubt ends there too.

use std::time::Instant;

use crate::catalog::Receipt;
use crate::consent::decision::DecisionNumber;
use crate::consent::grant::{self, Grant, Lease};
use crate::consent::machine::Denial;
use crate::consent::policy::Gate;
use crate::consent::question::{self, Announcing, Cutting, Listening};
use crate::consent::terms::{Earlier, Made, Permitted, Terms, Way};
use crate::consent::{Answer, Decision, NoticePlayed, Outcome, Stop};
use crate::ids::StreamId;
use crate::time::Moment;

/// What a transition wants done.
#[derive(Debug)]
pub(super) enum Effect {
    Play { prompt: String },
    Silence,
    Commit(Decision),
}

/// Where a transition leads.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) next: State,
    pub(super) effect: Option<Effect>,
}

impl Step {
    pub(super) fn to(next: State) -> Self {
        Self { next, effect: None }
    }

    pub(super) fn with(next: State, effect: Effect) -> Self {
        Self { next, effect: Some(effect) }
    }
}

/// Where a party stands.
#[derive(Debug)]
pub(super) enum State {
    /// Not asked yet.
    Waiting,
    Announcing(Announcing),
    Listening(Listening),
    Cutting(Cutting),
    Deciding(Deciding),
    Cleared(Cleared),
    /// The stream may be written while the lease is here.
    Permitted(Lease),
    Standby(Standby),
    Denied(Denied),
}

/// The decision is on its way to the disk.
#[derive(Debug)]
pub(super) struct Deciding {
    number: DecisionNumber,
    /// What comes of it: a permission, or not, and why.
    denial: Option<Denial>,
}

/// The permission is durable; the grant waits for the others that the scope asks for.
#[derive(Debug)]
pub(super) struct Cleared {
    receipt: Receipt<Decision>,
}

/// The party agreed and never took it back; somebody else's "no" stopped the recording.
#[derive(Debug)]
pub(super) struct Standby {
    earlier: Earlier,
    why: Denial,
}

/// The party is not recorded.
#[derive(Debug)]
pub(super) struct Denied {
    why: Denial,
}

impl State {
    /// What tells this state from another at `now`, for the model check.
    #[cfg(test)]
    pub(super) fn sketch(&self, now: Instant) -> String {
        match self {
            State::Waiting => "waiting".to_owned(),
            State::Announcing(announcing) => announcing.sketch(now),
            State::Listening(listening) => listening.sketch(now),
            State::Cutting(cutting) => cutting.sketch(now),
            State::Deciding(Deciding { number, denial }) => {
                format!("deciding {number:?} {denial:?}")
            }
            State::Cleared(cleared) => {
                format!("cleared {:?}", cleared.receipt.value().facts().recording)
            }
            State::Permitted(lease) => format!("permitted {:?}", lease.stream()),
            State::Standby(Standby { why, .. }) => format!("standby {why:?}"),
            State::Denied(Denied { why }) => format!("denied {why:?}"),
        }
    }

    /// Where a party begins.
    pub(super) fn first(terms: &Terms) -> Self {
        match terms.way {
            // Nothing will ever be heard of a party who is neither asked nor covered.
            Way::NotCovered => State::denied(Denial::NotCovered),
            Way::OnCall(_) | Way::Given(..) | Way::Denied(..) => State::Waiting,
        }
    }

    fn denied(why: Denial) -> Self {
        State::Denied(Denied { why })
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            State::Announcing(announcing) => Some(announcing.until),
            State::Listening(listening) => Some(listening.until),
            State::Cutting(cutting) => Some(cutting.until),
            _ => None,
        }
    }

    /// Whether the party agrees as far as they are concerned, durable or not.
    pub(super) fn said_yes(&self) -> bool {
        match self {
            State::Deciding(deciding) => deciding.denial.is_none(),
            State::Cleared(_) | State::Permitted(_) => true,
            _ => false,
        }
    }

    pub(super) fn has_answered(&self) -> bool {
        matches!(self, State::Deciding(_)) || self.is_final()
    }

    pub(super) fn is_final(&self) -> bool {
        matches!(self, State::Cleared(_) | State::Permitted(_)) || self.is_denied()
    }

    /// Whether the party is in the middle of a question.
    pub(super) fn is_asking(&self) -> bool {
        matches!(
            self,
            State::Announcing(_) | State::Listening(_) | State::Cutting(_) | State::Deciding(_)
        )
    }

    /// Whether its decision is still to be made although nothing more will be said.
    pub(super) fn owes_decision(&self) -> bool {
        matches!(self, State::Cutting(_))
    }

    pub(super) fn is_cleared(&self) -> bool {
        matches!(self, State::Cleared(_) | State::Permitted(_))
    }

    pub(super) fn is_permitted(&self) -> bool {
        matches!(self, State::Permitted(_))
    }

    pub(super) fn is_standby(&self) -> bool {
        matches!(self, State::Standby(_))
    }

    pub(super) fn is_denied(&self) -> bool {
        matches!(self, State::Denied(_) | State::Standby(_))
    }

    pub(super) fn denial(&self) -> Option<Denial> {
        match self {
            State::Denied(denied) => Some(denied.why),
            State::Standby(standby) => Some(standby.why),
            _ => None,
        }
    }

    pub(super) fn lease(&self) -> Option<&Lease> {
        match self {
            State::Permitted(lease) => Some(lease),
            _ => None,
        }
    }

    /// The number of the decision that is under way.
    pub(super) fn number(&mut self) -> Option<&mut DecisionNumber> {
        match self {
            State::Deciding(deciding) => Some(&mut deciding.number),
            _ => None,
        }
    }

    pub(super) fn announce(self, terms: &Terms, at: Moment) -> Step {
        match self {
            State::Waiting => question::ask(terms, at),
            other => Step::to(other),
        }
    }

    /// What is known without a question takes effect, if it permits.
    pub(super) fn give(self, terms: &Terms, at: Moment) -> Step {
        match (self, &terms.way) {
            (State::Waiting, Way::Given(gate, answer)) => {
                let decision = terms.decide(at, without_notice(*gate, answer, Outcome::Granted));
                commit(decision, Denial::Unavailable)
            }
            (other, _) => Step::to(other),
        }
    }

    /// What is known without a question takes effect, if it refuses.
    pub(super) fn deny(self, terms: &Terms, at: Moment) -> Step {
        match (self, &terms.way) {
            (State::Waiting, Way::Denied(gate, answer, outcome)) => {
                let decision = terms.decide(at, without_notice(*gate, answer, *outcome));
                commit(decision, Denial::from(*outcome))
            }
            (other, _) => Step::to(other),
        }
    }

    pub(super) fn played(self, terms: &Terms, at: Moment, notice: NoticePlayed) -> Step {
        match self {
            State::Announcing(announcing) => announcing.played(terms, at, notice),
            State::Cutting(cutting) => cutting.played(terms, at, notice),
            other => Step::to(other),
        }
    }

    /// A key as an answer to the notice.
    pub(super) fn key(self, terms: &Terms, at: Moment, key: char, answer: Answer) -> Step {
        let Some(outcome) = terms.meaning(key) else { return Step::to(self) };
        match self {
            State::Announcing(announcing) => {
                Step::with(State::Cutting(announcing.cut(at, answer, outcome)), Effect::Silence)
            }
            State::Listening(listening) => listening.answered(terms, at, answer, outcome),
            other => Step::to(other),
        }
    }

    /// A "no" that may come at any time, by keys or by a command.
    pub(super) fn withdraw(self, terms: &Terms, at: Moment, answer: Answer) -> Step {
        let refusal = terms.refusal(Permitted::Before);
        match self {
            State::Waiting => {
                let made = without_notice(terms.gate(), &answer, refusal);
                commit(terms.decide(at, made), Denial::from(refusal))
            }
            State::Announcing(announcing) => {
                Step::with(State::Cutting(announcing.cut(at, answer, refusal)), Effect::Silence)
            }
            State::Listening(listening) => listening.answered(terms, at, answer, refusal),
            State::Cutting(cutting) => Step::to(State::Cutting(cutting.instead(answer, refusal))),
            State::Deciding(Deciding { denial: None, .. }) => take_back(terms, at, answer, None),
            State::Cleared(Cleared { receipt }) => {
                take_back(terms, at, answer, Some(of_receipt(&receipt)))
            }
            // The lease ends here, before anything else is done.
            State::Permitted(lease) => take_back(terms, at, answer, Some(of_lease(&lease))),
            State::Standby(standby) => take_back(terms, at, answer, Some(standby.earlier)),
            no @ (State::Deciding(_) | State::Denied(_)) => Step::to(no),
        }
    }

    /// The accept key, pressed by a party who took their permission back.
    pub(super) fn accept_again(self, terms: &Terms, at: Moment, answer: &Answer) -> Step {
        match self {
            State::Denied(Denied { why: Denial::Withdrawn }) => {
                let made = without_notice(Gate::OptIn, answer, Outcome::Granted);
                commit(terms.decide(at, made), Denial::Unavailable)
            }
            other => Step::to(other),
        }
    }

    /// Everybody agrees again: a permission that was never taken back counts for the new recording.
    pub(super) fn revive(self, terms: &Terms, at: Moment) -> Step {
        match self {
            State::Standby(Standby { earlier: Earlier { evidence, .. }, .. }) => {
                let answer = Answer::Earlier { evidence };
                let made = without_notice(terms.gate(), &answer, Outcome::Granted);
                commit(terms.decide(at, made), Denial::Unavailable)
            }
            other => Step::to(other),
        }
    }

    pub(super) fn held(self) -> Step {
        Step::to(match self {
            State::Announcing(announcing) => State::Announcing(announcing.held()),
            State::Listening(listening) => State::Listening(listening.held()),
            other => other,
        })
    }

    pub(super) fn durable(self, terms: &Terms, receipt: Receipt<Decision>) -> Step {
        match self {
            State::Deciding(deciding) if deciding.number == receipt.value().number() => {
                let current = receipt.value().facts().recording == terms.recording;
                let cleared = State::Cleared(Cleared { receipt });
                match deciding.denial {
                    Some(why) => Step::to(State::denied(why)),
                    None if current => Step::to(cleared),
                    None => cleared.outlive(),
                }
            }
            // Too late: the receipt is dropped, and with it the chance of a grant.
            other => Step::to(other),
        }
    }

    pub(super) fn not_durable(self, number: DecisionNumber) -> Step {
        match self {
            State::Deciding(deciding) if deciding.number == number => {
                // The "no" stands even where it could not be written down.
                Step::to(State::denied(deciding.denial.unwrap_or(Denial::Unavailable)))
            }
            other => Step::to(other),
        }
    }

    pub(super) fn left(self, terms: &Terms, at: Moment) -> Step {
        match self {
            State::Announcing(announcing) => Step::to(State::Cutting(announcing.left(at))),
            State::Cutting(cutting) => Step::to(State::Cutting(cutting.left(at))),
            State::Listening(listening) => listening.left(terms, at),
            denied @ State::Denied(_) => Step::to(denied),
            State::Waiting
            | State::Deciding(_)
            | State::Cleared(_)
            | State::Permitted(_)
            | State::Standby(_) => Step::to(State::denied(Denial::Left)),
        }
    }

    pub(super) fn tick(self, terms: &Terms, at: Moment) -> Step {
        match self {
            State::Listening(listening) if listening.until <= at.instant => {
                listening.window_passed(terms, at)
            }
            State::Announcing(announcing) if announcing.until <= at.instant => {
                announcing.unreported(terms, at)
            }
            State::Cutting(cutting) if cutting.until <= at.instant => cutting.unreported(terms, at),
            other => Step::to(other),
        }
    }

    /// Ends what there is because somebody else's "no", for whatever reason, is everybody's.
    pub(super) fn forfeit(self, why: Denial) -> Step {
        match self {
            State::Waiting | State::Listening(_) => Step::to(State::denied(why)),
            State::Announcing(_) => Step::with(State::denied(why), Effect::Silence),
            State::Cutting(cutting) if cutting.outcome.permits() => Step::to(State::denied(why)),
            // Its own answer is still to be written down, or waits for the others to agree.
            other => Step::to(other),
        }
    }

    /// The recording that a durable permission was for will not be written: it has to be given for
    /// the next one.
    pub(super) fn outlive(self) -> Step {
        match self {
            State::Cleared(Cleared { receipt }) => {
                let (earlier, why) = (of_receipt(&receipt), Denial::Withdrawn);
                Step::to(State::Standby(Standby { earlier, why }))
            }
            other => Step::to(other),
        }
    }

    /// Ends a lease because not everybody agrees any more.
    pub(super) fn stand_by(self, why: Denial) -> Step {
        match self {
            State::Permitted(lease) => {
                Step::to(State::Standby(Standby { earlier: of_lease(&lease), why }))
            }
            other => Step::to(other),
        }
    }

    /// Turns a durable permission into a grant. `noted` is the last stop of this leg that was.
    pub(super) fn issue(&mut self, noted: Stop) -> Option<Grant> {
        if !matches!(self, State::Cleared(_)) {
            return None;
        }
        let taken = std::mem::replace(self, State::denied(Denial::Unavailable));
        let State::Cleared(Cleared { receipt }) = taken else { return None };
        let (lease, grant) = grant::issue(receipt, noted)?;
        *self = State::Permitted(lease);
        Some(grant)
    }
}

/// Sends a decision to the disk. `denial` says why the party is not recorded, if they are not.
pub(super) fn commit(decision: Decision, denial: Denial) -> Step {
    let denial = (!decision.facts().outcome.permits()).then_some(denial);
    let number = DecisionNumber::default();
    Step::with(State::Deciding(Deciding { number, denial }), Effect::Commit(decision))
}

fn take_back(terms: &Terms, at: Moment, answer: Answer, ends: Option<Earlier>) -> Step {
    let outcome = terms.refusal(Permitted::After);
    let made = Made { ends, ..without_notice(terms.gate(), &answer, outcome) };
    commit(terms.decide(at, made), Denial::Withdrawn)
}

fn without_notice(gate: Gate, answer: &Answer, outcome: Outcome) -> Made {
    Made { gate, notices: Vec::new(), answer: answer.clone(), outcome, ends: None }
}

fn of_lease(lease: &Lease) -> Earlier {
    let StreamId { recording, .. } = lease.stream();
    Earlier { recording, evidence: lease.evidence() }
}

fn of_receipt(receipt: &Receipt<Decision>) -> Earlier {
    let recording = receipt.value().facts().recording;
    Earlier { recording, evidence: receipt.evidence() }
}
