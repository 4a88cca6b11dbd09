//! The permission machine of one call: who is asked, what was answered, who may be recorded.
//!
//! [`Permission`] joins the parties' own states (`party.rs`) under the policy's scope: it
//! decides when a receipt becomes a grant. It holds the leases, so dropping it ends every
//! permission of the call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::catalog::Receipt;
use crate::consent::party::{Effect, State, Step, Terms};
use crate::consent::policy::{Ask, OnRefusal, Policy, Scope};
use crate::consent::{Decision, Grant, KeyVia, MediaTransport, NoticePlayed, Outcome, Prior};
use crate::ids::{CallId, Leg, PartyRef, RecordingId};
use crate::time::Moment;

/// A party of the call, as the permission machine needs to know them.
#[derive(Clone, Debug)]
pub struct PartyFacts {
    /// Which leg they are on.
    pub leg: Leg,
    /// Who they are.
    pub party_ref: PartyRef,
    /// The locale in which they are asked.
    pub locale: String,
    /// Over which transport their media travels.
    pub transport: MediaTransport,
    /// What is known of them before anybody asks.
    pub prior: Prior,
}

/// What happens to the machine.
#[derive(Debug)]
pub enum Input {
    /// A party is on the line: their leg is answered and a sound would reach them.
    Present {
        /// Which.
        leg: Leg,
    },
    /// A prompt that this machine asked for has ended, by itself or cut.
    Played {
        /// Into which leg it was played.
        leg: Leg,
        /// How much of it, and how.
        notice: NoticePlayed,
    },
    /// A key was pressed.
    Key {
        /// On which leg.
        leg: Leg,
        /// Which.
        key: char,
        /// How it came.
        via: KeyVia,
        /// The RTP timestamp of the telephone-event.
        rtp_timestamp: Option<u32>,
    },
    /// The party's media is on hold, or no longer.
    Held {
        /// Which party.
        leg: Leg,
    },
    /// A decision is committed.
    Durable(Receipt<Decision>),
    /// A decision could not be committed in time.
    NotDurable {
        /// Whose.
        leg: Leg,
    },
    /// A party has left the call.
    Left {
        /// Which.
        leg: Leg,
    },
    /// The time that [`Permission::deadline`] named has come.
    Tick,
}

/// What the machine wants done.
#[derive(Debug)]
pub enum Output {
    /// Play a prompt; answer with [`Input::Played`].
    Play {
        /// Into which leg.
        leg: Leg,
        /// The prompt's name.
        prompt: String,
        /// The locale that is wanted.
        locale: String,
    },
    /// Cut the prompt that is playing; answer with [`Input::Played`].
    Silence {
        /// Into which leg it plays.
        leg: Leg,
    },
    /// Make this decision durable, then answer with [`Input::Durable`] or
    /// [`Input::NotDurable`].
    Commit(Decision),
    /// The stream may be written from now on.
    Grant(Grant),
    /// Every question is answered; the call may go on. Said once.
    Settled(Verdict),
}

/// How the questions of a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// At least one stream may be recorded.
    Recorded,
    /// Nothing is recorded.
    Unrecorded {
        /// Why.
        why: Denial,
        /// What the policy wants done with the call.
        then: OnRefusal,
    },
}

/// Why a party is not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denial {
    /// They said no, or said nothing where silence is a refusal.
    Refused,
    /// They objected.
    Objected,
    /// The notice did not reach them.
    NotHeard,
    /// They left before an answer.
    Left,
    /// The policy neither asks them nor names an agreement.
    NotCovered,
    /// Their decision could not be made durable.
    Unavailable,
}

/// The permission machine of one call.
#[derive(Debug)]
pub struct Permission {
    policy: Arc<Policy>,
    parties: BTreeMap<Leg, Party>,
    settled: bool,
    ended: bool,
}

#[derive(Debug)]
struct Party {
    terms: Terms,
    present: bool,
    state: State,
}

impl Permission {
    /// The machine for a call with these parties under this policy.
    #[must_use]
    pub fn new(
        policy: Arc<Policy>,
        call: CallId,
        recording: RecordingId,
        parties: Vec<PartyFacts>,
    ) -> Self {
        let digest = policy.digest();
        let parties = parties
            .into_iter()
            .map(|facts| {
                let leg = facts.leg;
                let terms = Terms::new(Arc::clone(&policy), digest, call, recording, facts);
                // Nothing will ever be heard of a party who is neither asked nor covered.
                let state = match policy.ask(leg) {
                    Ask::Nobody => State::not_covered(),
                    Ask::OnCall | Ask::Standing(_) => State::waiting(),
                };
                (leg, Party { terms, present: false, state })
            })
            .collect();
        Self { policy, parties, settled: false, ended: false }
    }

    /// Whether anybody on this call will be asked on it.
    #[must_use]
    pub fn asks(&self, leg: Leg) -> bool {
        self.possible() && self.parties.contains_key(&leg) && *self.policy.ask(leg) == Ask::OnCall
    }

