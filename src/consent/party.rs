//! One party's way to a decision: a struct a state, consumed by its transition.
//!
//! ```text
//! Waiting ─ present ─▶ Announcing ─ played ─▶ Listening ─ key or window ─▶ Deciding
//!    │                     │ key (barge-in)        │ silence: announce again   │
//!    │                     ▼                       ▼                           │ durable
//!    │                  Cutting ─ played ─▶ Deciding                           ▼
//!    └─ standing ────────────────────────────────────────────▶ Deciding ─▶ Cleared ─▶ Permitted
//! ```
//!
//! Every other end is [`Denied`]. Doubt ends there too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::catalog::Receipt;
use crate::consent::grant::{self, Grant, Lease};
use crate::consent::machine::{Denial, PartyFacts};
use crate::consent::policy::{Gate, Policy};
use crate::consent::{Answer, Decision, DecisionFacts, KeyVia, NoticePlayed, Outcome};
use crate::ids::{CallId, Digest, RecordingId};
use crate::time::{Moment, Timestamp};

/// A notice of which the peer reports more than this lost was not heard.
const LOSS_LIMIT_PERCENT: u8 = 20;

/// A prompt whose end has not been reported after so long will never end: every question does.
const PROMPT_WITHIN: Duration = Duration::from_secs(120);

/// So much of a notice has to have reached a party before a key can mean consent to it: a key that
/// was dialled ahead, or is held down, agrees to nothing. A tenth of a shorter notice.
const HEARD_AT_LEAST_MS: u64 = 1000;

/// How long the player may take to say how much of a cut prompt was sent.
const CUT_WITHIN: Duration = Duration::from_millis(500);

/// What does not change while a party is asked.
#[derive(Debug)]
pub(super) struct Terms {
    policy: Arc<Policy>,
    policy_digest: Digest,
    call: CallId,
    recording: RecordingId,
    party: PartyFacts,
}

impl Terms {
    pub(super) fn new(
        policy: Arc<Policy>,
        policy_digest: Digest,
        call: CallId,
        recording: RecordingId,
        party: PartyFacts,
    ) -> Self {
        Self { policy, policy_digest, call, recording, party }
    }

    pub(super) fn locale(&self) -> &str {
        &self.party.locale
    }

    /// Whether enough of the notice itself, and not only of a re-prompt, was sent for a key to be
    /// an answer to it.
    fn has_reached(&self, heard: &[NoticePlayed]) -> bool {
        heard.iter().any(|notice| {
            let enough = HEARD_AT_LEAST_MS.min(notice.total_ms / 10);
            notice.prompt == self.policy.notice && notice.packets > 0 && notice.played_ms >= enough
        })
    }

    fn decide(
        &self,
        at: Moment,
        gate: Gate,
        notices: Vec<NoticePlayed>,
        answer: Answer,
        outcome: Outcome,
    ) -> Decision {
        Decision {
            facts: Box::new(DecisionFacts {
                call: self.call,
                recording: self.recording,
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
                time: at.wall,
            }),
        }
    }
}

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
    pub(super) effects: Vec<Effect>,
}

impl Step {
    fn to(next: State) -> Self {
        Self { next, effects: Vec::new() }
    }

