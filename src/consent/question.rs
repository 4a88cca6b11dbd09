//! A question on the call: the notice plays, the window is open, a key has cut it short.

use std::time::{Duration, Instant};

use crate::consent::machine::Denial;
use crate::consent::party::{Effect, State, Step, commit};
use crate::consent::policy::Gate;
use crate::consent::terms::{Made, Terms};
use crate::consent::{Answer, NoticePlayed, Outcome};
use crate::time::{Moment, Timestamp};

/// A prompt whose end has not been reported after so long will never end: every question does.
const PROMPT_WITHIN: Duration = Duration::from_secs(120);

/// How long the player may take to say how much of a cut prompt was sent.
const CUT_WITHIN: Duration = Duration::from_millis(500);

/// The notice or a re-prompt is playing.
#[derive(Debug)]
pub(super) struct Announcing {
    attempt: u8,
    heard: Vec<NoticePlayed>,
    pub(super) until: Instant,
    held: bool,
}

/// The prompt has ended; a key or the end of the window decides.
#[derive(Debug)]
pub(super) struct Listening {
    attempt: u8,
    heard: Vec<NoticePlayed>,
    start: Timestamp,
    pub(super) until: Instant,
    held: bool,
}

/// A key, or a hang-up, cut the prompt short; the player still has to say how much of it was sent,
/// because the evidence names it.
#[derive(Debug)]
pub(super) struct Cutting {
    heard: Vec<NoticePlayed>,
    attempt: u8,
    answer: Answer,
    pub(super) outcome: Outcome,
    denial: Denial,
    pub(super) until: Instant,
}

/// Puts the question for the first time.
pub(super) fn ask(terms: &Terms, at: Moment) -> Step {
    announce(terms.policy.notice.clone(), 1, Vec::new(), at)
}

impl Announcing {
    #[cfg(test)]
    pub(super) fn sketch(&self, now: Instant) -> String {
        let left = self.until.saturating_duration_since(now);
        format!("announcing {} {} {} {left:?}", self.attempt, self.heard.len(), self.held)
    }

    pub(super) fn held(self) -> Self {
        Self { held: true, ..self }
    }

    pub(super) fn cut(self, at: Moment, answer: Answer, outcome: Outcome) -> Cutting {
        let Self { heard, attempt, .. } = self;
        let (denial, until) = (Denial::from(outcome), at.instant + CUT_WITHIN);
        Cutting { heard, attempt, answer, outcome, denial, until }
    }

    pub(super) fn left(self, at: Moment) -> Cutting {
        Cutting { denial: Denial::Left, ..self.cut(at, Answer::HungUp, Outcome::Refused) }
    }

    pub(super) fn played(mut self, terms: &Terms, at: Moment, mut notice: NoticePlayed) -> Step {
        notice.held |= self.held;
        let heard = terms.was_heard(&notice);
        self.heard.push(notice);
        let enough = match terms.gate() {
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
            until: at.instant + terms.answer_within(),
            held: false,
        }))
    }

    /// The player never said that it ended.
    pub(super) fn unreported(self, terms: &Terms, at: Moment) -> Step {
        let made = made(terms, self.heard, Answer::NotHeard, Outcome::Refused);
        commit(terms.decide(at, made), Denial::NotHeard)
    }
}

impl Listening {
    #[cfg(test)]
    pub(super) fn sketch(&self, now: Instant) -> String {
        let left = self.until.saturating_duration_since(now);
        format!("listening {} {} {} {left:?}", self.attempt, self.heard.len(), self.held)
    }

    pub(super) fn held(self) -> Self {
        Self { held: true, ..self }
    }

    pub(super) fn answered(
        self,
        terms: &Terms,
        at: Moment,
        answer: Answer,
        outcome: Outcome,
    ) -> Step {
        commit(terms.decide(at, made(terms, self.heard, answer, outcome)), Denial::from(outcome))
    }

