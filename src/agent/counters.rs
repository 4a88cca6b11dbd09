//! What the core counts for `/metrics`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::call::machine::{Cause, Phase};
use crate::consent::Outcome;
use crate::consent::policy::Gate;

/// Counters of calls, decisions and recordings.
#[derive(Debug, Default)]
pub(super) struct Counters {
    phases: [AtomicU64; 5],
    ended: Mutex<Vec<(&'static str, u64)>>,
    decisions: Mutex<Vec<(&'static str, &'static str, u64)>>,
    tokens: Mutex<Vec<(&'static str, u64)>>,
    lost: AtomicU64,
    capturing: AtomicU64,
    sealed: AtomicU64,
    failed: AtomicU64,
    segments: AtomicU64,
}

impl Counters {
    pub(super) fn entered(&self, phase: Phase) {
        self.of(phase).fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn left(&self, phase: Phase) {
        self.of(phase).fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn moved(&self, from: Phase, to: Phase) {
        self.left(from);
        self.entered(to);
    }

    pub(super) fn ended(&self, cause: Cause) {
        let Ok(mut ended) = self.ended.lock() else { return };
        let word = cause.as_str();
        match ended.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => ended.push((word, 1)),
        }
    }

    pub(super) fn decided(&self, gate: Gate, outcome: Outcome) {
        let Ok(mut decisions) = self.decisions.lock() else { return };
        let (gate, outcome) = (gate_word(gate), outcome_word(outcome));
        match decisions.iter_mut().find(|(g, o, _)| (*g, *o) == (gate, outcome)) {
            Some((_, _, count)) => *count += 1,
            None => decisions.push((gate, outcome, 1)),
        }
    }

    /// A consent token came: `valid`, or why it does not count.
    pub(super) fn token(&self, verdict: &'static str) {
        let Ok(mut tokens) = self.tokens.lock() else { return };
        match tokens.iter_mut().find(|(known, _)| *known == verdict) {
            Some((_, count)) => *count += 1,
            None => tokens.push((verdict, 1)),
        }
    }

    pub(super) fn lost(&self, packets: u64) {
        self.lost.fetch_add(packets, Ordering::Relaxed);
    }

    pub(super) fn recording_started(&self) {
        self.capturing.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn recording_ended(&self) {
        self.capturing.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn recording_sealed(&self) {
        self.sealed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn recording_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn segment_sealed(&self) {
        self.segments.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls now, by state.
    pub(super) fn calls(&self) -> Vec<(&'static str, u64)> {
        [
            ("asking", Phase::Asking),
            ("farewell", Phase::Farewell),
            ("dialling", Phase::Dialling),
            ("talking", Phase::Talking),
            ("ending", Phase::Over),
        ]
        .into_iter()
        .map(|(word, phase)| (word, self.of(phase).load(Ordering::Relaxed)))
        .collect()
    }

    /// Calls that ended, by cause.
    pub(super) fn calls_ended(&self) -> Vec<(&'static str, u64)> {
        self.ended.lock().map(|ended| ended.clone()).unwrap_or_default()
    }

    /// Decisions, by gate and outcome.
    pub(super) fn decisions(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.decisions.lock().map(|decisions| decisions.clone()).unwrap_or_default()
    }

    /// Consent tokens, by what became of them.
    pub(super) fn tokens(&self) -> Vec<(&'static str, u64)> {
        self.tokens.lock().map(|tokens| tokens.clone()).unwrap_or_default()
    }

    /// Packets that never came.
    pub(super) fn packets_lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Recordings now, by state.
    pub(super) fn recordings(&self) -> Vec<(&'static str, u64)> {
        vec![("capturing", self.capturing.load(Ordering::Relaxed))]
    }

    /// Recordings that ended, by result.
    pub(super) fn recordings_ended(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("sealed", self.sealed.load(Ordering::Relaxed)),
            ("failed", self.failed.load(Ordering::Relaxed)),
        ]
    }

    /// Segments sealed.
    pub(super) fn segments_sealed(&self) -> u64 {
        self.segments.load(Ordering::Relaxed)
    }

    fn of(&self, phase: Phase) -> &AtomicU64 {
        let [asking, farewell, dialling, talking, over] = &self.phases;
        match phase {
            Phase::Asking => asking,
            Phase::Farewell => farewell,
            Phase::Dialling => dialling,
            Phase::Talking => talking,
            Phase::Over => over,
        }
    }
}

fn gate_word(gate: Gate) -> &'static str {
    match gate {
        Gate::OptIn => "opt-in",
        Gate::NoObjection => "no-objection",
        Gate::Standing => "standing",
        Gate::Token => "token",
    }
}

fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Granted => "granted",
        Outcome::Refused => "refused",
        Outcome::Objected => "objected",
        Outcome::Withdrawn => "withdrawn",
    }
}