    fn with(next: State, effect: Effect) -> Self {
        Self { next, effects: vec![effect] }
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
    /// The stream may be written while the lease is here. It is never read: to drop it is its use.
    Permitted(#[expect(dead_code)] Lease),
    Denied(Denied),
}

/// The notice or a re-prompt is playing.
#[derive(Debug)]
pub(super) struct Announcing {
    attempt: u8,
    heard: Vec<NoticePlayed>,
    until: Instant,
    held: bool,
}

/// The prompt has ended; a key or the end of the window decides.
#[derive(Debug)]
pub(super) struct Listening {
    attempt: u8,
    heard: Vec<NoticePlayed>,
    start: Timestamp,
    until: Instant,
    held: bool,
}

/// A key, or a hang-up, cut the prompt short; the player still has to say how much of it was sent,
/// because the evidence names it.
#[derive(Debug)]
pub(super) struct Cutting {
    heard: Vec<NoticePlayed>,
    attempt: u8,
    answer: Answer,
    outcome: Outcome,
    denial: Denial,
    until: Instant,
}

/// The decision is on its way to the disk.
#[derive(Debug)]
pub(super) struct Deciding {
    yes: bool,
    denial: Denial,
}

/// The permission is durable; the grant waits for the others that the scope asks for.
#[derive(Debug)]
pub(super) struct Cleared {
    receipt: Receipt<Decision>,
}

/// The party is not recorded.
#[derive(Debug)]
pub(super) struct Denied {
    why: Denial,
}

impl State {
    pub(super) fn waiting() -> Self {
        State::Waiting
    }

    pub(super) fn not_covered() -> Self {
        State::Denied(Denied { why: Denial::NotCovered })
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            State::Announcing(announcing) => Some(announcing.until),
            State::Listening(listening) => Some(listening.until),
            State::Cutting(cutting) => Some(cutting.until),
            _ => None,
        }
    }

    pub(super) fn said_yes(&self) -> bool {
        match self {
            State::Deciding(deciding) => deciding.yes,
            State::Cleared(_) | State::Permitted(_) => true,
            _ => false,
        }
    }

    pub(super) fn has_answered(&self) -> bool {
        matches!(self, State::Deciding(_)) || self.is_final()
    }

    pub(super) fn is_final(&self) -> bool {
        matches!(self, State::Cleared(_) | State::Permitted(_) | State::Denied(_))
    }

    /// Whether its decision is still to be made although nothing more will be said.
    pub(super) fn owes_decision(&self) -> bool {
        matches!(self, State::Cutting(_))
    }

    pub(super) fn is_permitted(&self) -> bool {
        matches!(self, State::Permitted(_))
    }

    pub(super) fn is_denied(&self) -> bool {
        matches!(self, State::Denied(_))
    }

    pub(super) fn denial(&self) -> Option<Denial> {
        match self {
            State::Denied(denied) => Some(denied.why),
            _ => None,
        }
    }

    pub(super) fn announce(self, terms: &Terms, at: Moment) -> Step {
        match self {
            State::Waiting => announce(terms.policy.notice.clone(), 1, Vec::new(), at),
            other => Step::to(other),
        }
    }

    pub(super) fn stand(self, terms: &Terms, at: Moment, agreement: String) -> Step {
        match self {
            State::Waiting => {
                let answer = Answer::Standing { agreement };
                let decision =
                    terms.decide(at, Gate::Standing, Vec::new(), answer, Outcome::Granted);
                commit(decision, Denial::Unavailable)
            }
            other => Step::to(other),
        }
    }

    pub(super) fn played(self, terms: &Terms, at: Moment, notice: NoticePlayed) -> Step {
        match self {
            State::Announcing(announcing) => announcing.played(terms, at, notice),
            State::Cutting(cutting) => cutting.played(terms, at, notice),
            other => Step::to(other),
        }
    }

    pub(super) fn key(
        self,
        terms: &Terms,
        at: Moment,
        key: char,
        via: KeyVia,
        rtp_timestamp: Option<u32>,
    ) -> Step {
        let Some(outcome) = meaning(&terms.policy, key) else { return Step::to(self) };
        let answer = Answer::Key { key, via, rtp_timestamp };
        match self {
            State::Announcing(Announcing { heard, attempt, .. }) => {
                let (denial, until) = (Denial::from(outcome), at.instant + CUT_WITHIN);
                let cutting = Cutting { heard, attempt, answer, outcome, denial, until };
                Step::with(State::Cutting(cutting), Effect::Silence)
            }
            State::Listening(Listening { heard, .. }) => {
                let decision = terms.decide(at, terms.policy.gate, heard, answer, outcome);
                commit(decision, Denial::from(outcome))
            }
            other => Step::to(other),
        }
    }

    pub(super) fn held(self) -> Step {
        match self {
            State::Announcing(announcing) => {
                Step::to(State::Announcing(Announcing { held: true, ..announcing }))
            }
            State::Listening(listening) => {
                Step::to(State::Listening(Listening { held: true, ..listening }))
            }
            other => Step::to(other),
        }
    }

    pub(super) fn durable(self, receipt: Receipt<Decision>) -> Step {
        match self {
            State::Deciding(Deciding { yes: true, .. }) => {
                Step::to(State::Cleared(Cleared { receipt }))
            }
            State::Deciding(Deciding { yes: false, denial }) => {
                Step::to(State::Denied(Denied { why: denial }))
            }
            // Too late: the receipt is dropped, and with it the chance of a grant.
            other => Step::to(other),
        }
    }

    pub(super) fn not_durable(self) -> Step {
        match self {
            State::Deciding(Deciding { yes: true, .. }) => {
                Step::to(State::Denied(Denied { why: Denial::Unavailable }))
            }
            // The "no" stands even where it could not be written down.
            State::Deciding(Deciding { yes: false, denial }) => {
                Step::to(State::Denied(Denied { why: denial }))
            }
            other => Step::to(other),
        }
    }

    pub(super) fn left(self, terms: &Terms, at: Moment) -> Step {
        match self {
            State::Announcing(Announcing { heard, attempt, .. }) => {
                Step::to(State::Cutting(Cutting::by_hanging_up(at, heard, attempt)))
            }
            State::Cutting(Cutting { heard, attempt, outcome, .. }) if outcome.permits() => {
                Step::to(State::Cutting(Cutting::by_hanging_up(at, heard, attempt)))
            }
            State::Listening(Listening { heard, .. }) => {
                let gate = terms.policy.gate;
                let decision = terms.decide(at, gate, heard, Answer::HungUp, Outcome::Refused);
                commit(decision, Denial::Left)
            }
            no @ (State::Cutting(_) | State::Denied(_)) => Step::to(no),
            State::Waiting | State::Deciding(_) | State::Cleared(_) | State::Permitted(_) => {
                Step::to(State::Denied(Denied { why: Denial::Left }))
            }
        }
    }

    pub(super) fn tick(self, terms: &Terms, at: Moment) -> Step {
        match self {
            State::Listening(listening) if listening.until <= at.instant => {
                listening.window_passed(terms, at)
            }
            State::Announcing(announcing) if announcing.until <= at.instant => {
                let gate = terms.policy.gate;
                let heard = announcing.heard;
                let decision = terms.decide(at, gate, heard, Answer::NotHeard, Outcome::Refused);
                commit(decision, Denial::NotHeard)
            }
            State::Cutting(cutting) if cutting.until <= at.instant => cutting.unreported(terms, at),
            other => Step::to(other),
        }
    }

    /// Ends the permission because somebody else's "no", for whatever reason, is everybody's.
    pub(super) fn forfeit(&mut self, why: Denial) {
        match self {
            State::Denied(_) => {}
            // Its own answer is still to be written down.
            State::Deciding(deciding) if !deciding.yes => {}
            State::Cutting(cutting) if !cutting.outcome.permits() => {}
            _ => *self = State::Denied(Denied { why }),
        }
    }

    /// Turns a durable permission into a grant.
    pub(super) fn issue(&mut self) -> Option<Grant> {
        if !matches!(self, State::Cleared(_)) {
            return None;
        }
        let denied = State::Denied(Denied { why: Denial::Unavailable });
        let State::Cleared(Cleared { receipt }) = std::mem::replace(self, denied) else {
            return None;
        };
        let (lease, grant) = grant::issue(receipt)?;
        *self = State::Permitted(lease);
        Some(grant)
    }
}

impl Announcing {
    fn played(mut self, terms: &Terms, at: Moment, mut notice: NoticePlayed) -> Step {
        notice.held |= self.held;
        let heard = was_heard(&notice);
        self.heard.push(notice);
        let enough = match terms.policy.gate {
            Gate::NoObjection => heard,
            Gate::OptIn | Gate::Standing | Gate::Token => terms.has_reached(&self.heard),
        };
        if !enough {
            return not_heard(terms, at, self.attempt, self.heard);
        }
        Step::to(State::Listening(Listening {
            attempt: self.attempt,
            heard: self.heard,
            start: at.wall,
            until: at.instant + terms.policy.answer_within,
            held: false,
        }))
    }
}

impl Listening {
    fn window_passed(self, terms: &Terms, at: Moment) -> Step {
        let gate = terms.policy.gate;
        match gate {
            Gate::NoObjection if self.held => not_heard(terms, at, self.attempt, self.heard),
            Gate::NoObjection => {
                let answer = Answer::Window { start: self.start, end: at.wall };
                let decision = terms.decide(at, gate, self.heard, answer, Outcome::Granted);
                commit(decision, Denial::Unavailable)
            }
            Gate::OptIn | Gate::Standing | Gate::Token if self.attempt < terms.policy.attempts => {
                announce("reprompt".to_owned(), self.attempt + 1, self.heard, at)
            }
            Gate::OptIn | Gate::Standing | Gate::Token => {
                let answer = Answer::Window { start: self.start, end: at.wall };
                let decision = terms.decide(at, gate, self.heard, answer, Outcome::Refused);
                commit(decision, Denial::Refused)
            }
        }
    }
}

impl Cutting {
    fn by_hanging_up(at: Moment, heard: Vec<NoticePlayed>, attempt: u8) -> Self {
        Self {
            heard,
            attempt,
            answer: Answer::HungUp,
            outcome: Outcome::Refused,
            denial: Denial::Left,
            until: at.instant + CUT_WITHIN,
        }
    }