    pub(super) fn left(self, terms: &Terms, at: Moment) -> Step {
        let made = made(terms, self.heard, Answer::HungUp, Outcome::Refused);
        commit(terms.decide(at, made), Denial::Left)
    }

    pub(super) fn window_passed(self, terms: &Terms, at: Moment) -> Step {
        let window = Answer::Window { start: self.start, end: at.wall };
        match terms.gate() {
            Gate::NoObjection if self.held => not_heard(terms, at, self.attempt, self.heard),
            Gate::NoObjection => {
                let made = made(terms, self.heard, window, Outcome::Granted);
                commit(terms.decide(at, made), Denial::Unavailable)
            }
            Gate::OptIn | Gate::Standing | Gate::Token if self.attempt < terms.policy.attempts => {
                announce("reprompt".to_owned(), self.attempt + 1, self.heard, at)
            }
            Gate::OptIn | Gate::Standing | Gate::Token => {
                let made = made(terms, self.heard, window, Outcome::Refused);
                commit(terms.decide(at, made), Denial::Refused)
            }
        }
    }
}

impl Cutting {
    #[cfg(test)]
    pub(super) fn sketch(&self, now: Instant) -> String {
        let left = self.until.saturating_duration_since(now);
        let Self { attempt, heard, outcome, denial, .. } = self;
        format!("cutting {attempt} {} {outcome:?} {denial:?} {left:?}", heard.len())
    }

    /// A "no" in place of the "yes" that cut the prompt.
    pub(super) fn instead(self, answer: Answer, outcome: Outcome) -> Self {
        if !self.outcome.permits() {
            return self;
        }
        Self { answer, outcome, denial: Denial::from(outcome), ..self }
    }

    pub(super) fn left(self, at: Moment) -> Self {
        if !self.outcome.permits() {
            return self;
        }
        let until = at.instant + CUT_WITHIN;
        let (answer, outcome, denial) = (Answer::HungUp, Outcome::Refused, Denial::Left);
        Self { answer, outcome, denial, until, ..self }
    }

    pub(super) fn played(mut self, terms: &Terms, at: Moment, notice: NoticePlayed) -> Step {
        self.heard.push(notice);
        if self.outcome.permits() && !terms.has_reached(&self.heard) {
            return not_heard(terms, at, self.attempt, self.heard);
        }
        let made = made(terms, self.heard, self.answer, self.outcome);
        commit(terms.decide(at, made), self.denial)
    }

    /// The player is gone: a "no" stands, and a "yes" to what cannot be proven is none.
    pub(super) fn unreported(self, terms: &Terms, at: Moment) -> Step {
        let (answer, outcome, denial) = if self.outcome.permits() {
            (Answer::NotHeard, Outcome::Refused, Denial::NotHeard)
        } else {
            (self.answer, self.outcome, self.denial)
        };
        commit(terms.decide(at, made(terms, self.heard, answer, outcome)), denial)
    }
}

fn made(terms: &Terms, notices: Vec<NoticePlayed>, answer: Answer, outcome: Outcome) -> Made {
    Made { gate: terms.gate(), notices, answer, outcome, ends: None }
}

/// A notice that was not heard is played once more, whole; after that it counts as not heard.
fn not_heard(terms: &Terms, at: Moment, attempt: u8, heard: Vec<NoticePlayed>) -> Step {
    if attempt < 2 {
        return announce(terms.policy.notice.clone(), attempt + 1, heard, at);
    }
    let made = made(terms, heard, Answer::NotHeard, Outcome::Refused);
    commit(terms.decide(at, made), Denial::NotHeard)
}

fn announce(prompt: String, attempt: u8, heard: Vec<NoticePlayed>, at: Moment) -> Step {
    let until = at.instant + PROMPT_WITHIN;
    Step::with(
        State::Announcing(Announcing { attempt, heard, until, held: false }),
        Effect::Play { prompt },
    )
}