    /// Whether a recording can come of this call at all. Under `all`, one party whom the policy
    /// does not cover rules it out, and then nobody is bothered with a question.
    #[must_use]
    pub fn possible(&self) -> bool {
        let covered = |leg: &Leg| *self.policy.ask(*leg) != Ask::Nobody;
        match self.policy.scope {
            Scope::All => self.parties.keys().all(covered),
            Scope::PerParty => self.parties.keys().any(covered),
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

    /// Whether a decision is still to be made although nobody has anything more to say: the
    /// machine is to be kept until it is.
    #[must_use]
    pub fn owes_decision(&self) -> bool {
        self.parties.values().any(|party| party.state.owes_decision())
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.parties.values().filter_map(|party| party.state.deadline()).min()
    }

    /// Takes what happened, and says what to do.
    pub fn handle(&mut self, at: Moment, input: Input) -> Vec<Output> {
        let mut outputs = Vec::new();
        match input {
            Input::Present { leg } => self.present(at, leg, &mut outputs),
            Input::Played { leg, notice } => {
                self.step(leg, &mut outputs, |state, terms| state.played(terms, at, notice));
            }
            Input::Key { leg, key, via, rtp_timestamp } => {
                self.step(leg, &mut outputs, |state, terms| {
                    state.key(terms, at, key, via, rtp_timestamp)
                });
            }
            Input::Held { leg } => self.step(leg, &mut outputs, |state, _| state.held()),
            Input::Durable(receipt) => {
                let leg = receipt.value().facts().leg;
                self.step(leg, &mut outputs, |state, _| state.durable(receipt));
            }
            Input::NotDurable { leg } => {
                self.step(leg, &mut outputs, |state, _| state.not_durable());
            }
            Input::Left { leg } => {
                self.step(leg, &mut outputs, |state, terms| state.left(terms, at))
            }
            Input::Tick => {
                for leg in Leg::BOTH {
                    self.step(leg, &mut outputs, |state, terms| state.tick(terms, at));
                }
            }
        }
        self.decide_standing(at, &mut outputs);
        self.settle(&mut outputs);
        outputs
    }

    fn present(&mut self, at: Moment, leg: Leg, outputs: &mut Vec<Output>) {
        let asks = self.asks(leg);
        if let Some(party) = self.parties.get_mut(&leg) {
            party.present = true;
        }
        if asks {
            self.step(leg, outputs, |state, terms| state.announce(terms, at));
        }
    }

    fn step(
        &mut self,
        leg: Leg,
        outputs: &mut Vec<Output>,
        transition: impl FnOnce(State, &Terms) -> Step,
    ) {
        let Some(party) = self.parties.remove(&leg) else { return };
        let Party { terms, present, state } = party;
        let Step { next, effects } = transition(state, &terms);
        outputs.extend(effects.into_iter().map(|effect| match effect {
            Effect::Play { prompt } => {
                Output::Play { leg, prompt, locale: terms.locale().to_owned() }
            }
            Effect::Silence => Output::Silence { leg },
            Effect::Commit(decision) => Output::Commit(decision),
        }));
        self.parties.insert(leg, Party { terms, present, state: next });
    }

    /// Agreements on file take effect once nobody who is asked can still say no, so that a
    /// refused call leaves no permission behind, and both decisions share one commit. Where each
    /// party stands alone, theirs takes effect when they are there.
    fn decide_standing(&mut self, at: Moment, outputs: &mut Vec<Output>) {
        if self.ended || !self.possible() {
            return;
        }
        for leg in Leg::BOTH {
            let Ask::Standing(agreement) = self.policy.ask(leg).clone() else { continue };
            let ready = match self.policy.scope {
                Scope::All if self.asked().next().is_some() => {
                    self.asked().all(|party| party.state.said_yes())
                }
                Scope::All => self.parties.values().all(|party| party.present),
                Scope::PerParty => {
                    self.parties.get(&leg).is_some_and(|party| party.present)
                        && self.asked().all(|party| party.state.has_answered())
                }
            };
            if ready {
                self.step(leg, outputs, |state, terms| state.stand(terms, at, agreement));
            }
        }
    }

    fn asked(&self) -> impl Iterator<Item = &Party> {
        self.parties.iter().filter(|(leg, _)| self.asks(**leg)).map(|(_, party)| party)
    }

    fn settle(&mut self, outputs: &mut Vec<Output>) {
        match (self.policy.scope, self.denial()) {
            (Scope::All, Some(why)) => {
                // One "no" is everybody's: leases end, receipts in hand are worth nothing.
                for party in self.parties.values_mut() {
                    party.state.forfeit(why);
                }
            }
            (Scope::All, None) if !self.parties.values().all(|p| p.state.is_final()) => {}
            (Scope::All | Scope::PerParty, _) => {
                for party in self.parties.values_mut() {
                    outputs.extend(party.state.issue().map(Output::Grant));
                }
            }
        }
        if !self.settled
            && let Some(verdict) = self.verdict()
        {
            self.settled = true;
            outputs.push(Output::Settled(verdict));
        }
    }

    /// What the answers of those who are asked come to; where nobody is, what the agreements do.
    fn verdict(&self) -> Option<Verdict> {
        if !self.possible() {
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
        self.denial().filter(|_| any || all_denied).map(|why| self.unrecorded(why))
    }

    /// Why a party is not recorded: what somebody did comes before what the policy leaves out.
    fn denial(&self) -> Option<Denial> {
        let denials = || self.parties.values().filter_map(|party| party.state.denial());
        denials().find(|why| *why != Denial::NotCovered).or_else(|| denials().next())
    }

    fn unrecorded(&self, why: Denial) -> Verdict {
        let then = match why {
            Denial::Refused | Denial::Objected => self.policy.on_refusal,
            // Nobody said no: the call does not pay for what the recorder could not do.
            Denial::NotHeard | Denial::Left | Denial::NotCovered | Denial::Unavailable => {
                OnRefusal::Continue
            }
        };
        Verdict::Unrecorded { why, then }
    }
}

impl From<Outcome> for Denial {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Objected => Denial::Objected,
            Outcome::Granted | Outcome::Refused | Outcome::Withdrawn => Denial::Refused,
        }
    }
}