    fn played(mut self, terms: &Terms, at: Moment, notice: NoticePlayed) -> Step {
        self.heard.push(notice);
        if self.outcome.permits() && !terms.has_reached(&self.heard) {
            return not_heard(terms, at, self.attempt, self.heard);
        }
        let gate = terms.policy.gate;
        let decision = terms.decide(at, gate, self.heard, self.answer, self.outcome);
        commit(decision, self.denial)
    }

    /// The player is gone: a "no" stands, and a "yes" to what cannot be proven is none.
    fn unreported(self, terms: &Terms, at: Moment) -> Step {
        let gate = terms.policy.gate;
        let (answer, denial) = if self.outcome.permits() {
            (Answer::NotHeard, Denial::NotHeard)
        } else {
            (self.answer, self.denial)
        };
        let outcome = if self.outcome.permits() { Outcome::Refused } else { self.outcome };
        commit(terms.decide(at, gate, self.heard, answer, outcome), denial)
    }
}

/// What a key means under the policy's gate; `None` for one that means nothing.
fn meaning(policy: &Policy, key: char) -> Option<Outcome> {
    match policy.gate {
        Gate::OptIn if key == policy.accept => Some(Outcome::Granted),
        Gate::OptIn if key == policy.refuse => Some(Outcome::Refused),
        Gate::NoObjection if key == policy.refuse => Some(Outcome::Objected),
        _ => None,
    }
}

fn was_heard(notice: &NoticePlayed) -> bool {
    notice.completed
        && !notice.held
        && notice.packets > 0
        && notice.received > 0
        && notice.loss_percent.is_none_or(|loss| loss <= LOSS_LIMIT_PERCENT)
}

/// A notice that was not heard is played once more, whole; after that it counts as not heard.
fn not_heard(terms: &Terms, at: Moment, attempt: u8, heard: Vec<NoticePlayed>) -> Step {
    if attempt < 2 {
        return announce(terms.policy.notice.clone(), attempt + 1, heard, at);
    }
    let gate = terms.policy.gate;
    let decision = terms.decide(at, gate, heard, Answer::NotHeard, Outcome::Refused);
    commit(decision, Denial::NotHeard)
}

fn announce(prompt: String, attempt: u8, heard: Vec<NoticePlayed>, at: Moment) -> Step {
    let until = at.instant + PROMPT_WITHIN;
    Step::with(
        State::Announcing(Announcing { attempt, heard, until, held: false }),
        Effect::Play { prompt },
    )
}

fn commit(decision: Decision, denial: Denial) -> Step {
    let yes = decision.facts().outcome.permits();
    Step::with(State::Deciding(Deciding { yes, denial }), Effect::Commit(decision))
}
