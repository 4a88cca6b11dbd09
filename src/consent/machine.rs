//! The permission machine of one call: who is asked, what was answered, who may be recorded.
//!
//! [`Permission`] joins the parties' own states (`party.rs`): what they come to together under the
//! policy's scope is in `joint.rs`, pauses are in `pausing.rs`. It holds the leases, so dropping it
//! ends every permission of the call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::consent::decision::DecisionNumber;
use crate::consent::joint::Ended;
pub use crate::consent::message::{
    Denial, Input, Meaning, Order, Output, PartyFacts, PausedBy, Sequence, Verdict,
};
use crate::consent::party::{Effect, State, Step};
use crate::consent::pausing::Flow;
use crate::consent::policy::{AcceptAgain, OnRefusal, OnWithdrawal, Policy, Scope};
use crate::consent::terms::{Terms, Way};
use crate::consent::{Answer, KeyVia, Keypad, MediaTransport, Standing, Stop, Stops};
use crate::ids::{CallId, Digest, Leg, RecordingId};
use crate::time::Moment;

/// The permission machine of one call.
#[derive(Debug)]
pub struct Permission {
    pub(super) policy: Arc<Policy>,
    pub(super) parties: BTreeMap<Leg, Party>,
    /// The newest recording that a permission was or can be for.
    pub(super) newest: RecordingId,
    /// Recordings for which there was a grant, and which are not over.
    pub(super) open: BTreeSet<RecordingId>,
    pub(super) flow: Flow,
    /// The last stop of each leg's writing that was told of.
    pub(super) noted: BTreeMap<Leg, Stop>,
    pub(super) settled: Option<Verdict>,
    decisions: DecisionNumber,
}

#[derive(Debug)]
pub(super) struct Party {
    pub(super) terms: Terms,
    pub(super) present: bool,
    pub(super) state: State,
    /// Keys by RTP and by INFO are told apart: capture is stopped by the former alone.
    keypads: [Keypad; 2],
}

impl Permission {
    /// The machine for a call with these parties under this policy.
    ///
    /// `digest` is the policy's, computed once for many calls.
    #[must_use]
    pub fn new(
        policy: Arc<Policy>,
        digest: Digest,
        call: CallId,
        recording: RecordingId,
        parties: Vec<PartyFacts>,
    ) -> Self {
        let parties = parties
            .into_iter()
            .map(|facts| {
                let leg = facts.leg;
                let terms = Terms::new(Arc::clone(&policy), digest, call, recording, facts);
                (leg, Party::new(terms, false))
            })
            .collect();
        Self {
            policy,
            parties,
            newest: recording,
            open: BTreeSet::new(),
            flow: Flow::Running,
            noted: BTreeMap::new(),
            settled: None,
            decisions: DecisionNumber::default(),
        }
    }

    /// How a party's media travels, now that it is agreed: for the decisions from here on.
    pub fn travels(&mut self, leg: Leg, transport: MediaTransport) {
        if let Some(party) = self.parties.get_mut(&leg) {
            party.terms.party.transport = transport;
        }
    }

    /// Whether the party on this leg will be asked on the call.
    #[must_use]
    pub fn asks(&self, leg: Leg) -> bool {
        self.possible() && self.parties.get(&leg).is_some_and(Party::is_asked)
    }

    /// Whether a recording can come of this call at all. Under `all`, one party whom the policy
    /// does not cover, or who is known to refuse, rules it out, and then nobody is bothered with a
    /// question.
    #[must_use]
    pub fn possible(&self) -> bool {
        let may = |party: &Party| matches!(party.terms.way, Way::OnCall(_) | Way::Given(..));
        match self.policy.scope {
            Scope::All => self.parties.values().all(may),
            Scope::PerParty => self.parties.values().any(may),
        }
    }

    /// Whether the policy leaves somebody out without whom there is no recording.
    #[must_use]
    pub fn covers(&self) -> bool {
        let covered = |party: &Party| party.terms.way != Way::NotCovered;
        match self.policy.scope {
            Scope::All => self.parties.values().all(covered),
            Scope::PerParty => self.parties.values().any(covered),
        }
    }

