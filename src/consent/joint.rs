//! What the parties' answers come to together, under the policy's scope.
//!
//! Under `all` nobody is recorded until everybody agrees, and nobody any more once somebody does
//! not. Under `per-party` each stands alone. A recording whose writing has ended is never written
//! to again: a permission that comes later is for another one.

use std::collections::BTreeMap;

use crate::consent::machine::{Denial, Output, Party, Permission, Verdict};
use crate::consent::pausing::Flow;
use crate::consent::policy::{OnRefusal, Scope};
use crate::consent::terms::Way;
use crate::ids::{Leg, RecordingId};
use crate::time::Moment;

/// Who had a lease before something happened.
pub(super) struct Ended(Vec<Leg>);

impl Ended {
    pub(super) fn watch(parties: &BTreeMap<Leg, Party>) -> Self {
        let permitted = parties.iter().filter(|(_, party)| party.state.is_permitted());
        Self(permitted.map(|(leg, _)| *leg).collect())
    }
}

impl Permission {
    /// Draws the consequences of what happened to one party for all of them.
    pub(super) fn join(&mut self, at: Moment, before: Ended, out: &mut Vec<Output>) {
        self.stop_where_one_stops(out);
        self.release(before, out);
        self.give_what_is_known(at, out);
        self.revive(at, out);
        self.grant(out);
        self.end_recordings(out);
        self.settle(out);
    }

    /// Under `all`, one "no" is everybody's: questions end, and so do leases.
    fn stop_where_one_stops(&mut self, out: &mut Vec<Output>) {
        if self.policy.scope != Scope::All {
            return;
        }
        let denial = self.first_denial();
        // Who is being asked when the other hangs up has an answer of their own to write down: the
        // call ends, and `Left` comes for them too.
        if let Some(why) = denial.filter(|why| *why != Denial::Left) {
            for leg in Leg::BOTH {
                self.step(leg, out, |state, _| state.forfeit(why));
            }
        }
        if !self.parties.values().all(|party| party.state.is_cleared()) {
            let why = denial.unwrap_or(Denial::Withdrawn);
            for leg in Leg::BOTH {
                self.step(leg, out, |state, _| state.stand_by(why));
            }
        }
    }

    /// Agreements on file and tokens take effect once nobody who is asked can still say no, so that
    /// a refused call leaves no permission behind, and both decisions share one commit. Where each
    /// party stands alone, theirs takes effect when they are there.
    fn give_what_is_known(&mut self, at: Moment, out: &mut Vec<Output>) {
        if !self.possible() {
            return;
        }
        for leg in Leg::BOTH {
            let Some(party) = self.parties.get(&leg) else { continue };
            if !matches!(party.terms.way, Way::Given(..)) {
                continue;
            }
            let ready = match self.policy.scope {
                Scope::All if self.asked().next().is_some() => {
                    self.asked().all(|party| party.state.said_yes() || party.state.is_standby())
                }
                Scope::All => self.parties.values().all(|party| party.present),
                Scope::PerParty => {
                    party.present && self.asked().all(|party| party.state.has_answered())
                }
            };
            if ready {
                self.step(leg, out, |state, terms| state.give(terms, at));
            }
        }
    }

    /// Who agreed and never took it back agrees to the recording that comes next too, once
    /// everybody does whom the scope asks for.
    fn revive(&mut self, at: Moment, out: &mut Vec<Output>) {
        let agrees = |party: &Party| party.state.said_yes() || party.state.is_standby();
        if self.policy.scope == Scope::All && !self.parties.values().all(agrees) {
            return;
        }
        for leg in Leg::BOTH {
            self.step(leg, out, |state, terms| state.revive(terms, at));
        }
    }

    /// What is written of a stream whose lease is gone ends now, and a permission that comes later
    /// is for another recording.
    fn release(&mut self, Ended(before): Ended, out: &mut Vec<Output>) {
        let ended: Vec<Leg> = before
            .into_iter()
            .filter(|leg| self.parties.get(leg).is_none_or(|p| !p.state.is_permitted()))
            .collect();
        if ended.is_empty() {
            return;
        }
        // Before anything else is done about it.
        out.splice(0..0, ended.iter().map(|leg| Output::Release { leg: *leg }));
        self.renew(&ended, out);
    }

