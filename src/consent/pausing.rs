//! Pause and resume: nothing is written for a while, by wish of somebody who may, and never longer
//! than the policy's limit.

use std::time::Instant;

use crate::consent::machine::{Output, PausedBy, Permission};
use crate::ids::{Leg, RecordingId};
use crate::time::Moment;

/// Whether what is permitted is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Running,
    Paused {
        /// When it goes on by itself.
        until: Instant,
        /// Who wanted it.
        by: PausedBy,
    },
}

impl Flow {
    pub(super) fn deadline(self) -> Option<Instant> {
        match self {
            Flow::Running => None,
            Flow::Paused { until, .. } => Some(until),
        }
    }
}

impl Permission {
    /// The same keys pause and resume.
    pub(super) fn toggle(&mut self, at: Moment, by: PausedBy, out: &mut Vec<Output>) {
        match self.flow {
            Flow::Running => self.pause(at, by, out),
            Flow::Paused { .. } => self.resume(by, out),
        }
    }

    /// Stops the writing of everybody. Without a recording there is nothing to pause; but one whose
    /// permission is on its way to the disk begins with the pause.
    pub(super) fn pause(&mut self, at: Moment, by: PausedBy, out: &mut Vec<Output>) {
        if self.flow != Flow::Running || !self.is_agreed() {
            return;
        }
        self.flow = Flow::Paused { until: at.instant + self.policy.pause_limit, by };
        self.leased(|lease| lease.pause());
        out.extend(self.recordings().map(|recording| Output::Paused { recording, by }));
        self.tell("paused", out);
    }

    pub(super) fn resume(&mut self, by: PausedBy, out: &mut Vec<Output>) {
        if self.flow == Flow::Running {
            return;
        }
        self.flow = Flow::Running;
        self.leased(|lease| lease.resume());
        out.extend(self.recordings().map(|recording| Output::Resumed { recording, by }));
        self.tell("resumed", out);
    }

    /// A pause that nobody ends is ended: a forgotten one would lose the rest of the call.
    pub(super) fn end_of_pause(&mut self, at: Moment, out: &mut Vec<Output>) {
        if self.flow.deadline().is_some_and(|until| until <= at.instant) {
            self.resume(PausedBy::Limit, out);
        }
    }

    /// Whether somebody agrees to be recorded, durable or not.
    pub(super) fn is_agreed(&self) -> bool {
        self.parties.values().any(|party| party.state.said_yes())
    }

    fn leased(&self, tell: impl Fn(&crate::consent::Lease)) {
        self.parties.values().filter_map(|party| party.state.lease()).for_each(tell);
    }

    fn recordings(&self) -> impl Iterator<Item = RecordingId> {
        let leases = self.parties.values().filter_map(|party| party.state.lease());
        let recordings: std::collections::BTreeSet<_> =
            leases.map(|lease| lease.stream().recording).collect();
        recordings.into_iter()
    }

    /// Everybody on the line is told: who agreed to be recorded may know when they are.
    fn tell(&self, prompt: &'static str, out: &mut Vec<Output>) {
        let present = |leg: &Leg| self.parties.get(leg).is_some_and(|party| party.present);
        out.extend(Leg::BOTH.into_iter().filter(present).map(|leg| Output::Say { leg, prompt }));
    }
}