    /// Whether somebody may still be recorded, now or later in this call.
    #[must_use]
    pub fn may_record(&self) -> bool {
        let denied = |party: &Party| party.state.is_denied();
        match self.policy.scope {
            Scope::All => !self.parties.values().any(denied),
            Scope::PerParty => !self.parties.values().all(denied),
        }
    }

    /// What the permission of this leg's party is worth now.
    #[must_use]
    pub fn standing(&self, leg: Leg) -> Standing {
        match (self.parties.get(&leg).is_some_and(|p| p.state.is_permitted()), self.flow) {
            (false, _) => Standing::Ended,
            (true, Flow::Running) => Standing::Live,
            (true, Flow::Paused { .. }) => Standing::Paused,
        }
    }

    /// Whether somebody's voice is being written now.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.flow == Flow::Running && self.parties.values().any(|party| party.state.is_permitted())
    }

    /// Whether there is a recording that could be paused, or is.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.parties.values().any(|party| party.state.is_permitted())
    }

    /// Whether the party on this leg is in the middle of a question.
    #[must_use]
    pub fn is_asking(&self, leg: Leg) -> bool {
        self.parties.get(&leg).is_some_and(|party| party.state.is_asking())
    }

    #[cfg(test)]
    pub(super) fn is_listening(&self, leg: Leg) -> bool {
        self.parties.get(&leg).is_some_and(|party| matches!(party.state, State::Listening(_)))
    }

    /// Why the party on this leg is not recorded, if they are not.
    #[must_use]
    pub fn denial(&self, leg: Leg) -> Option<Denial> {
        self.parties.get(&leg).and_then(|party| party.state.denial())
    }

    /// How the questions ended, once they have.
    #[must_use]
    pub fn settled(&self) -> Option<Verdict> {
        self.settled
    }

    /// Whether a decision is still to be made although nobody has anything more to say: the
    /// machine is to be kept until it is.
    #[must_use]
    pub fn owes_decision(&self) -> bool {
        self.parties.values().any(|party| party.state.owes_decision())
    }

    /// The keys that mean something at any time on this leg.
    #[must_use]
    pub fn sequences(&self, leg: Leg) -> Vec<Sequence> {
        let sequence = |keys: &str, meaning| Sequence { keys: keys.to_owned(), meaning };
        let covered = |party: &Party| party.terms.way != Way::NotCovered;
        let mut sequences = Vec::new();
        if self.parties.get(&leg).is_some_and(covered) {
            sequences.push(sequence(&self.policy.withdraw, Meaning::Withdraw));
        }
        if self.policy.pause_by.contains(&leg) {
            sequences.push(sequence(&self.policy.pause, Meaning::Pause));
        }
        sequences
    }

    /// Whose writing stops with the packet that completes a sequence on `leg`.
    #[must_use]
    pub fn stopped_by(&self, leg: Leg, meaning: Meaning) -> Vec<Leg> {
        match (meaning, self.policy.scope) {
            (Meaning::Withdraw, Scope::PerParty) => vec![leg],
            (Meaning::Withdraw, Scope::All) | (Meaning::Pause, _) => Leg::BOTH.to_vec(),
        }
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let parties = self.parties.values().filter_map(|party| party.state.deadline());
        parties.chain(self.flow.deadline()).min()
    }

    /// Takes what happened, and says what to do.
    pub fn handle(&mut self, at: Moment, input: Input) -> Vec<Output> {
        let before = self.leases();
        let mut stopped = Stops::NONE;
        let mut outputs = Vec::new();
        let out = &mut outputs;
        match input {
            Input::Begin => {
                for leg in Leg::BOTH {
                    self.step(leg, out, |state, terms| state.deny(terms, at));
                }
            }
            Input::Present { leg } => self.present(at, leg, out),
            Input::Played { leg, notice } => {
                self.step(leg, out, |state, terms| state.played(terms, at, notice));
            }
            Input::Key { leg, pressed, key, via, rtp_timestamp, stops } => {
                stopped = stops;
                self.key(at, leg, Press { pressed, key, via, rtp_timestamp }, out);
            }
            Input::Command { order: Order::Withdraw(leg), id } => {
                self.take_back(at, leg, Answer::Command { id }, out);
            }
            Input::Command { order: Order::Pause, .. } => self.pause(at, PausedBy::Command, out),
            Input::Command { order: Order::Resume, .. } => self.resume(PausedBy::Command, out),
            Input::Preferred { leg } => {
                self.take_back(at, leg, Answer::Preference, out);
            }
            Input::Held { leg } => self.step(leg, out, |state, _| state.held()),
            Input::Replaced { party } => self.replaced(at, party, out),
            Input::Durable(receipt) => {
                let leg = receipt.value().facts().leg;
                self.step(leg, out, |state, terms| state.durable(terms, receipt));
            }
            Input::NotDurable { leg, number } => {
                self.step(leg, out, |state, _| state.not_durable(number));
            }
            Input::Left { leg } => {
                if let Some(party) = self.parties.get_mut(&leg) {
                    party.present = false;
                }
                self.step(leg, out, |state, terms| state.left(terms, at));
            }
            Input::Tick => {
                for leg in Leg::BOTH {
                    self.step(leg, out, |state, terms| state.tick(terms, at));
                }
                self.end_of_pause(at, out);
            }
        }
        self.join(at, before, out);
        // Only now, when every lease that has to end has ended.
        for (leg, stop) in stopped.iter() {
            self.note(leg, stop);
        }
        outputs
    }

    fn present(&mut self, at: Moment, leg: Leg, out: &mut Vec<Output>) {
        let asks = self.asks(leg);
        if let Some(party) = self.parties.get_mut(&leg) {
            party.present = true;
        }
        if asks {
            self.step(leg, out, |state, terms| state.announce(terms, at));
        }
    }

    fn key(&mut self, at: Moment, leg: Leg, press: Press, out: &mut Vec<Output>) {
        let Press { pressed, key, via, rtp_timestamp } = press;
        let sequences = self.sequences(leg);
        let Some(party) = self.parties.get_mut(&leg) else { return };
        let keypad = match via {
            KeyVia::TelephoneEvent => &mut party.keypads[0],
            KeyVia::Info => &mut party.keypads[1],
        };
        let typed = sequences.iter().map(|sequence| sequence.keys.as_str());
        let complete = keypad.press(pressed, key, typed).and_then(|index| sequences.get(index));
        match complete {
            Some(Sequence { keys, meaning: Meaning::Withdraw }) => {
                let answer = Answer::Keys { keys: keys.clone(), via, rtp_timestamp };
                self.take_back(at, leg, answer, out);
            }
            Some(Sequence { meaning: Meaning::Pause, .. }) => {
                self.toggle(at, PausedBy::Keys(leg), out);
            }
            None => {
                let answer = Answer::Key { key, via, rtp_timestamp };
                let again = self.policy.accept_again == AcceptAgain::ByKey;
                let accepts = again && key == self.policy.accept;
                self.step(leg, out, |state, terms| {
                    let step = state.key(terms, at, key, answer.clone());
                    match step {
                        Step { next, effect: None } if accepts => {
                            next.accept_again(terms, at, &answer)
                        }
                        step => step,
                    }
                });
            }
        }
    }

    /// Writing stopped with the packet of some keys: what follows from them is decided now.
    fn note(&mut self, leg: Leg, stop: Stop) {
        let noted = self.noted.entry(leg).or_default();
        *noted = stop.max(*noted);
        if let Some(lease) = self.parties.get(&leg).and_then(|party| party.state.lease()) {
            lease.note(stop);
        }
    }

    /// A "no" that may come at any time. A permission that it overtakes on the way to the disk may
    /// be there all the same, so what is permitted later is for another recording.
    fn take_back(&mut self, at: Moment, leg: Leg, answer: Answer, out: &mut Vec<Output>) {
        let answered = |party: &Party| party.state.said_yes() && !party.state.is_permitted();
        let overtaken = self.parties.get(&leg).is_some_and(answered);
        self.step(leg, out, |state, terms| state.withdraw(terms, at, answer));
        if overtaken {
            self.renew(&[leg], out);
        }
    }

    /// Somebody else is on a leg: nothing that was permitted there holds, and they are asked as if
    /// they had called.
    fn replaced(&mut self, at: Moment, party: PartyFacts, out: &mut Vec<Output>) {
        let leg = party.leg;
        let Some(old) = self.parties.remove(&leg) else { return };
        let terms = old.terms.for_another(party);
        let present = old.present;
        if matches!(old.state, State::Announcing(_)) {
            out.push(Output::Silence { leg });
        }
        let answered = old.state.said_yes() && !old.state.is_permitted();
        drop(old);
        self.parties.insert(leg, Party::new(terms, present));
        if answered {
            // The one before may have agreed to the recording that comes next.
            self.renew(&[leg], out);
        }
        self.step(leg, out, |state, terms| state.deny(terms, at));
        if present {
            self.present(at, leg, out);
        }
    }

    pub(super) fn step(
        &mut self,
        leg: Leg,
        outputs: &mut Vec<Output>,
        transition: impl FnOnce(State, &Terms) -> Step,
    ) {
        let Some(party) = self.parties.remove(&leg) else { return };
        let Party { terms, present, state, keypads } = party;
        let was = state.denial();
        let Step { next: mut state, effect } = transition(state, &terms);
        match effect {
            None => {}
            Some(Effect::Play { prompt }) => {
                outputs.push(Output::Play { leg, prompt, locale: terms.party.locale.clone() });
            }
            Some(Effect::Silence) => outputs.push(Output::Silence { leg }),
            Some(Effect::Commit(mut decision)) => {
                self.decisions = self.decisions.next();
                decision.number = self.decisions;
                if let Some(number) = state.number() {
                    *number = self.decisions;
                }
                outputs.push(Output::Commit(decision));
            }
        }
        let prompt = match state.denial().filter(|_| was.is_none() && present) {
            Some(Denial::Withdrawn) => Some(self.withdrawn_prompt(&state)),
            Some(Denial::Unavailable) if self.settled.is_some() => Some("unavailable"),
            Some(Denial::Refused | Denial::Objected) if self.settled.is_some() => {
                Some(self.refused_later(outputs))
            }
            _ => None,
        };
        outputs.extend(prompt.map(|prompt| Output::Say { leg, prompt }));
        self.parties.insert(leg, Party { terms, present, state, keypads });
    }

    /// What a party hears who came later and refused. The call ends with it where the policy says
    /// so.
    fn refused_later(&self, outputs: &mut Vec<Output>) -> &'static str {
        if self.policy.on_refusal == OnRefusal::HangUp {
            outputs.push(Output::Farewell);
        }
        "declined"
    }

    /// What a party hears whose recording has ended in the middle of the call.
    fn withdrawn_prompt(&self, state: &State) -> &'static str {
        match self.policy.on_withdrawal {
            OnWithdrawal::Erase if !state.is_standby() => "withdrawn",
            OnWithdrawal::Erase | OnWithdrawal::Keep => "stopped",
        }
    }

    pub(super) fn asked(&self) -> impl Iterator<Item = &Party> {
        self.parties.iter().filter(|(leg, _)| self.asks(**leg)).map(|(_, party)| party)
    }

    fn leases(&self) -> Ended {
        Ended::watch(&self.parties)
    }
}

impl Party {
    fn new(terms: Terms, present: bool) -> Self {
        let state = State::first(&terms);
        Self { terms, present, state, keypads: Default::default() }
    }

    fn is_asked(&self) -> bool {
        matches!(self.terms.way, Way::OnCall(_))
    }
}

/// A key that was pressed.
struct Press {
    pressed: Instant,
    key: char,
    via: KeyVia,
    rtp_timestamp: Option<u32>,
}