    /// Permissions of these parties, and of all of them under `all`, are for another recording
    /// from now on. What is durable for the one before is not enough.
    pub(super) fn renew(&mut self, legs: &[Leg], out: &mut Vec<Output>) {
        let legs = match self.policy.scope {
            Scope::All => &Leg::BOTH,
            Scope::PerParty => legs,
        };
        self.newest = self.newest.successor();
        for leg in legs {
            if let Some(party) = self.parties.get_mut(leg) {
                party.terms.recording = self.newest;
            }
            self.step(*leg, out, |state, _| state.outlive());
        }
    }

    /// Receipts become grants where the scope allows it.
    fn grant(&mut self, out: &mut Vec<Output>) {
        let all = self.parties.values().all(|party| party.state.is_cleared());
        if self.policy.scope == Scope::All && !all {
            return;
        }
        for (leg, party) in &mut self.parties {
            let noted = self.noted.get(leg).copied().unwrap_or_default();
            let Some(grant) = party.state.issue(noted) else { continue };
            let recording = grant.stream().recording;
            let is_new = self.open.insert(recording);
            out.push(Output::Grant(grant));
            if let (Flow::Paused { by, .. }, Some(lease)) = (self.flow, party.state.lease()) {
                lease.pause();
                out.extend(is_new.then_some(Output::Paused { recording, by }));
            }
            if self.settled.is_some() && party.terms.was_renewed() {
                out.push(Output::Say { leg: *leg, prompt: "accepted" });
            }
        }
    }

    /// A recording is over when nobody has a permission for it, or one under way.
    fn end_recordings(&mut self, out: &mut Vec<Output>) {
        let wanted = |recording: RecordingId, party: &Party| {
            let leased = party.state.lease().map(|lease| lease.stream().recording);
            match leased {
                Some(leased) => leased == recording,
                None => party.terms.recording == recording && party.state.said_yes(),
            }
        };
        let over: Vec<RecordingId> = self
            .open
            .iter()
            .copied()
            .filter(|recording| !self.parties.values().any(|party| wanted(*recording, party)))
            .collect();
        for recording in over {
            self.open.remove(&recording);
            out.push(Output::Over { recording });
            let late: Vec<Leg> = self
                .parties
                .iter()
                .filter(|(_, party)| party.terms.recording == recording)
                .map(|(leg, _)| *leg)
                .collect();
            if !late.is_empty() {
                self.renew(&late, out);
            }
        }
        if self.open.is_empty() && !self.is_agreed() {
            self.flow = Flow::Running;
        }
    }

    fn settle(&mut self, out: &mut Vec<Output>) {
        if self.settled.is_none()
            && let Some(verdict) = self.verdict()
        {
            self.settled = Some(verdict);
            out.push(Output::Settled(verdict));
        }
    }

    /// What the answers of those who are asked come to; where nobody is, what is known of them.
    fn verdict(&self) -> Option<Verdict> {
        if !self.covers() {
            return Some(self.unrecorded(Denial::NotCovered));
        }
        let permitted = |party: &Party| party.state.is_permitted();
        if self.policy.scope == Scope::PerParty && self.asked().next().is_some() {
            if !self.asked().all(|party| party.state.is_final()) {
                return None;
            }
            if self.asked().any(permitted) {
                return Some(Verdict::Recorded);
            }
            let why = self.asked().find_map(|party| party.state.denial());
            return why.map(|why| self.unrecorded(why));
        }
        if self.parties.values().any(permitted) {
            return Some(Verdict::Recorded);
        }
        let all_denied = self.parties.values().all(|party| party.state.is_denied());
        let any = self.policy.scope == Scope::All;
        self.first_denial().filter(|_| any || all_denied).map(|why| self.unrecorded(why))
    }

    /// Why a party is not recorded: what somebody did comes before what the policy leaves out.
    fn first_denial(&self) -> Option<Denial> {
        let own = |party: &&Party| !party.state.is_standby();
        let denials = || self.parties.values().filter(own).filter_map(|party| party.state.denial());
        denials().find(|why| *why != Denial::NotCovered).or_else(|| denials().next())
    }

    fn unrecorded(&self, why: Denial) -> Verdict {
        let then = match why {
            Denial::Refused | Denial::Objected => self.policy.on_refusal,
            // Nobody said no: the call does not pay for what the recorder could not do. And who
            // took a permission back was promised the same service.
            Denial::Withdrawn
            | Denial::NotHeard
            | Denial::Left
            | Denial::NotCovered
            | Denial::Unavailable => OnRefusal::Continue,
        };
        Verdict::Unrecorded { why, then }
    }
}
